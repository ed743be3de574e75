"""Running sums of scores by cell and calendar: all that a table needs to know of the rows, in memory of fixed size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from sim.evaluate.calendars import Spread, spread, spread_of_hits
from sim.evaluate.spans import Bool, Fits, Real

Scores: TypeAlias = Mapping[str, tuple[Bool, Mapping[str, Any]]]
"""Among whom -> (whether a row is one of them, (L,); name of a score -> its value in each row, (L,))."""


class Sums:
    """Sums of scores over the rows that count, (C, K) by cell and calendar."""

    def __init__(self) -> None:
        self._n: dict[str, Real] = {}
        self._sum: dict[str, Real] = {}
        self._among: dict[str, str] = {}

    def add(self, fits: Fits, scores: Scores) -> None:
        """Take in the scores of a span: always the same names, among the same."""
        shape = (len(fits.key), fits.n_calendar)
        for among, (counts, values) in scores.items():
            group = fits.group[counts]
            n = np.bincount(group, minlength=shape[0] * shape[1]).reshape(shape)
            self._n[among] = np.add(self._n.get(among, 0.0), n)
            for name, value in values.items():
                found = np.bincount(group, value[counts], shape[0] * shape[1]).reshape(shape)
                self._sum[name] = np.add(self._sum.get(name, 0.0), found)
                self._among[name] = among

    def n(self, among: str) -> Real:
        """(C,) how many rows counted."""
        return np.asarray(self._n[among].sum(axis=1))

    def n_of(self, name: str) -> Real:
        """(C,) how many rows counted for a score."""
        return self.n(self._among[name])

    def total(self, name: str) -> Real:
        """(C,) sum of a score."""
        return np.asarray(self._sum[name].sum(axis=1))

    def mean(self, name: str) -> Real:
        """(C,) mean of a score over the rows that counted; NaN of none."""
        return self.total(name) / self.n_of(name)

    def n_by_calendar(self, name: str) -> Real:
        """(C, K) rows that counted for a score."""
        return self._n[self._among[name]]

    def by_calendar(self, name: str) -> Real:
        """(C, K) sums of a score."""
        return self._sum[name]

    def spread(self, name: str, squares: Real) -> Spread:
        """What shared calendars do to the error of a score's mean; squares : (C,) sum about that mean."""
        return spread(self.n_by_calendar(name), self._sum[name], squares)

    def spread_of_hits(self, name: str) -> Spread:
        """What shared calendars do to the error of the mean of a score that is 0 or 1."""
        return spread_of_hits(self.n_by_calendar(name), self._sum[name])
