"""A run's result as tables that a grant writer can read without knowing the files."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sim.run.blocks import realise, routes
from sim.run.tables import Result


def run_tables(result: Result) -> Group:
    """Designs, power of the primary analysis, what the other analyses do, and what the effect is made of."""
    file = result.scenario.file
    is_trial = any(design.contrast_arms.control is not None for design in file.designs.values())
    parts: list[RenderableType] = [_designs(result), Text()]
    parts += [_power(result), Text(), _methods(result), Text()] if is_trial else [_before_after(result), Text()]
    parts += [_estimand(result)]
    if bounds := _bounds(result):
        parts += [Text(), bounds]
    return Group(*parts)


def headline_measure(result: Result) -> str:
    """The power to show first: where demand inflation is declared, with the inflation taken out of the estimates."""
    inflated = bool((result.estimands["demand_inflation"] != 0).any())
    return "power_net_of_demand" if inflated else "power"


def _measure(result: Result, measure: str, **where: str) -> pd.DataFrame:
    table = result.by_measure.get(measure, result.summary[:0])
    for column, value in where.items():
        table = table[table[column] == value]
    return table


def _cell(row: pd.DataFrame, digits: int = 2) -> str:
    """`0.83 ±.008`: an estimate and its Monte Carlo standard error."""
    if row.empty:
        return "-"
    estimate, mcse = float(row["estimate"].iloc[0]), float(row["mcse"].iloc[0])
    shown = f"{estimate:.{digits}f}"
    if estimate < 1 and shown == "1.00":
        shown = ">.99"
    return f"{shown} ±{_short(mcse)}"


def _short(mcse: float) -> str:
    digits = 4 if 0 < mcse < 0.0005 else 3  # an error that is not 0 is not shown as 0
    return f"{mcse:.{digits}f}".lstrip("0") if mcse < 1 else f"{mcse:.2f}"


def _table(title: str, caption: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i == 0)
    return table


def _designs(result: Result) -> Table:
    costs = result.scenario.file.costs
    priced = (
        "" if costs is None else f" Cost: at the unit costs of the file, {costs.year} prices; costs.csv has its items."
    )
    table = _table(
        f"{result.scenario.file.title}: the designs",
        "People and clusters are means, dates medians over replicates. Lost: share of participants not seen at the "
        "final visit. In window: share of final visits held inside a window." + priced,
        ["design", "people", "clusters", "districts", "first training", "last visit", "lost", "in window",
         *([] if costs is None else [f"cost, {costs.currency}"])],
    )  # fmt: skip
    clusters = {"village": "villages", "individual": "groups", "single_arm": "groups"}
    for row in result.designs.to_dict("records"):
        kind = result.scenario.design(str(row["design"])).kind
        table.add_row(
            str(row["design"]),
            f"{row['n_participant']:.0f}",
            f"{row['n_cluster']:.0f} {clusters.get(kind, '')}" if row["n_cluster"] else "none",
            f"{row['n_district']:.0f}",
            str(row["start_date"]),
            str(row["last_visit_date"]),
            f"{1 - row['share_observed_final']:.1%}",
            f"{row['share_final_in_window']:.0%}",
            *([] if costs is None else [f"{row['cost']:,.0f}"]),
        )
    return table


def _power(result: Result) -> Table:
    """Power, adjusted power and type I error of the primary analysis, outcome by outcome."""
    hypotheses = result.scenario.file.hypotheses
    primary, rule = hypotheses.primary_analysis, hypotheses.multiplicity
    outcomes = result.scenario.names.outcome
    n = result.scenario.file.replicates
    measure = headline_measure(result)
    net = "" if measure == "power" else ", net of demand inflation"
    note = (
        " Demand inflation is no effect: it is taken out of each estimate before its test (`power_net_of_demand` in "
        "summary.csv; with it: `power`). demand: share of rejections when nobody gains but the trained still inflate "
        "their reports, as the trial itself would test them."
        if measure != "power"
        else ""
    )
    note += _estimator(result) + _calendars(result)
    several = len(outcomes) > 1
    of_all = "any, all: of the outcomes. " if several else ""
    of_rule = f"{rule}: after adjusting the {len(outcomes)} outcomes for one another. " if rule != "none" else ""
    of_any = " (any: of at least one, adjusted)" if several else ""
    table = _table(
        f"Power of the primary analysis ({primary}){net}, {n:,} replicates per design",
        f"Power ± Monte Carlo standard error; {'two' if hypotheses.sides == 2 else 'one'}-sided tests at "
        f"{hypotheses.alpha:g}. {of_all}{of_rule}type I: share of false rejections when nobody gains{of_any}.{note}",
        ["design", "", *outcomes, *(("any", "all") if several else ())],
    )
    adjusted = f"{primary}+{rule}"
    sets = (*outcomes, *(("*any", "*all") if several else ()))
    for design in result.scenario.file.designs:
        lines = [("power", primary, measure)]
        lines += [(rule, adjusted, measure)] if rule != "none" else []
        for label, analysis, name in lines:
            cells = [_cell(_measure(result, name, design=design, analysis=analysis, outcome=o)) for o in sets]
            table.add_row(design if label == "power" else "", label, *cells)
        false = partial(_measure, result, "type_1_error", design=design, analysis=primary)
        error = [_cell(false(outcome=outcome), 3) for outcome in outcomes]
        family = adjusted if rule != "none" else primary
        any_error = _cell(_measure(result, "family_wise_error", design=design, analysis=family, outcome="*any"), 3)
        any_and_all = (any_error, "") if several else ()
        table.add_row("", "type I", *error, *any_and_all, end_section=measure == "power")
        if measure != "power":
            inflated = partial(_measure, result, "type_1_error_with_demand", design=design, analysis=primary)
            table.add_row("", "demand", *[_cell(inflated(outcome=o), 3) for o in outcomes], end_section=True)
    return table


def _estimator(result: Result) -> str:
    """How power and type I error of the primary analysis are estimated where rejections are not merely counted."""
    file = result.scenario.file
    if file.hypotheses.estimator == "counting":
        return ""
    primary, found = file.hypotheses.primary_analysis, []
    for design in file.designs:
        ratio = _measure(result, "variance_reduction", design=design, analysis=primary, truth="alternative")
        if not ratio.empty:
            found.append((design, float(ratio["estimate"].iloc[0])))
    if not found:
        return " Estimator: counted rejections; `run --explain` says why not the conditional probability."
    position = list(file.analyses).index(primary)
    is_approximate = any(routes(result.scenario, design, 0)[position].approximate for design, _ in found)
    low, high = (f"{pick(ratio for _, ratio in found):.0f}" for pick in (min, max))
    counted = [design for design in file.designs if design not in dict(found)]
    said = [
        f" Estimator: mean conditional rejection probability{', approximate' if is_approximate else ''}; variance of "
        f"power {low if low == high else f'{low} to {high}'} times below that of counting (`power_counted` in "
        "summary.csv)."
    ]
    if is_approximate:
        said.append("Approximate: it leaves out what the pattern of missing scores tells of those seen.")
    if counted:
        said.append(f"Counted: {_fold(counted)}.")
    if file.hypotheses.multiplicity != "none":
        said.append("Adjusted and family measures are counted.")
    return " ".join(said)


MANY = 0.5
"""Share of the squared error above which more calendars serve better than more replicates."""


def _calendars(result: Result) -> str:
    """How much of the error of the powers shown comes from the calendars drawn."""
    primary = result.scenario.file.hypotheses.primary_analysis
    share = _measure(result, "calendar_share", analysis=primary, truth="alternative")["estimate"]
    if share.empty:
        return ""
    said = f" Each error counts that replicates share {result.scenario.file.calendars} calendars, which are "
    said += f"{share.median():.0%} of its square (median; largest {share.max():.0%})"
    return said + ("; more calendars would lower it." if share.median() > MANY else ".")


def _methods(result: Result) -> Table:
    """Type I error of every analysis: the mean over the outcomes, and the largest."""
    analyses, hypotheses = list(result.scenario.file.analyses), result.scenario.file.hypotheses
    table = _table(
        "Type I error of every analysis: mean over the outcomes (largest)",
        "Nominal level "
        f"{hypotheses.alpha:g}, each {'rate' if hypotheses.estimator == 'counting' else 'counted rate'} "
        f"±{_short(_typical_mcse(result))}. An analysis far above it cannot be planned with, whatever its power.",
        ["design", *analyses],
    )
    for design in result.scenario.file.designs:
        cells = []
        for analysis in analyses:
            error = _measure(result, "type_1_error", design=design, analysis=analysis)
            rate = error.loc[~error["outcome"].str.startswith("*"), "estimate"]
            cells.append(f"{rate.mean():.3f} ({rate.max():.3f})")
        table.add_row(design, *cells)
    return table


def _typical_mcse(result: Result) -> float:
    alpha = result.scenario.file.hypotheses.alpha
    return float((alpha * (1 - alpha) / result.scenario.file.replicates) ** 0.5)


def _before_after(result: Result) -> Group:
    """What a study without a control arm printed, what the re-enactment prints, and what it would do by chance."""
    evidence = result.scenario.evidence.outcomes if result.scenario.evidence else {}
    compared = _table(
        "The seed study, re-enacted: linear contrast of visit in a repeated-measures analysis of variance",
        f"Medians ± Monte Carlo standard error over {result.scenario.file.replicates:,} replicates.",
        ["outcome", "F printed", "F", "partial η² printed", "partial η²", "omnibus F", "omnibus η²", "analysed"],
    )
    cost = _table(
        "What the missing control arm costs",
        "The change is what the study saw; the effect is what training did; the rest would have come without it. Under "
        "the null nobody gains, and the study still finds a change in this share of replicates.",
        ["outcome", "mean change", "true effect", "bias", "rejects when nobody gains"],
    )
    for design in result.scenario.file.designs:
        for outcome in result.scenario.names.outcome:
            printed = evidence[outcome].printed if outcome in evidence else None
            eta = printed.partial_eta_squared if printed else None

            def at(measure: str, truth: str = "alternative", outcome: str = outcome, design: str = design) -> Any:
                return _measure(result, measure, design=design, outcome=outcome, truth=truth)

            compared.add_row(
                outcome,
                f"{printed.f:.2f}" if printed else "-",
                _cell(at("median_f_linear")),
                f"{eta:.2f}" if eta else "-",
                _cell(at("median_partial_eta_squared_linear"), 3),
                _cell(at("median_f_visit")),
                _cell(at("median_partial_eta_squared_visit"), 3),
                f"{float(at('median_n_complete')['estimate'].iloc[0]):.0f}",
            )
            true, bias = (float(at(m)["estimate"].iloc[0]) for m in ("true_value", "bias"))
            cost.add_row(
                outcome, f"{true + bias:.3f}", f"{true:.3f}", _cell(at("bias"), 3), _cell(at("type_1_error", "null"), 3)
            )
    return Group(compared, Text(), cost) if evidence else Group(cost)


COMPONENTS = {
    "planned": "planned", "format": "format", "modification": "strata", "attendance": "attendance",
    "contamination": "leakage", "buffering": "buffering", "true_value": "effect", "demand_inflation": "demand",
}  # fmt: skip
"""Columns of estimands.csv, and what a table calls them."""


def _estimand(result: Result) -> Table:
    """What the effect at the final visit is made of, for each distinct comparison."""
    windows = (
        "The windows themselves move the arms apart by at most "
        f"{result.estimands['window'].abs().max():.3f} on average over the calendars."
    )
    file = result.scenario.file
    is_drawn = file.estimand.from_draws(file.model, file.missingness)
    truth = result.estimands[result.estimands["truth"] == "alternative"].round(dict.fromkeys(COMPONENTS, 9))
    shown = [c for c in COMPONENTS if c != "buffering" or (truth["buffering"] != 0).any()]
    buffered = " + buffering" if "buffering" in shown else ""
    made_of = f"effect = planned + format + strata + attendance + leakage{buffered}: "
    if is_drawn:
        made_of = (
            "effect: mean over the replicates' own draws; the rest is what it would be made of if nobody left and "
            "scores had no bounds: "
        )
    spared = ", and what training spares people of the windows" if buffered else ""
    table = _table(
        f"The estimand ({file.estimand.kind.replace('_', ' ')}): {file.estimand.variable}, in baseline SDs",
        f"{made_of}what those miss who attend too little, what the untreated pick up{spared}. Demand inflation is in "
        f"the self-report but is no effect. {windows if result.scenario.names.window else ''}",
        [
            "designs",
            "outcome",
            *(COMPONENTS[c] for c in shown),
            *(["in points"] if "true_value_points" in truth else []),
        ],
    )
    designs_of: dict[str, list[pd.Series[Any]]] = {}
    for _, group in truth.groupby(["outcome", *shown], sort=False):
        designs_of.setdefault(_fold(list(group["design"])), []).append(group.iloc[0])
    for designs, members in designs_of.items():
        for i, row in enumerate(members):
            numbers = [float(row[column]) for column in shown]
            cells = [f"{x:+.3f}" if abs(x) >= 0.0005 else "0" for x in numbers]
            if "true_value_points" in row:
                cells.append("-" if pd.isna(row["true_value_points"]) else f"{row['true_value_points']:+.2f}")
            table.add_row(designs if i == 0 else "", str(row["outcome"]), *cells, end_section=i == len(members) - 1)
    return table


def _bounds(result: Result) -> Table | None:
    """Shares of people at the lowest and at the highest score of scales that have them; None where none has."""
    model, names = result.scenario.file.model, result.scenario.names
    if getattr(model, "is_continuous", True):
        return None
    table = _table(
        "Scales with bounds: share of people at the lowest and at the highest score",
        "Expected under the alternative, outside every window; a ceiling hides gains.",
        ["design", "outcome", "visit", "arm", "lowest", "highest"],
    )
    for name, design in result.scenario.file.designs.items():
        has_villages = realise(result.scenario, name, 0).allocation.has_villages
        found = model.at_the_bounds(names, result.scenario.effect, design.arm_list, has_villages)
        for outcome, rows in found.items():
            for row in rows:
                table.add_row(name, outcome, row.visit, row.arm, f"{row.floor:.1%}", f"{row.ceiling:.1%}")
    return table


def _fold(designs: list[str]) -> str:
    return ", ".join(designs) if len(designs) <= 2 else f"{designs[0]} and {len(designs) - 1} more"


def designs_json(result: Result) -> dict[str, Any]:
    """The result as plain data: every design with its dates and its power by outcome."""
    primary = result.scenario.file.hypotheses.primary_analysis
    kept = result.summary[result.summary["analysis"].str.split("+").str[0] == primary]
    return {
        "scenario": result.scenario.name,
        "replicates": result.scenario.file.replicates,
        "designs": _records(result.designs),
        "estimands": _records(result.estimands),
        "costs": _records(result.costs),
        "summary": _records(kept),
    }


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): (None if pd.isna(v) else v) for k, v in row.items()} for row in table.to_dict("records")]
