from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import NAMES, THREE_ARMS, allocate, design
from pydantic import ValidationError


def sizes_of(a: Any) -> np.ndarray:
    return np.bincount(a.village)


def test_everyone_in_a_village_is_in_one_arm_and_arms_are_even_in_every_district() -> None:
    a = allocate("village", arms=THREE_ARMS, districts=3, villages_per_district=9)
    for village in np.unique(a.village):
        members = a.village == village
        assert len(np.unique(a.arm[members])) == len(np.unique(a.district[members])) == 1
    for district in range(3):
        first = [a.arm[a.village == v][0] for v in np.unique(a.village[a.district == district])]
        np.testing.assert_array_equal(np.bincount(first), [3, 3, 3])


def test_a_trained_village_is_a_training_group_or_one_for_each_stratum() -> None:
    a = allocate("village", arms=THREE_ARMS, districts=2, villages_per_district=6)
    for village in np.unique(a.village):
        members = a.village == village
        [arm] = np.unique(a.arm[members])
        n_group = {None: 1, "mixed": 1, "separate": 2}[a.arms[arm].format]
        assert len(np.unique(a.training_group[members])) == n_group
        assert (a.training_group[members] >= 0).all() == a.arms[arm].is_trained
        if a.arms[arm].format == "separate":
            assert len(np.unique(a.training_group[members] * 2 + a.stratum[members])) == 2


def test_strata_of_each_village_in_their_shares() -> None:
    a = allocate("village", districts=4, villages_per_district=8)
    for village in np.unique(a.village):
        members = a.village == village
        assert abs((a.stratum[members] == 0).sum() - NAMES.share[0] * members.sum()) < 1


def test_village_sizes_against_theory() -> None:
    plan = design("village", village_size={"mean": 20, "cv": 0.3}, districts=10, villages_per_district=20)
    size = np.concatenate([sizes_of(plan.allocate(NAMES, np.random.default_rng(s))) for s in range(30)])
    n, variance = len(size), (20 * 0.3) ** 2 + 1 / 12  # rounding adds 1/12
    assert abs(size.mean() - 20) < 4 * np.sqrt(variance / n)
    kurtosis_excess = 6 * 0.3**2
    assert abs(size.var() - variance) < 4 * variance * np.sqrt((2 + kurtosis_excess) / n)
    assert size.min() >= 2


def test_small_and_very_unequal_villages_have_two_people_at_least() -> None:
    size = sizes_of(allocate("village", village_size={"mean": 3, "cv": 1.5}, districts=8))
    assert size.min() == 2


def test_no_variation_gives_equal_sizes() -> None:
    assert set(sizes_of(allocate("village", village_size={"mean": 17}))) == {17}


def test_untreated_villages_keep_the_clock_of_one_trained_village_each() -> None:
    a = allocate("village", districts=2, villages_per_district=6)
    per_clock = []
    for village in np.unique(a.village[a.training_group < 0]):
        [clock] = np.unique(a.clock[a.village == village])
        assert a.district[a.village == village][0] == a.group_district[clock]
        per_clock.append(clock)
    assert len(set(per_clock)) == len(per_clock)  # 3 trained, 3 untreated: one each


def test_a_larger_trial_in_more_districts_keeps_the_smaller_one() -> None:
    small, large = allocate("village", districts=2), allocate("village", districts=4)
    n = small.n_participant
    for column in ("arm", "stratum", "village", "training_group", "clock", "cluster", "member"):
        np.testing.assert_array_equal(getattr(large, column)[:n], getattr(small, column))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contrast": "change"}, "such as 'mixed - control'"),
        ({"districts": 1, "villages_per_district": 2}, "one village"),
        ({"arms": THREE_ARMS, "villages_per_district": 2}, "no village in a district"),
        ({"village_size": {"mean": 1, "cv": 0.2}}, "greater than or equal to 2"),
        ({"village_size": {"mean": 10, "cv": -0.1}}, "greater than or equal to 0"),
    ],
)
def test_message(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        design("village", **changes)


@pytest.mark.parametrize("weights", [(1, 1), (1, 2)])
def test_more_villages_a_district_and_more_districts_nested_keep_the_smaller_trial(weights: tuple[int, int]) -> None:
    """Whoever is in both trials, by name in the random streams, is the same person in the same village and arm."""
    arms = {name: {**arm, "allocation": w} for (name, arm), w in zip(THREE_ARMS.items(), weights, strict=False)}
    small, large = (
        design("village", arms=arms, districts=d, villages_per_district=v).allocate(
            NAMES, np.random.Generator(np.random.Philox(key=[3, 0])), nested=True
        )
        for d, v in ((2, 5), (3, 8))
    )
    where = {name: i for i, name in enumerate(zip(large.cluster.tolist(), large.member.tolist(), strict=True))}
    kept = [where[name] for name in zip(small.cluster.tolist(), small.member.tolist(), strict=True)]
    for column in ("arm", "stratum", "district"):
        np.testing.assert_array_equal(getattr(large, column)[kept], getattr(small, column))
    np.testing.assert_array_equal(large.village_name[large.village[kept]], small.village_name[small.village])
    trained = small.training_group >= 0
    np.testing.assert_array_equal(
        large.group_name[large.training_group[kept]][trained], small.group_name[small.training_group][trained]
    )
    sizes = np.bincount(small.village)
    assert len(set(sizes)) > 1  # drawn, and alike in both
    np.testing.assert_array_equal(np.bincount(large.village)[np.unique(large.village[kept])], sizes)


def test_plans_of_24_villages_and_of_30_districts() -> None:
    a = allocate("village", districts=1, villages_per_district=24, village_size={"mean": 25})
    np.testing.assert_array_equal(np.bincount(a.village), [25] * 24)
    np.testing.assert_array_equal(np.bincount(a.arm), [300, 300])
    a = allocate("village", districts=30, villages_per_district=20, village_size={"mean": 20})
    assert a.n_participant == 12_000
    np.testing.assert_array_equal(np.bincount(a.district[a.arm == 1]), [200] * 30)
