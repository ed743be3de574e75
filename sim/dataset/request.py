"""What a user asks of a data set: a method, the columns that play its parts and its options, checked for sense."""

from __future__ import annotations

from dataclasses import dataclass, fields

from sim.kernels.covariance import offered
from sim.scenario.nearest import known_names

DF = (
    "satterthwaite", "satterthwaite-expected", "kenward-roger", "kenward-roger-observed", "kenward-roger-second-order",
    "between-within", "z",
)  # fmt: skip
BOUNDARY = ("drop", "keep", "negative")
STANDARD_ERROR = {"ancova": ("ols", "cr0", "cr1", "cr2", "cr3"), "gee": ("robust", "kc", "md", "fg")}
FAMILY = ("gaussian", "binomial")
ROLES = ("outcome", "arm", "participant", "visit", "cluster", "district", "training_group", "baseline", "random_slope")

_ALWAYS = {"method", "outcome", "arm", "control", "contrast", "covariates", "baseline", "participant", "visit"}
_LIKELIHOOD = {"df", "ml", "boundary", "all_terms", "joint"}
APPLIES = {
    "lmm": _ALWAYS | _LIKELIHOOD | {
        "cluster", "district", "training_group", "no_baseline_difference", "village_by_visit", "random_slope",
        "final_visit_only",
    },
    "mmrm": _ALWAYS | _LIKELIHOOD | {"cluster", "no_baseline_difference", "covariance"},
    "partially-nested": _ALWAYS | _LIKELIHOOD | {"training_group", "residual_by_arm", "final_visit_only"},
    "ancova": _ALWAYS | {"cluster", "se", "all_terms", "joint", "final_visit_only"},
    "cluster-summary": _ALWAYS | {"cluster", "training_group", "welch", "final_visit_only"},
    "gee": _ALWAYS | {"cluster", "se", "family", "all_terms", "final_visit_only"},
    "randomisation": _ALWAYS | {"cluster", "seed", "permutations", "final_visit_only"},
    "rm-anova": _ALWAYS - {"covariates", "baseline"},
}  # fmt: skip
METHODS = tuple(APPLIES)
NEEDS = {
    "mmrm": ("participant", "visit"),
    "partially-nested": ("arm", "training_group"),
    "cluster-summary": ("arm",),
    "gee": ("cluster",),
    "randomisation": ("arm",),
    "rm-anova": ("participant", "visit"),
}
ALL_VISITS = ("lmm", "mmrm", "rm-anova")


class WrongUsage(ValueError):
    """Options that contradict one another or do nothing; `option` is the first of them, as typed."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


@dataclass(frozen=True, kw_only=True)
class Request:
    """One planned analysis. Names of roles hold column names of the file; None or False: not asked for.

    contrast : 'final', 'change', or two arms as 'mixed - separate'; None = the method's own (rm-anova: 'change', all
    others 'final').  control : the arm the others are compared with; None = first in order.
    df : 'kenward-roger' is pbkrtest's; for `mmrm` the linear one of R's mmrm, which takes the observed information and
    has 'kenward-roger-second-order' as its default.
    se : standard error of `ancova` (None = cr2 with a cluster, else ols) and `gee` (None = robust).
    joint : names of terms to test together; none = the arm-by-visit terms.
    permutations : re-randomisations drawn where they are too many to list.
    Raises WrongUsage if an option is missing, unknown or without effect on the method.
    """

    method: str
    outcome: str
    arm: str | None = None
    participant: str | None = None
    visit: str | None = None
    cluster: str | None = None
    district: str | None = None
    training_group: str | None = None
    baseline: str | None = None
    random_slope: str | None = None
    covariates: tuple[str, ...] = ()
    control: str | None = None
    contrast: str | None = None
    all_terms: bool = False
    joint: tuple[str, ...] = ()
    final_visit_only: bool = False
    no_baseline_difference: bool = False
    village_by_visit: bool = False
    residual_by_arm: bool = False
    welch: bool = False
    ml: bool = False
    df: str | None = None
    covariance: str | None = None
    boundary: str | None = None
    se: str | None = None
    family: str | None = None
    seed: int | None = None
    permutations: int | None = None

    def __post_init__(self) -> None:
        _known("--method", self.method, METHODS)
        self._check_effect()
        self._check_choices()
        self._check_columns()
        self._check_sense()

    @property
    def is_one_visit(self) -> bool:
        """Whether only the last visit is analysed."""
        return self.final_visit_only or self.method not in ALL_VISITS

    @property
    def role(self) -> dict[str, str]:
        """Column of every role that has one."""
        return {role: getattr(self, role) for role in ROLES if getattr(self, role) is not None}

    def given(self, name: str) -> bool:
        return getattr(self, name) not in (None, False, ())

    def _check_effect(self) -> None:
        idle = [f.name for f in fields(self) if self.given(f.name) and f.name not in APPLIES[self.method]]
        if idle:
            able = [method for method in METHODS if set(idle) <= APPLIES[method]]
            raise WrongUsage(
                option(idle[0]),
                f"{', '.join(map(option, idle))} {'has' if len(idle) == 1 else 'have'} no effect with --method "
                f"{self.method}; leave {'it' if len(idle) == 1 else 'them'} out"
                + (f" (used by: {', '.join(able)})" if able else ""),
            )

    def _check_choices(self) -> None:
        for name, known in (("df", DF), ("covariance", tuple(offered())), ("boundary", BOUNDARY), ("family", FAMILY)):
            if (value := getattr(self, name)) is not None:
                _known(option(name), value, known)
        if self.se is not None:
            _known("--se", self.se, STANDARD_ERROR[self.method])

    def _check_columns(self) -> None:
        missing = [name for name in NEEDS.get(self.method, ()) if not self.given(name)]
        if missing:
            raise WrongUsage(option(missing[0]), f"--method {self.method} needs {', '.join(map(option, missing))}")
        used: dict[str, str] = {}
        parts = [*self.role.items(), *(("covariates", column) for column in self.covariates)]
        for part, column in parts:
            if column in used and {part, used[column]} != {"visit", "random_slope"}:
                raise WrongUsage(
                    option(part), f"column '{column}' is already {option(used[column])}; a column plays one part"
                )
            used.setdefault(column, part)

    def _check_sense(self) -> None:
        levels = ("participant", "cluster", "district", "training_group")
        if self.method == "lmm" and not any(map(self.given, levels)):
            raise WrongUsage("--cluster", f"--method lmm needs a level: {', '.join(map(option, levels))}")
        if self.method == "cluster-summary" and self.given("cluster") == self.given("training_group"):
            raise WrongUsage("--cluster", "cluster-summary needs --cluster, or --training-group, and not both")
        if self.all_terms and self.contrast is not None:
            raise WrongUsage("--contrast", "--all-terms prints the terms, --contrast one comparison: give one of them")
        if self.contrast is not None and "-" not in self.contrast:
            _known("--contrast", self.contrast, ("final", "change", "ARM - ARM"))
        if self.arm is None:
            self._check_without_arm()
        if self.contrast == "change" and (self.is_one_visit or not (self.visit or self.random_slope)):
            raise WrongUsage("--contrast", "a change needs all visits: --visit and --method lmm, mmrm or rm-anova")
        if self.contrast == "final" and self.method == "rm-anova":
            raise WrongUsage("--contrast", "rm-anova compares changes; its contrast is 'change' (or two arms)")
        if self.ml and (self.df or "").startswith("kenward-roger"):
            raise WrongUsage("--df", "the Kenward-Roger adjustment is one of REML; leave --ml out")
        if self.method == "mmrm" and self.boundary is not None and self.cluster is None:
            raise WrongUsage(
                "--boundary", "has no effect on mmrm without --cluster: no variance can be 0; leave it out"
            )
        if self.random_slope and (self.participant is None or self.final_visit_only):
            raise WrongUsage(
                "--random-slope", "a random slope is a participant's, over visits: --participant is needed"
            )
        if self.village_by_visit and (self.cluster is None or self.visit is None or self.final_visit_only):
            raise WrongUsage("--village-by-visit", "needs --cluster and --visit, and more than the final visit")
        if self.no_baseline_difference:
            self._check_constrained_baseline()
        if self.final_visit_only and self.visit is None:
            raise WrongUsage("--final-visit-only", "--visit must say which column holds the visits")
        if self.method == "ancova" and (self.se in (None, "ols")) != (self.cluster is None) and self.se is not None:
            raise WrongUsage(
                "--se",
                f"--se {self.se} {'ignores' if self.se == 'ols' else 'needs'} --cluster; cr2 is the usual choice",
            )

    def _check_without_arm(self) -> None:
        for name in ("control", "contrast", "no_baseline_difference", "residual_by_arm"):
            if self.given(name):
                raise WrongUsage("--arm", f"{option(name)} needs --arm")
        if not self.all_terms and self.method != "rm-anova":
            raise WrongUsage("--arm", "--arm names the column of the arms; without arms, ask for --all-terms")

    def _check_constrained_baseline(self) -> None:
        if (self.visit is None and self.random_slope is None) or self.final_visit_only:
            raise WrongUsage("--no-baseline-difference", "needs --visit, and the baseline visit among the rows")
        if self.baseline is not None:
            raise WrongUsage(
                "--no-baseline-difference",
                "a constrained baseline takes the baseline as an outcome: leave --baseline out",
            )


def option(name: str) -> str:
    """`training_group` -> `--training-group`."""
    return "--" + name.replace("_", "-")


def _known(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise WrongUsage(name, f"found '{value}'; {known_names(value, known)}")
