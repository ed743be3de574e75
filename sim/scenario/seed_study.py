"""What an observed study printed, and how its numbers become the effects that a trial is planned on.

The arithmetic on an evidence file: F to a standardised change, and from an uncontrolled change to a controlled effect.

Two readings of a repeated-measures F printed for "time":
a   one numerator df: the linear contrast. At three visits its weights are -1, 0, 1, so F tests the last visit minus
    baseline: t = sqrt(F), dz = t / sqrt(N).
b   the omnibus F over all visits, printed on its lower-bound row: dz then depends on the pattern of the means.
Outcomes are taken as scored so that the printed change is a gain: F has no sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np

from sim.kernels.noncentral import f_ncp, t_ncp
from sim.scenario.evidence import (
    HALF_A_UNIT,
    PATTERNS,
    PRIORS,
    READINGS,
    Discounts,
    Evidence,
    Outcome,
    Pattern,
    Prior,
    Reading,
    p_value,
)

Name = TypeVar("Name", bound=str)

DISCOUNTS = ("pre_post_correlation", "retention", "untreated_change", "pilot_to_trial")
_CONVERSION = frozenset({"pre_post_correlation"})
USED_BY: dict[Prior, frozenset[str]] = {
    "observed": _CONVERSION,
    "safeguard": _CONVERSION,
    "discounted": frozenset(DISCOUNTS),
    "literature": frozenset(),
    "compromise": frozenset(),
}


class AnalysedN(NamedTuple):
    """How many people the printed F and partial eta squared pairs say were analysed."""

    low: int
    central: int
    high: int
    error_df: dict[str, tuple[float, float, float]]  # per outcome: low, as printed, high
    is_implied: bool  # False: nothing to infer it from, or the outcomes contradict each other


def analysed_n(evidence: Evidence) -> AnalysedN:
    """The number analysed that every outcome's F and rounded partial eta squared allow; else the number recruited.

    Error df = F (1 - eta2) / eta2 with one numerator df, and df x 2 with 2, so the number is the same under both
    readings. N = error df + number of comparison groups. The window comes from eta2 +- 0.005.
    """
    n_group, n_recruited = len(evidence.study.sample.groups), evidence.study.sample.n_recruited
    error_df = {}
    for name, outcome in evidence.outcomes.items():
        f, eta = outcome.printed.f, outcome.printed.partial_eta_squared
        if eta is not None:
            low_df, df, high_df = (f * (1 - e) / e for e in (eta + HALF_A_UNIT, eta, eta - HALF_A_UNIT))
            error_df[name] = low_df, df, high_df
    if error_df:
        low = math.ceil(max(window[0] for window in error_df.values())) + n_group
        high = min(math.floor(min(window[2] for window in error_df.values())) + n_group, n_recruited)
        if low <= high:
            return AnalysedN(low, (low + high) // 2, high, error_df, True)
    return AnalysedN(n_recruited, n_recruited, n_recruited, error_df, False)


@dataclass(frozen=True)
class EffectSize:
    """The uncontrolled standardised change of one outcome from baseline to the last visit, dz.

    low, high : 95% interval.  low_80 : lower limit of the 80% interval.  safeguard : lower limit of the 60% interval.
    median_unbiased : the dz under which the printed F is the median.  kept : share of the second visit's gain that the
    pattern keeps at the last visit; None where the pattern has no such share.
    """

    outcome: str
    reading: Reading
    pattern: Pattern | None
    n: int
    df1: int
    df2: int
    f: float
    dz: float
    low: float
    high: float
    low_80: float
    safeguard: float
    median_unbiased: float
    kept: float | None = None


def effect_sizes(
    evidence: Evidence, reading: str = "a", n: int | None = None, pattern: str | None = None
) -> tuple[EffectSize, ...]:
    """dz of every outcome, with intervals by inverting the noncentral t (reading a) or F (reading b).

    n : number analysed; default the centre of the window that F and eta squared imply.  pattern : of the means, under
    reading b only; default the file's. Independent people and, under b, sphericity are taken for granted: clustering
    in training groups would widen every interval.
    References: Steiger, Fouladi 1997; Perugini, Gallucci, Costantini 2014.
    """
    read_as = _one_of("reading", reading, READINGS)
    n = analysed_n(evidence).central if n is None else n
    if n <= len(evidence.study.sample.groups) + 1:
        raise ValueError(f"found n = {n}; it must exceed the number of comparison groups by at least 2")
    if read_as == "a":
        if pattern is not None:
            raise ValueError("a pattern of means has an effect only under reading 'b'")
        return tuple(_by_linear_contrast(evidence, name, n) for name in evidence.outcomes)
    means = _one_of("pattern", evidence.pattern if pattern is None else pattern, PATTERNS)
    return tuple(_by_omnibus(evidence, name, n, means) for name in evidence.outcomes)


_AT = {"low": 0.975, "high": 0.025, "low_80": 0.90, "safeguard": 0.80, "median_unbiased": 0.50}


def _by_linear_contrast(evidence: Evidence, outcome: str, n: int) -> EffectSize:
    f = evidence.outcomes[outcome].printed.f
    t, df = math.sqrt(f), n - len(evidence.study.sample.groups)
    limits = {name: t_ncp(t, df, at) / math.sqrt(n) for name, at in _AT.items()}
    return EffectSize(outcome, "a", None, n, 1, df, f, dz=t / math.sqrt(n), **limits)


def _by_omnibus(evidence: Evidence, outcome: str, n: int, pattern: Pattern) -> EffectSize:
    """dz = m3 sqrt(ncp / (2 n SS)), where m = (0, m2, m3) are the pattern's means, SS their sum of squares about
    their mean, and ncp = 2 F at the estimate. With the residual SD as unit, ncp = n SS and a change has SD sqrt(2).
    """
    if len(evidence.study.visits.names) != 3:
        raise ValueError("reading 'b' needs three visits; with two, readings 'a' and 'b' are the same test")
    f = evidence.outcomes[outcome].printed.f
    df1, df2 = 2, 2 * (n - len(evidence.study.sample.groups))
    mean = _pattern_means(evidence, pattern)
    scale = float(mean[2]) / math.sqrt(2 * n * float(((mean - mean.mean()) ** 2).sum()))
    limits = {name: scale * math.sqrt(f_ncp(f, df1, df2, at)) for name, at in _AT.items()}
    kept = None if pattern == "steady_rise" else float(mean[2])
    return EffectSize(outcome, "b", pattern, n, df1, df2, f, dz=scale * math.sqrt(df1 * f), **limits, kept=kept)


def _pattern_means(evidence: Evidence, pattern: Pattern) -> np.ndarray[Any, np.dtype[np.float64]]:
    if pattern == "steady_rise":
        return np.array([0.0, 0.5, 1.0])
    if pattern == "step_and_hold":
        return np.array([0.0, 1.0, 1.0])
    kept = None if evidence.fade_from is None else evidence.kept_share(evidence.fade_from)
    if kept is None:
        raise ValueError("the pattern 'fade' needs fade_from in the evidence file: the outcome whose means show it")
    return np.array([0.0, 1.0, kept])


Step = tuple[str, float | str]
Change = Callable[[np.ndarray[Any, np.dtype[np.float64]]], np.ndarray[Any, np.dtype[np.float64]]]


@dataclass(frozen=True)
class PlanningEffect:
    """The controlled effect to plan on, in baseline SDs at the last visit, and every step that led to it.

    value, low, high are None where the prior has nothing to say. A step's value is a number, or the text
    'not applied: ...'.
    """

    outcome: str
    prior: Prior
    value: float | None
    low: float | None
    high: float | None
    steps: tuple[Step, ...]
    note: str


def planning_effects(
    evidence: Evidence, prior: str = "compromise", reading: str = "a", skip: Collection[str] = frozenset()
) -> dict[str, PlanningEffect]:
    """The planning effect of every outcome under one named prior (see PRIORS).

    skip : discounts to leave out, of those that the prior uses (see DISCOUNTS, USED_BY); each is independent of the
    others. Intervals of the observed, safeguard and discounted priors are the 95% interval of dz carried through the
    same steps; those of literature and compromise are the declared ranges. ValueError for an unknown name, and for a
    skip that would have no effect.
    """
    known = _one_of("prior", prior, PRIORS)
    _one_of("reading", reading, READINGS)
    for name in skip:
        if _one_of("discount", name, DISCOUNTS) not in USED_BY[known]:
            used = ", ".join(d for d in DISCOUNTS if d in USED_BY[known]) or "no discount"
            raise ValueError(f"skipping {name!r} has no effect on the prior {prior!r}, which uses {used}")
    if known in ("literature", "compromise"):
        return {name: _declared(outcome, name, known) for name, outcome in evidence.outcomes.items()}
    sizes = effect_sizes(evidence, reading)
    return {size.outcome: _from_change(evidence.discounts, size, known, frozenset(skip)) for size in sizes}


def _declared(outcome: Outcome, name: str, prior: Prior) -> PlanningEffect:
    declared = outcome.controlled_effect if prior == "literature" else outcome.compromise
    if declared is None:
        note = f"no {prior} effect is declared in the evidence file"
        if prior == "literature":
            note = f"no pooled effect of controlled trials. {outcome.no_controlled_effect}"
        return PlanningEffect(name, prior, None, None, None, (), note)
    steps: tuple[Step, ...] = (("declared effect", declared.value),)
    return PlanningEffect(name, prior, declared.value, declared.low, declared.high, steps, declared.source)


def _from_change(discounts: Discounts, size: EffectSize, prior: Prior, skip: frozenset[str]) -> PlanningEffect:
    """Carry dz and its 95% limits through the steps of `prior`; a discount that is not in use says so."""
    is_discounted = prior == "discounted"
    is_immediate = is_discounted and size.pattern == "fade" and size.kept is not None
    start = size.safeguard if prior == "safeguard" else size.dz
    kept = size.kept if is_immediate and size.kept else 1.0
    value = np.array([start, size.low, size.high]) / kept
    steps: list[Step] = [("F as printed", size.f)]
    dz, visit = "dz at the last visit", ""
    if size.reading == "a":
        steps.append(("t = sqrt(F)", math.sqrt(size.f)))
        dz = f"dz = t / sqrt({size.n})"
    elif is_immediate:
        dz, visit = f"dz at visit 2, {kept:.0%} kept", " visit 2,"
    steps.append((dz, size.dz / kept))
    steps += [(f"  95%,{visit} low", size.low / kept), (f"  95%,{visit} high", size.high / kept)]
    if prior == "safeguard":
        steps.append(("  60%, low", size.safeguard))
    for name, label, apply, reason in _discount_steps(discounts, size):
        if name not in USED_BY[prior]:
            continue
        reason = "left out on request" if name in skip else reason
        if not reason:
            value = apply(value)
        steps.append((label, f"not applied: {reason}" if reason else float(value[0])))
    effect, low, high = (float(v) for v in value)
    steps.append(("planning effect", effect))
    return PlanningEffect(size.outcome, prior, effect, low, high, tuple(steps), PRIORS[prior])


def _discount_steps(discounts: Discounts, size: EffectSize) -> tuple[tuple[str, str, Change, str], ...]:
    """Name, label, what it does to an effect, and why it has nothing to do here (or '')."""
    r, kept = discounts.pre_post_correlation.value, discounts.retention.value
    untreated, multiplier = discounts.untreated_change.value, discounts.pilot_to_trial.value
    already = ""
    if size.reading == "a":
        already = "F is already the last visit minus baseline"
    elif size.pattern != "fade":
        already = f"the pattern {size.pattern} is already at the last visit"
    return (
        ("pre_post_correlation", f"raw SD, r = {r:g}", lambda d: d * math.sqrt(2 * (1 - r)), ""),
        ("retention", f"× retention {kept:.0%}", lambda d: d * kept, already),
        ("untreated_change", f"- untreated change {untreated:.2f} SD", lambda d: d - untreated, ""),
        ("pilot_to_trial", f"× pilot to trial {multiplier:g}", lambda d: d * multiplier, ""),
    )


def consistency(evidence: Evidence) -> list[str]:
    """What the printed numbers say about each other, one finding a line; empty where nothing can be checked."""
    return [*_about_numerator_df(evidence), *_about_n(evidence), *_about_means(evidence)]


def _about_numerator_df(evidence: Evidence) -> list[str]:
    found = []
    n_visit = len(evidence.study.visits.names)
    people = analysed_n(evidence).central - len(evidence.study.sample.groups)
    for name, outcome in evidence.outcomes.items():
        test = outcome.printed
        if test.p is None or test.p.is_below or n_visit < 3:
            continue
        p = {df1: float(p_value(test.f, df1, df1 * people)) for df1 in (1, n_visit - 1)}
        printed_so = [df1 for df1, value in p.items() if test.p.agrees(value, value)]
        values = " and ".join(f"p = {value:.5f} with df ({df1}, {df1 * people})" for df1, value in p.items())
        match printed_so:
            case [1]:
                verdict = "the printed p needs one numerator df: the linear contrast, or the lower-bound row"
            case [_]:
                verdict = "the printed p is that of the omnibus test"
            case _:
                verdict = "the printed p does not tell them apart" if printed_so else "neither is the printed p"
        found.append(f"{name}: F = {test.f:.2f} has {values}; printed p = {test.p}: {verdict}.")
    return found


def _about_n(evidence: Evidence) -> list[str]:
    n, sample = analysed_n(evidence), evidence.study.sample
    if not n.error_df:
        return [f"No partial eta squared is printed: the {sample.n_recruited} recruited are taken as analysed."]
    n_group = len(sample.groups)
    found = []
    full = sample.n_recruited - n_group
    for name, (low, _, high) in n.error_df.items():
        if not low <= full <= high:
            f = evidence.outcomes[name].printed.f
            found.append(
                f"{name}: all {sample.n_recruited} analysed (error df {full}) would print partial eta squared "
                f"{f / (f + full):.2f}, not {evidence.outcomes[name].printed.partial_eta_squared:.2f}: "
                f"{sample.n_recruited} is not the analysed number."
            )
    if not n.is_implied:
        found.append("No analysed number fits every printed F and partial eta squared; the number recruited is used.")
    else:
        lost = sample.n_recruited - n.high, sample.n_recruited - n.low
        found.append(
            f"F and partial eta squared of all outcomes together fit an error df of {n.low - n_group} to "
            f"{n.high - n_group}: {n.low} to {n.high} people analysed of {sample.n_recruited} ({lost[0]} to {lost[1]} "
            f"missing, {lost[0] / sample.n_recruited:.1%} to {lost[1] / sample.n_recruited:.1%}); {n.central} is used."
        )
    return found


def _about_means(evidence: Evidence) -> list[str]:
    found = []
    visit = evidence.study.visits.names
    dz = {size.outcome: size.dz for size in effect_sizes(evidence)}
    for name, outcome in evidence.outcomes.items():
        means = outcome.means
        if means is None or visit[0] not in means.by_visit:
            continue
        baseline = means.by_visit[visit[0]]
        last, second = (means.by_visit.get(v) for v in (visit[-1], visit[1] if len(visit) == 3 else ""))
        if last is not None:
            sd = (last - baseline) / dz[name]
            found.append(
                f"{name}: the gain of {last - baseline:.2f} points ({means.group} only) and reading a imply an SD of "
                f"change of {sd:.1f}"
                + (
                    f"; were F the test at '{visit[1]}', it would be {(second - baseline) / dz[name]:.1f}."
                    if second is not None
                    else "."
                )
            )
        kept = evidence.kept_share(name)
        if kept is not None and last is not None and second is not None and kept < 1:
            found.append(
                f"{name}: {second - last:.2f} of the {second - baseline:.2f} points gained at '{visit[1]}' were gone "
                f"at '{visit[2]}' ({1 - kept:.0%} lost, {kept:.1%} kept; {means.group} only)."
            )
    return found


def _one_of(kind: str, name: str, known: Collection[Name]) -> Name:
    for candidate in known:
        if candidate == name:
            return candidate
    raise ValueError(f"{name!r} is not a known {kind}; known: {', '.join(known)}")
