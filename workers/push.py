"""Items that are pushed, one by one or in files, to a job that has no input of its own and is open until it is sealed.

A push is refused whole or acknowledged line by line. An object id that was pushed before gets its first item again.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from voxpop.broker.errors import ConflictError, InvalidInputError
from voxpop.broker.limits import MAX_PUSH_ITEMS
from voxpop.formats.limits import MAX_REPORTED_PROBLEMS
from voxpop.formats.manifest import parse_item
from voxpop.formats.model import FormatError, Item, Problem
from voxpop.workers.ingest import SEGMENT_BYTES, ItemCheck, append_segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from voxpop.broker.models import JobSpec
    from voxpop.workers.services import Services

__all__ = ["push"]

MAX_ID_CHARS: Final = 1_024  # as in Ground Truth's streaming jobs (manual 1.8)


def push(services: Services, job: str, lines: Sequence[bytes], ids: Sequence[str] = ()) -> list[int]:
    """Add items to a job whose items are pushed.

    Args:
        services: the broker and the storage.
        job: the job's name.
        lines: a JSON object an item, as in a manifest, without line ends.
        ids: an object id an item, to recognise it when it is pushed again; or none.

    Returns:
        The index of the item of each line, in their order.

    Raises:
        FormatError: lines are wrong; the first problems and the count of all. Nothing was added.
        InvalidInputError: the ids do not fit the lines, or the job reads its items from an input.
        NotFoundError: no such job.
        ConflictError: the job's input is complete.
        StoppedError: the job takes nothing any more.
        StorageError: the items cannot be stored; nothing was added after the last thousand that was.
    """
    spec = services.client.job(job).spec
    if spec.input:
        raise InvalidInputError(f"job {job!r} reads its items from {spec.input}; push to a job without an input")
    if ids and len(ids) != len(lines):
        raise InvalidInputError(f"{len(ids)} object ids for {len(lines)} items; give one an item or none")
    for object_id in ids:
        if not 0 < len(object_id) <= MAX_ID_CHARS:
            raise InvalidInputError(
                f"object id {object_id[:40]!r} has {len(object_id)} characters; 1 to {MAX_ID_CHARS} are allowed"
            )
    check = ItemCheck(services, spec)
    items = _parsed(spec, lines, check)
    numbers: list[int] = []
    for start, stop in _batches(lines):
        named = [check.named(item) for item in items[start:stop]]
        if ids:
            numbers += _push_known(services, job, lines[start:stop], ids[start:stop], named)
        else:
            first = _append(services, job, lines[start:stop], (), named)
            numbers += range(first, first + stop - start)
    return numbers


def _batches(lines: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of runs of lines that make one segment each."""
    start = size = 0
    for at, line in enumerate(lines):
        if at > start and (at - start == MAX_PUSH_ITEMS or size + len(line) > SEGMENT_BYTES):
            yield start, at
            start, size = at, 0
        size += len(line)
    if start < len(lines):
        yield start, len(lines)


def _parsed(spec: JobSpec, lines: Sequence[bytes], check: ItemCheck) -> list[Item]:
    problems: list[Problem] = []
    items = []
    categories = frozenset(spec.categories)
    for index, line in enumerate(lines):
        place = f"pushed line {index + 1}"
        try:
            item = parse_item(line, index, place=place, categories=categories)
            problems += check.problems(item, place)
            items.append(item)
        except FormatError as error:
            problems += error.problems
        if b"\n" in line:
            problems.append(Problem(place=place, message="holds a line break; push one JSON object a line"))
    if problems:
        raise FormatError(problems[:MAX_REPORTED_PROBLEMS], len(problems))
    return items


def _push_known(
    services: Services, job: str, lines: Sequence[bytes], ids: Sequence[str], named: Sequence[Sequence[int]]
) -> list[int]:
    """Append those items whose ids are new; the first of several lines with the same id counts."""
    while True:
        known = {object_id: services.client.item_of(job, object_id) for object_id in ids}
        new = {object_id: at for at, object_id in reversed(list(enumerate(ids))) if known[object_id] is None}
        places = sorted(new.values())
        if places:
            try:
                first = _append(
                    services,
                    job,
                    [lines[at] for at in places],
                    [ids[at] for at in places],
                    [named[at] for at in places],
                )
            except ConflictError:
                if any(services.client.item_of(job, ids[at]) is not None for at in places):
                    continue  # somebody pushed one of them meanwhile
                raise
            known |= {ids[at]: first + offset for offset, at in enumerate(places)}
        return [item for object_id in ids if (item := known[object_id]) is not None]


def _append(
    services: Services, job: str, lines: Sequence[bytes], ids: Sequence[str], named: Sequence[Sequence[int]]
) -> int:
    """Named after its content, a segment whose push was cut short is written again under the same name."""
    digest = hashlib.blake2b(digest_size=16)
    for line in lines:
        digest.update(line + b"\n")
    pairs = [(offset, worker) for offset, workers in enumerate(named) for worker in workers]
    where = f"input/pushed-{digest.hexdigest()}.jsonl"
    return append_segment(services, job, where, lines, named=pairs, ids=ids)
