"""Performance measures of each analysis, every one with its Monte Carlo standard error.

The rows of the replicates go in, span by span, one tidy table comes out; nothing is read, written or drawn. A first
pass over the spans gives counts and means, a second the scatter about the means. Measures and Monte Carlo standard
errors follow Morris, White, Crowther 2019, doi:10.1002/sim.8086, table 6; type S and type M errors follow Gelman &
Carlin 2014, doi:10.1177/1745691614551642; intervals of proportions follow Wilson 1927,
doi:10.1080/01621459.1927.10502953.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from scipy import special

from sim.evaluate.calendars import Spread, spread
from sim.evaluate.spans import KEY, Bool, Fits, Real, Spans, read
from sim.evaluate.sums import Scores, Sums
from sim.evaluate.true_values import TrueValue, demand_without_effect, error_of_true_value, true_and_demand

Sides: TypeAlias = Literal[1, 2]

COUNT = ("n_replicate", "n_ok", "n_singular", "n_failed")
COLUMNS = [*KEY, "measure", "estimate", "mcse", "ci_low", "ci_high", *COUNT]
Z95 = float(special.ndtri(0.975))

NAME_UNDER_NULL = {
    "power": "type_1_error",
    "power_if_failures_reject": "type_1_error_if_failures_reject",
    "power_among_ok": "type_1_error_among_ok",
    "power_counted": "type_1_error_counted",
}
ONLY_UNDER_ALTERNATIVE = (
    "power_correct_sign", "power_net_of_demand", "coverage_net_of_demand", "type_s", "type_m", "demand_inflation",
)  # fmt: skip


class Measured(NamedTuple):
    """A performance measure with its Monte Carlo standard error and 95% interval, (C,) arrays; NaN = not computable."""

    estimate: Real
    mcse: Real
    ci_low: Real
    ci_high: Real


def proportion(count: Any, n: Any, growth: Any = 1.0) -> Measured:
    """Proportion count / n, its MCSE sqrt(p (1 - p) / n) and Wilson's 95% interval; NaN where n is 0.

    growth : how much the calendars that replicates share make the variance grow; n in both is divided by it.
    Reference: Wilson 1927, doi:10.1080/01621459.1927.10502953.

    >>> [round(float(x), 4) for x in proportion(8, 10)]
    [0.8, 0.1265, 0.4902, 0.9433]
    """
    count, n = np.asarray(count, dtype=float), np.asarray(n, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        p, n = count / n, n / growth
        centre = (n * p + Z95**2 / 2) / (n + Z95**2)
        half = Z95 / (n + Z95**2) * np.sqrt(n * p * (1 - p) + Z95**2 / 4)
        return Measured(p, np.sqrt(p * (1 - p) / n), np.clip(centre - half, 0.0, p), np.clip(centre + half, p, 1.0))


def normal(estimate: Any, mcse: Any, growth: Any = 1.0) -> Measured:
    """A measure with its normal 95% interval, estimate -+ 1.96 MCSE; mcse : of replicates that share no calendars."""
    mcse = mcse * np.sqrt(growth)
    return Measured(estimate, mcse, estimate - Z95 * mcse, estimate + Z95 * mcse)


def share_owed_to_calendars(shared: Spread) -> Measured:
    """Their share of the variance of a mean, with its 95% interval."""
    found = normal(shared.share, shared.share_mcse)
    return found._replace(ci_low=np.clip(found.ci_low, 0.0, 1.0), ci_high=np.clip(found.ci_high, 0.0, 1.0))


def rejects(p_value: Real, estimate: Real, alpha: float, sides: Sides) -> Bool:
    """Whether each test rejects: p at most alpha and, one-sided (upper), an estimate above zero; NaN never rejects."""
    return (p_value <= alpha) & ((sides == 2) | (estimate > 0))


def net_p_value(fits: Fits, demand: Real, sides: Sides) -> Real:
    """The p-values, (L,), had the estimates not held the demand inflation: sides * P(T_df > |estimate - demand| / SE).

    demand : (L,). Where it is 0 the p-value is the analysis's own. NaN where a fit failed or has no df; df = inf is
    the normal distribution. One-sided tests take the upper tail of (estimate - demand) / SE.
    """
    p = fits.p_value.copy()
    at = np.flatnonzero(demand != 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        t = (fits.estimate[at] - demand[at]) / fits.standard_error[at]
    p[at] = 2 * special.stdtr(fits.df[at], -np.abs(t)) if sides == 2 else special.stdtr(fits.df[at], -t)
    return p


def summarise(spans: Spans, true_value: TrueValue, alpha: float, sides: Sides = 2, n_calendar: int = 1) -> pd.DataFrame:
    """Every performance measure of each design x outcome x analysis x truth, with MCSE, 95% interval and fit counts.

    spans : tables of one row per replicate x outcome x analysis x truth, in ascending order of replicates and within a
    table in any order, with the columns design, replicate, outcome, analysis, truth ('alternative' or 'null'),
    estimate, standard_error, df, p_value, ci_low, ci_high and status ('ok', 'singular', 'failed'). A fit whose
    estimate, standard error or p-value is NaN or infinite counts as failed whatever its status; a singular fit is
    valid.
    true_value : (design, outcome, truth) -> (true value of the estimand, demand inflation), as a mapping or as a
    DataFrame with the columns design, outcome, truth, true_value, demand_inflation and, where the value comes from
    draws, true_value_mcse. Demand inflation is the part of the treated arm's self-report that is in the estimates and
    not in the estimand.
    alpha : in (0, 1).  sides : 2, or 1 for an upper one-sided test, whose p-values are one-sided already.
    n_calendar : calendars that the replicates share, replicate r being on calendar r modulo this: every MCSE counts the
    variance between calendars, and `calendar_share` is its share of the squared MCSE of power (under the null, of
    the type I error); 1 = they share nothing that could be told.

    Rejections are counted among all replicates, a failed fit as not rejecting (`power`) or as rejecting
    (`power_if_failures_reject`); under the null `type_1_error_with_demand` is the share of rejections had the trained
    inflated their reports though nobody gained, as the trial itself would test them. `power_among_ok`, bias, standard
    errors, coverage and MSE take the valid fits; type S and type M the valid fits that reject. An interval without both
    limits covers nothing. A measure that has no value or no MCSE (a single valid fit, type S and M of a true value of
    0) has no row.
    Raises ValueError as `read` does, and where a cell has no true value.
    References: see the module.
    """
    performance = Performance(true_value, alpha, sides)
    read(spans, n_calendar, [performance])
    return performance.table()


class Performance:
    """The measures of `summarise`, from two passes over the spans."""

    def __init__(self, true_value: TrueValue, alpha: float, sides: Sides) -> None:
        self._true_value, self._alpha, self._sides = true_value, alpha, sides
        self._cell: _Cells | None = None
        self._sums, self._about = Sums(), Sums()
        self._mean: dict[str, Real] | None = None

    def add(self, fits: Fits) -> None:
        """First pass: counts and sums.  Second pass: distances from the means."""
        if self._cell is None:
            self._cell = _cells(fits, self._true_value)
        reject = rejects(fits.p_value, fits.estimate, self._alpha, self._sides)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            number = _numbers(fits, self._cell, reject)
            if self._mean is None:
                self._sums.add(fits, _joined(_hits(fits, self._cell, reject, self._alpha, self._sides), number))
            else:
                self._about.add(fits, _distances(fits, number, self._mean))

    def needs_another_pass(self) -> bool:
        """Once, for what needs the means."""
        if self._mean is not None or self._cell is None:
            return False
        with np.errstate(invalid="ignore"):
            self._mean = {name: self._sums.mean(name) for name in NUMBERS}
        return True

    def table(self) -> pd.DataFrame:
        """One row per cell and measure."""
        if self._cell is None:
            return pd.DataFrame(columns=COLUMNS)
        cell, sums = self._cell, self._sums
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            measured = _rejection(cell, sums, self._about) | _accuracy(cell, sums, self._about)
            with_demand = _where(~np.isnan(cell.demand_if_no_effect), _share("type_1_error_with_demand", sums))
            measured["type_1_error_with_demand"] = with_demand
            measured["true_value"] = normal(cell.true, error_of_true_value(cell.key, self._true_value))
            measured["demand_inflation"] = normal(cell.demand, np.zeros(len(cell.key)))
            measured |= {name: _share(name, sums) for name in ("singular_rate", "failure_rate")}
        return tabulate(cell.key, measured, sums.n("all"), sums.total("ok"), sums.total("singular_rate"))


class _Cells(NamedTuple):
    """What is known of the C cells beforehand."""

    key: pd.DataFrame  # (C, 4)
    true: Real  # (C,)
    demand: Real
    demand_if_no_effect: Real

    @property
    def ratio_base(self) -> Real:
        """The true value; NaN where it is 0: no sign is right then, and no ratio exists."""
        return np.where(self.true == 0, np.nan, self.true)


def _cells(fits: Fits, true_value: TrueValue) -> _Cells:
    return _Cells(fits.key, *true_and_demand(fits.key, true_value), demand_without_effect(fits.key, true_value))


NUMBERS = (
    "chance", "chance_if_failures_reject", "chance_or_rejection", "estimate", "square", "error", "chance_among_ok",
    "exaggeration",
)  # fmt: skip
"""Scores that are more than 0 or 1, whose scatter the second pass measures."""


def _numbers(fits: Fits, cell: _Cells, reject: Bool) -> Scores:
    """Scores whose means are estimated: conditional chances to reject, estimates, squared errors, type M ratios."""
    valid, p = fits.is_valid, fits.reject_probability
    chance = np.where(valid, p, 0.0)
    return {
        "all": (np.ones(len(valid), dtype=bool), {
            "chance": chance,
            "chance_if_failures_reject": np.where(valid, p, 1.0),
            "chance_or_rejection": np.where(np.isnan(chance), reject, chance),
        }),
        "valid": (valid, {
            "estimate": fits.estimate,
            "square": fits.standard_error**2,
            "error": (fits.estimate - fits.each(cell.true)) ** 2,
            "chance_among_ok": p,
        }),
        "rejecting": (reject, {"exaggeration": np.abs(fits.estimate) / fits.each(np.abs(cell.ratio_base))}),
    }  # fmt: skip


def _hits(fits: Fits, cell: _Cells, reject: Bool, alpha: float, sides: Sides) -> Scores:
    """Scores that are 0 or 1, named as the measures that are their shares, and what tells whether these exist."""
    valid, everyone = fits.is_valid, np.ones(len(fits.is_valid), dtype=bool)
    is_right = np.sign(fits.estimate) == fits.each(np.sign(cell.ratio_base))
    demand, added = fits.each(cell.demand), fits.each(np.nan_to_num(cell.demand_if_no_effect))
    p_net, p_added = net_p_value(fits, demand, sides), net_p_value(fits, -added, sides)
    return {
        "all": (everyone, {
            "power": reject,
            "power_net_of_demand": rejects(p_net, fits.estimate - demand, alpha, sides),
            "power_if_failures_reject": reject | ~valid,
            "power_correct_sign": reject & is_right,
            "type_1_error_with_demand": rejects(p_added, fits.estimate + added, alpha, sides),
            "ok": fits.is_ok,
            "singular_rate": fits.is_singular,
            "failure_rate": ~valid,
            "has_net_p_value": ~np.isnan(p_net),
        }),
        "valid": (valid, {
            "power_among_ok": reject,
            "coverage": _covers(fits, cell.true),
            "coverage_net_of_demand": _covers(fits, cell.true + cell.demand),
            "has_interval": ~np.isnan(fits.ci_low) & ~np.isnan(fits.ci_high),
            "has_no_chance": np.isnan(fits.reject_probability),
        }),
        "rejecting": (reject, {"type_s": ~is_right}),
    }  # fmt: skip


def _covers(fits: Fits, value: Real) -> Bool:
    return (fits.ci_low <= fits.each(value)) & (fits.each(value) <= fits.ci_high)


def _joined(one: Scores, other: Scores) -> Scores:
    return {among: (counts, {**values, **other[among][1]}) for among, (counts, values) in one.items()}


def _distances(fits: Fits, number: Scores, mean: Mapping[str, Real]) -> Scores:
    """Of each number its distance from the mean of its cell, squared as well, and what else needs a mean."""
    scores: dict[str, tuple[Bool, dict[str, Any]]] = {}
    for among, (counts, values) in number.items():
        off = {name: value - fits.each(mean[name]) for name, value in values.items()}
        scores[among] = (counts, off | {f"{name}^2": x**2 for name, x in off.items()})
    everyone, valid = scores["all"][1], scores["valid"][1]
    everyone["chance^4"] = everyone["chance^2"] ** 2
    valid["estimate^4"] = valid["estimate^2"] ** 2
    valid["square estimate^2"] = valid["square"] * valid["estimate^2"]
    valid["bias_eliminated_coverage"] = _covers(fits, mean["estimate"])
    return scores


def _share(name: str, sums: Sums) -> Measured:
    """Share of the rows that count for a score that hit."""
    return proportion(sums.total(name), sums.n_of(name), sums.spread_of_hits(name).growth)


def _mean(name: str, sums: Sums, about: Sums, less: Real | float = 0.0) -> Measured:
    """Mean of a number, less a constant; its MCSE is the standard deviation over sqrt(n)."""
    n, squares = sums.n_of(name), about.total(f"{name}^2")
    return normal(sums.mean(name) - less, np.sqrt(squares / (n - 1) / n), about.spread(name, squares).growth)


def _rejection(cell: _Cells, sums: Sums, about: Sums) -> dict[str, Measured]:
    """Power, what failures and demand do to it, and the errors of significant estimates (Gelman & Carlin 2014)."""
    counted = {name: _share(name, sums) for name in CHANCE}
    has_no_df = (sums.n("valid") > 0) & (sums.total("has_net_p_value") == 0)
    counted["power_net_of_demand"] = _where(~has_no_df, counted["power_net_of_demand"])
    has_sign = ~np.isnan(cell.ratio_base)
    return _conditional(cell.demand, counted, sums, about) | {
        "calendar_share": share_owed_to_calendars(
            about.spread("chance_or_rejection", about.total("chance_or_rejection^2"))
        ),
        "power_correct_sign": _where(has_sign, _share("power_correct_sign", sums)),
        "type_s": _where(has_sign, _share("type_s", sums)),
        "type_m": _mean("exaggeration", sums, about),
    }


def _where(has_value: Bool, measured: Measured) -> Measured:
    """The measure in cells where it has a value, else NaN."""
    return Measured(*(np.where(has_value, x, np.nan) for x in measured))


CHANCE = {
    "power": "chance",
    "power_net_of_demand": "chance",
    "power_if_failures_reject": "chance_if_failures_reject",
    "power_among_ok": "chance_among_ok",
}
"""Share of rejections -> the conditional rejection probabilities whose mean it is as well."""


def _conditional(demand: Real, counted: dict[str, Measured], sums: Sums, about: Sums) -> dict[str, Measured]:
    """The same measures from the conditional rejection probabilities, in cells where every valid fit has one.

    Their mean has MCSE sd / sqrt(n), a failed fit counting 0 or 1 as before. `power_counted` is the share of rejections
    beside it, `variance_reduction` the variance p (1 - p) of a counted rejection, at that mean p, over theirs. Where
    demand inflates estimates, power net of it is counted. Reference: Blackwell 1947, doi:10.1214/aoms/1177730497.
    """
    is_conditional = (sums.total("has_no_chance") == 0) & (sums.n("valid") > 0)
    chosen = {}
    for name, chance in CHANCE.items():
        keep = is_conditional & ((name != "power_net_of_demand") | (demand == 0))
        found = _mean(chance, sums, about)
        found = found._replace(ci_low=np.clip(found.ci_low, 0.0, 1.0), ci_high=np.clip(found.ci_high, 0.0, 1.0))
        chosen[name] = Measured(*(np.where(keep, a, b) for a, b in zip(found, counted[name], strict=True)))
    n, centre = sums.n("all"), sums.mean("chance")
    variance, fourth = about.total("chance^2") / (n - 1), about.total("chance^4") / n
    ratio = np.where(is_conditional, centre * (1 - centre) / variance, np.nan)
    sd = np.sqrt((fourth - variance**2 * (n - 3) / (n - 1)) / n)  # of the variance
    chosen["variance_reduction"] = normal(ratio, ratio * sd / variance)
    chosen["power_counted"] = _where(is_conditional, counted["power"])
    return chosen


def _accuracy(cell: _Cells, sums: Sums, about: Sums) -> dict[str, Measured]:
    """Bias, standard errors, coverage and MSE of the valid fits (Morris, White, Crowther 2019, table 6)."""
    n = sums.n("valid")
    variance, model_variance = about.total("estimate^2") / (n - 1), sums.mean("square")
    empirical_se, model_se = np.sqrt(variance), np.sqrt(model_variance)
    variability = about.total("square^2") / (n - 1)
    ratio = model_se / empirical_se
    ratio_mcse = ratio * np.sqrt(variability / (4 * n * model_variance**2) + 1 / (2 * (n - 1)))
    of_variance, of_ratio = _spread_of_variance(about), _spread_of_ratio(about, variance, model_variance)
    of_square = about.spread("square", about.total("square^2"))

    def covers(name: str, sums_of: Sums) -> Measured:
        return _where(sums.total("has_interval") > 0, _share(name, sums_of))

    return {
        "bias": _mean("estimate", sums, about, less=cell.true),
        "empirical_se": normal(empirical_se, empirical_se / np.sqrt(2 * (n - 1)), of_variance.growth),
        "model_se": normal(model_se, np.sqrt(variability / (4 * n * model_variance)), of_square.growth),
        "relative_error_model_se": normal(100 * (ratio - 1), 100 * ratio_mcse, of_ratio.growth),
        "coverage": covers("coverage", sums),
        "coverage_net_of_demand": covers("coverage_net_of_demand", sums),
        "bias_eliminated_coverage": covers("bias_eliminated_coverage", about),
        "mse": _mean("error", sums, about),
    }


def _spread_of_variance(about: Sums) -> Spread:
    """Of the squared distance q of an estimate from the mean estimate."""
    q, q2 = about.total("estimate^2"), about.total("estimate^4")
    return about.spread("estimate^2", q2 - q**2 / about.n("valid"))


def _spread_of_ratio(about: Sums, variance: Real, model_variance: Real) -> Spread:
    """Of what a row adds to the model over the empirical variance, s / model_variance - q / variance.

    s is its squared standard error less their mean, q as above: sums of it and of its square follow from theirs.
    """
    n, q = about.n("valid"), about.total("estimate^2")
    s_scale, q_scale = 1 / model_variance, 1 / variance
    s_total = about.total("square")
    s2 = about.total("square^2") - s_total**2 / n
    q2 = about.total("estimate^4") - q**2 / n
    s_q = about.total("square estimate^2") - s_total * q / n
    squares = s2 * s_scale**2 + q2 * q_scale**2 - 2 * s_q * s_scale * q_scale
    total = about.by_calendar("square") * s_scale[:, None] - about.by_calendar("estimate^2") * q_scale[:, None]
    return spread(about.n_by_calendar("square"), total, squares)


def tabulate(
    key: pd.DataFrame, measured: Mapping[str, Measured], n_replicate: Any, n_ok: Any, n_singular: Any
) -> pd.DataFrame:
    """One row per cell and measure, in the columns of summary.csv; measures without a value or an MCSE have no row.

    key : (C, 4) table of design, outcome, analysis and truth. Counts are (C,). Under the null `power` is named
    `type_1_error`, and measures that only an effect gives a meaning have no row.
    """
    name, n_cell, n_measure = list(measured), len(key), len(measured)
    value = np.stack([np.stack(np.broadcast_arrays(*measured[m]), axis=-1) for m in name], axis=1)  # (C, measure, 4)
    is_null = np.asarray(key["truth"] == "null")
    null_name = [NAME_UNDER_NULL.get(m, m) for m in name]
    has_meaning = ~(is_null[:, None] & np.isin(name, ONLY_UNDER_ALTERNATIVE))
    keep = (np.isfinite(value).all(axis=-1) & has_meaning).ravel()

    table = key.loc[np.repeat(np.arange(n_cell), n_measure)].reset_index(drop=True)
    table["measure"] = np.where(is_null[:, None], null_name, name).ravel()
    table[list(Measured._fields)] = value.reshape(-1, 4)
    count = np.stack([np.asarray(x, dtype=np.int64) for x in (n_replicate, n_ok, n_singular)], axis=-1)
    count = np.column_stack([count, count[:, 0] - count[:, 1] - count[:, 2]])
    table[list(COUNT)] = np.repeat(count, n_measure, axis=0)
    kept: pd.DataFrame = table.loc[keep, COLUMNS]
    return kept.reset_index(drop=True)
