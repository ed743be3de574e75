"""One pass over the data of a replicate: the cross-products S_b, N_b, M_b of the header of mixed."""

import numpy as np

from sim.kernels.mixed_algebra import kernel


@kernel
def accumulate(y, observed, covariate, shift, lay, st, room):  # type: ignore[no-untyped-def]
    """Fill st with one replicate, cell by cell, pattern by pattern; False if st has room for too few patterns.

    What concerns blocks is added by cell, S by kind of cells (the same X and class).
    shift (1 + c,) is taken from y and the covariates: it costs no digits then that their means are far from 0.
    """
    mask, pattern, kind_mask, kind, z, hit = room
    n_cov, n_kind = covariate.shape[1], 0
    st.S[:] = 0.0
    st.N_flat[:] = 0.0
    st.M_flat[:] = 0.0
    st.rank[:] = 0.0
    st.total[:] = 0
    for cell in range(lay.cell_class.size):
        first, end = lay.cell_start[cell], lay.cell_start[cell + 1]
        if lay.is_general:
            n_pattern = _moments_by_visit(first, end, lay.member, y, observed, covariate, shift, mask, pattern)
        else:
            n_pattern = _moments(first, end, lay.member, y, observed, covariate, shift, mask, pattern)
        for k in range(n_pattern):
            n_kind = _merge(mask[k], k, pattern, n_kind, kind_mask, kind)
            if lay.cell_block[cell] >= 0:
                _sums(cell, mask[k], k, pattern, n_cov, lay, z)
                if not lay.is_general:
                    _block_to_strata(cell, mask[k], pattern[k, 0], lay, st, z, hit)
                else:
                    m = _pattern_index(mask[k], lay.cell_class[cell], st)
                    if m < 0:
                        return False
                    _block_to_pairs(cell, mask[k], m, pattern[k, 0], lay, st, z)
        if lay.kind_ends[cell]:
            for k in range(n_kind):
                _sums(cell, kind_mask[k], k, kind, n_cov, lay, z)
                if not lay.is_general:
                    _add_to_strata(cell, kind_mask[k], k, kind, n_cov, lay, st, z)
                else:
                    m = _pattern_index(kind_mask[k], lay.cell_class[cell], st)
                    if m < 0:
                        return False
                    _add_to_pairs(cell, kind_mask[k], m, k, kind, n_cov, lay, st, z)
            n_kind = 0
    if not lay.is_general:
        _within(lay, st)
    return True


@kernel
def accumulation_room(lay, n_cov):  # type: ignore[no-untyped-def]
    """Masks and moments of the patterns of one cell, then of one kind; sums of z by visit and over visits; rows hit."""
    largest, T, N = 1, lay.n_visit, lay.member.size
    for cell in range(lay.cell_class.size):
        largest = max(largest, lay.cell_start[cell + 1] - lay.cell_start[cell])
    n_moment = 1 + T + n_cov + n_cov * n_cov + (T * T + n_cov * T if lay.is_general else 2 + n_cov)
    return (
        np.zeros(largest, np.int64),
        np.zeros((largest, n_moment)),
        np.zeros(N, np.int64),
        np.zeros((N, n_moment)),
        np.zeros((T + 1, lay.n_column)),
        np.zeros((2, 1 + T * lay.n_term), np.int64),
    )


# Moments of a pattern: count, y by visit, covariate, covariate x covariate; then
#   strata: sum y^2, sum (sum y)^2, covariate x sum y;   general: y x y by visits, covariate x y by visit.


@kernel
def _pattern_of(i, observed, n_pattern, mask, pattern):  # type: ignore[no-untyped-def]
    """The place of participant i's pattern among those met, -1 if never seen; a new one is set to zero."""
    seen = 0
    for t in range(observed.shape[1]):
        seen |= int(observed[i, t]) << t
    if seen == 0:
        return -1
    k = 0
    while k < n_pattern and mask[k] != seen:
        k += 1
    if k == n_pattern:
        mask[k] = seen
        pattern[k] = 0.0
    return k


@kernel
def _moments(first, end, member, y, observed, covariate, shift, mask, pattern):  # type: ignore[no-untyped-def]
    n_visit, n_cov = y.shape[1], covariate.shape[1]
    more = 1 + n_visit + n_cov + n_cov * n_cov
    centre = shift[0]
    n_pattern = 0
    for j in range(first, end):
        i = member[j]
        seen = 0
        total = squares = 0.0
        for t in range(n_visit):
            if observed[i, t]:
                value = y[i, t] - centre
                seen |= 1 << t
                total += value
                squares += value * value
        if seen == 0:
            continue
        k = 0
        while k < n_pattern and mask[k] != seen:
            k += 1
        if k == n_pattern:
            mask[k] = seen
            n_pattern += 1
            for s in range(pattern.shape[1]):
                pattern[k, s] = 0.0
        pattern[k, 0] += 1.0
        pattern[k, more] += squares
        pattern[k, more + 1] += total * total
        for t in range(n_visit):
            if seen >> t & 1:
                pattern[k, 1 + t] += y[i, t] - centre
        for b in range(n_cov):
            x = covariate[i, b] - shift[1 + b]
            pattern[k, 1 + n_visit + b] += x
            pattern[k, more + 2 + b] += x * total
            for d in range(n_cov):
                pattern[k, 1 + n_visit + (1 + b) * n_cov + d] += x * (covariate[i, d] - shift[1 + d])
    return n_pattern


@kernel
def _moments_by_visit(first, end, member, y, observed, covariate, shift, mask, pattern):  # type: ignore[no-untyped-def]
    n_visit, n_cov = y.shape[1], covariate.shape[1]
    more = 1 + n_visit + n_cov + n_cov * n_cov
    n_pattern = 0
    for j in range(first, end):
        i = member[j]
        k = _pattern_of(i, observed, n_pattern, mask, pattern)
        if k < 0:
            continue
        n_pattern = max(n_pattern, k + 1)
        seen = mask[k]
        pattern[k, 0] += 1.0
        for t in range(n_visit):
            if seen >> t & 1:
                value = y[i, t] - shift[0]
                pattern[k, 1 + t] += value
                for s in range(t + 1):
                    if seen >> s & 1:
                        pattern[k, more + t * n_visit + s] += value * (y[i, s] - shift[0])
                for b in range(n_cov):
                    pattern[k, more + (n_visit + b) * n_visit + t] += (covariate[i, b] - shift[1 + b]) * value
        for b in range(n_cov):
            x = covariate[i, b] - shift[1 + b]
            pattern[k, 1 + n_visit + b] += x
            for d in range(n_cov):
                pattern[k, 1 + n_visit + (1 + b) * n_cov + d] += x * (covariate[i, d] - shift[1 + d])
    return n_pattern


@kernel
def _merge(seen, k, pattern, n_kind, kind_mask, kind):  # type: ignore[no-untyped-def]
    """Add a cell's pattern to those of its kind; returns their number."""
    m = 0
    while m < n_kind and kind_mask[m] != seen:
        m += 1
    if m == n_kind:
        kind_mask[m] = seen
        n_kind += 1
        for s in range(kind.shape[1]):
            kind[m, s] = pattern[k, s]
    else:
        for s in range(kind.shape[1]):
            kind[m, s] += pattern[k, s]
    return n_kind


@kernel
def _sums(cell, seen, k, pattern, n_cov, lay, z):  # type: ignore[no-untyped-def]
    """Sums of the columns of z in use by visit and, in the last row, over visits, of a pattern."""
    n_visit, n_column, count = lay.n_visit, lay.n_column, pattern[k, 0]
    first, end = lay.column_start[cell], lay.column_start[cell + 1]
    for at in range(first, end):
        c, total = lay.column[at], 0.0
        which = c - (n_column - 1 - n_cov)  # of the covariates, below 0 for a column of X
        for t in range(n_visit):
            if seen >> t & 1:
                if which < 0:
                    x = count * lay.cell_x[cell, t, c]
                else:
                    x = pattern[k, 1 + n_visit + which] if which < n_cov else pattern[k, 1 + t]
                z[t, c] = x
                total += x
        z[n_visit, c] = total


@kernel
def _at(i, j):  # type: ignore[no-untyped-def]
    """Place of (i, j), j <= i, in a lower triangle by rows."""
    return i * (i + 1) // 2 + j


@kernel
def _add_products(b, t, s, factor, first, end, n_cov, lay, cell, st, z):  # type: ignore[no-untyped-def]
    """S_b += factor x (products of the columns of X at visit t with the sums of z at visit s)."""
    column, n_x = lay.column, end - n_cov - 1
    for i in range(first, n_x):
        x = factor * lay.cell_x[cell, t, column[i]]
        if x != 0.0:
            for j in range(first, i + 1):
                st.S[b, _at(column[i], column[j])] += x * z[s, column[j]]
            for j in range(n_x, end):
                st.S[b, _at(column[j], column[i])] += x * z[s, column[j]]


@kernel
def _add_to_strata(cell, seen, k, pattern, n_cov, lay, st, z):  # type: ignore[no-untyped-def]
    """Add the participants of a kind who were seen at the same visits to S."""
    n_visit, n_stratum, p = lay.n_visit, lay.n_stratum, lay.n_column - 1
    first, end = lay.column_start[cell], lay.column_start[cell + 1]
    more, count = 1 + n_visit + n_cov + n_cov * n_cov, pattern[k, 0]
    n = 0
    within = lay.cell_class[cell] * n_stratum
    for t in range(n_visit):
        if seen >> t & 1:
            n += 1
            _add_products(within, t, t, 1.0, first, end, n_cov, lay, cell, st, z)
    has_between = n_stratum > 1
    between = within + n
    st.total[0] += n * np.int64(count)
    st.total[1] += np.int64(count)
    st.rank[within] += count * (n - 1 if has_between else n)
    st.S[within, _at(p, p)] += pattern[k, more]
    if has_between:
        st.rank[between] += count
        st.S[between, _at(p, p)] += pattern[k, more + 1] / n
        for t in range(n_visit):
            if seen >> t & 1:
                _add_products(between, t, n_visit, 1.0 / n, first, end, n_cov, lay, cell, st, z)
    for b in range(n_cov):
        for d in range(b + 1):
            x = n * pattern[k, 1 + n_visit + (1 + b) * n_cov + d]
            st.S[within, _at(p - n_cov + b, p - n_cov + d)] += x
            if has_between:
                st.S[between, _at(p - n_cov + b, p - n_cov + d)] += x
        x = pattern[k, more + 2 + b]
        st.S[within, _at(p, p - n_cov + b)] += x
        if has_between:
            st.S[between, _at(p, p - n_cov + b)] += x


@kernel
def _block_to_strata(cell, seen, count, lay, st, z, hit):  # type: ignore[no-untyped-def]
    """Add the participants of a cell who were seen at the same visits to N and M of its block."""
    n_visit, n_stratum, lanes, n_active = lay.n_visit, lay.n_stratum, lay.lanes, lay.n_active
    first, end, block = lay.column_start[cell], lay.column_start[cell + 1], lay.cell_block[cell]
    within = lay.cell_class[cell] * n_stratum
    n = n_hit = 0
    for t in range(n_visit):
        if not seen >> t & 1:
            continue
        n += 1
        for term in range(lay.n_term):
            i = lay.cell_row[cell, t, term]
            if i < 0:
                continue
            for at in range(first, end):
                x = z[t, lay.column[at]]
                if x != 0.0:
                    st.N_flat[within, (i * n_active + lay.place[at]) * lanes + block] += x
            for other in range(lay.n_term):
                if lay.cell_row[cell, t, other] >= 0:
                    st.M[within, i, lay.cell_row[cell, t, other], block] += count
            h = 0
            while h < n_hit and hit[0, h] != i:
                h += 1
            if h == n_hit:
                hit[0, h], hit[1, h] = i, 0
                n_hit += 1
            hit[1, h] += 1
    for h in range(n_hit if n_stratum > 1 else 0):
        i, x = hit[0, h], hit[1, h] / n
        for at in range(first, end):
            target = (i * n_active + lay.place[at]) * lanes + block
            st.N_flat[within + n, target] += x * z[n_visit, lay.column[at]]
        for k in range(n_hit):
            st.M[within + n, i, hit[0, k], block] += x * count * hit[1, k]


@kernel
def _within(lay, st):  # type: ignore[no-untyped-def]
    """Make the within strata total - between."""
    for s in range(st.rank.size):
        within = s - s % lay.n_stratum
        if s > within and st.rank[s] > 0.0:
            for i in range(st.S.shape[1]):
                st.S[within, i] -= st.S[s, i]
            for i in range(st.N_flat.shape[1]):
                st.N_flat[within, i] -= st.N_flat[s, i]
            for i in range(st.M_flat.shape[1]):
                st.M_flat[within, i] -= st.M_flat[s, i]


@kernel
def _pattern_index(seen, cls, st):  # type: ignore[no-untyped-def]
    """The number of a class's pattern in st, -1 if there is no room for it."""
    m = 0
    while m < st.total[2] and (st.mask[m] != seen or st.cls[m] != cls):
        m += 1
    if m == st.mask.size:
        return -1
    if m == st.total[2]:
        st.mask[m], st.cls[m] = seen, cls
        st.total[2] += 1
    return m


@kernel
def _add_to_pairs(cell, seen, m, k, pattern, n_cov, lay, st, z):  # type: ignore[no-untyped-def]
    """The same for the general basis: element (t, s) of a pattern holds z_t z_s' + z_s z_t', and z_t z_t' for t = s."""
    n_visit, p = lay.n_visit, lay.n_column - 1
    first, end = lay.column_start[cell], lay.column_start[cell + 1]
    more, count = 1 + n_visit + n_cov + n_cov * n_cov, pattern[k, 0]
    st.rank[m] += count
    st.total[1] += np.int64(count)
    for s in range(n_visit):
        if not seen >> s & 1:
            continue
        st.total[0] += np.int64(count)
        for t in range(s + 1):
            if not seen >> t & 1:
                continue
            b = (m * (n_visit + 1) * n_visit) // 2 + _at(s, t)
            twice, both = (1.0, 0.0) if t == s else (2.0, 1.0)
            _add_products(b, t, s, 1.0, first, end, n_cov, lay, cell, st, z)
            _add_products(b, s, t, both, first, end, n_cov, lay, cell, st, z)
            for c in range(n_cov):
                with_y = more + (n_visit + c) * n_visit
                st.S[b, _at(p, p - n_cov + c)] += pattern[k, with_y + s] + both * pattern[k, with_y + t]
                for d in range(c + 1):
                    x = pattern[k, 1 + n_visit + (1 + c) * n_cov + d]
                    st.S[b, _at(p - n_cov + c, p - n_cov + d)] += twice * x
            st.S[b, _at(p, p)] += twice * pattern[k, more + s * n_visit + t]


@kernel
def _block_to_pairs(cell, seen, m, count, lay, st, z):  # type: ignore[no-untyped-def]
    """N and M of the general basis, as _add_to_pairs."""
    n_visit, block = lay.n_visit, lay.cell_block[cell]
    for s in range(n_visit):
        for t in range(s + 1):
            if not (seen >> s & 1 and seen >> t & 1):
                continue
            b = (m * (n_visit + 1) * n_visit) // 2 + _at(s, t)
            for term in range(lay.n_term):
                i, k = lay.cell_row[cell, t, term], lay.cell_row[cell, s, term]
                for at in range(lay.column_start[cell], lay.column_start[cell + 1]):
                    if i >= 0:
                        st.N[b, i, lay.place[at], block] += z[s, lay.column[at]]
                    if k >= 0 and t != s:
                        st.N[b, k, lay.place[at], block] += z[t, lay.column[at]]
                for other in range(lay.n_term):
                    j = lay.cell_row[cell, s, other]
                    if i >= 0 and j >= 0:
                        st.M[b, i, j, block] += count
                        if t != s:
                            st.M[b, j, i, block] += count
