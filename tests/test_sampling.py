"""Real samplers: the marginal model and recover give the posterior of the plain model."""

from __future__ import annotations

import logging

import arviz as az
import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytest
from numpy.testing import assert_allclose

import pymc_marginal_lmm as mlmm
from tests.models import MODELS, CanonicalModel, by_name


@pytest.fixture(autouse=True)
def quiet() -> None:
    logging.getLogger("pymc").setLevel(logging.ERROR)
    logging.getLogger("pymc.stats.convergence").setLevel(logging.ERROR)


def sample(model: pm.Model, sampler: str, draws: int, **kwargs: object) -> object:
    return pm.sample(
        model=model,
        nuts_sampler=sampler,
        draws=draws,
        tune=draws,
        chains=2,
        cores=1,
        random_seed=1,
        progressbar=False,
        compute_convergence_checks=False,
        **kwargs,
    )


@pytest.mark.parametrize("sampler", ["numpyro", "nutpie", "blackjax", "pymc"])
def test_every_sampler_runs(sampler: str) -> None:
    marginal = mlmm.marginalize(by_name("random_intercept").build())
    idata = sample(marginal, sampler, draws=20)
    mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)
    assert set(idata["posterior"].data_vars) == {"alpha", "sigma", "tau", "u"}
    assert np.isfinite(idata["posterior"]["u"]).all()


QUICK = {
    ("noncentred_correlated", "numpyro"),
    ("two_responses_with_loadings", "numpyro"),
    ("zero_sum", "numpyro"),
}
"""Forms that are sampled in the fast suite; --runslow samples all of them."""


@pytest.mark.filterwarnings("ignore:Normal variables stay sampled")
@pytest.mark.parametrize(
    ("canonical", "sampler"),
    [
        pytest.param(
            model,
            sampler,
            id=f"{model}-{sampler}",
            marks=[] if (model.name, sampler) in QUICK else [pytest.mark.slow],
        )
        for model in MODELS
        for sampler in ("numpyro", "nutpie")
    ],
)
def test_every_form(canonical: CanonicalModel, sampler: str) -> None:
    """Everything that the plain model would have sampled is there, with its dims."""
    plain = canonical.build()
    assert set(mlmm.explain(plain).integrated) == set(canonical.effects)
    marginal = mlmm.marginalize(plain)
    idata = sample(marginal, sampler, draws=10)
    mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)
    posterior = idata["posterior"]
    assert {v.name for v in plain.unobserved_RVs} == {*posterior.data_vars}
    for name, values in posterior.data_vars.items():
        assert values.shape == (2, 10, *plain[name].eval(mode="FAST_COMPILE").shape)
        if dims := plain.named_vars_to_dims.get(name):
            assert values.dims[2:] == tuple(dims)
        assert np.isfinite(values).all()


def test_other_inference_methods() -> None:
    marginal = mlmm.marginalize(by_name("random_intercept").build())
    with marginal, pytensor.config.change_flags(mode="FAST_COMPILE"):
        smc = pm.sample_smc(draws=50, chains=1, cores=1, progressbar=False, random_seed=1)
        fit = pm.fit(n=20, progressbar=False, random_seed=1)
    assert np.isfinite(smc["posterior"]["tau"]).all()
    assert np.isfinite(fit.hist).all()


def test_a_marginal_model_is_an_ordinary_model() -> None:
    from pymc.model.fgraph import clone_model
    from pymc.model.transform.optimization import freeze_dims_and_data

    marginal = mlmm.marginalize(by_name("dims_and_coords").build())
    point = marginal.initial_point()
    expected = marginal.compile_logp(mode="FAST_COMPILE")(point)
    copies = {
        "clone": clone_model(marginal),
        "frozen": freeze_dims_and_data(marginal),
        "pickle": cloudpickle.loads(cloudpickle.dumps(marginal)),
    }
    for name, copy in copies.items():
        found = copy.compile_logp(mode="FAST_COMPILE")(copy.initial_point())
        assert_allclose(found, expected, rtol=1e-12, err_msg=name)
        assert mlmm.conditional(copy).free_RVs, name
    assert "u ->" not in marginal.to_graphviz().source


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["numpyro", "nutpie"])
@pytest.mark.parametrize("name", ["crossed_correlated_slopes", "lognormal", "hierarchical_mean"])
def test_posteriors_agree(name: str, sampler: str) -> None:
    """Means of all variables agree within Monte Carlo error: |z| < 4.5."""
    plain = by_name(name).build()
    marginal = mlmm.marginalize(plain)
    reference = sample(plain, "nutpie", draws=6000, target_accept=0.98)
    idata = sample(marginal, sampler, draws=3000, target_accept=0.9)
    mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)
    one = az.summary(reference, kind="all", round_to="none")
    two = az.summary(idata, kind="all", round_to="none").loc[one.index]
    z = (one["mean"] - two["mean"]) / np.hypot(one["mcse_mean"], two["mcse_mean"])
    assert np.nanmax(np.abs(z)) < 4.5, z[np.abs(z) > 4]
