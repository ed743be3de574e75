"""Unit costs: what a district, a village, a person, a day of a facilitator team or an interview is taken to cost."""

from __future__ import annotations

from pydantic import model_validator

from sim.parts import Assumption, Part, refuse
from sim.quantities import Currency, Price, Year


class Costs(Part):
    """The price of each thing that a calendar counts, in one currency. What has no price here costs nothing.

    Prices move no number but the cost: they are no part of what identifies a run.
    """

    currency: Currency
    year: Year
    """Of the prices."""
    per_district: Assumption[Price] | None = None
    """Of opening a district."""
    per_village: Assumption[Price] | None = None
    """Of a village of the trial, whatever its arm."""
    per_participant: Assumption[Price] | None = None
    """Of whoever is allocated."""
    per_training_day: Assumption[Price] | None = None
    """Of a facilitator team, the training of the wait-list included."""
    per_facilitator_team: Assumption[Price] | None = None
    """Of hiring and training a team once; all of calendar.facilitator_teams are paid."""
    per_travel_day: Assumption[Price] | None = None
    """Of a facilitator team on the road."""
    per_appointment: Assumption[Price] | None = None
    """Of an interviewer's appointment, kept or not."""
    per_interview: Assumption[Price] | None = None
    """Of an interview that is held, beside what its appointment costs."""

    @property
    def prices(self) -> dict[str, Assumption[float]]:
        """The unit costs that are given, by key."""
        given = {name: getattr(self, name) for name in type(self).model_fields if name.startswith("per_")}
        return {name: price for name, price in given.items() if price is not None}

    @model_validator(mode="after")
    def _has_prices(self) -> Costs:
        if not self.prices:
            known = ", ".join(name for name in type(self).model_fields if name.startswith("per_"))
            raise refuse(f"has no effect: it gives no unit cost; known: {known}")
        return self
