"""A journal around the asyncio client, in the format of ``broker/journal.py``, for the history checker.

The blocking client's journal is ``broker.journal.Journal``; both write the same entries.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from voxpop.broker.errors import BrokerError, NotFoundError, ServerFullError, ServerUnavailableError
from voxpop.broker.journal import JournalAnswer, JournalEntry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from voxpop.broker import Answer, AsyncClient, Claim, Receipt

__all__ = ["AsyncJournal"]

T = TypeVar("T")


class AsyncJournal:
    """An asyncio client that writes down every call of a worker and what came back.

    Args:
        client: makes the calls.
        write: takes each entry, e.g. ``functools.partial(write_entry, file)``.
        process: the name of this client in the history.
        clock: seconds, one clock for all processes of a history.
    """

    def __init__(
        self,
        client: AsyncClient,
        write: Callable[[JournalEntry], object],
        process: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client = client
        self._write = write
        self._process = process
        self._clock = clock
        self._calls = 0

    async def claim(self, job: str, worker: str, address: str, k: int = 1, *, wait_seconds: float = 0.0) -> Claim:
        """``AsyncClient.claim``."""
        return await self._record(
            "claim",
            self.client.claim(job, worker, address, k, wait_seconds=wait_seconds),
            lambda claim: [lease.token for lease in claim.leases],
            job=job,
            worker=worker,
            address=address,
            k=k,
        )

    async def submit(self, job: str, worker: str, address: str, answers: Sequence[Answer]) -> list[Receipt]:
        """``AsyncClient.submit``."""
        return await self._record(
            "submit",
            self.client.submit(job, worker, address, answers),
            lambda receipts: [receipt.status.value for receipt in receipts],
            job=job,
            worker=worker,
            address=address,
            answers=[JournalAnswer(answer.token, answer.content) for answer in answers],
        )

    async def release(self, job: str, worker: str, address: str, tokens: Sequence[str]) -> int:
        """``AsyncClient.release``."""
        return await self._give_back("release", self.client.release, job, worker, address, tokens)

    async def decline(self, job: str, worker: str, address: str, tokens: Sequence[str]) -> int:
        """``AsyncClient.decline``."""
        return await self._give_back("decline", self.client.decline, job, worker, address, tokens)

    async def _give_back(
        self,
        op: str,
        method: Callable[[str, str, str, Sequence[str]], Awaitable[int]],
        job: str,
        worker: str,
        address: str,
        tokens: Sequence[str],
    ) -> int:
        return await self._record(
            op,
            method(job, worker, address, tokens),
            lambda count: [count],
            job=job,
            worker=worker,
            address=address,
            tokens=list(tokens),
        )

    async def _record(self, op: str, call: Awaitable[T], result: Callable[[T], list[Any]], **fields: Any) -> T:
        self._calls += 1
        number = self._calls

        def entry(event: Literal["invoked", "ok", "failed", "unknown"], **more: Any) -> None:
            told = fields if event == "invoked" else {"job": fields["job"]}
            self._write(
                JournalEntry(t=self._clock(), process=self._process, call=number, event=event, op=op, **told, **more)
            )

        entry("invoked")
        try:
            returned = await call
        except asyncio.CancelledError:
            entry("unknown", error="CancelledError")
            raise
        except BrokerError as error:
            lost = isinstance(error, ServerUnavailableError | ServerFullError)
            # A submit that names an unknown lease among others says so after the others were handled.
            partly = isinstance(error, NotFoundError) and len(fields.get("answers", ())) > 1
            entry("unknown" if lost or partly else "failed", error=type(error).__name__)
            raise
        entry("ok", result=result(returned))
        return returned
