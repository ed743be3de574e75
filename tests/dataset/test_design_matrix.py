"""Columns, comparisons and blocks that flags become, and dependent columns by name."""

import re

import numpy as np
import pandas as pd
import pytest
from dataset.reference import FOLDER

from sim.dataset.design_matrix import RandomTerm, blocks, columns_of_block, fixed_effects, random_terms
from sim.dataset.read import read_dataset
from sim.dataset.request import Request, WrongUsage
from sim.errors import InvalidInput

LMM = {"method": "lmm", "outcome": "y", "arm": "arm", "participant": "id", "visit": "visit"}
THREE = ("none", "mixed", "separate")


def fixed(data, **request):
    asked = Request(**request)
    path = FOLDER / "data" / f"{data}.csv" if isinstance(data, str) else data
    return fixed_effects(read_dataset(path, asked), asked)


@pytest.fixture
def three_arms(tmp_path):
    """12 participants, 3 arms in words, 2 visits, a covariate in words."""
    rows = [
        {"id": i, "arm": THREE[i % 3], "visit": v, "sex": "fm"[i // 6], "y": i * v + i**2 % 7, "months": 6 * (v - 1)}
        for i in range(12) for v in (1, 2)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


def test_terms_of_all_visits():
    found = fixed("ind2", **LMM, covariates=("age",), all_terms=True)
    assert found.terms == (
        "(Intercept)", "visit[2]", "visit[3]", "arm[1]", "visit[2]:arm[1]", "visit[3]:arm[1]", "age",
    )  # fmt: skip
    np.testing.assert_array_equal(found.contrast, np.eye(7))
    assert found.joint == ("visit[2]:arm[1]", "visit[3]:arm[1]")
    data = pd.read_csv(FOLDER / "data" / "ind2.csv")
    np.testing.assert_array_equal(found.x[:, 4], (data["visit"] == 2) & (data["arm"] == 1))
    np.testing.assert_array_equal(found.x[:, 6], data["age"])


def test_constrained_baseline_has_no_arm_main_effect():
    found = fixed("ind2", **LMM, no_baseline_difference=True)
    assert "arm[1]" not in found.terms
    assert found.asked == ("visit[3]:arm[1]",)


def test_slope_is_linear_and_compared_at_the_last_time():
    found = fixed("slope2", **LMM, random_slope="months")
    assert found.terms == ("(Intercept)", "months", "arm[1]", "months:arm[1]")
    assert found.asked == ("arm[1] + 6*months:arm[1]",)
    assert found.contrast.tolist() == [[0, 0, 1, 6]]
    assert fixed("slope2", **LMM, random_slope="months", contrast="change").contrast.tolist() == [[0, 0, 0, 6]]


@pytest.mark.parametrize(
    "asked, names",
    [
        ({}, ("arm[mixed] + visit[2]:arm[mixed]", "arm[separate] + visit[2]:arm[separate]")),
        ({"contrast": "change"}, ("visit[2]:arm[mixed]", "visit[2]:arm[separate]")),
        (
            {"contrast": "mixed - separate"},
            ("arm[mixed] + visit[2]:arm[mixed] - arm[separate] - visit[2]:arm[separate]",),
        ),
        ({"contrast": "none - mixed"}, ("- arm[mixed] - visit[2]:arm[mixed]",)),
    ],
)
def test_comparisons_of_three_arms(asked, names, three_arms):
    found = fixed(three_arms, **LMM, control="none", **asked)
    assert found.asked == names
    weight = dict(zip(found.terms, found.contrast[-1], strict=True))
    signed = re.findall(r"(?:([+-]) )?((?:visit\[2\]:)?arm\[\w+\])", names[-1])
    written = {term: -1.0 if sign == "-" else 1.0 for sign, term in signed}
    assert {term: w for term, w in weight.items() if w} == written


def test_words_become_columns_against_the_first(three_arms):
    found = fixed(three_arms, **LMM, control="none", covariates=("sex",))
    assert found.terms[-1] == "sex[m]"
    assert found.x[:, -1].tolist() == [0.0] * 12 + [1.0] * 12


def test_dependent_columns_are_named_message(tmp_path):
    data = pd.read_csv(FOLDER / "data" / "ind2.csv").assign(twice=lambda d: 2 * d["age"], seven=7)
    data[~((data["visit"] == 3) & (data["arm"] == 1))].to_csv(tmp_path / "data.csv", index=False)
    with pytest.raises(InvalidInput) as caught:
        fixed(tmp_path / "data.csv", **LMM, covariates=("age", "twice", "seven"))
    said = str(caught.value)
    assert "visit[3]:arm[1] is 0 in every row with an outcome: there is nobody to estimate it from" in said
    assert "twice follows from age in the rows with an outcome: leave one out" in said
    assert "seven follows from (Intercept)" in said


def test_a_date_as_covariate_is_no_dependent_column(tmp_path):
    """Days since 1970 and an intercept differ by one part in a thousand."""
    data = pd.read_csv(FOLDER / "data" / "ind2.csv")
    data.assign(day=20_000 + data["id"]).to_csv(tmp_path / "data.csv", index=False)
    assert "day" in fixed(tmp_path / "data.csv", **LMM, covariates=("day",)).terms


def test_too_few_rows_message(tmp_path):
    (tmp_path / "data.csv").write_text("y,arm\n1,0\n2,1\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match="2 terms need more rows than the 2 seen"):
        fixed(tmp_path / "data.csv", method="ancova", outcome="y", arm="arm")


def test_unknown_joint_term_message():
    with pytest.raises(WrongUsage, match=r"known: \(Intercept\), visit\[2\]"):
        fixed("ind2", **LMM, joint=("arm",))


# ---- random terms ----------------------------------------------------------------------------------------------------


def term(*code):
    return RandomTerm("sd_cluster", np.array(code, np.int32))


def test_nested_levels_give_the_outermost_as_block():
    district, village = term(0, 0, 0, 1, 1, 1), term(0, 0, 1, 2, 3, 3)
    block = blocks(np.arange(6), [district, village])
    assert block.tolist() == [0, 0, 0, 1, 1, 1]
    assert columns_of_block(block, [district, village]).tolist() == [[0, 1], [0, 1], [0, 2], [0, 1], [0, 2], [0, 2]]


def test_crossed_levels_give_one_block():
    block = blocks(np.arange(4), [term(0, 0, 1, 1), term(0, 1, 0, 1)])
    assert block.tolist() == [0, 0, 0, 0]
    column = columns_of_block(block, [term(0, 0, 1, 1), term(0, 1, 0, 1)])
    assert column.tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


def test_units_without_a_label_are_in_no_block():
    block = blocks(np.arange(4), [term(-1, 0, -1, 0)])
    assert block.tolist() == [-1, 0, -1, 0]
    assert columns_of_block(block, [term(-1, 0, -1, 0)]).tolist() == [[-1], [0], [-1], [0]]


def groups(tmp_path, labels, method="partially-nested"):
    """Labels of two controls, then of four treated participants."""
    lines = ["y,arm,group", *(f"{i * i % 5},{int(i > 1)},{label}" for i, label in enumerate(labels))]
    (tmp_path / "data.csv").write_text("\n".join(lines), encoding="utf-8")
    request = Request(method=method, outcome="y", arm="arm", training_group="group")
    return random_terms(read_dataset(tmp_path / "data.csv", request), request)[-1].code.tolist()


@pytest.mark.parametrize("control", [("", ""), ("control", "control"), ("p1", "p2"), ("NA", "")])
def test_controls_are_ungrouped_however_they_are_labelled(control, tmp_path):
    code = groups(tmp_path, [*control, "a", "a", "b", "b"])
    assert code[:2] == [-1, -1]
    assert code[2] == code[3] != code[4] == code[5] >= 0


def test_groups_that_are_not_partially_nested_message(tmp_path):
    with pytest.raises(InvalidInput, match="group a has participants in the control and in another arm"):
        groups(tmp_path, ["a", "", "a", "a", "b", "b"])
    with pytest.raises(InvalidInput, match="fewer than two training groups"):
        groups(tmp_path, ["", "", "a", "a", "a", "a"])
    lines = ["y,arm,group", *(f"{i},{int(i > 3)},g{i // 2}" for i in range(8))]
    (tmp_path / "data.csv").write_text("\n".join(lines), encoding="utf-8")
    request = Request(method="partially-nested", outcome="y", arm="arm", training_group="group")
    with pytest.raises(InvalidInput, match="the control arm has 2 groups"):
        random_terms(read_dataset(tmp_path / "data.csv", request), request)
