"""The driver: any crowd against a real broker through the real client, in real time or a multiple of it.

What a person does is in ``session.py``, who they are is the crowd's business. Without time, for load: ``bulk.py``.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from voxpop.broker.errors import InvalidInputError
from voxpop.simulator.session import (
    ClaimCall,
    DriverEvent,
    EventKind,
    GiveBackCall,
    Leave,
    Pause,
    Reason,
    Session,
    Step,
    SubmitCall,
    Think,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Sequence

    from voxpop.broker import Answer, Claim, Receipt
    from voxpop.simulator.crowd import Crowd, Visit

__all__ = [
    "AsyncDriver",
    "AsyncWorkClient",
    "DriverEvent",
    "DriverReport",
    "EventKind",
    "Reason",
]

CLAIM_WAIT_SECONDS: Final = 1.0  # a person without work waits at the server in pieces of this length
JOB_OVER: Final = (Reason.JOB_ENDED, Reason.JOB_STOPPED)


class AsyncWorkClient(Protocol):
    """What the driver needs of ``broker.AsyncClient``; ``journal.AsyncJournal`` has it too."""

    def claim(self, job: str, worker: str, address: str, k: int = 1, *, wait_seconds: float = 0.0) -> Awaitable[Claim]:
        """Take items."""

    def submit(self, job: str, worker: str, address: str, answers: Sequence[Answer]) -> Awaitable[list[Receipt]]:
        """Hand in answers."""

    def release(self, job: str, worker: str, address: str, tokens: Sequence[str]) -> Awaitable[int]:
        """Give tickets back."""

    def decline(self, job: str, worker: str, address: str, tokens: Sequence[str]) -> Awaitable[int]:
        """Pass items on."""


class DriverReport(msgspec.Struct, frozen=True):
    """What a run came to."""

    reason: Reason  # why it ended
    seconds: float
    items: dict[EventKind, int]  # by kind: items (answers, leases) that its events carried
    events: dict[EventKind, int]  # by kind: how often


class Driver:
    """What both drivers share: sessions, events, counts."""

    def __init__(
        self,
        job: str,
        crowd: Crowd,
        *,
        on_event: Callable[[DriverEvent], object],
        clock: Callable[[], float],
        patience_seconds: float,
        idle_seconds: float,
    ) -> None:
        self.job = job
        self.crowd = crowd
        self._on_event = on_event
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._idle_seconds = idle_seconds
        self._started = 0.0
        self._items: Counter[EventKind] = Counter()
        self._events: Counter[EventKind] = Counter()
        self._over: Reason | None = None
        self._idle = 0

    def _begin(self) -> None:
        self._started = self._clock()

    def _tell(self, event: DriverEvent) -> None:
        self._events[event.kind] += 1
        self._items[event.kind] += len(event.items)
        self._on_event(event)

    def _session(self, visit: Visit) -> Session:
        return Session(
            visit,
            self.crowd,
            tell=self._tell,
            clock=self._clock,
            started=self._started,
            patience_seconds=self._patience_seconds,
            idle_seconds=self._idle_seconds,
        )

    def _left(self, reason: Reason) -> None:
        """Note why a person left; the end of the job is the end for all."""
        self._idle += reason is Reason.IDLE
        if reason in JOB_OVER:
            self._over = reason

    def _report(self) -> DriverReport:
        nobody = Reason.IDLE if self._idle else Reason.NOBODY_LEFT
        return DriverReport(self._over or nobody, self._clock() - self._started, dict(self._items), dict(self._events))


class AsyncDriver(Driver):
    """Everybody of the crowd, each in their own time, in one event loop.

    Args:
        client: the broker's client, or a journal around it.
        job: the job's name; its pool has the crowd's workers as members.
        crowd: who comes, and what they say.
        speed: seconds of the crowd's clock in one real second; ``math.inf`` = nobody thinks or dawdles. Leases run in
            real time whatever the speed.
        on_event: called with each event, between two steps; it should return soon.
        clock: seconds that never go back.
        patience_seconds: how long the server may be away before ``run`` raises; the client's own patience comes first.
        idle_seconds: after so long without anything to do a person leaves; by default nobody does before the job ends.

    Raises:
        InvalidInputError: a speed that is none.
    """

    def __init__(
        self,
        client: AsyncWorkClient,
        job: str,
        crowd: Crowd,
        *,
        speed: float = 1.0,
        on_event: Callable[[DriverEvent], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        patience_seconds: float = 60.0,
        idle_seconds: float = math.inf,
    ) -> None:
        super().__init__(
            job, crowd, on_event=on_event, clock=clock, patience_seconds=patience_seconds, idle_seconds=idle_seconds
        )
        if not speed > 0:
            raise InvalidInputError(
                f"speed is {speed}; expected seconds of the crowd's clock in one real second, above 0"
            )
        self.client = client
        self.speed = speed
        self._stop = asyncio.Event()
        self._error: Exception | None = None
        self._waiting: dict[str, deque[Visit]] = {}  # of those who are there: visits that come after this one

    def stop(self) -> None:
        """Ask everybody to give back what they hold and go; ``run`` then returns."""
        if self._over is None:
            self._over = Reason.ASKED_TO_STOP
        self._stop.set()

    async def run(self) -> DriverReport:
        """Let the crowd work until the job ends, or nobody is left. Cancelling it releases what is held first.

        Raises:
            BrokerError: the server was away for longer than the patience, or a call was wrong in itself.
        """
        self._begin()
        everybody = asyncio.create_task(self._everybody())
        try:
            await asyncio.shield(everybody)
        except asyncio.CancelledError:
            self.stop()
            await everybody  # a second cancellation ends it where it stands
            raise
        if self._error is not None:
            raise self._error
        return self._report()

    async def _everybody(self) -> None:
        async with asyncio.TaskGroup() as group:
            at_seconds = 0.0
            while (visit := self.crowd.next(self._crowd_time(at_seconds))) is not None:
                at_seconds = visit.at_seconds
                if await self._nap((at_seconds - self._crowd_time(at_seconds)) / self.speed):
                    return
                if visit.worker in self._waiting:
                    self._waiting[visit.worker].append(visit)
                else:
                    self._waiting[visit.worker] = deque([visit])
                    group.create_task(self._person(visit.worker))

    def _crowd_time(self, without_time: float) -> float:
        return without_time if math.isinf(self.speed) else (self._clock() - self._started) * self.speed

    async def _person(self, worker: str) -> None:
        visits = self._waiting[worker]
        try:
            while visits and not self._stop.is_set():
                session = self._session(visits.popleft())
                self._left(await self._visit(session))
                if session.back_after_seconds is not None:
                    await self._nap(session.back_after_seconds / self.speed)
                    visits.appendleft(session.visit)
        except Exception as error:  # noqa: BLE001 - raised by run(), once everybody has given back what they hold
            self._error = self._error or error
            self._stop.set()
        finally:
            del self._waiting[worker]
        if self._over is not None:
            self._stop.set()

    async def _visit(self, session: Session) -> Reason:
        steps = session.steps()
        try:
            step = next(steps)
            while True:
                step = resume(steps, await self._perform(session.visit, step))
        except StopIteration as stop:
            reason: Reason = stop.value
            return reason

    async def _perform(self, visit: Visit, step: Step) -> Any:
        """Do one step and return what came of it; an exception is for the session to judge."""
        if isinstance(step, Think | Pause):
            seconds = step.seconds / self.speed if isinstance(step, Think) else step.seconds
            return Leave() if await self._nap(seconds) else None
        if self._stop.is_set() and isinstance(step, ClaimCall):
            return Leave()
        name, arguments = call_of(step)
        options = {"wait_seconds": CLAIM_WAIT_SECONDS} if name == "claim" else {}
        try:
            return await getattr(self.client, name)(self.job, visit.worker, visit.address, arguments, **options)
        except Exception as error:  # noqa: BLE001 - the session judges
            return error

    async def _nap(self, seconds: float) -> bool:
        """Wait, unless the driver is asked to stop; returns whether it is."""
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), seconds)
        else:
            await asyncio.sleep(0)
        return self._stop.is_set()


def resume(steps: Generator[Step, Any, Reason], came: Any) -> Step:
    """Hand a session what came of its last step, and return the next one; raises StopIteration when the person left."""
    return steps.throw(came) if isinstance(came, Exception) else steps.send(came)


def call_of(step: ClaimCall | SubmitCall | GiveBackCall) -> tuple[str, Any]:
    """Return the client's method for a step, and its argument after job, worker and address."""
    if isinstance(step, ClaimCall):
        return "claim", step.k
    if isinstance(step, SubmitCall):
        return "submit", step.answers
    return step.how, step.tokens
