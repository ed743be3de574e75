"""One realised calendar as a table: a line per training group."""

from __future__ import annotations

import numpy as np
import pandas as pd
from rich.table import Table

from sim.run.blocks import realise
from sim.scenario.load import Scenario


def calendar_frame(scenario: Scenario, design: str, number: int) -> pd.DataFrame:
    """A row per training group: its arm, district, people on its clock, dates, and share of final visits in windows."""
    realisation = realise(scenario, design, number)
    allocation, dates = realisation.allocation, realisation.schedule
    final = scenario.names.visit[-1]
    rows = []
    for group in np.argsort(dates.training_start, kind="stable"):
        clock = allocation.clock == group
        trained = clock & allocation.is_trained
        day = dates.visit_day[clock, -1]
        inside = dates.inside[:, clock, -1].mean(axis=1)
        rows.append(
            {
                "training_group": int(group),
                "district": int(allocation.group_district[group]) + 1,
                "arm": allocation.arms[int(allocation.arm[trained if trained.any() else clock][0])].name,
                "trained": int(trained.sum()),
                "untreated_on_its_clock": int((clock & ~trained).sum()),
                "training_start": str(dates.training_start[group].astype("datetime64[D]")),
                f"{final}_first": str(day.min().astype("datetime64[D]")),
                f"{final}_last": str(day.max().astype("datetime64[D]")),
                **{f"{final}_in_{w}": float(s) for w, s in zip(scenario.names.window, inside, strict=True)},
            }
        )
    return pd.DataFrame(rows)


def calendar_table(scenario: Scenario, design: str, frame: pd.DataFrame) -> Table:
    """The frame for reading."""
    table = Table(
        title=f"{scenario.design(design).label}: one calendar of {scenario.file.calendars}", title_justify="left"
    )
    for column in frame.columns:
        table.add_column(column.replace("_", " "), justify="left" if frame[column].dtype == object else "right")
    for row in frame.to_dict("records"):
        table.add_row(*(f"{v:.0%}" if isinstance(v, float) else str(v) for v in row.values()))
    return table
