"""Covariances over the parameter space against the declared numbers, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from everything import BY_DAY, exactly, with_parts
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from planned import NAMES
from pydantic import ValidationError

from sim.generate.components import components, participant_covariance

ICC = st.floats(0, 0.6)
FINAL_R = (0.4, 0.6)  # of the example's outcomes


@st.composite
def models(draw: Any) -> Any:
    """Models with any ICC from none to extreme, any correlations, reliabilities and skewness that go together."""
    planned = draw(st.floats(0.75, 0.99))
    outcome = {"reliability": draw(st.floats(0.3, 0.99)), "reliability_planned": planned}
    skewness = draw(st.sampled_from([0.0, -1.5, 0.8]))
    try:
        return with_parts(
            outcomes={
                name: {"icc_village": exactly(draw(ICC)), **(exactly(outcome) if name == "cohesion" else {})}
                for name in NAMES.outcome
            },
            errors={"kind": "skewed", **exactly({"skewness": skewness})} if skewness else None,
            correlation_baseline_post=draw(st.floats(0.1, 0.74)), correlation_post_final=draw(st.floats(0.1, 0.74)),
            correlation_outcomes=draw(st.floats(-0.3, 0.9)), correlation_changes=draw(st.floats(-0.3, 0.9)),
            icc_district=draw(ICC), icc_training_group=draw(ICC), icc_facilitator=draw(st.floats(0, 0.39)),
            cac=draw(st.floats(0, 0.99)),
        )  # fmt: skip
    except ValidationError:
        assume(False)


@given(models(), st.booleans())
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_covariance_is_the_declared_one(m: Any, with_village: bool) -> None:
    c = m.covariance(with_village, False)
    error = np.array([o.measurement_error for o in m.outcomes.values()])
    for k, final in enumerate(FINAL_R):
        post, later = m.correlation_baseline_post.value, m.correlation_post_final.value
        expected = np.array([[1, post, final], [post, 1, later], [final, later, 1]]) + error[k] * np.eye(3)
        np.testing.assert_allclose(c[k, :, k], expected, atol=1e-9)
    assert np.linalg.eigvalsh(c.reshape(6, 6))[0] > -1e-9
    between = m.correlation_outcomes.value
    icc = np.sqrt(np.prod([o.icc_village.value for o in m.outcomes.values()])) * with_village
    own = [participant_covariance(m.declared(with_village), k)[0, 0] for k in range(2)]
    assert c[0, 0, 1, 0] == pytest.approx(between * (m.icc_district.value + icc + np.sqrt(np.prod(own))), abs=1e-9)
    change = c[:, 2, :, 2] + c[:, 0, :, 0] - c[:, 2, :, 0] - c[:, 0, :, 2] - 2 * np.diag(error)
    assert change[0, 1] / np.sqrt(change[0, 0] * change[1, 1]) == pytest.approx(m.correlation_changes.value, abs=1e-6)


@given(models(), st.booleans())
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_trained_add_groups_and_facilitators_in_their_declared_shares(m: Any, with_village: bool) -> None:
    part = components(m.declared(with_village))
    own = [participant_covariance(m.declared(with_village), k)[2, 2] for k in range(2)]
    total = own + part.sd_training_group**2 + part.sd_facilitator**2
    np.testing.assert_allclose(part.sd_training_group**2 / total, m.icc_training_group.value, atol=1e-12)
    np.testing.assert_allclose(part.sd_facilitator**2 / total, m.icc_facilitator.value, atol=1e-12)
    extra = m.covariance(with_village, True) - m.covariance(with_village, False)
    np.testing.assert_allclose(np.einsum("kk->k", extra[:, 2, :, 2]), total - own, atol=1e-9)
    np.testing.assert_allclose(extra[:, 1, :, 2], extra[:, 2, :, 2], atol=1e-12)
    np.testing.assert_allclose(extra[:, 0], 0, atol=1e-12)


@given(models(), st.booleans())
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_deviation_has_variance_1_in_the_untreated_and_is_the_mean_of_the_normal_scores(m: Any, village: bool) -> None:
    part = components(m.declared(village))
    np.testing.assert_allclose(np.diag(part.deviation_covariance[0]), 1, atol=1e-12)
    if m.errors.kind == "normal":
        mean = m.covariance(village, True).mean(axis=(0, 2))
        sd = np.sqrt(np.diag(m.covariance(village, False).mean(axis=(0, 2))))
        np.testing.assert_allclose(part.deviation_covariance[1], mean / np.outer(sd, sd), atol=1e-9)


def test_root_of_the_own_part_is_that_of_the_innovations_where_nothing_is_added() -> None:
    """The plain and the general way to draw what participants have to themselves are one linear map."""
    m = with_parts()
    for village in (False, True):
        part = components(m.declared(village))
        root = part.own_sd.reshape(6, 1) * part.own_root
        blocks = np.einsum("kts,skj->tksj", part.factor, part.mixing).reshape(6, 6)
        np.testing.assert_allclose(root, blocks, atol=1e-12)


def test_measurement_error_is_planned_over_new_reliability_less_1() -> None:
    """Equal reliabilities add nothing; a true score's correlation over visits is attenuated by the new reliability."""
    reliability = {"reliability": 0.6, "reliability_planned": 0.8}
    worse = with_parts(outcomes={"cohesion": exactly(reliability)})
    assert worse.outcomes["cohesion"].measurement_error == pytest.approx(1 / 3)
    c = worse.covariance(False, False)[0, :, 0]
    assert c[0, 2] / c[0, 0] == pytest.approx(0.4 / 0.8 * 0.6)  # Spearman's attenuation
    same = with_parts(outcomes={"cohesion": exactly({"reliability": 0.8, "reliability_planned": 0.8})})
    assert same.declared(True) == with_parts().declared(True)
    better = with_parts(outcomes={"cohesion": exactly({"reliability": 0.9, "reliability_planned": 0.8})})
    assert better.covariance(False, False)[0, 0, 0, 0] == pytest.approx(0.8 / 0.9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contamination_between_villages": "6%"}, "at most `contamination`"),
        ({"icc_facilitator": 0.95}, "below 1"),
        ({"window_buffering": "20%", "window_shift": {}}, "no window_shift to buffer"),
        ({"null": "weak", "sd_effect_district": "0 SD"}, "the effect varies nowhere"),
        ({"null": "none"}, "'sharp' or 'weak'"),
        ({"outcomes": {"cohesion": exactly({"reliability": 0.8})}}, "given together"),
        ({"outcomes": {"cohesion": exactly({"reliability": 0.8, "reliability_planned": 0.55})}},
         "0.55 is below correlation_baseline_post 0.6"),
        ({"outcomes": {"cohesion": exactly({"reliability": 0.99, "reliability_planned": 0.61})},
          "correlation_outcomes": 0.95, "correlation_changes": 0.95}, "reliability closer to the planned one"),
    ],
)  # fmt: skip
def test_message(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        with_parts(**changes)


def test_all_mistakes_of_a_part_are_told_at_once() -> None:
    with pytest.raises(ValidationError) as error:
        with_parts(**{**BY_DAY, "attendance_correlation": None}, icc_facilitator=0.95)
    assert "attendance by day" in str(error.value) and "icc_training_group" in str(error.value)
