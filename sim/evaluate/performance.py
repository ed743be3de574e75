"""Performance measures of each analysis, every one with its Monte Carlo standard error.

The rows of the replicates go in, one tidy table comes out; nothing is read, written or drawn. Measures and Monte Carlo
standard errors follow Morris, White, Crowther 2019, doi:10.1002/sim.8086, table 6; type S and type M errors follow
Gelman & Carlin 2014, doi:10.1177/1745691614551642; intervals of proportions follow Wilson 1927,
doi:10.1080/01621459.1927.10502953.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from sim.evaluate.calendars import Spread, spread

Real: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.int64]
Bool: TypeAlias = NDArray[np.bool_]
Sides: TypeAlias = Literal[1, 2]
TrueValue: TypeAlias = pd.DataFrame | Mapping[tuple[str, str, str], tuple[float, float]]

KEY = ("design", "outcome", "analysis", "truth")
COUNT = ("n_replicate", "n_ok", "n_singular", "n_failed")
COLUMNS = [*KEY, "measure", "estimate", "mcse", "ci_low", "ci_high", *COUNT]
Z95 = float(special.ndtri(0.975))

NAME_UNDER_NULL = {
    "power": "type_1_error",
    "power_if_failures_reject": "type_1_error_if_failures_reject",
    "power_among_ok": "type_1_error_among_ok",
    "power_counted": "type_1_error_counted",
}
_NUMBER = ("estimate", "standard_error", "df", "p_value", "ci_low", "ci_high")
ONLY_UNDER_ALTERNATIVE = (
    "power_correct_sign", "power_net_of_demand", "coverage_net_of_demand", "type_s", "type_m", "demand_inflation",
)  # fmt: skip


class Fits(NamedTuple):
    """The L rows in order of their C cells and, within a cell, of replicate; what a failed fit returned is NaN."""

    key: pd.DataFrame  # (C, ...) what names a cell
    start: Index  # (C,) its first row
    n_row: Index  # (C,)
    replicate: Index  # (L,)
    is_ok: Bool  # (L,)
    is_singular: Bool
    estimate: Real
    standard_error: Real
    df: Real
    p_value: Real
    ci_low: Real
    ci_high: Real
    reject_probability: Real  # conditional on the error contrasts; NaN where rejections are counted
    calendar: Index | None  # (L,) that the replicate is on; None = they share none

    @property
    def is_valid(self) -> Bool:
        return self.is_ok | self.is_singular

    def spread(self, value: Real) -> Spread:
        """What shared calendars do to the error of the mean of `value`, (L,), over the rows where it is not NaN."""
        return spread(value, np.repeat(np.arange(len(self.start)), self.n_row), len(self.start), self.calendar)


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


def _share(hit: Bool, fits: Fits, among: Bool | None = None) -> Measured:
    """Share of the rows of each cell, or of those `among` them, that hit."""
    counts = np.ones(len(hit), dtype=bool) if among is None else among
    shared = fits.spread(np.where(counts, hit.astype(float), np.nan))
    return proportion(_sum(hit & counts, fits), _sum(counts, fits), shared.growth)


def sort_fits(rows: pd.DataFrame, cell: Sequence[str], n_calendar: int | None = None) -> Fits:
    """The rows sorted by cell, then by replicate, so that the order of the rows cannot change a sum.

    n_calendar : replicate r is on calendar r modulo this; None = replicates share none.

    A fit counts as valid when its status is 'ok' or 'singular' and its estimate, standard error and p-value are finite.
    Categories keep their order, text is sorted. Raises ValueError where a row occurs twice, for example because a block
    was read twice: such a replicate would be counted twice.
    """
    cell_code = np.zeros(len(rows), dtype=np.int64)
    for name in cell:
        category = rows[name].astype("category").cat
        cell_code = cell_code * max(len(category.categories), 1) + category.codes.to_numpy()
    replicate = rows["replicate"].to_numpy(dtype=np.int64)
    order = np.lexsort((replicate, cell_code))
    cell_code, replicate = cell_code[order], replicate[order]
    start = np.flatnonzero(np.diff(cell_code, prepend=-1))
    key = rows[list(cell)].iloc[order[start]].astype(str).reset_index(drop=True)
    n_row = np.diff(start, append=len(rows))

    twice = np.flatnonzero((np.diff(cell_code) == 0) & (np.diff(replicate) == 0))
    if twice.size:
        where = ", ".join(key.iloc[int(np.searchsorted(start, twice[0], side="right")) - 1])
        first = f"the first is replicate {replicate[twice[0]]} of {where}"
        raise ValueError(f"{twice.size} rows occur twice, {first}; was a block read more than once?")

    value = {name: rows[name].to_numpy(dtype=float)[order] for name in _NUMBER}
    given = (
        rows["reject_probability"].to_numpy(dtype=float) if "reject_probability" in rows else np.full(len(rows), np.nan)
    )
    value["reject_probability"] = given[order]
    is_finite = np.isfinite(value["estimate"]) & np.isfinite(value["standard_error"]) & np.isfinite(value["p_value"])
    is_ok, is_singular = ((rows["status"] == s).to_numpy(dtype=bool)[order] & is_finite for s in ("ok", "singular"))
    value = {name: np.where(is_ok | is_singular, x, np.nan) for name, x in value.items()}
    calendar = None if n_calendar is None else replicate % n_calendar
    return Fits(key, start, n_row, replicate, is_ok, is_singular, **value, calendar=calendar)


def true_and_demand(key: pd.DataFrame, true_value: TrueValue) -> tuple[Real, Real]:
    """True value of the estimand and demand inflation of each cell, two (C,) arrays; ValueError if a cell has none."""
    known = _known(true_value)
    wanted = [(str(d), str(o), str(h)) for d, o, h in key[["design", "outcome", "truth"]].itertuples(index=False)]
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise ValueError(f"no true value for (design, outcome, truth) = {missing[0]}; known: {sorted(known)}")
    pair = np.array([known[name] for name in wanted], dtype=float).reshape(-1, 2)
    return pair[:, 0], pair[:, 1]


def error_of_true_value(key: pd.DataFrame, true_value: TrueValue) -> Real:
    """(C,) Monte Carlo standard error of the true value: 0 but where a table says that it comes from draws."""
    if not isinstance(true_value, pd.DataFrame) or "true_value_mcse" not in true_value:
        return np.zeros(len(key))
    wanted = ["design", "outcome", "truth"]
    found = key[wanted].merge(true_value[[*wanted, "true_value_mcse"]].astype(dict.fromkeys(wanted, str)), "left")
    return found["true_value_mcse"].to_numpy(float)


def demand_without_effect(key: pd.DataFrame, true_value: TrueValue) -> Real:
    """(C,) the demand inflation that trained people would report if nobody gained: the alternative's; NaN elsewhere."""
    known = _known(true_value)
    return np.array(
        [
            known.get((str(d), str(o), "alternative"), (0.0, 0.0))[1] if h == "null" else np.nan
            for d, o, h in key[["design", "outcome", "truth"]].itertuples(index=False)
        ]
    )


def _known(true_value: TrueValue) -> dict[tuple[str, str, str], tuple[float, float]]:
    if not isinstance(true_value, pd.DataFrame):
        return dict(true_value)
    column = ["design", "outcome", "truth", "true_value", "demand_inflation"]
    table = true_value if "design" in true_value else true_value.reset_index()
    return {(d, o, h): (value, demand) for d, o, h, value, demand in table[column].itertuples(index=False)}


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


def summarise(
    rows: pd.DataFrame, true_value: TrueValue, alpha: float, sides: Sides = 2, n_calendar: int | None = None
) -> pd.DataFrame:
    """Every performance measure of each design x outcome x analysis x truth, with MCSE, 95% interval and fit counts.

    rows : one row per replicate x outcome x analysis x truth, in any order, with the columns design, replicate,
    outcome, analysis, truth ('alternative' or 'null'), estimate, standard_error, df, p_value, ci_low, ci_high and
    status ('ok', 'singular', 'failed'). A fit whose estimate, standard error or p-value is NaN or infinite counts as
    failed whatever its status; a singular fit is valid.
    true_value : (design, outcome, truth) -> (true value of the estimand, demand inflation), as a mapping or as a
    DataFrame with the columns design, outcome, truth, true_value, demand_inflation and, where the value comes from
    draws, true_value_mcse. Demand inflation is the part of the treated arm's self-report that is in the estimates and
    not in the estimand.
    alpha : in (0, 1).  sides : 2, or 1 for an upper one-sided test, whose p-values in `rows` are one-sided already.
    n_calendar : calendars that the replicates share, replicate r being on calendar r modulo this: every MCSE counts the
    variance between calendars, and `calendar_share` is its share of the squared MCSE of power (under the null, of
    the type I error); None = they share none.

    Rejections are counted among all replicates, a failed fit as not rejecting (`power`) or as rejecting
    (`power_if_failures_reject`); under the null `type_1_error_with_demand` is the share of rejections had the trained
    inflated their reports though nobody gained, as the trial itself would test them. `power_among_ok`, bias, standard
    errors, coverage and MSE take the valid fits; type S and type M the valid fits that reject. An interval without both
    limits covers nothing. A measure that has no value or no MCSE (a single valid fit, type S and M of a true value of
    0) has no row.
    References: see the module.
    """
    fits = sort_fits(rows, KEY, n_calendar)
    true, demand = true_and_demand(fits.key, true_value)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        measured = _rejection(fits, true, demand, alpha, sides) | _accuracy(fits, true, demand)
        inflated = demand_without_effect(fits.key, true_value)
        measured["type_1_error_with_demand"] = _rejection_of_demand(fits, inflated, alpha, sides)
    fixed = np.zeros(len(true))
    error = error_of_true_value(fits.key, true_value)
    measured |= {"true_value": normal(true, error), "demand_inflation": normal(demand, fixed)}
    n_ok, n_singular = (_sum(status, fits) for status in (fits.is_ok, fits.is_singular))
    measured["singular_rate"] = _share(fits.is_singular, fits)
    measured["failure_rate"] = _share(~fits.is_valid, fits)
    return tabulate(fits.key, measured, fits.n_row, n_ok, n_singular)


def _sum(x: Any, fits: Fits) -> Real:
    """Sum over the rows of each cell, (C,)."""
    return np.add.reduceat(np.asarray(x, dtype=float), fits.start)


def _rejection(fits: Fits, true: Real, demand: Real, alpha: float, sides: Sides) -> dict[str, Measured]:
    """Power, what failures and demand do to it, and the errors of significant estimates (Gelman & Carlin 2014)."""
    n, n_valid = fits.n_row, _sum(fits.is_valid, fits)
    true = np.where(true == 0, np.nan, true)  # no sign is right and no ratio exists
    sign = np.repeat(np.sign(true), n)
    reject = rejects(fits.p_value, fits.estimate, alpha, sides)
    n_reject = _sum(reject, fits)
    is_right = np.sign(fits.estimate) == sign

    demand_row = np.repeat(demand, n)
    p_net = net_p_value(fits, demand_row, sides)
    net = _share(rejects(p_net, fits.estimate - demand_row, alpha, sides), fits)
    has_no_df = (n_valid > 0) & (_sum(~np.isnan(p_net), fits) == 0)

    ratio = np.where(reject, np.abs(fits.estimate) / np.repeat(np.abs(true), n), 0.0)
    type_m = _sum(ratio, fits) / n_reject
    square = np.where(reject, (ratio - np.repeat(type_m, n)) ** 2, 0.0)
    type_m_mcse = np.sqrt(_sum(square, fits) / (n_reject - 1) / n_reject)
    counted = {
        "power": _share(reject, fits),
        "power_net_of_demand": _where(~has_no_df, net),
        "power_if_failures_reject": _share(reject | ~fits.is_valid, fits),
        "power_among_ok": _share(reject, fits, fits.is_valid),
    }
    p_reject = np.where(fits.is_valid, fits.reject_probability, 0.0)
    shared = fits.spread(np.where(np.isnan(p_reject), reject, p_reject))
    return _conditional(fits, demand, counted) | {
        "calendar_share": share_owed_to_calendars(shared),
        "power_correct_sign": _where(~np.isnan(true), _share(reject & is_right, fits)),
        "type_s": _where(~np.isnan(true), _share(~is_right, fits, reject)),
        "type_m": normal(type_m, type_m_mcse, fits.spread(np.where(reject, ratio, np.nan)).growth),
    }


def _where(has_value: Bool, measured: Measured) -> Measured:
    """The measure in cells where it has a value, else NaN."""
    return Measured(*(np.where(has_value, x, np.nan) for x in measured))


def _conditional(fits: Fits, demand: Real, counted: dict[str, Measured]) -> dict[str, Measured]:
    """The same measures from the conditional rejection probabilities, in cells where every valid fit has one.

    Their mean has MCSE sd / sqrt(n), a failed fit counting 0 or 1 as before. `power_counted` is the share of rejections
    beside it, `variance_reduction` the variance p (1 - p) of a counted rejection, at that mean p, over theirs. Where
    demand inflates estimates, power net of it is counted. Reference: Blackwell 1947, doi:10.1214/aoms/1177730497.
    """
    p, n = fits.reject_probability, fits.n_row.astype(float)
    is_conditional = (_sum(fits.is_valid & np.isnan(p), fits) == 0) & (_sum(fits.is_valid, fits) > 0)

    def mean(x: Real, n: Real) -> tuple[Real, Real, Real]:
        """Mean, variance and fourth central moment over the n rows of each cell that are not NaN."""
        centre = _sum(np.nan_to_num(x), fits) / n
        off = np.nan_to_num(x - np.repeat(centre, fits.n_row))
        return centre, _sum(off**2, fits) / (n - 1), _sum(off**4, fits) / n

    def measured(x: Real, n: Real) -> Measured:
        centre, variance, _ = mean(x, n)
        found = normal(centre, np.sqrt(variance / n), fits.spread(x).growth)
        return found._replace(ci_low=np.clip(found.ci_low, 0.0, 1.0), ci_high=np.clip(found.ci_high, 0.0, 1.0))

    zero, one, left_out = (measured(np.where(fits.is_valid, p, x), m) for x, m in (
        (0.0, n), (1.0, n), (np.nan, _sum(fits.is_valid, fits))))  # fmt: skip
    ours = {"power": zero, "power_net_of_demand": zero, "power_if_failures_reject": one, "power_among_ok": left_out}
    keep = {name: is_conditional & ((name != "power_net_of_demand") | (demand == 0)) for name in ours}
    chosen = {
        name: Measured(*(np.where(keep[name], a, b) for a, b in zip(ours[name], counted[name], strict=True)))
        for name in counted
    }
    centre, variance, fourth = mean(np.where(fits.is_valid, p, 0.0), n)
    ratio = np.where(is_conditional, centre * (1 - centre) / variance, np.nan)
    spread = np.sqrt((fourth - variance**2 * (n - 3) / (n - 1)) / n)  # of the variance
    chosen["variance_reduction"] = normal(ratio, ratio * spread / variance)
    chosen["power_counted"] = Measured(*(np.where(is_conditional, x, np.nan) for x in counted["power"]))
    return chosen


def _rejection_of_demand(fits: Fits, demand: Real, alpha: float, sides: Sides) -> Measured:
    """Share of rejections had the estimates held this much demand inflation; NaN where it is NaN."""
    added = np.repeat(np.nan_to_num(demand), fits.n_row)
    reject = rejects(net_p_value(fits, -added, sides), fits.estimate + added, alpha, sides)
    return _where(~np.isnan(demand), _share(reject, fits))


def _accuracy(fits: Fits, true: Real, demand: Real) -> dict[str, Measured]:
    """Bias, standard errors, coverage and MSE of the valid fits (Morris, White, Crowther 2019, table 6)."""
    n = _sum(fits.is_valid, fits)

    def mean(x: Real) -> Real:
        return _sum(np.where(fits.is_valid, x, 0.0), fits) / n

    def variance(x: Real) -> Real:
        return _sum(np.where(fits.is_valid, (x - each(mean(x))) ** 2, 0.0), fits) / (n - 1)

    def each(x: Real) -> Real:
        return np.repeat(x, fits.n_row)

    def covers(value: Real) -> Measured:
        hit = (fits.ci_low <= each(value)) & (each(value) <= fits.ci_high)
        n_interval = _sum(~np.isnan(fits.ci_low) & ~np.isnan(fits.ci_high), fits)
        return _where(n_interval > 0, _share(hit, fits, fits.is_valid))

    centre = mean(fits.estimate)
    empirical_se = np.sqrt(variance(fits.estimate))
    error, about_mean = (fits.estimate - each(true)) ** 2, (fits.estimate - each(centre)) ** 2
    square = fits.standard_error**2
    model_variance = mean(square)
    model_se, variability = np.sqrt(model_variance), variance(square)
    ratio = model_se / empirical_se
    ratio_mcse = ratio * np.sqrt(variability / (4 * n * model_variance**2) + 1 / (2 * (n - 1)))
    ratio_influence = square / each(model_variance) - about_mean / each(empirical_se**2)
    return {
        "bias": normal(centre - true, empirical_se / np.sqrt(n), fits.spread(fits.estimate).growth),
        "empirical_se": normal(empirical_se, empirical_se / np.sqrt(2 * (n - 1)), fits.spread(about_mean).growth),
        "model_se": normal(model_se, np.sqrt(variability / (4 * n * model_variance)), fits.spread(square).growth),
        "relative_error_model_se": normal(100 * (ratio - 1), 100 * ratio_mcse, fits.spread(ratio_influence).growth),
        "coverage": covers(true),
        "coverage_net_of_demand": covers(true + demand),
        "bias_eliminated_coverage": covers(centre),
        "mse": normal(mean(error), np.sqrt(variance(error) / n), fits.spread(error).growth),
    }


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
