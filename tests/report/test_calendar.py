from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from field import FULL, full_plan
from mistakes import SIMPLE
from rich.console import Console

from sim.report.calendar import (
    calendar_frame,
    calendar_json,
    calendar_tables,
    field_work,
    people_frame,
    visits_frame,
)
from sim.report.gantt import SUFFIXES, gantt
from sim.run.blocks import realise
from sim.scenario.load import Scenario, read_scenario


def with_calendar(*without: str, **changes: Any) -> Scenario:
    scenario = read_scenario(SIMPLE)
    plan = full_plan(*without, **changes)
    return replace(scenario, file=scenario.file.model_copy(update={"calendar": plan}))


@pytest.fixture(scope="module")
def full() -> Scenario:
    return with_calendar(interviewers={"number": 12, "per_day": 4})


@pytest.mark.parametrize("design", ["ind_4", "ind_8_formats", "vil_4"])
def test_frames_add_up(full: Scenario, design: str) -> None:
    r = realise(full, design, 1)
    groups, people, visits = calendar_frame(full, design, 1), people_frame(full, r), visits_frame(full, r)
    n = r.allocation.n_participant
    assert groups["trained"].sum() + groups["untreated_on_its_clock"].sum() == n == people["in_trial"].sum()
    assert (people["screened"] == people["ineligible"] + people["refused"] + people["enrolled"]).all()
    assert (people["enrolled"] == people["turned_away"] + people["in_trial"]).all()
    assert (visits["participants"] == visits["held"] + visits["window_closed"]).all()
    assert visits["held"].sum() == r.schedule.is_held.sum() == field_work(r)["interviews"]
    assert groups["training_start"].is_monotonic_increasing
    assert ((groups["first_recruit"] <= groups["complete"]) & (groups["complete"] <= groups["training_start"])).all()
    assert (groups["six_months_last"] < "2030").all() and (groups["wait_list_start"] > groups["six_months_first"]).all()
    assert set(groups["team"]) <= {"1", "2", "3"}
    assert groups["six_months_in_commemoration"].between(0, 1).all()


def test_shares_of_a_group_are_those_of_its_people(full: Scenario) -> None:
    r = realise(full, "ind_4", 2)
    row = calendar_frame(full, "ind_4", 2).set_index("training_group")
    for group in range(len(r.allocation.group_district)):
        mine = r.allocation.clock == group
        assert row.loc[group, "six_months_held"] == pytest.approx(np.mean(r.schedule.is_held[mine, -1]))
        assert row.loc[group, "six_months_in_commemoration"] == pytest.approx(np.mean(r.schedule.inside[0, mine, -1]))
        assert row.loc[group, "district"] == r.allocation.group_district[group] + 1


def test_json_says_what_the_frames_say(full: Scenario) -> None:
    said = json.loads(json.dumps(calendar_json(full, "ind_4", 0), allow_nan=False))
    assert {key: len(rows) for key, rows in said.items() if isinstance(rows, list)} == {
        "training_groups": 16, "people": 8, "visits": 6,
    }  # fmt: skip
    assert said["field_work"]["wait_list_trainings"] == 16 and said["field_work"]["team_days"] == 3 * 32
    plain = calendar_json(read_scenario(SIMPLE), "ind_4", 0)
    assert {row["wait_list_start"] for row in plain["training_groups"]} == {None}
    assert plain["field_work"]["interviewer_days"] is None


@pytest.mark.parametrize("design", ["ind_1", "ind_8_formats"])
def test_tables_fit_a_terminal_without_cutting_dates(full: Scenario, design: str) -> None:
    written = io.StringIO()
    console = Console(width=120, file=written)
    for table in calendar_tables(full, design, 0):
        console.print(table)
    text = written.getvalue()
    assert "…" not in text and max(map(len, text.splitlines())) <= 120
    assert "team-days and" in text and "turned away" in text and "wait-list" in text


def test_columns_that_say_nothing_are_left_out() -> None:
    plain = read_scenario(SIMPLE)
    text = "".join(str(column.header) for column in calendar_tables(plain, "ind_1", 0)[0].columns)
    assert "wait-list" not in text and "team" in text


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_gantt_is_drawn(full: Scenario, suffix: str, tmp_path: Path) -> None:
    first, second = (gantt(full, "ind_4", 0, tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert len(first) > 5000
    assert first == second  # the same calendar is the same file


def test_gantt_says_what_its_rows_and_colours_are(full: Scenario, tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    with plt.rc_context({"svg.fonttype": "none"}):
        text = gantt(full, "ind_8_formats", 0, tmp_path / "a.svg").read_text(encoding="utf-8")
    for said in ("district 8", "separate  team", "recruiting", "training", "window: commemoration",
                 "long rains: 80% come", "closed: commemoration week, year end",
                 "training of the untreated", "960 participants"):  # fmt: skip
        assert said in text, said


@pytest.mark.parametrize("without", [(), ("windows",), ("seasons",), ("closed",), ("wait_list_trained",)])
def test_gantt_of_people_trained_alone_and_without_parts(without: tuple[str, ...], tmp_path: Path) -> None:
    scenario = with_calendar(*without, "group_deadline", "smallest_group", interviewers={"number": 12, "per_day": 4})
    alone = scenario.design("ind_1").model_copy(update={"training_group_size": None, "participants_per_district": 100})
    scenario = replace(scenario, file=scenario.file.model_copy(update={"designs": {"alone": alone}}))
    assert gantt(scenario, "alone", 0, tmp_path / "a.png").stat().st_size > 5000


def test_full_plan_is_the_one_with_every_key() -> None:
    left_out = set(type(full_plan()).model_fields) - set(FULL)
    assert left_out == {"recruitment_per_district"}
