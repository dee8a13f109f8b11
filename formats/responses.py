"""Worker responses: what each worker submitted, in Ground Truth's layout and in a compact form for big jobs.

Keys and their order are those of Ground Truth's files. Workers appear under their pseudonymous ids: identities live
elsewhere, where they can be erased, so ``workerMetadata`` is never written.
"""

from __future__ import annotations

import itertools
import zlib
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from voxpop.formats import storage
from voxpop.formats.augmented import decode_json, encode_json
from voxpop.formats.model import Annotation
from voxpop.formats.rows import problem, read_jsonl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["read_responses", "response_bytes", "write_response_files", "write_response_parts"]

FOLDER = "annotations/worker-response/iteration-1"
PART_ITEMS = 20_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Answer(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """One entry of ``answers``, keys in the order of real files; older files lack the optional ones."""

    acceptance_time: str | None = None
    answer_content: Any
    submission_time: str
    time_spent_in_seconds: float | None = None
    worker_id: str


class _Response(msgspec.Struct, kw_only=True, omit_defaults=True):
    dataset_object_id: str | None = msgspec.field(default=None, name="datasetObjectId")  # in parts only
    answers: list[_Answer]


def response_bytes(annotations: Sequence[Annotation]) -> bytes:
    """Return the worker-response file of one item: ``{"answers":[...]}``."""
    return encode_json(_Response(answers=[_answer(annotation) for annotation in annotations]))


def write_response_files(root: str, groups: Iterable[Sequence[Annotation]], *, now_ms: int) -> int:
    """Write one file an item, ``<root>/annotations/worker-response/iteration-1/<id>/<time>.json``; return how many.

    Args:
        root: output folder of the job.
        groups: the annotations of one item each.
        now_ms: time of writing, which names the files, milliseconds since the epoch.

    Raises:
        StorageError: a file cannot be written.
    """
    name = f"{EPOCH + timedelta(milliseconds=now_ms):%Y-%m-%d_%H:%M:%S}.json"
    count = 0
    for group in groups:
        storage.write_atomic(storage.join(root, FOLDER, str(group[0].item), name), response_bytes(group))
        count += 1
    return count


def write_response_parts(root: str, groups: Iterable[Sequence[Annotation]]) -> int:
    """Write the same as gzipped JSON Lines, an item a line with its ``datasetObjectId``; return the number of items.

    Parts are named ``part-00000.jsonl.gz`` and up in the folder of the single files, each written atomically.

    Raises:
        StorageError: a part cannot be written.
    """
    count = 0
    for number, batch in enumerate(_batches(groups, PART_ITEMS)):
        with storage.open_writer(storage.join(root, FOLDER, f"part-{number:05}.jsonl.gz")) as out:
            deflater = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)  # a gzip header without a time: same in, same out
            for group in batch:
                answers = [_answer(annotation) for annotation in group]
                response = _Response(dataset_object_id=str(group[0].item), answers=answers)
                out.write(deflater.compress(encode_json(response) + b"\n"))
                count += 1
            out.write(deflater.flush())
    return count


def read_responses(root: str) -> Iterator[Annotation]:
    """Yield every answer below an output folder, from files of either form.

    Raises:
        FormatError: a file is no worker response.
        StorageError: there are none, or one cannot be read.
    """
    for uri in storage.list_uris(storage.join(root, FOLDER)):
        if uri.endswith(".jsonl.gz"):
            for number, row in read_jsonl(uri):
                response = _response(uri, number, row)
                yield from _annotations(uri, number, response.dataset_object_id, response.answers)
        else:
            try:
                row = decode_json(storage.read_bytes(uri))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise problem(uri, None, f"broken JSON: {error}") from error
            yield from _annotations(uri, None, uri.split("/")[-2], _response(uri, None, row).answers)


def _answer(annotation: Annotation) -> _Answer:
    return _Answer(
        acceptance_time=_iso(annotation.accepted_at_ms),
        answer_content=annotation.content,
        submission_time=_iso(annotation.submitted_at_ms),
        time_spent_in_seconds=annotation.seconds_spent,
        worker_id=annotation.worker,
    )


def _response(uri: str, number: int | None, row: Any) -> _Response:
    try:
        return msgspec.convert(row, _Response)
    except msgspec.ValidationError as error:
        raise problem(uri, number, f"no worker response: {error}") from error


def _annotations(uri: str, number: int | None, item: str | None, answers: list[_Answer]) -> Iterator[Annotation]:
    if item is None or not item.isascii() or not item.isdigit():
        raise problem(uri, number, f"the item must be a number, found {item!r}", field="datasetObjectId")
    for answer in answers:
        submitted_at_ms = _milliseconds(uri, number, answer.submission_time)
        accepted = answer.acceptance_time
        yield Annotation(
            item=int(item),
            worker=answer.worker_id,
            content=answer.answer_content,
            accepted_at_ms=submitted_at_ms if accepted is None else _milliseconds(uri, number, accepted),
            submitted_at_ms=submitted_at_ms,
            seconds_spent=answer.time_spent_in_seconds,
        )


@lru_cache(maxsize=4096)  # the answers of one submit share their times
def _iso(at_ms: int) -> str:
    return f"{EPOCH + timedelta(milliseconds=at_ms):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"


def _milliseconds(uri: str, number: int | None, text: str) -> int:
    try:
        return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, TypeError) as error:  # TypeError: no time zone
        message = f"expected a time such as 2024-05-01T10:00:00.120Z, found {text!r}"
        raise problem(uri, number, message) from error


def _batches(groups: Iterable[Sequence[Annotation]], size: int) -> Iterator[Iterator[Sequence[Annotation]]]:
    """Cut a stream into streams of at most ``size``, each to be used up before the next is asked for."""
    rest = iter(groups)
    for first in rest:
        yield itertools.chain([first], itertools.islice(rest, size - 1))
