"""A t test of cluster means on one visit of a data set, adjusted in a first stage for baseline and covariates."""

from __future__ import annotations

import numpy as np

from sim.dataset.design_matrix import INTERCEPT, arm_pairs, fixed_effects, training_group
from sim.dataset.read import Dataset
from sim.dataset.request import Request
from sim.dataset.result import Analysis, completed, failed, t_terms
from sim.kernels.cluster_summary import cluster_summary, n_between_clusters
from sim.trial import FAILED


def cluster_means(data: Dataset, request: Request) -> Analysis:
    """Every cluster counts once; Student's test for clusters, Welch's with --welch and for training groups."""
    first = fixed_effects(data, request, with_arm=False)
    cluster = training_group(data, request) if request.training_group else data.code("cluster")
    welch = request.welch or request.training_group is not None
    is_adjusted = len(first.terms) > 1
    arms, arm, pairs = data.levels("arm"), data.code("arm"), arm_pairs(data, request)
    fits = [
        cluster_summary(
            data.y[None],
            np.ones((1, data.y.size), np.bool_),
            first.x if is_adjusted else np.zeros((data.y.size, 0)),
            np.zeros((1, data.y.size, 0)),
            cluster,
            arm,
            compared,
            equal_variance=not welch,
            n_cluster_covariate=n_between_clusters(first.x[np.isin(arm, compared)], cluster[np.isin(arm, compared)]),
        )
        for compared in ((arms.index(treated), arms.index(control)) for treated, control in pairs)
    ]
    names = tuple(_name(pair, arms[0]) for pair in pairs)
    unit = "training group" if request.training_group else "cluster"
    after = f" of residuals from {' + '.join(t for t in first.terms if t != INTERCEPT)}" if is_adjusted else ""
    at = f" at visit {data.levels('visit')[-1]}" if "visit" in data.factor else ""
    sentence = (
        f"{'Welch' if welch else 'Student'} t test of {unit} means{after}: {request.outcome}{at}, every {unit} "
        "counting once."
    )
    if any(fit.status[0] == FAILED for fit in fits):
        return failed(request, data, names, sentence, f"Too few {unit}s in an arm, or means without variation.")
    estimate, error, df = (np.array([getattr(fit, name)[0] for fit in fits]) for name in
                           ("estimate", "standard_error", "df"))  # fmt: skip
    return completed(
        request,
        data,
        sentence,
        t_terms(names, estimate, error, df),
    )


def _name(pair: tuple[str, str], control: str) -> str:
    return f"arm[{pair[0]}]" + (f" - arm[{pair[1]}]" if pair[1] != control else "")
