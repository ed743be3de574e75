"""Our mixed-model fits beside their peers: one processor, the same run, medians, the same data where a peer takes data.

    python benchmarks/mixed_models.py [--rounds 3] [--workload W2 ...] [--slow]

Rounds go through ours and every peer in turn, so that a busy minute of the machine touches all alike; the table holds
medians over rounds of processor time. MCPower's holds drawing and fitting, R's the fit alone. `--slow` adds
Kenward-Roger on W4 (5 minutes and 8 GB a fit).

Ours comes from `benchmarks/ours.py`, four dicts by workload name:

    SECONDS : (Workload) -> float, processor seconds a replicate of one timing: draw, fit, test
    FLOOR   : (Workload) -> float, processor seconds a replicate of drawing the random numbers alone
    FIT     : (Workload, Sets) -> Answers, the contrast in given data sets
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from peers import LeftOut, Timing, mcpower, r_fits, versions
from workloads import WORKLOADS, Answers, Sets, Workload, draw

SEED = 20260101
N_SET = {"H": 40, "W1": 20, "W2": 20, "W2c": 20, "W3": 20, "W4": 2}
N_SET_KR = {"W4": 1}


@dataclass(frozen=True)
class Peer:
    """A peer on one workload; `sets` are the data that it is given."""

    name: str
    measure: Callable[[], Timing]
    sets: Sets | None = None


def peers_of(workload: Workload, slow: bool) -> list[Peer]:
    """The peers that can say the workload's model."""
    sets = draw(workload, N_SET[workload.name], SEED)
    n_few = N_SET_KR.get(workload.name, 6)
    few = Sets(sets.y[:n_few], sets.observed[:n_few])
    warm = workload.name != "W4"
    if workload.name == "W3":
        return [Peer("nlme (no small-sample df)", partial(r_fits, workload, sets, "nlme"), sets)]
    found = [Peer("lme4 + lmerTest, Satterthwaite", partial(r_fits, workload, sets, "Satterthwaite", warm), sets)]
    if workload.name != "W4" or slow:
        found.append(Peer("lme4 + pbkrtest, Kenward-Roger", partial(r_fits, workload, few, "Kenward-Roger", warm), few))
    if workload.name in ("H", "W2"):
        near = "" if workload.name == "H" else " (near: no dropout, visits shuffled)"
        default = "between-within t" if workload.name == "H" else "Satterthwaite"
        found += [
            Peer(f"MCPower, {default}{near}", partial(mcpower, workload, "default")),
            Peer(f"MCPower, Wald z{near}", partial(mcpower, workload, "z")),
        ]
    return found


def load_ours() -> Any:
    """The module `ours`, or None while there is none."""
    return importlib.import_module("ours") if importlib.util.find_spec("ours") else None


def agreement(ours: Answers, theirs: Answers) -> str:
    """Largest differences between two fits of the same data sets."""

    def largest(name: str) -> str:
        gap = np.abs(getattr(ours, name) - getattr(theirs, name))
        return "not given" if np.isnan(gap).all() else f"{np.nanmax(gap):.1e}"

    return f"estimate {largest('estimate')}, standard error {largest('standard_error')}, df {largest('df')}"


def _microseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e6:,.1f}" if seconds < 1e-3 else f"{seconds * 1e6:,.0f}"


def _row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


@dataclass
class Rounds:
    """What one peer did over the rounds: seconds of each, the last timing, or why it is left out."""

    seconds: list[float]
    last: Timing | None = None
    left_out: str = ""

    def measure(self, peer: Peer) -> None:
        if self.left_out:
            return
        try:
            self.last = peer.measure()
            self.seconds.append(self.last.seconds)
        except LeftOut as reason:
            self.left_out = f"left out: {reason}"


def _median(seconds: list[float]) -> float | None:
    return statistics.median(seconds) if seconds else None


def _ratio(theirs: float | None, mine: float | None) -> str:
    if not theirs or not mine:
        return "-"
    return f"{theirs / mine:,.1f}" if theirs < 100 * mine else f"{theirs / mine:,.0f}"


def compare(workload: Workload, ours: Any, rounds: int, slow: bool) -> list[str]:
    """Prints the rows of one workload; returns remarks for below the table."""
    peers = peers_of(workload, slow)
    done = [Rounds([]) for _ in peers]
    ours_by_name = {key: getattr(ours, key, {}).get(workload.name) for key in ("SECONDS", "FLOOR", "GENERIC", "FIT")}
    fit, seconds = ours_by_name.pop("FIT"), {key: list[float]() for key in ours_by_name}
    for _ in range(rounds):
        for key, function in ours_by_name.items():
            seconds[key] += [function(workload)] if function else []
        for peer, rounds_of_peer in zip(peers, done, strict=True):
            rounds_of_peer.measure(peer)
    mine, floor, generic = (_median(seconds[key]) for key in ("SECONDS", "FLOOR", "GENERIC"))
    remarks = []
    if mine and floor and generic:
        remarks.append(
            f"{workload.name}: ours {1 / mine:,.0f} replicates a second, {mine / floor:.1f} times random numbers alone "
            f"({_microseconds(floor)} us); generic kernel {_microseconds(generic)} us, {1 / generic:,.0f} a second"
        )
    for peer, found in zip(peers, done, strict=True):
        theirs = _median(found.seconds)
        cell = found.left_out or _microseconds(theirs)
        _row(workload.name, _microseconds(mine), peer.name, cell, _ratio(theirs, mine))
        if found.last is not None:
            remarks.append(f"{workload.name}, {peer.name}: " + remark(found.last, rounds, peer, workload, fit))
    return remarks


def remark(timing: Timing, rounds: int, peer: Peer, workload: Workload, fit: Any) -> str:
    """How much was timed, and how far our answers on the peer's data are from the peer's."""
    parts = [f"{timing.n} replicates x {rounds} rounds"] + [timing.remark] * bool(timing.remark)
    if fit and peer.sets is not None and timing.answers is not None:
        parts.append("largest difference: " + agreement(fit(workload, peer.sets), timing.answers))
    return "; ".join(parts)


def one_processor() -> None:
    """Binds this process, and the peers that it starts, to one processor."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main() -> None:
    parser = argparse.ArgumentParser(description="Mixed-model fits beside their peers.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workload", nargs="+", choices=list(WORKLOADS), default=list(WORKLOADS))
    parser.add_argument("--slow", action="store_true", help="Kenward-Roger on W4 too")
    choice = parser.parse_args()
    one_processor()
    ours = load_ours()
    print(f"{platform.machine()}; {versions()}")
    if ours is None:
        print("ours left out: benchmarks/ours.py not found")
    for name in choice.workload:
        print(f"{name}: {WORKLOADS[name].text}")
    print()
    _row("workload", "ours, us a replicate", "peer", "peer, us a replicate", "ratio")
    _row("---", "---:", "---", "---:", "---:")
    remarks = [r for name in choice.workload for r in compare(WORKLOADS[name], ours, choice.rounds, choice.slow)]
    print("\n" + "\n".join(remarks))


if __name__ == "__main__":
    main()
