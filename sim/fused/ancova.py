"""Trials analysed at the final visit, given the baseline score: drawn and tallied in one pass."""

from sim.fused.draw import draw_participant, draw_unit
from sim.lanes import everywhere, fma, lane_kernel, load, store


@lane_kernel
def tally(w, room, layout, model, ancova, replicate, sums):  # type: ignore[no-untyped-def]
    """Fill the Sums of an Ancova from LANES replicates; room: first of 3 T free places of the workspace.

    x is the score at the first visit, y that at the last; who is not seen at the last visit is left out.
    """
    T = model.scale.size
    base, scores, stays = room, room + T, room + 2 * T
    sums.square[:] = 0.0
    for i in range(layout.arm.size):
        draw_unit(w, base, layout, model, replicate, i)
        n, Sx, Sy = everywhere(0.0), everywhere(0.0), everywhere(0.0)
        c = ancova.residual_class[i]
        xx, xy, yy = load(sums.square, c, 0), load(sums.square, c, 1), load(sums.square, c, 2)
        for j in range(layout.start[i], layout.start[i + 1]):
            draw_participant(w, base, scores, stays, layout, model, replicate, i, j)
            here, x, y = load(w, stays + T - 1), load(w, scores), load(w, scores + T - 1)
            x_seen, y_seen = here * x, here * y
            n, Sx, Sy = n + here, Sx + x_seen, Sy + y_seen
            xx, xy, yy = fma(x_seen, x, xx), fma(x_seen, y, xy), fma(y_seen, y, yy)
        store(sums.n, n, i)
        store(sums.x, Sx, i)
        store(sums.y, Sy, i)
        store(sums.square, xx, c, 0)
        store(sums.square, xy, c, 1)
        store(sums.square, yy, c, 2)
