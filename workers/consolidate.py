"""From answers to labels: what an actor does when a job's shard has something new.

    clear the dirty flag -> archive and read the log -> ask the policy -> settle -> let the server forget the log

The log is trimmed last. So whatever a crash leaves undone is still in the server's log, the sweeper sees that it is not
empty, and another process takes over. Everything here may run twice, and in two processes at once.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import structlog

from voxpop.broker.models import ItemEnd, Settlement
from voxpop.workers import archive
from voxpop.workers.labels import LabelWriter
from voxpop.workers.policy import Evidence, Settle, decide, stops_open_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from voxpop.broker.models import ShardState
    from voxpop.workers.ledger import Ledger
    from voxpop.workers.services import Services

__all__ = ["Attended", "attend"]

log = structlog.get_logger()

SETTLED_AT_ONCE: Final = 500  # items in one call: some ten milliseconds of the server's time
LABELED_AT_ONCE: Final = 20_000  # items whose posteriors are computed together


class Attended(msgspec.Struct, frozen=True):
    """What came of attending to a job."""

    settled: int  # items that this call ended
    is_finished: bool  # every item has ended and none will be added: the job can be exported


def attend(services: Services, job: str) -> Attended:
    """Bring a job up to date: archive what happened, label what is ready, end what was stopped.

    Raises:
        NotFoundError: no such job.
        ArchiveError: server and archive disagree.
        StorageError: the archive cannot be read or written; nothing is lost, try again.
    """
    record = services.client.job(job)
    if record.status.is_final:
        archive.drain(services, job)
        return Attended(settled=0, is_finished=False)
    settled = 0
    with services.ledgers.hold(record) as ledger:
        while True:
            state = services.client.shard_state(job, attend=True)
            ledger.catch_up(services)
            now = _settle(services, ledger, state)
            ledger.trim(services)
            settled += now
            if not now:
                break
    if state.stopping and not state.sealed and state.settled == state.appended:
        services.client.seal(job)  # nothing can be appended any more: let those who wait for items go
        state = services.client.shard_state(job)
    if settled:
        log.info("settled", job=job, items=settled, done=state.settled, of=state.appended)
    return Attended(settled=settled, is_finished=state.is_finished)


def _settle(services: Services, ledger: Ledger, state: ShardState) -> int:
    """End every item that the policy wants to end; returns how many there were."""
    count = 0
    ready = sorted(ledger.fold.ready)
    for start in range(0, len(ready), LABELED_AT_ONCE):
        count += _carry_out(services, ledger, _verdicts(services, ledger, ready[start : start + LABELED_AT_ONCE]))
    if stops_open_items(state):
        count += _carry_out(services, ledger, _stopped(ledger))
    return count


def _verdicts(services: Services, ledger: Ledger, ready: list[int]) -> list[Settlement]:
    writer = LabelWriter(ledger.spec, ledger.task_type, services.now_ms())
    ends: list[Settlement] = []
    labeled: list[int] = []
    for item in ready:
        verdict = decide(Evidence(ready=True, closed=ledger.fold.is_closed(item), usable=ledger.ballots.usable(item)))
        if not isinstance(verdict, Settle):
            continue
        if verdict.end is ItemEnd.LABELED:
            labeled.append(item)
        else:
            ends.append(writer.failed(item, verdict.reason))
    if labeled:
        result = ledger.state.posterior(labeled)
        confidences = ledger.ballots.confidences(np.array(labeled), result.confidence)
        columns = zip(labeled, result.label_codes.tolist(), confidences.tolist(), strict=True)
        ends += [writer.labeled(item, 1, place, confidence) for item, place, confidence in columns]
    return ends


def _stopped(ledger: Ledger) -> Iterator[Settlement]:
    verdict = decide(Evidence(ready=False, closed=False, usable=0, stopped=True))
    if isinstance(verdict, Settle):
        for item in ledger.fold.open_items():
            yield Settlement(item=item, end=verdict.end, reason=verdict.reason)


def _carry_out(services: Services, ledger: Ledger, ends: Iterable[Settlement]) -> int:
    count = 0
    rest = iter(ends)
    while batch := list(islice(rest, SETTLED_AT_ONCE)):
        services.client.settle(ledger.spec.name, batch)
        count += len(batch)
    return count
