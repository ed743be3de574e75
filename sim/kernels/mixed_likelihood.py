"""The likelihood and its derivatives at given covariance parameters; notation and formulas in the header of mixed."""

import numpy as np

from sim.kernels.mixed_algebra import clear, combine, copy, dot, flat, multiply, pack_twice, sweep, unpack
from sim.kernels.mixed_residual import bends, slopes, weigh
from sim.lanes import LANES, across, compact, every, everywhere, fma, lane_kernel, load, log, store

# ---- products over the blocks, in lanes ------------------------------------------------------------------------------


@lane_kernel
def lane_combine(x, A, out):  # type: ignore[no-untyped-def]
    """out = sum of x[b] A[b] in each lane: A (b, n), out of size n."""
    compact()
    o = flat(out)
    for z in range(0, o.size, LANES):
        total = everywhere(0.0)
        for b in range(x.size):
            if x[b] != 0.0:
                total = fma(x[b], load(A, b, z), total)
        store(o, total, z)


@lane_kernel
def lane_dot(A, B):  # type: ignore[no-untyped-def]
    """Sum over everything of the elementwise product of A and B (rows, n, lanes)."""
    compact()
    a, b, total = flat(A), flat(B), everywhere(0.0)
    for z in range(0, a.size, LANES):
        total = fma(load(a, z), load(b, z), total)
    return across(total)


@lane_kernel
def lane_product(A, B, out):  # type: ignore[no-untyped-def]
    """out = A B in each lane: A (q, n, lanes), B (n, c, lanes), out (q, c, lanes)."""
    compact()
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for z in range(0, out.shape[2], LANES):
                x = everywhere(0.0)
                for k in range(A.shape[1]):
                    x = fma(load(A, i, k, z), load(B, k, j, z), x)
                store(out, x, i, j, z)


@lane_kernel
def _times_shared(A, B, out):  # type: ignore[no-untyped-def]
    """out = A B in each lane, B the same in all of a pack: A (q, n, lanes), B (n, c, packs), out (q, c, lanes)."""
    compact()
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for pack in range(B.shape[2]):
                x = everywhere(0.0)
                for k in range(A.shape[1]):
                    x = fma(load(A, i, k, pack * LANES), B[k, j, pack], x)
                store(out, x, i, j, pack * LANES)


@lane_kernel
def subtract_gram(factor, A, B, lay, packed):  # type: ignore[no-untyped-def]
    """C -= factor A'B summed over lanes, its lower triangle: A and B (q, A, lanes), C packed.

    Where A'B is not symmetric, its symmetric part takes two calls: half of A'B and half of B'A.
    """
    compact()
    for run in range(lay.run_start.size - 1):
        first, end, at = LANES * lay.run_start[run], LANES * lay.run_start[run + 1], 0
        for i in range(lay.n_active):
            for j in range(i + 1):
                total = everywhere(0.0)
                for row in range(A.shape[0]):
                    for z in range(first, end, LANES):
                        total = fma(load(A, row, i, z), load(B, row, j, z), total)
                packed[lay.pair[at, run]] -= factor * across(total)
                at += 1


@lane_kernel
def _lane_sweep(A, g):  # type: ignore[no-untyped-def]
    """Invert each lane of A = sign(G) + |G|^1/2 M |G|^1/2 in place; log|I + M G|, NaN if V is not positive definite.

    Rows of positive variances come first; then V is positive definite if and only if each pivot has its row's sign
    (inertia of the Schur complements).
    """
    q, log_det = A.shape[0], everywhere(0.0)
    for z in range(0, A.shape[2], LANES):
        product = everywhere(1.0)  # of pivots, few enough to stay in the range of numbers
        for turn in range(2 * q):
            k, sign = turn % q, 1.0 if turn < q else -1.0
            if (g[k] < 0.0) == (sign < 0.0):
                pivot = load(A, k, k, z)
                if not every(sign * pivot > 0.0):
                    return np.nan
                product = product * (sign * pivot)
                if k % 8 == 7:
                    log_det, product = log_det + log(product), everywhere(1.0)
                share = 1.0 / pivot
                store(A, share, k, k, z)
                for i in range(q):
                    if i != k:
                        x = -load(A, i, k, z) * share
                        for j in range(q):
                            if j != k:
                                store(A, fma(x, load(A, k, j, z), load(A, i, j, z)), i, j, z)
                        store(A, x, i, k, z)
                for j in range(q):
                    if j != k:
                        store(A, load(A, k, j, z) * share, k, j, z)
        log_det = log_det + log(product)
    return across(log_det)


# ---- the criterion ---------------------------------------------------------------------------------------------------


@lane_kernel
def evaluate(theta, is_reml, table, lay, st, wk):  # type: ignore[no-untyped-def]
    """-2 log likelihood at theta; leaves D, F, H, Q, C, Phi and a in wk.  NaN where it is undefined."""
    compact()
    p = lay.n_column - 1
    fx, res = wk.fixed, wk.residual
    log_v = weigh(theta, table, lay, st, res)
    if np.isnan(log_v):
        return np.nan
    combine(res.weight, st.S, fx.packed)
    if lay.lanes > 0:
        log_v += _woodbury(theta, lay, st, res, fx, wk.blocks)
        if np.isnan(log_v):
            return np.nan
    unpack(fx.packed, fx.C)
    copy(fx.C, fx.inverse)
    log_c = sweep(fx.inverse, p, p + 1, 1e-15, fx.a)
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


@lane_kernel
def _woodbury(theta, lay, st, res, fx, bk):  # type: ignore[no-untyped-def]
    """D, F, T, H, Q of all blocks; subtracts N'GH from C and returns the sum of log|I + M G|."""
    M, D, F, g = bk.M, bk.D, bk.F, bk.g
    q, lanes = M.shape[0], M.shape[2]
    lane_combine(res.weight, st.M_flat, M)
    lane_combine(res.weight, st.N_flat, bk.N)
    for term in range(lay.n_term):
        for i in range(lay.term_start[term], lay.term_start[term + 1]):
            g[i] = theta[theta.size - lay.n_term + term]
    for i in range(q):
        for j in range(q):
            x, unit = np.sqrt(abs(g[i] * g[j])), 0.0 if i != j else -1.0 if g[i] < 0.0 else 1.0
            for z in range(0, lanes, LANES):
                store(D, x * load(M, i, j, z) + unit, i, j, z)
    log_det = _lane_sweep(D, g)
    if np.isnan(log_det):
        return np.nan
    for i in range(q):
        for j in range(q):
            x = np.sqrt(abs(g[i] * g[j]))
            for z in range(0, lanes, LANES):
                store(D, x * load(D, i, j, z), i, j, z)
    for i in range(q):
        x, unit = 1.0 / g[i] if g[i] != 0.0 else 0.0, everywhere(1.0)
        for j in range(q):
            for z in range(0, lanes, LANES):  # D = G F; the first form does not cancel
                if x != 0.0:
                    store(F, x * load(D, i, j, z), i, j, z)
                else:
                    rest = unit if i == j else everywhere(0.0)
                    for k in range(q):
                        rest = rest - load(M, i, k, z) * load(D, k, j, z)
                    store(F, rest, i, j, z)
    lane_product(F, bk.N, bk.H)
    for i in range(q):
        for c in range(lay.n_active):
            for z in range(0, lanes, LANES):
                store(bk.Q, g[i] * load(bk.H, i, c, z), i, c, z)
    subtract_gram(1.0, bk.N, bk.Q, lay, fx.packed)
    return log_det


# ---- its derivatives -------------------------------------------------------------------------------------------------


@lane_kernel
def differentiate(theta, is_reml, table, lay, st, wk):  # type: ignore[no-untyped-def]
    """Score, average and observed information, and C_k, at the theta of the last call of evaluate."""
    compact()
    fx, res, bk = wk.fixed, wk.residual, wk.blocks
    n_residual = table.begin.size
    trace = fx.trace  # (log|V|)_k
    clear(fx.observed)
    clear(fx.average)
    clear(trace)
    phi = fx.inverse if is_reml else fx.square[0]
    if not is_reml:
        clear(phi)
    slopes(theta, table, lay, st, res)
    if lay.lanes > 0:
        _random_terms(phi, trace, lay, fx, bk)
    for k in range(n_residual):
        trace[k] = res.log_slope[k]
        combine(res.slope[k], st.S, fx.packed)
        if lay.lanes > 0:
            trace[k] += _residual_term(k, theta, lay, st, res, fx, bk)
        unpack(fx.packed, fx.C_k[k])
    _basis(phi, lay, st, res, fx, bk)
    bends(table, lay, st, res, fx.average, fx.observed)
    if lay.lanes > 0:
        _residual_pairs(n_residual, lay, fx, bk)
    _fixed_effects(phi, trace, lay, fx)


@lane_kernel
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
        multiply(p, phi, C_k, B)
        for i in range(p):
            s = 0.0
            for j in range(p):
                s += fx.inverse[i, j] * h[j]
            scaled[i] = s
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


@lane_kernel
def _random_terms(phi, trace, lay, fx, bk):  # type: ignore[no-untyped-def]
    """Of the random terms: C_g, (log|V|)_g and the blocks' part of the information; leaves T, Y, J, eta."""
    q, lanes = bk.M.shape[0], bk.M.shape[2]
    m, A, start = trace.size, lay.n_active, lay.term_start
    T, J, eta = bk.T, bk.J, bk.eta
    for pack in range(lay.active.shape[1]):
        for i in range(A):
            bk.a[i, 0, pack] = fx.a[lay.active[i, pack]]
            for j in range(A):
                bk.phi[i, j, pack] = phi[lay.active[i, pack], lay.active[j, pack]]
    lane_product(bk.F, bk.M, T)  # symmetric
    _times_shared(bk.H, bk.phi, bk.Y)
    _times_shared(bk.H, bk.a, eta)
    for i in range(q):
        for k in range(i + 1):
            for z in range(0, lanes, LANES):
                x = everywhere(0.0)
                for c in range(A):
                    x = fma(load(bk.Y, i, c, z), load(bk.H, k, c, z), x)
                store(J, x, i, k, z)
                store(J, x, k, i, z)
    for term in range(lay.n_term):
        k = m - lay.n_term + term
        lo, hi = start[term], start[term + 1]
        clear(fx.packed)
        subtract_gram(1.0, bk.H[lo:hi], bk.H[lo:hi], lay, fx.packed)
        unpack(fx.packed, fx.C_k[k])
        for other in range(term + 1):
            trace_k, pair, bend = everywhere(0.0), everywhere(0.0), everywhere(0.0)
            for z in range(0, lanes, LANES):
                for i in range(lo, hi):
                    trace_k = trace_k + load(T, i, i, z)
                    for j in range(start[other], start[other + 1]):
                        t = load(T, i, j, z)
                        pair = fma(t, fma(-0.5, t, load(J, i, j, z)), pair)
                        bend = fma(load(eta, i, 0, z) * t, load(eta, j, 0, z), bend)
            trace[k] = across(trace_k)
            fx.observed[k, m - lay.n_term + other] = across(pair) + across(bend)
            fx.average[k, m - lay.n_term + other] = 0.5 * across(bend)


@lane_kernel
def _residual_term(k, theta, lay, st, res, fx, bk):  # type: ignore[no-untyped-def]
    """Of one parameter of R: the blocks' part of C_k and of (log|V|)_k (returned), P_k, its information with g."""
    m, start, FM, P, FP = fx.score.size, lay.term_start, bk.FM[k], bk.P[k], bk.FP[k]
    if res.weight.size == 1:
        _of_scalar(k, res.slope[k, 0] / res.weight[0], theta, lay, fx, bk)
    else:
        _of_basis(k, lay, st, res, fx, bk)
    lane_product(bk.F, P, FP)
    _times_shared(FP, bk.a, bk.f_pi[k])
    for term in range(lay.n_term):
        lo, hi = start[term], start[term + 1]
        x = 0.5 * lane_dot(FM[lo:hi], bk.F[lo:hi]) - lane_dot(FP[lo:hi], bk.Y[lo:hi])
        along = lane_dot(bk.f_pi[k, lo:hi], bk.eta[lo:hi])
        fx.observed[m - lay.n_term + term, k] += x - along
        fx.average[m - lay.n_term + term, k] -= 0.5 * along
    return lane_dot(bk.D, bk.M_k[k])


@lane_kernel
def _of_basis(k, lay, st, res, fx, bk):  # type: ignore[no-untyped-def]
    """Completes C_k; M_k, P_k, F M_k, P_k Phi and P_k a."""
    q, A, lanes = bk.M.shape[0], lay.n_active, bk.M.shape[2]
    N_k, M_k, P = bk.N_k, bk.M_k[k], bk.P[k]
    lane_combine(res.slope[k], st.N_flat, N_k)
    lane_combine(res.slope[k], st.M_flat, M_k)
    lane_product(M_k, bk.Q, P)
    for i in range(q):
        for c in range(A):
            for z in range(0, lanes, LANES):
                n = load(N_k, i, c, z)
                x = n - load(P, i, c, z)
                store(P, x, i, c, z)
                store(N_k, n + x, i, c, z)
    subtract_gram(0.5, bk.Q, N_k, lay, fx.packed)  # N_k'Q + Q'P_k = half of (N_k + P_k)'Q and its transpose
    subtract_gram(0.5, N_k, bk.Q, lay, fx.packed)
    lane_product(bk.F, M_k, bk.FM[k])
    _times_shared(P, bk.phi, bk.PY[k])
    _times_shared(P, bk.a, bk.pi[k])


@lane_kernel
def _of_scalar(k, share, theta, lay, fx, bk):  # type: ignore[no-untyped-def]
    """The same where R = I / w and share = dlog w / dtheta_k: R_k is a multiple of R, so that nothing is multiplied.

    M_k = share M, P_k = share (N - M Q) = share H, C_k = share (C - H'GH) = share (C + sum g C_g).
    """
    _scaled(share, bk.M, bk.M_k[k])
    _scaled(share, bk.H, bk.P[k])
    _scaled(share, bk.T, bk.FM[k])
    _scaled(share, bk.Y, bk.PY[k])
    _scaled(share, bk.eta, bk.pi[k])
    at = 0
    for i in range(lay.n_column):
        for j in range(i + 1):
            x = fx.C[i, j]
            for term in range(theta.size - lay.n_term, theta.size):
                x += theta[term] * fx.C_k[term, i, j]
            fx.packed[at] = share * x
            at += 1


@lane_kernel
def _scaled(x, A, out):  # type: ignore[no-untyped-def]
    """out = x A in each lane."""
    compact()
    a, o = flat(A), flat(out)
    for z in range(0, o.size, LANES):
        store(o, x * load(a, z), z)


@lane_kernel
def _basis(phi, lay, st, res, fx, bk):  # type: ignore[no-untyped-def]
    """tr(Phi U_b) + tr(D M_b) and a'U_b a of each basis element."""
    if res.weight.size == 1:  # of its only parameter, C_k = dw/dtheta_k U
        along = fixed = 0.0
        for i in range(lay.n_column):
            for j in range(lay.n_column):
                along += fx.a[i] * fx.C_k[0, i, j] * fx.a[j]
                fixed += phi[i, j] * fx.C_k[0, i, j]
        res.along[0] = along / res.slope[0, 0]
        res.fixed[0] = (fixed + fx.trace[0] - res.log_slope[0]) / res.slope[0, 0]
        return
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
                store(bk.wide, twice * bk.a[c, 0, z // LANES] * load(bk.eta, i, 0, z), i, c, z)
        for j in range(q):
            g = bk.g[i] * bk.g[j]
            for z in range(0, lanes, LANES):
                store(bk.square, g * load(bk.eta, i, 0, z) * load(bk.eta, j, 0, z), i, j, z)
    _along_basis(n_b, lay, st, bk, res.along)


@lane_kernel
def _along_basis(n_b, lay, st, bk, out):  # type: ignore[no-untyped-def]
    """Add to out the products of bk.wide with N_b and of bk.square with M_b."""
    for b in range(n_b):
        if lay.is_general or st.rank[b] > 0.0:
            out[b] += lane_dot(bk.wide, st.N[b]) + lane_dot(bk.square, st.M[b])


@lane_kernel
def _residual_pairs(n_residual, lay, fx, bk):  # type: ignore[no-untyped-def]
    """The blocks' own part of the information of pairs of parameters of R."""
    q, A, lanes = bk.M.shape[0], lay.n_active, bk.M.shape[2]
    for k in range(n_residual):
        for other in range(k + 1):
            both = pair = bend = everywhere(0.0)
            for z in range(0, lanes, LANES):
                for i in range(q):
                    g = everywhere(bk.g[i])
                    for c in range(A):
                        both = fma(g * load(bk.FP, other, i, c, z), load(bk.PY, k, i, c, z), both)
                    bend = fma(g * load(bk.f_pi, other, i, 0, z), load(bk.pi, k, i, 0, z), bend)
                    for j in range(q):
                        g = everywhere(0.5 * bk.g[i] * bk.g[j])
                        pair = fma(g * load(bk.FM, k, i, j, z), load(bk.FM, other, j, i, z), pair)
            fx.observed[k, other] -= across(both) + across(pair) + across(bend)
            fx.average[k, other] -= 0.5 * across(bend)
