"""A t test of cluster means, adjusted in a first stage for baseline, stratum and district."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from sim.analyses.matrices import strata_and_districts
from sim.kernels.cluster_summary import cluster_summary
from sim.parts import ANALYSES, Part
from sim.trial import Fit, Trial


@ANALYSES.register("cluster_summary")
class ClusterSummary(Part):
    """Every village counts once (Student); with training groups, Welch's test of group means against untreated
    individuals. District strata cost degrees of freedom.

    Reference: Hayes & Moulton 2017, Cluster Randomised Trials, 2nd edition, chapter 10.
    """

    kind: Literal["cluster_summary"]
    needs_control: ClassVar[bool] = True
    example = {"kind": "cluster_summary"}

    def analyse(self, trial: Trial) -> Fit:
        allocation = trial.allocation
        rest = strata_and_districts(allocation)
        contrast = allocation.contrast
        assert contrast.control is not None
        villages = allocation.has_villages
        fit = cluster_summary(
            trial.y[:, :, -1],
            trial.observed[:, :, -1],
            np.concatenate([np.ones((len(rest), 1)), rest], axis=1),
            trial.y[:, :, :1],
            allocation.random_cluster,
            allocation.arm,
            (contrast.treated, contrast.control),
            equal_variance=villages,
            n_cluster_covariate=int(allocation.district.max()),
        )
        return Fit(fit.estimate, fit.standard_error, fit.df, fit.status)
