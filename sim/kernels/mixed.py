"""Linear mixed models of any declared covariance, fitted exactly: REML or ML, one trial per replicate.

Model, one replicate.  z = [X covariate y] has r = p + 1 columns and one row per visit seen.
  V = R + Z G Z',  R block-diagonal with a participant's Sigma(theta) at the visits seen,  G = diag(g of each column).
Basis.  R^-1 = sum_b w_b(theta) B_b with B_b free of theta (mixed_residual): strata for residual and random intercept,
else the entries of R_m^-1 for each class and pattern m of visits seen.  One pass over the data gives
  S_b (z'B_b z), N_b (Z'B_b z, per block), M_b (Z'B_b Z, per block); every later step costs blocks, not participants.
  S = sum w_b S_b, and N, M likewise;  S_k = sum (dw_b/dtheta_k) S_b, and N_k, M_k likewise.
Per block (Woodbury, valid at g = 0 and g < 0):  D = (I + G M)^-1 G,  F = I - M D,  D = G F,
  H = F N = Z'V^-1 z,  T = F M = Z'V^-1 Z,  Q = D N = G H,  P_k = N_k - M_k Q.
Sums over blocks are understood below; _g are the rows of term g.
  C = z'V^-1 z = S - N'Q;   log|V| = log|R| + log|I + G M|;   U_b = S_b - N_b'Q - Q'N_b + Q'M_b Q.
  C_k = sum w_b,k U_b;   C_g = -H_g'H_g;
  C_kl = sum w_b,kl U_b - P_k'D P_l - P_l'D P_k;   C_kg = -[(F P_k)_g'H_g + '];   C_gh = H_g'T_gh H_h + '.
  (log|V|)_k = log|R|_k + tr(D M_k);   (log|V|)_g = tr T_gg.
  (log|V|)_kl = log|R|_kl + sum w_b,kl tr(D M_b) - tr(D M_k D M_l);
  (log|V|)_kg = tr (F M_k F')_gg;   (log|V|)_gh = -||T_gh||^2.
Likelihood.  Phi = C_XX^-1, beta = Phi C_Xy, a = (-beta, 1), h_k = (C_k a)_X, Psi = [Phi 0; 0 0] + a a':
  criterion = (n - p) log 2 pi + log|V| + log|C_XX| + a'C a;   score_k = -1/2 [(log|V|)_k + tr(Psi C_k)];
  observed information = 1/2 [(log|V|)_kl + tr(Psi C_kl) - tr(Phi C_k Phi C_l) - 2 h_k'Phi h_l];
  average information = 1/4 [a'C_kl a - 2 h_k'Phi h_l];   expected = 2 average - observed.
  ML: n for n - p, without log|C_XX| and all that is in Phi alone.
Centring.  If X b = 1, a constant is taken from y and from each covariate, and given back to the coefficients through b.

References: Patterson, Thompson 1971, doi:10.1093/biomet/58.3.545 (REML); Harville 1977,
doi:10.1080/01621459.1977.10480998 (derivatives); Gilmour, Thompson, Cullis 1995, doi:10.2307/2533274 (average
information); Lindstrom, Bates 1988, doi:10.1080/01621459.1988.10478693 (blocks); mixed_inference: of inference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from sim.kernels import covariance, mixed_optimise
from sim.kernels.mixed_accumulate import Moments, accumulate, accumulation_room
from sim.kernels.mixed_algebra import combine, copy, sweep, unpack
from sim.kernels.mixed_inference import (
    BETWEEN_WITHIN,
    KENWARD_ROGER,
    KENWARD_ROGER_2,
    KENWARD_ROGER_OBSERVED,
    NORMAL,
    SATTERTHWAITE,
    Inference,
    contrasts,
    inference_room,
    inverse_information,
    joint_test,
    kenward_roger_covariance,
)
from sim.kernels.mixed_layout import (
    Bool,
    Float,
    Int,
    Layout,
    Statistics,
    Work,
    allocate_statistics,
    allocate_work,
    lay_out,
)
from sim.kernels.mixed_likelihood import differentiate, evaluate
from sim.kernels.mixed_optimise import (
    ACCEPTED,
    CLIMB_SIZE,
    DONE,
    FACTOR,
    FREE,
    MOVED,
    NONNEGATIVE,
    POSITIVE,
    REJECTED,
    VALUE,
    accept,
    begin,
    climbing_room,
    propose,
)
from sim.kernels.mixed_residual import marginal, natural_parameters, scaled_cholesky
from sim.lanes import inline, lane_kernel
from sim.trial import FAILED, OK, SINGULAR

METHODS = ("ml", "reml")
DF = (  # in the order of the numbers in mixed_inference
    "satterthwaite",
    "satterthwaite-expected",
    "between-within",
    "z",
    "kenward-roger",
    "kenward-roger-observed",
    "kenward-roger-second-order",
)
BOUNDARIES = ("keep", "drop", "negative")


class MixedFit(NamedTuple):
    """Fits of R replicates; every array has R first.  A failed replicate is NaN throughout."""

    estimate: Float  # (R, Q)
    standard_error: Float  # (R, Q)
    df: Float  # (R, Q)
    coefficient: Float  # (R, p)
    coefficient_covariance: Float  # (R, p, p) adjusted where df is a Kenward-Roger one
    variance: Float  # (R, m) the structure's parameters, then each random term
    covariance: Float  # (R, classes, T, T) of a participant's visits, without the blocks' terms
    criterion: Float  # (R,) -2 log (restricted) likelihood
    status: npt.NDArray[np.int8]  # (R,) 0 ok, 1 singular (a component is 0), 2 failed
    n_iteration: Int  # (R,)
    joint_f: Float  # (R, J)
    joint_ndf: Float
    joint_ddf: Float
    known_estimate: Float  # (R, Q) generalised least squares at the variances `known`, NaN without them
    known_standard_error: Float  # (R, Q)


@dataclass(frozen=True, eq=False)
class MixedModel:
    """A linear mixed model: what all replicates share.  ValueError if the parts disagree.

    X : (N, T, p0) fixed-effect rows.
    participant : covariance over a participant's visits, a name in `covariance.STRUCTURES`: 'independent' (a residual
        alone), 'intercept', 'slope' (random intercept and slope), or of an MMRM 'us', 'cs', 'csh', 'ar1', 'ar1h',
        'toep', 'toeph'.
    time : (T,) the visits' times, for 'slope' alone.
    residual_class : (N,) classes 0 .. C-1 with residual variances (or structures) of their own; None = one.
    block : (N,) independent unit that holds the participant's random terms, -1 = none.
    column : (N, T, L) for random term l the column of the block's Z that the row hits, from 0 within the block,
        -1 = none; a column belongs to one term.  None = no random terms.
    T is at most 62.
    """

    X: Float
    participant: str = "intercept"
    time: Any = None  # array-like until validated, then an array; so are those below
    residual_class: Any = None
    block: Any = None
    column: Any = None
    _layouts: dict[int, Layout] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        def keep(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        keep("X", np.ascontiguousarray(self.X, np.float64))
        if self.X.ndim != 3:
            raise ValueError(f"X has shape {self.X.shape}; (participants, visits, columns) is needed")
        N, T, _ = self.X.shape
        if not 1 <= T <= 62:
            raise ValueError(f"X has {T} visits; 1 to 62 are allowed")
        known = [name for name in covariance.STRUCTURES if "," not in name]
        if self.participant not in known:
            raise ValueError(
                f"participant: '{self.participant}' is not a covariance structure; known: {', '.join(known)}"
            )
        needs_time = covariance.STRUCTURES[self.participant].needs_time
        if needs_time != (self.time is not None):
            raise ValueError(
                f"time: '{self.participant}' {'needs the times of the visits' if needs_time else 'takes no times'}"
            )
        keep("time", None if self.time is None else np.array(self.time, np.float64))
        keep("residual_class", np.array(np.zeros(N) if self.residual_class is None else self.residual_class, np.int64))
        if (self.block is None) != (self.column is None):
            raise ValueError("block and column come together")
        keep("block", np.array(np.full(N, -1) if self.block is None else self.block, np.int64))
        keep("column", np.array(np.full((N, T, 0), -1) if self.column is None else self.column, np.int64))
        if self.time is not None:
            _check("time", self.time.shape, (T,))
        _check("residual_class", self.residual_class.shape, (N,))
        _check("block", self.block.shape, (N,))
        _check("column", self.column.shape, (N, T, *self.column.shape[2:3]))
        if self.residual_class.min(initial=0) < 0:
            raise ValueError("residual_class: classes are numbered from 0")

    @property
    def n_class(self) -> int:
        return int(self.residual_class.max(initial=0)) + 1

    @property
    def variance_names(self) -> list[str]:
        """What the columns of MixedFit.variance are."""
        inner = covariance.names(self.participant, self.X.shape[1], self.time, self.n_class)
        return inner + [f"random term {k + 1}" for k in range(self.column.shape[2])]

    def table(self, name: str) -> covariance.Table:
        return covariance.table(name, self.X.shape[1], self.time, self.n_class)

    def layout(self, n_covariate: int) -> Layout:
        if n_covariate not in self._layouts:
            T = self.X.shape[1]
            self._layouts[n_covariate] = lay_out(
                self.X,
                self.residual_class,
                self.n_class,
                self.participant not in ("independent", "intercept"),
                1 if self.participant == "independent" else 1 + T,
                self.block,
                self.column,
                self.X.shape[2] + n_covariate + 1,
            )
        return self._layouts[n_covariate]


def fit_mixed(
    model: MixedModel,
    y: Float,
    observed: Bool,
    covariate: Float,
    contrast: Float,
    joint: Sequence[Float] = (),
    method: str = "reml",
    df: str = "satterthwaite",
    boundary: str = "drop",
    start: npt.ArrayLike | None = None,
    known: npt.ArrayLike | None = None,
    max_iteration: int = 100,
) -> MixedFit:
    """Estimates of contrasts of fixed effects, with standard errors and degrees of freedom, one fit per replicate.

    y : (R, N, T) outcome, any unit.  observed : (R, N, T) or (1, N, T); values of y where it is False are never used.
    covariate : (R, N, c) participant-level columns put after those of X (c may be 0).  contrast : (Q, p), p = p0 + c.
    joint : matrices (q, p), each a joint test of its rows.
    method : 'reml' or 'ml'.
    df : 'satterthwaite' (observed information, as lmerTest and mmrm), 'satterthwaite-expected'; with adjusted standard
        errors, REML only, 'kenward-roger' (expected information, no second derivatives of V: as pbkrtest),
        'kenward-roger-observed' (the same with the observed information: 'Kenward-Roger-Linear' of mmrm) and
        'kenward-roger-second-order' (that with second derivatives of V: 'Kenward-Roger' of mmrm); 'between-within':
        a coefficient whose column is constant within blocks
        has blocks - (1 + such columns) df, one constant within participants has participants - blocks - (such columns),
        any other, and the intercept, observations - participants - (such columns), where a missing level falls away
        (Pinheiro, Bates 2000, Mixed-Effects Models in S and S-PLUS, section 2.4.2; as in nlme), and a contrast the
        least df of its coefficients; 'z' (infinite).
    boundary : a variance component estimated at zero leaves the Satterthwaite information ('drop', as lmerTest) or
        stays in it ('keep'); Kenward-Roger always keeps it, as pbkrtest.  'negative': components may be negative while
        the covariance of the data is positive definite.
    start, known : (m,) variances, in the order of MixedFit.variance, to start from (NaN = from the OLS residual
        variance); and at which known_estimate and known_standard_error are found.
    Variances are in squared units of y.  ValueError for shapes that disagree or unknown words.  A replicate that cannot
    be fitted (rank-deficient X, too few rows, no convergence, no usable information) has status 2 and NaN.
    References: Patterson, Thompson 1971, doi:10.1093/biomet/58.3.545; those of the header.

    >>> y = np.array([[[1.0], [3.0], [6.0], [8.0]]])
    >>> village = MixedModel(np.ones((4, 1, 1)), "independent", block=[0, 0, 1, 1], column=np.zeros((4, 1, 1)))
    >>> fit = fit_mixed(village, y, np.ones((1, 4, 1), bool), np.empty((1, 4, 0)), np.ones((1, 1)))
    >>> [float(round(x, 6)) for x in (*fit.estimate[0], *fit.df[0], *fit.variance[0])]
    [4.5, 1.0, 2.0, 11.5]
    """
    R, N, T = y.shape
    p0, n_term = model.X.shape[2], model.column.shape[2]
    p = p0 + covariate.shape[2]
    for name, word, allowed in (("method", method, METHODS), ("df", df, DF), ("boundary", boundary, BOUNDARIES)):
        if word not in allowed:
            raise ValueError(f"{name}: '{word}' is not one of {', '.join(allowed)}")
    if method == "ml" and df.startswith("kenward-roger"):
        raise ValueError("df: Kenward-Roger is defined for method 'reml' only")
    _check("y", y.shape, (R, *model.X.shape[:2]))
    _check("observed", observed.shape, (observed.shape[0], N, T), observed.shape[0] in (1, R))
    _check("covariate", covariate.shape, (R, N, covariate.shape[2]))
    _check("contrast", contrast.shape, (contrast.shape[0], p))
    for L in joint:
        _check("joint", L.shape, (L.shape[0], p))
    natural = model.table(model.participant)
    structure = covariance.STRUCTURES[model.participant]
    climb = model.table(structure.climb) if structure.climb and boundary != "negative" else natural
    is_second = df == "kenward-roger-second-order" and structure.curved is not None
    other = model.table(str(structure.curved)) if is_second else natural
    in_natural = climb is not natural and (boundary == "keep" or df.startswith("kenward-roger"))
    m = natural.begin.size + n_term
    first = np.full(m, np.nan) if start is None else np.array(start, np.float64)
    _check("start", first.shape, (m,))
    at_known = np.zeros(0) if known is None else np.array(known, np.float64)
    _check("known", at_known.shape, (0 if known is None else m,))
    if structure.to_climb and climb is not natural:
        first = structure.to_climb(first, n_term)
    bound = np.concatenate([climb.kind[0], np.full(n_term, NONNEGATIVE)]).astype(np.int64)
    vanishes = np.isin(bound, (NONNEGATIVE, FACTOR))
    if boundary == "negative":
        bound[bound == NONNEGATIVE] = FREE
        vanishes[:] = False
    options = Options(
        method == "reml",
        DF.index(df),
        boundary != "drop",
        2 if is_second else int(in_natural),
        bound,
        vanishes,
        first,
        at_known,
        max_iteration,
        _level(model, observed, covariate.shape[2]) if df == "between-within" else np.zeros(p, np.int64),
        model.participant != "independent",
    )
    rows = np.concatenate([np.zeros((0, p)), *joint]).astype(np.float64)
    joint_start = np.cumsum([0] + [len(L) for L in joint]).astype(np.int64)
    out: Results = _fit_batch(
        np.ascontiguousarray(y, np.float64),
        np.ascontiguousarray(observed, np.bool_),
        np.ascontiguousarray(covariate, np.float64),
        np.ascontiguousarray(contrast, np.float64),
        rows,
        joint_start,
        model.layout(covariate.shape[2]),
        climb,
        other,
        options,
    )
    return MixedFit(
        out.contrast[:, 0],
        out.contrast[:, 1],
        out.contrast[:, 2],
        *out[1:-2],
        out.joint[:, 0],
        out.joint[:, 1],
        out.joint[:, 2],
        out.known[:, 0],
        out.known[:, 1],
    )


def _check(name: str, found: tuple[int, ...], wanted: tuple[int, ...], extra: bool = True) -> None:
    if found != wanted or not extra:
        raise ValueError(f"{name} has shape {found}; the other arguments ask for {wanted}")


def _level(model: MixedModel, observed: Bool, n_covariate: int) -> Int:
    """(p,) where each column varies: 0 nowhere (an intercept), 1 between blocks, 2 between participants, 3 within.

    Rows that no replicate observes do not count.
    """
    X, seen = model.X, observed.any(axis=0)
    unit = np.repeat(np.where(model.block >= 0, model.block, -1 - np.arange(len(X)))[:, None], X.shape[1], axis=1)
    rows, participant = X[seen], np.nonzero(seen)[0]
    level = np.where(_varies(rows, participant), 3, np.where(_varies(rows, unit[seen]), 2, 1))
    level[~np.any(rows != rows[:1], axis=0)] = 0
    return np.append(level, np.full(n_covariate, 2)).astype(np.int64)


def _varies(rows: Float, unit: Int) -> Bool:
    """(p,) whether a column of rows (n, p) varies within a unit (n,)."""
    _, first, group = np.unique(unit, return_index=True, return_inverse=True)
    return np.asarray(np.any(rows != rows[first][group.reshape(-1)], axis=0))


class Options(NamedTuple):
    """What fit_mixed was asked for."""

    is_reml: bool
    df: int  # place in DF
    keeps_zero: bool
    inference: int  # the structure that inference is made in: 0 that of the climb, 1 the natural, 2 'us, Cholesky'
    bound: Int  # (m,)
    vanishes: Bool  # (m,) a zero is the boundary
    start: Float  # (m,)
    known: Float  # (m,) or empty
    max_iteration: int
    level: Int  # (p,) see _level
    has_participant: bool  # whether participants are a level of between-within


class Results(NamedTuple):
    """MixedFit as the kernel fills it: estimate, standard error and df of a contrast are rows of one array."""

    contrast: Float  # (R, 3, Q)
    coefficient: Float
    coefficient_covariance: Float
    variance: Float
    covariance: Float
    criterion: Float
    status: npt.NDArray[np.int8]
    n_iteration: Int
    joint: Float  # (R, 3, J)
    known: Float  # (R, 2, Q)


class Room(NamedTuple):
    """Workspace of one fit besides the statistics and what depends on theta."""

    moments: Moments
    step: mixed_optimise.Room
    inference: Inference
    row: Float  # (n, p) contrasts, then rows of the joint tests
    constant: Float  # (n,) to be added to each: what centring took
    shift: Float  # (1 + c,) what centring takes from y and from the covariates
    point: Float  # (3, m) parameters, the next ones to try, the step
    state: Float  # of the climb


# What an evaluation of the likelihood is for.
_KNOWN, _CLIMB, _FINAL = 0, 1, 2


def _fit_batch(
    y: Float, observed: Bool, covariate: Float, contrast: Float, joint: Float, joint_start: Int,
    lay: Layout, climb: covariance.Table, other: covariance.Table, opt: Options,
) -> Results:  # fmt: skip
    """Fit every replicate; all that is allocated is allocated here."""
    (R, _, T), Q, J = y.shape, contrast.shape[0], joint_start.size - 1
    n_cov, p, m, n_row = covariate.shape[2], lay.n_column - 1, opt.start.size, Q + joint.shape[0]
    results = Results(
        _nan(R, 3, Q),
        _nan(R, p),
        _nan(R, p, p),
        _nan(R, m),
        _nan(R, lay.n_class, T, T),
        _nan(R),
        np.zeros(R, np.int8),
        np.zeros(R, np.int64),
        _nan(R, 3, J),
        _nan(R, 2, Q),
    )
    room = Room(
        accumulation_room(lay, n_cov),
        climbing_room.py_func(m),
        inference_room(p, m, Q, int(np.diff(joint_start).max(initial=0)), lay.n_block),
        np.zeros((n_row, p)),
        np.zeros(n_row),
        np.zeros(1 + n_cov),
        np.zeros((3, m)),
        np.zeros(CLIMB_SIZE),
    )
    first, n_pattern = 0, 4
    while first < R:
        st, wk = _allocate(n_pattern, lay, climb, other)
        first = _fit_from(
            first, y, observed, covariate, contrast, joint, joint_start, lay, climb, other, opt, room, st, wk, results
        )
        n_pattern *= 2
    return results


def _nan(*shape: int) -> Float:
    return np.full(shape, np.nan)


def _allocate(n_pattern: int, lay: Layout, climb: covariance.Table, other: covariance.Table) -> tuple[Statistics, Work]:
    st = allocate_statistics(lay, n_pattern if lay.is_general else 0)
    first = max(climb.slope.coefficient.size, other.slope.coefficient.size)
    second = max(climb.bend.coefficient.size, other.bend.coefficient.size)
    return st, allocate_work(lay, st.S.shape[0], st.mask.size, climb.begin.size, first, second)


@njit(cache=True, error_model="numpy", _nrt=False)  # type: ignore[call-overload]
def _fit_from(  # type: ignore[no-untyped-def]
    first, y, observed, covariate, contrast, joint, joint_start, lay, climb, other, opt, room, st, wk, results
):
    """Fit replicates from `first`, each on its own; returns their number, or the one that has too many patterns for st.

    Evaluation and derivatives are called from one place each, in a loop that knows what they are for: compilation time
    grows with the number of places.
    """
    Q, m, fx = contrast.shape[0], opt.start.size, wk.fixed
    theta, point, d, state, inference = room.point[0], room.point[1], room.point[2], room.state, room.inference
    for i in range(first, y.shape[0]):
        results.status[i] = FAILED
        seen, variance, sigma = observed[i if observed.shape[0] > 1 else 0], results.variance[i], results.covariance[i]
        _centre(y[i], seen, covariate[i], lay.ones, room.shift)
        if not accumulate(y[i], seen, covariate[i], room.shift, lay, st, room.moments):
            return i
        copy(opt.start, theta)
        if not _default_start(climb, lay, st, wk, theta):
            continue
        _shifted(contrast, 0, lay.ones, room)
        _shifted(joint, Q, lay.ones, room)
        begin(state)
        task, code = (_KNOWN if opt.known.size > 0 else _CLIMB), MOVED
        copy(opt.known if task == _KNOWN else theta, point)
        while True:
            is_natural = task == _KNOWN and opt.inference != 2  # or else the climb's parameters are the natural ones
            table = other if is_natural or (task == _FINAL and opt.inference != 0) else climb
            value = evaluate(point, opt.is_reml, table, lay, st, wk)
            if task == _KNOWN:
                if np.isfinite(value):
                    contrasts(NORMAL, room.row[:Q], room.constant, fx.inverse, fx, inference)
                    copy(inference.out[:2], results.known[i])
                task = _CLIMB
                copy(theta, point)
                continue
            if task == _CLIMB:
                code = accept(state, theta, point, d, value)
                if code == REJECTED:
                    continue
                if code != ACCEPTED:
                    break
            differentiate(point, opt.is_reml, table, lay, st, wk)
            if task == _FINAL:
                break
            code = propose(state, theta, point, d, fx.score, fx.average, fx.observed, opt.bound, room.step)
            if code == MOVED:
                results.n_iteration[i] += 1
                if results.n_iteration[i] <= opt.max_iteration:
                    continue
                results.n_iteration[i] -= 1
            if code != DONE:
                break
            vanished = _vanish(theta, fx.observed, opt)
            natural_parameters(climb, theta, variance)
            marginal(theta, climb, sigma)
            if not vanished and opt.inference == 0:
                break
            task = _FINAL
            if opt.inference == 0:
                copy(theta, point)
            elif opt.inference == 1:
                copy(variance, point)
            else:
                scaled_cholesky(sigma, wk.residual.square[0], point)
                copy(theta[climb.begin.size :], point[climb.begin.size :])
        if code == DONE:
            table = other if opt.inference != 0 else climb
            if task != _FINAL:
                copy(theta, point)
            if _infer(point, theta, table, lay, st, wk, opt, inference):
                if opt.df == BETWEEN_WITHIN:
                    _between_within(seen, lay, opt, st, inference)
                contrasts(opt.df, room.row[:Q], room.constant, inference.covariance, fx, inference)
                if not _has_nan(inference.out):
                    results.status[i] = OK
        if results.status[i] != OK:
            variance[:] = np.nan
            sigma[:] = np.nan
            continue
        copy(inference.out, results.contrast[i])
        results.criterion[i] = state[VALUE]
        for k in range(joint_start.size - 1):
            lo, hi = Q + joint_start[k], Q + joint_start[k + 1]
            test = joint_test(opt.df, room.row[lo:hi], room.constant[lo:hi], fx, inference)
            results.joint[i, 0, k], results.joint[i, 1, k], results.joint[i, 2, k] = test
        _unshifted(lay.ones, room.shift, fx.a, inference, results.coefficient[i], results.coefficient_covariance[i])
        for k in range(m):
            if opt.vanishes[k] and theta[k] == 0.0:
                results.status[i] = SINGULAR
    return y.shape[0]


@lane_kernel
def _has_nan(A):  # type: ignore[no-untyped-def]
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            if np.isnan(A[i, j]):
                return True
    return False


@lane_kernel
def _centre(y, observed, covariate, ones, shift):  # type: ignore[no-untyped-def]
    """A value of y and of each covariate to take from all, so that large means cost no digits."""
    shift[:] = 0.0
    if ones.size == 0 or np.isnan(ones[0]):
        return
    for i in range(y.shape[0]):
        for t in range(y.shape[1]):
            if observed[i, t]:
                shift[0] = y[i, t]
                for b in range(covariate.shape[1]):
                    shift[1 + b] = covariate[i, b]
                return


@lane_kernel
def _shifted(L, first, ones, room):  # type: ignore[no-untyped-def]
    """Contrasts L of the coefficients, from row `first`, as weights of the coefficients after centring + constant."""
    shift, row, constant = room.shift, room.row, room.constant
    n_cov, p = shift.size - 1, L.shape[1]
    for i in range(L.shape[0]):
        total = 0.0
        for j in range(p):
            row[first + i, j] = L[i, j]
            total += L[i, j] * ones[j]
        constant[first + i] = 0.0
        if not np.isnan(total):
            constant[first + i] = total * shift[0]
            for b in range(n_cov):
                row[first + i, p - n_cov + b] -= total * shift[1 + b]


@lane_kernel
def _unshifted(ones, shift, a, inference, coefficient, spread):  # type: ignore[no-untyped-def]
    """Coefficients and their covariance before centring; a = -coefficients after it."""
    p, n_cov, covariance = coefficient.size, shift.size - 1, inference.covariance
    copy(covariance, spread)
    constant = shift[0]
    for b in range(n_cov):
        constant += a[p - n_cov + b] * shift[1 + b]
    for i in range(p):
        coefficient[i] = -a[i] if np.isnan(ones[0]) else constant * ones[i] - a[i]
    if n_cov > 0 and not np.isnan(ones[0]):  # A covariance A' with A = I - ones s', s = the covariates' shifts
        with_shift, total = inference.g, 0.0
        for i in range(p):
            with_shift[i] = 0.0
            for b in range(n_cov):
                with_shift[i] += covariance[i, p - n_cov + b] * shift[1 + b]
        for b in range(n_cov):
            total += with_shift[p - n_cov + b] * shift[1 + b]
        for i in range(p):
            for j in range(p):
                change = total * ones[i] * ones[j] - ones[i] * with_shift[j] - with_shift[i] * ones[j]
                spread[i, j] = covariance[i, j] + change


@lane_kernel
def _default_start(table, lay, st, wk, theta):  # type: ignore[no-untyped-def]
    """Fill NaN or infeasible entries of theta from the OLS residual variance; False if OLS is impossible."""
    r, n = lay.n_column, table.begin.size
    share = wk.residual.share
    share[:] = 0.0
    if lay.is_general:
        T = lay.n_visit
        for m in range(st.total[2]):
            for t in range(T):
                share[m * T * (T + 1) // 2 + t * (t + 3) // 2] = 1.0
    else:
        share[:] = 1.0
    combine(share, st.S, wk.fixed.packed)
    A = wk.fixed.C
    unpack(wk.fixed.packed, A)
    total = A[r - 1, r - 1]
    if st.total[0] <= r - 1 or np.isnan(sweep(A, r - 1, 1e-11, wk.fixed.a)):
        return False
    residual = A[r - 1, r - 1]
    if not residual > 1e-13 * total:
        return False
    variance = residual / (st.total[0] - r + 1)
    for k in range(theta.size):
        if k >= n:
            if not theta[k] >= 0.0:
                theta[k] = 0.05 * variance
        elif np.isnan(theta[k]) or (table.kind[0, k] == POSITIVE and not theta[k] > 0.0):
            theta[k] = table.begin[k] * variance ** (0.5 * table.kind[1, k])
    return True


@inline
def _vanish(theta, observed, opt):  # type: ignore[no-untyped-def]
    """Put factors that the climb took to within a millionth of a standard error of zero at zero; whether any."""
    vanished = False
    for k in range(theta.size):
        near = theta[k] * theta[k] * observed[k, k] < 1e-12
        if opt.bound[k] == FACTOR and theta[k] != 0.0 and near:
            theta[k] = 0.0
            vanished = True
    return vanished


@lane_kernel
def _infer(point, theta, table, lay, st, wk, opt, room):  # type: ignore[no-untyped-def]
    """Into room: W, the inverse information, and the covariance of the coefficients; False if no information is usable.

    point are the parameters that the derivatives are by, theta those of the climb.
    """
    fx, p, m = wk.fixed, lay.n_column - 1, theta.size
    for i in range(p):
        for j in range(p):
            room.covariance[i, j] = fx.inverse[i, j]
    if opt.df == BETWEEN_WITHIN or opt.df == NORMAL:
        return True
    is_adjusted = opt.df >= KENWARD_ROGER
    for k in range(m):
        room.free[k] = is_adjusted or opt.keeps_zero or not (opt.vanishes[k] and theta[k] == 0.0)
        for l in range(m):  # noqa: E741
            room.expected[k, l] = 2.0 * fx.average[k, l] - fx.observed[k, l]
    is_observed = opt.df == SATTERTHWAITE or opt.df >= KENWARD_ROGER_OBSERVED
    usable = is_observed and inverse_information(fx.observed, room)
    if not usable and not inverse_information(room.expected, room):
        return False
    if is_adjusted:
        kenward_roger_covariance(opt.df == KENWARD_ROGER_2, point, room.W, table, lay, st, wk, room.covariance)
    return True


@lane_kernel
def _between_within(seen, lay, opt, st, room):  # type: ignore[no-untyped-def]
    """df of each coefficient, see fit_mixed, into room.column_df."""
    has_block, met, level, p = lay.n_block > 0, room.met, room.level, room.level.size
    n_block = columns_1 = columns_2 = columns_3 = 0
    met[:] = False
    for cell in range(lay.cell_class.size):
        for j in range(lay.cell_start[cell], lay.cell_start[cell + 1]):
            for t in range(lay.n_visit):
                if lay.cell_block[cell] >= 0 and seen[lay.member[j], t] and not met[lay.cell_block[cell]]:
                    met[lay.cell_block[cell]] = True
                    n_block += 1
    above = 0.0
    for j in range(p):
        k = opt.level[j]
        if k == 1 and not has_block:
            k = 2
        if k == 2 and not opt.has_participant:
            k = 3
        level[j] = k
        columns_1 += k == 1
        columns_2 += k == 2
        columns_3 += k == 3
        if k == 0:
            above = 1.0
    df_1 = df_2 = 0.0
    if has_block:
        df_1 = n_block - above - columns_1
        above = float(n_block)
    if opt.has_participant:
        df_2 = st.total[1] - above - columns_2
        above = float(st.total[1])
    df_3 = st.total[0] - above - columns_3
    for j in range(p):
        room.column_df[j] = df_1 if level[j] == 1 else df_2 if level[j] == 2 else df_3
