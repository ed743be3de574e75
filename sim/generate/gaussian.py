"""Correlated scores: strata, districts, villages, training groups, facilitators, participants, visits and the effect.

What is declared, and which variance is whose, is in sim.generate.declared. Here are the expectations in closed form,
and the draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from sim.generate.assemble import Effects, Own, Version, assemble, terms
from sim.generate.attendance import days_attended, draw_days
from sim.generate.components import FINAL, N_VISIT, components
from sim.generate.declared import DeclaredScores
from sim.generate.response import AtTheBounds, Continuous, scale_row
from sim.parts import MODELS
from sim.streams import Streams
from sim.trial import Allocation, Arm, Contrast, Floats, Ints, Names, Outcome, Schedule

UNTREATED = Arm("untreated", None)


@MODELS.register("gaussian")
class GaussianScores(DeclaredScores):
    """Scores of K correlated outcomes at three visits: baseline, right after training, final."""

    n_visit: ClassVar[int | None] = N_VISIT
    can_reenact: ClassVar[bool] = True

    @property
    def is_continuous(self) -> bool:
        """Whether every outcome is answered on a scale without bounds and steps, so that closed forms hold."""
        return all(isinstance(outcome.response, Continuous) for outcome in self.outcomes.values())

    def covariance(self, with_village: bool, is_trained: bool) -> Floats:
        """(K, T, K, T) covariance of one participant's scores about their expectation, before floor and ceiling."""
        return np.asarray(components(self.declared(with_village)).covariance[int(is_trained)])

    # ---- attendance -------------------------------------------------------------------------------------------

    def dose_distribution(self, availability: tuple[float, ...] | None = None) -> tuple[Floats, Floats]:
        """Shares of the gain that trained participants may get, and their probabilities.

        availability : one factor on the probability of attending each training day; left out, everyone can come.
        """
        if self.attendance is not None:
            return np.array([0.0, 1.0]), np.array([1 - self.attendance.value, self.attendance.value])
        assert self.attendance_per_day is not None and self.attendance_correlation is not None
        dose = self._dose_by_days()
        usual = (1.0,) * (len(dose) - 1) if availability is None else availability
        return dose, days_attended(self.attendance_per_day.value, self.attendance_correlation.value, usual)

    def mean_dose(self, availability: tuple[float, ...] | None = None) -> float:
        """Expected share of the gain of a trained participant; availability as in `dose_distribution`."""
        if self.attendance is not None:
            return self.attendance.value
        dose, probability = self.dose_distribution(availability)
        return float(dose @ probability)

    def expected_dose(self, allocation: Allocation, schedule: Schedule) -> Floats:
        """(A,) expected share of the gain of each arm's participants on one calendar; 0 where untreated.

        An arm of which nobody was recruited in time has that of people who can come to every training day.
        `effect_components` is linear in it: averaged over calendars it gives the average over calendars.
        """
        person = self._person_dose(allocation, schedule)
        arms = enumerate(allocation.arms)
        if self.attendance is not None:
            return np.array([self.attendance.value * arm.is_trained for _, arm in arms])
        usual = self.mean_dose()
        members = [person[allocation.arm == a] for a, _ in arms]
        dose = np.array([each.mean() if len(each) else usual for each in members])
        return np.asarray(dose * [arm.is_trained for arm in allocation.arms])

    def _person_dose(self, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N,) expected share of the gain of each participant, if trained on the dates of the own clock."""
        if self.attendance is not None:
            return np.full(allocation.n_participant, self.attendance.value)
        distinct, which = np.unique(schedule.availability, axis=0, return_inverse=True)
        dose = np.array([self.mean_dose(tuple(row.tolist())) for row in distinct])
        return np.asarray(dose[which.reshape(-1)][allocation.clock])

    def _dose_by_days(self) -> Floats:
        """(D + 1,) share of the gain by number of days attended."""
        assert self.gain_by_days is not None
        return np.array([0.0, *(self.gain_by_days[str(day + 1)].value for day in range(len(self.gain_by_days)))])

    def _draw_dose(self, allocation: Allocation, schedule: Schedule, streams: Streams, replicate: Ints) -> Floats:
        """(R, N) share of the gain that each participant gets, if trained."""
        if self.attendance is not None:
            people = (replicate, allocation.cluster, allocation.member)
            attended = streams.uniform("attendance", *people, 1)[..., 0] < self.attendance.value
            return attended.astype(float)
        assert self.attendance_per_day is not None and self.attendance_correlation is not None
        per_day, correlation = self.attendance_per_day.value, self.attendance_correlation.value
        availability = schedule.availability[allocation.clock]
        return self._dose_by_days()[draw_days(per_day, correlation, availability, allocation, streams, replicate)]

    # ---- means ------------------------------------------------------------------------------------------------

    def arm_effect(self, effect: Floats, arm: Arm, names: Names, stratum: int | None = None) -> Floats:
        """(K,) effect at the final visit on those of a trained arm who attend; over strata unless one is named."""
        weights = np.array(names.share) if stratum is None else np.eye(len(names.share))[stratum]
        modification = sum(w * self.effect_modification[s].value for w, s in zip(weights, names.stratum, strict=True))
        assert arm.format is not None
        return np.asarray(effect + self.format_effect[arm.format].value + modification)

    def leaked_effect(
        self,
        effect: Floats,
        arms: tuple[Arm, ...],
        names: Names,
        has_villages: bool = False,
        dose: Floats | None = None,
    ) -> Floats:
        """(K,) what untreated participants gain from the trained arms around them; dose as in `effect_components`."""
        share = self.contamination.value
        if has_villages and self.contamination_between_villages is not None:
            share = self.contamination_between_villages.value
        each = np.full(len(arms), self.mean_dose()) if dose is None else dose
        most = max(each) or 1.0
        trained = [
            each_dose / most * self.arm_effect(effect, arm, names)
            for arm, each_dose in zip(arms, each, strict=True)
            if arm.is_trained
        ]
        return np.asarray(share * most * np.mean(trained, axis=0))

    def effect_components(
        self,
        names: Names,
        effect: Floats,
        arm: Arm,
        arms: tuple[Arm, ...],
        *,
        has_villages: bool = False,
        dose: Floats | None = None,
    ) -> dict[str, Floats | float]:
        """What an arm's mean at the final visit differs by from the same people untreated; see estimands.

        dose : (A,) `expected_dose`, averaged over calendars; left out, everyone can come to every training day.
        Exact for continuous responses where availability does not differ between the strata of an arm; what buffering
        takes off the windows' shifts is apart, in `buffering_difference`.
        """
        if not arm.is_trained:
            return {"contamination": self.leaked_effect(effect, arms, names, has_villages, dose)}
        assert arm.format is not None
        full, by_format = self.arm_effect(effect, arm, names), self.format_effect[arm.format].value
        attended = self.mean_dose() if dose is None else float(dose[arms.index(arm)])
        return {
            "planned": effect,
            "format": by_format,
            "modification": full - effect - by_format,
            "attendance": (attended - 1) * full,
        }

    def final_change(self, names: Names) -> float:
        """Change from baseline to the final visit that happens with or without training."""
        del names
        return self.untreated_change.value

    @property
    def final_inflation(self) -> float:
        """What the self-report of the trained adds at the final visit without any true change."""
        return self.demand_inflation.value

    def _means(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T) what is expected of each participant under either truth, without any effect of training."""
        mean = self._window_shifts(names, allocation, schedule)
        mean += np.array([self.baseline_difference[s].value for s in names.stratum])[allocation.stratum, None]
        mean[:, FINAL] += self.untreated_change.value
        return mean

    def _window_shifts(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T) how far the windows shift each score of the untreated that is measured inside them."""
        total = np.zeros((allocation.n_participant, N_VISIT))
        for w, window in enumerate(names.window):
            shift = np.array([self.window_shift[window][s].value for s in names.stratum])
            total += schedule.exposure[w] * shift[allocation.stratum, None]
        return total

    def _buffered(self, names: Names, allocation: Allocation, schedule: Schedule) -> Floats:
        """(N, T) the part of the windows' shifts that full attendance takes away once the training has happened."""
        share = 0.0 if self.window_buffering is None else self.window_buffering.value
        return share * self._window_shifts(names, allocation, schedule)

    def window_shift_difference(self, names: Names, allocation: Allocation, schedule: Schedule) -> float:
        """Treated minus control arm in the mean final-visit shift that the windows would cause without any training.

        0 where there is no control arm.
        """
        treated, control = allocation.contrast.treated, allocation.contrast.control
        if control is None:
            return 0.0
        shift = self._window_shifts(names, allocation, schedule)[:, FINAL]
        return float(shift[allocation.arm == treated].mean() - shift[allocation.arm == control].mean())

    def buffering_difference(self, names: Names, allocation: Allocation, schedule: Schedule) -> float:
        """What training adds to the final scores by taking away part of the windows' shift: an effect of it.

        Treated minus control arm; without a control arm, everyone against the same people untreated.
        """
        if self.window_buffering is None:
            return 0.0
        spared = -self._buffered(names, allocation, schedule)[:, FINAL] * self._person_dose(allocation, schedule)
        spared = np.where(allocation.is_trained, spared, 0.0)
        treated, control = allocation.contrast.treated, allocation.contrast.control
        if control is None:
            return float(spared.mean())
        return float(spared[allocation.arm == treated].mean() - spared[allocation.arm == control].mean())

    # ---- the scale that people answer on ----------------------------------------------------------------------

    def points(self) -> dict[str, tuple[float, float]]:
        """Mean and SD in points, by outcome that declares them: points = mean + SD * score."""
        found = {name: (o.response.mean, o.response.sd) for name, o in self.outcomes.items()}
        return {name: (mean, sd) for name, (mean, sd) in found.items() if mean is not None and sd is not None}

    def at_the_bounds(
        self, names: Names, effect: Floats, arms: tuple[Arm, ...], has_villages: bool = False
    ) -> dict[str, list[AtTheBounds]]:
        """Expected shares at floor and ceiling, by outcome that has them, at the first and the final visit, by arm.

        Under the alternative, outside every window, where everyone can come to every training day.
        """
        rows: dict[str, list[AtTheBounds]] = {}
        for k, (name, outcome) in enumerate(self.outcomes.items()):
            if isinstance(outcome.response, Continuous):
                continue
            mean, sd, floor, ceiling = scale_row(outcome.response)
            limit = (np.array([floor + 0.5, ceiling - 0.5]) - mean) / sd
            rows[name] = []
            for t in (0, FINAL):
                for arm in arms:
                    low, high = self._share_below(limit, k, t, arm, arms, names, effect, has_villages)
                    rows[name].append(AtTheBounds(names.visit[t], arm.name, float(low), float(1 - high)))
        return rows

    def _share_below(
        self, limit: Floats, k: int, t: int, arm: Arm, arms: tuple[Arm, ...], names: Names, effect: Floats,
        has_villages: bool,
    ) -> Floats:  # fmt: skip
        """Shares of an arm's latent scores below each limit: over strata and doses, normal clusters around the own."""
        part = components(self.declared(has_villages))
        own_sd = part.own_sd[t, k]
        shared = part.covariance[int(arm.is_trained), k, t, k, t] - own_sd**2
        is_final = t == FINAL
        below = np.zeros(len(limit))
        doses = zip(*self.dose_distribution(), strict=True) if arm.is_trained and is_final else [(0.0, 1.0)]
        for dose, probability in doses:
            for stratum, weight in enumerate(names.share):
                mean = self.baseline_difference[names.stratum[stratum]].value + is_final * self.untreated_change.value
                if is_final and arm.is_trained:
                    mean += self.demand_inflation.value + dose * self.arm_effect(effect, arm, names, stratum)[k]
                elif is_final:
                    mean += self.leaked_effect(effect, arms, names, has_villages)[k]
                other_sd = np.sqrt(max(shared, 0.0) + (dose * self.sd_effect_district.value) ** 2)
                below += probability * weight * self.errors.share_below(limit - mean, own_sd, other_sd)
        return below

    # ---- draws ------------------------------------------------------------------------------------------------

    def generate(
        self,
        names: Names,
        effect: Floats,
        allocation: Allocation,
        schedule: Schedule,
        streams: Streams,
        replicate: Ints,
    ) -> Outcome:
        """Scores of R replicates of one realisation under both truths. effect : (K,) planned effect at the final visit.

        The sharp null: no gain for anyone, anywhere, no buffering and no demand inflation; training groups,
        facilitators, districts, villages and windows stay as they are, and both truths share every draw. The weak null:
        the same, but those who attend gain what their district's effect departs from the average.
        `deviation` is that of the normal scores: before skewness, heavy tails, floor, ceiling and rounding, with the
        measurement error of the trial's instrument.
        """
        alternative = self._version(names, effect, allocation, schedule, allocation.arm, allocation.arms)
        alternative = alternative._replace(demand=self.demand_inflation.value)
        nothing = {key: np.zeros_like(getattr(alternative, key)) for key in ("gain", "leaked", "taken")}
        null = alternative._replace(demand=0.0, varies=float(self.null == "weak"), **nothing)
        dose = self._draw_dose(allocation, schedule, streams, replicate)
        score, deviation = self._scores(names, allocation, schedule, streams, replicate, (alternative, null), dose)
        part = components(self.declared(allocation.has_villages))
        return Outcome(score, deviation, part.deviation_covariance)

    def potential(
        self,
        names: Names,
        effect: Floats,
        allocation: Allocation,
        schedule: Schedule,
        streams: Streams,
        replicate: Ints,
        contrast: Contrast | None = None,
        *,
        everyone_attends: bool = False,
    ) -> Floats:
        """(2, K, R, N, T) what everyone would score under the alternative in the control (0) and the treated arm (1).

        The draws are those of `generate`, on the response scale, without demand inflation. contrast : left out, the
        declared one. Without a control arm, 0 is untreated without contamination and 1 the own arm. Dates are those of
        the own clock. In a trained arm a participant keeps the own training group and facilitators; whoever is in no
        group in the trial has none here either: the expectation of both is 0, so that means do not depend on it, but
        nonlinear functions of the scores do. everyone_attends : nobody misses a training day.
        """
        between, arms = contrast or allocation.contrast, (*allocation.arms, UNTREATED)
        treated = np.full_like(allocation.arm, between.treated)
        control = np.full_like(allocation.arm, len(arms) - 1 if between.control is None else between.control)
        dose, usual = self._draw_dose(allocation, schedule, streams, replicate), None
        if everyone_attends:
            dose, usual = np.ones_like(dose), np.array([float(arm.is_trained) for arm in allocation.arms])
        as_control, as_treated = (
            self._version(names, effect, allocation, schedule, arm, arms, usual)
            for arm in (control, allocation.arm if between.control is None else treated)
        )
        if between.control is None:
            as_control = as_control._replace(leaked=np.zeros_like(as_control.leaked))
        score, _ = self._scores(names, allocation, schedule, streams, replicate, (as_control, as_treated), dose)
        return np.asarray(score.transpose(1, 0, 2, 3, 4))

    def _version(
        self, names: Names, effect: Floats, allocation: Allocation, schedule: Schedule, arm_of: Ints,
        arms: tuple[Arm, ...], dose: Floats | None = None,
    ) -> Version:  # fmt: skip
        """Everyone in arm `arm_of` (N,) of `arms`, without demand inflation; dose : (A,) expected, by actual arm."""
        n, k = allocation.n_participant, len(effect)
        is_trained = np.array([arm.is_trained for arm in arms])[arm_of]
        gain, leaked = np.zeros((n, k)), np.zeros((n, k))
        usual = self.expected_dose(allocation, schedule) if dose is None else dose
        leaked[~is_trained] = self.leaked_effect(effect, allocation.arms, names, allocation.has_villages, usual)
        for number, arm in enumerate(arms):
            for stratum in range(len(names.stratum) if arm.is_trained else 0):
                rows = (arm_of == number) & (allocation.stratum == stratum)
                gain[rows] = self.arm_effect(effect, arm, names, stratum)
        return Version(is_trained, gain, leaked, 0.0, 1.0, self._buffered(names, allocation, schedule))

    def _scores(
        self, names: Names, allocation: Allocation, schedule: Schedule, streams: Streams, replicate: Ints,
        versions: Sequence[Version], dose: Floats,
    ) -> tuple[Floats, Floats]:  # fmt: skip
        """(K, V, R, N, T) scores of the versions, and the deviation."""
        k, n, part = len(self.outcomes), allocation.n_participant, components(self.declared(allocation.has_villages))
        score = np.empty((k, len(versions), len(replicate), n, N_VISIT))
        deviation = np.empty((len(replicate), n, N_VISIT))
        own = Own(
            streams.normal("participant", replicate, allocation.cluster, allocation.member, k * N_VISIT), part.own_sd,
            part.own_root, self.errors.distribution(), self.errors.scale(streams, replicate, allocation),
        )  # fmt: skip
        assemble(
            own, self._effects(allocation, schedule, streams, replicate),
            terms(versions, self._means(names, allocation, schedule), np.array([0.0, 1 / self.retention.value, 1.0])),
            dose, np.array([scale_row(outcome.response) for outcome in self.outcomes.values()]), 1 / part.deviation_sd,
            score, deviation,
        )  # fmt: skip
        return score, deviation

    def _effects(self, allocation: Allocation, schedule: Schedule, streams: Streams, replicate: Ints) -> Effects:
        """Draws of districts, villages, training groups and facilitators."""
        k, part = len(self.outcomes), components(self.declared(allocation.has_villages))
        alike = part.mixing[0].T

        def units(purpose: str, name: Ints, n_draw: int) -> Floats:
            return streams.normal(purpose, replicate, np.zeros_like(name), name, n_draw)

        district = np.arange(allocation.district.max() + 1, dtype=np.int32)
        place = np.sqrt(self.icc_district.value) * units("district", district, k) @ alike
        variation = self.sd_effect_district.value * units("district effect", district, k) @ alike
        unit_of, shared = allocation.district, np.repeat(place[:, :, None], N_VISIT, axis=2)
        if allocation.has_villages:
            village = units("village", allocation.village_name, k * (N_VISIT + 1))
            village = village.reshape(len(replicate), len(allocation.village_name), N_VISIT + 1, k)
            village = village @ alike * part.sd_village
            village = np.sqrt(self.cac.value) * village[:, :, :1] + np.sqrt(1 - self.cac.value) * village[:, :, 1:]
            unit_of, first = allocation.village, np.unique(allocation.village, return_index=True)[1]
            shared = village + shared[:, allocation.district[first]]
        nobody = np.zeros((len(replicate), 1, k))  # of number -1
        group = units("training group", allocation.group_name, k) @ alike * part.sd_training_group
        group_of = allocation.training_group
        if self.icc_facilitator is not None:
            team = np.arange(schedule.team.max() + 1, dtype=np.int32)
            effects = units("facilitator", team, k) @ alike * part.sd_facilitator
            group = group + np.concatenate([effects, nobody], axis=1)[:, schedule.team]
            group_of = np.where(allocation.is_trained, allocation.clock, np.int32(-1))
        group_of = np.where(group_of < 0, np.int32(group.shape[1]), group_of)
        group = np.concatenate([group, nobody], axis=1)
        return Effects(shared, variation, group, unit_of, allocation.district, group_of)
