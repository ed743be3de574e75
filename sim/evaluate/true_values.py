"""What the estimates of a cell should be: the estimand's true value, and the demand inflation they hold beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pandas as pd

from sim.evaluate.spans import Real

TrueValue: TypeAlias = pd.DataFrame | Mapping[tuple[str, str, str], tuple[float, float]]


def true_and_demand(key: pd.DataFrame, true_value: TrueValue) -> tuple[Real, Real]:
    """True value of the estimand and demand inflation of each cell, two (C,) arrays; ValueError if a cell has none."""
    known = _known(true_value)
    wanted = [(str(d), str(o), str(h)) for d, o, h in key[["design", "outcome", "truth"]].itertuples(index=False)]
    missing = sorted(set(wanted) - set(known))
    if missing:
        raise ValueError(f"no true value for (design, outcome, truth) = {missing[0]}; known: {sorted(known)}")
    pair = np.array([known[name] for name in wanted], dtype=float).reshape(-1, 2)
    return pair[:, 0], pair[:, 1]


def error_of_true_value(key: pd.DataFrame, true_value: TrueValue) -> Real:
    """(C,) Monte Carlo standard error of the true value: 0 but where a table says that it comes from draws."""
    if not isinstance(true_value, pd.DataFrame) or "true_value_mcse" not in true_value:
        return np.zeros(len(key))
    wanted = ["design", "outcome", "truth"]
    found = key[wanted].merge(true_value[[*wanted, "true_value_mcse"]].astype(dict.fromkeys(wanted, str)), "left")
    return found["true_value_mcse"].to_numpy(float)


def demand_without_effect(key: pd.DataFrame, true_value: TrueValue) -> Real:
    """(C,) the demand inflation that trained people would report if nobody gained: the alternative's; NaN elsewhere."""
    known = _known(true_value)
    return np.array(
        [
            known.get((str(d), str(o), "alternative"), (0.0, 0.0))[1] if h == "null" else np.nan
            for d, o, h in key[["design", "outcome", "truth"]].itertuples(index=False)
        ]
    )


def _known(true_value: TrueValue) -> dict[tuple[str, str, str], tuple[float, float]]:
    if not isinstance(true_value, pd.DataFrame):
        return dict(true_value)
    column = ["design", "outcome", "truth", "true_value", "demand_inflation"]
    table = true_value if "design" in true_value else true_value.reset_index()
    return {(d, o, h): (value, demand) for d, o, h, value, demand in table[column].itertuples(index=False)}
