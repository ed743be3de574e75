"""A mixed model of one trial with every matrix written out: the textbook twin of sim.kernels.mixed.

The covariance V(theta) is any function; its derivatives V_k, V_kl are taken by central differences unless given.
  P = V^-1 - V^-1 X (X'V^-1 X)^-1 X'V^-1;   REML: -2 l = (n - p) log 2 pi + log|V| + log|X'V^-1 X| + y'P y;
  ML: -2 l = n log 2 pi + log|V| + y'P y.   With K = P for REML, V^-1 for ML:
  score_k = -1/2 [tr(K V_k) - y'P V_k P y];
  observed_kl = y'P V_k P V_l P y - 1/2 tr(K V_k K V_l) + 1/2 [tr(K V_kl) - y'P V_kl P y];
  expected_kl = 1/2 tr(K V_k K V_l).
Kenward-Roger: P_k = -X'V^-1 V_k V^-1 X,  Q_kl = X'V^-1 V_k V^-1 V_l V^-1 X,  R_kl = X'V^-1 V_kl V^-1 X,
  Phi_A = Phi + 2 Phi [sum W_kl (Q_kl - P_k Phi P_l - R_kl / 4)] Phi,  W = expected^-1.
References: Harville 1977, doi:10.1080/01621459.1977.10480998; Fai, Cornelius 1996, doi:10.1080/00949659608811740;
Kenward, Roger 1997, doi:10.2307/2533558.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize


def components(observed, residual_class, has_participant, block, column):
    """V_k (m, n, n) over the rows seen, in the order of theta, for variance components (one replicate)."""
    person, visit = np.nonzero(observed)
    row_class = residual_class[person]
    parts = [np.diag((row_class == c).astype(float)) for c in range(residual_class.max() + 1)]
    if has_participant:
        parts.append((person[:, None] == person[None, :]).astype(float))
    return np.array(parts + terms(person, visit, block, column))


def terms(person, visit, block, column):
    """V_k of each random term of a block."""
    parts = []
    for k in range(column.shape[2]):
        hit = np.where(block[person] >= 0, column[person, visit, k], -1)
        same = (hit[:, None] == hit[None, :]) & (block[person][:, None] == block[person][None, :])
        parts.append((same & (hit >= 0)[:, None]).astype(float))
    return parts


def linear(V):
    """(V, V_k, V_kl) as functions of theta for V = sum theta_k V_k."""
    m = len(V)
    return (
        lambda theta: np.tensordot(theta, V, 1),
        lambda theta: V,
        lambda theta: np.zeros((m, m, *V.shape[1:])),
    )


def by_differences(covariance, step=1e-4):
    """(V, V_k, V_kl) of any covariance function of theta; Richardson's extrapolation of central differences."""

    def slope(theta, h):
        d = h * np.eye(len(theta))
        return np.array([(covariance(theta + e) - covariance(theta - e)) / (2 * h) for e in d])

    def bend(theta, h):
        d = h * np.eye(len(theta))
        return np.array(
            [[(covariance(theta + a + b) - covariance(theta + a - b) - covariance(theta - a + b)
               + covariance(theta - a - b)) / (4 * h * h) for b in d] for a in d]
        )  # fmt: skip

    return (
        covariance,
        lambda theta: (4 * slope(theta, step / 2) - slope(theta, step)) / 3,
        lambda theta: (4 * bend(theta, 10 * step) - bend(theta, 20 * step)) / 3,
    )


def participant_covariance(observed, residual_class, block, column, sigma, n_sigma):
    """V(theta) = Sigma of each participant's class on the diagonal + random terms, as a function of theta.

    sigma(theta) -> (classes, T, T) of the first n_sigma parameters.
    """
    person, visit = np.nonzero(observed)
    random = terms(person, visit, block, column)
    same = person[:, None] == person[None, :]

    def V(theta):
        S = sigma(theta[:n_sigma])
        inner = S[residual_class[person][:, None], visit[:, None], visit[None, :]]
        return np.where(same, inner, 0.0) + sum((g * Z for g, Z in zip(theta[n_sigma:], random, strict=True)), 0.0)

    return V


@dataclass
class DenseMixed:
    y: np.ndarray  # (n,) rows seen
    X: np.ndarray  # (n, p)
    covariance: tuple[Callable, Callable, Callable]  # V, V_k, V_kl as functions of theta
    is_reml: bool = True

    def parts(self, theta):
        inverse = np.linalg.inv(self.covariance[0](theta))
        phi = np.linalg.inv(self.X.T @ inverse @ self.X)
        return inverse, phi, inverse - inverse @ self.X @ phi @ self.X.T @ inverse

    def criterion(self, theta):
        inverse, phi, P = self.parts(theta)
        n, p = self.X.shape
        quadratic = self.y @ P @ self.y - np.linalg.slogdet(inverse)[1]
        if self.is_reml:
            return (n - p) * np.log(2 * np.pi) - np.linalg.slogdet(phi)[1] + quadratic
        return n * np.log(2 * np.pi) + quadratic

    def score(self, theta):
        inverse, _, P = self.parts(theta)
        e, K = P @ self.y, P if self.is_reml else inverse
        return np.array([-0.5 * (np.sum(K * V) - e @ V @ e) for V in self.covariance[1](theta)])

    def expected(self, theta):
        inverse, _, P = self.parts(theta)
        K = P if self.is_reml else inverse
        KV = [K @ V for V in self.covariance[1](theta)]
        return np.array([[0.5 * np.sum(A * B.T) for B in KV] for A in KV])

    def information(self, theta):
        inverse, _, P = self.parts(theta)
        e, K = P @ self.y, P if self.is_reml else inverse
        slope, bend = self.covariance[1](theta), self.covariance[2](theta)
        first = np.array([[e @ A @ P @ B @ e for B in slope] for A in slope]) - self.expected(theta)
        return first + 0.5 * np.array([[np.sum(K * V) - e @ V @ e for V in row] for row in bend])

    def estimate(self, theta):
        inverse, phi, _ = self.parts(theta)
        return phi @ self.X.T @ inverse @ self.y, phi

    def _slopes(self, theta):
        """d Phi / d theta_k."""
        inverse, phi, _ = self.parts(theta)
        A = inverse @ self.X @ phi
        return np.array([A.T @ V @ A for V in self.covariance[1](theta)])

    def satterthwaite(self, theta, contrast, free=None, is_expected=False):
        """Estimate, standard error and df of one contrast; only the free parameters enter the information."""
        free = np.asarray(theta) > 0 if free is None else free
        beta, phi = self.estimate(theta)
        information = self.expected(theta) if is_expected else self.information(theta)
        gradient = np.array([contrast @ D @ contrast for D in self._slopes(theta)])[free]
        f = contrast @ phi @ contrast
        spread = gradient @ np.linalg.solve(information[np.ix_(free, free)], gradient)
        return contrast @ beta, np.sqrt(f), 2 * f * f / spread

    def joint_satterthwaite(self, theta, L, free):
        """F, ndf, ddf as lmerTest's contestMD."""
        d, P = np.linalg.eigh(L @ self.estimate(theta)[1] @ L.T)
        keep = d > 1e-8 * d.max()
        each = np.array([self.satterthwaite(theta, c, free) for c in (P.T @ L)[keep]])
        F, nu, q = np.mean((each[:, 0] / each[:, 1]) ** 2), each[:, 2], keep.sum()
        if nu.min() <= 2:
            return F, q, 2.0
        E = np.sum(nu / (nu - 2))
        return F, q, nu.mean() if np.ptp(nu) < 1e-8 else 2 * E / (E - q)

    def kenward_roger(self, theta, is_second=False, W=None):
        """Phi_A; W is the inverse of the expected information unless given."""
        inverse, phi, _ = self.parts(theta)
        slope, W = self.covariance[1](theta), np.linalg.inv(self.expected(theta)) if W is None else W
        A = inverse @ self.X
        total = np.zeros_like(phi)
        for k, D in enumerate(slope):
            for j, E in enumerate(slope):
                P_k, P_j = A.T @ D @ A, A.T @ E @ A
                total += W[k, j] * (A.T @ D @ inverse @ E @ A - P_k @ phi @ P_j)
        if is_second:
            total -= 0.25 * np.einsum("kl,kl...->...", W, A.T @ self.covariance[2](theta) @ A)
        return phi + 2 * phi @ total @ phi

    def kenward_roger_test(self, theta, L, is_second=False):
        """F, ndf, ddf of L beta = 0 (Kenward, Roger 1997, section 3)."""
        beta, phi = self.estimate(theta)
        W, q = np.linalg.inv(self.expected(theta)), len(L)
        theta_L = L.T @ np.linalg.inv(L @ phi @ L.T) @ L
        T = [theta_L @ D for D in self._slopes(theta)]
        A1 = sum(W[k, j] * np.trace(a) * np.trace(b) for k, a in enumerate(T) for j, b in enumerate(T))
        A2 = sum(W[k, j] * np.trace(a @ b) for k, a in enumerate(T) for j, b in enumerate(T))
        B = (A1 + 6 * A2) / (2 * q)
        g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
        c1, c2, c3 = (x / (3 * q + 2 * (1 - g)) for x in (g, q - g, q + 2 - g))
        E, V = 1 / (1 - A2 / q), 2 / q * (1 + c1 * B) / ((1 - c2 * B) ** 2 * (1 - c3 * B))
        rho = V / (2 * E * E)
        ddf = 4 + (q + 2) / (q * rho - 1)
        b = L @ beta
        F = b @ np.linalg.solve(L @ self.kenward_roger(theta, is_second) @ L.T, b) / q
        return ddf / (E * (ddf - 2)) * F, q, ddf

    def fit(self, n_class, m):
        """The m variance components by a general-purpose bounded optimiser (about 5 correct digits)."""
        n, p = self.X.shape
        beta = np.linalg.lstsq(self.X, self.y, rcond=None)[0]
        scale = np.sum((self.y - self.X @ beta) ** 2) / (n - p)
        bounds = [(1e-6, None)] * n_class + [(0, None)] * (m - n_class)
        answer = minimize(
            lambda x: self.criterion(x * scale),
            np.full(m, 1 / m),
            jac=lambda x: -2 * scale * self.score(x * scale),
            bounds=bounds,
            options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000},
        )
        return answer.x * scale
