"""From a log density to weighted points that can be trusted as far as they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from pymc_marginal_lmm.importance.adapt import Pool, effective_number, evaluated, next_proposal
from pymc_marginal_lmm.importance.modes import LogDensity, first_mixture
from pymc_marginal_lmm.importance.proposal import Proposal, near
from pymc_marginal_lmm.importance.reflections import Reflections

__all__ = ["Integral", "Round", "integrate", "khat_threshold", "smoothed_and_khat"]

REPLICATES = 16
"""Independent parts of the last batch, whose differences give the Monte Carlo error."""

ROUNDS = 10

RETRIES = 2
"""Further last batches, where the tail of the weights is too heavy."""

LEAST = 500
"""Draws that are aimed at in any case: of fewer, a tail says nothing."""

LEAST_FOR_TAIL = 25
"""Of fewer weights that are not 0 five or less are the tail, to which nothing can be fitted."""

LEAST_EFFICIENT = 0.1
"""Effective draws per point below which a result is not relied on, whatever its tail says.

Where a proposal has missed most of the mass, the points that it does have tell of little else: on
funnels of eleven dimensions k̂ was as low as 0.6 with 0.05 effective draws per point and an evidence
off by 4, and never so with more than 0.1.
"""

BUDGET = 4
"""The last batch has at most so many evaluations per draw that is wanted."""


@dataclass(frozen=True)
class Round:
    """What a round reached, for whoever waits.

    Parameters
    ----------
    n_evaluations : int
        So far.
    effective_draws, khat : float
        Of this round.
    ahead : int
        Evaluations of the next round; 0 after the last one.
    """

    n_evaluations: int
    effective_draws: float
    khat: float
    ahead: int


@dataclass(frozen=True)
class Integral:
    """Weighted points of the half space, and what they are worth.

    Parameters
    ----------
    x : array, (N, d)
    log_p : array, (N,)
        Log density of the half space, ``2ᴷ p``.
    log_weights : array, (N,)
        ``log p(x)/q(x)``, not smoothed: their mean is the evidence.
    log_evidence, log_evidence_mcse : float
        Of the density on the whole space, with the Monte Carlo standard error.
    khat : float
        Shape of the weights' tail.
    effective_draws : float
        Kish's number.
    n_evaluations : int
        All that were made, those of adaptation included.
    proposal : Proposal
        The last one.
    """

    x: np.ndarray
    log_p: np.ndarray
    log_weights: np.ndarray
    log_evidence: float
    log_evidence_mcse: float
    khat: float
    effective_draws: float
    n_evaluations: int
    proposal: Proposal

    @property
    def trusted(self) -> bool:
        """Whether ``khat`` is below the threshold for so many points, and enough of them count."""
        enough = LEAST_EFFICIENT * len(self.x)
        return self.khat < khat_threshold(len(self.x)) and self.effective_draws >= enough

    def heaviest_axis(self) -> int:
        """Return the coordinate in which the points that weigh most lie farthest out."""
        most = np.argsort(self.log_weights)[-max(3, len(self.x) // 500) :]
        distance = np.abs(self.x - np.median(self.x, axis=0))
        spread = np.maximum(np.median(distance, axis=0), np.finfo(float).tiny)
        return int(np.argmax((distance[most] / spread).mean(axis=0)))

    def smoothed_log_weights(self) -> np.ndarray:
        """Return the logarithms of weights ``(N,)`` with the sum 1, their tail Pareto smoothed."""
        smoothed, _ = smoothed_and_khat(self.log_weights)
        return smoothed - logsumexp(smoothed)

    def expectation(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of what points ``(N, …)`` are given, and its Monte Carlo standard error.

        By the weights as they are, and from the differences between replicates.
        """
        values = np.asarray(values, dtype=float)
        weights = np.exp(self.log_weights - self.log_evidence) / len(values)
        mean = np.tensordot(weights, values, axes=1)
        off = weights.reshape(-1, *np.ones(values.ndim - 1, dtype=int)) * (values - mean)
        by_part = off.reshape(REPLICATES, -1, *values.shape[1:]).sum(axis=1)
        return mean, by_part.std(axis=0, ddof=1) * np.sqrt(REPLICATES)

    def resample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return places of ``n`` points without weights, in random order.

        Weights are Pareto smoothed, and points repeated as evenly as they allow (systematic
        resampling).
        """
        ends = np.cumsum(np.exp(self.smoothed_log_weights()))
        places = (np.arange(n) + rng.random()) / n * ends[-1]
        return rng.permutation(np.searchsorted(ends, places))


def khat_threshold(n: int) -> float:
    """Return ``min(1 − 1/log₁₀ n, 0.7)``, up to which smoothed weights are reliable."""
    return min(1 - 1 / np.log10(n), 0.7)


def smoothed_and_khat(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Return Pareto smoothed log weights, normalised, and k̂ of their tail."""
    # As scipy.stats in the mixture: slow to import.
    from arviz_stats.base import array_stats

    kept = np.isfinite(log_weights)
    if kept.sum() < LEAST_FOR_TAIL:
        return log_weights, np.inf
    smoothed = np.full(len(log_weights), -np.inf)
    # It takes log-likelihoods, whose negative is the logarithm of a weight.
    smoothed[kept], khat = array_stats.psislw(-log_weights[kept])
    return smoothed, float(khat)


def integrate(
    log_density: LogDensity,
    starts: Sequence[np.ndarray],
    reflections: Reflections,
    *,
    draws: int,
    rng: np.random.Generator,
    report: Callable[[Round], None] = lambda _: None,
) -> Integral:
    """Integrate a density: modes, rounds of adaptation, one last batch.

    Parameters
    ----------
    log_density : callable
        From points ``(N, d)`` to log densities ``(N,)``; nan and inf count as -inf.
    starts : sequence of array, (d,)
        Where to look for modes from.
    reflections : Reflections
        Changes of sign that the density does not notice.
    draws : int
        So many effective draws are aimed at.
    rng : numpy.random.Generator
    report : callable, optional
        Is given each :class:`Round`.

    Raises
    ------
    NoMode
        The density is zero at all starting points.
    """
    count = 0

    def counted(x: np.ndarray) -> np.ndarray:
        nonlocal count
        count += len(x)
        # Far out, where points are proposed too, a density may overflow.
        with np.errstate(all="ignore"):
            return log_density(x)

    def per_replicate(efficiency: float) -> int:
        return int(np.ceil(wanted / max(efficiency, 1 / BUDGET) / REPLICATES))

    mixture = first_mixture(counted, starts, reflections)
    d = mixture.dim
    sample = reflections.fold(mixture.draw(1024, rng))
    proposal = Proposal(mixture, near(reflections, sample, np.full(1024, 1 / 1024)))
    size = 1 << int(np.ceil(np.log2(max(256, 80 * d))))
    pool = Pool.empty(d)
    wanted = max(draws, LEAST)
    best: tuple[float, Proposal] = (1 / wanted, proposal)
    idle = 0
    for _ in range(ROUNDS):
        x = proposal.draw(size, rng)
        log_p = evaluated(counted, reflections, x)
        log_q = proposal.log_density(x)
        effective = effective_number(log_p - log_q)
        efficiency = effective / size
        # A round pays if it saves more evaluations of the last batch than it took.
        idle = 0 if wanted / best[0] - size > wanted / max(efficiency, 1 / wanted) else idle + 1
        best = max(best, (efficiency, proposal), key=lambda pair: pair[0])
        # One round is taken to save half of what a perfect proposal would, at most.
        could_save = (wanted / best[0] - wanted) / 2
        adapted = len(pool.proposals) >= 2 and (could_save < size or idle == 2)
        ahead = REPLICATES * per_replicate(best[0]) if adapted else size
        report(Round(count, effective, smoothed_and_khat(log_p - log_q)[1], ahead))
        if adapted:
            break
        pool = pool.with_points(x, log_p, log_q, proposal)
        proposal = next_proposal(pool, proposal, reflections, rng)
    efficiency, proposal = best
    for attempt in range(1 + RETRIES):
        per = per_replicate(efficiency)
        x = np.concatenate([proposal.draw(per, rng) for _ in range(REPLICATES)])
        log_p = evaluated(counted, reflections, x)
        log_q = proposal.log_density(x)
        log_weights = log_p - log_q
        effective, khat = effective_number(log_weights), smoothed_and_khat(log_weights)[1]
        efficiency = effective / len(x)
        good = khat < khat_threshold(len(x)) or attempt == RETRIES
        report(Round(count, effective, khat, 0 if good else REPLICATES * per_replicate(efficiency)))
        if good:
            break
        # What the tail has shown is learned from, and another batch is drawn.
        pool = pool.with_points(x, log_p, log_q, proposal)
        proposal = next_proposal(pool, proposal, reflections, rng)
    by_part = logsumexp(log_weights.reshape(REPLICATES, per), axis=1) - np.log(per)
    log_evidence = float(logsumexp(by_part) - np.log(REPLICATES))
    spread = np.exp(by_part - log_evidence).std(ddof=1) / np.sqrt(REPLICATES)
    return Integral(
        x=x,
        log_p=log_p,
        log_weights=log_weights,
        log_evidence=log_evidence,
        log_evidence_mcse=float(spread),
        khat=khat,
        effective_draws=effective,
        n_evaluations=count,
        proposal=proposal,
    )
