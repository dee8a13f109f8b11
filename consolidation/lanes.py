"""Short vectors for kernels: a row of K numbers held in registers, with the few operations that kernels need.

numba keeps small arrays in memory and does not write out loops over them; a tuple of K scalars compiles slowly and is
not turned into vector instructions. ``Row`` is a type of its own, made of LLVM vectors: everything here works inside
kernels only. No kernel lives here. What it gains is measured in ``docs/decisions/0003-votes-layout.md``.

A row has ``lanes_for(K)`` lanes, at least K, so that it splits into vectors that machines have. Whatever is beyond K
in memory must be zero. Indices are not checked and never count from the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from llvmlite import ir  # type: ignore[import-untyped] # numba's own code generator, without types
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.errors import TypingError
from numba.extending import intrinsic, register_model

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "add_to", "at_least", "fixed", "lanes_for", "load", "piece_of", "plus", "prefetch", "reals", "scaled", "scaled_at",
    "spread", "store", "times", "total",
]  # fmt: skip

_WIDEST: Final = 8  # 64-bit lanes in one register of AVX-512; LLVM splits it where registers are narrower
_ELEMENTS: Final = {types.float64: ir.DoubleType(), types.int64: ir.IntType(64)}
_BYTES: Final = 8  # of a lane


def lanes_for(size: int) -> int:
    """Return how many lanes hold ``size`` numbers: 2, a multiple of 4 up to 32, or a multiple of 8."""
    if size <= 2:
        return 2
    step = 4 if size <= 32 else _WIDEST
    return -(-size // step) * step


def piece_of(lanes: int) -> int:
    """Return how many lanes of a longer row to work on at a time: a divisor of ``lanes`` that is one vector."""
    return next(width for width in (_WIDEST, 4, 2) if lanes % width == 0)


def _in_kernels(typing: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function of kernels from one that returns its signature and the maker of its code."""
    made: Callable[..., Any] = intrinsic(prefer_literal=True)(typing)
    return made


class Row(types.Type):
    """The compiler's name for ``lanes`` numbers in registers."""

    def __init__(self, element: Any, lanes: int) -> None:
        self.element = element
        self.lanes = lanes
        super().__init__(name=f"Row({element}, {lanes})")


@register_model(Row)
class _RowModel(PrimitiveModel):
    def __init__(self, manager: Any, row: Row) -> None:
        vectors = [ir.VectorType(_ELEMENTS[row.element], width) for width in _widths(row.lanes)]
        super().__init__(manager, row, ir.LiteralStructType(vectors))  # type: ignore[no-untyped-call] # numba's


@_in_kernels
def load(_context: Any, array: Any, _at: Any, lanes: Any) -> Any:
    """Return the row of ``lanes`` (a constant) numbers that begins at ``array.flat[at]`` of a contiguous array."""
    if not isinstance(lanes, types.IntegerLiteral):
        raise TypingError("lanes must be a constant")
    row = Row(array.dtype, lanes.literal_value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places(context, builder, signature, arguments, row)
        return _packed(builder, [builder.load(place, align=_BYTES) for place in places])

    return row(array, types.intp, lanes), generate


@_in_kernels
def store(_context: Any, array: Any, _at: Any, row: Any) -> Any:
    """Write a row to the numbers that begin at ``array.flat[at]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        for place, vector in zip(
            _places(context, builder, signature, arguments, row), _vectors(builder, arguments[2]), strict=True
        ):
            builder.store(vector, place, align=_BYTES)
        return context.get_dummy_value()

    return types.void(array, types.intp, row), generate


@_in_kernels
def add_to(_context: Any, array: Any, _at: Any, row: Any) -> Any:
    """Add a row of whole numbers to those that begin at ``array.flat[at]``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        for place, vector in zip(
            _places(context, builder, signature, arguments, row), _vectors(builder, arguments[2]), strict=True
        ):
            builder.store(builder.add(builder.load(place, align=_BYTES), vector), place, align=_BYTES)
        return context.get_dummy_value()

    return types.void(array, types.intp, row), generate


@_in_kernels
def prefetch(_context: Any, array: Any, _at: Any) -> Any:
    """Ask for the cache line of ``array.flat[at]``, to be written soon; no address is wrong."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        hint = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        writing, all_levels, data_not_code = number(1), number(3), number(1)
        builder.call(hint, [place, writing, all_levels, data_not_code])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@_in_kernels
def spread(_context: Any, number: Any, lanes: Any) -> Any:
    """Return a row with ``number`` in each of ``lanes`` (a constant)."""
    row = Row(number, lanes.literal_value)

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _packed(builder, [_repeated(builder, arguments[0], width) for width in _widths(row.lanes)])

    return row(number, lanes), generate


@_in_kernels
def plus(_context: Any, one: Any, _other: Any) -> Any:
    """Return the sum of two rows, lane by lane."""
    whole = one.element is types.int64
    return one(one, one), _lane_by_lane(lambda builder, a, b: builder.add(a, b) if whole else builder.fadd(a, b))


@_in_kernels
def times(_context: Any, one: Any, _other: Any) -> Any:
    """Return the product of two rows of floats, lane by lane."""
    return one(one, one), _lane_by_lane(lambda builder, a, b: builder.fmul(a, b))


@_in_kernels
def scaled(_context: Any, row: Any, _factor: Any) -> Any:
    """Return a row of floats, each multiplied by ``factor``."""
    return row(row, row.element), _lane_by_lane(lambda builder, a, b: builder.fmul(a, b))


@_in_kernels
def scaled_at(_context: Any, row: Any, lane: Any, _factor: Any) -> Any:
    """Return a row of floats with that of one lane multiplied by ``factor``."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        vectors, start = [], 0
        for vector in _vectors(builder, arguments[0]):
            width = vector.type.count
            kind = ir.VectorType(arguments[1].type, width)
            lanes = ir.Constant(kind, list(range(start, start + width)))
            chosen = builder.icmp_signed("==", lanes, _repeated(builder, arguments[1], width))
            once = ir.Constant(vector.type, [1.0] * width)
            factors = builder.select(chosen, _repeated(builder, arguments[2], width), once)
            vectors.append(builder.fmul(vector, factors))
            start += width
        return _packed(builder, vectors)

    return row(row, lane, row.element), generate


@_in_kernels
def at_least(_context: Any, row: Any, _floor: Any) -> Any:
    """Return a row of floats, each raised to ``floor`` if below."""

    def larger(builder: Any, a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", a, b), a, b)

    return row(row, row.element), _lane_by_lane(larger)


@_in_kernels
def reals(_context: Any, row: Any) -> Any:
    """Return a row of whole numbers as floats."""

    def real(builder: Any, a: Any) -> Any:
        return builder.sitofp(a, ir.VectorType(ir.DoubleType(), a.type.count))

    return Row(types.float64, row.lanes)(row), _lane_by_lane(real)


@_in_kernels
def fixed(_context: Any, row: Any, _magic: Any) -> Any:
    """Return floats from 0 to ``magic``, a power of two, as whole multiples of ``magic * 2**-52``, rounded."""

    def whole(builder: Any, a: Any, magic: Any) -> Any:
        kind = ir.VectorType(ir.IntType(64), a.type.count)
        return builder.sub(builder.bitcast(builder.fadd(a, magic), kind), builder.bitcast(magic, kind))

    return Row(types.int64, row.lanes)(row, row.element), _lane_by_lane(whole)


@_in_kernels
def total(_context: Any, row: Any) -> Any:
    """Return the sum of a row of floats, always in the same order."""

    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        by_width: dict[int, Any] = {}
        for vector in _vectors(builder, arguments[0]):
            width = vector.type.count
            by_width[width] = builder.fadd(by_width[width], vector) if width in by_width else vector
        width = max(by_width)
        while width > 1:  # fold in halves, and take in narrower vectors when their width is reached
            vector, width = by_width[width], width // 2
            folded = builder.fadd(_part(builder, vector, 0, width), _part(builder, vector, width, width))
            by_width[width] = builder.fadd(folded, by_width[width]) if width in by_width else folded
        return builder.extract_element(by_width[1], ir.IntType(32)(0))

    return row.element(row), generate


def _widths(lanes: int) -> list[int]:
    """Return the widths of the vectors that hold so many lanes: powers of two, widest first."""
    widths = [_WIDEST] * (lanes // _WIDEST)
    rest, width = lanes % _WIDEST, _WIDEST // 2
    while rest:
        if rest >= width:
            widths.append(width)
            rest -= width
        width //= 2
    return widths


def _lane_by_lane(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Return the code of an operation on each vector of a row; numbers among the arguments are repeated."""

    def generate(_target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        n_vectors = len(arguments[0].type.elements)
        widths = [vector.count for vector in arguments[0].type.elements]
        columns = [
            _vectors(builder, argument)
            if isinstance(kind, Row)
            else [_repeated(builder, argument, width) for width in widths]
            for kind, argument in zip(signature.args, arguments, strict=True)
        ]
        return _packed(builder, [operation(builder, *(column[i] for column in columns)) for i in range(n_vectors)])

    return generate


def _vectors(builder: Any, row: Any) -> list[Any]:
    return [builder.extract_value(row, i) for i in range(len(row.type.elements))]


def _packed(builder: Any, vectors: list[Any]) -> Any:
    row = ir.Constant(ir.LiteralStructType([vector.type for vector in vectors]), ir.Undefined)
    for i, vector in enumerate(vectors):
        row = builder.insert_value(row, vector, i)
    return row


def _repeated(builder: Any, number: Any, width: int) -> Any:
    kind = ir.VectorType(number.type, width)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(
        first, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
    )


def _part(builder: Any, vector: Any, start: int, width: int) -> Any:
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(start, start + width)))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), lanes)


def _places(context: Any, builder: Any, signature: Any, arguments: Any, row: Row) -> list[Any]:
    """Return the address of each vector of a row that begins at ``array[at]``, the first two arguments."""
    data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
    at, places = arguments[1], []
    for width in _widths(row.lanes):
        kind = ir.VectorType(_ELEMENTS[row.element], width)
        places.append(builder.bitcast(builder.gep(data, [at]), kind.as_pointer()))
        at = builder.add(at, ir.Constant(at.type, width))
    return places
