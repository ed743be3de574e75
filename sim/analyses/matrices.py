"""Words to matrices: the columns and contrasts that several analyses share. Dummies are full 0/1 columns."""

from __future__ import annotations

from typing import Literal, Self

import numpy as np
from pydantic import model_validator
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from sim.parts import Part, refuse
from sim.trial import Allocation, Contrast, Floats, Ints


class MixedPart(Part):
    """What the analyses by mixed models have in common; see sim.kernels.mixed.fit_mixed."""

    method: Literal["reml", "ml"] = "reml"
    df: Literal["satterthwaite", "satterthwaite-expected", "kenward-roger", "between-within", "z"] = "satterthwaite"
    """Degrees of freedom and, with `kenward-roger`, the standard error."""
    boundary: Literal["drop", "keep", "negative"] = "drop"
    """What becomes of a variance component estimated at zero: left out of the information, kept in it, or let below."""

    @model_validator(mode="after")
    def _defined(self) -> Self:
        if self.method == "ml" and self.df == "kenward-roger":
            raise refuse("Kenward-Roger is defined for method reml only", "df")
        return self


def dummies(code: Ints, n_level: int) -> Floats:
    """(N, n_level - 1) treatment coding against level 0."""
    return np.eye(n_level)[code][:, 1:]


def strata_and_districts(allocation: Allocation, *, districts: bool = True) -> Floats:
    """(N, q) dummies of stratum and, unless left out, district, the variables that the allocation is stratified by.

    Levels that nobody has are left out.
    """
    columns = [dummies(np.unique(code, return_inverse=True)[1].astype(np.int32), len(np.unique(code)))
               for code in (allocation.stratum, *([allocation.district] if districts else []))]  # fmt: skip
    return np.concatenate(columns, axis=1)


def arm_dummies(allocation: Allocation) -> Floats:
    """(N, A - 1) dummies of the arms against arm 0."""
    return dummies(allocation.arm, len(allocation.arms))


def arm_contrast(contrast: Contrast, n_arm: int) -> Floats:
    """(A - 1,) weights of the arm dummies that give treated minus control."""
    weight = np.zeros(n_arm)
    weight[contrast.treated] += 1.0
    assert contrast.control is not None
    weight[contrast.control] -= 1.0
    return weight[1:]


def final_visit(allocation: Allocation) -> tuple[Floats, Floats]:
    """Columns (N, 1, p0) of an analysis of the final visit - intercept, arms, strata, districts - and its contrast.

    The contrast (1, p0 + 1) has one more entry, 0, for the baseline score that is appended as a covariate.
    """
    arms, rest = arm_dummies(allocation), strata_and_districts(allocation)
    columns = np.concatenate([np.ones((len(arms), 1)), arms, rest], axis=1)
    weight = np.zeros((1, columns.shape[1] + 1))
    weight[0, 1 : 1 + arms.shape[1]] = arm_contrast(allocation.contrast, len(allocation.arms))
    return columns[:, None, :], weight


def cluster_terms(allocation: Allocation) -> Ints:
    """(N, L) columns of the cluster's random intercepts within each `random_cluster`, -1 = none.

    No term where there are no clusters; else one: village or, where villages are not clusters, training group (trained
    arms only). Where a village is trained in several groups, training group within village is a second one: those who
    were trained apart resemble one another less, and a village intercept alone does not hold its level.
    """
    cluster, group = allocation.random_cluster, allocation.training_group
    first = np.where(cluster >= 0, 0, -1)
    if not (cluster >= 0).any():
        return np.empty((len(cluster), 0), dtype=np.int32)
    if not allocation.has_villages:
        return first[:, None].astype(np.int32)
    lowest = np.full(int(cluster.max()) + 1, np.iinfo(np.int32).max)
    np.minimum.at(lowest, cluster[group >= 0], group[group >= 0])
    within = np.where(group >= 0, 1 + group - lowest[cluster], -1)
    terms = [first, within] if within.max(initial=-1) > 1 else [first]
    return np.stack(terms, axis=1).astype(np.int32)


def with_facilitators(allocation: Allocation, team: Ints) -> tuple[Ints, Ints]:
    """Blocks (N,) and columns (N, L): the terms of `cluster_terms` and a random intercept of the facilitator team.

    team : (N,) as in Trial. Only the trained have one (partial nesting); whoever shares a team or a cluster, directly
    or through others, shares a block. Two teams are needed: a single one cannot be told from the training.
    """
    terms, cluster = cluster_terms(allocation), allocation.random_cluster
    if len(np.unique(team[team >= 0])) < 2:
        return cluster, terms
    n_team = int(team.max()) + 1
    linked = (team >= 0) & (cluster >= 0)
    size = n_team + int(cluster.max(initial=-1)) + 1
    edges = sparse.coo_array((np.ones(linked.sum()), (team[linked], n_team + cluster[linked])), (size, size))
    component = connected_components(edges, directed=False)[1]
    has_any = (team >= 0) | (cluster >= 0)
    block = np.where(has_any, component[np.where(team >= 0, team, n_team + cluster)], -1)
    width = int(terms.max(initial=0)) + 1  # columns of different terms are numbered apart
    within = np.where(terms >= 0, n_team + cluster[:, None] * width + terms, -1)
    column = np.concatenate([team[:, None], within], axis=1)
    return block.astype(np.int32), within_blocks(block, column[:, None, :])[:, 0]


def within_blocks(block: Ints, column: Ints) -> Ints:
    """Columns (N, T, L) renumbered from 0 within each block (N,); -1 stays."""
    out = np.full(column.shape, -1, dtype=np.int64)
    for b in np.unique(block):
        rows = block == b
        mine = column[rows]
        used = np.unique(mine[mine >= 0])
        out[rows] = np.where(mine >= 0, np.searchsorted(used, mine), -1)
    return out.astype(np.int32)
