"""What a command shows while it works, and the console it prints on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120
"""Columns that tables are made for, wherever they are printed."""
LOG_SECONDS = 5.0


def console(*, stderr: bool = False) -> Console:
    """The terminal if it is wide enough, else one of WIDTH columns; square brackets in a user's text are no styles."""
    from rich.console import Console

    found = Console(stderr=stderr, markup=False, emoji=False)
    if found.is_terminal and found.width >= WIDTH:
        return found
    return Console(width=WIDTH, stderr=stderr, markup=False, emoji=False)


@contextmanager
def progress(name: str, unit: str = "blocks", *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A function to call with (done, of): a bar on a terminal, elsewhere a line now and then, with the time left."""
    if quiet:
        yield lambda done, total: None
        return
    from rich.console import Console

    shown = Console(stderr=True)
    if not shown.is_terminal:
        yield _lines(name, unit)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(f"{unit}, left:"),
        TimeRemainingColumn(), console=shown,
    )  # fmt: skip
    with bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(name: str, unit: str) -> Callable[[int, int], None]:
    began = last = time.perf_counter()
    first: int | None = None

    def tell(done: int, total: int) -> None:
        nonlocal last, first
        first = done if first is None else first
        now = time.perf_counter()
        if now - last >= LOG_SECONDS or done == total:
            last = now
            left = (now - began) / max(done - first, 1) * (total - done)
            typer.echo(f"{name}: {done} of {total} {unit}, {left:.0f} s left", err=True)

    return tell
