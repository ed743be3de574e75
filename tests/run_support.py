"""Small real scenarios for tests of the pipeline: two designs of crm_rwanda.yaml, and plain trials."""

from dataclasses import replace
from pathlib import Path

from sim.parts import DESIGNS
from sim.scenario.load import Scenario, read_scenario

ROOT = Path(__file__).parents[1]
TWO_ARMS = {"control": {"format": "none"}, "treated": {"format": "programme"}}


def plain_trial(design: dict[str, object], replicates: int = 24) -> Scenario:
    """parallel_cluster.yaml with one design, called `plain`, in place of its own."""
    scenario = read_scenario(ROOT / "scenarios" / "parallel_cluster.yaml").with_changes(replicates=replicates)
    common = {"label": "plain", "arms": TWO_ARMS, "contrast": "treated - control", "start": "2027-01-04"}
    plan = DESIGNS.discover()[str(design["kind"])].model_validate({**common, **design})
    return replace(scenario, file=scenario.file.model_copy(update={"designs": {"plain": plan}}))


def small_scenario(replicates: int = 24, designs: tuple[str, ...] = ("ind_1", "vil_1"), **changes: object) -> Scenario:
    scenario = read_scenario(ROOT / "scenarios" / "crm_rwanda.yaml")
    return scenario.with_changes(replicates=replicates, designs=list(designs), **changes)
