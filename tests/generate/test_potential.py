"""Potential outcomes of both models: the same draws as the trial's, their difference against the closed forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from everything import BY_DAY, SUM, dated, everything, exactly, with_parts
from planned import NAMES, STREAMS, THREE_ARMS, allocate, never_in_a_window, within_mcse

from sim.parts import MODELS
from sim.trial import Allocation, Contrast

EFFECT = np.array([0.5, -0.3])
REPLICATE = np.arange(1000, dtype=np.int32)
FINAL = 2
VALUES: dict[str, Any] = {
    **BY_DAY, "contamination": "20%", "contamination_between_villages": "5%", "demand_inflation": "0.07 SD",
    "icc_facilitator": 0.04, "sd_effect_district": "0.2 SD", "window_buffering": "60%",
    "effect_modification": {"survivors": "0.12 SD", "released_perpetrators": "-0.05 SD"},
    "format_effect": {"mixed": "0.03 SD", "separate": "-0.2 SD"},
}  # fmt: skip
MODEL = with_parts(**VALUES)
ALLOCATIONS = {kind: allocate(kind, arms=THREE_ARMS, districts=3) for kind in ("individual", "village")}


def schedule_of(a: Allocation, seed: int = 0) -> Any:
    """Teams, windows by turns, and days to which not everyone can come."""
    rng = np.random.default_rng(seed)
    exposure = np.array([0.0, 1.0, 2.0])[(a.member[:, None] + np.array([0, 1, 3])) % 3]
    availability = rng.choice([0.5, 1.0], size=(len(a.group_district), 3))
    return dated(a, n_team=3, availability=availability, exposure=exposure)


def over_strata(y: np.ndarray, a: Allocation) -> np.ndarray:
    """(K, R) mean over participants (K, R, N) with the strata in their declared shares."""
    return np.tensordot(NAMES.share, [y[:, :, a.stratum == s].mean(axis=2) for s in range(2)], axes=1)


@pytest.mark.parametrize("kind", ["individual", "village"])
@pytest.mark.parametrize(("treated", "control"), [(1, 0), (2, 0), (1, 2)])
def test_difference_against_the_closed_form(kind: str, treated: int, control: int) -> None:
    a = ALLOCATIONS[kind]
    s = dated(a, n_team=3)
    y = MODEL.potential(NAMES, EFFECT, a, s, STREAMS, REPLICATE, Contrast(treated, control))[..., FINAL]
    parts = [
        MODEL.effect_components(NAMES, EFFECT, a.arms[arm], a.arms, has_villages=a.has_villages)
        for arm in (treated, control)
    ]
    expected = np.asarray(sum(parts[0].values())) - np.asarray(sum(parts[1].values()))
    within_mcse((over_strata(y[1], a) - over_strata(y[0], a)).T, expected)


def test_everyone_attends_against_the_closed_form() -> None:
    a = ALLOCATIONS["individual"]
    y = MODEL.potential(NAMES, EFFECT, a, schedule_of(a), STREAMS, REPLICATE, everyone_attends=True)
    plain = with_parts(**{
        **VALUES, "window_buffering": None, "attendance_per_day": None, "attendance_correlation": None,
        "gain_by_days": None, "attendance": "100%",
    })  # fmt: skip
    ours, theirs = (plain.effect_components(NAMES, EFFECT, arm, a.arms) for arm in (a.arms[1], a.arms[0]))
    exposure = schedule_of(a).exposure[0][:, FINAL]
    spared = 0.6 * exposure * np.array([0.2, 0.1])[a.stratum]
    difference = (y[1] - y[0])[..., FINAL] - spared
    within_mcse(over_strata(difference, a).T, sum(ours.values()) - sum(theirs.values()))


@pytest.mark.parametrize("kind", ["individual", "village"])
@pytest.mark.parametrize("errors", [None, {"kind": "skewed", **exactly({"skewness": -1.0})}], ids=["normal", "skewed"])
def test_own_arm_is_what_the_trial_sees_without_demand_inflation(kind: str, errors: Any) -> None:
    a, few = ALLOCATIONS[kind], REPLICATE[:5]
    bounded = {"cohesion": {"response": SUM}}
    for changes in ({}, {"outcomes": bounded}):
        m = with_parts(**{**VALUES, "demand_inflation": "0 SD"}, errors=errors, **changes)
        seen = m.generate(NAMES, EFFECT, a, schedule_of(a), STREAMS, few).score[:, 0]
        for treated in (1, 2):
            y = m.potential(NAMES, EFFECT, a, schedule_of(a), STREAMS, few, Contrast(treated, 0))
            for arm, version in ((0, 0), (treated, 1)):
                rows = a.arm == arm
                np.testing.assert_allclose(y[version][:, :, rows], seen[:, :, rows], atol=1e-12)
    inflated = with_parts(**VALUES, errors=errors)
    y = inflated.potential(NAMES, EFFECT, a, schedule_of(a), STREAMS, few, Contrast(1, 0))[1][:, :, a.arm == 1]
    seen = inflated.generate(NAMES, EFFECT, a, schedule_of(a), STREAMS, few).score[:, 0][:, :, a.arm == 1]
    np.testing.assert_allclose(seen - y, np.broadcast_to([0, 0.07, 0.07], y.shape), atol=1e-12)


def test_everyone_attends_is_a_trial_in_which_everyone_does() -> None:
    """Number for number, what leaks to the untreated included."""
    a, few = ALLOCATIONS["village"], REPLICATE[:5]
    always = {**VALUES, **dict.fromkeys(BY_DAY), "attendance": "100%"}
    one = MODEL.potential(NAMES, EFFECT, a, schedule_of(a), STREAMS, few, everyone_attends=True)
    other = with_parts(**always).potential(NAMES, EFFECT, a, schedule_of(a), STREAMS, few)
    np.testing.assert_allclose(one, other, atol=1e-12)
    usual = MODEL.potential(NAMES, EFFECT, a, schedule_of(a), STREAMS, few)
    assert (np.abs(one - usual)[0, ..., FINAL] > 1e-3).all()  # less attendance, less leaks


def test_swapped_arms_swap_the_outcomes() -> None:
    a = ALLOCATIONS["village"]
    m = everything({"kind": "heavy_tailed", **exactly({"df": 6})})
    one, other = (
        m.potential(NAMES, EFFECT, a, schedule_of(a), STREAMS, REPLICATE[:4], contrast)
        for contrast in (Contrast(2, 0), Contrast(0, 2))
    )
    np.testing.assert_array_equal(one, other[::-1])
    np.testing.assert_array_equal(one[..., 0], one[::-1, ..., 0])  # nobody is trained before the baseline


def test_the_untreated_have_no_group_and_carry_their_own_clock() -> None:
    """Without effect, variation and leak, the two outcomes of whoever is in no group are the same."""
    a = ALLOCATIONS["individual"]
    zero = dict.fromkeys(("survivors", "released_perpetrators"), "0 SD")
    m = with_parts(**{
        **VALUES, "contamination": "0%", "contamination_between_villages": "0%", "sd_effect_district": "0 SD",
        "window_buffering": None, "effect_modification": zero, "format_effect": {"mixed": "0 SD", "separate": "0 SD"},
    })  # fmt: skip
    y = m.potential(NAMES, np.zeros(2), a, schedule_of(a), STREAMS, REPLICATE[:4])
    np.testing.assert_array_equal(y[0][:, :, ~a.is_trained], y[1][:, :, ~a.is_trained])
    assert (y[0] != y[1])[:, :, a.is_trained, 1:].all()


def test_without_a_control_arm_against_the_same_people_untreated() -> None:
    a = allocate("single_arm")
    assert a.contrast.control is None
    y = with_parts(**VALUES).potential(NAMES, EFFECT, a, never_in_a_window(a), STREAMS, REPLICATE)[..., FINAL]
    parts = MODEL.effect_components(NAMES, EFFECT, a.arms[0], a.arms)
    within_mcse((over_strata(y[1], a) - over_strata(y[0], a)).T, np.asarray(sum(parts.values())))
    ungrouped = with_parts(**{**VALUES, "icc_training_group": 0, "icc_facilitator": None})
    few = REPLICATE[:4]
    y = ungrouped.potential(NAMES, EFFECT, a, never_in_a_window(a), STREAMS, few)
    null = ungrouped.generate(NAMES, EFFECT, a, never_in_a_window(a), STREAMS, few).score[:, 1]
    np.testing.assert_allclose(y[0], null, atol=1e-12)


@pytest.mark.parametrize("kind", ["individual", "village", "single_arm"])
def test_nested_model_shifts_by_the_planned_effect(kind: str) -> None:
    part = MODELS.discover()["nested"]
    names, effect = replace(NAMES, outcome=("cohesion",), window=()), np.array([0.4])
    m = part.model_validate({key: v for key, v in part.example.items() if key != "sd_residual_trained"})
    a = allocate(kind)
    y = m.potential(names, effect, a, never_in_a_window(a), STREAMS, REPLICATE)  # type: ignore[attr-defined]
    seen = m.generate(names, effect, a, never_in_a_window(a), STREAMS, REPLICATE).score[0, 0]  # type: ignore[attr-defined]
    assert y.shape == (2, 1, len(REPLICATE), a.n_participant, 3)
    np.testing.assert_allclose(y[1, 0][:, a.is_trained], seen[:, a.is_trained], atol=1e-12)
    np.testing.assert_allclose(y[0, 0][:, ~a.is_trained], seen[:, ~a.is_trained], atol=1e-12)
    within_mcse((y[1] - y[0])[0].mean(axis=1), np.array([0.0, 1.4 * 0.4, 0.4]))
    ungrouped = (y[1] - y[0])[0][:, a.training_group < 0]
    np.testing.assert_allclose(ungrouped, np.broadcast_to([0.0, 0.56, 0.4], ungrouped.shape), atol=1e-12)
