"""Likelihood methods on a data set: linear mixed models, MMRM and partially nested analyses, by REML or ML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sim.dataset.design_matrix import (
    INTERCEPT,
    FixedEffects,
    RandomTerm,
    blocks,
    columns_of_block,
    fixed_effects,
    random_terms,
)
from sim.dataset.read import Dataset
from sim.dataset.request import Request
from sim.dataset.result import Analysis, JointTest, completed, failed, t_terms
from sim.kernels.covariance import offered
from sim.kernels.mixed import MixedFit, MixedModel, fit_mixed
from sim.trial import FAILED, SINGULAR, Floats, Ints

MOST_VISITS = 62
LEVEL_WORD = {
    "sd_district": "district", "sd_cluster": "cluster", "sd_cluster_visit": "cluster by visit",
    "sd_training_group": "training group", "sd_participant": "participant", "sd_slope": "slope",
}  # fmt: skip
DF_WORD = {
    "satterthwaite": "Satterthwaite degrees of freedom",
    "satterthwaite-expected": "Satterthwaite degrees of freedom (expected information)",
    "kenward-roger": "Kenward-Roger standard errors and degrees of freedom",
    "kenward-roger-observed": "Kenward-Roger standard errors and degrees of freedom (observed information)",
    "kenward-roger-second-order": "Kenward-Roger standard errors and degrees of freedom with second derivatives",
    "between-within": "between-within degrees of freedom",
    "z": "normal tests",
}


@dataclass(frozen=True)
class _Arranged:
    """Rows as the kernel wants them: participant (unit) and visit (time) of each row, and the random terms."""

    structure: str
    unit: Ints
    visit: Ints
    n_visit: int
    time: Floats | None
    terms: list[RandomTerm]


def mixed_model(data: Dataset, request: Request) -> Analysis:
    """Fits `lmm`, `mmrm` or `partially-nested`. Raises InvalidInput where the rows cannot carry the model."""
    fixed = fixed_effects(data, request)
    rows = _arrange(data, request)
    cls = data.code("arm") if request.residual_by_arm else np.zeros(data.y.size, np.int32)
    fit = _fit(data, request, fixed, rows, cls)
    sentence = _sentence(data, request, fixed, rows)
    if fit.status[0] == FAILED:
        reason = "The likelihood has no maximum that could be found: too few rows, or terms that cannot be told apart."
        return failed(request, data, fixed.asked, sentence, reason)
    variance = _variance(data, request, fit, rows)
    joint = None
    if fixed.joint:
        joint = JointTest(fixed.joint, *(float(x[0, 0]) for x in (fit.joint_f, fit.joint_ndf, fit.joint_ddf)))
    return completed(
        request,
        data,
        sentence,
        t_terms(fixed.asked, fit.estimate[0], fit.standard_error[0], fit.df[0]),
        fit.status[0],
        variance=variance,
        criterion={"ml_deviance" if request.ml else "reml_criterion": float(fit.criterion[0])},
        joint=joint,
        notes=_notes(data, request, rows, fit, variance),
    )


def _arrange(data: Dataset, request: Request) -> _Arranged:
    """Who is a participant of the kernel, what its visits are, and what is left as random terms."""
    terms = random_terms(data, request)
    time = None
    if "participant" in data.factor:
        unit = data.factor["participant"].code
        repeats = np.bincount(unit).max() > 1
    else:
        unit, repeats = np.arange(data.y.size, dtype=np.int32), False
    if not repeats or request.is_one_visit:
        _check_repeats(data, request)
        return _Arranged("independent", *_renumbered(data.y.size), 1, None, terms)
    if _is_crossed(unit, terms):
        if request.method == "mmrm" or request.random_slope:
            raise data.problem(data.factor["participant"].column, "participants change cluster: not with this model")
        terms = [*terms, RandomTerm("sd_participant", unit)]
        return _Arranged("independent", *_renumbered(data.y.size), 1, None, terms)
    unit = np.unique(unit, return_inverse=True)[1].astype(np.int32)
    if "visit" in data.factor and request.random_slope is None:
        visit, n_visit = data.code("visit"), len(data.levels("visit"))
    elif request.random_slope is not None:
        time, place = np.unique(data.number["random_slope"], return_inverse=True)
        visit, n_visit = place.astype(np.int32), time.size
    else:
        visit = _running_number(unit)
        n_visit = int(visit.max()) + 1
    if n_visit > MOST_VISITS:
        name = request.random_slope or request.visit or request.participant or ""
        raise data.problem(name, f"has {n_visit} different values or rows for a participant; at most {MOST_VISITS}")
    structure = request.covariance or "us" if request.method == "mmrm" else "slope" if time is not None else "intercept"
    return _Arranged(structure, unit, visit, n_visit, time, terms)


def _check_repeats(data: Dataset, request: Request) -> None:
    if "participant" in data.factor and not request.is_one_visit and (request.visit or request.random_slope):
        raise data.problem(
            data.factor["participant"].column,
            "nobody was seen twice: a participant's own level cannot be told from the residual; give "
            "--final-visit-only or --method ancova",
        )
    if not random_terms(data, request):
        raise data.problem("levels", "no level with more than one row is left for a random intercept: --method ancova")


def _renumbered(n: int) -> tuple[Ints, Ints]:
    """Every row its own unit, seen once."""
    return np.arange(n, dtype=np.int32), np.zeros(n, np.int32)


def _is_crossed(unit: Ints, terms: list[RandomTerm]) -> bool:
    """Whether a participant has rows in several clusters or districts."""
    for term in terms:
        if term.name in ("sd_cluster", "sd_district"):
            pair = np.unique(np.stack([unit, term.code], axis=1), axis=0)
            if np.bincount(pair[:, 0]).max() > 1:
                return True
    return False


def _running_number(unit: Ints) -> Ints:
    """0, 1, .. over the rows of each unit, in their order."""
    return np.asarray(pd.Series(unit).groupby(unit).cumcount(), np.int32)


def _fit(data: Dataset, request: Request, fixed: FixedEffects, rows: _Arranged, cls: Ints) -> MixedFit:
    n_unit = int(rows.unit.max()) + 1
    shape, at = (n_unit, rows.n_visit), (rows.unit, rows.visit)
    y, observed = np.zeros((1, *shape)), np.zeros((1, *shape), np.bool_)
    x = np.zeros((*shape, len(fixed.terms)))
    column = np.full((*shape, len(rows.terms)), -1, np.int32)
    block = blocks(rows.unit, rows.terms)
    y[0, *at], observed[0, *at], x[at] = data.y, True, fixed.x
    column[at] = columns_of_block(block[rows.unit], rows.terms)
    residual_class = np.zeros(n_unit, np.int32)
    residual_class[rows.unit] = cls
    model = MixedModel(
        X=x,
        participant=rows.structure,
        time=rows.time,
        residual_class=residual_class if request.residual_by_arm else None,
        block=block if rows.terms else None,
        column=column if rows.terms else None,
    )
    return fit_mixed(
        model,
        y,
        observed,
        np.zeros((1, n_unit, 0)),
        fixed.contrast,
        joint=(fixed.joint_contrast,) if fixed.joint else (),
        method="ml" if request.ml else "reml",
        df=_df(request),
        boundary=request.boundary or "drop",
    )


def _variance(data: Dataset, request: Request, fit: MixedFit, rows: _Arranged) -> dict[str, Any]:
    """SDs by name, outermost level first; of MMRM the covariance matrix. A negative variance is given as such."""
    component = list(fit.variance[0])
    terms = component[len(component) - len(rows.terms) :]
    named: dict[str, float] = {term.name: value for term, value in zip(rows.terms, terms, strict=True)}
    arms = data.levels("arm")
    residual = [f"sd_residual[{arm}]" for arm in arms] if request.residual_by_arm else ["sd_residual"]
    if request.method != "mmrm":
        named |= dict(zip(residual, component, strict=False))
    if rows.structure == "intercept":
        named["sd_participant"] = component[len(residual)]
    if rows.structure == "slope":
        _, named["sd_participant"], shared, named["sd_slope"] = component[:4]
    order = [name for name in (*LEVEL_WORD, *residual) if name in named]
    out: dict[str, Any] = {name: float(np.sqrt(named[name])) if named[name] >= 0 else np.nan for name in order}
    out |= {name.replace("sd_", "var_", 1): float(named[name]) for name in order if named[name] < 0}
    if rows.structure == "slope":
        out["cor_intercept_slope"] = float(shared / (out["sd_participant"] * out["sd_slope"] or np.nan))
    if request.method == "mmrm":
        out["covariance"] = fit.covariance[0, 0].tolist()
    return out


def _sentence(data: Dataset, request: Request, fixed: FixedEffects, rows: _Arranged) -> str:
    words = " + ".join(term for term in fixed.terms if term != INTERCEPT) or "an intercept only"
    levels = [LEVEL_WORD[term.name] for term in rows.terms]
    levels += ["participant"] if rows.structure in ("intercept", "slope") else []
    parts = [f"{request.outcome} on {words}"]
    if request.method == "mmrm":
        parts.append(f"{offered()[rows.structure]} covariance of {rows.n_visit} visits")
    if levels:
        parts.append(f"random intercept{'s' if len(levels) > 1 else ''} of {', '.join(levels)}")
    if rows.structure == "slope":
        parts.append(f"random slope of participant over {request.random_slope}")
    if request.residual_by_arm:
        parts.append("a residual variance for each arm")
    if request.is_one_visit and "visit" in data.factor:
        parts.append(f"visit {data.levels('visit')[-1]} only")
    kind = {
        "lmm": "Linear mixed model",
        "mmrm": "Mixed model for repeated measures",
        "partially-nested": "Partially nested mixed model (training groups in trained arms only)",
    }[request.method]
    how = "maximum likelihood" if request.ml else "REML"
    return f"{kind} by {how}: {'; '.join(parts)}; {DF_WORD[_df(request)]}."


def _notes(
    data: Dataset, request: Request, rows: _Arranged, fit: MixedFit, variance: dict[str, Any]
) -> tuple[str, ...]:
    notes = []
    if fit.status[0] == SINGULAR:
        zero = [LEVEL_WORD[name] for name, sd in variance.items() if name in LEVEL_WORD and sd == 0.0]
        what = f"the variance of {' and of '.join(zero)} is 0" if zero else "its covariance has too low a rank"
        notes.append(f"Singular fit: {what}, the edge of what can be estimated. The estimate is valid{_way(request)}.")
    has_intercept = any(term.name == "sd_participant" for term in rows.terms)
    if "participant" in data.factor and rows.structure == "independent" and not (has_intercept or request.is_one_visit):
        notes.append("One row for each participant: there is no random intercept of participant.")
    return tuple(notes)


def _df(request: Request) -> str:
    """The kernel's name for the degrees of freedom asked for; R's mmrm takes the observed information, pbkrtest not."""
    if request.method == "mmrm" and request.df == "kenward-roger":
        return "kenward-roger-observed"
    return request.df or "satterthwaite"


def _way(request: Request) -> str:
    """What becomes of a component at its edge in the degrees of freedom."""
    df = _df(request)
    if df.startswith("kenward-roger") or (df.startswith("satterthwaite") and request.boundary == "keep"):
        return "; the df keep it as a parameter"
    return "; the df are those without it (--boundary)" if df.startswith("satterthwaite") else ""
