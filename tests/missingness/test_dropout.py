from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from planned import NAMES, STREAMS, THREE_ARMS, allocate, given, model, never_in_a_window, within_mcse
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from sim.generate.nested import NestedScores
from sim.missingness.dropout import Dropout, solve_hazards
from sim.trial import Allocation, Flags, Outcome

R = 4000
REPLICATE = np.arange(R, dtype=np.int32)
LOSS = (0.12, 0.3)
SLOPES = [0.0, -0.4, 1.5]


def mechanism(slope: float) -> Dropout:
    found: Dropout = given(Dropout, {"loss": {"post": "12%", "six_months": "30%"}, "log_odds_per_sd": slope})
    return found


@pytest.fixture(scope="module", params=["nested", "gaussian"])
def drawn(request: pytest.FixtureRequest) -> tuple[Allocation, Outcome]:
    """Either outcome model, with training groups that differ enough for the trained to vary more."""
    a = allocate("individual", arms=THREE_ARMS)
    nested = given(NestedScores, {"sd_training_group": "0.6 SD", "sd_residual_trained": "0.9 SD"})
    part, k = (nested, 1) if request.param == "nested" else (model(icc_training_group=0.2), 2)
    names = replace(NAMES, outcome=NAMES.outcome[:k])
    return a, part.generate(names, np.full(k, 0.5), a, never_in_a_window(a), STREAMS, REPLICATE)


def observe(slope: float, drawn: tuple[Allocation, Outcome]) -> Flags:
    a, outcome = drawn
    return mechanism(slope).observe(NAMES, a, never_in_a_window(a), outcome, STREAMS, REPLICATE)


@pytest.mark.parametrize("slope", SLOPES)
def test_stated_losses_in_every_arm(drawn: Any, slope: float) -> None:
    a, _ = drawn
    missed = ~observe(slope, drawn)
    assert not missed[:, :, 0].any()
    for arm in range(3):
        for visit, loss in enumerate(LOSS, start=1):
            within_mcse(missed[:, a.arm == arm, visit].mean(axis=1), loss)


def test_nobody_comes_back(drawn: Any) -> None:
    seen = observe(-0.4, drawn)
    assert not (seen[:, :, 1:] & ~seen[:, :, :-1]).any()


@pytest.mark.parametrize("slope", SLOPES)
def test_leaving_depends_on_the_last_score_as_declared(drawn: Any, slope: float) -> None:
    """Among those still there, leaving less its declared hazard is unrelated to last and unseen scores alike."""
    a, outcome = drawn
    seen = observe(slope, drawn)
    for is_trained in (False, True):
        rows = a.is_trained == is_trained
        intercept = mechanism(slope).intercepts(NAMES, outcome.deviation_covariance[int(is_trained)])
        for t in (1, 2):
            d = outcome.deviation[:, rows]
            there = seen[:, rows, t - 1]
            surprise = there * ((~seen[:, rows, t]) - expit(intercept[t - 1] + slope * d[:, :, t - 1]))
            for score in (np.ones_like(there), d[:, :, t - 1], d[:, :, t]):
                within_mcse((surprise * score).mean(axis=1), 0.0)


def test_low_scorers_leave_where_the_slope_is_negative_and_anyone_where_it_is_0(drawn: Any) -> None:
    _, outcome = drawn
    for slope in (-0.4, 0.0):
        left = ~observe(slope, drawn)[:, :, 1]
        excess = (outcome.deviation[:, :, 0] * (left - LOSS[0])).mean(axis=1)
        if slope == 0:
            within_mcse(excess, 0.0)
        else:
            assert excess.mean() < -10 * excess.std() / np.sqrt(R)


@pytest.mark.parametrize("slope", SLOPES)
def test_loss_at_the_first_intercept_against_quadrature(slope: float) -> None:
    [intercept] = solve_hazards(LOSS[:1], slope, ((1.44,),))
    loss = quad(lambda x: expit(intercept + slope * x) * norm.pdf(x, scale=1.2), -12, 12)[0]
    assert loss == pytest.approx(LOSS[0], abs=1e-5)


def test_intercepts_of_slope_0_are_the_logits_of_the_hazards() -> None:
    found = solve_hazards((0.1, 0.1, 0.28), 0.0, tuple(map(tuple, np.eye(3).tolist())))
    np.testing.assert_allclose(expit(found), [0.1, 0.0, 0.2], atol=1e-12)


def test_many_visits_have_coarser_grids_and_the_stated_losses() -> None:
    """Eight visits: five nodes in each of seven dimensions, against 200,000 draws."""
    loss, slope = tuple(np.linspace(0.05, 0.35, 7).tolist()), -0.5
    covariance = 0.5 * np.eye(7) + 0.5
    intercept = solve_hazards(loss, slope, tuple(map(tuple, covariance.tolist())))
    d = np.random.default_rng(1).standard_normal((200_000, 7)) @ np.linalg.cholesky(covariance).T
    left = 1 - np.cumprod(1 - expit(np.array(intercept) + slope * d), axis=1)
    np.testing.assert_array_less(np.abs(left.mean(axis=0) - loss), 4 * left.std(axis=0) / np.sqrt(len(d)))


def test_batch_equals_singles(drawn: Any) -> None:
    a, outcome = drawn
    together = observe(-0.4, drawn)
    for r in range(5):
        one = Outcome(outcome.score[:, :, r : r + 1], outcome.deviation[r : r + 1], outcome.deviation_covariance)
        alone = mechanism(-0.4).observe(NAMES, a, never_in_a_window(a), one, STREAMS, REPLICATE[r : r + 1])
        np.testing.assert_array_equal(alone[0], together[r])


def test_message() -> None:
    with pytest.raises(ValidationError, match="below 95%"):
        given(Dropout, {"loss": {"six_months": "95%"}})
