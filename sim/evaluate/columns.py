"""Columns with one number per replicate, span by span: means with their errors, and quantiles of whole numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import pandas as pd

from sim.evaluate.calendars import Spread, spread
from sim.evaluate.spans import Index, Real, ascending


class _Totals(NamedTuple):
    """Sums of columns, NaN left out."""

    n: Real  # (K, columns) by calendar
    total: Real
    off: Real  # (columns,) less a shift, and that squared
    square: Real


class Columns:
    """Sums of numeric columns by calendar, replicate r being on calendar r modulo K; NaN is left out.

    Of columns that are `counted` it is kept how often each value occurs: for numbers that have few, such as people.
    Squares are summed about the mean of the first span, near enough to any mean to lose no digits (Chan, Golub &
    LeVeque 1983, doi:10.1080/00031305.1983.10483115).
    """

    def __init__(self, n_calendar: int) -> None:
        self.n_calendar = n_calendar
        self.n_replicate = 0
        self.names: list[str] = []
        self._last = -1
        self._shift: Real = np.zeros(0)
        self._totals: _Totals | None = None
        self._least: Real = np.zeros(0)
        self._greatest: Real = np.zeros(0)
        self._count: dict[str, Counter[float]] = {}

    def add(self, replicate: Index, table: pd.DataFrame, counted: Collection[str] = ()) -> None:
        """Take in a span: replicate (R,), and a table of R rows of the same columns in every span.

        Raises ValueError where a replicate occurs twice or spans do not ascend.
        """
        self._last = ascending(replicate, self._last)
        if len(twice := replicate[pd.Series(replicate).duplicated()]):
            raise ValueError(f"{len(twice)} rows occur twice, the first is replicate {twice[0]}")
        value = table.to_numpy(dtype=float)
        if not self.names:
            self._begin(list(map(str, table.columns)), value)
        if list(table.columns) != self.names:
            raise ValueError("spans have different columns")
        self.n_replicate += len(value)
        found = self._sums(value, replicate % self.n_calendar)
        self._totals = found if self._totals is None else _Totals(*map(np.add, self._totals, found))
        self._least = np.fmin(self._least, np.fmin.reduce(value))
        self._greatest = np.fmax(self._greatest, np.fmax.reduce(value))
        for name in counted:
            distinct, times = np.unique(value[:, self.names.index(name)], return_counts=True)
            self._count.setdefault(name, Counter()).update(dict(zip(distinct.tolist(), times.tolist(), strict=True)))

    def _begin(self, names: list[str], value: Real) -> None:
        self.names = names
        has = ~np.isnan(value)
        self._shift = np.where(has, value, 0.0).sum(axis=0) / np.maximum(has.sum(axis=0), 1)
        self._least, self._greatest = np.full((2, len(names)), np.nan)

    def _sums(self, value: Real, calendar: Index) -> _Totals:
        order = np.argsort(calendar, kind="stable")
        present, start = np.unique(calendar[order], return_index=True)
        has = ~np.isnan(value)
        off = np.where(has, value - self._shift, 0.0)

        def by_calendar(x: Real) -> Real:
            total = np.zeros((self.n_calendar, value.shape[1]))
            total[present] = np.add.reduceat(x[order], start)
            return total

        total = by_calendar(np.where(has, value, 0.0))
        return _Totals(by_calendar(has.astype(float)), total, off.sum(axis=0), (off**2).sum(axis=0))

    def _column(self, name: str) -> tuple[Real, Real, float, float]:
        """(K,) numbers and sums, sum of distances from the shift, and of their squares."""
        assert self._totals is not None
        at = self.names.index(name)
        n, total, off, square = self._totals
        return n[:, at], total[:, at], float(off[at]), float(square[at])

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def varies(self, name: str) -> bool:
        """Whether any two replicates differ."""
        at = self.names.index(name)
        return bool(self._least[at] < self._greatest[at])

    def mean(self, name: str) -> float:
        """Mean over replicates; NaN of none."""
        n, total, _, _ = self._column(name)
        return float(total.sum() / n.sum()) if n.any() else float("nan")

    def mcse_over_calendars(self, name: str) -> float:
        """Monte Carlo standard error of the mean where replicates on one calendar count as one; NaN of one calendar."""
        n, total, _, _ = self._column(name)
        mean = total[n > 0] / n[n > 0]
        return float(mean.std(ddof=1) / np.sqrt(len(mean))) if len(mean) > 1 else float("nan")

    def mcse(self, name: str) -> float:
        """Monte Carlo standard error of the mean, grown by what calendars share; NaN of one replicate."""
        n = float(self._column(name)[0].sum())
        squares, growth = self._squares(name), self.spread(name).growth[0]
        return float(np.sqrt(squares / (n - 1) * growth / n)) if n > 1 else float("nan")

    def spread(self, name: str) -> Spread:
        """What shared calendars do to the error of the mean."""
        n, total, _, _ = self._column(name)
        return spread(n[None], total[None], np.array([self._squares(name)]))

    def _squares(self, name: str) -> float:
        """Sum of the squared distances from the mean."""
        n, _, off, square = self._column(name)
        return max(square - off**2 / float(n.sum()), 0.0)

    def quantile(self, name: str, share: float) -> float:
        """Quantile of a counted column, between two values by linear interpolation."""
        at = share * (self.n_replicate - 1)
        low, high = self._at(name, int(at)), self._at(name, int(np.ceil(at)))
        return low + (high - low) * (at % 1)

    def lower_median(self, name: str) -> float:
        """Of an even number of replicates the lower of the two in the middle, of a counted column."""
        return self._at(name, (self.n_replicate - 1) // 2)

    def _at(self, name: str, rank: int) -> float:
        value = sorted(self._count[name])
        up_to = np.cumsum([self._count[name][x] for x in value])
        return value[int(np.searchsorted(up_to, rank, side="right"))]
