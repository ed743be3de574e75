"""Adds draws, means and gains up into scores: several versions of every participant that share every draw.

The versions are the two truths of a trial, or a participant's potential outcomes. A score at visit t is

    level + shared + own + taught * group + dose * (gain + varies * variation),

of which shared, own, group and variation are draws, and the others belong to the version. Participants stand side by
side in lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sim.generate.distribution import Distribution, transformed
from sim.generate.response import on_scale
from sim.lanes import LANES, everywhere, load, new_lanes, store
from sim.trial import Flags, Floats, Ints


class Version(NamedTuple):
    """What training does in one version of a trial.

    is_trained : (N,).  gain : (N, K) gain at the final visit with full attendance.  leaked : (N, K) gain of the
    untreated.  demand : what trained participants add to their report.  varies : factor on the variation of the effect
    between districts.  taken : (N, T) what training with full attendance takes off a score.
    """

    is_trained: Flags
    gain: Floats
    leaked: Floats
    demand: float
    varies: float
    taken: Floats


class Effects(NamedTuple):
    """Draws of what is shared, and whose they are; the last group is nobody's, with zeros.

    shared : (R, U, T, K) of the place.  variation : (R, D, K).  group : (R, G + 1, K), after the training.
    unit_of, district_of, group_of : (N,).
    """

    shared: Floats
    variation: Floats
    group: Floats
    unit_of: Ints
    district_of: Ints
    group_of: Ints


class Own(NamedTuple):
    """What participants have to themselves.

    draw : (R, N, T K) standard normals.  sd, root : as in components.  shape, scale : as in distribution, (R, N).
    """

    draw: Floats
    sd: Floats
    root: Floats
    shape: Distribution
    scale: Floats


class Terms(NamedTuple):
    """What belongs to the versions, V of them, in lanes (.., C, LANES): see the header.

    level, gain : (V, K, T, C, LANES).  taught, varies : (V, T, C, LANES), 0 before the training and for the untreated.
    """

    level: Floats
    gain: Floats
    taught: Floats
    varies: Floats


def terms(versions: Sequence[Version], mean: Floats, profile: Floats) -> Terms:
    """The terms of some versions.  mean : (N, T) without training.  profile : (T,) share of the gain, 0 = before it."""
    level, gain, taught, varies = [], [], [], []
    after = (profile > 0).astype(float)[:, None]
    for one in versions:
        trained = after * one.is_trained
        level.append(mean.T + profile[:, None] * one.leaked.T[:, None] + one.demand * trained)
        gain.append(trained * (profile[:, None] * one.gain.T[:, None] - one.taken.T))
        taught.append(trained)
        varies.append(one.varies * profile[:, None] * trained)
    return Terms(*(_floats_in_lanes(np.array(one)) for one in (level, gain, taught, varies)))


def _floats_in_lanes(x: Floats) -> Floats:
    """(.., N) numbers as (.., ceil(N / LANES), LANES), zeros at the end."""
    padded = np.zeros((*x.shape[:-1], -(-x.shape[-1] // LANES) * LANES))
    padded[..., : x.shape[-1]] = x
    return padded.reshape(*x.shape[:-1], -1, LANES)


def assemble(
    own: Any, effects: Any, versions: Any, dose: Any, response: Any, inverse_sd: Any, score: Any, deviation: Any
) -> None:
    """Fills score (K, V, R, N, T) and deviation (R, N, T), that of the normal scores, in everyone's own group.

    versions : Terms.  dose : (R, N) share of the gain.  response : (K, 4) as in scale_row.
    """
    n_outcome, n_version, _, _, n_visit = score.shape
    size = (n_visit * n_outcome, n_visit * n_outcome, n_outcome, n_outcome, 2, n_version * n_visit, n_visit)
    lanes = tuple(new_lanes(n) for n in size)
    _assemble(own, effects, versions, dose, response, inverse_sd, lanes, score, deviation)


@njit(cache=True, error_model="numpy")
def _assemble(
    own: Any, effects: Any, versions: Any, dose: Any, response: Any, inverse_sd: Any, lanes: Any, score: Any,
    deviation: Any,
) -> None:  # fmt: skip
    """Fills the scores, LANES participants side by side. lanes : room for one such row of participants."""
    draw, own_sd, root, shape, scale = own  # fields of tuples cost time inside the loops
    shared, variation, group, unit_of, district_of, group_of = effects
    level, gain, taught, varies = versions
    n_outcome, n_version, n_replicate, n_participant, n_visit = score.shape
    drawn, place, teaching, district, person, found, departure = lanes
    for r in range(n_replicate):
        for c in range(level.shape[3]):
            first = c * LANES
            size = min(LANES, n_participant - first)
            for lane in range(size):
                n = first + lane
                u, d, g = unit_of[n], district_of[n], group_of[n]
                person[0, lane], person[1, lane] = dose[r, n], scale[r, n]
                for t in range(n_visit):
                    for k in range(n_outcome):
                        drawn[t * n_outcome + k, lane] = draw[r, n, t * n_outcome + k]
                        place[t * n_outcome + k, lane] = shared[r, u, t, k]
                for k in range(n_outcome):
                    teaching[k, lane], district[k, lane] = group[r, g, k], variation[r, d, k]
            for t in range(n_visit):
                store(departure, 0.0, t)
            for k in range(n_outcome):
                for t in range(n_visit):
                    row, normal = t * n_outcome + k, everywhere(0.0)
                    for other in range(row + 1):
                        normal = normal + root[row, other] * load(drawn, other)
                    noise, together = load(place, row), everywhere(0.0)
                    if t > 0:
                        together = load(teaching, k)
                    apart = (noise + together + own_sd[t, k] * normal) * (inverse_sd[t] / n_outcome)
                    store(departure, load(departure, t) + apart, t)
                    noise = noise + own_sd[t, k] * transformed(normal, shape, load(person, 1))
                    for v in range(n_version):
                        gained = load(gain, v, k, t, c) + load(varies, v, t, c) * load(district, k)
                        x = load(level, v, k, t, c) + noise + load(taught, v, t, c) * together
                        store(found, on_scale(x + load(person, 0) * gained, response[k]), v * n_visit + t)
                for v in range(n_version):
                    for lane in range(size):
                        for t in range(n_visit):
                            score[k, v, r, first + lane, t] = found[v * n_visit + t, lane]
            for lane in range(size):
                for t in range(n_visit):
                    deviation[r, first + lane, t] = departure[t, lane]
