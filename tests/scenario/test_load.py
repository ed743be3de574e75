"""One mistake, one message: what is said, where, and about which field; several mistakes are told at once."""

import copy
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mistakes import SCENARIOS, TEXT, changed, folder_with_evidence, line_of, problems_of

from sim.errors import InvalidInput
from sim.scenario.document import Document
from sim.scenario.load import read_scenario

SIZE = "participants_per_district: 240"
VISITS = """\
    post: {after_training: 0 days}
    six_months: {months_after_training: 6 months, spread: 7 days}
"""
PEAK = "      peak_first: 04-07\n      peak_last: 04-13\n"
ICC = "{value: 0.02, low: 0.0,"
NAMES_ALLOWED = "is not allowed as a name; it must be lower-case letters, digits and _, a letter first, at most 40"
ONE_CLUSTER = "would have one village: with one cluster per arm the effect cannot be told from the village"
INTERNAL = (
    "Input should",
    "function-",
    "literal_error",
    "union_tag",
    "pydantic",
    "Traceback",
    "ctx",
    "BeforeValidator",
)

# (old text, new text, text in the line of the message, field, what the message holds)
MISTAKES = {
    "unknown key": ("seed: 2026", "sede: 2026", "sede:", "sede", "Did you mean 'seed'?"),
    "unknown key, deep": (
        "peak_first:", "peak_frist:", "peak_frist", "calendar.windows.commemoration.peak_frist",
        "known: first, half_life, last, peak_first, peak_last, peak_multiplier, rise. Did you mean 'peak_first'?",
    ),
    "unknown key, like nothing": ("seed: 2026", "colour: red\nseed: 2026", "colour", "colour", "unknown key; known: "),
    "SD without unit": (
        "value: 0.15 SD", "value: 0.25", "0.25, low: -0.05", "model.untreated_change.value",
        "found 0.25; write it with its unit, for example '0.25 SD'",
    ),
    "share without unit": (
        "value: 90%", "value: 15", "value: 15,", "model.attendance.value",
        "found 15; write it with its unit, for example '15%'",
    ),
    "months without unit": (
        "months_after_training: 6 months", "months_after_training: 6", "six_months:",
        "calendar.visits.six_months.months_after_training", "found 6; write it with its unit, for example '6 months'",
    ),
    "per cent in words": (
        "value: 8%", "value: 8 percent", "8 percent", "missingness.loss.six_months.value",
        "found '8 percent'; a percentage is needed, for example '15%'",
    ),
    "decimal comma": ("value: 0.15 SD", "value: '0,15 SD'", "0,15", "model.untreated_change.value", "not a comma"),
    "ICC of 1.2": (ICC, "{value: 1.2, low: 0.0,", "1.2,", "model.icc_district.value",
                   "found 1.2; it must be at least 0 and below 1"),
    "negative n": (SIZE, f"{SIZE[:-3]}-5", "-5", "designs.ind_1.participants_per_district",
                   "found -5; it must be at least 1 and at most 100,000"),
    "zero n": (SIZE, f"{SIZE[:-3]}0", "district: 0", "designs.ind_1.participants_per_district",
               "found 0; it must be at least 1"),
    "n in tenths": (SIZE, f"{SIZE[:-3]}12.5", "12.5", "designs.ind_1.participants_per_district",
                    "found 12.5; a whole number is needed"),
    "n as text": (SIZE, f'{SIZE[:-3]}"240"', '"240"', "designs.ind_1.participants_per_district",
                  'found "240"; a whole number is needed, without quotes'),
    "number as text": ("alpha: 0.05", "alpha: '0.05'", "alpha", "hypotheses.alpha",
                       "found '0.05'; a plain number without a unit is needed, without quotes"),
    "NaN": (ICC, "{value: .nan, low: 0.0,", ".nan", "model.icc_district.value",
            "found .nan; a finite number is needed"),
    "infinite": (ICC, "{value: -.inf, low: 0.0,", ".inf", "model.icc_district.value",
                 "found -.inf; a finite number is needed"),
    "1e308": ("mar_log_odds_per_sd: {value: 0.20", "mar_log_odds_per_sd: {value: 1e308", "1e308",
              "missingness.mar_log_odds_per_sd.value", "found 1e308; it must be between -1,000,000 and 1,000,000"),
    "1e308 SD": ("value: 0.15 SD", "value: 1e308 SD", "1e308", "model.untreated_change.value",
                 "found '1e308 SD'; it must be at least -10 SD and at most 10 SD"),
    "one cluster per arm": ("villages_per_district: 12", "villages_per_district: 2", "villages_per_district: 2",
                            "designs.vil_1.villages_per_district", ONE_CLUSTER),
    "one training group": (SIZE, f"{SIZE[:-3]}30", "training_group_size", "designs.ind_1.training_group_size",
                           "arm 'mixed' would be one training group"),
    "visits out of order": (VISITS, "".join(reversed(VISITS.splitlines(True))), "  visits:", "calendar.visits",
                            "visits out of order"),
    "peak before its window": (PEAK, PEAK.replace("04-07", "03-01"), "peak_first",
        "calendar.windows.commemoration.peak_first",
        "dates out of order: first 04-07, peak_first 03-01, peak_last 04-13 and last 07-04 must follow one another"),
    "peak after its window": (PEAK, PEAK.replace("04-13", "07-05"), "peak_last",
        "calendar.windows.commemoration.peak_last", "dates out of order"),
    "no such day": ("start: 2027-07-05", "start: 2027-02-30", "2027-02-30", "designs.ind_1.start",
                    "found '2027-02-30'; there is no such day: the last of that month is 28"),
    "no such month": ("start: 2027-07-05", "start: 2027-13-01", "2027-13-01", "designs.ind_1.start",
                      "there is no month 13"),
    "no such yearly day": ("last: 04-13}", "last: 02-30}", "02-30", "calendar.closed.commemoration_week.last",
                           "there is no such day"),
    "leap day": ("last: 04-13}", "last: 02-29}", "02-29", "calendar.closed.commemoration_week.last",
                 "29 February does not come every year"),
    "year 1800": ("start: 2027-07-05", "start: 1800-01-01", "1800", "designs.ind_1.start",
                  "found '1800-01-01'; the year must be at least 1990 and at most 2100"),
    "year 3000": ("start: 2027-07-05", "start: 3000-01-01", "3000", "designs.ind_1.start", "the year must be"),
    "a number as date": ("start: 2027-07-05", "start: 86400", "86400", "designs.ind_1.start",
                         "found 86400; a date YYYY-MM-DD is needed, for example '2027-07-05'"),
    "missing evidence file": ("habimana_2026.yaml", "habimana.yaml", "file:", "evidence.file", "does not exist"),
    "evidence is a folder": ("evidence/habimana_2026.yaml", "evidence", "file:", "evidence.file", "is a folder"),
    "unknown prior": ("prior: compromise", "prior: compromize", "compromize", "evidence.prior",
                      "seed_study. Did you mean 'compromise'?"),
    "no effect under the prior": ("prior: compromise", "prior: literature", "prior:", "evidence.prior",
                                  "prior 'literature' has no effect for 'cohesion': choose another prior or give it"),
    "outcome without evidence": ("    cohesion:", "    cohesionn:", "cohesionn", "model.outcomes.cohesionn",
                                 "the evidence has no such outcome; known: "),
    "unknown design": ("kind: individual", "kind: paralel_cluster", "paralel", "designs.ind_1.kind",
                       "found 'paralel_cluster'; known: individual, single_arm, village"),
    "misspelt design": ("kind: village", "kind: vilage", "vilage", "designs.vil_1.kind", "Did you mean 'village'?"),
    "misspelt analysis": ("kind: mixed_ancova", "kind: mixed_ancva", "ancva", "analyses.mixed_ancova.kind",
                          "Did you mean 'mixed_ancova'?"),
    "misspelt model": ("kind: gaussian", "kind: gausian", "gausian", "model.kind",
                       "found 'gausian'; known: gaussian, nested. Did you mean 'gaussian'?"),
    "no kind": ("    kind: individual\n", "", "  ind_1:", "designs.ind_1.kind",
                "is missing; known: individual, single_arm, village"),
    "missing key": ("    districts: 1\n", "", "  ind_1:", "designs.ind_1.districts", "is missing"),
    "missing key at the top": ("seed: 20260407\n", "", "# yaml", "seed", "is missing"),
    "duplicate key": ("seed: 20260407\n", "seed: 20260407\nseed: 5\n", "seed: 5", "seed",
                      "is there twice; it is first on line 8"),
    "anchor": ("calendars: 64", "calendars: &n 64", "&n", "calendars", "YAML anchors (&) are not allowed"),
    "alias": ("calendars: 64", "calendars: *n", "*n", "calendars", "YAML aliases (*) are not allowed"),
    "tag": ("calendars: 64", "calendars: !!python/object:os.system 64", "!!python", "calendars",
            "YAML tags are not allowed, found !!python/object:os.system"),
    "merge key": ("calendars: 64", "<<: {calendars: 64}\ncalendars: 64", "<<", "'<<'", "merge keys are not allowed"),
    "tab": ("  file: evi", "\tfile: evi", "\tfile", "evidence", "a tab is not allowed here; use spaces"),
    "folder in a name": ("  ind_1:", "  ../x:", "../x", "designs.'../x'", f"'../x' {NAMES_ALLOWED}"),
    "blank in a name": ("  ind_1:", "  ind 1:", "ind 1", "designs.ind 1", NAMES_ALLOWED),
    "slash in a name": ("  ind_1:", "  ind\u22151:", "ind\u22151", "designs.'ind\u22151'", NAMES_ALLOWED),
    "capital in a name": ("  ind_1:", "  Ind_1:", "Ind_1", "designs.Ind_1", NAMES_ALLOWED),
    "long name": ("  ind_1:", f"  {'a' * 300}:", "aaa", f"designs.'{'a' * 57}...'", NAMES_ALLOWED),
    "Windows name": ("  ind_1:", "  con:", "  con:", "designs.con", "'con' is not allowed as a name: no file may be"),
    "scenario name": ("name: crm_simple", "name: ../up", "../up", "name", f"'../up' {NAMES_ALLOWED}"),
    "strata below 100%": ("  survivors: 50%", "  survivors: 40%", "strata:", "strata",
                          "the shares add up to 90%; they must add up to 100%"),
    "empty stratum": ("  survivors: 50%", "  survivors: 0%", "survivors: 0%", "strata.survivors",
                      "found '0%'; it must be above 0% and at most 100%"),
    "misspelt stratum": ("    survivors: {value: 0 SD", "    survivor: {value: 0 SD", "survivor:",
                         "model.baseline_difference.survivor", "is no stratum of this scenario; known: survivors,"),
    "other stratum": ("      survivors: {value: 2.0", "      people: {value: 2.0", "people",
                      "missingness.window_odds_ratio.commemoration.people", "'survivors' is missing"),
    "low above value": ("0.15 SD, low: -0.05 SD", "0.15 SD, low: 0.30 SD", "0.30 SD", "model.untreated_change.low",
                        "within its own range: low 0.30 SD, value 0.15 SD, high 0.40 SD"),
    "high below value": ("value: 8%, low: 3%, high: 20%", "value: 8%, low: 3%, high: 7%", "high: 7%",
                         "missingness.loss.six_months.high", "low 3%, value 8%, high 7%"),
    "no covariance": ("{value: 0.30, low: 0.0, high: 0.6", "{value: -0.90, low: -0.95, high: 0.6", "    compassion:",
                      "model.outcomes.compassion", "leave no positive definite covariance"),
    "changes too alike": ("{value: 0.30, low: 0.10, high: 0.50", "{value: 0.95, low: 0.10, high: 0.97", "0.95,",
                          "model.correlation_changes.value", "cannot be had together with correlation_outcomes 0.35"),
    "unknown arm": ("contrast: mixed - control", "contrast: mixed - wait", "- wait", "designs.ind_1.contrast",
                    "'wait' is not an arm of this design; known: control, mixed"),
    "an arm with itself": ("contrast: mixed - control", "contrast: mixed - mixed", "- mixed", "designs.ind_1.contrast",
                           "found 'mixed - mixed'; it must name two different arms"),
    "one arm": ("contrast: mixed - control", "contrast: change", "contrast: change", "designs.ind_1.contrast",
                "found 'change'; two arms must be compared"),
    "format without effect": ("mixed: {format: mixed}", "mixed: {format: mixd}", "mixd",
                              "designs.ind_1.arms.mixed.format", "'mixd' has no entry under model.format_effect"),
    "no effect for a format": (
        "    mixed: {value: 0 SD, low: 0 SD, high: 0 SD, basis: assumption, source: \"reference format\"}\n", "",
        "  format_effect:", "model.format_effect.mixed", "is missing; 10 arms are trained in this format"),
    "effect without format": (
        "    separate:\n",
        "    online: {value: 0 SD, low: 0 SD, high: 0 SD, basis: assumption, source: x}\n    separate:\n",
        "online", "model.format_effect.online", "has no effect: no arm of any design is trained in this format"),
    "effect of no outcome": ("strata:", "effect: {courage: 0.2 SD}\nstrata:", "courage", "effect.courage",
                             "is no outcome; known: compassion"),
    "visit without loss": ("    post: {value: 2%", "    posd: {value: 2%", "posd", "missingness.loss.posd",
                           "is no visit after the baseline of this scenario"),
    "alpha 0": ("alpha: 0.05", "alpha: 0", "alpha", "hypotheses.alpha", "found 0; it must be above 0 and below 0.5"),
    "alpha 1": ("alpha: 0.05", "alpha: 1", "alpha", "hypotheses.alpha", "found 1; it must be above 0 and below 0.5"),
    "three sides": ("sides: 2", "sides: 3", "sides", "hypotheses.sides", "found 3; known: 1, 2"),
    "a Boolean for a number": ("sides: 2", "sides: true", "sides", "hypotheses.sides", "a whole number is needed"),
    "text for a Boolean": (f"{SIZE}\n", f"{SIZE}\n    stratified_allocation: no\n", "stratified",
                           "designs.ind_1.stratified_allocation", "found 'no'; true or false is needed"),
    "no replicates": ("replicates: 2000", "replicates: 0", "replicates", "replicates", "found 0; it must be"),
    "negative replicates": ("replicates: 2000", "replicates: -5", "replicates", "replicates", "found -5; it must be"),
    "no calendars": ("calendars: 64", "calendars: 0", "calendars", "calendars",
                     "found 0; it must be at least 1 and at most 10,000"),
    "unknown primary analysis": ("primary_analysis: mixed_ancova", "primary_analysis: mixd_ancova", "mixd",
                                 "hypotheses.primary_analysis", "Did you mean 'mixed_ancova'?"),
    "nothing": ("seed: 20260407", "seed:", "seed:", "seed", "found nothing; a whole number is needed"),
    "a mapping for a number": ("seed: 20260407", "seed: {a: 1}", "seed:", "seed", "found a mapping; a whole number"),
    "a number for text": ("title: Next", "title: 12 # Next", "title", "title",
                          "found 12; text is needed: put it in quotes"),
    "a number for a mapping": ("  ind_1:\n", "  ind_0: 5\n  ind_1:\n", "ind_0", "designs.ind_0",
                               "found 5; a mapping of keys to values is needed"),
    "a mapping for a name": ("arms: {control: {format: none}", "arms: {control: {format: {}}", "{}",
                             "designs.ind_1.arms.control.format", "found a mapping; text is needed"),
    "a mapping for a choice": ("primary_analysis: mixed_ancova", "primary_analysis: {}", "{}",
                               "hypotheses.primary_analysis", "found a mapping; text is needed"),
    "no designs": ("designs:\n", "designs: {}\nnothing:\n", "designs: {}", "designs", "is empty; at least one entry"),
    "training too long": ("training_days: 3 days", "training_days: 2 weeks", "2 weeks", "calendar.training_days",
                          "found '2 weeks'; it must be at least 1 day and at most 5 days"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return folder_with_evidence(tmp_path_factory.mktemp("scenarios"))


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_scenarios_are_sound(path):
    assert read_scenario(path).name == path.stem


@pytest.mark.parametrize("mistake", [m for m in MISTAKES if m != "no designs"])
def test_one_mistake_gives_one_message(folder, mistake):
    old, new, at, field, said = MISTAKES[mistake]
    text = changed((old, new))
    began = time.perf_counter()
    problems = problems_of(folder, text)
    assert time.perf_counter() - began < 10  # no mistake makes it hang
    assert [problem.field for problem in problems] == [field]
    [problem] = problems
    assert said in problem.message
    place = text.index(new) if at in new else 0
    assert problem.line == line_of(at, text[place:]) + text[:place].count("\n")
    assert problem.column >= 1
    assert not any(word in str(problem) for word in INTERNAL)
    assert str(problem).startswith(f"{folder / 'scenario.yaml'}:{problem.line}:{problem.column} {field}: ")


def test_no_designs_message(folder):
    old, new, _, field, said = MISTAKES["no designs"]
    problems = problems_of(folder, changed((old, new)))
    assert any(p.field == field and said in p.message for p in problems)


def test_mistakes_in_all_sections_are_told_at_once(folder):
    kinds = [
        "unknown key", "SD without unit", "ICC of 1.2", "negative n", "peak after its window", "1e308",
        "missing evidence file", "misspelt design", "strata below 100%", "other stratum", "unknown primary analysis",
        "alpha 0", "no calendars", "duplicate key", "tag",
    ]  # fmt: skip
    kinds.remove("duplicate key")  # of the key that "unknown key" renames
    kinds.remove("no calendars")  # the value that "tag" is about
    problems = problems_of(folder, changed(*(MISTAKES[kind][:2] for kind in kinds)))
    assert sorted(p.field for p in problems) == sorted(MISTAKES[kind][3] for kind in kinds)
    assert [p.line for p in problems] == sorted(p.line for p in problems)


def test_mistakes_inside_one_design_are_told_at_once(folder):
    text = changed(
        ("contrast: mixed - control", "contrast: mixed - wait"),
        ("districts: 1\n", "distrcts: 1\n"),
        (SIZE, f"{SIZE[:-3]}3"),
    )
    assert [p.field.removeprefix("designs.ind_1.") for p in problems_of(folder, text)] == [
        "contrast", "distrcts", "participants_per_district",
    ]  # fmt: skip


def test_mistakes_in_the_evidence_file_are_told_with_those_of_the_scenario(tmp_path):
    folder = folder_with_evidence(tmp_path)
    evidence = folder / "evidence" / "habimana_2026.yaml"
    evidence.write_text(evidence.read_text(encoding="utf-8").replace("sureness: A", "sureness: E", 1), encoding="utf-8")
    problems = problems_of(folder, changed(("seed: 20260407", "seed: -1")))
    assert [(Path(p.file).name, p.field) for p in problems] == [
        ("habimana_2026.yaml", "study.sample.sureness"), ("scenario.yaml", "seed"),
    ]  # fmt: skip
    assert "found 'E'; known: A, B, C, D" in problems[0].message


def test_a_peak_over_the_new_year_is_allowed(folder):
    text = changed(
        ("      first: 04-07\n      last: 07-04\n", "      first: 12-01\n      last: 02-28\n"),
        (PEAK, PEAK.replace("04-07", "12-24").replace("04-13", "01-06")),
    )
    assert problems_of(folder, text) == []


def test_effects_typed_in_need_no_prior(folder):
    text = changed(("prior: compromise", "prior: literature"), ("strata:", "effect: {cohesion: 0.2 SD}\nstrata:"))
    assert problems_of(folder, text) == []


def test_an_analysis_of_arms_needs_a_control_message(tmp_path):
    folder = folder_with_evidence(tmp_path)
    text = (SCENARIOS / "habimana_2026_reenacted.yaml").read_text(encoding="utf-8")
    text = changed(("analyses:\n", "analyses:\n  ancova: {kind: ancova}\n"), text=text)
    [problem] = problems_of(folder, text)
    assert problem.field == "analyses.ancova"
    assert problem.message == "needs a control arm, which these designs do not have: seed_study"


def test_a_stratum_of_an_arm_must_exist_message(tmp_path):
    folder = folder_with_evidence(tmp_path)
    text = (SCENARIOS / "habimana_2026_reenacted.yaml").read_text(encoding="utf-8")
    [problem] = problems_of(folder, changed(("stratum: survivors}", "stratum: survivor}"), text=text))
    assert problem.field == "designs.seed_study.arms.survivors_only.stratum"
    assert problem.message.endswith("Did you mean 'survivors'?")


@pytest.mark.parametrize(
    "name, said", [("nothing.yaml", "does not exist"), (".", "is a folder, not a file"), ("a" * 300, "cannot be read")]
)
def test_no_file_message(tmp_path, name, said):
    with pytest.raises(InvalidInput, match=said):
        read_scenario(tmp_path / name)


def test_no_file_names_the_nearest_message():
    with pytest.raises(InvalidInput, match=r"crm_rwnda\.yaml does not exist\. Did you mean .*crm_rwanda\.yaml\?"):
        read_scenario(SCENARIOS / "crm_rwnda.yaml")


def test_fingerprint_ignores_comments_title_and_replicates(folder):
    def fingerprint(*changes):
        path = folder / "same.yaml"
        path.write_text(changed(*changes), encoding="utf-8")
        return read_scenario(path).fingerprint

    same = fingerprint()
    assert fingerprint(("# nobody is trained", "# closed"), ("title: Next", "title: A"), ("2000", "10")) == same
    assert fingerprint(("seed: 20260407", "seed: 1")) != same


# ---- mistakes at random -------------------------------------------------------------------------------------------

CONTENT = Document(Path("s.yaml"), TEXT).content
JUNK = st.sampled_from(
    [None, True, False, 0, -1, 7, 12.5, 1e308, -1e308, 10**30, float("nan"), float("inf"), "", "x", "12", "5%",
     "-3 SD", "9 months", "none", "change", "mixed - mixed", "2027-02-30", "99-99", "../x", "a" * 300, "\u2215", [],
     [1, [2]], {}, {"a": 1}, {"kind": "lmm"}, {"value": 1}]
)  # fmt: skip


def _places(node, at=()):
    """Every key and every item of a tree."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from _places(value, (*at, key))


TWICE = "_twice"
PLACES = sorted(_places(CONTENT), key=str)


def _mutated(content, place, how, junk):
    *above, key = place
    node = content
    for part in above:
        if not isinstance(node, (dict, list)) or (isinstance(node, dict) and part not in node):
            return
        node = node[part]
    if not isinstance(node, dict) or key not in node:
        return
    if how == "delete":
        del node[key]
    elif how == "rename":
        items = [(f"{k}x" if k == key else k, v) for k, v in node.items()]
        node.clear()
        node.update(items)
    elif how == "replace":
        node[key] = copy.deepcopy(junk)
    elif how == "duplicate":
        node[f"{key}{TWICE}"] = node[key]


def _lines(node, indent=""):
    """A mapping as YAML in block style; text that may stand without quotes has none."""
    for key, value in node.items():
        key = key.removesuffix(TWICE)
        if isinstance(value, dict) and value:
            yield f"{indent}{key}:"
            yield from _lines(value, f"{indent}  ")
        elif isinstance(value, str) and re.fullmatch(r"[\w.][\w%. -]*", value):
            yield f"{indent}{key}: {value}"
        else:
            yield f"{indent}{key}: {json.dumps(value).replace('NaN', '.nan').replace('Infinity', '.inf')}"


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from(PLACES), st.sampled_from(["delete", "rename", "replace", "duplicate"]), JUNK),
        min_size=1, max_size=3,
    )
)  # fmt: skip
def test_random_mistakes_are_told_with_line_and_field(folder, mutations):
    content = copy.deepcopy(CONTENT)
    for place, how, junk in mutations:
        _mutated(content, place, how, junk)
    text = "\n".join(_lines(content))
    began = time.perf_counter()
    problems = problems_of(folder, text)
    assert time.perf_counter() - began < 10  # no mistake makes it hang
    for problem in problems:
        assert problem.line > 0
        assert problem.field
        assert problem.message
        assert not any(word in problem.message for word in INTERNAL)
