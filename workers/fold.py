"""What the archive says about a job: which items are open, ready for a verdict, or ended. Pure: events in, state out.

Answers are handed on to whoever keeps them (``ballots.py``); what is decided about ready items is in ``policy.py``.
Compact: five bytes an item, and a set entry for each item that is ready.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from voxpop.broker.events import (
    Appended,
    Closed,
    Declined,
    Event,
    Expired,
    Extended,
    Labeled,
    Released,
    Sealed,
    Settled,
    Stopped,
    Submitted,
    unpack_items,
    unpack_pairs,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["GapError", "JobFold"]

OPEN: Final = 0
READY: Final = 1  # every granted ticket is answered
CLOSED: Final = 2  # ready too, although not all tickets were answered: it was declined too often
ENDED: Final = 3  # + ItemEnd: 4 labeled, 5 failed, 6 unlabeled


class GapError(ValueError):
    """An event was handed in before the one that precedes it."""


class JobFold:
    """The state of one shard of a job as of event ``seq``. Events come in order; repeated ones are passed over.

    Args:
        on_answer: called with item, worker index and content (JSON) of every counted answer.
    """

    def __init__(self, on_answer: Callable[[int, int, bytes], None]) -> None:
        self._on_answer = on_answer
        self.seq = 0
        self.at_ms = 0  # time of the last event
        self.sealed = False
        self.stopping = False
        self.revoked = False
        self.answers = 0
        self.unused = 0  # came too late
        self.declined = 0
        self.released = 0
        self.lapsed = 0
        self.ready: set[int] = set()
        self._states = bytearray()
        self._versions = array("I")

    @property
    def appended(self) -> int:
        """Number of items."""
        return len(self._states)

    def apply(self, event: Event) -> None:
        """Take the next event.

        Raises:
            GapError: an event before it is missing.
        """
        if event.seq <= self.seq:
            return
        if event.seq != self.seq + 1:
            raise GapError(f"event {event.seq} came after event {self.seq}; hand in those between first")
        match event:
            case Submitted():
                self._take_answers(event)
            case Settled():
                for item, end, version, _, _ in event.ends:
                    self._end(item, end, version)
            case Labeled():
                for item, end, version, _, _ in event.labels:
                    self._end(item, end, version)
            case Appended():
                self._states.extend(bytes(event.count))
                self._versions.frombytes(bytes(event.count * self._versions.itemsize))
            case Closed():
                for item in unpack_items(event.items):
                    self._make_ready(item, CLOSED)
            case Extended():
                for item in unpack_items(event.items):
                    self._reopen(item)
                for item, _ in unpack_pairs(event.named):
                    self._reopen(item)
            case Declined():
                self.declined += len(event.tickets)
            case Released():
                self.released += len(event.tickets)
            case Expired():
                self.lapsed += len(event.tickets)
            case Sealed():
                self.sealed = True
            case Stopped():
                self.stopping = True
                self.revoked = event.revoked
            case _:  # claims and renewals change nothing here
                pass
        self.seq = event.seq
        self.at_ms = event.at_ms

    def version(self, item: int) -> int:
        """Return the version of an item's label; 0 while it has not ended."""
        return self._versions[item]

    def is_closed(self, item: int) -> bool:
        """Return whether a ready item gives out no more tickets although not all were answered."""
        return self._states[item] == CLOSED

    def is_labeled(self, item: int) -> bool:
        """Return whether the item ended with a label."""
        return self._states[item] == ENDED + 1

    def open_items(self) -> Iterator[int]:
        """Yield the items that are neither ready nor ended, in order."""
        at = self._states.find(OPEN)
        while at >= 0:
            yield at
            at = self._states.find(OPEN, at + 1)

    def _take_answers(self, event: Submitted) -> None:
        on_answer, worker = self._on_answer, event.worker
        for answer in event.answers:
            if not answer.used:
                self.unused += 1
                continue
            self.answers += 1
            on_answer(answer.item, worker, answer.content)
            if answer.full:
                self._make_ready(answer.item, READY)

    def _make_ready(self, item: int, how: int) -> None:
        if self._states[item] < ENDED:
            self._states[item] = how
            self.ready.add(item)

    def _reopen(self, item: int) -> None:
        if self._states[item] < ENDED:
            self._states[item] = OPEN
            self.ready.discard(item)

    def _end(self, item: int, end: int, version: int) -> None:
        if version >= self._versions[item]:
            self._states[item] = ENDED + end
            self._versions[item] = version
            self.ready.discard(item)
