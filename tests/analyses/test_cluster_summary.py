"""The cluster summary of a scenario against that of `nexttrial analyse` on the same people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planned import allocate

from sim.analyses.cluster_summary import ClusterSummary
from sim.dataset.analyse import analyse_file
from sim.dataset.request import Request
from sim.trial import Trial


@pytest.mark.parametrize("emptied", [None, 1, 3])
@pytest.mark.parametrize("of_one_stratum", [True, False])
def test_df_are_clusters_less_arms_and_what_varies_between_clusters(
    tmp_path: Path, emptied: int | None, of_one_stratum: bool
) -> None:
    """Sixteen villages in four districts, or three whose numbers leave one out; strata within villages or of them."""
    a = allocate("village", districts=4, villages_per_district=4)
    stratum = (a.village // 2 % 2).astype(np.int32) if of_one_stratum else a.stratum
    district = np.where(a.district == emptied, 0, a.district).astype(np.int32)
    rng = np.random.default_rng(4)
    y = rng.normal(size=(1, a.n_participant, 3)) + 0.4 * rng.normal(size=16)[a.village][None, :, None]
    a = a.__class__(**{**vars(a), "stratum": stratum, "district": district})
    fit = ClusterSummary(kind="cluster_summary").analyse(Trial(y, np.ones(y.shape, bool), a, np.full(len(stratum), -1)))
    assert fit.df[0] == 16 - 2 - (3 if emptied is None else 2) - of_one_stratum
    arms = [arm.name for arm in a.arms]
    rows = {"arm": np.array(arms)[a.arm], "stratum": stratum, "district": district, "village": a.village,
            "baseline": y[0, :, 0], "y": y[0, :, 2]}  # fmt: skip
    text = {name: [f"k{k}" for k in rows[name]] for name in ("stratum", "district", "village")}
    pd.DataFrame({**rows, **text}).to_csv(tmp_path / "rows.csv", index=False)
    contrast = f"{arms[a.contrast.treated]} - {arms[a.contrast.control or 0]}"
    request = Request(
        method="cluster-summary", outcome="y", arm="arm", cluster="village", baseline="baseline",
        covariates=("stratum", "district"), control=arms[a.contrast.control or 0], contrast=contrast,
    )  # fmt: skip
    term = analyse_file(tmp_path / "rows.csv", request).terms[0]
    found = fit.estimate[0], fit.standard_error[0], fit.df[0]
    assert found == pytest.approx((term.estimate, term.standard_error, term.df), rel=1e-9)
