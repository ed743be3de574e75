"""Small dense algebra of the mixed-model kernel."""

from typing import Any

import numpy as np
from numba import njit, types
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from sim.lanes import lane_kernel

# For functions that allocate; all others are lane_kernels.  Without wrappers for calls from Python, which would take
# most of the compilation.
kernel: Any = njit(  # type: ignore[call-overload]
    cache=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
)


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
def sweep(A, n, tolerance, diagonal):  # type: ignore[no-untyped-def]
    """Sweep the first n pivots of the symmetric A in place; log of their product, NaN if one is not positive.

    [A_11 A_12; A_21 a_22] becomes [A_11^-1, A_11^-1 A_12; .., a_22 - A_21 A_11^-1 A_12].  A pivot must exceed tolerance
    x the diagonal element it came from; diagonal (n,) is workspace.
    """
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
        for j in range(A.shape[1]):
            A[k, j] *= share
        for i in range(A.shape[0]):
            if i != k:
                x = A[i, k]
                A[i, k] = 0.0
                for j in range(A.shape[1]):
                    A[i, j] -= x * A[k, j]
    return log_det + np.log(product)


@lane_kernel
def copy(source, target):  # type: ignore[no-untyped-def]
    """target = source, of one size, C order (assignment of a slice could allocate)."""
    a, b = flat(source), flat(target)
    for k in range(b.size):
        b[k] = a[k]


@lane_kernel
def dot(A, B):  # type: ignore[no-untyped-def]
    """Sum of the elementwise product, in eight running sums."""
    a, b = flat(A), flat(B)
    t0 = t1 = t2 = t3 = t4 = t5 = t6 = t7 = 0.0
    n = a.size - a.size % 8
    for i in range(0, n, 8):
        t0 += a[i] * b[i]
        t1 += a[i + 1] * b[i + 1]
        t2 += a[i + 2] * b[i + 2]
        t3 += a[i + 3] * b[i + 3]
        t4 += a[i + 4] * b[i + 4]
        t5 += a[i + 5] * b[i + 5]
        t6 += a[i + 6] * b[i + 6]
        t7 += a[i + 7] * b[i + 7]
    for i in range(n, a.size):
        t0 += a[i] * b[i]
    return ((t0 + t1) + (t2 + t3)) + ((t4 + t5) + (t6 + t7))


@lane_kernel
def combine(x, A, out):  # type: ignore[no-untyped-def]
    """out = sum of x[b] A[b]: A (b, n), out of size n."""
    o = flat(out)
    o[:] = 0.0
    for b in range(x.size):
        if x[b] != 0.0:
            share = x[b]
            a = A[b]
            for i in range(o.size):
                o[i] += share * a[i]


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


@lane_kernel
def total(x):  # type: ignore[no-untyped-def]
    """Sum of a vector."""
    s = 0.0
    for z in range(x.size):
        s += x[z]
    return s
