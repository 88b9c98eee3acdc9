"""Moment matching, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pymc_marginal_lmm.importance import match_moments
from pymc_marginal_lmm.importance.integrate import smoothed_and_khat

P = multivariate_normal([0, 0, 0], [[1, 0.5, 0], [0.5, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("mean", "covariance"),
    [
        ([2.5, 0, -1], P.cov),  # shifts suffice
        ([2, 0, -1.5], np.diag([3, 0.5, 2])),
        ([1.5, 0, -1], [[2.5, -0.5, 0], [-0.5, 1.5, 0.3], [0, 0.3, 1]]),
    ],
)
def test_normal_distributions(mean: list[float], covariance: list[list[float]]) -> None:
    """With ``f`` the ratio of two densities its mean is 1, and weights alone do not tell."""
    target, x = multivariate_normal(mean, covariance), P.rvs(40_000, random_state=3)

    def log_f(x: np.ndarray) -> np.ndarray:
        return P.logpdf(x) - target.logpdf(x)

    matched = match_moments(P.logpdf, log_f, x)
    assert abs(matched.log_mean) < 0.03
    assert matched.khat < 0.5
    assert smoothed_and_khat(-log_f(x))[1] > 0.7


def test_nothing_to_move() -> None:
    """Up to what matching gains where weights are good: the mean of the weights themselves."""
    x = P.rvs(4_000, random_state=1)

    def log_f(x: np.ndarray) -> np.ndarray:
        return 0.1 * x[:, 0]

    matched = match_moments(P.logpdf, log_f, x)
    assert abs(matched.log_mean + 0.1**2 / 2) < 0.01  # E exp(−0.1 x) = exp(0.005)
    assert matched.khat < 0.5


def test_a_constant_factor_changes_nothing() -> None:
    x = P.rvs(2_000, random_state=2)
    found = [
        match_moments(lambda x, c=c: P.logpdf(x) + c, lambda x: 1.3 * x[:, 0], x) for c in (0, 50)
    ]
    assert np.allclose(found[0], found[1], rtol=1e-9, atol=1e-9)
