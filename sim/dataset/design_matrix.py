"""Flags to matrices: fixed-effect columns with their names, comparisons of arms, and levels of random intercepts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sim.dataset.read import Dataset, Factor, compared_arms
from sim.dataset.request import Request, WrongUsage
from sim.scenario.nearest import known_names
from sim.trial import Floats, Ints

INTERCEPT = "(Intercept)"
RANK_TOLERANCE = 1e-9  # share of a column's length that the columns before it must leave


@dataclass(frozen=True)
class FixedEffects:
    """X of n rows and p named columns, and the comparisons asked for.

    x : (n, p).  terms : (p,) names.  contrast : (Q, p) weights.  asked : (Q,) their names.
    joint : terms tested together: those asked for, else those of arm by time, else those of three or more arms.
    """

    x: Floats
    terms: tuple[str, ...]
    contrast: Floats
    asked: tuple[str, ...]
    joint: tuple[str, ...]

    @property
    def joint_contrast(self) -> Floats:
        """(q, p) one row for each term of the joint test."""
        return np.eye(len(self.terms))[[self.terms.index(term) for term in self.joint]]


def fixed_effects(data: Dataset, request: Request, *, with_arm: bool = True) -> FixedEffects:
    """Columns of the fixed part in treatment coding against the first level.

    All visits: visit, arm (unless the baseline is constrained), arm by visit; over a random slope's column, that column
    in place of the visits; one visit: arm. Then baseline and covariates.
    Raises InvalidInput naming the columns that the rows cannot tell apart, WrongUsage for an unknown joint term.
    """
    columns = {INTERCEPT: np.ones(data.y.size)}
    arms = _dummies("arm", data.factor["arm"]) if with_arm and "arm" in data.factor else {}
    times = _times(data, request)
    by_time = {f"{time}:{arm}": z * a for time, z in times.items() for arm, a in arms.items()}
    columns |= times | ({} if request.no_baseline_difference else arms) | by_time
    if "baseline" in data.number:
        columns["baseline"] = data.number["baseline"]
    for name, values in data.covariate.items():
        columns |= _dummies(name, values) if isinstance(values, Factor) else {name: values}
    _check_rank(data, columns)
    terms = tuple(columns)
    joint = request.joint or tuple(by_time or arms)
    for term in joint:
        if term not in terms:
            raise WrongUsage("--joint", f"found '{term}'; {known_names(term, terms)}")
    asked = {term: {term: 1.0} for term in terms} if request.all_terms else _comparisons(data, request) if arms else {}
    contrast = np.array([weight.get(term, 0.0) for weight in asked.values() for term in terms])
    return FixedEffects(
        x=np.stack(list(columns.values()), axis=1),
        terms=terms,
        contrast=contrast.reshape(len(asked), len(terms)),
        asked=tuple(asked),
        joint=joint if request.joint or len(joint) > 1 else (),
    )


def arm_pairs(data: Dataset, request: Request) -> list[tuple[str, str]]:
    """The arms to compare, (treated, control): the two named, or each other arm against the control."""
    arms = data.levels("arm")
    named = compared_arms(request.contrast, arms)
    return [named] if named else [(arm, arms[0]) for arm in arms[1:]]


def _comparisons(data: Dataset, request: Request) -> dict[str, dict[str, float]]:
    """Name and weights of every comparison: the arm difference at the last visit, or in the change since the first."""
    control = data.levels("arm")[0]
    asked = {}
    for pair in arm_pairs(data, request):
        weight: dict[str, float] = {}
        for arm, sign in zip(pair, (1.0, -1.0), strict=True):
            if arm == control:
                continue
            if request.contrast != "change" and not request.no_baseline_difference:
                weight[f"arm[{arm}]"] = sign
            for time, span in _last_time(data, request).items():
                weight[f"{time}:arm[{arm}]"] = sign * span
        asked[_written(weight)] = weight
    return asked


def _last_time(data: Dataset, request: Request) -> dict[str, float]:
    """The time term that holds the last visit, and what it is multiplied by there."""
    if request.random_slope is not None:
        z = data.number["random_slope"]
        return {request.random_slope: float(z.max() - (z.min() if request.contrast == "change" else 0.0))}
    if request.is_one_visit or "visit" not in data.factor:
        return {}
    return {f"visit[{data.levels('visit')[-1]}]": 1.0}


def _written(weight: dict[str, float]) -> str:
    """`arm[1] + visit[3]:arm[1]`."""
    words = [f"{'-' if w < 0 else '+'} {'' if abs(w) == 1 else f'{abs(w):.15g}*'}{term}" for term, w in weight.items()]
    return " ".join(words).removeprefix("+ ")


def _times(data: Dataset, request: Request) -> dict[str, Floats]:
    if request.random_slope is not None:
        z = data.number["random_slope"]
        if request.no_baseline_difference and z.min() != 0.0:
            message = f"starts at {z.min():g}; --no-baseline-difference makes the arms equal at 0, so count time from 0"
            raise data.problem(request.random_slope, message)
        return {request.random_slope: z}
    if request.is_one_visit or "visit" not in data.factor:
        return {}
    return _dummies("visit", data.factor["visit"])


def _dummies(name: str, factor: Factor) -> dict[str, Floats]:
    return {f"{name}[{level}]": (factor.code == code) * 1.0 for code, level in enumerate(factor.levels) if code > 0}


def _check_rank(data: Dataset, columns: dict[str, Floats]) -> None:
    """Raises InvalidInput if the rows cannot tell the columns apart, naming each that follows from those before it."""
    x = np.stack(list(columns.values()), axis=1)
    size = np.linalg.norm(x, axis=0)
    if len(columns) >= data.y.size:
        raise data.problem("fixed effects", f"{len(columns)} terms need more rows than the {data.y.size} seen")
    x = x / np.where(size > 0.0, size, 1.0)
    if np.abs(np.diag(np.linalg.qr(x, mode="r"))).min() > RANK_TOLERANCE:
        return
    kept: list[int] = []
    problems = []
    for k, name in enumerate(columns):
        weight = np.linalg.lstsq(x[:, kept], x[:, k], rcond=None)[0] if kept else np.zeros(0)
        if np.linalg.norm(x[:, k] - x[:, kept] @ weight) > RANK_TOLERANCE:
            kept.append(k)
        elif size[k] == 0.0:
            problems.append(f"{name} is 0 in every row with an outcome: there is nobody to estimate it from")
        else:
            same = [list(columns)[j] for j, w in zip(kept, weight, strict=True) if abs(w) > 1e-6]
            problems.append(f"{name} follows from {', '.join(same)} in the rows with an outcome: leave one out")
    raise data.problem("fixed effects", "; ".join(problems))


@dataclass(frozen=True)
class RandomTerm:
    """A random intercept. name : that of its SD.  code : (n,) label of each row, -1 = none."""

    name: str
    code: Ints


def random_terms(data: Dataset, request: Request) -> list[RandomTerm]:
    """Random intercepts above the participant: district, cluster, cluster by visit, training group."""
    terms = [RandomTerm(f"sd_{role}", data.code(role)) for role in ("district", "cluster") if role in data.factor]
    if request.village_by_visit:
        code = data.code("cluster") * len(data.levels("visit")) + data.code("visit")
        terms.append(RandomTerm("sd_cluster_visit", code.astype(np.int32)))
    if "training_group" in data.factor:
        terms.append(RandomTerm("sd_training_group", training_group(data, request)))
    return terms


def training_group(data: Dataset, request: Request) -> Ints:
    """(n,) training group of each row, -1 = ungrouped.

    The control arm is ungrouped if its labels are empty, all one word ('control'), or one for each participant; with
    groups of its own it is not partially nested.
    Raises InvalidInput if a group holds both arms, or a partially nested analysis meets a grouped control arm.
    """
    code = data.code("training_group")
    if "arm" not in data.factor:
        return code
    is_control = data.code("arm") == 0
    own, others = np.unique(code[is_control & (code >= 0)]), np.unique(code[~is_control & (code >= 0)])
    column, labels = data.factor["training_group"].column, data.levels("training_group")
    if both := sorted(set(own) & set(others)):
        raise data.problem(
            column, f"group {labels[both[0]]} has participants in the control and in another arm: label groups by arm"
        )
    unit = data.code("participant") if "participant" in data.factor else np.arange(code.size)
    n_control = np.unique(unit[is_control & (code >= 0)]).size
    if own.size in (0, 1, n_control):
        code = np.where(is_control, -1, code).astype(np.int32)
    elif request.method == "partially-nested":
        raise data.problem(
            column,
            f"the control arm has {own.size} groups; a partially nested control arm has none: empty its cells, or use "
            "--method lmm --training-group",
        )
    if np.unique(code[code >= 0]).size < 2:
        raise data.problem(column, "fewer than two training groups: their variance cannot be estimated")
    return code


def blocks(unit: Ints, terms: list[RandomTerm]) -> Ints:
    """(n_unit,) independent block of each unit, -1 where none of its rows has a random term.

    Units that share a label of any term are in one block, so nested levels give the outermost level and crossed ones a
    single block.
    """
    n_unit = int(unit.max()) + 1
    rows, nodes, top = [], [], n_unit
    for term in terms:
        has = term.code >= 0
        rows.append(unit[has])
        nodes.append(term.code[has] + top)
        top += int(term.code.max()) + 1
    i, j = np.concatenate([*rows, np.zeros(0, int)]), np.concatenate([*nodes, np.zeros(0, int)])
    graph = coo_array((np.ones(i.size), (i, j)), shape=(top, top))
    component = connected_components(graph, directed=False)[1][:n_unit]
    component[~np.isin(np.arange(n_unit), i)] = -1
    _, block = np.unique(component, return_inverse=True)
    return np.asarray(block - (component < 0).any(), np.int32)


def columns_of_block(block: Ints, terms: list[RandomTerm]) -> Ints:
    """(n, L) column of its block's Z that each row hits, -1 = none. block : (n,) of each row."""
    column = np.full((block.size, len(terms)), -1, np.int32)
    used = np.zeros(int(block.max(initial=-1)) + 1, np.int32)
    for k, term in enumerate(terms):
        has = term.code >= 0
        pair, which = np.unique(np.stack([block[has], term.code[has]], axis=1), axis=0, return_inverse=True)
        first = np.searchsorted(pair[:, 0], pair[:, 0])
        rank = np.arange(len(pair)) - first
        column[has, k] = used[pair[which.ravel(), 0]] + rank[which.ravel()]
        used += np.bincount(pair[:, 0], minlength=used.size).astype(np.int32)
    return column
