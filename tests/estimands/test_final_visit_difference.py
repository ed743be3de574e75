from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from planned import NAMES, model

from sim.estimands.estimand import OnAverage, TrueValue
from sim.estimands.final_visit_difference import FinalVisitDifference
from sim.trial import Arm, Contrast

ESTIMAND = FinalVisitDifference(kind="final_visit_difference")
EFFECT = np.array([0.5, -0.3])
ARMS = (Arm("control", None), Arm("mixed", "mixed"), Arm("separate", "separate"))
MODEL = model(
    attendance="80%", contamination="25%", demand_inflation="0.07 SD", untreated_change="0.15 SD",
    effect_modification={"survivors": "0.2 SD", "released_perpetrators": "-0.05 SD"},
    format_effect={"mixed": "0.03 SD", "separate": "-0.2 SD"},
)  # fmt: skip
MODIFICATION = 0.6 * 0.2 + 0.4 * -0.05  # strata in their shares


def value_of(contrast: Contrast, arms: tuple[Arm, ...] = ARMS, m: Any = MODEL) -> TrueValue:
    return ESTIMAND.true_value(m, NAMES, EFFECT, arms, contrast, OnAverage(window=0.01))


def test_trained_against_untreated_by_hand() -> None:
    mixed, separate = EFFECT + 0.03 + MODIFICATION, EFFECT - 0.2 + MODIFICATION
    leaked = 0.25 * 0.8 * (mixed + separate) / 2
    v = value_of(Contrast(1, 0))
    np.testing.assert_allclose(v.true_value, 0.8 * mixed - leaked)
    np.testing.assert_allclose(v.planned, EFFECT)
    np.testing.assert_allclose(v.format, 0.03)
    np.testing.assert_allclose(v.modification, MODIFICATION)
    np.testing.assert_allclose(v.attendance, -0.2 * mixed)
    np.testing.assert_allclose(v.contamination, -leaked)
    np.testing.assert_allclose(v.demand_inflation, 0.07)
    np.testing.assert_allclose(v.window, 0.01)
    np.testing.assert_allclose(v.untreated_change, 0)


def test_two_trained_arms_differ_by_format_among_attenders_only() -> None:
    v = value_of(Contrast(1, 2))
    np.testing.assert_allclose(v.true_value, 0.8 * 0.23)
    np.testing.assert_allclose(v.demand_inflation, 0, atol=1e-15)
    np.testing.assert_allclose(v.contamination, 0)


@pytest.mark.parametrize(
    "contrast", [Contrast(1, 0), Contrast(2, 0), Contrast(1, 2), Contrast(0, 2), Contrast(0, None)]
)
def test_components_sum_to_the_true_value(contrast: Contrast) -> None:
    v = value_of(contrast, ARMS[1:] if contrast.control is None else ARMS)
    parts = v.planned + v.format + v.modification + v.attendance + v.contamination
    np.testing.assert_allclose(v.true_value, parts)


@pytest.mark.parametrize(("treated", "control"), [(1, 0), (2, 0), (1, 2)])
def test_swapped_contrast_changes_every_sign(treated: int, control: int) -> None:
    ours, theirs = value_of(Contrast(treated, control)), value_of(Contrast(control, treated))
    for f in fields(ours):
        if f.name != "window":
            np.testing.assert_allclose(getattr(ours, f.name), -getattr(theirs, f.name), atol=1e-15)


def test_contrasts_add_up() -> None:
    total = value_of(Contrast(1, 2)).true_value + value_of(Contrast(2, 0)).true_value
    np.testing.assert_allclose(total, value_of(Contrast(1, 0)).true_value)


def test_everyone_attends_and_nothing_leaks_leaves_the_planned_effect() -> None:
    plain = model(attendance="100%", contamination="0%")
    v = value_of(Contrast(1, 0), m=plain)
    np.testing.assert_allclose(v.true_value, EFFECT)


def test_without_control_arm_it_is_the_difference_to_the_same_people_untreated() -> None:
    v = value_of(Contrast(0, None), ARMS[1:])
    np.testing.assert_allclose(v.true_value, 0.8 * (EFFECT + MODIFICATION + (0.03 - 0.2) / 2))
    np.testing.assert_allclose(v.untreated_change, 0.15)
    np.testing.assert_allclose(v.demand_inflation, 0.07)


def test_under_the_null_nothing_is_left_but_time_and_windows() -> None:
    null = value_of(Contrast(0, None), ARMS[1:]).under_null()
    for name in ("planned", "format", "modification", "attendance", "contamination", "true_value", "demand_inflation"):
        np.testing.assert_array_equal(getattr(null, name), [0, 0])
    np.testing.assert_allclose(null.untreated_change, 0.15)
    np.testing.assert_allclose(null.window, 0.01)
