"""Order statistics from several passes, against sorting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import array_bytes
from scipy import stats

from sim.evaluate.medians import _wanted
from sim.evaluate.order_statistics import OrderStatistics

close = st.sampled_from([0.0, -0.0, 1.0, np.nextafter(1.0, 2), -5e-324])
numbers = st.floats(allow_nan=False, allow_infinity=False) | close


@pytest.fixture(autouse=True, scope="module")
def few_are_held():
    """So that a test of some numbers goes the way of many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sim.evaluate.order_statistics.HELD", 4)
        yield


def select(value, wanted, size=10):
    """The wanted order statistics, how many passes they took, and the most bytes that were held."""
    found, n_pass, most = OrderStatistics(wanted), 0, 0
    while True:
        for lo in range(0, len(value), size):
            found.add(value[lo : lo + size])
            most = max(most, array_bytes(found))
        n_pass += 1
        if not found.needs_another_pass():
            return found.value(), n_pass, most


@settings(deadline=None, max_examples=60)
@given(st.lists(numbers, min_size=1, max_size=60), st.data())
def test_any_ranks_against_sorting(value, data):
    value = np.array(value)
    rank = sorted(data.draw(st.lists(st.integers(0, len(value) - 1), max_size=4)))
    found, n_pass, _ = select(value, lambda n: rank)
    np.testing.assert_array_equal(found, np.sort(value)[rank])
    assert n_pass <= 4


def test_all_ranks_of_numbers_that_differ_in_their_last_bits():
    value = np.random.default_rng(1).permutation(1.0 + np.arange(500) * np.finfo(float).eps)
    found, n_pass, _ = select(value, lambda n: range(n))
    np.testing.assert_array_equal(found, np.sort(value))
    assert n_pass == 4


def test_many_equal_numbers():
    value = np.repeat([3.0, -1.0, 0.0], [400, 300, 1])
    assert select(value, lambda n: [0, 299, 300, 301, 700])[0] == [-1.0, -1.0, 0.0, 3.0, 3.0]


def test_cut_into_pieces_same_bits():
    value = np.random.default_rng(2).standard_cauchy(3000)
    results = [select(value, _wanted, size)[0] for size in (7, 100, 3000)]
    assert results[0] == results[1] == results[2]


def test_memory_is_that_of_four_histograms_however_many_numbers():
    value = np.random.default_rng(3).standard_normal(200_000)
    found, n_pass, most = select(value, _wanted, 2000)
    np.testing.assert_array_equal(found, np.sort(value)[_wanted(len(value))])
    assert 2**16 * 8 <= most < 4 * (2**16 * 8 + 1000)
    assert n_pass <= 4


@pytest.mark.parametrize("n", [6, 7, 100, 2001])
def test_ranks_of_the_interval_against_the_binomial(n):
    """The least wide interval from each side that leaves out at most 2.5%."""
    low, below, above, high = _wanted(n)
    assert stats.binom.cdf(low, n, 0.5) <= 0.025 < stats.binom.cdf(low + 1, n, 0.5)
    assert (below + above, low + high) == (n - 1, n - 1)
    assert _wanted(5) == []


def test_ranks_of_a_thousand_million_against_the_normal_distribution():
    n = 10**9
    low = _wanted(n)[0]
    assert low == pytest.approx(n / 2 - 1.959963985 * np.sqrt(n) / 2, abs=2)
