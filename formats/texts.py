"""One .txt, .csv or .jsonl file as lines of a manifest: an item a line or row, everything else in it carried along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxpop.formats.augmented import encode_json
from voxpop.formats.rows import is_jsonl, problem, read_csv, read_jsonl, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["TEXT_SUFFIXES", "text_lines"]

TEXT_SUFFIXES = (".txt", ".csv", ".jsonl")


def text_lines(uri: str, column: str | None) -> Iterator[tuple[int, bytes | None]]:
    """Yield ``(line number, manifest line)`` of a text file; None for a line or row without text.

    Args:
        uri: a file whose name ends in one of ``TEXT_SUFFIXES``.
        column: the column or field that holds the text; None: ``source``, or the only column. No matter for .txt.

    Raises:
        FormatError: the file is not what its name says, or has no such column.
        StorageError: it cannot be read.
    """
    if uri.lower().endswith(".txt"):
        for number, line in read_lines(uri):
            yield number, encode_json({"source": line}) if line.strip() else None
    elif is_jsonl(uri):
        for number, row in read_jsonl(uri):
            yield number, encode_json(_with_source(uri, number, row, column or "source"))
    else:
        rows = read_csv(uri)
        _, columns = next(rows)
        chosen = _column(uri, columns, column)
        for number, cells in rows:
            fields = dict(zip(columns, cells, strict=True))
            if fields[chosen].strip():
                yield number, encode_json(_with_source(uri, number, fields, chosen))
            else:
                yield number, None


def _column(uri: str, columns: list[str], wanted: str | None) -> str:
    if wanted is None and len(columns) == 1:
        return columns[0]
    if (wanted or "source") in columns:
        return wanted or "source"
    found = ", ".join(columns)
    if wanted is None:
        raise problem(uri, 1, f"which column holds the text? Name one of: {found}")
    raise problem(uri, 1, f"there is no column {wanted!r}; found: {found}")


def _with_source(uri: str, number: int, row: dict[str, Any], column: str) -> dict[str, Any]:
    """Rename the text's field to ``source``, in its place; a field of that name must not be lost by it."""
    if column == "source":
        return row
    if "source" in row:
        message = f"the text is in {column!r}, but there is another field 'source'; rename that one"
        raise problem(uri, number, message)
    return {"source" if key == column else key: value for key, value in row.items()}
