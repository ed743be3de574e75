"""A t test of cluster means, adjusted in a first stage for baseline, stratum and district."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from sim.analyses.matrices import strata_and_districts
from sim.kernels.cluster_summary import cluster_summary, n_between_clusters
from sim.parts import ANALYSES, Part
from sim.trial import Fit, Trial


@ANALYSES.register("cluster_summary")
class ClusterSummary(Part):
    """Every village counts once (Student); with training groups, Welch's test of group means against untreated
    individuals. Districts cost degrees of freedom, and so do strata where every cluster is of one.

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
        is_compared = np.isin(allocation.arm, (contrast.treated, contrast.control))
        fit = cluster_summary(
            trial.y[:, :, -1],
            trial.observed[:, :, -1],
            np.concatenate([np.ones((len(rest), 1)), rest], axis=1),
            trial.y[:, :, :1],
            allocation.random_cluster,
            allocation.arm,
            (contrast.treated, contrast.control),
            equal_variance=allocation.has_villages,
            n_cluster_covariate=n_between_clusters(rest[is_compared], allocation.random_cluster[is_compared]),
        )
        return Fit(fit.estimate, fit.standard_error, fit.df, fit.status)
