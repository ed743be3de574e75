"""The mean difference at the last visit before leaving: while on treatment, or while alive."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from sim.estimands.estimand import Estimand
from sim.parts import ESTIMANDS, refuse
from sim.quantities import Name
from sim.trial import Absence, Floats


@ESTIMANDS.register("while_on_treatment")
class WhileOnTreatment(Estimand):
    """E[Y(treated arm)] - E[Y(control arm)] at each participant's last visit before leaving, for the reasons named.

    Who does not leave has the final visit; who leaves before any visit after the baseline has the baseline. Leaving is
    a potential outcome as well: a difference in when people leave is part of the effect. Visits missed by those who are
    still there, and leaving for other reasons, are treatment policy (ICH E9(R1), section A.3.2).
    """

    kind: Literal["while_on_treatment"]
    until: tuple[Name, ...] = Field(min_length=1, strict=False)
    """Reasons of the missingness that end follow-up: `dropout`, or `death` and `moving_away` of a departure."""
    example = {"kind": "while_on_treatment", "until": ["death", "moving_away"]}

    @field_validator("until")
    @classmethod
    def _reasons_differ(cls, until: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(until)) < len(until):
            raise refuse("found {found}; a reason is named once", found=", ".join(until))
        return until

    @property
    def variable(self) -> str:
        """The last score before leaving."""
        return f"score at the last visit before leaving ({', '.join(self.until)}); of all others, at the final visit"

    @property
    def intercurrent_events(self) -> str:
        """While on treatment for the reasons named."""
        return f"{', '.join(self.until)}: while on treatment; training not attended, contamination: treatment policy"

    def heeds_leaving(self, missingness: Any) -> bool:
        """It does."""
        del missingness
        return True

    def measured(self, score: Floats, absence: Absence | None) -> Floats:
        """(2, K, R, N) scores at the last visit before leaving."""
        assert absence is not None
        code = [1 + absence.reasons.index(reason) for reason in self.until]
        last = (~np.isin(absence.left, code)).sum(axis=-1) - 1
        return np.take_along_axis(score + absence.shift[:, None], last[:, None, :, :, None], axis=-1)[..., 0]
