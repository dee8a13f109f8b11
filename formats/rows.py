"""Rows of CSV and JSON Lines files, plain or gzipped, with their line numbers and in constant memory.

What the columns mean is the business of `answers.py` and `texts.py`.
"""

from __future__ import annotations

import csv
import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from voxpop.formats import storage
from voxpop.formats.augmented import decode_json
from voxpop.formats.limits import MAX_LINE_BYTES
from voxpop.formats.model import FormatError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["is_jsonl", "problem", "read_csv", "read_jsonl"]

BOM = b"\xef\xbb\xbf"
INFLATE_BYTES = 1024 * 1024


def problem(uri: str, number: int | None, message: str, field: str | None = None) -> FormatError:
    """Return the error for one thing wrong at a line of a file, or with the file as a whole."""
    place = uri if number is None else f"{uri} line {number}"
    return FormatError([Problem(place=place, message=message, field=field)])


def is_jsonl(uri: str) -> bool:
    """Whether the name says JSON Lines; everything else is read as CSV."""
    return uri.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson", ".json"))


def read_lines(uri: str, *, keep_ends: bool = False) -> Iterator[tuple[int, str]]:
    """Yield ``(line number from 1, line)`` of a UTF-8 text, plain or ``.gz``, with or without a byte order mark.

    Raises:
        FormatError: not UTF-8, a line above the limit, or broken gzip data.
        StorageError: it cannot be read.
    """
    chunks: Iterable[bytes] = storage.stream_chunks(uri)
    if uri.lower().endswith(".gz"):
        chunks = _inflated(uri, chunks)
    for number, line in storage.split_lines(chunks, keep_ends=keep_ends):
        if len(line) > MAX_LINE_BYTES + keep_ends:
            raise problem(uri, number, f"the line is longer than {MAX_LINE_BYTES:,} bytes")
        try:
            yield number, (line.removeprefix(BOM) if number == 1 else line).decode()
        except UnicodeDecodeError as error:
            message = f"not UTF-8: byte 0x{line[error.start]:02x} at byte {error.start + 1}; save the file as UTF-8"
            raise problem(uri, number, message) from error


def read_csv(uri: str) -> Iterator[tuple[int, list[str]]]:
    """Yield ``(line number, cells)``, the header first; empty lines are left out.

    Raises:
        FormatError: no header, a column without a name or given twice, a row with more or fewer cells than the header,
            or a quote that is not closed.
        StorageError: it cannot be read.
    """
    rows = csv.reader((line for _, line in read_lines(uri, keep_ends=True)), strict=True)
    columns: list[str] = []
    first = 1
    try:
        for row in rows:
            start, first = first, rows.line_num + 1
            if not row:
                continue
            if not columns:
                columns = [name.strip() for name in row]
                _check_header(uri, columns)
                yield start, columns
            elif len(row) != len(columns):
                message = f"{len(row)} cells; expected {len(columns)}, as in the header ({', '.join(columns)})"
                raise problem(uri, start, message)
            else:
                yield start, row
    except csv.Error as error:
        message = f"broken CSV: {error}; is a quote not closed?"
        raise problem(uri, first, message) from error
    if not columns:
        raise problem(uri, None, "the file is empty; a header with the names of the columns is expected")


def read_jsonl(uri: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(line number, object)``; empty lines are left out.

    Raises:
        FormatError: a line that is no JSON object.
        StorageError: it cannot be read.
    """
    for number, line in read_lines(uri):
        if not line.strip():
            continue
        try:
            row = decode_json(line.encode())
        except (msgspec.DecodeError, RecursionError) as error:
            raise problem(uri, number, f"broken JSON: {error}") from error
        if not isinstance(row, dict):
            raise problem(uri, number, f"a JSON object is expected, found {line.strip()[:40]}")
        yield number, row


def _check_header(uri: str, columns: list[str]) -> None:
    if "" in columns:
        raise problem(uri, 1, f"column {columns.index('') + 1} of the header has no name")
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise problem(uri, 1, f"the header names a column more than once: {', '.join(repeated)}")


def _inflated(uri: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Gunzip a stream of one or more members, a bounded piece at a time."""
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        for chunk in chunks:
            data = chunk
            while data:
                if inflater.eof:
                    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
                yield inflater.decompress(data, INFLATE_BYTES)
                data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    except zlib.error as error:
        raise problem(uri, None, f"broken gzip data ({error}); is it really gzipped?") from error
    if not inflater.eof:
        raise problem(uri, None, "the gzip data end too early; was the file copied completely?")
