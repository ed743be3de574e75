"""What `run --explain` and `run --preview` say: the kernel, the estimator and the reason of each analysis."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from run_support import nested_trial, small_scenario

from sim.report.explain import explain_rows, explain_table, preview_rows, preview_table

VILLAGES = {"kind": "village", "districts": 1, "villages_per_district": 12, "village_size": {"mean": 10}}
ANALYSES: dict[str, dict[str, object]] = {
    "lmm": {"kind": "lmm", "baseline": "constrained"},
    "wrong": {"kind": "lmm", "baseline": "constrained", "village_by_visit": False},
    "z": {"kind": "lmm", "baseline": "constrained", "df": "z"},
    "ancova": {"kind": "ancova"},
}
NO_TERM = "villages vary by visit and the analysis has no such term"
NO_KERNEL = "analysis kind `ancova` has no kernel in lanes"
IGNORED = "missing at random given scores, which the condition ignores"


def trial(**changes: Any) -> Any:
    return nested_trial(VILLAGES, analyses=ANALYSES, **changes)


def printed(table: Any) -> str:
    console = Console(width=120, file=StringIO())
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 120
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, [("lanes", "counting", "")] * 3),
        (
            {"estimator": "conditional", "slope": 0.0},
            [("lanes", "conditional", ""), ("lanes", "counting", f"counted: {NO_TERM}"), ("lanes", "conditional", "")],
        ),
        (
            {"estimator": "conditional", "slope": -0.4},
            [
                ("lanes", "conditional, approximate", IGNORED),
                ("lanes", "counting", f"counted: {NO_TERM}"),
                ("lanes", "conditional, approximate", IGNORED),
            ],
        ),
    ],
    ids=["counting", "missing completely at random", "missing at random"],
)
def test_explain_says_kernel_estimator_and_why(changes, said):
    rows = explain_rows(trial(**changes))
    assert [row["analysis"] for row in rows] == list(ANALYSES)
    found = [(row["kernel"], row["estimator"], row["because"]) for row in rows]
    assert found == [*said, ("generic", "counting", NO_KERNEL)]


def test_explain_table_has_every_row():
    scenario = trial(estimator="conditional")
    text = printed(explain_table(scenario))
    assert "parallel_cluster: how it is computed" in text
    for word in ("generic", "lanes", "conditional, approximate", "`ancova`"):
        assert word in text


def test_explain_of_stored_scores_names_the_model():
    rows = explain_rows(small_scenario(designs=("ind_1", "vil_1")))
    assert {row["design"] for row in rows} == {"ind_1", "vil_1"}
    assert {row["kernel"] for row in rows} == {"generic"}
    assert all(row["because"] for row in rows)


def test_preview_rows_have_the_same_keys_and_a_reason_or_a_power():
    rows = {row["analysis"]: row for row in preview_rows(trial())}
    assert len({tuple(row) for row in rows.values()}) == 1
    assert (rows["wrong"]["power"], rows["wrong"]["because"]) == (None, NO_TERM)
    assert (rows["ancova"]["power"], rows["ancova"]["because"]) == (None, NO_KERNEL)
    assert rows["z"]["df"] is None and rows["z"]["power"] > rows["lmm"]["power"] > 0.05
    assert rows["lmm"]["because"] == rows["z"]["because"] == ""


def test_preview_table_says_what_it_is():
    text = printed(preview_table(trial()))
    for word in ("PREVIEW", "nothing simulated", "Run the scenario", "no preview:", "inf"):
        assert word in text
    power = preview_rows(trial())[0]["power"]
    assert f"{power:.3f}" in text
