"""Numbers that stand side by side: one value for each of LANES replicates, computed by one SIMD instruction stream.

A function compiled by numba and written with the operators and functions below runs on a float64 (one replicate) and on
a value of type `real` (LANES replicates) from the same source, with the same bits in every lane: each operation is an
LLVM vector instruction whose lanes never meet, multiply-adds are fused where `fma` says so and nowhere else, and LLVM
splits the vector to whatever the processor has. Nothing depends on a loop being vectorised by the compiler, which fails
silently.

`real` holds float64, `bits` uint64, `mask` Booleans. Mixed operations spread a scalar over the lanes. Arrays that hold
lanes are float64 (..., LANES) or uint64 (..., LANES), C order, reached by `load` and `store`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, ConcreteTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model
from numpy.typing import NDArray

from sim.compiled import part

LANES = 16
"""Replicates side by side: two AVX-512, four AVX2 or eight NEON registers a value, which hides the latency of each."""

_INDEX = ir.IntType(32)
intrinsic: Any = extending.intrinsic  # as typed by numba, its functions would take the compiler's arguments too


class _Lanes(types.Type):
    """The numba type of one value for each replicate."""

    def __init__(self, name: str, element: ir.Type, scalar: types.Type) -> None:
        super().__init__(name=f"{name} x {LANES}")
        self.vector = ir.VectorType(element, LANES)
        self.scalar = scalar


real = _Lanes("real", ir.DoubleType(), types.float64)
bits = _Lanes("bits", ir.IntType(64), types.uint64)
mask = _Lanes("mask", ir.IntType(1), types.boolean)


@register_model(_Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: _Lanes) -> None:
        super().__init__(dmm, fe_type, fe_type.vector)


def _spread(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """A scalar in every lane; a vector as it is."""
    if isinstance(value.type, ir.VectorType):
        return value
    nothing = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(nothing, value, _INDEX(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES))


# ---- operators -------------------------------------------------------------------------------------------------------


def _define(
    op: Callable[..., Any], kind: _Lanes, instruction: Callable[..., Any], result: _Lanes | None = None
) -> None:
    """Give numba the operator `op` between lanes of `kind`, and between lanes and a scalar."""
    pairs = [(kind, kind), (kind, kind.scalar), (kind.scalar, kind)]

    @infer_global(op)
    class _Template(AbstractTemplate):
        metadata = {"target": "cpu"}  # for this target alone, and so asked before those of lists, arrays and strings

        def generic(self, args: Any, kws: Any) -> Any:
            return signature(result or kind, *args) if args in pairs else None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        del context, sig
        return instruction(builder, *(_spread(builder, value) for value in args))

    for pair in pairs:
        lower_builtin(op, *pair)(lower)


for _op, _name in (("add", "fadd"), ("sub", "fsub"), ("mul", "fmul"), ("truediv", "fdiv")):
    _define(getattr(operator, _op), real, getattr(ir.IRBuilder, _name))
for _op, _name in (("add", "add"), ("mul", "mul"), ("xor", "xor"), ("and_", "and_"), ("or_", "or_")):
    _define(getattr(operator, _op), bits, getattr(ir.IRBuilder, _name))
_define(operator.rshift, bits, ir.IRBuilder.lshr)
_define(operator.lshift, bits, ir.IRBuilder.shl)
_define(operator.gt, real, lambda builder, a, b: builder.fcmp_ordered(">", a, b), mask)
_define(operator.ge, real, lambda builder, a, b: builder.fcmp_ordered(">=", a, b), mask)


@infer_global(operator.neg)
class _Negative(ConcreteTemplate):
    cases = [signature(real, real)]
    metadata = {"target": "cpu"}


@lower_builtin(operator.neg, real)
def _negative(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    del context, sig
    return builder.fneg(args[0])


# ---- memory ----------------------------------------------------------------------------------------------------------


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Pointer to the lanes at the leading indices `index` of a C-ordered array; indices left out are 0."""
    made = context.make_array(array_type)(context, builder, array)
    extent = cgutils.unpack_tuple(builder, made.shape, array_type.ndim)
    position = cgutils.unpack_tuple(builder, index)
    offset = position[0]
    for axis in range(1, array_type.ndim):
        offset = builder.mul(offset, extent[axis])
        if axis < len(position):
            offset = builder.add(offset, position[axis])
    return builder.gep(made.data, [offset])


def _check_order(array: Any) -> None:
    if array.layout != "C":
        raise TypingError(f"lanes are in C-ordered arrays; found layout {array.layout!r}")


def _lanes_in(array: Any) -> _Lanes:
    return real if array.dtype == types.float64 else bits


@intrinsic
def load(typingctx: Any, array: Any, *index: Any) -> Any:
    """The lanes array[index, :]."""
    _check_order(array)
    kind = _lanes_in(array)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], *args)
        value = builder.load(builder.bitcast(address, kind.vector.as_pointer()))
        value.align = 8
        return value

    return kind(array, types.StarArgTuple(index)), code


@intrinsic
def store(typingctx: Any, array: Any, value: Any, *index: Any) -> Any:
    """array[index, :] = value."""
    _check_order(array)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], args[2])
        kept = _spread(builder, args[1])
        builder.store(kept, builder.bitcast(address, kept.type.as_pointer())).align = 8
        return context.get_dummy_value()

    return types.void(array, value, types.StarArgTuple(index)), code


# ---- functions of a float64 or of lanes ------------------------------------------------------------------------------


def _wide(*argument: Any) -> bool:
    return any(isinstance(one, _Lanes) for one in argument)


@intrinsic
def everywhere(typingctx: Any, value: Any) -> Any:
    """A scalar in every lane."""
    kind = real if value == types.float64 else bits
    return kind(value), lambda context, builder, sig, args: _spread(builder, args[0])


@intrinsic
def where(typingctx: Any, condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where the condition holds, else `no`."""
    kind = real if _wide(condition) else types.float64

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = [_spread(builder, value) for value in args[1:]] if _wide(sig.args[0]) else args[1:]
        return builder.select(args[0], *values)

    return kind(condition, yes, no), code


def _call(name: str, n_argument: int) -> Callable[..., Any]:
    """The LLVM intrinsic `name` on float64 or lanes."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        is_wide = _wide(sig.return_type)
        values = [_spread(builder, value) for value in args] if is_wide else args
        kind = values[0].type
        full = f"llvm.{name}.{f'v{LANES}f64' if is_wide else 'f64'}"
        return builder.call(
            cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * n_argument), full), values
        )

    return code


@intrinsic
def sqrt(typingctx: Any, x: Any) -> Any:
    """Square root."""
    return x(x), _call("sqrt", 1)


@intrinsic
def floor(typingctx: Any, x: Any) -> Any:
    """The greatest whole number that is not above x."""
    return x(x), _call("floor", 1)


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c with one rounding."""
    kind = real if _wide(a, b, c) else types.float64
    return kind(a, b, c), _call("fma", 3)


@intrinsic
def across(typingctx: Any, x: Any) -> Any:
    """The sum over the lanes, halves added to halves; a float64 as it is."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, width = args[0], LANES if _wide(x) else 1
        while width > 1:
            width //= 2
            low, high = (
                builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(_INDEX, width), list(which)))
                for which in (range(width), range(width, 2 * width))
            )
            value = builder.fadd(low, high)
        return builder.extract_element(value, _INDEX(0)) if _wide(x) else value

    return types.float64(x), code


@intrinsic
def every(typingctx: Any, condition: Any) -> Any:
    """Whether the condition holds in all lanes."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not _wide(condition):
            return args[0]
        word = ir.IntType(LANES)
        return builder.icmp_unsigned("==", builder.bitcast(args[0], word), word(2**LANES - 1))

    return types.boolean(condition), code


def _cast(to_lanes: _Lanes, instruction: str) -> Any:
    def typed(typingctx: Any, x: Any) -> Any:
        del typingctx
        kind = to_lanes if _wide(x) else to_lanes.scalar

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return getattr(builder, instruction)(args[0], context.get_value_type(sig.return_type))

        return kind(x), code

    return intrinsic(typed)


to_real = _cast(real, "sitofp")
"""uint64 below 2**63 as a number."""
as_bits = _cast(bits, "bitcast")
"""The 64 bits of a float64."""
as_real = _cast(real, "bitcast")
"""The float64 of 64 bits."""


# ---- functions of these ----------------------------------------------------------------------------------------------

lane_kernel = part(_nrt=False, forceinline=False)
"""For functions that allocate nothing: without the counting of references, which costs more than the arithmetic.

Without forceinline=False, one that is first compiled for an `inline` function would be forced into all its callers too.
"""
inline = part(_nrt=False, forceinline=True)
"""A short lane_kernel that becomes part of its caller."""


@inline
def log(x):  # type: ignore[no-untyped-def]
    """Natural logarithm of normal x > 0, within 2 units in the last place; NaN for x <= 0.

    x = 2^e m with m in (sqrt(1/2), sqrt(2)];  log m = 2 artanh s = 2 s (1 + s^2/3 + s^4/5 + ..), s = (m - 1)/(m + 1).
    """
    word = as_bits(x)
    exponent = to_real((word >> np.uint64(52)) & np.uint64(0x7FF)) - 1023.0
    m = as_real((word & np.uint64(0x000FFFFFFFFFFFFF)) | np.uint64(0x3FF0000000000000))
    is_high = m > 1.4142135623730951
    m = where(is_high, m * 0.5, m)
    exponent = where(is_high, exponent + 1.0, exponent)
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    series = fma(z, 1.0 / 21.0, 1.0 / 19.0)
    series = fma(series, z, 1.0 / 17.0)
    series = fma(series, z, 1.0 / 15.0)
    series = fma(series, z, 1.0 / 13.0)
    series = fma(series, z, 1.0 / 11.0)
    series = fma(series, z, 1.0 / 9.0)
    series = fma(series, z, 1.0 / 7.0)
    series = fma(series, z, 1.0 / 5.0)
    series = fma(series, z, 1.0 / 3.0)
    twice = s + s
    return where(x > 0.0, fma(exponent, 0.6931471805599453, fma(twice * z, series, twice)), np.nan)


@inline
def exp(x):  # type: ignore[no-untyped-def]
    """The exponential function for |x| <= 700, within 2 units in the last place.

    e^x = 2^n e^y with n the whole number nearest to x / log 2;  e^y = 1 + y + y^2/2 + .. + y^13/13!.
    """
    whole = fma(x, 1.4426950408889634, 6755399441055744.0)  # 1.5 2^52 leaves n in the last bits
    n = whole - 6755399441055744.0
    y = fma(n, -1.9082149292705877e-10, fma(n, -0.6931471803691238, x))  # log 2 in two parts, n times the first exact
    series = fma(y, 1.0 / 6227020800.0, 1.0 / 479001600.0)
    series = fma(series, y, 1.0 / 39916800.0)
    series = fma(series, y, 1.0 / 3628800.0)
    series = fma(series, y, 1.0 / 362880.0)
    series = fma(series, y, 1.0 / 40320.0)
    series = fma(series, y, 1.0 / 5040.0)
    series = fma(series, y, 1.0 / 720.0)
    series = fma(series, y, 1.0 / 120.0)
    series = fma(series, y, 1.0 / 24.0)
    series = fma(series, y, 1.0 / 6.0)
    series = fma(series, y, 0.5)
    series = fma(series, y, 1.0)
    series = fma(series, y, 1.0)
    return as_real(as_bits(series) + (as_bits(whole) << np.uint64(52)))


@intrinsic
def compact(typingctx: Any) -> Any:
    """Keep the function this stands in one and small: no copies of it in its callers, no longer forms of its loops.

    Most loops of the generic kernels take few turns: code for many is slower then, and takes long to compile.
    """

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.function.attributes.add("noinline")
        builder.function.attributes.add("optsize")
        return context.get_dummy_value()

    return types.void(), code


def new_lanes(n: int) -> NDArray[np.float64]:
    """Zeros (n, LANES) that start at a multiple of 64 bytes, so that no register-wide access crosses a cache line."""
    raw = np.zeros(n * LANES + 8)
    skip = (-raw.ctypes.data % 64) // 8
    return raw[skip : skip + n * LANES].reshape(n, LANES)
