"""Evidence for the random streams: published known answers, moments, independence of how they are asked for."""

import numpy as np
import pytest
from numba import njit
from scipy import stats

from sim.streams import Streams, philox

KNOWN = [  # Random123 distribution, kat_vectors: philox4x32 10
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@njit
def known_words(c0, c1, c2, c3, k0, k1):
    return philox(c0, c1, c2, c3, k0, k1)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_against_published_known_answers(counter, key, expected):
    words = known_words(*(np.uint64(c) for c in counter), *(np.uint64(k) for k in key))
    assert [int(w) for w in words] == expected


def ids(n):
    return np.arange(n, dtype=np.int32)


def test_normals_against_theory():
    z = Streams(1, "a").normal("p", ids(50), np.zeros(400, np.int32), ids(400), 13)
    n = z.size
    assert abs(z.mean()) < 4 / np.sqrt(n)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / n)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-4
    lag = np.corrcoef(z.ravel()[:-1], z.ravel()[1:])[0, 1]
    assert abs(lag) < 4 / np.sqrt(n)


def test_uniforms_against_theory():
    u = Streams(1, "a").uniform("p", ids(50), np.zeros(400, np.int32), ids(400), 3)
    assert u.min() > 0 and u.max() < 1
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-4


def test_draws_same_for_any_batch_and_larger_trial():
    streams = Streams(7, "a")
    zero = np.zeros(30, np.int32)
    whole = streams.normal("p", ids(10), zero, ids(30), 5)
    assert np.array_equal(whole[3:5, :20], streams.normal("p", ids(5)[3:], zero[:20], ids(20), 5))
    assert np.array_equal(whole[..., :4], streams.normal("p", ids(10), zero, ids(30), 4))


def test_seed_design_purpose_cluster_and_replicate_separate_streams():
    def draw(seed=1, design="a", purpose="p", replicate=0, cluster=0):
        at = np.full(1000, cluster, np.int32)
        return Streams(seed, design).normal(purpose, np.array([replicate], np.int32), at, ids(1000), 1).ravel()

    first = draw()
    for other in (draw(seed=2), draw(design="b"), draw(purpose="q"), draw(replicate=1), draw(cluster=1)):
        assert not np.any(first == other)
        assert abs(np.corrcoef(first, other)[0, 1]) < 4 / np.sqrt(1000)
