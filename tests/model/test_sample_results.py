"""Everything that ``sample`` puts into its result is that of the plain model.

The same groups, variables, dims, coords and attributes as from ``pm.sample`` of the plain model
with the same arguments, or a refusal before sampling.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from typing import Any

import numpy as np
import pymc as pm
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from pytensor.raise_op import Assert

import pymc_marginal_lmm as mlmm

rng = np.random.default_rng(0)
n = 30
G, X = np.repeat(np.arange(6), 5), rng.normal(size=n)
Y = rng.normal(size=6)[G] + rng.normal(size=n)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Passing .log_likelihood.:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.passing log_likelihood.:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The arguments to .from_dict.:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*currently ignored by the nutpie sampler:UserWarning"),
]
SHORT: dict[str, Any] = {
    "draws": 6,
    "tune": 6,
    "chains": 2,
    "cores": 1,
    "progressbar": False,
    "compute_convergence_checks": False,
    "random_seed": 1,
}
LIBRARY = {"inference_library", "inference_library_version"}
"""Attributes that say which library computed densities."""


@pytest.fixture(autouse=True)
def quiet() -> None:
    for name in ("pymc", "pymc.stats.convergence", "numpyro"):
        logging.getLogger(name).setLevel(logging.ERROR)


@pytest.fixture(scope="module")
def plain() -> pm.Model:
    """Effects with and without transforms, a vector with one, data, a missing response."""
    with pm.Model(coords={"level": list("abcdef"), "row": range(n)}) as model:
        x, unused = pm.Data("x", X, dims="row"), pm.Data("unused", np.arange(3.0))
        assert unused is not None
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), dims="level")
        z = pm.ZeroSumNormal("z", 1.0, shape=5)
        rates = pm.Gamma("rates", 2, 1, dims="level")
        mu = pm.Deterministic("mu", pm.Normal("a") + u[G] + z[G % 5] + x * rates[G], dims="row")
        pm.Deterministic("twice", 2 * model["tau"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pm.exceptions.ImputationWarning)
            holed = np.where(np.arange(n) == 5, np.nan, Y)
            pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=holed, dims="row")
    return model


def assert_same_form(found: xr.DataTree, expected: xr.DataTree) -> None:
    assert set(found.children) == set(expected.children)
    for group in expected.children:
        one, two = expected[group].to_dataset(), found[group].to_dataset()
        who = LIBRARY if group.startswith("log_") else {"method"}
        assert {*one.attrs} - who == {*two.attrs} - who, group
        if group.endswith("sample_stats"):
            assert set(one.coords) == set(two.coords)
            continue
        assert set(one.coords) == set(two.coords), group
        in_order = group.endswith("posterior")
        as_compared = list if in_order and "unconstrained" not in group else set
        assert as_compared(one.data_vars) == as_compared(two.data_vars), group
        for name in one.variables:
            assert one[name].dims == two[name].dims, (group, name)
            assert one[name].shape == two[name].shape, (group, name)
            if name not in one.coords:  # strings are objects with nutpie
                assert one[name].dtype == two[name].dtype, (group, name)
            if group.endswith("data") or name in one.coords:
                np.testing.assert_array_equal(one[name], two[name])


def assert_consistent(plain: pm.Model, found: xr.DataTree) -> None:
    """Value variables and log densities are those of the draws, checked by PyMC's own density."""
    posterior = found["posterior"]
    assert_allclose(posterior["tau_log__"], np.log(posterior["tau"]), rtol=1e-6)
    terms = plain.compile_logp(sum=False, jacobian=False, mode="FAST_COMPILE")
    point = {v.name: posterior[v.name].values[1, 2] for v in plain.value_vars}
    log_prior = found["log_prior"]
    values = dict(zip((rv.name for rv in plain.basic_RVs), terms(point), strict=True))
    for name in [rv.name for rv in plain.free_RVs]:
        assert_allclose(log_prior[name].values[1, 2], values[name], rtol=1e-5, err_msg=name)
    assert_allclose(found["log_likelihood"]["y_observed"].values[1, 2], values["y_observed"])


def both(plain: pm.Model, **kwargs: Any) -> tuple[xr.DataTree, xr.DataTree]:
    settings = SHORT | kwargs
    return mlmm.sample(plain, **settings), pm.sample(model=plain, **settings)


def test_all_that_pymc_gives(plain: pm.Model) -> None:
    found, expected = both(
        plain,
        nuts_sampler="pymc",
        discard_tuned_samples=False,
        idata_kwargs={
            "log_prior": True,
            "log_likelihood": True,
            "include_transformed": True,
            "coords": {"level": list("ABCDEF"), "five": range(5)},
            "dims": {"z": ["five"]},
            "prior": {"tau": np.ones(3)},
        },
    )
    assert "warmup_posterior" in expected.children
    assert_same_form(found, expected)
    assert_consistent(plain, found)
    warmup = found["warmup_posterior"]
    assert_allclose(warmup["z"].sum("five"), 0.0, atol=1e-6)
    assert_allclose(warmup["rates_log__"], np.log(warmup["rates"]), rtol=1e-6)


def test_some_that_pymc_gives(plain: pm.Model) -> None:
    found, expected = both(
        plain,
        nuts_sampler="pymc",
        idata_kwargs={"log_prior": ["u", "z"], "log_likelihood": ["y_observed"]},
        keep_warning_stat=True,
    )
    assert set(found["log_prior"].data_vars) == {"u", "z"}
    assert_same_form(found, expected)


@pytest.mark.parametrize(
    "options",
    [
        {
            "nuts_sampler": "nutpie",
            "discard_tuned_samples": False,
            "idata_kwargs": {"include_transformed": True, "log_likelihood": True},
        },
        {
            "nuts_sampler": "numpyro",
            "nuts": {"keep_untransformed": True},
            "idata_kwargs": {
                "coords": {"five": range(5)},
                "dims": {"z": ["five"]},
                "log_likelihood": True,
            },
        },
        pytest.param(
            {"nuts_sampler": "blackjax", "idata_kwargs": {"attrs": {"posterior": {"by": "me"}}}},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["nutpie", "numpyro", "blackjax"],
)
def test_all_that_other_samplers_give(plain: pm.Model, options: dict[str, Any]) -> None:
    assert_same_form(*both(plain, **options))


def test_densities_and_value_variables_with_jax(plain: pm.Model) -> None:
    """Where ``pm.sample`` samples, and fails on them afterwards."""
    wanted = {"log_prior": True, "log_likelihood": True, "include_transformed": True}
    found = mlmm.sample(plain, nuts_sampler="numpyro", idata_kwargs=wanted, **SHORT)
    assert_consistent(plain, found)
    assert "z_zerosum__" in found["posterior"]


def test_nothing_folded_or_integrated(plain: pm.Model) -> None:
    """A model from which nothing goes gets its densities in the same way."""
    with pm.Model() as model:
        pm.Poisson("y", pm.Gamma("rate", 2, 1), observed=3)
    options = {"nuts_sampler": "pymc", "idata_kwargs": {"log_prior": True}}
    with pytest.warns(UserWarning, match="it is sampled as it is"):
        found = mlmm.sample(model, **SHORT, **options)
    assert_same_form(found, pm.sample(model=model, **SHORT, **options))


# --- Refused before sampling ------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "step": ({"step": object()}, "step= belongs to one model"),
    "trace": ({"trace": object()}, "trace= belongs to one model"),
    "return_inferencedata": ({"return_inferencedata": False}, "DataTree only"),
    "var_names": ({"var_names": ["w"]}, r"var_names \['w'\] are not among \['tau', 'u'"),
    "a number as var_names": ({"var_names": 3}, "var_names must be a name, or a sequence"),
    "idata_kwargs": ({"idata_kwargs": 3}, "idata_kwargs must be a dict"),
    "unknown idata_kwargs": ({"idata_kwargs": {"logprior": 1}}, "'logprior' would be refused"),
    "another model": ({"idata_kwargs": {"model": None}}, "'model' would be refused"),
    "jax": (
        {"idata_kwargs": {"save_warmups": True}, "nuts_sampler": "numpyro"},
        "'save_warmups' would be refused after sampling; attrs",
    ),
    "log_prior": ({"idata_kwargs": {"log_prior": ["y"]}}, r"\['y'\] are not among \['tau', 'u'"),
    "log_likelihood": (
        {"idata_kwargs": {"log_likelihood": "u"}},
        r"idata_kwargs\['log_likelihood'\]: \['u'\] are not among \['y_observed'\]",
    ),
    "initvals": ({"initvals": {"w": 1.0}}, r"initvals of \['w'\]: the variables are \['tau', 'u'"),
    "a number as initvals": ({"initvals": 3}, "initvals must be a dict by variable"),
    "initvals of a chain": ({"initvals": [{}, "u"]}, "initvals must be a dict by variable"),
    "random_seed": ({"random_seed": "one"}, "random_seed must be None, a non-negative int"),
    "RandomState": ({"random_seed": np.random.RandomState(1)}, "random_seed must be"),
    "-1": ({"random_seed": -1}, "random_seed must be"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_can_fail_is_refused_before_sampling(
    plain: pm.Model, options: dict[str, Any], message: str
) -> None:
    def no_draw(**kwargs: Any) -> None:
        pytest.fail("it is sampled")

    with pytest.raises((TypeError, ValueError), match=message):
        mlmm.sample(plain, **({"callback": no_draw, "nuts_sampler": "pymc"} | SHORT | options))


def test_every_argument_of_pymc_is_known() -> None:
    """A new one has to be thought about: does it change the result?"""
    passed_on = {
        *("draws", "tune", "chains", "cores", "progressbar", "progressbar_theme", "quiet"),
        *("nuts_sampler", "init", "jitter_max_retries", "n_init", "discard_tuned_samples"),
        *("compute_convergence_checks", "keep_warning_stat", "nuts_sampler_kwargs", "callback"),
        *("mp_ctx", "blas_cores", "backend", "compile_kwargs", "kwargs"),
    }
    treated = {"model", "random_seed", "var_names", "initvals", "idata_kwargs"}
    refused = {"step", "trace", "return_inferencedata"}
    assert {*inspect.signature(pm.sample).parameters} == passed_on | treated | refused
    of_the_result = {*inspect.signature(pm.to_inference_data).parameters}
    assert of_the_result == {
        *("trace", "prior", "posterior_predictive", "log_likelihood", "log_prior", "coords"),
        *("dims", "sample_dims", "model", "save_warmup", "include_transformed"),
    }


# --- After sampling ---------------------------------------------------------------------------


def test_draws_are_not_lost() -> None:
    """A user's own code may fail at values that the posterior has."""
    with pm.Model() as model:
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=6)
        pm.Deterministic("large", Assert("out of luck")(u[0], u[0] > 1e9))
        pm.Normal("y", u[G], 1.0, observed=Y)
    message = r"(?s)Sampling went well.*out of luck.*draws these"
    with pytest.warns(UserWarning, match=message) as caught:
        found = mlmm.sample(model, nuts_sampler="pymc", **SHORT)
    assert caught[0].filename == __file__
    assert list(found["posterior"].data_vars) == ["tau"]
    marginal = mlmm.marginalize(model)
    mlmm.recover(found, model=marginal, var_names="u", progressbar=False)
    assert found["posterior"]["u"].shape == (2, 6, 6)
