"""What a design costs: unit costs times what its calendars and replicates counted. Nothing of it is stored in rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from sim.evaluate.columns import Columns
from sim.scenario.load import Scenario

COLUMNS = [
    "design", "item", "quantity", "quantity_mcse", "unit_cost", "amount", "amount_low", "amount_high", "share",
    "currency", "year", "basis",
]  # fmt: skip
QUANTITY = {
    "per_district": "n_district",
    "per_village": "n_cluster",
    "per_participant": "n_participant",
    "per_training_day": "team_days",
    "per_travel_day": "travel_days",
    "per_appointment": "n_appointment",
    "per_interview": "n_visit_observed",
}
"""Unit cost -> the column of a flow row that it is multiplied with. Teams are counted by the scenario."""

Price = Callable[[pd.DataFrame], "pd.Series[float]"]


def price_of(scenario: Scenario) -> Price | None:
    """What each replicate of a design costs, from its flow rows; None in a scenario without unit costs."""
    costs = scenario.file.costs
    if costs is None:
        return None
    prices = {item: price.value for item, price in costs.prices.items()}

    def price(flow: pd.DataFrame) -> pd.Series[float]:
        total = pd.Series(0.0, index=flow.index)
        for item, unit_cost in prices.items():
            total += unit_cost * _quantity(scenario, item, flow)
        return total

    return price


def _quantity(scenario: Scenario, item: str, flow: pd.DataFrame) -> Any:
    """How many of an item each replicate has; clusters that are training groups are no villages."""
    if item == "per_facilitator_team":
        return scenario.file.calendar.facilitator_teams or 0
    quantity = flow[QUANTITY[item]]
    return quantity * flow["has_villages"] if item == "per_village" else quantity


def cost_table(scenario: Scenario, design: str, flow: Columns) -> pd.DataFrame:
    """A row per unit cost: quantity (mean over replicates), amount, its share of the total, and the amounts at the low
    and at the high unit cost; empty without unit costs.
    """
    costs, rows = scenario.file.costs, []
    for item, price in costs.prices.items() if costs is not None else ():
        quantity, error = _mean(scenario, item, flow)
        rows.append(
            {
                "design": design,
                "item": item.removeprefix("per_"),
                "quantity": quantity,
                "quantity_mcse": error,
                "unit_cost": price.value,
                "amount": quantity * price.value,
                "amount_low": quantity * price.low,
                "amount_high": quantity * price.high,
                "basis": price.basis,
            }
        )
    table = pd.DataFrame(rows, columns=COLUMNS)
    if costs is not None:
        total = float(table["amount"].sum())
        table["share"] = table["amount"] / total if total else 0.0
        table["currency"], table["year"] = costs.currency, costs.year
    return table


def _mean(scenario: Scenario, item: str, flow: Columns) -> tuple[float, float]:
    """Mean of a quantity and its Monte Carlo standard error, 0 where it does not vary."""
    if item == "per_facilitator_team":
        return float(scenario.file.calendar.facilitator_teams or 0), 0.0
    if item == "per_village" and not flow.mean("has_villages"):
        return 0.0, 0.0
    column = QUANTITY[item]
    return flow.mean(column), flow.mcse_over_calendars(column) if flow.varies(column) else 0.0
