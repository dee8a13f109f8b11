"""The crowd: who comes next, and what they say. Recorded, simulated and human crowds are the same to the driver.

Nothing here talks to a broker: ``driver.py`` does.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import msgspec

from voxpop.broker.errors import InvalidInputError

__all__ = ["Abandon", "Action", "Answer", "Crowd", "CrowdError", "Decline", "Visit"]


class CrowdError(InvalidInputError):
    """The crowd that was asked for cannot be: names the field, what was found, what was expected and what to do."""


class Visit(msgspec.Struct, frozen=True):
    """A worker comes to work: when, from where, and how many items they take at once. They stay while there is work."""

    at_seconds: float
    worker: str
    address: str
    k: int = 1
    sends_twice: bool = False  # on a bad connection: every submit arrives a second time


class Answer(msgspec.Struct, frozen=True):
    """The worker answers after ``seconds`` of work."""

    content: Any  # plain JSON values, as the schema of the job's task type has it
    seconds: float


class Decline(msgspec.Struct, frozen=True):
    """The worker passes this item on after ``seconds`` of looking at it."""

    seconds: float


class Abandon(msgspec.Struct, frozen=True):
    """The worker leaves after ``seconds`` without a word: this lease, and what else they hold, runs out."""

    seconds: float
    back_after_seconds: float | None = None  # None = they never come back


Action = Answer | Decline | Abandon


@runtime_checkable
class Crowd(Protocol):
    """Everything the driver asks of a crowd. Must be reproducible from its seed."""

    @property
    def workers(self) -> tuple[str, ...]:
        """Everybody who may turn up; they become the members of the pool."""

    def next(self, now: float) -> Visit | None:
        """Return the next visit, in order of time, each one once; None when nobody will come any more.

        Args:
            now: seconds since the crowd was let in. A visit that lies before it still counts: the driver is late.
        """

    def answer(self, worker: str, item: int) -> Action:
        """Return what ``worker`` does with the item of this index, whenever and in whatever order they are asked."""
