"""Monte Carlo errors of replicates that share calendars, against two-stage samples whose variances are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import make_rows
from scipy import stats

from sim.evaluate.calendars import spread
from sim.evaluate.performance import Z95, summarise

K, EACH = 32, 40


def two_stage(rng, n_study, sd_between, n_calendar=K, n=K * EACH):
    """(n_study, n) values: replicate r is on calendar r modulo n_calendar, whose effect has this SD; within, SD 1."""
    calendar = np.arange(n) % n_calendar
    return rng.normal(0, sd_between, (n_study, n_calendar))[:, calendar] + rng.normal(0, 1, (n_study, n)), calendar


def spread_of(x, calendar):
    n_study, n = x.shape
    return spread(x.ravel(), np.repeat(np.arange(n_study), n), n_study, np.tile(calendar, n_study))


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
        bias = summarise(rows, true, 0.05, n_calendar=n_calendar).query("measure == 'bias'")
        return ((bias["ci_low"] <= 0) & (bias["ci_high"] >= 0)).mean()

    t_with_few_df = 2 * stats.t.sf(Z95, K - 1)  # what a normal interval of K means misses
    assert coverage(K) == pytest.approx(1 - t_with_few_df, abs=4 * np.sqrt(0.06 * 0.94 / n_study))
    assert coverage(None) < 0.7


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_names_of_calendars_and_a_shift_do_not_matter(seed, n_calendar):
    rng = np.random.default_rng(seed)
    x, calendar = two_stage(rng, 2, 0.5, n_calendar, 40)
    new_name = rng.permutation(n_calendar)
    for one, other in zip(spread_of(x, calendar), spread_of(3 * x + 100, new_name[calendar]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_rows_that_do_not_count_are_left_out():
    rng = np.random.default_rng(5)
    x, calendar = two_stage(rng, 1, 0.5, 4, 80)
    left_out = rng.random(80) < 0.3
    holed = np.where(left_out, np.nan, x)
    for one, other in zip(spread_of(holed, calendar), spread_of(x[:, ~left_out], calendar[~left_out]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize(("n", "n_calendar"), [(30, 64), (30, 1)])
def test_nothing_is_known_of_one_calendar_or_of_calendars_used_once(n, n_calendar):
    x, calendar = two_stage(np.random.default_rng(6), 2, 0.5, n_calendar, n)
    found = spread_of(x, calendar)
    assert (found.growth == 1).all() and np.isnan(found.share).all()


def test_power_counts_the_variance_between_calendars_against_the_formula():
    """Half of the calendars reject always, half never: sqrt(K / (K - 1)) SDs of the calendars' power over sqrt(K)."""
    calendar = np.arange(K * EACH) % K
    rows = make_rows(np.where(calendar % 2 == 0, 10.0, 0.0), 1.0)
    table = summarise(rows, {("rct", "score", "alternative"): (1.0, 0.0)}, 0.05, n_calendar=K).set_index("measure")
    power = table.loc["power"]
    assert power["mcse"] == pytest.approx(np.sqrt(0.25 / (K - 1) * (1 - 1 / (K * EACH))))  # p (1 - p) / n, not n - 1
    assert table.loc["calendar_share", "estimate"] == pytest.approx(1.0)
    assert power["ci_low"] < 0.35 and power["ci_high"] > 0.65
    alone = summarise(rows, {("rct", "score", "alternative"): (1.0, 0.0)}, 0.05).set_index("measure")
    assert alone.loc["power", "mcse"] == pytest.approx(np.sqrt(0.25 / (K * EACH)))
    assert "calendar_share" not in alone.index
