"""What a data file may hold, and what is said about one that cannot be used: file, line, column, found, fix."""

import numpy as np
import pytest
from dataset.reference import FOLDER, VISITS

from sim.dataset.read import compared_arms, read_dataset
from sim.dataset.request import Request
from sim.errors import InvalidInput

LMM = Request(**VISITS)
ANCOVA = Request(method="ancova", outcome="y", arm="arm")
GOOD = (FOLDER / "data" / "ind2.csv").read_text(encoding="utf-8").splitlines()


def written(folder, lines):
    path = folder / "data.csv"
    path.write_bytes(lines if isinstance(lines, bytes) else "\n".join(lines).encode())
    return path


def problems(folder, lines, request=LMM):
    """`line:column field: message` of every problem, without the file's name."""
    path = written(folder, lines)
    with pytest.raises(InvalidInput) as caught:
        read_dataset(path, request)
    assert caught.value.exit_code == 3
    return [str(problem).removeprefix(str(path)).lstrip(": ") for problem in caught.value.problems]


def changed(row, **cells):
    """ind2.csv with cells of the row on a line changed."""
    lines, header = list(GOOD), GOOD[0].split(",")
    parts = lines[row - 1].split(",")
    for name, cell in cells.items():
        parts[header.index(name)] = cell
    lines[row - 1] = ",".join(parts)
    return lines


# ---- what is read ----------------------------------------------------------------------------------------------------


def test_empty_outcomes_are_unseen(tmp_path):
    lines = changed(3, y="")
    lines[3] = changed(4, y="NA")[3]
    data = read_dataset(written(tmp_path, lines), LMM)
    assert (data.y.size, data.n_unseen) == (len(GOOD) - 3, 2)
    assert data.line[:2].tolist() == [2, 5]


def test_marks_of_other_programs_do_not_matter(tmp_path):
    """A byte order mark, Windows line ends, blank lines, quotes and spaces around cells."""
    quoted = [
        ",".join(f' "{cell}"' if i == 0 else f"{cell} " for i, cell in enumerate(line.split(","))) for line in GOOD
    ]
    text = "\ufeff" + "\r\n".join([quoted[0].replace(' "', '"'), "", *(line.lstrip() for line in quoted[1:])]) + "\r\n"
    plain = read_dataset(written(tmp_path, GOOD), LMM)
    odd = read_dataset(written(tmp_path, text.encode()), LMM)
    np.testing.assert_array_equal(plain.y, odd.y)
    np.testing.assert_array_equal(odd.line, plain.line + 1)


def test_numbers_keep_every_digit(tmp_path):
    data = read_dataset(written(tmp_path, ["y,arm", "0.1234567890123456789,0", "1e-300,1"]), ANCOVA)
    assert data.y.tolist() == [0.1234567890123456789, 1e-300]


@pytest.mark.parametrize(
    "labels, levels",
    [
        (["2", "10", "1.0"], ("1", "2", "10")),
        (["visit 10", "visit 2", "visit 1"], ("visit 1", "visit 2", "visit 10")),
        (["post", "Pre", "month6"], ("month6", "post", "Pre")),
    ],
)
def test_order_of_visits(labels, levels, tmp_path):
    lines = ["id,visit,arm,y", *(f"{i},{v},{i},{i}" for i in (0, 1) for v in labels)]
    assert read_dataset(written(tmp_path, lines), LMM).levels("visit") == levels


def test_control_comes_first(tmp_path):
    lines = ["y,arm", "1,mixed", "2,separate", "3,none"]
    request = Request(method="ancova", outcome="y", arm="arm", control="none")
    data = read_dataset(written(tmp_path, lines), request)
    assert data.levels("arm") == ("none", "mixed", "separate")
    assert data.code("arm").tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    "contrast, found",
    [
        (None, None), ("final", None), ("mixed - separate", ("mixed", "separate")), ("a-b - c", ("a-b", "c")),
        ("mixed-separate", ("mixed", "separate")),
    ],
)  # fmt: skip
def test_arms_of_a_contrast(contrast, found):
    assert compared_arms(contrast, ("mixed", "separate", "a-b", "c")) == found


def test_one_visit_methods_take_the_last(tmp_path):
    request = Request(method="ancova", outcome="y", arm="arm", visit="visit", participant="id")
    data = read_dataset(written(tmp_path, GOOD), request)
    assert data.y.size == sum(line.split(",")[2] == "3" for line in GOOD[1:])


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_unknown_columns_are_all_named_message(tmp_path):
    request = Request(method="lmm", outcome="Y", arm="amr", participant="pid", visit="vist", covariates=("age", "seks"))
    found = problems(tmp_path, GOOD, request)
    assert [text.split()[0] for text in found] == ["1:1"] * 5
    assert "Y: --outcome names a column that is not there; known: id, arm," in found[0]
    assert found[0].endswith("Did you mean 'y'?")
    assert found[1].endswith("Did you mean 'arm'?")
    assert "--covariates" in found[3]


def test_cells_that_are_no_numbers_message(tmp_path):
    lines = changed(5, y="abc")
    lines[6] = changed(7, y="inf", id="")[6]
    lines[7] = changed(8, y="1_0")[7]
    assert problems(tmp_path, lines) == [
        "5:8 y: found 'abc'; a number is needed",
        "7:1 id: is empty; every row needs one",
        "7:8 y: found 'inf'; a number is needed",
        "8:8 y: found '1_0'; a number is needed",
    ]
    assert problems(tmp_path, ["y,arm", '"1,5",0', "2,1"], ANCOVA) == [
        "2:1 y: found '1,5'; a number is needed, with a decimal point"
    ]


def test_many_problems_of_one_kind_are_counted(tmp_path):
    lines = ["y,arm", *("x,0" for _ in range(50)), "1,1"]
    found = problems(tmp_path, lines, ANCOVA)
    assert len(found) == 11
    assert found[0] == "y: 50 rows are like the 10 named here"


def test_rows_that_are_there_twice_message(tmp_path):
    assert problems(tmp_path, [*GOOD[:4], GOOD[2], *GOOD[4:]]) == [
        "5:1 id: participant 1 is there twice at visit 2, first on line 3"
    ]
    request = Request(method="ancova", outcome="y", arm="arm", participant="id")
    assert problems(tmp_path, GOOD[:4], request)[0].endswith("--visit names the column of the visits")


def test_arm_that_changes_within_a_participant_message(tmp_path):
    assert problems(tmp_path, changed(3, arm="1")) == [
        "3:2 arm: differs from earlier rows of id 1; a participant has one arm: are ids used twice?"
    ]


def test_clusters_that_are_not_whole_message(tmp_path):
    lines = ["y,arm,village,district", "1,0,a,n", "2,1,a,n", "3,1,b,n", "4,0,c,s", "5,0,b,s"]
    request = {"outcome": "y", "arm": "arm", "cluster": "village"}
    for method in ("cluster-summary", "randomisation"):
        found = problems(tmp_path, lines, Request(method=method, **request))
        assert found[0].startswith("3:2 arm: differs from earlier rows of village a; --method")
    found = problems(tmp_path, lines, Request(method="lmm", **request, district="district"))
    assert found == ["6:4 district: differs from earlier rows of village b; give each its own label"]


def test_arms_message(tmp_path):
    one = problems(tmp_path, ["y,arm", "1,a", "2,a"], ANCOVA)
    assert one == ["arm: has one arm, a; a comparison needs two"]
    request = Request(method="ancova", outcome="y", arm="arm", control="contrl", contrast="mixed - seperate")
    assert problems(tmp_path, ["y,arm", "1,control", "2,mixed", "3,separate"], request) == [
        "arm: --contrast: 'seperate' is no arm; known: control, mixed, separate. Did you mean 'separate'?",
        "arm: --control 'contrl' is no arm; known: control, mixed, separate. Did you mean 'control'?",
    ]


def test_one_visit_for_a_method_of_several_message(tmp_path):
    lines = [GOOD[0], *(line for line in GOOD[1:] if line.split(",")[2] == "3")]
    assert "--final-visit-only" in problems(tmp_path, lines)[0]
    request = Request(**{**VISITS, "method": "mmrm"})
    assert "use --method ancova" in problems(tmp_path, lines, request)[0]


def test_baseline_that_is_also_an_outcome_message(tmp_path):
    request = Request(**VISITS, baseline="baseline")
    assert "is the outcome at visit 1 itself" in problems(tmp_path, GOOD, request)[0]
    later = [GOOD[0], *(line for line in GOOD[1:] if line.split(",")[2] != "1")]
    assert read_dataset(written(tmp_path, later), request).y.size == len(later) - 1


def test_empty_covariates_are_refused_only_where_they_are_needed(tmp_path):
    request = Request(**VISITS, covariates=("age",))
    assert problems(tmp_path, changed(3, age=""), request)[0].startswith("3:5 age: is empty where the outcome is seen")
    assert read_dataset(written(tmp_path, changed(3, age="", y="")), request).n_unseen == 1


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "is empty"),
        (b"y,arm\n", "has a first line of names and no rows"),
        (b"y;arm\n1;0\n", "1:1 columns must be separated by commas; these seem to be by ';'"),
        (b"y,arm\n1\n1,2,3\n", "2:1 has 1 cell, the first line names 2 columns"),
        (b",y,arm,y\n1,2,3,4\n", "1:2 y: is there twice"),
        (b"y,arm\n1,\xff\n", "is not UTF-8 text (invalid start byte at byte 8): save it as 'CSV UTF-8'"),
        (b'y,arm\n1,"0\n', "2:1 is not CSV: unexpected end of data"),
        (b"y,arm\n,0\n,1\n", "y: is empty in every row that the analysis would use"),
    ],
)
def test_files_that_are_no_data_message(content, said, tmp_path):
    assert said in problems(tmp_path, content, ANCOVA)


def test_file_that_is_not_there_message(tmp_path):
    (tmp_path / "trial.csv").write_text("y\n1\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"does not exist. Did you mean .*trial.csv\?"):
        read_dataset(tmp_path / "trail.csv", ANCOVA)
    with pytest.raises(InvalidInput, match="is a folder"):
        read_dataset(tmp_path, ANCOVA)


def test_labels_as_a_covariate_message(tmp_path):
    lines = ["y,arm,name", *(f"{i},{i % 2},p{i}" for i in range(200))]
    request = Request(method="ancova", outcome="y", arm="arm", covariates=("name",))
    assert problems(tmp_path, lines, request) == ["name: has 200 different words; a covariate in words may have 100"]
