"""How much of a Monte Carlo error is owed to the calendars that replicates share.

A design draws K calendars and replicate r is on calendar r modulo K: a sample in two stages, calendars, then replicates
on each. With m_k of the n replicates on calendar k a mean has variance s_b^2 sum(m_k^2) / n^2 + s_w^2 / n. Both
components are estimated by the analysis of variance of unequal groups (Searle, Casella & McCulloch 1992, Variance
Components, section 3.6), s_b^2 as 0 where its estimate is negative. It takes no rows, only sums of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]


class Spread(NamedTuple):
    """What calendars do to the variance of a mean, (C,): how much it grows, and their share of it; NaN = not known."""

    growth: Real
    share: Real
    share_mcse: Real


def spread(n: Real, total: Real, squares: Real) -> Spread:
    """Spread of the mean of a value in each of C cells, from its sums over the replicates of each of K calendars.

    n, total : (C, K) replicates that count, and the sum of their values, which may be about any centre.  squares :
    (C,) sum of the squared distances from the mean of the cell. With a single calendar, or none of them twice, nothing
    can be told: growth 1, share NaN.
    The share is 1 - 1 / F for groups of one size; its error is that of an F ratio, relatively sqrt(2 / df + 2 / df').
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        m, n = n, n.sum(axis=1)
        off = total - m * (total.sum(axis=1) / n)[:, None]
        k, m_squared = (m > 0).sum(axis=1), (m**2).sum(axis=1)
        between = np.nansum(off**2 / m, axis=1)
        within = (squares - between) / (n - k)
        s_b = np.maximum((between / (k - 1) - within) / ((n - m_squared / n) / (k - 1)), 0.0)
        variance = s_b * m_squared / n**2 + within / n
        growth = variance / (squares / (n - 1) / n)
        known = (k > 1) & (n > k) & (squares > 0)
        grows = known & (s_b > 0) & (growth > 1)
        share = s_b * m_squared / n**2 / variance
        share = np.where(known, np.where(grows, share, 0.0), np.nan)
        share_mcse = (1 - share) * np.sqrt(2 / (k - 1) + 2 / (n - k))
    return Spread(np.where(grows, growth, 1.0), share, share_mcse)


def spread_of_hits(n: Real, hit: Real) -> Spread:
    """The same of a share: `hit` of the `n` replicates of each cell and calendar, (C, K)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        of, all_hit = n.sum(axis=1), hit.sum(axis=1)
        return spread(n, hit, all_hit * (1 - all_hit / of))
