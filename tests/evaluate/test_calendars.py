"""Monte Carlo errors of replicates that share calendars, against two-stage samples whose variances are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import fail, make_rows, slow_growth
from scipy import stats

from sim.evaluate.calendars import spread
from sim.evaluate.performance import Z95, summarise

K, EACH = 32, 40


def two_stage(rng, n_study, sd_between, n_calendar=K, n=K * EACH):
    """(n_study, n) values: replicate r is on calendar r modulo n_calendar, whose effect has this SD; within, SD 1."""
    calendar = np.arange(n) % n_calendar
    return rng.normal(0, sd_between, (n_study, n_calendar))[:, calendar] + rng.normal(0, 1, (n_study, n)), calendar


def spread_of(x, calendar):
    """Of (n_study, n) values: one cell per study."""
    n_calendar = calendar.max() + 1
    total = np.array([np.bincount(calendar, one, n_calendar) for one in x])
    n = np.broadcast_to(np.bincount(calendar, minlength=n_calendar).astype(float), total.shape)
    return spread(n, total, x.var(axis=1) * x.shape[1])


@pytest.mark.parametrize("n", [K * EACH, K * EACH - 17])
def test_growth_against_the_true_variance_of_the_mean(n):
    sd, n_study = 0.3, 4000
    x, calendar = two_stage(np.random.default_rng(1), n_study, sd, n=n)
    found = spread_of(x, calendar)
    ours = found.growth * x.var(axis=1, ddof=1) / n
    m = np.bincount(calendar)
    true = sd**2 * (m**2).sum() / n**2 + 1 / n
    assert ours.mean() == pytest.approx(true, abs=4 * ours.std() / np.sqrt(n_study))
    assert found.share.mean() == pytest.approx(1 - 1 / n / true, abs=0.02)  # a ratio of estimates: biased a little
    assert found.share_mcse.mean() == pytest.approx(found.share.std(), rel=0.15)


def test_nothing_between_calendars_costs_little():
    """A component of variance that is never below 0 is .4 of its error too high: of the MCSE less than 5% here."""
    x, calendar = two_stage(np.random.default_rng(2), 4000, 0.0)
    growth = np.sqrt(spread_of(x, calendar).growth)
    assert 1 <= growth.mean() < 1.05


def test_intervals_cover_the_mean_over_all_calendars():
    """Those that ignore the calendars cover far less."""
    n_study = 400
    x, _ = two_stage(np.random.default_rng(3), n_study, 0.4)
    study = np.repeat([f"study {i:04d}" for i in range(n_study)], x.shape[1])
    rows = make_rows(x.ravel(), 1.0, design=study, replicate=np.tile(np.arange(x.shape[1]), n_study))
    true = {(s, "score", "alternative"): (0.0, 0.0) for s in set(study)}

    def coverage(n_calendar):
        bias = summarise([rows], true, 0.05, n_calendar=n_calendar).query("measure == 'bias'")
        return ((bias["ci_low"] <= 0) & (bias["ci_high"] >= 0)).mean()

    t_with_few_df = 2 * stats.t.sf(Z95, K - 1)  # what a normal interval of K means misses
    assert coverage(K) == pytest.approx(1 - t_with_few_df, abs=4 * np.sqrt(0.06 * 0.94 / n_study))
    assert coverage(1) < 0.7


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_names_of_calendars_and_a_shift_do_not_matter(seed, n_calendar):
    rng = np.random.default_rng(seed)
    x, calendar = two_stage(rng, 2, 0.5, n_calendar, 40)
    new_name = rng.permutation(n_calendar)
    for one, other in zip(spread_of(x, calendar), spread_of(3 * x + 100, new_name[calendar]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_growth_of_every_measure_against_all_rows_at_once():
    """The spans' sums give what the definition of each measure's influence gives on the rows."""
    rng = np.random.default_rng(5)
    n, n_calendar, true, demand = 300, 12, 0.5, 0.2
    calendar = np.arange(n) % n_calendar
    shared, level = rng.normal(0, 0.4, n_calendar), rng.uniform(0.3, 0.6, n_calendar)
    rows = make_rows(true + shared[calendar] + rng.normal(0, 0.5, n), level[calendar] * rng.uniform(0.8, 1.2, n), 9.0)
    rows = fail(rows, rng.random(n) < 0.1)
    known = {("rct", "score", "alternative"): (true, demand)}
    spans = [rows[lo : lo + 64] for lo in range(0, n, 64)]
    shared, alone = (summarise(spans, known, 0.05, n_calendar=k).set_index("measure") for k in (n_calendar, 1))
    estimate, square = rows["estimate"].to_numpy(), rows["standard_error"].to_numpy() ** 2
    about = (estimate - np.nanmean(estimate)) ** 2
    valid = np.isfinite(estimate)
    reject = (rows["p_value"] <= 0.05).to_numpy()
    covers = [(rows["ci_low"] <= x) & (x <= rows["ci_high"]) for x in (true, true + demand, np.nanmean(estimate))]
    value = {
        "power": reject,
        "power_if_failures_reject": reject | ~valid,
        "power_among_ok": np.where(valid, reject, np.nan),
        "type_s": np.where(reject, estimate < 0, np.nan),
        "type_m": np.where(reject, np.abs(estimate) / true, np.nan),
        "bias": estimate,
        "empirical_se": about,
        "model_se": square,
        "relative_error_model_se": square / np.nanmean(square) - about / np.nanvar(estimate, ddof=1),
        "coverage": np.where(valid, covers[0], np.nan),
        "coverage_net_of_demand": np.where(valid, covers[1], np.nan),
        "bias_eliminated_coverage": np.where(valid, covers[2], np.nan),
        "mse": (estimate - true) ** 2,
        "failure_rate": ~valid,
    }
    grown = 0
    for measure, x in value.items():
        expected = slow_growth(np.asarray(x, dtype=float), calendar)
        grown += expected > 1
        assert (shared.loc[measure, "mcse"] / alone.loc[measure, "mcse"]) ** 2 == pytest.approx(expected), measure
    assert grown > 8


@pytest.mark.parametrize(("n", "n_calendar"), [(30, 64), (30, 1)])
def test_nothing_is_known_of_one_calendar_or_of_calendars_used_once(n, n_calendar):
    x, calendar = two_stage(np.random.default_rng(6), 2, 0.5, n_calendar, n)
    found = spread_of(x, calendar)
    assert (found.growth == 1).all() and np.isnan(found.share).all()


def test_power_counts_the_variance_between_calendars_against_the_formula():
    """Half of the calendars reject always, half never: sqrt(K / (K - 1)) SDs of the calendars' power over sqrt(K)."""
    calendar = np.arange(K * EACH) % K
    rows = make_rows(np.where(calendar % 2 == 0, 10.0, 0.0), 1.0)
    table = summarise([rows], {("rct", "score", "alternative"): (1.0, 0.0)}, 0.05, n_calendar=K).set_index("measure")
    power = table.loc["power"]
    assert power["mcse"] == pytest.approx(np.sqrt(0.25 / (K - 1) * (1 - 1 / (K * EACH))))  # p (1 - p) / n, not n - 1
    assert table.loc["calendar_share", "estimate"] == pytest.approx(1.0)
    assert power["ci_low"] < 0.35 and power["ci_high"] > 0.65
    alone = summarise([rows], {("rct", "score", "alternative"): (1.0, 0.0)}, 0.05).set_index("measure")
    assert alone.loc["power", "mcse"] == pytest.approx(np.sqrt(0.25 / (K * EACH)))
    assert "calendar_share" not in alone.index
