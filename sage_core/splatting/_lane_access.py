"""Numbers into lanes and out of them, and what mixes lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sage_core.splatting._lanes import INDEX, LANES, MASK, Lanes, common, fill


def _pointer(context: Any, builder: Any, kind: Any, array: Any, indices: Any) -> Any:
    view = context.make_array(kind)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, kind, view, indices)


@intrinsic  # type: ignore[untyped-decorator]
def spread(context: Any, value: Any) -> Any:
    """A number, in all lanes."""
    return Lanes(value)(value), lambda context, builder, sig, args: fill(builder, args[0])


@intrinsic  # type: ignore[untyped-decorator]
def select(context: Any, mask: Any, a: Any, b: Any) -> Any:
    """A where the mask is true, else b."""
    lanes = common((a, b))
    if mask != MASK or lanes is None:
        return None
    return lanes(mask, lanes, lanes), lambda context, builder, sig, args: builder.select(*args)


@intrinsic  # type: ignore[untyped-decorator]
def some(context: Any, mask: Any) -> Any:
    """Whether a mask is true anywhere."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, bits.type(0))

    return types.boolean(MASK), emit


def _pick(builder: Any, a: Any, b: Any, places: Sequence[int]) -> Any:
    """Lanes a, then b, counted through."""
    mask = ir.Constant(ir.VectorType(INDEX, len(places)), list(places))
    return builder.shuffle_vector(a, b, mask)


@intrinsic  # type: ignore[untyped-decorator]
def first_bit(context: Any, bits: Any) -> Any:
    """Place of the lowest bit that is set in a whole number; the number of its bits in 0."""
    return bits(bits), lambda context, builder, sig, args: builder.cttz(args[0], cgutils.false_bit)


@intrinsic  # type: ignore[untyped-decorator]
def total(context: Any, lanes: Any) -> Any:
    """The lanes' sum: first of those four apart, then two, then one."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (rest,) = args
        for half in (4, 2, 1):
            parts = [_pick(builder, rest, rest, range(start, start + half)) for start in (0, half)]
            rest = builder.fadd(*parts)
        return builder.extract_element(rest, INDEX(0))

    return lanes.dtype(lanes), emit


@intrinsic  # type: ignore[untyped-decorator]
def totals(context: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """The sums of eight lanes, as lanes: three rounds of adding neighbours for all eight together."""
    rounds = (
        ((0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15)),
        ((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15)),
        ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)),
    )

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rest = list(args)
        for picks in rounds:
            rest = [
                builder.fadd(*(_pick(builder, one, other, pick) for pick in picks))
                for one, other in zip(rest[::2], rest[1::2], strict=True)
            ]
        return rest[0]

    return a(*[a] * 8), emit


@intrinsic  # type: ignore[untyped-decorator]
def whole(context: Any, lanes: Any) -> Any:
    """As int32, towards 0; anything where it does not fit."""
    result = Lanes(types.int32)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fptosi(args[0], context.get_value_type(result))

    return result(lanes), emit


@intrinsic  # type: ignore[untyped-decorator]
def load(context: Any, row: Any, start: Any) -> Any:
    """Lanes from eight neighbours of a contiguous row [n]; nothing checks that they are there."""
    lanes = Lanes(row.dtype)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, row, args[0], [args[1]])
        vector = context.get_value_type(lanes)
        size = context.get_abi_sizeof(vector.element)
        return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=size)

    return lanes(row, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def store(context: Any, row: Any, start: Any, lanes: Any) -> Any:
    """The opposite of :func:`load`."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, row, args[0], [args[1]])
        vector = context.get_value_type(Lanes(row.dtype))
        size = context.get_abi_sizeof(vector.element)
        builder.store(args[2], builder.bitcast(pointer, vector.as_pointer()), align=size)
        return context.get_dummy_value()

    return types.void(row, types.intp, Lanes(row.dtype)), emit


def _rows(builder: Any, start: Any, end: Any) -> list[Any]:
    """Eight rows from ``start`` on, the last one again and again where they end before."""
    final = builder.sub(end, end.type(1))
    rows = [builder.add(start, start.type(lane)) for lane in range(LANES)]
    return [builder.select(builder.icmp_signed("<", row, final), row, final) for row in rows]


@intrinsic  # type: ignore[untyped-decorator]
def column(context: Any, table: Any, start: Any, end: Any, place: Any) -> Any:
    """One column of eight rows of a table [n, m] from ``start`` on; behind ``end`` stands the last before."""
    lanes = Lanes(table.dtype)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        whole = context.get_value_type(lanes)
        filled = ir.Constant(whole, ir.Undefined)
        for lane, row in enumerate(_rows(builder, *args[1:3])):
            pointer = _pointer(context, builder, table, args[0], [row, args[3]])
            filled = builder.insert_element(filled, builder.load(pointer), INDEX(lane))
        return filled

    return lanes(table, types.intp, types.intp, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def put(context: Any, table: Any, start: Any, end: Any, place: Any, lanes: Any) -> Any:
    """The opposite of :func:`column`: lanes behind ``end`` are dropped."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = list(enumerate(_rows(builder, *args[1:3])))
        for lane, row in reversed(rows):  # so that what belongs to the last row is written last
            pointer = _pointer(context, builder, table, args[0], [row, args[3]])
            builder.store(builder.extract_element(args[4], INDEX(lane)), pointer)
        return context.get_dummy_value()

    index = types.intp
    return types.void(table, index, index, index, Lanes(table.dtype)), emit
