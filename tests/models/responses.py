"""Responses: families, several of them, sigmas, missing values."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from tests.models.registry import Rows, canonical, scales


@canonical("alpha", "u", tags=("lognormal",))
def lognormal() -> None:
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    alpha = pm.Normal("alpha", 0.0, 2.0)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.LogNormal("y", alpha + u[g], sigma, observed=np.exp(0.5 * data.y))


@canonical("u")
def sigma_by_stratum() -> None:
    data = Rows(n=40)
    g, grade = data.index(6), data.index(3)
    (tau,) = scales("tau")
    sigma = pm.HalfNormal("sigma", 1.0, shape=3)
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y", u[g], sigma[grade], observed=data.y)


@canonical("u", tags=("partial",))
def sigma_by_row() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (tau,) = scales("tau")
    gamma = pm.Normal("gamma", 0.0, 0.5, shape=2)
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y", u[g], pt.exp(gamma[0] + gamma[1] * data.x), observed=data.y)


@canonical("u")
def weights() -> None:
    data = Rows()
    g, count = data.index(6), 1 + np.arange(data.n) % 5
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y", u[g], sigma / np.sqrt(count), observed=data.y)


@canonical("u", "v", tags=("crossed",))
def table_response() -> None:
    # Subjects by times, without any index.
    data = Rows(n=24)
    times = np.linspace(-1.0, 1.0, 4)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    mu = u[:, None] + v[:, None] * times
    pm.Normal("y", mu, sigma, observed=data.y.reshape(6, 4))


@canonical("u", "v", tags=("crossed",))
def table_response_by_column() -> None:
    # Each column has its own sigma and its own effect.
    data = Rows(n=24)
    (tau,) = scales("tau")
    sigma = pm.HalfNormal("sigma", 1.0, shape=4)
    u = pm.Normal("u", 0.0, tau, shape=6)
    v = pm.Normal("v", 0.5, 2.0, shape=4)
    pm.Normal("y", u[:, None] + v, sigma, observed=data.y.reshape(6, 4))


@canonical("u", tags=("several responses",))
def two_likelihoods() -> None:
    first, second = Rows(), Rows(n=20, seed=1)
    g, h = first.index(6), second.index(6)
    sigma_1, sigma_2, tau = scales("sigma_1", "sigma_2", "tau")
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y_1", u[g], sigma_1, observed=first.y)
    pm.Normal("y_2", 0.5 * u[h], sigma_2, observed=second.y)


@canonical("u", "v", "w", tags=("several responses", "lognormal"))
def two_likelihoods_of_two_families() -> None:
    first, second = Rows(), Rows(n=20, seed=1)
    g, h = first.index(6), second.index(6)
    sigma_1, sigma_2, lam = scales("sigma_1", "sigma_2", "lam")
    tau_u, tau_v, tau_w = scales("tau_u", "tau_v", "tau_w")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    w = pm.Normal("w", 0.0, tau_w, shape=6)
    pm.Normal("y_1", u[g] + v[g], sigma_1, observed=first.y)
    pm.LogNormal("y_2", lam * u[h] + w[h], sigma_2, observed=np.exp(0.3 * second.y))


@canonical("u", tags=("several responses",))
def other_likelihoods() -> None:
    # What holds no effect stays as it is.
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    p = pm.Beta("p", 1.0, 1.0)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.Bernoulli("answer", p, observed=np.arange(10) % 3 == 0)
    pm.Normal("noise", 0.0, sigma, observed=np.linspace(-1.0, 1.0, 7))
    pm.Potential("penalty", -(sigma**2))
    pm.Normal("y", u[g], sigma, observed=data.y)
