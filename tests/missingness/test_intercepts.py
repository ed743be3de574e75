"""The solver of intercepts: what it finds is what was asked for, however scores are spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit

from sim.missingness.intercepts import normal_grid, solve_intercept

NODE, WEIGHT = normal_grid(((1.0, 0.5), (0.5, 2.0)))


@given(st.floats(-6, 6), st.floats(-6, 6), st.floats(1e-9, 1 - 1e-9), st.floats(0.05, 1))
@settings(deadline=None, max_examples=300)
def test_average_loss_is_what_was_asked_for(slope: float, other: float, share: float, left: float) -> None:
    """Two histories, the second with the mass 1 - left; also where slopes of 6 per SD bend the curve."""
    linear, mass = [slope * NODE[:, 0], other * NODE[:, 1]], [left * WEIGHT, (1 - left) * WEIGHT]
    a = solve_intercept(linear, mass, share)
    found = sum(float((m * expit(a + x)).sum()) for x, m in zip(linear, mass, strict=True))
    assert found == pytest.approx(share, rel=1e-10)


@pytest.mark.parametrize("target", [0.001, 0.05, 0.6])
def test_against_bisection(target: float) -> None:
    x = 0.8 * NODE[:, 1]
    expected = brentq(lambda a: float((WEIGHT * expit(a + x)).sum()) - target, -60, 60, xtol=1e-13)
    assert solve_intercept([x], [WEIGHT], target) == pytest.approx(expected, abs=1e-11)


def test_nobody_is_lost_where_nothing_is_asked_for() -> None:
    assert solve_intercept([NODE[:, 0]], [WEIGHT], 0.0) == -np.inf


def test_more_than_there_is_message() -> None:
    with pytest.raises(ValueError, match=r"a loss of 0\.6 is asked for where 0\.5 are left"):
        solve_intercept([NODE[:, 0]], [0.5 * WEIGHT], 0.6)
