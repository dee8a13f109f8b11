"""Journals: what a client of the broker was asked and told, call by call. ``history.py`` checks them against the log.

A journal is a file of JSON lines, one ``JournalEntry`` each. ``Journal`` wraps a client and writes one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from voxpop.broker.errors import BrokerError, NotFoundError, ServerFullError, ServerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from voxpop.broker.client import Client
    from voxpop.broker.models import Answer, Claim, Job, Receipt, Settlement, Workforce
    from voxpop.broker.wire import Code

__all__ = ["Journal", "JournalAnswer", "JournalEntry", "Recorder", "read_journal", "write_entry"]

T = TypeVar("T")


class JournalAnswer(msgspec.Struct, frozen=True):
    """One answer of a journaled submit."""

    token: str
    content: Any  # plain JSON values


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a journal: a call was made, or came back.

    A call has one entry ``invoked`` and, unless its process was killed, one more: ``ok``, ``failed`` (it changed
    nothing, or as its error says) or ``unknown`` (the reply was lost: it may have happened or not).
    """

    t: float  # seconds, on one clock for all processes of a history; only its order matters
    process: str  # the client
    call: int  # number of the call in its process
    event: Literal["invoked", "ok", "failed", "unknown"]
    op: str  # claim submit release decline renew append seal stop settle extend publish allow add remove
    job: str = ""  # for allow: the workforce; for add and remove: the pool
    worker: str = ""
    address: str = ""
    k: int = 0  # claim: how many at most; append: how many items; extend: how many tickets
    at: int = -1  # append: where the first item goes
    tokens: list[str] = []  # renew, release, decline
    items: list[int] = []  # settle, extend, publish
    named: list[tuple[int, int]] = []  # append: (offset, worker index); extend: (item, worker index)
    answers: list[JournalAnswer] = []  # submit
    names: list[str] = []  # allow: ranges; add and remove: workers
    result: list[Any] = []  # claim and renew: tokens; submit: statuses; append: [first item]; else [what it returned]
    error: str | None = None  # class of the error


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(JournalEntry)


def write_entry(file: BinaryIO, entry: JournalEntry) -> None:
    """Append an entry as one JSON line, whole even if the process is killed right after."""
    file.write(_encoder.encode(entry) + b"\n")
    file.flush()


def read_journal(lines: Iterable[bytes]) -> Iterator[JournalEntry]:
    """Yield the entries of a journal; a last line that was cut by a kill is left out.

    Raises:
        msgspec.ValidationError, msgspec.DecodeError: a line is not an entry.
    """
    for line in lines:
        if line.endswith(b"\n"):
            yield _decoder.decode(line)


class Recorder:
    """Writes down calls and what came back. ``Journal`` and the simulator's ``AsyncJournal`` put a client behind it.

    Args:
        write: takes each entry, e.g. ``functools.partial(write_entry, file)``.
        process: the name of this client in the history.
        clock: seconds, one clock for all processes of a history.
    """

    def __init__(
        self, write: Callable[[JournalEntry], object], process: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._process = process
        self._clock = clock
        self._calls = 0

    @contextlib.contextmanager
    def recording(self, op: str, **fields: Any) -> Iterator[list[Any]]:
        """Write down the call that the block makes; the block puts what it returned into the list that it is given."""
        self._calls += 1
        number = self._calls

        def entry(event: Literal["invoked", "ok", "failed", "unknown"], **more: Any) -> None:
            told = fields if event == "invoked" else {"job": fields["job"]}
            self._write(
                JournalEntry(t=self._clock(), process=self._process, call=number, event=event, op=op, **told, **more)
            )

        returned: list[Any] = []
        entry("invoked")
        try:
            yield returned
        except asyncio.CancelledError:
            entry("unknown", error="CancelledError")
            raise
        except BrokerError as error:
            lost = isinstance(error, ServerUnavailableError | ServerFullError)
            # A submit that names an unknown lease among others says so after the others were handled.
            partly = isinstance(error, NotFoundError) and len(fields.get("answers", ())) > 1
            entry("unknown" if lost or partly else "failed", error=type(error).__name__)
            raise
        entry("ok", result=returned)


class Journal(Recorder):
    """A client that writes down every call and what came back; see ``Recorder`` for the arguments."""

    def __init__(
        self,
        client: Client,
        write: Callable[[JournalEntry], object],
        process: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(write, process, clock)
        self.client = client

    def _record(self, op: str, call: Callable[[], T], result: Callable[[T], list[Any]], **fields: Any) -> T:
        with self.recording(op, **fields) as told:
            returned = call()
            told.extend(result(returned))
        return returned

    def claim(self, job: str, worker: str, address: str, k: int = 1, **options: Any) -> Claim:
        """``Client.claim``."""
        return self._record(
            "claim",
            lambda: self.client.claim(job, worker, address, k, **options),
            lambda claim: [lease.token for lease in claim.leases],
            job=job,
            worker=worker,
            address=address,
            k=k,
        )

    def submit(self, job: str, worker: str, address: str, answers: Sequence[Answer], **options: Any) -> list[Receipt]:
        """``Client.submit``."""
        return self._record(
            "submit",
            lambda: self.client.submit(job, worker, address, answers, **options),
            lambda receipts: [receipt.status.value for receipt in receipts],
            job=job,
            worker=worker,
            address=address,
            answers=[JournalAnswer(answer.token, answer.content) for answer in answers],
        )

    def renew(self, job: str, worker: str, address: str, tokens: Sequence[str], **options: Any) -> dict[str, int]:
        """``Client.renew``."""
        return self._record(
            "renew",
            lambda: self.client.renew(job, worker, address, tokens, **options),
            list,
            job=job,
            worker=worker,
            address=address,
            tokens=list(tokens),
        )

    def release(self, job: str, worker: str, address: str, tokens: Sequence[str], **options: Any) -> int:
        """``Client.release``."""
        return self._record(
            "release",
            lambda: self.client.release(job, worker, address, tokens, **options),
            lambda count: [count],
            job=job,
            worker=worker,
            address=address,
            tokens=list(tokens),
        )

    def decline(self, job: str, worker: str, address: str, tokens: Sequence[str], **options: Any) -> int:
        """``Client.decline``."""
        return self._record(
            "decline",
            lambda: self.client.decline(job, worker, address, tokens, **options),
            lambda count: [count],
            job=job,
            worker=worker,
            address=address,
            tokens=list(tokens),
        )

    def append(
        self, job: str, count: int, *, at: int = -1, named: Sequence[tuple[int, int]] = (), **options: Any
    ) -> int:
        """``Client.append``."""
        return self._record(
            "append",
            lambda: self.client.append(job, count, at=at, named=named, **options),
            lambda first: [first],
            job=job,
            k=count,
            at=at,
            named=list(named),
        )

    def seal(self, job: str, **options: Any) -> None:
        """``Client.seal``."""
        self._record("seal", lambda: self.client.seal(job, **options), lambda _: [], job=job)

    def stop_job(self, job: str, **options: Any) -> Job:
        """``Client.stop_job``."""
        return self._record(
            "stop", lambda: self.client.stop_job(job, **options), lambda told: [told.status.value], job=job
        )

    def settle(self, job: str, ends: Sequence[Settlement], **options: Any) -> bool:
        """``Client.settle``."""
        return self._record(
            "settle",
            lambda: self.client.settle(job, ends, **options),
            lambda ended: [ended],
            job=job,
            items=[end.item for end in ends],
        )

    def publish(self, job: str, labels: Sequence[Settlement], **options: Any) -> None:
        """``Client.publish``."""
        self._record(
            "publish",
            lambda: self.client.publish(job, labels, **options),
            lambda _: [],
            job=job,
            items=[label.item for label in labels],
        )

    def extend(
        self,
        job: str,
        items: Sequence[int] = (),
        *,
        tickets: int = 1,
        named: Sequence[tuple[int, int]] = (),
        **options: Any,
    ) -> list[Code]:
        """``Client.extend``."""
        return self._record(
            "extend",
            lambda: self.client.extend(job, items, tickets=tickets, named=named, **options),
            lambda codes: [int(code) for code in codes],
            job=job,
            k=tickets,
            items=list(items),
            named=list(named),
        )

    def set_allowlist(self, workforce: str, allow: Sequence[str]) -> Workforce:
        """``Client.set_allowlist``."""
        return self._record(
            "allow",
            lambda: self.client.set_allowlist(workforce, allow),
            lambda told: list(told.allow),
            job=workforce,
            names=list(allow),
        )

    def add_members(self, pool: str, workers: Sequence[str]) -> int:
        """``Client.add_members``."""
        return self._record(
            "add", lambda: self.client.add_members(pool, workers), lambda count: [count], job=pool, names=list(workers)
        )

    def remove_members(self, pool: str, workers: Sequence[str]) -> int:
        """``Client.remove_members``."""
        return self._record(
            "remove",
            lambda: self.client.remove_members(pool, workers),
            lambda count: [count],
            job=pool,
            names=list(workers),
        )
