"""Time and memory of the main job, the share that calendars take, and a mixed-model fit beside lme4 in one run.

    make bench

Wall time and resident memory are those of `nexttrial run scenarios/crm_rwanda.yaml` with 2 workers, compiled code in
the cache; memory is the sum over the command and its workers, sampled ten times a second. The peer is lme4 with
lmerTest (Satterthwaite) through Rscript, on the same data sets of the primary analysis; without R it is left out.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sim.run.blocks import Block, draw, realise, simulate_block
from sim.scenario.load import Scenario, read_scenario
from sim.streams import Streams

ROOT = Path(__file__).parents[1]
SCENARIO = ROOT / "scenarios" / "crm_rwanda.yaml"
PEER_FITS = 40

R_PEER = """
suppressMessages(library(lmerTest))
d <- read.csv(commandArgs(TRUE)[1])
fit <- function(s) {
  m <- lmer(y ~ arm + baseline + stratum + factor(district) + (1 | village) + (0 + arm | team), d[d$set == s, ])
  coef(summary(m, ddf = "Satterthwaite"))["arm", c("Estimate", "Std. Error", "df")]
}
invisible(suppressMessages(fit(0)))
began <- proc.time()[["elapsed"]]
answers <- sapply(unique(d$set), function(s) suppressMessages(fit(s)))
cat((proc.time()[["elapsed"]] - began) / length(unique(d$set)), answers["Estimate", ], answers["Std. Error", ], "\\n")
"""


def resident_megabytes(pid: int) -> float:
    """Memory of a process and all below it."""
    children: dict[int, list[int]] = {}
    resident: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            children.setdefault(int(fields[1]), []).append(int(folder.name))
            resident[int(folder.name)] = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    total, stack = 0, [pid]
    while stack:
        one = stack.pop()
        total += resident.get(one, 0)
        stack += children.get(one, [])
    return total / 1e6


def main_job(replicates: int) -> tuple[float, float]:
    """Seconds and peak resident megabytes of one run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "sim", "run", str(SCENARIO), "--workers", "2", "--quiet",
                   "--replicates", str(replicates), "--out", folder]  # fmt: skip
        began = time.perf_counter()
        process = subprocess.Popen(command)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, resident_megabytes(process.pid))
            time.sleep(0.1)
        if process.returncode:
            raise SystemExit(process.returncode)
        return time.perf_counter() - began, peak


def calendar_share(scenario: Scenario) -> float:
    """Seconds of drawing all calendars over seconds of the job, one process, one design of each kind."""
    calendars = job = 0.0
    for design in ("ind_8", "vil_8"):
        simulate_block(scenario, Block(design, 0, 64))
        realise.cache_clear()
        began = time.perf_counter()
        for number in range(scenario.file.calendars):
            realise(scenario, design, number)
        calendars += time.perf_counter() - began
        n = 512
        began = time.perf_counter()
        simulate_block(scenario, Block(design, 0, n))
        job += (time.perf_counter() - began) * scenario.file.replicates / n
    return calendars / (calendars + job)


def beside_lme4(scenario: Scenario) -> None:
    """Seconds a fit of the primary analysis, village-randomised design, ours and lme4's, on the same data sets."""
    realisation = realise(scenario, "vil_4", 0)
    replicate = np.arange(PEER_FITS // 8, dtype=np.int32) * scenario.file.calendars
    trial = draw(scenario, realisation, Streams(scenario.file.seed, "vil_4"), replicate).trial
    method = scenario.file.analyses["mixed_ancova"]
    fit = method.analyse(trial)
    many = draw(scenario, realisation, Streams(scenario.file.seed, "vil_4"), np.arange(64, dtype=np.int32) * 64).trial
    began = time.perf_counter()
    method.analyse(many)
    ours = (time.perf_counter() - began) / len(many.y)
    print(f"mixed_ancova of vil_4 (480 people, 24 villages), one core: {ours * 1e6:.0f} us a fit")
    if not shutil.which("Rscript"):
        print("peer left out: Rscript not found (Debian: r-cran-lmertest)")
        return
    allocation = realisation.allocation
    with tempfile.TemporaryDirectory() as folder:
        data, script = Path(folder) / "d.csv", Path(folder) / "peer.R"
        lines = ["set,y,arm,baseline,stratum,district,village,team"]
        for s in range(len(trial.y)):
            for i in np.flatnonzero(trial.observed[s, :, -1]):
                lines.append(
                    f"{s},{trial.y[s, i, -1]!r},{allocation.arm[i]},{trial.y[s, i, 0]!r},{allocation.stratum[i]},"
                    f"{allocation.district[i]},{allocation.village[i]},{trial.team[i]}".replace(
                        "np.float64(", ""
                    ).replace(")", "")
                )
        data.write_text("\n".join(lines) + "\n")
        script.write_text(R_PEER)
        out = subprocess.run(["Rscript", str(script), str(data)], capture_output=True, text=True, check=True).stdout
    seconds, *answers = (float(x) for x in out.split())
    estimate, error = np.array(answers).reshape(2, -1)
    print(
        f"lme4 + lmerTest (Satterthwaite) on the same data: {seconds * 1e6:.0f} us a fit, "
        f"{seconds / ours:.0f} times ours"
    )
    print(
        f"largest difference over {len(estimate)} fits: estimate {np.abs(estimate - fit.estimate).max():.1e}, "
        f"standard error {np.abs(error - fit.standard_error).max():.1e}"
    )


def main() -> None:
    scenario = read_scenario(SCENARIO)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    main_job(8)  # fills the cache of compiled code
    n = scenario.file.replicates
    n_fit = n * len(scenario.file.designs) * len(scenario.names.outcome) * 2 * len(scenario.file.analyses)
    seconds, peak = main_job(n)
    print(
        f"main job: {len(scenario.file.designs)} designs x {len(scenario.names.outcome)} outcomes x 2 truths x {n} "
        f"replicates, {n_fit:,} fits: {seconds:.1f} s, peak {peak:.0f} MB over all processes"
    )
    for replicates in (n // 2, n * 2):
        seconds, peak = main_job(replicates)
        print(f"  {replicates} replicates: {seconds:.1f} s, peak {peak:.0f} MB")
    print(f"calendars: {calendar_share(scenario):.1%} of the job in one process")
    beside_lme4(scenario)


if __name__ == "__main__":
    main()
