"""The committed reference runs, and how they are made: `make reference`.

Each folder of results/reference/ holds what `nexttrial run` wrote (without the blocks), the table it printed, and
`first_replicates.csv`: means and rejections of the first replicates of every design, which a test recomputes.
"""

import re
import shutil
import sys
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
from rich.console import Console

from sim.report.consort import consort_figure
from sim.report.figures import power_figure
from sim.report.gantt import gantt
from sim.report.scan import scan_figure, scan_frame
from sim.report.tables import run_tables
from sim.run.blocks import Block, simulate_block
from sim.run.job import run
from sim.run.local import Local, n_worker
from sim.run.scan import dates_between, scan
from sim.run.store import KINDS, Store
from sim.run.tables import Result
from sim.scenario.load import Scenario, read_scenario
from sim.terminal import WIDTH

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "results" / "reference"
SCENARIOS = ("crm_rwanda", "habimana_2026_reenacted")
FIRST, SCANNED = 64, 1000
SHOWN = {
    "designs": ("crm_rwanda", "Next trial"),
    "power": ("crm_rwanda", "Power of"),
    "methods": ("crm_rwanda", "Type I error"),
    "control": ("habimana_2026_reenacted", "What the missing control"),
    "seed": ("habimana_2026_reenacted", "The seed study, re-enacted"),
}
KEY = ["design", "outcome", "analysis", "truth"]


def scenario_of(name: str) -> Scenario:
    return read_scenario(ROOT / "scenarios" / f"{name}.yaml")


def first_replicates(scenario: Scenario, designs: list[str] | None = None) -> pd.DataFrame:
    """Mean estimate, standard error and df, rejections and statuses of replicates 0 .. FIRST - 1."""
    alpha = scenario.file.hypotheses.alpha
    parts = []
    for design in designs or scenario.file.designs:
        rows, _ = simulate_block(scenario, Block(design, 0, FIRST))
        rows["n_reject"] = rows["p_value"] <= alpha
        for status in ("singular", "failed"):
            rows[f"n_{status}"] = rows["status"] == status
        groups = rows.groupby(KEY, observed=True, sort=False)
        means = groups[["estimate", "standard_error", "df"]].mean()
        parts.append(means.join(groups[["n_reject", "n_singular", "n_failed"]].sum()))
    return pd.concat(parts).reset_index()


def make(name: str) -> None:
    scenario, folder = scenario_of(name), FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    store = Store(folder, scenario)
    result = run(scenario, store, Local(n_worker("auto")), lambda done, total: print(f"{name}: {done}/{total}"))
    if scenario.has_control:
        power_figure(result, folder)
    for kind in KINDS:
        shutil.rmtree(folder / kind)
    for name_of in (".lock", "log.jsonl"):
        store.forget(name_of)
    store.write_table("first_replicates.csv", first_replicates(scenario))
    with (folder / "table.txt").open("w", encoding="utf-8") as file:
        Console(file=file, width=WIDTH).print(run_tables(result))
    if name == "crm_rwanda":
        draw_pictures(result, folder)


def draw_pictures(result: Result, folder: Path) -> None:
    """The pictures that README.md shows: a calendar, the flow of people, power by start date."""
    scenario = result.scenario.with_changes(replicates=SCANNED)
    gantt(scenario, "vil_4_inside", 0, folder / "gantt_vil_4_inside.svg")
    consort_figure(result, "vil_4_inside", folder / "flow_vil_4_inside.svg")
    starts = dates_between(date(2027, 1, 1), date(2027, 12, 31), timedelta(weeks=2))
    frame = scan_frame(scan(scenario, "ind_4", starts, n_worker("auto"), lambda done, of: print(f"scan: {done}/{of}")))
    frame.to_csv(folder / "scan_ind_4.csv", index=False, lineterminator="\n")
    scan_figure(scenario, "ind_4", frame, folder / "scan_ind_4.svg")


def show_in_readme() -> None:
    """Put the tables that README.md shows between its markers, as they were printed."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for marker, (name, title) in SHOWN.items():
        printed = (FOLDER / name / "table.txt").read_text(encoding="utf-8")
        [table] = [part for part in printed.split("\n\n") if part.startswith(title)]
        lines = "\n".join(line.rstrip() for line in table.splitlines())
        block = f"<!-- {marker} -->\n```text\n{lines}\n```\n<!-- /{marker} -->"
        readme = re.sub(rf"<!-- {marker} -->.*<!-- /{marker} -->", lambda _, b=block: b, readme, flags=re.S)
    (ROOT / "README.md").write_text(readme, encoding="utf-8")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or SCENARIOS:
        make(wanted)
    show_in_readme()
