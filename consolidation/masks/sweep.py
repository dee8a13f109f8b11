"""Walking the run lengths of R masks together, from one boundary to the next, without decoding them.

``advance`` is written out for R in LLVM code: positions, cursors and pattern stay in registers, and nothing branches on
whose boundary comes next, which no processor can guess. Run lengths are their *ends* here (see ``rle.py``): boundaries
in rising order, the last of which is the number of pixels, so that a mask that is through waits there.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from llvmlite import ir  # type: ignore[import-untyped] # numba's own code generator, without types
from numba.core import types
from numba.extending import intrinsic

from voxpop.consolidation.jit import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["merging_kernel", "segment_kernel"]


def _in_kernels(typing: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of kernels from one that returns its signature and the maker of its code."""
    made: Callable[..., Any] = intrinsic(prefer_literal=True)(typing)
    return made


@_in_kernels
def _begin(_context: Any, ends: Any, starts: Any, n_masks: Any) -> Any:
    """Return the state of a walk: of each mask its next boundary, the one after, and where in ``ends`` that stands."""
    R = n_masks.literal_value
    state = types.UniTuple(types.int64, 3 * R)  # type: ignore[no-untyped-call] # numba's

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first = context.make_array(signature.args[1])(context, builder, arguments[1]).data
        read = _reader(context, builder, signature.args[0], arguments[0])
        made = ir.Constant(context.get_value_type(state), ir.Undefined)
        for rater in range(R):
            at = builder.load(builder.gep(first, [ir.IntType(64)(rater)]))
            after = builder.add(at, at.type(1))
            for part, number in enumerate((read(at), read(after), after)):
                made = builder.insert_value(made, number, part * R + rater)
        return made

    return state(ends, starts, n_masks), generate


@_in_kernels
def _nearest(_context: Any, state: Any) -> Any:
    """Return the next boundary of any mask."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        row = [builder.extract_value(arguments[0], rater) for rater in range(state.count // 3)]
        while len(row) > 1:
            pairs = [(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
            odd = row[-1:] if len(row) % 2 else []
            row = [builder.select(builder.icmp_signed("<", a, b), a, b) for a, b in pairs] + odd
        return row[0]

    return types.int64(state), generate


@_in_kernels
def _advance(_context: Any, ends: Any, state: Any, _boundary: Any, _pattern: Any) -> Any:
    """Return the state behind a boundary, and the pattern with the bit of each mask that has it turned over."""
    R = state.count // 3
    pair = types.Tuple([state, types.uint64])  # type: ignore[no-untyped-call] # numba's

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, before, boundary, pattern = arguments
        read = _reader(context, builder, signature.args[0], arguments[0])
        after = before
        for rater in range(R):
            here, following, cursor = (builder.extract_value(before, part * R + rater) for part in range(3))
            turned = builder.icmp_signed("==", here, boundary)
            cursor = builder.add(cursor, builder.zext(turned, cursor.type))
            after = builder.insert_value(after, builder.select(turned, following, here), rater)
            after = builder.insert_value(after, read(cursor), R + rater)
            after = builder.insert_value(after, cursor, 2 * R + rater)
            bit = builder.shl(builder.zext(turned, pattern.type), pattern.type(rater))
            pattern = builder.xor(pattern, bit)
        return context.make_tuple(builder, signature.return_type, [after, pattern])

    return pair(ends, state, types.int64, types.uint64), generate


@_in_kernels
def _bit_count(_context: Any, _pattern: Any) -> Any:
    """Return how many bits are set."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


def _reader(context: Any, builder: Any, kind: Any, array: Any) -> Callable[[Any], Any]:
    data = context.make_array(kind)(context, builder, array).data

    def read(at: Any) -> Any:
        return builder.zext(builder.load(builder.gep(data, [at])), ir.IntType(64))

    return read


@functools.cache
def merging_kernel(n_masks: int) -> Callable[..., int]:
    """Return the kernel that writes the ends of the runs where at least ``needed`` of R masks agree to ``out``.

    ``ends`` has one number behind the last mask's; mask ``r`` begins at ``starts[r]``. ``out`` has room for all
    boundaries of the masks and one more. It returns how many ends were written.
    """

    @kernel
    def merge(
        ends: NDArray[np.uint32], starts: NDArray[np.int64], needed: int, n_pixels: int, out: NDArray[np.uint32]
    ) -> int:
        state = _begin(ends, starts, n_masks)
        pattern = types.uint64(0)
        inside = 0
        n = 0
        while True:
            boundary = _nearest(state)
            if boundary >= n_pixels:
                break
            state, pattern = _advance(ends, state, boundary, pattern)
            enough = 1 if _bit_count(pattern) >= needed else 0
            out[n] = boundary
            n += enough ^ inside
            inside = enough
        out[n] = n_pixels
        return n + 1

    made: Callable[..., int] = merge
    return made


@functools.cache
def segment_kernel(n_masks: int) -> Callable[..., int]:
    """Return the kernel that cuts an image where any of R masks changes: the segments' ends and patterns.

    A pattern has one bit a mask, the first mask's lowest. It returns how many segments there are.
    """

    @kernel
    def segment(
        ends: NDArray[np.uint32],
        starts: NDArray[np.int64],
        n_pixels: int,
        out: NDArray[np.uint32],
        patterns: NDArray[np.uint64],
    ) -> int:
        state = _begin(ends, starts, n_masks)
        pattern = types.uint64(0)
        n = 0
        while True:
            boundary = _nearest(state)
            out[n] = boundary
            patterns[n] = pattern
            n += 1 if boundary > 0 else 0
            if boundary >= n_pixels:
                break
            state, pattern = _advance(ends, state, boundary, pattern)
        return n

    made: Callable[..., int] = segment
    return made
