"""A replicate as files to take along: its data set, and scripts in R and Python that fit its analyses again."""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sim.analyses.ancova import Ancova
from sim.analyses.cluster_summary import ClusterSummary
from sim.analyses.lmm import Lmm
from sim.analyses.matrices import MixedPart
from sim.analyses.mixed_ancova import MixedAncova
from sim.analyses.rm_anova import RmAnova
from sim.kernels.cluster_summary import n_between_clusters
from sim.run.replay import data_set, refit
from sim.scenario.load import Scenario
from sim.trial import Arm, Contrast

TEMPLATES = Path(__file__).parent / "templates"
DDF = {"satterthwaite": "Satterthwaite", "kenward-roger": "Kenward-Roger", "z": "z"}
"""Degrees of freedom that R has, by their names there."""

Options = dict[str, Any]


class _Template(string.Template):
    """`@{name}`: `$` means something in R."""

    delimiter = "@"


@dataclass(frozen=True)
class Replay:
    """What one replicate is: its data set, its rows, and the words of its design."""

    scenario: Scenario
    design: str
    replicate: int
    truth: str
    table: pd.DataFrame
    rows: pd.DataFrame

    @property
    def arms(self) -> tuple[Arm, ...]:
        arms: tuple[Arm, ...] = self.scenario.design(self.design).arm_list
        return arms

    @property
    def contrast(self) -> Contrast:
        contrast: Contrast = self.scenario.design(self.design).contrast_arms
        return contrast

    def number(self, column: str) -> int:
        """How many different labels a column has; 0 if it is not there."""
        return len(set(self.table[column]) - {""}) if column in self.table else 0

    @property
    def n_visit(self) -> int:
        return len(self.scenario.names.visit)

    @property
    def is_trained_apart(self) -> bool:
        """Whether a village is trained in several groups."""
        if not (self.number("village") and self.number("training_group")):
            return False
        trained = self.table[self.table["training_group"] != ""]
        return bool((trained.groupby("village")["training_group"].nunique() > 1).any())

    @property
    def cluster(self) -> str:
        """The column of the clusters that analyses heed; empty if there are none."""
        return next((column for column in ("village", "training_group") if self.number(column)), "")


def replay(scenario: Scenario, design: str, replicate: int, truth: str) -> Replay:
    """One replicate, drawn and fitted anew. Raises InvalidInput as `data_set` does."""
    table = data_set(scenario, design, replicate, truth)
    return Replay(scenario, design, replicate, truth, table, refit(scenario, design, replicate))


def write_replay(one: Replay, out: Path) -> list[Path]:
    """Writes the data set to `out`, a .csv, and beside it the scripts, .R and .py; returns the files."""
    r, python = out.with_suffix(".R"), out.with_suffix(".py")
    one.table.to_csv(out, index=False, lineterminator="\n")
    for path, text in ((r, r_script(one, out.name, r.name)), (python, python_script(one, out.name, python.name))):
        path.write_text(text, encoding="utf-8")
    return [out, r, python]


def stored(one: Replay) -> pd.DataFrame:
    """What the run stores of this data set: outcome, analysis, status, estimate, se, df."""
    mine = one.rows[one.rows["truth"] == one.truth].rename(columns={"standard_error": "se"})
    return mine[["outcome", "analysis", "status", "estimate", "se", "df"]].reset_index(drop=True)


# ---- Python --------------------------------------------------------------------------------------------------------


def python_script(one: Replay, csv: str, script: str) -> str:
    """The script that fits the data set again by `nexttrial analyse` or by the scenario's own analyses."""
    analyses = one.scenario.file.analyses
    said = {name: options for name, analysis in analyses.items() if (options := as_options(one, analysis))}
    return _filled(
        "replay.py.template", one, csv, script,
        outcomes=repr(one.scenario.names.outcome), arms=repr(one.arms),
        contrast=repr(one.contrast),
        scenario_analyses=_literal({name: analysis.model_dump() for name, analysis in analyses.items()}),
        analyse=_literal({name: (is_later(analyses[name]), options) for name, options in said.items()}),
    )  # fmt: skip


def as_options(one: Replay, analysis: Any) -> Options | None:
    """The options of `nexttrial analyse` that say the same as an analysis of the scenario; None where they cannot.

    The outcome is left out, and `baseline`, where it is there, stands for the outcome's.
    """
    options = _options(one, analysis)
    return options and {key: value for key, value in options.items() if value not in (False, ())}


def _options(one: Replay, analysis: Any) -> Options | None:
    arms, contrast = one.arms, one.contrast
    options: Options = {"arm": "arm", "participant": "participant", "visit": "visit_number"}
    if contrast.control is None:
        alone = len(arms) == 1 and isinstance(analysis, RmAnova)
        return {"method": "rm-anova", "participant": "participant", "visit": "visit_number"} if alone else None
    options["control"] = next((arm.name for arm in arms if not arm.is_trained), arms[0].name)
    options["contrast"] = f"{arms[contrast.treated].name} - {arms[contrast.control].name}"
    if isinstance(analysis, RmAnova):
        return {"method": "rm-anova", **options}
    has_random_district = isinstance(analysis, Lmm) and analysis.district == "random" and one.number("district") > 1
    adjusted = ["stratum"] if has_random_district else ["stratum", "district"]
    options["covariates"] = tuple(column for column in adjusted if one.number(column) > 1)
    if not (isinstance(analysis, Lmm) and analysis.baseline != "covariate"):
        options["baseline"] = "baseline"
    if isinstance(analysis, Ancova):
        return {"method": "ancova", **options}
    if isinstance(analysis, ClusterSummary):
        return _as_cluster_summary(one, options)
    if not isinstance(analysis, MixedPart):
        return None
    options |= {"df": analysis.df, "boundary": analysis.boundary, "ml": analysis.method == "ml"}
    if isinstance(analysis, MixedAncova):
        return _as_mixed_ancova(one, analysis, options)
    return _as_lmm(one, analysis, options) if isinstance(analysis, Lmm) else None


def is_later(analysis: Any) -> bool:
    """Whether the outcomes of an analysis are the visits after the baseline."""
    return isinstance(analysis, Lmm) and analysis.baseline == "covariate"


def _as_cluster_summary(one: Replay, options: Options) -> Options | None:
    if not one.cluster:
        return None
    return {"method": "cluster-summary", one.cluster.replace("village", "cluster"): one.cluster, **options}


def _as_mixed_ancova(one: Replay, analysis: MixedAncova, options: Options) -> Options | None:
    if not one.cluster or (analysis.facilitator == "random" and one.number("facilitator_team") > 1):
        return None
    if analysis.residual_by_arm:
        if one.cluster == "village" or len(one.arms) > 2:
            return None  # residual variances of the trained and the untreated, not of arms
        return {"method": "partially-nested", "residual_by_arm": True, "training_group": "training_group", **options}
    return {"method": "lmm", "final_visit_only": True, **_levels(one), **options}


def _as_lmm(one: Replay, analysis: Lmm, options: Options) -> Options | None:
    several = one.n_visit > 1 + is_later(analysis)
    if not several and not one.cluster:
        return None
    options |= _levels(one)
    if analysis.district == "random" and one.number("district") > 1:
        options["district"] = "district"
    options["village_by_visit"] = several and one.cluster == "village" and analysis.village_by_visit
    options["no_baseline_difference"] = analysis.baseline == "constrained"
    return {"method": "lmm", "final_visit_only": not several, **options}


def _levels(one: Replay) -> Options:
    levels = {"cluster": "village"} if one.cluster == "village" else {}
    if one.cluster == "training_group" or one.is_trained_apart:
        levels["training_group"] = "training_group"
    return levels


# ---- R -------------------------------------------------------------------------------------------------------------


def r_script(one: Replay, csv: str, script: str) -> str:
    """The script that fits the data set again with R: lm, lme4 with lmerTest and pbkrtest, or nlme."""
    analyses = one.scenario.file.analyses
    fits = [_in_r(one, name, analysis) for name, analysis in analyses.items()]
    kinds = {analysis.kind for analysis in analyses.values()} & {"cluster_summary", "rm_anova"}
    helpers = [(TEMPLATES / f"{kind}.R").read_text(encoding="utf-8").rstrip() for kind in sorted(kinds)]
    packages = ["lme4", "lmerTest", "pbkrtest"] + ["nlme"] * any("lme(" in fit for fit in fits)
    arms, contrast = one.arms, one.contrast
    text = [column for column in one.table if not pd.api.types.is_numeric_dtype(one.table[column])]
    return _filled(
        "replay.R.template", one, csv, script,
        packages=", ".join(packages), libraries="; ".join(f"library({package})" for package in packages),
        text_columns=_quoted(text),
        outcomes=_quoted(one.scenario.names.outcome), arms=_quoted(arm.name for arm in arms),
        trained_arms=_quoted(arm.name for arm in arms if arm.is_trained), treated=arms[contrast.treated].name,
        control="" if contrast.control is None else arms[contrast.control].name,
        helpers="".join(f"{helper}\n\n" for helper in helpers), fits="\n".join(fits),
    )  # fmt: skip


def _in_r(one: Replay, name: str, analysis: Any) -> str:
    """Lines that fit one analysis of the outcome of the loop."""
    call = _r_call(one, analysis)
    return f'  keep("{name}", outcome, fitted_by({call}))' if call else f"  # {name} ({analysis.kind}): not fitted here"


def _r_call(one: Replay, analysis: Any) -> str:
    if isinstance(analysis, RmAnova):
        return "linear_change(all_visits(outcome))"
    random_district = isinstance(analysis, Lmm) and analysis.district == "random" and one.number("district") > 1
    rest = [c for c in ("stratum", "district") if one.number(c) > 1 and not (random_district and c == "district")]
    if isinstance(analysis, Ancova):
        return f"least_squares(lm({_formula('arm', 'baseline', *rest)}, final_visit(outcome)))"
    if isinstance(analysis, ClusterSummary) and one.cluster:
        equal = str(one.cluster == "village").upper()
        first = _formula("baseline", *rest)
        return f'cluster_means(final_visit(outcome), {first}, "{one.cluster}", {equal}, {_n_between(one, rest)})'
    if isinstance(analysis, MixedAncova):
        return _r_mixed_ancova(one, analysis, rest)
    return _r_lmm(one, analysis, rest, random_district=random_district) if isinstance(analysis, Lmm) else ""


def _n_between(one: Replay, columns: list[str]) -> int:
    """Degrees of freedom that the columns cost between the clusters of the arms compared."""
    contrast = one.contrast
    compared = [one.arms[arm].name for arm in (contrast.treated, contrast.control) if arm is not None]
    people = one.table[one.table["arm"].isin(compared)].drop_duplicates("participant")
    label = people[one.cluster].fillna("")
    cluster = np.where(label == "", -1, np.unique(label, return_inverse=True)[1]).astype(np.int32)
    X = [people[column].to_numpy()[:, None] == np.unique(people[column]) for column in columns]
    return n_between_clusters(np.concatenate([np.ones((len(people), 1)), *X], axis=1), cluster)


def _r_mixed_ancova(one: Replay, analysis: MixedAncova, rest: list[str]) -> str:
    has_team = analysis.facilitator == "random" and one.number("facilitator_team") > 1
    fixed, random = ["arm", "baseline", *rest], _r_clusters(one)
    if not analysis.residual_by_arm:
        if has_team:
            random = ["(0 + trained | facilitator_team)", *random]
        return _r_fit(fixed, random, "final_visit", analysis)
    if has_team or len(random) != 1:
        return ""  # nlme has no crossed random effects
    intercept = "~ 1 | village" if one.cluster == "village" else "~ 0 + trained | training_group"
    return (
        f"mixed(lme({_formula(*fixed)}, final_visit(outcome), {intercept}, weights = varIdent(form = ~ 1 | trained),\n"
        f'    method = "{analysis.method.upper()}", na.action = na.omit), "none")'
    )


def _r_lmm(one: Replay, analysis: Lmm, rest: list[str], *, random_district: bool) -> str:
    several = one.n_visit > 1 + is_later(analysis)
    random = ["(1 | participant)"] * several + _r_clusters(one)
    if one.cluster == "village" and analysis.village_by_visit and several:
        random.append("(1 | village:visit)")
    random += ["(1 | district)"] * random_district
    if analysis.baseline == "constrained":
        return _r_fit(["visit", "arm_later", *rest], random, "all_visits", analysis, final=one.scenario.names.visit[-1])
    compared = "visit * arm" if several else "arm"
    if analysis.baseline == "free":
        return _r_fit([compared, *rest], random, "all_visits", analysis)
    return _r_fit([compared, "baseline", *rest], random, "later_visits", analysis)


def _r_clusters(one: Replay) -> list[str]:
    random = ["(1 | village)"] if one.cluster == "village" else []
    if one.cluster == "training_group" or one.is_trained_apart:
        random.append("(0 + trained | training_group)")
    return random


def _r_fit(fixed: list[str], random: list[str], rows: str, analysis: MixedPart, *, final: str = "") -> str:
    """A call that gives estimate, standard error and df."""
    formula = _formula(*fixed, *random)
    reml, ddf = str(analysis.method == "reml").upper(), DDF.get(analysis.df, "none")
    if not random:
        return f'least_squares(lm({formula}, {rows}(outcome)), {reml}, "{ddf}")'
    at = f', prefix = "arm_later", at = "_at_{final}"' if final else ""
    return (
        f'mixed(\n    lmer({formula},\n         {rows}(outcome), REML = {reml}, control = careful),\n    "{ddf}"{at})'
    )


def _formula(*terms: str) -> str:
    return f"y ~ {' + '.join(terms)}"


def _quoted(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names)


# ---- both ----------------------------------------------------------------------------------------------------------


def _filled(template: str, one: Replay, csv: str, script: str, **words: str) -> str:
    lines = stored(one).to_csv(index=False, lineterminator="\n").rstrip()
    return _Template((TEMPLATES / template).read_text(encoding="utf-8")).substitute(
        words, replicate=one.replicate, design=one.design, scenario=one.scenario.name, seed=one.scenario.file.seed,
        truth=one.truth, csv=csv, script=script, stored=lines,
    )  # fmt: skip


def _literal(value: dict[str, Any]) -> str:
    """A dictionary as Python, an entry a line."""
    return "{\n" + "".join(f"    {key!r}: {one!r},\n" for key, one in value.items()) + "}"
