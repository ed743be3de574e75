"""Adds draws, means and gains up into scores: two versions of every participant that share every draw.

The versions are the two truths of a trial, or a participant's two potential outcomes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sim.generate.distribution import Distribution, transformed
from sim.generate.response import on_scale
from sim.trial import Flags, Floats


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
    """Draws of what is shared. place, variation : (R, districts, K).  village : (R, V, T, K).  group : (R, G, K)."""

    place: Floats
    variation: Floats
    village: Floats
    group: Floats


class Own(NamedTuple):
    """How the normal scores behind what participants have to themselves become so distributed.

    sd, root : as in components.  shape, scale : as in distribution, (R, N).
    """

    sd: Floats
    root: Floats
    shape: Distribution
    scale: Floats


@njit(cache=True, error_model="numpy")
def assemble(
    person: Any, mixing: Any, factor: Any, own: Any, effects: Any, district_of: Any, village_of: Any, group_of: Any,
    mean: Any, first: Any, second: Any, dose: Any, profile: Any, response: Any, inverse_sd: Any, score: Any,
    deviation: Any,
) -> None:  # fmt: skip
    """Fills score (K, 2, R, N, T) and deviation (R, N, T), that of the normal scores, in everyone's own group.

    What is None is left out of the compiled code: own (normal scores by `mixing` and `factor`), second (a version in
    which training does nothing), response (scores stay as drawn; else (K, 4) as in scale_row).
    person : (R, N, T K) normal draws.  *_of : (N,), -1 = none.  dose : (R, N) share of the gain.  mean : (N, T).
    """
    n_outcome, _, n_replicate, n_participant, n_visit = score.shape
    place, variation, village, group = effects  # fields of tuples cost time inside the loops
    is_trained, gain, leaked, demand, varies, taken = first
    if own is not None:
        own_sd, root, shape, scale = own
    if second is not None:
        is_trained_2, gain_2, leaked_2, demand_2, varies_2, taken_2 = second
    innovation = np.empty((n_visit, n_outcome))
    for r in range(n_replicate):
        for n in range(n_participant):
            for t in range(n_visit):
                deviation[r, n, t] = 0.0
                for k in range(n_outcome):
                    total = 0.0
                    if own is None:
                        for other in range(k + 1):
                            total += mixing[t, k, other] * person[r, n, t * n_outcome + other]
                    else:
                        row = t * n_outcome + k
                        for other in range(row + 1):
                            total += root[row, other] * person[r, n, other]
                    innovation[t, k] = total
            d, v, g = district_of[n], village_of[n], group_of[n]
            for k in range(n_outcome):
                for t in range(n_visit):
                    noise, not_normal = place[r, d, k], 0.0
                    if own is None:
                        for s in range(t + 1):
                            noise += factor[k, t, s] * innovation[s, k]
                    else:
                        x = transformed(innovation[t, k], shape, scale[r, n])
                        noise += own_sd[t, k] * x
                        not_normal = own_sd[t, k] * (x - innovation[t, k])
                    if v >= 0:
                        noise += village[r, v, t, k]
                    grouped = noise
                    if g >= 0 and t > 0:
                        grouped += group[r, g, k]
                    deviation[r, n, t] += (grouped - not_normal) * inverse_sd[t] / n_outcome
                    one = mean[n, t] + (grouped if is_trained[n] else noise)
                    two = mean[n, t] + grouped
                    if t > 0:
                        one += profile[t] * leaked[n, k]
                        if is_trained[n]:
                            one += demand
                            if dose[r, n] > 0:
                                full = profile[t] * (gain[n, k] + varies * variation[r, d, k])
                                one += dose[r, n] * (full - taken[n, t])
                    if second is not None:
                        two = mean[n, t] + (grouped if is_trained_2[n] else noise)
                        if t > 0:
                            two += profile[t] * leaked_2[n, k]
                            if is_trained_2[n]:
                                two += demand_2
                                if dose[r, n] > 0:
                                    full = profile[t] * (gain_2[n, k] + varies_2 * variation[r, d, k])
                                    two += dose[r, n] * (full - taken_2[n, t])
                    if response is not None:
                        one, two = on_scale(one, response[k]), on_scale(two, response[k])
                    score[k, 0, r, n, t] = one
                    score[k, 1, r, n, t] = two
