"""Several mechanisms at work together: a visit is seen if every one of them lets it be seen."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, model_validator

import sim.missingness
from sim.missingness.mechanism import Mechanism, exactly
from sim.missingness.scores import ScoreMechanism, lost_on_scores, solve_jointly
from sim.parts import MISSINGNESS, refuse
from sim.quantities import Name
from sim.streams import Streams
from sim.trial import Allocation, Codes, Flags, Floats, Ints, Names, Outcome, Schedule

for _module in pkgutil.iter_modules(sim.missingness.__path__, "sim.missingness."):
    if _module.name != __name__:
        importlib.import_module(_module.name)

AnyOther: Any = Annotated[reduce(or_, MISSINGNESS.registered().values()), Discriminator("kind")]


class Owned(Streams):
    """Random streams of one of several mechanisms: two of the same kind share no draw, and none moves another's."""

    def __init__(self, streams: Streams, owner: str) -> None:
        super().__init__(streams.seed, streams.design)
        self.owner = owner

    def key(self, purpose: str) -> int:
        """64-bit Philox key of one purpose of this owner."""
        return super().key(f"{self.owner}: {purpose}")


@MISSINGNESS.register("combined")
class Combined(Mechanism):
    """Any other mechanisms, each under a name; the losses they state are what each of them would lose alone.

    Given the scores they are independent of each other. "Last seen", for those that depend on it, is what all of them
    let be seen. Beside a `threshold`, intercepts are solved for as if that did not depend on scores: the losses of the
    mechanisms on the score last seen are then only nearly as stated.
    """

    kind: Literal["combined"]
    mechanisms: dict[Name, AnyOther] = Field(min_length=1)
    """By name. Where several lose a visit, the first that is named is its reason."""
    example = {
        "kind": "combined",
        "mechanisms": {
            "illness": {"kind": "mcar", "loss": {"post": exactly("2%"), "six_months": exactly("3%")}},
            "discouraged": {
                "kind": "mar",
                "loss": {"post": exactly("2%"), "six_months": exactly("5%")},
                "log_odds_per_sd_worse": exactly(0.4),
                "monotone": True,
            },
            "gone": {"kind": "departure", "risk_per_year": {"death": exactly("1%"), "moving_away": exactly("6%")}},
        },
    }

    @model_validator(mode="after")
    def _reasons_differ(self) -> Combined:
        known: set[str] = set()
        for name, _, reason in self._reasons():
            if reason in known:
                at = ("risk_per_year", reason) if self.mechanisms[name].names_reasons else ()
                message = f"'{reason}' is also a reason of another mechanism; a reason needs a name of its own"
                raise refuse(message, "mechanisms", name, *at)
            known.add(reason)
        return self

    def _reasons(self) -> Iterator[tuple[str, bool, str]]:
        """Mechanism, whether nobody comes back, and reason: its own name, or those of a mechanism with several."""
        for name, mechanism in self.mechanisms.items():
            own = mechanism.reasons if mechanism.names_reasons else (name,)
            yield from ((name, for_good, one) for one, for_good in zip(own, mechanism.ends_follow_up, strict=True))

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every mechanism's, in the order in which they are named."""
        return tuple(reason for _, _, reason in self._reasons())

    @property
    def ends_follow_up(self) -> tuple[bool, ...]:
        """For each reason, whether nobody comes back from it."""
        return tuple(for_good for _, for_good, _ in self._reasons())

    @property
    def shifts_unseen(self) -> bool:  # type: ignore[override]
        """Whether any mechanism does."""
        return any(mechanism.shifts_unseen for mechanism in self.mechanisms.values())

    # ---- losses -----------------------------------------------------------------------------------------------

    def marginal_loss(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T-1) expected loss by all mechanisms, as if independent: exact if at most one depends on scores."""
        return _any_of([m.marginal_loss(names, allocation, schedule) for m in self.mechanisms.values()])

    def joint_loss(self, names: Names, allocation: Allocation, schedule: Schedule, covariance: Floats) -> Floats:
        """(N, T-1) expected loss by all mechanisms at work together; covariance : (2, T, T) as in Outcome.

        Those on scores are taken together where every visit is there, which is exact unless several depend on the
        score last seen and others keep some of these unseen.
        """
        on_scores = [m for m in self.mechanisms.values() if isinstance(m, ScoreMechanism)]
        others = [m for m in self.mechanisms.values() if not isinstance(m, ScoreMechanism)]
        loss = [m.marginal_loss(names, allocation, schedule) for m in others]
        if on_scores:
            slopes = tuple(m.slopes for m in on_scores)
            stated = np.stack([m.marginal_loss(names, allocation, schedule) for m in on_scores], axis=1)
            everywhere = (True,) * len(names.visit)
            together = [
                solve_jointly(slopes, _tuples(rows), _tuples(covariance[int(trained)]), everywhere).seen
                for trained, rows in zip(allocation.is_trained, stated, strict=True)
            ]
            loss.append(1 - np.array(together))
        return _any_of(loss)

    # ---- draws ------------------------------------------------------------------------------------------------

    def _causes(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> list[Codes]:
        """(R, N, T) for each mechanism: 0 where it lets a visit be seen, else 1 + the position in all `reasons`."""
        parts = self.mechanisms
        own = {name: Owned(streams, name) for name in parts}
        cause = {
            name: part.cause(names, allocation, schedule, outcome, own[name], replicate)
            for name, part in parts.items()
            if not isinstance(part, ScoreMechanism)
        }
        if on_scores := {name: part for name, part in parts.items() if isinstance(part, ScoreMechanism)}:
            there = np.broadcast_to(schedule.is_held, outcome.deviation.shape)
            there = np.logical_and.reduce([there, *(code == 0 for code in cause.values())])
            draws = [own[name] for name in on_scores]
            lost = lost_on_scores(
                list(on_scores.values()), names, allocation, schedule, outcome, draws, replicate, there
            )  # fmt: skip
            cause |= dict(zip(on_scores, lost.astype(np.int8), strict=True))
        before = 0
        for name, part in parts.items():
            cause[name] = np.where(cause[name] > 0, cause[name] + before, 0).astype(np.int8)
            before += len(part.reasons)
        return [cause[name] for name in parts]

    def cause(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Codes:
        """(R, N, T) int8; of several mechanisms that lose a visit, the first that is named."""
        return _first(self._causes(names, allocation, schedule, outcome, streams, replicate))

    def observe(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Flags:
        """(R, N, T) which visits every mechanism lets be seen."""
        return np.asarray(self.cause(names, allocation, schedule, outcome, streams, replicate) == 0)

    def left(
        self,
        names: Names,
        allocation: Allocation,
        schedule: Schedule,
        outcome: Outcome,
        streams: Streams,
        replicate: Ints,
    ) -> Codes:
        """(R, N, T) int8; the reason that came first, and of several before the same visit the first that is named."""
        for_good = np.array([False, *self.ends_follow_up])
        causes = self._causes(names, allocation, schedule, outcome, streams, replicate)
        left = _first([np.where(for_good[cause], cause, 0).astype(np.int8) for cause in causes])
        for t in range(1, left.shape[2]):
            left[:, :, t] = np.where(left[:, :, t - 1] > 0, left[:, :, t - 1], left[:, :, t])
        return left

    def unseen_shift(self, names: Names, allocation: Allocation, left: Codes) -> Floats:
        """What the mechanism by which a participant left adds to the scores that nobody sees."""
        shift, before = np.zeros((1, 1, 1)), 0
        for part in self.mechanisms.values():
            after = before + len(part.reasons)
            own = np.where((left > before) & (left <= after), left - before, 0).astype(np.int8)
            shift = shift + part.unseen_shift(names, allocation, own)
            before = after
        return shift


def _first(causes: list[Codes]) -> Codes:
    """The first code that is not 0, element by element."""
    first = causes[-1]
    for cause in reversed(causes[:-1]):
        first = np.where(cause > 0, cause, first)
    return first


def _any_of(loss: list[Floats]) -> Floats:
    """The probability of any of several independent losses."""
    return np.asarray(1 - np.prod([1 - one for one in loss], axis=0))


def _tuples(rows: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, rows.tolist()))
