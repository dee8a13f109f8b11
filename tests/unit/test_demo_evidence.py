"""What the demo believes of its archive: each kind of loss, doubling and change in it is found."""

from __future__ import annotations

import dataclasses
import random
import struct

import pytest

from voxpop.broker.events import Appended, Claimed, Expired, Sealed, Settled, Submitted, SubmittedAnswer, Ticket
from voxpop.cli.demo_evidence import counted_once, handover, read_record, what_is_wrong, without_journal

NAMES = {0: "ann", 1: "bob", 2: "cleo"}


def packed(*items):
    return struct.pack(f"<{len(items)}I", *items)


def answer(item, attempt, label="1", *, used=True):
    return SubmittedAnswer(item, attempt, used, full=False, seconds=1.0, content=b'{"label":"%s"}' % label.encode())


def history():
    """Two items, two answers each: ann takes item 0 and walks away, so cleo gets it."""
    return [
        Appended(1, 10, 0, 2, b"", "segment"),
        Sealed(2, 10),
        Claimed(3, 11, 0, 1, 50, packed(0)),
        Claimed(4, 12, 1, 2, 90, packed(0, 1)),
        Submitted(5, 20, 1, [answer(0, 2), answer(1, 2)]),
        Expired(6, 50, [Ticket(0, 0, 1)]),
        Claimed(7, 51, 2, 3, 99, packed(0, 1)),
        Submitted(8, 60, 2, [answer(0, 3), answer(1, 3)]),
        Settled(9, 70, [(0, 1, 1, "", b"{}"), (1, 1, 1, "", b"{}")]),
    ]


def wrong(events, acknowledged=4):
    return what_is_wrong(read_record(events, NAMES), 2, 2, lambda _worker, _item: {"label": "1"}, acknowledged)


def test_a_whole_history_has_nothing_wrong():
    assert wrong(history()) == []


def replaced(seq, **changes):
    return [
        type(event)(**{**{name: getattr(event, name) for name in event.__struct_fields__}, **changes})
        if event.seq == seq
        else event
        for event in history()
    ]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (replaced(8, answers=[answer(0, 3)]), "item 1: 1 answers count, 2 were wanted"),
        (replaced(8, answers=[answer(0, 3), answer(1, 3, "0")]), "item 1: the archive has another answer of cleo"),
        (replaced(8, answers=[answer(0, 3), answer(1, 3, used=False)]), "item 1: 1 answers count"),
        (replaced(8, worker=1), "item 0: two answers of the same worker count"),
        (replaced(8, answers=[answer(0, 3), answer(1, 3), answer(7, 3)]), "item 7: answered, but not in the job"),
        (replaced(8, answers=[answer(0, 3), answer(1, 3), answer(1, 4)]), "item 1: 3 answers count"),
    ],
)
def test_every_fault_is_found(events, message):
    assert any(message in one for one in wrong(events)), wrong(events)


def test_answers_that_were_acknowledged_and_are_missing_are_found():
    assert wrong(history(), acknowledged=5) == ["5 answers were acknowledged, 4 count"]


def test_the_handover_says_who_lost_the_item_and_who_got_it():
    found = handover(read_record(history(), NAMES), 0, "ann")
    assert dataclasses.astuple(found) == (0, "ann", 50, "cleo", 51)


@pytest.mark.parametrize(
    "events",
    [
        [event for event in history() if event.seq != 6],  # the lease did not lapse
        [event for event in history() if event.seq != 7],  # nobody took it afterwards
        [event for event in history() if event.seq != 8],  # who took it did not answer
        replaced(8, worker=0),  # the one who walked away answered after all
    ],
)
def test_without_any_part_of_it_there_is_no_handover(events):
    assert handover(read_record(events, NAMES), 0, "ann") is None


def test_a_submit_counts_once_only_if_the_archive_has_it_once():
    assert counted_once(read_record(history(), NAMES), [0, 1], "bob")
    twice = replaced(8, worker=1)
    assert not counted_once(read_record(twice, NAMES), [0, 1], "bob")
    assert not counted_once(read_record(history(), NAMES), [0, 1], "ann")
    assert not counted_once(read_record(history(), NAMES), [], "bob")


def test_the_order_of_the_items_in_an_event_does_not_matter():
    events = history()
    random.Random(1).shuffle(events[4].answers)
    assert wrong(events) == []


def test_those_without_a_journal_are_accounted_for_and_claim_nothing():
    entries = list(without_journal(history(), "j"))
    assert [(entry.op, entry.event) for entry in entries] == [
        ("append", "invoked"),
        ("append", "unknown"),
        ("settle", "invoked"),
        ("settle", "unknown"),
    ]
    assert (entries[0].k, entries[0].at, entries[2].items) == (2, 0, [0, 1])
