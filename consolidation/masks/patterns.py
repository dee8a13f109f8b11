"""What R raters said of a pixel, as a pattern: which ones an image has, how often, and values of patterns as images.

Whatever a method works out for a pixel depends on the R answers to it alone, so it is worked out once a pattern: R
binary raters make at most 2**R of them, whatever the size of the image. Nothing here knows what is worked out.

Dense masks are read in blocks of ``BLOCK_PIXELS``, never copied. Besides the output, memory is bounded by
``MOST_BYTES`` as long as a pattern has up to 16 binary digits, which 16 binary raters have; beyond that each distinct
pattern that occurs takes some 32 bytes more, and run lengths take some 20 bytes a boundary.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxpop.consolidation.jit import kernel
from voxpop.consolidation.masks.rle import Runs
from voxpop.consolidation.masks.sweep import segment_kernel
from voxpop.consolidation.masks.vectors import PIXELS, changes, fill, key_lanes, keys_of, lowest_bit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["BLOCK_PIXELS", "MOST_BYTES", "DensePatterns", "Patterns", "RunPatterns", "bits_for"]

BLOCK_PIXELS: Final = 4096
MOST_BYTES: Final = 4 * 1024 * 1024  # tables of 2**16 patterns, and blocks
_DIRECT_DIGITS: Final = 16  # of patterns that index a table; others are hashed
_KEY_TYPES: Final = {1: np.uint8, 2: np.uint16}
_FIRST_SLOTS: Final = 1 << 15
_EMPTY: Final = -1


def bits_for(n_classes: int) -> int:
    """Return how many binary digits hold a class."""
    return max(1, (n_classes - 1).bit_length())


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Patterns:
    """The distinct patterns of one image.

    Attributes:
        votes: what each rater says in each pattern, uint8, shape (n_patterns, R).
        counts: pixels with the pattern, int64, shape (n_patterns,).
    """

    votes: NDArray[np.uint8]
    counts: NDArray[np.int64]

    def mask_of(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8] | Runs:
        """Return the image in which each pixel has the label of its pattern, ``labels`` of shape (n_patterns,)."""
        raise NotImplementedError

    def image_of(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the image in which each pixel has the value of its pattern, float64, shape (height, width)."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DensePatterns(Patterns):
    """Patterns of dense masks or label images; ``place`` finds a pattern by its key (see the kernels)."""

    masks: tuple[NDArray[np.uint8], ...]
    size: tuple[int, int]
    bits: int
    codes: NDArray[np.uint64]
    slots: NDArray[np.int32]

    @classmethod
    def of(cls, masks: Sequence[NDArray[np.uint8]], bits: int) -> DensePatterns:
        """Count the patterns of R masks in rows, all of one size, whose labels have so many binary digits."""
        flat = tuple(mask.reshape(-1) for mask in masks)
        digits = bits * len(flat)
        if digits > _DIRECT_DIGITS:
            codes, slots, counts = _hashed(flat, bits)
        else:
            tally = np.zeros(1 << digits, np.int64)
            _count_kernel(_key_bytes(digits), bits)(flat, tally)
            found = np.flatnonzero(tally)
            codes, counts = found.astype(np.uint64)[:, None], tally[found]
            slots = np.zeros(tally.size, np.int32)
            slots[found] = np.arange(found.size, dtype=np.int32)
        return cls(_votes(codes, len(flat), bits), counts, flat, masks[0].shape, bits, codes, slots)

    def mask_of(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the label image, uint8, shape (height, width)."""
        return self._painted(np.asarray(labels, np.uint8))

    def image_of(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the image of values."""
        return self._painted(np.asarray(values, np.float64))

    def _painted(self, values: NDArray[Any]) -> NDArray[Any]:
        out = np.empty(self.size, values.dtype)
        digits = self.bits * len(self.masks)
        if digits > _DIRECT_DIGITS:
            _hashed_kernels(self.bits)[1](self.masks, self.slots, self.codes, values, out.reshape(-1))
        else:
            _paint_kernel(_key_bytes(digits), self.bits, values.itemsize > 1)(
                self.masks, values[self.slots], out.reshape(-1)
            )
        return out


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class RunPatterns(Patterns):
    """Patterns of run lengths: segments of the image in which nobody's mask changes."""

    size: tuple[int, int]
    ends: NDArray[np.uint32]
    pattern_of_segment: NDArray[np.int64]

    @classmethod
    def of(cls, ends: NDArray[np.uint32], starts: NDArray[np.int64], size: tuple[int, int]) -> RunPatterns:
        """Count the patterns of R masks; mask ``r`` has ``ends[starts[r] : starts[r + 1]]``, one number is behind."""
        n_masks, n_pixels = starts.size - 1, size[0] * size[1]
        boundaries = np.empty(int(starts[-1] - starts[0]) + 2, np.uint32)
        keys = np.empty(boundaries.size, np.uint64)
        n = segment_kernel(n_masks)(ends, starts, n_pixels, boundaries, keys)
        boundaries, keys = boundaries[:n].copy(), keys[:n]
        lengths = np.diff(boundaries, prepend=np.uint32(0))
        if n_masks > _DIRECT_DIGITS:
            codes, place = np.unique(keys, return_inverse=True)
            counts = np.bincount(place, weights=lengths, minlength=codes.size)
        else:
            tally = np.bincount(keys.view(np.int64), weights=lengths)
            found = np.flatnonzero(tally)
            slots = np.zeros(tally.size, np.int64)
            slots[found] = np.arange(found.size)
            codes, place, counts = found.astype(np.uint64), slots[keys], tally[found]
        counts = counts.astype(np.int64)
        return cls(_votes(codes[:, None], n_masks, 1), counts, size, boundaries, place)

    def mask_of(self, labels: NDArray[np.uint8]) -> Runs:
        """Return the mask as run lengths."""
        value = np.asarray(labels, np.uint8)[self.pattern_of_segment]
        last = np.flatnonzero(np.append(value[1:] != value[:-1], [True]))
        ends = self.ends[last]
        return Runs(*self.size, np.concatenate([np.zeros(1, np.uint32), ends]) if value[0] else ends)

    def image_of(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the image of values."""
        columns = np.repeat(values[self.pattern_of_segment], np.diff(self.ends, prepend=np.uint32(0)))
        return np.ascontiguousarray(columns.reshape(self.size[::-1]).T)


def _key_bytes(digits: int) -> int:
    return 1 if digits <= 8 else 2


def _votes(codes: NDArray[np.uint64], n_masks: int, bits: int) -> NDArray[np.uint8]:
    room = 64 // bits
    mask = np.uint64((1 << bits) - 1)
    columns = [(codes[:, r // room] >> np.uint64(r % room * bits)) & mask for r in range(n_masks)]
    return np.stack(columns, axis=1).astype(np.uint8)


def _hashed(
    masks: tuple[NDArray[np.uint8], ...], bits: int
) -> tuple[NDArray[np.uint64], NDArray[np.int32], NDArray[np.int64]]:
    """Return the distinct patterns in order of appearance, their hash table and how often each occurs."""
    count, _ = _hashed_kernels(bits)
    words = -(-len(masks) // (64 // bits))
    slots = np.full(_FIRST_SLOTS, _EMPTY, np.int32)
    codes = np.empty((_FIRST_SLOTS // 2, words), np.uint64)
    counts = np.zeros(codes.shape[0], np.int64)
    at = np.zeros(2, np.int64)  # the next pixel, and how many patterns were found
    while not count(masks, at, slots, codes, counts):
        slots = np.full(slots.size * 2, _EMPTY, np.int32)
        codes = np.concatenate([codes, np.empty_like(codes)])
        counts = np.concatenate([counts, np.zeros_like(counts)])
        _rehash(codes, int(at[1]), slots)
    return codes[: at[1]].copy(), slots, counts[: at[1]].copy()


@functools.cache
def _count_kernel(key_bytes: int, bits: int) -> Callable[..., None]:
    """Return the kernel that counts patterns in a table, a stretch of equal keys at a time."""
    key_type, lanes = _KEY_TYPES[key_bytes], key_lanes(key_bytes)

    @kernel
    def count(masks: tuple[NDArray[np.uint8], ...], tally: NDArray[np.int64]) -> None:
        n = masks[0].size
        keys = np.zeros(PIXELS + BLOCK_PIXELS, key_type)  # the first key of a block looks at the one before
        whole = n // PIXELS * PIXELS
        for first in range(0, whole, BLOCK_PIXELS):
            block = min(BLOCK_PIXELS, whole - first)
            for i in range(0, block, lanes):
                keys_of(masks, first + i, bits, keys, PIXELS + i, 0)
            for line in range(PIXELS, PIXELS + block, PIXELS):
                starts = changes(keys, line)
                while starts:
                    start = lowest_bit(starts)
                    starts &= starts - np.uint64(1)
                    tally[np.uint64(keys[np.uint64(line) + start])] += np.int64(lowest_bit(starts) - start)
        for i in range(whole, n):
            tally[_key(masks, i, bits)] += 1

    made: Callable[..., None] = count
    return made


@functools.cache
def _paint_kernel(key_bytes: int, bits: int, wide: bool) -> Callable[..., None]:  # noqa: FBT001 - made in one place
    """Return the kernel that writes the value of each pixel's pattern, a stretch of equal keys at a time.

    Values that are ``wide``, more than a byte, are written one by one where stretches are short.
    """
    key_type, lanes = _KEY_TYPES[key_bytes], key_lanes(key_bytes)

    @kernel
    def paint(masks: tuple[NDArray[np.uint8], ...], values: NDArray[Any], out: NDArray[Any]) -> None:
        n = out.size
        keys = np.zeros(PIXELS + BLOCK_PIXELS, key_type)
        whole = max(0, n // PIXELS - 1) * PIXELS  # the last line is left out: stretches are written too long
        for first in range(0, whole, BLOCK_PIXELS):
            block = min(BLOCK_PIXELS, whole - first)
            for i in range(0, block, lanes):
                keys_of(masks, first + i, bits, keys, PIXELS + i, 0)
            for line in range(0, block, PIXELS):
                starts = changes(keys, PIXELS + line)
                if wide and starts != np.uint64(1):
                    for i in range(np.uint64(PIXELS)):
                        out[np.uint64(first + line) + i] = values[np.uint64(keys[np.uint64(PIXELS + line) + i])]
                    continue
                while starts:
                    start = np.int64(lowest_bit(starts))
                    starts &= starts - np.uint64(1)
                    value = values[np.uint64(keys[PIXELS + line + start])]
                    fill(out, first + line + start, value)  # what is too much is written over by the next stretch
        for i in range(whole, n):
            out[i] = values[_key(masks, i, bits)]

    made: Callable[..., None] = paint
    return made


@kernel
def _key(masks: tuple[NDArray[np.uint8], ...], pixel: int, bits: int) -> np.int64:
    key = np.int64(0)
    for rater in range(len(masks)):
        key |= np.int64(masks[rater][pixel]) << (rater * bits)
    return key


@functools.cache
def _hashed_kernels(bits: int) -> tuple[Callable[..., bool], Callable[..., None]]:
    """Return the kernels that count patterns of any length, and that write their values."""
    lanes, room = key_lanes(8), 64 // bits

    @kernel
    def read(masks: tuple[NDArray[np.uint8], ...], first: int, block: int, keys: NDArray[np.uint64]) -> None:
        """Write the words of the block's patterns to ``keys``, shape (words * BLOCK_PIXELS,)."""
        whole = block // lanes * lanes
        for i in range(0, whole, lanes):
            keys_of(masks, first + i, bits, keys, i, BLOCK_PIXELS)
        for i in range(whole, block):
            for g in range(keys.size // BLOCK_PIXELS):
                keys[g * BLOCK_PIXELS + i] = 0
            for rater in range(len(masks)):
                label = np.uint64(masks[rater][first + i])
                keys[rater // room * BLOCK_PIXELS + i] |= label << np.uint64(rater % room * bits)

    @kernel
    def count(
        masks: tuple[NDArray[np.uint8], ...],
        at: NDArray[np.int64],
        slots: NDArray[np.int32],
        codes: NDArray[np.uint64],
        counts: NDArray[np.int64],
    ) -> bool:
        n, words = masks[0].size, codes.shape[1]
        keys = np.empty(words * BLOCK_PIXELS, np.uint64)
        first, found = at[0], at[1]
        while first < n:
            if found + BLOCK_PIXELS > codes.shape[0]:
                at[0], at[1] = first, found
                return False
            block = min(BLOCK_PIXELS, n - first)
            read(masks, first, block, keys)
            slot = np.int64(0)
            for i in range(block):
                if not _as_before(keys, i, words):
                    slot = _slot(keys, i, slots, codes)
                    if slots[slot] == _EMPTY:
                        for g in range(words):
                            codes[found, g] = keys[g * BLOCK_PIXELS + i]
                        slots[slot] = found
                        found += 1
                counts[slots[slot]] += 1
            first += block
        at[0], at[1] = first, found
        return True

    @kernel
    def paint(
        masks: tuple[NDArray[np.uint8], ...],
        slots: NDArray[np.int32],
        codes: NDArray[np.uint64],
        values: NDArray[Any],
        out: NDArray[Any],
    ) -> None:
        n, words = out.size, codes.shape[1]
        keys = np.empty(words * BLOCK_PIXELS, np.uint64)
        for first in range(0, n, BLOCK_PIXELS):
            block = min(BLOCK_PIXELS, n - first)
            read(masks, first, block, keys)
            value = values[0]
            for i in range(block):
                if not _as_before(keys, i, words):
                    value = values[slots[_slot(keys, i, slots, codes)]]
                out[first + i] = value

    return count, paint


@kernel
def _slot(keys: NDArray[np.uint64], pixel: int, slots: NDArray[np.int32], codes: NDArray[np.uint64]) -> np.int64:
    """Return the slot of a pixel's pattern, or the empty one where it belongs."""
    words = codes.shape[1]
    mixed = np.uint64(0)
    for g in range(words):
        mixed = (mixed ^ keys[g * BLOCK_PIXELS + pixel]) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    slot = np.int64(mixed & np.uint64(slots.size - 1))
    while slots[slot] != _EMPTY:
        same = True
        for g in range(words):
            same = same and codes[slots[slot], g] == keys[g * BLOCK_PIXELS + pixel]
        if same:
            break
        slot = (slot + 1) & (slots.size - 1)
    return slot


@kernel
def _as_before(keys: NDArray[np.uint64], pixel: int, words: int) -> bool:
    """Return whether the pixel has the pattern of the one before in its block."""
    same = pixel > 0
    for g in range(words):
        same = same and keys[g * BLOCK_PIXELS + pixel] == keys[g * BLOCK_PIXELS + pixel - 1]
    return same


@kernel
def _rehash(codes: NDArray[np.uint64], found: int, slots: NDArray[np.int32]) -> None:
    """Put all patterns found so far into empty slots."""
    words = codes.shape[1]
    keys = np.empty(words * BLOCK_PIXELS, np.uint64)
    for p in range(found):
        for g in range(words):
            keys[g * BLOCK_PIXELS] = codes[p, g]
        slots[_slot(keys, 0, slots, codes)] = p
