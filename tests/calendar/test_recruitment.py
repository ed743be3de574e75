from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
from field import FULL, NAMES, allocation_of, exactly, full_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sim.calendar.days import open_days
from sim.calendar.plan import CalendarPlan
from sim.calendar.recruitment import Enrolment, recruit
from sim.errors import InvalidInput
from sim.trial import Allocation

START = date(2027, 7, 5)
ALONE = ("waves", "group_deadline", "smallest_group", "seasons", "closed")


def screening(**pool: int) -> dict[str, Any]:
    """That of the full plan with other pools; without one, no end of people."""
    return {
        name: {
            **{k: v for k, v in part.items() if k != "pool"},
            **({"pool": exactly(pool[name])} if name in pool else {}),
        }
        for name, part in FULL["recruitment"].items()
    }


def one_rate(*without: str, **changes: Any) -> CalendarPlan:
    changes = {"recruitment_per_district": "20 per week", **changes}
    return full_plan("recruitment", *without, **changes)


def recruited(plan: CalendarPlan, allocation: Allocation, seed: int = 0) -> Enrolment:
    return recruit(plan, allocation, open_days(plan, START), np.random.default_rng(seed), NAMES)


def test_enrolment_by_stratum_against_theory() -> None:
    """n who enrol come as a Poisson process of rate screened x eligible x consent; 1 / (e c) are screened for each."""
    plan, a = (
        full_plan(*ALONE, recruitment=screening()),
        allocation_of("individual", districts=3, participants_per_district=80),
    )
    runs = [recruited(plan, a, seed) for seed in range(400)]
    for s, (rate, e, c) in enumerate([(60 / 7, 0.8, 0.85), (40 / 7, 0.7, 0.85)]):
        n = int((a.stratum[a.district == 0] == s).sum())
        last = np.array([[r.day[(a.stratum == s) & (a.district == d)].max() for d in range(3)] for r in runs]).ravel()
        mean = n / (rate * e * c)
        assert abs(last.mean() - mean) < 4 * last.std() / np.sqrt(len(last))
        assert last.std() == pytest.approx(mean / np.sqrt(n), rel=4 / np.sqrt(2 * len(last)))
        for found, each in ((lambda r: r.screened, 1 / (e * c)), (lambda r: r.ineligible, (1 - e) / (e * c)),
                            (lambda r: r.refused, (1 - c) / c)):  # fmt: skip
            x = np.array([found(r)[:, s] for r in runs]).ravel() / n
            assert abs(x.mean() - each) < 4 * x.std() / np.sqrt(len(x))


def test_screening_and_waiting_belong_together() -> None:
    """Given k screened, the k-th comes at a gamma(k) time: (time x rate - k) / sqrt(k) has variance 1."""
    plan, a = (
        full_plan(*ALONE, recruitment=screening()),
        allocation_of("individual", districts=1, participants_per_district=80),
    )
    runs = [recruited(plan, a, seed) for seed in range(600)]
    last = np.array([r.day[a.stratum == 1].max() for r in runs]) * 40 / 7
    k = np.array([r.screened[0, 1] for r in runs])
    z = (last - k) / np.sqrt(k)
    assert abs(z.mean()) < 4 / np.sqrt(len(z))
    assert z.var() == pytest.approx(1, abs=4 * np.sqrt(2 / len(z)))


def test_at_one_rate_people_come_as_a_poisson_process() -> None:
    plan = one_rate(*ALONE)
    a = allocation_of("individual", districts=2, participants_per_district=60, training_group_size=5)
    gaps = []
    for seed in range(40):
        day = recruited(plan, a, seed).day
        gaps += [np.diff(np.sort(day[a.district == d]), prepend=0.0) for d in range(2)]
    assert stats.kstest(np.concatenate(gaps) * 20 / 7, "expon").pvalue > 0.001


@pytest.mark.parametrize("form", ["one rate", "by stratum"])
def test_seats_are_taken_in_order_of_the_groups(form: str) -> None:
    plan = one_rate(*ALONE) if form == "one rate" else full_plan(*ALONE, recruitment=screening())
    a = allocation_of("individual", districts=3, training_group_size=5)
    e = recruited(plan, a)
    for d in range(3):
        for s in [None] if form == "one rate" else range(2):
            mine = (a.district == d) & ((a.stratum == s) | (s is None))
            assert (np.diff(a.clock[mine][np.argsort(e.day[mine])]) >= 0).all()
    assert e.is_in.all() and e.turned_away.sum() == 0
    for g in range(len(a.group_district)):
        assert e.first[g] == e.day[a.clock == g].min() and e.complete[g] == e.day[a.clock == g].max()


def test_who_comes_first_on_a_clock_is_left_to_chance() -> None:
    """Arms of a group that stays short lose alike: the first of a clock is untreated as often as its share says."""
    a = allocation_of("individual", districts=1, participants_per_district=60, training_group_size=15)
    plan, first = one_rate(*ALONE), []
    for seed in range(400):
        day = recruited(plan, a, seed).day
        first += [not a.is_trained[np.flatnonzero(a.clock == g)[day[a.clock == g].argmin()]] for g in range(2)]
    assert abs(np.mean(first) - 0.5) < 4 * np.sqrt(0.25 / len(first))


@pytest.mark.parametrize("share", ["50%", "25%"])
def test_a_season_all_the_year_slows_recruitment_by_its_factor(share: str) -> None:
    season = {"year": {"first": "01-01", "last": "12-31", "availability": exactly(share)}}
    a = allocation_of("individual", districts=2)
    plain = recruited(one_rate(*ALONE), a).day
    slow = recruited(one_rate("waves", "group_deadline", "smallest_group", "closed", seasons=season), a).day
    np.testing.assert_allclose(slow * float(share.strip("%")) / 100, plain)


def test_nobody_is_screened_in_a_closed_period_and_less_in_a_season() -> None:
    closed = {"august": {"first": "08-01", "last": "08-31"}}
    season = {"july": {"first": "07-01", "last": "07-31", "availability": exactly("50%")}}
    a = allocation_of("individual", districts=4, participants_per_district=300)
    plan = full_plan(
        "waves", "group_deadline", "smallest_group", recruitment=screening(), closed=closed, seasons=season
    )
    day = np.concatenate([recruited(plan, a, seed).day[a.stratum == 0] for seed in range(20)])
    july, august = day < 27, (day >= 27) & (day < 58)
    assert not august.any()
    expected = 20 * 4 * 27 * 0.5 * 60 / 7 * 0.8 * 0.85
    assert abs(july.sum() - expected) < 4 * np.sqrt(expected)


def test_waves_open_one_after_another() -> None:
    plan = full_plan("group_deadline", "smallest_group", "seasons", "closed", recruitment=screening())
    a = allocation_of("individual", districts=5)
    e = recruited(plan, a)
    assert e.opening.tolist() == [0, 0, 28, 28, 56]
    together = recruited(full_plan(*ALONE, recruitment=screening()), a)
    np.testing.assert_allclose(e.day, together.day + e.opening[a.district])


def by_event(plan: CalendarPlan, a: Allocation, day: np.ndarray, deadline: float) -> tuple[np.ndarray, np.ndarray]:
    """Who comes takes the first clock that has a free seat of the stratum and is open: (people, complete) by clock.

    day : when everyone would come if every group waited until it is full.
    """
    n_group = len(a.group_district)
    free = np.zeros((n_group, 2), dtype=int)
    np.add.at(free, (a.clock, a.stratum), 1)
    taken, first = np.zeros_like(free), np.full(n_group, np.inf)
    complete = np.full(n_group, np.inf)
    for i in np.argsort(day):
        for g in np.flatnonzero(a.group_district == a.district[i]):
            if taken[g, a.stratum[i]] < free[g, a.stratum[i]] and day[i] <= first[g] + deadline:
                taken[g, a.stratum[i]] += 1
                first[g] = min(first[g], day[i])
                complete[g] = day[i] if (taken[g] == free[g]).all() else first[g] + deadline
                break
    return taken, complete


@given(
    deadline=st.integers(1, 40), seed=st.integers(0, 10**6), size=st.integers(2, 12), rate=st.integers(2, 60),
    separate=st.booleans(),
)  # fmt: skip
@settings(max_examples=120, deadline=None, derandomize=True)
def test_groups_with_a_deadline_against_event_by_event(
    deadline: int, seed: int, size: int, rate: int, separate: bool
) -> None:
    arms = {"control": {"format": "none"}, "mixed": {"format": "separate" if separate else "mixed"}}
    a = allocation_of("individual", districts=3, participants_per_district=40, training_group_size=size, arms=arms)
    recruitment = screening()
    recruitment["released_perpetrators"]["screened"] = f"{rate} per week"
    keys = ("waves", "smallest_group", "seasons", "closed")
    plan = full_plan(*keys, recruitment=recruitment, group_deadline=f"{deadline} days")
    patient = recruited(full_plan(*ALONE, recruitment=recruitment), a, seed)
    found = recruited(plan, a, seed)
    taken, complete = by_event(plan, a, patient.day, deadline)
    came = np.zeros_like(taken)
    here = np.isfinite(found.day)
    np.add.at(came, (a.clock[here], a.stratum[here]), 1)
    np.testing.assert_array_equal(came, taken)
    np.testing.assert_allclose(found.complete, complete)
    assert set(found.day[here].tolist()) <= set(patient.day.tolist())


@pytest.mark.parametrize("pool", [20, 60, 165])
def test_a_pool_that_ends_is_screened_to_the_last(pool: int) -> None:
    a = allocation_of("individual", districts=4, participants_per_district=120, training_group_size=10)
    plan = full_plan("waves", "smallest_group", recruitment=screening(released_perpetrators=pool))
    e = recruited(plan, a)
    planned = np.bincount(a.district[a.stratum == 1])
    assert (e.screened[:, 1] <= pool).all()
    short = e.enrolled[:, 1] < planned
    assert (e.screened[short, 1] == pool).all()
    assert short.all() == (pool < 165)
    np.testing.assert_array_equal(e.screened, e.ineligible + e.refused + e.enrolled)


def test_exhausted_pool_message() -> None:
    a = allocation_of("individual", districts=2, participants_per_district=120)
    plan = full_plan(*ALONE, recruitment=screening(released_perpetrators=55))
    with pytest.raises(InvalidInput) as caught:
        recruited(plan, a)
    [problem] = caught.value.problems
    assert problem.field == "calendar.recruitment.released_perpetrators.pool"
    assert "starts on 2027-07-05, district 1, from 2027-07-" in problem.message
    assert "the pool of 55 released_perpetrators is exhausted with" in problem.message
    assert "of 60 enrolled" in problem.message and "group_deadline" in problem.message


@pytest.mark.parametrize(
    "plan, field",
    [
        (one_rate(*ALONE, recruitment_per_district="0.01 per week"), "calendar.recruitment_per_district"),
        (full_plan("waves", closed={"ever": {"first": "01-01", "last": "12-31"}}), "calendar.closed"),
    ],
)
def test_recruitment_that_never_ends_is_refused(plan: CalendarPlan, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        recruited(plan, allocation_of("individual"))
    assert [problem.field for problem in caught.value.problems] == [field]


def test_a_group_that_stays_too_small_is_turned_away() -> None:
    a = allocation_of("individual", districts=4, participants_per_district=60, training_group_size=10)
    plan = full_plan("waves", recruitment=screening(released_perpetrators=30), smallest_group=8)
    e = recruited(plan, a)
    trained = np.bincount(a.training_group[e.is_in & a.is_trained], minlength=len(a.group_district))
    came = np.bincount(a.training_group[np.isfinite(e.day) & a.is_trained], minlength=len(a.group_district))
    assert e.turned_away.sum() > 0 and (came[trained == 0] < 8).all() and (trained[trained > 0] >= 8).all()
    gone = np.isfinite(e.day) & ~e.is_in
    np.testing.assert_array_equal(e.turned_away.sum(axis=1), np.bincount(a.district[gone], minlength=4))


def test_people_trained_alone_are_never_too_few() -> None:
    a = allocation_of("individual", districts=2, training_group_size=None)
    e = recruited(full_plan("waves"), a)
    assert e.is_in.all()
