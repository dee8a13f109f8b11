"""The end of a job: the last fit over all answers, the output tree, and the job's final status.

The tree is Ground Truth's (its manual 1.3), under ``<output>/<job>/``. The output manifest is committed last, as one
object; everything may run again, and in two processes at once, and gives the same files.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

from voxpop.broker.events import Labeled, Settled
from voxpop.broker.models import ItemEnd, JobStatus
from voxpop.formats import storage
from voxpop.formats.errors import StorageError
from voxpop.formats.manifest import read_manifest
from voxpop.formats.merge import merge_output
from voxpop.formats.responses import write_response_files, write_response_parts
from voxpop.workers import archive, receipts
from voxpop.workers.labels import LabelReader, LabelWriter, read_label
from voxpop.workers.payloads import queued_items
from voxpop.workers.responses import ended_annotations
from voxpop.workers.task_types import get_task_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxpop.broker.models import Job, Settlement, ShardState
    from voxpop.formats.model import Item, Label
    from voxpop.workers.ledger import Ledger
    from voxpop.workers.services import Services

__all__ = ["MANIFEST", "export"]

log = structlog.get_logger()

RESPONSE_FILES: Final = 1_000  # jobs up to so many items get one worker-response file an item, others compressed parts
PUBLISHED_AT_ONCE: Final = 500
WRITTEN_DIFFERENCE: Final = 1e-6  # smaller ones cannot show in what is written, whatever the task type rounds to
MANIFEST: Final = "manifests/output/output.manifest"


def export(services: Services, job: str) -> bool:
    """Write the output of a job whose items have all ended, and end the job; returns whether it has ended.

    Raises:
        NotFoundError: no such job.
        StorageError: the output cannot be written now; what was there is untouched, try again.
    """
    record = services.client.job(job)
    if record.status.is_final:
        return True
    state = services.client.shard_state(job)
    if record.status is JobStatus.INITIALIZING or not state.is_finished:
        return False
    with services.ledgers.hold(record) as ledger:
        ledger.catch_up(services)
        _publish_last_fit(services, ledger)
        ledger.catch_up(services)
        written_at_ms = ledger.fold.at_ms
    root = storage.join(record.spec.output or services.uri(job, "output"), job)
    _write_responses(services, record, root, state.appended, written_at_ms)
    manifest = storage.join(root, MANIFEST)
    written = merge_output(
        _items(services, record, state.appended),
        _labels(services, job),
        attribute=record.spec.attribute,
        out_uri=manifest,
        scratch=services.config.data_dir / "scratch",
    )
    archive.drain(services, job)
    while not _end(services, job, state, manifest):
        pass  # it was stopped at this very moment: its status is another one now
    services.ledgers.forget(job)
    log.info("exported", job=job, lines=written.lines, labeled=written.labeled, output=manifest)
    return True


def _end(services: Services, job: str, state: ShardState, manifest: str) -> bool:
    record = services.client.job(job)
    if record.status.is_final:
        return True
    status, reason = _final(record, state)
    return services.client.move_job(job, status, allowed=(record.status,), output_uri=manifest, failure_reason=reason)


def _final(record: Job, state: ShardState) -> tuple[JobStatus, str]:
    """Return the final status of a job and, if it failed, the reason."""
    if record.failure_reason:
        return JobStatus.FAILED, record.failure_reason
    if record.status is JobStatus.STOPPING:
        return JobStatus.STOPPED, ""
    if state.failed and state.failed == state.appended:
        return JobStatus.FAILED, "every item failed; the output manifest has the reasons"
    return JobStatus.COMPLETED, ""


def _publish_last_fit(services: Services, ledger: Ledger) -> None:
    """Fit the method to all answers, and publish the labels that it sees otherwise than when they were settled.

    A method that learns of its workers labels the first items before it knows them well. What changed is the category,
    or the confidence as it is written.
    """
    votes = ledger.ballots.all()
    if votes is None:
        return
    result = ledger.method.fit(votes)
    changes = _changes(services, ledger, votes.items, result.label_codes, result.confidence)
    count = 0
    while batch := list(islice(changes, PUBLISHED_AT_ONCE)):
        services.client.publish(ledger.spec.name, batch)
        count += len(batch)
    if count:
        log.info("labels changed by the last fit", job=ledger.spec.name, items=count)


def _changes(
    services: Services,
    ledger: Ledger,
    items: NDArray[np.int64],
    places: NDArray[np.int64],
    posteriors: NDArray[np.float64],
) -> Iterator[Settlement]:
    """Yield new versions of the labels of those items that have one, and would now get another."""
    now_places, now_confidences = (column[items] for column in _current(services, ledger))
    confidences = ledger.ballots.confidences(items, posteriors)
    is_other = (places != now_places) | (np.abs(confidences - now_confidences) > WRITTEN_DIFFERENCE)
    writer = LabelWriter(ledger.spec, ledger.task_type, ledger.fold.at_ms)
    reader = LabelReader(ledger.spec, ledger.task_type)
    for row in np.flatnonzero(is_other & (now_places >= 0)).tolist():
        item = int(items[row])
        label = writer.labeled(item, ledger.fold.version(item) + 1, int(places[row]), float(confidences[row]))
        if reader.place_and_confidence(label.label) != (now_places[row], now_confidences[row]):
            yield label


def _current(services: Services, ledger: Ledger) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return place and written confidence of the newest label of each item; place -1 where there is none."""
    places = np.full(ledger.fold.appended, -1, np.int32)
    confidences = np.zeros(ledger.fold.appended)
    versions = np.zeros(ledger.fold.appended, np.int64)
    reader = LabelReader(ledger.spec, ledger.task_type)
    for event in archive.read_archive(services, ledger.spec.name):
        if isinstance(event, Settled | Labeled):
            for item, end, version, _, label in event.ends if isinstance(event, Settled) else event.labels:
                if end == ItemEnd.LABELED.value and version > versions[item]:
                    versions[item] = version
                    places[item], confidences[item] = reader.place_and_confidence(label)
    return places, confidences


def _labels(services: Services, job: str) -> Iterator[Label]:
    for event in archive.read_archive(services, job):
        if isinstance(event, Settled | Labeled):
            for end in event.ends if isinstance(event, Settled) else event.labels:
                yield read_label(end, event.at_ms)


def _items(services: Services, record: Job, appended: int) -> Iterator[Item]:
    """Yield all items that were queued, then those of the input that a stop kept from it."""
    yield from queued_items(services, record.name, appended)
    receipt = receipts.read(services, record.name)
    if receipt is None or receipt.count <= appended:
        return
    try:
        is_there = storage.version(receipt.uri) == receipt.version
    except StorageError:
        is_there = False
    if is_there:
        yield from read_manifest(receipt.uri, start=appended, pinned=receipt.version)
    else:
        log.warning(
            "the rest of the input is not in the output: it changed, or is gone",
            job=record.name,
            input=receipt.uri,
            items=receipt.count - appended,
        )


def _write_responses(services: Services, record: Job, root: str, count: int, written_at_ms: int) -> None:
    client = services.client
    indexes = client.worker_indexes(client.pool(record.spec.pool).workforce)
    names = {index: worker for worker, index in indexes.items()}
    element = get_task_type(record.spec.task_type).element
    groups = ended_annotations(archive.read_archive(services, record.name), names, element)
    if count <= RESPONSE_FILES:
        write_response_files(root, groups, now_ms=written_at_ms)
    else:
        write_response_parts(root, groups)
