"""Variance components of correlated outcomes over visits, and the factors that draw them.

Total variance is 1 at every visit. A share lies between districts and, where villages are clusters, between villages,
of which `cac` is the same at every visit; the participant has what is left of the correlation over visits. Outcomes
correlate alike in every component, except that a participant's innovations after the baseline correlate so much that
the changes of two outcomes have the declared correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.trial import Floats

N_VISIT = 3
BASELINE, POST, FINAL = range(N_VISIT)


@dataclass(frozen=True)
class VarianceInputs:
    """The declared numbers, one entry per outcome where a tuple; `icc_village` is 0 where villages are no clusters."""

    baseline_final: tuple[float, ...]
    icc_village: tuple[float, ...]
    baseline_post: float
    post_final: float
    outcomes: float
    changes: float
    icc_district: float
    icc_training_group: float
    cac: float


@dataclass(frozen=True)
class Components:
    """What the draws are multiplied with. K outcomes, T visits.

    factor : (K, T, T) lower Cholesky factors of the participants' covariance over visits.
    mixing : (T, K, K) lower Cholesky factors that correlate the outcomes' draws, for each visit's innovation; the first
        serves every other component as well.
    sd_village, sd_training_group : (K,).  village_pattern : (T, T) correlation of a village's effect over visits.
    covariance : (2, K, T, K, T) of a participant's scores about their expectation; 0 = untreated, 1 = trained arms.
    deviation_sd : (T,) SD of the mean over outcomes, untreated.  deviation_covariance : (2, T, T) of that mean over
        `deviation_sd`.
    """

    factor: Floats
    mixing: Floats
    sd_village: Floats
    sd_training_group: Floats
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
    share = given.icc_training_group
    sd_group = np.sqrt(share / (1 - share) * (factor[:, FINAL] ** 2).sum(axis=1))
    sd_village = np.sqrt(given.icc_village)
    between = mixing @ mixing.transpose(0, 2, 1)
    participant = np.einsum("kts,sKk,KTs->ktKT", factor, between, factor)
    shared = np.einsum("k,K,tT->kKtT", sd_village, sd_village, village_pattern(given)) + given.icc_district
    after = np.array([0.0, 1.0, 1.0])
    group = np.einsum("k,K,t,T->kKtT", sd_group, sd_group, after, after)
    covariance = np.array(
        [participant + np.einsum("kKtT,kK->ktKT", cluster, between[0]) for cluster in (shared, shared + group)]
    )
    mean = covariance.mean(axis=(1, 3))
    sd = np.sqrt(np.diag(mean[0]))
    return Components(
        factor, mixing, sd_village, sd_group, village_pattern(given), covariance, sd, mean / np.outer(sd, sd)
    )


def equicorrelation(n: int, rho: float) -> Floats:
    return (1 - rho) * np.eye(n) + rho
