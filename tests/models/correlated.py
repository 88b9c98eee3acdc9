"""Responses with correlated rows: ``pm.MvNormal`` likelihoods."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from tests.models.registry import Rows, canonical, lkj, scales


def decay(n: int, length: float) -> np.ndarray:
    """Return correlations of ``n`` points on a line."""
    return np.exp(-np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / length)


@canonical("b", "u", tags=("correlated rows",))
def correlated_outcomes() -> None:
    # Multivariate regression: each outcome has its own effect of each group.
    data = Rows(n=12)
    g = data.index(4)
    (tau,) = scales("tau")
    Y = data.y[:, None] + data.rng.normal(size=(12, 3))
    b = pm.Normal("b", 0.0, 2.0, shape=3)
    u = pm.Normal("u", 0.0, tau, shape=(4, 3))
    pm.MvNormal("y", data.x[:, None] * b + u[g], chol=lkj("chol", 3), observed=Y)


@canonical("b", "v", "u", tags=("correlated rows", "several responses"))
def correlated_outcomes_beside_another_response() -> None:
    # Levels are batches, and shared with independent rows; blocks of outcomes are correlated.
    data, other = Rows(n=10), Rows(n=14, seed=1)
    group, person = data.index(3), other.index(10)
    sigma, tau = scales("sigma", "tau")
    rho = pm.Uniform("rho", -1.0, 1.0)
    cov = pt.stack([pt.stack([1.0, rho]), pt.stack([rho, 1.0])]) * sigma**2
    Y = data.y[:, None] + data.rng.normal(size=(10, 2))
    b = pm.Normal("b", 1.0, 2.0, shape=2)
    v = pm.MvNormal("v", b, chol=lkj("chol", 2), shape=(3, 2))
    u = pm.Normal("u", 0.0, tau, shape=10)
    pm.MvNormal("y", v[group] + u[:, None] * np.array([1.0, 0.5]), cov=cov, observed=Y)
    pm.Normal("z", u[person], 0.7, observed=other.y)


@canonical("b", "u", tags=("correlated rows",))
def known_covariances() -> None:
    # Multivariate meta-analysis: a covariance of errors per study.
    data = Rows(n=9)
    area = data.index(3)
    (tau,) = scales("tau")
    roots = data.rng.normal(size=(9, 2, 2))
    V = roots @ roots.transpose(0, 2, 1) + 0.5 * np.eye(2)
    Y = data.y[:, None] + data.rng.normal(size=(9, 2))
    b = pm.Normal("b", 0.0, 5.0, shape=2)
    u = pm.Normal("u", 0.0, tau, shape=(3, 2))
    pm.MvNormal("y", b + u[area], cov=V, observed=Y)


@canonical("b", "u", tags=("correlated rows",))
def scaled_covariance() -> None:
    # A phylogeny, a pedigree: one covariance of all rows but for its scale.
    data = Rows(n=16)
    g, X = data.index(4), data.design(2)
    sigma, tau = scales("sigma", "tau")
    gamma = pm.StudentT("gamma", nu=4.0)
    b = pm.Normal("b", 0.0, 2.0, shape=2)
    u = pm.Normal("u", 0.0, tau, shape=4)
    mu = pt.dot(X, b) + gamma * data.x**2 + u[g]
    pm.MvNormal("y", mu, cov=sigma**2 * decay(16, 3.0), observed=data.y)


@canonical("b", "u", tags=("correlated rows", "several responses"))
def gaussian_process_errors() -> None:
    data, other = Rows(n=15), Rows(n=12, seed=1)
    g, h = data.index(4), other.index(4)
    eta, sigma, length, tau = scales("eta", "sigma", "length", "tau")
    gap = np.abs(np.subtract.outer(np.arange(15.0), np.arange(15.0)))
    cov = eta**2 * pt.exp(-gap * length) + sigma**2 * np.eye(15)
    b = pm.Normal("b", 0.0, 2.0, shape=2)
    u = pm.Normal("u", 0.0, tau, shape=4)
    pm.MvNormal("y", pt.dot(data.design(2), b) + u[g], cov=cov, observed=data.y)
    pm.Normal("z", u[h], sigma, observed=other.y)


@canonical("b", "u", tags=("correlated rows",))
def few_long_series() -> None:
    # Two series, with a covariance each; coefficients in rows are sampled.
    data = Rows(n=12)
    tau, lam = scales("tau", "lam")
    sigma = pm.HalfNormal("sigma", 1.0, shape=2)
    x = data.x.reshape(2, 6)
    b = pm.Normal("b", 0.0, 2.0)
    u = pm.Normal("u", 0.0, tau, shape=2)
    pm.MvNormal(
        "y",
        b * pt.exp(-lam * x) + u[:, None],
        cov=sigma[:, None, None] ** 2 * decay(6, 2.0) + 0.1 * np.eye(6),
        observed=data.y.reshape(2, 6),
    )
