"""Adapt a proposal in rounds, weighing all points so far by the mixture of all proposals (AMIS).

Cornuet, Marin, Mira and Robert (2012): with ``n_r`` points from the proposal of round ``r``,

    log w_i = log p(x_i) − log Σ_r (n_r / N) q_r(x_i)

so that points of early rounds never weigh too much, whatever their proposal was. Where few points
carry all the weight, weights are raised to a power below 1 until enough of them count: the next
proposal then moves towards the density by as much as the points can tell (Koblents and Míguez
2015). Components fitted to weights raised to a power above 1 are added, since what makes the
weights vary is where they are large: this lowers their variance where the fit by likelihood
lowers a divergence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from pymc_marginal_lmm.importance.mixture import StudentMixture
from pymc_marginal_lmm.importance.modes import LogDensity
from pymc_marginal_lmm.importance.proposal import Proposal, fitted
from pymc_marginal_lmm.importance.reflections import Reflections

__all__ = ["Pool", "effective_number", "evaluated", "next_proposal"]

COMPONENTS = 5

SHARP = 3
"""Components on the weights to a power above 1."""

POWER = 1.7

SHARP_SHARE = 0.25

WIDE_SHARE = 0.1

WIDE = 4.0
"""Scale of the defensive component's covariance, against that of all points."""


def effective_number(log_weights: np.ndarray) -> float:
    """Return Kish's ``(Σ w)² / Σ w²``."""
    return float(np.exp(2 * logsumexp(log_weights) - logsumexp(2 * log_weights)))


def evaluated(log_density: LogDensity, reflections: Reflections, x: np.ndarray) -> np.ndarray:
    """Return the log density on the half space, ``2ᴷ p``; -inf outside, and where it is nan."""
    values = np.full(len(x), -np.inf)
    inside = reflections.inside(x)
    values[inside] = log_density(x[inside]) + len(reflections) * np.log(2)
    return np.where(np.isnan(values), -np.inf, values)


class Pool(NamedTuple):
    """All points so far.

    Parameters
    ----------
    x : array, (N, d)
    log_p : array, (N,)
    log_q : array, (N,)
        ``log Σ_r n_r q_r``.
    proposals : tuple of (Proposal, int)
        What they were drawn from, and how many from each.
    """

    x: np.ndarray
    log_p: np.ndarray
    log_q: np.ndarray
    proposals: tuple[tuple[Proposal, int], ...]

    @classmethod
    def empty(cls, d: int) -> Pool:
        """Return a pool without points."""
        return cls(np.zeros((0, d)), np.zeros(0), np.zeros(0), ())

    def with_points(self, x: np.ndarray, log_p: np.ndarray, proposal: Proposal) -> Pool:
        """Return the pool with further points; each has its density under each proposal once."""
        before = np.logaddexp(self.log_q, np.log(len(x)) + proposal.log_density(self.x))
        proposals = (*self.proposals, (proposal, len(x)))
        new = logsumexp([np.log(n) + q.log_density(x) for q, n in proposals], axis=0)
        return Pool(
            np.concatenate([self.x, x]),
            np.concatenate([self.log_p, log_p]),
            np.concatenate([before, new]),
            proposals,
        )

    def log_weights(self) -> np.ndarray:
        """Return ``log w`` of the module, -inf where the density is 0."""
        return self.log_p - self.log_q + np.log(len(self.x))


def _tempered(log_weights: np.ndarray, wanted: float) -> np.ndarray:
    """Return weights to the largest power of at most 1 at which enough points count."""
    low, high = 0.0, 1.0
    if effective_number(log_weights) < wanted:
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (
                (middle, high)
                if effective_number(middle * log_weights) >= wanted
                else (low, middle)
            )
        log_weights = low * log_weights
    return np.exp(log_weights - log_weights.max())


def _affordable(weights: np.ndarray, d: int, wanted: int) -> int:
    """Return how many components weighted points can tell: each is a mean and a covariance."""
    effective = weights.sum() ** 2 / (weights**2).sum()
    return int(np.clip(effective / (2 * d * (d + 3) / 2), 1, wanted))


def next_proposal(pool: Pool, reflections: Reflections, rng: np.random.Generator) -> Proposal:
    """Fit a proposal to all points so far."""
    log_weights = pool.log_weights()
    kept = np.isfinite(log_weights)
    x, log_weights = pool.x[kept], log_weights[kept]
    d = x.shape[1]
    enough = min(20.0 * (d + 1), 0.5 * len(x))
    weights = _tempered(log_weights, enough)
    sharp_weights = _tempered(POWER * log_weights, enough)
    whole = fitted(reflections, x, weights, _affordable(weights, d, COMPONENTS), rng)
    sharp = fitted(reflections, x, sharp_weights, _affordable(sharp_weights, d, SHARP), rng)
    mean = np.average(x, axis=0, weights=weights)
    wide = WIDE * np.cov(x.T, aweights=weights).reshape(1, d, d)
    parts = [
        (1 - SHARP_SHARE - WIDE_SHARE, whole.mixture),
        (SHARP_SHARE, sharp.mixture),
        (WIDE_SHARE, StudentMixture.of(np.ones(1), mean[None], wide)),
    ]
    mixture = StudentMixture(
        np.concatenate([share * part.weights for share, part in parts]),
        np.concatenate([part.means for _, part in parts]),
        np.concatenate([part.roots for _, part in parts]),
    )
    return Proposal(mixture, whole.folded)
