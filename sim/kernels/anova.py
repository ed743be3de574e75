"""Split-plot (repeated-measures) analysis of variance of complete participants, one for each replicate.

The within-participant factor is visit (T levels), the between-participant factor has G levels (an arm, a format), with
n_g complete participants in level g and n in all. Everything follows from the cell means m_gt and the matrix S (T, T)
of squares and products within levels. With 1 a vector of ones, P = I - 11'/T, m_. the unweighted mean over levels of
the vectors m_g, and m-bar their mean weighted by n_g:

    residual     tr(PSP)                           (T - 1)(n - G) df
    participant  1'S1 / T                          n - G
    visit        |P m_.|^2 / sum_g 1/(G^2 n_g)     T - 1               Type III: levels count equally
    interaction  sum_g n_g |P (m_g - m-bar)|^2     (T - 1)(G - 1)
    between      sum_g n_g (1'(m_g - m-bar))^2/T   G - 1
    epsilon      tr(PSP)^2 / ((T - 1) tr(PSPS))    Greenhouse and Geisser

The linear contrast of visit (one df) is l'm_. with l_t = s_t (T - 1) / sum s^2 and s_t = t - (T + 1)/2: the change from
the first to the last visit along the least-squares line. For T = 2 and 3 that is the last visit minus the first. Its
variance is l'Sl / (n - G) sum_g 1/(G^2 n_g), from the contrast itself, so it needs no sphericity.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.kernels.cross_products import BoolArray, FloatArray, IntArray
from sim.trial import FAILED, OK


class AnovaFit(NamedTuple):
    """Analyses of R replicates, every field (R,); NaN, except n_complete, where status is 2.

    Partial eta squared is ss_effect / (ss_effect + ss_error) = F df1 / (F df1 + df2). With G = 1 the F of between and
    of the interaction, which have no df, are NaN.
    """

    estimate: FloatArray  # contrast_between of the levels' mean changes
    standard_error: FloatArray
    df: FloatArray  # n_complete - G; also that of `change` and the df2 of f_linear (df1 = 1) and f_between

    change: FloatArray  # first to last visit, unweighted mean over levels
    change_standard_error: FloatArray
    f_linear: FloatArray  # (change / change_standard_error)^2
    partial_eta_squared_linear: FloatArray

    f_visit: FloatArray
    df_visit: FloatArray
    partial_eta_squared_visit: FloatArray
    f_interaction: FloatArray
    df_interaction: FloatArray
    partial_eta_squared_interaction: FloatArray
    f_between: FloatArray
    df_between: FloatArray
    partial_eta_squared_between: FloatArray

    ss_visit: FloatArray
    ss_interaction: FloatArray
    ss_residual: FloatArray  # error of visit and interaction
    df_residual: FloatArray
    ss_between: FloatArray
    ss_participant: FloatArray  # error of between, df = n_complete - G
    greenhouse_geisser: FloatArray  # epsilon, 1/(T - 1) to 1

    n_complete: IntArray
    status: NDArray[np.int8]  # 0 fitted, 2 failed


def repeated_measures_anova(
    y: FloatArray, observed: BoolArray, between: NDArray[np.integer], n_between: int, contrast_between: FloatArray
) -> AnovaFit:
    """Split-plot ANOVA with Type III sums of squares, completers only, and the linear change it implies.

    y : (R, N, T) outcomes, T at least 2.  observed : (R, N, T) or (1, N, T) Boolean; a participant with any visit
    missing is left out whole and not read.
    between : (N,) level 0 ... n_between - 1 of the between-participant factor; -1 leaves the participant out.
    contrast_between : (n_between,), for example (-1, 1): the difference in change, the visit-by-arm linear interaction.

    Type III, as SPSS prints and car::Anova(type = 3) gives: the tests of visit and of the linear contrast, and
    `change`, take unweighted marginal means, so a small level counts as much as a large one. R's aov (Type I) gives
    another sum of squares for visit unless levels are equally large; the other terms are the same in both.
    Status 2: a level without completers, n_complete <= n_between, or no variation in change or within participants.

    References: Maxwell, Delaney and Kelley (2018), Designing Experiments and Analyzing Data, 3rd edition, chapter 12;
    Greenhouse and Geisser (1959), doi:10.1007/BF02289823.

    >>> y = np.array([[[1.0, 2.0, 4.0], [2.0, 2.0, 3.0], [1.0, 4.0, 6.0], [0.0, 3.0, 4.0]]])
    >>> fit = repeated_measures_anova(y, np.ones((1, 4, 3), bool), np.array([0, 0, 1, 1]), 2, np.array([-1.0, 1.0]))
    >>> float(fit.estimate[0]), float(fit.change[0]), float(fit.df[0])
    (2.5, 3.25, 2.0)
    """
    table, n_complete, status = _fit_replicates(
        np.ascontiguousarray(y, dtype=np.float64),
        np.ascontiguousarray(observed),
        np.ascontiguousarray(between, dtype=np.int64),
        n_between,
        np.ascontiguousarray(contrast_between, dtype=np.float64),
    )
    return AnovaFit._make([*table, n_complete, status])


@njit(cache=True, error_model="numpy")
def _fit_replicates(
    y: FloatArray, observed: BoolArray, between: IntArray, n_between: int, contrast: FloatArray
) -> tuple[FloatArray, IntArray, NDArray[np.int8]]:
    R, _, T = y.shape
    n_float = 23
    table = np.full((n_float, R), np.nan)
    n_complete, status = np.zeros(R, np.int64), np.full(R, FAILED, np.int8)
    n, mean, S = np.empty(n_between), np.empty((n_between, T)), np.empty((T, T))
    for r in range(R):
        n_complete[r] = _cells(y[r], observed[r % observed.shape[0]], between, n, mean, S)
        if n.min() > 0.0 and n_complete[r] > n_between:
            row = _analyse(n, mean, S, contrast)
            # f_linear, ss_residual: no variation leaves the first infinite or NaN and the second 0
            if np.isfinite(row[5]) and row[18] > 0.0:
                for j in range(n_float):
                    table[j, r] = row[j]
                status[r] = OK
    return table, n_complete, status


@njit(cache=True, error_model="numpy")
def _cells(
    y: FloatArray, observed: BoolArray, between: IntArray, n: FloatArray, mean: FloatArray, S: FloatArray
) -> int:
    """Fills n (G,), mean (G, T) and S (T, T) from the complete participants of a replicate; returns their number."""
    N, T = y.shape
    is_complete = np.zeros(N, np.bool_)
    n[:] = 0.0
    mean[:] = 0.0
    S[:] = 0.0
    for i in range(N):
        is_complete[i] = between[i] >= 0
        for t in range(T):
            is_complete[i] &= observed[i, t]
        if is_complete[i]:
            n[between[i]] += 1.0
            for t in range(T):
                mean[between[i], t] += y[i, t]
    for g in range(n.size):
        mean[g] /= n[g]
    for i in range(N):
        if is_complete[i]:
            for t in range(T):
                d = y[i, t] - mean[between[i], t]
                for u in range(t + 1):
                    S[t, u] += d * (y[i, u] - mean[between[i], u])
    for t in range(T):
        for u in range(t):
            S[u, t] = S[t, u]
    return int(n.sum())


@njit(cache=True, error_model="numpy")
def _analyse(n: FloatArray, mean: FloatArray, S: FloatArray, contrast: FloatArray) -> tuple[float, ...]:
    """The floats of AnovaFit in their order."""
    G, T = mean.shape
    score = np.arange(T) - (T - 1) / 2.0
    line = score * (T - 1) / np.sum(score * score)
    unweighted, weighted = np.zeros(T), np.zeros(T)
    for g in range(G):
        unweighted += mean[g] / G
        weighted += mean[g] * (n[g] / n.sum())
    estimate, contrast_inverse_n, inverse_n = 0.0, 0.0, 0.0
    ss_between, ss_interaction = 0.0, 0.0
    for g in range(G):
        estimate += contrast[g] * np.sum(line * mean[g])
        contrast_inverse_n += contrast[g] * contrast[g] / n[g]
        inverse_n += 1.0 / (G * G * n[g])
        level = mean[g] - weighted
        ss_between += n[g] * np.sum(level) ** 2 / T
        ss_interaction += n[g] * np.sum((level - level.mean()) ** 2)
    ss_visit = np.sum((unweighted - unweighted.mean()) ** 2) / inverse_n
    change = np.sum(line * unweighted)

    row_mean = S.sum(axis=1) / T
    ss_participant = row_mean.sum()
    ss_residual, squared_norm, line_variance = 0.0, 0.0, 0.0
    df = n.sum() - G
    for t in range(T):
        for u in range(T):
            centred = S[t, u] - row_mean[t] - row_mean[u] + row_mean.mean()  # PSP
            squared_norm += centred * centred
            line_variance += line[t] * line[u] * S[t, u] / df
            if t == u:
                ss_residual += centred
    greenhouse_geisser = ss_residual * ss_residual / ((T - 1) * squared_norm)

    df_visit, df_between = T - 1.0, G - 1.0
    df_interaction, df_residual = df_visit * df_between, df_visit * df
    f_linear = change * change / (line_variance * inverse_n)
    f_visit = (ss_visit / df_visit) / (ss_residual / df_residual)
    f_interaction = (ss_interaction / df_interaction) / (ss_residual / df_residual)
    f_between = (ss_between / df_between) / (ss_participant / df)
    return (
        estimate,
        np.sqrt(line_variance * contrast_inverse_n),
        df,
        change,
        np.sqrt(line_variance * inverse_n),
        f_linear,
        f_linear / (f_linear + df),
        f_visit,
        df_visit,
        ss_visit / (ss_visit + ss_residual),
        f_interaction,
        df_interaction,
        ss_interaction / (ss_interaction + ss_residual),
        f_between,
        df_between,
        ss_between / (ss_between + ss_participant),
        ss_visit,
        ss_interaction,
        ss_residual,
        df_residual,
        ss_between,
        ss_participant,
        greenhouse_geisser,
    )
