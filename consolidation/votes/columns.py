"""Columns of anything into coded arrays: interning of names, and the complaints about what cannot be a vote.

What a vote table is stands in ``table.py``; this is only the door to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxpop.consolidation.errors import ConsolidationError
from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["Column", "VotesError", "intern", "name_array", "read_column", "sort_names"]

Column = Any  # a list, tuple, iterator, or a numpy, pandas, polars or Arrow column
_DENSE_RANGE_FACTOR = 4  # integers that span at most this many times their count are interned by a table


class VotesError(ConsolidationError):
    """The votes cannot be used: the message says what was found, where, what was expected and what to do."""


def read_column(column: Column, name: str) -> list[Any] | NDArray[Any]:
    """Return a column as a list of Python values or, if it holds whole numbers, as a one-dimensional array."""
    if isinstance(column, (str, bytes)):
        raise VotesError(f"{name} is the single value {column!r}; expected a column with one entry a vote")
    if hasattr(column, "to_pylist"):  # Arrow
        values: Any = column.to_pylist()
    elif isinstance(column, np.ndarray):
        values = column
    elif hasattr(column, "to_numpy"):  # pandas, polars
        values = column.to_numpy()
    else:
        values = list(column)
    if not isinstance(values, np.ndarray):
        return list(values)
    if values.ndim != 1:
        raise VotesError(f"{name} has shape {values.shape}; expected one dimension with one entry a vote")
    if isinstance(values, np.ma.MaskedArray) or values.dtype.kind not in "iu":
        return list(values.tolist())  # masked entries become None
    return values


def intern(values: list[Any] | NDArray[Any], name: str) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the distinct values in order of first appearance, and each entry's place among them.

    Raises:
        VotesError: an entry is missing (None, NaN, NA) or cannot be a name; the message names its row.
    """
    if isinstance(values, np.ndarray):
        return _intern_integers(values)
    try:
        distinct = list(dict.fromkeys(values))
    except TypeError:
        row = next(i for i, value in enumerate(values) if not _hashable(value))
        raise VotesError(
            f"row {row}: {name} is {values[row]!r}, which cannot be a name; expected text or a number"
        ) from None
    for value in distinct:
        if _missing(value):
            row = next(i for i, entry in enumerate(values) if entry is value)
            raise VotesError(
                f"row {row}: {name} is missing ({value!r}); leave out votes that were not given, "
                "or give them a class of their own"
            )
    place = dict(zip(distinct, range(len(distinct)), strict=True))
    codes = np.fromiter(map(place.__getitem__, values), dtype=np.int64, count=len(values))
    return [value.item() if isinstance(value, np.generic) else value for value in distinct], codes


def sort_names(names: Sequence[Any]) -> NDArray[np.int64]:
    """Return the order that sorts the names: by value within a type, types by their name."""
    keys = [(type(value).__name__, value) for value in names]
    try:
        order = sorted(range(len(names)), key=keys.__getitem__)
    except TypeError:  # a type without an order of its own
        order = sorted(range(len(names)), key=[(kind, repr(value)) for kind, value in keys].__getitem__)
    return np.array(order, dtype=np.int64)


def name_array(names: Iterable[Any]) -> NDArray[Any]:
    """Return names as a read-only array: int64 if all are whole numbers that fit, else of Python objects."""
    listed = list(names)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    if listed and all(type(value) is int and -(2**63) <= value < 2**63 for value in listed):
        array = array.astype(np.int64)
    array.flags.writeable = False
    return array


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


def _intern_integers(values: NDArray[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    if values.size == 0:
        return [], np.zeros(0, np.int64)
    low, high = int(values.min()), int(values.max())
    if high < 2**63 and high - low <= _DENSE_RANGE_FACTOR * values.size:
        table = np.full(high - low + 1, -1, np.int64)
        codes = np.empty(values.size, np.int64)
        distinct = np.empty(values.size, np.int64)
        count = _intern_dense(np.ascontiguousarray(values, dtype=np.int64), low, table, codes, distinct)
        return distinct[:count].tolist(), codes
    found, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    return found[order].tolist(), rank[inverse].astype(np.int64)


@kernel
def _intern_dense(
    values: NDArray[np.int64],
    low: int,
    table: NDArray[np.int64],
    codes: NDArray[np.int64],
    distinct: NDArray[np.int64],
) -> int:
    count = 0
    for i in range(values.size):
        at = values[i] - low
        if table[at] < 0:
            table[at] = count
            distinct[count] = values[i]
            count += 1
        codes[i] = table[at]
    return count
