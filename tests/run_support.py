"""Small real scenarios for tests of the pipeline: two designs of crm_rwanda.yaml, and plain trials."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from sim.parts import DESIGNS
from sim.run.blocks import Block, blocks_of
from sim.scenario.contradictions import contradictions
from sim.scenario.load import Scenario, read_scenario
from sim.scenario.schema import ScenarioFile

ROOT = Path(__file__).parents[1]
TWO_ARMS = {"control": {"format": "none"}, "treated": {"format": "programme"}}


def plain_trial(design: dict[str, object], replicates: int = 24) -> Scenario:
    """parallel_cluster.yaml with one design, called `plain`, in place of its own."""
    scenario = read_scenario(ROOT / "scenarios" / "parallel_cluster.yaml").with_changes(replicates=replicates)
    common = {"label": "plain", "arms": TWO_ARMS, "contrast": "treated - control", "start": "2027-01-04"}
    plan = DESIGNS.discover()[str(design["kind"])].model_validate({**common, **design})
    return replace(scenario, file=scenario.file.model_copy(update={"designs": {"plain": plan}}))


def small_scenario(
    replicates: int = 24,
    designs: tuple[str, ...] = ("ind_1", "vil_1"),
    path: Path = ROOT / "scenarios" / "crm_rwanda.yaml",
    **changes: object,
) -> Scenario:
    """A scenario, by default the shipped one, with some of its designs."""
    scenario = read_scenario(path)
    return scenario.with_changes(replicates=replicates, designs=list(designs), **changes)


def all_blocks(scenario: Scenario) -> list[Block]:
    """Every block of every design."""
    file = scenario.file
    return [block for design in file.designs for block in blocks_of(design, file.replicates, file.calendars)]


def nested_trial(
    design: dict[str, object], *, analyses: dict[str, dict[str, object]], sd: dict[str, float] | None = None,
    loss: tuple[float, ...] = (0.1, 0.2), slope: float = -0.4, effect: float = 0.35, replicates: int = 24,
    calendars: int = 2, **hypotheses: object,
) -> Scenario:  # fmt: skip
    """A plain trial of one design, called `plain`, with these analyses; the SDs named replace those of the file.

    loss : share who have left before each visit after the baseline, two or three visits in all.
    """
    scenario = read_scenario(ROOT / "scenarios" / "parallel_cluster.yaml")
    content: Any = YAML(typ="safe").load(scenario.text)
    later = ("three_months", "six_months")[-len(loss) :]
    if len(loss) == 1:
        del content["calendar"]["visits"]["three_months"], content["model"]["effect_profile"]
    for name, value in (sd or {}).items():
        content["model"][name] = _exactly(f"{value} SD")
    content["missingness"]["loss"] = {
        visit: _exactly(f"{100 * share}%") for visit, share in zip(later, loss, strict=True)
    }
    content["missingness"]["log_odds_per_sd"] = _exactly(slope)
    common = {"label": "plain", "arms": TWO_ARMS, "contrast": "treated - control", "start": "2027-01-04"}
    content |= {"designs": {"plain": common | design}, "analyses": analyses, "effect": {"score": f"{effect} SD"}}
    content |= {"replicates": replicates, "calendars": calendars}
    content["hypotheses"] |= {"primary_analysis": next(iter(analyses))} | hypotheses
    assert not list(contradictions(content))
    return replace(scenario, file=ScenarioFile.model_validate(content), effect=np.array([effect]))


def _exactly(value: object) -> dict[str, object]:
    return {"value": value, "low": value, "high": value, "basis": "assumption", "source": "test"}
