"""One realised calendar as tables: training groups, the flow of people, visits held, and what it takes in the field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.table import Table

from sim.run.blocks import Realisation, realise
from sim.scenario.load import Scenario
from sim.trial import Days


def calendar_frame(scenario: Scenario, design: str, number: int) -> pd.DataFrame:
    """A row per training group, by first training day: people, dates, and what becomes of the final visits.

    `team` is empty where teams are not counted, `wait_list_start` where no wait-list is trained. `<final>_in_<window>`
    is a share of all final visits on the group's clock, `<final>_held` the share that is held.
    """
    realisation = realise(scenario, design, number)
    order = np.argsort(realisation.schedule.training_start, kind="stable")
    return pd.DataFrame([_group_row(scenario, realisation, int(group)) for group in order])


def _group_row(scenario: Scenario, realisation: Realisation, group: int) -> dict[str, Any]:
    allocation, dates, done = realisation.allocation, realisation.schedule, realisation.operations
    final = scenario.names.visit[-1]
    clock = allocation.clock == group
    trained = clock & allocation.is_trained
    day, wait_list = dates.visit_day[clock, -1], done.wait_list_start[done.wait_list_clock == group]
    inside = dates.inside[:, clock, -1].mean(axis=1)
    return {
        "training_group": group,
        "district": int(allocation.group_district[group]) + 1,
        "arm": allocation.arms[int(allocation.arm[trained if trained.any() else clock][0])].name,
        "team": str(dates.team[group] + 1) if dates.team[group] >= 0 else "",
        "trained": int(trained.sum()),
        "untreated_on_its_clock": int((clock & ~trained).sum()),
        "first_recruit": as_date(done.first_recruit[group]),
        "complete": as_date(done.complete[group]),
        "training_start": as_date(dates.training_start[group]),
        f"{final}_first": as_date(day.min()),
        f"{final}_last": as_date(day.max()),
        f"{final}_held": float(dates.is_held[clock, -1].mean()),
        **{f"{final}_in_{w}": float(s) for w, s in zip(scenario.names.window, inside, strict=True)},
        "wait_list_start": as_date(wait_list.min()) if len(wait_list) else "",
    }


def people_frame(scenario: Scenario, realisation: Realisation) -> pd.DataFrame:
    """The flow of people up to the trial, a row per district and stratum.

    screened = ineligible + refused + enrolled; enrolled = turned away + in the trial.
    """
    done = realisation.operations
    n_district, n_stratum = done.screened.shape
    columns = {
        name: getattr(done, name).ravel() for name in ("screened", "ineligible", "refused", "enrolled", "turned_away")
    }
    place = {
        "district": np.repeat(np.arange(1, n_district + 1), n_stratum),
        "stratum": list(scenario.names.stratum) * n_district,
    }
    return pd.DataFrame({**place, **columns, "in_trial": columns["enrolled"] - columns["turned_away"]})


def visits_frame(scenario: Scenario, realisation: Realisation) -> pd.DataFrame:
    """A row per visit and arm: participants, visits held, those whose window closed first, first and last day held."""
    allocation, dates = realisation.allocation, realisation.schedule
    rows = []
    for v, visit in enumerate(scenario.names.visit):
        for a, arm in enumerate(allocation.arms):
            mine = allocation.arm == a
            held = mine & dates.is_held[:, v]
            rows.append(
                {
                    "visit": visit,
                    "arm": arm.name,
                    "participants": int(mine.sum()),
                    "held": int(held.sum()),
                    "window_closed": int(mine.sum() - held.sum()),
                    "first": as_date(dates.visit_day[held, v].min()) if held.any() else "",
                    "last": as_date(dates.visit_day[held, v].max()) if held.any() else "",
                }
            )
    return pd.DataFrame(rows)


def field_work(realisation: Realisation) -> dict[str, Any]:
    """What the calendar takes: trainings, days of teams and of interviewers, appointments, first and last day."""
    allocation, dates, done = realisation.allocation, realisation.schedule, realisation.operations
    return {
        "training_groups": len(np.unique(allocation.clock[allocation.is_trained])),
        "wait_list_trainings": len(done.wait_list_clock),
        "team_days": done.team_days,
        "travel_days": done.travel_days,
        "appointments": int(done.appointments.sum()),
        "interviews": int(dates.is_held.sum()),
        "interviewer_days": done.interviewer_days,
        "first_day": as_date(done.opening.min()),
        "last_day": as_date(done.last_day),
    }


def calendar_json(scenario: Scenario, design: str, number: int) -> dict[str, Any]:
    """Everything about one calendar as plain values; an empty text is None."""
    realisation = realise(scenario, design, number)
    frames = {
        "training_groups": calendar_frame(scenario, design, number),
        "people": people_frame(scenario, realisation),
        "visits": visits_frame(scenario, realisation),
    }
    rows = {
        name: [{k: None if v == "" else v for k, v in row.items()} for row in frame.to_dict("records")]
        for name, frame in frames.items()
    }
    return {"design": design, "number": number, **rows, "field_work": field_work(realisation)}


def calendar_tables(scenario: Scenario, design: str, number: int) -> list[Any]:
    """Training groups, the flow of people and visits for reading, and a line of what it takes."""
    realisation = realise(scenario, design, number)
    people = people_frame(scenario, realisation).groupby("stratum", sort=False).sum().drop(columns="district")
    by_stratum = [[stratum, *row] for stratum, row in zip(people.index, people.to_numpy().tolist(), strict=True)]
    total = ["all", *people.sum().to_list()]
    visits = visits_frame(scenario, realisation)
    label, n = scenario.design(design).label, scenario.file.calendars
    groups = _for_reading(scenario, calendar_frame(scenario, design, number))
    return [
        _table(f"{label}: calendar {number} of {n} (dates YY-MM-DD)", list(groups.columns), groups.to_numpy().tolist()),
        _table("Flow of people, all districts", ["stratum", *people.columns], [*by_stratum, total]),
        _table("Visits", list(visits.columns), visits.to_numpy().tolist()),
        _sentence(field_work(realisation)),
    ]


def _for_reading(scenario: Scenario, groups: pd.DataFrame) -> pd.DataFrame:
    """The frame in fewer and shorter columns, dates without the century; columns that are empty are left out."""
    final = scenario.names.visit[-1]
    wide = len(scenario.names.window) > 1
    shown = {
        "group": groups["training_group"],
        "place": groups["district"],
        "arm": groups["arm"],
        "team": groups["team"],
        "people": groups["trained"].astype(str) + "+" + groups["untreated_on_its_clock"].astype(str),
        "recruits": groups["first_recruit"].str[2:],
        "complete": groups["complete"].str[2:],
        "training": groups["training_start"].str[2:],
        f"{final} from": groups[f"{final}_first"].str[2:],
        "to": groups[f"{final}_last"].str[2:],
        "held": groups[f"{final}_held"],
        **{f"in {w}" if wide else "in window": groups[f"{final}_in_{w}"] for w in scenario.names.window},
        "wait-list": groups["wait_list_start"].str[2:],
    }
    return pd.DataFrame({name: column for name, column in shown.items() if not (column.astype(str) == "").all()})


def _sentence(work: dict[str, Any]) -> str:
    interviewers = "" if work["interviewer_days"] is None else f", {work['interviewer_days']} interviewer-days"
    wait_list = f" and {work['wait_list_trainings']} of the wait-list" if work["wait_list_trainings"] else ""
    return (
        f"From {work['first_day']} to {work['last_day']}: {work['training_groups']} trainings{wait_list}, "
        f"{work['team_days']} team-days and {work['travel_days']} days of travel; {work['interviews']} interviews in "
        f"{work['appointments']} appointments{interviewers}."
    )


def _table(title: str, columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for at, column in enumerate(columns):
        is_text = any(isinstance(row[at], str) for row in rows)
        table.add_column(str(column).replace("_", " "), justify="left" if is_text else "right")
    for row in rows:
        table.add_row(*(f"{v:.0%}" if isinstance(v, float) else str(v) for v in row))
    return table


def as_date(day: int | np.integer[Any] | Days) -> str:
    """Days since 1970-01-01 as a date, YYYY-MM-DD."""
    return str(np.datetime64(int(day), "D"))
