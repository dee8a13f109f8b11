"""The checker on histories written by hand: what each rule finds that no planted fault shows."""

import json

import pytest

from voxpop.broker.events import (
    Appended,
    Claimed,
    Labeled,
    Released,
    Renewed,
    Settled,
    Submitted,
    SubmittedAnswer,
    Ticket,
)
from voxpop.broker.history import HistorySpec, JournalAnswer, JournalEntry, check
from voxpop.broker.models import Token
from voxpop.broker.wire import pack_items

SPEC = {
    "job": "job",
    "pool": "team",
    "workforce": "private",
    "replication": 2,
    "max_declines": 2,
    "retry_seconds": 1.0,
    "workers": {"ann": 0, "bob": 1},
    "members": ("ann", "bob"),
    "allow": ("10.0.0.0/8",),
    "inputs_of": lambda label: [tuple(pair) for pair in json.loads(label)],
}
TOKEN = Token(0, 0, 0, 1, 0, 1).encode()
APPEND = [("append", {"k": 1}, [0])]
CLAIM = [("claim", {"worker": "ann", "address": "10.0.0.1", "k": 1}, [TOKEN])]
SUBMIT = [("submit", {"worker": "ann", "address": "10.0.0.1", "answers": [JournalAnswer(TOKEN, "a")]}, ["accepted"])]
SETTLE = [("settle", {"items": [0]}, [False])]
ANSWERED = [
    Appended(1, 1, 0, 1, b"", ""),
    Claimed(2, 2, 0, 1, 99, pack_items([0])),
    Submitted(3, 3, 0, [SubmittedAnswer(0, 1, True, False, 1.0, b'"a"')]),
]


def journal(calls):
    """Calls one after the other: (operation, what was asked, what was told; an error's name, or None for no reply)."""
    for number, (op, asked, told) in enumerate(calls):
        of = {"process": "p", "call": number, "op": op, "job": asked.pop("job", "job") if "job" in asked else "job"}
        yield JournalEntry(t=2.0 * number, event="invoked", **of, **asked)
        if isinstance(told, str):
            yield JournalEntry(t=2.0 * number + 1, event="failed", error=told, **of)
        elif told is not None:
            yield JournalEntry(t=2.0 * number + 1, event="ok", result=told, **of)


def found(calls, events, **changes):
    calls = [(op, dict(asked), told) for op, asked, told in calls]
    return {violation.rule for violation in check(journal(calls), events, spec=HistorySpec(**{**SPEC, **changes}))}


def settled(label, seq=4, end=1, reason=""):
    return Settled(seq, 4, [(0, end, 1, reason, label)])


def test_a_right_history_has_no_violation():
    assert found(APPEND + CLAIM + SUBMIT + SETTLE, [*ANSWERED, settled(b"[[0, 1]]")], complete=True) == set()


@pytest.mark.parametrize(
    ("rule", "end"),
    [
        ("3 input", [settled(b"[[0, 1], [0, 1]]")]),
        ("3 input", [settled(b"[[0, 1], [1, 2]]")]),
        ("3 input", [settled(b"[[0, 1]]"), Labeled(5, 5, [(0, 1, 2, "", b"[]")])]),
        ("7 version", [settled(b"[[0, 1]]"), Labeled(5, 5, [(0, 1, 1, "", b"[[0, 1]]")])]),
        ("7 version", [Labeled(4, 5, [(0, 1, 2, "", b"[[0, 1]]")]), settled(b"[[0, 1]]", 5)]),
        ("7 end", [settled(b"", end=2)]),
        ("7 end", []),
        ("log", [settled(b"[[0, 1]]", 5)]),
        ("2 returned", [Released(4, 4, [Ticket(0, 0, 1)]), settled(b"[[0, 1]]", 5)]),
        ("4 lease", [Renewed(4, 4, 0, 9, [Ticket(0, 0, 1)]), settled(b"[[0, 1]]", 5)]),
    ],
)
def test_what_a_log_may_not_say(rule, end):
    calls = APPEND + CLAIM + SUBMIT + SETTLE
    if rule == "2 returned":
        end = [Released(3, 4, [Ticket(0, 0, 1)])]
        assert rule in found(APPEND + CLAIM, [*ANSWERED[:2], *end])
        return
    assert rule in found(calls, [*ANSWERED, *end], complete=True)


@pytest.mark.parametrize(
    ("rule", "calls"),
    [
        (
            "3 acknowledged",
            [*CLAIM, *SUBMIT, ("submit", {**SUBMIT[0][1], "answers": [JournalAnswer(TOKEN, "b")]}, ["accepted"])],
        ),
        ("3 repeat", [*CLAIM, *SUBMIT, ("submit", SUBMIT[0][1], ["conflict"])]),
        ("3 repeat", [*CLAIM, *SUBMIT, ("submit", SUBMIT[0][1], ["settled"])]),
        ("4 late", [*CLAIM, *SUBMIT, ("submit", SUBMIT[0][1], ["expired"])]),
        ("3 content", CLAIM),
        ("1 tickets", [*CLAIM, *CLAIM, *SUBMIT]),
        ("2 identity", [("claim", {**CLAIM[0][1], "worker": "bob"}, [TOKEN]), *SUBMIT]),
        ("log", SUBMIT),
        (
            "2 returned",
            [*CLAIM, *SUBMIT, ("release", {"worker": "ann", "address": "10.0.0.1", "tokens": [TOKEN]}, [1])],
        ),
        (
            "2 returned",
            [*CLAIM, *SUBMIT, ("renew", {"worker": "ann", "address": "10.0.0.1", "tokens": [TOKEN]}, [TOKEN])],
        ),
        ("6 stop", [("stop", {}, ["Stopping"]), *CLAIM, *SUBMIT]),
        ("7 end", [*CLAIM, *SUBMIT, *SETTLE]),
        ("8 append", [("append", {"k": 2}, [1]), *CLAIM, *SUBMIT]),
        ("5 access", [("claim", {**CLAIM[0][1], "address": "11.0.0.1"}, []), *CLAIM, *SUBMIT]),
        ("5 access", [("claim", CLAIM[0][1], "NotFoundError"), *CLAIM, *SUBMIT]),
        ("5 access", [("remove", {"job": "team", "names": ["ann"]}, [1]), *CLAIM, *SUBMIT]),
        ("5 access", [("allow", {"job": "private", "names": ["192.168.0.0/16"]}, []), *CLAIM, *SUBMIT]),
    ],
)
def test_what_clients_may_not_be_told(rule, calls):
    assert rule in found(APPEND + calls, ANSWERED)


@pytest.mark.parametrize(
    "calls",
    [
        [("claim", CLAIM[0][1], None), *SUBMIT],
        [*CLAIM, ("submit", SUBMIT[0][1], None)],
        [("remove", {"job": "team", "names": ["ann"]}, None), *CLAIM, *SUBMIT],
        [("remove", {"job": "team", "names": ["ann"]}, None), ("claim", CLAIM[0][1], "NotFoundError"), *CLAIM, *SUBMIT],
        [("remove", {"job": "team", "names": ["ann"]}, [1]), ("claim", CLAIM[0][1], "NotFoundError"),
         ("add", {"job": "team", "names": ["ann"]}, [1]), *CLAIM, *SUBMIT],
        [("claim", {**CLAIM[0][1], "address": "::ffff:10.0.0.1"}, [TOKEN]), *SUBMIT],
        [("stop", {}, None), *CLAIM, *SUBMIT],
    ],
)  # fmt: skip
def test_what_may_have_happened_either_way(calls):
    """A call without a reply, because its client was killed, may have been done or not."""
    assert found(APPEND + calls, ANSWERED) == set()
