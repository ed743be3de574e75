"""A small real scenario for tests of the pipeline: two designs of crm_rwanda.yaml."""

from pathlib import Path

from sim.scenario.load import Scenario, read_scenario

ROOT = Path(__file__).parents[1]


def small_scenario(replicates: int = 24, designs: tuple[str, ...] = ("ind_1", "vil_1"), **changes: object) -> Scenario:
    scenario = read_scenario(ROOT / "scenarios" / "crm_rwanda.yaml")
    return scenario.with_changes(replicates=replicates, designs=list(designs), **changes)
