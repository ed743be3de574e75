"""Intercepts of logistic models of loss that make a stated loss what happens on average over normal scores."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from scipy.special import expit, logit

from sim.trial import Floats

N_NODE, MOST_NODES = 15, 10**6


def solve_intercept(linear: list[Floats], mass: list[Floats], target: float) -> float:
    """The a at which sum(mass * expit(a + linear)) is `target`, over histories (lists) and nodes (P,); -inf for 0.

    Newton's method on the log odds of that sum, which are nearly a straight line in a; a step that leaves the interval
    known to hold the solution is replaced by its middle. ValueError if the target is not below the sum of all masses.
    """
    if not target > 1e-11:
        return -np.inf
    x, m = np.concatenate(linear), np.concatenate(mass)
    total = m.sum()
    if not target < total:
        raise ValueError(f"a loss of {target:g} is asked for where {total:g} are left")
    aim = logit(target / total)
    low, high, a = -60.0, 60.0, aim
    with np.errstate(divide="ignore", invalid="ignore"):
        while high - low > 1e-12:
            chance = expit(a + x)
            lost = m * chance
            found = lost.sum()
            low, high = (a, high) if found < target else (low, a)
            slope = (found - lost @ chance) * total / (found * (total - found))
            step = (logit(found / total) - aim) / slope
            if abs(step) < 1e-13:
                break
            a = a - step if low < a - step < high else 0.5 * (low + high)
    return float(a)


@lru_cache(maxsize=64)
def normal_grid(covariance: tuple[tuple[float, ...], ...]) -> tuple[Floats, Floats]:
    """Gauss-Hermite nodes (P, T) and weights (P,) of a normal with mean 0 and this covariance.

    15 nodes a dimension, fewer where these would be more than a million: 10 in six dimensions, 5 in eight.
    """
    n_visit = len(covariance)
    n_node = min(N_NODE, int(MOST_NODES ** (1 / n_visit) + 1e-9))
    x, w = np.polynomial.hermite_e.hermegauss(n_node)
    node = np.array(list(itertools.product(x, repeat=n_visit)))
    weight = np.prod(list(itertools.product(w / w.sum(), repeat=n_visit)), axis=1)
    return node @ np.linalg.cholesky(np.array(covariance)).T, weight
