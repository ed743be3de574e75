"""Fits that fail are counted, named and never drawn again: R10 and R12 of the reliability table."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from reliability.plain import nexttrial, write

from sim.analyses.cluster_summary import ClusterSummary
from sim.trial import FAILED, TRUTHS

KEY = ["outcome", "analysis", "truth"]
DESIGN = "villages_24"


def spoil(monkeypatch, change):
    """The analysis of every data set, as changed by change(fit)."""
    proper = ClusterSummary.analyse
    monkeypatch.setattr(ClusterSummary, "analyse", lambda self, trial: change(proper(self, trial)))


def failing(share):
    """Every so many fits of each truth have failed, as a kernel says it, however the replicates lie in blocks."""
    n_before = 0

    def change(fit):
        nonlocal n_before
        n = len(fit.status) // len(TRUTHS)
        failed = np.tile((n_before + np.arange(n)) % round(1 / share) == 0, len(TRUTHS))
        n_before += n
        numbers = {k: np.where(failed, np.nan, getattr(fit, k)) for k in ("estimate", "standard_error", "df")}
        return replace(fit, **numbers, status=np.where(failed, FAILED, fit.status).astype(np.int8))

    return change


def run(folder, *options, n=400):
    """Exit code of a run of one design into folder / out."""
    scenario = write(folder)
    done = ("run", scenario, "--design", DESIGN, "--replicates", n, "--workers", 1, "--quiet")
    return nexttrial(*done, "--out", folder / "out", *options)


def stored(folder, truth="alternative"):
    """The stored rows of one truth in the order of their replicates."""
    tables = [pd.read_parquet(path) for path in sorted((folder / "out" / "blocks").glob("*.parquet"))]
    rows = pd.concat([table for table in tables if "p_value" in table])
    return rows[rows["truth"] == truth].sort_values("replicate", ignore_index=True)


def measures(folder, truth="alternative"):
    """summary.csv by measure."""
    table = pd.read_csv(folder / "out" / "summary.csv", keep_default_na=False)
    return table.query("truth == @truth and analysis == 'cluster_summary' and outcome == 'score'").set_index("measure")


@pytest.mark.parametrize("truth, name", [("alternative", "power"), ("null", "type_1_error")])
def test_power_with_failures_equals_the_hand_count(tmp_path, monkeypatch, truth, name):
    """R10: 5% failed: power counts them as not rejecting, two more numbers as rejecting and left out."""
    spoil(monkeypatch, failing(0.05))
    assert run(tmp_path) == 0
    rows, found = stored(tmp_path, truth), measures(tmp_path, truth)
    failed = rows["status"] == "failed"
    rejected = int((rows["p_value"] <= 0.05).sum())
    assert (failed.sum(), len(rows)) == (20, 400)
    by_hand = {"": rejected / 400, "_if_failures_reject": (rejected + 20) / 400, "_among_ok": rejected / 380}
    for suffix, expected in by_hand.items():
        assert found["estimate"][f"{name}{suffix}"] == pytest.approx(expected, abs=1e-12)
    assert found["estimate"]["failure_rate"] == 0.05
    assert (found["n_failed"] == 20).all() and (found["n_replicate"] == 400).all()


def test_failures_are_not_drawn_again(tmp_path, monkeypatch):
    """R10: the other rows are those of a run in which nothing failed, and no replicate is added or left out."""
    (tmp_path / "sound").mkdir()
    assert run(tmp_path / "sound") == 0
    spoil(monkeypatch, failing(0.05))
    assert run(tmp_path) == 0
    sound, rows = stored(tmp_path / "sound"), stored(tmp_path)
    assert rows["replicate"].tolist() == list(range(400))
    valid = rows["status"] != "failed"
    pd.testing.assert_frame_equal(rows[valid], sound[valid], check_exact=True)
    assert set(rows.loc[~valid, "reason"]) == {"not estimable or not converged"}


@pytest.mark.parametrize(
    "share, options, code, said",
    [
        (0.01, (), 0, ""),
        (0.02, (), 0, "warning: up to 2.0% of the fits"),
        (0.05, (), 0, "warning: up to 5.0% of the fits"),
        (0.1, (), 1, "up to 10.0% of the fits of a cell failed, more than 5%"),
        (0.1, ("--allow-failures",), 0, "warning: up to 10.0% of the fits"),
    ],
)
def test_many_failures_warn_and_more_stop(tmp_path, monkeypatch, capsys, share, options, code, said):
    """R10: over 1% warns, over 5% exits 1 unless allowed; the tables are written all the same."""
    spoil(monkeypatch, failing(share))
    assert run(tmp_path, *options) == code
    error = capsys.readouterr().err
    assert said in error if said else "fail" not in error
    assert "Traceback" not in error
    assert measures(tmp_path)["estimate"]["failure_rate"] == share


# ---- what is not a number --------------------------------------------------------------------------------------------


NOT_NUMBERS = [(field, value) for field in ("estimate", "standard_error", "df") for value in (np.nan, np.inf, -np.inf)]
NOT_NUMBERS.remove(("df", np.inf))  # the normal distribution


@pytest.mark.parametrize("field, value", NOT_NUMBERS)
@pytest.mark.parametrize("n", [200, pytest.param(10_000, marks=pytest.mark.reliability)])
def test_one_fit_that_is_not_a_number_is_one_failure(tmp_path, monkeypatch, capsys, field, value, n):
    """R12: one NaN in 10,000 fits: one failure, with its reason; nothing that a reader gets holds one."""
    done = []

    def change(fit):
        if done:
            return fit
        done.append(True)
        number = getattr(fit, field).copy()
        number[7] = value
        return replace(fit, **{field: number})

    spoil(monkeypatch, change)
    assert run(tmp_path, "--format", "json", n=n) == 0
    rows = stored(tmp_path)
    failed = rows[rows["status"] == "failed"]
    assert failed["reason"].tolist() == ["not finite"]
    assert np.isfinite(rows[rows["status"] == "ok"].select_dtypes(float)).all(axis=None)
    assert (measures(tmp_path)["n_failed"] == 1).all() and (measures(tmp_path, "null")["n_failed"] == 0).all()
    json.loads(capsys.readouterr().out, parse_constant=refuse)
    for path in written(tmp_path / "out", ".json"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    for path in written(tmp_path / "out", ".csv"):
        assert not re.search(r"(?<![a-z_])[-+]?(nan|inf|infinity)(?![a-z_])", path.read_text(encoding="utf-8"), re.I)


def written(folder, suffix):
    """The files of a result folder with this ending, at least one."""
    found = sorted(folder.rglob(f"*{suffix}"))
    assert found
    return found


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")
