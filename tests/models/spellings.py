"""Data, Deterministics, and other ways to write a model."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from tests.models.registry import Rows, canonical, scales

# --- Data, Deterministics, spellings --------------------------------------------------------------


@canonical("alpha", "beta", "u", "v", tags=("data",))
def data_predictors() -> None:
    data = Rows()
    g = data.index(5)
    x = pm.Data("x", data.x)
    y = pm.Data("y_observed", data.y)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    alpha, beta = pm.Normal("alpha", 0.0, 5.0), pm.Normal("beta", 0.0, 2.0)
    u = pm.Normal("u", 0.0, tau_u, shape=5)
    v = pm.Normal("v", 0.0, tau_v, shape=5)
    pm.Normal("y", alpha + beta * x + u[g] + v[g] * x, sigma, observed=y)


@canonical("u", tags=("data", "deterministics"))
def data_indices() -> None:
    data = Rows()
    codes = data.index(5)
    model = pm.modelcontext(None)
    model.add_coords({"group": list("abcde"), "row": np.arange(data.n)})
    g = pm.Data("g", codes, dims="row")
    x = pm.Data("x", data.x, dims="row")
    sigma, tau = scales("sigma", "tau")
    beta = pm.Laplace("beta", 0.0, 1.0)
    u = pm.Normal("u", 0.0, tau, dims="group")
    mu = pm.Deterministic("mu", beta * x + u[g], dims="row")
    pm.Normal("y", mu, sigma, observed=data.y, dims="row")


@canonical("u", "alpha", tags=("deterministics",))
def dependent_deterministics() -> None:
    data = Rows()
    g = data.index(5)
    model = pm.modelcontext(None)
    model.add_coord("group", list("abcde"))
    sigma, tau = scales("sigma", "tau")
    u = pm.Normal("u", 0.0, tau, dims="group")
    alpha = pm.Normal("alpha", 0.0, 5.0)
    intercept = pm.Deterministic("intercept", alpha + u, dims="group")
    pm.Deterministic("contrast", intercept[1] - intercept[0])
    pm.Deterministic("odds", pt.exp(u), dims="group")
    pm.Deterministic("ratio", tau**2 / (tau**2 + sigma**2))
    pm.Normal("y", intercept[g], sigma, observed=data.y)


@canonical("b")
def written_into_zeros() -> None:
    # A reference level of zero.
    data = Rows()
    g = data.index(4)
    sigma, tau = scales("sigma", "tau")
    b = pm.Normal("b", 0.0, tau, shape=3)
    effect = pt.zeros(4)[1:].set(b)
    pm.Normal("y", effect[g], sigma, observed=data.y)


@canonical("b", "u")
def joined_with_zero() -> None:
    data = Rows(n=40)
    g, condition = data.index(6), data.index(4)
    sigma, tau_b, tau_u = scales("sigma", "tau_b", "tau_u")
    b = pm.Normal("b", 0.0, tau_b, shape=3)
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    effect = pt.concatenate([[0.0], b])
    pm.Normal("y", effect[condition] + u[g], sigma, observed=data.y)


@canonical("alpha", "b", "u")
def joined_halves() -> None:
    data = Rows()
    g = data.index(6)
    first, second = g[:12], g[12:]
    sigma, tau = scales("sigma", "tau")
    alpha, b = pm.Normal("alpha", 0.0, 5.0), pm.Normal("b", 0.0, 1.0)
    u = pm.Normal("u", 0.0, tau, shape=6)
    mu = pt.concatenate([alpha + u[first], alpha + b + 2.0 * u[second]])
    pm.Normal("y", mu, sigma, observed=data.y)


@canonical("u", "v")
def stacked() -> None:
    data = Rows(n=40)
    g, X = data.index(6), data.design(2)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    effects = pt.stack([u, v], axis=1)
    pm.Normal("y", (effects[g] * X).sum(axis=1), sigma, observed=data.y)


@canonical("u", "v")
def switched() -> None:
    # The effects of rows above zero are others than those below.
    data = Rows(n=40)
    g = data.index(6)
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    pm.Normal("y", pt.switch(data.x > 0, u[g], v[g]), sigma, observed=data.y)


@canonical("u")
def signs_and_quotients() -> None:
    data = Rows()
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    scale = pm.HalfNormal("scale", 1.0)
    u = pm.Normal("u", 0.3, tau, shape=5)
    pm.Normal("y", 2.0 - (-u[g] / (1.0 + scale) - 0.5) / 3.0, sigma, observed=data.y)


# --- As users write them, again -------------------------------------------------------------------


@canonical("u_0", "u_1", "u_2", "u_3", "u_4", "v_0", "v_1", "v_2", "v_3", "v_4")
def scalars_in_a_list() -> None:
    # Python loops; intercepts share a scale, slopes have their own.
    data = Rows(n=40)
    g = data.index(5)
    sigma, tau = scales("sigma", "tau")
    omega = pm.HalfNormal("omega", 1.0, shape=5)
    us = [pm.Normal(f"u_{i}", 0.5, tau) for i in range(5)]
    vs = [pm.Normal(f"v_{i}", 0.0, omega[i]) for i in range(5)]
    mu = pt.stack(us)[g] + pt.stack(vs)[g] * data.x
    pm.Normal("y", mu, sigma, observed=data.y)


@canonical("u_0", "u_1", "u_2")
def indicators_in_a_loop() -> None:
    data = Rows()
    g = data.index(3)
    sigma, tau = scales("sigma", "tau")
    mu = 1.0
    for i in range(3):
        mu = mu + pm.Normal(f"u_{i}", 0.0, tau) * (g == i)
    pm.Normal("y", mu, sigma, observed=data.y)


@canonical("z", tags=("hierarchical",))
def noncentred_by_level() -> None:
    # Each level has its own scale and a sampled mean.
    data = Rows()
    g = data.index(6)
    (sigma,) = scales("sigma")
    mu = pm.StudentT("mu", nu=4, mu=0.0, sigma=1.0)
    tau = pm.HalfNormal("tau", 1.0, shape=6)
    z = pm.Normal("z", 0.0, 1.0, shape=6)
    u = pm.Deterministic("u", mu + tau * z)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("z", tags=("correlated",))
def noncentred_stds() -> None:
    data = Rows(n=40)
    g, X = data.index(6), data.design(3)
    (sigma,) = scales("sigma")
    stds = pm.HalfNormal("stds", 1.0, shape=3)
    z = pm.Normal("z", 0.0, 1.0, shape=(6, 3))
    u = z * stds
    pm.Normal("y", (u[g] * X).sum(axis=1), sigma, observed=data.y)


@canonical("z_0", "z_1", tags=("correlated",))
def noncentred_cholesky_by_hand() -> None:
    data = Rows(n=40)
    g = data.index(6)
    sigma, tau_0, tau_1 = scales("sigma", "tau_0", "tau_1")
    rho = pm.Uniform("rho", -1.0, 1.0)
    z_0 = pm.Normal("z_0", 0.0, 1.0, shape=6)
    z_1 = pm.Normal("z_1", 0.0, 1.0, shape=6)
    u = tau_0 * z_0
    v = tau_1 * (rho * z_0 + pt.sqrt(1.0 - rho**2) * z_1)
    pm.Normal("y", u[g] + v[g] * data.x, sigma, observed=data.y)


@canonical("u", tags=("hierarchical",))
def sampled_group_level_predictor() -> None:
    data = Rows()
    g = data.index(6)
    W = np.column_stack([np.ones(6), np.linspace(-1.0, 1.0, 6)])
    sigma, tau = scales("sigma", "tau")
    gamma = pm.Laplace("gamma", 0.0, 1.0, shape=2)
    u = pm.Normal("u", W @ gamma, tau)
    pm.Normal("y", u[g], sigma, observed=data.y)


@canonical("u")
def weighted_membership() -> None:
    data = Rows(n=40)
    first, second = data.index(6), data.index(6)
    weight = data.rng.uniform(size=40).round(2)
    sigma, tau, lam = scales("sigma", "tau", "lam")
    u = pm.Normal("u", 0.0, tau, shape=6)
    mu = lam * (weight * u[first] + (1 - weight) * u[second])
    pm.Normal("y", mu + 0.3 * data.x, sigma, observed=data.y)


@canonical("u", "v", tags=("several responses",))
def two_responses_with_loadings() -> None:
    # A shared factor with a free loading, and a sigma that both share.
    data = Rows(n=40)
    g = data.index(6)
    y = data.y
    sigma, tau_u, tau_v = scales("sigma", "tau_u", "tau_v")
    lam = pm.Normal("lam", 1.0, 0.5)
    u = pm.Normal("u", 0.0, tau_u, shape=6)
    v = pm.Normal("v", 0.0, tau_v, shape=6)
    pm.Normal("y_1", u[g[:20]], sigma, observed=y[:20])
    pm.Normal("y_2", lam * u[g[20:]] + v[g[20:]] + 0.2, sigma, observed=y[20:])


@canonical("beta", "u", "item", tags=("crossed",))
def fibrosis_like() -> None:
    # The slope's own loading by item: a factor whose design has more columns than effects.
    data = Rows(n=48)
    person, item = data.index(6), data.index(3)
    sigma, tau, kappa = scales("sigma", "tau", "kappa")
    lam = pm.HalfNormal("lam", 1.0, shape=3)
    beta = pm.Normal("beta", 0.0, 2.0)
    u = pm.Normal("u", 0.0, tau, shape=6)
    items = pm.Normal("item", 0.0, kappa, shape=3)
    mu = beta * data.x + pt.exp(0.5 * lam)[item] * u[person] + items[item]
    pm.Normal("y", mu, sigma, observed=data.y)


@canonical("b", "u", tags=("data",))
def precisions_and_centred_data() -> None:
    # Scalars divided by scalars: precisions as BUGS users write them, and a mean of data.
    data = Rows()
    g, x = data.index(5), pm.Data("x", data.x)
    precision, of_u = pm.Gamma("precision", 2.0, 1.0), pm.Gamma("precision_u", 2.0, 1.0)
    b = pm.Normal("b", 0.0, 2.0)
    u = pm.Normal("u", 0.0, 1.0 / pt.sqrt(of_u), shape=5)
    mu = b * (x - x.mean()) + (of_u / precision) * u[g]
    pm.Normal("y", mu, 1.0 / pt.sqrt(precision), observed=data.y)
