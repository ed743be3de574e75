"""Peers of the mixed-model fits: MCPower, and lme4 with lmerTest or pbkrtest, nlme for W3. Each one is optional.

Every function returns one `Timing` or raises `LeftOut` with the reason. Peers run as separate programs, so nothing of
theirs is imported here; they inherit the processor that the caller is bound to, and one thread each.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from workloads import Answers, Sets, Workload

MCPOWER = "1.4.1"
ONE_THREAD = {"RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class LeftOut(Exception):
    """A peer that cannot be run here, and why."""


@dataclass(frozen=True)
class Timing:
    """Processor seconds a replicate, over how many; the answers where the peer was given data; a remark."""

    seconds: float
    n: int
    answers: Answers | None = None
    remark: str = ""


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_THREAD)
    if done.returncode:
        raise LeftOut(f"{Path(command[0]).name} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


# --- MCPower (Rust, GPL-3: only run) ---------------------------------------------------------------------------------
# It simulates and fits in one call, so its seconds hold the drawing of the data. Variances are set as an ICC against a
# residual variance of 1 at each level apart: tau^2 = ICC / (1 - ICC); .1 and .5263 are W2's .05 : .5 : .45.
# What it cannot say of W2: dropout, and visits that every participant passes once: its visit is a factor shuffled over
# all rows. W1 is refused (fewer than 5 rows a cluster), W4 too (one level of nesting); W2c and W3 have no syntax.

MCPOWER_DESIGNS: dict[str, dict[str, Any]] = {
    "H": {
        "formula": "y = t + x + (1|village)",
        "types": "t=binary",
        "effects": "t=0, x=0.5",
        "clusters": [["village", {"ICC": 0.05, "n_clusters": 24, "cluster_level_vars": ["t"]}]],
        "rows": 600,
        "target": "t",
        "n": 40000,
    },
    "W2": {
        "formula": "y = t + v + t:v + (1|village/id)",
        "types": "t=binary, v=(factor,3)",
        "effects": "t=0, v[2]=0.1, v[3]=0.1, t:v[2]=0, t:v[3]=0",
        "clusters": [
            ["village", {"ICC": 0.1, "n_clusters": 24, "cluster_level_vars": ["t"]}],
            ["village:id", {"ICC": 0.5263, "n_per_parent": 25}],
        ],
        "rows": 1800,
        "target": "t:v[3]",
        "n": 2000,
    },
}
MCPOWER_TESTS = {"default": "between_within", "z": "asymptotic"}

MCPOWER_SCRIPT = """
import json, sys, time
from mcpower import MCPower, _engine
design, test = json.loads(sys.argv[1]), sys.argv[2]
_engine.set_n_threads(1)
model = MCPower(design["formula"], family="lme")
model.set_variable_type(design["types"])
model.set_effects(design["effects"])
for name, options in design["clusters"]:
    model.set_cluster(name, **options)
call = dict(sample_size=design["rows"], target_test=design["target"], df_method=test, verbose=False,
            progress_callback=False)
model.find_power(n_sims=design["n"] // 20, **call)
began, cpu = time.perf_counter(), time.process_time()
result = model.find_power(n_sims=design["n"], **call)
wall, cpu = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps([wall, cpu, result["power_uncorrected"][0][0], result["convergence_rate"][0]]))
"""


@cache
def mcpower_python() -> Path:
    """Python of an environment of its own that holds MCPower, made at first use in the user's cache folder."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nexttrial-peers" / f"mcpower-{MCPOWER}"
    python = home / "bin" / "python"
    if (home / "complete").exists():
        return python
    venv.create(home, clear=True, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"mcpower=={MCPOWER}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LeftOut(f"mcpower {MCPOWER} could not be installed: {last}")
    (home / "complete").touch()
    return python


def mcpower(workload: Workload, test: str) -> Timing:
    """Drawing and fitting on the design nearest to the workload.

    test : 'default' is Satterthwaite where random effects are nested (W2) and a between-within t else; 'z' is Wald.
    """
    if workload.name not in MCPOWER_DESIGNS:
        raise LeftOut("MCPower has no such design")
    design = MCPOWER_DESIGNS[workload.name]
    out = _run([str(mcpower_python()), "-c", MCPOWER_SCRIPT, json.dumps(design), MCPOWER_TESTS[test]])
    wall, cpu, rejected, converged = json.loads(out.splitlines()[-1])
    if cpu > 1.1 * wall:
        raise LeftOut(f"MCPower used {cpu / wall:.1f} processors: not comparable")
    return Timing(
        cpu / design["n"], design["n"], remark=f"true null rejected {rejected:.1%}, {converged:.1%} converged"
    )


# --- R ---------------------------------------------------------------------------------------------------------------
# Processor time of fit and test alone: reading and subsetting the data, and drawing it, are not counted.

R_SCRIPT = """
suppressMessages({library(lmerTest); library(nlme)})
arg <- commandArgs(TRUE)
d <- read.csv(arg[1], colClasses = c(visit = "factor", village = "factor", district = "factor", id = "factor"))
model <- as.formula(arg[2]); weights <- eval(parse(text = arg[3])); method <- arg[4]
fit <- if (method == "nlme") function(s) {
  m <- lme(model, s, random = list(village = pdIdent(~ 0 + arm)), weights = varIdent(form = ~ 1 | arm))
  row <- summary(m)$tTable["arm", ]
  c(row["Value"], row["Std.Error"], NA)
} else function(s) {
  t <- contest1D(lmer(model, s), weights, ddf = method)
  c(t[["Estimate"]], t[["Std. Error"]], t[["df"]])
}
sets <- split(d, d$set)
if (arg[5] == "warm") invisible(suppressMessages(fit(sets[[1]])))
for (s in sets) {
  began <- proc.time()
  answer <- suppressMessages(fit(droplevels(s)))
  cat(sum((proc.time() - began)[1:2]), format(answer, digits = 15), "\\n")
}
"""
R_PACKAGES = {"Satterthwaite": "lmerTest", "Kenward-Roger": "pbkrtest", "nlme": "nlme"}

R_VERSIONS = """
cat("R ", R.version$major, ".", R.version$minor, sep = "")
for (p in c("lme4", "lmerTest", "pbkrtest", "nlme"))
  if (requireNamespace(p, quietly = TRUE)) cat("; ", p, " ", as.character(packageVersion(p)), sep = "")
cat("; BLAS of R", basename(extSoftVersion()[["BLAS"]]))
"""


@cache
def r_has(package: str) -> bool:
    """Whether R and one of its packages are installed."""
    if not shutil.which("Rscript"):
        raise LeftOut("Rscript not found (Debian: r-cran-lmertest, r-cran-pbkrtest)")
    command = ["Rscript", "-e", f'cat(requireNamespace("{package}", quietly = TRUE))']
    return subprocess.run(command, capture_output=True, text=True).stdout.endswith("TRUE")


def _rows(workload: Workload, sets: Sets) -> tuple[list[str], np.ndarray]:
    """Header and rows of the observed scores, one a visit; in an ANCOVA the final visit with the first one as x."""
    s, i, t = np.nonzero(sets.observed)
    if workload.is_ancova:
        last = t == workload.n_visit - 1
        s, i, t = s[last], i[last], t[last]
    header = ["set", "y", "x", "arm", "visit", "id", "village", "district"]
    columns = [s, sets.y[s, i, t], sets.y[s, i, 0], workload.arm[i], t, i, workload.village[i], workload.district[i]]
    return header, np.column_stack(columns)


def r_fits(workload: Workload, sets: Sets, method: str, warm: bool = True) -> Timing:
    """Fits of the given data sets in R, median processor time.

    method : 'Satterthwaite' (lme4 + lmerTest), 'Kenward-Roger' (lme4 + pbkrtest) or, for W3 alone, 'nlme'.
    warm : fit the first set once before, uncounted.
    """
    for package in ("lmerTest", R_PACKAGES[method]):
        if not r_has(package):
            raise LeftOut(f"R package {package} not found")
    header, rows = _rows(workload, sets)
    with tempfile.TemporaryDirectory() as folder:
        data, script = Path(folder) / "d.csv", Path(folder) / "peer.R"
        np.savetxt(data, rows, delimiter=",", header=",".join(header), comments="", fmt="%.17g")
        script.write_text(R_SCRIPT)
        weights = f"c({','.join(map(str, workload.contrast))})"
        out = _run(["Rscript", str(script), str(data), workload.model, weights, method, "warm" if warm else "cold"])
    numbers = np.array([[np.nan if x == "NA" else float(x) for x in line.split()] for line in out.splitlines()])
    seconds, estimate, standard_error, df = numbers.T
    return Timing(float(np.median(seconds)), len(seconds), Answers(estimate, standard_error, df))


def versions() -> str:
    """Versions of the peers that are here, for the head of the table."""
    lines = [f"Python {sys.version.split()[0]}", f"MCPower {MCPOWER}"]
    if shutil.which("Rscript"):
        lines.append(_run(["Rscript", "-e", R_VERSIONS]))
    return "; ".join(lines)
