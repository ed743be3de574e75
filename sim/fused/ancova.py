"""Trials analysed at the final visit, given the baseline score: drawn, tallied and fitted in one pass."""

import numpy as np
from numba import njit

from sim.fused.draw import draw_participant, draw_unit
from sim.kernels.ancova_lanes import Sums, contrast, differentiate, evaluate
from sim.kernels.lanes_climb import N_RESULT, begin_all, infer_all, judge_all, known_all, new_climbs, step_all
from sim.kernels.mixed_optimise import DONE
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


@njit(cache=True, error_model="numpy", nogil=True)
def simulate(replicate, visits, layout, model, ancova, at, contrasts, bound, start, max_iteration):  # type: ignore[no-untyped-def]
    """Draw and fit the replicates of `replicate` (R / LANES, LANES) uint64; arguments and answers as in nested."""
    n_block, m, Q = replicate.shape[0], bound.size, contrasts.shape[0]
    n_unit, n_class = layout.kind.size, m - 1
    w = new_lanes(at.end + 3 * len(visits))
    sums = Sums(
        new_lanes(n_unit), new_lanes(n_unit), new_lanes(n_unit), new_lanes(n_class * 3).reshape((n_class, 3, LANES))
    )
    climbs = new_climbs(m)
    lanes = np.zeros((Q, N_RESULT, LANES))
    result = np.full((n_block * LANES, Q, N_RESULT), np.nan)
    variance = np.full((n_block * LANES, m), np.nan)
    criterion = np.full(n_block * LANES, np.nan)
    is_done = np.zeros(n_block * LANES, np.bool_)
    n_iteration = np.zeros(n_block * LANES, np.int64)
    by_kind = np.zeros((2, len(visits), LANES))
    seen = np.zeros((n_block * LANES, 2, len(visits)), np.int64)
    for b in range(n_block):
        tally(w, at.end, visits, layout, model, ancova, load(replicate, b), sums, by_kind)
        begin_all(climbs, start)
        goes_on, is_first = True, True
        while goes_on:
            evaluate(climbs.at, sums, ancova, at, w, climbs.value)
            if is_first:
                for q in range(Q):
                    known_all(contrasts[q], at, w, ancova.n_column, lanes[q])
                is_first = False
            if judge_all(climbs):
                differentiate(climbs.at, sums, ancova, at, w, climbs.score, climbs.average, climbs.observed)
            goes_on = step_all(climbs, bound, max_iteration)
        for q in range(Q):
            contrast(contrasts[q], climbs.at, sums, ancova, at, w, climbs.contrast, climbs.gradient, climbs.curvature)
            infer_all(climbs, lanes[q])
        for lane in range(LANES):
            r = b * LANES + lane
            n_iteration[r] = climbs.n_step[lane]
            for kind in range(2):
                for t in range(len(visits)):
                    seen[r, kind, t] = int(by_kind[kind, t, lane])
            if climbs.code[lane] == DONE:
                is_done[r] = True
                criterion[r] = climbs.value[0, lane]
                for k in range(m):
                    variance[r, k] = climbs.theta[lane, k]
                for q in range(Q):
                    for column in range(N_RESULT):
                        result[r, q, column] = lanes[q, column, lane]
    return result, variance, criterion, is_done, n_iteration, seen
