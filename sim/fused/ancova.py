"""Trials analysed at the final visit, given the baseline score: drawn, tallied and fitted in one pass."""

import numpy as np
from numba import njit

from sim.fused.draw import Layout, Model, draw_participant, draw_unit
from sim.fused.task import Given, Trial
from sim.kernels.ancova_lanes import Ancova, Places, Sums, contrast, differentiate, evaluate
from sim.kernels.lanes_climb import CHORD_FROM, climb_of, keep_all
from sim.kernels.mixed_algebra import clear
from sim.kernels.mixed_layout import Float
from sim.lanes import LANES, everywhere, fma, lane_kernel, load, store


@lane_kernel
def tally(w, room, visits, layout, model, ancova, replicate, sums, seen):  # type: ignore[no-untyped-def]
    """Fill the Sums of an Ancova and who was seen (2, T, LANES) from LANES replicates; room: 3 T free places.

    x is the score at the first visit, y that at the last; who is not seen at the last visit is left out.
    """
    T = len(visits)
    base, scores, stays = room, room + T, room + 2 * T
    clear(sums.square)
    clear(seen)
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


@njit(cache=True, error_model="numpy", nogil=True, _nrt=False)  # type: ignore[call-overload]
def _simulate(task):  # type: ignore[no-untyped-def]
    """Take the design's turn, which gives the information expected, then draw and fit each block of replicates."""
    given, asked, sums, w, climbs = task.given, task.asked, task.sums, task.room, task.climbs
    ancova, at = given.shape, given.at
    for b in range(-1, task.replicate.shape[0]):
        if b >= 0:
            replicate, seen = load(task.replicate, b), task.seen[b]
            tally(w, at.end, given.visits, given.layout, given.model, ancova, replicate, sums, seen)
        _fit(sums, ancova, at, w, asked, climbs, task.lanes, CHORD_FROM, b < 0)
        if b >= 0:
            keep_all(climbs, task.lanes, b * LANES, task.results)


def trial(
    visits: tuple[int, ...], layout: Layout, model: Model, ancova: Ancova, at: Places, count: Float, spread: Float
) -> Trial:
    """A trial of this kind; count (units,) expected to be seen last, spread (classes,) variance of the baseline."""
    n, zero = np.repeat(count[:, None], LANES, 1), np.zeros((len(count), LANES))
    square = np.zeros((len(spread), 3, LANES))
    np.add.at(square[:, 0], ancova.residual_class, n)
    square[:, 0] *= spread[:, None]
    return Trial(_simulate, Given(visits, layout, model, ancova, at, Sums(n, zero, zero, square)))
