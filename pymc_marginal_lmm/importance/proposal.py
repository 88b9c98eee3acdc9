"""A mixture on the half space: folded in where it reaches beyond, cut off where it hardly does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import logsumexp

from pymc_marginal_lmm.importance.mixture import StudentMixture, degrees_of_freedom
from pymc_marginal_lmm.importance.reflections import Reflections

__all__ = ["MOST_FOLDED", "Proposal", "fitted", "near"]

MOST_FOLDED = 5
"""So many reflections are folded in, at most: each doubles the work of a density."""

FAR = 6.0
"""Standard deviations from 0 from which on a reflection is not folded in."""

PASSES = 25
"""Of the EM algorithm."""

RIDGE = 0.02
"""Of the covariance of all points, added to that of a component."""


@dataclass(frozen=True)
class Proposal:
    """``q(x) = Σ_g mixture(g x)`` over the group of ``folded`` reflections.

    Parameters
    ----------
    mixture : StudentMixture
    folded : Reflections
    """

    mixture: StudentMixture
    folded: Reflections

    @cached_property
    def _group(self) -> np.ndarray:
        return self.folded.group()

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Return the log density of points ``(N, d)`` of the half space."""
        return logsumexp([self.mixture.log_density(x * g) for g in self._group], axis=0)

    def draw(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, Proposal]:
        """Draw points ``(n, d)``; return with them the proposal that they are really from."""
        x, mixture = self.mixture.draw(n, rng)
        return self.folded.fold(x), replace(self, mixture=mixture)

    def improved(self, x: np.ndarray, weights: np.ndarray) -> Proposal:
        """Return the proposal after passes of the EM algorithm on weighted points.

        What is not observed of a point is its component and the element of the group that brought
        it into the half space. For a Student-t each point counts ``(ν + d)/(ν + distance²)`` times
        in the moments (Liu and Rubin 1995).
        """
        d, group = self.mixture.dim, self._group
        nu = degrees_of_freedom(d)
        total = np.cov(x.T, aweights=weights).reshape(d, d)
        mixture = self.mixture
        images = (x[None, :, :] * group[:, None, :]).reshape(-1, d)
        shares = np.tile(weights / weights.sum(), len(group))
        for _ in range(PASSES):
            log_r = np.log(mixture.weights)[:, None] + mixture.log_components(images)
            by_point = log_r.reshape(len(log_r), len(group), -1)
            norms = logsumexp(by_point, axis=(0, 1))
            r = np.exp(log_r - np.tile(norms, len(group))) * shares
            u = r * (nu + d) / (nu + mixture.distances(images))
            alive = r.sum(axis=1) > 0.5 / len(x)
            r, u = r[alive], u[alive]
            means = (u @ images) / u.sum(axis=1)[:, None]
            scales = []
            for own, count, mean in zip(u, r.sum(axis=1), means, strict=True):
                centred = images - mean
                scales.append((centred * own[:, None]).T @ centred / count + RIDGE * total)
            mixture = StudentMixture.of(r.sum(axis=1), means, np.stack(scales))
        return replace(self, mixture=mixture)


def near(reflections: Reflections, x: np.ndarray, weights: np.ndarray) -> Reflections:
    """Return the reflections whose axis has mass near 0, by weighted points of the half space."""
    axes = x[:, reflections.axes]
    mean = np.average(axes, axis=0, weights=weights)
    sd = np.sqrt(np.average((axes - mean) ** 2, axis=0, weights=weights))
    distance = mean / np.maximum(sd, np.finfo(float).tiny)
    order = np.argsort(distance)[:MOST_FOLDED]
    return reflections.take(sorted(k for k in order if distance[k] < FAR))


def fitted(
    reflections: Reflections,
    x: np.ndarray,
    weights: np.ndarray,
    n_components: int,
    rng: np.random.Generator,
) -> Proposal:
    """Fit a proposal to weighted points ``(N, d)`` of the half space.

    It starts with components around points that are drawn by their weights.
    """
    d = x.shape[1]
    weights = weights / weights.sum()
    total = np.cov(x.T, aweights=weights).reshape(d, d)
    centres = x[rng.choice(len(x), size=n_components, p=weights)]
    start = StudentMixture.of(
        np.ones(n_components), centres, np.broadcast_to(total, (n_components, d, d))
    )
    return Proposal(start, near(reflections, x, weights)).improved(x, weights)
