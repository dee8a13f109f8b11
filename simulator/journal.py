"""A journal around the asyncio client, in the format of ``broker/journal.py``, for the history checker.

The blocking client's journal is ``broker.journal.Journal``; both write the same entries.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from voxpop.broker.journal import JournalAnswer, JournalEntry, Recorder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from voxpop.broker import Answer, AsyncClient, Claim, Receipt

__all__ = ["AsyncJournal"]

T = TypeVar("T")


class AsyncJournal(Recorder):
    """An asyncio client that writes down every call of a worker and what came back; see ``Recorder``."""

    def __init__(
        self,
        client: AsyncClient,
        write: Callable[[JournalEntry], object],
        process: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(write, process, clock)
        self.client = client

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
        with self.recording(op, **fields) as told:
            returned = await call
            told.extend(result(returned))
        return returned
