"""What every mechanism must do, whatever it is: stated losses, nobody back from leaving, causes that agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from planned import NAMES, STREAMS, THREE_ARMS, allocate, exposed, model, within_mcse

from sim.parts import MISSINGNESS
from sim.trial import Allocation, Contrast, Outcome, Schedule

R = 2000
REPLICATE = np.arange(R, dtype=np.int32)
Drawn = tuple[Allocation, Schedule, Outcome]
MONOTONE = {
    kind: {**part.example, "monotone": not part.example.get("monotone", False)}
    for kind, part in MISSINGNESS.discover().items()
    if "monotone" in part.model_fields
}
EVERYTHING = {
    "kind": "combined",
    "mechanisms": {
        kind: part.example for kind, part in MISSINGNESS.discover().items() if kind not in ("combined", "threshold")
    },
}
EXAMPLES = [
    *(pytest.param(part.example, id=kind) for kind, part in MISSINGNESS.discover().items()),
    *(pytest.param(example, id=f"{kind}-turned") for kind, example in MONOTONE.items()),
    pytest.param(EVERYTHING, id="everything"),
]


def build(example: dict[str, Any]) -> Any:
    return MISSINGNESS.discover()[example["kind"]].model_validate(example)


def dated(a: Allocation) -> Schedule:
    """Visits at day 0, about 5 and about 180, some of them inside the window."""
    exposure = np.array([0.0, 1.0, 2.0])[(a.member[:, None] + np.array([0, 1, 3])) % 3]
    day = np.array([0, 5, 180]) + (a.member % 7)[:, None] * np.array([0, 1, 4])
    return replace(exposed(a, exposure), visit_day=20_000 + day)


@pytest.fixture(scope="module", params=["individual", "village"])
def drawn(request: pytest.FixtureRequest) -> Drawn:
    a = allocate(request.param, arms=THREE_ARMS)
    schedule = dated(a)
    outcome = model(icc_training_group=0.2).generate(NAMES, np.array([0.5, 0.5]), a, schedule, STREAMS, REPLICATE)
    return a, schedule, outcome


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_stated_loss_is_what_happens_in_every_arm_stratum_and_exposure(drawn: Drawn, example: Any) -> None:
    a, schedule, outcome = drawn
    part = build(example)
    lost = ~part.observe(NAMES, a, schedule, outcome, STREAMS, REPLICATE)
    if example["kind"] == "combined":
        expected = part.joint_loss(NAMES, a, schedule, outcome.deviation_covariance)
    else:
        expected = part.marginal_loss(NAMES, a, schedule)
    assert expected.shape == (a.n_participant, 2) and not lost[:, :, 0].any()
    for t in (1, 2):
        cells = np.column_stack([a.arm, a.stratum, schedule.exposure[0, :, t]])
        for cell in np.unique(cells, axis=0):
            who = (cells == cell).all(axis=1)
            within_mcse((lost[:, who, t] - expected[who, t - 1]).mean(axis=1), 0.0)


@pytest.mark.parametrize("example", EXAMPLES)
def test_cause_seen_and_left_agree(drawn: Drawn, example: Any) -> None:
    a, schedule, outcome = drawn
    part = build(example)
    seen = part.observe(NAMES, a, schedule, outcome, STREAMS, REPLICATE)
    cause = part.cause(NAMES, a, schedule, outcome, STREAMS, REPLICATE)
    left = part.left(NAMES, a, schedule, outcome, STREAMS, REPLICATE)
    assert cause.dtype == left.dtype == np.int8 and seen.shape == cause.shape == left.shape
    np.testing.assert_array_equal(seen, cause == 0)
    assert len(part.reasons) == len(part.ends_follow_up) == len(set(part.reasons))
    assert set(np.unique(cause)) == {0, *range(1, 1 + len(part.reasons))}
    for_good = [1 + i for i, ends in enumerate(part.ends_follow_up) if ends]
    assert set(np.unique(left)) == {0, *for_good}
    assert (cause[left > 0] > 0).all()
    np.testing.assert_array_equal(left[:, :, 1:][left[:, :, :-1] > 0], left[:, :, :-1][left[:, :, :-1] > 0])
    if not for_good or len(for_good) < len(part.reasons):
        assert (~seen[:, :, 1] & seen[:, :, 2]).any()
    else:
        assert not (~seen[:, :, 1] & seen[:, :, 2]).any()


@pytest.mark.parametrize("example", EXAMPLES)
def test_batch_equals_singles_and_scores_are_read_through_deviations_only(drawn: Drawn, example: Any) -> None:
    a, schedule, outcome = drawn
    part = build(example)
    together = part.cause(NAMES, a, schedule, outcome, STREAMS, REPLICATE)
    picked = np.array([4, 9], dtype=np.int32)
    some = Outcome(-outcome.score[:, ::-1, picked], outcome.deviation[picked], outcome.deviation_covariance)
    np.testing.assert_array_equal(part.cause(NAMES, a, schedule, some, STREAMS, picked), together[picked])


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_would_happen_in_ones_own_arm_is_what_happens(drawn: Drawn, example: Any) -> None:
    a, schedule, outcome = drawn
    part = build(example)
    left = part.left(NAMES, a, schedule, outcome, STREAMS, REPLICATE)
    absence = part.absence(NAMES, a, schedule, outcome, STREAMS, REPLICATE)
    assert absence.left.shape == (2, *left.shape) and absence.reasons == part.reasons
    assert np.broadcast_shapes(absence.shift.shape, absence.left.shape) == absence.left.shape
    assert bool(absence.shift.any()) == part.shifts_unseen
    for turn, arm in enumerate((a.contrast.control, a.contrast.treated)):
        np.testing.assert_array_equal(absence.left[turn][:, a.arm == arm], left[:, a.arm == arm])
        moved = part.shifted(NAMES, a, outcome, left).score[:, 0] - outcome.score[:, 0]
        shift = np.broadcast_to(absence.shift[turn], left.shape)
        np.testing.assert_allclose(moved[:, :, a.arm == arm], np.stack([shift[:, a.arm == arm]] * 2), atol=1e-12)


@pytest.mark.parametrize("example", EXAMPLES)
def test_swapped_contrast_swaps_what_would_happen(drawn: Drawn, example: Any) -> None:
    a, schedule, outcome = drawn
    part, few = build(example), REPLICATE[:20]
    some = Outcome(outcome.score[:, :, :20], outcome.deviation[:20], outcome.deviation_covariance)
    ours = part.absence(NAMES, a, schedule, some, STREAMS, few)
    assert a.contrast.control is not None
    swapped = replace(a, contrast=Contrast(a.contrast.control, a.contrast.treated))
    theirs = part.absence(NAMES, swapped, schedule, some, STREAMS, few)
    np.testing.assert_array_equal(theirs.left, ours.left[::-1])
    np.testing.assert_array_equal(theirs.shift, ours.shift[::-1])
