from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from everything import exactly, with_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import STREAMS, allocate, within_mcse
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from sim.generate.distribution import Errors, latent_correlation, lognormal_w, normal_quadrature, transformed

SKEWNESS = st.floats(0.05, 4).flatmap(lambda g: st.sampled_from([g, -g]))
ROOT = np.polynomial.hermite_e.hermegauss(80)


def errors(kind: str, **values: Any) -> Any:
    return TypeAdapter(Errors).validate_python({"kind": kind, **exactly(values)})


def skewed(u: np.ndarray, skewness: float) -> np.ndarray:
    """The shifted lognormal written out."""
    w = lognormal_w(skewness)
    s, sign = math.sqrt(math.log(w)), math.copysign(1, skewness)
    x: np.ndarray = sign * (np.exp(s * sign * u) - math.sqrt(w)) / math.sqrt(w * (w - 1))
    return x


@given(SKEWNESS)
@settings(max_examples=50, deadline=None, derandomize=True)
def test_skewed_scores_have_mean_0_variance_1_and_the_declared_skewness(skewness: float) -> None:
    w = lognormal_w(skewness)
    assert (w + 2) * math.sqrt(w - 1) == pytest.approx(abs(skewness), rel=1e-9)
    found = np.array(stats.lognorm(math.sqrt(math.log(w))).stats("s"))
    assert found == pytest.approx(abs(skewness), rel=1e-7)
    z = np.linspace(-16, 16, 20001)
    weight = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
    x = skewed(z, skewness)
    assert [weight @ x, weight @ x**2, weight @ x**3] == pytest.approx([0, 1, skewness], abs=1e-8)


@pytest.mark.parametrize("skewness", [-1.1, 0.5, 3.0])
def test_transformed_against_the_formula(skewness: float) -> None:
    u = np.array([-3.0, -0.2, 0.0, 1.7])
    shape = errors("skewed", skewness=skewness).distribution()
    np.testing.assert_allclose([transformed(x, shape, 1.0) for x in u], skewed(u, skewness), rtol=1e-12)
    assert (np.diff([transformed(x, shape, 1.0) for x in u]) > 0).all()
    assert transformed(1.3, errors("heavy_tailed", df=6).distribution(), 2.0) == 2.6


@given(SKEWNESS.filter(lambda g: abs(g) < 1.5), st.floats(-0.4, 0.99))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_skewed_scores_correlate_as_declared(skewness: float, correlation: float) -> None:
    """Gauss-Hermite over two normal scores with the latent correlation."""
    r = float(latent_correlation(np.array(correlation), skewness))
    x, w = ROOT
    w = w / w.sum()
    second = r * x[:, None] + math.sqrt(1 - r**2) * x
    product = (skewed(x, skewness)[:, None] * skewed(second, skewness) * np.outer(w, w)).sum()
    assert product == pytest.approx(correlation, abs=1e-6)


def test_heavy_tails_are_students_t_with_one_scale_a_participant() -> None:
    a = allocate("individual", districts=1, participants_per_district=40)
    replicate = np.arange(2000, dtype=np.int32)
    u = STREAMS.normal("any", replicate, a.cluster, a.member, 1)[..., 0]
    for df in (5, 8, 13):
        scale = errors("heavy_tailed", df=df).scale(STREAMS, replicate, a)
        assert scale.shape == u.shape
        chi_square = (df - 2) / scale**2
        assert stats.kstest(chi_square.ravel(), stats.chi2(df).cdf).pvalue > 0.001
        assert stats.kstest((u * scale).ravel() * math.sqrt(df / (df - 2)), stats.t(df).cdf).pvalue > 0.001
        within_mcse(((u * scale) ** 2).mean(axis=1), 1.0)
    few = errors("heavy_tailed", df=5).scale(STREAMS, replicate[7:9], a)
    np.testing.assert_array_equal(few, errors("heavy_tailed", df=5).scale(STREAMS, replicate, a)[7:9])


def test_share_below_against_scipy() -> None:
    x = np.array([-2.5, -0.7, 0.0, 1.9])
    np.testing.assert_allclose(errors("normal").share_below(x, 0.8, 0.6), stats.norm.cdf(x), rtol=1e-12)
    t = errors("heavy_tailed", df=6).share_below(x, 0.9, 0.0)
    np.testing.assert_allclose(t, stats.t(6).cdf(x / 0.9 * math.sqrt(6 / 4)), atol=1e-7)
    for skewness in (1.2, -1.2):
        alone = errors("skewed", skewness=skewness).share_below(x, 0.9, 0.0)
        w = lognormal_w(skewness)
        shifted = stats.lognorm(math.sqrt(math.log(w)), loc=-math.sqrt(w), scale=1)
        y = x / 0.9 * math.sqrt(w * (w - 1))
        expected = shifted.cdf(y) if skewness > 0 else 1 - shifted.cdf(-y)
        np.testing.assert_allclose(alone, expected, atol=1e-12)
        nearly = errors("skewed", skewness=skewness).share_below(x, 0.9, 0.02)
        np.testing.assert_allclose(nearly, alone, atol=2e-3)


@pytest.mark.parametrize(("kind", "values"), [("skewed", {"skewness": -1.2}), ("heavy_tailed", {"df": 5})])
def test_share_below_against_draws(kind: str, values: dict[str, Any]) -> None:
    model, rng = errors(kind, **values), np.random.default_rng(1)
    n, own, other = 400_000, 0.9, 0.4
    u = rng.standard_normal(n)
    part = skewed(u, values["skewness"]) if kind == "skewed" else u * np.sqrt(3 / rng.chisquare(5, n))
    y = own * part + other * rng.standard_normal(n)
    for limit in (-1.5, 0.2, 1.1):
        within_mcse((y < limit).astype(float), float(model.share_below(np.array(limit), own, other)))


def test_quadrature_of_a_normal() -> None:
    z, weight = normal_quadrature()
    assert [weight @ z**p for p in range(5)] == pytest.approx([1, 0, 1, 0, 3], abs=1e-9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kind": "skewed", **exactly({"skewness": 0.001})}, "kind: normal"),
        ({"kind": "skewed", **exactly({"skewness": 5})}, "less than or equal to 4"),
        ({"kind": "heavy_tailed", **exactly({"df": 4})}, "greater than or equal to 5"),
        ({"kind": "heavy_tailed", **exactly({"df": 5.5})}, "whole number"),
        ({"kind": "cauchy"}, "does not match any of the expected tags"),
    ],
)
def test_message(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Errors).validate_python(content)


def test_correlations_that_no_skewed_scores_have_are_refused() -> None:
    with pytest.raises(ValidationError, match="bring the skewness closer to 0"):
        with_parts(
            errors={"kind": "skewed", **exactly({"skewness": 4})},
            correlation_baseline_post=-0.5, correlation_post_final=0.1, correlation_outcomes=0.0,
            correlation_changes=0.0,
        )  # fmt: skip
