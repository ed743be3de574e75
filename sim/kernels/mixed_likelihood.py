"""The likelihood and its derivatives at given covariance parameters; notation and formulas in the header of mixed."""

import numpy as np

from sim.kernels.mixed_algebra import combine, copy, dot, pack_twice, sweep, total, unpack
from sim.kernels.mixed_residual import bends, slopes, weigh
from sim.lanes import LANES, fma, inline, lane_kernel, load, store

# ---- products over the blocks, in lanes ------------------------------------------------------------------------------


@lane_kernel
def lane_product(A, B, out):  # type: ignore[no-untyped-def]
    """out = A B in each lane: A (q, n, lanes), B (n, c, lanes), out (q, c, lanes)."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for z in range(0, out.shape[2], LANES):
                x = load(A, i, 0, z) * load(B, 0, j, z)
                for k in range(1, A.shape[1]):
                    x = fma(load(A, i, k, z), load(B, k, j, z), x)
                store(out, x, i, j, z)


@lane_kernel
def lane_vector(A, x, out):  # type: ignore[no-untyped-def]
    """out = A x in each lane: A (q, n, lanes), x (n, lanes), out (q, lanes)."""
    for i in range(out.shape[0]):
        for z in range(0, out.shape[1], LANES):
            y = load(A, i, 0, z) * load(x, 0, z)
            for k in range(1, A.shape[1]):
                y = fma(load(A, i, k, z), load(x, k, z), y)
            store(out, y, i, z)


@lane_kernel
def subtract_gram(factor, lo, hi, A, B, lay, C):  # type: ignore[no-untyped-def]
    """C -= factor/2 (A'B + B'A) summed over lanes, from rows lo to hi of A and B (q, A, lanes)."""
    half = 0.5 * factor
    for run in range(lay.run_start.size - 1):
        first, end = lay.run_start[run], lay.run_start[run + 1]
        for i in range(lay.n_active):
            for j in range(i + 1):
                t0 = t1 = t2 = t3 = 0.0
                for row in range(lo, hi):
                    a_i, a_j, b_i, b_j = A[row, i], A[row, j], B[row, i], B[row, j]
                    z = first
                    while z + 4 <= end:
                        t0 += a_i[z] * b_j[z] + a_j[z] * b_i[z]
                        t1 += a_i[z + 1] * b_j[z + 1] + a_j[z + 1] * b_i[z + 1]
                        t2 += a_i[z + 2] * b_j[z + 2] + a_j[z + 2] * b_i[z + 2]
                        t3 += a_i[z + 3] * b_j[z + 3] + a_j[z + 3] * b_i[z + 3]
                        z += 4
                    while z < end:
                        t0 += a_i[z] * b_j[z] + a_j[z] * b_i[z]
                        z += 1
                x = half * ((t0 + t1) + (t2 + t3))
                c, d = lay.active[i, first], lay.active[j, first]
                C[c, d] -= x
                if c != d:
                    C[d, c] -= x


@inline
def _lane_sweep(A, g, log_det_room):  # type: ignore[no-untyped-def]
    """Invert each lane of A = sign(G) + |G|^1/2 M |G|^1/2 in place; log|I + M G|, NaN if V is not positive definite.

    Rows of positive variances come first; then V is positive definite if and only if each pivot has its row's sign
    (inertia of the Schur complements).
    """
    q, lanes = A.shape[0], A.shape[2]
    log_det = 0.0
    product = log_det_room
    product[:] = 1.0
    for negative in range(2):
        for k in range(q):
            if (g[k] < 0.0) != (negative == 1):
                continue
            pivot = A[k, k]
            sign = -1.0 if negative == 1 else 1.0
            for z in range(lanes):
                if not sign * pivot[z] > 0.0:
                    return np.nan
            for z in range(lanes):
                product[z] *= sign * pivot[z]
            for z in range(lanes):
                if product[z] > 1e100 or product[z] < 1e-100:
                    log_det += np.log(product[z])
                    product[z] = 1.0
            for z in range(lanes):
                pivot[z] = 1.0 / pivot[z]
            for i in range(q):
                if i != k:
                    x = A[i, k]
                    for j in range(q):
                        if j != k:
                            o, row = A[i, j], A[k, j]
                            for z in range(lanes):
                                o[z] -= x[z] * pivot[z] * row[z]
            for i in range(q):
                if i != k:
                    column, row = A[i, k], A[k, i]
                    for z in range(lanes):
                        column[z] *= -pivot[z]
                        row[z] *= pivot[z]
    rest = 1.0
    for z in range(lanes):
        rest *= product[z]
        if not 1e-100 < rest < 1e100:
            log_det += np.log(rest)
            rest = 1.0
    return log_det + np.log(rest)


# ---- the criterion ---------------------------------------------------------------------------------------------------


@lane_kernel
def evaluate(theta, is_reml, table, lay, st, wk):  # type: ignore[no-untyped-def]
    """-2 log likelihood at theta; leaves D, F, H, Q, C, Phi and a in wk.  NaN where it is undefined."""
    p = lay.n_column - 1
    fx, res = wk.fixed, wk.residual
    log_v = weigh(theta, table, lay, st, res)
    if np.isnan(log_v):
        return np.nan
    combine(res.weight, st.S, fx.packed)
    unpack(fx.packed, fx.C)
    if lay.lanes > 0:
        log_v += _woodbury(theta, lay, st, res, fx, wk.blocks)
        if np.isnan(log_v):
            return np.nan
    copy(fx.C, fx.inverse)
    log_c = sweep(fx.inverse, p, 1e-15, fx.a)
    quadratic = fx.inverse[p, p]
    if not quadratic > 1e-15 * fx.C[p, p]:
        return np.nan
    fx.a[p] = 1.0
    for i in range(p):
        fx.a[i] = -fx.inverse[i, p]
        fx.inverse[i, p] = 0.0  # from here on the inverse is Phi, with zeros in place of y
        fx.inverse[p, i] = 0.0
    fx.inverse[p, p] = 0.0
    if is_reml:
        return (st.total[0] - p) * np.log(2.0 * np.pi) + log_v + log_c + quadratic
    return st.total[0] * np.log(2.0 * np.pi) + log_v + quadratic


@inline
def _woodbury(theta, lay, st, res, fx, bk):  # type: ignore[no-untyped-def]
    """D, F, T, H, Q of all blocks; subtracts N'GH from C and returns the sum of log|I + M G|."""
    M, D, F, g = bk.M, bk.D, bk.F, bk.g
    q, lanes = M.shape[0], M.shape[2]
    combine(res.weight, st.M_flat, M)
    combine(res.weight, st.N_flat, bk.N)
    for term in range(lay.n_term):
        g[lay.term_start[term] : lay.term_start[term + 1]] = theta[theta.size - lay.n_term + term]
    for i in range(q):
        for j in range(q):
            x, unit = np.sqrt(abs(g[i] * g[j])), 0.0 if i != j else -1.0 if g[i] < 0.0 else 1.0
            for z in range(0, lanes, LANES):
                store(D, x * load(M, i, j, z) + unit, i, j, z)
    log_det = _lane_sweep(D, g, bk.lane)
    if np.isnan(log_det):
        return np.nan
    for i in range(q):
        for j in range(q):
            x = np.sqrt(abs(g[i] * g[j]))
            for z in range(0, lanes, LANES):
                store(D, x * load(D, i, j, z), i, j, z)
    lane_product(M, D, F)
    for i in range(q):
        for j in range(q):
            x, unit = 1.0 / g[i] if g[i] != 0.0 else 0.0, 1.0 if i == j else 0.0
            for z in range(0, lanes, LANES):  # D = G F; the first form does not cancel
                if x != 0.0:
                    store(F, x * load(D, i, j, z), i, j, z)
                else:
                    store(F, unit - load(F, i, j, z), i, j, z)
    lane_product(F, bk.N, bk.H)
    for i in range(q):
        for c in range(lay.n_active):
            for z in range(0, lanes, LANES):
                store(bk.Q, g[i] * load(bk.H, i, c, z), i, c, z)
    subtract_gram(1.0, 0, q, bk.N, bk.Q, lay, fx.C)
    return log_det


# ---- its derivatives -------------------------------------------------------------------------------------------------


@lane_kernel
def differentiate(theta, is_reml, table, lay, st, wk):  # type: ignore[no-untyped-def]
    """Score, average and observed information, and C_k, at the theta of the last call of evaluate."""
    fx, res, bk = wk.fixed, wk.residual, wk.blocks
    n_residual = table.begin.size
    fx.observed[:] = 0.0
    fx.average[:] = 0.0
    trace = fx.trace  # (log|V|)_k
    trace[:] = 0.0
    if not is_reml:
        phi = fx.square[0]
        phi[:] = 0.0
    else:
        phi = fx.inverse
    slopes(theta, table, lay, st, res)
    if lay.lanes > 0:
        _random_terms(phi, trace, lay, fx, bk)
    for k in range(n_residual):
        trace[k] = res.log_slope[k]
        combine(res.slope[k], st.S, fx.packed)
        unpack(fx.packed, fx.C_k[k])
        if lay.lanes > 0:
            trace[k] += _residual_term(k, lay, st, res, fx, bk)
    _basis(phi, lay, st, res, fx, bk)
    bends(table, lay, st, res, fx.average, fx.observed)
    if lay.lanes > 0:
        _residual_pairs(n_residual, lay, fx, bk)
    _fixed_effects(phi, trace, lay, fx)


@inline
def _fixed_effects(phi, trace, lay, fx):  # type: ignore[no-untyped-def]
    """What the fixed effects add: score, and the parts of the information in Phi C_k and h."""
    p, m = lay.n_column - 1, trace.size
    for k in range(m):
        C_k, h, scaled, B = fx.C_k[k], fx.h[k], fx.h_scaled[k], fx.B[k]
        bend = 0.0
        for i in range(p + 1):
            s = 0.0
            for j in range(p + 1):
                s += C_k[i, j] * fx.a[j]
            if i < p:
                h[i] = s
            bend += fx.a[i] * s
        for i in range(p):
            s = 0.0
            for j in range(p):
                s += fx.inverse[i, j] * h[j]
            scaled[i] = s
            for j in range(p):
                s = 0.0
                for e in range(p):
                    s += phi[i, e] * C_k[j, e]  # C_k is symmetric
                B[i, j] = s
            trace[k] += B[i, i]
        fx.score[k] = -0.5 * (trace[k] + bend)
        for other in range(k + 1):
            bend = dot(h, fx.h_scaled[other])
            both, B_other = 0.0, fx.B[other]
            for i in range(p):
                s = 0.0
                for j in range(p):
                    s += B[i, j] * B_other[j, i]
                both += s
            fx.observed[k, other] -= 0.5 * both + bend
            fx.average[k, other] -= 0.5 * bend
            fx.observed[other, k] = fx.observed[k, other]
            fx.average[other, k] = fx.average[k, other]


@inline
def _random_terms(phi, trace, lay, fx, bk):  # type: ignore[no-untyped-def]
    """Of the random terms: C_g, (log|V|)_g and the blocks' part of the information; leaves T, Y, J, eta."""
    q, lanes = bk.M.shape[0], bk.M.shape[2]
    m, A, start, lane = trace.size, lay.n_active, lay.term_start, bk.lane
    T, J, eta = bk.T, bk.J, bk.eta
    for run in range(lay.run_start.size - 1):
        first, end = lay.run_start[run], lay.run_start[run + 1]
        for i in range(A):
            bk.a[i, first:end] = fx.a[lay.active[i, first]]
            for j in range(A):
                bk.phi[i, j, first:end] = phi[lay.active[i, first], lay.active[j, first]]
    lane_product(bk.F, bk.M, T)  # symmetric
    lane_product(bk.H, bk.phi, bk.Y)
    lane_vector(bk.H, bk.a, eta)
    for i in range(q):
        for k in range(i + 1):
            for z in range(0, lanes, LANES):
                x = load(bk.Y, i, 0, z) * load(bk.H, k, 0, z)
                for c in range(1, A):
                    x = fma(load(bk.Y, i, c, z), load(bk.H, k, c, z), x)
                store(J, x, i, k, z)
                store(J, x, k, i, z)
    for term in range(lay.n_term):
        k = m - lay.n_term + term
        lo, hi = start[term], start[term + 1]
        fx.C_k[k] = 0.0
        subtract_gram(1.0, lo, hi, bk.H, bk.H, lay, fx.C_k[k])
        for i in range(lo, hi):
            trace[k] += total(T[i, i])
        for other in range(term + 1):
            lane[:] = 0.0
            bend = 0.0
            for i in range(lo, hi):
                for j in range(start[other], start[other + 1]):
                    for z in range(lanes):
                        lane[z] += T[i, j, z] * (J[i, j, z] - 0.5 * T[i, j, z])
                    for z in range(lanes):
                        bend += eta[i, z] * T[i, j, z] * eta[j, z]
            fx.observed[k, m - lay.n_term + other] = total(lane) + bend
            fx.average[k, m - lay.n_term + other] = 0.5 * bend


@inline
def _residual_term(k, lay, st, res, fx, bk):  # type: ignore[no-untyped-def]
    """Of one parameter of R: the blocks' part of C_k and of (log|V|)_k (returned), P_k, its information with g."""
    q, A, lanes = bk.M.shape[0], lay.n_active, bk.M.shape[2]
    m, start = fx.score.size, lay.term_start
    N_k, M_k, FM, P, FP = bk.N_k, bk.M_k[k], bk.FM[k], bk.P[k], bk.FP[k]
    combine(res.slope[k], st.N_flat, N_k)
    combine(res.slope[k], st.M_flat, M_k)
    lane_product(M_k, bk.Q, P)
    for i in range(q):
        for c in range(A):
            for z in range(0, lanes, LANES):
                n = load(N_k, i, c, z)
                x = n - load(P, i, c, z)
                store(P, x, i, c, z)
                store(N_k, n + x, i, c, z)
    subtract_gram(1.0, 0, q, bk.Q, N_k, lay, fx.C_k[k])  # N_k'Q + Q'P_k = half of (N_k + P_k)'Q and its transpose
    lane_product(bk.F, P, FP)
    lane_product(bk.F, M_k, FM)
    lane_product(P, bk.phi, bk.PY[k])
    lane_vector(P, bk.a, bk.pi[k])
    lane_vector(FP, bk.a, bk.f_pi[k])
    for term in range(lay.n_term):
        lo, hi = start[term], start[term + 1]
        x = 0.5 * dot(FM[lo:hi], bk.F[lo:hi]) - dot(FP[lo:hi], bk.Y[lo:hi])
        along = dot(bk.f_pi[k, lo:hi], bk.eta[lo:hi])
        fx.observed[m - lay.n_term + term, k] += x - along
        fx.average[m - lay.n_term + term, k] -= 0.5 * along
    return dot(bk.D, M_k)


@inline
def _basis(phi, lay, st, res, fx, bk):  # type: ignore[no-untyped-def]
    """tr(Phi U_b) + tr(D M_b) and a'U_b a of each basis element."""
    aa = fx.square[1]
    for i in range(lay.n_column):
        for j in range(i + 1):
            aa[i, j] = fx.a[i] * fx.a[j]
    pack_twice(phi, fx.phi_twice)
    pack_twice(aa, fx.aa_twice)
    n_b = st.total[2] * lay.n_visit * (lay.n_visit + 1) // 2 if lay.is_general else st.rank.size
    for b in range(n_b):
        res.fixed[b] = res.along[b] = 0.0
        if lay.is_general or st.rank[b] > 0.0:
            res.fixed[b] = dot(fx.phi_twice, st.S[b])
            res.along[b] = dot(fx.aa_twice, st.S[b])
    if lay.lanes == 0:
        return
    q, A, lanes = bk.M.shape[0], lay.n_active, bk.M.shape[2]
    for i in range(q):  # N_b with Q Phi, M_b with Q Phi Q' + D
        twice = -2.0 * bk.g[i]
        for c in range(A):
            for z in range(0, lanes, LANES):
                store(bk.wide, twice * load(bk.Y, i, c, z), i, c, z)
        for j in range(q):
            g = bk.g[i] * bk.g[j]
            for z in range(0, lanes, LANES):
                store(bk.square, fma(g, load(bk.J, i, j, z), load(bk.D, i, j, z)), i, j, z)
    _along_basis(n_b, lay, st, bk, res.fixed)
    for i in range(q):  # N_b with (Q a) a', M_b with (Q a)(Q a)'
        twice = -2.0 * bk.g[i]
        for c in range(A):
            for z in range(0, lanes, LANES):
                store(bk.wide, twice * load(bk.eta, i, z) * load(bk.a, c, z), i, c, z)
        for j in range(q):
            g = bk.g[i] * bk.g[j]
            for z in range(0, lanes, LANES):
                store(bk.square, g * load(bk.eta, i, z) * load(bk.eta, j, z), i, j, z)
    _along_basis(n_b, lay, st, bk, res.along)


@inline
def _along_basis(n_b, lay, st, bk, out):  # type: ignore[no-untyped-def]
    """Add to out the products of bk.wide with N_b and of bk.square with M_b."""
    for b in range(n_b):
        if lay.is_general or st.rank[b] > 0.0:
            out[b] += dot(bk.wide, st.N[b]) + dot(bk.square, st.M[b])


@inline
def _residual_pairs(n_residual, lay, fx, bk):  # type: ignore[no-untyped-def]
    """The blocks' own part of the information of pairs of parameters of R."""
    q, lanes = bk.M.shape[0], bk.M.shape[2]
    for k in range(n_residual):
        for other in range(k + 1):
            trace = bend = 0.0
            for i in range(q):
                trace += bk.g[i] * dot(bk.FP[other, i], bk.PY[k, i])
                bend += bk.g[i] * dot(bk.f_pi[other, i], bk.pi[k, i])
            lane = bk.lane
            lane[:] = 0.0
            for i in range(q):
                for j in range(q):
                    g = 0.5 * bk.g[i] * bk.g[j]
                    for z in range(0, lanes, LANES):
                        x = g * load(bk.FM, k, i, j, z) * load(bk.FM, other, j, i, z)
                        store(lane, load(lane, z) + x, z)
            fx.observed[k, other] -= trace + bend + total(lane)
            fx.average[k, other] -= 0.5 * bend
