"""What an analysis of a data set prints, and that its JSON is complete, exact and without NaN."""

import json
from io import StringIO

import numpy as np
import pytest
from dataset.reference import LAST, TRIAL, analysed
from rich.console import Console

from sim.dataset.result import Analysis, JointTest, Term
from sim.report.analysis import analysis_json, analysis_tables

SINGULAR = Analysis(
    method="lmm",
    contrast="final",
    sentence="Linear mixed model by REML.",
    terms=(Term("arm[1]", 1.23456789, 0.5, 12.5, 2.46913578, 0.0291, 0.15, 2.3), Term("visit[2]", 1e-9, 2.0, np.inf)),
    status="singular",
    count={"n_obs": 1200, "n_participant": 400, "n_cluster": 1, "n_unseen": 1},
    arms={"control": 200, "mixed": 200},
    variance={"sd_cluster": 0.0, "cor_intercept_slope": np.nan, "covariance": [[1.0, 0.5], [0.5, 2.0]]},
    criterion={"reml_criterion": 827.180607800701},
    joint=JointTest(("visit[2]:arm[1]", "visit[3]:arm[1]"), 3.84351797547366, 2.0, 93.5182125013172),
    notes=("Singular fit: the variance of cluster is estimated at 0.",),
)


def printed(analysis):
    console = Console(width=120, file=StringIO())
    console.print(analysis_tables(analysis))
    return console.file.getvalue()


def test_text_says_what_was_done_to_whom_and_how_it_went():
    text = " ".join(printed(SINGULAR).split())
    for words in (
        "Linear mixed model by REML.", "arm[1]", "1.235", "0.0291", "0.1500 to 2.300", "normal", "sd_cluster",
        "covariance, visit 2", "827.1806", "F(2, 93.52) = 3.844, p = 0.0249",
        "1,200 rows, 400 participants, 1 cluster (arm control: 200, arm mixed: 200). 1 row has no outcome.",
        "Status: singular. Singular fit: the variance of cluster is estimated at 0.",
    ):  # fmt: skip
        assert words in text


def test_names_in_brackets_are_not_taken_for_markup():
    """rich would swallow [red]."""
    odd = Analysis("ancova", "final", "y on arm[red].", (Term("arm[red]", 1.0),), "ok", {}, variance={"sd[red]": 1.0})
    text = printed(odd)
    assert "y on arm[red]." in text and "│ arm[red]" in text and "│ sd[red]" in text


def test_failed_fit_prints_no_number():
    text = printed(
        Analysis("lmm", "final", "Model.", (Term("arm[1]", np.nan),), "failed", {"n_obs": 3}, notes=("Why.",))
    )
    assert "Status: failed. No number can be given." in text
    assert "nan" not in text
    assert "Why." in text


def test_json_is_exact_and_has_no_nan():
    record = json.loads(json.dumps(analysis_json(SINGULAR), allow_nan=False))
    assert record["terms"][0] == {
        "term": "arm[1]", "estimate": 1.23456789, "standard_error": 0.5, "df": 12.5, "statistic": 2.46913578,
        "p_value": 0.0291, "ci_low": 0.15, "ci_high": 2.3,
    }  # fmt: skip
    assert record["terms"][1]["df"] is None
    assert record["reml_criterion"] == 827.180607800701
    assert record["variance"] == {
        "sd_cluster": 0.0,
        "cor_intercept_slope": None,
        "covariance": [[1.0, 0.5], [0.5, 2.0]],
    }
    assert record["joint"]["terms"] == ["visit[2]:arm[1]", "visit[3]:arm[1]"]
    assert record["joint"]["p_value"] == pytest.approx(0.0248795721189025, abs=1e-12)
    assert (record["method"], record["contrast"], record["status"], record["n_obs"], record["n_cluster"]) == (
        "lmm", "final", "singular", 1200, 1,
    )  # fmt: skip


def test_json_of_every_method_is_plain(tmp_path):
    for analysis in (
        analysed("crt3", **LAST, method="ancova", cluster="village"),
        analysed("crt3_month6", **TRIAL, cluster="village", method="gee"),
        analysed("crt3", **TRIAL, visit="visit", cluster="village", method="cluster-summary"),
        analysed("crt3", **TRIAL, visit="visit", cluster="village", method="randomisation"),
        analysed("rmanova", outcome="y", arm="format", participant="id", visit="visit", method="rm-anova"),
    ):
        record = json.loads(json.dumps(analysis_json(analysis), allow_nan=False))
        assert record["status"] == "ok" and record["terms"][0]["p_value"] > 0
        assert "Status: ok." in printed(analysis)
