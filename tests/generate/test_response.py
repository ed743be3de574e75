from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from everything import BY_DAY, SUM, dated, everything, exactly, with_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import NAMES, STREAMS, THREE_ARMS, allocate, never_in_a_window, within_mcse
from pydantic import ValidationError
from scipy import stats

from sim.generate.response import on_scale

REPLICATE = np.arange(1500, dtype=np.int32)
EFFECT = np.array([0.5, 0.3])
SKEWED = {"kind": "skewed", **exactly({"skewness": -1.2})}
HEAVY = {"kind": "heavy_tailed", **exactly({"df": 6})}


def bounded(**changes: Any) -> Any:
    return with_parts(outcomes={"cohesion": {"response": SUM}}, **changes)


@given(st.floats(-20, 20), st.floats(-50, 50), st.floats(0.5, 30))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_on_scale_against_slow_version(score: float, mean: float, sd: float) -> None:
    points = (on_scale(score, np.array([mean, sd, -30.0, 40.0])) * sd) + mean
    assert points == pytest.approx(round(points), abs=1e-9) and -30 - 1e-9 <= points <= 40 + 1e-9
    assert abs(points - min(max(mean + sd * score, -30), 40)) <= 0.5 + 1e-9
    assert on_scale(score, np.array([0.0, 0.0, -np.inf, np.inf])) == score


def test_scores_are_the_latent_ones_rounded_and_cut() -> None:
    a = allocate("individual", districts=2)
    drawn = [
        m.generate(NAMES, EFFECT, a, never_in_a_window(a), STREAMS, REPLICATE[:20]) for m in (with_parts(), bounded())
    ]
    latent, score = (outcome.score for outcome in drawn)
    points = np.clip(np.floor(28.7 + 5.5 * latent[0] + 0.5), 5, 35)
    np.testing.assert_allclose(score[0], (points - 28.7) / 5.5, atol=1e-12)
    np.testing.assert_array_equal(score[1], latent[1])
    np.testing.assert_array_equal(drawn[0].deviation, drawn[1].deviation)


@pytest.mark.parametrize("errors", [None, SKEWED, HEAVY], ids=["normal", "skewed", "heavy_tailed"])
@pytest.mark.parametrize("kind", ["individual", "village"])
def test_shares_at_floor_and_ceiling_against_draws(errors: Any, kind: str) -> None:
    a = allocate(kind, arms=THREE_ARMS, districts=2)
    high, low = ({**SUM, "mean": mean, "sd": "9 points"} for mean in ("22 points", "17 points"))
    reliability = {"reliability": exactly(0.7), "reliability_planned": exactly(0.8)}
    m = with_parts(
        outcomes={"cohesion": {"response": high, **reliability}, "resilience": {"response": low}},
        errors=errors, **BY_DAY, contamination_between_villages="3%", icc_facilitator=0.05, sd_effect_district="0.3 SD",
        effect_modification={"survivors": "0.2 SD", "released_perpetrators": "-0.1 SD"},
        baseline_difference={"survivors": "0.3 SD", "released_perpetrators": "-0.2 SD"},
    )  # fmt: skip
    score = m.generate(NAMES, EFFECT, a, dated(a, n_team=2), STREAMS, REPLICATE).score[:, 0]
    found = m.at_the_bounds(NAMES, EFFECT, a.arms, a.has_villages)
    assert list(found) == ["cohesion", "resilience"]
    for k, response in enumerate((high, low)):
        mean, sd = (float(response[key].split()[0]) for key in ("mean", "sd"))
        points = score[k] * sd + mean
        assert [(row.visit, row.arm) for row in found[NAMES.outcome[k]]] == [
            (visit, arm.name) for visit in ("baseline", "six_months") for arm in a.arms
        ]
        for row in found[NAMES.outcome[k]]:
            arm = [one.name for one in a.arms].index(row.arm)
            y = points[:, :, NAMES.visit.index(row.visit)]
            for share, limit in ((row.floor, 5), (row.ceiling, 35)):
                by_stratum = [np.isclose(y[:, (a.arm == arm) & (a.stratum == s)], limit).mean(axis=1) for s in range(2)]
                within_mcse(np.tensordot(NAMES.share, by_stratum, axes=1), share)


def test_ceiling_of_normal_scores_in_closed_form() -> None:
    """Both strata at 0: P(score >= (34.5 - 28.7) / 5.5) of a standard normal."""
    row = bounded().at_the_bounds(NAMES, EFFECT, allocate("individual").arms)["cohesion"][0]
    assert row.ceiling == pytest.approx(stats.norm.sf(5.8 / 5.5), rel=1e-12)
    assert row.floor == pytest.approx(stats.norm.cdf((5.5 - 28.7) / 5.5), rel=1e-12)


def test_points_of_every_outcome_that_declares_them() -> None:
    continuous = {"kind": "continuous", "mean": "60 points", "sd": "12 points"}
    m = with_parts(outcomes={"cohesion": {"response": SUM}, "resilience": {"response": continuous}})
    assert m.points() == {"cohesion": (28.7, 5.5), "resilience": (60.0, 12.0)}
    assert with_parts().points() == {} and with_parts().at_the_bounds(NAMES, EFFECT, allocate("individual").arms) == {}
    a = allocate("individual", districts=1)
    one, other = (
        x.generate(NAMES, EFFECT, a, never_in_a_window(a), STREAMS, REPLICATE[:3]).score
        for x in (with_parts(), with_parts(outcomes={"resilience": {"response": continuous}}))
    )
    np.testing.assert_array_equal(one, other)


def test_everything_at_once_stays_on_the_scale() -> None:
    a = allocate("village", districts=2)
    score = everything(SKEWED).generate(NAMES, EFFECT, a, dated(a, n_team=3), STREAMS, REPLICATE[:50]).score[0]
    points = score * 5.5 + 28.7
    assert points.min() >= 5 - 1e-9 and points.max() <= 35 + 1e-9 and math.isclose(points.max(), 35)
    np.testing.assert_allclose(points, np.round(points), atol=1e-9)


@pytest.mark.parametrize(
    ("response", "message"),
    [
        ({**SUM, "mean": "40 points"}, "between 5 and 35 points"),
        ({**SUM, "highest": 1}, "must be below highest"),
        ({**SUM, "mean": 20.8}, "write it with its unit"),
        ({**SUM, "sd": "0 points"}, "greater than 0"),
        ({**SUM, "items": 2.5}, "whole number"),
        ({"kind": "continuous", "mean": "20 points"}, "or neither"),
        ({"kind": "ordinal"}, "does not match any of the expected tags"),
    ],
)
def test_message(response: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        with_parts(outcomes={"cohesion": {"response": response}})
