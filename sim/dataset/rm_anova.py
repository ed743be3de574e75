"""Repeated-measures analysis of variance of those seen at every visit, the form in which many small studies report."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.dataset.design_matrix import arm_pairs
from sim.dataset.read import Dataset
from sim.dataset.request import Request
from sim.dataset.result import Analysis, completed, f_tail, failed, t_terms
from sim.kernels.anova import AnovaFit, repeated_measures_anova
from sim.trial import FAILED


def rm_anova(data: Dataset, request: Request) -> Analysis:
    """Split-plot ANOVA (Type III) of the complete participants; terms are (differences in) linear change."""
    visits, arms = data.levels("visit"), data.levels("arm") or ("all",)
    person = np.unique(data.code("participant"), return_inverse=True)[1]
    shape = (1, int(person.max()) + 1, len(visits))
    y, observed = np.zeros(shape), np.zeros(shape, np.bool_)
    y[0, person, data.code("visit")], observed[0, person, data.code("visit")] = data.y, True
    arm = np.zeros(shape[1], np.int32)
    if "arm" in data.factor:
        arm[person] = data.code("arm")
    pairs = arm_pairs(data, request) if "arm" in data.factor else []
    fits = []
    for treated, control in pairs or [(arms[0], arms[0])]:
        weight = np.zeros(len(arms))
        weight[arms.index(treated)] += 1.0
        weight[arms.index(control)] -= 1.0
        fits.append(repeated_measures_anova(y, observed, arm, len(arms), weight))
    names = tuple(f"change: arm[{a}] - arm[{b}]" for a, b in pairs) or ("change",)
    sentence = (
        f"Repeated-measures analysis of variance (Type III): {request.outcome} at {len(visits)} visits"
        f"{f', arms of {request.arm}' if request.arm else ''}; participants seen at every visit only; terms are the "
        "linear change from the first to the last visit."
    )
    if any(fit.status[0] == FAILED for fit in fits):
        reason = "Too few participants were seen at every visit, or their scores do not vary."
        return failed(request, data, names, sentence, reason)
    parts = ("estimate", "standard_error", "df") if pairs else ("change", "change_standard_error", "df")
    estimate, error, df = (np.array([getattr(fit, part)[0] for fit in fits]) for part in parts)
    n_complete = int(fits[0].n_complete[0])
    left_out = shape[1] - n_complete
    return completed(
        request,
        data,
        sentence,
        t_terms(names, estimate, error, df),
        count={"n_complete": n_complete},
        variance={"greenhouse_geisser": float(fits[0].greenhouse_geisser[0])},
        anova=_table(fits[0], len(arms), len(visits)),
        notes=(f"{left_out} participants missed a visit and are left out whole.",) if left_out else (),
    )


def _table(fit: AnovaFit, n_arm: int, n_visit: int) -> tuple[dict[str, Any], ...]:
    """Rows of the analysis of variance: F, df, p, partial eta squared, and p after the corrections for sphericity.

    Huynh and Feldt 1976, doi:10.3102/10769986001001069, with the correction of Lecoutre 1991.
    """
    f = {name: float(getattr(fit, name)[0]) for name in AnovaFit._fields}
    df, k, gg = f["df"], n_visit - 1, f["greenhouse_geisser"]
    hf = min(1.0, ((df + 1) * k * gg - 2) / (k * (df - k * gg)))
    rows = [_row("visit", f, "visit", f["df_residual"], (gg, hf))]
    if n_arm > 1:
        rows.append(_row("visit:arm", f, "interaction", f["df_residual"], (gg, hf)))
        rows.append(_row("arm", f, "between", df, None))
    linear = {"f_l": f["f_linear"], "df_l": 1.0, "partial_eta_squared_l": f["partial_eta_squared_linear"]}
    return (*rows, _row("linear contrast of visit", linear, "l", df, None))


def _row(term: str, f: dict[str, float], name: str, ddf: float, epsilon: tuple[float, float] | None) -> dict[str, Any]:
    value, ndf = f[f"f_{name}"], f[f"df_{name}"]
    row = {
        "term": term,
        "f": value,
        "ndf": ndf,
        "ddf": ddf,
        "p_value": f_tail(value, ndf, ddf),
        "partial_eta_squared": f[f"partial_eta_squared_{name}"],
    }
    if epsilon:
        for rule, e in zip(("greenhouse_geisser", "huynh_feldt"), epsilon, strict=True):
            row[f"epsilon_{rule}"] = e
            row[f"p_value_{rule}"] = f_tail(value, ndf * e, ddf * e)
    return row
