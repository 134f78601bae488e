"""Eight numbers side by side, as a type that numba's kernels compute with.

Left to itself the compiler vectorises loops of few and unforeseen iterations badly, or not at all. A
:class:`Lanes` is an LLVM vector of fixed length, so that a kernel says itself what happens side by side,
and reads like the same kernel for a single number. LLVM maps the vector to whatever the processor has,
four, eight or sixteen wide; lanes do not mix but when they are added up, in an order of its own, so results
depend on no such width. :mod:`sage_core.splatting._lane_access` brings numbers into lanes and out.

Operators, ``min``, ``max`` and ``math.sqrt``, ``exp``, ``log``, ``floor`` and ``ceil`` work lane by lane;
a plain number among their operands stands for eight of it, in the lanes' precision. ``min(a, b)`` is b
where either is not a number, and so is ``max``. A comparison gives a mask, for ``&``, ``|`` and ``~``.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import lower_builtin, lower_cast, models, register_model

LANES = 8
INDEX = ir.IntType(32)
"""What LLVM numbers a vector's elements with."""


class Lanes(types.Type):  # type: ignore[misc]
    """The type of eight numbers of ``dtype``, or of eight truth values: a mask."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"{LANES}x{dtype}")


MASK = Lanes(types.boolean)


@register_model(Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        element = manager[lanes.dtype].get_value_type()
        super().__init__(manager, lanes, ir.VectorType(element, LANES))


def fill(builder: Any, value: Any) -> Any:
    """The LLVM vector of eight times a value."""
    empty = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(empty, value, INDEX(0))
    zeros = ir.Constant(ir.VectorType(INDEX, LANES), [0] * LANES)
    return builder.shuffle_vector(first, first, zeros)


@lower_cast(types.Number, Lanes)  # type: ignore[untyped-decorator]
def _from_number(context: Any, builder: Any, given: Any, lanes: Lanes, value: Any) -> Any:
    return fill(builder, context.cast(builder, value, given, lanes.dtype))


Emit = Callable[..., Any]
"""From an LLVM builder and operands to the result."""


def common(args: tuple[Any, ...]) -> Lanes | None:
    """The lanes' type among operands that fit together: lanes of one type, and numbers."""
    found = {arg for arg in args if isinstance(arg, Lanes)}
    fits = all(isinstance(arg, Lanes | types.Number) for arg in args)
    return found.pop() if fits and len(found) == 1 else None


def _lanewise(function: Any, arity: int, emit: Emit, result: Lanes | None = None) -> None:
    """Teach numba a function of lanes; ``result`` where it is not of the operands' type."""

    class Typing(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: tuple[Any, ...], kws: Any) -> Any:
            lanes = common(args) if len(args) == arity and not kws else None
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
    """2^n · e^r with whole n and r as near to 0 as can be, e^r by Taylor's series to the type's precision.

    What is below the type's range counts as its end; above it the result is anything.
    """
    form = _FORMS[x.type.element]

    def number(value: float) -> Any:
        return ir.Constant(x.type, [float(form.dtype(value))] * LANES)

    x = _choice(">")(builder, x, number(form.lowest))
    # To so large a number only whole ones can be added, and they come last among its bits.
    large = number(1.5 * 2.0**form.fraction)
    raised = builder.fadd(builder.fmul(x, number(1 / math.log(2))), large)
    n = builder.fsub(raised, large)
    rest = builder.fsub(x, builder.fmul(n, number(form.log2[0])))
    rest = builder.fsub(rest, builder.fmul(n, number(form.log2[1])))
    series = _polynomial(builder, [number(1 / math.factorial(k)) for k in range(form.terms)], rest)
    bits = ir.VectorType(ir.IntType(8 * form.dtype().itemsize), LANES)
    shift = ir.Constant(bits, [form.fraction] * LANES)
    exponent = builder.shl(builder.bitcast(raised, bits), shift)
    one = builder.bitcast(number(1), bits)
    return builder.fmul(series, builder.bitcast(builder.add(exponent, one), x.type))


def _polynomial(builder: Any, terms: list[Any], x: Any) -> Any:
    """Neighbours in pairs, and pairs of pairs: one term after the other takes twice as long."""
    while len(terms) > 1:
        pairs = zip(terms[::2], terms[1::2], strict=True)
        terms = [builder.fadd(even, builder.fmul(odd, x)) for even, odd in pairs]
        x = builder.fmul(x, x)
    return terms[0]


@dataclass(frozen=True)
class _Form:
    """A type of numbers, as the exponential needs it."""

    dtype: Any
    fraction: int
    """Bits behind the point."""
    lowest: float
    """Where e^x leaves the normal numbers."""
    terms: int
    """Of the series, a power of 2."""
    log2: tuple[float, float]
    """ln 2 in two parts (Cody and Waite), the first so short that its product with n is exact."""


_FORMS = {
    ir.FloatType(): _Form(np.float32, 23, -87.0, 8, (355 / 512, -2.12194440054690583e-4)),
    ir.DoubleType(): _Form(
        np.float64, 52, -708.0, 16, (6.93147180369123816490e-01, 1.90821492927058770002e-10)
    ),
}


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
    _lanewise(_function, 2, _comparison(_symbol), MASK)
_lanewise(operator.and_, 2, lambda builder, a, b: builder.and_(a, b))
_lanewise(operator.or_, 2, lambda builder, a, b: builder.or_(a, b))
_lanewise(operator.invert, 1, lambda builder, a: builder.not_(a))
_lanewise(min, 2, _choice("<"))
_lanewise(max, 2, _choice(">"))
_lanewise(math.exp, 1, _exp)
for _name in ("sqrt", "log", "floor", "ceil"):
    _lanewise(getattr(math, _name), 1, _llvm(_name))
