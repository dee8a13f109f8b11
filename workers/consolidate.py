"""From answers to labels: what an actor does when a job's shard has something new.

    clear the dirty flag -> archive and read the log -> ask the policy -> settle -> let the server forget the log

The log is trimmed last. So whatever a crash leaves undone is still in the server's log, the sweeper sees that it is not
empty, and another process takes over. Everything here may run twice, and in two processes at once.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import structlog

from voxpop.broker.models import ItemEnd, Settlement
from voxpop.broker.wire import Code
from voxpop.workers import archive
from voxpop.workers.labels import LabelWriter
from voxpop.workers.policy import Evidence, Extend, Settle, Verdict, decide, stops_open_items

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from voxpop.broker.models import ShardState
    from voxpop.workers.ledger import Ledger
    from voxpop.workers.services import Services

__all__ = ["Attended", "attend"]

log = structlog.get_logger()

SETTLED_AT_ONCE: Final = 500  # items in one call: some ten milliseconds of the server's time
EXTENDED_AT_ONCE: Final = 500
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
            ended, extended = _decide(services, ledger, state)
            ledger.trim(services)
            settled += ended
            if not ended + extended:
                break
    if state.stopping and not state.sealed and state.settled == state.appended:
        services.client.seal(job)  # nothing can be appended any more: let those who wait for items go
        state = services.client.shard_state(job)
    if settled:
        log.info("settled", job=job, items=settled, done=state.settled, of=state.appended)
    return Attended(settled=settled, is_finished=state.is_finished)


def _decide(services: Services, ledger: Ledger, state: ShardState) -> tuple[int, int]:
    """Carry out the policy's verdicts on every item that is ready; returns how many ended, and how many go on."""
    ended = extended = 0
    ready = sorted(ledger.fold.ready)
    for start in range(0, len(ready), LABELED_AT_ONCE):
        some = ready[start : start + LABELED_AT_ONCE]
        verdicts = {item: decide(_evidence(ledger, state, item)) for item in some}
        refused, granted = _extend(services, ledger, verdicts)
        verdicts |= {item: decide(_evidence(ledger, state, item, extendable=False)) for item in refused}
        ended += _carry_out(services, ledger, _ends(services, ledger, verdicts))
        extended += granted
    if stops_open_items(state):
        ended += _carry_out(services, ledger, _stopped(ledger))
    return ended, extended


def _evidence(ledger: Ledger, state: ShardState, item: int, *, extendable: bool = True) -> Evidence:
    return Evidence(
        ready=True,
        closed=ledger.fold.is_closed(item),
        usable=ledger.ballots.usable(item),
        unusable=ledger.ballots.unusable(item),
        wanted=ledger.spec.replication,
        extendable=extendable and not state.stopping,
    )


def _extend(services: Services, ledger: Ledger, verdicts: Mapping[int, Verdict]) -> tuple[list[int], int]:
    """Grant the tickets asked for; returns the items for which nobody is left, and how many were granted one.

    An item that has it already was extended by somebody else, or by this actor before it died: its event follows.
    """
    wishes: dict[Extend, list[int]] = defaultdict(list)
    for item, verdict in verdicts.items():
        if isinstance(verdict, Extend):
            wishes[verdict].append(item)
    refused: list[int] = []
    granted = 0
    for wish, items in wishes.items():
        rest = iter(items)
        while batch := list(islice(rest, EXTENDED_AT_ONCE)):
            codes = services.client.extend(ledger.spec.name, batch, maximum=wish.maximum)
            refused += [item for item, code in zip(batch, codes, strict=True) if code is Code.NOBODY_LEFT]
            granted += sum(code is Code.DONE for code in codes)
    if granted:
        log.warning("answers that cannot be used; others are asked", job=ledger.spec.name, items=granted)
    return refused, granted


def _ends(services: Services, ledger: Ledger, verdicts: Mapping[int, Verdict]) -> list[Settlement]:
    writer = LabelWriter(ledger.spec, ledger.task_type, services.now_ms())
    ends: list[Settlement] = []
    labeled: list[int] = []
    for item, verdict in verdicts.items():
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
