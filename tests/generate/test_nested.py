from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from planned import NAMES, STREAMS, THREE_ARMS, allocate, given, never_in_a_window, pair_products, within_mcse
from pydantic import ValidationError

from sim.estimands.estimand import OnAverage
from sim.estimands.final_visit_difference import FinalVisitDifference
from sim.generate.nested import NestedScores
from sim.parts import MODELS
from sim.trial import Allocation, Arm, Contrast, Names, Outcome

R = 4000
REPLICATE = np.arange(R, dtype=np.int32)
EFFECT = np.array([0.4])
ALTERNATIVE, NULL = range(2)
ONE = replace(NAMES, outcome=("cohesion",), window=())
DISTRICT, VILLAGE, BY_VISIT, GROUP, PARTICIPANT, RESIDUAL, TRAINED = 0.3, 0.4, 0.25, 0.35, 0.6, 0.5, 0.8
PROFILE, CHANGE = 1.4, (0.05, 0.1)
SD = {
    "sd_district": DISTRICT, "sd_village": VILLAGE, "sd_village_by_visit": BY_VISIT, "sd_training_group": GROUP,
    "sd_participant": PARTICIPANT, "sd_residual": RESIDUAL, "sd_residual_trained": TRAINED,
}  # fmt: skip


def without(*absent: str) -> NestedScores:
    example = {key: value for key, value in NestedScores.example.items() if key not in absent}
    return NestedScores.model_validate(example)


MODEL: NestedScores = given(MODELS.discover()["nested"], {name: f"{value} SD" for name, value in SD.items()})


def generate(m: NestedScores, a: Allocation, names: Names = ONE, replicate: Any = REPLICATE) -> Outcome:
    return m.generate(names, EFFECT, a, never_in_a_window(a), STREAMS, replicate)


@pytest.fixture(scope="module", params=["individual", "village"])
def drawn(request: pytest.FixtureRequest) -> tuple[Allocation, Outcome]:
    a = allocate(request.param, arms=THREE_ARMS, districts=3)
    return a, generate(MODEL, a)


def centred(drawn: tuple[Allocation, Outcome], truth: int) -> np.ndarray:
    """(R, N, T) scores less the closed form of their expectation."""
    a, outcome = drawn
    mean = np.tile([0.0, *CHANGE], (a.n_participant, 1))
    if truth == ALTERNATIVE:
        mean[a.is_trained] += EFFECT[0] * np.array([0.0, PROFILE, 1.0])
    departure: np.ndarray = outcome.score[0, truth] - mean
    return departure


# ---- means ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [ALTERNATIVE, NULL])
def test_means_by_arm_and_visit_against_theory(drawn: Any, truth: int) -> None:
    x = centred(drawn, truth)
    for arm in range(3):
        for visit in range(3):
            within_mcse(x[:, drawn[0].arm == arm, visit].mean(axis=1), 0.0)


def test_both_truths_share_every_draw(drawn: Any) -> None:
    a, outcome = drawn
    paired = outcome.score[0, ALTERNATIVE] - outcome.score[0, NULL]
    expected = a.is_trained[:, None] * EFFECT[0] * np.array([0.0, PROFILE, 1.0])
    np.testing.assert_allclose(paired, np.broadcast_to(expected, paired.shape), atol=1e-14)


def test_sharp_null_does_not_know_the_effect() -> None:
    a, few = allocate("village"), REPLICATE[:3]
    one, other = (MODEL.generate(ONE, e, a, never_in_a_window(a), STREAMS, few) for e in (EFFECT, EFFECT + 9))
    np.testing.assert_array_equal(one.score[:, NULL], other.score[:, NULL])
    np.testing.assert_array_equal(one.deviation, other.deviation)


def test_true_value_is_the_planned_effect() -> None:
    arms = (Arm("control", None), Arm("a", "a"), Arm("b", "b"))
    for contrast, factor in ((Contrast(1, 0), 1), (Contrast(0, 2), -1), (Contrast(1, 2), 0)):
        value = FinalVisitDifference(kind="final_visit_difference").true_value(
            MODEL, ONE, EFFECT, arms, contrast, OnAverage()
        )
        np.testing.assert_array_equal(value.true_value, factor * EFFECT)
        assert value.demand_inflation == value.untreated_change == value.window == 0
    alone = FinalVisitDifference(kind="final_visit_difference").true_value(
        MODEL, ONE, EFFECT, arms[1:], Contrast(0, None), OnAverage()
    )
    assert (alone.true_value, alone.untreated_change) == (EFFECT, CHANGE[1])


# ---- variances ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_trained", [False, True])
def test_covariance_over_visits_against_theory(drawn: Any, is_trained: bool) -> None:
    """Written out entry by entry; without villages their variances belong to the participants."""
    a, x = drawn[0], centred(drawn, NULL)[:, drawn[0].is_trained == is_trained]
    expected = np.full((3, 3), DISTRICT**2 + VILLAGE**2 + PARTICIPANT**2)
    for t in range(3):
        expected[t, t] += BY_VISIT**2 + (TRAINED if is_trained and t > 0 else RESIDUAL) ** 2
    if is_trained:
        expected[1:, 1:] += GROUP**2
    within_mcse(np.einsum("rnt,rnu->rtu", x, x) / x.shape[1], expected)
    np.testing.assert_allclose(MODEL.covariance(3, a.has_villages, is_trained), expected, rtol=1e-12)


def test_people_of_one_village_share_the_village_and_its_visit() -> None:
    a = allocate("village", districts=3)
    x = centred((a, generate(MODEL, a)), NULL)
    untreated = np.where(a.is_trained, -1, a.village)
    for t, u in ((0, 0), (1, 1), (2, 2), (0, 2), (1, 2)):
        shared = DISTRICT**2 + VILLAGE**2 + (BY_VISIT**2 if t == u else 0)
        within_mcse(pair_products(x[:, :, t], x[:, :, u], untreated), shared)
        group = GROUP**2 if t > 0 and u > 0 else 0
        within_mcse(pair_products(x[:, :, t], x[:, :, u], a.training_group), shared + group)


def test_people_of_one_district_share_the_district_only() -> None:
    a = allocate("individual", districts=3)
    x = centred((a, generate(MODEL, a)), NULL)
    for t, u in ((0, 0), (2, 2), (0, 2)):
        within_mcse(pair_products(x[:, :, t], x[:, :, u], np.where(a.is_trained, -1, a.district)), DISTRICT**2)
        group = GROUP**2 if t > 0 and u > 0 else 0
        within_mcse(pair_products(x[:, :, t], x[:, :, u], a.training_group), DISTRICT**2 + group)


def test_deviation_has_variance_1_in_the_untreated_and_the_declared_covariance(drawn: Any) -> None:
    a, outcome = drawn
    for is_trained in (False, True):
        d = outcome.deviation[:, a.is_trained == is_trained]
        within_mcse(d.mean(axis=1), 0.0)
        within_mcse(np.einsum("rnt,rnu->rtu", d, d) / d.shape[1], outcome.deviation_covariance[int(is_trained)])
    np.testing.assert_allclose(np.diag(outcome.deviation_covariance[0]), 1.0)


# ---- draws ----------------------------------------------------------------------------------------------------


def test_scores_are_the_documented_sums_of_the_documented_draws() -> None:
    """Every bit, summed by hand in the documented order."""
    a, few = allocate("village", arms=THREE_ARMS, districts=2), REPLICATE[5:8]
    outcome, mean = generate(MODEL, a, replicate=few), MODEL.means(ONE, EFFECT, a.arms)

    def unit(purpose: str, number: int, n_draw: int) -> np.ndarray:
        return STREAMS.normal(purpose, few, np.zeros(1, np.int32), np.array([number], np.int32), n_draw)[:, 0]

    for i in (0, 40, a.n_participant - 1):
        covariance = PARTICIPANT**2 + np.diag([RESIDUAL**2] * 3)
        if a.is_trained[i]:
            covariance = PARTICIPANT**2 + np.diag([RESIDUAL**2, TRAINED**2, TRAINED**2])
        factor = np.linalg.cholesky(covariance)
        z = STREAMS.normal("participant", few, a.cluster[i : i + 1], a.member[i : i + 1], 3)[:, 0]
        village = unit("village", a.village[i], 4)
        for t in range(3):
            for truth in (ALTERNATIVE, NULL):
                total = mean[truth, a.arm[i], t] + DISTRICT * unit("district", a.district[i], 1)[:, 0]
                total = total + VILLAGE * village[:, 0] + BY_VISIT * village[:, 1 + t]
                if a.is_trained[i] and t > 0:
                    total = total + GROUP * unit("training group", a.training_group[i], 1)[:, 0]
                own = factor[t, 0] * z[:, 0]
                for s in range(1, t + 1):
                    own = own + factor[t, s] * z[:, s]
                np.testing.assert_array_equal(outcome.score[0, truth, :, i, t], total + own)


def test_a_component_left_out_is_one_of_0() -> None:
    a, few = allocate("village", districts=2), REPLICATE[:3]
    for absent in ("sd_district", "sd_village", "sd_village_by_visit", "sd_training_group"):
        zero = given(NestedScores, {absent: "0 SD"})
        np.testing.assert_array_equal(
            generate(without(absent), a, replicate=few).score, generate(zero, a, replicate=few).score
        )
    same = given(NestedScores, {"sd_residual_trained": "0.7 SD"})  # the example's residual
    np.testing.assert_array_equal(
        generate(without("sd_residual_trained"), a, replicate=few).score, generate(same, a, replicate=few).score
    )


def test_batch_equals_singles() -> None:
    a = allocate("village")
    together = generate(MODEL, a, replicate=REPLICATE[:7])
    for r in range(7):
        alone = generate(MODEL, a, replicate=REPLICATE[r : r + 1])
        np.testing.assert_array_equal(alone.score[:, :, 0], together.score[:, :, r])
        np.testing.assert_array_equal(alone.deviation[0], together.deviation[r])


@pytest.mark.parametrize("n_visit", [2, 5])
def test_any_number_of_visits(n_visit: int) -> None:
    visit = tuple(f"visit_{t}" for t in range(n_visit))
    names = replace(ONE, visit=visit)
    share = {"value": "50%", "low": "0%", "high": "100%", "basis": "assumption", "source": "example"}
    part = NestedScores.model_validate(
        {k: v for k, v in NestedScores.example.items() if k != "change"}
        | {"effect_profile": dict.fromkeys(visit[1:-1], share)}
    )
    a = allocate("individual")
    outcome = generate(part, a, names, REPLICATE[:500])
    assert outcome.score.shape == (1, 2, 500, a.n_participant, n_visit)
    paired = (outcome.score[0, ALTERNATIVE] - outcome.score[0, NULL])[:, a.is_trained].mean(axis=(0, 1))
    np.testing.assert_allclose(paired, EFFECT[0] * np.array([0.0, *[0.5] * (n_visit - 2), 1.0]), atol=1e-13)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sd_residual": "0 SD"}, "above 0 SD"),
        ({"sd_residual_trained": "0 SD"}, "above 0 SD"),
        ({"sd_village": "-0.1 SD"}, "greater than or equal to 0"),
        ({"effect_profile": {"post": "-10%"}}, "greater than or equal to 0"),
    ],
)
def test_message(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        given(NestedScores, changes)
