"""Mechanisms that depend on no score: completely at random, by arm, by window, by village, by departure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from planned import NAMES, STREAMS, THREE_ARMS, allocate, exposed, given, never_in_a_window, within_mcse
from pydantic import ValidationError

from sim.missingness.arm import ByArm
from sim.missingness.departure import Departure
from sim.missingness.mcar import CompletelyAtRandom
from sim.missingness.village_withdrawal import VillageWithdrawal
from sim.missingness.window import InWindow
from sim.trial import Allocation, Flags, Outcome, Schedule

R = 4000
REPLICATE = np.arange(R, dtype=np.int32)


def scores_of(a: Allocation, n_replicate: int = R) -> Outcome:
    """Independent standard normal deviations; these mechanisms may not read them."""
    deviation = np.random.default_rng(3).standard_normal((n_replicate, a.n_participant, 3))
    return Outcome(np.empty((0, 2, *deviation.shape)), deviation, np.stack([np.eye(3)] * 2))


def lost(part: Any, a: Allocation, schedule: Schedule | None = None) -> Flags:
    schedule = never_in_a_window(a) if schedule is None else schedule
    return ~np.asarray(part.observe(NAMES, a, schedule, scores_of(a), STREAMS, REPLICATE))


def mcar(first: float, second: float, monotone: bool) -> Any:
    loss = {"post": exactly(first), "six_months": exactly(second)}
    return CompletelyAtRandom.model_validate({"kind": "mcar", "monotone": monotone, "loss": loss})


def exactly(share: float) -> dict[str, Any]:
    text = f"{100 * share:.12f}%"
    return {"value": text, "low": text, "high": text, "basis": "assumption", "source": "test"}


@pytest.mark.parametrize("monotone", [False, True])
def test_mcar_is_unrelated_to_every_score(monotone: bool) -> None:
    a = allocate("individual")
    missed, d = lost(mcar(0.2, 0.4, monotone), a), scores_of(a).deviation
    for t, p in ((1, 0.2), (2, 0.4)):
        for u in range(3):
            within_mcse((d[:, :, u] * (missed[:, :, t] - p)).mean(axis=1), 0.0)
    both = 0.2 if monotone else 0.2 * 0.4
    within_mcse((missed[:, :, 1] & missed[:, :, 2]).mean(axis=1), both)


def test_every_arm_has_its_own_losses() -> None:
    a = allocate("individual", arms=THREE_ARMS)
    part = ByArm.model_validate(ByArm.example)
    missed = lost(part, a)
    stated = {"control": (0.04, 0.12), "mixed": (0.02, 0.06), "separate": (0.03, 0.08)}
    for number, arm in enumerate(a.arms):
        for t in (1, 2):
            within_mcse(missed[:, a.arm == number, t].mean(axis=1), stated[arm.name][t - 1])


@settings(max_examples=30, deadline=None)
@over(st.tuples(*[st.floats(0, 0.9)] * 4))
def test_swapped_arms_with_swapped_losses_lose_the_same(shares: tuple[float, ...]) -> None:
    a = allocate("individual")
    few = np.arange(3, dtype=np.int32)

    def seen(control: tuple[float, ...], mixed: tuple[float, ...], arm: np.ndarray) -> Flags:
        loss = {
            name: dict(zip(("post", "six_months"), map(exactly, two), strict=True))
            for name, two in (("control", control), ("mixed", mixed))
        }
        part = ByArm.model_validate({"kind": "arm", "loss": loss})
        changed = replace(a, arm=arm)
        return part.observe(NAMES, changed, never_in_a_window(a), scores_of(a, 3), STREAMS, few)

    one, other = shares[:2], shares[2:]
    np.testing.assert_array_equal(seen(one, other, a.arm), seen(other, one, 1 - a.arm))


@pytest.mark.parametrize("exposure", [0.0, 0.5, 1.0, 2.0])
def test_a_window_multiplies_the_odds_as_often_as_the_exposure_says(exposure: float) -> None:
    a = allocate("individual")
    turn = np.zeros((a.n_participant, 3))
    turn[:, 2] = exposure
    missed = lost(InWindow.model_validate(InWindow.example), a, exposed(a, turn))
    for stratum, ratio in enumerate((2.0, 1.3)):
        odds = 0.06 / 0.94 * ratio**exposure
        within_mcse(missed[:, a.stratum == stratum, 2].mean(axis=1), odds / (1 + odds))
        within_mcse(missed[:, a.stratum == stratum, 1].mean(axis=1), 0.02)


# ---- villages -------------------------------------------------------------------------------------------------

WITHDRAWAL: Any = given(VillageWithdrawal, {"loss": {"post": "10%", "six_months": "30%"}})


def units(a: Allocation) -> np.ndarray:
    return a.village if a.has_villages else np.where(a.is_trained, a.clock, -1 - a.clock)


@pytest.mark.parametrize("kind", ["individual", "village"])
def test_villages_leave_whole_for_good_and_as_often_as_stated(kind: str) -> None:
    a = allocate(kind, arms=THREE_ARMS)
    missed = lost(WITHDRAWAL, a)
    gone = []
    for unit in np.unique(units(a)):
        people = missed[:, units(a) == unit]
        assert (people == people[:, :1]).all()
        gone.append(people[:, 0])
    share = np.stack(gone, axis=1).mean(axis=1)
    within_mcse(share[:, 1:], np.array([0.1, 0.3]))
    assert not (missed[:, :, 1] & ~missed[:, :, 2]).any()
    one, other = gone[0][:, 2], gone[1][:, 2]
    within_mcse((one - 0.3) * (other - 0.3), 0.0)  # villages leave independently


def test_people_trained_one_by_one_leave_alone() -> None:
    a = allocate("individual", training_group_size=None)
    missed = lost(WITHDRAWAL, a)[:, :, 2]
    within_mcse((missed[:, 0] - 0.3) * (missed[:, 2] - 0.3), 0.0)
    within_mcse(missed.mean(axis=1), 0.3)


@settings(max_examples=20, deadline=None)
@over(st.randoms(use_true_random=False))
def test_relabelled_villages_leave_as_before(random: Any) -> None:
    a = allocate("village", arms=THREE_ARMS)
    order = list(range(len(a.village_name)))
    random.shuffle(order)
    new = np.array(order, dtype=np.int32)  # old number -> new number; names move with their villages
    name = np.empty_like(a.village_name)
    name[new] = a.village_name
    relabelled = replace(a, village=new[a.village], village_name=name)
    few = np.arange(4, dtype=np.int32)
    seen = [
        WITHDRAWAL.observe(NAMES, one, never_in_a_window(a), scores_of(a, 4), STREAMS, few) for one in (a, relabelled)
    ]
    np.testing.assert_array_equal(*seen)


def test_a_larger_trial_keeps_the_withdrawals_of_the_smaller() -> None:
    small, large = allocate("village", districts=1), allocate("village", districts=2)
    n = small.n_participant
    sizes_agree = np.array_equal(small.village, large.village[:n])
    assert sizes_agree
    np.testing.assert_array_equal(lost(WITHDRAWAL, large)[:, :n], lost(WITHDRAWAL, small))


# ---- departure ------------------------------------------------------------------------------------------------

LEAVING: Any = given(Departure, {"risk_per_year": {"death": "10%", "moving_away": "30%"}})


def after(days: tuple[int, int], a: Allocation) -> Schedule:
    day = np.broadcast_to(np.array([0, *days]) + 20_000, (a.n_participant, 3))
    return replace(never_in_a_window(a), visit_day=day)


def test_departures_by_reason_against_competing_risks() -> None:
    """P(gone by t from c) = h_c / h (1 - exp(-h t)), h the sum of the hazards."""
    a = allocate("individual")
    cause = LEAVING.cause(NAMES, a, after((100, 400), a), scores_of(a), STREAMS, REPLICATE)
    hazard = -np.log1p(-np.array([0.10, 0.30])) / 365.25
    for t, day in ((1, 100), (2, 400)):
        for c in range(2):
            expected = hazard[c] / hazard.sum() * (1 - np.exp(-hazard.sum() * day))
            within_mcse((cause[:, :, t] == c + 1).mean(axis=1), expected)
    assert LEAVING.reasons == ("death", "moving_away")


def test_after_a_year_the_risk_of_a_year_is_gone_if_it_is_the_only_one() -> None:
    a = allocate("individual")
    alone = Departure.model_validate({"kind": "departure", "risk_per_year": {"death": exactly(0.2)}})
    loss = alone.marginal_loss(NAMES, a, after((0, 1461), a))
    np.testing.assert_allclose(loss[:, 0], 0.0)
    np.testing.assert_allclose(loss[:, 1], 1 - 0.8**4)


def test_nobody_leaves_before_the_baseline_and_later_visits_lose_more() -> None:
    a = allocate("individual")
    early = lost(LEAVING, a, after((-3, 30), a))
    assert not early[:, :, 1].any()
    late = lost(LEAVING, a, after((-3, 300), a))
    assert (late | ~early).all() and late.sum() > early.sum()


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        (Departure, {"risk_per_year": {"death": "0%"}}, "above 0%"),
        (Departure, {"risk_per_year": {"moving_away": "96%"}}, "below 95%"),
        (CompletelyAtRandom, {"loss": {"post": "95%"}}, "below 95%"),
        (ByArm, {"loss": {"mixed": {"post": "95%"}}}, "below 95%"),
        (VillageWithdrawal, {"loss": {"post": "95%"}}, "below 95%"),
        (InWindow, {"odds_ratio": {"commemoration": {"survivors": 0}}}, "greater than 0"),
    ],
)
def test_message(part: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        given(part, changes)
