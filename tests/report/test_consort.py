"""The numbers that stand in the flow diagram, read back from the picture, add up and are those of flow.csv."""

import html
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from mistakes import SCENARIOS
from run_support import plain_trial, small_scenario

from sim.parts import DESIGNS
from sim.report.consort import consort_figure, said
from sim.run.flow import ALL, flow_table, sum_flow
from sim.run.job import run
from sim.run.local import Local
from sim.run.store import Store
from sim.scenario.load import read_scenario

NUMBER = r"<?([\d,]+\.?\d*)(?: \(([\d,]+) to ([\d,]+)\))?"


def run_of(scenario, folder):
    return run(scenario, Store(folder, scenario), Local(1), lambda done, total: None)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return run_of(small_scenario(replicates=40), tmp_path_factory.mktemp("consort"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    people = {"kind": "village", "districts": 1, "villages_per_district": 8, "village_size": {"mean": 10}}
    return run_of(plain_trial(people, replicates=20), tmp_path_factory.mktemp("plain"))


def written(result, design, folder):
    """Every text of the picture in the order of the boxes; the SVG keeps each as a comment beside its glyphs."""
    path = consort_figure(result, design, folder / "flow.svg")
    assert ElementTree.parse(path).getroot().tag.endswith("svg")
    return [html.unescape(text) for text in re.findall("<!-- (.*?) -->", path.read_text(encoding="utf-8"))]


def numbers(texts):
    """(words, mean, low, high) of each line with a number; low and high are the mean where there is no range."""
    found = []
    for words, number in pairwise(texts):
        if match := re.fullmatch(NUMBER, number):
            mean, low, high = (float(part.replace(",", "")) if part else None for part in match.groups())
            found.append((words, mean, mean if low is None else low, mean if high is None else high))
    return found


def means(texts, words):
    return [mean for said_words, mean, _, _ in numbers(texts) if said_words == words]


@pytest.mark.parametrize("design", ["ind_1", "vil_1"])
def test_numbers_in_the_picture_add_up(result, design, tmp_path):
    texts = written(result, design, tmp_path)
    (screened,), (ineligible,), (refused,) = (
        means(texts, words) for words in ("Screened", "not eligible", "declined to take part")
    )
    (randomised,) = means(texts, "Enrolled and randomised")
    assert screened == pytest.approx(ineligible + refused + randomised, abs=2)  # four numbers rounded to people
    allocated, seen, not_seen, analysed = (means(texts, w) for w in ("people", "seen", "not seen", "Analysed"))
    assert len(allocated) == len(seen) == len(analysed) == 2 and len(not_seen) == 4
    assert randomised == pytest.approx(sum(allocated), abs=1.5)
    np.testing.assert_allclose(np.add(seen, not_seen[:2]), allocated, atol=1.5)
    np.testing.assert_allclose(np.add(analysed, not_seen[2:]), allocated, atol=1.5)
    reasons = [means(texts, w) for w in ("missed visit", "death", "moving away", "village withdrawal", "window closed")]
    assert sum(map(sum, reasons)) == pytest.approx(sum(not_seen), abs=3)
    assert not any("_" in text for text in texts)


def test_strata_and_arms_add_up_box_by_box(result, tmp_path):
    lines = numbers(written(result, "ind_1", tmp_path))
    boxes = [(one, *lines[i + 1 : i + 3]) for i, one in enumerate(lines) if lines[i + 1 : i + 2]]
    split = [box for box in boxes if box[1][0] == "survivors"]
    assert len(split) == 4 + 2 * 3  # screened, ineligible, refused, enrolled; allocated, seen and analysed by arm
    for total, one, other in split:
        assert other[0] == "released perpetrators"
        assert total[1] == pytest.approx(one[1] + other[1], abs=1.5)
        assert one[2] + other[2] - 1 <= total[2] <= total[3] <= one[3] + other[3] + 1


def test_ranges_are_those_of_the_replicates_sums(result, tmp_path):
    row = result.flow.query("design == 'vil_1' and stage == 'seen' and arm == 'mixed' and visit == 'six_months'")
    total = row.set_index("stratum").loc[ALL]
    assert said(total["people"], total["low"], total["high"]) in written(result, "vil_1", tmp_path)


def test_villages_are_counted_by_arm_and_training_groups_where_people_are_randomised(result, tmp_path):
    villages = written(result, "vil_1", tmp_path)
    assert means(villages, "villages, the units randomised") == [12]
    assert [mean for words, mean, _, _ in numbers(villages) if words.startswith("villages, of")] == [6, 6]
    assert means(written(result, "ind_1", tmp_path), "training groups of those trained") == [8]


def test_plain_trial_starts_at_those_enrolled_and_has_no_strata(plain, tmp_path):
    texts = written(plain, "plain", tmp_path)
    assert "Screened" not in texts and "Excluded" not in texts and not any("Strata" in text for text in texts)
    assert means(texts, "Enrolled and randomised") == [80] and means(texts, "people") == [40, 40]
    seen, not_seen, analysed = (means(texts, words) for words in ("seen", "not seen", "Analysed"))
    np.testing.assert_allclose(np.add(seen + analysed, not_seen), 40, atol=1)
    assert "window closed" not in texts  # it never did
    assert "dropout" not in texts  # the only reason


def three_arms(result):
    """The same trial with a flow by hand: three arms of 10, 20 and 30, one stratum in two turned away."""
    scenario = small_scenario(replicates=40, designs=("ind_8_formats",))
    first, other = scenario.names.stratum
    columns = {"replicate": [0, 1]}
    for stage, n in (("screened", 100), ("ineligible", 20), ("refused", 10), ("enrolled", 70), ("turned_away", 10)):
        columns |= {f"{stage}|{ALL}|{first}": [n // 2] * 2, f"{stage}|{ALL}|{other}": [n - n // 2] * 2}
    for arm, n in (("control", 10), ("mixed", 20), ("separate", 30)):
        for stratum in (first, other):
            columns |= {f"allocated|{arm}|{stratum}": [n // 2] * 2, f"seen|{arm}|{stratum}|baseline": [n // 2] * 2}
            for visit in ("post", "six_months"):
                columns[f"seen|{arm}|{stratum}|{visit}"] = [n // 2 - 1, n // 2 - 3]
                columns[f"lost|{arm}|{stratum}|{visit}|missed_visit"] = [1, 1]
                columns[f"lost|{arm}|{stratum}|{visit}|death"] = [0, 2]
    designs = pd.DataFrame({"design": ["ind_8_formats"], "n_cluster": [6.0]})
    flow = flow_table("ind_8_formats", sum_flow([pd.DataFrame(columns)], 64))
    return replace(result, scenario=scenario, designs=designs, flow=flow)


def test_three_arms_and_those_turned_away_against_numbers_by_hand(result, tmp_path):
    texts = written(three_arms(result), "ind_8_formats", tmp_path)
    for words, expected in {
        "Screened": [100], "not eligible": [20], "declined to take part": [10], "Enrolled": [70], "Turned away": [10],
        "Randomised": [60], "people": [10, 20, 30], "seen": [6, 16, 26], "not seen": [4] * 6,
        "missed visit": [2] * 6, "death": [2] * 6, "Analysed": [6, 16, 26],
    }.items():  # fmt: skip
        assert means(texts, words) == expected, words
    assert texts.count("6.0 (4 to 8)") == 2  # middle 80% of 4 and 8 by interpolation: 4.4 to 7.6
    assert "wait-list: trained after the last visit" in texts


def test_trial_without_a_control_is_not_randomised(tmp_path):
    scenario = read_scenario(SCENARIOS / "habimana_2026_reenacted.yaml").with_changes(replicates=8)
    plan = DESIGNS.discover()["single_arm"]
    alone = scenario.file.model_copy(update={"designs": {"alone": plan.model_validate(plan.example)}})
    for one, arms in ((scenario, [51, 51, 50]), (replace(scenario, file=alone), [30])):
        (design,) = one.file.designs
        texts = written(run_of(one, tmp_path / design), design, tmp_path)
        assert means(texts, "people") == arms and "Mixed" in texts
        assert means(texts, "Enrolled and in the trial") == [sum(arms)]
        assert not any("andomised" in text or "llocat" in text for text in texts[:-3])  # before the footnote
        survivors, others = means(texts, "survivors"), means(texts, "released perpetrators")
        assert survivors[0] + others[0] == sum(arms)


def test_same_bytes_each_time(result, tmp_path):
    first, again = (consort_figure(result, "vil_1", tmp_path / f"{i}.svg").read_bytes() for i in range(2))
    assert first == again


@pytest.mark.parametrize(("people", "low", "high", "words"), [
    (237.6, 231, 245, "238 (231 to 245)"), (160, 160, 160, "160"), (0, 0, 0, "0"), (1.0, 0, 2, "1.0 (0 to 2)"),
    (0.02, 0, 0, "<0.1"), (0.05, 0, 0, "0.1 (0 to 0)"), (9.96, 8, 12, "10 (8 to 12)"),
    (1404.9, 1372, 1436, "1,405 (1,372 to 1,436)"),
])  # fmt: skip
def test_people_are_said_with_their_range(people, low, high, words):
    assert said(people, low, high) == words
