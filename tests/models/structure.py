"""Means and scales with structure, fixed effects, effects that sum to zero."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from tests.models.registry import Rows, canonical, lkj, scales

# --- Means and scales with structure ------------------------------------------------------------


@canonical("mu", "u", tags=("hierarchical",))
def hierarchical_mean() -> None:
    data = Rows()
    g = data.index(6)
    sigma, tau = scales("sigma", "tau")
    mu = pm.Normal("mu", 1.0, 2.0)
    u = pm.Normal("u", mu, tau, shape=6)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("gamma", "u", tags=("hierarchical",))
def group_level_predictor() -> None:
    data = Rows()
    g, size = data.index(6), np.linspace(-1.0, 1.0, 6)
    sigma, tau = scales("sigma", "tau")
    gamma = pm.Normal("gamma", 0.0, 2.0, shape=2)
    u = pm.Normal("u", gamma[0] + gamma[1] * size, tau)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("school", "student", tags=("hierarchical", "nested"))
def hierarchical_mean_by_index() -> None:
    data = Rows(n=40)
    student_of = data.index(8)
    school_of = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    sigma, tau_school, tau_student = scales("sigma", "tau_school", "tau_student")
    school = pm.Normal("school", 1.0, tau_school, shape=3)
    student = pm.Normal("student", school[school_of], tau_student)
    pm.Normal("y", student[student_of], sigma, observed=data.y)


@canonical("z", tags=("deterministics",))
def noncentred() -> None:
    data = Rows()
    g = data.index(6)
    sigma, tau = scales("sigma", "tau")
    z = pm.Normal("z", 0.0, 1.0, shape=6)
    u = pm.Deterministic("u", tau * z)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("z")
def noncentred_after_indexing() -> None:
    data = Rows()
    g = data.index(6)
    sigma, tau = scales("sigma", "tau")
    z = pm.Normal("z", 0.0, 1.0, shape=6)
    pm.Normal("y", tau * z[g], sigma, observed=data.y)


@canonical("z", tags=("correlated", "deterministics"))
def noncentred_correlated() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    z = pm.Normal("z", 0.0, 1.0, shape=(6, 2))
    u = pm.Deterministic("u", z @ lkj("chol", 2).T)
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("z", tags=("correlated", "deterministics"))
def noncentred_correlated_columns() -> None:
    data = Rows(n=40)
    g = data.index(6)
    (sigma,) = scales("sigma")
    z = pm.Normal("z", 0.0, 1.0, shape=(2, 6))
    u = pm.Deterministic("u", pt.dot(lkj("chol", 2), z).T)
    pm.Normal("y", u[g, 0] + u[g, 1] * data.x, sigma, observed=data.y)


@canonical("u")
def loadings() -> None:
    data = Rows(n=40)
    person, item = data.index(6), data.index(4)
    (sigma,) = scales("sigma")
    lam = pm.HalfNormal("lam", 1.0, shape=4)
    u = pm.Normal("u", 0.0, 1.0, shape=6)
    pm.Normal("y", lam[item] * u[person], sigma, observed=data.y)


# --- Fixed effects ------------------------------------------------------------------------------


@canonical("alpha", tags=("fixed only",))
def mean_only() -> None:
    data = Rows()
    (sigma,) = scales("sigma")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    pm.Normal("y", alpha, sigma, observed=data.y)


@canonical("alpha", "beta", tags=("fixed only",))
def straight_line() -> None:
    data = Rows()
    (sigma,) = scales("sigma")
    alpha, beta = pm.Normal("alpha", 0.0, 5.0), pm.Normal("beta", 0.0, 2.0)
    pm.Normal("y", alpha + beta * data.x, sigma, observed=data.y)


@canonical("beta", tags=("fixed only",))
def ridge() -> None:
    # The penalty is sampled.
    data = Rows()
    X = data.design(6)
    sigma, tau = scales("sigma", "tau")
    beta = pm.Normal("beta", 0.0, tau, shape=6)
    pm.Normal("y", pt.dot(X, beta), sigma, observed=data.y)


@canonical("beta", "u")
def coefficients_and_intercepts() -> None:
    data = Rows()
    g, X = data.index(5), data.design(3)
    sigma, tau = scales("sigma", "tau")
    beta = pm.Normal("beta", 0.0, 3.0, shape=3)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.Normal("y", X @ beta + u[g], sigma, observed=data.y)


@canonical("beta", "u", flat=True)
def flat_coefficients() -> None:
    data = Rows()
    g, X = data.index(5), data.design(3)
    sigma, tau = scales("sigma", "tau")
    beta = pm.Flat("beta", shape=3)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.Normal("y", X @ beta + u[g], sigma, observed=data.y)


@canonical("alpha", "beta", "u", flat=True)
def flat_and_normal_coefficients() -> None:
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    alpha = pm.Flat("alpha")
    beta = pm.Normal("beta", 0.0, 1.0)
    u = pm.Normal("u", 0.0, tau, shape=5)
    pm.Normal("y", alpha + beta * data.x + u[g], sigma, observed=data.y)


@canonical("beta", flat=True, tags=("fixed only",))
def flat_only() -> None:
    data = Rows()
    X = data.design(3)
    (sigma,) = scales("sigma")
    beta = pm.Flat("beta", shape=3)
    pm.Normal("y", X @ beta, sigma, observed=data.y)


# --- Effects that sum to zero ---------------------------------------------------------------------


@canonical("alpha", "u", tags=("zero sum",))
def zero_sum() -> None:
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    u = pm.ZeroSumNormal("u", tau, shape=5)
    pm.Normal("y", alpha + u[g], sigma, observed=data.y)


@canonical("u", "v", "w", tags=("zero sum", "crossed"))
def zero_sum_interaction() -> None:
    # Rows by columns, by group; and one factor that does not sum to zero.
    data = Rows(n=48)
    g, h, k = data.index(3), data.index(4), data.index(2)
    sigma, tau, omega = scales("sigma", "tau", "omega")
    kappa = pm.HalfNormal("kappa", 1.0, shape=2)
    u = pm.ZeroSumNormal("u", tau, shape=(3, 4), n_zerosum_axes=2)
    v = pm.ZeroSumNormal("v", kappa[:, None], shape=(2, 4))
    w = pm.Normal("w", 0.0, omega, shape=6)
    pm.Normal("y", u[g, h] + v[k, h] + w[data.index(6)], sigma, observed=data.y)
