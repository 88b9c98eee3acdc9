"""Models that are integrated out in part."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from tests.models.registry import Rows, canonical, scales


@canonical("alpha", "u", tags=("partial",))
def effect_in_sigma_too() -> None:
    # A Normal variable in sigma stays sampled; it is a parameter for the others.
    data = Rows(n=40)
    g = data.index(5)
    sigma, tau, omega = scales("sigma", "tau", "omega")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    u = pm.Normal("u", 0.0, tau, shape=5)
    v = pm.Normal("v", 0.0, omega, shape=5)
    pm.Normal("y", alpha + u[g], sigma * pt.exp(v[g]), observed=data.y)


@canonical("alpha", "u", "w", tags=("crossed", "partial"))
def sigma_by_cell() -> None:
    # Location and scale by subject and condition: 24 sigmas for 72 rows.
    data = Rows(n=72)
    subject, item = np.tile(np.arange(12), 6), data.index(5)
    condition = np.where(np.arange(72) % 24 < 12, -1.0, 1.0)
    tau, omega = scales("tau", "omega")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    u = pm.Normal("u", 0.0, tau, shape=(12, 2))
    w = pm.Normal("w", 0.0, 0.7, shape=5)
    s = pm.StudentT("s", nu=4, sigma=omega, shape=12)
    mu = alpha + u[subject, 0] + condition * u[subject, 1] + w[item]
    slope = pm.StudentT("slope", nu=4)
    pm.Normal("y", mu, pt.exp(s[subject] + slope * condition), observed=data.y)


@canonical("u", tags=("crossed", "partial"))
def robust_second_factor() -> None:
    data = Rows(n=40)
    g, h = data.index(6), data.index(4)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.StudentT("v", nu=4, mu=0.0, sigma=tau_v, shape=4)
    pm.Normal("y", u[g] + v[h], sigma, observed=data.y)


@canonical("u", tags=("partial",))
def nonlinear_coefficient() -> None:
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    log_rate = pm.Normal("log_rate", 0.0, 0.5)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.Normal("y", u[g] * pt.exp(-pt.exp(log_rate) * data.x**2), sigma, observed=data.y)
