"""Recorded answers and gold labels: who said what about which item, as CSV or JSON Lines, plain or gzipped, or Parquet.

Answers have the columns ``item``, ``worker``, ``label``; gold has ``item``, ``label``; other columns are left alone.
Labels are text here: what "1" means is the business of the task type.
"""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING, Any

from voxpop.formats import storage
from voxpop.formats.augmented import encode_json
from voxpop.formats.parquet import is_parquet, read_columns, read_rows, write_bytes
from voxpop.formats.rows import is_jsonl, problem, read_csv, read_jsonl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from voxpop.consolidation.votes.table import Repeats, Votes

__all__ = ["read_answers", "read_gold", "read_votes", "write_columns"]

ANSWER_COLUMNS = ("item", "worker", "label")
GOLD_COLUMNS = ("item", "label")
NEEDS_QUOTES = re.compile(r'[,"\r\n]|^\Z')


def read_answers(uri: str) -> Iterator[tuple[str, str, str]]:
    """Yield ``(item, worker, label)`` of each recorded answer, in the order of the file, in constant memory.

    Raises:
        FormatError: a column is missing, a row is ragged, or a value is empty; the message names the line.
        StorageError: it cannot be read.
    """
    for _, (item, worker, label) in _read_columns(uri, ANSWER_COLUMNS):
        yield item, worker, label


def read_votes(uri: str, *, abstain: str | None = None, repeats: Repeats = "all") -> Votes:
    """Return all recorded answers as the table that consolidation works on.

    Args:
        uri: where they are.
        abstain: a label that stands for no opinion.
        repeats: what several answers of one worker to one item mean; see ``Votes.from_columns``.

    Raises:
        FormatError: as in `read_answers`, or there are no answers, or nobody had an opinion.
        StorageError: it cannot be read.
    """
    # This loads the compiler, which other formats need not.
    from voxpop.consolidation.votes.table import Votes, VotesError  # noqa: PLC0415

    columns: list[Any] = [[], [], []]
    if is_parquet(uri):
        columns = read_columns(uri, ANSWER_COLUMNS)
    else:
        for row in read_answers(uri):
            for column, value in zip(columns, row, strict=True):
                column.append(value)
    if not len(columns[0]):
        raise problem(uri, None, "there are no answers below the header")
    try:
        return Votes.from_columns(*columns, abstain=abstain, repeats=repeats)
    except VotesError as error:
        raise problem(uri, None, str(error)) from None


def read_gold(uri: str) -> dict[str, str]:
    """Return the gold label of each item.

    Raises:
        FormatError: a column is missing, a row is ragged, a value is empty, or an item has two different labels.
        StorageError: it cannot be read.
    """
    gold: dict[str, str] = {}
    for number, (item, label) in _read_columns(uri, GOLD_COLUMNS):
        if gold.setdefault(item, label) != label:
            raise problem(uri, number, f"item {item!r} has label {label!r} here and {gold[item]!r} before")
    if not gold:
        raise problem(uri, None, "there are no labels below the header")
    return gold


def write_columns(uri: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal length as CSV, or as JSON Lines or Parquet if the name says so; gzipped if in ``.gz``.

    Raises:
        StorageError: it cannot be written; what was there is untouched.
        ValueError: the columns differ in length.
    """
    if is_parquet(uri):
        storage.write_atomic(uri, write_bytes(uri, columns))
        return
    rows = zip(*columns.values(), strict=True)
    if is_jsonl(uri):
        data = b"".join(encode_json(dict(zip(columns, row, strict=True))) + b"\n" for row in rows)
    else:
        data = "".join(",".join(map(_cell, row)) + "\n" for row in [tuple(columns), *rows]).encode()
    storage.write_atomic(uri, gzip.compress(data, mtime=0) if uri.lower().endswith(".gz") else data)


def _cell(value: Any) -> str:
    r"""Write one cell; unlike Python's own writer, quote a lone ``\r`` too, which many readers take for a line end."""
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if NEEDS_QUOTES.search(text) else text


def _read_columns(uri: str, wanted: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    if is_parquet(uri):
        yield from read_rows(uri, wanted)
        return
    if is_jsonl(uri):
        for number, row in read_jsonl(uri):
            _check_columns(uri, number, wanted, row)
            yield number, tuple(_value(uri, number, name, row[name]) for name in wanted)
        return
    rows = read_csv(uri)
    number, columns = next(rows)
    _check_columns(uri, number, wanted, columns)
    places = [columns.index(name) for name in wanted]
    for number, cells in rows:
        values = tuple([cells[place] for place in places])
        if not all(values):
            raise problem(uri, number, "is empty", field=wanted[values.index("")])
        yield number, values


def _check_columns(uri: str, number: int, wanted: tuple[str, ...], found: Any) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        names = ", ".join(found)
        raise problem(uri, number, f"no column {', '.join(missing)}; expected {', '.join(wanted)}, found {names}")


def _value(uri: str, number: int, name: str, value: Any) -> str:
    """Return a name or label as text; numbers may be written without quotes."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    shown = "is empty" if value == "" else f"must be text or a whole number, found {encode_json(value).decode()[:40]}"
    raise problem(uri, number, shown, field=name)
