"""Small dense algebra of the mixed-model kernel."""

from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from sim.lanes import compact, lane_kernel


def _flat(typingctx: Any, array: Any) -> Any:
    """A C-ordered array as a vector (reshape would call a function that looks at every axis)."""
    if array.layout != "C":
        raise TypingError(f"{array} is not in C order")
    vector = types.Array(array.dtype, 1, "C")

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        old, new = context.make_array(array)(context, builder, args[0]), context.make_array(vector)(context, builder)
        set_up: Any = populate_array
        set_up(new, old.data, [old.nitems], [old.itemsize], old.itemsize, old.meminfo)
        return new._getvalue()

    return vector(array), code


flat: Any = intrinsic(_flat)


@lane_kernel
def sweep(A, n, size, tolerance, diagonal):  # type: ignore[no-untyped-def]
    """Sweep the first n pivots of the symmetric A (size, size); log of their product, NaN if one is not positive.

    [A_11 A_12; A_21 a_22] becomes [A_11^-1, A_11^-1 A_12; .., a_22 - A_21 A_11^-1 A_12].  A pivot must exceed tolerance
    x the diagonal element it came from; diagonal (n,) is workspace.
    """
    compact()
    log_det = 0.0
    product = 1.0  # of pivots; its logarithm is taken before it leaves the range of numbers
    for i in range(n):
        diagonal[i] = A[i, i]
    for k in range(n):
        pivot = A[k, k]
        if not pivot > tolerance * diagonal[k]:  # also catches NaN
            return np.nan
        product *= pivot
        if not 1e-100 < product < 1e100:
            log_det += np.log(product)
            product = 1.0
        share = 1.0 / pivot
        A[k, k] = 1.0
        for j in range(size):
            A[k, j] *= share
        for i in range(size):
            if i != k:
                x = A[i, k]
                A[i, k] = 0.0
                for j in range(size):
                    A[i, j] -= x * A[k, j]
    return log_det + np.log(product)


@lane_kernel
def copy(source, target):  # type: ignore[no-untyped-def]
    """target = source, of one size, C order (assignment of a slice could allocate)."""
    a, b = flat(source), flat(target)
    for k in range(b.size):
        b[k] = a[k]


@lane_kernel
def fill(x, A):  # type: ignore[no-untyped-def]
    """A = x, C order (assignment to a slice takes long to compile)."""
    a = flat(A)
    for k in range(a.size):
        a[k] = x


@lane_kernel
def clear(A):  # type: ignore[no-untyped-def]
    """A = 0, C order."""
    a = flat(A)
    for k in range(a.size):
        a[k] = 0.0


@lane_kernel
def scale(x, A):  # type: ignore[no-untyped-def]
    """A = x A."""
    a = flat(A)
    for k in range(a.size):
        a[k] *= x


@lane_kernel
def add(x, A, out):  # type: ignore[no-untyped-def]
    """out += x A."""
    a, o = flat(A), flat(out)
    for k in range(o.size):
        o[k] += x * a[k]


@lane_kernel
def multiply(n, A, B, out):  # type: ignore[no-untyped-def]
    """out = A B, of each the leading (n, n)."""
    compact()
    for i in range(n):
        for j in range(n):
            x = 0.0
            for k in range(n):
                x += A[i, k] * B[k, j]
            out[i, j] = x


@lane_kernel
def dot(a, b):  # type: ignore[no-untyped-def]
    """Inner product of two vectors."""
    compact()
    t0 = t1 = 0.0
    for i in range(0, a.size - 1, 2):
        t0 += a[i] * b[i]
        t1 += a[i + 1] * b[i + 1]
    if a.size % 2 == 1:
        t0 += a[a.size - 1] * b[a.size - 1]
    return t0 + t1


@lane_kernel
def combine(x, A, out):  # type: ignore[no-untyped-def]
    """out = sum of x[b] A[b]: A (b, n), out (n,)."""
    compact()
    clear(out)
    for b in range(x.size):
        if x[b] != 0.0:
            share, a = x[b], A[b]
            for i in range(out.size):
                out[i] += share * a[i]


@lane_kernel
def unpack(packed, C):  # type: ignore[no-untyped-def]
    """Symmetric C (r, r) from its lower triangle by rows."""
    at = 0
    for i in range(C.shape[0]):
        for j in range(i + 1):
            C[i, j] = C[j, i] = packed[at]
            at += 1


@lane_kernel
def pack_twice(C, packed):  # type: ignore[no-untyped-def]
    """Lower triangle of C by rows, off-diagonals doubled, so that its dot product with a packed S is tr(C S)."""
    at = 0
    for i in range(C.shape[0]):
        for j in range(i + 1):
            packed[at] = C[i, j] if i == j else 2.0 * C[i, j]
            at += 1
