"""Linear mixed model over all visits by REML with Satterthwaite degrees of freedom."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from sim.analyses.matrices import arm_contrast, arm_dummies, strata_and_districts
from sim.kernels.mixed import reml
from sim.parts import ANALYSES, Part
from sim.trial import Allocation, Fit, Floats, Trial


@ANALYSES.register("lmm")
class Lmm(Part):
    """Scores at every visit on visit, arm by visit, stratum and district; arm difference at the final visit.

    baseline `constrained`: no arm difference before the training (constrained longitudinal data analysis, Liang & Zeger
    2000); `free`: an arm difference at every visit; `covariate`: the visits after the baseline, on the baseline score
    by visit.
    Random intercepts: participant; village and village by visit (without the latter a village-randomised trial does
    not hold its level); in trained arms, training group, at visits after the training only.
    """

    kind: Literal["lmm"]
    baseline: Literal["constrained", "free", "covariate"] = "constrained"
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
        fit = reml(
            y,
            observed,
            columns,
            baseline,
            np.concatenate([contrast, np.zeros(baseline.shape[2])])[None],
            has_participant=True,
            block=allocation.random_cluster,
            column=self._random(allocation, n_visit, first),
        )
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

    def _random(self, allocation: Allocation, n_visit: int, first: int) -> np.ndarray:
        """(N, T, L) columns of the cluster's random terms: village and village by visit, or training group."""
        shape = (allocation.n_participant, n_visit)
        if allocation.has_villages:
            village = np.zeros(shape, dtype=np.int64)
            by_visit = np.broadcast_to(1 + np.arange(n_visit), shape)
            return np.stack([village, by_visit][: 1 + self.village_by_visit], axis=2)
        trained = (allocation.training_group >= 0)[:, None] & (np.arange(n_visit) + first >= 1)
        return np.where(trained, 0, -1)[:, :, None]
