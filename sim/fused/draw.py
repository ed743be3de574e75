"""Scores and dropout of nested trials, LANES replicates at a time, one participant after the other; nothing is stored.

The draws are those of `sim.generate.nested` and `sim.missingness.dropout`, number for number: the same streams, keys
and counters.  Scores are taken about their expectation, which fixed effects remove anyway.
"""

from typing import NamedTuple

import numpy as np

from sim.kernels.mixed_layout import Float, Int
from sim.lanes import everywhere, fma, inline, lane_kernel, load, log, store, where
from sim.streams import normal_pair, uniform_pair

DISTRICT, VILLAGE, GROUP, PARTICIPANT, DROPOUT = range(5)
PURPOSES = ("district", "village", "training group", "participant", "dropout")


class Layout(NamedTuple):
    """Who is drawn.  A unit is a set of participants who share district, village, training group and arm."""

    start: Int  # (units + 1,) into the participants, who are ordered by unit
    cluster: np.ndarray  # (participants,) uint64, names in the streams
    member: np.ndarray
    district: Int  # (units,) -1 = none
    village: Int
    group: Int
    kind: Int  # (units,) 0 or 1: row of factor, intercept and hazard in the Model


class Model(NamedTuple):
    """What is drawn.  A standard deviation of 0 is not drawn."""

    key: np.ndarray  # (5,) uint64, one for each of PURPOSES
    sd_district: float
    sd_village: float
    sd_village_by_visit: float
    sd_group: float
    factor: Float  # (kinds, T, T) lower Cholesky factor of a participant's covariance over visits
    has_dropout: bool
    intercept: Float  # (kinds, T) log odds of leaving before a visit, at deviation 0; the first is not used
    hazard: Float  # (kinds, T) the same as a probability
    slope: float  # by deviation at the visit before
    scale: Float  # (T,) 1 / SD of a score, which makes it a deviation


@lane_kernel
def _pair(purpose, c0, c1, c2, replicate, key):  # type: ignore[no-untyped-def]
    """Two normals of one purpose for the counter (draw pair, member, cluster, replicate)."""
    word = key[purpose]
    return normal_pair(
        everywhere(np.uint64(c0)), everywhere(np.uint64(c1)), everywhere(np.uint64(c2)), replicate,
        word >> np.uint64(32), word & np.uint64(0xFFFFFFFF),
    )  # fmt: skip


@lane_kernel
def draw_unit(w, base, visits, layout, model, replicate, i):  # type: ignore[no-untyped-def]
    """What the participants of unit i share, by visit, into the T places from `base`."""
    T = len(visits)
    for t in range(T):
        store(w, everywhere(0.0), base + t)
    if model.sd_district > 0.0 and layout.district[i] >= 0:
        z, _ = _pair(DISTRICT, 0, layout.district[i], 0, replicate, model.key)
        for t in range(T):
            store(w, z * model.sd_district, base + t)
    village = layout.village[i]
    if village >= 0 and (model.sd_village > 0.0 or model.sd_village_by_visit > 0.0):
        z, by_visit = _pair(VILLAGE, 0, village, 0, replicate, model.key)
        shared = z * model.sd_village
        for t in range(T):
            if t % 2 == 1:
                z, by_visit = _pair(VILLAGE, (t + 1) // 2, village, 0, replicate, model.key)
            own = by_visit if t % 2 == 0 else z
            store(w, load(w, base + t) + shared + own * model.sd_village_by_visit, base + t)
    if model.sd_group > 0.0 and layout.group[i] >= 0:
        z, _ = _pair(GROUP, 0, layout.group[i], 0, replicate, model.key)
        for t in range(1, T):
            store(w, load(w, base + t) + z * model.sd_group, base + t)


@inline
def draw_participant(w, base, y, stays, visits, layout, model, replicate, i, j):  # type: ignore[no-untyped-def]
    """Scores of participant j of unit i into the T places from `y`; into `stays` 1 while seen, 0 from leaving on."""
    T = len(visits)
    member, cluster, kind = layout.member[j], layout.cluster[j], layout.kind[i]
    for t in range(T):
        store(w, load(w, base + t), y + t)
    key = model.key[PARTICIPANT]
    for s in range(0, T, 2):
        z, z_next = normal_pair(
            everywhere(np.uint64(s // 2)),
            everywhere(member),
            everywhere(cluster),
            replicate,
            key >> np.uint64(32),
            key & np.uint64(0xFFFFFFFF),
        )
        for t in range(s, T):
            total = fma(z, model.factor[kind, t, s], load(w, y + t))
            if s + 1 <= t:
                total = fma(z_next, model.factor[kind, t, s + 1], total)
            store(w, total, y + t)
    store(w, everywhere(1.0), stays)
    if not model.has_dropout:
        for t in range(1, T):
            store(w, everywhere(1.0), stays + t)
        return
    word = model.key[DROPOUT]
    k0, k1 = word >> np.uint64(32), word & np.uint64(0xFFFFFFFF)
    for s in range(0, T - 1, 2):
        u, u_next = uniform_pair(
            everywhere(np.uint64(s // 2)), everywhere(member), everywhere(cluster), replicate, k0, k1
        )
        store(w, u, stays + s + 1)
        if s + 2 < T:
            store(w, u_next, stays + s + 2)
    for t in range(1, T):
        u = load(w, stays + t)
        if model.slope == 0.0:
            before = load(w, stays + t - 1)
            store(w, where(u >= model.hazard[kind, t], before, 0.0), stays + t)
        else:
            risk = fma(load(w, y + t - 1) * model.scale[t - 1], model.slope, model.intercept[kind, t])
            before = load(w, stays + t - 1)
            store(w, where(log(u / (1.0 - u)) >= risk, before, 0.0), stays + t)
