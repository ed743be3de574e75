"""Village-randomised and individually randomised trials over all visits: drawn, tallied and fitted in one pass."""

import numpy as np

from sim.fused.draw import draw_participant, draw_unit
from sim.lanes import everywhere, fma, lane_kernel, load, store


@lane_kernel
def tally(w, room, layout, model, replicate, sums):  # type: ignore[no-untyped-def]
    """Fill Sums from LANES replicates; room: first of 3 T free places of the workspace."""
    T = model.scale.size
    base, y, stays = room, room + T, room + 2 * T
    sums.square[:] = 0.0
    for i in range(layout.arm.size):
        draw_unit(w, base, layout, model, replicate, i)
        for t in range(T):
            zero = everywhere(0.0)
            store(sums.count, zero, i, t)
            store(sums.at_visit, zero, i, t)
            store(sums.total, zero, i, t)
        for j in range(layout.start[i], layout.start[i + 1]):
            draw_participant(w, base, y, stays, layout, model, replicate, i, j)
            total, square = everywhere(0.0), load(sums.square, 0)
            for t in range(T):
                score, here = load(w, y + t), load(w, stays + t)
                seen = here * score
                total = total + seen
                square = fma(seen, score, square)
                last = here - load(w, stays + t + 1) if t + 1 < T else here
                store(sums.count, load(sums.count, i, t) + last, i, t)
                store(sums.at_visit, load(sums.at_visit, i, t) + seen, i, t)
                here_last = last * total
                store(sums.total, load(sums.total, i, t) + here_last, i, t)
                store(sums.square, fma(here_last, total, load(sums.square, 1 + t)), 1 + t)
            store(sums.square, square, 0)
