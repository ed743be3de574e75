"""Rows of fits as a run stores them, for tests of what is made of them."""

import numpy as np
import pandas as pd
from scipy import stats


def make_rows(estimate, standard_error, df=np.inf, sides=2, **column):
    """Rows of one cell unless `column` says otherwise; t tests and 95% intervals from estimate and standard error."""
    estimate = np.asarray(estimate, dtype=float)
    se, df = (np.broadcast_to(np.asarray(x, dtype=float), estimate.shape) for x in (standard_error, df))
    t, half = estimate / se, stats.t.ppf(0.975, df) * se
    p = 2 * stats.t.sf(np.abs(t), df) if sides == 2 else stats.t.sf(t, df)
    given_columns = {"design": "rct", "replicate": np.arange(len(estimate)), "outcome": "score", "analysis": "lmm"}
    given_columns |= {"truth": "alternative", "status": "ok", "reason": ""} | column
    number = {"estimate": estimate, "standard_error": se, "df": df, "p_value": p}
    return pd.DataFrame(given_columns | number | {"ci_low": estimate - half, "ci_high": estimate + half})


def fail(rows, at):
    """The rows with those at `at` failed: no numbers, and a reason."""
    rows = rows.copy()
    rows.loc[at, ["estimate", "standard_error", "df", "p_value", "ci_low", "ci_high"]] = np.nan
    rows.loc[at, ["status", "reason"]] = ["failed", "no convergence"]
    return rows
