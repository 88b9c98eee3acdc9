"""Where a density is highest, and how wide it is there: the first proposal.

All that is asked of the density are values, of many points at once: ``2d`` differences for a
gradient, and a handful of lengths along a direction instead of a line search. Differences are taken
over parts of the density's own width, so that no unit of a parameter matters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pymc_marginal_lmm.importance.mixture import StudentMixture, covariance_root
from pymc_marginal_lmm.importance.reflections import Reflections

__all__ = ["LogDensity", "NoMode", "first_mixture"]

type LogDensity = Callable[[np.ndarray], np.ndarray]
"""Log densities ``(N,)`` of points ``(N, d)``; -inf where there is none."""

SAME = 1.0
"""A climb that comes within so many standard deviations of a mode (in each dimension, on average)
is on its way to it."""

UNREACHABLE = 30.0
"""A mode whose density is lower by so much (in logarithms) is none."""

INFLATION = 1.5
"""Of a mode's covariance: a posterior is wider than its top tells."""

LENGTHS = 4.0 ** np.arange(1, -8, -1)
"""Tried along a direction, in units of the step of Newton."""

GAIN = 0.05
"""A climb ends when one more step would raise the log density by less."""


MOST_RISE = 10.0
"""Differences are taken where the density changes by about 1; and so many times the rise that a
slope promises is too much."""

CLIMBS = 5
"""From a saddle or a narrow ridge, one or two further ones were enough in all models tried."""


class NoMode(ValueError):
    """The density is zero at every starting point, or grows without bound."""


def first_mixture(
    log_density: LogDensity, starts: Sequence[np.ndarray], reflections: Reflections
) -> StudentMixture:
    """Return a component for each mode that is reached from starting points.

    Raises
    ------
    NoMode
        No starting point has a density, or leads to where it is highest.
    """

    def finite(x: np.ndarray) -> np.ndarray:
        values = log_density(x)
        return np.where(np.isfinite(values), values, -np.inf)

    found: list[tuple[float, np.ndarray, np.ndarray]] = []

    def is_known(x: np.ndarray) -> bool:
        folded = reflections.fold(x[None])[0]
        return any(_distance(folded, mode, cov) < SAME for _, mode, cov in found)

    for start in starts:
        x = np.asarray(start, dtype=float)
        height = finite(x[None])[0]
        if not np.isfinite(height):
            continue
        # What one mode has told of scales and correlations serves the way to others.
        metric = found[0][2] if found else None
        mode = _mode(_Highest(finite, x, height), metric, is_known)
        if mode is not None:
            height, x, cov = mode
            folded = reflections.fold(x[None])[0]
            sign = np.where(folded == x, 1.0, -1.0)
            found.append((height, folded, cov * np.outer(sign, sign)))
    if not found:
        raise NoMode("No mode was found from any starting point.")
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


class _Highest:
    """A density that remembers the highest point that it was asked for, if that can be believed.

    Where numbers break down, as with a residual scale of 1e-30, a density may seem to be enormous.
    """

    def __init__(self, log_density: LogDensity, x: np.ndarray, height: float) -> None:
        self.log_density, self.x, self.height = log_density, x, float(height)

    def __call__(self, x: np.ndarray, rises: np.ndarray | float = MOST_RISE) -> np.ndarray:
        """Return the log densities; no point is believed to rise by more than ``rises``."""
        values = self.log_density(x)
        values = np.where(values > self.height + rises, -np.inf, values)
        best = int(np.argmax(values))
        if values[best] > self.height:
            self.x, self.height = x[best], float(values[best])
        return values


def _mode(
    log_density: _Highest, metric: np.ndarray | None, is_known: Callable[[np.ndarray], bool]
) -> tuple[float, np.ndarray, np.ndarray] | None:
    """Return height, place and covariance of the mode above a point.

    None for one that is known, and for none: where a density grows without bound, as that of
    effects with their scale does, the way up ends with numbers that are none.

    Looking for the covariance shows whether it is one: from a saddle, as an even density has where
    a scale is 0, and from where BFGS is stuck, there are ways up.
    """
    if metric is None:
        d, x, height = len(log_density.x), log_density.x, log_density.height
        metric = np.diag(_widths(log_density, x, height, np.eye(d), np.full(d, 1e-2)) ** 2)
    for _ in range(CLIMBS):
        metric = _climb(log_density, metric, is_known)
        if metric is None:
            return None
        x, height = log_density.x, log_density.height
        metric = _covariance(log_density, x, height, metric)
        if not np.isfinite(metric).all():
            return None
        if log_density.height < height + GAIN:
            break
    return height, x, metric


def _climb(
    log_density: _Highest, metric: np.ndarray, is_known: Callable[[np.ndarray], bool]
) -> np.ndarray | None:
    """Climb by BFGS; return what it takes for the covariance, None on the way to a known mode."""
    x, height = log_density.x, log_density.height
    d = len(x)
    gradient = _gradient(log_density, x, height, metric)
    for _ in range(20 + 5 * d):
        if is_known(x):
            return None
        direction = metric @ gradient
        if gradient @ direction < 2 * GAIN:
            break
        points = x + LENGTHS[:, None] * direction
        # A concave function rises by no more than its slope says.
        values = log_density(points, MOST_RISE * (1 + LENGTHS * (gradient @ direction)))
        best = int(np.argmax(values))
        if not values[best] > height:
            break
        step, x, height = points[best] - x, points[best], values[best]
        before, gradient = gradient, _gradient(log_density, x, height, metric)
        change = before - gradient
        curvature = change @ step
        if curvature > 0:
            turn = np.eye(d) - np.outer(step, change) / curvature
            metric = turn @ metric @ turn.T + np.outer(step, step) / curvature
    return metric


def _gradient(
    log_density: LogDensity, x: np.ndarray, height: float, metric: np.ndarray
) -> np.ndarray:
    steps = 1e-2 * np.sqrt(np.diagonal(metric))
    up, down = _sides(log_density, x, np.diag(steps))
    # At a boundary, what is known is one side.
    up, down = (
        np.where(np.isfinite(up), up, 2 * height - down),
        np.where(np.isfinite(down), down, 2 * height - up),
    )
    return np.nan_to_num((up - down) / (2 * steps), nan=0.0, posinf=0.0, neginf=0.0)


def _sides(
    log_density: LogDensity, x: np.ndarray, moves: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    up, down = log_density(np.concatenate([x + moves, x - moves])).reshape(2, -1)
    return up, down


def _drops(log_density: LogDensity, x: np.ndarray, height: float, moves: np.ndarray) -> np.ndarray:
    """Return by how much the log density falls when one moves to and fro, on average."""
    sides = height - np.stack(_sides(log_density, x, moves))
    known = np.isfinite(sides)
    sums = np.where(known, sides, 0).sum(axis=0)
    return np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), np.inf)


def _widths(
    log_density: LogDensity,
    x: np.ndarray,
    height: float,
    directions: np.ndarray,
    widths: np.ndarray,
) -> np.ndarray:
    """Return the standard deviations of Normals that fall as the density does, along directions.

    What counts is how wide the density is, not its curvature in a point. On a slope that is not
    concave there is none, and the length stands for it at which the density changes that much.
    """
    for _ in range(12):
        drops = np.abs(_drops(log_density, x, height, directions * widths[:, None]))
        if ((drops > 0.1) & (drops < 2)).all():
            break
        widths = widths / np.clip(np.sqrt(2 * drops), 0.1, 30)
    return widths


def _covariance(
    log_density: LogDensity, mode: np.ndarray, height: float, guess: np.ndarray
) -> np.ndarray:
    """Return the covariance of the Normal that falls from a mode as the density does."""
    d = len(mode)
    sd = _widths(log_density, mode, height, np.eye(d), np.sqrt(np.diagonal(guess)) / 2)
    i, j = np.triu_indices(d, k=1)
    steps = np.diag(sd / 2)
    both = _drops(log_density, mode, height, np.concatenate([steps, steps[i] + steps[j]]))
    both = np.where(np.isfinite(both), both, 1.0)
    own = both[:d]
    precision = np.diag(own)
    precision[i, j] = precision[j, i] = (both[d:] - own[i] - own[j]) / 2
    values, vectors = np.linalg.eigh(8 * precision)
    # Differences tell little of directions that are much wider than the axes, or not concave: there
    # the density is followed until it falls.
    axes = vectors.T * sd
    widths = _widths(log_density, mode, height, axes, 1 / np.sqrt(np.clip(values, 1e-2, None)))
    spread = axes.T * widths
    covariance = spread @ spread.T
    if not (np.isfinite(covariance).all() and (np.diagonal(covariance) > 0).all()):
        return np.full((d, d), np.nan)
    root = covariance_root(covariance)
    return root @ root.T
