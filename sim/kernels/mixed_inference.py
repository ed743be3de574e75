"""Standard errors and degrees of freedom of contrasts and joint tests where the climb ended.

Notation of the header of mixed; W is the inverse of an information matrix of the covariance parameters.
Satterthwaite, one contrast c: f = c'Phi c, df_f/dtheta_k = -g'C_k g with g = Phi c, df = 2 f^2 / (grad' W grad).
Joint test of L beta = 0: L Phi L' = P diag(d) P'; F = mean of (P'L beta)_i^2 / d_i over the q positive d_i; each has
  its own df nu_i; ddf = 2 E / (E - q), E = sum nu_i / (nu_i - 2) (Fai, Cornelius 1996; as in lmerTest).
Kenward-Roger: P_k = (C_k)_XX, sum W_kl Q_kl = 1/2 sum W_kl (C_kl without second derivatives of V)_XX;
  Phi_A = Phi + 2 Phi [sum W_kl (Q_kl - P_k Phi P_l - R_kl / 4)] Phi,   R_kl = X'V^-1 (d2V / dtheta_k dtheta_l) V^-1 X,
  R_kl = 0 in the linear version; F and its df as in Kenward and Roger 1997, section 3 (as in pbkrtest).

References: Kenward, Roger 1997, doi:10.2307/2533558; Halekoh, Hojsgaard 2014, doi:10.18637/jss.v059.i09 (pbkrtest);
Kuznetsova et al. 2017, doi:10.18637/jss.v082.i13 (lmerTest).
"""

from typing import NamedTuple

import numpy as np

from sim.kernels.mixed_algebra import add, clear, combine, multiply, scale, sweep, unpack
from sim.kernels.mixed_layout import Bool, Float, Int
from sim.kernels.mixed_likelihood import lane_combine, lane_product, subtract_gram
from sim.kernels.mixed_residual import along_curvature, weighted_bends
from sim.lanes import LANES, compact, everywhere, fma, lane_kernel, load, store

SATTERTHWAITE, SATTERTHWAITE_EXPECTED, BETWEEN_WITHIN, NORMAL = 0, 1, 2, 3
KENWARD_ROGER, KENWARD_ROGER_OBSERVED, KENWARD_ROGER_2 = 4, 5, 6  # all others come before


class Inference(NamedTuple):
    """What inference leaves (the first four), and its workspace; n rows in the largest joint test."""

    W: Float  # (m, m)
    covariance: Float  # (p, p) of the coefficients
    column_df: Float  # (p,) between-within
    out: Float  # (3, Q) estimate, standard error, df
    expected: Float  # (m, m) information
    equation: Float  # (m, m)
    vector: Float  # (2, m)
    order: Int  # (m,)
    free: Bool  # (m,)
    g: Float  # (p,)
    square: Float  # (3, n + 1, n + 1)
    rows: Float  # (2, n, p)
    estimate: Float  # (3, n)
    t: Float  # (m, n, n)
    level: Int  # (p,)
    met: Bool  # (blocks,)


def inference_room(p: int, m: int, Q: int, n: int, n_block: int) -> Inference:
    """Room for p coefficients, m variances, Q contrasts, joint tests of up to n rows."""
    return Inference(
        np.zeros((m, m)),
        np.zeros((p, p)),
        np.zeros(p),
        np.zeros((3, Q)),
        np.zeros((m, m)),
        np.zeros((m, m)),
        np.zeros((2, m)),
        np.zeros(m, np.int64),
        np.zeros(m, np.bool_),
        np.zeros(p),
        np.zeros((3, n + 1, n + 1)),
        np.zeros((2, n, p)),
        np.zeros((3, n)),
        np.zeros((m, n, n)),
        np.zeros(p, np.int64),
        np.zeros(n_block, np.bool_),
    )


@lane_kernel
def inverse_information(information, room):  # type: ignore[no-untyped-def]
    """W = inverse over the free components, zero elsewhere; False if it is not positive definite."""
    compact()
    W, A, scale, index, free = room.W, room.equation, room.vector[0], room.order, room.free
    m, n = free.size, np.int64(0)
    for k in range(m):
        if free[k]:
            if not information[k, k] > 0.0:
                return False
            index[n] = k
            scale[n] = 1.0 / np.sqrt(information[k, k])
            n += 1
    for i in range(n):
        for j in range(n):
            A[i, j] = information[index[i], index[j]] * scale[i] * scale[j]
    if np.isnan(sweep(A, n, n, 1e-12, room.vector[1])):
        return False
    clear(W)
    for i in range(n):
        for j in range(n):
            W[index[i], index[j]] = A[i, j] * scale[i] * scale[j]
    return True


@lane_kernel
def form(x, A, y):  # type: ignore[no-untyped-def]
    """x'A y over the first entries of A."""
    total = 0.0
    for i in range(x.size):
        s = 0.0
        for j in range(y.size):
            s += A[i, j] * y[j]
        total += x[i] * s
    return total


@lane_kernel
def _gradient(g, C_k, gradient):  # type: ignore[no-untyped-def]
    for k in range(gradient.size):
        gradient[k] = -form(g, C_k[k], g)


@lane_kernel
def contrasts(contrast, constant, covariance, a, out):  # type: ignore[no-untyped-def]
    """Estimate and standard error (from `covariance`) of each contrast into the first rows of out (2 or more, Q).

    a = -coefficients; constant (Q,) is added to the estimates: what centring took from them.
    """
    for row in range(contrast.shape[0]):
        estimate = constant[row]
        for i in range(contrast.shape[1]):
            estimate -= contrast[row, i] * a[i]
        out[0, row] = estimate
        out[1, row] = np.sqrt(form(contrast[row], covariance, contrast[row]))


@lane_kernel
def contrast_df(method, contrast, fx, room):  # type: ignore[no-untyped-def]
    """Degrees of freedom of each contrast into the last row of room.out (3, Q)."""
    p, g, gradient = contrast.shape[1], room.g, room.vector[0]
    for row in range(contrast.shape[0]):
        df = np.inf
        if method == BETWEEN_WITHIN:
            df = _least_df(contrast[row : row + 1], room.column_df)
        elif method != NORMAL:
            f = 0.0
            for i in range(p):
                g[i] = 0.0
                for j in range(p):
                    g[i] += fx.inverse[i, j] * contrast[row, j]
                f += contrast[row, i] * g[i]
            _gradient(g, fx.C_k, gradient)
            df = 2.0 * f * f / form(gradient, room.W, gradient)
        room.out[2, row] = df


@lane_kernel
def _least_df(rows, column_df):  # type: ignore[no-untyped-def]
    """Between-within: the least df of the coefficients that the rows use."""
    least = np.inf
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            if rows[i, j] != 0.0:
                least = min(least, column_df[j])
    return least


@lane_kernel
def joint_test(method, L, constant, fx, room):  # type: ignore[no-untyped-def]
    """F, its numerator and denominator df of the test that L (n, p) beta + constant (n,) = 0."""
    compact()
    n, p = L.shape
    LPL, P, phi, W = room.square[0], room.square[1], fx.inverse, room.W
    for i in range(n):
        for j in range(n):
            P[i, j] = 1.0 if i == j else 0.0
            LPL[i, j] = form(L[i], phi, L[j])
    _jacobi(n, LPL, P)
    largest = 0.0
    for i in range(n):
        largest = max(largest, LPL[i, i])
    rows, estimate, d, q = room.rows[0], room.estimate[0], room.estimate[1], 0
    for i in range(n):
        if LPL[i, i] > 1.4901161193847656e-08 * largest:  # lmerTest's tolerance, sqrt(machine epsilon)
            d[q] = LPL[i, i]
            estimate[q] = 0.0
            for j in range(p):
                rows[q, j] = 0.0
            for k in range(n):
                estimate[q] += P[k, i] * constant[k]
                for j in range(p):
                    rows[q, j] += P[k, i] * L[k, j]
            for j in range(p):
                estimate[q] -= rows[q, j] * fx.a[j]
            q += 1
    if q == 0:
        return np.nan, 0.0, np.nan
    rows = rows[:q]
    wald = _wald(rows, estimate, room.covariance, room.square[2], room.estimate[2])
    if method == NORMAL:
        return wald / q, float(q), np.inf
    if method == BETWEEN_WITHIN:
        return wald / q, float(q), _least_df(rows, room.column_df)
    G = room.rows[1, :q]  # rows Phi l_i / sqrt(d_i)
    for i in range(q):
        for j in range(p):
            G[i, j] = 0.0
            for k in range(p):
                G[i, j] += phi[j, k] * rows[i, k] / np.sqrt(d[i])
    if method >= KENWARD_ROGER:
        return _kenward_roger_f(wald, G, W, fx.C_k, room.t)
    gradient, nu = room.vector[0], room.estimate[2, :q]
    for i in range(q):
        _gradient(G[i], fx.C_k, gradient)
        nu[i] = 2.0 / form(gradient, W, gradient)
    return wald / q, float(q), _combined_df(nu)


@lane_kernel
def _combined_df(nu):  # type: ignore[no-untyped-def]
    """Denominator df of a mean of squared t statistics with df nu, as in lmerTest."""
    q = nu.size
    least, largest, total, E = nu[0], nu[0], 0.0, 0.0
    for i in range(q):
        least, largest = min(least, nu[i]), max(largest, nu[i])
        total += nu[i]
        E += nu[i] / (nu[i] - 2.0)
    if largest - least < 1e-8:
        return total / q
    if least <= 2.0:
        return 2.0
    return 2.0 * E / (E - q)


@lane_kernel
def _wald(rows, estimate, covariance, A, diagonal):  # type: ignore[no-untyped-def]
    """(L beta)'(L covariance L')^-1 L beta; A and diagonal are workspace."""
    q = rows.shape[0]
    A[q, q] = 0.0
    for i in range(q):
        for j in range(q):
            A[i, j] = form(rows[i], covariance, rows[j])
        A[i, q] = A[q, i] = estimate[i]
    if np.isnan(sweep(A, q, q + 1, 1e-14, diagonal)):
        return np.nan
    return -A[q, q]


@lane_kernel
def _kenward_roger_f(wald, G, W, C_k, t):  # type: ignore[no-untyped-def]
    """Scaled F of Kenward and Roger 1997, section 3, with the guards of pbkrtest."""
    q, m = G.shape[0], W.shape[0]
    for k in range(m):
        for i in range(q):
            for j in range(q):
                t[k, i, j] = form(G[i], C_k[k], G[j])
    A1 = A2 = 0.0
    for k in range(m):
        for l in range(m):  # noqa: E741
            trace_k = trace_l = both = 0.0
            for i in range(q):
                trace_k += t[k, i, i]
                trace_l += t[l, i, i]
                for j in range(q):
                    both += t[k, i, j] * t[l, j, i]
            A1 += W[k, l] * trace_k * trace_l
            A2 += W[k, l] * both
    B = (A1 + 6.0 * A2) / (2.0 * q)
    g = ((q + 1.0) * A1 - (q + 4.0) * A2) / ((q + 2.0) * A2)
    share = 1.0 / (3.0 * q + 2.0 * (1.0 - g))
    v0, v1, v2 = 1.0 + g * share * B, 1.0 - (q - g) * share * B, 1.0 - (q + 2.0 - g) * share * B
    if abs(v0) < 1e-10:
        v0 = 0.0
    ratio = (1.0 - A2 / q) / v1 if abs(v1) > 1e-14 or abs(1.0 - A2 / q) > 1e-14 else 1.0
    rho = ratio * ratio * v0 / v2 / q
    ddf = 4.0 + (q + 2.0) / (q * rho - 1.0)
    scale = 1.0 if abs(ddf - 2.0) < 1e-2 else ddf * (1.0 - A2 / q) / (ddf - 2.0)
    return scale * wald / q, float(q), ddf


@lane_kernel
def _jacobi(n, A, P):  # type: ignore[no-untyped-def]
    """Eigenvalues of the symmetric A (n, n) on its diagonal; eigenvectors in columns of P, the identity at first."""
    for _ in range(60):
        off = total = 0.0
        for i in range(n):
            total += A[i, i] * A[i, i]
            for j in range(i):
                off += A[i, j] * A[i, j]
        if off <= 1e-32 * total:
            return
        for i in range(1, n):
            for j in range(i):
                if A[i, j] == 0.0:
                    continue
                theta = 0.5 * (A[i, i] - A[j, j]) / A[i, j]
                t = (1.0 if theta >= 0.0 else -1.0) / (abs(theta) + np.sqrt(theta * theta + 1.0))
                c = 1.0 / np.sqrt(t * t + 1.0)
                s = t * c
                for k in range(n):
                    x, y = A[k, j], A[k, i]
                    A[k, j], A[k, i] = c * x - s * y, s * x + c * y
                for k in range(n):
                    x, y = A[j, k], A[i, k]
                    A[j, k], A[i, k] = c * x - s * y, s * x + c * y
                for k in range(n):
                    x, y = P[k, j], P[k, i]
                    P[k, j], P[k, i] = c * x - s * y, s * x + c * y


@lane_kernel
def kenward_roger_covariance(is_second, theta, W, table, lay, st, wk, out):  # type: ignore[no-untyped-def]
    """Phi_A into out (p, p)."""
    compact()
    fx, res = wk.fixed, wk.residual
    p, m = lay.n_column - 1, W.shape[0]
    total, inner, spare = fx.square[1], fx.square[2], fx.square[3]
    n_residual = m - lay.n_term
    weighted_bends(W, table, lay, st, res, res.share)
    _in_basis(res.share, lay, st, wk)
    if lay.lanes > 0:
        _block_bends(W, n_residual, lay, wk)
    unpack(fx.packed, inner)
    scale(0.5, inner)
    if is_second:
        along_curvature(W, theta, table, lay, st, res, res.share)
        _in_basis(res.share, lay, st, wk)  # -sum W_kl R_kl
        unpack(fx.packed, spare)
        add(0.25, spare, inner)
    for k in range(m):
        clear(total)
        for l in range(m):  # noqa: E741
            add(W[k, l], fx.B[l], total)
        multiply(p, fx.C_k[k], total, spare)
        add(-1.0, spare, inner)
    multiply(p, fx.inverse, inner, spare)
    multiply(p, spare, fx.inverse, total)
    for i in range(p):
        for j in range(i + 1):
            out[i, j] = out[j, i] = fx.inverse[i, j] + total[i, j] + total[j, i]


@lane_kernel
def _in_basis(x, lay, st, wk):  # type: ignore[no-untyped-def]
    """Sum of x[b] U_b, packed."""
    compact()
    bk = wk.blocks
    combine(x, st.S, wk.fixed.packed)
    if lay.lanes == 0:
        return
    lane_combine(x, st.N_flat, bk.N_k)
    lane_combine(x, st.M_flat, bk.square)
    lane_product(bk.square, bk.Q, bk.wide)
    for i in range(bk.wide.shape[0]):
        for c in range(bk.wide.shape[1]):
            for z in range(0, bk.wide.shape[2], LANES):
                store(bk.N_k, 2.0 * load(bk.N_k, i, c, z) - load(bk.wide, i, c, z), i, c, z)
    subtract_gram(0.5, bk.Q, bk.N_k, lay, wk.fixed.packed)
    subtract_gram(0.5, bk.N_k, bk.Q, lay, wk.fixed.packed)


@lane_kernel
def _block_bends(W, n_residual, lay, wk):  # type: ignore[no-untyped-def]
    """Add the blocks' own part of sum W_kl C_kl: -2 P_k'D P_l, C_kg, C_gh, packed."""
    bk, start = wk.blocks, lay.term_start
    q, A = bk.M.shape[0], lay.n_active
    for k in range(n_residual):
        for i in range(q):
            for c in range(A):
                for z in range(0, lay.lanes, LANES):
                    x = everywhere(0.0)
                    for l in range(n_residual):  # noqa: E741
                        x = fma(W[k, l] * bk.g[i], load(bk.FP, l, i, c, z), x)
                    store(bk.wide, x, i, c, z)
        subtract_gram(2.0, bk.P[k], bk.wide, lay, wk.fixed.packed)  # symmetric once all k are in
    for term in range(lay.n_term):
        of_term = W[n_residual + term]
        for i in range(start[term], start[term + 1]):
            for c in range(A):
                for z in range(0, lay.lanes, LANES):
                    x = everywhere(0.0)
                    for k in range(n_residual):
                        x = fma(4.0 * of_term[k], load(bk.FP, k, i, c, z), x)
                    for other in range(lay.n_term):
                        w = -2.0 * of_term[n_residual + other]
                        for j in range(start[other], start[other + 1]):
                            x = fma(w * load(bk.T, i, j, z), load(bk.H, j, c, z), x)
                    store(bk.wide, x, i, c, z)
    subtract_gram(0.5, bk.wide, bk.H, lay, wk.fixed.packed)
    subtract_gram(0.5, bk.H, bk.wide, lay, wk.fixed.packed)
