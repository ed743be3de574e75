"""Evidence for what a run shows: numbers of the summary in the tables, pictures on disk, JSON without NaN."""

import json
import xml.etree.ElementTree as ElementTree
from io import StringIO

import pytest
from rich.console import Console
from run_support import nested_trial, plain_trial, small_scenario

from sim.report.calendar import calendar_frame
from sim.report.figures import power_figure
from sim.report.tables import _short, designs_json, headline_measure, run_tables
from sim.run.blocks import realise
from sim.run.job import run
from sim.run.local import Local
from sim.run.store import Store


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    scenario = small_scenario(replicates=40)
    store = Store(tmp_path_factory.mktemp("report"), scenario)
    return run(scenario, store, Local(1), lambda done, total: None)


def printed(result):
    console = Console(width=120, file=StringIO())
    console.print(run_tables(result))
    return console.file.getvalue()


def test_tables_show_power_of_the_summary(result):
    text = printed(result)
    measure = headline_measure(result)
    assert measure == "power_net_of_demand"
    rows = result.summary.query("measure == @measure and analysis == 'mixed_ancova' and outcome == 'cohesion'")
    for row in rows.itertuples():
        assert f"{row.estimate:.2f} ±{row.mcse:.3f}".replace("±0", "±") in text
    for word in ("ind_1", "vil_1", "holm", "type I", "12 villages", "2027-07", "any", "all"):
        assert word in text


def test_tables_fit_their_width(result):
    assert max(len(line) for line in printed(result).splitlines()) <= 120


def test_json_has_no_gaps(result):
    text = json.dumps(designs_json(result), allow_nan=False)
    content = json.loads(text)
    assert {d["design"] for d in content["designs"]} == {"ind_1", "vil_1"}
    assert any(row["measure"] == "power" for row in content["summary"])


def test_power_figure_is_written_as_svg_and_png(result, tmp_path):
    path = power_figure(result, tmp_path)
    root = ElementTree.parse(path).getroot()
    assert root.tag.endswith("svg")
    assert (tmp_path / "power.png").stat().st_size > 10_000
    again = tmp_path / "again"
    assert power_figure(result, again).read_bytes() == path.read_bytes()


def test_calendar_frame_counts_everyone_once():
    scenario = small_scenario()
    for design in ("ind_1", "vil_1"):
        frame = calendar_frame(scenario, design, 3)
        allocation = realise(scenario, design, 3).allocation
        assert frame["trained"].sum() == allocation.is_trained.sum()
        assert frame["untreated_on_its_clock"].sum() == (~allocation.is_trained).sum()
        assert frame["training_start"].is_monotonic_increasing
        inside = realise(scenario, design, 3).schedule.inside[0, :, -1].sum()
        people = frame["trained"] + frame["untreated_on_its_clock"]
        assert (frame["six_months_in_commemoration"] * people).sum() == pytest.approx(inside)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    people = {"kind": "individual", "districts": 1, "participants_per_district": 60}
    scenario = plain_trial(people, replicates=20)
    store = Store(tmp_path_factory.mktemp("plain"), scenario)
    return run(scenario, store, Local(1), lambda done, total: None)


def test_tables_of_a_plain_trial_say_nothing_of_what_it_has_not(plain, tmp_path):
    text = printed(plain)
    for word in ("│ plain", "score", "type I", "none", "+0.350"):
        assert word in text
    for word in ("any", "windows themselves", "adjusting", "demand:"):
        assert word not in text
    assert max(len(line) for line in text.splitlines()) <= 120
    assert "window" not in power_figure(plain, tmp_path).read_text(encoding="utf-8")
    json.dumps(designs_json(plain), allow_nan=False)


def test_calendar_frame_of_people_trained_one_by_one_has_a_row_for_each(plain):
    frame = calendar_frame(plain.scenario, "plain", 0)
    assert len(frame) == 60
    assert (frame["trained"] + frame["untreated_on_its_clock"] == 1).all()
    assert frame["trained"].sum() == (frame["arm"] == "treated").sum() == 30


VILLAGES = {"kind": "village", "districts": 1, "villages_per_district": 8, "village_size": {"mean": 8}}


def table_of(tmp_path, analysis, **changes):
    analyses = {"lmm": {"kind": "lmm", "baseline": "constrained"}, "wrong": {"kind": "ancova"}}
    primary = {"primary_analysis": analysis, "estimator": "conditional"} | changes
    scenario = nested_trial(VILLAGES, analyses=analyses, replicates=64, calendars=1, **primary)
    result = run(scenario, Store(tmp_path, scenario), Local(1), lambda done, total: None)
    return result, " ".join(printed(result).split())


@pytest.mark.parametrize(("slope", "is_approximate"), [(0.0, False), (-0.4, True)])
def test_tables_name_the_conditional_estimator_and_what_it_gains(tmp_path, slope, is_approximate):
    result, text = table_of(tmp_path, "lmm", slope=slope)
    kept = result.summary.query("analysis == 'lmm' and truth == 'alternative' and outcome == 'score'")
    kept = kept.set_index("measure")
    power, counted = kept.loc["power"], kept.loc["power_counted"]
    ratio = kept.loc["variance_reduction", "estimate"]
    named = "mean conditional rejection probability" + (", approximate" if is_approximate else "")
    assert f"Estimator: {named}; variance of power {ratio:.0f} times below that of counting" in text
    assert ("Approximate: it leaves out" in text) == is_approximate
    assert "each counted rate" in text
    assert f"{power['estimate']:.2f} ±{power['mcse']:.3f}".replace("±0", "±") in text
    assert power["mcse"] < counted["mcse"]
    assert "type_1_error_counted" in set(result.summary["measure"])


def test_tables_say_that_adjusted_power_is_counted(tmp_path):
    assert "Adjusted and family measures are counted." in table_of(tmp_path, "lmm", multiplicity="holm")[1]


def test_tables_say_when_nothing_could_be_conditional(tmp_path):
    assert "Estimator: counted rejections; `run --explain` says why" in table_of(tmp_path, "wrong")[1]


def test_tables_of_counted_power_do_not_speak_of_estimators(plain):
    text = printed(plain)
    assert "Estimator" not in text and "counted rate" not in text


@pytest.mark.parametrize(("mcse", "shown"), [(0.0, ".000"), (0.0004, ".0004"), (0.0123, ".012"), (1.234, "1.23")])
def test_error_that_is_not_zero_is_not_shown_as_zero(mcse, shown):
    assert _short(mcse) == shown
