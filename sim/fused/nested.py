"""Village-randomised and individually randomised trials over all visits: drawn, tallied and fitted in one pass."""

import numpy as np
from numba import njit

from sim.fused.draw import Layout, Model, draw_participant, draw_unit
from sim.fused.task import Given, Trial
from sim.kernels.lanes_climb import CHORD_FROM, CHORD_OF_MANY, climb_of, keep_all
from sim.kernels.mixed_layout import Float
from sim.kernels.nested_lanes import Nested, Places, Sums, contrast, differentiate, evaluate
from sim.lanes import LANES, everywhere, fma, lane_kernel, load, store


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


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)  # type: ignore[call-overload]
def _simulate(task):  # type: ignore[no-untyped-def]
    """Take the design's turn, which gives the information expected, then draw and fit each block of replicates."""
    given, asked, sums, w, climbs = task.given, task.asked, task.sums, task.room, task.climbs
    layout, nested, at = given.layout, given.shape, given.at
    chord = CHORD_OF_MANY if nested.arm.size > 100 else CHORD_FROM
    for b in range(-1, task.replicate.shape[0]):
        if b >= 0:
            tally(w, at.end, nested.visits, layout, given.model, load(task.replicate, b), sums, task.seen[b])
        _fit(sums, nested, at, w, asked, climbs, task.lanes, chord, b < 0)
        if b >= 0:
            keep_all(climbs, task.lanes, b * LANES, task.results)


def trial(layout: Layout, model: Model, nested: Nested, at: Places, count: Float) -> Trial:
    """A trial of this kind; count (units, T): participants expected to be last seen at each visit."""
    last = np.repeat(count[:, :, None], LANES, 2)
    zero = np.zeros(last.shape)
    square = np.zeros((1 + count.shape[1], LANES))
    return Trial(_simulate, Given(nested.visits, layout, model, nested, at, Sums(last, zero, zero, square)))
