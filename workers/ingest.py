"""From an input to items in the broker: check everything, pin the version, copy the lines to segments, append.

A file is refused whole, before any line of it is queued. After a crash at any point the same call goes on where the
last one was: the receipt says which version was found right, the shard says how many items it has.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from voxpop.broker.errors import ConflictError, InvalidInputError, NotFoundError, StoppedError
from voxpop.broker.limits import MAX_NAMED_TICKETS
from voxpop.broker.models import JobStatus
from voxpop.formats import storage
from voxpop.formats.augmented import read_label
from voxpop.formats.errors import AccessDeniedError, AlreadyExistsError, InvalidUriError, NotThereError, StorageError
from voxpop.formats.limits import MAX_REPORTED_PROBLEMS
from voxpop.formats.manifest import parse_item, read_manifest, validate_manifest
from voxpop.formats.model import FormatError, Problem
from voxpop.workers import receipts
from voxpop.workers.labels import earlier_label
from voxpop.workers.task_types import get_task_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from voxpop.broker.models import Job, JobSpec
    from voxpop.formats.model import Item
    from voxpop.workers.receipts import InputReceipt
    from voxpop.workers.services import Services

__all__ = ["ItemCheck", "Progress", "append_segment", "ingest"]

log = structlog.get_logger()

SEGMENT_ITEMS: Final = 1_000
SEGMENT_BYTES: Final = 4 * 2**20  # a segment is closed when it has that many bytes, however few items
PROGRESS_ITEMS: Final = 20_000


class Progress(Protocol):
    """Called now and then."""

    def __call__(self, stage: str, items: int, part: float) -> None:
        """Hear of ``items`` done in a stage (``check``, ``queue``), and the part of all of them, 0 to 1."""


def _no_progress(stage: str, items: int, part: float) -> None:
    pass


def ingest(services: Services, job: str, *, progress: Progress = _no_progress) -> bool:
    """Queue the input of a job; returns whether all of it is queued now.

    A wrong input fails the job: its ``failure_reason`` holds the first problems and their count, and nothing is queued.
    False too if the job was stopped meanwhile, or its items are pushed.

    Raises:
        NotFoundError: no such job.
        StorageError: the input or the storage cannot be reached now; try again.
    """
    record = services.client.job(job)
    services.client.open_job(record)  # mends a creation that was cut short
    if not record.spec.input:
        services.client.move_job(job, JobStatus.IN_PROGRESS, allowed=(JobStatus.INITIALIZING,))
        return False
    if record.status.is_final or record.status is JobStatus.STOPPING or services.client.shard_state(job).sealed:
        return False
    try:
        receipt = receipts.read(services, job) or receipts.keep(services, job, _checked(services, record, progress))
    except (FormatError, InvalidInputError) as error:
        _fail(services, job, str(error))
        return False
    services.client.set_job_fields(job, input_count=receipt.count)
    try:
        _queue(services, record, receipt, progress)
    except StorageError:
        if not _is_gone(receipt):
            raise  # it is the storage that fails, or the way to it
        _fail(services, job, f"{receipt.uri}: the input changed while it was queued; start a new job with it")
        return False
    except (StoppedError, ConflictError):
        state = services.client.shard_state(job)
        if not (state.stopping or state.sealed):
            raise
        log.info("stopped before all of the input was queued", job=job, items=state.appended, of=receipt.count)
        return False
    services.client.move_job(job, JobStatus.IN_PROGRESS, allowed=(JobStatus.INITIALIZING,))
    services.client.seal(job)
    log.info("queued", job=job, items=receipt.count)
    return True


class ItemCheck:
    """What has to be right with an item beyond its format: what the task type wants, and whom it names.

    Args:
        services: the broker.
        spec: the job.
        joining: people who will be in the pool by the time the job is made.
    """

    def __init__(self, services: Services, spec: JobSpec, joining: Iterable[str] = ()) -> None:
        self._spec = spec
        self._task_type = get_task_type(spec.task_type)
        self._members: frozenset[str] = frozenset()
        self._indexes: dict[str, int] = {}
        if spec.assignment == "named":
            self._members = frozenset(joining)
            with contextlib.suppress(NotFoundError):  # made once the input is found right
                pool = services.client.pool(spec.pool)
                self._members |= frozenset(pool.members)
                # Whoever leaves the pool keeps their index.
                self._indexes = services.client.worker_indexes(pool.workforce)

    def problems(self, item: Item, place: str) -> Iterator[Problem]:
        """Yield what is wrong with an item that stands at ``place``."""
        wrong = self._task_type.check_item(item)
        if wrong:
            field, message = wrong
            yield Problem(place=place, field=field, message=message)
        if self._spec.assignment == "named":
            message = self._named_problem(item.fields.get(self._spec.worker_attribute))
            if message:
                yield Problem(place=place, field=self._spec.worker_attribute, message=message)

    def named(self, item: Item) -> list[int]:
        """Return the indexes of the workers that an item, found right, names."""
        if self._spec.assignment != "named":
            return []
        return [self._indexes[worker] for worker in item.fields[self._spec.worker_attribute]]

    def _named_problem(self, listed: Any) -> str:
        if not isinstance(listed, list) or not listed or not all(isinstance(worker, str) for worker in listed):
            return "must list the ids of the people who are to answer the item, at least one"
        if len(set(listed)) < len(listed):
            return "lists somebody more than once"
        if len(listed) > MAX_NAMED_TICKETS:
            return f"lists {len(listed)} people; at most {MAX_NAMED_TICKETS} are allowed"
        unknown = [worker for worker in listed if worker not in self._members]
        if unknown:
            shown = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
            return f"lists people who are not in pool {self._spec.pool!r}: {shown}; add them, or correct the list"
        return ""


def append_segment(
    services: Services,
    job: str,
    where: str,
    lines: Sequence[bytes],
    *,
    at: int = -1,
    named: Sequence[tuple[int, int]] = (),
    ids: Sequence[str] = (),
) -> int:
    """Spool lines to a segment, then append their items, so that no item opens without its payload.

    Returns:
        The index of the first.

    Raises:
        ConflictError, StoppedError: as ``Client.append``; the segment stays and does no harm.
    """
    with contextlib.suppress(AlreadyExistsError):  # from a run that was cut short: the same lines
        storage.create(services.uri(job, *where.split("/")), b"".join(line + b"\n" for line in lines))
    return services.client.append(job, len(lines), at=at, segment=where, named=named, ids=ids)


def _checked(services: Services, record: Job, progress: Progress) -> InputReceipt:
    """Check the whole input; returns what was found.

    Raises:
        FormatError: the first problems and the count of all.
        InvalidInputError: the job itself cannot be.
    """
    spec = record.spec
    get_task_type(spec.task_type).check_spec(spec)
    try:
        summary = validate_manifest(
            spec.input,
            label_attribute=spec.attribute,
            categories=spec.categories,
            progress=lambda items, part: progress("check", items, part / 2),
        )
    except (NotThereError, AccessDeniedError, InvalidUriError) as error:
        raise InvalidInputError(f"job {spec.name!r}: its input cannot be read: {error}") from None
    check = ItemCheck(services, spec)
    problems: list[Problem] = []
    count = 0
    own_categories = False
    for item in read_manifest(spec.input, pinned=summary.version):
        own_categories = own_categories or item.categories is not None
        for problem in check.problems(item, f"{spec.input} line {item.index + 1}"):
            count += 1
            if len(problems) < MAX_REPORTED_PROBLEMS:
                problems.append(problem)
        if item.index % PROGRESS_ITEMS == 0:
            progress("check", item.index, 0.5 + item.index / summary.count / 2)
    if count:
        raise FormatError(problems, count)
    return receipts.InputReceipt(
        uri=spec.input,
        version=summary.version,
        count=summary.count,
        already_labeled=summary.already_labeled,
        own_categories=own_categories,
    )


def _queue(services: Services, record: Job, receipt: InputReceipt, progress: Progress) -> None:
    """Append what is not appended yet, segment by segment."""
    spec = record.spec
    check = ItemCheck(services, spec)
    # Labels from an earlier job are settled after their segment is appended; which of them were, nobody keeps.
    start = 0 if receipt.already_labeled else services.client.shard_state(spec.name).appended
    for first, lines in _segments(receipt, start):
        named: list[tuple[int, int]] = []
        ends = []
        if spec.assignment == "named" or receipt.already_labeled:
            for offset, line in enumerate(lines):
                item = parse_item(line, first + offset, place=f"{receipt.uri} line {first + offset + 1}")
                named += [(offset, worker) for worker in check.named(item)]
                label = read_label(item, spec.attribute) if spec.attribute in item.fields else None
                if label is not None:
                    ends.append(earlier_label(item.index, label))
        append_segment(services, spec.name, f"input/{first:010}.jsonl", lines, at=first, named=named)
        if ends:
            services.client.settle(spec.name, ends)
        if first % PROGRESS_ITEMS < SEGMENT_ITEMS:
            progress("queue", first + len(lines), (first + len(lines)) / receipt.count)
    progress("queue", receipt.count, 1.0)


def _segments(receipt: InputReceipt, start: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yield (first item, lines) of each segment from item ``start`` on, which begins one."""
    first, lines, size = start, [], 0
    # The receipt counts the items: only empty lines follow the last one.
    for number, line in storage.stream_lines(receipt.uri, pinned=receipt.version):
        if number <= start:
            continue
        if number > receipt.count:
            continue  # read on: the end of the stream tells whether the file changed
        lines.append(line)
        size += len(line)
        if len(lines) == SEGMENT_ITEMS or size >= SEGMENT_BYTES:
            yield first, lines
            first, lines, size = first + len(lines), [], 0
    if lines:
        yield first, lines


def _is_gone(receipt: InputReceipt) -> bool:
    """Return whether the input is certainly not what was checked any more."""
    try:
        return storage.version(receipt.uri) != receipt.version
    except NotThereError:
        return True
    except StorageError:
        return False


def _fail(services: Services, job: str, reason: str) -> None:
    """Fail the job; if some of it is queued already, stop it, and it fails when the stop is through."""
    log.error("input refused", job=job, reason=reason)
    client = services.client
    if client.shard_state(job).appended:
        client.set_job_fields(job, failure_reason=reason)
        client.stop_job(job, revoke=True)
    elif client.move_job(job, JobStatus.FAILED, allowed=(JobStatus.INITIALIZING,), failure_reason=reason):
        client.seal(job)  # let those go who wait for its items
