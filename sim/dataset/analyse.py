"""A planned analysis of one data set, from the file to the record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sim.dataset.ancova import ancova
from sim.dataset.cluster_summary import cluster_means
from sim.dataset.gee import marginal_model
from sim.dataset.mixed import mixed_model
from sim.dataset.randomisation import randomisation_test
from sim.dataset.read import Dataset, read_dataset
from sim.dataset.request import Request
from sim.dataset.result import Analysis
from sim.dataset.rm_anova import rm_anova

HOW: dict[str, Callable[[Dataset, Request], Analysis]] = {
    "lmm": mixed_model,
    "mmrm": mixed_model,
    "partially-nested": mixed_model,
    "ancova": ancova,
    "cluster-summary": cluster_means,
    "gee": marginal_model,
    "randomisation": randomisation_test,
    "rm-anova": rm_anova,
}


def analyse_file(path: Path, request: Request) -> Analysis:
    """Reads the CSV file at `path` and applies the analysis. Raises InvalidInput for data that cannot carry it."""
    return HOW[request.method](read_dataset(path, request), request)
