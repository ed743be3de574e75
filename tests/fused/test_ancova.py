"""What the fused ANCOVA tallies, against scores and dropout drawn into arrays from the same streams."""

import numpy as np
import pytest
from numba import njit

from sim.fused.ancova import tally
from sim.fused.draw import PURPOSES, Layout, Model
from sim.kernels.ancova_lanes import Ancova, Sums
from sim.lanes import LANES, load
from sim.streams import Streams

STREAMS = Streams(7, "ancova")
REPLICATE = np.arange(40, 40 + LANES, dtype=np.int32)
SIZE = np.array([3, 12, 1, 30, 7])
ARM = np.array([1, 1, 1, 0, 0])
CLASS = np.array([1, 1, 1, 0, 0])
VILLAGE, GROUP = np.array([0, 1, 0, 2, 3]), np.array([0, 1, 2, -1, -1])
UNIT = np.repeat(np.arange(SIZE.size), SIZE)
MEMBER = np.concatenate([np.arange(n) for n in SIZE])


@njit(error_model="numpy")
def run(w, visits, layout, model, ancova, replicate, sums, seen):
    tally(w, 1, visits, layout, model, ancova, load(replicate, 0), sums, seen)


def model(T, slope):
    """Two arms of different covariance, villages and training groups that resemble one another."""
    covariance = 0.4 + 0.6 * np.eye(T)
    factor = np.linalg.cholesky(np.stack([covariance, 1.5 * covariance]))
    key = np.array([STREAMS.key(name) for name in PURPOSES], np.uint64)
    intercept = np.array([0.0, -1.0, -0.5, -1.5])[:T]
    hazard = 1 / (1 + np.exp(-intercept))
    return Model(
        key, 0.0, 0.3, 0.0, 0.5, factor, slope is not None, np.stack([intercept] * 2), np.stack([hazard] * 2),
        slope or 0.0, np.linspace(1.0, 0.8, T),
    )  # fmt: skip


def drawn(m, slope):
    """Scores (LANES, N, T) and who is seen at the last visit (LANES, N), by arrays."""
    T = m.scale.size
    names = UNIT.astype(np.int32), MEMBER.astype(np.int32)
    z = STREAMS.normal("participant", REPLICATE, *names, T)
    none = np.zeros(SIZE.size, np.int32)
    village = STREAMS.normal("village", REPLICATE, none, VILLAGE.astype(np.int32), 1)[:, :, 0] * m.sd_village
    group = STREAMS.normal("training group", REPLICATE, none, GROUP.astype(np.int32), 1)[:, :, 0] * m.sd_group
    y = np.einsum("rns,nts->rnt", z, m.factor[ARM[UNIT]]) + village[:, UNIT, None]
    y[:, :, 1:] += np.where(GROUP >= 0, group, 0.0)[:, UNIT, None]
    if slope is None:
        return y, np.ones(y.shape[:2], bool)
    u = STREAMS.uniform("dropout", REPLICATE, *names, T - 1)
    risk = 1 / (1 + np.exp(-(m.intercept[0, 1:] + slope * y[:, :, :-1] * m.scale[:-1])))
    return y, np.all(u >= risk, axis=2)


@pytest.mark.parametrize(("T", "slope"), [(2, 0.7), (2, None), (3, 0.0), (4, -0.5)])
def test_sums_against_arrays(T, slope):
    m = model(T, slope)
    layout = Layout(np.concatenate([[0], np.cumsum(SIZE)]), UNIT.astype(np.uint64), MEMBER.astype(np.uint64),
                    np.full(SIZE.size, -1), VILLAGE, GROUP, ARM)  # fmt: skip
    ancova = Ancova(np.eye(2), ARM, CLASS, GROUP >= 0, 3, 3)
    sums = Sums(*np.full((3, SIZE.size, LANES), np.nan), np.full((2, 3, LANES), np.nan))
    w = np.full((1 + 3 * T, LANES), np.nan)
    run(w, tuple(range(T)), layout, m, ancova, REPLICATE.astype(np.uint64)[None], sums, np.zeros((2, T, LANES)))
    assert np.isnan(w[0]).all()  # the place before its room
    y, seen = drawn(m, slope)
    assert slope is None or 0.1 < seen.mean() < 0.9
    x, y = y[:, :, 0], y[:, :, -1]
    of_unit, of_class = np.eye(SIZE.size)[UNIT], np.eye(2)[CLASS[UNIT]]
    for found, value in zip(sums[:3], (1.0, x, y), strict=True):
        np.testing.assert_allclose(found, ((seen * value) @ of_unit).T, rtol=1e-12, atol=1e-12)
    for k, value in enumerate((x * x, x * y, y * y)):
        np.testing.assert_allclose(sums.square[:, k], ((seen * value) @ of_class).T, rtol=1e-12, atol=1e-12)
