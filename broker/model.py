"""The rules of a shard in plain Python: what every transition in ``broker/scripts`` does, without its packing.

This is the readable specification. The property tests run it in lockstep with the scripts on random histories: same
calls, same replies, same events. It is pure: the clock is passed in, nothing is stored elsewhere, and it is slow on
purpose.

How tickets move. Item *i* is the *i*-th appended id. Its tickets of the *main log* go to workers in order of their
cursors; the *head* is the oldest item that still has one. A worker passes an item only by taking it, so that at most
``replication - 1`` cursors are ahead of the head and nobody ever searches. Tickets that come back, or are granted
later, are entries of the *reopened log*, which workers walk with a second cursor. Named tickets wait for one worker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha1
from struct import pack
from typing import TYPE_CHECKING

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
)
from voxpop.broker.wire import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from voxpop.broker.models import Token

__all__ = ["Ending", "Record", "Shard", "Slot", "State"]


class State(IntEnum):
    """What became of one worker's ticket of one item."""

    LEASED = 1
    ANSWERED = 2
    LAPSED = 3  # the lease expired; a late answer counts while the ticket is free
    LAPSED_RETRY = 4  # the same, and its holder may take the item anew
    RELEASED = 5  # given back
    RELEASED_RETRY = 6  # the same, and its holder may take the item anew
    DECLINED = 7  # never again


RETRYABLE = (State.LAPSED_RETRY, State.RELEASED_RETRY)
LOOK_AHEAD = 64  # entries of the reopened log, or of the worker's named tickets, that a claim looks at beyond k
MAX_RUN = 4096  # items that a claim walks in the main log
PAGE = 32
MANY_PEOPLE = 2**29  # more than any pool has

Ending = tuple[int, int, int, str, bytes]  # item, end, version, reason, label


@dataclass
class Slot:
    """One worker's ticket of one item."""

    worker: int
    state: State
    attempt: int
    named: bool
    digest: int = 0  # of the accepted answer


@dataclass
class Record:
    """An item that has not ended."""

    granted: int  # tickets in all
    main: int  # of these, tickets that the main log still hands out
    reserved: int = 0  # of these, named tickets that wait for their worker
    declines: int = 0
    closed: bool = False
    slots: dict[int, Slot] = field(default_factory=dict)  # by worker

    @property
    def used(self) -> int:
        """Tickets that are leased or answered."""
        return sum(slot.state in (State.LEASED, State.ANSWERED) for slot in self.slots.values())

    @property
    def answered(self) -> int:
        """Tickets that are answered."""
        return sum(slot.state is State.ANSWERED for slot in self.slots.values())

    @property
    def returned(self) -> int:
        """Tickets for anybody that the main log does not hand out: they came back, or were granted later."""
        return 0 if self.closed else self.granted - self.reserved - self.used - self.main


@dataclass(frozen=True)
class LeaseTimer:
    """Falls due when the leases of one claim's run of items end."""

    attempt: int
    worker: int
    first: int
    length: int

    @property
    def order(self) -> bytes:
        """How timers of the same millisecond are ordered."""
        return b"L" + pack(">IIIH", self.attempt, self.worker, self.first, self.length)


@dataclass(frozen=True)
class RetryTimer:
    """Falls due when a former holder may take the item anew."""

    item: int
    worker: int
    attempt: int

    @property
    def order(self) -> bytes:
        """How timers of the same millisecond are ordered."""
        return b"R" + pack(">III", self.item, self.worker, self.attempt)


class Shard:
    """One shard of a job. Replies are what the scripts reply; ``events`` is what they log."""

    def __init__(
        self,
        *,
        replication: int,
        lease_ms: int,
        retry_ms: int,
        max_declines: int,
        people: int = MANY_PEOPLE,
        chunk_items: int = 0,
    ) -> None:
        del chunk_items  # packing is the scripts' affair
        self.replication = replication
        self.lease_ms = lease_ms
        self.retry_ms = retry_ms
        self.max_declines = max_declines
        self.epoch = 0
        self.people = people  # members of the pool
        self.stopping = 0  # 1: held leases may finish; 2: revoked
        self.sealed = False
        self.dirty = False
        self.time_ms = 0
        self.appended = 0
        self.head = 0
        self.attempts = 0
        self.items: dict[int, Record] = {}  # without those that ended
        self.cursors: dict[int, tuple[int, int]] = {}  # worker -> main log, reopened log
        self.reopened: dict[int, int] = {}  # item -> place in the reopened log
        self.reopenings = 0
        self.named: set[tuple[int, int]] = set()  # worker, item
        self.timers: dict[LeaseTimer | RetryTimer, int] = {}
        self.ids: set[str] = set()
        self.events: list[Event] = []

    # -- what transitions share ------------------------------------------------------------------------------------

    def _now(self, now_ms: int) -> int:
        """The clock, never going back. Calls that are refused do not move it."""
        return max(self.time_ms, now_ms)

    def _tick(self, now_ms: int) -> int:
        self.time_ms = self._now(now_ms)
        return self.time_ms

    def _log(self, make: Callable[[int, int], Event]) -> None:
        self.events.append(make(len(self.events) + 1, self.time_ms))

    def _soil(self) -> int:
        woken = not self.dirty
        self.dirty = True
        return int(woken)

    def _next_ms(self) -> int:
        return min(self.timers.values(), default=0)

    def _advance_head(self, limit: int) -> None:
        while self.head < limit and (self.head not in self.items or self.items[self.head].main == 0):
            self.head += 1

    def _requeue(self, items: dict[int, bool]) -> None:
        """Bring the reopened log in line; True puts the item at its end even if it is in it."""
        for item in sorted(items):
            record = self.items.get(item)
            if record is None or record.returned <= 0:
                self.reopened.pop(item, None)
            elif items[item] or item not in self.reopened:
                self.reopenings += 1
                self.reopened[item] = self.reopenings

    def _close(self, record: Record) -> None:
        record.granted = record.used + record.reserved
        record.main = 0
        record.closed = True

    def _close_if_nobody_is_left(self, item: int, closed: list[int], requeue: dict[int, bool]) -> None:
        """Close an item that somebody passed on once everybody else of the pool has spoken.

        Former holders who may try again count as people to come, and so does who holds a lease. A pool with fewer
        people than an item's tickets waits for more of them, whether somebody passed the item on or not.
        """
        record = self.items[item]
        if record.closed or not record.declines or record.reserved or self.people < self.replication:
            return
        states = [slot.state for slot in record.slots.values()]
        spoken = sum(state in (State.ANSWERED, State.DECLINED) for state in states)
        if State.LEASED not in states and spoken >= self.people:
            self._close(record)
            requeue[item] = requeue.get(item, False)
            closed.append(item)
            self._advance_head(self.appended)

    def _log_closed(self, closed: list[int]) -> int:
        if not closed:
            return 0
        self._log(lambda seq, at: Closed(seq, at, pack(f"<{len(closed)}I", *closed)))
        return self._soil()

    def _give_back(self, item: int, slot: Slot, state: State, closed: list[int]) -> None:
        """Return the ticket of a lease to whom it belongs."""
        record = self.items[item]
        if slot.named:
            slot.state = State(state + 1)  # nobody else waits for it
            record.reserved += 1
            self.named.add((slot.worker, item))
            return
        slot.state = state
        if record.closed:
            record.granted -= 1
            if record.answered == record.granted:
                closed.append(item)

    def _leased(self, token: Token) -> Slot | None:
        """The slot of a lease that is still held under this token."""
        record = self.items.get(token.item)
        slot = record.slots.get(token.worker) if record else None
        live = slot is not None and slot.state is State.LEASED and slot.attempt == token.attempt
        return slot if live else None

    # -- transitions, in the order of an item's life ---------------------------------------------------------------

    def append(
        self,
        now_ms: int,
        at: int,
        count: int,
        segment: str = "",
        named: Sequence[tuple[int, int]] = (),
        ids: Sequence[str] = (),
    ) -> tuple[str, int, int]:
        """append.lua: ``named`` pairs are (offset in this append, worker)."""
        first = self.appended if at < 0 else at
        if first + count <= self.appended:
            return ("repeated", first, 0)
        if first != self.appended:
            return ("gap", self.appended, 0)
        if self.sealed:
            return ("sealed", first, 0)
        if self.stopping:
            return ("stopped", first, 0)
        if len(set(ids)) < len(ids) or self.ids.intersection(ids):
            return ("taken", first, 0)
        self._tick(now_ms)
        self.ids.update(ids)
        leading = self.head == self.appended
        self.appended += count
        for item in range(first, first + count):
            self.items[item] = Record(granted=self.replication, main=self.replication)
        for offset, worker in named:
            record = self.items[first + offset]
            record.granted += 1
            record.reserved += 1
            self.named.add((worker, first + offset))
        nobodys = [item for item in range(first, self.appended) if self.items[item].granted == 0]
        for item in nobodys:
            self._close(self.items[item])
        if self.replication == 0 and leading:
            self.head = self.appended
        packed = b"".join(pack("<II", first + offset, worker) for offset, worker in named)
        self._log(lambda seq, at_ms: Appended(seq, at_ms, first, count, packed, segment))
        return ("ok", first, self._log_closed(nobodys))

    def seal(self, now_ms: int) -> tuple[str, int]:
        """seal.lua."""
        if self.sealed:
            return ("repeated", 0)
        self._tick(now_ms)
        self.sealed = True
        self._log(Sealed)
        return ("ok", self._soil())

    def stop(self, now_ms: int, *, revoke: bool = False) -> tuple[str, int]:
        """stop.lua."""
        stopping = 2 if revoke else 1
        if self.stopping >= stopping:
            return ("repeated", 0)
        self._tick(now_ms)
        self.stopping = stopping
        self._log(lambda seq, at: Stopped(seq, at, revoke))
        return ("ok", self._soil())

    def claim(self, now_ms: int, worker: int, epoch: int, k: int, lease_ms: int = 0) -> tuple[object, ...]:
        """claim.lua."""
        now = self._now(now_ms)
        if epoch < self.epoch:
            return ("recheck", now, 0, 0, 0, 0, b"", b"", 0)
        if self.stopping:
            return ("stopped", now, 0, 0, 0, 0, b"", b"", 0)
        self._tick(now_ms)
        attempt, deadline = self.attempts + 1, now + (lease_ms or self.lease_ms)
        requeue: dict[int, bool] = {}

        others, cut = self._claim_named(worker, attempt, k)
        cursor, seen = self.cursors.get(worker, (0, 0))
        wanted = 0 if cut else k - len(others)  # with a named ticket left they could take its item twice
        if wanted:
            seen, cut = self._claim_reopened(worker, attempt, k, seen, others, requeue)
            wanted = k - len(others)
        first = max(cursor, self.head)
        cursor, main, cut_main = self._claim_main(worker, attempt, wanted, first, requeue)
        cut = cut or cut_main

        self._advance_head(cursor)
        self._requeue(requeue)
        self.cursors[worker] = (cursor, seen)
        if not others and not main:
            ended = self.sealed and not self.items
            return ("more" if cut else "none" if ended else "wait", now, 0, 0, 0, 0, b"", b"", self._next_ms())
        self.attempts = attempt
        packed_others, packed_main = pack(f"<{len(others)}I", *others), pack(f"<{len(main)}I", *main)
        self._log(lambda seq, at: Claimed(seq, at, worker, attempt, deadline, packed_others + packed_main))
        if main:
            self.timers[LeaseTimer(attempt, worker, first, cursor - first)] = deadline
        for item in others:
            self.timers[LeaseTimer(attempt, worker, item, 1)] = deadline
        return ("more", now, deadline, attempt, first, cursor - first, packed_main, packed_others, 0)

    def _claim_named(self, worker: int, attempt: int, k: int) -> tuple[list[int], bool]:
        taken: list[int] = []
        cut = False
        for place, (_, item) in enumerate(sorted(pair for pair in self.named if pair[0] == worker), 1):
            if len(taken) == k or cut:
                break
            cut = place == k + LOOK_AHEAD
            self.named.discard((worker, item))
            record = self.items.get(item)
            if record:
                record.reserved -= 1
                record.slots[worker] = Slot(worker, State.LEASED, attempt, named=True)
                taken.append(item)
        return taken, cut

    def _claim_reopened(
        self, worker: int, attempt: int, k: int, seen: int, others: list[int], requeue: dict[int, bool]
    ) -> tuple[int, bool]:
        looked = 0
        while len(others) < k and self.reopened:
            if looked >= k + LOOK_AHEAD:
                return seen, True
            page = sorted((place, item) for item, place in self.reopened.items() if place > seen)
            page = page[: min(k - len(others), PAGE)]
            if not page:
                break
            for place, item in page:
                record = self.items[item]
                slot = record.slots.get(worker)
                if (slot is None or slot.state in RETRYABLE) and record.returned > 0:
                    record.slots[worker] = Slot(worker, State.LEASED, attempt, named=False)
                    others.append(item)
                    requeue[item] = False
                seen = place
                looked += 1
        return seen, False

    def _claim_main(
        self, worker: int, attempt: int, wanted: int, cursor: int, requeue: dict[int, bool]
    ) -> tuple[int, list[int], bool]:
        taken: list[int] = []
        first = cursor
        while len(taken) < wanted and cursor < self.appended:
            if cursor - first >= MAX_RUN:
                return cursor, taken, True
            record = self.items.get(cursor)
            if record and record.main:
                record.main -= 1
                if worker in record.slots:
                    requeue[cursor] = False  # the ticket that they pass is for others
                else:
                    record.slots[worker] = Slot(worker, State.LEASED, attempt, named=False)
                    taken.append(cursor)
            cursor += 1
        return cursor, taken, False

    def submit(
        self, now_ms: int, worker: int, epoch: int, answers: Sequence[tuple[Token, float, bytes]]
    ) -> tuple[str, int, bytes, int]:
        """submit.lua."""
        now = self._now(now_ms)
        if epoch < self.epoch:
            return ("recheck", now, b"", 0)
        self._tick(now_ms)
        codes, logged, closed = bytearray(), [], list[int]()
        open_of: dict[LeaseTimer, int] = {}
        requeue: dict[int, bool] = {}
        for token, seconds, content in answers:
            code = self._submit(token, worker, content, requeue)
            codes.append(code)
            if code in (Code.DONE, Code.EXPIRED, Code.SETTLED):
                record, used = self.items.get(token.item), code is Code.DONE
                full = used and record is not None and record.answered == record.granted
                logged.append(SubmittedAnswer(token.item, token.attempt, used, full, seconds, content))
                if used and not full:
                    self._close_if_nobody_is_left(token.item, closed, requeue)
                if used and token.first <= token.item < token.first + token.length:
                    timer = LeaseTimer(token.attempt, worker, token.first, token.length)
                    open_of[timer] = open_of.get(timer, token.length) - 1
        wake = 0
        if logged:
            self._log(lambda seq, at: Submitted(seq, at, worker, logged))
            wake = self._soil()
            self._log_closed(closed)
        for timer, still_open in open_of.items():
            if still_open <= 0:
                self.timers.pop(timer, None)
        self._requeue(requeue)
        return ("ok", now, bytes(codes), wake)

    def _submit(self, token: Token, worker: int, content: bytes, requeue: dict[int, bool]) -> Code:
        if token.worker != worker or token.item >= self.appended or token.attempt > self.attempts:
            return Code.UNKNOWN
        record = self.items.get(token.item)
        if record is None:
            return Code.SETTLED
        slot = record.slots.get(worker)
        if slot is None:
            return Code.UNKNOWN
        digest = answer_digest(token, content)
        if slot.state is State.ANSWERED:
            return Code.REPEATED if slot.digest == digest else Code.CONFLICT
        if slot.attempt < token.attempt:
            return Code.UNKNOWN
        if slot.state is State.DECLINED or slot.attempt > token.attempt:
            return Code.EXPIRED
        if self.stopping == 2 or slot.state in (State.RELEASED, State.RELEASED_RETRY):
            return Code.EXPIRED
        if slot.state is not State.LEASED:  # the lease expired: its ticket must still be free
            if slot.named:
                record.reserved -= 1
                self.named.discard((worker, token.item))
            elif record.returned > 0:
                requeue[token.item] = False
            else:
                return Code.EXPIRED
        slot.state, slot.digest = State.ANSWERED, digest
        return Code.DONE

    def renew(
        self, now_ms: int, worker: int, epoch: int, tokens: Sequence[Token], lease_ms: int = 0
    ) -> tuple[str, int, int, bytes]:
        """renew.lua."""
        now = self._now(now_ms)
        if epoch < self.epoch:
            return ("recheck", now, 0, b"")
        self._tick(now_ms)
        deadline = now + (lease_ms or self.lease_ms)
        held = [token for token in tokens if token.worker == worker and self._leased(token) and self.stopping != 2]
        if held:
            tickets = [Ticket(token.item, worker, token.attempt) for token in held]
            self._log(lambda seq, at: Renewed(seq, at, worker, deadline, tickets))
        for token in held:
            timer = LeaseTimer(token.attempt, worker, token.first, token.length)
            if timer in self.timers:
                self.timers[timer] = max(self.timers[timer], deadline)
        codes = bytes(Code.DONE if token in held else Code.EXPIRED for token in tokens)
        return ("ok", now, deadline, codes)

    def giveback(
        self, now_ms: int, worker: int, epoch: int, tokens: Sequence[Token], *, decline: bool
    ) -> tuple[str, int, bytes, int]:
        """giveback.lua: release or decline."""
        now = self._now(now_ms)
        if epoch < self.epoch:
            return ("recheck", now, b"", 0)
        self._tick(now_ms)
        codes, given, closed = bytearray(), [], list[int]()
        requeue: dict[int, bool] = {}
        for token in tokens:
            slot = self._leased(token) if token.worker == worker else None
            if slot is None:
                codes.append(self._giveback_refusal(token, worker, decline=decline))
                continue
            codes.append(Code.DONE)
            given.append(Ticket(token.item, worker, token.attempt))
            if not slot.named:
                requeue[token.item] = False
            if decline:
                self._decline(token.item, slot, closed, requeue)
            else:
                self._give_back(token.item, slot, State.RELEASED, closed)
                if not slot.named:
                    self.timers[RetryTimer(token.item, worker, token.attempt)] = now + self.retry_ms
            if token.length == 1 and token.first == token.item:
                self.timers.pop(LeaseTimer(token.attempt, worker, token.first, token.length), None)
        if given:
            kind = Declined if decline else Released
            self._log(lambda seq, at: kind(seq, at, given))
        wake = self._log_closed(closed)
        self._advance_head(self.appended)
        self._requeue(requeue)
        return ("ok", now, bytes(codes), wake)

    def _giveback_refusal(self, token: Token, worker: int, *, decline: bool) -> Code:
        if token.worker != worker or token.item >= self.appended or token.attempt > self.attempts:
            return Code.UNKNOWN
        record = self.items.get(token.item)
        if record is None:
            return Code.SETTLED
        slot = record.slots.get(worker)
        if slot is None:
            return Code.UNKNOWN
        if slot.state is not State.ANSWERED and slot.attempt == token.attempt:
            before = (State.DECLINED,) if decline else (State.RELEASED, State.RELEASED_RETRY)
            if slot.state in before:
                return Code.REPEATED
        return Code.EXPIRED

    def _decline(self, item: int, slot: Slot, closed: list[int], requeue: dict[int, bool]) -> None:
        record = self.items[item]
        slot.state = State.DECLINED
        record.declines = min(record.declines + 1, 255)
        if slot.named:
            record.granted -= 1  # it was for this worker only
        if record.closed:
            record.granted -= 0 if slot.named else 1
        elif record.declines >= self.max_declines or record.answered == record.granted:
            self._close(record)
        if record.closed and record.answered == record.granted:
            closed.append(item)
        self._close_if_nobody_is_left(item, closed, requeue)

    def expire(self, now_ms: int, limit: int) -> tuple[int, int, int, int]:
        """expire.lua."""
        now = self._tick(now_ms)
        due = sorted((at, timer.order, timer) for timer, at in self.timers.items() if at <= now)[:limit]
        lapsed, closed = [], list[int]()
        requeue: dict[int, bool] = {}
        added: dict[LeaseTimer | RetryTimer, int] = {}
        for _, _, timer in due:
            if isinstance(timer, RetryTimer):
                record = self.items.get(timer.item)
                slot = record.slots.get(timer.worker) if record else None
                if slot and slot.state in (State.LAPSED, State.RELEASED) and slot.attempt == timer.attempt:
                    slot.state = State(slot.state + 1)
                    requeue[timer.item] = True
                continue
            for item in range(timer.first, timer.first + timer.length):
                record = self.items.get(item)
                slot = record.slots.get(timer.worker) if record else None
                held = slot and slot.state is State.LEASED and slot.attempt == timer.attempt
                # A claim's run may pass over an item that the same claim took otherwise: that has a timer of its own.
                alone = timer.length > 1 and LeaseTimer(timer.attempt, timer.worker, item, 1) in self.timers
                if slot and held and not alone:
                    self._give_back(item, slot, State.LAPSED, closed)
                    lapsed.append(Ticket(item, timer.worker, timer.attempt))
                    if not slot.named:
                        requeue.setdefault(item, False)
                        added[RetryTimer(item, timer.worker, timer.attempt)] = now + self.retry_ms
        if lapsed:
            self._log(lambda seq, at: Expired(seq, at, lapsed))
        self.timers.update(added)
        for _, _, timer in due:
            self.timers.pop(timer, None)
        wake = self._log_closed(closed)
        self._requeue(requeue)
        return (now, len(lapsed), self._next_ms(), wake)

    def extend(
        self, now_ms: int, maximum: int, tickets: int, items: Sequence[int], named: Sequence[tuple[int, int]] = ()
    ) -> tuple[int, bytes]:
        """extend.lua."""
        now = self._tick(now_ms)
        codes, opened, granted = bytearray(), [], []
        requeue: dict[int, bool] = {}
        for item in items:
            code = self._extendable(item, tickets, maximum)
            if code is Code.DONE and self._barred_workers(item) >= self.people:
                code = Code.NOBODY_LEFT
            codes.append(code)
            if code is Code.DONE:
                self.items[item].granted += tickets
                self.items[item].closed = False
                requeue[item] = True
                opened.append(item)
        for item, worker in named:
            code = self._extendable(item, 1, maximum)
            if code is Code.DONE and (worker in self.items[item].slots or (worker, item) in self.named):
                code = Code.HAS_IT
            codes.append(code)
            if code is Code.DONE:
                self.items[item].granted += 1
                self.items[item].reserved += 1
                self.named.add((worker, item))
                granted.append((item, worker))
        if opened or granted:
            packed = pack(f"<{len(opened)}I", *opened)
            pairs = b"".join(pack("<II", *pair) for pair in granted)
            self._log(lambda seq, at: Extended(seq, at, packed, tickets, pairs))
        self._requeue(requeue)
        return (now, bytes(codes))

    def _extendable(self, item: int, more: int, maximum: int) -> Code:
        if item >= self.appended:
            return Code.UNKNOWN
        if item not in self.items:
            return Code.SETTLED
        return Code.DONE if self.items[item].granted + more <= maximum else Code.OVER_MAXIMUM

    def _barred_workers(self, item: int) -> int:
        """Return how many workers cannot take one more ticket: they hold the item, answered it, or declined it."""
        barring = (State.LEASED, State.ANSWERED, State.DECLINED)
        return sum(slot.state in barring for slot in self.items[item].slots.values())

    def settle(self, now_ms: int, ends: Sequence[Ending]) -> tuple[int, bytes, int]:
        """settle.lua: each of ``ends`` is (item, end, version, reason, label)."""
        now = self._tick(now_ms)
        codes, settled = bytearray(), []
        for end in ends:
            item = end[0]
            if item >= self.appended:
                codes.append(Code.UNKNOWN)
            elif item not in self.items:
                codes.append(Code.SETTLED)
            else:
                del self.items[item]
                self.reopened.pop(item, None)
                settled.append(end)
                codes.append(Code.DONE)
        if settled:
            self._log(lambda seq, at: Settled(seq, at, settled))
            self._advance_head(self.appended)
        return (now, bytes(codes), int(self.sealed and not self.items))

    def publish(self, now_ms: int, labels: Sequence[Ending]) -> tuple[int]:
        """publish.lua."""
        now = self._tick(now_ms)
        self._log(lambda seq, at: Labeled(seq, at, list(labels)))
        return (now,)

    def learn_pool(self, epoch: int, people: int) -> tuple[int]:
        """learn_pool.lua."""
        if epoch >= self.epoch:
            self.epoch, self.people = epoch, people
        return (self.epoch,)

    def attend(self, now_ms: int) -> tuple[int, int]:
        """attend.lua, without its counters: clears the dirty flag."""
        now = self._tick(now_ms)
        self.dirty = False
        return (now, self._next_ms())


def answer_digest(token: Token, content: bytes) -> int:
    """Return the 32 bits by which the broker recognises the same submit: of the token's packed form and the content."""
    packed = pack("<IIIIH", token.item, token.worker, token.attempt, token.first, token.length)
    return int(sha1(packed + content, usedforsecurity=False).hexdigest()[:8], 16)
