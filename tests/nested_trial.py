"""A small nested trial for the fused code, and its scores and dropout written out with arrays."""

import numpy as np

from sim.fused.draw import PURPOSES, Layout, Model
from sim.streams import Streams

N_UNIT, SIZE = 8, 5
STREAMS = Streams(11, "nested")


def layout(n_unit=N_UNIT, size=SIZE):
    """Villages of `size` in two arms and two districts; training groups in the second arm."""
    unit = np.arange(n_unit)
    member = np.tile(np.arange(size), n_unit).astype(np.uint64)
    group = np.where(unit % 2 == 1, unit // 2, -1)
    return Layout(
        np.arange(n_unit + 1) * size, np.repeat(unit, size).astype(np.uint64), member, unit * 2 // n_unit, unit, group,
        unit % 2,
    )  # fmt: skip


def model(T=3, dropout=0.3, slope=0.0, sd=(0.2, 0.5, 0.3, 0.4)):
    """sd: district, village, village by visit, training group."""
    covariance = 0.8 * np.ones((T, T)) + np.diag(np.linspace(0.5, 0.9, T))
    factor = np.linalg.cholesky(np.stack([covariance, 1.3 * covariance]))
    risk = np.full(T, np.log(dropout / (1 - dropout)) if dropout else -40.0)
    key = np.array([STREAMS.key(purpose) for purpose in PURPOSES], np.uint64)
    scale = 1 / np.linspace(0.9, 1.2, T)
    return Model(
        key, *sd, factor, dropout > 0, np.stack([risk] * 2), np.stack([1 / (1 + np.exp(-risk))] * 2), slope, scale
    )


def scores(layout, model, replicate):
    """y and seen (R, N, T) of whole trials, from arrays of the streams."""
    R, T = len(replicate), model.factor.shape[1]
    unit = np.repeat(np.arange(layout.kind.size), np.diff(layout.start))
    zero = np.zeros(layout.kind.size, np.int32)

    def shared(purpose, name, n_draw):
        z = STREAMS.normal(purpose, replicate, zero, np.maximum(name, 0).astype(np.int32), n_draw)
        return np.where((name >= 0)[None, :, None], z, 0.0)

    village = shared("village", layout.village, 1 + T)
    group = np.where(np.arange(T) > 0, shared("training group", layout.group, 1), 0.0)
    base = model.sd_district * shared("district", layout.district, 1) + model.sd_group * group
    base = base + model.sd_village * village[..., :1] + model.sd_village_by_visit * village[..., 1:]
    cluster, member = layout.cluster.astype(np.int32), layout.member.astype(np.int32)
    z = STREAMS.normal("participant", replicate, cluster, member, T)
    y = base[:, unit] + np.einsum("nts,rns->rnt", model.factor[layout.kind[unit]], z)
    seen = np.ones((R, len(unit), T), bool)
    if model.has_dropout:
        u = STREAMS.uniform("dropout", replicate, cluster, member, T - 1)
        risk = model.intercept[0, 1:] + model.slope * y[..., :-1] * model.scale[:-1]
        seen[..., 1:] = np.logical_and.accumulate(np.log(u / (1 - u)) >= risk, axis=2)
    return y, seen


def sums(layout, y, seen):
    """Sums as tally leaves them: counts, sums at visits and totals (units, T, R), squares (1 + T, R)."""
    T = y.shape[2]
    kept = np.where(seen, y, 0.0)
    is_last = seen.sum(2)[..., None] == np.arange(1, T + 1)
    total = is_last * kept.sum(2)[..., None]
    by_unit = (np.add.reduceat(x, layout.start[:-1], axis=1).transpose(1, 2, 0) for x in (is_last * 1.0, kept, total))
    return *by_unit, np.concatenate([(kept**2).sum((1, 2))[None], (total**2).sum(1).T])
