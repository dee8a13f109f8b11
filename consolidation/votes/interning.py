"""Interning of text by its bytes: a hash table in compiled code, several times faster than a dictionary of Python's.

The dictionary visits a name's object, its slot and the object of the equal name it finds, each a wait for memory. Here
some thousand names at a time are joined into one block of bytes, which is read in order, and what is needed of the
table is fetched ahead. Names are compared byte by byte, eight at a time: equal hashes alone make no two names equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.lanes import prefetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["intern_text"]

_CHUNK: Final = 65_536  # names joined at a time
_AHEAD: Final = 16  # names whose slots are fetched before they are needed
_WORD: Final = 8  # bytes
_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)  # of a multiplicative hash (Knuth, volume 3, 6.4): 2**64 / golden ratio
_HALF: Final = np.uint64(32)
_LOWER: Final = np.uint64(0xFFFFFFFF)
_ONE: Final = np.uint64(1)


def intern_text(values: Sequence[Any], codes: NDArray[Any]) -> list[int] | None:
    """Write each value's place among the distinct ones, in order of first appearance, to ``codes``.

    Returns:
        The row of the first appearance of each distinct value; None if not all values are text, or one holds the
        character U+0000. ``codes`` then holds nothing of use.
    """
    table = _Table()
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        try:
            joined = "\0".join(chunk)
        except TypeError:
            return None
        block = np.frombuffer(joined.encode("utf-8", "surrogatepass") + b"\0" * _WORD, np.uint8)
        stops = np.flatnonzero(block == 0)[: 1 - _WORD]
        if stops.size != len(chunk):
            return None
        table.add(block, stops, codes[start : start + len(chunk)], start)
    rows: list[int] = table.rows[: table.count].tolist()
    return rows


class _Table:
    """Distinct names by their bytes; arrays grow before a chunk is added, never within."""

    def __init__(self) -> None:
        self.count = 0
        self.rows = np.empty(0, np.int64)  # of the first appearance of each name
        self._n_words = 0
        self._words = np.empty(0, np.uint64)  # of the names, one after the other, each ending in a zero byte or more
        self._hashes = np.empty(0, np.uint64)
        self._starts = np.empty(0, np.uint64)  # of each name in ``_words``
        # Upper half of the hash and place + 1, or 0 where empty; then the start in ``_words``.
        self._slots = np.zeros((4 * _CHUNK, 2), np.uint64)

    def add(self, block: NDArray[np.uint8], stops: NDArray[np.int64], codes: NDArray[Any], first_row: int) -> None:
        most = self.count + codes.size
        if most > self.rows.size:
            self.rows, self._hashes, self._starts = (
                _longer(array, 2 * most) for array in (self.rows, self._hashes, self._starts)
            )
        if 2 * most > len(self._slots):
            self._slots = np.zeros((2 * len(self._slots), 2), np.uint64)
            _place_again(self._hashes[: self.count], self._starts, self._slots)
        most_words = self._n_words + block.size // _WORD + codes.size
        if most_words > self._words.size:
            self._words = _longer(self._words, 2 * most_words)
        self.count, self._n_words = _add_chunk(
            block, stops, codes, first_row, self.count, self._n_words, self.rows, self._hashes, self._starts,
            self._words, self._slots,
        )  # fmt: skip


def _longer(array: NDArray[Any], size: int) -> NDArray[Any]:
    longer = np.empty(size, array.dtype)
    longer[: array.size] = array
    return longer


@kernel
def _place_again(hashes: NDArray[np.uint64], starts: NDArray[np.uint64], slots: NDArray[np.uint64]) -> None:
    mask = np.uint64(slots.shape[0] - 1)
    for place in range(hashes.size):
        slot = hashes[place] & mask
        while slots[slot, 0] != 0:
            slot = (slot + _ONE) & mask
        slots[slot, 0] = (hashes[place] & ~_LOWER) | np.uint64(place + 1)
        slots[slot, 1] = starts[place]


@kernel
def _add_chunk(
    block: NDArray[np.uint8],
    stops: NDArray[np.int64],
    codes: NDArray[Any],
    first_row: int,
    count: int,
    n_words: int,
    rows: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    starts: NDArray[np.uint64],
    words: NDArray[np.uint64],
    slots: NDArray[np.uint64],
) -> tuple[int, int]:
    """Intern the names of a block, which end before ``stops``; returns how many names and words there are now."""
    n = codes.size
    mask = np.uint64(slots.shape[0] - 1)
    hashed = np.empty(n + _AHEAD, np.uint64)
    start = 0
    for i in range(n):
        value = np.uint64(0)
        for at in range(start, stops[i] + 1, _WORD):
            value = (value ^ _word(block, at, stops[i])) * _FACTOR
            value ^= value >> _HALF
        hashed[i] = value
        start = stops[i] + 1
    hashed[n:] = 0
    start = 0
    for i in range(n):
        prefetch(slots, np.int64((hashed[i + _AHEAD] & mask) * np.uint64(2)))
        ahead = hashed[i + _AHEAD // 2] & mask
        prefetch(words, np.int64(slots[ahead, 1]))
        value, stop = hashed[i], stops[i]
        slot = value & mask
        while True:
            entry = slots[slot, 0]
            if entry == 0:
                slots[slot, 0] = (value & ~_LOWER) | np.uint64(count + 1)
                slots[slot, 1] = starts[count] = n_words
                hashes[count], rows[count], codes[i] = value, first_row + i, count
                count += 1
                for at in range(start, stop + 1, _WORD):
                    words[n_words] = _word(block, at, stop)
                    n_words += 1
                break
            if (entry ^ value) >> _HALF == 0 and _same(block, start, stop, words, slots[slot, 1]):
                codes[i] = (entry & _LOWER) - _ONE
                break
            slot = (slot + _ONE) & mask
        start = stop + 1
    return count, n_words


@kernel
def _same(block: NDArray[np.uint8], start: int, stop: int, words: NDArray[np.uint64], known: np.uint64) -> bool:
    for at in range(start, stop + 1, _WORD):
        if _word(block, at, stop) != words[known]:
            return False
        known += _ONE
    return True


@kernel
def _word(block: NDArray[np.uint8], at: int, stop: int) -> np.uint64:
    """Return eight bytes as a number, with zeros from ``stop`` on; a name's last word has at least one."""
    value = np.uint64(0)
    first = np.uint64(at)
    for j in range(_WORD):
        value |= np.uint64(block[first + np.uint64(j)]) << np.uint64(8 * j)
    if stop - at < _WORD:
        value &= (_ONE << np.uint64(8 * (stop - at))) - _ONE
    return value
