"""The crowd: who comes next, and what they say. Recorded, simulated and human crowds are the same to the driver."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import msgspec

__all__ = ["Answer", "Crowd", "Decline", "Visit"]


class Visit(msgspec.Struct, frozen=True):
    """A worker comes to work: when, from where, and how many items they take at once."""

    at_seconds: float
    worker: str
    address: str
    k: int = 1


class Answer(msgspec.Struct, frozen=True):
    """The worker answers after ``seconds`` of work."""

    content: Any
    seconds: float


class Decline(msgspec.Struct, frozen=True):
    """The worker passes this item on after ``seconds`` of looking at it."""

    seconds: float


@runtime_checkable
class Crowd(Protocol):
    """Everything the driver asks of a crowd. Must be reproducible from its seed."""

    @property
    def workers(self) -> tuple[str, ...]:
        """Everybody who may turn up; they become the members of the pool."""

    def next(self, now: float) -> Visit | None:
        """Return the next visit at or after ``now`` (seconds); None when nobody will come any more."""

    def answer(self, worker: str, item: int) -> Answer | Decline:
        """Return what ``worker`` does with the item of this index."""
