"""Who attends how many training days: exchangeable probit, so that whoever misses one day is likelier to miss another.

A participant attends day d if sqrt(rho) z + sqrt(1 - rho) e_d < Phi^-1(p a_d): z and the e_d are standard normals, rho
is the correlation of a participant's latent scores between days, p the probability of attending a day and a_d how well
the participants of a training group can come on that day, in (0, 1] (Ochi & Prentice 1984,
doi:10.1093/biomet/71.3.531).
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri

from sim.generate.distribution import normal_quadrature
from sim.streams import Streams
from sim.trial import Allocation, Floats, Ints


@lru_cache(maxsize=1024)
def days_attended(per_day: float, correlation: float, availability: tuple[float, ...]) -> Floats:
    """(D + 1,) probabilities of attending 0, 1, ..., D days; given z the days are independent, z is integrated over."""
    z, weight = normal_quadrature()
    number = np.zeros((len(availability) + 1, len(z)))
    number[0] = 1.0
    for factor in availability:
        limit = ndtri(per_day * factor) - math.sqrt(correlation) * z
        attends = ndtr(limit / math.sqrt(1 - correlation))
        number[1:] = number[1:] * (1 - attends) + number[:-1] * attends
        number[0] *= 1 - attends
    return np.asarray(number @ weight)


def draw_days(
    per_day: float, correlation: float, availability: Floats, allocation: Allocation, streams: Streams, replicate: Ints
) -> Ints:
    """(R, N) number of days that each participant attends, if trained; availability : (N, D)."""
    n_day = availability.shape[1]
    draw = streams.normal("attendance by day", replicate, allocation.cluster, allocation.member, 1 + n_day)
    limit = ndtri(per_day * availability) / math.sqrt(1 - correlation)
    tendency = math.sqrt(correlation / (1 - correlation)) * draw[:, :, 0]
    days = np.zeros(tendency.shape, dtype=np.int32)
    for day in range(n_day):
        days += draw[:, :, 1 + day] + tendency < limit[:, day]
    return days
