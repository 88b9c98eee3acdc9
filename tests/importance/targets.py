"""Densities whose integral and moments are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import foldnorm, loggamma, multivariate_normal, multivariate_t, norm, skewnorm

from pymc_marginal_lmm.importance import Reflections

__all__ = ["TARGETS", "Target"]


class Target(NamedTuple):
    """A log density of points ``(N, d)``, normalised; its mean and sds on the half space."""

    log_density: Callable[[np.ndarray], np.ndarray]
    dim: int
    mean: np.ndarray
    sd: np.ndarray
    reflections: Reflections
    starts: tuple[np.ndarray, ...]


def _target(
    log_density: Callable[[np.ndarray], np.ndarray],
    mean: np.ndarray,
    sd: np.ndarray,
    reflections: Reflections | None = None,
    starts: tuple[np.ndarray, ...] | None = None,
) -> Target:
    d = len(mean)
    return Target(
        lambda x: np.reshape(log_density(x), len(x)),
        d,
        np.asarray(mean, dtype=float),
        np.asarray(sd, dtype=float),
        reflections or Reflections.none(d),
        starts or (np.full(d, 0.3),),
    )


def _covariance(d: int) -> np.ndarray:
    root = np.random.default_rng(d).normal(size=(d, d))
    return root @ root.T + 0.1 * np.eye(d)


def _gaussian(d: int) -> Target:
    mean, cov = np.arange(d, dtype=float), _covariance(d)
    return _target(multivariate_normal(mean, cov).logpdf, mean, np.sqrt(np.diag(cov)))


def _student(d: int) -> Target:
    scale = _covariance(d)
    logpdf = multivariate_t(np.zeros(d), scale, df=8).logpdf
    return _target(logpdf, np.zeros(d), np.sqrt(np.diag(scale) * 8 / 6))


def _skewed() -> Target:
    one = skewnorm(8)
    return _target(
        lambda x: one.logpdf(x).sum(axis=1), np.full(4, one.mean()), np.full(4, one.std())
    )


def _skewed_mixed(d: int, shape: float) -> Target:
    """Logarithms of Gamma variables, in directions that are no axes."""
    mixing = np.linalg.qr(np.random.default_rng(d).normal(size=(d, d)))[0]
    one = loggamma(shape)
    return _target(
        lambda x: one.logpdf(x @ mixing).sum(axis=1),
        one.mean() * mixing.sum(axis=1),
        np.full(d, one.std()),
    )


def _curved(d: int) -> Target:
    """A banana in two dimensions, the others Normal."""

    def log_density(x: np.ndarray) -> np.ndarray:
        along, across = x[:, 0] / 2, (x[:, 1] - 0.15 * x[:, 0] ** 2) / 0.7
        rest = norm.logpdf(x[:, 2:]).sum(axis=1)
        return rest - 0.5 * (along**2 + across**2) - np.log(2 * np.pi * 2 * 0.7)

    mean, sd = np.zeros(d), np.ones(d)
    mean[1] = 0.15 * 4
    sd[:2] = 2, np.sqrt(0.7**2 + 2 * (0.15 * 4) ** 2)
    return _target(log_density, mean, sd)


def _two_modes(d: int, distance: float, share: float) -> Target:
    """Two Normals; the second, which has a share of the mass, is three times narrower."""
    far = np.zeros(d)
    far[0] = distance

    def log_density(x: np.ndarray) -> np.ndarray:
        first = np.log(1 - share) + norm.logpdf(x).sum(axis=1)
        second = np.log(share) + norm.logpdf(x, far, 1 / 3).sum(axis=1)
        return np.logaddexp(first, second)

    mean = share * far
    sd = np.sqrt(1 - share + share / 9 + share * (1 - share) * far**2)
    return _target(log_density, mean, sd, starts=(np.full(d, 0.3), far + 0.2))


def _even(distance: float) -> Target:
    """A Normal and its mirror image, which overlap or do not."""
    flip = np.array([-1.0, 1.0, -1.0])
    mean = np.array([distance, 1.0, 0.5])

    def log_density(x: np.ndarray) -> np.ndarray:
        one = multivariate_normal(mean)
        return np.logaddexp(one.logpdf(x), one.logpdf(x * flip)) - np.log(2)

    # |x₀| is folded normal, and x₂ has the sign that goes with it.
    first = foldnorm(distance)
    sign = 1 - 2 * norm.cdf(-distance)
    third = 0.5 * sign
    sds = np.array([first.std(), 1.0, np.sqrt(1 + 0.25 - third**2)])
    reflections = Reflections(flip[None], np.array([0]))
    return _target(log_density, np.array([first.mean(), 1.0, third]), sds, reflections)


TARGETS = {
    "gaussian 1": _gaussian(1),
    "gaussian 2": _gaussian(2),
    "gaussian 7": _gaussian(7),
    "gaussian 25": _gaussian(25),
    "student 3": _student(3),
    "student 15": _student(15),
    "skewed": _skewed(),
    "skewed 12": _skewed_mixed(12, 3.0),
    "skewed 25": _skewed_mixed(25, 10.0),
    "curved": _curved(2),
    "curved 6": _curved(6),
    "two modes": _two_modes(2, 8.0, 0.5),
    "two modes 5": _two_modes(5, 30.0, 0.05),
    "even, near": _even(0.5),
    "even, far": _even(20.0),
}
