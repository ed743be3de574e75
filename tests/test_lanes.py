"""Evidence for the lanes: the same bits as float64 one at a time, published accuracy, and lanes that never meet."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import njit
from numba.core.errors import TypingError

from sim.lanes import (
    LANES,
    across,
    as_bits,
    as_real,
    every,
    everywhere,
    exp,
    floor,
    fma,
    load,
    log,
    sqrt,
    store,
    to_real,
    where,
)

N_NUMBER, N_WORD = 18, 8
U = np.uint64


@njit(error_model="numpy")
def numbers(a, b, c):
    """Every operator and function of a number, with numbers and with constants on either side."""
    return (
        a + b, a - b, a * b, a / b, -a, a + 2.5, 2.5 - a, a * 3.0, 1.0 / b, fma(a, b, c), fma(a, 0.3, 0.7),
        where(a > b, a, c), where(a >= 0.5, b, -1.0), sqrt(a * a), log(a), as_real(as_bits(a) ^ as_bits(b)),
        floor(a), exp(a),
    )  # fmt: skip


@njit(error_model="numpy")
def numbers_in_lanes(x, out):
    kept = numbers(load(x, 0), load(x, 1), load(x, 2))
    for k in range(N_NUMBER):
        store(out, kept[k], k)


@njit(error_model="numpy")
def numbers_one_by_one(x, out):
    for lane in range(LANES):
        kept = numbers(x[0, lane], x[1, lane], x[2, lane])
        for k in range(N_NUMBER):
            out[k, lane] = kept[k]


@njit
def words_in_lanes(x, out, real):
    a, b = load(x, 0), load(x, 1)
    kept = (a + b, a * b, a ^ b, a & b, a | b, a >> U(7), a << U(9), everywhere(U(5)) * a + U(3))
    for k in range(N_WORD):
        store(out, kept[k], k)
    store(real, to_real(a >> U(1)), 0)


def same_bits(a, b):
    """Equal bit for bit; any NaN equals any NaN."""
    both = np.isnan(a) & np.isnan(b)
    return np.array_equal(a.view(np.uint64)[~both], b.view(np.uint64)[~both]) and np.array_equal(
        np.isnan(a), np.isnan(b)
    )


def in_lanes(x):
    out = np.empty((N_NUMBER, LANES))
    numbers_in_lanes(x, out)
    return out


VALUES = arrays(np.float64, (3, LANES), elements=st.floats(allow_subnormal=False))


@settings(deadline=None, max_examples=200)
@given(x=VALUES)
def test_same_bits_as_one_at_a_time(x):
    single = np.empty((N_NUMBER, LANES))
    numbers_one_by_one(x, single)
    assert same_bits(in_lanes(x), single)


@settings(deadline=None, max_examples=100)
@given(x=VALUES)
def test_operators_against_numpy(x):
    a, b, c = x
    with np.errstate(all="ignore"):
        expected = [a + b, a - b, a * b, a / b, -a, a + 2.5, 2.5 - a, a * 3.0, 1.0 / b]
        chosen = [np.where(a > b, a, c), np.where(a >= 0.5, b, -1.0), np.sqrt(a * a)]
    found = in_lanes(x)
    assert same_bits(found[:9], np.array(expected))
    assert same_bits(found[11:14], np.array(chosen))
    assert same_bits(found[16], np.floor(a))


@settings(deadline=None, max_examples=100)
@given(x=VALUES, lane=st.integers(0, LANES - 1), other=st.floats(allow_subnormal=False))
def test_lanes_never_meet(x, lane, other):
    moved = x.copy()
    moved[:, lane] = other
    rest = np.arange(LANES) != lane
    assert same_bits(in_lanes(x)[:, rest], in_lanes(moved)[:, rest])


@settings(deadline=None, max_examples=100)
@given(words=arrays(np.uint64, (2, LANES)))
def test_words_against_integers(words):
    out, real = np.empty((N_WORD, LANES), np.uint64), np.empty((1, LANES))
    words_in_lanes(words, out, real)
    for lane in range(LANES):
        a, b = (int(x) for x in words[:, lane])
        expected = [a + b, a * b, a ^ b, a & b, a | b, a >> 7, a << 9, 5 * a + 3]
        assert [int(x) for x in out[:, lane]] == [x % 2**64 for x in expected]
        assert real[0, lane] == float(a >> 1)


def test_fma_rounds_once_against_fractions():
    x = np.random.default_rng(1).standard_normal((200, 3, LANES))
    x[:, 2] = -x[:, 0] * x[:, 1]  # what is left is the rounding of the product
    for case in x:
        exact = [float(Fraction(a) * Fraction(b) + Fraction(c)) for a, b, c in case.T.tolist()]
        assert in_lanes(case)[9].tolist() == exact


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.0), (0.999, 1.001), (1e-300, 1e-290), (1e-16, 1.0), (1.0, 1e300)])
def test_log_within_two_units_in_the_last_place(low, high):
    x = np.random.default_rng(2).uniform(low, high, (20, 1, LANES)).repeat(3, 1)
    with localcontext() as context:
        context.prec = 40
        for case in x:
            for value, found in zip(case[0].tolist(), in_lanes(case)[14].tolist(), strict=True):
                exact = Decimal(value).ln()
                assert abs(Decimal(found) - exact) <= 2 * Decimal(math.ulp(float(exact)))


def test_log_of_what_has_none_is_nan():
    x = np.ones((3, LANES))
    x[0, :3] = [0.0, -1.0, np.nan]
    found = in_lanes(x)[14]
    assert np.isnan(found[:3]).all()
    assert (found[3:] == 0.0).all()


@pytest.mark.parametrize(("low", "high"), [(-1e-3, 1e-3), (-1.0, 1.0), (-30.0, 30.0), (-700.0, 700.0), (0.0, 0.0)])
def test_exp_within_two_units_in_the_last_place(low, high):
    x = np.random.default_rng(4).uniform(low, high, (20, 1, LANES)).repeat(3, 1)
    with localcontext() as context:
        context.prec = 40
        for case in x:
            for value, found in zip(case[0].tolist(), in_lanes(case)[17].tolist(), strict=True):
                exact = Decimal(value).exp()
                assert abs(Decimal(found) - exact) <= 2 * Decimal(math.ulp(float(exact)))


@njit
def copy_lanes(x, out):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            store(out, load(x, i, j), i * x.shape[1] + j)


@njit
def first_of_each(x, out):
    for i in range(x.shape[0]):
        store(out, load(x, i), i)


def test_places_of_a_three_way_array():
    x = np.random.default_rng(3).standard_normal((3, 5, LANES))
    out, first = np.empty((15, LANES)), np.empty((3, LANES))
    copy_lanes(x, out)
    first_of_each(x, first)  # indices left out are 0
    assert np.array_equal(out.reshape(x.shape), x)
    assert np.array_equal(first, x[:, 0])


def test_array_in_another_order_is_refused():
    with pytest.raises(TypingError, match="C-ordered"):
        first_of_each(np.zeros((3, 5, LANES), order="F"), np.zeros((3, LANES)))
    with pytest.raises(TypingError, match="C-ordered"):
        first_of_each(np.zeros((3, 5, LANES)), np.zeros((LANES, 3)).T)


@njit(error_model="numpy")
def sum_and_whether_positive(x):
    return across(load(x, 0)), every(load(x, 0) > 0.0)


def test_sums_and_conditions_over_lanes():
    x = 2.0 ** np.arange(LANES)[None]
    assert sum_and_whether_positive(x) == (2.0**LANES - 1.0, True)
    for lane in range(LANES):
        one_negative = x.copy()
        one_negative[0, lane] *= -1.0
        assert sum_and_whether_positive(one_negative) == (2.0**LANES - 1.0 - 2.0 ** (lane + 1), False)
