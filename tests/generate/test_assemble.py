"""Optional parts of the score model by their draws: facilitators, places of contamination, buffering, nulls, errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from everything import BY_DAY, SUM, dated, everything, exactly, with_parts
from hypothesis import given, settings
from hypothesis import strategies as st
from planned import NAMES, STREAMS, THREE_ARMS, allocate, never_in_a_window, pair_products, within_mcse
from scipy import stats

from sim.missingness.logistic import LogisticLoss
from sim.trial import Allocation, Schedule

R = 3000
REPLICATE = np.arange(R, dtype=np.int32)
FEW = REPLICATE[:4]
EFFECT = np.array([0.5, -0.3])
BASELINE, POST, FINAL = range(3)
ALTERNATIVE, NULL = range(2)
SKEWED = {"kind": "skewed", **exactly({"skewness": -1.0})}
HEAVY = {"kind": "heavy_tailed", **exactly({"df": 8})}
PLAIN = with_parts()


def scores(m: Any, a: Allocation, s: Schedule, replicate: Any = REPLICATE, effect: np.ndarray = EFFECT) -> np.ndarray:
    score: np.ndarray = m.generate(NAMES, effect, a, s, STREAMS, replicate).score
    return score


def by_turns(a: Allocation) -> np.ndarray:
    return np.array([0.0, 1.0, 2.0])[(a.member[:, None] + np.array([0, 1, 3])) % 3]


# ---- facilitators ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"training_group_size": None}], ids=["in groups", "one by one"])
def test_people_trained_by_one_team_share_it_across_districts_after_the_training(changes: dict[str, Any]) -> None:
    """Pairs of one team in different districts; untreated people have no team."""
    a = allocate("individual", districts=2, participants_per_district=60, **({"training_group_size": 6} | changes))
    s = dated(a, n_team=2)
    m = with_parts(icc_facilitator=0.2, icc_training_group=0.0 if changes else 0.06)
    x = scores(m, a, s)[0, NULL] - np.array([0, 0, 0.15])
    own = 1 - 0.02
    shared = 0.2 / (1 - 0.2 - (0 if changes else 0.06)) * own
    team = np.where(a.is_trained, s.team[a.clock], -1)
    within = np.where(a.is_trained, team * 2 + a.district, -1)
    n_all, n_within = (
        sum(n * (n - 1) for n in np.unique(code[code >= 0], return_counts=True)[1]) for code in (team, within)
    )
    for t, u in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2)):
        everyone, same = (pair_products(x[..., t], x[..., u], code) for code in (team, within))
        across = (everyone * n_all - same * n_within) / (n_all - n_within)
        within_mcse(across, shared if t > 0 and u > 0 else 0.0)
    untreated = np.where(a.is_trained, -1, s.team[a.clock] * 2 + a.district)
    within_mcse(pair_products(x[..., FINAL], x[..., FINAL], untreated), 0.02)


def test_nobody_has_a_facilitator_effect_where_teams_are_not_counted() -> None:
    a = allocate("individual", districts=2)
    alone = with_parts(icc_training_group=0.0, icc_facilitator=0.2)
    none = with_parts(icc_training_group=0.0)
    s = never_in_a_window(a)
    np.testing.assert_array_equal(scores(alone, a, s, FEW), scores(none, a, s, FEW))


# ---- contamination, buffering, nulls --------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "share"), [("individual", 0.2), ("village", 0.05)])
def test_the_untreated_gain_by_where_they_live(kind: str, share: float) -> None:
    a = allocate(kind, arms=THREE_ARMS)
    m = with_parts(contamination="20%", contamination_between_villages="5%")
    score = scores(m, a, never_in_a_window(a), FEW)
    gain = (score[:, ALTERNATIVE] - score[:, NULL])[:, :, ~a.is_trained]
    leaked = share * 0.9 * (EFFECT + np.mean([0.0, -0.1]))
    np.testing.assert_allclose(gain[..., FINAL], np.broadcast_to(leaked[:, None, None], gain.shape[:3]), atol=1e-12)
    found = m.effect_components(NAMES, EFFECT, a.arms[0], a.arms, has_villages=a.has_villages)["contamination"]
    np.testing.assert_allclose(found, leaked, atol=1e-14)


def test_effect_on_a_calendar_to_which_not_everyone_can_come_against_the_closed_form() -> None:
    a = allocate("individual", arms=THREE_ARMS, districts=2)
    rng = np.random.default_rng(3)
    s = dated(a, availability=rng.choice([0.3, 0.7, 1.0], size=(len(a.group_district), 3)))
    m = with_parts(**BY_DAY, contamination="30%", demand_inflation="0 SD")
    score = scores(m, a, s)
    paired = score[:, ALTERNATIVE] - score[:, NULL]
    dose = m.expected_dose(a, s)
    for number, arm in enumerate(a.arms):
        expected = sum(m.effect_components(NAMES, EFFECT, arm, a.arms, dose=dose).values())
        within_mcse(paired[:, :, a.arm == number, FINAL].mean(axis=2).T, np.asarray(expected))


def test_buffering_takes_its_share_off_the_windows_shift_of_those_who_attend() -> None:
    a = allocate("individual", districts=2)
    exposure = by_turns(a)
    s = dated(a, exposure=exposure)
    shift = exposure * np.array([-0.2, -0.1])[a.stratum, None]
    buffered, without = (scores(with_parts(**change), a, s) for change in ({"window_buffering": "40%"}, {}))
    np.testing.assert_array_equal(buffered[:, NULL], without[:, NULL])
    spared = buffered[:, ALTERNATIVE] - without[:, ALTERNATIVE]
    np.testing.assert_array_equal(spared[:, :, ~a.is_trained], 0)
    np.testing.assert_array_equal(spared[..., BASELINE], 0)
    expected = np.where(a.is_trained, -0.4 * 0.9 * shift[:, FINAL], 0.0)
    within_mcse(spared[0, :, :, FINAL], expected)
    m = with_parts(window_buffering="40%")
    difference = expected[a.arm == 1].mean() - expected[a.arm == 0].mean()
    assert m.buffering_difference(NAMES, a, s) == pytest.approx(difference, abs=1e-12)
    calendar = PLAIN.window_shift_difference(NAMES, a, s)
    assert m.window_shift_difference(NAMES, a, s) == pytest.approx(calendar, abs=1e-12)
    assert PLAIN.buffering_difference(NAMES, a, s) == 0.0
    alone = allocate("single_arm")
    dates = dated(alone, exposure=np.ones((alone.n_participant, 3)))
    everyone = 0.4 * 0.9 * np.array([0.2, 0.1])[alone.stratum].mean()
    assert m.buffering_difference(NAMES, alone, dates) == pytest.approx(everyone, abs=1e-12)


def test_weak_null_is_zero_on_average_and_varies_between_districts() -> None:
    a = allocate("individual", districts=3)
    s = never_in_a_window(a)
    sharp, weak = (scores(with_parts(null=null, sd_effect_district="0.3 SD"), a, s) for null in ("sharp", "weak"))
    np.testing.assert_array_equal(sharp[:, ALTERNATIVE], weak[:, ALTERNATIVE])
    d = weak[:, NULL] - sharp[:, NULL]
    np.testing.assert_array_equal(d[:, :, ~a.is_trained], 0)
    within_mcse(d[0][:, a.is_trained, FINAL].mean(axis=1), 0.0)
    trained = np.where(a.is_trained, a.district, -1)
    for t, scale in ((POST, 1 / 0.6), (FINAL, 1.0)):
        within_mcse(pair_products(d[0, ..., t], d[0, ..., t], trained), (0.9 * scale * 0.3) ** 2)
        within_mcse(pair_products(d[0, ..., t], d[1, ..., t], trained), 0.35 * (0.9 * scale * 0.3) ** 2)


def test_weak_null_does_not_know_the_effect() -> None:
    a, m = allocate("village"), everything(SKEWED)
    one, other = (scores(m, a, dated(a, n_team=2), FEW, effect)[:, NULL] for effect in (EFFECT, EFFECT + 9))
    np.testing.assert_array_equal(one, other)


# ---- distributions and measurement error ----------------------------------------------------------------------


@pytest.fixture(scope="module", params=[None, SKEWED, HEAVY], ids=["normal", "skewed", "heavy_tailed"])
def drawn(request: pytest.FixtureRequest) -> Any:
    a = allocate("village", districts=2, villages_per_district=6, village_size={"mean": 8, "cv": 0.3})
    reliability = exactly({"reliability": 0.65, "reliability_planned": 0.8})
    m = with_parts(outcomes={"cohesion": reliability}, errors=request.param, icc_facilitator=0.05)
    return m, a, m.generate(NAMES, EFFECT, a, dated(a, n_team=2), STREAMS, REPLICATE)


def test_first_two_moments_do_not_depend_on_the_distribution(drawn: Any) -> None:
    m, a, outcome = drawn
    x = outcome.score[:, NULL] - np.array([0, 0, 0.15])
    for trained in (False, True):
        rows = a.is_trained == trained
        within_mcse(x[:, :, rows].mean(axis=2).transpose(1, 0, 2), 0.0)
        product = np.einsum("krnt,jrnu->rktju", x[:, :, rows], x[:, :, rows]) / rows.sum()
        within_mcse(product, m.covariance(True, trained))
    assert m.covariance(True, False)[0, 0, 0, 0] == pytest.approx(0.8 / 0.65)
    untreated = np.where(a.is_trained, -1, a.village)
    for k, icc in enumerate((0.10, 0.05)):
        for t, u in ((0, 0), (2, 2), (0, 2)):
            within_mcse(pair_products(x[k, ..., t], x[k, ..., u], untreated), 0.02 + icc * (1 if t == u else 0.8))


def test_deviation_is_normal_with_the_declared_covariance_whatever_the_scores(drawn: Any) -> None:
    _, a, outcome = drawn
    for trained in (False, True):
        d = outcome.deviation[:, a.is_trained == trained]
        within_mcse(np.einsum("rnt,rnu->rtu", d, d) / d.shape[1], outcome.deviation_covariance[int(trained)])
    one_each = outcome.deviation[:, np.flatnonzero(~a.is_trained)[0]]
    for t in range(3):
        assert stats.kstest(one_each[:, t], stats.norm.cdf).pvalue > 0.001


def test_losses_stay_what_is_declared_whatever_the_scores(drawn: Any) -> None:
    _, a, outcome = drawn
    missing = LogisticLoss.model_validate(LogisticLoss.example)
    seen = missing.observe(NAMES, a, never_in_a_window(a), outcome, STREAMS, REPLICATE)
    lost = 1 - seen[:, a.is_trained].mean(axis=1)
    within_mcse(lost[:, 1:], np.array([0.05, 0.10]))


def test_skewness_and_tails_of_the_own_part() -> None:
    """No clusters, one participant of each replicate: the score's own skewness and kurtosis at every visit."""
    a = allocate("individual", districts=1)
    off = {"icc_district": 0.0, "icc_training_group": 0.0}
    many = np.arange(40_000, dtype=np.int32)
    lone = replace(a, **{
        key: getattr(a, key)[:1]
        for key in ("arm", "stratum", "district", "village", "training_group", "clock", "cluster", "member")
    })  # fmt: skip
    s = dated(lone)
    normal = scores(with_parts(**off), lone, s, many)[:, NULL, :, 0] - np.array([0, 0, 0.15])
    skewed, heavy = (scores(with_parts(**off, errors=e), lone, s, many)[:, NULL, :, 0] for e in (SKEWED, HEAVY))
    heavy, skewed = heavy - np.array([0, 0, 0.15]), skewed - np.array([0, 0, 0.15])
    for k in range(2):
        for t in range(3):
            within_mcse(normal[k, :, t] ** 3, 0.0)
            within_mcse(skewed[k, :, t] ** 3, -1.0)
            assert stats.kstest(heavy[k, :, t] * np.sqrt(8 / 6), stats.t(8).cdf).pvalue > 0.001
            rank = stats.spearmanr(normal[k, :, t], skewed[k, :, t]).statistic
            assert rank > 0.99  # the same draws, one after another in the same order


# ---- the algebra of the whole ---------------------------------------------------------------------------------


def shuffled(a: Allocation, seed: int) -> tuple[Allocation, np.ndarray]:
    """The same trial with participants in another order and other numbers for its villages and training groups."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(a.n_participant)
    columns = {
        key: getattr(a, key)[order]
        for key in ("arm", "stratum", "district", "village", "training_group", "clock", "cluster", "member")
    }
    for names, codes in (("village_name", ("village",)), ("group_name", ("training_group", "clock"))):
        new = rng.permutation(len(getattr(a, names))).astype(np.int32)
        back = np.argsort(new)
        columns[names] = getattr(a, names)[back]
        for code in codes if len(new) else ():
            columns[code] = np.where(columns[code] >= 0, new[columns[code]], np.int32(-1)).astype(np.int32)
        if names == "group_name":
            columns["group_district"] = a.group_district[back]
    return replace(a, **columns), order


def schedule_of(a: Allocation) -> Schedule:
    """Teams and availability that belong to a group's name, whatever its number; windows to a participant."""
    name = a.group_name
    availability = np.array([1.0, 0.5, 0.8])[(name[:, None] + np.arange(3)) % 3]
    s = dated(a, availability=availability, exposure=by_turns(a))
    return replace(s, team=(name % 3).astype(np.int32))


@given(st.sampled_from(["individual", "village"]), st.sampled_from([None, SKEWED, HEAVY]), st.integers(0, 99))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_relabelled_clusters_have_the_same_scores(kind: str, errors: Any, seed: int) -> None:
    a, m = allocate(kind, arms=THREE_ARMS, districts=2), everything(errors)
    b, order = shuffled(a, seed)
    one = m.generate(NAMES, EFFECT, a, schedule_of(a), STREAMS, FEW)
    other = m.generate(NAMES, EFFECT, b, schedule_of(b), STREAMS, FEW)
    np.testing.assert_allclose(other.score, one.score[:, :, :, order], atol=1e-12)
    np.testing.assert_allclose(other.deviation, one.deviation[:, order], atol=1e-12)


@given(st.sampled_from([None, SKEWED, HEAVY]), st.floats(-2, 2))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_shifted_outcomes_shift_every_score_and_no_deviation(errors: Any, shift: float) -> None:
    a = allocate("village", districts=2)
    s = schedule_of(a)
    one, other = (
        with_parts(errors=errors, **BY_DAY, baseline_difference=dict.fromkeys(NAMES.stratum, f"{by} SD")).generate(
            NAMES, EFFECT, a, s, STREAMS, FEW
        )
        for by in (0.0, shift)
    )
    np.testing.assert_allclose(other.score, one.score + shift, atol=1e-12)
    np.testing.assert_array_equal(other.deviation, one.deviation)


@given(st.sampled_from([None, SKEWED, HEAVY]), st.sampled_from(["individual", "village"]), st.booleans())
@settings(max_examples=12, deadline=None, derandomize=True)
def test_without_any_effect_both_truths_are_one(errors: Any, kind: str, is_weak: bool) -> None:
    """Under the weak null with the variation of the effect, which both truths then share."""
    a = allocate(kind, districts=2)
    zero = dict.fromkeys(NAMES.stratum, "0 SD")
    m = with_parts(
        errors=errors, null="weak" if is_weak else "sharp", **BY_DAY, icc_facilitator=0.1, demand_inflation="0 SD",
        sd_effect_district="0.2 SD" if is_weak else "0 SD", effect_modification=zero,
        format_effect={"mixed": "0 SD", "separate": "0 SD"}, outcomes={"cohesion": {"response": SUM}},
    )  # fmt: skip
    score = scores(m, a, schedule_of(a), FEW, np.zeros(2))
    np.testing.assert_array_equal(score[:, ALTERNATIVE], score[:, NULL])


@pytest.mark.parametrize("errors", [None, SKEWED, HEAVY], ids=["normal", "skewed", "heavy_tailed"])
def test_extreme_icc_against_the_draws(errors: Any) -> None:
    """Nine tenths of the variance between villages, or none anywhere."""
    a = allocate("village", districts=2)
    high = {key: {"icc_village": exactly(0.9), "correlation_baseline_final": exactly(0.93)} for key in NAMES.outcome}
    m = with_parts(
        outcomes=high, errors=errors, icc_district=0.0, cac=0.98, correlation_baseline_post=0.94,
        correlation_post_final=0.94, correlation_changes=0.35,
    )  # fmt: skip
    x = scores(m, a, never_in_a_window(a))[:, NULL] - np.array([0, 0, 0.15])
    untreated = np.where(a.is_trained, -1, a.village)
    within_mcse((x[0][:, ~a.is_trained] ** 2).mean(axis=1), 1.0)
    within_mcse(pair_products(x[0, ..., FINAL], x[0, ..., FINAL], untreated), 0.9)
    none = {key: {"icc_village": exactly(0)} for key in NAMES.outcome}
    m = with_parts(outcomes=none, errors=errors, icc_district=0, icc_training_group=0)
    x = scores(m, a, never_in_a_window(a))[:, NULL] - np.array([0, 0, 0.15])
    within_mcse(pair_products(x[0, ..., FINAL], x[0, ..., FINAL], a.village), 0.0)


@pytest.mark.parametrize("errors", [None, SKEWED, HEAVY], ids=["normal", "skewed", "heavy_tailed"])
def test_batch_equals_singles(errors: Any) -> None:
    a, m = allocate("individual", arms=THREE_ARMS, districts=2), everything(errors)
    together = m.generate(NAMES, EFFECT, a, schedule_of(a), STREAMS, REPLICATE[:9])
    for picked in ([0], [7], [3, 4]):
        alone = m.generate(NAMES, EFFECT, a, schedule_of(a), STREAMS, np.array(picked, dtype=np.int32))
        np.testing.assert_array_equal(alone.score, together.score[:, :, picked])
        np.testing.assert_array_equal(alone.deviation, together.deviation[picked])
