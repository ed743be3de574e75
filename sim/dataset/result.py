"""What an analysis of a data set found, as a record; no method and no printing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import special

from sim.dataset.read import Dataset
from sim.dataset.request import Request
from sim.trial import FAILED, OK, STATUS, Floats

LEVEL = 0.95


@dataclass(frozen=True)
class Term:
    """One estimate with its test and 95% interval; NaN where the method has none (df: infinite for a normal test)."""

    term: str
    estimate: float
    standard_error: float = np.nan
    df: float = np.nan
    statistic: float = np.nan
    p_value: float = np.nan
    ci_low: float = np.nan
    ci_high: float = np.nan


@dataclass(frozen=True)
class JointTest:
    """F test that several terms are all 0."""

    terms: tuple[str, ...]
    f: float
    ndf: float
    ddf: float

    @property
    def p_value(self) -> float:
        return f_tail(self.f, self.ndf, self.ddf)


@dataclass(frozen=True)
class Analysis:
    """A planned analysis applied to a data set.

    contrast : 'final', 'change', two arms, or 'all-terms'.  sentence : the method in words.
    variance : name -> SD, correlation or covariance matrix.  criterion : name -> value.  count : name -> number.
    arms : participants seen by arm.  anova : rows of an analysis of variance table, each a mapping.
    notes : what a reader must know about this fit, one sentence each.
    """

    method: str
    contrast: str
    sentence: str
    terms: tuple[Term, ...]
    status: str
    count: dict[str, int]
    arms: dict[str, int] = field(default_factory=dict)
    variance: dict[str, Any] = field(default_factory=dict)
    criterion: dict[str, float] = field(default_factory=dict)
    joint: JointTest | None = None
    anova: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_failed(self) -> bool:
        return self.status == STATUS[FAILED]


def f_tail(f: float, ndf: float, ddf: float) -> float:
    """P(F > f); with an infinite ddf that of chi-square / ndf. (scipy.stats: the same, but slow to load.)"""
    return float(special.fdtrc(ndf, ddf, f) if np.isfinite(ddf) else special.chdtrc(ndf, ndf * f))


def t_terms(names: tuple[str, ...], estimate: Floats, standard_error: Floats, df: Floats) -> tuple[Term, ...]:
    """Two-sided t tests and intervals; an infinite df gives those of the normal distribution."""
    statistic = estimate / standard_error
    half = special.stdtrit(df, 0.5 + LEVEL / 2) * standard_error
    p_value = 2.0 * special.stdtr(df, -np.abs(statistic))
    rows = zip(estimate, standard_error, df, statistic, p_value, estimate - half, estimate + half, strict=True)
    return tuple(Term(name, *map(float, row)) for name, row in zip(names, rows, strict=True))


def contrast_name(request: Request) -> str:
    """What the terms are: 'all-terms', or the comparison asked for."""
    default = "change" if request.method == "rm-anova" else "final"
    return "all-terms" if request.all_terms else request.contrast or default


def counts(data: Dataset) -> dict[str, int]:
    """n_obs, n_participant and the number of seen units of every level named."""
    roles = [role for role in ("participant", "cluster", "district", "training_group", "visit") if role in data.factor]
    return {"n_obs": data.y.size, **{f"n_{role}": data.n_level(role) for role in roles}, "n_unseen": data.n_unseen}


def arm_counts(data: Dataset) -> dict[str, int]:
    """Participants (rows, where there are none) seen in each arm."""
    if "arm" not in data.factor:
        return {}
    unit = data.code("participant") if "participant" in data.factor else np.arange(data.y.size)
    return {level: np.unique(unit[data.code("arm") == code]).size for code, level in enumerate(data.levels("arm"))}


def completed(
    request: Request, data: Dataset, sentence: str, terms: tuple[Term, ...], status: int = OK, **more: Any
) -> Analysis:
    """An analysis carried out; `more` are further fields of Analysis, of which `count` is added to the usual counts."""
    return Analysis(
        method=request.method,
        contrast=contrast_name(request),
        sentence=sentence,
        terms=terms,
        status=STATUS[status],
        count=counts(data) | more.pop("count", {}),
        arms=arm_counts(data),
        **more,
    )


def failed(request: Request, data: Dataset, names: tuple[str, ...], sentence: str, reason: str) -> Analysis:
    """An analysis that could not be carried out: every number NaN, and why."""
    return completed(request, data, sentence, tuple(Term(name, np.nan) for name in names), FAILED, notes=(reason,))
