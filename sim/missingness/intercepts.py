"""Intercepts of logistic models of loss that make a stated loss what happens on average over normal scores."""

from __future__ import annotations

import itertools
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from sim.trial import Floats

N_NODE, MOST_NODES = 15, 10**6


def solve_intercept(linear: list[Floats], mass: list[Floats], target: float) -> float:
    """The a at which sum(mass * expit(a + linear)) is `target`, over histories (lists) and nodes (P,); -inf for 0."""

    def excess(a: float) -> float:
        return float(sum((m * expit(a + x)).sum() for m, x in zip(mass, linear, strict=True)) - target)

    return float(brentq(excess, -60, 60, xtol=1e-12)) if target > 1e-11 else -np.inf


@lru_cache(maxsize=64)
def normal_grid(covariance: tuple[tuple[float, ...], ...]) -> tuple[Floats, Floats]:
    """Gauss-Hermite nodes (P, T) and weights (P,) of a normal with mean 0 and this covariance.

    15 nodes a dimension, fewer where these would be more than a million: 10 in six dimensions, 5 in eight.
    """
    n_visit = len(covariance)
    n_node = min(N_NODE, int(MOST_NODES ** (1 / n_visit) + 1e-9))
    x, w = np.polynomial.hermite_e.hermegauss(n_node)
    node = np.array(list(itertools.product(x, repeat=n_visit)))
    weight = np.array([np.prod(ws) for ws in itertools.product(w / w.sum(), repeat=n_visit)])
    return node @ np.linalg.cholesky(np.array(covariance)).T, weight
