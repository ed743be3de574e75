"""One design on many dates: the same people on each, and what differs is owed to the date."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
from run_support import all_blocks, small_scenario

from sim.calendar.plan import YearlyPeriod
from sim.report.scan import scan_frame
from sim.run.blocks import simulate_block
from sim.run.scan import dates_between, scan, started_on

CLEAN, INSIDE = date(2027, 7, 5), date(2027, 10, 11)


def nothing(done, of):
    assert done <= of


def test_both_ends_are_scanned():
    assert dates_between(date(2027, 1, 1), date(2027, 1, 29), timedelta(days=14)) == [
        date(2027, 1, 1), date(2027, 1, 15), date(2027, 1, 29)
    ]  # fmt: skip
    assert dates_between(CLEAN, CLEAN, timedelta(days=7)) == [CLEAN]


def test_a_date_gives_what_a_run_of_that_date_gives():
    scenario = small_scenario(replicates=40, designs=("ind_1",))
    found = next(iter(scan(scenario, "ind_1", [CLEAN], 1, nothing)))
    alone = started_on(scenario, "ind_1", CLEAN)
    rows = pd.concat([simulate_block(alone, block)[0] for block in all_blocks(alone)])
    power = found.result.summary.query("measure == 'power' and outcome == 'cohesion'").iloc[0]
    p = rows.query("truth == 'alternative' and outcome == 'cohesion'")["p_value"]
    assert power["estimate"] == (p <= 0.05).mean()


def test_dates_share_their_people_and_only_the_window_moves_what_is_lost():
    scenario = small_scenario(replicates=64, designs=("ind_1",))
    clean, inside = scan(scenario, "ind_1", [CLEAN, INSIDE], 1, nothing)
    frame = scan_frame([clean, inside])
    assert len(frame) == 2 * len(scenario.names.outcome)
    by_date = frame.drop_duplicates("start").set_index("start")
    assert by_date["final_in_window"].tolist()[0] < 0.1 and by_date["final_in_window"].tolist()[1] > 0.9
    assert by_date["lost"].iloc[1] > by_date["lost"].iloc[0]
    assert by_date["n_participant"].between(200, 240).all()
    difference = np.diff(frame.set_index(["outcome", "start"])["power"].unstack().to_numpy())
    assert np.abs(difference).max() < 0.25  # pairs: far less than two samples of 64 would differ by chance


def test_a_date_without_a_calendar_says_why():
    scenario = small_scenario(replicates=8, designs=("ind_1",))
    always = YearlyPeriod.model_validate({"first": "01-01", "last": "12-31"})
    plan = scenario.file.calendar.model_copy(update={"closed": {"always": always}})
    closed = replace(scenario, file=scenario.file.model_copy(update={"calendar": plan}))
    (found,) = scan(closed, "ind_1", [CLEAN], 1, nothing)
    assert found.result is None and "shorten the closed periods" in found.why
    frame = scan_frame([found])
    assert frame["why"].tolist() == [found.why] and "power" not in frame
