"""Bias that is known in closed form: truncated arms (MN-01), pattern mixtures (MN-03) and what they leave to MAR."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from planned import NAMES, STREAMS, allocate, never_in_a_window, within_mcse
from scipy.stats import norm

from sim.estimands.final_visit_difference import FinalVisitDifference
from sim.estimands.hypothetical import Hypothetical
from sim.missingness.mechanism import exactly
from sim.missingness.pattern_mixture import PatternMixture
from sim.missingness.threshold import BelowThreshold
from sim.parts import ANALYSES
from sim.trial import Allocation, Floats, Outcome, Trial

R = 4000
REPLICATE = np.arange(R, dtype=np.int32)
ONE = replace(NAMES, outcome=("cohesion",))
A = allocate("individual", participants_per_district=100, districts=2, training_group_size=10)
NO_TEAM = np.full(A.n_participant, -1, np.int32)
SCHEDULE = never_in_a_window(A)
DIFFERENCE = 0.5
CORRELATION = 0.5


class Fixed:
    """An outcome model without clusters: N(0, 1) at every visit, and the treated DIFFERENCE higher at the last one."""

    is_continuous = True

    def scores(self, allocation: Allocation) -> Floats:
        """(R, N, T) of the untreated."""
        covariance = np.full((3, 3), CORRELATION) + (1 - CORRELATION) * np.eye(3)
        z = np.random.default_rng(11).standard_normal((R, allocation.n_participant, 3))
        return np.asarray(z @ np.linalg.cholesky(covariance).T)

    def generate(self, allocation: Allocation) -> Outcome:
        without = self.scores(allocation)
        gain = DIFFERENCE * allocation.is_trained[:, None] * np.array([0, 0, 1])
        covariance = np.full((3, 3), CORRELATION) + (1 - CORRELATION) * np.eye(3)
        return Outcome(np.stack([without + gain, without])[None], without, np.array([covariance] * 2))

    def potential(self, names: Any, effect: Any, allocation: Any, *rest: Any, everyone_attends: bool) -> Floats:
        """(2, 1, R, N, T)."""
        del names, effect, rest, everyone_attends
        without = self.scores(allocation)
        return np.stack([without, without + DIFFERENCE * np.array([0, 0, 1])])[:, None]


MODEL = Fixed()
OUTCOME = MODEL.generate(A)


def percent(share: float) -> dict[str, Any]:
    return exactly(f"{100 * share:.12f}%")


def among_the_seen(score: Floats, seen: np.ndarray) -> Floats:
    """(R,) difference of the mean final scores of those who are seen, treated minus control."""

    def mean(is_trained: bool) -> Floats:
        who = A.is_trained == is_trained
        return np.asarray((score * seen)[:, who].sum(axis=1) / seen[:, who].sum(axis=1))

    return mean(True) - mean(False)


# ---- MN-01: truncation ----------------------------------------------------------------------------------------


def below(control: float, treated: float) -> BelowThreshold:
    loss = {
        name: {"post": percent(0.0), "six_months": percent(share)}
        for name, share in (("control", control), ("mixed", treated))
    }
    return BelowThreshold.model_validate({"kind": "threshold", "loss": loss})


def truncated_mean(mean: float, cut: float) -> float:
    """E[Y | Y > cut] of N(mean, 1): mean + phi(cut - mean) / (1 - Phi(cut - mean))."""
    return float(mean + norm.pdf(cut - mean) / norm.sf(cut - mean))


def test_scores_above_a_cut_are_seen_mn_01() -> None:
    """N(0, 1) against N(.5, 1), seen above -0.5: .3085 and .1587 lost, difference .2784395, bias -.2215605."""
    control, treated = norm.cdf(-0.5), norm.cdf(-1.0)
    assert (round(control, 4), round(treated, 4)) == (0.3085, 0.1587)
    expected = truncated_mean(0.5, -0.5) - truncated_mean(0.0, -0.5)
    assert expected == pytest.approx(0.2784395, abs=5e-8) and expected - 0.5 == pytest.approx(-0.2215605, abs=5e-8)
    final = OUTCOME.score[0, 0, :, :, 2]
    seen = below(control, treated).observe(ONE, A, SCHEDULE, OUTCOME, STREAMS, REPLICATE)[:, :, 2]
    margin = np.abs(final + 0.5) > 1e-9
    np.testing.assert_array_equal(seen[margin], (final > -0.5)[margin])
    for is_trained, share in ((False, control), (True, treated)):
        within_mcse((~seen[:, A.is_trained == is_trained]).mean(axis=1), share)
    within_mcse(among_the_seen(final, seen), expected)


def test_the_same_cut_of_the_null_loses_as_many_in_both_arms_and_is_unbiased() -> None:
    final = OUTCOME.score[0, 1, :, :, 2]
    seen = below(0.3, 0.3).observe(ONE, A, SCHEDULE, OUTCOME, STREAMS, REPLICATE)[:, :, 2]
    within_mcse(among_the_seen(final, seen), 0.0)


# ---- MN-03 and pattern-mixture identities ---------------------------------------------------------------------


def mixture(
    *, control: float = 0.0, treated: float = 0.3, delta: tuple[float, float] = (0.0, -0.4), slope: float = 0.0
) -> PatternMixture:
    """All leave between the last two visits."""
    example = {
        "kind": "pattern_mixture",
        "loss": {
            name: {"post": percent(0.0), "six_months": percent(share)}
            for name, share in (("control", control), ("mixed", treated))
        },
        "delta": {name: exactly(f"{d} SD") for name, d in zip(("control", "mixed"), delta, strict=True)},
        "log_odds_per_sd_worse": exactly(slope),
    }
    return PatternMixture.model_validate(example)


def draw(part: PatternMixture) -> tuple[np.ndarray, np.ndarray, Any]:
    args = (ONE, A, SCHEDULE, OUTCOME, STREAMS, REPLICATE)
    return part.observe(*args), part.left(*args), part.absence(*args)


def realised(estimand: Any, absence: Any) -> Floats:
    score = MODEL.potential(ONE, None, A, everyone_attends=estimand.everyone_attends)
    value = estimand.realised_value(ONE, A, score, absence)
    assert value.shape == (1, R)
    return np.asarray(value[0])


@pytest.mark.parametrize("slope", [0.0, 0.8])
def test_leavers_who_score_lower_unseen_mn_03(slope: float) -> None:
    """True difference .5 under MAR, 30% of the treated leave and score .4 lower: marginally .38, MAR says .5."""
    part = mixture(slope=slope)
    seen, left, absence = draw(part)
    within_mcse(realised(FinalVisitDifference(kind="final_visit_difference"), absence), 0.38)
    within_mcse(realised(Hypothetical(kind="hypothetical", had_not=("leaving",)), absence), 0.5)
    in_truth = part.shifted(ONE, A, OUTCOME, left)
    everyone = np.ones((R, A.n_participant), dtype=bool)
    within_mcse(among_the_seen(in_truth.score[0, 0, :, :, 2], everyone), 0.38)
    np.testing.assert_array_equal(in_truth.score[:, 0][:, seen], OUTCOME.score[:, 0][:, seen])
    np.testing.assert_array_equal(in_truth.score[:, 1], OUTCOME.score[:, 1])
    if slope == 0:
        within_mcse(among_the_seen(in_truth.score[0, 0, :, :, 2], seen[:, :, 2]), 0.5)


def test_an_analysis_under_mar_is_off_by_delta_times_the_share_mn_03() -> None:
    """Leaving at random given the score before: a mixed model of every score seen expects .5, .12 above the truth."""
    n = 400
    part = mixture(slope=0.8)
    seen, _, absence = draw(part)
    truth = realised(FinalVisitDifference(kind="final_visit_difference"), absence)[:n]
    lmm = ANALYSES.discover()["lmm"]
    analysis: Any = lmm.model_validate({**lmm.example, "baseline": "constrained"})
    fit = analysis.analyse(Trial(OUTCOME.score[0, 0, :n].copy(), seen[:n], A, NO_TEAM))
    within_mcse(fit.estimate, 0.5)
    within_mcse(fit.estimate - truth, 0.12)


@settings(max_examples=15, deadline=None)
@over(
    st.floats(0, 0.5), st.floats(0, 0.5), st.floats(-1, 1), st.floats(-1, 1), st.floats(-1.5, 1.5)
)  # fmt: skip
def test_marginal_difference_is_that_under_mar_plus_delta_times_share(
    control: float, treated: float, d0: float, d1: float, slope: float
) -> None:
    """Exactly so in every replicate, with the share that left in it; and on average with the stated share."""
    part = mixture(control=control, treated=treated, delta=(round(d0, 6), round(d1, 6)), slope=slope)
    few = REPLICATE[:50]
    outcome = Outcome(OUTCOME.score[:, :, :50], OUTCOME.deviation[:50], OUTCOME.deviation_covariance)
    absence = part.absence(ONE, A, SCHEDULE, outcome, STREAMS, few)
    score = MODEL.potential(ONE, None, A, everyone_attends=False)[:, :, :50]
    estimand = FinalVisitDifference(kind="final_visit_difference")
    policy = np.diff(estimand.measured(score, absence).mean(axis=-1), axis=0)[0, 0]
    share = (absence.left[..., -1] > 0).mean(axis=-1)
    np.testing.assert_allclose(policy, DIFFERENCE + round(d1, 6) * share[1] - round(d0, 6) * share[0], atol=1e-9)


def test_equal_deltas_and_losses_leave_the_difference_as_it_is() -> None:
    _, _, absence = draw(mixture(control=0.3, treated=0.3, delta=(-0.4, -0.4), slope=0.5))
    within_mcse(realised(FinalVisitDifference(kind="final_visit_difference"), absence), DIFFERENCE)


def test_which_estimands_need_draws() -> None:
    policy = FinalVisitDifference(kind="final_visit_difference")
    assert policy.from_draws(MODEL, mixture()) and not policy.from_draws(MODEL, below(0.1, 0.1))
    assert not policy.from_draws(object(), below(0.1, 0.1))
    rounded = Fixed()
    rounded.is_continuous = False
    assert policy.from_draws(rounded, below(0.1, 0.1))
