"""A plain trial says what it needs and nothing else; what it leaves out or says twice is told at its place."""

import pytest
from mistakes import SCENARIOS, changed, folder_with_evidence, line_of, problems_of
from mistakes import TEXT as CRM

from sim.scenario.load import COMMON, read_scenario
from sim.scenario.schema import EVERYONE

TEXT = (SCENARIOS / "parallel_cluster.yaml").read_text(encoding="utf-8")
GROUP = "  sd_training_group: {value: 0.2 SD, low: 0 SD, high: 0.4 SD, basis: assumption, source: x}\n"
ZERO = "{value: 0 SD, low: 0 SD, high: 0 SD, basis: assumption, source: x}"
INDIVIDUALS = """\
  people:
    kind: individual
    label: 200 people
    arms: {control: {format: none}, treated: {format: programme}}
    contrast: treated - control
    districts: 1
    participants_per_district: 200
    start: 2027-01-04
"""
WINDOW = """\
  windows:
    harvest: {first: 06-01, last: 07-31, peak_first: 06-10, peak_last: 06-20,
      peak_multiplier: {value: 2, low: 1, high: 4, basis: assumption, source: x}}
"""
EFFECT = "effect:                    # at the final visit; no seed study, so no `evidence`\n  score: 0.35 SD\n"


def problems(folder, *changes, text=TEXT):
    return [(p.field, p.message) for p in problems_of(folder_with_evidence(folder), changed(*changes, text=text))]


def test_what_a_plain_trial_leaves_out():
    scenario = read_scenario(SCENARIOS / "parallel_cluster.yaml")
    assert scenario.evidence is None
    assert (scenario.names.stratum, scenario.names.share, scenario.names.window) == ((EVERYONE,), (1.0,), ())
    assert scenario.names.outcome == ("score",)
    assert scenario.effect.tolist() == [0.35]


# (changes, field, what the message holds)
MISTAKES = {
    "no effect": ([(EFFECT, "")], "evidence", "is missing; without it, `effect` must name every outcome, and does not"),
    "no evidence in words": ([(EFFECT, "evidence:\n")], "evidence", "`effect` must name every outcome"),
    "misspelt effect": ([("  score: 0.35", "  scores: 0.35")], "effect.scores", "is no outcome; known: score. Did you"),
    "outcome without evidence": (
        [(EFFECT, "evidence: {file: evidence/habimana_2026.yaml}\n")],
        "model.outcome", "the evidence has no such outcome"),
    "re-enactment": (
        [(EFFECT, "evidence: {file: evidence/habimana_2026.yaml, prior: seed_study}\n"),
         ("outcome: score", "outcome: cohesion")],
        "evidence.prior", "repeats the seed study, which a model of kind 'nested' cannot"),
    "profile of no visit": ([("    three_months: {value: 100%", "    tree_months: {value: 100%")],
                            "model.effect_profile.tree_months", "is no visit between the baseline and the final one"),
    "no profile": ([("  effect_profile:          # share of the final effect that is there at the visits before\n"
                     '    three_months: {value: 100%, low: 50%, high: 150%, basis: assumption, '
                     'source: "an effect that lasts"}\n', "")],
                   "model.effect_profile.three_months", "an entry for every visit between the baseline and the final"),
    "change at some visits": ([("  sd_village:\n", f"  change: {{six_months: {ZERO}}}\n  sd_village:\n")],
                              "model.change.three_months", "is missing; an entry for every visit after the baseline"),
    "who left comes back": ([("value: 10%, low: 3%, high: 15%", "value: 25%, low: 3%, high: 30%")],
                            "missingness.loss.six_months.value", "found '20%' after '25%' by three_months"),
    "no residual": ([("value: 0.6856 SD, low: 0.55", "value: 0 SD, low: 0")], "model.sd_residual.value",
                    "must be above 0 SD"),
    "another model's key": ([("  sd_village:\n", "  cac: {}\n  sd_village:\n")], "model.cac", "unknown key; known: "),
    "no groups": ([("  sd_village:\n", f"{GROUP}  sd_village:\n"), ("designs:\n", f"designs:\n{INDIVIDUALS}")],
                  "designs.people.training_group_size",
                  "is missing; without training groups model.sd_training_group would have no effect"),
    "a flag in words": ([("common_random_numbers: true", "common_random_numbers: yes")], "common_random_numbers",
                        "true or false is needed"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_mistake_gives_one_message(tmp_path, mistake):
    changes, field, said = MISTAKES[mistake]
    [(found, message)] = problems(tmp_path, *changes)
    assert found == field
    assert said in message


def test_windows_need_no_shift_in_a_model_and_losses_that_have_none(tmp_path):
    assert problems(tmp_path, ("model:\n", f"{WINDOW}model:\n")) == []


def test_two_visits_need_no_profile(tmp_path):
    profile = TEXT[TEXT.index("  effect_profile:") : TEXT.index("  # The squares")]
    loss = TEXT[TEXT.index("    three_months: {value: 10%") : TEXT.index("    six_months: {value: 20%")]
    visit = "    three_months: {months_after_training: 3 months, spread: 7 days}\n"
    assert problems(tmp_path, (profile, ""), (loss, ""), (visit, "")) == []
    [(field, message)] = problems(tmp_path, (loss, ""), (visit, ""))
    assert field == "model.effect_profile.three_months"
    assert "is no visit between the baseline and the final one" in message


def test_individuals_without_groups_are_allowed_where_groups_do_not_differ(tmp_path):
    assert problems(tmp_path, ("designs:\n", f"designs:\n{INDIVIDUALS}")) == []


# ---- what the model of several outcomes still needs ---------------------------------------------------------------


def test_the_model_of_three_visits_says_so(tmp_path):
    loss = CRM[CRM.index("    post: {value: 2%") : CRM.index("    six_months:\n      {value: 8%")]
    visits = problems(tmp_path, ("    post: {after_training: 0 days}\n", ""), (loss, ""), text=CRM)
    assert visits == [("calendar.visits", "three visits are needed (baseline, after training, final), found 2")]


def test_strata_that_are_left_out_but_named_are_one_mistake(tmp_path):
    strata = CRM[CRM.index("strata:") : CRM.index("calendar:")]
    [(field, message)] = problems(tmp_path, (strata, ""), text=CRM)
    assert field == "strata"
    assert message == "is missing; model.baseline_difference names these: survivors, released_perpetrators"


def test_evidence_or_an_effect_for_every_outcome_message(tmp_path):
    evidence = CRM[CRM.index("evidence:") : CRM.index("strata:")]
    [(field, message)] = problems(tmp_path, (evidence, "effect: {cohesion: 0.2 SD}\n"), text=CRM)
    assert field == "evidence"
    assert message.endswith("and does not name compassion, forgiveness, resilience")


def test_a_trained_design_without_groups_beside_a_group_icc_is_told_at_the_design(tmp_path):
    text = changed(("    training_group_size: 15\n", ""), text=CRM)
    [problem] = problems_of(folder_with_evidence(tmp_path), text)
    assert problem.field == "designs.ind_1.training_group_size"
    assert "model.icc_training_group would have no effect" in problem.message
    assert problem.line == line_of("  ind_1:", text)


# ---- common random numbers ----------------------------------------------------------------------------------------


def test_designs_share_streams_with_common_random_numbers_only(tmp_path):
    path = tmp_path / "scenario.yaml"

    def read(flag):
        path.write_text(changed(("common_random_numbers: true", f"common_random_numbers: {flag}"), text=TEXT), "utf-8")
        return read_scenario(path)

    own, common = read("false"), read("true")
    assert [own.streams(d).design for d in own.file.designs] == ["villages_24", "villages_32"]
    assert [common.streams(d).design for d in common.file.designs] == [COMMON, COMMON]
    assert own.fingerprint != common.fingerprint
    line = TEXT[TEXT.index("common_random_numbers") : TEXT.index("\neffect:")]
    path.write_text(changed((line, ""), text=TEXT), "utf-8")
    assert read_scenario(path).fingerprint == own.fingerprint
