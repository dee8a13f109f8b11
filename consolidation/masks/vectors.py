"""Sixty-four pixels at a time, for kernels: votes counted by adders of bits, keys of patterns, classes compared.

A loop over raters inside a loop over pixels is neither unrolled nor turned into vector instructions by numba. These
functions write out, for the number of raters R of their first argument, LLVM code on vectors of bytes. Everything here
works inside kernels only; no kernel lives here.

``masks`` is a tuple of R contiguous one-dimensional uint8 arrays. Indices are not checked and never count from the end;
addresses need no alignment. Compiled kernels are kept by the file that they stand in: after a change here, delete
``__pycache__`` of this folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llvmlite import ir  # type: ignore[import-untyped] # numba's own code generator, without types
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "PIXELS",
    "SCRATCH",
    "STEPS",
    "all_same",
    "challenge",
    "changes",
    "fill",
    "key_lanes",
    "keys_of",
    "lowest_bit",
    "vote",
]

PIXELS: Final = 64  # of a step of every function but ``keys_of``
STEPS: Final = 64  # of ``vote`` at a time
_GROUP: Final = 16  # masks that are read at once
_DIGITS: Final = 6  # of a sum of fewer than 64 masks
SCRATCH: Final = PIXELS * _DIGITS * STEPS
_KEY_BYTES: Final = 128  # of a step of ``keys_of``: more would not fit the registers
_BYTES: Final = ir.VectorType(ir.IntType(8), PIXELS)


def key_lanes(key_bytes: int) -> int:
    """Return how many pixels ``keys_of`` takes in one step for keys of so many bytes."""
    return min(PIXELS, _KEY_BYTES // key_bytes)


def _in_kernels(typing: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of kernels from one that returns its signature and the maker of its code."""
    made: Callable[..., Any] = intrinsic(prefer_literal=True)(typing)
    return made


def _constant(number: Any) -> int:
    if not isinstance(number, types.IntegerLiteral):
        raise TypingError(f"found {number}, expected a constant")
    return int(number.literal_value)


@_in_kernels
def vote(_context: Any, masks: Any, _at: Any, _steps: Any, needed: Any, kept: Any, scratch: Any, out: Any) -> Any:
    """Write to ``out``, bit by bit, whether at least ``needed`` of the masks have the bit, from ``at`` on.

    ``needed`` (1..R) and ``kept`` are constants; of each byte only the bits of ``kept`` are written, 1 for masks of a
    byte a pixel and 255 for masks of a bit a pixel. ``steps`` times 64 bytes are voted on, as many as ``STEPS`` at
    most. ``scratch`` has ``SCRATCH`` bytes.

    Sixteen masks are read at a time: images of 2**k bytes, one after the other, meet in the same few sets of a cache,
    and more of them push each other out before they are used (R = 64 of 1 MiB each: twice the time).
    """
    threshold, keep = _constant(needed), _constant(kept)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at, steps = arguments[1], arguments[2]
        written = _step_bytes(context, builder, signature.args[5], arguments[5], steps.type(0))
        target = _step_bytes(context, builder, signature.args[6], arguments[6], at)
        sources = _places(context, builder, signature, arguments)
        for first in range(0, len(sources), _GROUP):
            last = min(first + _GROUP, len(sources))
            with cgutils.for_range(builder, steps) as loop:
                slot = builder.mul(loop.index, ir.Constant(steps.type, _DIGITS))
                places = [builder.gep(written, [builder.add(slot, ir.Constant(steps.type, d))]) for d in range(_DIGITS)]
                columns = [[_loaded(builder, places[d])] for d in range(first.bit_length())]
                rows = [_loaded(builder, builder.gep(source, [loop.index])) for source in sources[first:last]]
                digits = _counted(builder, _with_lowest(columns, rows))
                if last < len(sources):
                    for digit, place in zip(digits, places[: last.bit_length()], strict=False):  # any more are 0
                        builder.store(digit, place, align=1)
                    continue
                chosen = _compared(builder, digits, threshold)
                chosen = chosen if keep == 0xFF else builder.and_(chosen, _splat(_BYTES, keep))
                builder.store(chosen, builder.gep(target, [loop.index]), align=1)
        return context.get_dummy_value()

    return types.void(masks, types.intp, types.intp, needed, kept, scratch, out), generate


@_in_kernels
def keys_of(_context: Any, masks: Any, _at: Any, bits: Any, keys: Any, _to: Any, _stride: Any) -> Any:
    """Write the patterns of the pixels that begin at ``at`` to ``keys[to:]``, as many as ``key_lanes`` says.

    A pattern is a number with ``bits`` (a constant) binary digits a mask, the first mask's lowest. Masks for which it
    has no room make a second number, ``stride`` entries further, and so on.
    """
    width, digits = keys.dtype.bitwidth, _constant(bits)
    lanes, room = key_lanes(width // 8), width // digits
    few, wide = ir.VectorType(ir.IntType(8), lanes), ir.VectorType(ir.IntType(width), lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places, to = _places(context, builder, signature, arguments), arguments[4]
        for first in range(0, len(places), room):
            pattern = ir.Constant(wide, None)
            for rater, place in enumerate(places[first : first + room]):
                labels = builder.load(builder.bitcast(place, few.as_pointer()), align=1)
                labels = builder.zext(labels, wide) if width > 8 else labels
                pattern = builder.or_(pattern, builder.shl(labels, _splat(wide, rater * digits)))
            builder.store(pattern, _place(context, builder, signature.args[3], arguments[3], to, wide), align=1)
            to = builder.add(to, arguments[5])
        return context.get_dummy_value()

    return types.void(masks, types.intp, bits, keys, types.intp, types.intp), generate


@_in_kernels
def changes(_context: Any, keys: Any, _at: Any) -> Any:
    """Return a bit for each of ``keys[at : at + 64]``, the first one's lowest: whether it differs from the one before.

    The first bit is always set. There is a key before ``at``.
    """
    row = ir.VectorType(ir.IntType(keys.dtype.bitwidth), PIXELS)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        at = arguments[1]
        here, before = (
            builder.load(_place(context, builder, signature.args[0], arguments[0], where, row), align=1)
            for where in (at, builder.sub(at, at.type(1)))
        )
        bits = builder.bitcast(builder.icmp_unsigned("!=", here, before), ir.IntType(PIXELS))
        return builder.or_(bits, bits.type(1))

    return types.uint64(keys, types.intp), generate


@_in_kernels
def lowest_bit(_context: Any, _bits: Any) -> Any:
    """Return the place of the lowest bit that is set, 64 if none is."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.IntType(1)(0))

    return types.uint64(types.uint64), generate


@_in_kernels
def fill(_context: Any, out: Any, _at: Any, _number: Any) -> Any:
    """Write a number to ``out[at : at + 64]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, at, number = arguments
        repeated = _repeated(builder, number)
        target = _place(context, builder, signature.args[0], arguments[0], at, repeated.type)
        builder.store(repeated, target, align=1)
        return context.get_dummy_value()

    return types.void(out, types.intp, out.dtype), generate


@_in_kernels
def all_same(_context: Any, masks: Any, _at: Any) -> Any:
    """Return whether all masks say the same of the 64 pixels that begin at ``at``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, *others = [_loaded(builder, place) for place in _places(context, builder, signature, arguments)]
        differences = ir.Constant(_BYTES, None)
        for other in others:
            differences = builder.or_(differences, builder.xor(first, other))
        return builder.not_(_any(builder, builder.icmp_unsigned("!=", differences, ir.Constant(_BYTES, None))))

    return types.boolean(masks, types.intp), generate


@_in_kernels
def challenge(_context: Any, masks: Any, _at: Any, _label: Any, best: Any, out: Any, tied: Any) -> Any:
    """Count the masks that say ``label`` at each of 64 pixels, and let it win where they are more than ``best``.

    Where it wins, its count goes to ``best[:64]``, the label to ``out[at : at + 64]`` and 0 to ``tied[:64]``; where
    just as many say it, 1 goes to ``tied``.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, at, number, *targets = arguments
        kinds = signature.args[3:]
        places = [
            _place(context, builder, kind, target, where, _BYTES)
            for kind, target, where in zip(kinds, targets, (at.type(0), at, at.type(0)), strict=True)
        ]
        held, label_out, tie = (builder.load(place, align=1) for place in places)
        named = _repeated(builder, builder.trunc(number, ir.IntType(8)))
        count = ir.Constant(_BYTES, None)
        for place in _places(context, builder, signature, arguments):
            said = builder.icmp_unsigned("==", _loaded(builder, place), named)
            count = builder.sub(count, builder.sext(said, _BYTES))
        more = builder.icmp_unsigned(">", count, held)
        same = builder.icmp_unsigned("==", count, held)
        builder.store(builder.select(more, count, held), places[0], align=1)
        builder.store(builder.select(more, named, label_out), places[1], align=1)
        tie = builder.select(more, ir.Constant(_BYTES, None), tie)
        builder.store(builder.select(same, _splat(_BYTES, 1), tie), places[2], align=1)
        return context.get_dummy_value()

    return types.void(masks, types.intp, types.intp, best, out, tied), generate


def _with_lowest(columns: list[list[Any]], rows: list[Any]) -> list[list[Any]]:
    """Return columns of binary digits with ``rows`` among the lowest."""
    lowest, *higher = columns or [[]]
    return [[*lowest, *rows], *higher]


def _counted(builder: Any, columns: list[list[Any]]) -> list[Any]:
    """Return the binary digits of a sum, lowest first: full adders in each column until one row a digit is left."""
    digits: list[Any] = []
    while columns:
        (column, *columns), carries = columns, []
        while len(column) > 1:
            a, b, *rest = column
            half = builder.xor(a, b)
            if rest:
                c, *rest = rest
                carries.append(builder.or_(builder.and_(a, b), builder.and_(half, c)))
                half = builder.xor(half, c)
            else:
                carries.append(builder.and_(a, b))
            column = [*rest, half]
        digits.append(column[0])
        if carries:
            columns = _with_lowest(columns, carries)
    return digits


def _compared(builder: Any, digits: list[Any], needed: int) -> Any:
    """Return the bits in which the number that ``digits`` make is at least ``needed``."""
    enough = _splat(_BYTES, 0xFF)
    for place, digit in enumerate(digits):
        enough = builder.and_(digit, enough) if needed >> place & 1 else builder.or_(digit, enough)
    return enough


def _places(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """Return the address of each mask at the index, the first two arguments."""
    masks, at = arguments[0], arguments[1]
    return [
        _place(context, builder, signature.args[0].dtype, builder.extract_value(masks, rater), at, _BYTES)
        for rater in range(signature.args[0].count)
    ]


def _step_bytes(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return _place(context, builder, kind, array, at, _BYTES)


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any, vector: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def _loaded(builder: Any, place: Any) -> Any:
    return builder.load(place, align=1)


def _any(builder: Any, flags: Any) -> Any:
    mask = builder.bitcast(flags, ir.IntType(PIXELS))
    return builder.icmp_unsigned("!=", mask, mask.type(0))


def _splat(kind: Any, number: int) -> Any:
    return ir.Constant(kind, [number] * kind.count)


def _repeated(builder: Any, number: Any) -> Any:
    undefined = ir.Constant(ir.VectorType(number.type, PIXELS), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.IntType(32)(0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), PIXELS), [0] * PIXELS)
    return builder.shuffle_vector(first, undefined, lanes)
