"""Seconds of the Rwandan main job with everything in the trial's world switched on, and the calendars' share of them.

    python benchmarks/world.py [--replicates N]

Eight designs, four outcomes, both truths, two workers: the field work of scenarios/crm_rwanda.yaml as it stands and,
beside it, sums of items with floor and ceiling for every outcome, skewed errors, measurement error, buffering of the
commemoration and a weak null. Once with the primary analysis alone, once with all that the scenario names.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from sim.run.blocks import blocks_of, realise, simulate_block
from sim.scenario.load import read_scenario

ROOT = Path(__file__).parents[1]
LEFT_OUT = ("ind_1", "vil_1")
SCALE = {"kind": "sum_of_items", "items": 10, "lowest": 1, "highest": 5, "mean": "33 points", "sd": "8 points"}


def assumed(value: Any) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "basis": "assumption", "source": "benchmark"}


def everything(folder: Path, *, primary_only: bool) -> Path:
    """A scenario file with every part of the world in it."""
    yaml = YAML()
    yaml.width = 4096
    content = yaml.load((ROOT / "scenarios" / "crm_rwanda.yaml").read_text(encoding="utf-8"))
    content["evidence"]["file"] = str(ROOT / "scenarios" / content["evidence"]["file"])
    for name in LEFT_OUT:
        del content["designs"][name]
    model = content["model"]
    model["window_buffering"] = assumed("20%")
    model["errors"] = {"kind": "skewed", "skewness": assumed(-0.6)}
    model["null"] = "weak"
    for outcome in model["outcomes"].values():
        outcome |= {"response": dict(SCALE), "reliability": assumed(0.80), "reliability_planned": assumed(0.85)}
    if primary_only:
        primary = content["hypotheses"]["primary_analysis"]
        content["analyses"] = {primary: content["analyses"][primary]}
    path = folder / "everything.yaml"
    yaml.dump(content, path)
    return path


def seconds(path: Path, replicates: int) -> float:
    """Wall time of the command with two workers."""
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "sim", "run", str(path), "--workers", "2", "--quiet", "--replicates",
                   str(replicates), "--out", out]  # fmt: skip
        began = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - began


def calendar_share(path: Path, replicates: int) -> float:
    """Processor time of drawing the calendars over that of all blocks of the job in one process."""
    scenario = read_scenario(path).with_changes(replicates=replicates)
    file = scenario.file
    blocks = [b for design in file.designs for b in blocks_of(design, replicates, file.calendars)]
    simulate_block(scenario, blocks[0])  # compiled code is loaded
    cell = {(b.design, n) for b in blocks for n in np.unique(b.replicate % scenario.file.calendars).tolist()}
    realise.cache_clear()
    began = time.thread_time()
    for design, number in sorted(cell):
        realise(scenario, design, number)
    calendars = time.thread_time() - began
    began = time.thread_time()
    for block in blocks:
        simulate_block(scenario, block)
    return calendars / (time.thread_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--replicates", type=int, default=10_000)
    replicates = parser.parse_args().replicates
    with tempfile.TemporaryDirectory() as folder:
        for primary_only in (True, False):
            path = everything(Path(folder), primary_only=primary_only)
            n = len(read_scenario(path).file.analyses)
            seconds(path, 64)  # compiled code is in the cache
            took = seconds(path, replicates)
            fits = 8 * 4 * 2 * n * replicates
            print(f"{n} analyses: {took:.0f} s for {fits:,} fits, {replicates:,} replicates of 8 designs", flush=True)
        share = calendar_share(path, 2_048)
        print(f"calendars: {share:.1%} of the processor time of 2,048 replicates a design, each drawn once")


if __name__ == "__main__":
    main()
