"""What one process has read of a job's archive: the fold, the ballots, and the method's state, brought up to date.

A ledger is a cache. Any process can take any wake: one that has never seen the job reads its archive from the start,
one that has goes on where it was. Nothing here decides or writes; ``consolidate.py`` does.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from voxpop.workers import archive, payloads, receipts
from voxpop.workers.ballots import Ballots
from voxpop.workers.fold import JobFold
from voxpop.workers.task_types import get_task_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxpop.broker.models import Job
    from voxpop.workers.services import Services

__all__ = ["Ledger", "Ledgers"]

MAX_LEDGERS: Final = 64


class Ledger:
    """One job, as far as this process has read it. Used by one thread at a time.

    Attributes:
        fold: items and their ends.
        ballots: what was answered.
        state: the method's stream of votes.
    """

    def __init__(self, job: Job) -> None:
        self.spec = job.spec
        self.created_at_ms = job.created_at_ms
        self.task_type = get_task_type(job.spec.task_type)
        self.method = self.task_type.method_of(job.spec)
        self.ballots = Ballots(job.spec, self.task_type)
        self.fold = JobFold(self.ballots.add)
        self.state: Any = self.method.state()
        self._untrimmed: list[tuple[int, int]] = []  # (last event, bytes) of parts that may still be in the log
        self._offers_parts: bool | None = None

    def catch_up(self, services: Services) -> None:
        """Archive what is new in the server's log, and read on to the end of the archive."""
        while (part := archive.next_part(services, self.spec.name, self.fold.seq)) is not None:
            for event in part.events:
                self.fold.apply(event)
            if part.in_log:
                self._untrimmed.append((part.last, part.log_bytes))
        votes = self.ballots.hand_on(lambda items: self._offered(services, items))
        if votes is not None:
            self.state.add(votes)

    def trim(self, services: Services) -> None:
        """Let the server forget what was read: everything that follows from it has been decided."""
        for last, log_bytes in self._untrimmed:
            services.client.trim_log(self.spec.name, last, log_bytes)
        self._untrimmed.clear()

    def _offered(self, services: Services, items: Any) -> dict[int, frozenset[int]]:
        if self._offers_parts is None:
            receipt = receipts.read(services, self.spec.name)
            self._offers_parts = receipt is None or receipt.own_categories
        return payloads.offered_places(services, self.spec, items) if self._offers_parts else {}


class Ledgers:
    """The ledgers of the jobs that this process attended to last. Safe to share between threads."""

    def __init__(self) -> None:
        self._ledgers: OrderedDict[str, tuple[Ledger, threading.Lock]] = OrderedDict()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def hold(self, job: Job) -> Iterator[Ledger]:
        """Give the ledger of a job to one thread; the others of this process wait for what it learns.

        A ledger whose user failed is dropped, because it may have done half of something.

        Raises:
            InvalidInputError: the job's task type or method does not exist in this process.
        """
        while True:
            entry = self._entry(job)
            ledger, lock = entry
            with lock:
                if self._ledgers.get(job.name) is not entry:
                    continue  # dropped while this thread waited
                try:
                    yield ledger
                except BaseException:
                    self.forget(job.name)
                    raise
                return

    def forget(self, job: str) -> None:
        """Drop the ledger of a job."""
        with self._lock:
            self._ledgers.pop(job, None)

    def _entry(self, job: Job) -> tuple[Ledger, threading.Lock]:
        with self._lock:
            entry = self._ledgers.get(job.name)
            if entry is None or entry[0].created_at_ms != job.created_at_ms:
                entry = self._ledgers[job.name] = (Ledger(job), threading.Lock())
            self._ledgers.move_to_end(job.name)
            while len(self._ledgers) > MAX_LEDGERS:
                self._ledgers.popitem(last=False)
            return entry
