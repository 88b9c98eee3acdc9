"""Data drawn from a marginal model: from the prior, or not at all.

Given the posterior, data come from the plain model and the recovered draws.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from pymc.model.fgraph import clone_model
from pytensor.compile.mode import Mode

import pymc_marginal_lmm as mlmm
from tests.helpers import BACKENDS, models_of
from tests.models import MODELS, CanonicalModel

FAST = {"mode": "FAST_COMPILE"}
rng = np.random.default_rng(0)
n = 60
G, X = np.repeat(np.arange(12), 5), rng.normal(size=n)
Y = 3 + X + 2 * rng.normal(size=12)[G] + 0.3 * rng.normal(size=n)
TAU, SIGMA = 2.0, 0.3


def build() -> pm.Model:
    with pm.Model(coords={"level": range(12)}) as model:
        x = pm.Data("x", X)
        alpha, beta = pm.Normal("alpha", 0, 10), pm.Normal("beta", 0, 10)
        u = pm.Normal("u", 0, pm.HalfNormal("tau"), dims="level")
        mu = pm.Deterministic("mu", alpha + beta * x + u[G])
        pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=Y)
    return model


@pytest.fixture(scope="module")
def marginal() -> pm.Model:
    return mlmm.marginalize(build())


def draws(n_draws: int = 5) -> xr.DataTree:
    values = {"tau": TAU, "sigma": SIGMA}
    dataset = xr.Dataset(
        {k: (("chain", "draw"), np.full((2, n_draws), v)) for k, v in values.items()}
    )
    return xr.DataTree.from_dict({"posterior": dataset})


@pytest.fixture(scope="module")
def recovered(marginal: pm.Model) -> xr.DataTree:
    return mlmm.recover(draws(400), model=marginal, random_seed=1, progressbar=False)


def predict(model: pm.Model, idata: xr.DataTree, **kwargs: object) -> xr.Dataset:
    kwargs = {"compile_kwargs": FAST, "progressbar": False, "random_seed": 2} | kwargs
    found = pm.sample_posterior_predictive(idata, model=model, **kwargs)
    return found["predictions" if kwargs.get("predictions") else "posterior_predictive"]


# --- Given the posterior ----------------------------------------------------------------------

REFUSED = pytest.raises(
    ValueError,
    match=r"cannot draw 'y' given .*it has integrated out 'alpha', 'beta', 'u', and would draw "
    r"them anew.*model=model\), where idata = recover\(.*unmarginalize\(marginal\)",
)

ASKED: dict[str, dict[str, object]] = {
    "as it comes": {},
    "by name": {"var_names": ["y", "tau"]},
    "predictions": {"predictions": True},
    "a scale drawn anew": {"sample_vars": ["tau"], "var_names": ["y"]},
    "not optimized": {"compile_kwargs": {"mode": Mode(linker="py", optimizer=None)}},
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
def test_posterior_predictive_is_refused(
    marginal: pm.Model, recovered: xr.DataTree, asked: dict[str, object]
) -> None:
    """Whether effects were recovered or not: a marginal model has no place for them."""
    for idata in (recovered, draws()):
        with REFUSED:
            predict(marginal, idata, **asked)
    with marginal, REFUSED:
        pm.sample_posterior_predictive(draws(), **{"progressbar": False, "compile_kwargs": FAST})


@pytest.mark.parametrize("mode", BACKENDS)
def test_refusal_by_backend(marginal: pm.Model, mode: str) -> None:
    with REFUSED:
        predict(marginal, draws(), compile_kwargs={"mode": mode})


CHANGED: dict[str, Callable[[pm.Model], pm.Model]] = {
    "clone": clone_model,
    "do": lambda model: pm.do(model, {"tau": np.array(1.0)}),
    "do data": lambda model: pm.do(model, {"x": np.ones(n)}),
    "conditional": mlmm.conditional,
}


@pytest.mark.parametrize("change", CHANGED.values(), ids=CHANGED.keys())
def test_refusal_by_models_made_of_a_marginal_one(marginal: pm.Model, change: Callable) -> None:
    with REFUSED:
        predict(change(marginal), draws())


def test_refusal_with_other_data() -> None:
    marginal = mlmm.marginalize(build())
    with marginal:
        pm.set_data({"x": X + 1})
    with REFUSED:
        predict(marginal, draws(), predictions=True)


def test_refusal_with_some_effects_recovered(marginal: pm.Model) -> None:
    idata = mlmm.recover(draws(), model=marginal, var_names="u", progressbar=False)
    with REFUSED:
        predict(marginal, idata)


@pytest.mark.parametrize("canonical", MODELS, ids=str)
def test_every_model_refuses_or_says_so(canonical: CanonicalModel) -> None:
    marginal = models_of(canonical).marginal
    responses = [rv for rv in marginal.observed_RVs if "Marginal" in str(rv.owner.op)]
    with pytest.raises(ValueError, match="would draw them anew"):
        pytensor.function(marginal.free_RVs, responses, on_unused_input="ignore", **FAST)


def test_what_is_not_data_is_drawn(marginal: pm.Model, recovered: xr.DataTree) -> None:
    """Parameters are copied; the effects' conditional distribution is to be sampled."""
    assert_allclose(predict(marginal, recovered, var_names=["tau"])["tau"], TAU)
    full = mlmm.conditional(marginal)
    u = predict(full, draws(300), sample_vars=["u"])["u"]
    means = (draws.mean(["chain", "draw"]) for draws in (u, recovered["posterior"]["u"]))
    assert_allclose(*means, atol=0.3)


# --- The way out ------------------------------------------------------------------------------


@pytest.mark.parametrize("restore", [lambda marginal: build(), mlmm.unmarginalize])
def test_the_way_out_replicates_the_data(
    marginal: pm.Model, recovered: xr.DataTree, restore: Callable
) -> None:
    """Given the recovered effects: residual sd, and nothing left of them in the residuals."""
    y = predict(restore(marginal), recovered)["y"].values
    mu = recovered["posterior"]["mu"].values
    z = (y - mu) / SIGMA
    assert abs(z.mean()) < 4.5 / np.sqrt(z.size)
    assert_allclose(z.std(), 1.0, atol=4.5 / np.sqrt(2 * z.size))
    by_level = np.stack([z[..., level == G].mean(-1) for level in range(12)], -1)
    assert_allclose(by_level.var() * 5, 1.0, atol=4.5 * np.sqrt(2 / by_level.size))
    assert min(np.corrcoef(Y, y.reshape(-1, n))[0, 1:]) > 0.9


def test_the_way_out_for_new_groups(marginal: pm.Model, recovered: xr.DataTree) -> None:
    """Effects that are drawn anew have the prior's variance; coefficients keep their draws."""
    posterior = recovered["posterior"]
    y = predict(mlmm.unmarginalize(marginal), recovered, sample_vars=["u", "y"])["y"].values
    fixed = posterior["alpha"].values[..., None] + posterior["beta"].values[..., None] * X
    variance = (y - fixed).reshape(-1, 12, 5)[:, :, 0].var()
    assert_allclose(variance, TAU**2 + SIGMA**2, rtol=4.5 * np.sqrt(2 / (800 * 12)))


# --- From the prior ---------------------------------------------------------------------------


def test_sampling_from_the_prior_is_silent(marginal: pm.Model) -> None:
    """And from parameters that were fixed: warnings are errors here."""
    prior = pm.sample_prior_predictive(3, model=marginal, compile_kwargs=FAST)
    assert prior["prior_predictive"]["y"].shape == (1, 3, n)
    assert pm.draw(marginal["y"], 2, **FAST).shape == (2, n)
    anew = predict(marginal, draws(), sample_vars=["tau", "sigma"], var_names=["y"])
    assert anew["y"].shape == (2, 5, n)
    fixed = pm.do(marginal, {"tau": np.array(1e-9), "sigma": np.array(1e-9)})
    y = pm.draw(fixed["y"], 200, random_seed=1, **FAST)
    residual = y - np.stack([np.polynomial.Polynomial.fit(X, row, 1)(X) for row in y])
    assert abs(residual).max() < 1e-6
    assert_allclose(y.std(), np.sqrt(100 * (1 + np.mean(X**2))), rtol=0.25)


def test_without_parameters_it_is_said() -> None:
    """Nobody can tell then whether there is a posterior."""
    with pm.Model() as model:
        pm.Normal("y", pm.Normal("u", 0, 2, shape=12)[G], 1.0, observed=Y)
    marginal = mlmm.marginalize(model)
    idata = mlmm.sample(model, draws=10, chains=1, progressbar=False)
    with pytest.warns(UserWarning, match="'y': drawn with 'u' from their priors, since"):
        predict(marginal, idata)
