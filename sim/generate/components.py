"""Variance components of correlated outcomes over visits, and the factors that draw them.

Total variance is 1 at every visit. A share lies between districts and, where villages are clusters, between villages,
of which `cac` is the same at every visit; the participant has what is left of the correlation over visits. Outcomes
correlate alike in every component, except that a participant's innovations after the baseline correlate so much that
the changes of two outcomes have the declared correlation. Training groups and facilitators add their variance in
trained arms after the training, and an instrument less reliable than planned adds its error everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.generate.distribution import latent_correlation
from sim.trial import Floats

N_VISIT = 3
BASELINE, POST, FINAL = range(N_VISIT)


@dataclass(frozen=True)
class VarianceInputs:
    """The declared numbers, one entry per outcome where a tuple; `icc_village` is 0 where villages are no clusters.

    measurement_error : variance that the trial's instruments add to the planned ones'; below 0 if they are better.
    skewness : of what participants have to themselves.
    """

    baseline_final: tuple[float, ...]
    icc_village: tuple[float, ...]
    baseline_post: float
    post_final: float
    outcomes: float
    changes: float
    icc_district: float
    icc_training_group: float
    cac: float
    icc_facilitator: float = 0.0
    measurement_error: tuple[float, ...] = ()
    skewness: float = 0.0


class OwnPartImpossible(np.linalg.LinAlgError):
    """No normal scores have the covariance that the measurement error and the skewness ask for."""


@dataclass(frozen=True)
class Components:
    """What the draws are multiplied with. K outcomes, T visits.

    factor : (K, T, T) lower Cholesky factors of the participants' covariance over visits.
    mixing : (T, K, K) lower Cholesky factors that correlate the outcomes' draws, for each visit's innovation; the first
        serves every other component as well.
    own_sd : (T, K) SDs of what participants have to themselves.  own_root : (T K, T K) lower Cholesky factor of the
        correlation matrix of the normal scores behind it.  Both hold the same as factor and mixing where no measurement
        error is added and nothing is skewed.
    sd_village, sd_training_group, sd_facilitator : (K,).
    village_pattern : (T, T) correlation of a village's effect over visits.
    covariance : (2, K, T, K, T) of a participant's scores about their expectation; 0 = untreated, 1 = trained arms.
    deviation_sd : (T,) SD of the mean over outcomes of the normal scores behind them, untreated.
    deviation_covariance : (2, T, T) of that mean over `deviation_sd`.
    """

    factor: Floats
    mixing: Floats
    own_sd: Floats
    own_root: Floats
    sd_village: Floats
    sd_training_group: Floats
    sd_facilitator: Floats
    village_pattern: Floats
    covariance: Floats
    deviation_sd: Floats
    deviation_covariance: Floats


def participant_covariance(given: VarianceInputs, k: int) -> Floats:
    """(T, T) what districts and villages leave to the participant, outcome k; need not be positive definite."""
    total = np.eye(N_VISIT)
    total[BASELINE, POST] = total[POST, BASELINE] = given.baseline_post
    total[BASELINE, FINAL] = total[FINAL, BASELINE] = given.baseline_final[k]
    total[POST, FINAL] = total[FINAL, POST] = given.post_final
    return np.asarray(total - given.icc_district - given.icc_village[k] * village_pattern(given))


def village_pattern(given: VarianceInputs) -> Floats:
    return given.cac + (1 - given.cac) * np.eye(N_VISIT)


def innovation_correlation(given: VarianceInputs, factor: Floats) -> float:
    """Correlation between outcomes of the innovations after the baseline that makes `changes` true on average.

    The covariance of two outcomes' changes is linear in it, so it is solved for exactly; it may be out of range.
    """
    slope = factor[:, FINAL] - factor[:, BASELINE]
    sd = np.sqrt(2 - 2 * np.array(given.baseline_final))
    icc = np.array(given.icc_village)
    k, other = np.triu_indices(len(sd), 1)
    scale = sd[k] * sd[other]
    village = 2 * (1 - given.cac) * given.outcomes * np.sqrt(icc[k] * icc[other])
    fixed = np.mean((given.outcomes * slope[k, 0] * slope[other, 0] + village) / scale)
    per_unit = np.mean((slope[k, 1:] * slope[other, 1:]).sum(axis=1) / scale)
    return float((given.changes - fixed) / per_unit)


@lru_cache(maxsize=64)
def components(given: VarianceInputs) -> Components:
    """Everything that follows from the declared numbers. LinAlgError where no such covariance exists."""
    n = len(given.baseline_final)
    factor = np.array([np.linalg.cholesky(participant_covariance(given, k)) for k in range(n)])
    later = innovation_correlation(given, factor) if n > 1 else 0.0
    mixing = np.array([np.linalg.cholesky(equicorrelation(n, r)) for r in (given.outcomes, later, later)])
    own, left = (factor[:, FINAL] ** 2).sum(axis=1), 1 - given.icc_training_group - given.icc_facilitator
    sd_group = np.sqrt(given.icc_training_group / left * own)
    sd_facilitator = np.sqrt(given.icc_facilitator / left * own)
    sd_village = np.sqrt(given.icc_village)
    between = mixing @ mixing.transpose(0, 2, 1)
    participant = np.einsum("kts,sKk,KTs->ktKT", factor, between, factor)
    own_sd, own_root, normal = own_part(given, participant)
    shared = np.einsum("k,K,tT->kKtT", sd_village, sd_village, village_pattern(given)) + given.icc_district
    after = np.array([0.0, 1.0, 1.0])
    taught = np.sqrt(sd_group**2 + sd_facilitator**2)
    group = np.einsum("k,K,t,T->kKtT", taught, taught, after, after)
    clusters = [np.einsum("kKtT,kK->ktKT", cluster, between[0]) for cluster in (shared, shared + group)]
    mean = np.array([normal + cluster for cluster in clusters]).mean(axis=(1, 3))
    sd = np.sqrt(np.diag(mean[0]))
    return Components(
        factor, mixing, own_sd, own_root, sd_village, sd_group, sd_facilitator, village_pattern(given),
        np.array([participant + measurement_error(given) + cluster for cluster in clusters]), sd,
        mean / np.outer(sd, sd),
    )  # fmt: skip


def measurement_error(given: VarianceInputs) -> Floats:
    """(K, T, K, T) variance that the instruments' error adds: independent over visits and outcomes."""
    n = len(given.baseline_final)
    error = np.diag(np.repeat(given.measurement_error or (0.0,) * n, N_VISIT))
    return np.asarray(error.reshape(n, N_VISIT, n, N_VISIT))


def own_part(given: VarianceInputs, participant: Floats) -> tuple[Floats, Floats, Floats]:
    """SDs, root and (K, T, K, T) covariance of the normal scores behind what participants have to themselves."""
    n = len(given.baseline_final)
    total = participant + measurement_error(given)
    variance = np.einsum("ktkt->tk", total)
    if not (variance > 0).all():
        raise OwnPartImpossible
    sd = np.sqrt(variance)
    scale = np.einsum("tk,TK->ktKT", sd, sd)
    correlation = latent_correlation(total / scale, given.skewness)
    if not np.isfinite(correlation).all():
        raise OwnPartImpossible
    try:
        root = np.linalg.cholesky(correlation.transpose(1, 0, 3, 2).reshape(N_VISIT * n, N_VISIT * n))
    except np.linalg.LinAlgError:
        raise OwnPartImpossible from None
    is_plain = not given.skewness and not given.measurement_error
    return sd, np.asarray(root), participant if is_plain else np.asarray(correlation * scale)


def equicorrelation(n: int, rho: float) -> Floats:
    return (1 - rho) * np.eye(n) + rho
