"""Mechanisms on scores, alone and in company: intercepts, and dependence on what was really seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from planned import NAMES, STREAMS, allocate, never_in_a_window, within_mcse
from scipy.integrate import quad
from scipy.special import expit, logit
from scipy.stats import norm

from sim.missingness.dropout import Dropout, solve_hazards
from sim.missingness.logistic import LogisticLoss, solve_intercepts
from sim.missingness.mar import AtRandom
from sim.missingness.mechanism import exactly
from sim.missingness.mnar import NotAtRandom
from sim.missingness.pattern_mixture import PatternMixture
from sim.missingness.scores import Slopes, lost_on_scores, solve_jointly
from sim.trial import Allocation, Flags, Outcome, Schedule

R = 4000
REPLICATE = np.arange(R, dtype=np.int32)
COVARIANCE = ((1.0, 0.6, 0.4), (0.6, 1.1, 0.5), (0.4, 0.5, 1.2))
ALL = (True, True, True)


def loss(post: str, final: str) -> dict[str, Any]:
    return {"post": exactly(post), "six_months": exactly(final)}


def mar(slope: float, monotone: bool = False) -> AtRandom:
    slope_of = exactly(slope)
    return AtRandom(kind="mar", loss=loss("20%", "35%"), log_odds_per_sd_worse=slope_of, monotone=monotone)  # type: ignore[arg-type]


def mnar(slope: float) -> NotAtRandom:
    return NotAtRandom(kind="mnar", loss=loss("15%", "25%"), log_odds_per_sd_worse=exactly(slope))  # type: ignore[arg-type]


# ---- intercepts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (0.3, 0.2), (-0.5, 1.5)])
def test_one_intermittent_mechanism_against_its_own_solver(slopes: tuple[float, float]) -> None:
    expected = (0.12, 0.3)
    found = solve_jointly((Slopes(*slopes, False),), (expected,), COVARIANCE, ALL).intercept[0]
    np.testing.assert_allclose(found, solve_intercepts(expected, slopes, COVARIANCE), atol=1e-9)


@pytest.mark.parametrize("slope", [0.0, 0.4, -1.5])
def test_one_dropout_against_its_own_solver(slope: float) -> None:
    expected = (0.12, 0.3)
    found = solve_jointly((Slopes(-slope, 0.0, True),), (expected,), COVARIANCE, ALL).intercept[0]
    earlier = tuple(row[:2] for row in COVARIANCE[:2])
    np.testing.assert_allclose(found, solve_hazards(expected, slope, earlier), atol=1e-9)


PAIRS = [
    (Slopes(0.8, 0.0, False), Slopes(0.0, 1.0, False)),
    (Slopes(0.8, 0.0, True), Slopes(0.5, 0.0, False)),
    (Slopes(-0.4, 0.9, True), Slopes(0.6, 0.0, True)),
]


@pytest.mark.parametrize("there", [ALL, (True, False, True)])
@pytest.mark.parametrize("slopes", PAIRS)
def test_two_mechanisms_against_brute_force(slopes: tuple[Slopes, Slopes], there: tuple[bool, ...]) -> None:
    """A million people, by the model as it is written down."""
    n, expected = 1_000_000, ((0.15, 0.3), (0.1, 0.2))
    rng = np.random.default_rng(5)
    z = rng.standard_normal((n, 3)) @ np.linalg.cholesky(np.array(COVARIANCE)).T
    joint = solve_jointly(slopes, expected, COVARIANCE, there)
    last, left = z[:, 0], np.zeros((2, n), dtype=bool)
    for t in (1, 2):
        gone = []
        for m, slope in enumerate(slopes):
            p = expit(joint.intercept[m][t - 1] - slope.last * last - slope.now * z[:, t])
            gone.append(left[m] | (rng.random(n) < p))
            close(gone[m].mean(), expected[m][t - 1], n)
            left[m] = gone[m] & slope.is_monotone
        seen = ~(gone[0] | gone[1])
        close(seen.mean(), joint.seen[t - 1], n)
        last = np.where(seen & there[t], z[:, t], last)


def close(found: float, expected: float, n: int) -> None:
    assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / n), (found, expected)


@settings(max_examples=50, deadline=None)
@over(st.floats(0.01, 0.45), st.floats(0.0, 0.45), st.booleans(), st.booleans())
def test_zero_slopes_need_no_scores(first: float, more: float, monotone: bool, is_there: bool) -> None:
    """The intercept is the logit of the loss or, monotone, of the hazard, wherever the scores are."""
    second = first + more
    [found] = solve_jointly(
        (Slopes(0.0, 0.0, monotone),), ((first, second),), COVARIANCE, (True, is_there, True)
    ).intercept
    hazard = more / (1 - first) if monotone else second
    np.testing.assert_allclose(expit(found), [first, hazard], atol=1e-9)


@settings(max_examples=25, deadline=None)
@over(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.floats(0.02, 0.6), st.floats(0.02, 0.6))
def test_the_order_of_mechanisms_does_not_matter(one: float, other: float, p: float, q: float) -> None:
    slopes, expected = (Slopes(one, 0.0, False), Slopes(0.2, other, False)), ((p, q), (q, p))
    ours = solve_jointly(slopes, expected, COVARIANCE, ALL)
    theirs = solve_jointly(slopes[::-1], expected[::-1], COVARIANCE, ALL)
    np.testing.assert_allclose(np.array(ours.intercept)[::-1], theirs.intercept, atol=1e-9)
    np.testing.assert_allclose(ours.seen, theirs.seen, atol=1e-9)


# ---- draws ----------------------------------------------------------------------------------------------------


def correlated(a: Allocation) -> Outcome:
    rng = np.random.default_rng(3)
    z = rng.standard_normal((R, a.n_participant, 3)) @ np.linalg.cholesky(np.array(COVARIANCE)).T
    return Outcome(np.empty((0, 2, *z.shape)), z, np.array([COVARIANCE] * 2))


def half_held(a: Allocation) -> Schedule:
    """Every other participant's second visit does not take place."""
    held = np.ones((a.n_participant, 3), dtype=bool)
    held[::2, 1] = False
    return replace(never_in_a_window(a), is_held=held)


def draw(parts: list[Any], schedule: Schedule, a: Allocation, outcome: Outcome, there: Flags) -> Flags:
    return lost_on_scores(parts, NAMES, a, schedule, outcome, [STREAMS] * len(parts), REPLICATE, there)


@pytest.mark.parametrize("monotone", [False, True])
def test_at_random_given_what_was_seen_in_whatever_company(monotone: bool) -> None:
    """Loss less its chance given the score last seen by all is unrelated to every score; the stated losses hold."""
    a = allocate("individual")
    outcome, schedule = correlated(a), half_held(a)
    d = outcome.deviation
    elsewhere = np.random.default_rng(8).random(d.shape) < 0.7  # another mechanism, by chance
    elsewhere[:, :, 0] = True
    there = elsewhere & schedule.is_held
    one, other = mar(1.0, monotone), mnar(1.2)
    lost = draw([one, other], schedule, a, outcome, there)
    for m, stated in enumerate(((0.2, 0.35), (0.15, 0.25))):
        for t in (1, 2):
            for is_there in (False, True):
                who = there[:, :, 1] == is_there
                within_mcse((who * (lost[m, :, :, t] - stated[t - 1])).mean(axis=1), 0.0)
    last = np.where(there[:, :, 1] & ~lost[:, :, :, 1].any(axis=0), d[:, :, 1], d[:, :, 0])
    still = ~lost[0, :, :, 1] if monotone else np.ones(last.shape, dtype=bool)
    for is_there in (False, True):
        who = still & (there[:, :, 1] == is_there)
        a_t = solve_jointly(
            (one.slopes, other.slopes), ((0.2, 0.35), (0.15, 0.25)), COVARIANCE, (True, is_there, True)
        ).intercept[0][1]
        surprise = who * (lost[0, :, :, 2] - expit(a_t - 1.0 * last))
        for score in (np.ones_like(last), *np.moveaxis(d, 2, 0)):
            within_mcse((surprise * score).mean(axis=1), 0.0)


def test_without_slopes_it_is_completely_at_random() -> None:
    a = allocate("individual")
    outcome = correlated(a)
    lost = ~mar(0.0).observe(NAMES, a, never_in_a_window(a), outcome, STREAMS, REPLICATE)
    u = STREAMS.uniform("mar", REPLICATE, a.cluster, a.member, 2)
    np.testing.assert_array_equal(lost[:, :, 1:], u < expit(logit(np.array([0.2, 0.35]))))


def test_low_scorers_are_lost_where_the_slope_is_positive() -> None:
    a = allocate("individual")
    outcome = correlated(a)
    for part, t, depends_on in ((mar(0.8), 1, 0), (mnar(0.8), 2, 2)):
        lost = ~part.observe(NAMES, a, never_in_a_window(a), outcome, STREAMS, REPLICATE)[:, :, t]
        excess = (outcome.deviation[:, :, depends_on] * (lost - lost.mean())).mean(axis=1)
        assert excess.mean() < -20 * excess.std() / np.sqrt(R)


@pytest.mark.parametrize("part", [Dropout, LogisticLoss])
def test_the_short_way_where_every_visit_is_held_draws_the_same(part: Any) -> None:
    a = allocate("individual")
    outcome, schedule = correlated(a), never_in_a_window(a)
    mechanism = part.model_validate(part.example)
    there = np.ones(outcome.deviation.shape, dtype=bool)
    [lost] = draw([mechanism], schedule, a, outcome, there)
    np.testing.assert_array_equal(~lost, mechanism.observe(NAMES, a, schedule, outcome, STREAMS, REPLICATE))


@pytest.mark.parametrize("part", [Dropout, LogisticLoss])
def test_a_visit_that_is_not_held_does_not_count_as_seen(part: Any) -> None:
    a = allocate("individual")
    outcome, schedule = correlated(a), half_held(a)
    mechanism = part.model_validate(part.example)
    seen = mechanism.observe(NAMES, a, schedule, outcome, STREAMS, REPLICATE)
    deviation = outcome.deviation.copy()
    deviation[:, ::2, 1] = 99.0  # what nobody can know
    blind = replace(outcome, deviation=deviation)
    again = mechanism.observe(NAMES, a, schedule, blind, STREAMS, REPLICATE)
    np.testing.assert_array_equal(seen[:, :, 2], again[:, :, 2])


def test_in_either_arm_as_many_would_leave_as_that_arm_states() -> None:
    """Whichever arm they are in: trained scores vary more here, and keep their own spread when taken as untreated."""
    a = allocate("individual")
    spread = np.where(a.is_trained[:, None], 2.0, 1.0)
    outcome = correlated(a)
    covariance = np.array([np.array(COVARIANCE), 4 * np.array(COVARIANCE)])
    outcome = Outcome(outcome.score, outcome.deviation * spread, covariance)
    stated = {"control": ("5%", "15%"), "mixed": ("10%", "40%"), "separate": ("0%", "0%")}
    part = PatternMixture.model_validate(
        {
            **PatternMixture.example,
            "loss": {arm: loss(*shares) for arm, shares in stated.items()},
            "log_odds_per_sd_worse": exactly(1.5),
        }
    )
    absence = part.absence(NAMES, a, never_in_a_window(a), outcome, STREAMS, REPLICATE)
    for turn, expected in enumerate(((0.05, 0.15), (0.1, 0.4))):
        for is_trained in (False, True):
            left = absence.left[turn][:, a.is_trained == is_trained, 1:] > 0
            within_mcse(left.mean(axis=1), np.array(expected))


SLOPE, LOSS = st.floats(-1.5, 1.5), st.floats(0.01, 0.5)


@settings(max_examples=40, deadline=None)
@over(SLOPE, SLOPE, st.booleans(), LOSS, st.floats(0, 0.4), st.booleans(), st.floats(0, 0.9))
def test_what_is_not_lost_is_seen_wherever_in_the_parameter_space(
    last: float, now: float, monotone: bool, first: float, more: float, is_there: bool, correlation: float
) -> None:
    """Of one mechanism, seen is 1 less the stated loss; its first intercept holds against one integral."""
    covariance = (1 - correlation) * np.eye(3) + correlation
    visits = (True, is_there, True)
    joint = solve_jointly((Slopes(last, now, monotone),), ((first, first + more),), as_tuples(covariance), visits)
    np.testing.assert_allclose(joint.seen, [1 - first, 1 - first - more], atol=1e-9)
    sd = np.sqrt(np.array([last, now]) @ covariance[:2, :2] @ np.array([last, now]))
    found = quad(lambda z: norm.pdf(z) * expit(joint.intercept[0][0] - sd * z), -12, 12)[0]
    assert found == pytest.approx(first, abs=1e-4)


@settings(max_examples=40, deadline=None)
@over(SLOPE, st.booleans(), LOSS, LOSS, st.booleans())
def test_beside_a_mechanism_without_slopes_losses_multiply(
    slope: float, monotone: bool, p: float, q: float, is_there: bool
) -> None:
    pair = (Slopes(slope, 0.0, monotone), Slopes(0.0, 0.0, False))
    joint = solve_jointly(pair, ((p, p), (q, q)), COVARIANCE, (True, is_there, True))
    np.testing.assert_allclose(joint.seen, [(1 - p) * (1 - q)] * 2, atol=1e-9)


def as_tuples(rows: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, rows.tolist()))
