"""REML of one trial with every matrix written out: the textbook twin of sim.kernels.mixed.

V = sum_k theta_k V_k;  P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1;  -2 l = (n-p) log 2 pi + log|V| + log|X'V^-1X| + y'Py
score_k = -1/2 [tr(P V_k) - y'P V_k P y];  observed information_kl = y'P V_k P V_l P y - 1/2 tr(P V_k P V_l).
References: Harville 1977, doi:10.1080/01621459.1977.10480998; Fai, Cornelius 1996, doi:10.1080/00949659608811740.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize


def components(observed, residual_class, has_participant, block, column):
    """V_k (m, n, n) over the rows seen, in the order of theta, from the arguments of the kernel (one replicate)."""
    person, visit = np.nonzero(observed)
    row_class = residual_class[person]
    parts = [np.diag((row_class == c).astype(float)) for c in range(residual_class.max() + 1)]
    if has_participant:
        parts.append((person[:, None] == person[None, :]).astype(float))
    for k in range(column.shape[2]):
        hit = np.where(block[person] >= 0, column[person, visit, k], -1)
        same = (hit[:, None] == hit[None, :]) & (block[person][:, None] == block[person][None, :])
        parts.append((same & (hit >= 0)[:, None]).astype(float))
    return np.array(parts)


@dataclass
class DenseMixed:
    y: np.ndarray  # (n,) rows seen
    X: np.ndarray  # (n, p)
    V: np.ndarray  # (m, n, n)

    def parts(self, theta):
        inverse = np.linalg.inv(np.tensordot(theta, self.V, 1))
        phi = np.linalg.inv(self.X.T @ inverse @ self.X)
        return inverse, phi, inverse - inverse @ self.X @ phi @ self.X.T @ inverse

    def criterion(self, theta):
        inverse, phi, P = self.parts(theta)
        n, p = self.X.shape
        log_det = -np.linalg.slogdet(inverse)[1] - np.linalg.slogdet(phi)[1]
        return (n - p) * np.log(2 * np.pi) + log_det + self.y @ P @ self.y

    def score(self, theta):
        P = self.parts(theta)[2]
        e = P @ self.y
        return np.array([-0.5 * (np.sum(P * V) - e @ V @ e) for V in self.V])

    def information(self, theta):
        P = self.parts(theta)[2]
        e = P @ self.y
        return np.array([[e @ A @ P @ B @ e - 0.5 * np.sum((P @ A) * (P @ B).T) for B in self.V] for A in self.V])

    def satterthwaite(self, theta, contrast):
        """Estimate, standard error and df of one contrast; components at zero leave the information."""
        inverse, phi, _ = self.parts(theta)
        g = inverse @ self.X @ phi @ contrast
        free = theta > 0
        gradient = np.array([g @ V @ g for V in self.V[free]])
        f = contrast @ phi @ contrast
        spread = gradient @ np.linalg.solve(self.information(theta)[np.ix_(free, free)], gradient)
        return contrast @ phi @ self.X.T @ inverse @ self.y, np.sqrt(f), 2 * f * f / spread

    def fit(self, n_class):
        """theta by a general-purpose bounded optimiser (about 5 correct digits)."""
        n, p = self.X.shape
        beta = np.linalg.lstsq(self.X, self.y, rcond=None)[0]
        scale = np.sum((self.y - self.X @ beta) ** 2) / (n - p)
        bounds = [(1e-6, None)] * n_class + [(0, None)] * (len(self.V) - n_class)
        answer = minimize(
            lambda x: self.criterion(x * scale),
            np.full(len(self.V), 1 / len(self.V)),
            jac=lambda x: -2 * scale * self.score(x * scale),
            bounds=bounds,
            options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000},
        )
        return answer.x * scale
