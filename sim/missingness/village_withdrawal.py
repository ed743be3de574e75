"""Whole villages leave the trial: nobody in them is seen any more."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from sim.missingness.mechanism import ByVisit, Mechanism, by_visit, exactly, leaves_someone, seen_where
from sim.parts import MISSINGNESS
from sim.streams import Streams
from sim.trial import Allocation, Flags, Floats, Ints, Names, Outcome, Schedule


@MISSINGNESS.register("village_withdrawal")
class VillageWithdrawal(Mechanism):
    """A village leaves before a visit with all its people, for good, whatever their scores.

    Where villages are not sampled as clusters, training groups leave, and of the untreated those who share a group's
    dates; where people are trained one by one, each leaves alone. A cluster trial loses more by it than by as many
    people leaving one by one: what counts is the number of clusters (Donner & Klar 2000, Design and Analysis of Cluster
    Randomization Trials in Health Research, chapter 5).
    """

    is_cumulative: ClassVar[bool] = True
    keyed_by = {"loss": ("visit",)}
    kind: Literal["village_withdrawal"]
    loss: ByVisit = Field(min_length=1)
    """By visit after the baseline: share of villages that have left before it; may not fall from visit to visit."""
    example = {"kind": "village_withdrawal", "loss": {"post": exactly("1%"), "six_months": exactly("4%")}}

    @model_validator(mode="after")
    def _losses_leave_someone(self) -> VillageWithdrawal:
        leaves_someone(self.loss, "loss")
        return self

    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) the stated losses."""
        del schedule
        return np.tile(by_visit(self.loss, names), (allocation.n_participant, 1))

    def observe(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Flags:
        """(R, N, T). One uniform "village_withdrawal" a village, named as its scores are; below the loss it is gone."""
        del schedule, outcome
        if allocation.has_villages:
            unit = np.column_stack([np.zeros_like(allocation.village), allocation.village_name[allocation.village]])
        else:
            unit = np.column_stack([allocation.is_trained, allocation.group_name[allocation.clock]])
        name, index = np.unique(unit.astype(np.int32), axis=0, return_inverse=True)
        u = streams.uniform("village_withdrawal", replicate, name[:, 0].copy(), name[:, 1].copy(), 1)
        return seen_where(u[:, index.reshape(-1)] >= by_visit(self.loss, names))
