"""Mixtures of multivariate Student-t distributions: densities, Sobol points, and weighted EM."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import gammaincinv, gammaln, logsumexp, ndtri

__all__ = ["StudentMixture", "covariance_root", "degrees_of_freedom"]


def degrees_of_freedom(d: int) -> float:
    """Return ``ν``: tails heavier than a posterior's, but not by much in many dimensions.

    There most of the mass would lie where a posterior has none.
    """
    return 5.0 + max(0, d - 4)


SMALLEST = 1e-10
"""Of eigenvalues of a covariance, against the largest."""


class StudentMixture(NamedTuple):
    """``Σ_k a_k t_ν(x; m_k, L_k L_kᵀ)``.

    Parameters
    ----------
    weights : array, (K,)
        ``a``, with sum 1.
    means : array, (K, d)
    roots : array, (K, d, d)
        ``L``, lower triangular: of the scale matrix, not of the covariance.
    """

    weights: np.ndarray
    means: np.ndarray
    roots: np.ndarray

    @classmethod
    def of(cls, weights: np.ndarray, means: np.ndarray, scales: np.ndarray) -> Self:
        """Return the mixture with scale matrices ``(K, d, d)``, made positive definite."""
        weights = np.asarray(weights, dtype=float)
        roots = np.stack([covariance_root(scale) for scale in scales])
        return cls(weights / weights.sum(), np.asarray(means, dtype=float), roots)

    @property
    def dim(self) -> int:
        """``d``."""
        return self.means.shape[1]

    def distances(self, x: np.ndarray) -> np.ndarray:
        """Return ``|L_k⁻¹(x − m_k)|²`` of points ``(N, d)``: ``(K, N)``."""
        rows = []
        for mean, root in zip(self.means, self.roots, strict=True):
            z = solve_triangular(root, (x - mean).T, lower=True, check_finite=False)
            rows.append((z**2).sum(axis=0))
        return np.stack(rows)

    def log_components(self, x: np.ndarray) -> np.ndarray:
        """Return ``log t_ν(x; m_k, L_k L_kᵀ)`` without ``a_k``: ``(K, N)``."""
        d, nu = self.dim, degrees_of_freedom(self.dim)
        constant = gammaln((nu + d) / 2) - gammaln(nu / 2) - d / 2 * np.log(nu * np.pi)
        log_det = np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum(axis=1)
        return (constant - log_det)[:, None] - (nu + d) / 2 * np.log1p(self.distances(x) / nu)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Return the log density of points ``(N, d)``."""
        with np.errstate(divide="ignore"):
            return logsumexp(np.log(self.weights)[:, None] + self.log_components(x), axis=0)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, StudentMixture]:
        """Draw points ``(n, d)``, each component's by a scrambled Sobol sequence of its own.

        Returns
        -------
        points : array, (n, d)
            In the order of components.
        drawn : StudentMixture
            The same with the shares that components really have among the points: with these, the
            estimate of an integral has no bias (the balance heuristic of Veach and Guibas).
        """
        counts = _counts(self.weights, n, rng)
        parts = [
            mean + _student_points(int(count), self.dim, rng) @ root.T
            for count, mean, root in zip(counts, self.means, self.roots, strict=True)
        ]
        used = counts > 0
        drawn = StudentMixture(counts[used] / n, self.means[used], self.roots[used])
        return np.concatenate(parts), drawn


def _counts(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Share ``n`` points out: the expected numbers, rounded at random."""
    ends = np.floor(n * np.cumsum(weights) + rng.random()).astype(int)
    ends[-1] = n
    return np.diff(np.minimum(ends, n), prepend=0)


def _student_points(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    # Half a second, a third of what importing the package takes, that only a fit has to wait for.
    from scipy.stats import qmc

    if n == 0:
        return np.zeros((0, d))
    # The balance of a Sobol sequence is that of powers of two.
    u = qmc.Sobol(d + 1, rng=rng).random(1 << (n - 1).bit_length())[:n]
    u = np.clip(u, 1e-12, 1 - 1e-12)
    nu = degrees_of_freedom(d)
    chi2 = 2 * gammaincinv(nu / 2, u[:, d])
    return ndtri(u[:, :d]) / np.sqrt(chi2 / nu)[:, None]


def covariance_root(covariance: np.ndarray) -> np.ndarray:
    """Return a Cholesky factor, of the nearest matrix that has one."""
    scale = np.sqrt(np.clip(np.diagonal(covariance), np.finfo(float).tiny, None))
    correlation = covariance / np.outer(scale, scale)
    values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
    values = np.clip(values, SMALLEST * values.max(), None)
    return scale[:, None] * np.linalg.cholesky((vectors * values) @ vectors.T)
