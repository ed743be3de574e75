"""Our side of the mixed-model benchmark, by workload: seconds a replicate, the floor, and fits of a peer's data sets.

Seconds are processor time of one core for drawing, dropping out, fitting and small-sample inference (Kenward-Roger, and
Satterthwaite for W4); the floor is the drawing of the random numbers alone, with nothing done to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numba import njit
from workloads import WORKLOADS, Answers, Sets, Workload, draw

from sim.fused.trials import Hot, Population, Scores, at_final_visit, over_visits
from sim.kernels.mixed import MixedFit, MixedModel, fit_mixed
from sim.lanes import LANES, everywhere, load, store
from sim.streams import Streams, normal_pair, uniform_pair

REPLICATES = {"W4": 640}
SOME = 6_400


def population(workload: Workload) -> Population:
    """Participants by unit: who shares arm, district and village."""
    key = np.stack([workload.district, workload.village, workload.arm], axis=1)
    unit, of, size = np.unique(key, axis=0, return_inverse=True, return_counts=True)
    district, village, arm = unit.T
    order = np.argsort(of.ravel(), kind="stable")
    nobody = np.full(len(size), -1)
    of_place = (nobody, village) if workload.name == "W3" else (village, nobody)
    member = np.concatenate([np.arange(n) for n in size])
    return Population(size, arm, district, *of_place, arm > 0, of.ravel()[order], member)


def scores(workload: Workload) -> Scores:
    T, is_group = workload.n_visit, workload.name == "W3"
    intercept = np.full((2, T), -np.inf)
    if workload.dropout:
        intercept[:, -1] = np.log(workload.dropout / (1 - workload.dropout))
    seen = np.ones(T)
    seen[-1] -= workload.dropout
    return Scores(
        participant=np.array([workload.participant_variance + np.diag(workload.residual[k]) for k in (0, 1)]),
        sd_district=np.sqrt(workload.district_variance),
        sd_village=0.0 if is_group else np.sqrt(workload.village_variance),
        sd_village_by_visit=np.sqrt(workload.village_visit_variance),
        sd_group=np.sqrt(workload.village_variance) if is_group else 0.0,
        intercept=intercept,
        slope=0.0,
        seen=seen,
        sd=np.ones(T),
    )


def hot(workload: Workload) -> Hot:
    """The workload in lanes."""
    given = population(workload), scores(workload), Streams(1, workload.name), {1: 1.0, 0: -1.0}
    if workload.is_ancova:
        is_group = workload.name == "W3"
        return at_final_visit(*given, random="training group" if is_group else "village", by_arm=is_group)
    has = {"village": workload.village_variance, "village by visit": workload.village_visit_variance,
           "district": workload.district_variance}  # fmt: skip
    return over_visits(*given, baseline="free", terms=frozenset(name for name, variance in has.items() if variance))


def seconds(workload: Workload) -> float:
    """Processor seconds a replicate, drawing and inference included."""
    trial, df = hot(workload), "satterthwaite" if workload.name == "W4" else "kenward-roger"
    n = REPLICATES.get(workload.name, SOME)
    trial.fit(np.arange(LANES), df)
    began = time.thread_time()
    trial.fit(np.arange(n), df)
    return (time.thread_time() - began) / n


@njit(cache=True, error_model="numpy")
def _numbers(n_participant, n_visit, has_dropout, replicate, out):  # type: ignore[no-untyped-def]
    """The normals and uniforms of LANES replicates, added up."""
    who, total = load(replicate, 0), everywhere(0.0)
    k0, k1 = np.uint64(1), np.uint64(2)
    for j in range(n_participant):
        member = everywhere(np.uint64(j))
        for s in range(0, n_visit, 2):
            z, z_next = normal_pair(everywhere(np.uint64(s // 2)), member, everywhere(np.uint64(0)), who, k0, k1)
            total = total + z + z_next
        for s in range(0, n_visit - 1 if has_dropout else 0, 2):
            u, u_next = uniform_pair(everywhere(np.uint64(s // 2)), member, everywhere(np.uint64(1)), who, k0, k1)
            total = total + u + u_next
    store(out, total, 0)


def floor(workload: Workload) -> float:
    """Processor seconds a replicate of drawing the participants' random numbers alone."""
    replicate, out = np.arange(LANES, dtype=np.uint64)[None], np.zeros((1, LANES))
    shape = workload.n_participant, workload.n_visit, workload.dropout > 0
    _numbers(*shape, replicate, out)
    n = max(1, 200_000 // workload.n_participant)
    began = time.thread_time()
    for _ in range(n):
        _numbers(*shape, replicate, out)
    return (time.thread_time() - began) / n / LANES


def model(workload: Workload) -> MixedModel:
    """The workload's analysis as the generic kernel takes it."""
    N, T = workload.n_participant, workload.n_visit
    arm = workload.arm[:, None, None].astype(float)
    one = np.zeros((N, T, 1), dtype=np.int64)
    if workload.is_ancova:
        is_in = np.where(workload.village >= 0, 0, -1)[:, None, None]
        own = workload.arm if workload.name == "W3" else None
        columns = np.concatenate([np.ones((N, 1, 1)), arm], axis=2)
        return MixedModel(columns, "independent", residual_class=own, block=workload.village, column=is_in)
    visit = np.broadcast_to(np.eye(T)[:, 1:], (N, T, T - 1))
    columns = np.concatenate([np.ones((N, T, 1)), np.broadcast_to(arm, (N, T, 1)), visit, arm * visit], axis=2)
    if workload.name == "W1":
        return MixedModel(columns, "intercept")
    if workload.name == "W4":
        column = np.concatenate([one, 1 + one + (workload.village % 20)[:, None, None]], axis=2)
        return MixedModel(columns, "intercept", block=workload.district, column=column)
    by_visit = [1 + one + np.arange(T)[:, None]] if workload.village_visit_variance else []
    return MixedModel(columns, "intercept", block=workload.village, column=np.concatenate([one, *by_visit], axis=2))


def generic(workload: Workload, sets: Sets, df: str = "satterthwaite") -> MixedFit:
    """Data sets fitted by the generic kernel."""
    contrast = np.array([workload.contrast], dtype=float)
    if workload.is_ancova:
        return fit_mixed(
            model(workload), sets.y[:, :, -1:], sets.observed[:, :, -1:], sets.y[:, :, :1], contrast, df=df
        )
    nothing = np.empty((len(sets.y), workload.n_participant, 0))
    return fit_mixed(model(workload), sets.y, sets.observed, nothing, contrast, df=df)


def fit(workload: Workload, sets: Sets) -> Answers:
    """What the peers' answers are compared with."""
    found = generic(workload, sets)
    return Answers(found.estimate[:, 0], found.standard_error[:, 0], found.df[:, 0])


def generic_seconds(workload: Workload) -> float:
    """Processor seconds a replicate of the generic kernel: random numbers one by one, scores stored, Kenward-Roger."""
    n = 40 if workload.name == "W4" else 400
    sets = draw(workload, n, seed=1)
    df = "satterthwaite" if workload.name == "W4" else "kenward-roger"
    generic(workload, Sets(sets.y[:2], sets.observed[:2]), df)
    streams, who = Streams(1, workload.name), np.zeros(workload.n_participant, np.int32)
    member, number = np.arange(workload.n_participant, dtype=np.int32), np.arange(n, dtype=np.int32)
    began = time.thread_time()
    streams.normal("participant", number, who, member, workload.n_visit)
    generic(workload, sets, df)
    return (time.thread_time() - began) / n


SECONDS: dict[str, Callable[[Workload], float]] = dict.fromkeys(WORKLOADS, seconds)
FLOOR: dict[str, Callable[[Workload], float]] = dict.fromkeys(WORKLOADS, floor)
GENERIC: dict[str, Callable[[Workload], float]] = dict.fromkeys(WORKLOADS, generic_seconds)
FIT: dict[str, Callable[[Workload, Sets], Answers]] = dict.fromkeys(WORKLOADS, fit)
