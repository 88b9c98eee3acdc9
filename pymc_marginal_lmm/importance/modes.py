"""Where a density is highest, and how wide it is there: the first proposal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize

from pymc_marginal_lmm.importance.mixture import StudentMixture
from pymc_marginal_lmm.importance.reflections import Reflections

__all__ = ["LogDensity", "NoMode", "first_mixture"]

type LogDensity = Callable[[np.ndarray], np.ndarray]
"""Log densities ``(N,)`` of points ``(N, d)``; -inf where there is none."""

STEP = 1e-5
"""Of a difference that stands for a derivative, on a scale of values where 1 is much."""

WIDEST = 3.0
"""Largest standard deviation that a mode's curvature may claim."""

NARROWEST = 1e-4

SAME = 0.5
"""Modes that are so many standard deviations apart, or fewer, are one."""

UNREACHABLE = 30.0
"""A mode whose density is lower by so much (in logarithms) is none."""

INFLATION = 1.5


class NoMode(ValueError):
    """The density is zero at every starting point."""


def first_mixture(
    log_density: LogDensity, starts: Sequence[np.ndarray], reflections: Reflections
) -> StudentMixture:
    """Return a component for each mode that is reached from starting points.

    Raises
    ------
    NoMode
        No starting point has a density.
    """
    found: list[tuple[float, np.ndarray, np.ndarray]] = []
    for start in starts:
        height, mode = _climb(log_density, np.asarray(start, dtype=float))
        if not np.isfinite(height):
            continue
        mode = reflections.fold(mode[None])[0]
        if any(_distance(mode, other, cov) < SAME for _, other, cov in found):
            continue
        found.append((height, mode, _covariance(log_density, mode, height)))
    if not found:
        raise NoMode("The density is zero, or not a number, at every starting point.")
    highest = max(height for height, *_ in found)
    found = [mode for mode in found if mode[0] > highest - UNREACHABLE]
    masses = [height - highest + 0.5 * np.linalg.slogdet(cov)[1] for height, _, cov in found]
    weights = np.exp(np.array(masses) - max(masses)) + 0.1
    return StudentMixture.of(
        weights,
        np.stack([mode for _, mode, _ in found]),
        INFLATION * np.stack([cov for *_, cov in found]),
    )


def _distance(x: np.ndarray, mode: np.ndarray, cov: np.ndarray) -> float:
    return float(np.sqrt((x - mode) @ np.linalg.solve(cov, x - mode) / len(mode)))


def _climb(log_density: LogDensity, start: np.ndarray) -> tuple[float, np.ndarray]:
    d = len(start)
    moves = STEP * np.concatenate([np.zeros((1, d)), np.eye(d), -np.eye(d)])

    def negative(x: np.ndarray) -> tuple[float, np.ndarray]:
        values = log_density(x + moves)
        gradient = (values[1 : d + 1] - values[d + 1 :]) / (2 * STEP)
        if not (np.isfinite(values[0]) and np.isfinite(gradient).all()):
            return 1e100, np.zeros(d)
        return -values[0], -gradient

    if not np.isfinite(log_density(start[None])[0]):
        return -np.inf, start
    result = minimize(
        negative, start, jac=True, method="BFGS", options={"gtol": 1e-2, "maxiter": 20 + 5 * d}
    )
    return -float(result.fun), result.x


def _covariance(log_density: LogDensity, mode: np.ndarray, height: float) -> np.ndarray:
    """Return the covariance of the Normal that drops from a mode as the density does.

    Differences are taken over about a third of a standard deviation: what counts is how wide the
    density is, not its curvature in a point.
    """
    d = len(mode)
    steps = np.full(d, 1e-2)
    for _ in range(2):
        moves = np.diag(steps)
        drops = height - 0.5 * (log_density(mode + moves) + log_density(mode - moves))
        with np.errstate(divide="ignore", invalid="ignore"):
            sd = steps / np.sqrt(2 * np.clip(drops, 0, None))
        sd = np.clip(np.nan_to_num(sd, nan=NARROWEST, posinf=WIDEST), NARROWEST, WIDEST)
        steps = sd / 3
    i, j = np.triu_indices(d, k=1)
    singles, pairs = np.diag(steps), np.diag(steps)[i] + np.diag(steps)[j]
    moves = np.concatenate([singles, pairs])
    drops = 2 * height - log_density(mode + moves) - log_density(mode - moves)
    drops = np.where(np.isfinite(drops), drops, 1.0)
    own = drops[:d]
    precision = np.diag(own / 2)
    precision[i, j] = (drops[d:] - own[i] - own[j]) / 2
    precision = (precision + precision.T) / np.outer(steps, steps)
    # In units of the standard deviations along the axes, no direction may be wider than WIDEST.
    scaled = precision * np.outer(sd, sd)
    values, vectors = np.linalg.eigh(scaled)
    values = np.clip(values, 1 / WIDEST**2, None)
    return np.outer(sd, sd) * ((vectors / values) @ vectors.T)
