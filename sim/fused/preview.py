"""Power without a single replicate: the noncentral t with the standard error and df expected of the design.

Participants seen are set to their expectation, variances to their true values: SE^2 = c'Phi c, and the degrees of
freedom are Satterthwaite's from the expected information.  What is left out is that both vary from trial to trial, that
variances are estimated at zero now and then, and who is missing where that depends on scores.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from scipy import special

from sim.kernels import ancova_lanes, nested_lanes
from sim.kernels.lanes_climb import new_climbs
from sim.kernels.noncentral import t_power, t_sf
from sim.lanes import LANES
from sim.trial import Floats


class Preview(NamedTuple):
    """What a first answer is made of."""

    standard_error: float
    df: float
    power: float


def preview(
    expected: tuple[Floats, Floats, Floats], effect: float, alpha: float, sides: int, *, is_normal: bool
) -> Preview:
    """Power of one contrast from its expected (f, df/d theta (m,), information (m, m)).

    sides : 2, or 1 for an upper one-sided test.  is_normal : the test is a z test, of infinite df.
    """
    f, gradient, information = expected
    error = float(np.sqrt(f))
    ncp = effect / error
    if is_normal:
        above, below = special.ndtr(special.ndtri(alpha / sides) + np.array([ncp, -ncp]))
        return Preview(error, np.inf, float(above + below if sides == 2 else above))
    df = float(2.0 * f**2 / (gradient @ np.linalg.solve(information, gradient)))
    if sides == 2:
        return Preview(error, df, float(t_power(df, ncp, alpha)))
    return Preview(error, df, float(t_sf(special.stdtrit(df, 1 - alpha), df, ncp)))


def over_visits(shape: Any, at: Any, contrast: Floats, variance: Floats, count: Floats) -> tuple[Any, Any, Any]:
    """(f, gradient, expected information) of a nested trial; count (U, T) expected to be last seen at each visit."""
    zero = np.zeros((*count.shape, LANES))
    square = np.zeros((1 + count.shape[1], LANES))
    sums = nested_lanes.Sums(np.repeat(count[:, :, None], LANES, 2), zero, zero, square)
    return _first_lane(_nested(sums, shape, at, contrast, _lanes(variance)))


def at_final_visit(
    shape: Any, at: Any, contrast: Floats, variance: Floats, count: Floats, spread: Floats
) -> tuple[Any, Any, Any]:
    """The same of an analysis of covariance; count (U,) seen at the end, spread (classes,) variance of the baseline."""
    n, zero = np.repeat(count[:, None], LANES, 1), np.zeros((len(count), LANES))
    square = np.zeros((len(spread), 3, LANES))
    np.add.at(square[:, 0], shape.residual_class, n)
    square[:, 0] *= spread[:, None]
    sums = ancova_lanes.Sums(n, zero, zero, square)
    return _first_lane(_ancova(sums, shape, at, contrast, _lanes(variance)))


def _lanes(variance: Floats) -> Floats:
    return np.repeat(variance[:, None], LANES, 1)


def _first_lane(found: tuple[Floats, Floats, Floats]) -> tuple[Any, Any, Any]:
    """With residuals of zero the average information is 0, and the expected one is minus the observed one."""
    out, gradient, observed = found
    return float(out[1, 0]), gradient[:, 0], -observed[:, :, 0]


def _once(evaluate: Any, differentiate: Any, contrast: Any) -> Any:
    """What a contrast's preview needs of a model, at given variances; part of the function that calls it."""

    @njit(inline="always")
    def at_variances(sums, shape, at, c, theta):  # type: ignore[no-untyped-def]
        climbs, w = new_climbs(theta.shape[0]), np.zeros((at.end, LANES))
        evaluate(theta, sums, shape, at, w, climbs.value)
        differentiate(theta, sums, shape, at, w, climbs.score, climbs.average, climbs.observed, True)
        contrast(c, theta, sums, shape, at, w, climbs.contrast, climbs.gradient, climbs.curvature, False)
        return climbs.contrast, climbs.gradient[1], climbs.observed

    return at_variances


_nested_once = _once(nested_lanes.evaluate, nested_lanes.differentiate, nested_lanes.contrast)
_ancova_once = _once(ancova_lanes.evaluate, ancova_lanes.differentiate, ancova_lanes.contrast)


@njit(cache=True, error_model="numpy")
def _nested(sums, shape, at, c, theta):  # type: ignore[no-untyped-def]
    return _nested_once(sums, shape, at, c, theta)


@njit(cache=True, error_model="numpy")
def _ancova(sums, shape, at, c, theta):  # type: ignore[no-untyped-def]
    return _ancova_once(sums, shape, at, c, theta)
