"""One pass over the data of a replicate: the cross-products S_s, N_s, M_s and ranks nu_s of the header of mixed."""

from sim.kernels.mixed_layout import kernel


@kernel
def accumulate(y, observed, covariate, lay, st, mask, pattern, z):  # type: ignore[no-untyped-def]
    """Fill st with the cross-products of one replicate, cell by cell and, within a cell, pattern by pattern.

    pattern holds, for each set of visits seen: count, sum y^2, sum (sum y)^2, y by visit, covariate, covariate x sum y,
    covariate x covariate.
    """
    st.S[:] = 0.0
    st.nu[:] = 0.0
    st.N[:] = 0.0
    st.M[:] = 0.0
    n_visit = y.shape[1]
    n_cov = covariate.shape[1]
    at_cov = 3 + n_visit
    member, cell_start = lay.member, lay.cell_start
    for cell in range(lay.cell_class.size):
        n_pattern = 0
        for j in range(cell_start[cell], cell_start[cell + 1]):
            i = member[j]
            seen = 0
            for t in range(n_visit):
                if observed[i, t]:
                    seen |= 1 << t
            if seen == 0:
                continue
            k = 0
            while k < n_pattern and mask[k] != seen:
                k += 1
            if k == n_pattern:
                mask[k] = seen
                for s in range(pattern.shape[1]):
                    pattern[k, s] = 0.0
                n_pattern += 1
            total = 0.0
            for t in range(n_visit):
                if observed[i, t]:
                    total += y[i, t]
                    pattern[k, 1] += y[i, t] * y[i, t]
                    pattern[k, 3 + t] += y[i, t]
            pattern[k, 0] += 1.0
            pattern[k, 2] += total * total
            for b in range(n_cov):
                x = covariate[i, b]
                pattern[k, at_cov + b] += x
                pattern[k, at_cov + n_cov + b] += x * total
                for d in range(n_cov):
                    pattern[k, at_cov + (2 + b) * n_cov + d] += x * covariate[i, d]
        for k in range(n_pattern):
            _add_pattern(cell, mask[k], pattern[k], n_cov, lay, st.S, st.nu, st.N, st.M, z)
    _within(lay, st)


@kernel
def _add_pattern(cell, seen, pattern, n_cov, lay, S, nu, N, M, z):  # type: ignore[no-untyped-def]
    """Add the participants of a cell who were seen at the same visits; z is workspace for the sums of z by visit."""
    X = lay.cell_x[cell]
    n_visit, p0 = X.shape
    p = lay.n_column - 1
    at_cov = 3 + n_visit
    count = pattern[0]
    first, end = lay.nonzero_start[cell], lay.nonzero_start[cell + 1]
    nonzero = lay.nonzero
    n = 0
    overall = z[n_visit]
    overall[:] = 0.0
    for t in range(n_visit):
        if seen >> t & 1:
            n += 1
            z[t] = 0.0
            for k in range(first, end):
                j = nonzero[k]
                z[t, j] = count * X[t, j]
                overall[j] += z[t, j]
            for b in range(n_cov):
                z[t, p0 + b] = pattern[at_cov + b]
                overall[p0 + b] += pattern[at_cov + b]
            z[t, p] = pattern[3 + t]
            overall[p] += pattern[3 + t]
    share = 1.0 / n
    within = lay.cell_class[cell] * lay.n_stratum
    has_between = lay.has_participant
    between = within + (n if has_between else 0)
    nu[within] += count * (n - 1 if has_between else n)
    S[within, p, p] += pattern[1]
    for b in range(n_cov):
        S[within, p0 + b, p] += pattern[at_cov + n_cov + b]
        for d in range(n_cov):
            S[within, p0 + b, p0 + d] += n * pattern[at_cov + (2 + b) * n_cov + d]
    if has_between:
        nu[between] += count
        S[between, p, p] += share * pattern[2]
        for b in range(n_cov):
            S[between, p0 + b, p] += pattern[at_cov + n_cov + b]
            for d in range(n_cov):
                S[between, p0 + b, p0 + d] += n * pattern[at_cov + (2 + b) * n_cov + d]
    for k in range(first, end):
        j = nonzero[k]
        x_sum = 0.0
        for t in range(n_visit):
            if seen >> t & 1 and X[t, j] != 0.0:
                x_sum += X[t, j]
                _add(X[t, j], z[t], S[within, j])
        if has_between:
            _add(share * x_sum, overall, S[between, j])
    block = lay.cell_block[cell]
    if block < 0:
        return
    row = lay.cell_row[cell]
    for t in range(n_visit):
        if not seen >> t & 1:
            continue
        for term in range(lay.n_term):
            i = row[t, term]
            if i < 0:
                continue
            _add(1.0, z[t], N[within, i * lay.n_block + block])
            for other in range(lay.n_term):
                if row[t, other] >= 0:
                    M[within, i, row[t, other], block] += count
            if has_between:
                _add(share, overall, N[between, i * lay.n_block + block])
                for s in range(n_visit):
                    if seen >> s & 1:
                        for other in range(lay.n_term):
                            if row[s, other] >= 0:
                                M[between, i, row[s, other], block] += share * count


@kernel
def _add(x, a, out):  # type: ignore[no-untyped-def]
    """out += x a for vectors."""
    for j in range(a.size):
        out[j] += x * a[j]


@kernel
def _within(lay, st):  # type: ignore[no-untyped-def]
    """Make the within strata total - between and complete the triangles of S."""
    for s in range(st.nu.size):
        within = s - s % lay.n_stratum
        if s > within and st.nu[s] > 0.0:
            _add(-1.0, st.S[s].reshape(-1), st.S[within].reshape(-1))
            _add(-1.0, st.N[s].reshape(-1), st.N[within].reshape(-1))
            _add(-1.0, st.M[s].reshape(-1), st.M[within].reshape(-1))
    for s in range(st.nu.size):
        for i in range(lay.n_column):
            for j in range(i):
                st.S[s, i, j] = st.S[s, j, i]
