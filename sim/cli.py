"""The command `nexttrial`: arguments in, text and exit codes out. Everything heavy is imported inside a command."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.errors import InvalidInput, NextTrialError, Problem
from sim.terminal import console, progress

if TYPE_CHECKING:
    from datetime import date

    from sim.run.compare import Comparison
    from sim.run.job import Executor
    from sim.run.store import Store
    from sim.run.tables import Result
    from sim.scenario.load import Scenario

WARN_FAILURES, STOP_FAILURES = 0.01, 0.05

app = typer.Typer(add_completion=True, no_args_is_help=False, rich_markup_mode=None, pretty_exceptions_enable=False)

WELCOME = """\
nexttrial sizes the next randomised trial: it turns what a small study saw into planning effects, simulates the trial
that could follow - clusters, calendar, dropout - and estimates the power of every design, with its Monte Carlo error.

Next steps:
  nexttrial evidence scenarios/evidence/habimana_2026.yaml    what the seed study implies, step by step
  nexttrial validate scenarios/crm_rwanda.yaml                is the scenario sound?
  nexttrial calendar scenarios/crm_rwanda.yaml --design ind_4 who is trained when, and what meets the window
  nexttrial run scenarios/crm_rwanda.yaml                     the power of every design
  nexttrial --help                                            all commands
"""


class Format(StrEnum):
    """How to print."""

    text = "text"
    json = "json"


class CalendarFormat(StrEnum):
    """How to print a calendar."""

    text = "text"
    csv = "csv"
    json = "json"


class Truth(StrEnum):
    """Whether the trained gain what is planned, or nobody gains."""

    alternative = "alternative"
    null = "null"


FormatOption = Annotated[Format, typer.Option("--format", help="Print tables, or JSON.")]


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Size the next randomised trial."""
    if version:
        from importlib import metadata

        typer.echo(f"nexttrial {metadata.version('nexttrial')}")
    elif context.invoked_subcommand is None:
        typer.echo(WELCOME, nl=False)


@app.command()
def validate(files: Annotated[list[Path], typer.Argument(metavar="FILE...")]) -> None:
    """Check scenario files: schema and sense, all errors at once."""
    from sim.scenario.load import read_scenario

    problems: list[Problem] = []
    for file in files:
        try:
            scenario = read_scenario(file)
        except InvalidInput as error:
            problems += error.problems
        else:
            typer.echo(f"{file}: ok, {len(scenario.file.designs)} designs x {len(scenario.names.outcome)} outcomes")
    if problems:
        raise InvalidInput(problems)


@app.command()
def evidence(
    file: Annotated[Path, typer.Argument()],
    reading: Annotated[str, typer.Option(help="What the printed F(1) is: a (linear contrast) or b (omnibus).")] = "a",
    skip: Annotated[list[str] | None, typer.Option(help="A discount to leave out; may be given again.")] = None,
    output: FormatOption = Format.text,
) -> None:
    """What a seed study implies: effect sizes with intervals, and the planning effect after each discount."""
    from sim.report.evidence import evidence_json, evidence_tables
    from sim.scenario.evidence import read_evidence

    study = read_evidence(file)
    try:
        if output is Format.json:
            typer.echo(json.dumps(evidence_json(study, reading, frozenset(skip or ())), indent=2, allow_nan=False))
            return
        tables = evidence_tables(study, reading, frozenset(skip or ()))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for table in tables:
        console().print(table)


@app.command()
def calendar(
    file: Annotated[Path, typer.Argument()],
    design: Annotated[str, typer.Option(help="Name of the design.")],
    number: Annotated[int, typer.Option(min=0, help="Which of the design's calendars.")] = 0,
    output: Annotated[
        CalendarFormat, typer.Option("--format", help="Tables, the training groups as CSV, or all as JSON.")
    ] = CalendarFormat.text,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw it (.svg, .png or .pdf; a Gantt chart, or power by date), or write the CSV."
        ),
    ] = None,
    scan: Annotated[
        str | None,
        typer.Option(metavar="start=FIRST..LAST", help="Start the design on many dates: loss, windows, power of each."),
    ] = None,
    step: Annotated[str, typer.Option(help="With --scan: time between two dates.")] = "2 weeks",
    replicates: Annotated[int, typer.Option(min=1, help="With --scan: replicates on each date.")] = 1000,
    workers: Annotated[str, typer.Option(help="With --scan: number of processes, or auto.")] = "auto",
) -> None:
    """One realised calendar: who is recruited, trained and visited when, what meets which window, what it takes."""
    from sim.report.calendar import calendar_frame, calendar_json, calendar_tables
    from sim.scenario.load import read_scenario

    if out is not None and out.suffix not in (".svg", ".png", ".pdf", ".csv"):
        raise typer.BadParameter(f"found {str(out)!r}; known endings: .svg, .png, .pdf, .csv", param_hint="--out")
    scenario = read_scenario(file)
    _check_name("--design", design, list(scenario.file.designs))
    if scan is not None:
        _scan(scenario.with_changes(replicates=replicates), design, scan, step, workers, output, out)
        return
    if number >= scenario.file.calendars:
        message = f"found {number}; the scenario has calendars 0 to {scenario.file.calendars - 1}"
        raise typer.BadParameter(message, param_hint="--number")
    table = calendar_frame(scenario, design, number).to_csv(index=False, lineterminator="\n")
    if output is CalendarFormat.csv:
        typer.echo(table, nl=False)
    elif output is CalendarFormat.json:
        typer.echo(json.dumps(calendar_json(scenario, design, number), indent=2, allow_nan=False))
    else:
        for part in calendar_tables(scenario, design, number):
            console().print(part)
    if out is None:
        return
    if out.suffix == ".csv":
        out.write_text(table, encoding="utf-8")
    else:
        from sim.report.gantt import gantt

        gantt(scenario, design, number, out)


def _scan(
    scenario: Scenario, design: str, scan: str, step: str, workers: str, output: CalendarFormat, out: Path | None
) -> None:
    """Prints or writes what becomes of a design that starts on each of many dates."""
    from sim.report.scan import scan_figure, scan_frame, scan_table
    from sim.run.scan import scan as scan_dates

    starts = _dates(scan, step)
    with progress(scenario.name, "dates") as tell:
        frame = scan_frame(scan_dates(scenario, design, starts, _n_worker(workers), tell))
    table = frame.to_csv(index=False, lineterminator="\n")
    if output is CalendarFormat.json:
        typer.echo(frame.to_json(orient="records", indent=2))
    elif output is CalendarFormat.csv:
        typer.echo(table, nl=False)
    else:
        console().print(scan_table(scenario, design, frame))
    if out is not None and out.suffix == ".csv":
        out.write_text(table, encoding="utf-8")
    elif out is not None:
        scan_figure(scenario, design, frame, out)


def _dates(scan: str, step: str) -> list[date]:
    """`start=2027-01-01..2027-12-31` and `2 weeks` as dates."""
    from datetime import timedelta

    from pydantic import TypeAdapter, ValidationError

    from sim.quantities import Date, Days
    from sim.run.scan import dates_between

    def read(kind: Any, text: str, option: str) -> Any:
        try:
            return TypeAdapter(kind).validate_python(text)
        except ValidationError as error:
            raise typer.BadParameter(error.errors()[0]["msg"], param_hint=option) from None

    match = re.fullmatch(r"start=(\S+)\.\.(\S+)", scan.strip())
    if match is None:
        message = f"found {scan!r}; two dates are needed, for example start=2027-01-01..2027-12-31"
        raise typer.BadParameter(message, param_hint="--scan")
    first, last = (read(Date, text, "--scan") for text in match.groups())
    days = read(Days, step, "--step")
    if last < first:
        raise typer.BadParameter(f"found {scan!r}; the last date comes before the first", param_hint="--scan")
    if days < 1:
        raise typer.BadParameter(f"found {step!r}; it must be at least 1 day", param_hint="--step")
    return dates_between(first, last, timedelta(days=days))


def _check_workers(workers: str) -> None:
    if workers != "auto" and not (workers.isdigit() and int(workers) > 0):
        message = f"found {workers!r}; a number of processes or 'auto' is needed"
        raise typer.BadParameter(message, param_hint="--workers")


def _n_worker(workers: str) -> int:
    _check_workers(workers)
    from sim.run.local import n_worker

    return n_worker(workers)


@app.command()
def run(
    file: Annotated[Path, typer.Argument()],
    replicates: Annotated[
        int | None, typer.Option(min=1, help="Replicates per design, in place of the file's.")
    ] = None,
    mcse: Annotated[
        float | None,
        typer.Option(min=1e-6, max=0.5, help="As many replicates as bring every Monte Carlo error to this or below."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed, in place of the file's.")] = None,
    workers: Annotated[str, typer.Option(help="Number of processes, or auto.")] = "auto",
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler: tcp://host:port, tls://host:port or local.")
    ] = None,
    dask_tls: Annotated[
        str | None, typer.Option(metavar="CA,CERT,KEY", help="With --dask tls://: three files, divided by commas.")
    ] = None,
    dask_insecure: Annotated[
        bool, typer.Option("--dask-insecure", help="Allow an unencrypted scheduler beyond this machine.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Result folder [default: results/<scenario name>].")] = None,
    design: Annotated[list[str] | None, typer.Option(help="Run only this design; may be given again.")] = None,
    new_run: Annotated[bool, typer.Option("--new-run", help="Replace what the result folder holds.")] = False,
    extend: Annotated[
        bool, typer.Option("--extend", help="Keep the designs in the folder that are as they were; add the others.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it takes: time, memory, disk, expected error.")
    ] = False,
    budget: Annotated[float, typer.Option(min=0, metavar="HOURS", help="Ask before a run that takes longer.")] = 1.0,
    yes: Annotated[bool, typer.Option("--yes", help="Run it whatever it takes.")] = False,
    allow_failures: Annotated[bool, typer.Option("--allow-failures", help="Accept more than 5% failed fits.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no progress and no table.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say first which kernel fits what, and why.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Only a first answer in milliseconds, by the noncentral t.")
    ] = False,
    output: FormatOption = Format.text,
) -> None:
    """The power of every design: simulates, analyses, writes a result folder, prints the table.

    Interrupted, it keeps every finished block; the same command goes on from there. With more replicates it adds them.
    """
    _check_workers(workers)
    if replicates is not None and mcse is not None:
        raise typer.BadParameter("it chooses the number of replicates: leave --replicates out", param_hint="--mcse")
    executor = _executor(dask, dask_tls, workers, insecure=dask_insecure)
    from sim.run.stopping import FIRST
    from sim.run.store import Store
    from sim.scenario.load import read_scenario

    scenario = read_scenario(file)
    for name in design or ():
        _check_name("--design", name, list(scenario.file.designs))
    n_replicate = FIRST if mcse is not None else replicates
    scenario = scenario.with_changes(replicates=n_replicate, seed=seed, designs=design or None)
    if preview:
        _announce_compilation("*._simulate")
        _show_preview(scenario, output)
        return
    if explain:
        from sim.report.explain import explain_table

        console(stderr=output is Format.json).print(explain_table(scenario))
    say = _say_nothing if quiet else partial(typer.echo, err=True)
    store = Store(out or Path("results") / scenario.name, scenario, say)
    if dry_run:
        _show_estimate(scenario, executor.workers, mcse, output)
        return
    _ask(scenario, store.folder, executor, budget, yes=yes)
    began = time.perf_counter()
    if not quiet:
        _announce_compilation()
    result = _run(scenario, store, executor, mcse, output, new_run=new_run, extend=extend, quiet=quiet)
    _show(result, store.folder, output, quiet=quiet, seconds=time.perf_counter() - began)
    _judge_failures(result.failure_rate, allowed=allow_failures)


def _run(
    scenario: Scenario, store: Store, executor: Executor, mcse: float | None, output: Format, *,
    new_run: bool, extend: bool, quiet: bool, pictures: bool = True,
) -> Result:  # fmt: skip
    """The finished run with its pictures. One that stops early prints what there is, as PARTIAL, and exits."""
    from sim.run.interrupt import Terminated, sigterm_as_interrupt
    from sim.run.job import Stopped
    from sim.run.job import run as run_job

    try:
        with sigterm_as_interrupt(), progress(scenario.name, quiet=quiet) as tell:
            result = run_job(scenario, store, executor, tell, new_run=new_run, extend=extend, mcse=mcse)
            if pictures:
                _draw(result, store.folder)
            return result
    except Stopped as stopped:
        _show_partial(stopped.partial, output, quiet=quiet)
        if isinstance(stopped.cause, NextTrialError):
            raise stopped.cause from None
        code = 143 if isinstance(stopped.cause, Terminated) else 130
    except KeyboardInterrupt as error:
        code = 143 if isinstance(error, Terminated) else 130
    typer.echo("interrupted; finished blocks are kept: give the same command, without --new-run, to go on", err=True)
    raise typer.Exit(code)


def _draw(result: Result, folder: Path) -> None:
    """The pictures that are not there; those of other replicates went when these were begun."""
    if result.scenario.has_control and not (folder / "power.svg").exists():
        from sim.report.figures import power_figure

        power_figure(result, folder)
    for name in result.scenario.file.designs:
        path = folder / f"flow_{name}.svg"
        if not path.exists():
            from sim.report.consort import consort_figure

            consort_figure(result, name, path)


def _executor(address: str | None, tls: str | None, workers: str, *, insecure: bool) -> Executor:
    """Where blocks are computed: here, or by a Dask scheduler that nobody can listen to."""
    from sim.run.local import Local

    if address is None:
        if tls is not None or insecure:
            raise typer.BadParameter("only with --dask ADDRESS", param_hint="--dask-tls" if tls else "--dask-insecure")
        return Local(workers)
    if address != "local" and not re.fullmatch(r"(tcp|tls)://[^\s:]+:\d+", address):
        message = f"found {address!r}; needed: tcp://host:port, tls://host:port or local"
        raise typer.BadParameter(message, param_hint="--dask")
    from sim.run.dask import Dask, Tls, is_private

    if address != "local" and not (is_private(address) or insecure):
        message = (
            f"{address} is neither encrypted nor on this machine: whoever reaches it can run code there. Use tls:// "
            "with --dask-tls, or --dask-insecure on a network that you trust"
        )
        raise typer.BadParameter(message, param_hint="--dask")
    if tls is None:
        return Dask(address, _n_worker(workers))
    files = [Path(part) for part in tls.split(",")]
    if len(files) != 3 or not all(path.is_file() for path in files):
        raise typer.BadParameter(f"found {tls!r}; three files: CA,CERT,KEY", param_hint="--dask-tls")
    return Dask(address, _n_worker(workers), Tls(*files))


def _ask(scenario: Scenario, folder: Path, executor: Executor, budget: float, *, yes: bool) -> None:
    """Ask before a run that takes more than the budget, on a terminal; refuse it elsewhere."""
    from sim.errors import TooLarge
    from sim.run.pilot import LONG, guess, measure, obstacle

    if yes:
        return
    estimate, limit = guess(scenario, 1), budget * 3600
    if estimate.seconds > LONG:
        estimate = guess(scenario, executor.workers)
    if LONG < estimate.seconds < 1000 * limit:
        estimate = measure(scenario, executor.workers)
    why = obstacle(estimate, folder, limit)
    if not why:
        return
    if not sys.stdin.isatty():
        raise TooLarge(f"not begun: {why}. Ask for less, raise --budget, or give --yes.")
    typer.confirm(f"{why}. Begin?", abort=True, err=True)


def _show_estimate(scenario: Scenario, workers: int, mcse: float | None, output: Format) -> None:
    from sim.report.estimate import estimate_json, estimate_table
    from sim.run.pilot import LONG, guess, measure
    from sim.run.stopping import expected

    if mcse is not None:
        scenario = scenario.with_changes(replicates=expected(mcse))
    found = guess(scenario, workers)
    if found.seconds < 10_000 * LONG:
        found = measure(scenario, workers)
    if output is Format.json:
        typer.echo(json.dumps(estimate_json(found, workers), indent=2, allow_nan=False))
    else:
        console().print(estimate_table(found, workers))


def _show_partial(result: Result | None, output: Format, *, quiet: bool) -> None:
    """What is known of a run that stopped, labelled so."""
    if result is None or quiet or output is Format.json:
        return
    from sim.report.tables import run_tables

    finished = ", ".join(f"{name} {n:,}" for name, n in result.n_replicate.items())
    typer.echo(f"PARTIAL: replicates finished of {result.scenario.file.replicates:,}: {finished}")
    console().print(run_tables(result))
    typer.echo("PARTIAL: the run above is not complete")


def _say_nothing(text: str) -> None:
    """For --quiet."""


def _announce_compilation(kernel: str = "") -> None:
    """Say so if a kernel, or anything at all, has yet to be compiled."""
    if not any(Path(os.environ["NUMBA_CACHE_DIR"]).rglob(f"{kernel}*.nbi")):
        typer.echo("first call of this version: compiling, which takes about half a minute, once", err=True)


def _show_preview(scenario: Any, output: Format) -> None:
    from sim.report.explain import preview_rows, preview_table

    if output is Format.json:
        typer.echo(json.dumps({"preview": preview_rows(scenario)}, indent=2, allow_nan=False))
    else:
        console().print(preview_table(scenario))


@app.command()
def compare(
    what: Annotated[
        list[Path], typer.Argument(metavar="FILE | RESULT [RESULT]", help="A scenario, or one or two result folders.")
    ],
    design: Annotated[
        list[str] | None, typer.Option(help="A design to compare; given twice or more [default: all].")
    ] = None,
    replicates: Annotated[
        int | None, typer.Option(min=2, help="Of a scenario: replicates per design, in place of the file's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of a scenario: seed, in place of the file's.")] = None,
    workers: Annotated[str, typer.Option(help="Of a scenario: number of processes, or auto.")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Of a scenario: result folder [default: results/<scenario name>-compare-<hash>]."),
    ] = None,
    new_run: Annotated[bool, typer.Option("--new-run", help="Replace what the result folder holds.")] = False,
    budget: Annotated[float, typer.Option(min=0, metavar="HOURS", help="Ask before a run that takes longer.")] = 1.0,
    yes: Annotated[bool, typer.Option("--yes", help="Run it whatever it takes.")] = False,
    allow_failures: Annotated[bool, typer.Option("--allow-failures", help="Accept more than 5% failed fits.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no progress and no table.")] = False,
    output: FormatOption = Format.text,
) -> None:
    """Differences in power with their Monte Carlo errors, and which are real.

    Designs of a scenario are run on common random numbers, with its primary analysis; what is in result folders is
    compared as it is, as pairs of replicates where they share their random numbers.
    """
    _check_workers(workers)
    folders = [path for path in what if path.is_dir()]
    if len(what) > 2 or (len(what) == 2 and len(folders) < 2):
        raise typer.BadParameter("give one scenario file, or one or two result folders", param_hint="FILE | RESULT")
    names = list(dict.fromkeys(design or ()))
    if not folders:
        file = what[0]
        given = {"replicates": replicates, "seed": seed, "workers": workers, "out": out, "new_run": new_run}
        folders = [_run_to_compare(file, names, given, budget, output, yes=yes, quiet=quiet)]
    found = _compared(folders, names)
    from sim.report.compare import compare_json, compare_tables

    if output is Format.json:
        typer.echo(json.dumps(compare_json(found), indent=2, allow_nan=False))
    elif not quiet:
        console().print(compare_tables(found))
    _judge_failures(found.failure_rate, allowed=allow_failures)


def _compared(folders: list[Path], names: list[str]) -> Comparison:
    """The designs of one result folder, or those of two."""
    from sim.run.compare import Finished, NotComparable, between, matching, within

    try:
        runs = [Finished.read(folder) for folder in folders]
        if len(runs) == 2:
            one, other = runs
            return between(one, other, matching(one, other, names))
        for name in names:
            _check_name("--design", name, runs[0].designs)
        chosen = names or runs[0].designs
        _check_several(chosen)
        return within(runs[0], chosen)
    except NotComparable as error:
        raise typer.BadParameter(str(error)) from None


def _check_several(designs: list[str]) -> None:
    if len(designs) < 2:
        message = f"found {', '.join(designs)}; two designs or more are needed: --design A --design B"
        raise typer.BadParameter(message, param_hint="--design")


def _run_to_compare(
    file: Path, names: list[str], given: dict[str, Any], budget: float, output: Format, *, yes: bool, quiet: bool
) -> Path:
    """The folder of a finished run of these designs on common random numbers."""
    from sim.run.compare import on_common_numbers
    from sim.run.local import Local
    from sim.run.store import Store
    from sim.scenario.load import read_scenario

    scenario = read_scenario(file)
    for name in names:
        _check_name("--design", name, list(scenario.file.designs))
    chosen = names or list(scenario.file.designs)
    _check_several(chosen)
    scenario = on_common_numbers(scenario.with_changes(replicates=given["replicates"], seed=given["seed"]), chosen)
    folder = given["out"] or Path("results") / f"{scenario.name}-compare-{scenario.fingerprint[:8]}"
    executor = Local(given["workers"])
    store = Store(folder, scenario, _say_nothing if quiet else partial(typer.echo, err=True))
    _ask(scenario, folder, executor, budget, yes=yes)
    if not quiet:
        _announce_compilation()
    _run(
        scenario, store, executor, None, output,
        new_run=given["new_run"], extend=True, quiet=quiet, pictures=False,
    )  # fmt: skip
    return store.folder


@app.command()
def simulate(
    file: Annotated[Path, typer.Argument()],
    design: Annotated[str, typer.Option(help="Name of the design.")],
    replicate: Annotated[int, typer.Option(min=0, max=99_999_999, help="Which replicate, from 0.")],
    truth: Annotated[
        Truth, typer.Option(help="Whether the trained gain what is planned, or nobody does.")
    ] = Truth.alternative,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed, in place of the file's.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DATA.CSV", help="Write the data set, and DATA.R and DATA.py, which fit it again."),
    ] = None,
) -> None:
    """The data set of one replicate, exactly as a run draws it; with --out, scripts that analyse it again."""
    if out is not None:
        _check_scripts(out)
    from sim.report.replay import replay, write_replay
    from sim.run.replay import data_set
    from sim.scenario.load import read_scenario

    scenario = read_scenario(file)
    _check_name("--design", design, list(scenario.file.designs))
    scenario = scenario.with_changes(seed=seed)
    _announce_compilation()
    if out is None:
        table = data_set(scenario, design, replicate, truth.value)
        typer.echo(table.to_csv(index=False, lineterminator="\n"), nl=False)
        return
    written = write_replay(replay(scenario, design, replicate, truth.value), out)
    typer.echo(f"In {out.parent}: {', '.join(path.name for path in written)}.")


def _check_scripts(out: Path) -> None:
    """Refuses a data set whose scripts would overwrite something else, or hide a Python module from one another."""
    from importlib.util import find_spec

    if out.suffix != ".csv":
        raise typer.BadParameter(f"found {str(out)!r}; known endings: .csv", param_hint="--out")
    for script in (out.with_suffix(".R"), out.with_suffix(".py")):
        if script.exists() and "Replay of replicate" not in script.read_text(encoding="utf-8", errors="replace")[:80]:
            message = f"{script} is there already and is no replay; give the data set another name"
            raise typer.BadParameter(message, param_hint="--out")
    spec = find_spec(out.stem) if out.stem.isidentifier() else None
    if spec is not None and spec.origin not in (None, str(out.with_suffix(".py").resolve())):
        message = f"a script {out.stem}.py would hide Python's module of this name; give the data set another name"
        raise typer.BadParameter(message, param_hint="--out")


@app.command()
def doctor(output: FormatOption = Format.text) -> None:
    """Versions, processor, compiled code, what is installed, and which kernels there are."""
    from sim.report.doctor import diagnosis, doctor_lines

    found = diagnosis()
    typer.echo(json.dumps(found, indent=2) if output is Format.json else "\n".join(doctor_lines(found)))


def _column(what: str) -> Any:
    return typer.Option(metavar="COLUMN", help=f"Column of {what}.")


@app.command("analyze", hidden=True)
@app.command("analyse")
def analyse(
    file: Annotated[Path, typer.Argument(metavar="DATA.CSV", help="One row per participant and visit.")],
    method: Annotated[
        str,
        typer.Option(
            help="The planned analysis: lmm, mmrm, ancova, partially-nested, cluster-summary, gee, randomisation or "
            "rm-anova."
        ),
    ],
    outcome: Annotated[str, _column("the outcome; an empty cell was not seen")],
    arm: Annotated[str | None, _column("the arms, numbers or names")] = None,
    participant: Annotated[str | None, _column("participants")] = None,
    visit: Annotated[str | None, _column("visits; without it, one row per participant")] = None,
    cluster: Annotated[str | None, _column("clusters, such as villages")] = None,
    district: Annotated[str | None, _column("districts")] = None,
    training_group: Annotated[str | None, _column("training groups; empty = untrained")] = None,
    baseline: Annotated[str | None, _column("the baseline score, to adjust for")] = None,
    covariates: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN,...", help="Columns to adjust for, separated by commas.")
    ] = None,
    contrast: Annotated[
        str | None,
        typer.Option(
            help="'final': arm difference at the last visit [default]; 'change'; or two arms, 'mixed - separate'."
        ),
    ] = None,
    all_terms: Annotated[bool, typer.Option("--all-terms", help="Print every term instead of a contrast.")] = False,
    joint: Annotated[
        list[str] | None, typer.Option(metavar="TERM", help="A term of the joint test; may be given again.")
    ] = None,
    control: Annotated[str | None, typer.Option(metavar="ARM", help="The control arm [default: the first].")] = None,
    df: Annotated[
        str | None,
        typer.Option(
            help="lmm, mmrm, partially-nested: satterthwaite [default], satterthwaite-expected, kenward-roger, "
            "kenward-roger-observed, kenward-roger-second-order, between-within or z."
        ),
    ] = None,
    ml: Annotated[bool, typer.Option("--ml", help="Maximum likelihood instead of REML.")] = False,
    boundary: Annotated[
        str | None,
        typer.Option(help="A variance estimated at 0: drop it from the df [default], keep it, or let it be negative."),
    ] = None,
    no_baseline_difference: Annotated[
        bool, typer.Option("--no-baseline-difference", help="lmm, mmrm: no arm difference at the first visit.")
    ] = False,
    village_by_visit: Annotated[
        bool, typer.Option("--village-by-visit", help="lmm: a random intercept of cluster by visit.")
    ] = False,
    random_slope: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="lmm: time, linear, with a random slope of participant."),
    ] = None,
    final_visit_only: Annotated[
        bool,
        typer.Option("--final-visit-only", help="lmm: only the last visit, which the one-visit methods do anyway."),
    ] = False,
    covariance: Annotated[str | None, typer.Option(help="mmrm: us [default], cs, csh, ar1, toep, ...")] = None,
    residual_by_arm: Annotated[
        bool, typer.Option("--residual-by-arm", help="partially-nested: a residual variance for each arm.")
    ] = False,
    se: Annotated[
        str | None,
        typer.Option(
            help="ancova: ols, cr0, cr1, cr2 or cr3 [cr2 with --cluster]; gee: robust [default], kc, md or fg."
        ),
    ] = None,
    family: Annotated[str | None, typer.Option(help="gee: gaussian [default] or binomial.")] = None,
    welch: Annotated[bool, typer.Option("--welch", help="cluster-summary: unequal variances.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="randomisation: seed of the dealings drawn [0].")] = None,
    permutations: Annotated[
        int | None, typer.Option(min=99, help="randomisation: dealings drawn where there are more [10000].")
    ] = None,
    output: FormatOption = Format.text,
) -> None:
    """A planned analysis of a data set, simulated or real."""
    arguments = dict(locals())
    from sim.dataset.analyse import analyse_file
    from sim.dataset.request import Request, WrongUsage
    from sim.report.analysis import analysis_json, analysis_tables

    del arguments["file"], arguments["output"]
    arguments["covariates"] = tuple(name.strip() for part in covariates or () for name in part.split(","))
    arguments["joint"] = tuple(joint or ())
    try:
        request = Request(**arguments)
        if method in ("lmm", "mmrm", "partially-nested"):
            _announce_compilation("mixed_fit._fit_from")
        result = analyse_file(file, request)
    except WrongUsage as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from None
    if output is Format.json:
        typer.echo(json.dumps(analysis_json(result), indent=2, allow_nan=False))
    else:
        console().print(analysis_tables(result))
    if result.is_failed:
        raise typer.Exit(1)


def _show(result: Any, folder: Path, output: Format, *, quiet: bool, seconds: float) -> None:
    from sim.report.tables import designs_json, run_tables

    if output is Format.json:
        typer.echo(json.dumps(designs_json(result), indent=2, allow_nan=False))
    elif not quiet:
        console().print(run_tables(result))
        done = (
            f"{result.n_computed} blocks computed in {seconds:.0f} s" if result.n_computed else "all blocks were there"
        )
        typer.echo(f"\n{done}. In {folder}: {', '.join(_files(folder))} and the replicates in blocks/.")


def _files(folder: Path) -> list[str]:
    """The files of a result folder by name; those that each design has one of are named together."""
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    by_design = [name for name in files if re.fullmatch(r"flow_.*\.svg", name)]
    if len(by_design) < 2:
        return files
    together = f"flow_<design>.svg ({len(by_design)} designs)"
    return sorted({together, *files}.difference(by_design))


def _judge_failures(rate: float, *, allowed: bool) -> None:
    from sim.errors import TooManyFailures

    if rate > STOP_FAILURES and not allowed:
        raise TooManyFailures(
            f"up to {rate:.1%} of the fits of a cell failed, more than {STOP_FAILURES:.0%}: its power is no headline. "
            "failures.csv has the commands that replay them; --allow-failures accepts it."
        )
    if rate > WARN_FAILURES:
        typer.echo(
            f"warning: up to {rate:.1%} of the fits of a cell failed; failures.csv has the commands that replay them",
            err=True,
        )


def _check_name(option: str, name: str, known: list[str]) -> None:
    if name not in known:
        from sim.scenario.nearest import known_names

        raise typer.BadParameter(f"found {name!r}; {known_names(name, known)}", param_hint=option)


def main() -> None:
    """Run the command; turns our errors into their messages and exit codes, so that no user sees a traceback."""
    try:
        app(standalone_mode=True)
    except NextTrialError as error:
        typer.echo(str(error), err=True)
        if isinstance(error, InvalidInput) and len(error.problems) > 1:
            typer.echo(f"{len(error.problems)} errors", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        typer.echo(f"{error.filename or 'a file'}: {error.strerror}. What was finished is kept.", err=True)
        sys.exit(4)
    except Exception as error:
        import traceback

        traceback.print_exc()
        typer.echo(f"internal error: {error!r}. Please report it with the lines above and the scenario.", err=True)
        sys.exit(5)
