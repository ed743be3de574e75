"""The likelihood of nested intercepts in lanes against dense matrices, and at variances where it is not defined."""

from functools import cache

import numpy as np
import pytest
from numba import njit
from reference.dense_mixed import DenseMixed, linear

from sim.kernels.nested_lanes import Nested, Sums, contrast, differentiate, evaluate, places
from sim.lanes import LANES

N_UNIT, SIZE = 6, 4
ARM, UNIT, DISTRICT = np.arange(N_UNIT) % 2, np.repeat(np.arange(N_UNIT), SIZE), np.sort(np.arange(N_UNIT) % 3)
TERMS = [(v, u, d) for v in (False, True) for u in (False, True) for d in (False, True)]
LANE = 3  # the one compared with dense matrices


@njit(error_model="numpy")
def run(theta, sums, nested, at, w, value, score, average, observed, c, out, gradient, curvature):
    evaluate(theta, sums, nested, at, w, value)
    differentiate(theta, sums, nested, at, w, score, average, observed, True)
    contrast(c, theta, sums, nested, at, w, out, gradient, curvature, True)
    again = score.copy()
    differentiate(theta, sums, nested, at, w, again, average, observed, False)
    return again


@cache
def data(T):
    """y (LANES, N, T), observed, and the sums over units that the kernel takes."""
    rng = np.random.default_rng(T)
    shape = (LANES, N_UNIT * SIZE, T)
    shared = rng.standard_normal((LANES, N_UNIT, 1)).repeat(SIZE, 1)
    y = rng.standard_normal(shape) + 0.7 * rng.standard_normal((*shape[:2], 1)) + 0.5 * shared
    last = rng.integers(1, T + 1, shape[:2])
    last[:, :2] = T  # every cell is seen
    last[:, SIZE : SIZE + 2] = T
    observed = np.arange(T) < last[..., None]
    seen = np.where(observed, y, 0.0)
    total = seen.sum(2)
    is_last = np.arange(1, T + 1) == last[..., None]

    def by_unit(x):
        return np.ascontiguousarray(x.reshape(LANES, N_UNIT, SIZE, T).sum(2).transpose(1, 2, 0))

    square = np.c_[(seen**2).sum((1, 2)), (is_last * total[..., None] ** 2).sum(1)].T.copy()
    sums = Sums(by_unit(is_last * 1.0), by_unit(seen), by_unit(is_last * total[..., None]), square)
    return y, observed, sums


def cells(T, is_constrained):
    """Columns of the cell means (2, T); constrained: the arms share the first visit's."""
    first = np.arange(T)
    return np.stack([first, np.r_[0, first[1:] + T - 1] if is_constrained else first + T])


def lanes(T, term, theta, is_constrained=False, sums=None):
    """Everything the kernel answers at theta (m,) or (m, LANES), and the contrast of the last visit."""
    has_visit, has_unit, has_district = term
    cell = cells(T, is_constrained)
    m, p = 2 + sum(term), int(cell.max()) + 1
    nested = Nested(tuple(range(T)), cell, ARM, DISTRICT, p, np.arange(p), has_visit, has_unit, has_district, m)
    at = places(T, p, m)
    w = np.full((at.end, LANES), np.nan)
    answer = [np.full((*shape, LANES), np.nan) for shape in ((1,), (m,), (m, m), (m, m), (2,), (2, m), (m, m))]
    c = np.zeros(p)
    c[cell[1, -1]], c[cell[0, -1]] = 1.0, -1.0
    everywhere = np.ascontiguousarray(np.broadcast_to(np.asarray(theta).reshape(m, -1), (m, LANES)))
    again = run(everywhere, sums or data(T)[2], nested, at, w, *answer[:4], c, *answer[4:])
    assert np.array_equal(again, answer[1], equal_nan=True)  # the score alone has the same bits
    return answer, c


def dense(T, term, is_constrained=False):
    """The textbook twin of one lane."""
    y, observed, _ = data(T)
    person, visit = np.nonzero(observed[LANE])
    unit = UNIT[person]
    cell = cells(T, is_constrained)
    X = np.eye(cell.max() + 1)[cell[ARM[unit], visit]]

    def same(x):
        return (x[:, None] == x).astype(float)

    options = (same(unit) * same(visit), same(unit), same(DISTRICT[unit]))
    V = [np.eye(len(person)), same(person)] + [x for x, has in zip(options, term, strict=True) if has]
    return DenseMixed(y[LANE][observed[LANE]], X, linear(np.array(V)))


def expected(twin, theta, c):
    """What the kernel answers, from matrices written out."""
    inverse, phi, P = twin.parts(theta)
    e, X, V = P @ twin.y, twin.X, twin.covariance[1](theta)
    average = np.array([[0.5 * e @ a @ P @ b @ e for b in V] for a in V])
    g = phi @ c
    first = np.array([X.T @ inverse @ a @ inverse @ X for a in V])
    second = np.array([[g @ X.T @ inverse @ a @ inverse @ b @ inverse @ X @ g for b in V] for a in V])
    slope = [-g @ X.T @ inverse @ a @ e for a in V]
    curvature = second - np.array([[g @ a @ phi @ b @ g for b in first] for a in first])
    return (
        [twin.criterion(theta)], twin.score(theta), average, twin.information(theta),
        [c @ phi @ X.T @ inverse @ twin.y, c @ g], [slope, [g @ a @ g for a in first]], (curvature + curvature.T) / 2,
    )  # fmt: skip


def thetas(term):
    """Variances inside, at zero and below."""
    yield [1.0, 0.5] + [x for x, has in zip((0.1, 0.25, 0.3), term, strict=True) if has]
    yield [0.9, 0.0] + [x for x, has in zip((0.15, 0.0, 0.0), term, strict=True) if has]
    yield [1.2, 0.4] + [x for x, has in zip((-0.02, -0.01, -0.005), term, strict=True) if has]


@pytest.mark.parametrize(("T", "term"), [(3, x) for x in TERMS] + [(T, x) for T in (2, 5) for x in TERMS if x[0]])
@pytest.mark.parametrize("is_constrained", [False, True])
def test_against_slow_version(T, term, is_constrained):
    twin = dense(T, term, is_constrained)
    for theta in thetas(term):
        answer, c = lanes(T, term, theta, is_constrained)
        for found, exact in zip(answer, expected(twin, np.array(theta), c), strict=True):
            np.testing.assert_allclose(found[..., LANE], exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("term", TERMS)
def test_one_lane_does_not_touch_the_others(term):
    theta = np.array(next(thetas(term)))[:, None].repeat(LANES, 1)
    other = theta.copy()
    other[:, 5] *= 3.0
    for a, b in zip(lanes(3, term, theta)[0], lanes(3, term, other)[0], strict=True):
        assert np.array_equal(np.delete(a, 5, -1), np.delete(b, 5, -1))
        assert not np.array_equal(a[..., 5], b[..., 5])


@pytest.mark.parametrize("term", TERMS)
def test_not_positive_definite_is_nan_in_its_lane_alone(term):
    theta = np.array(next(thetas(term)))[:, None].repeat(LANES, 1)
    bad = theta.copy()
    broken = [0, 1, 2] if sum(term) else [0, 1]
    bad[0, 0] = -0.1  # residual
    bad[1, 1] = -0.6  # e + 3 v < 0
    for k in range(2, 2 + sum(term)):
        bad[k, 2] = -5.0
    found, good = lanes(3, term, bad)[0][0], lanes(3, term, theta)[0][0]
    assert np.isnan(found[0, broken]).all()
    assert np.array_equal(np.delete(found, broken), np.delete(good, broken))


def test_cell_that_nobody_is_seen_in_is_nan_in_its_lane_alone():
    sums = data(3)[2]
    count, at_visit, total = (x.copy() for x in sums[:3])
    for n in (0, 1):  # in lane 4 the second arm has left before the last visit
        count[1::2, n, 4] += count[1::2, 2, 4] * (n == 1)
    count[1::2, 2, 4] = 0.0
    at_visit[1::2, 2, 4] = 0.0
    total[1::2, 2, 4] = 0.0
    term = (False, True, False)
    theta = next(thetas(term))
    found = lanes(3, term, theta, sums=Sums(count, at_visit, total, sums.square))[0][0]
    assert np.array_equal(np.isnan(found[0]), np.arange(LANES) == 4)
