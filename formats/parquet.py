"""Parquet files, read and written through pyarrow, which is an extra: ``pip install "voxpop[parquet]"``.

Values become text, as in CSV and JSON Lines: names and labels are text everywhere in ``formats``.
"""

from __future__ import annotations

import tempfile
from typing import IO, TYPE_CHECKING, Any, Final

from voxpop.formats import storage
from voxpop.formats.rows import problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["is_parquet", "read_columns", "read_rows", "write_bytes"]

SPOOLED_BYTES: Final = 32 * 1024 * 1024  # larger files wait on disk


def is_parquet(uri: str) -> bool:
    """Whether the name says Parquet."""
    return uri.lower().endswith((".parquet", ".pq"))


def read_rows(uri: str, wanted: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield ``(row number from 1, values)`` of the columns wanted, in constant memory.

    Raises:
        FormatError: not Parquet, a column is missing or no text or number, or a value is missing or empty.
        StorageError: it cannot be read.
    """
    number = 0
    with _spooled(uri) as file:
        for batch in _open(uri, file, wanted).iter_batches(columns=list(wanted)):
            columns = [_as_text(uri, name, batch.column(name), number).to_pylist() for name in wanted]
            for values in zip(*columns, strict=True):
                number += 1
                yield number, values


def read_columns(uri: str, wanted: Sequence[str]) -> list[Any]:
    """Return the columns wanted as Arrow columns of text; much quicker than row by row. Raises as ``read_rows``."""
    with _spooled(uri) as file:
        table = _open(uri, file, wanted).read(columns=list(wanted))
    return [_as_text(uri, name, table.column(name), 0) for name in wanted]


def write_bytes(uri: str, columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Return columns of equal length as a Parquet file; ``uri`` is for messages."""
    pyarrow = _pyarrow(uri)
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table(dict(columns)), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _pyarrow(uri: str) -> Any:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
    except ImportError:
        message = 'reading Parquet needs pyarrow: pip install "voxpop[parquet]", or save the file as CSV'
        raise problem(uri, None, message) from None
    return pa


def _spooled(uri: str) -> IO[bytes]:
    file: IO[bytes] = tempfile.SpooledTemporaryFile(SPOOLED_BYTES)  # noqa: SIM115 - its users close it
    for chunk in storage.stream_chunks(uri):
        file.write(chunk)
    file.seek(0)
    return file


def _open(uri: str, file: IO[bytes], wanted: Sequence[str]) -> Any:
    pyarrow = _pyarrow(uri)
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    try:
        opened = parquet.ParquetFile(file)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise problem(uri, None, f"broken Parquet data ({error}); is it a Parquet file, copied completely?") from None
    names = opened.schema_arrow.names
    missing = [name for name in wanted if name not in names]
    if missing:
        expected = f"expected {', '.join(wanted)}, found {', '.join(names)}"
        raise problem(uri, None, f"no column {', '.join(missing)}; {expected}")
    return opened


def _as_text(uri: str, name: str, column: Any, before: int) -> Any:
    """Return a column as text; ``before`` rows of the file came in batches before this one."""
    pyarrow = _pyarrow(uri)
    from pyarrow import compute  # noqa: PLC0415 - an extra

    kind = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
    is_text = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
    if not (is_text or pyarrow.types.is_integer(kind)):
        raise problem(uri, None, f"holds {kind}; expected text or whole numbers", field=name)
    text = column if is_text and kind is column.type else column.cast(pyarrow.string())
    bad = compute.fill_null(compute.equal(text, ""), fill_value=True)
    if compute.any(bad).as_py():
        row = compute.index(bad, value=True).as_py()
        raise problem(uri, None, f"row {before + row + 1} is empty", field=name)
    return text
