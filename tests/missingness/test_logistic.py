from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import (
    NAMES,
    STREAMS,
    THREE_ARMS,
    allocate,
    exposed,
    missingness,
    model,
    never_in_a_window,
    within_mcse,
)
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm

from sim.missingness.logistic import LogisticLoss, solve_intercepts
from sim.trial import Allocation, Flags, Outcome, Schedule

R = 4000
REPLICATE = np.arange(R, dtype=np.int32)
LOSS, EXTRA, ODDS = (0.12, 0.25), 0.08, (2.5, 0.6)
COVARIANCE = ((1.0, 0.6, 0.4), (0.6, 1.1, 0.5), (0.4, 0.5, 1.2))
SLOPES = [(0.0, 0.0), (0.2, 0.2), (1.0, 1.0), (-0.5, 1.5)]


def mechanism(mar: float, mnar: float, **changes: Any) -> LogisticLoss:
    found: LogisticLoss = missingness(
        **{
            "loss": {"post": "12%", "six_months": "25%"},
            "extra_loss_untreated": "8%",
            "window_odds_ratio": {"commemoration": {"survivors": ODDS[0], "released_perpetrators": ODDS[1]}},
            "mar_log_odds_per_sd": mar,
            "mnar_log_odds_per_sd": mnar,
            **changes,
        }
    )
    return found


def turns(a: Allocation) -> np.ndarray:
    """Exposure 0, 1 and 2 (peak), differing between participants and visits."""
    return np.array([0.0, 1.0, 2.0])[(a.member[:, None] + np.array([0, 1, 3])) % 3]


@pytest.fixture(scope="module", params=["individual", "village"])
def drawn(request: pytest.FixtureRequest) -> tuple[Allocation, Schedule, Outcome]:
    a = allocate(request.param, arms=THREE_ARMS)
    strong_groups = model(icc_training_group=0.2, sd_effect_district="0.3 SD")
    schedule = exposed(a, turns(a))
    return a, schedule, strong_groups.generate(NAMES, np.array([0.5, 0.5]), a, schedule, STREAMS, REPLICATE)


def observe(m: LogisticLoss, drawn: tuple[Allocation, Schedule, Outcome]) -> Flags:
    a, s, outcome = drawn
    return m.observe(NAMES, a, s, outcome, STREAMS, REPLICATE)


def stated(trained: bool, stratum: int, visit: int, exposure: float) -> float:
    """What a reader expects: the stated loss, its odds times the window's odds ratio, twice over in the peak."""
    loss = LOSS[visit - 1] + (EXTRA if visit == 2 and not trained else 0.0)
    odds = loss / (1 - loss) * ODDS[stratum] ** exposure
    return odds / (1 + odds)


@pytest.mark.parametrize(("mar", "mnar"), SLOPES)
def test_stated_losses_in_every_arm_stratum_and_exposure(drawn: Any, mar: float, mnar: float) -> None:
    a, s, _ = drawn
    missed = ~observe(mechanism(mar, mnar), drawn)
    assert not missed[:, :, 0].any()
    for arm in range(3):
        for stratum in range(2):
            for visit in (1, 2):
                for level in (0.0, 1.0, 2.0):
                    cell = (a.arm == arm) & (a.stratum == stratum) & (s.exposure[0, :, visit] == level)
                    assert cell.any()
                    expected = stated(a.arms[arm].is_trained, stratum, visit, level)
                    within_mcse(missed[:, cell, visit].mean(axis=1), expected)


def test_marginal_loss_is_what_a_reader_expects(drawn: Any) -> None:
    a, s, _ = drawn
    expected = [
        [stated(a.is_trained[i], a.stratum[i], t, s.exposure[0, i, t]) for t in (1, 2)] for i in range(a.n_participant)
    ]
    np.testing.assert_allclose(mechanism(0.3, 0.3).marginal_loss(NAMES, a, s), expected, rtol=1e-12)


def test_a_second_window_multiplies_the_odds() -> None:
    by_stratum = mechanism(0, 0).window_odds_ratio["commemoration"]
    two = mechanism(0, 0).model_copy(update={"window_odds_ratio": {"commemoration": by_stratum, "harvest": by_stratum}})
    a = allocate("individual")
    both = exposed(a, np.ones((2, a.n_participant, 3)))
    names = type(NAMES)(NAMES.outcome, NAMES.visit, NAMES.stratum, NAMES.share, ("commemoration", "harvest"))
    peak = exposed(a, np.full((a.n_participant, 3), 2.0))
    np.testing.assert_allclose(two.marginal_loss(names, a, both), two.marginal_loss(NAMES, a, peak))


def correlation_with_missing(deviation: np.ndarray, missed: np.ndarray, p: float) -> np.ndarray:
    """(R,) mean over participants of deviation x (missed - p): 0 where missingness does not depend on it."""
    by_replicate: np.ndarray = (deviation * (missed - p)).mean(axis=1)
    return by_replicate


def test_slopes_of_0_are_mcar(drawn: Any) -> None:
    a, _, outcome = drawn
    flat = (a, never_in_a_window(a), outcome)
    missed = ~observe(mechanism(0, 0, extra_loss_untreated="0%"), flat)
    for t, p in enumerate(LOSS, start=1):
        for u in range(3):
            within_mcse(correlation_with_missing(outcome.deviation[:, :, u], missed[:, :, t], p), 0.0)
            for k in range(2):
                score = outcome.score[k, 0, :, :, u] - outcome.score[k, 0, :, :, u].mean()
                within_mcse(correlation_with_missing(score, missed[:, :, t], p), 0.0)
    within_mcse(((missed[:, :, 1] - LOSS[0]) * (missed[:, :, 2] - LOSS[1])).mean(axis=1), 0.0)


def independent_scores(kind: str = "individual") -> tuple[Allocation, Schedule, Outcome]:
    """Deviations of three independent visits, so that dependence on one visit cannot pass for another."""
    a = allocate(kind)
    deviation = np.random.default_rng(3).standard_normal((R, a.n_participant, 3))
    no_score = np.empty((0, 2, R, a.n_participant, 3))
    return a, never_in_a_window(a), Outcome(no_score, deviation, np.stack([np.eye(3)] * 2))


def test_mar_depends_on_the_last_score_seen_and_on_no_other() -> None:
    drawn = independent_scores()
    d = drawn[2].deviation
    seen = observe(mechanism(1.0, 0.0, loss={"post": "40%", "six_months": "40%"}, extra_loss_untreated="0%"), drawn)
    first, last = ~seen[:, :, 1], ~seen[:, :, 2]
    for row, depends_on in ((seen[:, :, 1], 1), (first, 0)):
        p = (last & row).sum() / row.sum()
        for t in range(3):
            if t == 0 and depends_on == 1:
                continue  # whoever came to the second visit had a better baseline
            product = (d[:, :, t] * (last - p) * row).mean(axis=1)
            if t == depends_on:
                assert product.mean() < -20 * product.std() / np.sqrt(R)
            else:
                within_mcse(product, 0.0)


def test_mnar_depends_on_the_unseen_score_and_leavers_score_lower() -> None:
    drawn = independent_scores()
    d = drawn[2].deviation
    missed = ~observe(mechanism(0.0, 1.0, extra_loss_untreated="0%"), drawn)
    for t, p in ((1, LOSS[0]), (2, LOSS[1])):
        for u in range(3):
            product = correlation_with_missing(d[:, :, u], missed[:, :, t], p)
            if u == t:
                assert d[:, :, u][missed[:, :, t]].mean() < d[:, :, u][~missed[:, :, t]].mean() - 0.5
                within_mcse(product, mean_of_leavers(p))
            else:
                within_mcse(product, 0.0)


def mean_of_leavers(p: float) -> float:
    """E[score; missed] of a standard normal score with log odds of missing 1 per SD worse and P[missed] = p."""
    cut = brentq(lambda a: quad(lambda z: norm.pdf(z) * expit(a - z), -9, 9)[0] - p, -9, 9)
    return float(quad(lambda z: z * norm.pdf(z) * expit(cut - z), -9, 9)[0])


def test_leavers_score_lower_in_every_outcome(drawn: Any) -> None:
    outcome = drawn[2]
    gone = ~observe(mechanism(0.0, 0.6), drawn)[:, :, 2]
    for k in range(2):
        final = outcome.score[k, 1, :, :, 2]
        assert final[gone].mean() < final[~gone].mean() - 0.1


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (0.2, 0.2), (1.0, 1.0), (0.0, 2.0), (-0.7, 1.2)])
@pytest.mark.parametrize("target", [0.01, 0.08, 0.5, 0.9])
def test_intercept_of_one_visit_against_integration(slopes: tuple[float, float], target: float) -> None:
    """The linear predictor is normal, so one integral gives the marginal probability."""
    covariance = np.array(COVARIANCE)[:2, :2]
    [a] = solve_intercepts((target,), slopes, tuple(map(tuple, covariance.tolist())))
    sd = np.sqrt(np.array(slopes) @ covariance @ np.array(slopes))
    found = quad(lambda z: norm.pdf(z) * expit(a - sd * z), -12, 12, epsabs=1e-12)[0]
    assert found == pytest.approx(target, abs=1e-6)


@pytest.mark.parametrize("slopes", SLOPES)
@pytest.mark.parametrize("target", [(0.05, 0.10), (0.5, 0.3)])
def test_intercepts_against_brute_force(slopes: tuple[float, float], target: tuple[float, float]) -> None:
    rng = np.random.default_rng(11)
    n, (mar, mnar) = 1_000_000, slopes
    z = rng.standard_normal((n, 3)) @ np.linalg.cholesky(np.array(COVARIANCE)).T
    last = z[:, 0].copy()
    for t, a in enumerate(solve_intercepts(target, slopes, COVARIANCE), start=1):
        p = expit(a - mar * last - mnar * z[:, t])
        assert abs(p.mean() - target[t - 1]) < 4 * p.std() / np.sqrt(n) + 1e-9
        last = np.where(rng.random(n) < p, last, z[:, t])


def test_against_slow_version(drawn: Any) -> None:
    a, s, outcome = drawn
    m = mechanism(0.8, 0.5)
    seen = observe(m, drawn)
    u = STREAMS.uniform("missingness", REPLICATE[:3], a.cluster, a.member, 2)
    for r in range(3):
        for i in range(a.n_participant):
            trained = bool(a.is_trained[i])
            target = tuple(stated(trained, a.stratum[i], t, s.exposure[0, i, t]) for t in (1, 2))
            covariance = tuple(map(tuple, outcome.deviation_covariance[int(trained)].tolist()))
            cut = solve_intercepts(target, (0.8, 0.5), covariance)
            score = outcome.deviation[r, i]
            last = score[0]
            for t in (1, 2):
                missed = u[r, i, t - 1] < 1 / (1 + np.exp(-(cut[t - 1] - 0.8 * last - 0.5 * score[t])))
                assert seen[r, i, t] == (not missed)
                last = last if missed else score[t]


def test_batch_equals_singles_and_both_truths_share_the_pattern(drawn: Any) -> None:
    a, s, outcome = drawn
    m = mechanism(0.8, 0.5)
    everyone = observe(m, drawn)
    picked = np.array([4, 9], dtype=np.int32)
    some = Outcome(-outcome.score[:, ::-1, picked], outcome.deviation[picked], outcome.deviation_covariance)
    np.testing.assert_array_equal(m.observe(NAMES, a, s, some, STREAMS, picked), everyone[picked])


def test_a_loss_of_0_loses_nobody_and_a_missed_visit_does_not_end_follow_up(drawn: Any) -> None:
    none = observe(mechanism(0.5, 0.5, loss={"post": "0%", "six_months": "0%"}, extra_loss_untreated="0%"), drawn)
    assert none.all()
    seen = observe(mechanism(0.5, 0.5), drawn)
    assert (~seen[:, :, 1] & seen[:, :, 2]).any()


def test_less_than_nobody_lost_is_refused() -> None:
    with pytest.raises(ValidationError):
        missingness(loss={"post": "5%", "six_months": "5%"}, extra_loss_untreated="-10%")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"six_months": "93%"}}, "leaves too few"),
        ({"extra_loss_untreated": "90%"}, "leaves too few"),
        ({"loss": {"post": "-1%"}}, "greater than or equal to 0"),
        ({"window_odds_ratio": {"commemoration": {"survivors": 0.0}}}, "greater than 0"),
    ],
)
def test_message(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        missingness(**changes)
