"""The main job: every block of a scenario, then the tables of the run."""

from __future__ import annotations

from sim.run.local import Progress, let_go, run_blocks
from sim.run.store import Store
from sim.run.tables import Result, evaluate
from sim.scenario.load import Scenario


def run(scenario: Scenario, store: Store, workers: int, progress: Progress, *, new_run: bool) -> Result:
    """Compute what is missing, summarise everything, write the result folder."""
    store.open(new_run=new_run)
    n_computed = run_blocks(scenario, store, workers, progress)
    result = evaluate(scenario, store, n_computed, workers)
    let_go(workers)
    for name in ("summary", "designs", "estimands", "flow"):
        store.write_table(f"{name}.csv", getattr(result, name))
    return result
