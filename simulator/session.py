"""One person at work, from coming to leaving: claim, think, answer, and whatever goes wrong.

A session is a generator, as the broker's operations are: it yields what the person does next and receives what came of
it, and knows neither threads nor event loops. ``driver.py`` performs the steps, for one blocking client or for asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import msgspec

from voxpop.broker import Answer, Claim, ClaimStatus, Lease, Receipt, SubmitStatus
from voxpop.broker.errors import BrokerError, BusyError, NotFoundError, ServerFullError, ServerUnavailableError
from voxpop.simulator import crowd as said

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "ClaimCall",
    "DriverEvent",
    "EventKind",
    "GiveBackCall",
    "Leave",
    "Pause",
    "Reason",
    "Session",
    "Step",
    "SubmitCall",
    "Think",
]

T = TypeVar("T")
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0


class EventKind(StrEnum):
    """What a driver tells while it runs."""

    CLAIMED = "claimed"
    ANSWERED = "answered"
    DECLINED = "declined"
    ABANDONED = "abandoned"  # left without a word; the leases run out
    RELEASED = "released"  # given back, because the driver was asked to stop
    REFUSED = "refused"  # told "not found": a wrong address, or no member
    EXPIRED = "expired"  # an answer that came after its ticket had gone to somebody else
    SETTLED = "settled"  # an answer that came after its item had ended
    CONFLICT = "conflict"  # another answer had been accepted under the same lease
    DUPLICATE_SUBMITTED = "duplicate-submitted"  # the same submit arrived a second time
    UNAVAILABLE = "unavailable"  # the server does not answer; the driver waits and tries again
    BUSY = "busy"  # the event log is full until the actors have archived it


class DriverEvent(msgspec.Struct, frozen=True):
    """One thing that happened to one worker."""

    kind: EventKind
    at_seconds: float  # since the driver started, by its clock
    worker: str
    address: str
    items: tuple[int, ...] = ()
    detail: str = ""  # for people to read


class Reason(StrEnum):
    """Why a session, or a whole run, ended."""

    JOB_ENDED = "job-ended"
    JOB_STOPPED = "job-stopped"
    NOBODY_LEFT = "nobody-left"  # the crowd has no more visits, and everybody who came has left
    ASKED_TO_STOP = "asked-to-stop"
    IDLE = "idle"  # nothing to do for idle_seconds
    REFUSED = "refused"
    ABANDONED = "abandoned"


class ClaimCall(msgspec.Struct, frozen=True):
    """Ask for items; the reply is a ``broker.Claim``."""

    k: int


class SubmitCall(msgspec.Struct, frozen=True):
    """Hand in answers; the reply is a list of ``broker.Receipt``."""

    answers: tuple[Answer, ...]


class GiveBackCall(msgspec.Struct, frozen=True):
    """Pass items on, or give them back; the reply is how many were held."""

    how: Literal["decline", "release"]
    tokens: tuple[str, ...]


class Think(msgspec.Struct, frozen=True):
    """Work for a while, by the crowd's clock."""

    seconds: float


class Pause(msgspec.Struct, frozen=True):
    """Wait for the server, by the real clock."""

    seconds: float


Call = ClaimCall | SubmitCall | GiveBackCall
Step = Call | Think | Pause
Steps = Generator[Step, Any, T]


class Leave(Exception):  # noqa: N818 - no error: what the driver throws in to ask a person to stop
    """The driver asks the person to give back what they hold and go."""


class Session:
    """One visit.

    Args:
        visit: who came, from where.
        crowd: what they say.
        tell: called with each event.
        clock: seconds that never go back.
        started: the driver's start by that clock.
        patience_seconds: how long the server may be away before the error is raised.
        idle_seconds: how long the person waits for something to do before they leave.
    """

    def __init__(
        self,
        visit: said.Visit,
        crowd: said.Crowd,
        *,
        tell: Callable[[DriverEvent], object],
        clock: Callable[[], float],
        started: float,
        patience_seconds: float,
        idle_seconds: float,
    ) -> None:
        self.visit = visit
        self.back_after_seconds: float | None = None  # set when they walk away and mean to come back
        self._crowd = crowd
        self._tell = tell
        self._clock = clock
        self._started = started
        self._patience_seconds = patience_seconds
        self._idle_seconds = idle_seconds
        self._held: dict[str, int] = {}  # token -> item

    def steps(self) -> Steps[Reason]:
        """Work until there is nothing left, the person leaves, or ``Leave`` is thrown in.

        Raises:
            BrokerError: the server was away for longer than the patience, or a call was wrong in itself.
        """
        try:
            return (yield from self._work())
        except Leave:
            yield from self._release()
            return Reason.ASKED_TO_STOP
        except ServerUnavailableError:
            raise  # nobody is there to give anything back to
        except Exception:
            yield from self._release()
            raise

    def _event(self, kind: EventKind, items: Iterable[int] = (), detail: str = "") -> None:
        visit = self.visit
        self._tell(DriverEvent(kind, self._clock() - self._started, visit.worker, visit.address, tuple(items), detail))

    def _work(self) -> Steps[Reason]:
        idle_since: float | None = None
        while True:
            try:
                claim: Claim = yield from self._patiently(ClaimCall(self.visit.k))
            except NotFoundError as error:
                self._event(EventKind.REFUSED, detail=str(error))
                return Reason.REFUSED
            if claim.status is ClaimStatus.NONE:
                return Reason.JOB_ENDED
            if claim.status is ClaimStatus.STOPPED:
                return Reason.JOB_STOPPED
            if claim.status is ClaimStatus.WAIT:
                idle_since = self._clock() if idle_since is None else idle_since
                if self._clock() - idle_since >= self._idle_seconds:
                    return Reason.IDLE
                continue
            idle_since = None
            self._held = {lease.token: lease.item for lease in claim.leases}
            self._event(EventKind.CLAIMED, self._held.values())
            left = yield from self._page(claim.leases)
            if left is not None:
                return left

    def _page(self, leases: Sequence[Lease]) -> Steps[Reason | None]:
        """Work through one claim's items and hand them in together; returns why the person leaves, if they do."""
        answers: list[Answer] = []
        declined: list[str] = []
        gone: said.Abandon | None = None
        for lease in leases:
            action = self._crowd.answer(self.visit.worker, lease.item)
            if action.seconds > 0:
                yield Think(action.seconds)
            if isinstance(action, said.Answer):
                answers.append(Answer(lease.token, action.content, action.seconds))
            elif isinstance(action, said.Decline):
                declined.append(lease.token)
            else:
                gone = action
                break
        try:
            if answers:
                yield from self._submit(tuple(answers))
            if declined:
                yield from self._decline(tuple(declined))
        except NotFoundError as error:
            self._event(EventKind.REFUSED, self._held.values(), str(error))
            self._held = {}
            return Reason.REFUSED
        if gone is None:
            return None
        self._event(EventKind.ABANDONED, self._held.values(), "" if gone.back_after_seconds is None else "comes back")
        self._held = {}
        self.back_after_seconds = gone.back_after_seconds
        return Reason.ABANDONED

    def _submit(self, answers: tuple[Answer, ...]) -> Steps[None]:
        receipts: list[Receipt] = yield from self._patiently(SubmitCall(answers))
        for receipt in receipts:
            self._held.pop(receipt.token, None)
        for status, kind in RECEIVED.items():
            items = [receipt.item for receipt in receipts if receipt.status is status]
            if items:
                self._event(kind, items)
        if self.visit.sends_twice:
            again = yield from self._patiently(SubmitCall(answers))
            same = "the same receipts" if again == receipts else "other receipts"
            self._event(EventKind.DUPLICATE_SUBMITTED, [receipt.item for receipt in again], same)

    def _decline(self, tokens: tuple[str, ...]) -> Steps[None]:
        yield from self._patiently(GiveBackCall("decline", tokens))
        self._event(EventKind.DECLINED, [self._held.pop(token) for token in tokens])

    def _release(self) -> Steps[None]:
        held, self._held = self._held, {}
        if not held:
            return
        try:
            yield GiveBackCall("release", tuple(held))
        except BrokerError as error:  # the leases run out by themselves
            self._event(EventKind.UNAVAILABLE, held.values(), f"could not give them back: {error}")
        else:
            self._event(EventKind.RELEASED, held.values())

    def _patiently(self, call: Call) -> Steps[Any]:
        """Make a call, and make it again while the server is away or too busy; a repeated submit counts once."""
        away_since: float | None = None
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            try:
                return (yield call)
            except BusyError as error:
                # No loss and no fault: the actors set the pace here.
                self._event(EventKind.BUSY, detail=str(error))
            except (ServerUnavailableError, ServerFullError) as error:
                away_since = self._clock() if away_since is None else away_since
                if self._clock() - away_since >= self._patience_seconds:
                    raise
                self._event(EventKind.UNAVAILABLE, detail=str(error))
            yield Pause(pause_seconds)
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)


RECEIVED: Final = {
    SubmitStatus.ACCEPTED: EventKind.ANSWERED,
    SubmitStatus.EXPIRED: EventKind.EXPIRED,
    SubmitStatus.SETTLED: EventKind.SETTLED,
    SubmitStatus.CONFLICT: EventKind.CONFLICT,
}
