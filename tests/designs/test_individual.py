from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import NAMES, THREE_ARMS, allocate, design
from pydantic import ValidationError

from sim.designs.arms import apportion, interleave
from sim.trial import Contrast


@given(st.integers(0, 500), st.lists(st.floats(0.01, 20), min_size=1, max_size=6))
@settings(deadline=None, derandomize=True)
def test_apportion_gives_everyone_out_and_nobody_a_unit_more_than_their_due(n: int, weights: list[float]) -> None:
    counts = apportion(n, weights)
    assert sum(counts) == n
    assert all(abs(c - n * w / sum(weights)) < 1 + 1e-9 for c, w in zip(counts, weights, strict=True))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4))
@settings(deadline=None, derandomize=True)
def test_interleave_keeps_the_counts_and_spreads_them(counts: list[int]) -> None:
    labels = interleave(counts)
    assert [labels.count(i) for i in range(len(counts))] == counts
    for label, n in enumerate(counts):
        seen = np.cumsum([x == label for x in labels])
        due = n * np.arange(1, len(labels) + 1) / max(1, len(labels))
        assert (np.abs(seen - due) <= len(counts)).all()


@pytest.mark.parametrize("per_district", [24, 40, 60, 61, 80, 120, 240])
@pytest.mark.parametrize("share", [(0.5, 0.5), (0.6, 0.4), (0.25, 0.75)])
@pytest.mark.parametrize("size", [5, 10, 15])
def test_mixed_groups_hold_all_strata_evenly(per_district: int, share: tuple[float, float], size: int) -> None:
    names = replace(NAMES, share=share)
    plan = design("individual", participants_per_district=per_district, training_group_size=size)
    a = plan.allocate(names, np.random.default_rng(0))
    for clock in range(len(a.group_district)):
        for members in (a.training_group == clock, (a.clock == clock) & (a.training_group < 0)):
            n = members.sum()
            assert abs((a.stratum[members] == 0).sum() - share[0] * n) <= 1.5


def test_separate_groups_hold_one_stratum_each_and_no_more_than_the_declared_size() -> None:
    a = allocate("individual", arms=THREE_ARMS, participants_per_district=120, training_group_size=7)
    for group in range(len(a.group_district)):
        members = a.training_group == group
        assert 1 <= members.sum() <= 7
        [arm] = np.unique(a.arm[members])
        assert len(np.unique(a.stratum[members])) == (1 if a.arms[arm].format == "separate" else 2)


@pytest.mark.parametrize("weights", [(1, 1), (1, 2), (2, 3)])
def test_arms_in_their_shares_in_every_district_and_stratum(weights: tuple[float, float]) -> None:
    arms = {
        "control": {"format": "none", "allocation": weights[0]},
        "mixed": {"format": "mixed", "allocation": weights[1]},
    }
    a = allocate("individual", arms=arms, participants_per_district=61, districts=3)
    for district in range(3):
        here = a.district == district
        assert here.sum() == 61
        for stratum, share in enumerate(NAMES.share):
            for arm, w in enumerate(weights):
                cell = (here & (a.stratum == stratum) & (a.arm == arm)).sum()
                assert abs(cell - 61 * share * w / sum(weights)) < 1.5


def test_unstratified_allocation_leaves_strata_to_chance_and_keeps_their_totals() -> None:
    plan = design("individual", stratified_allocation=False, participants_per_district=60, districts=1)
    survivors = []
    for seed in range(400):
        a = plan.allocate(NAMES, np.random.default_rng(seed))
        assert (a.stratum == 0).sum() == 36
        survivors.append(int((a.stratum[a.arm == 1] == 0).sum()))
    expected, variance = 30 * 0.6, 30 * 0.6 * 0.4 * 30 / 59  # hypergeometric
    assert abs(np.mean(survivors) - expected) < 4 * np.sqrt(variance / 400)
    assert np.var(survivors) == pytest.approx(variance, rel=4 * np.sqrt(2 / 400))


def test_controls_are_spread_over_the_groups_of_their_district() -> None:
    a = allocate("individual", districts=3, participants_per_district=100)
    controls = np.bincount(a.clock[a.training_group < 0], minlength=len(a.group_district))
    assert controls.max() - controls.min() <= 1


def test_a_larger_trial_in_more_districts_keeps_the_smaller_one() -> None:
    small, large = allocate("individual", districts=2), allocate("individual", districts=5)
    n = small.n_participant
    for column in ("arm", "stratum", "district", "training_group", "clock", "cluster", "member"):
        np.testing.assert_array_equal(getattr(large, column)[:n], getattr(small, column))


def test_contrast_names_the_arms_by_number() -> None:
    assert allocate("individual", arms=THREE_ARMS, contrast="mixed - separate").contrast == Contrast(1, 2)
    assert allocate("individual", arms=THREE_ARMS, contrast="separate - control").contrast == Contrast(2, 0)


def test_trained_one_by_one_nobody_is_in_a_group_and_everyone_has_a_clock() -> None:
    a = allocate("individual", districts=2, participants_per_district=300, training_group_size=None)
    np.testing.assert_array_equal(np.bincount(a.arm), [300, 300])
    assert (a.random_cluster == -1).all()
    np.testing.assert_array_equal(a.clock, np.arange(600))
    np.testing.assert_array_equal(a.group_district, a.district)
    early = np.arange(600) % 300 < 150
    np.testing.assert_array_equal(np.bincount(a.arm[early]), [150, 150])  # no arm is recruited later than another


def test_plan_of_25_groups_of_12_beside_300_ungrouped() -> None:
    a = allocate("individual", districts=1, participants_per_district=600, training_group_size=12)
    np.testing.assert_array_equal(np.bincount(a.training_group[a.training_group >= 0]), [12] * 25)
    assert (a.training_group[a.arm == 0] == -1).all() and (a.arm == 0).sum() == 300


@pytest.mark.parametrize("size", [None, 5])
@pytest.mark.parametrize("arms", [{k: THREE_ARMS[k] for k in ("control", "mixed")}, THREE_ARMS])
def test_more_participants_and_more_districts_nested_keep_the_smaller_trial(size: int | None, arms: Any) -> None:
    """Full groups before and after: 20 and 30 people an arm and district in groups of 5."""
    small, large = (
        design("individual", arms=arms, districts=d, participants_per_district=len(arms) * n, training_group_size=size)
        .allocate(replace(NAMES, share=(0.5, 0.5)), np.random.default_rng(0), nested=True)
        for d, n in ((2, 20), (3, 30))
    )  # fmt: skip
    where = {name: i for i, name in enumerate(zip(large.cluster.tolist(), large.member.tolist(), strict=True))}
    kept = [where[name] for name in zip(small.cluster.tolist(), small.member.tolist(), strict=True)]
    for column in ("arm", "stratum", "district"):
        np.testing.assert_array_equal(getattr(large, column)[kept], getattr(small, column))
    grouped = small.training_group >= 0
    assert grouped.any() == (size is not None)
    np.testing.assert_array_equal(
        large.group_name[large.training_group[kept]][grouped], small.group_name[small.training_group][grouped]
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contrast": "mixed"}, "such as 'mixed - control'"),
        ({"contrast": "change"}, "such as 'mixed - control'"),
        ({"contrast": "mixed - wait"}, "'wait' is not an arm"),
        ({"contrast": "mixed - mixed"}, "two different arms"),
        ({"arms": THREE_ARMS, "contrast": "mixed - control - separate"}, "two different arms"),
        ({"arms": {"a": {"format": "none"}, "b": {"format": "none"}}, "contrast": "a - b"}, "no arm is trained"),
        ({"districts": 1, "participants_per_district": 20}, "one training group"),
        ({"participants_per_district": 3}, "at least 2 are needed"),
        ({"districts": 0}, "greater than or equal to 1"),
        ({"participants_per_district": "60"}, "valid integer"),
    ],
)
def test_message(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        design("individual", **changes)
