"""The arrays handed from stage to stage. N participants, T visits, R replicates, K outcomes, W windows.

An allocation and its schedule are one realisation, shared by every replicate whose number falls on it; everything
that differs between replicates has the replicate axis first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Days = NDArray[np.int64]
Flags = NDArray[np.bool_]
Codes = NDArray[np.int8]

OK, SINGULAR, FAILED = 0, 1, 2
STATUS = ("ok", "singular", "failed")

TRUTHS = ("alternative", "null")


@dataclass(frozen=True)
class Names:
    """The words of a scenario in the order its arrays use them; `share` is each stratum's share of the population."""

    outcome: tuple[str, ...]
    visit: tuple[str, ...]
    stratum: tuple[str, ...]
    share: tuple[float, ...]
    window: tuple[str, ...]


@dataclass(frozen=True)
class Arm:
    """One arm: its name, and the format it is trained in (None = untreated)."""

    name: str
    format: str | None

    @property
    def is_trained(self) -> bool:
        return self.format is not None


@dataclass(frozen=True)
class Contrast:
    """The declared comparison: the numbers of two arms. No control arm: the change in the only arm there is."""

    treated: int
    control: int | None


@dataclass(frozen=True)
class Allocation:
    """Who is in which arm, stratum, district and cluster.

    arm, stratum, district : (N,) int32, from 0.
    village : (N,) int32; -1 where villages are not sampled as clusters.
    training_group : (N,) int32; -1 in untreated arms, and for everyone where people are trained one by one.
    clock : (N,) int32, the training group whose dates a participant carries; untreated participants carry the group
        they would have had, so that all arms share one clock. Trained one by one, everyone has a clock of their own.
    cluster, member : (N,) int32, the participant's name in the random streams: place (district or village) and
        running number within it, so that a larger trial keeps the draws of the smaller one.
    group_district : (G,) int32, the district of each training group.
    village_name, group_name : (V,) and (G,) int32, the names of villages and training groups in the random streams.
    """

    arm: Ints
    stratum: Ints
    district: Ints
    village: Ints
    training_group: Ints
    clock: Ints
    cluster: Ints
    member: Ints
    group_district: Ints
    village_name: Ints
    group_name: Ints
    arms: tuple[Arm, ...]
    contrast: Contrast

    @property
    def n_participant(self) -> int:
        return len(self.arm)

    @property
    def is_trained(self) -> Flags:
        """(N,) whether the participant's arm is trained."""
        return np.array([arm.is_trained for arm in self.arms])[self.arm]

    @property
    def has_villages(self) -> bool:
        return bool((self.village >= 0).all())

    def keep(self, is_kept: Flags) -> Allocation:
        """Only these participants, (N,) Booleans. Villages, training groups and clocks are numbered anew without gaps,
        in their order, and keep their names in the random streams; districts keep their numbers.
        """
        if is_kept.all():
            return self
        clock, village, group = self.clock[is_kept], self.village[is_kept], self.training_group[is_kept]
        clocks, villages = np.unique(clock), np.unique(village[village >= 0])
        number = np.full(len(self.group_district) + 1, -1, dtype=np.int32)  # the last is for -1
        number[clocks] = np.arange(len(clocks))
        place = np.full(len(self.village_name) + 1, -1, dtype=np.int32)
        place[villages] = np.arange(len(villages))
        people = {name: getattr(self, name)[is_kept] for name in ("arm", "stratum", "district", "cluster", "member")}
        return replace(
            self, **people, village=place[village], training_group=number[group], clock=number[clock],
            group_district=self.group_district[clocks], group_name=self.group_name[clocks],
            village_name=self.village_name[villages],
        )  # fmt: skip

    @property
    def random_cluster(self) -> Ints:
        """(N,) the cluster whose random intercept a planned analysis carries: village, else training group, else -1."""
        return self.village if self.has_villages else self.training_group


@dataclass(frozen=True)
class Schedule:
    """Dates of one realised calendar, in days since 1970-01-01.

    training_start : (G,) first training day of each training group.
    team : (G,) int32, the facilitator team that trains it; -1 where teams are not counted.
    availability : (G, D) factor on the probability of attending each of the D training days, in (0, 1].
    visit_day : (N, T); of a visit that does not take place, the day on which its window closed.
    is_held : (N, T) whether the visit takes place at all; a baseline always does.
    exposure : (W, N, T), how strongly each visit is exposed to the window: 0 far from it, 1 inside it.
    inside : (W, N, T) whether it falls inside the window.
    """

    training_start: Days
    team: Ints
    availability: Floats
    visit_day: Days
    is_held: Flags
    exposure: Floats
    inside: Flags


@dataclass(frozen=True)
class Operations:
    """What one realised calendar asks of the field. D districts, S strata, W trainings of the wait-list; dates in days
    since 1970-01-01.

    opening : (D,) day on which a district opens.
    screened, ineligible, refused, enrolled, turned_away : (D, S) people: screened = ineligible + refused + enrolled,
        and of the enrolled those turned away were in training groups that stayed too small.
    first_recruit, complete : (G,) day of the first recruit on each clock, and on which it waits for nobody else.
    team_days, travel_days : days that facilitator teams spend on training, wait-list included, and on the road.
    appointments : (T,) interviews that were appointed; those of them that were kept are held.
    interviewer_days : days of one interviewer each that hold the appointments; None where they are not counted.
    wait_list_clock, wait_list_start, wait_list_team, wait_list_people : (W,) the clock of those trained after their
        final visit, first day, team (-1 where they are not counted) and how many.
    last_day : the last training or visit.
    """

    opening: Days
    screened: Days
    ineligible: Days
    refused: Days
    enrolled: Days
    turned_away: Days
    first_recruit: Days
    complete: Days
    team_days: int
    travel_days: int
    appointments: Days
    interviewer_days: int | None
    wait_list_clock: Days
    wait_list_start: Days
    wait_list_team: Days
    wait_list_people: Days
    last_day: int


@dataclass(frozen=True)
class Outcome:
    """Scores before anything is missing, in baseline SDs, for R replicates of one realisation.

    Deviations are those of the normal scores, before skewness, tails, bounds and rounding.

    score : (K, 2, R, N, T); second axis in the order of TRUTHS.
    deviation : (R, N, T) mean over outcomes of the departures from what is expected of a participant, scaled to
        variance 1 in the untreated; the same under both truths.
    deviation_covariance : (2, T, T) covariance of `deviation` over visits; 0 = untreated, 1 = trained arms.
    """

    score: Floats
    deviation: Floats
    deviation_covariance: Floats


@dataclass(frozen=True)
class Absence:
    """Who would leave for good if allocated to the contrast's control arm (0) or to its treated arm (1): first axis.

    left : (2, R, N, T) int8, the reason for which a participant has left before a visit: 0 who has not, else 1 + its
        position in `reasons`.
    shift : broadcasts to (2, R, N, T), what leaving adds to the scores that nobody sees, in baseline SDs.
    """

    left: Codes
    reasons: tuple[str, ...]
    shift: Floats


@dataclass(frozen=True)
class Trial:
    """R data sets of one realisation as an analysis sees them, one outcome each; values under the mask are unread.

    y, observed : (R, N, T).  The first visit is the baseline, always observed; the last is the final visit.
    team : (N,) int32, the facilitator team that trained a participant; -1 where nobody did or teams are not counted.
    """

    y: Floats
    observed: Flags
    allocation: Allocation
    team: Ints


@dataclass(frozen=True)
class Fit:
    """What an analysis says about the declared contrast in each of R data sets; NaN where status is FAILED.

    estimate, standard_error, df : (R,) float64.  status : (R,) OK, SINGULAR or FAILED.
    extra : further (R,) results that belong to this analysis alone, by name.
    """

    estimate: Floats
    standard_error: Floats
    df: Floats
    status: NDArray[np.int8]
    extra: Mapping[str, Floats] = field(default_factory=dict)
