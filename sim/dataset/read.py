"""A CSV file of one row per participant and visit, read and checked; every problem at once, with its line."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from sim.dataset.request import Request, option
from sim.errors import InvalidInput, Problem
from sim.scenario.nearest import known_names, nearest
from sim.trial import Flags, Floats, Ints

UNSEEN = frozenset({"", "NA", "NaN", "nan", "."})
SHOWN = 10  # problems of one kind; the rest are counted
MOST_LEVELS = 100
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Factor:
    """A column of labels. code : (n,) index into levels, -1 where the cell is empty."""

    column: str
    levels: tuple[str, ...]
    code: Ints

    def where(self, keep: Flags) -> Factor:
        return replace(self, code=self.code[keep])


@dataclass(frozen=True)
class Dataset:
    """The rows whose outcome was seen, n of them; the levels of a factor are those of the whole file.

    factor : by role (arm with the control first, participant, visit, cluster, district, training_group).
    number : the numeric columns `baseline` and `random_slope`.
    covariate : name of each covariate and its numbers or labels.
    n_unseen : rows with an empty outcome.
    """

    file: str
    line: Ints
    y: Floats
    factor: dict[str, Factor]
    number: dict[str, Floats]
    covariate: dict[str, Factor | Floats]
    n_unseen: int = 0

    def where(self, keep: Flags) -> Dataset:
        return replace(
            self,
            line=self.line[keep],
            y=self.y[keep],
            factor={role: factor.where(keep) for role, factor in self.factor.items()},
            number={role: values[keep] for role, values in self.number.items()},
            covariate={
                name: values.where(keep) if isinstance(values, Factor) else values[keep]
                for name, values in self.covariate.items()
            },
        )

    def code(self, role: str) -> Ints:
        return self.factor[role].code

    def levels(self, role: str) -> tuple[str, ...]:
        return self.factor[role].levels if role in self.factor else ()

    def n_level(self, role: str) -> int:
        """Levels that are seen."""
        code = self.code(role)
        return np.unique(code[code >= 0]).size

    def problem(self, name: str, message: str) -> InvalidInput:
        """A problem of the file as a whole."""
        return InvalidInput([Problem(self.file, 0, 0, name, message)])


@dataclass
class _Sheet:
    """The cells of a file as text, the line of each row, and the problems found so far."""

    file: str
    header: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def column(self, name: str, asked_by: str) -> list[str] | None:
        """The cells of a column; None, and a problem, if there is no such column."""
        if name in self.header:
            place = self.header.index(name)
            return [row[place] for row in self.rows]
        message = f"{asked_by} names a column that is not there; {known_names(name, self.header)}"
        self.problems.append(Problem(self.file, 1, 1, name, message))
        return None

    def refuse(self, rows: Iterable[int], name: str, message: Callable[[int], str]) -> None:
        """A problem for every row, the first few of them one by one."""
        rows = list(rows)
        place = self.header.index(name) + 1
        for row in rows[:SHOWN]:
            self.problems.append(Problem(self.file, self.line[row], place, name, message(row)))
        if len(rows) > SHOWN:
            self.whole(name, f"{len(rows):,} rows are like the {SHOWN} named here")

    def whole(self, name: str, message: str) -> None:
        """A problem of a column as a whole."""
        self.problems.append(Problem(self.file, 0, 0, name, message))

    def stop_if_bad(self) -> None:
        if self.problems:
            raise InvalidInput(list(dict.fromkeys(self.problems)))


def read_dataset(path: Path, request: Request) -> Dataset:
    """The rows that `request` analyses. Raises InvalidInput with every problem of the file.

    Comma-separated, UTF-8, names in the first line. A row whose outcome is empty (or NA, NaN, '.') was not seen.
    Arms and visits are ordered as numbers if all are, else as text with its numbers in order (visit 2 before visit 10);
    the first arm is the control unless the request names one.
    """
    sheet = _read(path)
    roles = {role: sheet.column(name, option(role)) for role, name in request.role.items()}
    covariates = {name: sheet.column(name, "--covariates") for name in request.covariates}
    outcome = roles["outcome"]
    y = _numbers(sheet, request.outcome, outcome, may_be_unseen=True) if outcome else np.zeros(0)
    seen = np.isfinite(y)
    factors: dict[str, Factor] = {}
    for role in ("arm", "participant", "visit", "cluster", "district", "training_group"):
        if (cells := roles.get(role)) is not None:
            factors[role] = _factor(request.role[role], cells, is_ordered=role in ("arm", "visit"))
            if role != "training_group":
                empty = np.flatnonzero(factors[role].code < 0)
                sheet.refuse(empty, request.role[role], lambda _: "is empty; every row needs one")
    numbers = {
        role: _numbers(sheet, request.role[role], cells, needed=seen)
        for role in ("baseline", "random_slope")
        if (cells := roles.get(role)) is not None
    }
    covariate = {name: _covariate(sheet, name, cells, seen) for name, cells in covariates.items() if cells is not None}
    sheet.stop_if_bad()
    _check_arms(sheet, request, factors)
    _check_structure(sheet, request, factors, numbers, seen)
    sheet.stop_if_bad()
    if request.control is not None:
        factors["arm"] = _control_first(factors["arm"], request.control)
    data = Dataset(str(path), np.array(sheet.line, np.int32), y, factors, numbers, covariate)
    if request.is_one_visit and "visit" in factors:
        last = len(factors["visit"].levels) - 1
        data, seen = data.where(factors["visit"].code == last), seen[factors["visit"].code == last]
    if not seen.any():
        raise data.problem(request.outcome, "is empty in every row that the analysis would use")
    return replace(data.where(seen), n_unseen=int((~seen).sum()))


def _read(path: Path) -> _Sheet:
    sheet = _Sheet(str(path))
    if not path.is_file():
        near = nearest(path.name, [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else [])
        reason = "is a folder, not a file" if path.is_dir() else "does not exist"
        hint = f". Did you mean {path.parent / near}?" if near and not path.is_dir() else ""
        raise InvalidInput([Problem(sheet.file, 0, 0, "", reason + hint)])
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            for cells in reader:
                _take(sheet, [cell.strip() for cell in cells], reader.line_num)
    except UnicodeDecodeError as error:
        message = f"is not UTF-8 text ({error.reason} at byte {error.start}): save it as 'CSV UTF-8'"
        raise InvalidInput([Problem(sheet.file, 0, 0, "", message)]) from None
    except csv.Error as error:
        raise InvalidInput([Problem(sheet.file, reader.line_num, 1, "", f"is not CSV: {error}")]) from None
    if not sheet.rows and not sheet.problems:
        reason = "has a first line of names and no rows" if sheet.header else "is empty"
        raise InvalidInput([Problem(sheet.file, 0, 0, "", reason)])
    sheet.stop_if_bad()
    return sheet


def _take(sheet: _Sheet, cells: list[str], line: int) -> None:
    """Adds the next line of the file to the sheet: the names, a row, or a problem; blank lines are passed over."""
    if not any(cells):
        return
    if not sheet.header:
        sheet.header = cells
        twice = sorted({name for name in cells if name and cells.count(name) > 1})
        sheet.problems += [Problem(sheet.file, line, 1 + cells.index(name), name, "is there twice") for name in twice]
        if len(cells) == 1 and (other := re.search(r"[;\t|]", cells[0])):
            message = f"columns must be separated by commas; these seem to be by {other[0]!r}"
            sheet.problems.append(Problem(sheet.file, line, 1, "", message))
    elif len(cells) != len(sheet.header):
        if len(sheet.problems) < SHOWN:
            message = (
                f"has {len(cells)} cell{'s' * (len(cells) != 1)}, the first line names {len(sheet.header)} columns"
            )
            sheet.problems.append(Problem(sheet.file, line, 1, "", message))
    else:
        sheet.rows.append(cells)
        sheet.line.append(line)


def _numbers(
    sheet: _Sheet, name: str, cells: list[str], *, may_be_unseen: bool = False, needed: Flags | None = None
) -> Floats:
    """(n,) finite numbers; NaN where a cell may be empty and is, or is not needed."""
    values = np.array([_number(cell) for cell in cells])
    is_empty = np.array([cell in UNSEEN for cell in cells])
    bad = np.flatnonzero(~is_empty & ~np.isfinite(values))
    sheet.refuse(bad, name, lambda row: f"found '{cells[row]}'; a number is needed{_number_hint(cells[row])}")
    if not may_be_unseen:
        _refuse_empty(sheet, name, is_empty, needed)
    return values


def _refuse_empty(sheet: _Sheet, name: str, is_empty: Flags, needed: Flags | None) -> None:
    is_needed = needed if needed is not None and needed.size else np.ones(is_empty.size, np.bool_)
    fix = "is empty where the outcome is seen: fill it in, or remove such rows to analyse the complete ones"
    sheet.refuse(np.flatnonzero(is_empty & is_needed), name, lambda _: fix)


def _number(cell: str) -> float:
    return float(cell) if _NUMBER.fullmatch(cell) else math.nan


def _number_hint(cell: str) -> str:
    return ", with a decimal point" if _NUMBER.fullmatch(cell.replace(",", ".")) else ""


def _factor(name: str, cells: list[str], *, is_ordered: bool) -> Factor:
    """Labels of a column. Arms and visits that are all numbers are told apart by value: 1 and 1.0 are one."""
    labels = ["" if cell in UNSEEN else cell for cell in cells]
    if is_ordered and all(_NUMBER.fullmatch(label) for label in labels if label):
        labels = [f"{float(label):.15g}" if label else "" for label in labels]
        levels = sorted(set(labels) - {""}, key=float)
    else:
        levels = sorted(set(labels) - {""}, key=_natural)
    place = {label: code for code, label in enumerate(levels)} | {"": -1}
    return Factor(name, tuple(levels), np.array([place[label] for label in labels], np.int32))


def _natural(label: str) -> list[tuple[int, float, str]]:
    """Sorts text with its numbers in order."""
    parts = re.split(r"(\d+)", label.lower())
    return [(0, float(part), "") if part.isdigit() else (1, 0.0, part) for part in parts if part] + [(2, 0.0, label)]


def _covariate(sheet: _Sheet, name: str, cells: list[str], seen: Flags) -> Factor | Floats:
    """Numbers if most cells are numbers, else labels with the first as reference."""
    filled = [cell for cell in cells if cell not in UNSEEN]
    n_number = sum(bool(_NUMBER.fullmatch(cell)) for cell in filled)
    if 2 * n_number > len(filled):
        return _numbers(sheet, name, cells, needed=seen)
    factor = _factor(name, cells, is_ordered=False)
    if len(factor.levels) > MOST_LEVELS:
        sheet.whole(name, f"has {len(factor.levels):,} different words; a covariate in words may have {MOST_LEVELS}")
    _refuse_empty(sheet, name, factor.code < 0, seen)
    return factor


def _check_arms(sheet: _Sheet, request: Request, factors: dict[str, Factor]) -> None:
    if request.arm is None:
        return
    levels = factors["arm"].levels
    if len(levels) < 2:
        sheet.whole(request.arm, f"has one arm, {', '.join(levels)}; a comparison needs two")
    if request.control is not None and request.control not in levels:
        sheet.whole(request.arm, f"--control '{request.control}' is no arm; {known_names(request.control, levels)}")
    for name in compared_arms(request.contrast, levels) or ():
        if name not in levels:
            sheet.whole(request.arm, f"--contrast: '{name}' is no arm; {known_names(name, levels)}")


def compared_arms(contrast: str | None, levels: tuple[str, ...]) -> tuple[str, str] | None:
    """The two arms of a contrast 'mixed - separate'; None if it names none ('final', 'change')."""
    if contrast is None or contrast in ("final", "change"):
        return None
    dashes = list(re.finditer("-", contrast))  # a name may hold a dash of its own
    splits = [(contrast[: dash.start()].strip(), contrast[dash.end() :].strip()) for dash in dashes]
    return next((pair for pair in splits if set(pair) <= set(levels)), splits[0])


def _check_structure(
    sheet: _Sheet, request: Request, factors: dict[str, Factor], numbers: dict[str, Floats], seen: Flags
) -> None:
    """What must be constant within what, and one row for each participant and visit."""
    role = request.role
    if "participant" in factors:
        _check_participants(sheet, request, factors, numbers, seen)
    if "arm" in factors and "district" in factors and "cluster" in factors:
        _check_constant(
            sheet, factors["cluster"], role["district"], factors["district"].code, "give each its own label"
        )
    if "cluster" in factors and request.method in ("cluster-summary", "randomisation"):
        fix = f"--method {request.method} compares whole clusters"
        _check_constant(sheet, factors["cluster"], role["arm"], factors["arm"].code, fix)
    if request.is_one_visit or "visit" not in factors:
        return
    if len(factors["visit"].levels) < 2:
        only = factors["visit"].levels[0]
        fix = "leave --visit out or give --final-visit-only" if request.method == "lmm" else "use --method ancova"
        sheet.whole(role["visit"], f"has one visit, {only}; --method {request.method} is for several: {fix}")
    elif "baseline" in numbers:
        _check_baseline_is_no_outcome(sheet, request, factors, numbers)


def _check_participants(
    sheet: _Sheet, request: Request, factors: dict[str, Factor], numbers: dict[str, Floats], seen: Flags
) -> None:
    person, role = factors["participant"], request.role
    if "arm" in factors:
        for name in ("arm", "cluster", "district"):
            if name in factors:
                fix = f"a participant has one {name}: are ids used twice?"
                _check_constant(sheet, person, role[name], factors[name].code, fix)
    if "baseline" in numbers:
        values = np.where(seen, numbers["baseline"], np.nan)
        _check_constant(sheet, person, role["baseline"], values, "a participant has one baseline")
    if sheet.problems:
        return  # ids used twice: their visits are there twice as a consequence
    if "visit" in factors:
        key: list[Ints | Floats] = [person.code, factors["visit"].code]
    elif "random_slope" in numbers:
        key = [person.code, numbers["random_slope"]]
    elif "arm" in factors or request.method != "lmm":
        key = [person.code]
    else:
        return
    frame = pd.DataFrame(dict(enumerate(key)))
    again = frame.duplicated() & (frame.notna().all(axis=1))
    first = frame.groupby(list(frame.columns), dropna=False).cumcount() == 0
    line_of = dict(zip(map(tuple, frame[first].to_numpy()), np.array(sheet.line)[first], strict=True))

    def message(row: int) -> str:
        at = f" at visit {factors['visit'].levels[factors['visit'].code[row]]}" if "visit" in factors else ""
        fix = "" if "visit" in factors or "random_slope" in numbers else "; --visit names the column of the visits"
        who = person.levels[person.code[row]]
        return f"participant {who} is there twice{at}, first on line {line_of[tuple(frame.iloc[row])]}{fix}"

    sheet.refuse(np.flatnonzero(again), role["participant"], message)


def _check_constant(sheet: _Sheet, unit: Factor, name: str, values: Ints | Floats, fix: str) -> None:
    """Adds a problem for every row whose value differs from the first value of its unit; NaN is no value."""
    rows = pd.DataFrame({"unit": unit.code, "value": values})
    first = rows.groupby("unit")["value"].transform("first")
    bad = np.flatnonzero((rows["value"] != first) & rows["value"].notna())
    keep = bad[np.unique(unit.code[bad], return_index=True)[1]]
    sheet.refuse(
        np.sort(keep),
        name,
        lambda row: f"differs from earlier rows of {unit.column} {unit.levels[unit.code[row]]}; {fix}",
    )


def _check_baseline_is_no_outcome(
    sheet: _Sheet, request: Request, factors: dict[str, Factor], numbers: dict[str, Floats]
) -> None:
    at_first = factors["visit"].code == 0
    y = np.array([_number(row[sheet.header.index(request.outcome)]) for row in sheet.rows])
    both = at_first & np.isfinite(y) & np.isfinite(numbers["baseline"])
    if both.any() and np.array_equal(y[both], numbers["baseline"][both]):
        sheet.whole(
            request.role["baseline"],
            f"is the outcome at visit {factors['visit'].levels[0]} itself, which is among the outcomes: leave "
            "--baseline out (--no-baseline-difference adjusts for it), or remove the rows of that visit",
        )


def _control_first(arm: Factor, control: str) -> Factor:
    place = arm.levels.index(control)
    order = [place, *(code for code in range(len(arm.levels)) if code != place)]
    new = np.empty(len(order), np.int32)
    new[order] = np.arange(len(order))
    return Factor(arm.column, tuple(arm.levels[code] for code in order), new[arm.code])
