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


def slow_growth(value, calendar):
    """Searle, Casella & McCulloch 1992, section 3.6, calendar by calendar, on all rows at once."""
    calendar, value = calendar[np.isfinite(value)], value[np.isfinite(value)]
    n, by_calendar = len(value), [value[calendar == k] for k in np.unique(calendar)]
    m = np.array([len(one) for one in by_calendar])
    between = sum(len(one) * (one.mean() - value.mean()) ** 2 for one in by_calendar) / (len(m) - 1)
    within = sum(((one - one.mean()) ** 2).sum() for one in by_calendar) / (n - len(m))
    component = max((between - within) / ((n - (m**2).sum() / n) / (len(m) - 1)), 0.0)
    variance = component * (m**2).sum() / n**2 + within / n
    return max(variance / (value.var(ddof=1) / n), 1.0) if component > 0 else 1.0


def array_bytes(thing):
    """Bytes of all arrays that an object reaches, each counted once."""
    seen, waiting, total = set(), [thing], 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            total += one.nbytes if one.base is None else 0
            waiting += [one.base]
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
        elif hasattr(one, "__dict__"):
            waiting += [vars(one)]
    return total
