"""Repeated-measures analysis of variance of those seen at every visit, the form in which the seed study reported."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from sim.kernels.anova import repeated_measures_anova
from sim.parts import ANALYSES, Part
from sim.trial import Fit, Trial


@ANALYSES.register("rm_anova")
class RmAnova(Part):
    """One-df linear contrast of visit: between the arms in a trial, in everyone where there is no control arm.

    Clusters are ignored, as such analyses do. The F and partial eta squared of the linear contrast and of the omnibus
    visit effect are kept beside the estimate.
    Reference: Maxwell, Delaney, Kelley 2018, Designing Experiments and Analyzing Data, 3rd edition, chapter 12.
    """

    kind: Literal["rm_anova"]
    needs_control: ClassVar[bool] = False
    example = {"kind": "rm_anova"}

    def analyse(self, trial: Trial) -> Fit:
        allocation = trial.allocation
        contrast = allocation.contrast
        weight = np.zeros(len(allocation.arms))
        if contrast.control is not None:
            weight[[contrast.treated, contrast.control]] = 1.0, -1.0
        fit = repeated_measures_anova(trial.y, trial.observed, allocation.arm, len(weight), weight)
        extra = {
            "f_linear": fit.f_linear,
            "partial_eta_squared_linear": fit.partial_eta_squared_linear,
            "f_visit": fit.f_visit,
            "partial_eta_squared_visit": fit.partial_eta_squared_visit,
            "n_complete": fit.n_complete.astype(float),
        }
        if contrast.control is None:
            return Fit(fit.change, fit.change_standard_error, fit.df, fit.status, extra)
        return Fit(fit.estimate, fit.standard_error, fit.df, fit.status)
