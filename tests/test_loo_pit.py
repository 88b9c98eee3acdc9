"""LOO-PIT: against dense Normal distributions, a refit without a row, and uniformity."""

from __future__ import annotations

from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from scipy.stats import kstest, norm
from xarray import Dataset, DataTree

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.algebra.left_out import rows_given_others
from pymc_marginal_lmm.model.likelihoods import Likelihoods
from pymc_marginal_lmm.model.restore import marginal_ops
from tests.dense import joints
from tests.draws import draws_of
from tests.helpers import models_of
from tests.models import MODELS, CanonicalModel

rng = np.random.default_rng(8)
GROUP = np.repeat(np.arange(5), 4)
Y, Z = rng.normal(size=20), np.exp(rng.normal(size=(2, 5)))


def two_likelihoods() -> pm.Model:
    coords = {"group": list("abcde"), "row": range(20), "time": [1, 2]}
    with pm.Model(coords=coords) as model:
        tau, sigma = pm.HalfNormal("tau"), pm.HalfNormal("sigma")
        u = pm.Normal("u", 0.3, tau, dims="group")
        pm.Normal("y", u[GROUP], sigma, observed=Y, dims="row")
        pm.LogNormal("z", 2 * u[None, :], 0.7, observed=Z, dims=("time", "group"))
    return model


def conditional_z(tau: float, sigma: float) -> np.ndarray:
    """Return ``(y_i − m_i) / s_i`` of all rows, by the covariance of all others."""
    codes, times = np.r_[GROUP, np.tile(np.arange(5), 2)], np.r_[np.ones(20), np.full(10, 2.0)]
    V = tau**2 * np.outer(times, times) * np.equal.outer(codes, codes)
    V += np.diag(np.r_[np.full(20, sigma**2), np.full(10, 0.7**2)])
    r = np.r_[Y, np.log(Z).ravel()] - 0.3 * times
    found = np.empty(30)
    for i in range(30):
        others = np.arange(30) != i
        K = np.linalg.solve(V[np.ix_(others, others)], V[others, i])
        found[i] = (r[i] - K @ r[others]) / np.sqrt(V[i, i] - K @ V[others, i])
    return found


def test_dense_distributions() -> None:
    model, seeded = two_likelihoods(), np.random.default_rng(1)
    drawn = {name: seeded.uniform(0.5, 1.5, size=(2, 30)) for name in ("tau", "sigma")}
    posterior = Dataset({name: (("chain", "draw"), values) for name, values in drawn.items()})
    idata = DataTree.from_dict({"posterior": posterior})
    with pytest.warns(UserWarning, match="Pareto"):  # of 60 made-up draws
        found = mlmm.loo_pit(idata, model=model, progressbar=False)
    mlmm.compute_log_likelihood(idata, model=model, progressbar=False)
    z = np.stack([conditional_z(t, s) for t, s in zip(*map(np.ravel, drawn.values()), strict=True)])
    parts = {"y": z[:, :20].reshape(2, 30, 20), "z": z[:, 20:].reshape(2, 30, 2, 5)}
    assert [*found] == [*parts]
    for name, own in parts.items():
        with pytest.warns(UserWarning, match="Pareto"):
            loo = az.loo(idata, var_name=f"{name}_loo", pointwise=True)
        weights = np.exp(loo.log_weights.transpose("chain", "draw", ...).values)
        assert_allclose(found[name], (weights * norm.cdf(own)).sum((0, 1)), rtol=0, atol=1e-8)
    assert found["y"].dims == ("row",) and found["z"].dims == ("time", "group")
    assert found["group"].values.tolist() == list("abcde")


@pytest.mark.parametrize(
    "canonical",
    [
        model
        for model in MODELS
        if model.name
        in {"lognormal", "sigma_by_row", "correlated_outcomes_beside_another_response"}
    ],
    ids=str,
)
@pytest.mark.usefixtures("uncompiled")
def test_distances_of_canonical_models(canonical: CanonicalModel) -> None:
    _, marginal, _ = models_of(canonical)
    idata, points = draws_of(marginal, 1)
    (op,) = marginal_ops(marginal)
    (joint,) = joints(canonical)
    dense = joint.dense(points[0])
    given = Likelihoods.of(marginal, op, idata["posterior"].to_dataset())
    _, z = np.split(given.compiled(rows_given_others(given.mixed, given.ys))(given.points)[0], 2)
    assert_allclose(z, dense.e / np.sqrt(np.diag(dense.precision)), rtol=1e-8, atol=1e-8)


def simulated() -> tuple[np.ndarray, np.ndarray]:
    seeded = np.random.default_rng(11)
    group = np.repeat(np.arange(60), 5)
    return group, 1 + 0.8 * seeded.normal(size=60)[group] + seeded.normal(size=300)


def of_groups(group: np.ndarray, y: np.ndarray, sigma: Any = None) -> pm.Model:
    with pm.Model() as model:
        u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=60)
        sigma = pm.HalfNormal("sigma") if sigma is None else sigma
        pm.Normal("y", pm.Normal("a", 0, 2) + u[group], sigma, observed=y)
    return model


# Ratios that hardly differ have a tail too, and a k̂ of it.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
@pytest.mark.parametrize(("sigma", "lowest", "highest"), [(None, 0.05, 1), (2.5, 0, 1e-6)])
def test_uniform_if_the_model_is_right(sigma: Any, lowest: float, highest: float) -> None:
    """And not at all if it is wrong."""
    model = of_groups(*simulated(), sigma)
    idata = mlmm.fit(model, random_seed=1, progressbar=False)
    pit = mlmm.loo_pit(idata, model=model, progressbar=False)["y"]
    assert lowest < kstest(pit.values, "uniform").pvalue < highest


def test_refit_without_the_row() -> None:
    """The weights, too: from draws that have never seen the row."""
    group, y = simulated()
    i, others = 7, np.arange(300) != 7
    idata = mlmm.fit(of_groups(group, y), random_seed=1, progressbar=False)
    found = mlmm.loo_pit(idata, model=of_groups(group, y), progressbar=False)["y"].values[i]
    refit = mlmm.fit(of_groups(group[others], y[others]), random_seed=2, progressbar=False)
    a, sigma, u = (refit["posterior"][name] for name in ("a", "sigma", "u"))
    # Given the effects that the others tell of, the row has noise of its own.
    expected = norm.cdf((y[i] - a - u[..., group[i]]) / sigma)
    error = expected.std() / np.sqrt(4000)
    assert abs(found - expected.mean()) < 4 * error < 0.02


def tree_of(n: int, **values: float) -> DataTree:
    drawn = {name: (("chain", "draw"), np.full((1, n), value)) for name, value in values.items()}
    index = {"chain": [0], "draw": np.arange(n)}
    return DataTree.from_dict({"posterior": Dataset(drawn, coords=index)})


def test_no_parameters() -> None:
    """All draws are the same, and so are their weights."""
    with pm.Model() as model:
        u = pm.Normal("u", 0.3, 1.1, shape=5)
        pm.Normal("y", u[GROUP], 0.8, observed=Y)
        pm.LogNormal("z", 2 * u[None, :], 0.7, observed=Z)
    found = mlmm.loo_pit(tree_of(30), model=model, progressbar=False)
    pit = np.r_[found["y"].values, found["z"].values.ravel()]
    assert_allclose(pit, norm.cdf(conditional_z(1.1, 0.8)), rtol=0, atol=1e-8)


def test_draws_that_say_nothing() -> None:
    model = two_likelihoods()
    with pytest.raises(ValueError, match="no draws of 'sigma'"):
        mlmm.loo_pit(tree_of(30, tau=1), model=model)
    with pytest.raises(ValueError, match=r"24 draws, .*: pass 25"):
        mlmm.loo_pit(tree_of(24, tau=1, sigma=1), model=model)
