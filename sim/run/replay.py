"""Any replicate of a run on its own: its data set, its rows, and the command that gives both."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.errors import InvalidInput, Problem
from sim.run.blocks import Block, draw, realise, simulate_block
from sim.run.flow import WINDOW_CLOSED
from sim.scenario.load import Scenario
from sim.trial import FAILED, STATUS, TRUTHS, Allocation, Arm, Contrast, Fit, Ints, Trial

LABELS = {
    "participant": "p", "district": "d", "village": "v", "training_group": "g", "facilitator_team": "t"
}  # fmt: skip
"""Columns of numbered units, and the letter that their labels begin with."""
VISIT = ("visit", "visit_number", "date", "unseen_because")
BASELINE = "_baseline"


def data_set(scenario: Scenario, design: str, replicate: int, truth: str = "alternative") -> pd.DataFrame:
    """The data set of one replicate under one truth, a row per participant and visit, as a trial would hand it over.

    participant, arm, stratum, district : labels, constant within a participant; so are village, training_group and
    facilitator_team, columns that are there if the design has any, empty for those who have none.
    visit, visit_number : its name, and its place from 0, the baseline.  date : on which it is held or was to be; of a
    visit that found no open day, the last of its window.  unseen_because : why there is no score, empty where there is.
    Then a column per outcome, in baseline SDs, NaN where unseen, and per outcome its baseline, on every row.

    replicate : any number from 0; the run need not have had so many.
    Raises InvalidInput if an outcome is called like one of these columns.
    """
    names, streams = scenario.names, scenario.streams(design)
    _check_outcomes(scenario)
    realisation = realise(scenario, design, replicate % scenario.file.calendars)
    allocation, dates = realisation.allocation, realisation.schedule
    number = np.array([replicate], dtype=np.int32)
    drawn = draw(scenario, realisation, streams, number)
    cause = scenario.file.missingness.cause(names, allocation, dates, drawn.outcome, streams, number)[0]
    score = drawn.outcome.score[:, TRUTHS.index(truth), 0]  # (K, N, T)
    seen = drawn.trial.observed[0]
    n_visit = len(names.visit)
    people = {key: np.repeat(label, n_visit) for key, label in _people(scenario, allocation, drawn.trial.team).items()}
    why = np.array(["", *scenario.file.missingness.reasons])[cause]
    visits = {
        "visit": np.tile(names.visit, allocation.n_participant),
        "visit_number": np.tile(np.arange(n_visit), allocation.n_participant),
        "date": dates.visit_day.astype("datetime64[D]").astype(str).ravel(),
        "unseen_because": np.where((cause == 0) & ~seen, WINDOW_CLOSED, why).ravel(),
    }
    y = {o: np.where(seen, score[k], np.nan).ravel() for k, o in enumerate(names.outcome)}
    baseline = {o + BASELINE: np.repeat(score[k, :, 0], n_visit) for k, o in enumerate(names.outcome)}
    return pd.DataFrame({**people, **visits, **y, **baseline})


def refit(scenario: Scenario, design: str, replicate: int) -> pd.DataFrame:
    """The rows that a run stores for one replicate, bit for bit: outcome x analysis x truth."""
    return simulate_block(scenario, Block(design, replicate, 1))[0]


def fit_table(
    table: pd.DataFrame, outcome: str, analysis: Any, arms: Sequence[Arm], contrast: Contrast
) -> tuple[float, float, float]:
    """Estimate, standard error and df of one of a scenario's analyses on a data set like those of `data_set`.

    Nothing is taken from the scenario but the analysis and what its design says of the arms; whoever edits the table
    sees what that does. NaN where the fit failed.
    """
    fit: Fit = analysis.analyse(_trial(table, outcome, tuple(arms), contrast))
    estimate, standard_error, df = float(fit.estimate[0]), float(fit.standard_error[0]), float(fit.df[0])
    is_finite = bool(np.isfinite([estimate, standard_error]).all()) and standard_error > 0 and df > 0
    if fit.status[0] == FAILED or not is_finite:  # as in the rows of a run
        return np.nan, np.nan, np.nan
    return estimate, standard_error, df


def outcome_rows(table: pd.DataFrame, *, after_baseline: bool) -> pd.DataFrame:
    """The rows as `nexttrial analyse` takes them: nobody is in a training group before the training.

    after_baseline : without the baseline visit, for analyses of the later ones given its score.
    """
    later = table["visit_number"].astype(int) > 0
    rows = table.copy()
    if "training_group" in rows:
        rows["training_group"] = rows["training_group"].where(later, "")
    return rows[later] if after_baseline else rows


def replay_command(path: Path, design: str, replicate: int, seed: int, truth: str = "alternative") -> str:
    """The command that writes this data set with scripts that fit it again."""
    out = f"{design}_{replicate}_{truth}.csv"
    words = ["nexttrial", "simulate", str(path), "--design", design, "--replicate", str(replicate)]
    return shlex.join([*words, "--truth", truth, "--seed", str(seed), "--out", out])


def failures(scenario: Scenario, rows: pd.DataFrame) -> pd.DataFrame:
    """A row per failed fit among the rows of a run: what it was, why it failed, and the command that replays it."""
    key = ["design", "replicate", "outcome", "analysis", "truth", "reason"]
    failed = rows.loc[rows["status"] == STATUS[FAILED], key].astype({"replicate": int}).reset_index(drop=True)
    named = zip(failed["design"], failed["replicate"], failed["truth"], strict=True)
    path, seed = scenario.path, scenario.file.seed
    return failed.assign(command=[replay_command(path, str(d), int(r), seed, str(truth)) for d, r, truth in named])


def _check_outcomes(scenario: Scenario) -> None:
    outcomes = scenario.names.outcome
    taken = {"arm", "stratum", *LABELS, *VISIT, *(outcome + BASELINE for outcome in outcomes)}
    if clash := sorted(taken & set(outcomes)):
        message = "a data set has a column of this name already: the outcome needs another name"
        raise InvalidInput([Problem(str(scenario.path), 0, 0, f"model.outcomes.{name}", message) for name in clash])


def _people(scenario: Scenario, allocation: Allocation, team: Ints) -> dict[str, NDArray[Any]]:
    """(N,) columns of what participants are; those that hold nothing are left out."""
    code: dict[str, NDArray[np.integer[Any]]] = {
        "participant": np.arange(allocation.n_participant), "district": allocation.district,
        "village": allocation.village, "training_group": allocation.training_group, "facilitator_team": team,
    }  # fmt: skip
    label = {key: _labels(LABELS[key], numbers) for key, numbers in code.items() if (numbers >= 0).any()}
    arm = np.array([arm.name for arm in allocation.arms])[allocation.arm]
    stratum = np.array(scenario.names.stratum)[allocation.stratum]
    return {"participant": label.pop("participant"), "arm": arm, "stratum": stratum, **label}


def _labels(letter: str, code: NDArray[np.integer[Any]]) -> NDArray[Any]:
    """d1, d2, ..; with leading zeros, so that they sort as numbers do. Empty for -1."""
    width = len(str(code.max() + 1))
    return np.array([f"{letter}{number + 1:0{width}d}" if number >= 0 else "" for number in code.tolist()])


def _trial(table: pd.DataFrame, outcome: str, arms: tuple[Arm, ...], contrast: Contrast) -> Trial:
    """One data set as an analysis sees it, participants in the order of the table."""
    first = table.drop_duplicates("participant")
    person = pd.Index(first["participant"]).get_indexer(pd.Index(table["participant"]))
    at = person, table["visit_number"].astype(int).to_numpy()
    y = np.full((len(first), at[1].max() + 1), np.nan)
    y[at] = table[outcome].replace("", "nan").astype(float)  # a table read as text says every digit
    observed = np.isfinite(y)
    arm = pd.Index([one.name for one in arms]).get_indexer(pd.Index(first["arm"])).astype(np.int32)
    group, none = _codes(first, "training_group"), np.zeros(0, np.int32)
    district = first["district"].str[1:].astype(np.int32).to_numpy() - 1  # by its number: one may have lost everybody
    allocation = Allocation(
        arm=arm, stratum=_codes(first, "stratum"), district=district.astype(np.int32),
        village=_codes(first, "village"), training_group=group, clock=group, cluster=none, member=none,
        group_district=none, village_name=none, group_name=none, arms=arms, contrast=contrast,
    )  # fmt: skip
    team = _codes(first, "facilitator_team")
    return Trial(np.where(observed, y, 0.0)[None], observed[None], allocation, team)


def _codes(people: pd.DataFrame, column: str) -> Ints:
    """(N,) numbers of the labels in their order, -1 where the cell is empty or the column is not there."""
    if column not in people:
        return np.full(len(people), -1, dtype=np.int32)
    label = people[column].fillna("").to_numpy(dtype=str)
    place = np.searchsorted(np.unique(label[label != ""]), label)
    return np.where(label == "", -1, place).astype(np.int32)
