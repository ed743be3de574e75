"""What can go wrong because of a user's input or machine; each knows its exit code, none needs a traceback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake in an input file: where it is, what was found, what is allowed."""

    file: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where} {self.field}: {self.message}" if self.field else f"{where} {self.message}"


class NextTrialError(Exception):
    """Base of our errors; `exit_code` is what the command returns."""

    exit_code = 5


class InvalidInput(NextTrialError):
    """A scenario, an evidence file or data that cannot be used. Holds every problem found, not only the first."""

    exit_code = 3

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__(self.problems)  # the arguments it is rebuilt from in another process

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class NotResumable(NextTrialError):
    """A result folder that holds something else than what was asked for."""

    exit_code = 4


class TooManyFailures(NextTrialError):
    """More than 5% of the fits failed; the numbers are on disk but are not a headline."""

    exit_code = 1
