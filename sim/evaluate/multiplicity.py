"""Power when several outcomes are tested: adjusted p-values, and power of the whole family of outcomes.

Power to reject any, all or at least two of the hypotheses, and the mean share rejected, are named as in Porter 2018,
doi:10.1080/19345747.2017.1342887 (minimal, complete, r-minimal and individual power).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sim.evaluate.calendars import spread, spread_of_hits
from sim.evaluate.performance import COLUMNS, Measured, Sides, net_p_value, normal, proportion, rejects, tabulate
from sim.evaluate.spans import KEY, Bool, Fits, Index, Real, Spans, read
from sim.evaluate.true_values import TrueValue, true_and_demand

Rule: TypeAlias = Literal["none", "bonferroni", "holm", "hochberg"]


def adjust(p: ArrayLike, rule: Rule) -> Real:
    """Adjusted p-values of M hypotheses: reject hypothesis m at level alpha where its adjusted p is at most alpha.

    p : (..., M), one family along the last axis. NaN stands for a test that cannot reject: it is taken as 1 and, unlike
    in R, stays in the family, so a failed fit does not make the other tests easier.
    rule : 'none', 'bonferroni', 'holm' (step-down: Holm 1979, Scandinavian Journal of Statistics 6:65-70) or 'hochberg'
    (step-up, for independent or positively dependent tests: Hochberg 1988, doi:10.1093/biomet/75.4.800).

    >>> adjust([0.012, 0.009, 0.023], "holm").round(6).tolist()
    [0.027, 0.027, 0.027]
    """
    p_value: Real = np.asarray(p, dtype=float)
    p_value = np.where(np.isnan(p_value), 1.0, p_value)
    n_hypothesis = p_value.shape[-1]
    if rule == "none":
        return p_value
    if rule == "bonferroni":
        return np.asarray(np.minimum(n_hypothesis * p_value, 1.0))
    if rule not in ("holm", "hochberg"):
        raise ValueError(f"{rule!r} is not a known multiplicity rule; known: none, bonferroni, holm, hochberg")
    order = np.argsort(p_value, axis=-1, kind="stable")
    step: Real = np.take_along_axis(p_value, order, axis=-1) * np.arange(n_hypothesis, 0, -1)
    if rule == "holm":
        step = np.maximum.accumulate(step, axis=-1)
    else:
        step = np.minimum.accumulate(step[..., ::-1], axis=-1)[..., ::-1]
    adjusted = np.empty_like(p_value)
    np.put_along_axis(adjusted, order, np.minimum(step, 1.0), axis=-1)
    return adjusted


def family(
    spans: Spans, rule: Rule, alpha: float, true_value: TrueValue, sides: Sides = 2, n_calendar: int = 1
) -> pd.DataFrame:
    """Power of the family of outcomes, and of each outcome after adjustment, per design x analysis x truth.

    spans, true_value, alpha, sides, n_calendar : as for `summarise`; the outcomes in the spans are the family, and
    every replicate holds each of them once per analysis (ValueError otherwise).
    Outcomes `*any`, `*all`, `*at_least_2` and `*mean` (share rejected) come unadjusted under the analysis's own name,
    and adjusted, beside each outcome, under '<analysis>+<rule>'; rule 'none' gives the unadjusted ones alone. Measures
    are `power` and `power_net_of_demand`, under the null `type_1_error` and, for `*any`, `family_wise_error`. A failed
    fit does not reject. A replicate of a family is failed if any of its fits failed, else singular if any is singular.
    The MCSE of `*mean` is the standard deviation of the shares over replicates, divided by sqrt(R).
    """
    found = Families(rule, alpha, true_value, sides)
    read(spans, n_calendar, [found])
    return found.table()


class Families:
    """The rows of `family`, from one pass over the spans: all of it is counting."""

    def __init__(self, rule: Rule, alpha: float, true_value: TrueValue, sides: Sides) -> None:
        self._rules: tuple[Rule, ...] = ("none",) if rule == "none" else ("none", rule)
        self._alpha, self._true_value, self._sides = alpha, true_value, sides
        self._demand: Real = np.zeros(0)
        self._families: list[_Family] = []

    def add(self, fits: Fits) -> None:
        """Count the rejections of a span."""
        if not self._families:
            self._demand = true_and_demand(fits.key, self._true_value)[1]
            self._families = _families(fits)
        demand = fits.each(self._demand)
        p_net = net_p_value(fits, demand, self._sides)
        test = {"power": (fits.p_value, fits.estimate), "power_net_of_demand": (p_net, fits.estimate - demand)}
        p = {name: np.where(rejects(p, x, 1.0, self._sides), p, np.nan) for name, (p, x) in test.items()}
        for one in self._families:
            row = one.rows(fits)
            one.count_fits(fits.is_ok[row], fits.is_valid[row], np.isnan(p_net[row]))
            calendar = fits.replicate[row[:, 0]] % fits.n_calendar
            for rule in self._rules:
                for name, x in p.items():
                    one.count_rejections((rule, name), adjust(x[row], rule) <= self._alpha, calendar, fits.n_calendar)

    def needs_another_pass(self) -> bool:
        """Never."""
        return False

    def table(self) -> pd.DataFrame:
        """The outcomes, then the families, under each rule."""
        if not self._families:
            return pd.DataFrame(columns=COLUMNS)
        key = pd.concat([one.key for one in self._families], ignore_index=True)
        n, n_ok, n_valid = (np.concatenate(x) for x in zip(*(one.counts() for one in self._families), strict=True))
        has_no_df = np.repeat([one.lacks_net_p for one in self._families], [len(one.key) for one in self._families])
        table = []
        for rule in self._rules:
            measured = {}
            for name in ("power", "power_net_of_demand"):
                share = [np.stack(one.shares((rule, name))) for one in self._families]
                measured[name] = Measured(*np.concatenate(share, axis=1))
            measured["power_net_of_demand"].estimate[has_no_df] = np.nan
            suffixed = key.assign(analysis=key["analysis"] + ("" if rule == "none" else f"+{rule}"))
            both = tabulate(suffixed, measured, n, n_ok, n_valid - n_ok)
            table.append(both[both["outcome"].str.startswith("*")] if rule == "none" else both)
        result = pd.concat(table, ignore_index=True)
        is_any_null = (result["outcome"] == "*any") & (result["truth"] == "null")
        return result.assign(measure=result["measure"].mask(is_any_null, "family_wise_error"))


class _Family:
    """M outcomes of one design x analysis x truth with the same replicates, and what is counted of them.

    Of every test (rule and measure): (M, K) rejections of each outcome by calendar, and (M + 1, K) replicates that
    reject 0 .. M of the outcomes.
    """

    def __init__(self, cell: Index, name: pd.Series[str], outcome: list[str]) -> None:
        self.cell, self.name, self.outcome = cell, name, outcome
        label = [*outcome, "*any", "*all", *(["*at_least_2"] if len(outcome) > 1 else []), "*mean"]
        self.key = pd.DataFrame([{**name, "outcome": each} for each in label])[list(KEY)]
        self._rejected: dict[tuple[Rule, str], Index] = {}
        self._number: dict[tuple[Rule, str], Index] = {}
        self._fits = np.zeros((4, len(outcome)), dtype=np.int64)  # all, ok, valid, without a p-value net of demand
        self._together = np.zeros(2, dtype=np.int64)  # replicates with all ok, with all valid

    def rows(self, fits: Fits) -> Index:
        """(R, M) the family's rows in a span; ValueError if its outcomes do not hold the same replicates."""
        n_row = fits.n_row[self.cell]
        row = fits.start[self.cell] + np.arange(n_row.max())[:, None]
        if (n_row != n_row[0]).any() or np.ptp(fits.replicate[row], axis=1).any():
            count = ", ".join(f"{name} {n}" for name, n in zip(self.outcome, n_row, strict=True))
            where = ", ".join(self.name)
            raise ValueError(f"{where}: replicates differ between outcomes ({count}); a family needs the same in each")
        return np.asarray(row)

    def count_fits(self, is_ok: Bool, is_valid: Bool, has_no_net_p: Bool) -> None:
        """(R, M) each."""
        self._fits += [x.sum(axis=0) for x in (np.ones_like(is_ok), is_ok, is_valid, has_no_net_p)]
        self._together += [x.all(axis=1).sum() for x in (is_ok, is_valid)]

    def count_rejections(self, test: tuple[Rule, str], reject: Bool, calendar: Index, n_calendar: int) -> None:
        """reject : (R, M).  calendar : (R,)."""
        n_outcome = len(self.outcome)
        at = calendar[:, None] + n_calendar * np.arange(n_outcome)
        rejected = np.bincount(at[reject], minlength=n_outcome * n_calendar)
        number = np.bincount(reject.sum(axis=1) * n_calendar + calendar, minlength=(n_outcome + 1) * n_calendar)
        self._rejected[test] = self._rejected.get(test, 0) + rejected.reshape(-1, n_calendar)
        self._number[test] = self._number.get(test, 0) + number.reshape(-1, n_calendar)

    def counts(self) -> tuple[Index, Index, Index]:
        """Replicates, those with an ok and those with a valid fit: of each outcome, then of the whole family."""
        n_more = len(self.key) - len(self.outcome)
        together = (self._fits[0, 0], *self._together)
        n, n_ok, n_valid = (np.append(x, [y] * n_more) for x, y in zip(self._fits[:3], together, strict=True))
        return n, n_ok, n_valid

    @property
    def lacks_net_p(self) -> bool:
        """Whether an outcome has valid fits and a p-value net of demand in none of them."""
        n, _, n_valid, n_without = self._fits
        return bool(((n_without == n) & (n_valid > 0)).any())

    def shares(self, test: tuple[Rule, str]) -> Measured:
        """Rejection rates over replicates of each of M outcomes, then of *any, *all, *at_least_2 and *mean."""
        number, n_outcome = self._number[test].astype(float), len(self.outcome)
        enough = [1, n_outcome, 2] if n_outcome > 1 else [1, n_outcome]
        hit = np.stack([*self._rejected[test].astype(float), *(number[k:].sum(axis=0) for k in enough)])
        by_calendar = number.sum(axis=0)
        n = by_calendar.sum()
        counted = proportion(hit.sum(axis=1), n, spread_of_hits(np.broadcast_to(by_calendar, hit.shape), hit).growth)

        share = np.arange(n_outcome + 1) / n_outcome
        centre = share @ number.sum(axis=1) / n
        squares = (share - centre) ** 2 @ number.sum(axis=1)
        growth = spread(by_calendar[None], (share @ number)[None], np.array([squares])).growth[0]
        mean = normal(centre, np.sqrt(squares / (n - 1) / n) if n > 1 else np.nan, growth)
        mean = mean._replace(ci_low=np.maximum(mean.ci_low, 0.0), ci_high=np.minimum(mean.ci_high, 1.0))
        return Measured(*(np.append(x, y) for x, y in zip(counted, mean, strict=True)))


def _families(fits: Fits) -> list[_Family]:
    """The families of a span, by design, analysis and truth; their outcomes in order."""
    design, outcome, analysis, truth = fits.rank.T
    order = np.lexsort((outcome, truth, analysis, design))
    edge = np.flatnonzero(np.diff(fits.rank[order][:, [0, 2, 3]], axis=0).any(axis=1)) + 1
    return [
        _Family(cell, fits.key.iloc[cell[0]].drop("outcome"), list(fits.key["outcome"].iloc[cell]))
        for cell in np.split(order, edge)
    ]
