"""The optional parts of the score model in a scenario: accepted, and told where they contradict its other sections."""

import pytest
from mistakes import TEXT, changed, folder_with_evidence, line_of, problems_of

from sim.scenario.load import read_scenario

ATTENDANCE = TEXT[TEXT.index("  attendance:") : TEXT.index("  contamination:")]


def assumed(value):
    return f"{{value: {value}, low: {value}, high: {value}, basis: assumption, source: x}}"


BY_DAY = f"""\
  attendance_per_day: {assumed("93%")}
  attendance_correlation: {assumed(0.5)}
  gain_by_days:
    1: {assumed("40%")}
    2: {assumed("100%")}
    3: {assumed("100%")}
"""
MORE = f"""\
  contamination_between_villages: {assumed("2%")}
  window_buffering: {assumed("20%")}
  icc_facilitator: {assumed(0.03)}
  errors: {{kind: skewed, skewness: {assumed(-0.8)}}}
  null: weak
"""
SCALE = f"""\
      reliability: {assumed(0.8)}
      reliability_planned: {assumed(0.85)}
      response: {{kind: sum_of_items, items: 5, lowest: 1, highest: 7, mean: 20.8 points, sd: 5 points}}
"""
FULL = changed(
    (ATTENDANCE, BY_DAY),
    ("    compassion:\n", f"    compassion:\n{SCALE}"),
    ("missingness:\n", f"{MORE}\nmissingness:\n"),
)


def problems(folder, *changes):
    return [(p.field, p.message) for p in problems_of(folder_with_evidence(folder), changed(*changes, text=FULL))]


def test_everything_at_once_is_accepted(tmp_path):
    path = folder_with_evidence(tmp_path) / "scenario.yaml"
    path.write_text(FULL, "utf-8")
    model = read_scenario(path).file.model
    assert model.null == "weak" and model.errors.skewness.value == -0.8
    assert model.points() == {"compassion": (20.8, 5.0)}
    assert model.gain_by_days["1"].value == pytest.approx(0.4)


def test_facilitators_without_teams_are_told_at_the_calendar(tmp_path):
    [(field, message)] = problems(tmp_path, ("  facilitator_teams: 6\n", ""))
    assert field == "calendar.facilitator_teams"
    assert message == "is missing; where teams are not counted, model.icc_facilitator has no effect"


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ((f"    3: {assumed('100%')}\n", ""), "model.gain_by_days.3", "an entry for every number of training days"),
        (("training_days: 3 days", "training_days: 2 days"), "model.gain_by_days.3", "is no number of training days"),
        ((f"    2: {assumed('100%')}\n", ""), "model.gain_by_days", "none left out"),
        (("high: 0.5, basis: assumption, source: x}\n  gain", "high: 0.5, basis: assumption}\n  gain"),
         "model.attendance_correlation.source", "is missing"),
    ],
)  # fmt: skip
def test_days_that_the_training_does_not_have_message(tmp_path, change, field, message):
    [(found, said)] = problems(tmp_path, change)
    assert found == field and message in said


def test_contamination_between_villages_that_no_design_has(tmp_path):
    start, end = FULL.index("  # Villages randomised"), FULL.index("\nanalyses:")
    text = FULL[:start] + FULL[end:]
    [problem] = problems_of(folder_with_evidence(tmp_path), text)
    assert problem.field == "model.contamination_between_villages"
    assert problem.message == "has no effect: no design randomises villages"
    assert problem.line == line_of("  contamination_between_villages", text)


def test_both_forms_of_attendance_and_neither(tmp_path):
    [(field, message)] = problems(tmp_path, (BY_DAY, BY_DAY + ATTENDANCE))
    assert field == "model.attendance_per_day" and "not both" in message
    [(field, message)] = problems(tmp_path, (BY_DAY, ""))
    assert field == "model.attendance" and "day by day" in message
