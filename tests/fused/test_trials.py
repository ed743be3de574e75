"""Lanes against the generic kernel on the same scores, each from a start of its own."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from nested_trial import STREAMS, scores

from sim.fused.trials import Hot, Population, Scores, at_final_visit, over_visits
from sim.kernels.mixed import MixedFit, MixedModel, fit_mixed
from sim.trial import FAILED

T = 3
TOLERANCE = 1e-9
REPLICATE = np.arange(48)


class Case(NamedTuple):
    """A trial: districts, units in each, participants in each, SDs of what they share, and how scores are lost."""

    shape: tuple[int, int, int]
    sd: dict[str, float]
    terms: tuple[str, ...] = ()
    slope: float = 0.0
    risk: tuple[float, float] = (0.0, 0.2)  # of leaving before the second and the third visit


VILLAGE, VISIT, DISTRICT = "village", "village by visit", "district"
CASES = {
    "individuals": Case((1, 2, 300), {}),
    "villages": Case((1, 24, 25), {"sd_village": 0.22}, (VILLAGE,)),
    "villages that do not vary": Case((1, 12, 10), {}, (VILLAGE,), -0.6, (0.2, 0.3)),
    "villages by visit": Case((1, 24, 25), {"sd_village": 0.22, "sd_village_by_visit": 0.17}, (VISIT, VILLAGE)),
    "villages by visit that do not vary": Case((1, 8, 12), {}, (VISIT, VILLAGE), -0.6, (0.2, 0.3)),
    "districts": Case((10, 8, 8), {"sd_village": 0.22, "sd_district": 0.14}, (VILLAGE, DISTRICT)),
    "few districts": Case((4, 6, 8), {"sd_village": 0.1}, (VISIT, VILLAGE, DISTRICT), -0.6, (0.2, 0.3)),
}


def people(case: Case, *, is_group: bool = False) -> Population:
    n_district, n_unit, size = case.shape
    unit = np.arange(n_district * n_unit)
    arm = unit % 2
    nobody, group = np.full(unit.size, -1), np.where(arm == 1, unit, -1)
    member = np.tile(np.arange(size), unit.size)
    place = (nobody, group) if is_group else (unit, nobody)
    return Population(
        np.full(unit.size, size), arm, unit // n_unit, *place, arm == 1, unit.repeat(size), member
    )  # fmt: skip


def spread(case: Case, *, trained: float = 1.0) -> Scores:
    risk = np.array([0.0, *case.risk])
    with np.errstate(divide="ignore"):
        intercept = np.log(risk / (1 - risk))
    sd = dict.fromkeys(("sd_district", "sd_village", "sd_village_by_visit", "sd_group"), 0.0) | case.sd
    own = np.array([0.5 + 0.45 * scale * np.eye(T) for scale in (1.0, trained)])
    return Scores(
        participant=own, **sd, intercept=np.stack([intercept] * 2), slope=case.slope, seen=np.cumprod(1 - risk),
        sd=np.ones(T),
    )  # fmt: skip


def drawn(hot: Hot) -> tuple[Any, Any]:
    """The scores that the lanes draw (R, N, T), and who is seen."""
    layout, model = hot.trial.given.layout, hot.trial.given.model
    return scores(layout, model, REPLICATE)


def over_visits_by_generic(hot: Hot, case: Case, df: str, boundary: str) -> MixedFit:
    arm = people(case).arm
    unit = np.repeat(np.arange(arm.size), case.shape[2])
    shape = (unit.size, T, 1)
    columns = np.zeros((unit.size, T, 2 * T))
    for t in range(T):
        columns[np.arange(unit.size), t, arm[unit] * T + t] = 1.0
    n_unit = case.shape[1]
    inside = 1 + (unit % n_unit)[:, None] * (1 + T) * np.ones((1, T), int)
    places = {VISIT: inside + 1 + np.arange(T), VILLAGE: inside, DISTRICT: np.zeros((unit.size, T), int)}
    column = [places[term].reshape(shape) for term in case.terms]
    block = {"block": unit // n_unit, "column": np.concatenate(column, axis=2)} if column else {}
    y, seen = drawn(hot)
    nothing = np.empty((len(y), unit.size, 0))
    model = MixedModel(columns, "intercept", **block)
    return fit_mixed(model, y, seen, nothing, hot.contrast[None], df=df, boundary=boundary)


def compare(hot: Hot, slow: MixedFit, df: str, boundary: str) -> None:
    fast = hot.fit(REPLICATE, df, boundary)
    np.testing.assert_array_equal(fast.status, slow.status)
    ok = fast.status != FAILED
    error = slow.standard_error[ok, 0]
    assert ok.mean() > 0.9
    assert (np.abs(fast.estimate[ok] - slow.estimate[ok, 0]) / error).max() < TOLERANCE
    np.testing.assert_allclose(fast.standard_error[ok], error, rtol=TOLERANCE)
    # near the edge of what may be negative the generic kernel's own df move by 1.1e-9 with the order of participants
    np.testing.assert_allclose(fast.df[ok], slow.df[ok, 0], rtol=TOLERANCE * (2 if boundary == "negative" else 1))
    total = slow.variance[ok].sum(axis=1, keepdims=True)
    off = np.abs(fast.variance[ok] - slow.variance[ok])
    assert (off / total).max() < TOLERANCE
    is_large = slow.variance[ok] > 0.01 * total
    assert (off[is_large] / slow.variance[ok][is_large]).max() < TOLERANCE


@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger"])
@pytest.mark.parametrize("boundary", ["drop", "negative"])
@pytest.mark.parametrize("name", CASES)
def test_all_visits_against_the_generic_kernel(name, boundary, df):
    case = CASES[name]
    hot = over_visits(
        people(case), spread(case), STREAMS, {1: 1.0, 0: -1.0}, baseline="free", terms=frozenset(case.terms)
    )
    compare(hot, over_visits_by_generic(hot, case, df, boundary), df, boundary)


@pytest.mark.parametrize("sd_group", [0.22, 0.0])
@pytest.mark.parametrize("df", ["satterthwaite", "kenward-roger"])
def test_final_visit_against_the_generic_kernel(df, sd_group):
    """Half of the units are training groups, the others untreated; residual variances by arm."""
    case = Case((1, 50, 12), {"sd_group": sd_group})
    who = people(case, is_group=True)
    hot = at_final_visit(
        who, spread(case, trained=0.8), STREAMS, {1: 1.0, 0: -1.0}, random="training group", by_arm=True
    )
    unit = np.repeat(np.arange(who.arm.size), who.size)
    arm = who.arm[unit]
    y, seen = drawn(hot)
    is_in = np.where(arm == 1, 0, -1)[:, None, None]
    model = MixedModel(
        np.eye(2)[arm][:, None], "independent", residual_class=arm, block=np.where(arm == 1, unit, -1), column=is_in
    )
    slow = fit_mixed(model, y[:, :, -1:], seen[:, :, -1:], y[:, :, :1], hot.contrast[None], df=df)
    compare(hot, slow, df, "drop")
