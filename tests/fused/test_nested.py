"""Nested trials drawn, tallied and fitted in lanes: against arrays and dense matrices, and replicate by replicate."""

import numpy as np
import pytest
from nested_trial import layout, model, scores, sums
from numba import njit
from reference.dense_mixed import DenseMixed, linear

from sim.fused.nested import tally, trial
from sim.fused.task import Asked
from sim.kernels.lanes_climb import (
    DF_OBSERVED,
    ESTIMATE,
    KNOWN_ESTIMATE,
    KNOWN_STANDARD_ERROR,
    N_RESULT,
    STANDARD_ERROR,
)  # fmt: skip
from sim.kernels.mixed_optimise import NONNEGATIVE, POSITIVE
from sim.kernels.nested_lanes import Nested, Sums, places
from sim.lanes import LANES, load

T = 3
CELL = np.arange(2 * T).reshape(2, T)
C = np.zeros((1, 2 * T))
C[0, [T - 1, 2 * T - 1]] = -1.0, 1.0


@njit(error_model="numpy")
def tally_block(w, visits, layout, model, replicate, sums, seen):
    tally(w, 0, visits, layout, model, load(replicate, 0), sums, seen)


def fit(replicate, design, truth, term, start, max_iteration=50):
    """Trials with the arms' cell means free and random terms (visit, unit, district)."""
    m, p = 2 + sum(term), 2 * T
    nested = Nested(tuple(range(T)), CELL, design.kind, design.district, p, np.arange(p), *term, m)
    bound = np.array([POSITIVE] + [NONNEGATIVE] * (m - 1))
    count, wanted = np.repeat(np.diff(design.start)[:, None] / T, T, 1), np.ones(N_RESULT, bool)
    block = np.asarray(replicate, np.uint64).reshape(-1, LANES)
    asked = Asked(C, bound, np.array(start, float), wanted, max_iteration)
    results, seen = trial(design, truth, nested, places(T, p, m), count).fit(block, asked)
    return *results, seen


def dense(design, truth, replicate, term):
    """The textbook twin of one replicate."""
    y, observed = (x[0] for x in scores(design, truth, np.array([replicate])))
    person, visit = np.nonzero(observed)
    unit = np.repeat(np.arange(design.kind.size), np.diff(design.start))[person]

    def same(x):
        return (x[:, None] == x).astype(float)

    options = (same(unit) * same(visit), same(unit), same(design.district[unit]))
    V = [np.eye(len(person)), same(person)] + [x for x, has in zip(options, term, strict=True) if has]
    return DenseMixed(y[observed], np.eye(2 * T)[CELL[design.kind[unit], visit]], linear(np.array(V)))


@pytest.mark.parametrize("slope", [0.0, -0.6])
def test_tally_against_sums_of_arrays(slope):
    design, truth, replicate = layout(), model(slope=slope), np.arange(LANES) + 40
    found = Sums(*(np.full((design.kind.size, T, LANES), np.nan) for _ in range(3)), np.full((1 + T, LANES), np.nan))
    seen, block = np.full((2, T, LANES), np.nan), replicate.astype(np.uint64)[None]
    tally_block(np.empty((3 * T, LANES)), tuple(range(T)), design, truth, block, found, seen)
    y, is_seen = scores(design, truth, replicate)
    kind = np.repeat(design.kind, np.diff(design.start))
    for k in (0, 1):
        np.testing.assert_array_equal(seen[k].T, is_seen[:, kind == k].sum(1))
    for a, b in zip(found, sums(design, y, is_seen), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


START = {
    (False, False, False): [0.7, 0.8],
    (False, True, False): [0.7, 0.8, 0.3],
    (True, True, False): [0.7, 0.8, 0.1, 0.3],
    (False, True, True): [0.7, 0.8, 0.3, 0.1],
    (True, True, True): [0.7, 0.8, 0.1, 0.3, 0.1],
}


@pytest.mark.parametrize("term", START)
def test_maximum_and_inference_against_slow_version(term):
    design, truth, replicate = layout(), model(slope=-0.6), np.arange(LANES)
    result, variance, criterion, is_done, *_ = fit(replicate, design, truth, term, START[term])
    assert is_done.all()
    for r in replicate:
        twin, theta = dense(design, truth, r, term), variance[r]
        score, free = twin.score(theta), theta > 0.0
        information = twin.information(theta)[np.ix_(free, free)]
        assert (
            score[free] @ np.linalg.solve(information, score[free]) < 1e-12
        )  # standard errors from the maximum, squared
        assert (score[~free] <= 0.0).all()
        np.testing.assert_allclose(criterion[r], twin.criterion(theta), rtol=0, atol=1e-9)
        exact = twin.satterthwaite(theta, C[0])
        np.testing.assert_allclose(result[r, 0, [ESTIMATE, STANDARD_ERROR]], exact[:2], rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(result[r, 0, DF_OBSERVED], exact[2], rtol=1e-8)


@pytest.mark.parametrize("term", START)
def test_a_replicate_does_not_depend_on_its_companions(term):
    design, truth = layout(), model()
    replicate = np.arange(3 * LANES)
    order = np.random.default_rng(5).permutation(replicate)
    whole, mixed = (fit(r, design, truth, term, START[term]) for r in (replicate, order))
    for a, b in zip(whole, mixed, strict=True):
        assert np.array_equal(a[order], b, equal_nan=a.dtype.kind == "f")


def test_too_few_iterations_fail_alone():
    design, truth, term, replicate = layout(), model(), (False, True, False), np.arange(4 * LANES)
    enough = fit(replicate, design, truth, term, START[term])
    most = int(np.median(enough[4]))
    result, variance, criterion, is_done, *_ = fit(replicate, design, truth, term, START[term], most)
    assert 0 < is_done.sum() < is_done.size
    assert np.array_equal(is_done, enough[4] <= most)
    assert (
        np.isnan(result[~is_done]).all() and np.isnan(variance[~is_done]).all() and np.isnan(criterion[~is_done]).all()
    )
    for a, b in zip((result, variance, criterion), enough, strict=False):
        assert np.array_equal(a[is_done], b[is_done], equal_nan=True)


def test_start_at_which_nothing_is_defined_fails():
    term = (False, True, False)
    result, _, _, is_done, *_ = fit(np.arange(LANES), layout(), model(), term, [0.7, 0.8, -5.0])
    assert not is_done.any() and np.isnan(result).all()


def test_known_variances_against_generalised_least_squares():
    """At the starting variances, without dropout and with one visit pattern: the difference of the arms' means."""
    term, design, truth, replicate = (False, True, False), layout(), model(dropout=0.0), np.arange(LANES)
    e, v, u = START[term]
    result = fit(replicate, design, truth, term, START[term])[0]
    y = scores(design, truth, replicate)[0][..., -1].reshape(LANES, design.kind.size, -1).mean(2)
    difference = y[:, 1::2].mean(1) - y[:, ::2].mean(1)
    size = np.diff(design.start)[0]
    np.testing.assert_allclose(result[:, 0, KNOWN_ESTIMATE], difference, atol=1e-12)
    variance = 2 / (design.kind.size / 2) * (u + (e + v) / size)
    np.testing.assert_allclose(result[:, 0, KNOWN_STANDARD_ERROR] ** 2, variance, rtol=1e-12)
