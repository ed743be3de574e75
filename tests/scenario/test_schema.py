"""The JSON Schema that editors use: up to date, and it accepts what the simulator accepts."""

import json
import re
from pathlib import Path

import pytest
from mistakes import SCENARIOS, TEXT, changed, folder_with_evidence, problems_of

from sim.scenario.contradictions import contradictions
from sim.scenario.document import Document
from sim.scenario.schema import json_schema

FILE = SCENARIOS / "scenario.schema.json"
SCHEMA = json_schema()
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}


def errors(node, schema, at=""):
    """What a validator of the keywords that the schema uses would say."""
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]]
    for word in ("oneOf", "anyOf"):
        if word in schema and not any(not list(errors(node, one)) for one in schema[word]):
            yield f"{at}: none of {word}"
    if "type" in schema and schema["type"] != "null":
        right = isinstance(node, TYPES[schema["type"]]) and (schema["type"] == "boolean" or not isinstance(node, bool))
        if not right:
            yield f"{at}: not {schema['type']}"
            return
    elif schema.get("type") == "null" and node is not None:
        yield f"{at}: not null"
    if "const" in schema and node != schema["const"]:
        yield f"{at}: not {schema['const']}"
    if "enum" in schema and node not in schema["enum"]:
        yield f"{at}: not in {schema['enum']}"
    if "pattern" in schema and not re.search(schema["pattern"], node):
        yield f"{at}: not {schema['pattern']}"
    if isinstance(node, (int, float)):
        if not schema.get("minimum", node) <= node <= schema.get("maximum", node):
            yield f"{at}: out of range"
        if not schema.get("exclusiveMinimum", node - 1) < node < schema.get("exclusiveMaximum", node + 1):
            yield f"{at}: out of range"
    if isinstance(node, dict):
        yield from (f"{at}: no {key}" for key in schema.get("required", ()) if key not in node)
        for key, value in node.items():
            below = schema.get("properties", {}).get(key)
            for pattern, one in schema.get("patternProperties", {}).items():
                below = one if re.search(pattern, key) else below
            if below is not None:
                yield from errors(value, below, f"{at}.{key}")
            elif schema.get("additionalProperties") is False:
                yield f"{at}: unknown {key}"


def test_committed_file_is_up_to_date():
    text = json.dumps(SCHEMA, indent=2, ensure_ascii=False) + "\n"
    assert FILE.read_text(encoding="utf-8") == text, (
        "write the file again: json.dumps(sim.scenario.schema.json_schema(), indent=2, ensure_ascii=False) + '\\n'"
    )


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_scenarios_fit_and_point_to_it(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# yaml-language-server: $schema={FILE.name}\n")
    assert list(errors(Document(path, text).content, SCHEMA)) == []


@pytest.mark.parametrize(
    "old, new",
    [
        ("value: 90%", "value: 0.9"), ("0.15 SD", "0.15"), ("6 months", "6"), ("seed: 20260407", "sed: 1"),
        ("kind: village", "kind: vilage"), ("  ind_1:", "  ../x:"), ("value: 0.02", "value: 1.2"),
        ("start: 2027-07-05", "start: 5 July"), ("replicates: 2000", "replicates: 0"), ("alpha: 0.05", "alpha: 0.5"),
    ],
)  # fmt: skip
def test_mistakes_do_not_fit(old, new):
    assert list(errors(Document(Path("s.yaml"), changed((old, new))).content, SCHEMA))


def test_quantities_are_text_with_a_pattern():
    share = SCHEMA["properties"]["strata"]["patternProperties"]
    [quantity] = share.values()
    assert quantity["type"] == "string"
    assert re.search(quantity["pattern"], "12.5%")
    assert not re.search(quantity["pattern"], "12.5")


def test_names_and_definitions_are_free_of_internals():
    text = json.dumps(SCHEMA)
    assert not any(word in text for word in ("Annotated", "BeforeValidator", "FieldInfo", " at 0x", '"ge"', '"lt"'))


def test_cross_checks_pass_over_what_is_broken():
    assert list(contradictions(Document(Path("s.yaml"), TEXT).content)) == []
    for broken in ({}, {"strata": 5}, {"designs": {"a": []}, "model": {"format_effect": {"x": 1}}}, [], None):
        for problem in contradictions(broken):
            assert problem.location and problem.message


CALENDAR = "  recruitment_per_district: 40 per week\n"
BY_STRATUM = """\
  recruitment:
    survivors:
      screened: 60 per week
      eligible: {value: 80%, low: 60%, high: 95%, basis: assumption, source: x}
      consent: {value: 85%, low: 60%, high: 95%, basis: assumption, source: x}
"""


@pytest.mark.parametrize(
    "new, field, said",
    [
        (CALENDAR + "  waves: {districts: 8, every: 4 weeks}\n", "calendar.waves", "no design has more than 8"),
        (CALENDAR + "  group_deadline: 8 weeks\n  smallest_group: 12\n", "designs.ind_8_formats.training_group_size",
         "found 10; calendar.smallest_group is 12: none of these groups would be trained"),
        (BY_STRATUM, "calendar.recruitment.released_perpetrators", "an entry for every stratum is needed"),
        (BY_STRATUM + "".join(BY_STRATUM.partition("\n")[2].replace("survivors", s) for s in ("released_perpetrators",
         "soldiers")),
         "calendar.recruitment.soldiers", "is no stratum of this scenario"),
        (CALENDAR + "  community_work: last saturday of the month\n", "calendar.community_work", "Saturday is no work"),
        (CALENDAR + "  public_holidays: ZZ\n", "calendar.public_holidays", "found 'ZZ'; the public holidays of this"),
        (CALENDAR + "  facilitator_team: 3\n", "calendar.facilitator_team", "unknown key"),
    ],
)  # fmt: skip
def test_calendar_against_designs_and_strata_message(new, field, said, tmp_path):
    folder_with_evidence(tmp_path)
    problems = problems_of(tmp_path, changed((CALENDAR, new)))
    assert [(p.field, p.line > 0) for p in problems] == [(field, True)]
    assert said in problems[0].message


def test_calendar_keys_without_an_effect_on_any_design_message():
    content = Document(Path("s.yaml"), TEXT).content
    content["designs"] = {"one": {**content["designs"]["ind_1"], "arms": {"mixed": {"format": "mixed"}}}}
    del content["designs"]["one"]["training_group_size"]
    content["model"]["icc_training_group"]["value"] = 0
    del content["model"]["format_effect"]["separate"]
    content["calendar"] |= {"travel": "2 days", "wait_list_trained": True, "group_deadline": "8 weeks"}
    content["calendar"] |= {"waves": {"districts": 1, "every": "4 weeks"}}
    found = {".".join(c.location): c.message for c in contradictions(content)}
    assert found == {
        "calendar.waves": "has no effect: no design has more than 1 district",
        "calendar.travel": "has no effect: no design has more than one district",
        "calendar.wait_list_trained": "has no effect: no design has an arm with format 'none'",
        "calendar.group_deadline": "has no effect: everyone is trained alone (no design has a training_group_size)",
    }


COSTS = """\
costs:
  currency: USD
  year: 2027
  per_district: {value: 10, low: 1, high: 20, basis: assumption, source: x}
"""
PRICE = "{value: 10, low: 1, high: 20, basis: assumption, source: x}"


def test_costs_are_accepted(tmp_path):
    folder_with_evidence(tmp_path)
    text = TEXT + COSTS + f"  per_facilitator_team: {PRICE}\n  per_village: {PRICE}\n"
    assert problems_of(tmp_path, text) == []
    assert list(errors(Document(Path("s.yaml"), text).content, SCHEMA)) == []


@pytest.mark.parametrize(
    "costs, field, said",
    [
        (COSTS.replace("USD", "dollars"), "costs.currency", "the three capital letters of a currency"),
        (COSTS.replace("2027", "27"), "costs.year", "1990"),
        (COSTS.replace("value: 10,", "value: 10 USD,"), "costs.per_district.value", "costs.currency says of what"),
        (COSTS.replace("low: 1,", "low: -1,"), "costs.per_district.low", "0"),
        (COSTS.replace("low: 1,", "low: 11,"), "costs.per_district.low", "within its own range"),
        (COSTS.partition("  per_")[0], "costs", "has no effect: it gives no unit cost; known: per_district"),
        (COSTS + f"  per_travel_day: {PRICE}\n", "costs.per_travel_day", "without calendar.travel"),
        (COSTS + f"  per_person: {PRICE}\n", "costs.per_person", "unknown key"),
    ],
)  # fmt: skip
def test_costs_message(costs, field, said, tmp_path):
    folder_with_evidence(tmp_path)
    problems = problems_of(tmp_path, TEXT + costs)
    assert [p.field for p in problems] == [field]
    assert said in problems[0].message and problems[0].line > 0


def test_unit_costs_of_what_no_design_has_message():
    content = Document(Path("s.yaml"), TEXT).content
    content["designs"] = {"one": content["designs"]["ind_1"]}
    del content["calendar"]["facilitator_teams"], content["model"]["format_effect"]["separate"]
    content["costs"] = {"per_village": {}, "per_facilitator_team": {}, "per_district": {}}
    found = {".".join(c.location): c.message for c in contradictions(content) if c.location[0] == "costs"}
    assert found == {
        "costs.per_village": "has no effect: no design randomises villages",
        "costs.per_facilitator_team": "has no effect: without calendar.facilitator_teams nobody counts teams",
    }
