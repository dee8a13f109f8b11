"""The whole crowd through one blocking client, as fast as it goes: for load. Real time is in ``driver.py``."""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from voxpop.simulator.driver import CLAIM_WAIT_SECONDS, Driver, DriverReport, call_of, resume
from voxpop.simulator.session import ClaimCall, DriverEvent, Leave, Pause, Reason, Session, Step, Think

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from voxpop.broker import Answer, Claim, Receipt
    from voxpop.simulator.crowd import Crowd, Visit

__all__ = ["BulkDriver", "WorkClient"]


class WorkClient(Protocol):
    """What the bulk driver needs of ``broker.Client``; ``broker.journal.Journal`` has it too."""

    def claim(self, job: str, worker: str, address: str, k: int = 1, *, wait_seconds: float = 0.0) -> Claim:
        """Take items."""

    def submit(self, job: str, worker: str, address: str, answers: Sequence[Answer]) -> list[Receipt]:
        """Hand in answers."""

    def release(self, job: str, worker: str, address: str, tokens: Sequence[str]) -> int:
        """Give tickets back."""

    def decline(self, job: str, worker: str, address: str, tokens: Sequence[str]) -> int:
        """Pass items on."""


class BulkDriver(Driver):
    """The whole crowd through one blocking client, page after page in turn, as fast as it goes.

    Nobody thinks, nobody waits to arrive, and who walks away comes back (if they mean to) on their next turn. Memory
    does not grow with the job: one page is held at a time.

    Args:
        client: the broker's client, or a journal around it.
        job: the job's name.
        crowd: who comes, and what they say.
        k: how many items each takes at once.
        on_event, clock, patience_seconds, idle_seconds: as for ``AsyncDriver``.
    """

    def __init__(
        self,
        client: WorkClient,
        job: str,
        crowd: Crowd,
        *,
        k: int = 100,
        on_event: Callable[[DriverEvent], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        patience_seconds: float = 60.0,
        idle_seconds: float = math.inf,
    ) -> None:
        super().__init__(
            job, crowd, on_event=on_event, clock=clock, patience_seconds=patience_seconds, idle_seconds=idle_seconds
        )
        self.client = client
        self.k = k
        self._stopping = False
        self._worked = False

    def stop(self) -> None:
        """Ask the driver to give back what is held and return; signal handlers and other threads may call it."""
        self._stopping = True

    def run(self) -> DriverReport:
        """Let the crowd work until the job ends, or nobody is left. An interrupt releases what is held.

        Raises:
            BrokerError: the server was away for longer than the patience, or a call was wrong in itself.
        """
        self._begin()
        turns: deque[_Turn] = deque()
        idle_turns = 0
        while self._over is None:
            if self._stopping:
                self._over = Reason.ASKED_TO_STOP
                break
            self._let_in(turns)
            if not turns:
                break
            turn = turns.popleft()
            # Once a whole round has found nothing, wait at the server instead of asking in a tight loop.
            wait_seconds = CLAIM_WAIT_SECONDS if idle_turns > len(turns) else 0.0
            self._worked = False
            reason = self._page(turn, wait_seconds)
            if self._worked:
                idle_turns = 0
            if reason is None:
                # Those who leave do not count, or the round would seem over before everybody was asked.
                idle_turns += not self._worked
                turns.append(turn)
                continue
            self._left(reason)
            if turn.session.back_after_seconds is not None:
                turns.append(_Turn(self._session(turn.session.visit)))
        return self._report()

    def _let_in(self, turns: deque[_Turn]) -> None:
        while len(turns) < len(self.crowd.workers):
            visit = self.crowd.next(self._clock() - self._started)
            if visit is None:
                return
            turns.append(_Turn(self._session(msgspec.structs.replace(visit, k=self.k))))

    def _page(self, turn: _Turn, wait_seconds: float) -> Reason | None:
        """Claim once and hand in what came of it; returns why the person leaves, if they do."""
        step = turn.step
        claimed = False
        try:
            while not (claimed and isinstance(step, ClaimCall)):
                claimed = claimed or isinstance(step, ClaimCall)
                step = resume(turn.steps, self._perform(turn.session.visit, step, wait_seconds))
        except StopIteration as stop:
            reason: Reason = stop.value
            return reason
        except BaseException:
            self._give_back(turn)
            raise
        turn.step = step
        return None

    def _perform(self, visit: Visit, step: Step, wait_seconds: float) -> Any:
        """Do one step and return what came of it; an exception is for the session to judge."""
        if isinstance(step, Think):
            return None
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return Leave() if self._stopping else None
        name, arguments = call_of(step)
        options = {"wait_seconds": wait_seconds} if name == "claim" else {}
        self._worked = self._worked or name != "claim"
        try:
            return getattr(self.client, name)(self.job, visit.worker, visit.address, arguments, **options)
        except Exception as error:  # noqa: BLE001 - the session judges
            return error

    def _give_back(self, turn: _Turn) -> None:
        """An interrupt came in the middle of a page: release what is held. A session that failed has done so itself."""
        with suppress(StopIteration, Leave):
            step = turn.steps.throw(Leave())
            while True:
                step = resume(turn.steps, self._perform(turn.session.visit, step, 0.0))


class _Turn:
    """A person of the bulk driver, between two pages."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.steps = session.steps()
        self.step: Step = next(self.steps)
