"""Power when several outcomes are tested: adjusted p-values, and power of the whole family of outcomes.

Power to reject any, all or at least two of the hypotheses, and the mean share rejected, are named as in Porter 2018,
doi:10.1080/19345747.2017.1342887 (minimal, complete, r-minimal and individual power).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sim.evaluate.calendars import spread
from sim.evaluate.performance import (
    COLUMNS,
    Bool,
    Fits,
    Index,
    Measured,
    Real,
    Sides,
    TrueValue,
    net_p_value,
    normal,
    proportion,
    rejects,
    sort_fits,
    tabulate,
    true_and_demand,
)

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
    rows: pd.DataFrame,
    rule: Rule,
    alpha: float,
    true_value: TrueValue,
    sides: Sides = 2,
    n_calendar: int | None = None,
) -> pd.DataFrame:
    """Power of the family of outcomes, and of each outcome after adjustment, per design x analysis x truth.

    rows, true_value, alpha, sides, n_calendar : as for `summarise`; the outcomes in `rows` are the family, and every
    replicate holds each of them once per analysis (ValueError otherwise).
    Outcomes `*any`, `*all`, `*at_least_2` and `*mean` (share rejected) come unadjusted under the analysis's own name,
    and adjusted, beside each outcome, under '<analysis>+<rule>'; rule 'none' gives the unadjusted ones alone. Measures
    are `power` and `power_net_of_demand`, under the null `type_1_error` and, for `*any`, `family_wise_error`. A failed
    fit does not reject. A replicate of a family is failed if any of its fits failed, else singular if any is singular.
    The MCSE of `*mean` is the standard deviation of the shares over replicates, divided by sqrt(R).
    """
    fits = sort_fits(rows, ["design", "analysis", "truth", "outcome"], n_calendar)
    _, demand = true_and_demand(fits.key, true_value)
    families = _families(fits)
    if not families:
        return pd.DataFrame(columns=COLUMNS)
    demand_row = np.repeat(demand, fits.n_row)
    p_net = net_p_value(fits, demand_row, sides)
    test = {"power": (fits.p_value, fits.estimate), "power_net_of_demand": (p_net, fits.estimate - demand_row)}
    p = {name: np.where(rejects(p, estimate, 1.0, sides), p, np.nan) for name, (p, estimate) in test.items()}

    n_label = [len(f.label) for f in families]
    key = fits.key.iloc[np.repeat([f.first for f in families], n_label)].reset_index(drop=True)
    key["outcome"] = np.concatenate([f.label for f in families])
    n_replicate = np.repeat([fits.n_row[f.first] for f in families], n_label)
    n_ok, n_valid = (
        np.concatenate([f.n_replicate_with(status) for f in families]) for status in (fits.is_ok, fits.is_valid)
    )
    has_no_df = np.repeat([f.lacks(p_net, fits.is_valid) for f in families], n_label)

    table = []
    for used in dict.fromkeys(["none", rule]):
        measured = {}
        for name, x in p.items():
            share = [np.stack(_shares(adjust(f.by_replicate(x), used) <= alpha, f.calendar(fits))) for f in families]
            measured[name] = Measured(*np.concatenate(share, axis=1))
        measured["power_net_of_demand"].estimate[has_no_df] = np.nan
        suffixed = key.assign(analysis=key["analysis"] + ("" if used == "none" else f"+{used}"))
        both = tabulate(suffixed, measured, n_replicate, n_ok, n_valid - n_ok)
        table.append(both[both["outcome"].str.startswith("*")] if used == "none" else both)
    result = pd.concat(table, ignore_index=True)
    is_any_null = (result["outcome"] == "*any") & (result["truth"] == "null")
    return result.assign(measure=result["measure"].mask(is_any_null, "family_wise_error"))


class _Family(NamedTuple):
    """M outcomes of one design x analysis x truth: neighbouring cells with the same R replicates."""

    first: int  # its first cell
    row: slice
    outcome: list[str]

    @property
    def label(self) -> list[str]:
        return [*self.outcome, "*any", "*all", *(["*at_least_2"] if len(self.outcome) > 1 else []), "*mean"]

    def by_replicate(self, x: Any) -> Any:
        """The family's part of a column of the sorted rows, (R, M)."""
        return x[self.row].reshape(len(self.outcome), -1).T

    def calendar(self, fits: Fits) -> Index | None:
        """(R,) the calendar of each replicate; None = they share none."""
        return None if fits.calendar is None else np.asarray(self.by_replicate(fits.calendar)[:, 0])

    def n_replicate_with(self, status: Bool) -> Index:
        """Replicates with this status in each outcome, and, once per family measure, in all outcomes at once."""
        has = self.by_replicate(status)
        return np.append(has.sum(axis=0), [has.all(axis=1).sum()] * (len(self.label) - len(self.outcome)))

    def lacks(self, x: Real, is_valid: Bool) -> bool:
        """Whether an outcome has valid fits and `x` in none of them."""
        is_absent = np.isnan(self.by_replicate(x)).all(axis=0)
        return bool((is_absent & self.by_replicate(is_valid).any(axis=0)).any())


def _families(fits: Fits) -> list[_Family]:
    """The families of the sorted rows; ValueError if the outcomes of one do not hold the same replicates."""
    cell = fits.key.drop(columns="outcome")
    edge = np.append(np.flatnonzero(cell.ne(cell.shift()).any(axis=1)), len(cell)).tolist()
    found = []
    for first, last in pairwise(edge):
        n_row, outcome = fits.n_row[first:last], list(fits.key["outcome"].iloc[first:last])
        row = slice(fits.start[first], fits.start[first] + n_row.sum())
        if (n_row != n_row[0]).any() or np.ptp(fits.replicate[row].reshape(len(outcome), -1), axis=0).any():
            count = ", ".join(f"{name} {n}" for name, n in zip(outcome, n_row, strict=True))
            where = ", ".join(cell.iloc[first])
            raise ValueError(f"{where}: replicates differ between outcomes ({count}); a family needs the same in each")
        found.append(_Family(first, row, outcome))
    return found


def _shares(reject: Bool, calendar: Index | None) -> Measured:
    """Rejection rates over replicates of each of M outcomes, then of *any, *all, *at_least_2 and *mean; (R, M) in."""
    n_replicate, n_outcome = reject.shape
    n_rejected = reject.sum(axis=1)
    enough = [1, n_outcome, 2] if n_outcome > 1 else [1, n_outcome]
    hit = np.column_stack([reject, *(n_rejected >= k for k in enough)])
    share = n_rejected / n_outcome
    shared = [spread(x.astype(float), np.zeros(n_replicate, np.int64), 1, calendar) for x in (*hit.T, share)]
    mcse = share.std(ddof=1) / np.sqrt(n_replicate) if n_replicate > 1 else np.nan
    growth = np.concatenate([one.growth for one in shared])
    mean = normal(share.mean(), mcse, growth[-1])
    mean = mean._replace(ci_low=np.maximum(mean.ci_low, 0.0), ci_high=np.minimum(mean.ci_high, 1.0))
    counted = proportion(hit.sum(axis=0), n_replicate, growth[:-1])
    return Measured(*(np.append(x, y) for x, y in zip(counted, mean, strict=True)))
