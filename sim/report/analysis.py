"""A planned analysis of a data set, as tables to read and as plain data."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sim.dataset.result import Analysis, Term

STATUS_WORD = {
    "ok": "Status: ok.",
    "singular": "Status: singular.",
    "failed": "Status: failed. No number can be given.",
}
COUNT_WORD = {
    "n_obs": ("row", "rows"), "n_participant": ("participant", "participants"), "n_cluster": ("cluster", "clusters"),
    "n_district": ("district", "districts"), "n_training_group": ("training group", "training groups"),
    "n_visit": ("visit", "visits"), "n_complete": ("complete participant", "complete participants"),
}  # fmt: skip


def analysis_tables(analysis: Analysis) -> Group:
    """The method in a sentence, its terms, tests and variance components, who was analysed, and how it went."""
    parts: list[RenderableType] = [Text(analysis.sentence), Text(), _terms(analysis)]
    if analysis.joint is not None:
        joint = analysis.joint
        test = f"F({joint.ndf:.0f}, {_number(joint.ddf)}) = {_number(joint.f)}, p {_p(joint.p_value, '= ')}"
        parts.append(Text(f"Joint test of {', '.join(joint.terms)}: {test}"))
    if analysis.anova:
        parts += [Text(), _anova(analysis)]
    if analysis.variance and not analysis.is_failed:
        parts += [Text(), _variance(analysis)]
    parts += [Text(), Text(_who(analysis)), Text(STATUS_WORD[analysis.status])]
    parts += [Text(note) for note in analysis.notes]
    return Group(*parts)


def analysis_json(analysis: Analysis) -> dict[str, Any]:
    """The analysis as plain data in full precision; what has no value (NaN, or the df of a normal test) is null."""
    joint = analysis.joint
    record: dict[str, Any] = {
        "method": analysis.method,
        "contrast": analysis.contrast,
        "description": analysis.sentence,
        "terms": [asdict(term) for term in analysis.terms],
        "variance": analysis.variance,
        **analysis.criterion,
        "status": analysis.status,
        **analysis.count,
        "arms": analysis.arms,
        "notes": list(analysis.notes),
    }
    if joint is not None:
        record["joint"] = asdict(joint) | {"p_value": joint.p_value}
    if analysis.anova:
        record["anova"] = list(analysis.anova)
    plain: dict[str, Any] = _plain(record)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(columns: list[str], title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i > 0)
    return table


def _terms(analysis: Analysis) -> Table:
    table = _table(["term", "estimate", "standard error", "df", "t", "p", "95% interval"])
    for term in analysis.terms:
        table.add_row(Text(term.term), *_cells(term))
    return table


def _cells(term: Term) -> list[str]:
    df = "normal" if math.isinf(term.df) else _number(term.df)
    interval = "-" if math.isnan(term.ci_low) else f"{_number(term.ci_low)} to {_number(term.ci_high)}"
    numbers = [_number(term.estimate), _number(term.standard_error), df, _number(term.statistic)]
    return [*numbers, _p(term.p_value), interval]


def _anova(analysis: Analysis) -> Table:
    table = _table(["effect", "F", "df", "p", "partial η²", "p (G-G)", "p (H-F)"])
    for row in analysis.anova:
        corrected = [
            _p(row[key]) if key in row else "" for key in ("p_value_greenhouse_geisser", "p_value_huynh_feldt")
        ]
        df = f"{row['ndf']:.0f}, {row['ddf']:.0f}"
        cells = [_number(row["f"]), df, _p(row["p_value"]), f"{row['partial_eta_squared']:.3f}"]
        table.add_row(row["term"], *cells, *corrected)
    return table


def _variance(analysis: Analysis) -> Table:
    table = _table(["component", "value"])
    for name, value in analysis.variance.items():
        if isinstance(value, list):
            for i, row in enumerate(value):
                table.add_row(Text(f"{name}, visit {i + 1}"), "  ".join(_number(x) for x in row))
        else:
            table.add_row(Text(name), _number(value))
    for name, value in analysis.criterion.items():
        table.add_row(name, f"{value:.4f}")
    return table


def _who(analysis: Analysis) -> str:
    parts = [f"{n:,} {COUNT_WORD[name][n != 1]}" for name, n in analysis.count.items() if name in COUNT_WORD]
    arms = ", ".join(f"arm {arm}: {n:,}" for arm, n in analysis.arms.items())
    unseen = analysis.count.get("n_unseen", 0)
    return f"Analysed: {', '.join(parts)}{f' ({arms})' if arms else ''}." + (
        f" {unseen:,} {'row has' if unseen == 1 else 'rows have'} no outcome." if unseen else ""
    )


def _number(value: float) -> str:
    """Four significant digits, without an exponent where a reader can do without one."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size != 0 and not 1e-4 <= size < 1e7:
        return f"{value:.3g}"
    decimals = 4 if size < 1 else 3 if size < 10 else 2 if size < 1000 else 1
    return f"{value:,.{decimals}f}"


def _p(value: float, equals: str = "") -> str:
    if math.isnan(value):
        return "-"
    return "< .0001" if value < 1e-4 else f"{equals}{value:.4f}"
