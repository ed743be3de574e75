"""Trials analysed at the final visit, given the baseline score: drawn, tallied and fitted in one pass."""

import numpy as np
from numba import njit

from sim.fused.draw import draw_participant, draw_unit
from sim.kernels.ancova_lanes import Sums, contrast, differentiate, evaluate
from sim.kernels.lanes_climb import CHORD_FROM, N_RESULT, climb_of, keep_all, new_climbs, new_results
from sim.lanes import LANES, everywhere, fma, lane_kernel, load, new_lanes, store


@lane_kernel
def tally(w, room, visits, layout, model, ancova, replicate, sums, seen):  # type: ignore[no-untyped-def]
    """Fill the Sums of an Ancova and who was seen (2, T, LANES) from LANES replicates; room: 3 T free places.

    x is the score at the first visit, y that at the last; who is not seen at the last visit is left out.
    """
    T = len(visits)
    base, scores, stays = room, room + T, room + 2 * T
    sums.square[:] = 0.0
    seen[:] = 0.0
    for i in range(layout.kind.size):
        draw_unit(w, base, visits, layout, model, replicate, i)
        n, Sx, Sy = everywhere(0.0), everywhere(0.0), everywhere(0.0)
        c = ancova.residual_class[i]
        xx, xy, yy = load(sums.square, c, 0), load(sums.square, c, 1), load(sums.square, c, 2)
        for j in range(layout.start[i], layout.start[i + 1]):
            draw_participant(w, base, scores, stays, visits, layout, model, replicate, i, j)
            here, x, y = load(w, stays + T - 1), load(w, scores), load(w, scores + T - 1)
            for t in range(T):
                store(seen, load(seen, layout.kind[i], t) + load(w, stays + t), layout.kind[i], t)
            x_seen, y_seen = here * x, here * y
            n, Sx, Sy = n + here, Sx + x_seen, Sy + y_seen
            xx, xy, yy = fma(x_seen, x, xx), fma(x_seen, y, xy), fma(y_seen, y, yy)
        store(sums.n, n, i)
        store(sums.x, Sx, i)
        store(sums.y, Sy, i)
        store(sums.square, xx, c, 0)
        store(sums.square, xy, c, 1)
        store(sums.square, yy, c, 2)


_fit = climb_of(evaluate, differentiate, contrast)


@njit(cache=True, error_model="numpy", nogil=True)
def simulate(  # type: ignore[no-untyped-def]
    replicate, visits, layout, model, ancova, at, count, spread, contrasts, bound, start, wanted, max_iteration
):
    """Draw and fit the replicates of `replicate` (R / LANES, LANES) uint64; arguments and answers as in nested.

    count (units,) expected to be seen at the end, spread (classes,) variance of the baseline.
    """
    n_block, m, Q = replicate.shape[0], bound.size, contrasts.shape[0]
    n_unit, n_class = layout.kind.size, m - 1
    w = new_lanes(at.end + 3 * len(visits))
    sums = Sums(
        new_lanes(n_unit), new_lanes(n_unit), new_lanes(n_unit), new_lanes(n_class * 3).reshape((n_class, 3, LANES))
    )
    climbs = new_climbs(m)
    lanes = np.zeros((Q, N_RESULT, LANES))
    results = new_results(n_block * LANES, Q, m)
    by_kind = np.zeros((2, len(visits), LANES))
    seen = np.zeros((n_block * LANES, 2, len(visits)), np.int64)
    for i in range(n_unit):
        store(sums.n, everywhere(count[i]), i)
        c = ancova.residual_class[i]
        store(sums.square, load(sums.square, c, 0) + count[i] * spread[c], c, 0)
    for b in range(-1, n_block):
        if b >= 0:
            tally(w, at.end, visits, layout, model, ancova, load(replicate, b), sums, by_kind)
        _fit(sums, ancova, at, w, contrasts, bound, start, climbs, wanted, lanes, max_iteration, CHORD_FROM, b < 0)
        if b < 0:
            continue
        keep_all(climbs, lanes, b * LANES, results)
        for lane in range(LANES):
            for kind in range(2):
                for t in range(len(visits)):
                    seen[b * LANES + lane, kind, t] = int(by_kind[kind, t, lane])
    return results, seen
