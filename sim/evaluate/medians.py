"""Medians of the further results that an analysis keeps beside its estimate (an F, an effect size)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from sim.evaluate.performance import COLUMNS, KEY, Z95

TESTED = ("estimate", "standard_error", "df", "p_value", "ci_low", "ci_high")


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """One row `median_<column>` per design x outcome x analysis x truth, in the columns of `summarise`.

    Every numeric column of `rows` that is not part of the test itself counts; groups without a value have no row.
    The 95% interval is the exact order-statistic interval of a median, the MCSE its half width divided by 1.96; neither
    counts that replicates share calendars.
    Reference: David & Nagaraja 2003, Order Statistics, section 7.1.
    """
    extra = [c for c in rows.select_dtypes("number").columns if c not in (*TESTED, "replicate")]
    table = []
    for key, group in rows.groupby(list(KEY), observed=True, sort=False) if extra else ():
        status = group["status"].astype(str)
        count = [len(group), *((status == s).sum() for s in ("ok", "singular", "failed"))]
        for column in extra:
            value = np.sort(group[column].to_numpy(float))
            value = value[np.isfinite(value)]
            if len(value) > 5:
                low, high = value[_median_ranks(len(value))]
                mcse = (high - low) / (2 * Z95)
                table.append([*key, f"median_{column}", np.median(value), mcse, low, high, *count])
    return pd.DataFrame(table, columns=COLUMNS)


def _median_ranks(n: int) -> list[int]:
    """Positions of the two order statistics that hold the median with at least 95% probability."""
    at_most = special.bdtr(np.arange(n + 1), n, 0.5)  # P(Binomial(n, 1/2) <= k)
    low = int(np.searchsorted(at_most, 0.025)) - 1
    return [max(low, 0), min(n - 1 - low, n - 1)]
