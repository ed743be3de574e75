"""How much of a Monte Carlo error is owed to the calendars that replicates share.

A design draws K calendars and replicate r is on calendar r modulo K: a sample in two stages, calendars, then replicates
on each. With m_k of the n replicates on calendar k a mean has variance s_b^2 sum(m_k^2) / n^2 + s_w^2 / n. Both
components are estimated by the analysis of variance of unequal groups (Searle, Casella & McCulloch 1992, Variance
Components, section 3.6), s_b^2 as 0 where its estimate is negative.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
Index = NDArray[np.int64]


class Spread(NamedTuple):
    """What calendars do to the variance of a mean, (C,): how much it grows, and their share of it; NaN = not known."""

    growth: Real
    share: Real
    share_mcse: Real


def spread(value: Real, cell: Index, n_cell: int, calendar: Index | None) -> Spread:
    """Spread of the mean of `value` in each of the C cells.

    value : (L,), NaN where a row does not count.  cell : (L,), from 0.  calendar : (L,), from 0; None = rows that share
    nothing. With a single calendar, or none of them twice, nothing can be told: growth 1, share NaN.
    The share is 1 - 1 / F for groups of one size; its error is that of an F ratio, relatively sqrt(2 / df + 2 / df').
    """
    unknown = Spread(np.ones(n_cell), np.full(n_cell, np.nan), np.full(n_cell, np.nan))
    if calendar is None or not len(value):
        return unknown
    counts = np.isfinite(value)
    x, cell, calendar = value[counts], cell[counts], calendar[counts]
    n_calendar = int(calendar.max(initial=0)) + 1
    group = cell * n_calendar + calendar

    def by_cell(weight: Real | None) -> Real:
        return np.bincount(cell, weight, n_cell).astype(float)

    def by_group(weight: Real | None) -> Real:
        return np.bincount(group, weight, n_cell * n_calendar).astype(float).reshape(n_cell, n_calendar)

    with np.errstate(invalid="ignore", divide="ignore"):
        n, m = by_cell(None), by_group(None)
        x = x - (by_cell(x) / n)[cell]  # about the mean of its cell
        k, squares = (m > 0).sum(axis=1), (m**2).sum(axis=1)
        between = np.nansum(by_group(x) ** 2 / m, axis=1)
        total = by_cell(x**2)
        within = (total - between) / (n - k)
        s_b = np.maximum((between / (k - 1) - within) / ((n - squares / n) / (k - 1)), 0.0)
        variance = s_b * squares / n**2 + within / n
        growth = variance / (total / (n - 1) / n)
        known = (k > 1) & (n > k) & (total > 0)
        grows = known & (s_b > 0) & (growth > 1)
        share = s_b * squares / n**2 / variance
        share = np.where(known, np.where(grows, share, 0.0), np.nan)
        share_mcse = (1 - share) * np.sqrt(2 / (k - 1) + 2 / (n - k))
    return Spread(np.where(grows, growth, 1.0), share, share_mcse)
