"""Evidence report: legible at 100 columns, complete, and plain JSON."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sim.report.evidence import evidence_json, evidence_tables
from sim.scenario.evidence import PRIORS, read_evidence
from sim.scenario.seed_study import planning_effects

PATH = Path(__file__).parents[2] / "scenarios" / "evidence" / "habimana_2026.yaml"
EVIDENCE = read_evidence(PATH)


def text_of(reading="a", skip=(), evidence=EVIDENCE, width=100):
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    for part in evidence_tables(evidence, reading, skip):
        console.print(part)
    return console.file.getvalue()


@pytest.mark.parametrize("reading, skip", [("a", ()), ("b", ()), ("b", ("retention", "pre_post_correlation"))])
def test_fits_100_columns(reading, skip):
    lines = text_of(reading, skip).splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in "".join(lines)


def test_shows_study_consistency_sizes_priors_and_notes():
    text = " ".join(text_of().split())
    for said in (
        "152: 51 survivors only",
        "144 to 148, 146 used",
        "needs one numerator df",
        "0.949 0.752 to 1.144 0.820 0.864",
        "b step and hold 1.163",
        "discounted 0.60 [0.45, 0.75] 0.26 [0.13, 0.39]",
        "not applied: F is already the last visit minus baseline",
        "without an untreated arm is not the effect of a treatment",
        "cohesion: no pooled effect of controlled trials",
        "resilience: after the discounts the interval reaches below zero (-0.06 SD)",
        "doi:10.1016/j.beth.2017.06.003",
    ):
        assert said in text


def test_steps_stand_in_the_order_they_are_taken():
    lines = [line.strip() for line in text_of("b").splitlines()]
    wanted = [
        "F as printed",
        "dz at visit 2",
        "dz at the last visit",
        "60%, low",
        "raw SD",
        "× retention",
        "- untreated",
        "× pilot",
        "planning effect, SD",
    ]
    first = [next(i for i, line in enumerate(lines) if line.startswith(label)) for label in wanted]
    assert first == sorted(first)


def test_skip_reaches_every_prior_that_uses_it():
    skipped = evidence_json(EVIDENCE, "a", {"pre_post_correlation", "untreated_change"})["planning_effects"]
    assert skipped["observed"]["cohesion"]["value"] == pytest.approx(0.498, abs=5e-4)
    assert skipped["discounted"]["cohesion"]["value"] == pytest.approx(0.75 * 0.4979, abs=1e-4)
    assert skipped["compromise"]["cohesion"]["value"] == 0.25


@pytest.mark.parametrize("reading", ["a", "b"])
def test_json_is_plain_and_agrees_with_planning_effects(reading):
    content = evidence_json(EVIDENCE, reading)
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    for prior in PRIORS:
        for name, effect in planning_effects(EVIDENCE, prior, reading).items():
            assert content["planning_effects"][prior][name]["value"] == effect.value
    assert content["planning_effects"]["literature"]["cohesion"]["value"] is None
    assert len(content["effect_sizes"]) == 4 * 4


@pytest.mark.parametrize("make", [evidence_tables, evidence_json])
def test_unknown_name_message(make):
    with pytest.raises(ValueError, match="'luck' is not a known discount"):
        make(EVIDENCE, "a", {"luck"})
    with pytest.raises(ValueError, match="'c' is not a known reading"):
        make(EVIDENCE, "c")


def test_square_brackets_in_a_file_are_shown():
    fact = EVIDENCE.study.facts[0].model_copy(update={"value": "seen [mixed only] there"})
    study = EVIDENCE.study.model_copy(update={"facts": (fact,)})
    assert "seen [mixed only] there" in text_of(evidence=EVIDENCE.model_copy(update={"study": study}))
