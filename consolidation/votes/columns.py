"""Columns of anything into coded arrays: interning of names, and the complaints about what cannot be a vote.

What a vote table is stands in ``table.py``; this is only the door to it.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from voxpop.consolidation.errors import ConsolidationError
from voxpop.consolidation.jit import kernel
from voxpop.consolidation.votes.interning import intern_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = [
    "Column", "VotesError", "all_different", "intern", "name_array", "read_codes", "read_column", "sort_key",
    "sort_names",
]  # fmt: skip

Column = Any  # a list, tuple, iterator, or a numpy, pandas, polars or Arrow column
_DENSE_RANGE_FACTOR = 4  # integers that span at most this many times their count are interned by a table


class VotesError(ConsolidationError):
    """The votes cannot be used: the message says what was found, where, what was expected and what to do."""


def read_column(column: Column, name: str) -> list[Any] | NDArray[Any]:
    """Return a column as a list of Python values or, if it holds whole numbers, as a one-dimensional array."""
    if isinstance(column, (str, bytes)):
        raise VotesError(f"{name} is the single value {column!r}; expected a column with one entry a vote")
    values: Any = column
    if hasattr(column, "to_pylist"):  # Arrow
        values = column.to_pylist()
    elif not isinstance(column, np.ndarray) and hasattr(column, "to_numpy"):  # pandas, polars
        values = column.to_numpy()
    if isinstance(values, list):
        return values
    if not isinstance(values, np.ndarray):
        return list(values)
    if values.ndim != 1:
        raise VotesError(f"{name} has shape {values.shape}; expected one dimension with one entry a vote")
    if isinstance(values, np.ma.MaskedArray) or values.dtype.kind not in "iu":
        return list(values.tolist())  # masked entries become None
    return values


def read_codes(column: Column, column_name: str, entry_name: str) -> tuple[list[Any], NDArray[np.uint32]]:
    """Return the distinct values of a column in order of first appearance, and each entry's place among them.

    What a column already knows of its distinct values is used: Arrow columns, and pandas' and polars' categories.

    Raises:
        VotesError: an entry is missing or cannot be a name; the message names its row.
    """
    known = _dictionary(column)
    if known is None:
        return intern(read_column(column, column_name), entry_name, np.uint32)
    names, places = known
    if places.size and places.min() < 0:
        raise _missing_entry(int(np.argmin(places)), entry_name, None)
    used, codes = _intern_integers(places, np.uint32)
    names = [names[i] for i in used]
    for code, name in enumerate(names):
        if _missing(name):
            raise _missing_entry(int(np.argmax(codes == code)), entry_name, name)
    return names, codes


def intern(
    values: list[Any] | NDArray[Any], name: str, dtype: type[np.integer[Any]] = np.int64
) -> tuple[list[Any], NDArray[Any]]:
    """Return the distinct values in order of first appearance, and each entry's place among them.

    Raises:
        VotesError: an entry is missing (None, NaN, NA) or cannot be a name; the message names its row.
    """
    if isinstance(values, np.ndarray):
        return _intern_integers(values, dtype)
    codes = np.empty(len(values), dtype)
    rows = intern_text(values, codes)
    if rows is not None:
        names = [values[row] for row in rows]
        return names if set(map(type, names)) <= {str} else [_plain(name) for name in names], codes
    place: defaultdict[Any, int] = defaultdict(itertools.count().__next__)
    try:
        codes[:] = np.fromiter(map(place.__getitem__, values), dtype, len(values))
    except TypeError:
        row = next(i for i, value in enumerate(values) if not _hashable(value))
        raise VotesError(
            f"row {row}: {name} is {values[row]!r}, which cannot be a name; expected text or a number"
        ) from None
    for value in place:
        if _missing(value):
            raise _missing_entry(next(i for i, entry in enumerate(values) if entry is value), name, value)
    return [_plain(value) for value in place], codes


def sort_key(name: Any) -> tuple[str, Any]:
    """Return what names are sorted by: by value within a type, types by their name."""
    return type(name).__name__, name


def sort_names(names: Sequence[Any]) -> NDArray[np.int64]:
    """Return the order that sorts the names by ``sort_key``."""
    keys = [sort_key(value) for value in names]
    try:
        order = sorted(range(len(names)), key=keys.__getitem__)
    except TypeError:  # a type without an order of its own
        order = sorted(range(len(names)), key=[(kind, repr(value)) for kind, value in keys].__getitem__)
    return np.array(order, dtype=np.int64)


def name_array(names: Iterable[Any]) -> NDArray[Any]:
    """Return names as a read-only array: int64 if all are whole numbers that fit, else of Python objects."""
    if isinstance(names, range):
        array: NDArray[Any] = np.arange(names.start, names.stop, names.step)
    elif isinstance(names, np.ndarray) and names.ndim == 1 and names.dtype.kind == "i":
        array = names.astype(np.int64)
    else:
        listed = list(names)
        array = np.empty(len(listed), dtype=object)
        array[:] = listed
        if listed and all(type(value) is int and -(2**63) <= value < 2**63 for value in listed):
            array = array.astype(np.int64)
    array.flags.writeable = False
    return array


def all_different(names: NDArray[Any]) -> bool:
    """Return whether no name stands twice."""
    if names.dtype == object:
        return len(set(names.tolist())) == names.size
    return bool((names[1:] > names[:-1]).all()) or np.unique(names).size == names.size


def _dictionary(column: Column) -> tuple[list[Any], NDArray[Any]] | None:
    """Return distinct values and each entry's place among them, below 0 if missing, of columns that know them."""
    if hasattr(column, "dictionary_encode"):  # Arrow
        try:
            encoded = column.dictionary_encode()
        except NotImplementedError:  # of lists and the like, which are no names
            return None
        if hasattr(encoded, "combine_chunks"):
            encoded = encoded.combine_chunks()
        if encoded.null_count:
            return encoded.dictionary.to_pylist(), -encoded.is_null().to_numpy(zero_copy_only=False).astype(np.int64)
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    categories: Any = getattr(column, "cat", None)
    if hasattr(categories, "codes"):  # pandas
        return categories.categories.tolist(), categories.codes.to_numpy()
    return None


def _missing_entry(row: int, name: str, value: object) -> VotesError:
    return VotesError(
        f"row {row}: {name} is missing ({value!r}); leave out votes that were not given, "
        "or give them a class of their own"
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _missing(value: object) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124 - NaN and NaT are unequal to themselves
    except TypeError:  # pandas.NA has no truth value
        return True


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _intern_integers(values: NDArray[Any], dtype: type[np.integer[Any]]) -> tuple[list[Any], NDArray[Any]]:
    if values.size == 0:
        return [], np.zeros(0, dtype)
    low, high = int(values.min()), int(values.max())
    if high < 2**63 and high - low <= _DENSE_RANGE_FACTOR * values.size < 2**31:
        table = np.full(high - low + 1, -1, np.int32)
        codes = np.empty(values.size, dtype)
        distinct = np.empty(min(values.size, table.size), np.int64)
        count = _intern_dense(np.ascontiguousarray(values, values.dtype.newbyteorder("=")), low, table, codes, distinct)
        return distinct[:count].tolist(), codes
    found, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return found[order].tolist(), rank[inverse].astype(dtype)


@kernel
def _intern_dense(
    values: NDArray[Any],
    low: int,
    table: NDArray[np.int32],
    codes: NDArray[Any],
    distinct: NDArray[np.int64],
) -> int:
    count = 0
    for i in range(values.size):
        at = np.int64(values[i]) - low
        if table[at] < 0:
            table[at] = count
            distinct[count] = values[i]
            count += 1
        codes[i] = table[at]
    return count
