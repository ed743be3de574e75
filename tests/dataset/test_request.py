"""Options that contradict one another, are missing or do nothing are refused, with what would help."""

import pytest

from sim.dataset.request import METHODS, Request, WrongUsage

VISITS = {"outcome": "y", "arm": "arm", "participant": "id", "visit": "visit"}
ONE = {"outcome": "y", "arm": "arm"}


@pytest.mark.parametrize(
    "request_, option, said",
    [
        ({"method": "lnm", **VISITS}, "--method", "Did you mean 'lmm'?"),
        ({"method": "lmm", **ONE}, "--cluster", "needs a level"),
        ({"method": "lmm", **VISITS, "covariance": "us", "se": "cr2"}, "--covariance", "--se have no effect"),
        ({"method": "lmm", **VISITS, "permutations": 200}, "--permutations", "used by: randomisation"),
        ({"method": "lmm", **VISITS, "df": "kenward-rogers"}, "--df", "Did you mean 'kenward-roger'?"),
        ({"method": "lmm", **VISITS, "df": "kenward-roger", "ml": True}, "--df", "leave --ml out"),
        ({"method": "lmm", **VISITS, "boundary": "kept"}, "--boundary", "known: drop, keep, negative"),
        ({"method": "lmm", **VISITS, "contrast": "finale"}, "--contrast", "Did you mean 'final'?"),
        ({"method": "lmm", **VISITS, "contrast": "final", "all_terms": True}, "--contrast", "give one of them"),
        ({"method": "lmm", **VISITS, "village_by_visit": True}, "--village-by-visit", "--cluster"),
        ({"method": "lmm", **VISITS, "covariates": ("age", "age")}, "--covariates", "a column plays one part"),
        ({"method": "lmm", **VISITS, "cluster": "id"}, "--cluster", "already --participant"),
        ({"method": "lmm", **VISITS, "baseline": "y"}, "--baseline", "already --outcome"),
        (
            {"method": "lmm", **VISITS, "no_baseline_difference": True, "baseline": "b"},
            "--no-baseline-difference", "leave --baseline out",
        ),
        (
            {"method": "lmm", **ONE, "participant": "id", "no_baseline_difference": True},
            "--no-baseline-difference", "--visit",
        ),
        ({"method": "lmm", **ONE, "cluster": "v", "final_visit_only": True}, "--final-visit-only", "--visit"),
        ({"method": "lmm", **ONE, "cluster": "v", "random_slope": "t"}, "--random-slope", "--participant"),
        ({"method": "lmm", "outcome": "y", "cluster": "v"}, "--arm", "--all-terms"),
        ({"method": "lmm", "outcome": "y", "cluster": "v", "control": "0", "all_terms": True}, "--arm", "--control"),
        ({"method": "mmrm", **ONE}, "--participant", "needs --participant, --visit"),
        ({"method": "mmrm", **VISITS, "boundary": "keep"}, "--boundary", "no effect on mmrm without --cluster"),
        ({"method": "lmm", **ONE, "cluster": "v", "contrast": "change"}, "--contrast", "--visit"),
        ({"method": "mmrm", **VISITS, "covariance": "un"}, "--covariance", "known: us, cs"),
        ({"method": "partially-nested", **ONE}, "--training-group", "needs --training-group"),
        ({"method": "ancova", **ONE, "se": "cr2"}, "--se", "needs --cluster"),
        ({"method": "ancova", **ONE, "cluster": "v", "se": "ols"}, "--se", "ignores --cluster"),
        ({"method": "ancova", **ONE, "se": "md"}, "--se", "known: ols, cr0"),
        ({"method": "ancova", **ONE, "contrast": "change"}, "--contrast", "all visits"),
        ({"method": "ancova", **ONE, "df": "z"}, "--df", "no effect with --method ancova"),
        ({"method": "gee", **ONE}, "--cluster", "needs --cluster"),
        ({"method": "gee", **ONE, "cluster": "v", "se": "cr2"}, "--se", "known: robust, kc, md, fg"),
        ({"method": "cluster-summary", **ONE}, "--cluster", "--training-group"),
        ({"method": "cluster-summary", **ONE, "cluster": "v", "training_group": "g"}, "--cluster", "not both"),
        ({"method": "rm-anova", **VISITS, "contrast": "final"}, "--contrast", "changes"),
        ({"method": "rm-anova", **VISITS, "covariates": ("age",)}, "--covariates", "no effect"),
        ({"method": "randomisation", "outcome": "y"}, "--arm", "needs --arm"),
    ],
)  # fmt: skip
def test_wrong_usage_message(request_, option, said):
    with pytest.raises(WrongUsage) as caught:
        Request(**request_)
    assert caught.value.option == option
    assert said in str(caught.value)


def test_every_method_has_a_request_that_is_accepted():
    extra = {
        "partially-nested": {"training_group": "g"}, "cluster-summary": {"cluster": "v"}, "gee": {"cluster": "v"},
    }  # fmt: skip
    for method in METHODS:
        assert Request(method=method, **VISITS, **extra.get(method, {})).method == method
