"""Automated data setup: a manifest out of a folder of images or texts, or out of one text file.

What Ground Truth's console does for a prefix: scan by data type, write
``dataset-YYMMDDTHHMMSS.manifest`` beside the data. Nothing is skipped silently: what was not used comes back by name
and reason. What one text file holds is read in `texts.py`; what a manifest must be is checked by `manifest.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from voxpop.formats import storage
from voxpop.formats.augmented import encode_json
from voxpop.formats.limits import MAX_REPORTED_PROBLEMS
from voxpop.formats.manifest import parse_item
from voxpop.formats.model import FormatError, Problem
from voxpop.formats.texts import TEXT_SUFFIXES, text_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

__all__ = ["DataType", "SetupResult", "Unused", "set_up_manifest"]

DataType = Literal["image", "text"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
WANTED = {"image": IMAGE_SUFFIXES, "text": TEXT_SUFFIXES}
PROGRESS_ITEMS = 10_000
DIGITS = re.compile(r"([0-9]+)")


class Unused(msgspec.Struct, frozen=True):
    """Something in the input that became no item."""

    name: str
    reason: str


class SetupResult(msgspec.Struct, frozen=True):
    """The manifest that was written, and what was left out of it."""

    manifest_uri: str
    count: int
    unused: tuple[Unused, ...]


def set_up_manifest(
    uri: str,
    data_type: DataType,
    *,
    now: datetime,
    text_column: str | None = None,
    out_uri: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> SetupResult:
    """Write a manifest of everything of one type that a folder, prefix or file holds, in natural order of the names.

    Args:
        uri: a folder or prefix, scanned with everything below it; or one .txt, .csv or .jsonl file.
        data_type: ``image`` (.jpg, .jpeg, .png become ``source-ref``) or ``text`` (.txt: an item a line; .csv with a
            header: an item a row, its other columns carried along; .jsonl: an item a line, its other fields too).
        now: names the manifest, ``dataset-YYMMDDTHHMMSS.manifest``.
        text_column: the column or field that holds the text; by default ``source``, or the only column.
        out_uri: folder for the manifest; by default the folder that holds the input.
        progress: called now and then with the number of items so far.

    Raises:
        FormatError: nothing of that type is there, or a file is not what its name says; nothing was written.
        StorageError: something cannot be read or written.
    """
    single = data_type == "text" and uri.lower().endswith(TEXT_SUFFIXES)
    folder = (uri.rpartition("/")[0] or ("/" if uri.startswith("/") else ".")) if single else uri
    names = [uri] if single else sorted(storage.list_uris(uri), key=_natural)
    used = [name for name in names if name.lower().endswith(WANTED[data_type])]
    unused = [
        Unused(name=name, reason=f"is no {data_type} file ({', '.join(WANTED[data_type])})")
        for name in names
        if not name.lower().endswith(WANTED[data_type])
    ]
    if not used:
        kinds = ", ".join(WANTED[data_type])
        message = f"holds no {data_type} file ({kinds}) among its {len(names)} files; is the data type right?"
        raise FormatError([Problem(place=uri, message=message)])
    entries = _images(used) if data_type == "image" else _texts(used, text_column, unused)
    target = storage.join(out_uri or folder, f"dataset-{now:%y%m%dT%H%M%S}.manifest")
    count = _write(target, entries, progress)
    return SetupResult(manifest_uri=target, count=count, unused=tuple(unused))


def _images(names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        yield name, encode_json({"source-ref": storage.absolute(name)})


def _texts(names: Iterable[str], column: str | None, unused: list[Unused]) -> Iterator[tuple[str, bytes]]:
    for name in names:
        first_empty = empty = 0
        for number, line in text_lines(name, column):
            if line is not None:
                yield f"{name} line {number}", line
            else:
                first_empty = first_empty or number
                empty += 1
        if empty:
            unused.append(Unused(name=name, reason=f"lines without text: {empty}, the first is line {first_empty}"))


def _write(target: str, entries: Iterable[tuple[str, bytes]], progress: Callable[[int], None] | None) -> int:
    """Write the entries that `parse_item` takes; if it refuses one, refuse all."""
    problems: list[Problem] = []
    problem_count = count = 0
    with storage.open_writer(target) as out:
        for place, line in entries:
            try:
                parse_item(line, count, place=place)
            except FormatError as error:
                problems += error.problems[: MAX_REPORTED_PROBLEMS - len(problems)]
                problem_count += error.count
            out.write(line + b"\n")
            count += 1
            if progress is not None and count % PROGRESS_ITEMS == 0:
                progress(count)
        if count == 0:
            problems.append(Problem(place=target, message="there is no text in any file; nothing was written"))
        if problems:
            raise FormatError(problems, max(problem_count, 1))
    if progress is not None:
        progress(count)
    return count


def _natural(name: str) -> tuple[list[list[tuple[int, int | str]]], str]:
    """Sort 2.jpg before 10.jpg, folder by folder; names that differ only in leading zeros by their spelling."""
    return [
        [(0, int(piece)) if DIGITS.fullmatch(piece) else (1, piece) for piece in DIGITS.split(segment) if piece]
        for segment in name.split("/")
    ], name
