"""Noncentral t and F distributions that never return NaN, and their inversion for the noncentrality.

scipy's nct and ncf return NaN at arguments that a power calculation meets, for example
nct.cdf(-1.98446745, 98, 10.0), nct.cdf(6.0158, 143, -5.984), df 200 with ncp 10, df 30 with ncp 38. Each function
here asks scipy first and integrates numerically where the answer is not a probability. Where both answer they agree to
1e-11.

T = (Z + d) / S with Z standard normal and S = sqrt(chi2(df) / df), so  P(T <= x) = E[ Phi(x S - d) ]        (eq. 1)
F's cdf is a Poisson(ncp / 2) mixture of beta integrals:
P(F <= x) = sum_j Poisson(j; ncp / 2) I_y(df1 / 2 + j, df2 / 2),  y = df1 x / (df1 x + df2)                   (eq. 2)

Reference: Johnson, Kotz, Balakrishnan 1995, Continuous Univariate Distributions 2, chapters 30 and 31.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

_TAIL = 1e-20  # probability left outside the integration range on each side
_NODE, _WEIGHT = np.polynomial.legendre.leggauss(200)
_MAX_DOUBLINGS = 60


def t_cdf(x: ArrayLike, df: ArrayLike, ncp: ArrayLike) -> Floats:
    """P(T <= x) of the noncentral t. Arguments broadcast; df at least 1. Never NaN for finite arguments.

    >>> round(float(t_cdf(6.0158, 143, 6.0158)), 3)
    0.496
    """
    x, df, ncp = _broadcast(x, df, ncp)
    return _guarded(special.nctdtr(df, ncp, x), _t_cdf_by_integration, x, df, ncp)


def t_sf(x: ArrayLike, df: ArrayLike, ncp: ArrayLike) -> Floats:
    """P(T > x) of the noncentral t, by reflection, so that small upper tails keep their digits."""
    return t_cdf(np.negative(x), df, np.negative(ncp))


def f_cdf(x: ArrayLike, df1: ArrayLike, df2: ArrayLike, ncp: ArrayLike) -> Floats:
    """P(F <= x) of the noncentral F, ncp at least 0 (0 = central F). Arguments broadcast; 0 for x below 0.

    >>> round(float(f_cdf(8.10, 1, 143, 0.0)), 4)
    0.9949
    """
    x, df1, df2, ncp = _broadcast(x, df1, df2, ncp)
    x = np.maximum(x, 0.0)
    central = special.fdtr(df1, df2, x)
    # scipy's ncfdtr is 0 where half of ncp underflows, so such an ncp counts as 0
    return np.where(
        ncp < np.finfo(np.float64).tiny,
        central,
        _guarded(special.ncfdtr(df1, df2, ncp, x), _f_cdf_by_mixture, x, df1, df2, ncp),
    )


def t_power(df: ArrayLike, ncp: ArrayLike, alpha: ArrayLike = 0.05) -> Floats:
    """Power of the two-sided t test, rejections on the wrong side included. Arguments broadcast.

    >>> round(float(t_power(126, 0.5 * 32**0.5, 0.05)), 3)  # two arms of 64, d = 0.5
    0.801
    """
    critical = -special.stdtrit(df, np.divide(alpha, 2))
    return t_sf(critical, df, ncp) + t_cdf(np.negative(critical), df, ncp)


def t_ncp(x: float, df: float, probability: float) -> float:
    """The noncentrality at which P(T <= x) is `probability`, strictly between 0 and 1; it may be negative.

    probability 0.975 and 0.025 give the 95% interval of the noncentrality, 0.5 its median-unbiased estimate.
    Reference: Steiger, Fouladi 1997 (pivoting a cdf).

    >>> round(t_ncp(6.0158, 143, 0.975) / 146**0.5, 3)
    0.325
    """
    _check(probability)

    def excess(ncp: float) -> float:
        return float(t_cdf(x, df, ncp)) - probability

    spread = 10.0 * np.sqrt(1.0 + x * x / (2.0 * df))
    low = _expand(excess, x, -spread, is_found=lambda value: value >= 0)
    high = _expand(excess, x, spread, is_found=lambda value: value <= 0)
    from scipy.optimize import brentq  # a sixth of a second, which most commands need not spend

    return float(brentq(excess, low, high, xtol=1e-12))


def f_ncp(x: float, df1: float, df2: float, probability: float) -> float:
    """The noncentrality at which P(F <= x) is `probability`; 0 where even the central F lies below it.

    >>> f_ncp(0.5, 2, 286, 0.975)
    0.0
    """
    _check(probability)

    def excess(ncp: float) -> float:
        return float(f_cdf(x, df1, df2, ncp)) - probability

    if excess(0.0) <= 0.0:
        return 0.0
    high = _expand(excess, 0.0, df1 * x + 10.0, is_found=lambda value: value <= 0)
    from scipy.optimize import brentq

    return float(brentq(excess, 0.0, high, xtol=1e-12))


def _t_cdf_by_integration(x: Floats, df: Floats, ncp: Floats) -> Floats:
    """Eq. 1 for (K,) arguments, by Gauss-Legendre over the density of S in three panels.

    The middle panel brackets the step of Phi at S = ncp / x, of width 1 / |x|, which wide panels would miss. The
    variable is r = S^(1/4), in which the density is smooth at 0 for a fractional df near 1 too.
    """
    low = np.sqrt(2.0 * special.gammaincinv(df / 2, _TAIL) / df)
    high = np.sqrt(2.0 * special.gammainccinv(df / 2, _TAIL) / df)
    size = np.maximum(np.abs(x), 1e-300)  # x = 0 has no step: it lands beyond the range and is clipped
    step = np.clip(np.sign(x) * ncp / size, low, high)
    edge = np.stack([low, np.clip(step - 9.0 / size, low, high), np.clip(step + 9.0 / size, low, high), high], axis=-1)
    edge = edge**0.25
    half = np.diff(edge, axis=-1)[..., None] / 2  # (K, 3, 1)
    r = edge[:, :-1, None] + half * (_NODE + 1.0)  # (K, 3, node)
    s = r**4
    df, x, ncp = df[:, None, None], x[:, None, None], ncp[:, None, None]
    log_density = special.xlogy(4.0 * df - 1.0, r) - df * (s * s - 1.0) / 2  # its constant cancels in the ratio below
    mass = half * _WEIGHT * np.exp(log_density - log_density.max(axis=(1, 2), keepdims=True))
    probability: Floats = (mass * special.ndtr(x * s - ncp)).sum(axis=(1, 2)) / mass.sum(axis=(1, 2))
    return probability


def _f_cdf_by_mixture(x: Floats, df1: Floats, df2: Floats, ncp: Floats) -> Floats:
    """Eq. 2 for (K,) arguments, over the Poisson terms that carry all but about 1e-20 of the weight."""
    return np.array([_one_mixture(*point) for point in zip(x, df1, df2, ncp, strict=True)])


def _one_mixture(x: float, df1: float, df2: float, ncp: float) -> float:
    mean = ncp / 2
    reach = 12.0 * np.sqrt(mean) + 60.0
    j = np.arange(max(0.0, np.floor(mean - reach)), mean + reach)
    weight = np.exp(special.xlogy(j, mean) - mean - special.gammaln(j + 1.0))
    y = df1 * x / (df1 * x + df2)
    return float((weight * special.betainc(df1 / 2 + j, df2 / 2, y)).sum() / weight.sum())


def _guarded(answer: Floats, fallback: Callable[..., Floats], *argument: Floats) -> Floats:
    """`answer`, with every element that is not a probability replaced by the fallback's."""
    answer = np.array(answer)
    is_bad = ~((answer >= 0.0) & (answer <= 1.0))
    if is_bad.any():
        answer[is_bad] = fallback(*(a[is_bad] for a in argument))
    return np.clip(answer, 0.0, 1.0)


def _broadcast(*argument: ArrayLike) -> tuple[Floats, ...]:
    return np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in argument))


def _expand(excess: Callable[[float], float], start: float, step: float, *, is_found: Callable[[float], bool]) -> float:
    """The first of start + step, start + 2 step, start + 4 step, ... at which `excess` has the sign looked for."""
    for _ in range(_MAX_DOUBLINGS):
        if is_found(excess(start + step)):
            return start + step
        step *= 2.0
    raise ValueError("no noncentrality gives this probability")


def _check(probability: float) -> None:
    if not 0.0 < probability < 1.0:
        raise ValueError(f"found probability {probability!r}; it must be strictly between 0 and 1")
