"""One pass over the data of a replicate: the cross-products S_b, N_b, M_b of the header of mixed."""

from typing import NamedTuple

import numpy as np

from sim.kernels.mixed_algebra import clear
from sim.kernels.mixed_layout import Float, Int, Layout
from sim.lanes import compact, lane_kernel, where


class Moments(NamedTuple):
    """Workspace of one pass.  k moments of a pattern are

    count, y by visit, covariate, covariate x covariate; then
    strata: sum y^2, sum (sum y)^2, covariate x sum y;   general: y x y by visits, covariate x y by visit.
    """

    mask: Int  # (patterns of a cell,) visits seen, as bits
    pattern: Float  # (patterns of a cell, k)
    kind_mask: Int  # of a kind of cells
    kind: Float
    z: Float  # (T + 1, r) sums of z by visit, and over visits
    hit: Int  # (2, ..) rows of Z' hit, how often
    hint: Int  # (256,) see _place


@lane_kernel
def accumulate(y, observed, covariate, shift, lay, st, room):  # type: ignore[no-untyped-def]
    """Fill st with one replicate, cell by cell, pattern by pattern; False if st has room for too few patterns.

    What concerns blocks is added by cell, S by kind of cells (the same X and class).
    shift (1 + c,) is taken from y and the covariates: it costs no digits then that their means are far from 0.
    """
    compact()
    mask, pattern, kind_mask, kind, z, hit = room.mask, room.pattern, room.kind_mask, room.kind, room.z, room.hit
    n_cov, n_visit, n_kind = covariate.shape[1], lay.n_visit, 0
    clear(st.S)
    clear(st.N_flat)
    clear(st.M_flat)
    clear(st.rank)
    for k in range(st.total.size):
        st.total[k] = 0
    for cell in range(lay.cell_class.size):
        first, end = lay.cell_start[cell], lay.cell_start[cell + 1]
        if lay.is_general:
            n_pattern = _moments_by_visit(
                first, end, lay.member, y, observed, covariate, shift, mask, pattern, room.hint
            )
        else:
            n_pattern = _moments(first, end, lay.member, y, observed, covariate, shift, mask, pattern, room.hint)
        for k in range(n_pattern):
            n_kind = _merge(mask[k], k, pattern, n_kind, kind_mask, kind)
            if lay.cell_block[cell] >= 0:
                if not lay.is_general:
                    _block_to_strata(cell, mask[k], pattern[k], lay, st, hit)
                else:
                    m = _pattern_index(mask[k], lay.cell_class[cell], st)
                    if m < 0:
                        return False
                    _block_to_pairs(cell, mask[k], m, pattern[k], lay, st)
        if lay.kind_ends[cell]:
            for k in range(n_kind):
                column = lay.column[lay.column_start[cell] : lay.column_start[cell + 1]]
                for at in range(column.size):
                    c = column[at]
                    z[n_visit, c] = 0.0
                    for t in range(n_visit):
                        if kind_mask[k] >> t & 1:
                            z[t, c] = _sum(c, t, lay.cell_x[cell], kind[k], lay.n_column - 1)
                            z[n_visit, c] += z[t, c]
                if not lay.is_general:
                    _add_to_strata(cell, kind_mask[k], kind[k], column, n_cov, lay, st, z)
                else:
                    m = _pattern_index(kind_mask[k], lay.cell_class[cell], st)
                    if m < 0:
                        return False
                    _add_to_pairs(cell, kind_mask[k], m, kind[k], column, n_cov, lay, st, z)
            n_kind = 0
    if not lay.is_general:
        _within(lay, st)
    return True


def accumulation_room(lay: Layout, n_cov: int) -> Moments:
    """Workspace of `accumulate` for a design and n_cov participant-level columns."""
    largest, T, N = int(np.diff(lay.cell_start).max(initial=1)), lay.n_visit, lay.member.size
    n_moment = 1 + T + n_cov + n_cov * n_cov + (T * T + n_cov * T if lay.is_general else 2 + n_cov)
    return Moments(
        np.zeros(largest, np.int64),
        np.zeros((largest, n_moment)),
        np.zeros(N, np.int64),
        np.zeros((N, n_moment)),
        np.zeros((T + 1, lay.n_column)),
        np.zeros((2, 1 + T * lay.n_term), np.int64),
        np.zeros(256, np.int64),
    )


@lane_kernel
def _place(seen, n_pattern, mask, pattern, hint):  # type: ignore[no-untyped-def]
    """The place of a pattern among the n_pattern met; a new one is set to zero and put behind them.

    hint (256,) remembers by the first eight visits where a pattern was last found, so that the search is rare.
    """
    k = hint[seen & 255]
    if k < n_pattern and mask[k] == seen:
        return k
    k = 0
    while k < n_pattern and mask[k] != seen:
        k += 1
    hint[seen & 255] = k
    if k == n_pattern:
        mask[k] = seen
        clear(pattern[k])
    return k


@lane_kernel
def _seen(observed):  # type: ignore[no-untyped-def]
    """The visits seen, as bits; without branches."""
    seen = 0
    for t in range(observed.size - 1, -1, -1):
        seen = 2 * seen + int(observed[t])
    return seen


@lane_kernel
def _moments(first, end, member, y, observed, covariate, shift, mask, pattern, hint):  # type: ignore[no-untyped-def]
    """Moments of the participants of a cell by pattern; the number of patterns."""
    compact()
    n_visit, n_cov = y.shape[1], covariate.shape[1]
    more, centre = 1 + n_visit + n_cov + n_cov * n_cov, shift[0]
    n_pattern = 0
    for j in range(first, end):
        i = member[j]
        y_i, observed_i = y[i], observed[i]
        seen = _seen(observed_i)
        if seen == 0:
            continue
        k = _place(seen, n_pattern, mask, pattern, hint)
        n_pattern = max(n_pattern, k + 1)
        total = squares = 0.0
        own = pattern[k]
        own[0] += 1.0
        for t in range(n_visit):
            x = where(observed_i[t], y_i[t] - centre, 0.0)
            own[1 + t] += x
            total += x
            squares += x * x
        own[more] += squares
        own[more + 1] += total * total
        for b in range(n_cov):
            x = covariate[i, b] - shift[1 + b]
            own[1 + n_visit + b] += x
            own[more + 2 + b] += x * total
            for d in range(n_cov):
                own[1 + n_visit + (1 + b) * n_cov + d] += x * (covariate[i, d] - shift[1 + d])
    return n_pattern


@lane_kernel
def _moments_by_visit(first, end, member, y, observed, covariate, shift, mask, pattern, hint):  # type: ignore[no-untyped-def]
    """The same for the general basis; products of visits not seen are left at 0."""
    compact()
    n_visit, n_cov = y.shape[1], covariate.shape[1]
    more, centre = 1 + n_visit + n_cov + n_cov * n_cov, shift[0]
    n_pattern = 0
    for j in range(first, end):
        i = member[j]
        y_i, observed_i = y[i], observed[i]
        seen = _seen(observed_i)
        if seen == 0:
            continue
        k = _place(seen, n_pattern, mask, pattern, hint)
        n_pattern = max(n_pattern, k + 1)
        own = pattern[k]
        own[0] += 1.0
        for t in range(n_visit):
            if observed_i[t]:
                x = y_i[t] - centre
                own[1 + t] += x
                for s in range(t + 1):
                    if observed_i[s]:
                        own[more + t * n_visit + s] += x * (y_i[s] - centre)
                for b in range(n_cov):
                    own[more + (n_visit + b) * n_visit + t] += (covariate[i, b] - shift[1 + b]) * x
        for b in range(n_cov):
            x = covariate[i, b] - shift[1 + b]
            own[1 + n_visit + b] += x
            for d in range(n_cov):
                own[1 + n_visit + (1 + b) * n_cov + d] += x * (covariate[i, d] - shift[1 + d])
    return n_pattern


@lane_kernel
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


@lane_kernel
def _sum(c, t, x, own, p):  # type: ignore[no-untyped-def]
    """Sum of column c of z at visit t over the participants of a pattern; x (T, p0) of X, own the pattern's moments."""
    n_visit, n_shared = x.shape
    if c < n_shared:
        return own[0] * x[t, c]
    return own[1 + n_visit + c - n_shared] if c < p else own[1 + t]


@lane_kernel
def _at(i, j):  # type: ignore[no-untyped-def]
    """Place of (i, j), j <= i, in a lower triangle by rows."""
    return i * (i + 1) // 2 + j


@lane_kernel
def _add_products(S, factor, x, z, column, n_cov):  # type: ignore[no-untyped-def]
    """S += factor x (products of the columns in use of X, a row x of it, with sums z of all in use)."""
    n_x = column.size - n_cov - 1
    for i in range(n_x):
        share = factor * x[column[i]]
        if share != 0.0:
            own = _at(column[i], 0)
            for j in range(i + 1):
                S[own + column[j]] += share * z[column[j]]
            for j in range(n_x, column.size):
                S[_at(column[j], column[i])] += share * z[column[j]]


@lane_kernel
def _add_to_strata(cell, seen, own, column, n_cov, lay, st, z):  # type: ignore[no-untyped-def]
    """Add the participants of a kind who were seen at the same visits to S."""
    n_visit, n_stratum, p = lay.n_visit, lay.n_stratum, lay.n_column - 1
    more, count = 1 + n_visit + n_cov + n_cov * n_cov, own[0]
    n = 0
    within = lay.cell_class[cell] * n_stratum
    for t in range(n_visit):
        if seen >> t & 1:
            n += 1
            _add_products(st.S[within], 1.0, lay.cell_x[cell, t], z[t], column, n_cov)
    has_between = n_stratum > 1
    between = within + n
    st.total[0] += n * np.int64(count)
    st.total[1] += np.int64(count)
    st.rank[within] += count * (n - 1 if has_between else n)
    st.S[within, _at(p, p)] += own[more]
    if has_between:
        st.rank[between] += count
        st.S[between, _at(p, p)] += own[more + 1] / n
        for t in range(n_visit):
            if seen >> t & 1:
                _add_products(st.S[between], 1.0 / n, lay.cell_x[cell, t], z[n_visit], column, n_cov)
    for b in range(n_cov):
        for d in range(b + 1):
            x = n * own[1 + n_visit + (1 + b) * n_cov + d]
            st.S[within, _at(p - n_cov + b, p - n_cov + d)] += x
            if has_between:
                st.S[between, _at(p - n_cov + b, p - n_cov + d)] += x
        x = own[more + 2 + b]
        st.S[within, _at(p, p - n_cov + b)] += x
        if has_between:
            st.S[between, _at(p, p - n_cov + b)] += x


@lane_kernel
def _block_to_strata(cell, seen, own, lay, st, hit):  # type: ignore[no-untyped-def]
    """Add the participants of a cell who were seen at the same visits to N and M of its block; own: their moments."""
    block, x, row, M = lay.cell_block[cell], lay.cell_x[cell], lay.cell_row[cell], st.M
    within = lay.cell_class[cell] * lay.n_stratum
    n = n_hit = 0
    for t in range(lay.n_visit):
        n += seen >> t & 1
        for term in range(lay.n_term if seen >> t & 1 else 0):
            i = row[t, term]
            if i >= 0:
                for other in range(lay.n_term):
                    if row[t, other] >= 0:
                        M[within, i, row[t, other], block] += own[0]
                h = 0
                while h < n_hit and hit[0, h] != i:
                    h += 1
                if h == n_hit:
                    hit[0, h], hit[1, h] = i, 0
                    n_hit += 1
                hit[1, h] += 1
    between, has_between = within + n, lay.n_stratum > 1
    for h in range(n_hit if has_between else 0):
        for k in range(n_hit):
            M[between, hit[0, h], hit[0, k], block] += own[0] * hit[1, h] * hit[1, k] / n
    for at in range(lay.column_start[cell], lay.column_start[cell + 1]):
        total, place = 0.0, lay.place[at]
        for t in range(lay.n_visit):
            if seen >> t & 1:
                z = _sum(lay.column[at], t, x, own, lay.n_column - 1)
                total += z
                if z != 0.0:
                    for term in range(lay.n_term):
                        if row[t, term] >= 0:
                            st.N[within, row[t, term], place, block] += z
        for h in range(n_hit if has_between else 0):
            st.N[between, hit[0, h], place, block] += total * hit[1, h] / n


@lane_kernel
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


@lane_kernel
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


@lane_kernel
def _add_to_pairs(cell, seen, m, own, column, n_cov, lay, st, z):  # type: ignore[no-untyped-def]
    """The same for the general basis: element (t, s) of a pattern holds z_t z_s' + z_s z_t', and z_t z_t' for t = s."""
    n_visit, p = lay.n_visit, lay.n_column - 1
    more, count = 1 + n_visit + n_cov + n_cov * n_cov, own[0]
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
            _add_products(st.S[b], 1.0, lay.cell_x[cell, t], z[s], column, n_cov)
            if t != s:
                _add_products(st.S[b], 1.0, lay.cell_x[cell, s], z[t], column, n_cov)
            for c in range(n_cov):
                with_y = more + (n_visit + c) * n_visit
                st.S[b, _at(p, p - n_cov + c)] += own[with_y + s] + both * own[with_y + t]
                for d in range(c + 1):
                    x = own[1 + n_visit + (1 + c) * n_cov + d]
                    st.S[b, _at(p - n_cov + c, p - n_cov + d)] += twice * x
            st.S[b, _at(p, p)] += twice * own[more + s * n_visit + t]


@lane_kernel
def _block_to_pairs(cell, seen, m, own, lay, st):  # type: ignore[no-untyped-def]
    """N and M of the general basis, as _add_to_pairs."""
    n_visit, block, x, row = lay.n_visit, lay.cell_block[cell], lay.cell_x[cell], lay.cell_row[cell]
    for s in range(n_visit):
        for t in range(s + 1):
            if not (seen >> s & 1 and seen >> t & 1):
                continue
            b = (m * (n_visit + 1) * n_visit) // 2 + _at(s, t)
            for term in range(lay.n_term):
                i, k = row[t, term], row[s, term]
                for at in range(lay.column_start[cell], lay.column_start[cell + 1]):
                    if i >= 0:
                        st.N[b, i, lay.place[at], block] += _sum(lay.column[at], s, x, own, lay.n_column - 1)
                    if k >= 0 and t != s:
                        st.N[b, k, lay.place[at], block] += _sum(lay.column[at], t, x, own, lay.n_column - 1)
                for other in range(lay.n_term):
                    j = row[s, other]
                    if i >= 0 and j >= 0:
                        st.M[b, i, j, block] += own[0]
                        if t != s:
                            st.M[b, j, i, block] += own[0]
