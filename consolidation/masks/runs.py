"""Kernels on the ends of runs of single masks: COCO's string, dense pixels, areas, boxes, overlaps.

What run lengths mean and what is refused says ``rle.py``; votes of several masks are swept by ``sweep.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "BAD_CHARACTER", "CUT_OFF", "MOST_CHARACTERS", "NEGATIVE", "PADDING", "WRONG_SUM", "accumulate", "area",
    "bounding_box", "decode", "encode", "intersections", "parse_all", "write_string",
]  # fmt: skip

BAD_CHARACTER, CUT_OFF, NEGATIVE, WRONG_SUM = range(1, 5)
MOST_CHARACTERS: Final = 7  # of a number: 33 bits and a sign, five bits each
PADDING: Final = bytes(8)  # behind the last string: no character of any

_FIRST: Final = 48  # the character that stands for 0
_WORD: Final = 8
_STRIP: Final = 64  # columns that are decoded at once
_SAME_BYTES: Final = 0x0101010101010101


@kernel
def encode(block: NDArray[np.uint8], offset: int, state: NDArray[np.int64], ends: NDArray[np.uint32]) -> bool:
    """Append the boundaries of pixels that begin at ``offset``; False, and nothing is kept, if ``ends`` is too small.

    ``state`` holds how many ends there are and the value of the pixel before.
    """
    n, value = state[0], np.uint8(state[1])
    words = block[: block.size // _WORD * _WORD].view(np.uint64)
    for w in range(words.size + 1):
        if w < words.size and words[w] == np.uint64(value) * np.uint64(_SAME_BYTES):
            continue
        if n + _WORD >= ends.size:
            return False
        for i in range(w * _WORD, min(w * _WORD + _WORD, block.size)):
            ends[n] = offset + i
            n += block[i] ^ value
            value = block[i]
    state[0], state[1] = n, value
    return True


@kernel
def decode(ends: NDArray[np.uint32], dense: NDArray[np.uint8]) -> None:
    """Set the foreground in ``dense``, all zeros, shape (height, width); a strip of columns at a time."""
    height, width = dense.shape
    strip = np.zeros((_STRIP, height), np.uint8)
    flat = strip.reshape(-1)
    run = 0
    for left in range(0, width, _STRIP):
        columns = min(_STRIP, width - left)
        first, last = left * height, (left + columns) * height
        flat[:] = 0
        while run < ends.size:
            start = max(np.int64(ends[run - 1]) if run else np.int64(0), np.int64(first))
            stop = min(np.int64(ends[run]), np.int64(last))
            if run % 2:
                flat[start - first : stop - first] = 1
            if ends[run] > last:
                break
            run += 1
        for y in range(height):
            for x in range(columns):
                dense[y, left + x] = strip[x, y]


@kernel
def accumulate(counts: NDArray[np.int64], ends: NDArray[np.uint32]) -> int:
    """Write the ends of checked counts, runs of length 0 inside joined; return how many there are."""
    n = 0
    position = np.int64(0)
    for i in range(counts.size):
        position += counts[i]
        if n > 0 and ends[n - 1] == position:  # no run at all: its two boundaries are none
            n -= 1
        else:
            ends[n] = position
            n += 1
    if n == 0 or ends[n - 1] != position:
        ends[n] = position
        n += 1
    return n


@kernel
def parse_all(
    data: NDArray[np.uint8],
    bounds: NDArray[np.int64],
    n_pixels: NDArray[np.int64],
    ends: NDArray[np.uint32],
    indptr: NDArray[np.int64],
    problem: NDArray[np.int64],
) -> int:
    """Write the ends of each string ``data[bounds[m] : bounds[m + 1]]``, and where they begin; -1 if all is well.

    Otherwise it returns the mask that is wrong, with the kind of ``problem`` and a number that says more. ``data`` has
    ``PADDING`` behind its last string.
    """
    n = 0
    for m in range(n_pixels.size):
        n = _parse(data, bounds[m], bounds[m + 1], n_pixels[m], ends, n, problem)
        if n < 0:
            return m
        indptr[m + 1] = n
    return -1


@kernel
def _parse(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    n_pixels: int,
    ends: NDArray[np.uint32],
    first: int,
    problem: NDArray[np.int64],
) -> int:
    """Write the ends of one string from ``first`` on, and return where they stop; -1 if something is wrong."""
    n = first
    at, run = start, 0
    position = before = last = np.int64(0)  # the counts of the run before the last one, and of the last one
    while at < stop:
        value = np.int64(data[at]) - _FIRST
        if value < 0 or value > 63:
            problem[0], problem[1] = BAD_CHARACTER, at - start
            return -1
        at += 1
        if value & 32:
            shift = 5
            more = True
            value &= 31
            while more:
                if at == stop or shift > 30:
                    problem[0], problem[1] = (CUT_OFF, 0) if at == stop else (WRONG_SUM, 2**35)
                    return -1
                digit = np.int64(data[at]) - _FIRST
                if digit < 0 or digit > 63:
                    problem[0], problem[1] = BAD_CHARACTER, at - start
                    return -1
                value |= (digit & 31) << shift
                more = digit & 32 != 0
                shift += 5
                at += 1
            value = (value << (64 - shift)) >> (64 - shift)
        else:
            value = (value << 59) >> 59
        count = value + (before if run > 2 else 0)
        before, last = last, count
        position += count
        if count <= 0:
            if count < 0:
                problem[0], problem[1] = NEGATIVE, run
                return -1
            if n > first and ends[n - 1] == position:  # no run at all: its two boundaries are none
                n -= 1
                run += 1
                continue
        if position > n_pixels:
            problem[0], problem[1] = WRONG_SUM, position
            return -1
        ends[n] = position
        n += 1
        run += 1
    if position != n_pixels:
        problem[0], problem[1] = WRONG_SUM, position
        return -1
    if n == first or ends[n - 1] != n_pixels:
        ends[n] = n_pixels
        n += 1
    return n


@kernel
def write_string(ends: NDArray[np.uint32], text: NDArray[np.uint8]) -> int:
    """Write COCO's string of a mask's ends; return how many characters it has."""
    n = 0
    before = last = position = np.int64(0)
    for run in range(ends.size):
        count = np.int64(ends[run]) - position
        position += count
        value = count - before if run > 2 else count
        before, last = last, count
        more = True
        while more:
            digit = value & 31
            value >>= 5
            more = value != -1 if digit & 16 else value != 0
            text[n] = digit + (32 if more else 0) + _FIRST
            n += 1
    return n


@kernel
def area(ends: NDArray[np.uint32], start: int, stop: int) -> np.int64:
    """Return the foreground of the mask ``ends[start:stop]``."""
    pixels = np.int64(0)
    for i in range(start + 1, stop, 2):
        pixels += np.int64(ends[i]) - np.int64(ends[i - 1])
    return pixels


@kernel
def bounding_box(ends: NDArray[np.uint32], start: int, stop: int, height: int) -> tuple[Any, Any, Any, Any]:
    """Return left, top, right, bottom of the foreground, right and bottom exclusive; zeros if there is none."""
    if stop - start < 2:
        return 0, 0, 0, 0
    top, bottom = np.int64(height), np.int64(0)
    final = stop - 1 if (stop - start) % 2 == 0 else stop - 2  # the last run of foreground
    left, right = np.int64(ends[start]) // height, (np.int64(ends[final]) - 1) // height + 1
    for i in range(start + 1, stop, 2):
        first, last = np.int64(ends[i - 1]), np.int64(ends[i]) - 1
        if first // height != last // height:
            return left, 0, right, height
        top = min(top, first % height)
        bottom = max(bottom, last % height + 1)
    return left, top, right, bottom


@kernel
def intersections(
    ends: NDArray[np.uint32],
    indptr: NDArray[np.int64],
    other_ends: NDArray[np.uint32],
    other_indptr: NDArray[np.int64],
    height: int,
    result: NDArray[np.int64],
) -> None:
    """Write how many foreground pixels each mask shares with each other mask of the same size."""
    n, m = result.shape
    boxes = np.empty((m, 4), np.int64)
    for j in range(m):
        boxes[j, 0], boxes[j, 1], boxes[j, 2], boxes[j, 3] = bounding_box(
            other_ends, other_indptr[j], other_indptr[j + 1], height
        )
    for i in range(n):
        left, top, right, bottom = bounding_box(ends, indptr[i], indptr[i + 1], height)
        for j in range(m):
            if left < boxes[j, 2] and boxes[j, 0] < right and top < boxes[j, 3] and boxes[j, 1] < bottom:
                result[i, j] = _shared(ends, indptr[i], indptr[i + 1], other_ends, other_indptr[j], other_indptr[j + 1])


@kernel
def _shared(
    ends: NDArray[np.uint32],
    start: int,
    stop: int,
    other_ends: NDArray[np.uint32],
    other_start: int,
    other_stop: int,
) -> np.int64:
    pixels = np.int64(0)
    i, j = start + 1, other_start + 1
    while i < stop and j < other_stop:
        low = max(np.int64(ends[i - 1]), np.int64(other_ends[j - 1]))
        high = min(np.int64(ends[i]), np.int64(other_ends[j]))
        if high > low:
            pixels += high - low
        if ends[i] < other_ends[j]:
            i += 2
        else:
            j += 2
    return pixels
