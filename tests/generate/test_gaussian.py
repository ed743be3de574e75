from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planned import (
    NAMES,
    STREAMS,
    THREE_ARMS,
    allocate,
    exposed,
    model,
    never_in_a_window,
    pair_products,
    within_mcse,
)
from pydantic import ValidationError

from sim.estimands.estimand import OnAverage
from sim.estimands.final_visit_difference import FinalVisitDifference
from sim.run.blocks import draw, realise
from sim.scenario.load import read_scenario
from sim.streams import Streams
from sim.trial import Allocation, Outcome, Schedule

R = 4000
REPLICATE = np.arange(R, dtype=np.int32)
EFFECT = np.array([0.5, -0.3])
BASELINE, POST, FINAL = range(3)
ALTERNATIVE, NULL = range(2)
BY_STRATUM = ("survivors", "released_perpetrators")
CAC, ICC_VILLAGE, ICC_DISTRICT, ICC_GROUP, RHO = 0.7, (0.15, 0.05), 0.04, 0.12, 0.35
FINAL_R, POST_R, LATER_R, CHANGES = (0.4, 0.6), 0.65, 0.55, 0.2
MODIFICATION, FORMAT, SHARE = (0.12, -0.05), {"mixed": 0.03, "separate": -0.2}, NAMES.share
RETENTION, UNTREATED, ATTENDANCE, LEAK, DEMAND, SD_EFFECT = 0.5, 0.15, 0.8, 0.25, 0.07, 0.3
START, SHIFT = (0.2, -0.1), (-0.25, -0.11)


def sd(value: float) -> str:
    return f"{value} SD"


DISTINCT: dict[str, Any] = {
    "outcomes": {
        name: {"correlation_baseline_final": r, "icc_village": icc}
        for name, r, icc in zip(NAMES.outcome, FINAL_R, ICC_VILLAGE, strict=True)
    },
    "correlation_baseline_post": POST_R,
    "correlation_post_final": LATER_R,
    "correlation_outcomes": RHO,
    "correlation_changes": CHANGES,
    "icc_district": ICC_DISTRICT,
    "icc_training_group": ICC_GROUP,
    "cac": CAC,
    "retention": "50%",
    "untreated_change": sd(UNTREATED),
    "baseline_difference": dict(zip(BY_STRATUM, map(sd, START), strict=True)),
    "effect_modification": dict(zip(BY_STRATUM, map(sd, MODIFICATION), strict=True)),
    "format_effect": {name: sd(value) for name, value in FORMAT.items()},
    "sd_effect_district": sd(SD_EFFECT),
    "attendance": "80%",
    "contamination": "25%",
    "demand_inflation": sd(DEMAND),
    "window_shift": {"commemoration": dict(zip(BY_STRATUM, map(sd, SHIFT), strict=True))},
}
MODEL = model(**DISTINCT)


def generate(m: Any, a: Allocation, s: Schedule, effect: np.ndarray = EFFECT, replicate: Any = REPLICATE) -> Outcome:
    outcome: Outcome = m.generate(NAMES, effect, a, s, STREAMS, replicate)
    return outcome


def exposure_by_turns(a: Allocation) -> np.ndarray:
    """Exposures 0, 1 and the peak's 2.5, differing between participants and visits."""
    turn = a.member[:, None] + np.array([0, 1, 3])
    return np.array([0.0, 1.0, 2.5])[turn % 3]


def full_effect(arm: str, stratum: int, outcome: int) -> float:
    return float(EFFECT[outcome] + FORMAT[arm] + MODIFICATION[stratum])


def expected_mean(a: Allocation, exposure: np.ndarray, truth: int) -> np.ndarray:
    """(K, N, T) person by person, in words."""
    profile = [0.0, 1 / RETENTION, 1.0]
    formats = [arm.format for arm in a.arms if arm.format]
    mean = np.zeros((2, a.n_participant, 3))
    for k in range(2):
        over_strata = [sum(p * full_effect(f, s, k) for s, p in enumerate(SHARE)) for f in formats]
        leaked = LEAK * ATTENDANCE * np.mean(over_strata)
        for i in range(a.n_participant):
            stratum, format_ = int(a.stratum[i]), a.arms[a.arm[i]].format
            for t in range(3):
                value = START[stratum] + (UNTREATED if t == FINAL else 0) + exposure[i, t] * SHIFT[stratum]
                if truth == ALTERNATIVE and t > BASELINE:
                    value += profile[t] * (ATTENDANCE * full_effect(format_, stratum, k) if format_ else leaked)
                    value += DEMAND if format_ else 0
                mean[k, i, t] = value
    return mean


@pytest.fixture(scope="module")
def individuals() -> tuple[Allocation, np.ndarray, Outcome]:
    a = allocate("individual", arms=THREE_ARMS, districts=3, participants_per_district=60, training_group_size=5)
    exposure = exposure_by_turns(a)
    return a, exposure, generate(MODEL, a, exposed(a, exposure))


@pytest.fixture(scope="module")
def villages() -> tuple[Allocation, np.ndarray, Outcome]:
    a = allocate("village", arms=THREE_ARMS, districts=3, villages_per_district=6, village_size={"mean": 8, "cv": 0.3})
    exposure = exposure_by_turns(a)
    return a, exposure, generate(MODEL, a, exposed(a, exposure))


@pytest.fixture(scope="module", params=["individuals", "villages"])
def drawn(request: pytest.FixtureRequest) -> tuple[Allocation, np.ndarray, Outcome]:
    found: tuple[Allocation, np.ndarray, Outcome] = request.getfixturevalue(request.param)
    return found


def centred(drawn: tuple[Allocation, np.ndarray, Outcome], truth: int) -> np.ndarray:
    """(K, R, N, T) scores less what is expected of each participant, expectations from the closed form."""
    a, exposure, outcome = drawn
    centred: np.ndarray = outcome.score[:, truth] - expected_mean(a, exposure, truth)[:, None]
    return centred


# ---- means ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [ALTERNATIVE, NULL])
def test_means_by_arm_stratum_visit_and_window_against_theory(drawn: Any, truth: int) -> None:
    a, exposure, _ = drawn
    departure = centred(drawn, truth)
    for arm in range(3):
        for stratum in range(2):
            for visit in range(3):
                for level in (0.0, 1.0, 2.5):
                    cell = (a.arm == arm) & (a.stratum == stratum) & (exposure[:, visit] == level)
                    assert cell.any()
                    for k in range(2):
                        within_mcse(departure[k][:, cell, visit].mean(axis=1), 0.0)


def stratified_difference(paired: np.ndarray, a: Allocation, arm: int) -> np.ndarray:
    """(K, R) mean of an arm at the final visit with the strata in their declared shares."""
    cells = [paired[:, :, (a.arm == arm) & (a.stratum == s), FINAL].mean(axis=2) for s in range(2)]
    return np.tensordot(SHARE, cells, axes=1)


@pytest.mark.parametrize(("treated", "control"), [(1, 0), (2, 0), (1, 2), (2, 1)])
def test_true_value_is_the_difference_that_training_makes(drawn: Any, treated: int, control: int) -> None:
    a, _, outcome = drawn
    contrast = type(a.contrast)(treated, control)
    value = FinalVisitDifference(kind="final_visit_difference").true_value(
        MODEL, NAMES, EFFECT, a.arms, contrast, OnAverage()
    )
    paired = outcome.score[:, ALTERNATIVE] - outcome.score[:, NULL]
    difference = stratified_difference(paired, a, treated) - stratified_difference(paired, a, control)
    within_mcse(difference.T, value.true_value + value.demand_inflation)
    null = outcome.score[:, NULL]
    within_mcse((stratified_difference(null, a, treated) - stratified_difference(null, a, control)).T
                - (stratified_difference(expected_mean(*drawn[:2], NULL)[:, None], a, treated)
                   - stratified_difference(expected_mean(*drawn[:2], NULL)[:, None], a, control)).T, 0.0)  # fmt: skip


def test_gain_after_training_is_the_final_gain_over_retention(drawn: Any) -> None:
    a, _, outcome = drawn
    paired = outcome.score[:, ALTERNATIVE] - outcome.score[:, NULL]
    gain = paired - np.where(a.is_trained, DEMAND, 0.0)[:, None]
    np.testing.assert_allclose(RETENTION * gain[..., POST], gain[..., FINAL], atol=1e-12)
    np.testing.assert_array_equal(paired[..., BASELINE], 0)


def test_whoever_does_not_attend_gains_nothing_but_the_demand_inflation(drawn: Any) -> None:
    a, _, outcome = drawn
    paired = (outcome.score[:, ALTERNATIVE] - outcome.score[:, NULL])[:, :, a.is_trained, FINAL]
    absent = np.isclose(paired[0], DEMAND, atol=1e-12)
    np.testing.assert_array_equal(absent, np.isclose(paired[1], DEMAND, atol=1e-12))
    within_mcse(1 - absent.mean(axis=1), ATTENDANCE)


def test_sharp_null_does_not_know_the_effect(drawn: Any) -> None:
    a, exposure, _ = drawn
    three = REPLICATE[:3]
    outcome = generate(MODEL, a, exposed(a, exposure), replicate=three)
    other = generate(MODEL, a, exposed(a, exposure), EFFECT + 9, three)
    np.testing.assert_array_equal(outcome.score[:, NULL], other.score[:, NULL])
    np.testing.assert_array_equal(outcome.deviation, other.deviation)
    nothing = model(**{
        **DISTINCT, "demand_inflation": "0 SD", "sd_effect_district": "0 SD",
        "effect_modification": dict.fromkeys(BY_STRATUM, "0 SD"), "format_effect": dict.fromkeys(FORMAT, "0 SD"),
    })  # fmt: skip
    same = generate(nothing, a, exposed(a, exposure), np.zeros(2), three)
    np.testing.assert_array_equal(same.score[:, ALTERNATIVE], outcome.score[:, NULL])
    np.testing.assert_array_equal(same.score[:, NULL], outcome.score[:, NULL])


def test_window_shift_difference_is_the_difference_of_the_arms_exposed_means(drawn: Any) -> None:
    a, exposure, _ = drawn
    mean = expected_mean(a, exposure, NULL)[0, :, FINAL] - np.array(START)[a.stratum]
    found = MODEL.window_shift_difference(NAMES, a, exposed(a, exposure))
    assert found == pytest.approx(mean[a.arm == 1].mean() - mean[a.arm == 0].mean(), abs=1e-12)
    assert MODEL.window_shift_difference(NAMES, a, never_in_a_window(a)) == pytest.approx(0, abs=1e-12)


# ---- variances and correlations -------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [ALTERNATIVE, NULL])
def test_untreated_have_variance_1_and_the_declared_correlations_over_visits(drawn: Any, truth: int) -> None:
    a = drawn[0]
    x = centred(drawn, truth)[:, :, ~a.is_trained]
    for k in range(2):
        expected = np.array([[1, POST_R, FINAL_R[k]], [POST_R, 1, LATER_R], [FINAL_R[k], LATER_R, 1]])
        within_mcse(np.einsum("rnt,rnu->rtu", x[k], x[k]) / x.shape[2], expected)


def test_covariance_against_the_draws_and_the_trained_differ_only_after_the_training(drawn: Any) -> None:
    a = drawn[0]
    x = centred(drawn, NULL)
    for trained in (False, True):
        rows = a.is_trained == trained
        product = np.einsum("krnt,jrnu->rktju", x[:, :, rows], x[:, :, rows]) / rows.sum()
        within_mcse(product, MODEL.covariance(a.has_villages, trained))
    extra = MODEL.covariance(a.has_villages, True) - MODEL.covariance(a.has_villages, False)
    assert not extra[:, BASELINE].any() and (extra[:, POST:][:, :, :, POST:] > 0).all()


def test_outcomes_at_baseline_and_their_changes_correlate_as_declared(drawn: Any) -> None:
    a = drawn[0]
    x = centred(drawn, NULL)[:, :, ~a.is_trained]
    village = np.sqrt(np.prod(ICC_VILLAGE)) if a.has_villages else 0.0
    own = np.sqrt(np.prod([1 - ICC_DISTRICT - (a.has_villages * icc) for icc in ICC_VILLAGE]))
    within_mcse((x[0] * x[1]).mean(axis=1)[:, BASELINE], RHO * (ICC_DISTRICT + village + own))
    change = x[..., FINAL] - x[..., BASELINE]
    within_mcse((change**2).mean(axis=2).T, 2 - 2 * np.array(FINAL_R))
    scale = np.sqrt(np.prod(2 - 2 * np.array(FINAL_R)))
    within_mcse((change[0] * change[1]).mean(axis=1) / scale, CHANGES)


def test_outcomes_correlate_as_declared_at_baseline_and_less_after_it() -> None:
    """Changes that correlate less than levels take some of the levels' correlation away at later visits."""
    correlation = MODEL.covariance(False, False)[0, range(3), 1, range(3)]
    np.testing.assert_allclose(correlation[0], RHO, atol=1e-12)
    assert (correlation[1:] < RHO).all() and (correlation[1:] > 0).all()


@pytest.mark.parametrize("with_village", [False, True])
def test_shipped_changes_correlate_as_declared_on_average(with_village: bool) -> None:
    m = read_scenario(Path(__file__).parents[2] / "scenarios/crm_rwanda.yaml").file.model
    c = m.covariance(with_village, False)
    change = c[:, 2, :, 2] + c[:, 0, :, 0] - c[:, 2, :, 0] - c[:, 0, :, 2]
    correlation = change / np.sqrt(np.outer(np.diag(change), np.diag(change)))
    assert correlation[np.triu_indices(4, 1)].mean() == pytest.approx(m.correlation_changes.value, abs=1e-12)
    np.testing.assert_allclose(np.einsum("ktkt->kt", c), 1.0)
    assert (np.linalg.eigvalsh(c.reshape(12, 12)) > 0).all()


def test_village_icc_and_cluster_autocorrelation(villages: Any) -> None:
    a = villages[0]
    x = centred(villages, NULL)
    control_villages = np.where(a.is_trained, -1, a.village)
    for k in range(2):
        for j in range(2):
            shared = (1 if k == j else RHO) * np.sqrt(ICC_VILLAGE[k] * ICC_VILLAGE[j])
            district = (1 if k == j else RHO) * ICC_DISTRICT
            for t in range(3):
                for u in range(3):
                    found = pair_products(x[k][:, :, t], x[j][:, :, u], control_villages)
                    within_mcse(found, district + shared * (1 if t == u else CAC))


def across(x: np.ndarray, y: np.ndarray, unit: np.ndarray, within: np.ndarray) -> np.ndarray:
    """(R,) mean product of pairs in different `unit` but the same `within`."""
    everyone, same = pair_products(x, y, within), pair_products(x, y, unit)

    def pairs(code: np.ndarray) -> int:
        n = np.unique(code[code >= 0], return_counts=True)[1]
        return int((n * (n - 1)).sum())

    n_all, n_same = pairs(within), pairs(unit)
    between: np.ndarray = (everyone * n_all - same * n_same) / (n_all - n_same)
    return between


def test_district_share_between_clusters_and_nothing_between_districts(drawn: Any) -> None:
    a = drawn[0]
    x = centred(drawn, NULL)
    cluster = np.where(a.random_cluster >= 0, a.random_cluster, 10_000 + np.arange(a.n_participant))
    for k in range(2):
        for t, u in ((0, 0), (1, 1), (2, 2), (0, 2)):
            within_mcse(across(x[k][:, :, t], x[k][:, :, u], cluster, a.district), ICC_DISTRICT)
            within_mcse(across(x[k][:, :, t], x[k][:, :, u], a.district, np.zeros_like(a.district)), 0.0)


def test_training_group_icc_in_trained_arms_only_and_only_after_training(drawn: Any) -> None:
    a = drawn[0]
    x = centred(drawn, NULL)
    would_be = np.where(a.is_trained, -1, a.clock if not a.has_villages else -1)
    for k in range(2):
        village = ICC_VILLAGE[k] * a.has_villages
        own = 1 - ICC_DISTRICT - village
        shared = ICC_GROUP / (1 - ICC_GROUP) * own
        assert shared / (shared + own) == pytest.approx(ICC_GROUP)
        for t, u in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
            base = ICC_DISTRICT + village * (1 if t == u else CAC)
            after = shared if t > 0 and u > 0 else 0.0
            within_mcse(pair_products(x[k][:, :, t], x[k][:, :, u], a.training_group), base + after)
            if not a.has_villages:
                within_mcse(pair_products(x[k][:, :, t], x[k][:, :, u], would_be), ICC_DISTRICT)


def test_separate_groups_of_a_village_share_the_village_only(villages: Any) -> None:
    a = villages[0]
    x = centred(villages, NULL)
    separate = a.arm == 2
    village, group = np.where(separate, a.village, -1), np.where(separate, a.training_group, -1)
    for k in range(2):
        within_mcse(across(x[k][:, :, FINAL], x[k][:, :, FINAL], group, village), ICC_DISTRICT + ICC_VILLAGE[k])


def test_effect_varies_between_districts_and_attendance_within(drawn: Any) -> None:
    """Paired difference D of the two truths in attenders: effect of the district shared, attendance independent."""
    a = drawn[0]
    departure = centred(drawn, ALTERNATIVE) - centred(drawn, NULL)
    trained = np.where(a.is_trained, a.district, -1)
    for t, scale in ((POST, 1 / RETENTION), (FINAL, 1.0)):
        d = departure[..., t]
        shared = (ATTENDANCE * scale * SD_EFFECT) ** 2
        within_mcse(pair_products(d[0], d[0], trained), shared)
        within_mcse(pair_products(d[0], d[1], trained), RHO * shared)
        within_mcse(across(d[0], d[0], a.district, np.where(a.is_trained, 0, -1)), 0.0)
        assert not np.abs(d[:, :, ~a.is_trained]).max() > 1e-12
        for arm, stratum in ((1, 0), (1, 1), (2, 0), (2, 1)):
            rows = (a.arm == arm) & (a.stratum == stratum)
            g = full_effect("mixed" if arm == 1 else "separate", stratum, 0)
            variance = ATTENDANCE * (g**2 + SD_EFFECT**2) - (ATTENDANCE * g) ** 2
            within_mcse((d[0][:, rows] ** 2).mean(axis=1), scale**2 * variance)


def test_deviation_is_the_mean_departure_with_variance_1_in_the_untreated(drawn: Any) -> None:
    a, _, outcome = drawn
    x = centred(drawn, NULL).mean(axis=0)
    between = MODEL.covariance(a.has_villages, False).mean(axis=(0, 2))
    np.testing.assert_allclose(outcome.deviation, x / np.sqrt(np.diag(between)), atol=1e-10)
    np.testing.assert_allclose(np.diag(outcome.deviation_covariance[0]), 1.0)
    for trained in (False, True):
        d = outcome.deviation[:, a.is_trained == trained]
        within_mcse(np.einsum("rnt,rnu->rtu", d, d) / d.shape[1], outcome.deviation_covariance[int(trained)])


# ---- streams --------------------------------------------------------------------------------------------------


def test_batch_equals_singles(drawn: Any) -> None:
    a, exposure, outcome = drawn
    for picked in ([0], [7], [3, 4, 5], [11, 2]):
        one = generate(MODEL, a, exposed(a, exposure), replicate=np.array(picked, dtype=np.int32))
        np.testing.assert_array_equal(one.score, outcome.score[:, :, picked])
        np.testing.assert_array_equal(one.deviation, outcome.deviation[picked])


def test_a_design_run_alone_has_the_same_data() -> None:
    scenario = read_scenario(Path(__file__).parents[2] / "scenarios/crm_rwanda.yaml")
    replicate = np.array([0, 64], dtype=np.int32)
    found = []
    for s in (scenario, scenario.with_changes(designs=["vil_1"])):
        streams = Streams(s.file.seed, "vil_1")
        found.append(draw(s, realise(s, "vil_1", 0), streams, replicate).trial)
    np.testing.assert_array_equal(found[0].y, found[1].y)
    np.testing.assert_array_equal(found[0].observed, found[1].observed)


@pytest.mark.parametrize(
    ("kind", "larger"),
    [
        ("individual", {"participants_per_district": 90}),
        ("individual", {"districts": 4}),
        ("village", {"districts": 4}),
    ],
)
def test_a_larger_trial_keeps_the_participants_draws(kind: str, larger: dict[str, Any]) -> None:
    own_only = model(**{
        **DISTINCT, "icc_training_group": 0, "baseline_difference": dict.fromkeys(BY_STRATUM, "0 SD"),
    })  # fmt: skip
    scores = []
    for changes in ({}, larger):
        a = allocate(kind, **changes)
        y = generate(own_only, a, never_in_a_window(a), replicate=REPLICATE[:3]).score[:, NULL]
        scores.append({(c, m): y[:, :, i] for i, (c, m) in enumerate(zip(a.cluster, a.member, strict=True))})
    small, large = scores
    assert set(small) < set(large)
    for person, y in small.items():
        np.testing.assert_array_equal(large[person], y)


# ---- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"correlation_baseline_post": 0.95, "correlation_post_final": 0.1}, "positive definite"),
        ({"icc_district": 0.9}, "positive definite"),
        ({"correlation_changes": 0.95}, "cannot be had together"),
        ({"correlation_changes": -0.95}, "cannot be had together"),
        ({"retention": "0%"}, "greater than 0"),
        ({"cac": -0.1}, "greater than or equal to 0"),
        ({"attendance": "101%"}, "less than or equal to 1"),
        ({"sd_effect_district": "-0.1 SD"}, "greater than or equal to 0"),
    ],
)
def test_message(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        model(**changes)


def test_one_outcome_alone() -> None:
    one = model().model_copy(update={"outcomes": {"cohesion": model().outcomes["cohesion"]}})
    a = allocate("individual")
    outcome = one.generate(NAMES, np.array([0.4]), a, never_in_a_window(a), STREAMS, REPLICATE[:500])
    assert outcome.score.shape == (1, 2, 500, a.n_participant, 3)
    untreated = outcome.score[0, NULL][:, ~a.is_trained] - np.array([0, 0, 0.15])
    within_mcse((untreated**2).mean(axis=1), 1.0)
