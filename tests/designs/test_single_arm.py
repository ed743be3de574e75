from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import NAMES, allocate, design
from pydantic import ValidationError

from sim.trial import Contrast

THREE = {
    "survivors_only": {"format": "separate", "participants": 11, "stratum": "survivors"},
    "perpetrators_only": {"format": "separate", "participants": 7, "stratum": "released_perpetrators"},
    "mixed": {"format": "mixed", "participants": 25},
}


def test_every_arm_is_one_training_group_in_one_district() -> None:
    a = allocate("single_arm", arms=THREE)
    np.testing.assert_array_equal(np.bincount(a.arm), [11, 7, 25])
    np.testing.assert_array_equal(a.training_group, a.arm)
    np.testing.assert_array_equal(a.clock, a.arm)
    assert a.contrast == Contrast(0, None) and not a.has_villages and a.is_trained.all()


def test_an_arm_of_one_stratum_holds_it_and_the_others_hold_all_in_their_shares() -> None:
    a = allocate("single_arm", arms=THREE)
    np.testing.assert_array_equal(np.bincount(a.stratum[a.arm == 0], minlength=2), [11, 0])
    np.testing.assert_array_equal(np.bincount(a.stratum[a.arm == 1], minlength=2), [0, 7])
    np.testing.assert_array_equal(np.bincount(a.stratum[a.arm == 2]), 25 * np.array(NAMES.share))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {**THREE, "wait": {"format": "none", "participants": 9}}}, "untreated"),
        ({"arms": {"mixed": {"format": "mixed", "participants": 2}}}, "at least 3"),
        ({"districts": 2}, "Input should be 1"),
        ({"contrast": "mixed - mixed"}, "Input should be 'change'"),
    ],
)
def test_message(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        design("single_arm", **changes)
