"""Noncentral t and F: against integrals written another way, and never NaN."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from sim.kernels import noncentral
from sim.kernels.noncentral import f_cdf, f_ncp, t_cdf, t_ncp, t_power, t_sf

NAN_IN_SCIPY = [(-1.98446745, 98, 10.0), (6.0158, 143, -5.984), (-1.97189622, 200, 10.0), (-2.04227246, 30, 38.0)]

x_value = st.floats(-40, 40)
df_value = st.floats(1, 2000)
ncp_value = st.floats(-40, 40)
probability = st.floats(0.01, 0.99)


def t_cdf_by_quad(x, df, ncp):
    """E[Phi(x S - ncp)] over S = chi(df) / sqrt(df), by adaptive quadrature."""
    s = stats.chi(df, scale=df**-0.5)
    low, high = s.ppf(1e-15), s.isf(1e-15)
    step = [ncp / x] if x != 0 and low < ncp / x < high else None
    return integrate.quad(
        lambda v: s.pdf(v) * special.ndtr(x * v - ncp), low, high, points=step, limit=400, epsabs=1e-13
    )[0]


def f_cdf_by_quad(x, df1, df2, ncp):
    """P(noncentral chi2 <= x df1 W / df2) averaged over W = chi2(df2)."""
    w = stats.chi2(df2)
    return integrate.quad(
        lambda v: w.pdf(v) * stats.ncx2.cdf(x * df1 * v / df2, df1, ncp), w.ppf(1e-14), w.isf(1e-14), limit=400
    )[0]


@pytest.mark.parametrize(
    "x, df, ncp", [*NAN_IN_SCIPY, (0, 5, 1), (2, 3, 1.5), (-2, 3, 1), (6.0158, 143, 5.984), (11, 143, 9)]
)
def test_t_cdf_against_quadrature(x, df, ncp):
    expected = t_cdf_by_quad(x, df, ncp)
    assert t_cdf(x, df, ncp) == pytest.approx(expected, abs=1e-10)
    assert t_sf(x, df, ncp) == pytest.approx(1 - expected, abs=1e-10)


@pytest.mark.parametrize(
    "x, df1, df2, ncp", [(8.1, 1, 143, 5), (36.19, 2, 286, 60), (4, 2, 20, 3), (0.5, 5, 60, 0.2), (1, 3, 9, 0)]
)
def test_f_cdf_against_quadrature(x, df1, df2, ncp):
    assert f_cdf(x, df1, df2, ncp) == pytest.approx(f_cdf_by_quad(x, df1, df2, ncp), abs=1e-8)


def test_fallbacks_against_scipy():
    """Where scipy has an answer, integration and mixture give the same one."""
    x, df, ncp = (
        a.ravel()
        for a in np.meshgrid([-30, -2, 0, 0.1, 6.0158, 40.0], [1, 1.13, 3, 98, 143, 2000], [-38, -5.98, 0, 2, 38.0])
    )
    known = special.nctdtr(df, ncp, x)
    ours = noncentral._t_cdf_by_integration(x, df, ncp)
    assert np.abs(ours - known)[np.isfinite(known)].max() < 1e-11
    x, df1, df2, ncp = (
        a.ravel() for a in np.meshgrid([0.01, 1, 8.1, 131.6], [1, 2, 5.0], [2, 20, 286.0], [0.1, 5, 130, 500.0])
    )
    known = special.ncfdtr(df1, df2, ncp, x)
    ours = noncentral._f_cdf_by_mixture(x, df1, df2, ncp)
    assert np.abs(ours - known)[np.isfinite(known)].max() < 1e-11


def test_never_nan_on_a_wide_grid():
    x, df, ncp = np.meshgrid(
        [-1e4, -200, -30, -6, -1.98446745, -0.1, 0, 0.1, 2, 6.0158, 11.47, 40, 1e4],
        [1, 2, 5, 30, 98, 143, 200, 2000, 1e5],
        [-300, -38, -10, -5.984, 0, 0.5, 10, 20, 38, 60, 300.0],
    )
    for p in (t_cdf(x, df, ncp), t_sf(x, df, ncp), t_cdf(*np.array(NAN_IN_SCIPY).T)):
        assert ((p >= 0) & (p <= 1)).all()
    assert t_cdf(x, df, ncp) + t_sf(x, df, ncp) == pytest.approx(1.0, abs=1e-9)
    grid = np.meshgrid([-1, 0, 1e-3, 1, 4, 36.19, 400], [1, 2, 5], [2, 20, 143, 2000], [0, 0.1, 30, 500, 2000, 1e5])
    p = f_cdf(*grid)
    assert ((p >= 0) & (p <= 1)).all()
    power = t_power([1, 30, 98, 143, 200], 38.0)
    assert (np.isfinite(power) & (power > 0.05)).all()


@given(x_value, df_value, ncp_value, st.floats(0.01, 5))
@settings(max_examples=60, deadline=None)
def test_t_cdf_rises_with_x_and_falls_with_ncp(x, df, ncp, step):
    here = t_cdf(x, df, ncp)
    assert 0 <= here <= 1
    assert t_cdf(x + step, df, ncp) >= here - 1e-10
    assert t_cdf(x, df, ncp + step) <= here + 1e-10


@given(st.floats(0, 300), st.sampled_from([1, 2, 4]), st.floats(2, 1000), st.floats(0, 300), st.floats(0.01, 5))
@settings(max_examples=60, deadline=None)
def test_f_cdf_rises_with_x_and_falls_with_ncp(x, df1, df2, ncp, step):
    here = f_cdf(x, df1, df2, ncp)
    assert 0 <= here <= 1
    assert f_cdf(x + step, df1, df2, ncp) >= here - 1e-10
    assert f_cdf(x, df1, df2, ncp + step) <= here + 1e-10


@given(st.floats(-20, 20), st.floats(3, 1000), probability)
@settings(max_examples=60, deadline=None)
def test_t_ncp_round_trip(x, df, p):
    assert t_cdf(x, df, t_ncp(x, df, p)) == pytest.approx(p, abs=1e-9)


@given(st.floats(0.01, 200), st.sampled_from([1, 2, 4]), st.floats(5, 1000), probability)
@settings(max_examples=60, deadline=None)
def test_f_ncp_round_trip(x, df1, df2, p):
    ncp = f_ncp(x, df1, df2, p)
    if f_cdf(x, df1, df2, 0.0) <= p:
        assert ncp == 0.0
    else:
        assert f_cdf(x, df1, df2, ncp) == pytest.approx(p, abs=1e-9)


@given(st.floats(0.1, 15), st.floats(3, 500), st.floats(-10, 10))
@settings(max_examples=40, deadline=None)
def test_t_squared_is_f(x, df, ncp):
    assert f_cdf(x * x, 1, df, ncp * ncp) == pytest.approx(t_cdf(x, df, ncp) - t_cdf(-x, df, ncp), abs=1e-9)


def test_smallest_ncp_is_central():
    """scipy's ncfdtr answers 0 here, a probability but the wrong one."""
    assert f_cdf(1.0, 1, 2, 5e-324) == pytest.approx(float(f_cdf(1.0, 1, 2, 0.0)))


def test_power_of_two_arms_of_64_against_theory():
    """Cohen's example: d = 0.5, 64 per arm, alpha .05 two-sided gives .80."""
    assert t_power(126, 0.5 * 32**0.5, 0.05) == pytest.approx(0.8015, abs=5e-5)
    assert t_power(126, 0.0, 0.05) == pytest.approx(0.05, abs=1e-12)
    assert t_power(126, -2.0, 0.05) == pytest.approx(float(t_power(126, 2.0, 0.05)), abs=1e-12)


def test_shapes_broadcast():
    assert t_cdf([0.0, 1.0], [[5], [10], [20]], 0.5).shape == (3, 2)
    assert f_cdf([1.0, 2.0], 2, 10, [0.0, 3.0]).shape == (2,)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, float("nan")])
def test_impossible_probability_message(p):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        t_ncp(1.0, 10, p)
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        f_ncp(1.0, 1, 10, p)
