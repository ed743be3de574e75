"""R^-1 and its derivatives in the basis of the statistics, for any covariance structure; see the header of mixed.

Strata (R_j = e_c I + v J): element s = (class, n) has w = 1 / lambda, lambda = e_c + n v, n = 0 within participants.
General: element (m, t, s) is the entry t, s of R_m^-1, m a class and a pattern of visits seen.
"""

import numpy as np

from sim.kernels.mixed_algebra import add, clear, copy, multiply, sweep
from sim.lanes import compact, lane_kernel


@lane_kernel
def _monomial(e, theta, monomials):  # type: ignore[no-untyped-def]
    x = monomials.coefficient[e]
    for f in range(monomials.place[e, 5], monomials.place[e + 1, 5]):
        base, power = theta[monomials.factor[f]], monomials.power[f]
        x *= base if power == 1.0 else base * base if power == 2.0 else base**power
    return x


@lane_kernel
def evaluate_monomials(theta, monomials, out):  # type: ignore[no-untyped-def]
    """Values of the monomials of a covariance structure at theta."""
    for e in range(monomials.coefficient.size):
        out[e] = _monomial(e, theta, monomials)


@lane_kernel
def marginal(theta, table, sigma):  # type: ignore[no-untyped-def]
    """Sigma (classes, T, T) at theta."""
    compact()
    clear(sigma)
    for e in range(table.sigma.coefficient.size):
        c, t, s = table.sigma.place[e, 2], table.sigma.place[e, 3], table.sigma.place[e, 4]
        x = _monomial(e, theta, table.sigma)
        sigma[c, t, s] += x
        if t != s:
            sigma[c, s, t] += x


@lane_kernel
def stratum_slope(k, s, lay):  # type: ignore[no-untyped-def]
    """d lambda_s / d theta_k: 1 for the residual variance of its class, n for the participant's."""
    if k == lay.n_class:
        return float(s % lay.n_stratum)
    return 1.0 if s // lay.n_stratum == k else 0.0


@lane_kernel
def weigh(theta, table, lay, st, res):  # type: ignore[no-untyped-def]
    """Fill the weights w_b; returns log|R|, NaN if R is not positive definite."""
    log_r = 0.0
    if not lay.is_general:
        for s in range(st.rank.size):
            res.weight[s] = 0.0
            if st.rank[s] > 0.0:
                c, n = s // lay.n_stratum, s % lay.n_stratum
                eigenvalue = theta[c] + n * theta[lay.n_class] if n > 0 else theta[c]
                if not eigenvalue > 0.0:
                    return np.nan
                res.weight[s] = 1.0 / eigenvalue
                log_r += st.rank[s] * np.log(eigenvalue)
        return log_r
    T = lay.n_visit
    clear(res.weight)
    marginal(theta, table, res.sigma)
    for m in range(st.total[2]):
        n, A, c = np.int64(0), res.square[0], st.cls[m]
        for t in range(T):
            if st.mask[m] >> t & 1:
                k = 0
                for s in range(T):
                    if st.mask[m] >> s & 1:
                        A[n, k] = res.sigma[c, t, s]
                        k += 1
                n += 1
        log_det = sweep(A, n, n, 1e-12, res.square[5, 0])
        if np.isnan(log_det):
            return np.nan
        log_r += st.rank[m] * log_det
        inverse, i = res.inverse[m], 0
        for t in range(T):
            k = 0
            for s in range(T):
                both = (st.mask[m] >> t & 1) and (st.mask[m] >> s & 1)
                inverse[t, s] = A[i, k] if both else 0.0
                k += st.mask[m] >> s & 1
            i += st.mask[m] >> t & 1
        _to_pairs(inverse, 1.0, m, res.weight)
    return log_r


@lane_kernel
def _to_pairs(A, factor, m, out):  # type: ignore[no-untyped-def]
    """out[b] = factor x A[t, s] for the elements of pattern m."""
    T = A.shape[0]
    at = m * T * (T + 1) // 2
    for s in range(T):
        for t in range(s + 1):
            out[at] = factor * A[t, s]
            at += 1


@lane_kernel
def _from_pairs(x, y, m, A):  # type: ignore[no-untyped-def]
    """Symmetric A with sum_b w_b (x + y)_b = sum_ts W_ts A_ts for any symmetric W."""
    T = A.shape[0]
    at = m * T * (T + 1) // 2
    for s in range(T):
        for t in range(s + 1):
            A[t, s] = A[s, t] = (x[at] + y[at]) * (1.0 if t == s else 0.5)
            at += 1


@lane_kernel
def _times_derivative(k, c, left, right, table, values, out):  # type: ignore[no-untyped-def]
    """out = left D_k right, D_k = dSigma_c / dtheta_k."""
    compact()
    T = left.shape[0]
    slope = table.slope
    clear(out)
    for e in range(table.slope_start[k], table.slope_start[k + 1]):
        if slope.place[e, 2] == c:
            t, s, x = slope.place[e, 3], slope.place[e, 4], values[e]
            for i in range(T):
                y, z = x * left[i, t], x * left[i, s] if t != s else 0.0
                for j in range(T):
                    out[i, j] += y * right[s, j] + z * right[t, j]


@lane_kernel
def _trace_with_derivative(k, c, A, table, values):  # type: ignore[no-untyped-def]
    """tr(D_k A)."""
    slope = table.slope
    total = 0.0
    for e in range(table.slope_start[k], table.slope_start[k + 1]):
        if slope.place[e, 2] == c:
            t, s = slope.place[e, 3], slope.place[e, 4]
            total += values[e] * (A[t, s] + A[s, t] if t != s else A[t, t])
    return total


@lane_kernel
def slopes(theta, table, lay, st, res):  # type: ignore[no-untyped-def]
    """dw_b / dtheta_k and dlog|R| / dtheta_k at the theta of the last call of weigh."""
    n = table.begin.size
    clear(res.log_slope)
    if not lay.is_general:
        for k in range(n):
            for s in range(st.rank.size):
                x = stratum_slope(k, s, lay) * res.weight[s]
                res.slope[k, s] = -x * res.weight[s]
                res.log_slope[k] += x * st.rank[s]
        return
    evaluate_monomials(theta, table.slope, res.first)
    evaluate_monomials(theta, table.bend, res.second)
    clear(res.slope)
    A = res.square[0]
    for m in range(st.total[2]):
        inverse, c = res.inverse[m], st.cls[m]
        for k in range(n):
            _times_derivative(k, c, inverse, inverse, table, res.first, A)
            _to_pairs(A, -1.0, m, res.slope[k])
            res.log_slope[k] += st.rank[m] * _trace_with_derivative(k, c, inverse, table, res.first)


@lane_kernel
def bends(table, lay, st, res, average, observed):  # type: ignore[no-untyped-def]
    """Add what second derivatives of w_b and log|R| give: 1/2 [sum w_kl (fixed + along) + log|R|_kl].

    The average information gets 1/4 sum w_kl along.  For parameters that Sigma is not linear in, both get the score in
    the direction of its second derivatives on top, so that expected = 2 average - observed is what it must be.
    """
    n = table.begin.size
    if not lay.is_general:
        for s in range(st.rank.size):
            w = res.weight[s]
            if w > 0.0:
                both = w * w * (w * (res.fixed[s] + res.along[s]) - 0.5 * st.rank[s])
                half = 0.5 * w * w * w * res.along[s]
                for k in range(n):
                    x = stratum_slope(k, s, lay)
                    if x != 0.0:
                        for l in range(k + 1):  # noqa: E741
                            y = x * stratum_slope(l, s, lay)
                            observed[k, l] += y * both
                            average[k, l] += y * half
        return
    E, A, X, Y, W = res.square[0], res.square[1], res.square[2], res.square[3], res.square[4]
    T = lay.n_visit
    clear(res.gradient)
    for m in range(st.total[2]):
        inverse, c, half = res.inverse[m], st.cls[m], 0.5 * st.rank[m]
        _from_pairs(res.along, res.along, m, E)
        multiply(lay.n_visit, inverse, E, A)
        multiply(lay.n_visit, A, inverse, Y)  # twice R^-1 U R^-1
        _from_pairs(res.fixed, res.along, m, E)
        multiply(lay.n_visit, inverse, E, A)
        multiply(lay.n_visit, A, inverse, X)
        for i in range(T):
            for j in range(T):
                Y[i, j] *= 0.25
                X[i, j] -= half * inverse[i, j]
                res.gradient[c, i, j] += half * inverse[i, j] - X[i, j]
        for l in range(n):  # noqa: E741
            _times_derivative(l, c, inverse, X, table, res.first, W)
            for k in range(l, n):
                observed[k, l] += _trace_with_derivative(k, c, W, table, res.first)
            _times_derivative(l, c, inverse, Y, table, res.first, W)
            for k in range(l, n):
                average[k, l] += _trace_with_derivative(k, c, W, table, res.first)
    bend = table.bend
    for e in range(bend.coefficient.size):
        k, l = bend.place[e, 0], bend.place[e, 1]  # noqa: E741
        if l <= k:
            c, t, s = bend.place[e, 2], bend.place[e, 3], bend.place[e, 4]
            x = res.second[e] * res.gradient[c, t, s] * (1.0 if t == s else 2.0)
            observed[k, l] += 0.5 * x
            average[k, l] += 0.25 * x


@lane_kernel
def weighted_bends(W, table, lay, st, res, out):  # type: ignore[no-untyped-def]
    """out[b] = sum_kl W_kl d2w_b, leaving out the second derivatives of Sigma."""
    n = table.begin.size
    clear(out)
    if not lay.is_general:
        for s in range(st.rank.size):
            for k in range(n):
                x = 2.0 * stratum_slope(k, s, lay) * res.weight[s] ** 3
                for l in range(n):  # noqa: E741
                    out[s] += x * W[k, l] * stratum_slope(l, s, lay)
        return
    A, B, total, outer = res.square[0], res.square[1], res.square[2], res.square[3]
    for m in range(st.total[2]):
        inverse, c = res.inverse[m], st.cls[m]
        clear(total)
        for k in range(n):  # R^-1 D_k (sum_l W_kl R^-1 D_l R^-1)
            clear(outer)
            for l in range(n):  # noqa: E741
                if W[k, l] != 0.0:
                    _times_derivative(l, c, inverse, inverse, table, res.first, A)
                    add(W[k, l], A, outer)
            _times_derivative(k, c, inverse, outer, table, res.first, B)
            add(1.0, B, total)
        for i in range(lay.n_visit):
            for j in range(i + 1):
                total[i, j] = total[j, i] = total[i, j] + total[j, i]
        _to_pairs(total, 1.0, m, out)


@lane_kernel
def _add_entry(x, place, E):  # type: ignore[no-untyped-def]
    t, s = place[3], place[4]
    E[t, s] += x
    if t != s:
        E[s, t] += x


@lane_kernel
def along_curvature(W, theta, table, lay, st, res, out):  # type: ignore[no-untyped-def]
    """out[b] = -(R^-1 E R^-1)_b with E = sum_kl W_kl d2Sigma in the linked parameters of second-order Kenward-Roger.

    A link theta = f(tau) adds W_kk f''/f'^2 D_k: 1 / theta for logarithms, -3 rho / (1 - rho^2) for correlations.
    """
    clear(out)
    if not lay.is_general:
        return
    A, B = res.square[0], res.square[1]
    for m in range(st.total[2]):
        E, c = res.square[2], st.cls[m]
        clear(E)
        for e in range(table.bend.coefficient.size):
            place = table.bend.place[e]
            if place[2] == c:
                _add_entry(W[place[0], place[1]] * res.second[e], place, E)
        for e in range(table.slope.coefficient.size):
            place = table.slope.place[e]
            if place[2] == c:
                k = place[0]
                factor = 0.0
                if table.kind[2, k] == 1:
                    factor = 1.0 / theta[k]
                elif table.kind[2, k] == 2:
                    factor = -3.0 * theta[k] / (1.0 - theta[k] ** 2)
                _add_entry(factor * W[k, k] * res.first[e], place, E)
        multiply(lay.n_visit, res.inverse[m], E, A)
        multiply(lay.n_visit, A, res.inverse[m], B)
        _to_pairs(B, -1.0, m, out)


@lane_kernel
def natural_parameters(table, theta, out):  # type: ignore[no-untyped-def]
    """Parameters of the structure that this table climbs for; random terms are as they are."""
    compact()
    n = table.begin.size
    clear(out)
    for e in range(table.natural.coefficient.size):
        out[table.natural.place[e, 0]] += _monomial(e, theta, table.natural)
    copy(theta[n:], out[n:])


@lane_kernel
def scaled_cholesky(sigma, L, theta):  # type: ignore[no-untyped-def]
    """Parameters of 'us, Cholesky' of each class of sigma (classes, T, T): Sigma = D L L'D; L (T, T) is workspace."""
    compact()
    T, at = sigma.shape[1], 0
    for c in range(sigma.shape[0]):
        for i in range(T):
            for j in range(i + 1):
                x = sigma[c, i, j]
                for k in range(j):
                    x -= L[i, k] * L[j, k]
                L[i, j] = np.sqrt(x) if i == j else x / L[j, j]
        for i in range(T):
            theta[at] = L[i, i]
            at += 1
        for i in range(T):
            for j in range(i):
                theta[at] = L[i, j] / L[i, i]
                at += 1
