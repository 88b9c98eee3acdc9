r"""Fit a mixture to weighted points so that the weights of the next ones vary little.

The number of effective draws per point is ``1 / ∫ p²/q``. What makes the integral least is found as
a likelihood is made largest: at the least, the derivative ``−∫ (p²/q) ∂ log q`` is zero, which is
that of ``∫ h log q`` with ``h = p²/q`` held. So each pass of the EM algorithm on weighted points
(weights ``w = p/q_pool``, for ``p``) weighs them by

    h / q_pool = w · p/q                    with the q that it starts from.

What is not observed of a point is its component, and the element of the group of reflections that
brought it into the half space. For a Student-t each point counts ``(ν + d)/(ν + distance²)`` times
in the moments (Liu and Rubin 1995).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pymc_marginal_lmm.importance.mixture import (
    AT_ONCE,
    StudentMixture,
    covariance_root,
    degrees_of_freedom,
    inverse_roots,
    log_sum,
)
from pymc_marginal_lmm.importance.proposal import Proposal

__all__ = ["Weighted", "fitted"]

PASSES = 12
"""As each fit begins with the last one, EM has time enough over the rounds."""

NEGLIGIBLE = 1e-3
"""Images of a point that come from the proposal with a lower probability are left out of a fit."""

PRIOR = 3.0
"""Points, for each dimension, that the covariance of all counts for in that of a component.

With 1 components fit the points they have rather than the density: in ten dimensions later rounds
were worse than the first in one run of three.
"""


class Weighted(NamedTuple):
    """Points of the half space with weights.

    Parameters
    ----------
    x : array, (N, d)
    log_p : array, (N,)
    weights : array, (N,)
        With the sum 1.
    """

    x: np.ndarray
    log_p: np.ndarray
    weights: np.ndarray

    @property
    def effective(self) -> float:
        """Kish's number."""
        return float(1 / (self.weights**2).sum())

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance."""
        d = self.x.shape[1]
        return self.weights @ self.x, np.cov(self.x.T, aweights=self.weights).reshape(d, d)


def fitted(start: Proposal, points: Weighted, steer: float, enough: float) -> Proposal:
    """Improve a proposal by passes of the EM algorithm."""
    mean, covariance = points.moments()
    root = covariance_root(covariance)
    inverse = inverse_roots(root)
    # In units of all points; reflections are of the original ones.
    images = (start.images(points.x) - mean) @ inverse.T
    mixture = _mapped(start.mixture, inverse, -inverse @ mean)
    d = mixture.dim
    whose, chosen = _images_that_count(mixture, images)
    first = np.flatnonzero(np.diff(whose, prepend=-1))
    nu = degrees_of_freedom(d)
    i, j = np.triu_indices(d)
    features = np.concatenate([chosen, chosen[:, i] * chosen[:, j]], axis=1)
    for _ in range(PASSES):
        logs, distances = mixture.log_components(chosen)
        most = np.maximum.reduceat(logs.max(axis=0), first)
        r = np.exp(logs - most[whose])
        sums = np.add.reduceat(r.sum(axis=0), first)
        shares = _steered(points, points.log_p - most - np.log(sums), steer, enough)
        r *= (shares / sums)[whose]
        effective = 1 / (shares**2).sum()
        counts = r.sum(axis=1)
        alive = counts >= min(1 / effective, counts.max())
        r, counts = r[alive], counts[alive]
        u = r * ((nu + d) / (nu + distances[alive]))
        total = u.sum(axis=1)
        moments = _in_parts(u, features)
        means = moments[:, :d] / total[:, None]
        second = np.empty((len(u), d, d))
        second[:, i, j] = second[:, j, i] = moments[:, d:]
        second -= total[:, None, None] * means[:, :, None] * means[:, None, :]
        prior = PRIOR * d / effective
        scales = (second + prior * np.eye(d)) / (counts + prior)[:, None, None]
        mixture = StudentMixture(counts / counts.sum(), means, np.linalg.cholesky(scales))
    return Proposal(_mapped(mixture, root, mean), start.folded)


def _in_parts(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return ``a b``, as the sum of products that are not shared among threads."""
    rows = max(16, AT_ONCE // (len(a) * b.shape[1]))
    starts = range(0, len(b), rows)
    return sum((a[:, k : k + rows] @ b[k : k + rows] for k in starts), start=np.zeros(()))


def _mapped(mixture: StudentMixture, matrix: np.ndarray, shift: np.ndarray) -> StudentMixture:
    """Return the mixture of ``matrix x + shift``, of a lower triangular matrix."""
    return StudentMixture(mixture.weights, mixture.means @ matrix.T + shift, matrix @ mixture.roots)


def _images_that_count(
    mixture: StudentMixture, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return images ``(M, d)`` in the order of the points they are of, and which these are."""
    n_images, n, d = images.shape
    if n_images == 1:
        return np.arange(n), images[0]
    logs = log_sum(mixture.log_components(images.reshape(-1, d))[0]).reshape(n_images, n)
    counts = np.exp(logs - logs.max(axis=0)) > NEGLIGIBLE
    whose, image = np.nonzero(counts.T)
    return whose, images[image, whose]


def _steered(points: Weighted, log_ratio: np.ndarray, power: float, enough: float) -> np.ndarray:
    """Return the weights times ``p/q``, none above √N times the mean (Ionides 2008)."""
    log_ratio = log_ratio - log_ratio.max()
    while True:
        shares = points.weights * np.exp(power * log_ratio)
        shares = np.minimum(shares, shares.mean() * np.sqrt(len(shares)))
        shares /= shares.sum()
        if power < 0.1 or (shares**2).sum() * enough <= 1:
            return shares
        power *= 0.8
