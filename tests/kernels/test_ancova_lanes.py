"""The likelihood of one score per participant in lanes, against dense matrices and R (lme4, lmerTest, pbkrtest)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numba import njit
from reference.dense_mixed import DenseMixed, linear

from sim.kernels.ancova_lanes import Ancova, Sums, contrast, differentiate, evaluate, places
from sim.lanes import LANES

FOLDER = Path(__file__).parents[1] / "reference" / "r"
TOLERANCE = 1e-9
N_UNIT = 9
CELL = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])
ARMS = np.eye(3)
ARMS_AND_DISTRICT = np.array([[1.0, 0, 0], [1, 1, 0], [0, 1, 1]])
TREATED = CELL > 0


@njit(error_model="numpy")
def run(theta, sums, ancova, at, w, c, value, score, average, observed, out, gradient, curvature):
    evaluate(theta, sums, ancova, at, w, value)
    differentiate(theta, sums, ancova, at, w, score, average, observed, True)
    contrast(c, theta, sums, ancova, at, w, out, gradient, curvature, True)
    again = score.copy()
    differentiate(theta, sums, ancova, at, w, again, average, observed, False)
    return again


def answers_of(theta, sums, ancova, c):
    """value, score, average, observed, out, gradient, curvature, each with LANES last; theta (m, LANES)."""
    m = ancova.n_variance
    at = places(len(ancova.row), ancova.n_column, m)
    shapes = (1,), (m,), (m, m), (m, m), (2,), (2, m), (m, m)
    answers = [np.full((*shape, LANES), np.nan) for shape in shapes]
    again = run(theta, sums, ancova, at, np.full((at.end, LANES), np.nan), c, *answers)
    assert np.array_equal(again, answers[1], equal_nan=True)  # the score alone has the same bits
    return answers


class Trials:
    """Random data of LANES replicates, and everything the kernel says about them; some units are empty."""

    def __init__(self, is_random, residual_class, row=ARMS, seed=1):
        rng = np.random.default_rng(seed)
        self.ancova = Ancova(row, CELL, residual_class, is_random, row.shape[1] + 1, residual_class.max() + 2)
        count = rng.integers(0, 9, (LANES, N_UNIT))
        count[:, 4] = 0
        count[:, :3] += 3  # no cell is empty
        self.unit = [np.repeat(np.arange(N_UNIT), n) for n in count]
        self.x = [rng.standard_normal(u.size) + 0.3 * rng.standard_normal(N_UNIT)[u] for u in self.unit]
        self.y = [
            rng.standard_normal(u.size) * (1 + 0.5 * residual_class[u]) + 0.6 * rng.standard_normal(N_UNIT)[u] + 0.5 * x
            for u, x in zip(self.unit, self.x, strict=True)
        ]

    def sums(self):
        ancova = self.ancova
        sums = Sums(*np.zeros((3, N_UNIT, LANES)), np.zeros((ancova.n_variance - 1, 3, LANES)))
        for lane, (unit, x, y) in enumerate(zip(self.unit, self.x, self.y, strict=True)):
            for into, what in zip(sums[:3], (np.ones(unit.size), x, y), strict=True):
                into[:, lane] = np.bincount(unit, what, N_UNIT)
            for k, what in enumerate((x * x, x * y, y * y)):
                sums.square[:, k, lane] = np.bincount(ancova.residual_class[unit], what, ancova.n_variance - 1)
        return sums

    def dense(self, lane):
        ancova, unit = self.ancova, self.unit[lane]
        X = np.column_stack([ancova.row[CELL[unit]], self.x[lane]])
        V = [np.diag((ancova.residual_class[unit] == c) * 1.0) for c in range(ancova.n_variance - 1)]
        V.append((unit[:, None] == unit) * ancova.is_random[unit] * 1.0)
        return DenseMixed(self.y[lane], X, linear(np.array(V)))


def dense_answers(dense, theta, c):
    """The same seven by the textbook formulas, one replicate."""
    inverse, phi, P = dense.parts(theta)
    e, g = P @ dense.y, phi @ c
    V = dense.covariance[1](theta)
    average = np.array([[0.5 * e @ A @ P @ B @ e for B in V] for A in V])
    G = [dense.X.T @ inverse @ A @ inverse @ dense.X for A in V]
    curvature = np.array([
        [g @ dense.X.T @ inverse @ A @ inverse @ B @ inverse @ dense.X @ g - g @ GA @ phi @ GB @ g
         for B, GB in zip(V, G, strict=True)] for A, GA in zip(V, G, strict=True)
    ])  # fmt: skip
    return (
        dense.criterion(theta), dense.score(theta), average, dense.information(theta),
        np.array([c @ phi @ dense.X.T @ inverse @ dense.y, c @ phi @ c]),
        np.array([[-g @ dense.X.T @ inverse @ A @ e for A in V], [g @ A @ g for A in G]]), curvature,
    )  # fmt: skip


EVERYONE, NOBODY_APART = np.ones(N_UNIT, bool), np.zeros(N_UNIT, np.int64)
VARIANTS = {
    "all units random": (EVERYONE, NOBODY_APART),
    "all units random, two classes": (EVERYONE, TREATED.astype(np.int64)),
    "treated only": (TREATED, NOBODY_APART),
    "treated only, two classes": (TREATED, TREATED.astype(np.int64)),
    "classes within an arm": (TREATED, np.arange(N_UNIT) % 2),
    "arms and districts": (TREATED, TREATED.astype(np.int64), ARMS_AND_DISTRICT),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_everything_against_dense_matrices(name):
    trials = Trials(*VARIANTS[name])
    m = trials.ancova.n_variance
    c = np.array([-1.0, 1.0, 0.3, 0.1])
    g = np.resize([0.3, 0.0, -0.05, 2.0], LANES)  # V is positive definite: units hold 11 at most, s is 0.9 at least
    theta = np.vstack([np.linspace(0.9, 1.4, LANES) * (1 + k) for k in range(m - 1)] + [g])
    answers = answers_of(theta, trials.sums(), trials.ancova, c)
    for lane in range(LANES):
        expected = dense_answers(trials.dense(lane), theta[:, lane], c)
        for found, right in zip(answers, expected, strict=True):
            np.testing.assert_allclose(found[..., lane], np.broadcast_to(right, found.shape[:-1]), TOLERANCE, TOLERANCE)


def test_undefined_lanes_are_nan_and_leave_the_others_alone():
    trials = Trials(*VARIANTS["treated only, two classes"])
    sizes = trials.sums().n[TREATED].max(0)
    assert sizes.min() > 2
    theta = np.repeat([[1.0], [1.5], [0.2]], LANES, axis=1)
    theta[2, 1] = -1.5 / sizes[1] * (1 + 1e-6)  # just outside
    theta[2, 2] = -1.5 / sizes[2] * (1 - 1e-6)  # just inside
    theta[0, 3] = -1.0
    theta[1, 4] = -1.5
    theta[1:, 5] = -1.5, -0.2  # a positive ratio of two negative pivots
    c = np.array([-1.0, 1.0, 0.0, 0.0])
    value = answers_of(theta, trials.sums(), trials.ancova, c)[0][0]
    undefined = np.isin(np.arange(LANES), (1, 3, 4, 5))
    np.testing.assert_array_equal(np.isnan(value), undefined)
    expected = [trials.dense(lane).criterion(theta[:, lane]) for lane in np.flatnonzero(~undefined)]
    np.testing.assert_allclose(value[~undefined], expected, TOLERANCE)


@pytest.mark.parametrize("is_heteroscedastic", (False, True))
def test_partial_nesting_against_lmertest_and_pbkrtest(is_heteroscedastic):
    """At R's variances: the same likelihood, a maximum, and the same estimates, standard errors and both df."""
    data = pd.read_csv(FOLDER / "data" / "partial_nested.csv")
    fits = json.loads((FOLDER / "partial_nested_reml.json").read_text())
    fit = fits["heteroscedastic"]["lmer_equivalent"] if is_heteroscedastic else fits["homoscedastic"]
    vcov = {row["grp"]: row["vcov"] for row in fit["varcomp"]}
    theta = [vcov["Residual"] + vcov.get("idf", 0.0)] * is_heteroscedastic + [vcov["Residual"], vcov["group"]]
    unit, _ = pd.factorize(data["group"])
    cell = data.groupby(unit)["trt"].first().to_numpy()
    ancova = Ancova(np.eye(2), cell, cell * is_heteroscedastic, cell == 1, 3, len(theta))
    lanes = np.ones(LANES)
    by_unit = [data.assign(n=1.0).groupby(unit)[k].sum().to_numpy()[:, None] * lanes for k in ("n", "base", "y")]
    products = data.assign(xx=data.base**2, xy=data.base * data.y, yy=data.y**2)
    squares = products.groupby(ancova.residual_class[unit])[["xx", "xy", "yy"]].sum().to_numpy()
    sums = Sums(*by_unit, np.ascontiguousarray(squares[:, :, None] * lanes))
    for term, c in zip(fit["fixed"], ([1.0, 0, 0], [0.0, 0, 1], [-1.0, 1, 0]), strict=True):
        answers = answers_of(np.array(theta)[:, None] * lanes, sums, ancova, np.array(c))
        value, score, average, observed, (estimate, f), (_, gradient), curvature = (a[..., 0] for a in answers)
        assert abs(value[0] - fit["criterion"]["value"]) < TOLERANCE
        assert abs(score * theta).max() < 1e-6  # R stops a little beside the maximum
        expected = 2 * average - observed
        np.testing.assert_allclose([estimate, np.sqrt(f)], [term["estimate"], term["se"]], TOLERANCE)
        df, df_kr = (2 * f**2 / (gradient @ np.linalg.solve(A, gradient)) for A in (observed, expected))
        f_kr = f + 2 * np.sum(np.linalg.inv(expected) * curvature)
        np.testing.assert_allclose(df, term["satterthwaite"]["df"], 1e-7)  # R differentiates by differences
        np.testing.assert_allclose(np.sqrt(f_kr), term["kenward_roger"]["se"], TOLERANCE)
        np.testing.assert_allclose(df_kr, term["kenward_roger"]["df"], TOLERANCE)


def test_logarithms_of_many_units_do_not_overflow():
    """400 units whose determinants alone multiply to 10^1200."""
    n_unit, size, s, g = 400, 10, 1e-2, 1e-2 * 100.0
    cell = np.arange(n_unit) % 2
    flags, classes = np.ones(n_unit, bool), np.zeros(n_unit, np.int64)
    ancova = Ancova(np.eye(2), cell, classes, flags, 3, 2)
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, n_unit, size))
    lanes = np.ones(LANES)
    square = np.array([[(x * x).sum(), (x * y).sum(), (y * y).sum()]])[:, :, None] * lanes
    sums = Sums(size * np.ones((n_unit, LANES)), *(a.sum(1)[:, None] * lanes for a in (x, y)), square)
    at = places(2, 3, 2)
    value = np.zeros((1, LANES))
    njit(lambda *a: evaluate(*a))(np.array([[s], [g]]) * lanes, sums, ancova, at, np.zeros((at.end, LANES)), value)
    X = np.concatenate([np.repeat(np.eye(2)[cell][:, None], size, 1), x[:, :, None]], 2)
    inverse = (np.eye(size) - g / (s + size * g)) / s
    weighted = np.einsum("iap,ab->ibp", X, inverse)
    A, b = np.einsum("ibp,ibq->pq", weighted, X), np.einsum("ibp,ib->p", weighted, y)
    log_det = n_unit * ((size - 1) * np.log(s) + np.log(s + size * g)) + np.linalg.slogdet(A)[1]
    fixed = np.einsum("ia,ab,ib->", y, inverse, y) - b @ np.linalg.solve(A, b)
    expected = (n_unit * size - 3) * np.log(2 * np.pi) + log_det + fixed
    np.testing.assert_allclose(value[0], expected, 1e-12)
