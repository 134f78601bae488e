"""Eight numbers side by side, as a type that numba's kernels compute with.

Left to itself the compiler vectorises loops of few and unforeseen iterations badly, or not at all. A
:class:`Lanes` is an LLVM vector of fixed length, so that a kernel says itself what happens side by side,
and reads like the same kernel for a single number. LLVM maps the vector to whatever the processor has,
four, eight or sixteen wide; lanes do not mix except in :func:`total`, in an order of its own, so results
depend on no such width.

Operators, ``min``, ``max`` and ``math.sqrt``, ``exp``, ``log``, ``floor`` and ``ceil`` work lane by lane;
a plain number among their operands stands for eight of it, in the lanes' precision. ``min(a, b)`` is b
where either is not a number, and so is ``max``. A comparison gives a mask, for ``&``, ``|`` and ``~``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

LANES = 8


class Lanes(types.Type):  # type: ignore[misc]
    """The type of eight numbers of ``dtype``, or of eight truth values: a mask."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"{LANES}x{dtype}")


_MASK = Lanes(types.boolean)


@register_model(Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        element = manager[lanes.dtype].get_value_type()
        super().__init__(manager, lanes, ir.VectorType(element, LANES))


def _spread(builder: Any, value: Any) -> Any:
    whole = ir.VectorType(value.type, LANES)
    first = builder.insert_element(ir.Constant(whole, ir.Undefined), value, _INDEX(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES))


_INDEX = ir.IntType(32)


@lower_cast(types.Number, Lanes)  # type: ignore[untyped-decorator]
def _from_number(context: Any, builder: Any, given: Any, lanes: Lanes, value: Any) -> Any:
    return _spread(builder, context.cast(builder, value, given, lanes.dtype))


# --- Operators ----------------------------------------------------------------------------------------

Emit = Callable[..., Any]
"""From an LLVM builder and operands to the result."""


def _common(args: tuple[Any, ...]) -> Lanes | None:
    """The lanes' type among operands that fit together: lanes of one type, and numbers."""
    found = {arg for arg in args if isinstance(arg, Lanes)}
    fits = all(isinstance(arg, Lanes | types.Number) for arg in args)
    return found.pop() if fits and len(found) == 1 else None


def _lanewise(function: Any, arity: int, emit: Emit, result: Lanes | None = None) -> None:
    """Teach numba a function of lanes; ``result`` where it is not of the operands' type."""

    class Typing(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: tuple[Any, ...], kws: Any) -> Any:
            lanes = _common(args) if len(args) == arity and not kws else None
            return lanes and signature(result or lanes, *[lanes] * arity)

    infer_global(function)(Typing)

    @lower_builtin(function, *[Lanes] * arity)  # type: ignore[untyped-decorator]
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *args)


def _real(value: Any) -> bool:
    return not isinstance(value.type.element, ir.IntType)


def _arithmetic(name: str) -> Emit:
    def emit(builder: Any, a: Any, b: Any) -> Any:
        return getattr(builder, "f" + name if _real(a) else name)(a, b)

    return emit


def _comparison(symbol: str) -> Emit:
    def emit(builder: Any, a: Any, b: Any) -> Any:
        compare = builder.fcmp_ordered if _real(a) else builder.icmp_signed
        return compare(symbol, a, b)

    return emit


def _choice(symbol: str) -> Emit:
    compare = _comparison(symbol)
    return lambda builder, a, b: builder.select(compare(builder, a, b), a, b)


def _llvm(name: str) -> Emit:
    def emit(builder: Any, x: Any) -> Any:
        bits = 32 if isinstance(x.type.element, ir.FloatType) else 64
        kind = ir.FunctionType(x.type, (x.type,))
        full = f"llvm.{name}.v{LANES}f{bits}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, full), (x,))

    return emit


def _exp(builder: Any, x: Any) -> Any:
    """Taylor's series around the nearest whole power of 2, to the precision of the type.

    For what falls outside of the type's range it gives any number.
    """
    single = isinstance(x.type.element, ir.FloatType)
    fraction, bias, degree = (23, 127, 7) if single else (52, 1023, 13)
    # ln 2 in two parts, the first with so few digits that its product with the power is exact.
    high, low = (355 / 512, -2.12194440054690583e-4) if single else (6.93147180369123816490e-01, 1.90821492927058770002e-10)
    whole = ir.VectorType(ir.IntType(32 if single else 64), LANES)

    def number(value: float) -> Any:
        return ir.Constant(x.type, [value] * LANES)

    def integer(value: int) -> Any:
        return ir.Constant(whole, [value] * LANES)

    # Added to so large a number, what is behind the point is rounded away, and the power's bits come last.
    rounder = number(1.5 * 2.0**fraction)
    raised = builder.fadd(builder.fmul(x, number(_float(single, 1 / math.log(2)))), rounder)
    power = builder.fsub(raised, rounder)
    rest = builder.fsub(x, builder.fmul(power, number(high)))
    rest = builder.fsub(rest, builder.fmul(power, number(_float(single, low))))
    terms = [number(_float(single, 1 / math.factorial(n))) for n in range(degree + 1)]
    while len(terms) > 1:  # neighbours in pairs, not one after the other: half as long to wait for
        pairs = zip(terms[::2], terms[1::2], strict=True)
        terms = [builder.fadd(even, builder.fmul(odd, rest)) for even, odd in pairs]
        rest = builder.fmul(rest, rest)
        if len(terms) > 1 and len(terms) % 2:
            terms.append(number(0))
    shifted = builder.shl(builder.bitcast(raised, whole), integer(fraction))
    scale = builder.bitcast(builder.add(shifted, integer(bias << fraction)), x.type)
    return builder.fmul(terms[0], scale)


def _float(single: bool, value: float) -> float:
    """As LLVM wants constants: exact in the type."""
    return float(np.float32(value)) if single else value


for _name in ("add", "sub", "mul"):
    for _function in (getattr(operator, _name), getattr(operator, "i" + _name)):
        _lanewise(_function, 2, _arithmetic(_name))
_lanewise(operator.truediv, 2, lambda builder, a, b: builder.fdiv(a, b))
_lanewise(operator.neg, 1, lambda builder, a: builder.fneg(a))
for _function, _symbol in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
):
    _lanewise(_function, 2, _comparison(_symbol), _MASK)
_lanewise(operator.and_, 2, lambda builder, a, b: builder.and_(a, b))
_lanewise(operator.or_, 2, lambda builder, a, b: builder.or_(a, b))
_lanewise(operator.invert, 1, lambda builder, a: builder.not_(a))
_lanewise(min, 2, _choice("<"))
_lanewise(max, 2, _choice(">"))
_lanewise(math.exp, 1, _exp)
for _name in ("sqrt", "log", "floor", "ceil"):
    _lanewise(getattr(math, _name), 1, _llvm(_name))


# --- Into lanes and out of them -----------------------------------------------------------------------


def _pointer(context: Any, builder: Any, kind: Any, array: Any, indices: Any) -> Any:
    view = context.make_array(kind)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, kind, view, indices)


@intrinsic  # type: ignore[untyped-decorator]
def spread(context: Any, value: Any) -> Any:
    """A number, in all lanes."""
    return Lanes(value)(value), lambda context, builder, sig, args: _spread(builder, args[0])


@intrinsic  # type: ignore[untyped-decorator]
def ramp(context: Any, like: Any) -> Any:
    """0, 1, 2, … in the type of ``like``, a number or lanes."""
    lanes = like if isinstance(like, Lanes) else Lanes(like)

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(lanes), list(range(LANES)))

    return lanes(like), emit


@intrinsic  # type: ignore[untyped-decorator]
def select(context: Any, mask: Any, a: Any, b: Any) -> Any:
    """a where the mask is true, else b."""
    lanes = _common((a, b))
    if mask != _MASK or lanes is None:
        return None
    return lanes(mask, lanes, lanes), lambda context, builder, sig, args: builder.select(*args)


@intrinsic  # type: ignore[untyped-decorator]
def some(context: Any, mask: Any) -> Any:
    """Whether a mask is true anywhere."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, bits.type(0))

    return types.boolean(_MASK), emit


def _pick(builder: Any, a: Any, b: Any, places: Sequence[int]) -> Any:
    """Lanes a, then b, counted through."""
    mask = ir.Constant(ir.VectorType(_INDEX, len(places)), list(places))
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
            parts = [
                _pick(builder, rest, rest, range(start, start + half)) for start in (0, half)
            ]
            rest = builder.fadd(*parts)
        return builder.extract_element(rest, _INDEX(0))

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
            filled = builder.insert_element(filled, builder.load(pointer), _INDEX(lane))
        return filled

    return lanes(table, types.intp, types.intp, types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def put(context: Any, table: Any, start: Any, end: Any, place: Any, lanes: Any) -> Any:
    """The opposite of :func:`column`: lanes behind ``end`` are dropped."""

    def emit(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = list(enumerate(_rows(builder, *args[1:3])))
        for lane, row in reversed(rows):  # so that what belongs to the last row is written last
            pointer = _pointer(context, builder, table, args[0], [row, args[3]])
            builder.store(builder.extract_element(args[4], _INDEX(lane)), pointer)
        return context.get_dummy_value()

    index = types.intp
    return types.void(table, index, index, index, Lanes(table.dtype)), emit
