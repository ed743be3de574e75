"""Small dense matrices in lanes, and the last steps of a restricted likelihood, which every model shares.

A matrix is n x n consecutive places, row by row, of a workspace w, float64 (places, LANES).  `at`, a NamedTuple of
places, has for p fixed effects and m variances, with the residuals r = y - X beta,
  inverse (p, p) Phi = (X'V^-1 X)^-1,  beta (p,),  C_k (m, p, p) derivatives of X'V^-1 X,  h (m, p) X'(V^-1)_k r,
  bend (m,) r'(V^-1)_k r,  logdet (m,) derivatives of log|V|,
  logdet2, bend2 (m, m) likewise of second order, lower triangle,  trace2 (m, m) tr(Phi C_kl),
and room in B (m, p, p) and scaled (m, p).
"""

import numpy as np

from sim.lanes import everywhere, fma, lane_kernel, load, store, where


@lane_kernel
def zero(w, at, n):  # type: ignore[no-untyped-def]
    """Zero the n places from `at`."""
    for i in range(n):
        store(w, everywhere(0.0), at + i)


@lane_kernel
def add(w, at, x):  # type: ignore[no-untyped-def]
    """Add x to a place."""
    store(w, load(w, at) + x, at)


@lane_kernel
def dot(w, x, y, n):  # type: ignore[no-untyped-def]
    """x'y of the vectors at places x and y."""
    total = load(w, x) * load(w, y)
    for i in range(1, n):
        total = fma(load(w, x + i), load(w, y + i), total)
    return total


@lane_kernel
def times(w, A, x, out, n):  # type: ignore[no-untyped-def]
    """out = A x."""
    for i in range(n):
        store(w, dot(w, A + i * n, x, n), out + i)


@lane_kernel
def product(w, A, B, out, n):  # type: ignore[no-untyped-def]
    """out = A B."""
    for i in range(n):
        for j in range(n):
            total = load(w, A + i * n) * load(w, B + j)
            for k in range(1, n):
                total = fma(load(w, A + i * n + k), load(w, B + k * n + j), total)
            store(w, total, out + i * n + j)


@lane_kernel
def trace_of_product(w, A, B, n):  # type: ignore[no-untyped-def]
    """tr(A B)."""
    total = everywhere(0.0)
    for i in range(n):
        for j in range(n):
            total = fma(load(w, A + i * n + j), load(w, B + j * n + i), total)
    return total


@lane_kernel
def trace(w, A, n):  # type: ignore[no-untyped-def]
    """tr A."""
    total = load(w, A)
    for i in range(1, n):
        total = total + load(w, A + i * n + i)
    return total


@lane_kernel
def total_of(w, x, n):  # type: ignore[no-untyped-def]
    """Sum of the n places from x."""
    total = load(w, x)
    for i in range(1, n):
        total = total + load(w, x + i)
    return total


@lane_kernel
def sweep(w, A, n, width):  # type: ignore[no-untyped-def]
    """Overwrite the leading n x n of the symmetric A (n, width) by its inverse, further columns by that times them.

    Returns the determinant; NaN in a lane where A is not positive definite.
    """
    determinant = everywhere(1.0)
    for k in range(n):
        pivot = load(w, A + k * width + k)
        determinant = where(pivot > 0.0, determinant * pivot, np.nan)
        share = 1.0 / pivot
        store(w, everywhere(1.0), A + k * width + k)
        for j in range(width):
            store(w, load(w, A + k * width + j) * share, A + k * width + j)
        for i in range(n):
            if i != k:
                x = load(w, A + i * width + k)
                store(w, everywhere(0.0), A + i * width + k)
                for j in range(width):
                    store(w, fma(-x, load(w, A + k * width + j), load(w, A + i * width + j)), A + i * width + j)
    return determinant


@lane_kernel
def score_of(w, at, p, m, score):  # type: ignore[no-untyped-def]
    """-1/2 [log|V|_k + tr(Phi C_k) + bend_k] into score (m, LANES); the lower triangles of C_k are made whole."""
    for k in range(m):
        for i in range(p):
            for j in range(i):
                store(w, load(w, at.C_k + (k * p + i) * p + j), at.C_k + (k * p + j) * p + i)
        slope = load(w, at.logdet + k) + trace_of_product(w, at.inverse, at.C_k + k * p * p, p)
        store(score, -0.5 * (slope + load(w, at.bend + k)), k)


@lane_kernel
def information_of(w, at, p, m, average, observed):  # type: ignore[no-untyped-def]
    """The informations of `mixed`, (m, m, LANES)."""
    for k in range(m):
        B, h = at.B + k * p * p, at.h + k * p
        product(w, at.inverse, at.C_k + k * p * p, B, p)
        times(w, at.inverse, h, at.scaled + k * p, p)
        for other in range(k + 1):
            pair = k * m + other
            along = dot(w, h, at.scaled + other * p, p)
            bend = load(w, at.bend2 + pair)
            bow = load(w, at.logdet2 + pair) + load(w, at.trace2 + pair)
            bow = bow - trace_of_product(w, B, at.B + other * p * p, p)
            seen = fma(0.5, bow + bend, -along)
            mean = fma(0.25, bend, -0.5 * along)
            store(observed, seen, k, other)
            store(observed, seen, other, k)
            store(average, mean, k, other)
            store(average, mean, other, k)


@lane_kernel
def estimate_of(c, w, at, out):  # type: ignore[no-untyped-def]
    """Estimate c'beta and f = c'Phi c into out (2, LANES), and g = Phi c into the first p places of `scaled`."""
    p = c.size
    estimate, f = everywhere(0.0), everywhere(0.0)
    for j in range(p):
        total = everywhere(0.0)
        for k in range(p):
            if c[k] != 0.0:
                total = fma(load(w, at.inverse + j * p + k), c[k], total)
        store(w, total, at.scaled + j)
        if c[j] != 0.0:
            estimate = fma(load(w, at.beta + j), c[j], estimate)
            f = fma(total, c[j], f)
    store(out, estimate, 0)
    store(out, f, 1)


@lane_kernel
def gradient_of(w, at, p, m, gradient):  # type: ignore[no-untyped-def]
    """Derivatives of the estimate, g'h_k, and of f, -g'C_k g, into gradient (2, m, LANES); leaves C_k g in B."""
    g = at.scaled
    for k in range(m):
        times(w, at.C_k + k * p * p, g, at.B + k * p, p)
        store(gradient, dot(w, g, at.h + k * p, p), 0, k)
        store(gradient, -dot(w, g, at.B + k * p, p), 1, k)


@lane_kernel
def curvature_of(w, at, p, m, second, curvature):  # type: ignore[no-untyped-def]
    """g'(C_kl/2 - C_k Phi C_l) g into curvature (m, m, LANES), given g'C_kl g at place `second`; after gradient_of."""
    solved = at.B + m * p
    for k in range(m):
        times(w, at.inverse, at.B + k * p, solved, p)
        for other in range(k + 1):
            x = fma(0.5, load(w, second + k * m + other), -dot(w, at.B + other * p, solved, p))
            store(curvature, x, k, other)
            store(curvature, x, other, k)
