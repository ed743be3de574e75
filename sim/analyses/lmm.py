"""Linear mixed model over all visits by REML with Satterthwaite degrees of freedom."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from sim.analyses.matrices import arm_contrast, arm_dummies, cluster_terms, strata_and_districts
from sim.kernels.mixed import MixedModel, fit_mixed
from sim.parts import ANALYSES, Part
from sim.trial import Allocation, Fit, Floats, Ints, Trial


@ANALYSES.register("lmm")
class Lmm(Part):
    """Scores at every visit on visit, arm by visit, stratum and district; arm difference at the final visit.

    baseline `covariate`: the visits after the baseline, adjusted for the baseline score; `constrained`: all visits, no
    arm difference at the first (Liang & Zeger 2000, Sankhya B 62:134); `free`: all visits, an arm difference at each.
    Random intercepts: participant; village, and village by visit (without it a village-randomised trial does not hold
    its level); training group, in trained arms at visits after the training. One residual variance and one participant
    intercept mean equal variances and equal correlations over visits: where the truth is otherwise, `constrained` and
    `free` lean on that assumption more than `covariate` does.
    """

    kind: Literal["lmm"]
    baseline: Literal["covariate", "constrained", "free"] = "covariate"
    village_by_visit: bool = True
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
        random = self._random(allocation, n_visit, first)
        model = MixedModel(columns, "intercept", block=allocation.random_cluster, column=random)
        fit = fit_mixed(model, y, observed, baseline, np.concatenate([contrast, np.zeros(baseline.shape[2])])[None])
        return Fit(fit.estimate[:, 0], fit.standard_error[:, 0], fit.df[:, 0], fit.status)

    def _fixed(self, allocation: Allocation, n_visit: int) -> tuple[Floats, Floats]:
        """Columns (N, T, p): visits, arms by visit, strata, districts; and the contrast (p,)."""
        arms, rest = arm_dummies(allocation), strata_and_districts(allocation)
        visit = np.eye(n_visit)
        compared = visit[:, 1:] if self.baseline == "constrained" else visit
        by_visit = np.einsum("na,tc->ntca", arms, compared).reshape(len(arms), n_visit, -1)
        columns = np.concatenate(
            [
                np.broadcast_to(visit, (len(arms), n_visit, n_visit)),
                by_visit,
                np.broadcast_to(rest[:, None], (len(arms), n_visit, rest.shape[1])),
            ],
            axis=2,
        )
        weight = np.zeros(columns.shape[2])
        at_final = slice(n_visit + by_visit.shape[2] - arms.shape[1], n_visit + by_visit.shape[2])
        weight[at_final] = arm_contrast(allocation.contrast, len(allocation.arms))
        return columns, weight

    def _random(self, allocation: Allocation, n_visit: int, first: int) -> Ints:
        """(N, T, L) columns of the cluster's random terms: cluster, [group in village], [village by visit]."""
        shape = (allocation.n_participant, n_visit)
        trained = np.arange(n_visit) + first >= 1
        terms = cluster_terms(allocation)
        column = np.broadcast_to(terms[:, None, :], (*shape, terms.shape[1])).copy()
        is_group = slice(int(allocation.has_villages), None)
        column[:, ~trained, is_group] = -1
        if allocation.has_villages and self.village_by_visit:
            by_visit = np.broadcast_to(terms.max() + 1 + np.arange(n_visit), shape)
            column = np.concatenate([column, by_visit[:, :, None]], axis=2)
        return column.astype(np.int32)
