"""Final score on arm, baseline, stratum and district by least squares, as if nobody were clustered."""

from __future__ import annotations

from typing import ClassVar, Literal

from sim.analyses.matrices import final_visit
from sim.kernels.least_squares import ols
from sim.parts import ANALYSES, Part
from sim.trial import Fit, Trial


@ANALYSES.register("ancova")
class Ancova(Part):
    """Analysis of covariance that ignores villages and training groups: shown for what ignoring them costs.

    Reference: Vickers & Altman 2001, doi:10.1136/bmj.323.7321.1123.
    """

    kind: Literal["ancova"]
    needs_control: ClassVar[bool] = True
    example = {"kind": "ancova"}

    def analyse(self, trial: Trial) -> Fit:
        columns, contrast = final_visit(trial.allocation)
        fit = ols(trial.y[:, :, -1:], trial.observed[:, :, -1:], columns, trial.y[:, :, :1], contrast)
        return Fit(fit.estimate[:, 0], fit.standard_error[:, 0], fit.df[:, 0], fit.status)
