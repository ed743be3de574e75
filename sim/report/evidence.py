"""What the seed study implies, for a reader and for a script: facts, effect sizes, and the way to planning effects."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import JustifyMethod, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sim.scenario.evidence import PATTERNS, PRIORS, READINGS, SURENESS, Evidence, Fact, Prior
from sim.scenario.seed_study import (
    DISCOUNTS,
    USED_BY,
    EffectSize,
    PlanningEffect,
    analysed_n,
    consistency,
    effect_sizes,
    planning_effects,
)

NOTHING = "–"


def evidence_tables(
    evidence: Evidence, reading: str = "a", skip: Collection[str] = frozenset()
) -> list[RenderableType]:
    """Rich renderables in reading order, legible at 100 columns.

    The study and whether its numbers agree; effect sizes under every reading; the steps from F to planning effect under
    every named prior; the declared assumptions; notes in plain words. `reading` and `skip` as in planning_effects; a
    skip applies to every prior that uses the discount.
    """
    effects = _all_effects(evidence, reading, skip)
    parts = (
        _study_table(evidence),
        _bullets("Do the printed numbers agree?", consistency(evidence)),
        _effect_size_table(evidence),
        _steps_table(evidence, effects, reading),
        _prior_table(effects),
        _assumption_table(evidence),
        _bullets("In plain words", notes(evidence, reading, skip)),
    )
    return [Padding(part, (0, 0, 1, 0)) for part in parts]


def evidence_json(evidence: Evidence, reading: str = "a", skip: Collection[str] = frozenset()) -> dict[str, Any]:
    """The same content as plain dicts, lists, strings and finite floats; null where there is no value."""
    n = analysed_n(evidence)
    effects = _all_effects(evidence, reading, skip)
    return {
        "study": evidence.study.model_dump(mode="json"),
        "analysed_n": {"low": n.low, "central": n.central, "high": n.high, "is_implied": n.is_implied},
        "error_df": {
            name: dict(zip(("low", "as_printed", "high"), df, strict=True)) for name, df in n.error_df.items()
        },
        "consistency": consistency(evidence),
        "effect_sizes": [asdict(size) for size in _all_sizes(evidence)],
        "reading": reading,
        "skip": sorted(skip),
        "planning_effects": {
            prior: {name: _effect_json(effect) for name, effect in by_outcome.items()}
            for prior, by_outcome in effects.items()
        },
        "discounts": evidence.discounts.model_dump(mode="json"),
        "notes": notes(evidence, reading, skip),
    }


def notes(evidence: Evidence, reading: str = "a", skip: Collection[str] = frozenset()) -> list[str]:
    """What a reader must not miss, in plain words."""
    n = analysed_n(evidence).central
    said = [
        "A change from before to after without an untreated arm is not the effect of a treatment. People also change "
        "with time, with being asked, and with wishing to please; part of the change would have come anyway. The "
        "'observed' and 'safeguard' columns leave all of that in: never plan on them alone.",
        f"The intervals treat {n} people as independent; where people were trained together, the true ones are wider.",
        "Intervals of 'discounted' carry the sampling error of the study only; how unsure the discounts themselves are "
        "is in the table of assumptions.",
    ]
    if reading == "b" and evidence.pattern == "fade":
        said.append(
            "Under reading b F gives the gain at visit 2. 'observed' and 'safeguard' keep of it the share that "
            f"{evidence.fade_from} kept in the printed means; 'discounted' keeps the declared retention instead."
        )
    for name, outcome in evidence.outcomes.items():
        if outcome.no_controlled_effect:
            said.append(f"{name}: no pooled effect of controlled trials. {outcome.no_controlled_effect}")
    for effect in planning_effects(evidence, "discounted", reading, skip).values():
        if effect.low is not None and effect.low < 0:
            said.append(
                f"{effect.outcome}: after the discounts the interval reaches below zero ({_two(effect.low)} SD): the "
                "study does not rule out that the programme adds nothing."
            )
    unused = {
        f"{label.lstrip('×- ')} is {value}."
        for effect in planning_effects(evidence, "discounted", reading, skip).values()
        for label, value in effect.steps
        if isinstance(value, str)
    }
    return said + sorted(line[0].upper() + line[1:] for line in unused)


def _all_effects(evidence: Evidence, reading: str, skip: Collection[str]) -> dict[Prior, dict[str, PlanningEffect]]:
    planning_effects(evidence, "discounted", reading, skip)  # uses every discount, so it refuses unknown names
    return {p: planning_effects(evidence, p, reading, [s for s in skip if s in USED_BY[p]]) for p in PRIORS}


def _all_sizes(evidence: Evidence) -> list[EffectSize]:
    """Effect sizes by outcome: reading a, then reading b under every pattern that the file can give."""
    sizes = list(effect_sizes(evidence, "a"))
    if len(evidence.study.visits.names) == 3:
        for pattern in PATTERNS:
            if pattern != "fade" or evidence.fade_from is not None:
                sizes += effect_sizes(evidence, "b", pattern=pattern)
    order = list(evidence.outcomes)
    return sorted(sizes, key=lambda size: order.index(size.outcome))


def _study_table(evidence: Evidence) -> Table:
    study = evidence.study
    n = analysed_n(evidence)
    groups = ", ".join(f"{size} {name}" for name, size in study.sample.groups.items())
    visits = f"{', '.join(study.visits.names)} (last at {study.visits.follow_up} months)"
    rows = [
        Fact(what="recruited", value=f"{study.sample.n_recruited}: {groups}", **_origin(study.sample)),
        Fact(what="visits", value=visits, **_origin(study.visits)),
        *study.facts,
        *(fact.model_copy(update={"what": f"limit: {fact.what}"}) for fact in study.limits),
    ]
    if n.is_implied:
        implied = f"{n.low} to {n.high}, {n.central} used"
        rows.insert(1, Fact(what="analysed", value=implied, source="F and partial eta squared", sureness="C"))
    table = _table(
        f"{study.title}\n{study.citation}, doi:{study.doi}", "what", "value", "source", "sure", ratio=(3, 8, 6, 0)
    )
    for fact in rows:
        _row(table, fact.what, fact.value, fact.source, fact.sureness)
    table.caption = Text("sure: " + "; ".join(f"{key} {words}" for key, words in SURENESS.items()))
    return table


def _origin(sourced: Any) -> dict[str, Any]:
    return {"source": sourced.source, "sureness": sourced.sureness}


def _effect_size_table(evidence: Evidence) -> Table:
    table = _table(
        f"Uncontrolled change from baseline to the last visit, dz (n = {analysed_n(evidence).central})",
        *("outcome", "F", "reading of F", "dz", "95% interval", "80% low", "60% low", "median"),
        numeric=(1, 3, 4, 5, 6, 7),
    )
    for name in evidence.outcomes:
        sizes = [size for size in _all_sizes(evidence) if size.outcome == name]
        for size in sizes:
            is_first = size is sizes[0]
            read = size.reading if size.pattern is None else f"{size.reading}  {size.pattern.replace('_', ' ')}"
            _row(
                table,
                *(name if is_first else "", f"{size.f:.2f}" if is_first else "", read, f"{size.dz:.3f}"),
                *(f"{size.low:.3f} to {size.high:.3f}", f"{size.low_80:.3f}", f"{size.safeguard:.3f}"),
                f"{size.median_unbiased:.3f}",
                end_section=size is sizes[-1] and name != list(evidence.outcomes)[-1],
            )
    patterns = "; ".join(f"{name.replace('_', ' ')}: {words}" for name, words in PATTERNS.items())
    table.caption = Text(
        f"reading a: {READINGS['a']}; b: {READINGS['b']}, whose dz depends on the pattern of means ({patterns}).\n"
        "60% low: the safeguard; median: the dz under which the printed F is the median."
    )
    return table


def _steps_table(evidence: Evidence, effects: dict[Prior, dict[str, PlanningEffect]], reading: str) -> Table:
    """One section for each outcome, a row for each step, a column for each prior."""
    words = next(text for name, text in READINGS.items() if name == reading)
    table = _table(
        f"From F to planning effect, reading {reading}: {words}", "", *PRIORS, numeric=range(1, len(PRIORS) + 1)
    )
    for name in evidence.outcomes:
        steps = {prior: dict(by_outcome[name].steps) for prior, by_outcome in effects.items()}
        _row(table, Text(name, style="bold"))
        for label in _in_order(list(steps[prior]) for prior in ("safeguard", *PRIORS)):
            if label != "planning effect":
                _row(table, label, *(_cell(by_label.get(label)) for by_label in steps.values()))
        chosen = [by_outcome[name] for by_outcome in effects.values()]
        _row(table, "planning effect, SD", *(Text(_two(effect.value), style="bold") for effect in chosen))
        _row(table, "  low", *(_two(effect.low) for effect in chosen))
        _row(
            table, "  high", *(_two(effect.high) for effect in chosen), end_section=name != list(evidence.outcomes)[-1]
        )
    return table


def _in_order(sequences: Iterable[list[str]]) -> list[str]:
    """Every label once, each right after the one it follows where it first appears."""
    merged: list[str] = []
    for sequence in sequences:
        for before, label in zip(["", *sequence], sequence, strict=False):
            if label not in merged:
                merged.insert(merged.index(before) + 1 if before else len(merged), label)
    return merged


def _prior_table(effects: dict[Prior, dict[str, PlanningEffect]]) -> Table:
    """A row for each prior, a column for each outcome."""
    names = next(iter(effects.values()))
    table = _table("Planning effects in baseline SDs at the last visit: value [low, high]", "prior", *names)
    for prior, by_outcome in effects.items():
        cells = (
            f"{_two(e.value)} [{_two(e.low)}, {_two(e.high)}]" if e.value is not None else "none"
            for e in by_outcome.values()
        )
        _row(table, prior, *cells)
    table.caption = Text("\n".join(f"{prior}: {words}" for prior, words in PRIORS.items()))
    return table


def _assumption_table(evidence: Evidence) -> Table:
    table = _table(
        *("Declared assumptions and where they come from", "what", "value", "range", "basis", "source"),
        ratio=(2, 0, 0, 0, 4),
    )
    declared: dict[str, Any] = {name.replace("_", " "): getattr(evidence.discounts, name) for name in DISCOUNTS}
    for name, outcome in evidence.outcomes.items():
        declared[f"{name}: controlled trials"] = outcome.controlled_effect
        declared[f"{name}: compromise"] = outcome.compromise
    for name, number in declared.items():
        if number is not None:
            limits = f"{_two(number.low)} to {_two(number.high)}"
            _row(table, name, _two(number.value), limits, number.basis, number.source)
    return table


def _table(title: str, *column: str, numeric: Collection[int] = (), ratio: Sequence[int] = ()) -> Table:
    """An empty table; a column of ratio 0 is as wide as its content and the others share the rest."""
    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        expand=bool(ratio),
    )
    for i, name in enumerate(column):
        share = ratio[i] or None if ratio else None
        side: JustifyMethod = "right" if i in numeric else "left"
        table.add_column(Text(name), justify=side, ratio=share, no_wrap=bool(ratio) and share is None, overflow="fold")
    return table


def _row(table: Table, *cell: str | Text, end_section: bool = False) -> None:
    """Add a row of plain text: square brackets in a user's file are not markup."""
    table.add_row(*(Text(c) if isinstance(c, str) else c for c in cell), end_section=end_section)


def _bullets(title: str, lines: list[str]) -> RenderableType:
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, show_header=False, padding=(0, 1))
    table.add_column(width=1)
    table.add_column(overflow="fold")
    for line in lines:
        _row(table, "-", line)
    return table


def _effect_json(effect: PlanningEffect) -> dict[str, Any]:
    return {
        **{"value": effect.value, "low": effect.low, "high": effect.high, "note": effect.note},
        "steps": [{"step": label.strip(), "value": value} for label, value in effect.steps],
    }


def _cell(value: float | str | None) -> str:
    if value is None:
        return ""
    return "not applied" if isinstance(value, str) else f"{value:.3f}"


def _two(value: float | None) -> str:
    """Two decimals, never '-0.00'."""
    return NOTHING if value is None else f"{round(value, 2) + 0.0:.2f}"
