"""Models with one grouping factor."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from tests.models.registry import Rows, canonical, lkj, scales

# --- One factor, one effect per level -----------------------------------------------------------


@canonical("alpha", "u")
def random_intercept() -> None:
    data = Rows()
    g = data.index(6)
    sigma, tau = scales("sigma", "tau")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y", alpha + u[g], sigma, observed=data.y)


@canonical("theta")
def eight_schools() -> None:
    # One row per level without any index, known standard errors, a mean that stays sampled.
    effect = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    error = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    mu = pm.StudentT("mu", nu=4, mu=0.0, sigma=5.0)
    tau = pm.HalfCauchy("tau", 5.0)
    theta = pm.Normal("theta", mu, tau, shape=8)
    pm.Normal("y", theta, error, observed=effect)


@canonical("u")
def sampled_fixed_effects() -> None:
    # The offset is not Normal: it depends on parameters, not linearly, and stays.
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    alpha = pm.StudentT("alpha", nu=3, mu=0.0, sigma=2.0)
    rate = pm.HalfNormal("rate", 1.0)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.Normal("y", alpha + pt.exp(-rate * data.x) + u[g], sigma, observed=data.y)


@canonical("u")
def constant_mean() -> None:
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 1.5, tau, shape=5)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("u")
def mean_and_scale_by_level() -> None:
    data = Rows()
    g = data.index(6)
    kind = np.array([0, 0, 1, 1, 2, 2])
    (sigma,) = scales("sigma")
    tau = pm.HalfNormal("tau", 1.0, shape=3)
    u = pm.Normal("u", np.linspace(-1.0, 1.0, 6), tau[kind])
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("u", tags=("no data",))
def empty_levels() -> None:
    data = Rows()
    g = np.array([1, 2, 5])[data.index(3)]
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.5, tau, shape=8)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("u")
def integer_data() -> None:
    data = Rows()
    g, days = data.index(5), np.arange(data.n) % 4
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0, tau, shape=5)
    pm.Normal("y", u[g] * days, sigma, observed=np.round(10 * data.y).astype(int))


@canonical("alpha", "u")
def initial_values() -> None:
    data = Rows()
    g = data.index(4)
    sigma = pm.HalfNormal("sigma", 1.0, initval=0.7)
    tau = pm.HalfNormal("tau", 1.0)
    alpha = pm.Normal("alpha", 0.0, 2.0, initval=0.3)
    u = pm.Normal("u", 0.0, tau, shape=4, initval=np.full(4, 0.1))
    pm.Normal("y", alpha + u[g], sigma, observed=data.y)


# --- One factor, several effects per level ------------------------------------------------------


@canonical("alpha", "beta", "u", "v")
def independent_slopes() -> None:
    data = Rows(n=40)
    g = data.index(6)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    alpha, beta = pm.Normal("alpha", 0.0, 5.0), pm.Normal("beta", 0.0, 2.0)
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    pm.Normal("y", alpha + u[g] + (beta + v[g]) * data.x, sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def correlated_slopes() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    u = pm.MvNormal("u", np.zeros(2), chol=lkj("chol", 2), shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("beta", "u", tags=("correlated", "hierarchical"))
def correlated_slopes_around_coefficients() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    beta = pm.Normal("beta", [1.0, 0.0], [5.0, 2.0])
    u = pm.MvNormal("u", beta, chol=lkj("chol", 2), shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def correlated_three() -> None:
    data = Rows(n=50)
    g, X = data.index(5), data.design(3)
    (sigma,) = scales("sigma")
    u = pm.MvNormal("u", np.zeros(3), chol=lkj("chol", 3), shape=(5, 3))
    pm.Normal("y", (u[g] * X).sum(-1), sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def constant_covariance_five() -> None:
    data = Rows(n=60)
    g, X = data.index(4), data.design(5)
    root = data.rng.normal(size=(5, 5))
    (sigma,) = scales("sigma")
    u = pm.MvNormal("u", np.zeros(5), cov=root @ root.T + np.eye(5), shape=(4, 5))
    pm.Normal("y", pt.sum(u[g] * X, axis=1), sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def computed_covariance() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    sd = pm.HalfNormal("sd", 1.0, shape=2)
    rho = pm.Uniform("rho", -1.0, 1.0)
    correlation = pt.stack([pt.stack([1.0, rho]), pt.stack([rho, 1.0])])
    u = pm.MvNormal("u", np.zeros(2), cov=sd[:, None] * correlation * sd, shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def precision_matrix() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    precision = pm.HalfNormal("precision", 2.0, shape=2)
    tau = pt.diag(precision) + 0.3
    u = pm.MvNormal("u", np.zeros(2), tau=tau, shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def covariance_by_level() -> None:
    data = Rows(n=40)
    g = data.index(6)
    kind = np.array([0, 0, 0, 1, 1, 1])
    (sigma,) = scales("sigma")
    tau = pm.HalfNormal("tau", 1.0, shape=2)
    chol = tau[kind][:, None, None] * np.array([[1.0, 0.0], [0.4, 0.8]])
    u = pm.MvNormal("u", np.zeros(2), chol=chol, shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u", tags=("correlated",))
def means_by_level() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    means = data.rng.normal(size=(6, 2))
    u = pm.MvNormal("u", means, chol=lkj("chol", 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("f", tags=("correlated",))
def gaussian_process() -> None:
    # A single block: one level with as many effects as there are times.
    data = Rows()
    time = data.index(6)
    distance = np.subtract.outer(np.arange(6.0), np.arange(6.0))
    sigma, tau = scales("sigma", "tau")
    length = pm.Gamma("length", 5.0, 2.0)
    cov = tau**2 * pt.exp(-0.5 * (distance / length) ** 2) + 1e-3 * np.eye(6)
    f = pm.MvNormal("f", np.zeros(6), cov=cov)
    pm.Normal("y", f[time], sigma, observed=data.y)


@canonical("u", tags=("correlated", "no data"))
def correlated_empty_levels() -> None:
    data = Rows(n=40)
    g = np.array([0, 3, 4])[data.index(3)]
    (sigma,) = scales("sigma")
    u = pm.MvNormal("u", [0.5, -0.5], chol=lkj("chol", 2), shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u")
def matrix_of_effects() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    tau = pm.HalfNormal("tau", 1.0, shape=2)
    u = pm.Normal("u", 0.0, tau, shape=(6, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u")
def column_before_level() -> None:
    data = Rows(n=40)
    g = data.index(6)
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.0, tau, shape=(6, 2))
    pm.Normal("y", u[:, 0][g] + u[:, 1][g] * data.x, sigma, observed=data.y)


@canonical("u")
def columns_in_rows() -> None:
    # The transposed layout: effects first, levels second.
    data = Rows(n=40)
    g, X = data.index(6), data.design(2)
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.0, tau, shape=(2, 6))
    pm.Normal("y", (u.T[g] * X).sum(axis=-1), sigma, observed=data.y)


@canonical("u")
def design_matrix() -> None:
    data = Rows(n=40)
    g, X = data.index(5), data.design(3)
    (sigma,) = scales("sigma")
    tau = pm.HalfNormal("tau", 1.0, shape=3)
    u = pm.Normal("u", 0.0, tau, shape=(5, 3))
    pm.Normal("y", (u[g] * X).sum(-1), sigma, observed=data.y)


@canonical("u")
def two_indices() -> None:
    data = Rows(n=48)
    g, condition = data.index(6), data.index(3)
    (sigma,) = scales("sigma")
    tau = pm.HalfNormal("tau", 1.0, shape=3)
    u = pm.Normal("u", 0.0, tau, shape=(6, 3))
    pm.Normal("y", u[g, condition], sigma, observed=data.y)


@canonical("u")
def three_indices() -> None:
    data = Rows(n=48)
    g, condition, side = data.index(4), data.index(3), data.index(2)
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.0, tau, shape=(4, 3, 2))
    pm.Normal("y", u[g, condition, side], sigma, observed=data.y)


@canonical("u")
def effect_twice() -> None:
    data = Rows()
    g = data.index(6)
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.0, tau, shape=6)
    pm.Normal("y", u[g] + u[g] * data.x, sigma, observed=data.y)


@canonical("beta", "subject", tags=("correlated", "hierarchical"))
def dims_and_coords() -> None:
    data = Rows(n=40)
    g, X = data.index(6), data.design(2)
    model = pm.modelcontext(None)
    model.add_coords({"subject_id": list("abcdef"), "term": ["intercept", "slope"]})
    model.add_coord("row", np.arange(100, 140))
    (sigma,) = scales("sigma")
    beta = pm.Normal("beta", 0.0, 3.0, dims="term")
    subject = pm.MvNormal("subject", np.zeros(2), chol=lkj("chol", 2), dims=("subject_id", "term"))
    mu = pm.Deterministic("mu", X @ beta + (subject[g] * X).sum(-1), dims="row")
    pm.Normal("y", mu, sigma, observed=data.y, dims="row")
