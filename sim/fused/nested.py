"""Village-randomised and individually randomised trials over all visits: drawn, tallied and fitted in one pass."""

import numpy as np
from numba import njit

from sim.fused.draw import draw_participant, draw_unit
from sim.kernels.lanes_climb import CHORD_FROM, CHORD_OF_MANY, N_RESULT, climb_of, keep_all, new_climbs, new_results
from sim.kernels.nested_lanes import Sums, contrast, differentiate, evaluate
from sim.lanes import LANES, everywhere, fma, lane_kernel, load, new_lanes, store


@lane_kernel
def tally(w, room, visits, layout, model, replicate, sums, seen):  # type: ignore[no-untyped-def]
    """Fill Sums and who was seen (2, T, LANES) from LANES replicates; room: first of 3 T free places."""
    T = len(visits)
    base, y, stays = room, room + T, room + 2 * T
    for t in range(1 + T):
        store(sums.square, everywhere(0.0), t)
    for t in range(T):
        store(seen, everywhere(0.0), 0, t)
        store(seen, everywhere(0.0), 1, t)
    for i in range(layout.kind.size):
        draw_unit(w, base, visits, layout, model, replicate, i)
        for t in range(T):
            zero = everywhere(0.0)
            store(sums.last, zero, i, t)
            store(sums.at_visit, zero, i, t)
            store(sums.total, zero, i, t)
        for j in range(layout.start[i], layout.start[i + 1]):
            draw_participant(w, base, y, stays, visits, layout, model, replicate, i, j)
            total, square = everywhere(0.0), load(sums.square, 0)
            for t in range(T):
                score, here = load(w, y + t), load(w, stays + t)
                kept = here * score
                total = total + kept
                square = fma(kept, score, square)
                last = here - load(w, stays + t + 1) if t + 1 < T else here
                store(sums.last, load(sums.last, i, t) + last, i, t)
                store(sums.at_visit, load(sums.at_visit, i, t) + kept, i, t)
                here_last = last * total
                store(sums.total, load(sums.total, i, t) + here_last, i, t)
                store(sums.square, fma(here_last, total, load(sums.square, 1 + t)), 1 + t)
            store(sums.square, square, 0)
        here = everywhere(0.0)
        for back in range(T):  # whoever was last seen at t was seen at every visit up to it
            t = T - 1 - back
            here = here + load(sums.last, i, t)
            store(seen, load(seen, layout.kind[i], t) + here, layout.kind[i], t)


_fit = climb_of(evaluate, differentiate, contrast)


@njit(cache=True, error_model="numpy", nogil=True)
def simulate(replicate, layout, model, nested, at, count, contrasts, bound, start, wanted, max_iteration):  # type: ignore[no-untyped-def]
    """Draw and fit the replicates of `replicate` (R / LANES, LANES) uint64.

    count (units, T): participants expected to be last seen at each visit.  contrasts (Q, p); bound (m,) as in
    mixed_optimise; start (m,): where the climbs start, and the variances of the known-variance estimate; wanted
    (N_RESULT,) bool: what is to be inferred.  Returns Results, and who was seen: (R, 2, T) untreated and trained, by
    visit.
    """
    n_block, T, m, Q = replicate.shape[0], len(nested.visits), bound.size, contrasts.shape[0]
    n_unit = layout.kind.size
    w = new_lanes(at.end + 3 * T)
    shape = (n_unit, T, LANES)
    sums = Sums(
        new_lanes(n_unit * T).reshape(shape), new_lanes(n_unit * T).reshape(shape),
        new_lanes(n_unit * T).reshape(shape), new_lanes(1 + T),
    )  # fmt: skip
    climbs = new_climbs(m)
    lanes = np.zeros((Q, N_RESULT, LANES))
    results = new_results(n_block * LANES, Q, m)
    by_kind = np.zeros((2, T, LANES))
    seen = np.zeros((n_block * LANES, 2, T), np.int64)
    for i in range(n_unit):
        for t in range(T):
            store(sums.last, everywhere(count[i, t]), i, t)
    chord = CHORD_OF_MANY if n_unit > 100 else CHORD_FROM
    for b in range(-1, n_block):
        if b >= 0:
            tally(w, at.end, nested.visits, layout, model, load(replicate, b), sums, by_kind)
        _fit(sums, nested, at, w, contrasts, bound, start, climbs, wanted, lanes, max_iteration, chord, b < 0)
        if b < 0:
            continue
        for kind in range(2):
            for t in range(T):
                for lane in range(LANES):
                    seen[b * LANES + lane, kind, t] = int(by_kind[kind, t, lane])
        keep_all(climbs, lanes, b * LANES, results)
    return results, seen
