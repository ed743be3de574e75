"""Scores and dropout drawn in lanes against the same streams asked for as arrays."""

import numpy as np
import pytest
from nested_trial import layout, model, scores
from numba import njit

from sim.fused.draw import draw_participant, draw_unit
from sim.lanes import LANES, load

T = 3
VISITS = tuple(range(T))


@njit(error_model="numpy")
def draw(w, visits, layout, model, replicate, y, stays):
    """Every participant's scores and stays, lanes last."""
    T = len(visits)
    for i in range(layout.kind.size):
        draw_unit(w, 0, visits, layout, model, load(replicate, 0), i)
        for j in range(layout.start[i], layout.start[i + 1]):
            draw_participant(w, 0, T, 2 * T, visits, layout, model, load(replicate, 0), i, j)
            y[j] = w[T : 2 * T]
            stays[j] = w[2 * T :]


def drawn(layout, model, replicate):
    w, shape = np.full((3 * T, LANES), np.nan), (layout.member.size, T, LANES)
    y, stays = np.empty(shape), np.empty(shape)
    draw(w, VISITS, layout, model, replicate.astype(np.uint64)[None], y, stays)
    return y.transpose(2, 0, 1), stays.transpose(2, 0, 1)


@pytest.mark.parametrize(("dropout", "slope"), [(0.0, 0.0), (0.3, 0.0), (0.3, -0.6)])
@pytest.mark.parametrize("sd", [(0.2, 0.5, 0.3, 0.4), (0.0, 0.5, 0.0, 0.0), (0.0, 0.0, 0.3, 0.4), (0.0,) * 4])
def test_against_arrays_of_the_streams(dropout, slope, sd):
    trial, truth = layout(), model(T, dropout, slope, sd)
    replicate = np.arange(LANES) * 7 + 3
    y, stays = drawn(trial, truth, replicate)
    y_exact, seen = scores(trial, truth, replicate)
    np.testing.assert_allclose(y, y_exact, rtol=0, atol=1e-14)
    assert np.array_equal(stays, seen)
    assert seen.all() == (dropout == 0.0)


def test_those_in_no_village_or_group_share_nothing():
    trial, truth = layout()._replace(village=np.full(8, -1), group=np.full(8, -1)), model(sd=(0.0, 0.5, 0.3, 0.4))
    replicate = np.arange(LANES)
    alone = model(sd=(0.0,) * 4)
    assert np.array_equal(drawn(trial, truth, replicate)[0], drawn(trial, alone, replicate)[0])
