"""Several mechanisms together: who is seen, why not, and mistakes in any of them told like those of one alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mistakes import TEXT, changed, folder_with_evidence, line_of, problems_of
from planned import NAMES, STREAMS, allocate, never_in_a_window, within_mcse
from pydantic import ValidationError

from sim.missingness.combined import Combined, Owned
from sim.missingness.mechanism import exactly
from sim.trial import Allocation, Outcome

R = 2000
REPLICATE = np.arange(R, dtype=np.int32)
ILLNESS = {"kind": "mcar", "loss": {"post": exactly("20%"), "six_months": exactly("30%")}}
MOVED = {**ILLNESS, "monotone": True}
LOW = {"kind": "mnar", "loss": ILLNESS["loss"], "log_odds_per_sd_worse": exactly(0.7)}


def combined(**mechanisms: dict[str, Any]) -> Any:
    return Combined.model_validate({"kind": "combined", "mechanisms": mechanisms})


def scores_of(a: Allocation) -> Outcome:
    deviation = np.random.default_rng(3).standard_normal((R, a.n_participant, 3))
    return Outcome(np.empty((0, 2, *deviation.shape)), deviation, np.stack([np.eye(3)] * 2))


A = allocate("village")
DRAWN = (NAMES, A, never_in_a_window(A), scores_of(A))


def test_a_visit_is_seen_if_every_mechanism_lets_it_be_seen() -> None:
    both = combined(illness=ILLNESS, low=LOW).observe(*DRAWN, STREAMS, REPLICATE)
    parts = {"illness": ILLNESS, "low": LOW}
    each = [combined(**{name: part}).observe(*DRAWN, STREAMS, REPLICATE) for name, part in parts.items()]
    np.testing.assert_array_equal(both, each[0] & each[1])


def test_mechanisms_of_one_kind_draw_apart_and_none_moves_another() -> None:
    two = combined(illness=ILLNESS, weather=ILLNESS)
    cause = two.cause(*DRAWN, STREAMS, REPLICATE)
    alone = combined(illness=ILLNESS).cause(*DRAWN, STREAMS, REPLICATE)
    np.testing.assert_array_equal(cause == 1, alone == 1)
    within_mcse((cause[:, :, 2] == 0).mean(axis=1), 0.7 * 0.7)
    within_mcse((cause[:, :, 2] == 2).mean(axis=1), 0.7 * 0.3)
    assert STREAMS.key("mcar") != Owned(STREAMS, "illness").key("mcar") != Owned(STREAMS, "weather").key("mcar")


@pytest.mark.parametrize("monotone", [False, True])
def test_a_mechanism_at_random_knows_nothing_that_another_kept_unseen(monotone: bool) -> None:
    """Nor a visit that was not held: scores nobody saw are moved far away, and the same people are lost."""
    low = {**LOW, "kind": "mar", "log_odds_per_sd_worse": exactly(1.5), "monotone": monotone}
    part = combined(illness=ILLNESS, low=low, lower=low)
    names, a, schedule, outcome = DRAWN
    held = np.ones((a.n_participant, 3), dtype=bool)
    held[::3, 1] = False
    schedule = replace(schedule, is_held=held)
    cause = part.cause(names, a, schedule, outcome, STREAMS, REPLICATE)
    unseen = (cause > 0) | ~held
    blind = replace(outcome, deviation=np.where(unseen, 99.0, outcome.deviation))
    np.testing.assert_array_equal(part.cause(names, a, schedule, blind, STREAMS, REPLICATE), cause)
    known = replace(outcome, deviation=np.where(unseen, outcome.deviation, 99.0))
    assert (part.cause(names, a, schedule, known, STREAMS, REPLICATE) != cause).any()


def test_the_reason_of_a_missed_visit_is_the_first_that_is_named() -> None:
    ours = combined(low=LOW, illness=ILLNESS).cause(*DRAWN, STREAMS, REPLICATE)
    theirs = combined(illness=ILLNESS, low=LOW).cause(*DRAWN, STREAMS, REPLICATE)
    np.testing.assert_array_equal(ours > 0, theirs > 0)
    turned = np.array([0, 2, 1], dtype=np.int8)[theirs]
    assert (ours[ours != turned] == 1).all() and (turned[ours != turned] == 2).all() and (ours != turned).any()


def test_who_has_left_left_for_the_reason_that_came_first() -> None:
    parts = {"illness": ILLNESS, "moved": MOVED, "tired": MOVED}
    left = combined(**parts).left(*DRAWN, STREAMS, REPLICATE)
    when = {
        name: combined(**{name: MOVED}).left(*DRAWN, STREAMS, REPLICATE).astype(bool).sum(axis=2)
        for name in ("moved", "tired")
    }  # visits for which they are gone: the more, the earlier
    moved_first = (when["moved"] >= when["tired"]) & (when["moved"] > 0)
    np.testing.assert_array_equal(left[:, :, 2] == 2, moved_first)
    np.testing.assert_array_equal(left[:, :, 2] == 3, (when["tired"] > 0) & ~moved_first)
    assert combined(**parts).reasons == ("illness", "moved", "tired")
    assert combined(**parts).ends_follow_up == (False, True, True)


def test_expected_loss_of_independent_mechanisms() -> None:
    part = combined(illness=ILLNESS, weather=MOVED)
    names, a, schedule, outcome = DRAWN
    expected = part.marginal_loss(names, a, schedule)
    np.testing.assert_allclose(expected, np.tile([1 - 0.8 * 0.8, 1 - 0.7 * 0.7], (a.n_participant, 1)))
    np.testing.assert_allclose(part.joint_loss(names, a, schedule, outcome.deviation_covariance), expected)


def test_mechanisms_on_the_same_score_lose_fewer_together_than_independent_ones() -> None:
    part = combined(low=LOW, lower=LOW)
    names, a, schedule, outcome = DRAWN
    joint = part.joint_loss(names, a, schedule, outcome.deviation_covariance)
    assert (joint < part.marginal_loss(names, a, schedule) - 0.005).all()
    seen = part.observe(*DRAWN, STREAMS, REPLICATE)
    within_mcse((~seen[:, :, 1:]).mean(axis=1), joint[0])


def test_message_of_two_reasons_of_one_name() -> None:
    gone = {"kind": "departure", "risk_per_year": {"death": exactly("1%")}}
    with pytest.raises(ValidationError, match="'death' is also a reason of another mechanism"):
        combined(death=ILLNESS, gone=gone)


# ---- mistakes in a scenario -----------------------------------------------------------------------------------

OLD = TEXT[TEXT.index("missingness:\n") : TEXT.index("estimand:\n")]
NEW = """missingness:
  kind: combined
  mechanisms:
    in_window:
      kind: window
      loss:
        post: {value: 2%, low: 0%, high: 5%, basis: assumption, source: "test"}
        six_months: {value: 3%, low: 1%, high: 9%, basis: assumption, source: "test"}
      odds_ratio:
        commemoration:
          survivors: {value: 2.0, low: 1.0, high: 4.0, basis: assumption, source: "test"}
          released_perpetrators: {value: 1.3, low: 1.0, high: 2.5, basis: assumption, source: "test"}
    by_arm:
      kind: arm
      loss:
        control:
          post: {value: 1%, low: 0%, high: 5%, basis: assumption, source: "test"}
          six_months: {value: 3%, low: 0%, high: 13%, basis: assumption, source: "test"}
        mixed:
          post: {value: 0%, low: 0%, high: 5%, basis: assumption, source: "test"}
          six_months: {value: 0%, low: 0%, high: 13%, basis: assumption, source: "test"}
        separate:
          post: {value: 0%, low: 0%, high: 5%, basis: assumption, source: "test"}
          six_months: {value: 0%, low: 0%, high: 13%, basis: assumption, source: "test"}
    low_scores:
      kind: mar
      monotone: true
      loss:
        post: {value: 1%, low: 0%, high: 5%, basis: assumption, source: "test"}
        six_months: {value: 4%, low: 0%, high: 13%, basis: assumption, source: "test"}
      log_odds_per_sd_worse: {value: 0.2, low: 0, high: 0.5, basis: assumption, source: "test"}
    gone:
      kind: departure
      risk_per_year:
        death: {value: 1%, low: 0.5%, high: 2%, basis: assumption, source: "test"}
        moving_away: {value: 4%, low: 1%, high: 10%, basis: assumption, source: "test"}

"""
WORKING = changed((OLD, NEW))
INNER = "missingness.mechanisms"

MISTAKES = {
    "kind": ("kind: mar\n", "kind: marr\n", "marr", f"{INNER}.low_scores.kind", "Did you mean 'mar'?"),
    "key": ("monotone: true", "monoton: true", "monoton:", f"{INNER}.low_scores.monoton", "unknown key"),
    "key of an assumption": ("{value: 4%, low: 1%", "{vale: 4%, low: 1%", "vale: 4%",
                             f"{INNER}.gone.risk_per_year.moving_away.vale", "Did you mean 'value'?"),
    "unit": ("{value: 4%, low: 1%", "{value: 4, low: 1%", "value: 4, low",
             f"{INNER}.gone.risk_per_year.moving_away.value", "write it with its unit"),
    "range": ("{value: 4%, low: 1%", "{value: 4%, low: 5%", "low: 5%",
              f"{INNER}.gone.risk_per_year.moving_away.low", "low 5%, value 4%"),
    "refused value": ("{value: 4%, low: 1%, high: 10%", "{value: 96%, low: 1%, high: 97%", "value: 96%",
                      f"{INNER}.gone.risk_per_year.moving_away.value", "below 95%"),
    "combined in combined": ("kind: departure", "kind: combined", "kind: combined\n      risk", f"{INNER}.gone.kind",
                             "known: arm"),
    "no kind": ("      kind: departure\n", "", "gone:", f"{INNER}.gone.kind", "is missing; known: arm"),
    "window": ("        commemoration:\n          surv", "        comemoration:\n          surv", "comemoration",
               f"{INNER}.in_window.odds_ratio.comemoration", "Did you mean 'commemoration'?"),
    "stratum": ("          survivors: {value: 2.0", "          survivers: {value: 2.0", "survivers: {value: 2.0",
                f"{INNER}.in_window.odds_ratio.commemoration.survivers", "is no stratum"),
    "visit": ("        post: {value: 2%", "        posd: {value: 2%", "posd", f"{INNER}.in_window.loss.posd",
              "is no visit after the baseline"),
    "visit of an arm": ("          post: {value: 1%", "          posd: {value: 1%", "posd",
                        f"{INNER}.by_arm.loss.control.posd", "is no visit after the baseline"),
    "arm": ("        control:\n          post", "        contrl:\n          post", "contrl:",
            f"{INNER}.by_arm.loss.contrl", "is no arm"),
    "losses that fall": ("post: {value: 1%, low: 0%, high: 5%, basis: assumption, source: \"test\"}\n        six",
                         "post: {value: 5%, low: 0%, high: 5%, basis: assumption, source: \"test\"}\n        six",
                         "six_months: {value: 4%, low: 0%, high: 13%",
                         f"{INNER}.low_scores.loss.six_months.value", "found '4%' after '5%' by post"),
    "losses of an arm that fall": (
        "      loss:\n        control:\n          post: {value: 1%",
        "      monotone: true\n      loss:\n        control:\n          post: {value: 4%",
        "six_months: {value: 3%, low: 0%", f"{INNER}.by_arm.loss.control.six_months.value",
        "found '3%' after '4%' by post",
    ),
    "unknown reason": ("kind: final_visit_difference", "kind: while_on_treatment\n  until: [deth]", "deth",
                       "estimand.until.0", "Did you mean 'death'?"),
    "reason that ends nothing": ("kind: final_visit_difference", "kind: while_on_treatment\n  until: [in_window]",
                                 "[in_window]", "estimand.until.0", "may come back"),
    "unknown event": ("kind: final_visit_difference", "kind: hypothetical\n  had_not: [leving]", "[leving]",
                      "estimand.had_not.0", "known: non_attendance, leaving"),
}  # fmt: skip


def test_a_scenario_may_combine_them(tmp_path: Path) -> None:
    folder = folder_with_evidence(tmp_path)
    assert problems_of(folder, WORKING) == []
    for estimand in (
        "while_on_treatment\n  until: [death, moving_away, low_scores]",
        "hypothetical\n  had_not: [leaving, non_attendance]",
    ):
        assert problems_of(folder, changed(("final_visit_difference", estimand), text=WORKING)) == []


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_message(tmp_path: Path, name: str) -> None:
    old, new, at, field, said = MISTAKES[name]
    text = changed((old, new), text=WORKING)
    [problem] = problems_of(folder_with_evidence(tmp_path), text)
    assert problem.field == field and said in problem.message, problem
    assert problem.line == line_of(at, text)


@pytest.mark.parametrize(
    ("estimand", "said"),
    [
        ("while_on_treatment\n  until: [logistic]", "does not end follow-up"),
        ("while_on_treatment\n  until: [death]", "nobody leaves for good"),
        ("while_on_treatment\n  until: []", "at least one entry is needed"),
        ("hypothetical\n  had_not: [leaving]", "'leaving' has no effect"),
    ],
)
def test_estimand_that_the_missingness_cannot_have_message(tmp_path: Path, estimand: str, said: str) -> None:
    [problem] = problems_of(folder_with_evidence(tmp_path), changed(("final_visit_difference", estimand)))
    assert said in problem.message and problem.field.startswith("estimand."), problem


def test_everyone_attends_in_a_model_without_attendance_message(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "scenarios" / "parallel_cluster.yaml").read_text(encoding="utf-8")
    old, new = "kind: final_visit_difference", "kind: hypothetical\n  had_not: [non_attendance]"
    [problem] = problems_of(tmp_path, changed((old, new), text=text))
    assert problem.field == "estimand.had_not.0" and "everyone attends" in problem.message
