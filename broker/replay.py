"""Follows a shard's event log and checks what it says by itself: who held what when, and whether that was allowed.

Half of the history checker, see ``history.py``. It knows the promises, not the scripts: no cursors, heads, chunks or
reopened logs, only items, tickets and people.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from voxpop.broker.events import (
    Appended,
    Claimed,
    Closed,
    Declined,
    Event,
    Expired,
    Extended,
    Labeled,
    Released,
    Renewed,
    Sealed,
    Settled,
    Stopped,
    Submitted,
    SubmittedAnswer,
    Ticket,
    unpack_items,
    unpack_pairs,
)
from voxpop.broker.limits import MAX_TICKETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["HistorySpec", "Lease", "Replay", "Violation"]


class Violation(msgspec.Struct, frozen=True):
    """A broken promise."""

    rule: str  # its number in docs/promises.md and a word, or "log"
    place: str  # the event, call, item or lease
    message: str


@dataclass(frozen=True, kw_only=True)
class HistorySpec:
    """What is known of a job besides its history."""

    job: str
    pool: str
    workforce: str
    replication: int
    max_declines: int  # JobSpec.declines_allowed
    retry_seconds: float
    workers: Mapping[str, int]  # index of everybody in the workforce
    members: tuple[str, ...]  # of the pool when the history begins
    allow: tuple[str, ...] = ()  # of the workforce when the history begins
    maximum: int = MAX_TICKETS  # tickets of an item
    least_people: int = 1  # the fewest members of the pool: an item closes for want of people when all have spoken
    complete: bool = False  # the job ran to its end: every item must have ended
    inputs_of: Callable[[bytes], Iterable[tuple[int, int]]] | None = (
        None  # label -> (worker index, attempt) of its input
    )


class Lease(NamedTuple):
    """One ticket given to one worker by one claim."""

    item: int
    worker: int
    attempt: int


class LoggedClaim(NamedTuple):
    """What one claim gave."""

    worker: int
    items: tuple[int, ...]


@dataclass
class _Held:
    """What one worker last had to do with one item."""

    attempt: int
    named: bool
    deadline_ms: int
    state: Literal["held", "answered", "lapsed", "released", "declined"] = "held"
    since_ms: int = 0
    since_seq: int = 0


@dataclass
class _Item:
    granted: int
    waiting: set[int]  # workers whose named tickets wait for them
    people: dict[int, _Held] = field(default_factory=dict)
    declines: int = 0
    closed: bool = False
    taken_seq: int = 0  # when somebody last took a ticket for anybody
    ended: bool = False
    version: int = 0
    inputs: frozenset[tuple[int, int]] = frozenset()

    def count(self, *states: str) -> int:
        return sum(held.state in states for held in self.people.values())

    @property
    def wants_nothing(self) -> bool:
        """Every granted ticket is answered."""
        return self.count("answered") == self.granted


class Replay:
    """Call ``follow`` with each event in order, then ``finish``; then read ``violations`` and what was collected."""

    def __init__(self, spec: HistorySpec) -> None:
        self.spec = spec
        self.violations: list[Violation] = []
        self.items: list[_Item] = []
        self.claims: dict[int, LoggedClaim] = {}  # by attempt
        self.appends: dict[int, int] = {}  # first item -> count
        self.used: dict[Lease, bytes] = {}
        self.unused: dict[Lease, list[bytes]] = {}
        self.returned: dict[str, set[Lease]] = {"release": set(), "decline": set(), "renew": set()}
        self.stopped = self.revoked = self.sealed = False
        self._given: set[Lease] = set()
        self._seq = self._at_ms = 0
        self._closing: set[int] = set()  # items whose Closed event is due

    def has_ended(self, item: int) -> bool:
        """Whether the item has ended."""
        return item < len(self.items) and self.items[item].ended

    def blame(self, rule: str, message: str) -> None:
        """Note a broken promise at the present event."""
        self.violations.append(Violation(rule, f"event {self._seq}", message))

    def follow(self, event: Event) -> None:
        """Take the next event."""
        if event.seq != self._seq + 1:
            self.blame("log", f"the next event is {event.seq}")
        if event.at_ms < self._at_ms:
            self.blame("log", f"time goes back from {self._at_ms} to {event.at_ms}")
        self._seq, self._at_ms = event.seq, event.at_ms
        if self._closing and not isinstance(event, Closed):
            self.blame("7 told", f"items {sorted(self._closing)} closed, and nobody is told")
            self._closing.clear()
        match event:
            case Appended():
                self._appended(event)
            case Claimed():
                self._claimed(event)
            case Submitted():
                for answer in event.answers:
                    self._answered(event, answer)
            case Renewed() | Released() | Declined() | Expired():
                for ticket in event.tickets:
                    self._returned(event, ticket)
            case Closed():
                self._closed(unpack_items(event.items))
            case Extended():
                self._extended(event)
            case Settled():
                for end in event.ends:
                    self._ended(*end)
            case Labeled():
                for label in event.labels:
                    self._labeled(*label)
            case Sealed():
                self.sealed = True
            case Stopped():
                self.stopped, self.revoked = True, event.revoked or self.revoked

    def finish(self) -> None:
        """Check what holds at the end."""
        for number, item in enumerate(self.items):
            if self.spec.complete and not item.ended:
                self.blame("7 end", f"item {number} has not ended")
            if item.ended and item.inputs and self.spec.inputs_of:
                counted = {(worker, held.attempt) for worker, held in item.people.items() if held.state == "answered"}
                if counted - item.inputs:
                    self.blame("3 input", f"item {number}: its label lacks the answers {sorted(counted - item.inputs)}")

    # -- events ----------------------------------------------------------------------------------------------------

    def _item(self, number: int) -> _Item:
        """The item; one that was never appended is blamed and stood in for."""
        if number < len(self.items):
            return self.items[number]
        self.blame("8 append", f"item {number} was never appended")
        return _Item(0, set())

    def _appended(self, event: Appended) -> None:
        if event.first != len(self.items) or event.count < 1:
            self.blame("8 append", f"{event.count} items at {event.first} after {len(self.items)}")
        if self.stopped:
            self.blame("6 stop", "items were appended after a stop")
        if self.sealed:
            self.blame("8 append", "items were appended after the input was complete")
        self.appends[event.first] = event.count
        self.items += [_Item(self.spec.replication, set()) for _ in range(event.count)]
        for item, worker in unpack_pairs(event.named):
            self._grant(self._item(item), 1, {worker}, item)
        for number in range(event.first, event.first + event.count):
            if number < len(self.items) and self.items[number].granted == 0:
                self.items[number].closed = True
                self._closing.add(number)

    def _grant(self, item: _Item, tickets: int, named: set[int], number: int) -> None:
        item.granted += tickets
        item.waiting |= named
        if item.granted > self.spec.maximum:
            self.blame("1 tickets", f"item {number} has {item.granted} tickets of {self.spec.maximum}")

    def _claimed(self, event: Claimed) -> None:
        if event.attempt != len(self.claims) + 1:
            self.blame("log", f"claim {event.attempt} follows claim {len(self.claims)}")
        if self.stopped:
            self.blame("6 stop", "work was given out after a stop")
        numbers = unpack_items(event.items)
        self.claims[event.attempt] = LoggedClaim(event.worker, numbers)
        if len(set(numbers)) < len(numbers) or not numbers:
            self.blame("1 tickets", f"a claim gave the items {numbers}")
        for number in numbers:
            item = self._item(number)
            self._given.add(Lease(number, event.worker, event.attempt))
            named = event.worker in item.waiting
            self._may_have(item, number, event.worker, named=named)
            item.waiting.discard(event.worker)
            item.people[event.worker] = _Held(event.attempt, named, event.deadline_ms)
            if not named:
                item.taken_seq = self._seq
                if item.closed:
                    self.blame("1 tickets", f"item {number} was given out after it closed")
            self._count_tickets(item, number)

    def _may_have(self, item: _Item, number: int, worker: int, *, named: bool) -> None:
        if item.ended:
            self.blame("7 end", f"item {number} was given out after its end")
        before = item.people.get(worker)
        if before is None:
            return
        if before.state in ("held", "answered", "declined"):
            self.blame("2 again", f"worker {worker} got item {number}, which they had {before.state}")
        elif not named and self._at_ms - before.since_ms < self.spec.retry_seconds * 1000:
            self.blame(
                "2 again", f"worker {worker} got item {number} {self._at_ms - before.since_ms} ms after it left them"
            )

    def _count_tickets(self, item: _Item, number: int) -> None:
        used = item.count("held", "answered")
        if used + len(item.waiting) > item.granted:
            self.blame(
                "1 tickets",
                f"item {number}: {used} answers and leases, {len(item.waiting)} reserved, of {item.granted}",
            )

    def _answered(self, event: Submitted, answer: SubmittedAnswer) -> None:
        item, lease = self._item(answer.item), Lease(answer.item, event.worker, answer.attempt)
        held = item.people.get(event.worker)
        mine = held if held is not None and held.attempt == answer.attempt else None
        if lease not in self._given:
            self.blame("4 forged", f"an answer under {lease}, which was never given")
        if not answer.used:
            self.unused.setdefault(lease, []).append(answer.content)
            if mine is not None and not item.ended and not self.revoked:
                self._refused(item, mine, lease)
            return
        if lease in self.used:
            self.blame("3 once", f"{lease} has a second answer")
        self.used[lease] = answer.content
        if item.ended:
            self.blame("7 end", f"{lease}: an answer was counted after the item's end")
        if self.revoked:
            self.blame("6 stop", f"{lease}: an answer was counted after leases were revoked")
        if mine is None or mine.state not in ("held", "lapsed"):
            self.blame("4 late", f"{lease}: an answer was counted, but the ticket was {mine and mine.state}")
            return
        if mine.state == "lapsed":
            item.waiting.discard(event.worker)
            item.taken_seq = item.taken_seq if mine.named else self._seq
        mine.state = "answered"
        self._count_tickets(item, answer.item)
        if answer.full != item.wants_nothing:
            self.blame(
                "7 told", f"item {answer.item}: full is {answer.full} at {item.count('answered')} of {item.granted}"
            )

    def _refused(self, item: _Item, mine: _Held, lease: Lease) -> None:
        """An answer was not counted: right if the ticket is gone."""
        untouched = mine.named or (not item.closed and item.taken_seq < mine.since_seq)
        if mine.state == "held" or (mine.state == "lapsed" and untouched):
            self.blame("4 late", f"{lease}: an answer was refused, but nobody else has taken the ticket")

    def _returned(self, event: Renewed | Released | Declined | Expired, ticket: Ticket) -> None:
        lease = Lease(ticket.item, ticket.worker, ticket.attempt)
        item = self._item(ticket.item)
        held = item.people.get(ticket.worker)
        if held is None or held.attempt != ticket.attempt or held.state != "held" or item.ended:
            self.blame("4 lease", f"{type(event).__name__} of {lease}, which is not held")
            return
        if isinstance(event, Renewed):
            self.returned["renew"].add(lease)
            held.deadline_ms = max(held.deadline_ms, event.deadline_ms)
            return
        held.since_ms, held.since_seq = self._at_ms, self._seq
        if isinstance(event, Declined):
            self.returned["decline"].add(lease)
            held.state = "declined"
            self._decline(item, named=held.named)
        else:
            held.state = "lapsed" if isinstance(event, Expired) else "released"
            if isinstance(event, Released):
                self.returned["release"].add(lease)
            elif event.at_ms < held.deadline_ms:
                self.blame("4 lease", f"{lease} expired before its deadline {held.deadline_ms}")
            if held.named:
                item.waiting.add(ticket.worker)
            elif item.closed:
                item.granted -= 1
        if item.closed and item.wants_nothing:
            self._closing.add(ticket.item)

    def _decline(self, item: _Item, *, named: bool) -> None:
        item.declines += 1
        if named or item.closed:
            item.granted -= 1  # it was for this worker only, or for nobody any more
        if not item.closed and (item.declines >= self.spec.max_declines or item.wants_nothing):
            item.granted = item.count("held", "answered") + len(item.waiting)
            item.closed = True

    def _closed(self, numbers: tuple[int, ...]) -> None:
        deserted = set(numbers) - self._closing
        if not self._closing <= set(numbers):
            self.blame("7 told", f"items {sorted(numbers)} are said to have closed; expected {sorted(self._closing)}")
        self._closing.clear()
        # A pool with fewer people than an item's tickets waits for more of them.
        least = max(self.spec.least_people, self.spec.replication)
        for number in sorted(deserted):
            item = self.items[number]
            spoken = item.count("answered", "declined")
            if item.closed or item.waiting or item.count("held") or not item.declines or item.wants_nothing:
                self.blame("7 told", f"item {number} is said to have closed, but it waits for somebody, or for nothing")
            elif spoken < least:
                self.blame("7 told", f"item {number} closed when {spoken} of at least {least} had spoken")
            item.granted = item.count("answered")
            item.closed = True

    def _extended(self, event: Extended) -> None:
        for number in unpack_items(event.items):
            item = self._item(number)
            item.closed = False
            self._grant(item, event.tickets, set(), number)
        for number, worker in unpack_pairs(event.named):
            item = self._item(number)
            if worker in item.people or worker in item.waiting:
                self.blame("2 again", f"worker {worker} was named for item {number}, which they had")
            self._grant(item, 1, {worker}, number)

    def _ended(self, number: int, end: int, version: int, reason: str, label: bytes) -> None:
        item = self._item(number)
        if item.ended:
            self.blame("7 end", f"item {number} ended twice")
        if end != 1 and not reason:
            self.blame("7 end", f"item {number} ended without a label and without a reason")
        item.ended, item.version = True, version
        self._inputs(item, number, end, label)

    def _labeled(self, number: int, end: int, version: int, _: str, label: bytes) -> None:
        item = self._item(number)
        if not item.ended or version <= item.version:
            self.blame("7 version", f"item {number}: version {version} follows {item.version}")
        item.version = max(version, item.version)
        self._inputs(item, number, end, label)

    def _inputs(self, item: _Item, number: int, end: int, label: bytes) -> None:
        if end != 1 or self.spec.inputs_of is None:
            return
        inputs = list(self.spec.inputs_of(label))
        once = frozenset(inputs)
        if len(once) < len(inputs):
            self.blame("3 input", f"item {number}: an answer is twice in the input of its label")
        if strange := [pair for pair in once if Lease(number, *pair) not in self.used]:
            self.blame("3 input", f"item {number}: its label uses {strange}, which were not counted")
        if lost := item.inputs - once:
            self.blame("3 input", f"item {number}: a later label lacks {sorted(lost)}")
        item.inputs = once
