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


class InUse(NotResumable):
    """A result folder that another process is working in, or one that cannot be locked against it."""


class DiskFull(NextTrialError):
    """No room for a block; those before it are safe."""

    exit_code = 4


class WorkersLost(NextTrialError):
    """Blocks that could not be computed because the processes or machines that tried are gone."""

    exit_code = 4


class TooLarge(NextTrialError):
    """A request beyond the stated budget of time, memory or disk, and nobody said yes to it."""

    exit_code = 2


class TooManyFailures(NextTrialError):
    """More than 5% of the fits failed; the numbers are on disk but are not a headline."""

    exit_code = 1
