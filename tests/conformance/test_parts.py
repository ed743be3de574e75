"""What every registered part must do, whatever it is; parts are found by discovery, none is named here."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import NAMES, STREAMS, THREE_ARMS, never_in_a_window
from pydantic import ValidationError

from sim.parts import ANALYSES, DESIGNS, ESTIMANDS, MISSINGNESS, MODELS, Part, Registry
from sim.trial import Allocation, Contrast, Fit, Trial

FAMILIES = (DESIGNS, MODELS, MISSINGNESS, ANALYSES, ESTIMANDS)
PARTS = [pytest.param(family, name, id=f"{family.family}-{name}") for family in FAMILIES for name in family]
R = 6


def build(family: Registry, name: str, **changes: Any) -> Any:
    part = family.discover()[name]
    return part.model_validate({**part.example, **changes})


# ---- every part -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "name"), PARTS)
def test_the_example_is_complete_and_of_its_kind(family: Registry, name: str) -> None:
    part = build(family, name)
    assert isinstance(part, Part) and part.kind == name
    with pytest.raises(ValidationError, match="kind"):
        build(family, name, kind="something_else")


@pytest.mark.parametrize(("family", "name"), PARTS)
def test_unknown_fields_are_refused(family: Registry, name: str) -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        build(family, name, no_such_field=1)


@pytest.mark.parametrize(("family", "name"), PARTS)
def test_parts_are_frozen(family: Registry, name: str) -> None:
    part = build(family, name)
    for field in type(part).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, field, getattr(part, field))


@pytest.mark.parametrize(("family", "name"), PARTS)
def test_parts_with_the_same_fields_are_equal_and_have_a_docstring(family: Registry, name: str) -> None:
    assert build(family, name) == build(family, name)
    assert (family.discover()[name].__doc__ or "").strip()


def test_a_name_cannot_be_taken_twice() -> None:
    with pytest.raises(ValueError, match="two analysis parts"):
        ANALYSES.register(next(iter(ANALYSES)))(Part)


# ---- designs --------------------------------------------------------------------------------------------------


def variants(name: str) -> list[dict[str, Any]]:
    """Changes of a design's example that its fields allow."""
    fields = DESIGNS.discover()[name].model_fields
    found: list[dict[str, Any]] = [{}]
    if fields["contrast"].is_required():
        found += [
            {"districts": 3},
            {"arms": THREE_ARMS, "contrast": "mixed - separate"},
            {"arms": {k: THREE_ARMS[k] for k in ("mixed", "separate")}, "contrast": "mixed - separate", "districts": 3},
            {"arms": {"separate": {"format": "separate"}, "control": {"format": "none", "allocation": 2}},
             "contrast": "separate - control"},
        ]  # fmt: skip
    if "stratified_allocation" in fields:
        found += [{"stratified_allocation": False, "arms": THREE_ARMS}, {"training_group_size": None}]
    return found


ALLOCATIONS = [pytest.param(n, c, id=f"{n}-{i}") for n in DESIGNS for i, c in enumerate(variants(n))]


def allocate(name: str, changes: dict[str, Any], seed: int = 0, share: tuple[float, ...] = NAMES.share) -> Allocation:
    names = replace(NAMES, share=share)
    allocation: Allocation = build(DESIGNS, name, **changes).allocate(names, np.random.default_rng(seed))
    return allocation


def check_contract(a: Allocation, plan: Any, share: tuple[float, ...]) -> None:
    columns = (a.arm, a.stratum, a.district, a.village, a.training_group, a.clock, a.cluster, a.member)
    n, n_group = a.n_participant, len(a.group_district)
    for column in (*columns, a.group_district):
        assert column.dtype == np.int32 and column.ndim == 1 and column.flags.c_contiguous
    assert {len(column) for column in columns} == {n} and n > 0
    assert set(a.arm) == set(range(len(a.arms))) and set(a.stratum) <= set(range(len(share)))
    assert set(a.district) == set(a.group_district) == set(range(plan.districts))
    # -1 in untreated arms, nowhere else; a village for everyone or for nobody
    in_groups = getattr(plan, "training_group_size", 0) is not None
    np.testing.assert_array_equal(a.training_group >= 0, a.is_trained & in_groups)
    assert a.training_group.min() >= -1 and a.village.min() >= -1
    assert a.has_villages or (a.village == -1).all()
    # clocks
    assert ((a.clock >= 0) & (a.clock < n_group)).all()
    np.testing.assert_array_equal(a.clock[a.training_group >= 0], a.training_group[a.training_group >= 0])
    np.testing.assert_array_equal(a.group_district[a.clock], a.district)
    # everyone has one name in the random streams
    assert (a.cluster >= 0).all() and (a.member >= 0).all()
    assert len(set(zip(a.cluster.tolist(), a.member.tolist(), strict=True))) == n
    place = a.village if a.has_villages else a.district
    np.testing.assert_array_equal(a.cluster, place)
    # groups: none empty, one arm, one district, one village if there are villages, one stratum if separate
    for group in range(n_group if in_groups else 0):
        members = a.training_group == group
        assert members.any()
        [arm] = np.unique(a.arm[members])
        if a.has_villages:
            assert len(np.unique(a.village[members])) == 1
        if a.arms[arm].format == "separate" and not getattr(list(plan.arms.values())[arm], "stratum", None):
            assert len(np.unique(a.stratum[members])) == 1
        if hasattr(plan, "training_group_size"):
            assert members.sum() <= plan.training_group_size
    # nobody is lost or made up
    if hasattr(plan, "participants_per_district"):
        np.testing.assert_array_equal(np.bincount(a.district), [plan.participants_per_district] * plan.districts)
    if hasattr(plan, "villages_per_district"):
        per_district = [len(np.unique(a.village[a.district == d])) for d in range(plan.districts)]
        assert per_district == [plan.villages_per_district] * plan.districts
        assert len(np.unique(a.village)) == plan.villages_per_district * plan.districts
    # strata balanced within arm
    if getattr(plan, "stratified_allocation", True):
        unit = place * len(a.arms) + a.arm
        for u in np.unique(unit):
            here = unit == u
            if getattr(list(plan.arms.values())[a.arm[here][0]], "stratum", None) is None:
                for stratum, p in enumerate(share):
                    assert abs((a.stratum[here] == stratum).sum() - p * here.sum()) < 1


@pytest.mark.parametrize(("name", "changes"), ALLOCATIONS)
@pytest.mark.parametrize("share", [(0.5, 0.5), (0.6, 0.4), (0.13, 0.87)])
def test_allocation_contract(name: str, changes: dict[str, Any], share: tuple[float, float]) -> None:
    for seed in range(3):
        check_contract(allocate(name, changes, seed, share), build(DESIGNS, name, **changes), share)


@given(
    districts=st.integers(1, 4), n=st.integers(4, 90), size=st.integers(1, 20), weight=st.sampled_from([0.5, 1.0, 3.0]),
    separate=st.booleans(), share=st.floats(0.05, 0.95), stratified=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None, derandomize=True)
def test_allocation_contract_whatever_the_numbers(
    districts: int, n: int, size: int, weight: float, separate: bool, share: float, stratified: bool
) -> None:
    arms = {"control": {"format": "none"}, "mixed": {"format": "mixed", "allocation": weight}}
    arms |= {"separate": {"format": "separate"}} if separate else {}
    common = {"districts": districts, "arms": arms}
    groups = {"training_group_size": size, "stratified_allocation": stratified}
    for name, changes in (
        ("individual", {"participants_per_district": n, **groups}),
        ("village", {"villages_per_district": max(2, n // 8), "village_size": {"mean": size + 1, "cv": 0.4}}),
    ):
        try:
            plan = build(DESIGNS, name, **common, **changes)
        except ValidationError:
            continue
        check_contract(allocate(name, {**common, **changes}, 1, (share, 1 - share)), plan, (share, 1 - share))


@pytest.mark.parametrize(("name", "changes"), ALLOCATIONS)
def test_same_seed_same_allocation(name: str, changes: dict[str, Any]) -> None:
    one, two = allocate(name, changes, 5), allocate(name, changes, 5)
    for column in ("arm", "stratum", "village", "training_group", "clock", "cluster", "member"):
        np.testing.assert_array_equal(getattr(one, column), getattr(two, column))


# ---- models and missingness -----------------------------------------------------------------------------------

MODEL_BY_DESIGN = [
    pytest.param(m, x, d, id=f"{m}-{x}-{d}") for m in MODELS for x in MISSINGNESS for d in DESIGNS
]  # fmt: skip


@pytest.mark.parametrize(("model", "missing", "design"), MODEL_BY_DESIGN)
def test_generated_and_observed_arrays(model: str, missing: str, design: str) -> None:
    a = allocate(design, {})
    dates, replicate = never_in_a_window(a), np.arange(R, dtype=np.int32)
    part = build(MODELS, model)
    names = replace(NAMES, outcome=tuple(part.outcomes))
    outcome = part.generate(names, np.array([0.3, 0.2])[: len(names.outcome)], a, dates, STREAMS, replicate)
    assert outcome.score.shape == (len(names.outcome), 2, R, a.n_participant, 3) and np.isfinite(outcome.score).all()
    assert outcome.deviation.shape == (R, a.n_participant, 3)
    assert outcome.deviation_covariance.shape == (2, 3, 3)
    seen = build(MISSINGNESS, missing).observe(NAMES, a, dates, outcome, STREAMS, replicate)
    assert seen.shape == (R, a.n_participant, 3) and seen.dtype == bool and seen[:, :, 0].all()


# ---- analyses -------------------------------------------------------------------------------------------------


@cache
def trial_of(design: str) -> Trial:
    a = allocate(design, {})
    dates, replicate = never_in_a_window(a), np.arange(R, dtype=np.int32)
    outcome = build(MODELS, next(iter(MODELS))).generate(NAMES, np.array([0.3, 0.2]), a, dates, STREAMS, replicate)
    observed = build(MISSINGNESS, next(iter(MISSINGNESS))).observe(NAMES, a, dates, outcome, STREAMS, replicate)
    return Trial(outcome.score[0, 0], observed, a, np.where(a.is_trained, a.clock % 2, -1).astype(np.int32))


def can_analyse(analysis: str, design: str) -> bool:
    return not (ANALYSES.discover()[analysis].needs_control and build(DESIGNS, design).contrast_arms.control is None)  # type: ignore[attr-defined]


ANALYSIS_BY_DESIGN = [
    pytest.param(a, d, id=f"{a}-{d}") for a in ANALYSES for d in DESIGNS if can_analyse(a, d)
]  # fmt: skip


def fit(analysis: str, trial: Trial) -> Fit:
    found: Fit = build(ANALYSES, analysis).analyse(trial)
    return found


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(("analysis", "design"), ANALYSIS_BY_DESIGN)
def test_fit_has_one_finite_number_a_replicate(analysis: str, design: str) -> None:
    found = fit(analysis, trial_of(design))
    for column in (found.estimate, found.standard_error, found.df, *found.extra.values()):
        assert column.shape == (R,) and column.dtype == np.float64
    assert found.status.shape == (R,) and (found.status != 2).all()
    assert np.isfinite(found.estimate).all() and (found.standard_error > 0).all() and (found.df > 0).all()


@pytest.mark.parametrize(("analysis", "design"), ANALYSIS_BY_DESIGN)
def test_estimate_is_the_same_for_shifted_scores_and_scales_with_them(analysis: str, design: str) -> None:
    trial = trial_of(design)
    found = fit(analysis, trial)
    shifted = fit(analysis, replace(trial, y=trial.y + 3.0))
    close(shifted.estimate, found.estimate)
    close(shifted.standard_error, found.standard_error)
    for factor in (2.5, -1.0):
        scaled = fit(analysis, replace(trial, y=factor * trial.y))
        close(scaled.estimate, factor * found.estimate)
        close(scaled.standard_error, abs(factor) * found.standard_error)


@pytest.mark.parametrize(("analysis", "design"), ANALYSIS_BY_DESIGN)
def test_swapped_contrast_changes_the_sign_only(analysis: str, design: str) -> None:
    trial = trial_of(design)
    contrast = trial.allocation.contrast
    if contrast.control is None:
        pytest.skip("nothing to swap")
    allocation = replace(trial.allocation, contrast=Contrast(contrast.control, contrast.treated))
    ours, theirs = fit(analysis, trial), fit(analysis, replace(trial, allocation=allocation))
    close(theirs.estimate, -ours.estimate)
    close(theirs.standard_error, ours.standard_error)
    close(theirs.df, ours.df)


def left_by_the_first_stage(trial: Trial) -> np.ndarray:
    """(R,) what a first stage without the arm leaves of a shift of the treated: the arm's own adjusted difference."""
    a = trial.allocation
    left = []
    for y, seen in zip(trial.y, trial.observed[:, :, -1], strict=True):
        fixed = [np.eye(int(code.max()) + 1)[code][:, 1:] for code in (a.stratum, a.district)]
        X = np.column_stack([np.ones(a.n_participant), *fixed, y[:, 0]])[seen]
        arm = a.is_trained[seen].astype(float)
        residual = arm - X @ np.linalg.lstsq(X, arm, rcond=None)[0]
        own = 10_000 + np.arange(a.n_participant)
        unit = np.where(a.random_cluster >= 0, a.random_cluster, own)[seen]
        means = {u: (residual[unit == u].mean(), arm[unit == u][0]) for u in np.unique(unit)}
        by_arm = [np.mean([m for m, treated in means.values() if treated == t]) for t in (1.0, 0.0)]
        left.append(by_arm[0] - by_arm[1])
    return np.array(left)


@pytest.mark.parametrize(("analysis", "design"), ANALYSIS_BY_DESIGN)
def test_a_shift_of_the_treated_after_the_baseline_is_found(analysis: str, design: str) -> None:
    """Whole by a regression on arm; a first stage that leaves the arm out (Hayes & Moulton) takes a little of it."""
    trial = trial_of(design)
    treated = trial.allocation.is_trained[None, :, None] & (np.arange(3) > 0)
    moved = fit(analysis, replace(trial, y=trial.y + 0.7 * treated))
    kept = left_by_the_first_stage(trial) if analysis == "cluster_summary" else np.ones(R)
    assert (kept > 0.9).all()
    close(moved.estimate - fit(analysis, trial).estimate, 0.7 * kept)


@pytest.mark.parametrize(("analysis", "design"), ANALYSIS_BY_DESIGN)
def test_values_under_the_mask_are_not_read(analysis: str, design: str) -> None:
    trial = trial_of(design)
    other = fit(analysis, replace(trial, y=np.where(trial.observed, trial.y, 1e6)))
    np.testing.assert_array_equal(other.estimate, fit(analysis, trial).estimate)


@pytest.mark.parametrize(("analysis", "design"), ANALYSIS_BY_DESIGN)
def test_batch_equals_singles(analysis: str, design: str) -> None:
    trial = trial_of(design)
    together = fit(analysis, trial)
    for r in range(R):
        alone = fit(analysis, replace(trial, y=trial.y[r : r + 1], observed=trial.observed[r : r + 1]))
        for name in ("estimate", "standard_error", "df", "status"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[r])
