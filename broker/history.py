"""The history checker: joins what clients saw with what the broker logged, and says which promise was broken.

It shares nothing with the scripts or with ``model.py`` but the formats of tokens and events, so that a script that is
wrong and logs consistently is found. ``replay.py`` follows the log alone; here stands what takes both sides.
The promises are those of ``docs/promises.md``; each rule begins with its number there, or is ``log``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from ipaddress import IPv6Address, ip_address, ip_network
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from voxpop.broker.journal import Journal, JournalAnswer, JournalEntry, read_journal, write_entry
from voxpop.broker.models import SubmitStatus, Token
from voxpop.broker.replay import HistorySpec, Lease, Replay, Violation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from voxpop.broker.events import Event

__all__ = [
    "HistorySpec",
    "Journal",
    "JournalAnswer",
    "JournalEntry",
    "Violation",
    "check",
    "read_journal",
    "write_entry",
]


class _Call(NamedTuple):
    """A call from both ends. ``told`` is None if its outcome is unknown."""

    asked: JournalEntry
    told: JournalEntry | None

    @property
    def place(self) -> str:
        return f"{self.asked.process} call {self.asked.call}"

    @property
    def is_ok(self) -> bool:
        return self.told is not None and self.told.event == "ok"

    @property
    def is_unknown(self) -> bool:
        return self.told is None or self.told.event == "unknown"

    @property
    def began(self) -> float:
        return self.asked.t

    @property
    def ended(self) -> float:
        """When its effect was there at the latest; never, if the reply was lost."""
        return self.told.t if self.told is not None and self.is_ok else inf


def check(journals: Iterable[JournalEntry], events: Iterable[Event], *, spec: HistorySpec) -> list[Violation]:
    """Return every broken promise of one job's history; an empty list if there is none.

    Args:
        journals: the entries of all clients, in any order; those of other jobs are left out.
        events: the shard's whole log, from its first event on, archived or not.
        spec: what the job was created with, and what is known about it.
    """
    log = Replay(spec)
    for event in events:
        log.follow(event)
    log.finish()
    return [*log.violations, *_Join(list(journals), log, spec).violations]


class _Join:
    """Holds every call against the log, and every event against the calls."""

    def __init__(self, entries: list[JournalEntry], log: Replay, spec: HistorySpec) -> None:
        self.log = log
        self.spec = spec
        self.violations: list[Violation] = []
        ends = {(entry.process, entry.call): entry for entry in entries if entry.event != "invoked"}
        calls = [_Call(entry, ends.get((entry.process, entry.call))) for entry in entries if entry.event == "invoked"]
        self.calls = sorted(calls, key=lambda call: call.began)
        self.submitted: dict[Lease, Counter[bytes]] = defaultdict(Counter)
        self.answered = {(lease.item, lease.worker) for lease in log.used}
        self.claims()
        self.submits()
        self.returns()
        self.appends()
        self.stops()
        self.settles()
        self.access()

    def of(self, *ops: str) -> list[_Call]:
        return [call for call in self.calls if call.asked.op in ops and call.asked.job == self.spec.job]

    def blame(self, rule: str, place: str, message: str) -> None:
        self.violations.append(Violation(rule, place, message))

    def index(self, call: _Call) -> int:
        """The index of the call's worker; -1 if nobody of that name was ever in the workforce."""
        return self.spec.workers.get(call.asked.worker, -1)

    def claims(self) -> None:
        told: set[int] = set()  # attempts
        unknown: Counter[int] = Counter()
        for call in self.of("claim"):
            worker = self.index(call)
            if call.is_unknown:
                unknown[worker] += 1
            if not call.is_ok or not call.told or not call.told.result:
                continue
            tokens = [Token.decode(text) for text in call.told.result]
            attempt, items = tokens[0].attempt, sorted(token.item for token in tokens)
            logged = self.log.claims.get(attempt)
            if {(token.worker, token.attempt) for token in tokens} != {(worker, attempt)}:
                self.blame("2 identity", call.place, f"leases of another worker or claim: {tokens}")
            elif logged is None or (logged.worker, sorted(logged.items)) != (worker, items):
                self.blame("log", call.place, f"claim {attempt} gave items {items}; the log has {logged}")
            elif attempt in told:
                self.blame("1 tickets", call.place, f"claim {attempt} was given to two callers")
            if len(items) > call.asked.k:
                self.blame("1 tickets", call.place, f"{len(items)} leases were given, {call.asked.k} were asked for")
            told.add(attempt)
        untold = Counter(claim.worker for attempt, claim in self.log.claims.items() if attempt not in told)
        for worker, count in untold.items():
            if count > unknown[worker]:
                self.blame("log", f"worker {worker}", f"{count} claims in the log were never answered to a client")

    def submits(self) -> None:
        first_ok: dict[tuple[Lease, bytes], float] = {}
        for call in self.of("submit"):
            worker = self.index(call)
            leases = [lease_of(answer.token) for answer in call.asked.answers]
            contents = [canonical(answer.content) for answer in call.asked.answers]
            for lease, content in zip(leases, contents, strict=True):
                if lease.worker == worker:
                    self.submitted[lease][content] += 1
            if not call.is_ok or not call.told:
                continue
            for lease, content, status in zip(leases, contents, call.told.result, strict=True):
                self.receipt(call, lease, content, SubmitStatus(status))
                if status == SubmitStatus.ACCEPTED:
                    first_ok.setdefault((lease, content), call.ended)
                elif status != SubmitStatus.SETTLED and first_ok.get((lease, content), inf) < call.began:
                    self.blame("3 repeat", call.place, f"{lease}: was accepted before, now the reply is {status}")
        unused = [(lease, content) for lease, contents in self.log.unused.items() for content in contents]
        for lease, content in [*self.log.used.items(), *unused]:
            if not self.submitted.get(lease, Counter())[canonical_bytes(content)]:
                self.blame("3 content", f"{lease}", f"the log has the answer {content!r}; no client submitted it")

    def receipt(self, call: _Call, lease: Lease, content: bytes, status: SubmitStatus) -> None:
        used = self.log.used.get(lease)
        counted = None if used is None else canonical_bytes(used)
        unused = [canonical_bytes(content) for content in self.log.unused.get(lease, ())]
        if status is SubmitStatus.ACCEPTED and counted != content:
            self.blame("3 acknowledged", call.place, f"{lease}: {content!r} was accepted; the log counts {used!r}")
        elif status is SubmitStatus.CONFLICT and (counted == content or not self.has_answered(lease)):
            self.blame("3 repeat", call.place, f"{lease}: {content!r} was refused as a conflict; the log has {used!r}")
        elif status is SubmitStatus.EXPIRED and content not in unused:
            self.blame("4 late", call.place, f"{lease}: {content!r} came too late and is not in the log")
        elif status is SubmitStatus.SETTLED and (not self.log.has_ended(lease.item) or content not in unused):
            self.blame("3 repeat", call.place, f"{lease}: {content!r} was told to have ended; the log does not say so")

    def has_answered(self, lease: Lease) -> bool:
        """Whether the worker's answer to the item was counted, be it under another lease than this."""
        return (lease.item, lease.worker) in self.answered

    def returns(self) -> None:
        """What was given back or renewed, was asked for; and what was acknowledged, is logged."""
        for op in ("release", "decline", "renew"):
            logged, asked = self.log.returned[op], set[Lease]()
            for call in self.of(op):
                leases = [lease_of(text) for text in call.asked.tokens]
                asked.update(lease for lease in leases if lease.worker == self.index(call))
                if not call.is_ok or not call.told:
                    continue
                if op == "renew":
                    missing = [text for text in call.told.result if lease_of(text) not in logged]
                else:
                    missing = leases if call.told.result[0] > sum(lease in logged for lease in leases) else []
                if missing:
                    self.blame("2 returned", call.place, f"{op} was acknowledged; the log lacks {missing}")
            for lease in logged - asked:
                self.blame("2 returned", f"{lease}", f"the log has a {op} that no client asked for")

    def appends(self) -> None:
        told: set[int] = set()
        unknown: Counter[int] = Counter()
        for call in self.of("append"):
            count, at = call.asked.k, call.asked.at
            if call.is_unknown:
                unknown[count] += 1
            if not call.is_ok or not call.told:
                continue
            first = call.told.result[0]
            if at < 0 and (self.log.appends.get(first) != count or first in told):
                self.blame("8 append", call.place, f"{count} items at {first} were acknowledged; the log differs")
            elif at >= 0 and (first != at or first + count > len(self.log.items)):
                self.blame("8 append", call.place, f"{count} items at {at} were acknowledged as at {first}")
            told.add(first)
        untold = Counter(count for first, count in self.log.appends.items() if first not in told)
        for count, times in untold.items():
            if times > unknown[count]:
                self.blame("8 append", f"appends of {count}", f"{times} in the log were never asked for or answered")

    def stops(self) -> None:
        stopped = min((call.ended for call in self.of("stop")), default=inf)
        for call in self.of("claim", "append"):
            if call.began <= stopped or not call.is_ok or not call.told:
                continue
            new = call.asked.op == "claim" and call.told.result
            if new or (call.asked.op == "append" and call.asked.at < 0):
                self.blame("6 stop", call.place, f"{call.asked.op} succeeded after an acknowledged stop")
        if stopped < inf and not self.log.stopped:
            self.blame("6 stop", "the log", "a stop was acknowledged and is not in the log")

    def settles(self) -> None:
        asked = {item for call in self.of("settle") for item in call.asked.items}
        acknowledged = {item for call in self.of("settle") if call.is_ok for item in call.asked.items}
        for item in range(len(self.log.items)):
            if self.log.has_ended(item) and item not in asked:
                self.blame("7 end", f"item {item}", "it ended and no client asked for it")
            elif item in acknowledged and not self.log.has_ended(item):
                self.blame("7 end", f"item {item}", "its end was acknowledged and is not in the log")

    # -- access ----------------------------------------------------------------------------------------------------

    def access(self) -> None:
        allow = [_Change(-inf, -inf, self.spec.allow)]
        members: dict[str, list[_Change]] = defaultdict(list)
        for name in self.spec.workers:
            members[name].append(_Change(-inf, -inf, name in self.spec.members))
        for call in self.calls:
            op, asked = call.asked.op, call.asked
            if call.told is not None and call.told.event == "failed":
                continue
            if op == "allow" and asked.job == self.spec.workforce:
                allow.append(_Change(call.began, call.ended, tuple(asked.names)))
            elif op in ("add", "remove") and asked.job == self.spec.pool:
                for name in asked.names:
                    members[name].append(_Change(call.began, call.ended, op == "add"))
        for call in self.of("claim", "submit", "renew", "release", "decline"):
            if call.told is None:
                continue
            span = call.began, call.told.t
            ranges = [lies_in(call.asked.address, ranges) for ranges in possible(allow, *span)]
            member = possible(members.get(call.asked.worker, [_Change(-inf, -inf, told=False)]), *span)
            if call.is_ok and not (any(ranges) and any(member)):
                self.blame("5 access", call.place, f"{call.asked.op} of an outsider succeeded")
            refused = call.asked.op == "claim" and call.told.error == "NotFoundError"
            if refused and all(ranges) and all(member):
                self.blame("5 access", call.place, "somebody inside was refused")


class _Change(NamedTuple):
    """An access change, between its call and its acknowledgement."""

    began: float
    ended: float
    told: Any


def possible(changes: list[_Change], began: float, ended: float) -> list[Any]:
    """Return what may have been in force at some moment of a call: changes that overlap it may or may not be."""
    return [
        change.told
        for change in changes
        if change.began <= ended and not any(later.ended < began and later.began > change.ended for later in changes)
    ]


def lies_in(address: str, ranges: tuple[str, ...]) -> bool:
    """Return whether an address lies in an allowlist, range by range; none = unrestricted."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return not ranges or any(parsed in ip_network(text) for text in ranges)


def lease_of(text: str) -> Lease:
    """Return the lease that a token names."""
    token = Token.decode(text)
    return Lease(token.item, token.worker, token.attempt)


def canonical(content: Any) -> bytes:
    """Return JSON values in one spelling, for comparison."""
    return msgspec.json.encode(content, order="deterministic")


def canonical_bytes(content: bytes) -> bytes:
    """Return JSON text in the spelling of ``canonical``."""
    return canonical(msgspec.json.decode(content))
