"""Analysis of covariance of one visit by least squares, with the usual or with cluster-robust standard errors."""

from __future__ import annotations

from typing import cast

import numpy as np

from sim.dataset.design_matrix import INTERCEPT, FixedEffects, fixed_effects
from sim.dataset.read import Dataset
from sim.dataset.request import Request
from sim.dataset.result import Analysis, JointTest, completed, failed, t_terms
from sim.kernels.least_squares import ols
from sim.kernels.sandwich import Correction, cluster_robust
from sim.trial import FAILED, Floats

REASON = "The least-squares fit failed: too few rows or clusters, or an outcome without variation."


def ancova(data: Dataset, request: Request) -> Analysis:
    """Least squares; --se ols assumes independent errors, cr0 to cr3 clusters (CR2 and its df by default)."""
    fixed = fixed_effects(data, request)
    se = request.se or ("cr2" if request.cluster else "ols")
    sentence = _sentence(data, request, fixed, se)
    seen = np.ones((1, data.y.size), np.bool_)
    if se == "ols":
        return _usual(data, request, fixed, sentence)
    joint = fixed.joint_contrast if fixed.joint else None
    cluster = data.code("cluster")
    fit = cluster_robust(data.y[None], seen, fixed.x, cluster, fixed.contrast, cast(Correction, se), joint)
    if fit.status[0] == FAILED:
        return failed(request, data, fixed.asked, sentence, REASON)
    test = None
    if fixed.joint:
        test = JointTest(fixed.joint, float(fit.joint_f[0]), float(len(fixed.joint)), float(fit.joint_ddf[0]))
    return _analysis(
        data,
        request,
        fixed,
        sentence,
        fit.estimate[0],
        fit.standard_error[0],
        fit.df[0],
        fit.residual_variance[0],
        test,
    )


def _usual(data: Dataset, request: Request, fixed: FixedEffects, sentence: str) -> Analysis:
    n, p = fixed.x.shape
    every = np.concatenate([fixed.contrast, fixed.joint_contrast]) if fixed.joint else fixed.contrast
    y, seen = data.y[None, :, None], np.ones((1, n, 1), np.bool_)
    fit = ols(y, seen, fixed.x[:, None, :], np.zeros((1, n, 0)), every)
    if fit.status[0] == FAILED:
        return failed(request, data, fixed.asked, sentence, REASON)
    test, Q = None, len(fixed.contrast)
    if fixed.joint:
        C, effect = fixed.joint_contrast, fit.estimate[0, Q:]
        covariance = C @ np.linalg.inv(fixed.x.T @ fixed.x) @ C.T * fit.residual_variance[0]
        f = effect @ np.linalg.solve(covariance, effect) / effect.size
        test = JointTest(fixed.joint, float(f), float(effect.size), float(n - p))
    return _analysis(
        data, request, fixed, sentence,
        fit.estimate[0, :Q], fit.standard_error[0, :Q], fit.df[0, :Q], fit.residual_variance[0], test,
    )  # fmt: skip


def _analysis(
    data: Dataset,
    request: Request,
    fixed: FixedEffects,
    sentence: str,
    estimate: Floats,
    standard_error: Floats,
    df: Floats,
    residual_variance: float,
    joint: JointTest | None,
) -> Analysis:
    return completed(
        request,
        data,
        sentence,
        t_terms(fixed.asked, estimate, standard_error, df),
        variance={"sd_residual": float(np.sqrt(residual_variance))},
        joint=joint,
    )


def _sentence(data: Dataset, request: Request, fixed: FixedEffects, se: str) -> str:
    words = " + ".join(term for term in fixed.terms if term != INTERCEPT) or "an intercept only"
    at = f", visit {data.levels('visit')[-1]}" if "visit" in data.factor else ""
    errors = {
        "ols": "usual standard errors, which assume independent participants",
        "cr0": f"standard errors robust to clusters of {request.cluster} (CR0), Satterthwaite df",
        "cr1": f"standard errors robust to clusters of {request.cluster} (CR1), Satterthwaite df",
        "cr2": f"bias-reduced standard errors robust to clusters of {request.cluster} (CR2), Satterthwaite df",
        "cr3": f"jackknife-like standard errors robust to clusters of {request.cluster} (CR3), Satterthwaite df",
    }[se]
    return f"Analysis of covariance by least squares{at}: {request.outcome} on {words}; {errors}."
