"""The outcome model with optional parts switched on; nothing here computes what a test expects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from planned import NAMES, exposed

from sim.parts import MODELS
from sim.trial import Allocation, Schedule

BY_DAY = {
    "attendance": None, "attendance_per_day": "85%", "attendance_correlation": 0.5,
    "gain_by_days": {"1": "40%", "2": "90%", "3": "100%"},
}  # fmt: skip
SUM = {"kind": "sum_of_items", "items": 5, "lowest": 1, "highest": 7, "mean": "28.7 points", "sd": "5.5 points"}


def exactly(value: Any) -> Any:
    """A number as an assumption that is exactly so; a dict goes by key."""
    if isinstance(value, dict):
        return {key: exactly(one) for key, one in value.items()}
    if value is None:
        return None
    return {"value": value, "low": value, "high": value, "basis": "assumption", "source": "example"}


def with_parts(
    *, outcomes: dict[str, dict[str, Any]] | None = None, errors: Any = None, null: str = "sharp", **values: Any
) -> Any:
    """The example of the outcome model with other values and more keys; `outcomes` by name, added to the example's."""
    part = MODELS.discover()["gaussian"]
    content: dict[str, Any] = {**part.example, **exactly(values), "null": null}
    more = outcomes or {}
    content["outcomes"] = {name: {**one, **more.get(name, {})} for name, one in part.example["outcomes"].items()}
    if errors is not None:
        content["errors"] = errors
    return part.model_validate(content)


def dated(allocation: Allocation, *, n_team: int = 0, availability: Any = None, exposure: Any = None) -> Schedule:
    """Groups taught by `n_team` teams in turn (none if 0), with availability (G, D) and window exposure (N, T)."""
    n_group = len(allocation.group_district)
    schedule = exposed(allocation, np.zeros((allocation.n_participant, 3)) if exposure is None else exposure)
    if n_team:
        schedule = replace(schedule, team=(np.arange(n_group) % n_team).astype(np.int32))
    return schedule if availability is None else replace(schedule, availability=availability)


def everything(errors: Any, **values: Any) -> Any:
    """All at once; cohesion is a sum of items measured worse than planned."""
    reliability = {"reliability": exactly(0.7), "reliability_planned": exactly(0.8)}
    return with_parts(
        outcomes={NAMES.outcome[0]: {"response": SUM, **reliability}}, errors=errors, null="weak",
        **{
            **BY_DAY, "contamination_between_villages": "2%", "window_buffering": "50%", "icc_facilitator": 0.03,
            **values,
        },
    )  # fmt: skip
