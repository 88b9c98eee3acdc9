"""``sample`` gives what ``pm.sample`` gives for the plain model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import arviz as az
import bambi
import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from pymc.util import get_random_generator

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm import NotMarginalizable

rng = np.random.default_rng(0)
n = 24
G, X = np.repeat(np.arange(4), 6), rng.normal(size=n)
Y = rng.normal(size=n) + G

pytestmark = pytest.mark.filterwarnings("ignore:Passing .log_likelihood.:FutureWarning")
SHORT = {
    "nuts_sampler": "numpyro",
    "draws": 15,
    "tune": 15,
    "chains": 2,
    "progressbar": False,
    "compute_convergence_checks": False,
}


@pytest.fixture(autouse=True)
def quiet() -> None:
    for name in ("pymc", "pymc.stats.convergence", "numpyro"):
        logging.getLogger(name).setLevel(logging.ERROR)


def build(missing: bool = True) -> pm.Model:
    holed = np.where(np.arange(n) == 5, np.nan, Y) if missing else Y
    with pm.Model(coords={"level": list("abcd"), "row": range(n)}) as model:
        g, x = pm.Data("g", G, dims="row"), pm.Data("x", X, dims="row")
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), dims="level")
        alpha = pm.Normal("alpha", shape=2)
        mu = pm.Deterministic("mu", alpha[0] + alpha[1] * x + u[g], dims="row")
        pm.Deterministic("twice", 2 * model["tau"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pm.exceptions.ImputationWarning)
            pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=holed, dims="row")
    return model


@pytest.fixture(scope="module")
def plain() -> pm.Model:
    return build()


def test_same_as_pm_sample(plain: pm.Model) -> None:
    expected = pm.sample(model=plain, random_seed=1, **SHORT)
    found = mlmm.sample(
        plain,
        random_seed=1,
        initvals={"u": np.zeros(4), "tau": 0.5},
        idata_kwargs={"log_likelihood": True},
        **SHORT,
    )
    pm.compute_log_likelihood(expected, model=plain, progressbar=False)
    assert set(found.children) == set(expected.children)
    for group in ("posterior", "observed_data", "constant_data", "log_likelihood"):
        one, two = expected[group].to_dataset(), found[group].to_dataset()
        assert list(one.data_vars) == list(two.data_vars), group
        assert set(one.coords) == set(two.coords), group
        for name in one.variables:
            assert one[name].dims == two[name].dims, name
            assert one[name].dtype == two[name].dtype, name
            if group.endswith("data") or name in one.coords:
                np.testing.assert_array_equal(one[name], two[name])
    posterior = found["posterior"]
    z = (Y[0] - posterior["mu"][..., 0]) / posterior["sigma"]
    log_density = -0.5 * z**2 - np.log(posterior["sigma"] * np.sqrt(2 * np.pi))
    assert_allclose(found["log_likelihood"]["y_observed"][..., 0], log_density, rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # there are few draws
        assert np.isfinite(az.loo(found).elpd)


def test_seeds_selection_and_context(plain: pm.Model) -> None:
    with plain:
        one = mlmm.sample(random_seed=1, var_names=["u", "tau"], **SHORT)
    assert list(one["posterior"].data_vars) == ["u", "tau"]
    two = mlmm.sample(plain, random_seed=1, **SHORT)
    xr.testing.assert_equal(
        one["posterior"].to_dataset(), two["posterior"].to_dataset()[["u", "tau"]]
    )
    other = mlmm.sample(plain, random_seed=2, **SHORT)
    assert not np.allclose(other["posterior"]["u"], two["posterior"]["u"])


def test_sampled_and_recovered_draws_are_those_of_the_three_steps(plain: pm.Model) -> None:
    marginal = mlmm.marginalize(plain, ["u"], fold_scales=True)
    expected = pm.sample(model=marginal, random_seed=3, **SHORT)
    found = mlmm.sample(plain, rvs_to_marginalize="u", random_seed=3, **SHORT)
    for name in ("tau", "sigma", "alpha"):
        assert_allclose(found["posterior"][name], expected["posterior"][name])
    again = mlmm.sample(marginal, random_seed=3, **SHORT)
    xr.testing.assert_equal(again["posterior"].to_dataset(), found["posterior"].to_dataset())


SEEDS: dict[str, Callable[[int], Any]] = {
    "int": int,
    "numpy int": np.int64,
    "sequence": lambda seed: [seed, 2, 3],
    "array": lambda seed: np.array([seed, 2]),
    "SeedSequence": np.random.SeedSequence,
    "BitGenerator": np.random.PCG64,
    "Generator": np.random.default_rng,
    "another Generator": lambda seed: np.random.Generator(np.random.Philox(seed)),
}
"""All that ``pm.sample`` takes; of an array it can make no more sense than of one number."""


@pytest.mark.parametrize("make", SEEDS.values(), ids=SEEDS.keys())
def test_seeds(make: Callable[[int], Any]) -> None:
    """Seeds of recovery: reproducible, each another, another than the chains', and untouched."""
    from pymc_marginal_lmm.model.arguments import recovery_seed

    one = make(5)
    assert recovery_seed(one) == recovery_seed(one) == recovery_seed(make(5))
    assert recovery_seed(one) != recovery_seed(make(6))
    chains = get_random_generator(make(5)).spawn(8)
    states = [chain.bit_generator.seed_seq.generate_state(4).tolist() for chain in chains]
    assert recovery_seed(one) not in states
    if isinstance(one, np.random.Generator):
        assert one.bit_generator.seed_seq.n_children_spawned == 0
        assert one.integers(1000) == make(5).integers(1000)


# Three runs each.
@pytest.mark.parametrize(
    "kind",
    [
        "Generator",
        pytest.param("array", marks=pytest.mark.slow),
        pytest.param("SeedSequence", marks=pytest.mark.slow),
        pytest.param("BitGenerator", marks=pytest.mark.slow),
    ],
)
def test_sampling_with_seeds(plain: pm.Model, kind: str) -> None:
    seed = SEEDS[kind](1)
    one, two = (mlmm.sample(plain, random_seed=seed, **SHORT)["posterior"] for _ in range(2))
    xr.testing.assert_equal(one.to_dataset(), two.to_dataset())
    if kind != "array":
        marginal = mlmm.marginalize(plain)
        expected = pm.sample(model=marginal, random_seed=SEEDS[kind](1), **SHORT)
        assert_allclose(one["tau"], expected["posterior"]["tau"])


def test_what_stays_sampled_is_named() -> None:
    with pm.Model() as model:
        u = pm.Normal("u", 0.0, 1.0, shape=4)
        v = pm.Normal("v", 0.0, pm.HalfNormal("tau"), shape=4)
        pm.Normal("y", u[G] + pm.math.exp(v)[G], 1.0, observed=Y)
    message = r"Not integrated out: 'v' \(.*not linear.*\)\. explain"
    with pytest.warns(UserWarning, match=message) as caught:
        idata = mlmm.sample(model, **SHORT)
    (warning,) = (each for each in caught if each.category is UserWarning)
    assert "tau" not in str(warning.message)
    assert warning.filename == __file__
    assert list(idata["posterior"].data_vars) == ["u", "v", "tau"]


@pytest.mark.parametrize("observed", [True, False])
def test_nothing_to_integrate_out(observed: bool) -> None:
    with pm.Model() as model:
        rate = pm.Gamma("rate", 2, 1)
        if observed:
            pm.Poisson("y", rate, observed=3)
    with pytest.warns(UserWarning, match="it is sampled as it is"):
        idata = mlmm.sample(model, **SHORT)
    assert list(idata["posterior"].data_vars) == ["rate"]


def test_nothing_stays_sampled() -> None:
    """Independent draws of the exact posterior, without a sampler."""
    with pm.Model(coords={"level": list("abcd")}) as model:
        x = pm.Data("x", X)
        pm.Normal("y", pm.Normal("u", 0.0, 2.0, dims="level")[G] + x, 0.5, observed=Y)
    idata = mlmm.sample(model, draws=1000, chains=2, random_seed=1, progressbar=False)
    groups = {"posterior", "sample_stats", "observed_data", "constant_data"}
    assert set(idata.children) == groups
    assert idata["posterior"].attrs["method"] == "exact"
    draws = idata["posterior"]["u"]
    assert draws.dims == ("chain", "draw", "level") and draws.shape == (2, 1000, 4)
    precision = 1 / 2.0**2 + 6 / 0.5**2
    mean = np.bincount(G, Y - X) / 0.5**2 / precision
    z = (draws.mean(["chain", "draw"]) - mean) * np.sqrt(2000 * precision)
    assert np.abs(z).max() < 4.5
    assert_allclose(draws.std(["chain", "draw"]), precision**-0.5, rtol=0.08)


def test_refusals(plain: pm.Model) -> None:
    with pytest.raises(NotMarginalizable, match="'tau': its prior is HalfNormal"):
        mlmm.sample(plain, rvs_to_marginalize=["tau"])
    with pytest.raises(ValueError, match="DataTree only"):
        mlmm.sample(plain, return_inferencedata=False)
    with pytest.raises(ValueError, match="step= belongs to one model"):
        mlmm.sample(plain, step=object())
    with pytest.raises(ValueError, match=r"var_names \['w'\] are not among \['tau', 'u', 'alpha'"):
        mlmm.sample(plain, var_names=["u", "w"])
    with pytest.raises(TypeError, match=r"model must be a pymc\.Model or a bambi\.Model, not dict"):
        mlmm.sample({})


def test_bambi() -> None:
    """What its own ``fit`` returns, the intercept of the user's scale included."""
    data = pd.DataFrame({"y": Y, "x": X + 10.0, "g": np.array(list("abcd"))[G]})
    model = bambi.Model("y ~ x + (1|g)", data)
    found = mlmm.sample(model, random_seed=1, **(SHORT | {"draws": 200, "tune": 200}))
    expected = model.fit(
        draws=200, tune=200, chains=2, random_seed=1, inference_method="numpyro", progressbar=False
    )
    one, two = expected["posterior"].to_dataset(), found["posterior"].to_dataset()
    assert set(one.data_vars) == set(two.data_vars)
    for name in one.data_vars:
        assert one[name].dims == two[name].dims
        assert_allclose(two[name].mean(), one[name].mean(), atol=0.5 * float(one[name].std()))
    predictions = model.predict(found, data=data.head(2), inplace=False)
    assert predictions["posterior"]["mu"].shape == (2, 200, 2)
