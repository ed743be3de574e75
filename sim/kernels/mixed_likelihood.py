"""The restricted likelihood and its derivatives at given variances; notation and formulas in the header of mixed."""

import numpy as np

from sim.kernels.mixed_layout import kernel

# ---- small dense algebra ---------------------------------------------------------------------------------------------


@kernel
def sweep(A, n, tolerance):  # type: ignore[no-untyped-def]
    """Sweep the first n pivots of the symmetric A in place; log of their product, NaN if one is not positive.

    [A_11 A_12; A_21 a_22] becomes [A_11^-1, A_11^-1 A_12; .., a_22 - A_21 A_11^-1 A_12].  A pivot must exceed tolerance
    x the diagonal element it came from.
    """
    log_det = 0.0
    diagonal = np.zeros(n)
    for i in range(n):
        diagonal[i] = A[i, i]
    for k in range(n):
        pivot = A[k, k]
        if not pivot > tolerance * diagonal[k]:  # also catches NaN
            return np.nan
        log_det += np.log(pivot)
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
    return log_det


@kernel
def _dot(A, B):  # type: ignore[no-untyped-def]
    """Sum of the elementwise product, in sixteen running sums."""
    a, b = A.reshape(-1), B.reshape(-1)
    total = np.zeros(16)
    n = a.size - a.size % 16
    for i in range(0, n, 16):
        for j in range(16):
            total[j] += a[i + j] * b[i + j]
    for i in range(n, a.size):
        total[i - n] += a[i] * b[i]
    return np.sum(total)


@kernel
def _combine(x, A, out):  # type: ignore[no-untyped-def]
    """out = sum of x[s] A[s]."""
    o = out.reshape(-1)
    o[:] = 0.0
    for s in range(x.size):
        if x[s] != 0.0:
            a = A[s].reshape(-1)
            for i in range(o.size):
                o[i] += x[s] * a[i]


# ---- products over the blocks: rows (q x blocks, r), or lanes (q, q, blocks) -----------------------------------------


@kernel
def _block_product(A, B, out):  # type: ignore[no-untyped-def]
    """out = A B in each block: A (q, q, lanes), B and out (q x blocks, columns)."""
    q = A.shape[0]
    n_block = B.shape[0] // q
    for i in range(q):
        for z in range(n_block):
            x = A[i, 0, z]
            for j in range(B.shape[1]):
                out[i * n_block + z, j] = x * B[z, j]
            for k in range(1, q):
                x = A[i, k, z]
                for j in range(B.shape[1]):
                    out[i * n_block + z, j] += x * B[k * n_block + z, j]


@kernel
def _lane_product(A, B, out):  # type: ignore[no-untyped-def]
    """out = A B in each lane: all (q, q, lanes)."""
    q, lanes = A.shape[1], A.shape[2]
    for i in range(q):
        for j in range(q):
            for z in range(lanes):
                out[i, j, z] = A[i, 0, z] * B[0, j, z]
            for k in range(1, q):
                for z in range(lanes):
                    out[i, j, z] += A[i, k, z] * B[k, j, z]


@kernel
def _times(A, psi, active, out):  # type: ignore[no-untyped-def]
    """out = A psi, where a row of A is zero outside the active columns of its block."""
    n_block = active.shape[0]
    for row in range(A.shape[0]):
        z = row % n_block
        for j in range(out.shape[1]):
            out[row, j] = 0.0
        for c in range(active.shape[1]):
            i = active[z, c]
            x = A[row, i]
            for j in range(out.shape[1]):
                out[row, j] += x * psi[i, j]


@kernel
def _times_vector(A, a, active, out):  # type: ignore[no-untyped-def]
    """out = A a, where a row of A is zero outside the active columns of its block."""
    n_block = active.shape[0]
    for row in range(A.shape[0]):
        z = row % n_block
        x = 0.0
        for c in range(active.shape[1]):
            i = active[z, c]
            x += A[row, i] * a[i]
        out[row] = x


@kernel
def _subtract_gram(g, A, B, active, out):  # type: ignore[no-untyped-def]
    """out -= g A'B, where a row of A is zero outside the active columns of its block."""
    n_block = active.shape[0]
    for row in range(A.shape[0]):
        z = row % n_block
        for c in range(active.shape[1]):
            i = active[z, c]
            x = g * A[row, i]
            for j in range(out.shape[1]):
                out[i, j] -= x * B[row, j]


@kernel
def _lane_inverse(A, work):  # type: ignore[no-untyped-def]
    """Invert each lane of A = I + (positive semidefinite) in place by Cholesky; returns the summed log determinant."""
    q, lanes = A.shape[0], A.shape[2]
    log_det = 0.0
    product = 1.0  # of pivots, which are at least 1; its logarithm is taken before it overflows
    for j in range(q):
        for i in range(j, q):
            for k in range(j):
                for z in range(lanes):
                    A[i, j, z] -= A[i, k, z] * A[j, k, z]
            if i == j:
                for z in range(lanes):
                    product *= A[j, j, z]
                    if product > 1e150:
                        log_det += np.log(product)
                        product = 1.0
                for z in range(lanes):
                    A[j, j, z] = np.sqrt(A[j, j, z])
            else:
                for z in range(lanes):
                    A[i, j, z] /= A[j, j, z]
    for j in range(q):
        for z in range(lanes):
            work[j, j, z] = 1.0 / A[j, j, z]
        for i in range(j + 1, q):
            for z in range(lanes):
                work[i, j, z] = -A[i, j, z] * work[j, j, z]
            for k in range(j + 1, i):
                for z in range(lanes):
                    work[i, j, z] -= A[i, k, z] * work[k, j, z]
            for z in range(lanes):
                work[i, j, z] /= A[i, i, z]
    for i in range(q):
        for j in range(i + 1):
            for z in range(lanes):
                A[i, j, z] = work[i, i, z] * work[i, j, z]
            for k in range(i + 1, q):
                for z in range(lanes):
                    A[i, j, z] += work[k, i, z] * work[k, j, z]
            for z in range(lanes):
                A[j, i, z] = A[i, j, z]
    return log_det + np.log(product)


# ---- the criterion ---------------------------------------------------------------------------------------------------


@kernel
def evaluate(theta, lay, st, wk):  # type: ignore[no-untyped-def]
    """-2 log restricted likelihood at theta; leaves D, F, T, H, C, Phi, a, Psi in wk.  NaN where it is undefined."""
    p = lay.n_column - 1
    rows = 0.0
    log_v = 0.0
    for s in range(st.nu.size):
        wk.weight[s] = 0.0
        if st.nu[s] > 0.0:
            c, n = s // lay.n_stratum, s % lay.n_stratum
            eigenvalue = theta[c] + n * theta[lay.n_class] if n > 0 else theta[c]
            wk.weight[s] = 1.0 / eigenvalue
            rows += st.nu[s]
            log_v += st.nu[s] * np.log(eigenvalue)
    _combine(wk.weight, st.S, wk.C)
    if wk.N.shape[0] > 0:
        log_v += _woodbury(theta, lay, st, wk)
    wk.inverse[:] = wk.C
    log_c = sweep(wk.inverse, p, 1e-15)
    quadratic = wk.inverse[p, p]
    if not quadratic > 1e-15 * wk.C[p, p]:
        return np.nan
    wk.a[p] = 1.0
    for i in range(p):
        wk.a[i] = -wk.inverse[i, p]
        wk.inverse[i, p] = 0.0  # from here on the inverse is Phi, with zeros in place of y
        wk.inverse[p, i] = 0.0
    wk.inverse[p, p] = 0.0
    for i in range(p + 1):
        for j in range(p + 1):
            wk.Psi[i, j] = wk.inverse[i, j] + wk.a[i] * wk.a[j]
    return (rows - p) * np.log(2.0 * np.pi) + log_v + log_c + quadratic


@kernel
def _woodbury(theta, lay, st, wk):  # type: ignore[no-untyped-def]
    """D, F, T, H of all blocks; subtracts N'GH from C and returns the sum of log|I + G^1/2 M G^1/2|."""
    q, lanes = wk.M.shape[0], wk.M.shape[2]
    M, D, F = wk.M, wk.D, wk.F
    _combine(wk.weight, st.M, M)
    _combine(wk.weight, st.N, wk.N)
    g, start, n_block = wk.g, lay.term_start, lay.n_block
    for term in range(lay.n_term):
        g[start[term] : start[term + 1]] = theta[theta.size - lay.n_term + term]
    for i in range(q):
        for j in range(q):
            x, unit = np.sqrt(g[i] * g[j]), 1.0 if i == j else 0.0
            for z in range(lanes):
                D[i, j, z] = x * M[i, j, z] + unit
    log_det = _lane_inverse(D, wk.square)
    for i in range(q):
        for j in range(q):
            x = np.sqrt(g[i] * g[j])
            for z in range(lanes):
                D[i, j, z] *= x
    _lane_product(M, D, F)
    for i in range(q):
        for j in range(q):
            x, unit = 1.0 / g[i] if g[i] > 0.0 else 0.0, 1.0 if i == j else 0.0
            for z in range(lanes):  # D = G F; the first form does not cancel
                F[i, j, z] = x * D[i, j, z] if x > 0.0 else unit - F[i, j, z]
    _lane_product(F, M, wk.T)  # T is symmetric
    _block_product(F, wk.N, wk.H)
    for term in range(lay.n_term):
        lo, hi = start[term] * n_block, start[term + 1] * n_block
        if hi > lo and g[start[term]] > 0.0:
            _subtract_gram(g[start[term]], wk.N[lo:hi], wk.H[lo:hi], lay.active, wk.C)
    return log_det


# ---- its derivatives -------------------------------------------------------------------------------------------------


@kernel
def differentiate(theta, lay, st, wk):  # type: ignore[no-untyped-def]
    """Score, average and observed information, and C_k, at the theta of the last call of evaluate.

    Derivatives with respect to all variances but e_0 are summed directly, and those of e_0 follow by homogeneity.
    """
    p, n_x = lay.n_column - 1, theta.size - 1
    wk.observed[:] = 0.0
    wk.average[:] = 0.0
    wk.trace[:] = 0.0
    if wk.N.shape[0] > 0:
        _random_terms(lay, st, wk)
    for x in range(n_x - lay.n_term):
        _residual_term(x, lay, st, wk)
    if n_x > lay.n_term:
        _residual_pairs(lay, st, wk)
    for x in range(n_x):
        k = x + 1
        C_k, h = wk.C_k[x], wk.h[x]
        wk.bend[k] = 0.0
        for i in range(p + 1):
            s = 0.0
            for j in range(p + 1):
                s += C_k[i, j] * wk.a[j]
            h[i] = s if i < p else 0.0
            wk.bend[k] += wk.a[i] * s
        wk.trace[k] += _dot(wk.inverse, C_k)
        wk.score[k] = -0.5 * (wk.trace[k] + wk.bend[k])
        B, scaled = wk.B[x], wk.h_scaled[x]
        for i in range(p):
            s = 0.0
            for j in range(p):
                s += wk.inverse[i, j] * h[j]
                B[i, j] = 0.0
            scaled[i] = s
            for e in range(p):
                phi = wk.inverse[i, e]
                for j in range(B.shape[1]):
                    B[i, j] += phi * C_k[e, j]
        for other in range(1, k + 1):
            bend = _dot(h, wk.h_scaled[other - 1])
            trace = 0.0
            for i in range(p):
                for j in range(p):
                    trace += B[i, j] * wk.B[other - 1, j, i]
            wk.observed[k, other] -= 0.5 * trace + bend
            wk.average[k, other] -= 0.5 * bend
            wk.observed[other, k] = wk.observed[k, other]
            wk.average[other, k] = wk.average[k, other]
    _first_residual(theta, lay, st, wk)


@kernel
def _first_residual(theta, lay, st, wk):  # type: ignore[no-untyped-def]
    """Score and information of e_0 by homogeneity; a'C a is taken from C and a."""
    p, m = lay.n_column - 1, theta.size
    trace = np.sum(st.nu) - p
    bend = 0.0
    for i in range(p + 1):
        bend -= wk.C[p, i] * wk.a[i]
    for k in range(1, m):
        trace -= theta[k] * wk.trace[k]
        bend -= theta[k] * wk.bend[k]
    wk.trace[0] = trace / theta[0]
    wk.bend[0] = bend / theta[0]
    wk.score[0] = -0.5 * (wk.trace[0] + wk.bend[0])
    for i in range(m):
        k = m - 1 - i  # e_0 itself comes last
        observed = wk.score[k] - 0.5 * wk.bend[k]
        average = -0.5 * wk.bend[k]
        for other in range(1, m):
            observed -= theta[other] * wk.observed[k, other]
            average -= theta[other] * wk.average[k, other]
        wk.observed[k, 0] = wk.observed[0, k] = observed / theta[0]
        wk.average[k, 0] = wk.average[0, k] = average / theta[0]


@kernel
def _random_terms(lay, st, wk):  # type: ignore[no-untyped-def]
    """Of the random terms: C_g, (log|V|)_g and the blocks' part of the information; leaves Y, J, eta."""
    q, lanes = wk.M.shape[0], wk.M.shape[2]
    m, n_term, n_block, start, lane = wk.score.size, lay.n_term, lay.n_block, lay.term_start, wk.lane
    H, Y, J, T, eta = wk.H, wk.Y, wk.J, wk.T, wk.eta
    _times(H, wk.Psi, lay.active, Y)
    _times_vector(H, wk.a, lay.active, eta)
    for i in range(q):
        for k in range(i + 1):
            for z in range(n_block):
                x = 0.0
                for c in range(lay.active.shape[1]):
                    j = lay.active[z, c]
                    x += Y[i * n_block + z, j] * H[k * n_block + z, j]
                J[i, k, z] = J[k, i, z] = x
    for term in range(n_term):
        k = m - n_term + term
        lo, hi = start[term], start[term + 1]
        wk.C_k[k - 1] = 0.0
        rows = H[lo * n_block : hi * n_block]
        _subtract_gram(1.0, rows, rows, lay.active, wk.C_k[k - 1])
        lane[:] = 0.0
        for i in range(lo, hi):
            for z in range(lanes):
                lane[z] += T[i, i, z]
        wk.trace[k] = np.sum(lane)
        for other in range(term + 1):
            lane[:] = 0.0
            bend = 0.0
            for i in range(lo, hi):
                for j in range(start[other], start[other + 1]):
                    for z in range(lanes):
                        lane[z] += T[i, j, z] * (2.0 * J[i, j, z] - T[i, j, z])
                    for z in range(n_block):
                        bend += eta[i * n_block + z] * T[i, j, z] * eta[j * n_block + z]
            wk.observed[k, m - n_term + other] = 0.5 * np.sum(lane)
            wk.average[k, m - n_term + other] = 0.5 * bend


@kernel
def _residual_term(x, lay, st, wk):  # type: ignore[no-untyped-def]
    """Of one residual or participant variance: C_k, (log|V|)_k, P_k and the information it shares with random terms."""
    q, lanes = wk.M.shape[0], wk.M.shape[2]
    k, m, start, lane = x + 1, wk.score.size, lay.term_start, wk.lane
    for s in range(st.nu.size):
        wk.share[s] = -_slope(k, s, lay) * wk.weight[s] ** 2
        wk.trace[k] += _slope(k, s, lay) * wk.weight[s] * st.nu[s]
    _combine(wk.share, st.S, wk.C_k[x])
    if wk.N.shape[0] == 0:
        return
    N_k, M_k, FM, P, FP = wk.N_k, wk.M_k[x], wk.FM[x], wk.P, wk.FP[x]
    _combine(wk.share, st.N, N_k)
    _combine(wk.share, st.M, M_k)
    wk.trace[k] += _dot(wk.D, M_k)
    for i in range(q):
        for j in range(q):
            g = wk.g[j]
            for z in range(lanes):
                wk.square[i, j, z] = M_k[i, j, z] * g
    _block_product(wk.square, wk.H, P)
    p_flat, n_flat = P.reshape(-1), N_k.reshape(-1)
    for i in range(p_flat.size):
        p_flat[i] = n_flat[i] - p_flat[i]
        n_flat[i] += p_flat[i]
    C_k = wk.C_k[x]
    n_block = lay.n_block
    for term in range(lay.n_term):
        lo, hi = start[term] * n_block, start[term + 1] * n_block
        if hi > lo and wk.g[start[term]] > 0.0:
            _subtract_gram(wk.g[start[term]], wk.H[lo:hi], N_k[lo:hi], lay.active, C_k)
    for i in range(lay.n_column):
        for j in range(i):  # Q'(N_k + P_k) is symmetric only together with its transpose
            C_k[i, j] = C_k[j, i] = 0.5 * (C_k[i, j] + C_k[j, i])
    _block_product(wk.F, P, FP)
    _lane_product(wk.F, M_k, FM)
    _times(P, wk.Psi, lay.active, wk.PY[x])
    _times_vector(P, wk.a, lay.active, wk.pi[x])
    _times_vector(FP, wk.a, lay.active, wk.phi[x])
    for term in range(lay.n_term):
        lo, hi = start[term], start[term + 1]
        lane[:] = 0.0
        for i in range(lo, hi):
            for j in range(q):
                for z in range(lanes):
                    lane[z] += FM[i, j, z] * wk.F[i, j, z]
        lo, hi = lo * n_block, hi * n_block
        wk.observed[m - lay.n_term + term, k] += 0.5 * np.sum(lane) - _dot(FP[lo:hi], wk.Y[lo:hi])
        wk.average[m - lay.n_term + term, k] -= 0.5 * _dot(wk.phi[x, lo:hi], wk.eta[lo:hi])


@kernel
def _residual_pairs(lay, st, wk):  # type: ignore[no-untyped-def]
    """Information of pairs of residual and participant variances, before the parts in Phi C_k and h."""
    q, lanes = wk.M.shape[0], wk.M.shape[2]
    n_residual = wk.score.size - lay.n_term
    has_blocks = wk.N.shape[0] > 0
    if has_blocks:
        for i in range(q):
            for j in range(q):
                g = wk.g[i] * wk.g[j]
                for z in range(lanes):
                    wk.square[i, j, z] = wk.D[i, j, z] + g * wk.J[i, j, z]
    for s in range(st.nu.size):
        w = wk.weight[s]
        if s == 0 or st.nu[s] == 0.0:  # the within stratum of class 0 depends on e_0 alone
            continue
        E = _dot(wk.Psi, st.S[s])
        u = 0.0
        for i in range(lay.n_column):
            u += wk.a[i] * _dot(st.S[s, i], wk.a)
        if has_blocks:
            random_E, random_u = _stratum(st.N[s], st.M[s], lay, wk)
            E += random_E
            u += random_u
        for k in range(1, n_residual):
            for other in range(1, k + 1):
                x = _slope(k, s, lay) * _slope(other, s, lay) * w * w
                wk.observed[k, other] += x * (E * w - 0.5 * st.nu[s])
                wk.average[k, other] += 0.5 * x * u * w
    if not has_blocks:
        return
    for k in range(n_residual - 1):
        for other in range(k + 1):
            trace = bend = 0.0
            for i in range(q):
                lo, hi = i * lay.n_block, (i + 1) * lay.n_block
                trace += wk.g[i] * _dot(wk.FP[other, lo:hi], wk.PY[k, lo:hi])
                bend += wk.g[i] * _dot(wk.phi[other, lo:hi], wk.pi[k, lo:hi])
            wk.lane[:] = 0.0
            for i in range(q):
                for j in range(q):
                    g = 0.5 * wk.g[i] * wk.g[j]
                    for z in range(lanes):
                        wk.lane[z] += g * wk.FM[k, i, j, z] * wk.FM[other, j, i, z]
            wk.observed[k + 1, other + 1] -= trace + np.sum(wk.lane)
            wk.average[k + 1, other + 1] -= 0.5 * bend


@kernel
def _stratum(N_s, M_s, lay, wk):  # type: ignore[no-untyped-def]
    """Blocks' part of E_s = tr(Psi U_s) + tr(D M_s) and of a'U_s a; square holds D + Q Psi Q'."""
    q, n_block, eta = M_s.shape[0], lay.n_block, wk.eta
    E = _dot(M_s, wk.square)
    u = 0.0
    along = np.zeros(N_s.shape[1])  # N_s'G eta
    for i in range(q):
        lo, hi = i * n_block, (i + 1) * n_block
        E -= 2.0 * wk.g[i] * _dot(N_s[lo:hi], wk.Y[lo:hi])
        for z in range(n_block):
            x = wk.g[i] * eta[lo + z]
            for j in range(along.size):
                along[j] += x * N_s[lo + z, j]
        for k in range(q):
            g = wk.g[i] * wk.g[k]
            for z in range(n_block):
                u += g * eta[lo + z] * M_s[i, k, z] * eta[k * n_block + z]
    return E, u - 2.0 * _dot(along, wk.a)


@kernel
def _slope(k, s, lay):  # type: ignore[no-untyped-def]
    """m_k of stratum s, d lambda_s / d theta_k for a residual or participant variance: 1 for its class, n for v."""
    if k == lay.n_class:
        return float(s % lay.n_stratum)
    return 1.0 if s // lay.n_stratum == k else 0.0
