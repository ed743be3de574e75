"""Final score on arm, baseline, stratum and district with a random intercept of the cluster, by REML or ML."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from sim.analyses.matrices import MixedPart, cluster_terms, final_visit, with_facilitators
from sim.kernels.mixed import MixedModel, fit_mixed
from sim.parts import ANALYSES
from sim.trial import Fit, Trial


@ANALYSES.register("mixed_ancova")
class MixedAncova(MixedPart):
    """Analysis of covariance with a random intercept of village or, in trained arms only, of training group.

    A village that is trained in several groups has both.

    A cluster variance estimated at 0 is a valid, singular fit; docs/type_1_error.md says which `df` and `boundary` hold
    their level in which trials. `residual_by_arm` gives trained and untreated participants residual variances of their
    own.
    References: Roberts & Roberts 2005, doi:10.1191/1740774505cn076oa; Candlish et al. 2018,
    doi:10.1186/s12874-018-0559-x (partial nesting); Hooper et al. 2018, doi:10.1177/0962280217748339 (ANCOVA of
    cluster trials).
    """

    kind: Literal["mixed_ancova"]
    residual_by_arm: bool = False
    facilitator: Literal["ignored", "random"] = "ignored"
    """Whether the facilitator team is a random intercept of those it trained: without it a few teams that differ make
    the analysis reject too often."""
    needs_control: ClassVar[bool] = True
    example = {"kind": "mixed_ancova"}

    def analyse(self, trial: Trial) -> Fit:
        allocation = trial.allocation
        columns, contrast = final_visit(allocation)
        block, column = allocation.random_cluster, cluster_terms(allocation)
        if self.facilitator == "random":
            block, column = with_facilitators(allocation, trial.team)
        model = MixedModel(
            columns,
            "independent",
            residual_class=allocation.is_trained.astype(np.int64) if self.residual_by_arm else None,
            block=block,
            column=column[:, None, :],
        )
        fit = fit_mixed(
            model,
            trial.y[:, :, -1:],
            trial.observed[:, :, -1:],
            trial.y[:, :, :1],
            contrast,
            method=self.method,
            df=self.df,
            boundary=self.boundary,
        )
        return Fit(fit.estimate[:, 0], fit.standard_error[:, 0], fit.df[:, 0], fit.status)
