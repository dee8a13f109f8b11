"""What goes wrong in real crowds, laid over any crowd: one walks away, an outsider knocks, a submit comes twice."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import msgspec

from voxpop.simulator.crowd import Abandon, Action, Answer, Crowd, CrowdError, Visit

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["FaultyCrowd"]


class FaultyCrowd:
    """A crowd in which some people misbehave, exactly as told.

    Args:
        crowd: the crowd underneath.
        walks_away: worker -> answers that they give before they take a lease, leave and never come back.
        outside: person -> address of one more visit of theirs, before everybody else's: a member who connects from
            there, or a stranger who is in no pool.
        sends_twice: workers whose every submit arrives twice.

    Raises:
        CrowdError: ``walks_away`` or ``sends_twice`` names somebody who is not in the crowd.
    """

    def __init__(
        self,
        crowd: Crowd,
        *,
        walks_away: Mapping[str, int] | None = None,
        outside: Mapping[str, str] | None = None,
        sends_twice: Collection[str] = (),
    ) -> None:
        self._crowd = crowd
        self._left = dict(walks_away or {})
        self._twice = frozenset(sends_twice)
        known = set(crowd.workers)
        for field, names in (("walks_away", self._left), ("sends_twice", self._twice)):
            for worker in sorted(set(names) - known):
                raise CrowdError(
                    f"{field}: {worker!r} is not in the crowd of {len(known)}; name one of its workers, such as "
                    f"{crowd.workers[0]!r}"
                )
        self._outside = deque((outside or {}).items())

    @property
    def workers(self) -> tuple[str, ...]:
        """The workers of the crowd underneath; strangers are not among them."""
        return self._crowd.workers

    def next(self, now: float) -> Visit | None:
        """The visits from outside, then those of the crowd underneath."""
        if self._outside:
            worker, address = self._outside.popleft()
            return Visit(0.0, worker, address)
        visit = self._crowd.next(now)
        if visit is not None and visit.worker in self._twice:
            return msgspec.structs.replace(visit, sends_twice=True)
        return visit

    def answer(self, worker: str, item: int) -> Action:
        """As the crowd underneath, until the worker's last answer before they walk away."""
        action = self._crowd.answer(worker, item)
        if isinstance(action, Answer) and worker in self._left:
            if self._left[worker] <= 0:
                return Abandon(action.seconds)
            self._left[worker] -= 1
        return action
