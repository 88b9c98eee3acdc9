"""Mixtures of multivariate Student-t distributions: densities, Sobol points, and weighted EM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from scipy.special import gammaincinv, gammaln, ndtri

__all__ = ["StudentMixture", "covariance_root", "degrees_of_freedom", "inverse_roots", "log_sum"]


def degrees_of_freedom(d: int) -> float:
    """Return ``ν``: tails heavier than a posterior's, but not by much in many dimensions.

    There most of the mass would lie where a posterior has none.
    """
    return 5.0 + max(0, d - 4)


AT_ONCE = 2**18
"""Multiplications of one matrix product: fewer fit no cache better, and more OpenBLAS shares among
threads, which costs more than it gains here, and much more where they have to wait for processors.
"""

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

    @classmethod
    def joined(cls, parts: Sequence[tuple[float, StudentMixture]]) -> Self:
        """Return a mixture of mixtures, by their shares."""
        return cls(
            np.concatenate([share * part.weights for share, part in parts]),
            np.concatenate([part.means for _, part in parts]),
            np.concatenate([part.roots for _, part in parts]),
        )

    @property
    def dim(self) -> int:
        """``d``."""
        return self.means.shape[1]

    def log_components(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``log a_k t_ν(x; m_k, L_k L_kᵀ)`` of points ``(N, d)``, and ``|L_k⁻¹(x − m_k)|²``.

        Both are ``(K, N)``.
        """
        d, nu = self.dim, degrees_of_freedom(self.dim)
        inverses = inverse_roots(self.roots)
        # One product for all components; about a centre, or what is far from 0 would cancel.
        centre = self.weights @ self.means
        whitened = (inverses @ (self.means - centre)[:, :, None]).reshape(-1, 1)
        distances = np.empty((len(inverses), len(x)))
        at_once = max(16, AT_ONCE // inverses.size)
        for start in range(0, len(x), at_once):
            part = slice(start, start + at_once)
            z = inverses.reshape(-1, d) @ (x[part] - centre).T - whitened
            distances[:, part] = np.square(z, out=z).reshape(len(inverses), d, -1).sum(axis=1)
        constant = gammaln((nu + d) / 2) - gammaln(nu / 2) - d / 2 * np.log(nu * np.pi)
        log_det = np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum(axis=1)
        with np.errstate(divide="ignore"):
            constants = constant - log_det + np.log(self.weights)
        return constants[:, None] - (nu + d) / 2 * np.log1p(distances / nu), distances

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Return the log density of points ``(N, d)``."""
        return log_sum(self.log_components(x)[0])

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw points ``(n, d)`` by a scrambled Sobol sequence.

        One of its dimensions tells the component, so that each has its share of the points, but for
        one or two, and each point alone has the density of the mixture.
        """
        # Half a second, a third of what importing the package takes, that only a fit waits for.
        from scipy.stats import qmc

        d, nu = self.dim, degrees_of_freedom(self.dim)
        # The balance of a Sobol sequence is that of powers of two.
        u = qmc.Sobol(d + 2, rng=rng).random(1 << (n - 1).bit_length())[:n]
        u = np.clip(u, 1e-12, 1 - 1e-12)
        which = np.searchsorted(np.cumsum(self.weights)[:-1], u[:, 0])
        chi2 = 2 * gammaincinv(nu / 2, u[:, 1])
        z = ndtri(u[:, 2:]) / np.sqrt(chi2 / nu)[:, None]
        points = np.empty((n, d))
        for k, (mean, root) in enumerate(zip(self.means, self.roots, strict=True)):
            points[which == k] = mean + z[which == k] @ root.T
        return points


def log_sum(a: np.ndarray) -> np.ndarray:
    """Return ``log Σ exp a`` over the first axis; SciPy's looks at more than is needed here."""
    most = a.max(axis=0)
    most = np.where(np.isfinite(most), most, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(a - most).sum(axis=0)) + most


def inverse_roots(roots: np.ndarray) -> np.ndarray:
    """Return the inverses of lower triangular matrices ``(…, d, d)``, which are lower too.

    SciPy's ``solve_triangular`` shares matrices of any size among threads, and with a processor
    that others use too these waited 15 ms for each other, for a matrix of 7 rows.
    """
    return np.tril(np.linalg.inv(roots))


def covariance_root(covariance: np.ndarray) -> np.ndarray:
    """Return a Cholesky factor, of the nearest matrix that has one."""
    scale = np.sqrt(np.clip(np.diagonal(covariance), np.finfo(float).tiny, None))
    correlation = covariance / np.outer(scale, scale)
    values, vectors = np.linalg.eigh((correlation + correlation.T) / 2)
    values = np.clip(values, SMALLEST * values.max(), None)
    return scale[:, None] * np.linalg.cholesky((vectors * values) @ vectors.T)
