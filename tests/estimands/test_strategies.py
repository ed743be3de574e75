"""While on treatment and hypothetical: values from potential scores and leaving times that are known exactly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from planned import NAMES, STREAMS, allocate, model, never_in_a_window, within_mcse
from pydantic import ValidationError

from sim.estimands.estimand import OnAverage
from sim.estimands.final_visit_difference import FinalVisitDifference
from sim.estimands.hypothetical import Hypothetical
from sim.estimands.while_on_treatment import WhileOnTreatment
from sim.missingness.departure import Departure
from sim.missingness.mechanism import exactly
from sim.trial import Absence, Arm, Contrast, Floats, Outcome

R = 2000
REPLICATE = np.arange(R, dtype=np.int32)
A = allocate("individual")
SCHEDULE = never_in_a_window(A)
EFFECT = np.array([0.5, -0.3])
GAIN = np.array([0.0, 0.8, 0.5])  # at each visit, of those who attend
ATTEND = 0.75
POLICY = FinalVisitDifference(kind="final_visit_difference")
REASONS = ("illness", "death", "moving_away")


class Model:
    """Potential scores of two outcomes that gain alike; a quarter does not attend and gains nothing."""

    def potential(
        self, names: Any, effect: Any, allocation: Any, schedule: Any, streams: Any, replicate: Any, *,
        everyone_attends: bool = False,
    ) -> Floats:  # fmt: skip
        del names, effect, schedule
        people = (replicate, allocation.cluster, allocation.member)
        without = streams.normal("participant", *people, 3)
        attends = everyone_attends | (streams.uniform("attendance", *people, 1) < ATTEND)
        score = np.stack([without, without + attends * GAIN])
        return np.stack([score, 2 * score], axis=1)


def value(estimand: Any, absence: Absence, replicate: Any = REPLICATE) -> Floats:
    attends = {"everyone_attends": estimand.everyone_attends}
    score = Model().potential(NAMES, EFFECT, A, SCHEDULE, STREAMS, replicate, **attends)
    found = estimand.realised_value(NAMES, A, score, absence)
    assert found.shape == (2, len(replicate)) and found.dtype == np.float64
    return np.asarray(found)


def leaving(left: np.ndarray, shift: Any = 0.0) -> Absence:
    return Absence(left.astype(np.int8), REASONS, np.broadcast_to(shift, (2, 1, 1, 3)))


def nobody() -> np.ndarray:
    return np.zeros((2, R, A.n_participant, 3), np.int8)


def while_on(*until: str) -> WhileOnTreatment:
    return WhileOnTreatment(kind="while_on_treatment", until=until)


def had_not(*events: Any) -> Hypothetical:
    return Hypothetical(kind="hypothetical", had_not=events)


def test_nobody_leaves_and_all_but_attendance_agree() -> None:
    found = [value(e, leaving(nobody())) for e in (POLICY, while_on("death"), had_not("leaving"))]
    for one in found:
        np.testing.assert_array_equal(one, found[0])
        within_mcse(one[0], ATTEND * GAIN[2])
        within_mcse(one[1], 2 * ATTEND * GAIN[2])
    full = value(had_not("non_attendance"), leaving(nobody()))
    np.testing.assert_allclose(full, np.tile([[GAIN[2]], [2 * GAIN[2]]], R))


@pytest.mark.parametrize(("first", "gain"), [(1, GAIN[0]), (2, GAIN[1])])
def test_everyone_leaves_and_the_last_visit_before_counts(first: int, gain: float) -> None:
    left = nobody()
    left[..., first:] = 2
    within_mcse(value(while_on("death"), leaving(left))[0], ATTEND * gain)
    within_mcse(value(while_on("moving_away"), leaving(left))[0], ATTEND * GAIN[2])  # died, but moved nowhere


def test_a_mixture_of_leaving_times_by_arm() -> None:
    """Treated leavers take their immediate gain with them; the untreated have none to take."""
    u = np.random.default_rng(4).random((2, R, A.n_participant, 1))
    day = np.array([-1.0, 0.1, 0.3])  # a tenth leaves before the second visit, a fifth before the third
    left = np.where(u < day, np.array([0, 3, 3], np.int8), 0).astype(np.int8)
    expected = ATTEND * (0.1 * GAIN[0] + 0.2 * GAIN[1] + 0.7 * GAIN[2])
    within_mcse(value(while_on("death", "moving_away"), leaving(left))[0], expected)


def test_a_departure_against_its_hazard() -> None:
    """Leaving drawn by the mechanism itself, visits at day 0, 10 and 400, a yearly risk of 30%."""
    part = Departure(kind="departure", risk_per_year={"death": exactly("30%")})  # type: ignore[arg-type]
    day = np.broadcast_to(np.array([0, 10, 400]), (A.n_participant, 3))
    schedule = replace(SCHEDULE, visit_day=day)
    outcome = Outcome(np.empty((0, 2, R, A.n_participant, 3)), np.zeros((R, A.n_participant, 3)), np.zeros((2, 3, 3)))
    absence = part.absence(NAMES, A, schedule, outcome, STREAMS, REPLICATE)
    np.testing.assert_array_equal(absence.left[0], absence.left[1])  # as often in either arm, and the same people
    gone = 1 - 0.7 ** (np.array([10, 400]) / 365.25)
    expected = ATTEND * ((gone[1] - gone[0]) * GAIN[1] + (1 - gone[1]) * GAIN[2])
    within_mcse(value(while_on("death"), absence)[0], expected)


def test_what_leaving_adds_to_scores_is_policy_and_not_hypothetical() -> None:
    shift = np.array([0.0, -0.4])[:, None, None, None] * np.array([0, 0, 1])
    absence = leaving(nobody(), shift)
    policy = value(POLICY, leaving(nobody()))
    np.testing.assert_allclose(value(POLICY, absence), policy - 0.4, atol=1e-12)
    np.testing.assert_allclose(value(had_not("leaving"), absence), policy, atol=1e-12)
    np.testing.assert_allclose(value(had_not("non_attendance"), absence)[0], GAIN[2] - 0.4)


@settings(max_examples=20, deadline=None)
@over(st.randoms(use_true_random=False), st.sampled_from([POLICY, while_on("death"), had_not("leaving")]))
def test_relabelled_reasons_and_participants_change_nothing(random: Any, estimand: Any) -> None:
    few, rng = REPLICATE[:4], np.random.default_rng(random.randrange(2**32))
    score = rng.standard_normal((2, 2, 4, A.n_participant, 3))
    left = np.maximum.accumulate(2 * (rng.random((2, 4, A.n_participant, 3)) < [0, 0.2, 0.3]), axis=-1)
    absence = replace(leaving(nobody()), left=left.astype(np.int8))
    measured = estimand.measured(score, absence)
    order = rng.permutation(A.n_participant)
    moved = replace(absence, left=absence.left[:, :, order], reasons=("death", "illness", "moving_away"))
    moved = replace(moved, left=np.where(moved.left == 2, 1, moved.left).astype(np.int8))
    np.testing.assert_array_equal(estimand.measured(score[:, :, :, order], moved), measured[..., order])
    swapped = replace(absence, left=absence.left[::-1], shift=absence.shift[::-1])
    np.testing.assert_array_equal(estimand.measured(score[::-1], swapped), measured[::-1])
    assert measured.shape == (2, 2, len(few), A.n_participant)


def test_a_batch_has_the_values_of_its_replicates() -> None:
    rng = np.random.default_rng(9)
    left = np.where(rng.random((2, R, A.n_participant, 1)) < [0.0, 0.1, 0.3], 2, 0)
    together = value(while_on("death"), leaving(left))
    one = np.array([7], dtype=np.int32)
    np.testing.assert_array_equal(value(while_on("death"), leaving(left[:, 7:8]), one)[:, 0], together[:, 7])


ARMS, CONTRAST = (Arm("control", None), Arm("mixed", "mixed")), Contrast(1, 0)


def test_closed_form_of_full_attendance_leaves_out_what_non_attendance_costs() -> None:
    plain = model(attendance="80%", contamination="0%")
    policy = POLICY.true_value(plain, NAMES, EFFECT, ARMS, CONTRAST, OnAverage())
    full = had_not("non_attendance").true_value(plain, NAMES, EFFECT, ARMS, CONTRAST, OnAverage())
    np.testing.assert_allclose(policy.true_value, 0.8 * EFFECT)
    np.testing.assert_allclose(full.true_value, EFFECT)
    np.testing.assert_array_equal(full.attendance, [0, 0])
    np.testing.assert_allclose(full.under_null().true_value, 0)
    for estimand in (had_not("leaving"), while_on("death")):
        same = estimand.true_value(plain, NAMES, EFFECT, ARMS, CONTRAST, OnAverage())
        np.testing.assert_array_equal(same.true_value, policy.true_value)


def test_strategies_are_named_in_the_attributes() -> None:
    five = {"treatment", "population", "variable", "intercurrent events", "summary"}
    for estimand, strategy in (
        (POLICY, "treatment policy"), (while_on("death", "moving_away"), "death, moving_away: while on treatment"),
        (had_not("leaving"), "leaving: hypothetical"),
    ):  # fmt: skip
        assert set(estimand.attributes) == five and all(estimand.attributes.values())
        assert strategy in estimand.attributes["intercurrent events"]
    assert "last visit before leaving" in while_on("death").attributes["variable"]
    assert "training not attended" in had_not("leaving").attributes["intercurrent events"].split("; ")[1]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: while_on("death", "death"), "named once"),
        (lambda: had_not("leaving", "leaving"), "named once"),
        (lambda: while_on(), "at least 1 item"),
        (lambda: had_not("dying"), "non_attendance"),
    ],
)
def test_message(build: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        build()


@pytest.mark.parametrize("estimand", [POLICY, had_not("leaving"), had_not("non_attendance")])
def test_who_leaves_is_left_out_only_where_it_changes_nothing(estimand: Any) -> None:
    """Under a mechanism that shifts no scores the value is the same, bit for bit, with and without those who leave."""
    left = nobody()
    left[..., 2:] = np.random.default_rng(3).integers(0, 3, (2, R, A.n_participant, 1))
    chance = Departure(kind="departure", risk_per_year={"death": exactly("30%")})  # type: ignore[arg-type]
    assert not estimand.heeds_leaving(chance) and while_on("death").heeds_leaving(chance)
    attends = {"everyone_attends": estimand.everyone_attends}
    score = Model().potential(NAMES, EFFECT, A, SCHEDULE, STREAMS, REPLICATE, **attends)
    np.testing.assert_array_equal(estimand.realised_value(NAMES, A, score, None), value(estimand, leaving(left)))
