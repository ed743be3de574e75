"""The mixed models against the kernel called directly; where a random term is nobody's, they are the simpler ones."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planned import NAMES, STREAMS, allocate, model, never_in_a_window

from sim.analyses.ancova import Ancova
from sim.analyses.lmm import Lmm
from sim.analyses.mixed_ancova import MixedAncova
from sim.errors import InvalidInput
from sim.kernels.mixed import MixedFit, MixedModel, fit_mixed
from sim.scenario.load import read_scenario
from sim.trial import FAILED, Fit, Trial

ROOT = Path(__file__).parents[2]


def trial_of(kind: str, visits: tuple[int, ...] = (0, 1, 2), **changes: Any) -> Trial:
    a, replicate = allocate(kind, **changes), np.arange(6, dtype=np.int32)
    outcome = model().generate(NAMES, np.array([0.3, 0.2]), a, never_in_a_window(a), STREAMS, replicate)
    y = outcome.score[0, 0][:, :, visits]
    observed = np.ones(y.shape, dtype=bool)
    observed[:, ::7, -1] = False
    return Trial(y, observed, a, np.full(a.n_participant, -1, np.int32))


def same(one: Fit, other: Fit) -> None:
    for name in ("estimate", "standard_error", "df"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6)


@pytest.mark.parametrize("kind", ["individual", "village"])
def test_one_visit_after_the_baseline_is_the_mixed_ancova(kind: str) -> None:
    trial = trial_of(kind, (0, 2))
    same(Lmm(kind="lmm").analyse(trial), MixedAncova(kind="mixed_ancova").analyse(trial))


def test_without_clusters_the_mixed_ancova_is_the_ancova() -> None:
    trial = trial_of("individual", training_group_size=None)
    same(MixedAncova(kind="mixed_ancova").analyse(trial), Ancova(kind="ancova").analyse(trial))
    assert (Lmm(kind="lmm", baseline="constrained").analyse(trial).status == 0).all()


# ---- options --------------------------------------------------------------------------------------------------------


def observed_trial(**changes: Any) -> Trial:
    """Villages in one district and stratum; a tenth are not seen at the last visit."""
    trial = trial_of("village", districts=1, villages_per_district=8, **changes)
    return replace(trial, allocation=replace(trial.allocation, stratum=np.zeros_like(trial.allocation.stratum)))


def columns_of(code: Any) -> Any:
    return np.eye(int(code.max()) + 1)[code]


def by_hand(trial: Trial, *, constrained: bool, village_by_visit: bool, **options: Any) -> MixedFit:
    """The model of `lmm` written out: a mean for every visit, the arm's difference from it, and nested intercepts."""
    n, n_visit = trial.y.shape[1:]
    visit, treated = np.eye(n_visit), trial.allocation.arm == 1
    X = np.zeros((n, n_visit, 2 * n_visit))
    X[:, :, :n_visit] = visit
    X[treated, :, n_visit:] = visit
    if constrained:
        X = np.delete(X, n_visit, axis=2)
    column = np.zeros((n, n_visit, 1), np.int64)
    if village_by_visit:
        column = np.concatenate([column, np.broadcast_to(1 + np.arange(n_visit)[:, None], column.shape)], axis=2)
    contrast = np.eye(X.shape[2])[-1:]
    model = MixedModel(X, "intercept", block=trial.allocation.village, column=column)
    return fit_mixed(model, trial.y, trial.observed, np.empty((len(trial.y), n, 0)), contrast, **options)


def agrees(fit: Fit, direct: MixedFit) -> None:
    np.testing.assert_array_equal(fit.status, direct.status)
    assert (fit.status != FAILED).any()
    for name in ("estimate", "standard_error", "df"):
        np.testing.assert_allclose(getattr(fit, name), getattr(direct, name)[:, 0], rtol=1e-10, err_msg=name)


CHOICES = [
    {"df": df, "boundary": boundary}
    for df in ("satterthwaite", "satterthwaite-expected", "kenward-roger", "between-within", "z")
    for boundary in ("drop", "keep", "negative")
] + [{"method": "ml", "df": df} for df in ("satterthwaite", "z")]


@pytest.mark.parametrize("options", CHOICES, ids=lambda options: " ".join(options.values()))
def test_options_of_the_lmm_are_those_of_the_kernel(options: dict[str, Any]) -> None:
    trial = observed_trial()
    fit = Lmm(kind="lmm", baseline="constrained", **options).analyse(trial)
    agrees(fit, by_hand(trial, constrained=True, village_by_visit=True, **options))


@pytest.mark.parametrize("village_by_visit", [True, False])
def test_terms_of_the_lmm_are_those_it_names(village_by_visit: bool) -> None:
    trial = observed_trial()
    fit = Lmm(kind="lmm", baseline="free", village_by_visit=village_by_visit).analyse(trial)
    agrees(fit, by_hand(trial, constrained=False, village_by_visit=village_by_visit))


@pytest.mark.parametrize("options", CHOICES, ids=lambda options: " ".join(options.values()))
@pytest.mark.parametrize("by_arm", [False, True])
def test_options_of_the_mixed_ancova_are_those_of_the_kernel(by_arm: bool, options: dict[str, Any]) -> None:
    trial = observed_trial()
    arm = trial.allocation.arm
    fit = MixedAncova(kind="mixed_ancova", residual_by_arm=by_arm, **options).analyse(trial)
    model = MixedModel(
        np.stack([np.ones(len(arm)), arm], axis=1)[:, None],
        "independent",
        residual_class=arm if by_arm else None,
        block=trial.allocation.village,
        column=np.zeros((len(arm), 1, 1)),
    )
    last, baseline = trial.y[:, :, -1:], trial.y[:, :, :1]
    contrast = np.array([[0.0, 1.0, 0.0]])
    agrees(fit, fit_mixed(model, last, trial.observed[:, :, -1:], baseline, contrast, **options))


def test_districts_may_be_a_random_intercept_above_the_village() -> None:
    trial = trial_of("village", districts=4, villages_per_district=4)
    trial = replace(trial, allocation=replace(trial.allocation, stratum=np.zeros_like(trial.allocation.stratum)))
    a, n_visit = trial.allocation, trial.y.shape[2]
    fit = Lmm(kind="lmm", baseline="free", district="random", village_by_visit=False).analyse(trial)
    visit = np.eye(n_visit)
    X = np.einsum("na,tv->ntav", columns_of(a.arm), visit).reshape(len(a.arm), n_visit, -1)
    village = a.village % 4
    column = np.repeat(np.stack([village, np.full(len(village), 4)], axis=1)[:, None], n_visit, axis=1)
    model = MixedModel(X, "intercept", block=a.district, column=column)
    contrast = np.zeros((1, X.shape[2]))
    contrast[0, [n_visit - 1, -1]] = -1, 1
    nothing = np.empty((len(trial.y), len(a.arm), 0))
    agrees(fit, fit_mixed(model, trial.y, trial.observed, nothing, contrast))
    fixed = Lmm(kind="lmm", baseline="free", district="fixed", village_by_visit=False).analyse(trial)
    assert not np.allclose(fixed.standard_error, fit.standard_error, rtol=1e-6)


def test_a_single_district_is_neither_fixed_nor_random() -> None:
    trial = observed_trial()
    one, other = (Lmm(kind="lmm", baseline="free", district=kind).analyse(trial) for kind in ("fixed", "random"))
    for name in ("estimate", "standard_error", "df", "status"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("kind", ["lmm", "mixed_ancova"])
def test_kenward_roger_by_maximum_likelihood_message(kind: str, tmp_path: Path) -> None:
    text = (ROOT / "scenarios" / "parallel_cluster.yaml").read_text(encoding="utf-8")
    text = text.replace(", df: kenward-roger", "")
    changed, n = re.subn(rf"  {kind}: \{{kind: {kind}", r"\g<0>, method: ml, df: kenward-roger", text)
    assert n == 1
    (tmp_path / "s.yaml").write_text(changed, encoding="utf-8")
    line = 1 + next(i for i, one in enumerate(changed.splitlines()) if "method: ml" in one)
    with pytest.raises(InvalidInput) as error:
        read_scenario(tmp_path / "s.yaml")
    assert len(error.value.problems) == 1
    said = str(error.value)
    assert f"s.yaml:{line}:" in said
    assert f"analyses.{kind}.df" in said
    assert "Kenward-Roger is defined for method reml only" in said
