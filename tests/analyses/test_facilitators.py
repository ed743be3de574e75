"""The facilitator team as a random intercept, against the covariance written out in words; teams that take turns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from planned import allocate
from reference.dense_mixed import DenseMixed, linear

from sim.analyses.matrices import cluster_terms, final_visit, with_facilitators
from sim.analyses.mixed_ancova import MixedAncova
from sim.kernels.mixed import MixedModel
from sim.trial import OK, SINGULAR, Allocation, Trial

DESIGNS: dict[str, dict[str, Any]] = {
    "individual": {"participants_per_district": 60, "training_group_size": 5},
    "village": {"villages_per_district": 8, "village_size": {"mean": 6}},
    "village, trained apart": {
        "villages_per_district": 8, "village_size": {"mean": 8},
        "arms": {"control": {"format": "none"}, "separate": {"format": "separate"}}, "contrast": "separate - control",
    },
}  # fmt: skip


def trial_of(design: str, n_team: int, seed: int = 1) -> Trial:
    """Teams take turns over the training groups; the SDs of team, cluster and residual are .8, .6 and 1."""
    a = allocate(design.split(",")[0], districts=2, **DESIGNS[design])
    rng = np.random.default_rng(seed)
    team = np.where(a.is_trained, a.clock % n_team, -1).astype(np.int32)
    y = rng.normal(size=(1, a.n_participant, 2))
    y[0, :, 1] += np.append(rng.normal(0, 0.8, n_team), 0)[team]
    y[0, :, 1] += np.append(rng.normal(0, 0.6, 400), 0)[a.random_cluster] + 0.3 * y[0, :, 0]
    y[0, :, 1] += np.append(rng.normal(0, 0.6, 400), 0)[a.training_group]
    observed = np.ones(y.shape, dtype=bool)
    observed[0, ::9, 1] = False
    return Trial(y, observed, a, team)


def together(code: np.ndarray) -> np.ndarray:
    """(n, n) whether two have the same code, nobody where it is -1."""
    return ((code[:, None] == code) & (code >= 0)).astype(float)


def twin_of(trial: Trial) -> tuple[DenseMixed, np.ndarray]:
    a, seen = trial.allocation, trial.observed[0, :, 1]
    columns, contrast = final_visit(a)
    X = np.concatenate([columns[:, 0], trial.y[0, :, :1]], axis=1)[seen]
    cluster = [together(a.random_cluster)]
    if cluster_terms(a).shape[1] == 2:
        cluster.append(together(a.training_group))
    V = np.array([np.eye(len(seen)), together(trial.team), *cluster])[:, seen][:, :, seen]
    return DenseMixed(trial.y[0, seen, 1], X, linear(V)), contrast[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("design", DESIGNS)
def test_against_slow_version(design: str, seed: int) -> None:
    trial = trial_of(design, 3, seed)
    fit = MixedAncova(kind="mixed_ancova", facilitator="random").analyse(trial)
    twin, contrast = twin_of(trial)
    n = 4 if design.endswith("apart") else 3
    theta = twin.fit(1, n)
    free = theta > 1e-3
    theta = np.where(free, theta, 0.0)
    for _ in range(30):  # Fisher scoring, for more digits than a general optimiser has
        step = np.linalg.solve(twin.expected(theta)[np.ix_(free, free)], twin.score(theta)[free])
        theta[free] += step
    assert np.all(theta[free] > 0) and np.all(twin.score(theta)[~free] <= 1e-9)
    estimate, standard_error, df = twin.satterthwaite(theta, contrast)
    assert fit.status[0] == (OK if free.all() else SINGULAR)
    found = [fit.estimate[0], fit.standard_error[0], fit.df[0]]
    np.testing.assert_allclose(found, [estimate, standard_error, df], rtol=1e-6)


def test_a_single_team_cannot_be_told_from_the_training() -> None:
    one = trial_of("individual", 1)
    fits = [MixedAncova(kind="mixed_ancova", facilitator=f).analyse(one) for f in ("random", "ignored")]
    for name in ("estimate", "standard_error", "df"):
        np.testing.assert_array_equal(getattr(fits[0], name), getattr(fits[1], name))


def columns_of(a: Allocation, team: np.ndarray) -> list[set[tuple[int, int]]]:
    """The people who share each column of each term, as sets of pairs."""
    block, column = with_facilitators(a, team)
    MixedModel(final_visit(a)[0], "independent", block=block, column=column[:, None, :])
    pairs = []
    for k in range(column.shape[1]):
        has = (column[:, k] >= 0) & (block >= 0)
        same = has[:, None] & has & (block[:, None] == block) & (column[:, None, k] == column[:, k])
        pairs.append(set(zip(*map(np.ndarray.tolist, np.nonzero(same)), strict=True)))
    return pairs


@pytest.mark.parametrize("n_team", [2, 3, 7])
@pytest.mark.parametrize("design", DESIGNS)
def test_columns_hold_those_who_share_a_team_or_a_cluster(design: str, n_team: int) -> None:
    trial = trial_of(design, n_team)
    a = trial.allocation
    found = columns_of(a, trial.team)
    wanted = [trial.team, a.random_cluster, a.training_group][: len(found)]
    for pairs, code in zip(found, wanted, strict=True):
        assert pairs == set(zip(*map(np.ndarray.tolist, np.nonzero(together(code))), strict=True))


def test_names_of_teams_do_not_matter() -> None:
    trial = trial_of("village", 3)
    other = Trial(trial.y, trial.observed, trial.allocation, np.array([5, 2, 9, -1], np.int32)[trial.team])
    fits = [MixedAncova(kind="mixed_ancova", facilitator="random").analyse(t) for t in (trial, other)]
    for name in ("estimate", "standard_error", "df"):
        np.testing.assert_allclose(getattr(fits[0], name), getattr(fits[1], name), rtol=1e-9)
