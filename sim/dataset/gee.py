"""Generalised estimating equations on one visit of a data set, exchangeable within clusters."""

from __future__ import annotations

from typing import cast

import numpy as np

from sim.dataset.design_matrix import INTERCEPT, fixed_effects
from sim.dataset.read import Dataset
from sim.dataset.request import Request
from sim.dataset.result import Analysis, completed, failed, t_terms
from sim.kernels.gee import Correction, Family, gee
from sim.trial import FAILED

ERROR_WORD = {
    "robust": "robust standard errors and normal tests, too optimistic with fewer than about 40 clusters",
    "kc": "Kauermann-Carroll standard errors, t tests with clusters minus terms df",
    "md": "Mancl-DeRouen standard errors, t tests with clusters minus terms df",
    "fg": "Fay-Graubard standard errors, t tests with clusters minus terms df",
}


def marginal_model(data: Dataset, request: Request) -> Analysis:
    """GEE; estimates are mean differences (gaussian) or log odds ratios (binomial, outcome 0 or 1)."""
    fixed = fixed_effects(data, request)
    family, se = request.family or "gaussian", request.se or "robust"
    if family == "binomial" and not np.all((data.y == 0.0) | (data.y == 1.0)):
        row = int(np.flatnonzero((data.y != 0.0) & (data.y != 1.0))[0])
        message = f"found {data.y[row]:g} on line {data.line[row]}; --family binomial needs 0 or 1"
        raise data.problem(request.outcome, message)
    words = " + ".join(term for term in fixed.terms if term != INTERCEPT) or "an intercept only"
    at = f", visit {data.levels('visit')[-1]}" if "visit" in data.factor else ""
    link = "identity" if family == "gaussian" else "logit"
    sentence = (
        f"Generalised estimating equations ({family}, {link} link, exchangeable within {request.cluster}){at}: "
        f"{request.outcome} on {words}; {ERROR_WORD[se]}."
    )
    fit = gee(
        data.y[None], np.ones((1, data.y.size), np.bool_), fixed.x, data.code("cluster"), fixed.contrast,
        cast(Correction, se), cast(Family, family),
    )  # fmt: skip
    if fit.status[0] == FAILED:
        reason = (
            "The equations have no solution that could be found: too few clusters, or an outcome without variation."
        )
        return failed(request, data, fixed.asked, sentence, reason)
    return completed(
        request,
        data,
        sentence,
        t_terms(fixed.asked, fit.estimate[0], fit.standard_error[0], fit.df[0]),
        fit.status[0],
        variance={"working_correlation": float(fit.correlation[0]), "scale": float(fit.scale[0])},
    )
