"""Medians of the further results that an analysis keeps beside its estimate (an F, an effect size)."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import pandas as pd
from scipy import special

from sim.evaluate.order_statistics import OrderStatistics
from sim.evaluate.performance import COLUMNS, Z95
from sim.evaluate.spans import Fits, Index, Spans, read

FEWEST = 6
"""Values below which there is no interval."""


def medians(spans: Spans) -> pd.DataFrame:
    """One row `median_<column>` per design x outcome x analysis x truth, in the columns of `summarise`.

    Every numeric column of the spans that is not part of the test itself counts; groups without a value have no row.
    The 95% interval is the exact order-statistic interval of a median, the MCSE its half width divided by 1.96; neither
    counts that replicates share calendars.
    Reference: David & Nagaraja 2003, Order Statistics, section 7.1.
    """
    found = Medians()
    read(spans, 1, [found])
    return found.table()


class Medians:
    """The rows of `medians`, from as many passes over the spans as their number asks for."""

    def __init__(self) -> None:
        self._key: pd.DataFrame | None = None
        self._count: Index = np.zeros(0, dtype=np.int64)  # (C, 3) replicates, ok, singular
        self._column: dict[tuple[int, str], OrderStatistics] = {}
        self._is_counted = False

    def add(self, fits: Fits) -> None:
        """Take in a span."""
        if self._key is None:
            self._key = fits.key
            self._count = np.zeros((len(fits.key), 3), dtype=np.int64)
            cells = range(len(fits.key))
            self._column = {(cell, name): OrderStatistics(_wanted) for cell in cells for name in fits.extra}
        if not self._is_counted:
            status = np.stack([np.ones_like(fits.is_ok), fits.is_ok, fits.is_singular], axis=1)
            self._count += np.add.reduceat(status.astype(np.int64), fits.start)
        for (cell, name), column in self._column.items():
            value = fits.extra[name][fits.start[cell] : fits.start[cell] + fits.n_row[cell]]
            column.add(value[np.isfinite(value)])

    def needs_another_pass(self) -> bool:
        """As long as a median is not known."""
        self._is_counted = True
        needs = [column.needs_another_pass() for column in self._column.values()]  # each is told that the pass ended
        return any(needs)

    def table(self) -> pd.DataFrame:
        """One row per cell and column."""
        table = []
        for (cell, name), column in self._column.items():
            if not column.rank or self._key is None:
                continue
            low, below, above, high = column.value()
            n, n_ok, n_singular = self._count[cell]
            measure = [f"median_{name}", (below + above) / 2, (high - low) / (2 * Z95), low, high]
            table.append([*self._key.iloc[cell], *measure, n, n_ok, n_singular, n - n_ok - n_singular])
        return pd.DataFrame(table, columns=COLUMNS)


def _wanted(n: int) -> list[int]:
    """Positions of the two order statistics that hold the median with at least 95% probability, and of the median."""
    if n < FEWEST:
        return []
    low = max(bisect_left(range(n + 1), 0.025, key=lambda k: special.bdtr(k, n, 0.5)) - 1, 0)  # P(Bin(n, 1/2) <= k)
    return [low, (n - 1) // 2, n // 2, n - 1 - low]
