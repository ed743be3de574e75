"""Options of the likelihood methods, what they do with odd data, and what they say about a singular fit."""

import numpy as np
import pandas as pd
import pytest
from dataset.reference import FOLDER, LAST, NESTED, TRIAL, VISITS, analysed

from sim.dataset.mixed import DF_WORD
from sim.dataset.request import DF
from sim.errors import InvalidInput
from sim.kernels.covariance import offered

VILLAGE = {**VISITS, "cluster": "village"}


def same(one, other):
    """Two analyses with the same numbers."""
    assert one.criterion == pytest.approx(other.criterion, abs=1e-8)
    for a, b in zip(one.terms, other.terms, strict=True):
        numbers = (a.estimate, a.standard_error, a.df, a.p_value)
        assert numbers == pytest.approx((b.estimate, b.standard_error, b.df, b.p_value), rel=1e-5)


def test_final_visit_only_is_the_analysis_of_its_rows(tmp_path):
    rows = pd.read_csv(FOLDER / "data" / "crt3.csv").query("visit == 3").drop(columns="visit")
    rows.to_csv(tmp_path / "data.csv", index=False)
    request = {**TRIAL, "method": "lmm", "cluster": "village", "baseline": "baseline", "participant": "id"}
    last = analysed("crt3", **request, visit="visit", final_visit_only=True)
    alone = analysed(tmp_path / "data", **request)
    same(last, alone)
    assert alone.notes == ("One row for each participant: there is no random intercept of participant.",)
    assert last.terms[0].term == "arm[1]"


def test_arms_in_words_relabelled_ids_and_shuffled_rows(tmp_path):
    data = pd.read_csv(FOLDER / "data" / "crt3.csv")
    data["arm"] = np.where(data["arm"] == 1, "trained", "waiting")
    data["id"], data["village"] = "p" + data["id"].astype(str), "v" + data["village"].astype(str)
    data.sample(frac=1, random_state=1).to_csv(tmp_path / "data.csv", index=False)
    words = analysed(tmp_path / "data", **VILLAGE, control="waiting")
    same(analysed("crt3", **VILLAGE), words)
    assert words.terms[0].term == "arm[trained] + visit[3]:arm[trained]"
    assert list(words.arms) == ["waiting", "trained"]
    swapped = analysed(tmp_path / "data", **VILLAGE).terms[0]
    assert swapped.estimate == pytest.approx(-words.terms[0].estimate, rel=1e-6)


def test_degrees_of_freedom_asked_for():
    normal, within = (
        analysed("crt3", **VILLAGE, df="z").terms[0],
        analysed("crt3", **VILLAGE, df="between-within").terms[0],
    )
    assert np.isinf(normal.df)
    assert normal.ci_high - normal.ci_low == pytest.approx(2 * 1.959963984540054 * normal.standard_error)
    assert within.standard_error == normal.standard_error
    assert within.df == 6  # the least of its terms: arm varies between 8 villages, less intercept and arm


@pytest.mark.parametrize(
    "data, request_, expected", [("crt3", VILLAGE, [91, 91, 91, 6, 91, 91]), ("ind2", VISITS, [89, 89, 89, 58, 89, 89])]
)
def test_between_within_against_nlme(data, request_, expected):
    """summary(lme(y ~ v2 + v3 + arm + v2:arm + v3:arm, random = ~ 1 | village/id)) of nlme 3.1-162; ~ 1 | id."""
    terms = analysed(data, **request_, all_terms=True, df="between-within").terms
    assert [term.df for term in terms] == expected


def test_variance_at_zero_dropped_kept_or_negative():
    drop, keep, negative = (analysed("singular", **VILLAGE, boundary=b) for b in ("drop", "keep", "negative"))
    assert drop.status == keep.status == "singular"
    assert drop.variance["sd_cluster"] == 0.0
    assert drop.terms[0].estimate == pytest.approx(keep.terms[0].estimate, rel=1e-9)
    assert drop.terms[0].df != pytest.approx(keep.terms[0].df, rel=1e-3)
    assert "the variance of cluster is 0" in drop.notes[0]
    assert "the df are those without it" in drop.notes[0]
    assert "the df keep it as a parameter" in keep.notes[0]
    assert negative.status == "ok" and negative.notes == ()
    assert negative.variance["var_cluster"] < 0 and np.isnan(negative.variance["sd_cluster"])
    assert negative.criterion["reml_criterion"] < drop.criterion["reml_criterion"]


def test_dropped_variance_gives_the_model_without_it():
    with_village, without = analysed("singular", **VILLAGE), analysed("singular", **VISITS)
    same(with_village, without)


def test_repeated_cross_sections_need_no_participants():
    """Other people at every visit: villages by visit, each row a person."""
    analysis = analysed("crt3", **TRIAL, method="lmm", visit="visit", cluster="village", village_by_visit=True)
    assert set(analysis.variance) == {"sd_cluster", "sd_cluster_visit", "sd_residual"}
    assert analysis.terms[0].term == "arm[1] + visit[3]:arm[1]"


@pytest.mark.parametrize("covariance", offered())
def test_every_covariance_is_fitted_and_named(covariance):
    analysis = analysed("ind2", **{**VISITS, "method": "mmrm", "covariance": covariance})
    assert analysis.status == "ok" and f"{offered()[covariance]} covariance of 3 visits" in analysis.sentence
    unstructured = analysed("ind2", **{**VISITS, "method": "mmrm"}).criterion["reml_criterion"]
    assert unstructured <= analysis.criterion["reml_criterion"] + 1e-8


@pytest.mark.parametrize("df", DF)
def test_every_df_is_carried_out_and_named(df):
    analysis = analysed("crt3", **VILLAGE, df=df)
    assert analysis.sentence.endswith(f"{DF_WORD[df]}.")
    assert analysis.terms[0].df > 0


def test_three_arms(tmp_path):
    data = pd.read_csv(FOLDER / "data" / "ind2.csv")
    data["arm"] = np.array(["control", "mixed", "separate"])[data["id"] % 3]
    data.to_csv(tmp_path / "data.csv", index=False)
    each = analysed(tmp_path / "data", **VISITS)
    between = analysed(tmp_path / "data", **VISITS, contrast="mixed - separate").terms[0]
    mixed, separate = each.terms
    assert between.estimate == pytest.approx(mixed.estimate - separate.estimate, rel=1e-6)
    assert each.joint.ndf == 4
    assert each.arms == {"control": 20, "mixed": 20, "separate": 20}


def test_sentences_say_what_was_fitted():
    said = analysed("crt3", **VILLAGE, village_by_visit=True, df="kenward-roger").sentence
    assert said == (
        "Linear mixed model by REML: y on visit[2] + visit[3] + arm[1] + visit[2]:arm[1] + visit[3]:arm[1]; random "
        "intercepts of cluster, cluster by visit, participant; Kenward-Roger standard errors and degrees of freedom."
    )
    said = analysed("partial_nested", **NESTED, residual_by_arm=True).sentence
    assert "random intercept of training group; a residual variance for each arm" in said
    said = analysed("crt3", **LAST, method="lmm", cluster="village", final_visit_only=True, ml=True).sentence
    assert "maximum likelihood" in said and "visit 3 only" in said
    assert "unstructured covariance of 3 visits" in analysed("ind2", **{**VISITS, "method": "mmrm"}).sentence


# ---- refused or failed -----------------------------------------------------------------------------------------------


def test_too_many_times_message(tmp_path):
    data = pd.DataFrame({"id": np.repeat(range(50), 2), "arm": np.repeat(range(50), 2) % 2, "day": range(100)})
    data.assign(y=lambda d: d["day"] ** 2 % 7).to_csv(tmp_path / "data.csv", index=False)
    with pytest.raises(InvalidInput, match="day: has 100 different values"):
        analysed(tmp_path / "data", **TRIAL, method="lmm", participant="id", random_slope="day")


def test_nobody_seen_twice_message(tmp_path):
    rows = pd.read_csv(FOLDER / "data" / "ind2.csv")
    rows[rows["visit"] == 1 + rows["id"] % 3].to_csv(tmp_path / "data.csv", index=False)
    for method in ("lmm", "mmrm"):
        with pytest.raises(InvalidInput, match="id: nobody was seen twice"):
            analysed(tmp_path / "data", **{**VISITS, "method": method})


def test_time_that_does_not_start_at_zero_message(tmp_path):
    pd.read_csv(FOLDER / "data" / "ind2.csv").assign(months=lambda d: d["months"] + 1).to_csv(
        tmp_path / "data.csv", index=False
    )
    with pytest.raises(InvalidInput, match="starts at 1; --no-baseline-difference"):
        analysed(tmp_path / "data", **VISITS, random_slope="months", no_baseline_difference=True)


def test_constant_outcome_is_a_failed_fit(tmp_path):
    pd.read_csv(FOLDER / "data" / "ind2.csv").assign(y=5).to_csv(tmp_path / "data.csv", index=False)
    analysis = analysed(tmp_path / "data", **VISITS)
    assert analysis.is_failed
    assert np.isnan(analysis.terms[0].estimate)
    assert analysis.variance == {} and "no maximum" in analysis.notes[0]
