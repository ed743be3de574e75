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

from sim.kernels import covariance
from sim.kernels.mixed_fit import Options, Results, fit_batch
from sim.kernels.mixed_layout import Bool, Float, Int, Layout, lay_out
from sim.kernels.mixed_optimise import FACTOR, FREE, NONNEGATIVE

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
        """C, the number of residual classes."""
        return int(self.residual_class.max(initial=0)) + 1

    def table(self, name: str) -> covariance.Table:
        """The named structure for this model's visits, times and classes."""
        return covariance.table(name, self.X.shape[1], self.time, self.n_class)

    def layout(self, n_covariate: int) -> Layout:
        """Cells and blocks of the design with n_covariate participant-level columns; made once for each number."""
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
        least df of its coefficients; the intercept counts as a column outermost, also where a full set of dummies
        stands for it (nlme then gives its degree of freedom back to every level but that one); 'z' (infinite).
    boundary : a variance component estimated at zero leaves the Satterthwaite information ('drop', as lmerTest) or
        stays in it ('keep'); Kenward-Roger always keeps it, as pbkrtest.  'negative': components may be negative while
        the covariance of the data is positive definite.
    start, known : (m,) variances, in the order of MixedFit.variance, to start from (NaN = from the OLS residual
        variance); and at which known_estimate and known_standard_error are found.
    Of random terms that coincide in the rows seen (every group left has a team of its own) a replicate knows only the
    sum of the variances: the first stands for it, the others are held at zero, status 1.
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
    out: Results = fit_batch(
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
