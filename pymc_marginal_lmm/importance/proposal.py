"""A mixture on the half space: folded in where it reaches beyond, cut off where it hardly does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pymc_marginal_lmm.importance.mixture import StudentMixture, log_sum
from pymc_marginal_lmm.importance.reflections import Reflections

__all__ = ["Proposal", "near"]

MOST_FOLDED = 5
"""So many reflections are folded in, at most: each doubles the work of a density."""

FAR = 4.5
"""Standard deviations from 0 from which on a reflection is not folded in."""

AT_ONCE = 2**15
"""Points and images whose densities are computed at once: more would not stay in a cache."""


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

    def images(self, x: np.ndarray) -> np.ndarray:
        """Return the points ``g x`` of all ``g``: ``(G, N, d)``."""
        return x * self._group[:, None, :]

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Return the log density of points ``(N, d)`` of the half space."""
        at_once = max(1, AT_ONCE // (len(self._group) * len(self.mixture.weights)))
        parts = [np.zeros(0)]
        for start in range(0, len(x), at_once):
            part = x[start : start + at_once]
            images = self.images(part).reshape(-1, self.mixture.dim)
            logs = self.mixture.log_components(images)[0]
            parts.append(log_sum(logs.reshape(-1, len(part))))
        return np.concatenate(parts)

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw points ``(n, d)``."""
        return self.folded.fold(self.mixture.draw(n, rng))


def near(reflections: Reflections, x: np.ndarray, weights: np.ndarray) -> Reflections:
    """Return the reflections whose axis has mass near 0, by weighted points of the half space."""
    axes = x[:, reflections.axes]
    mean = weights @ axes / weights.sum()
    # The side towards 0 may be the wider one.
    below = np.minimum(axes - mean, 0)
    shares = weights @ (below < 0)
    sd = np.sqrt(weights @ below**2 / np.maximum(shares, np.finfo(float).tiny))
    distance = mean / np.maximum(sd, np.finfo(float).tiny)
    order = np.argsort(distance)[:MOST_FOLDED]
    return reflections.take(sorted(k for k in order if distance[k] < FAR))
