"""R's answers and the requests that must reproduce them."""

import json
from pathlib import Path

from sim.dataset.analyse import analyse_file
from sim.dataset.request import Request

FOLDER = Path(__file__).parents[1] / "reference" / "r"
TRIAL = {"outcome": "y", "arm": "arm"}
VISITS = {**TRIAL, "method": "lmm", "participant": "id", "visit": "visit"}
SLOPE = {**VISITS, "random_slope": "months"}
LAST = {**TRIAL, "visit": "visit", "participant": "id", "baseline": "baseline", "covariates": ("age", "sex")}
SLEEP = {"method": "lmm", "outcome": "Reaction", "participant": "Subject"}
NESTED = {"method": "partially-nested", "outcome": "y", "arm": "trt", "training_group": "group", "baseline": "base"}

# name of the fixture, path within it to one fit of lmer -> data, request
LMER = {
    "lmm2_reml": ("ind2", VISITS),
    "lmm2_ml": ("ind2", {**VISITS, "ml": True}),
    "lmm2_clda_reml": ("ind2", {**VISITS, "no_baseline_difference": True, "covariates": ("age", "sex")}),
    "lmm2_slope_reml": ("slope2", SLOPE),
    "lmm2_slope_boundary_reml": ("ind2", SLOPE),
    "lmm3_reml": ("crt3", {**VISITS, "cluster": "village"}),
    "lmm3_clda_reml": ("crt3", {**VISITS, "cluster": "village", "no_baseline_difference": True}),
    "lmm3_vilvisit_reml": ("crt3", {**VISITS, "cluster": "village", "village_by_visit": True}),
    "lmm3_singular_reml": ("singular", {**VISITS, "cluster": "village"}),
    "lmm3_singular_reml/equivalent_without_village": ("singular", VISITS),
    "crt_ancova_lmm_reml": ("crt3", {**LAST, "method": "lmm", "cluster": "village", "final_visit_only": True}),
    "lmm4_reml": ("district4", {**VISITS, "cluster": "village", "district": "district"}),
    "partial_nested_reml/heteroscedastic/lmer_equivalent": ("partial_nested", {**NESTED, "residual_by_arm": True}),
    "partial_nested_reml/homoscedastic": ("partial_nested", NESTED),
    "classic_sleepstudy/fits/0": ("sleepstudy", {**SLEEP, "visit": "Days", "random_slope": "Days"}),
    "classic_sleepstudy/fits/1": ("sleepstudy", {**SLEEP, "covariates": ("Days",)}),
    "classic_Penicillin/fits/0": (
        "Penicillin", {"method": "lmm", "outcome": "diameter", "participant": "plate", "cluster": "sample"},
    ),
    "classic_Dyestuff2/fits/0": ("Dyestuff2", {"method": "lmm", "outcome": "Yield", "cluster": "Batch"}),
}  # fmt: skip

TERM = {
    "v2": "visit[2]", "v3": "visit[3]", "arm": "arm[1]", "v2:arm": "visit[2]:arm[1]", "v3:arm": "visit[3]:arm[1]",
    "months:arm": "months:arm[1]", "trt": "arm[1]", "base": "baseline",
}  # fmt: skip


def fixture(path):
    """A fixture, or the part of it that a path such as `classic_sleepstudy/fits/0` names."""
    name, *parts = path.split("/")
    found = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    for part in parts:
        found = found[int(part) if part.isdigit() else part]
    return found


def analysed(data, **request):
    return analyse_file(FOLDER / "data" / f"{data}.csv", Request(**request))


def our_term(name):
    return TERM.get(name, name)
