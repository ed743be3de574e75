"""Linear mixed model over all visits, by REML or ML, with small-sample inference."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from sim.analyses.matrices import (
    MixedPart,
    arm_contrast,
    arm_dummies,
    cluster_terms,
    strata_and_districts,
    within_blocks,
)
from sim.kernels.mixed import MixedModel, fit_mixed
from sim.parts import ANALYSES
from sim.trial import Allocation, Fit, Floats, Ints, Trial


@ANALYSES.register("lmm")
class Lmm(MixedPart):
    """Scores at every visit on visit, arm by visit, stratum and district; arm difference at the final visit.

    baseline `covariate`: the visits after the baseline, adjusted for the baseline score; `constrained`: all visits, no
    arm difference at the first (Liang & Zeger 2000, Sankhya B 62:134); `free`: all visits, an arm difference at each.
    Random intercepts: participant; village, and village by visit (without it a village-randomised trial does not hold
    its level); training group, in trained arms at visits after the training. One residual variance and one participant
    intercept mean equal variances and equal correlations over visits: where the truth is otherwise, `constrained` and
    `free` lean on that assumption more than `covariate` does. docs/type_1_error.md says which `df` and `boundary` hold
    their level in which trials.
    """

    kind: Literal["lmm"]
    baseline: Literal["covariate", "constrained", "free"] = "covariate"
    village_by_visit: bool = True
    district: Literal["fixed", "random"] = "fixed"
    """Districts as fixed effects, or as a random intercept above that of the village; a single one is neither."""
    needs_control: ClassVar[bool] = True
    example = {"kind": "lmm"}

    def analyse(self, trial: Trial) -> Fit:
        allocation = trial.allocation
        first = int(self.baseline == "covariate")
        y = np.ascontiguousarray(trial.y[:, :, first:])
        observed = np.ascontiguousarray(trial.observed[:, :, first:])
        n_visit = y.shape[2]
        columns, contrast = self._fixed(allocation, n_visit)
        baseline = trial.y[:, :, :1] if first else np.empty((len(y), y.shape[1], 0))
        block, column = self._random(allocation, n_visit, first)
        own = "intercept" if n_visit > 1 else "independent"  # at a single visit, participant and residual are one
        fit = fit_mixed(
            MixedModel(columns, own, block=block, column=column),
            y,
            observed,
            baseline,
            np.concatenate([contrast, np.zeros(baseline.shape[2])])[None],
            method=self.method,
            df=self.df,
            boundary=self.boundary,
        )
        return Fit(fit.estimate[:, 0], fit.standard_error[:, 0], fit.df[:, 0], fit.status)

    def _fixed(self, allocation: Allocation, n_visit: int) -> tuple[Floats, Floats]:
        """Columns (N, T, p): visits, [arms], arms by later visit, strata, districts; and the contrast (p,).

        An arm difference at the first visit has a column of its own, as `nexttrial analyse` has it, since
        `between-within` df depend on whether a column varies within participants.
        """
        arms = arm_dummies(allocation)
        rest = strata_and_districts(allocation, districts=self.district == "fixed")
        visit, weight = np.eye(n_visit), arm_contrast(allocation.contrast, len(allocation.arms))
        later = np.einsum("na,tc->ntca", arms, visit[:, 1:]).reshape(len(arms), n_visit, -1)
        at_final = np.zeros((n_visit - 1, len(weight)))
        at_final[-1:] = weight
        parts = [
            (np.broadcast_to(visit, (len(arms), n_visit, n_visit)), np.zeros(n_visit)),
            (np.repeat(arms[:, None], n_visit, axis=1), weight),
            (later, at_final.ravel()),
            (np.repeat(rest[:, None], n_visit, axis=1), np.zeros(rest.shape[1])),
        ]
        if self.baseline == "constrained":
            del parts[1]
        columns = np.concatenate([part for part, _ in parts], axis=2)
        return columns, np.concatenate([weights for _, weights in parts])

    def has_random_districts(self, allocation: Allocation) -> bool:
        """Whether districts have a random intercept, which takes more than one district."""
        return self.district == "random" and bool((allocation.district != allocation.district[0]).any())

    def _random(self, allocation: Allocation, n_visit: int, first: int) -> tuple[Ints, Ints]:
        """Blocks (N,) and columns (N, T, L): cluster, [group in village], [village by visit], [district].

        The block is the cluster or, with random districts, the district, in which each cluster has columns of its own.
        """
        trained = np.arange(n_visit) + first >= 1
        terms = cluster_terms(allocation)
        column = np.repeat(terms[:, None, :], n_visit, axis=1)
        column[:, ~trained, int(allocation.has_villages) :] = -1
        if allocation.has_villages and self.village_by_visit and n_visit > 1:
            by_visit = np.broadcast_to(terms.max() + 1 + np.arange(n_visit), column.shape[:2])
            column = np.concatenate([column, by_visit[:, :, None]], axis=2)
        block = allocation.random_cluster
        if self.has_random_districts(allocation):
            column = np.where(column >= 0, column + (block * (column.max(initial=-1) + 1))[:, None, None], -1)
            district = np.full((*column.shape[:2], 1), column.max(initial=-1) + 1)
            block, column = (
                allocation.district,
                within_blocks(allocation.district, np.concatenate([column, district], 2)),
            )
        return block, column.astype(np.int32)
