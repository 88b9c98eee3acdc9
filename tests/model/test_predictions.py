"""Predictions: the original model on recovered draws, for known and for new groups."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from numpy.testing import assert_allclose

import pymc_marginal_lmm as mlmm
from tests.helpers import posterior_of_effects, unfolded

FAST = {"mode": "FAST_COMPILE"}
rng = np.random.default_rng(0)
n = 20
G, X = np.repeat(np.arange(4), 5), rng.normal(size=n)
Y = rng.normal(size=n) + G
TAU, SIGMA = 0.8, 0.5
CHOL = np.array([[0.5, 0.0], [0.3, 0.4]])


def build(levels: str = "abcd") -> pm.Model:
    coords = {"level": list(levels), "effect": ["one", "x"], "row": range(n)}
    with pm.Model(coords=coords) as model:
        g, x = pm.Data("g", G, dims="row"), pm.Data("x", X, dims="row")
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), dims="level")
        w = pm.MvNormal("w", np.zeros(2), chol=CHOL, dims=("level", "effect"))
        mu = pm.Normal("alpha", 0, 2) + u[g] + w[g, 0] + w[g, 1] * x
        pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=Y, dims="row")
    return model


def draws(n_draws: int) -> xr.DataTree:
    """Posterior draws at one point."""
    values = {"tau": TAU, "sigma": SIGMA}
    dataset = xr.Dataset(
        {k: (("chain", "draw"), np.full((2, n_draws), v)) for k, v in values.items()},
        coords={"chain": [0, 1], "draw": range(n_draws)},
    )
    return xr.DataTree.from_dict({"posterior": dataset})


def predict(model: pm.Model, idata: xr.DataTree, g: list[int], x: list[float]) -> np.ndarray:
    """Predict with next to no residual noise: predictions are the means of their draws."""
    idata = idata.copy()
    posterior = idata["posterior"].to_dataset()
    idata["posterior"] = posterior.assign(sigma=1e-9 * posterior["sigma"])
    with model:
        pm.set_data({"g": g, "x": x}, coords={"row": range(len(g))})
        found = pm.sample_posterior_predictive(
            idata, predictions=True, random_seed=1, progressbar=False, compile_kwargs=FAST
        )
    return found["predictions"]["y"].values


def means(posterior: xr.Dataset, g: list[int], x: list[float]) -> np.ndarray:
    u, w = posterior["u"].values, posterior["w"].values
    return posterior["alpha"].values[..., None] + u[..., g] + w[..., g, 0] + w[..., g, 1] * x


def enlarge(model: pm.Model, levels: str) -> pm.Model:
    with model:
        pm.set_data({"g": G, "x": X}, coords={"row": range(n)})
        model.set_dim("level", len(levels), coord_values=list(levels))
    return unfolded(model)


def test_known_groups() -> None:
    model = build()
    idata = mlmm.recover(draws(20), model=mlmm.marginalize(model), random_seed=1, progressbar=False)
    g, x = [3, 0, 0], [0.5, 0.0, 2.0]
    found = predict(model, idata, g, x)
    expected = means(idata["posterior"], g, x)
    assert_allclose(found, expected, atol=1e-7)
    assert expected.std(axis=(0, 1)).min() > 0.05  # what is compared are draws, not their mean


@pytest.fixture(scope="module")
def enlarged() -> tuple[pm.Model, pm.Model, xr.DataTree]:
    model = build()
    idata = mlmm.recover(
        draws(1500), model=mlmm.marginalize(model), random_seed=1, progressbar=False
    )
    assert idata["posterior"]["u"].shape == (2, 1500, 4)
    marginal = enlarge(model, "abcdef")
    return model, marginal, mlmm.recover(idata, model=marginal, random_seed=2, progressbar=False)


def test_new_groups(enlarged: tuple[pm.Model, pm.Model, xr.DataTree]) -> None:
    model, _, idata = enlarged
    g, x = [4, 4, 5, 3], [0.0, 1.0, 0.0, 0.5]
    found = predict(model, idata, g, x)
    assert_allclose(found, means(idata["posterior"], g, x), atol=1e-7)


def test_new_levels_follow_their_prior(enlarged: tuple[pm.Model, pm.Model, xr.DataTree]) -> None:
    """Variances tau² and Λ Λᵀ, nothing in common with known levels or with each other."""
    posterior = enlarged[2]["posterior"]
    assert list(posterior["level"].values) == list("abcdef")
    u, w = posterior["u"].values.reshape(3000, 6), posterior["w"].values.reshape(3000, 6, 2)
    new = np.column_stack(
        [u[:, 4:] / TAU, np.linalg.solve(CHOL, w[:, 4:, :, None])[..., 0].reshape(3000, 4)]
    )
    assert np.abs(new.mean(axis=0)).max() < 4.5 / np.sqrt(3000)
    everything = np.column_stack([new, u[:, :4], w[:, :4].reshape(3000, 8)])
    correlations = np.corrcoef(everything.T)[:6]
    expected = np.eye(6, correlations.shape[1])
    assert_allclose(correlations, expected, atol=5 / np.sqrt(3000))
    assert_allclose(new.std(axis=0), 1.0, atol=5 / np.sqrt(6000))


def test_known_levels_keep_their_posterior(
    enlarged: tuple[pm.Model, pm.Model, xr.DataTree],
) -> None:
    _, marginal, idata = enlarged
    plain = unfolded(build())
    point = {"tau_log__": np.log(TAU), "sigma_log__": np.log(SIGMA)}
    logp = [m.compile_logp(**FAST)(point) for m in (plain, marginal)]
    assert_allclose(logp[1], logp[0], rtol=1e-10)
    exact = posterior_of_effects(plain, {k: np.asarray(v) for k, v in point.items()})
    for name in ("u", "w"):
        mean, covariance = exact[name]
        sample = idata["posterior"][name].values.reshape(3000, 6, -1)[:, :4].reshape(3000, -1)
        z = (sample.mean(axis=0) - mean.ravel()) / np.sqrt(np.diag(covariance) / 3000)
        assert np.abs(z).max() < 4.5
        assert_allclose(sample.var(axis=0), np.diag(covariance), rtol=5 * np.sqrt(2 / 3000))


def test_levels_that_are_known_from_the_start() -> None:
    """They may be among the coords right away, which changes no density."""
    point = {"tau_log__": np.log(TAU), "sigma_log__": np.log(SIGMA)}
    logp = [unfolded(build(levels)).compile_logp(**FAST)(point) for levels in ("abcd", "abcdef")]
    assert_allclose(logp[1], logp[0], rtol=1e-10)


def test_draws_of_other_levels_are_not_mixed() -> None:
    """Merging by coords would leave new levels out without a word."""
    model = build()
    with model:
        pm.Deterministic("tau_by_level", model["tau"] * np.ones(4), dims="level")
    marginal = mlmm.marginalize(model)
    idata = mlmm.recover(draws(2), model=marginal, progressbar=False)
    kept = xr.DataArray(np.ones((2, 2, 4)), dims=("chain", "draw", "level"))
    idata["posterior"] = idata["posterior"].to_dataset().assign(tau_by_level=kept)
    larger = mlmm.marginalize(build("abcdef"))
    with pytest.raises(ValueError, match="has 'tau_by_level' with other coords of 'level'"):
        mlmm.recover(idata, model=larger, progressbar=False)
    only = mlmm.recover(idata, model=larger, progressbar=False, extend_inferencedata=False)
    assert only["u"].shape == (2, 2, 6)
