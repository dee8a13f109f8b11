"""What the processes behind the broker do: expire, read and trim the log, settle, extend, publish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from voxpop.broker.errors import NotFoundError
from voxpop.broker.events import Event, decode
from voxpop.broker.jobs import JobOperations
from voxpop.broker.limits import MAX_TICKETS
from voxpop.broker.models import Settlement, ShardState, check_count
from voxpop.broker.scripts import COUNTERS
from voxpop.broker.steps import Command, Run, Step
from voxpop.broker.wire import Code, pack_items, pack_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["UpkeepOperations"]

RESULTS_KEPT: Final = 100_000  # entries of a results stream, about
EXPIRE_TIMERS: Final = 200  # looked at in one call


class UpkeepOperations(JobOperations):
    """Operations of actors and sweepers. They need no access verdict: workers never call them."""

    def shard_state(self, job: str, *, attend: bool = False) -> Step[ShardState]:
        """Return the shard's counters; ``attend`` also clears the dirty flag, before the log is read."""
        reply = yield Run("attend", self.keys.shard(job).all(), (0, int(attend)))
        now, next_ms, _, *counters = reply
        named = dict(zip(COUNTERS, counters, strict=True))
        return ShardState(
            **{name: value for name, value in named.items() if name not in ("sealed", "stopping")},
            sealed=bool(named["sealed"]),
            stopping=bool(named["stopping"]),
            revoked=named["stopping"] == 2,
            next_timer_ms=next_ms,
            now_ms=now,
        )

    def is_dirty(self, job: str) -> Step[bool]:
        """Return whether something was written since an actor last attended to the shard."""
        reply = yield Run("attend", self.keys.shard(job).all(), (0, 0))
        return bool(reply[2])

    def expire(self, job: str, *, limit: int = EXPIRE_TIMERS, now_ms: int = 0) -> Step[int]:
        """End leases that are over and let former holders try again; returns how many tickets came back."""
        came_back = 0
        while True:
            now, lapsed, next_ms, wake = yield Run("expire", self.keys.shard(job).all(), (now_ms, limit))
            came_back += lapsed
            yield from self._wake(job, wake)
            if not 0 < next_ms <= now:
                return int(came_back)

    def read_log(self, job: str, after: int = 0, count: int = 1000) -> Step[list[tuple[bytes, Event]]]:
        """Return up to ``count`` events after event ``after``, each with its stored bytes."""
        reply = yield Command(("XRANGE", self.keys.shard(job).log, f"({after}-0", "+", "COUNT", count))
        return [(data := frame_of(entry), decode(data)) for entry in reply]

    def trim_log(self, job: str, upto: int, size: int) -> Step[int]:
        """Drop events up to ``upto`` of ``size`` bytes: they are archived. Returns how many are left."""
        reply = yield Run("trim", self.keys.shard(job).all(), (0, upto, size))
        return int(reply[0])

    def settle(self, job: str, ends: Sequence[Settlement], *, now_ms: int = 0) -> Step[bool]:
        """End items; the first verdict on an item stands. Returns whether every item of the job has ended."""
        args = [part for end in ends for part in settlement_args(end)]
        reply = yield Run("settle", self.keys.shard(job).all(), (now_ms, RESULTS_KEPT, *args))
        if Code.UNKNOWN in reply[1]:
            raise NotFoundError(f"job {job!r} has no item {ends[reply[1].index(Code.UNKNOWN)].item}")
        return bool(reply[2])

    def publish(self, job: str, labels: Sequence[Settlement], *, now_ms: int = 0) -> Step[None]:
        """Publish new versions of the labels of items that have ended."""
        args = [part for label in labels for part in settlement_args(label)]
        yield Run("publish", self.keys.shard(job).all(), (now_ms, RESULTS_KEPT, *args))

    def extend(
        self,
        job: str,
        items: Sequence[int] = (),
        *,
        tickets: int = 1,
        maximum: int = MAX_TICKETS,
        named: Sequence[tuple[int, int]] = (),
        now_ms: int = 0,
    ) -> Step[list[Code]]:
        """Grant ``tickets`` more to each of ``items``, and one to each (item, worker index) of ``named``.

        Returns:
            For each item, then for each pair: DONE, SETTLED, OVER_MAXIMUM, UNKNOWN, for an item also NOBODY_LEFT
            (everybody of the pool has or had it), for a pair also HAS_IT.
        """
        check_count("tickets", tickets, 1, MAX_TICKETS)
        check_count("maximum", maximum, 0, MAX_TICKETS)
        args = (now_ms, maximum, tickets, pack_items(items), pack_pairs(named))
        reply = yield Run("extend", self.keys.shard(job).all(), args)
        return [Code(code) for code in reply[1]]


def settlement_args(end: Settlement) -> tuple[int, int, int, str, bytes]:
    """Return a verdict as settle.lua and publish.lua take it."""
    return end.item, end.end.value, end.version, end.reason, end.label


def frame_of(entry: tuple[bytes, dict[bytes, bytes] | list[bytes]]) -> bytes:
    """Return the event's bytes from an entry of the stream, however the protocol version spells it."""
    fields = entry[1]
    return fields[b"e"] if isinstance(fields, dict) else fields[1]
