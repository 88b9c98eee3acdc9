"""``fit``: evidence and moments by quadrature or closed form, the form of the result, refusals."""

from __future__ import annotations

import bambi
import numpy as np
import pandas as pd
import pymc as pm
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.stats import halfnorm, multivariate_normal

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model.log_density import LogDensities
from pymc_marginal_lmm.model.value_space import ValueSpace
from tests.helpers import random_point
from tests.models import by_name

rng = np.random.default_rng(3)
G, X = np.repeat(np.arange(6), 5), rng.normal(size=30)
Y = 1 + rng.normal(size=6)[G] + rng.normal(size=30)
Z = np.eye(6)[G]
QUIET = {"random_seed": 1, "progressbar": False}


def one_scale() -> pm.Model:
    with pm.Model(coords={"group": list("abcdef")}) as model:
        tau = pm.HalfNormal("tau", 1.5)
        u = pm.Normal("u", 0, tau, dims="group")
        pm.Deterministic("twice", 2 * u, dims="group")
        pm.Normal("y", pm.Normal("a", 0, 3) + u[G], 1.0, observed=Y)
    return model


def density(tau: float) -> float:
    cov = tau**2 * Z @ Z.T + 9 * np.ones((30, 30)) + np.eye(30)
    return float(np.exp(multivariate_normal(np.zeros(30), cov).logpdf(Y) + 40)) * halfnorm(
        scale=1.5
    ).pdf(tau)


@pytest.mark.parametrize("backend", ["jax", "numba"])
def test_against_quadrature(backend: str) -> None:
    idata = mlmm.fit(one_scale(), backend=backend, **QUIET)
    posterior = idata["posterior"]
    total = quad(density, 0, 30)[0]
    mean = quad(lambda tau: tau * density(tau), 0, 30)[0] / total
    square = quad(lambda tau: tau**2 * density(tau), 0, 30)[0] / total
    found = posterior.attrs
    error = abs(found["log_evidence"] - (np.log(total) - 40))
    assert error < 5 * found["log_evidence_mcse"] + 1e-4
    assert found["pareto_khat"] < 0.7
    assert 3000 < found["effective_draws"] <= 4000
    sd = np.sqrt(square - mean**2)
    assert abs(posterior["tau"].mean().item() - mean) < 5 * sd / np.sqrt(3000)
    assert_allclose(posterior["tau"].std().item(), sd, rtol=0.1)


def test_the_result_is_that_of_sample() -> None:
    model = one_scale()
    idata = mlmm.fit(model, draws=50, chains=3, **QUIET)
    order = [v.name for v in model.unobserved_value_vars if not v.name.endswith("__")]
    assert list(idata["posterior"].data_vars) == order
    assert idata["posterior"]["u"].dims == ("chain", "draw", "group")
    assert dict(idata["posterior"].sizes) == {"chain": 3, "draw": 50, "group": 6}
    assert_array_equal(idata["posterior"]["group"], list("abcdef"))
    assert_array_equal(idata["posterior"]["twice"], 2 * idata["posterior"]["u"])
    assert_array_equal(idata["observed_data"]["y"], Y)
    marginal = mlmm.marginalize(model)
    tau, lp = idata["posterior"]["tau"].values, idata["sample_stats"]["lp"].values
    rv = marginal["tau"]
    x = marginal.rvs_to_transforms[rv].forward(tau[2, 7], *rv.owner.inputs)
    point = {"tau_fold__": x.eval(mode="FAST_COMPILE")}
    assert_allclose(lp[2, 7], marginal.compile_logp(mode="FAST_COMPILE")(point), rtol=1e-9)
    assert lp.shape == (3, 50)
    again = mlmm.fit(model, draws=50, chains=3, **QUIET)
    for name in idata["posterior"].data_vars:
        assert_array_equal(idata["posterior"][name], again["posterior"][name])


def test_a_scale_that_may_just_be_zero() -> None:
    """Its density reaches 0 on the longer side only: proposals are folded in there, too.

    Else a few points near 0 weigh up to twice as much as all others, which looks like a tail.
    """
    group = np.repeat([0, 1, 2], 4)
    with pm.Model() as model:
        u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=3)
        pm.Normal("y", u[group], 1, observed=np.arange(12) / 6)
    compiled = mlmm.compile_model(model)
    for seed in range(1, 5):
        found = mlmm.fit(compiled, random_seed=seed, progressbar=False)["posterior"].attrs
        assert found["pareto_khat"] < 0


def test_a_marginal_model_is_taken_as_it_is() -> None:
    marginal = mlmm.marginalize(one_scale(), ["u"])
    idata = mlmm.fit(marginal, draws=100, **QUIET)
    assert {"tau", "a", "u", "twice"} == {*idata["posterior"].data_vars}
    whole = mlmm.fit(one_scale(), draws=100, **QUIET)
    evidences = [each["posterior"].attrs["log_evidence"] for each in (idata, whole)]
    assert_allclose(*evidences, atol=0.05)


def test_nothing_left_to_sample() -> None:
    with pm.Model() as model:
        u = pm.Normal("u", 0, 1, shape=6)
        pm.Normal("y", u[G], 1.0, observed=Y)
    idata = mlmm.fit(model, **QUIET)
    exact = multivariate_normal(np.zeros(30), Z @ Z.T + np.eye(30)).logpdf(Y)
    assert_allclose(idata["posterior"].attrs["log_evidence"], exact)
    means = 5 / 6 * np.array([Y[k == G].mean() for k in range(6)])
    assert_allclose(idata["posterior"]["u"].mean(["chain", "draw"]), means, atol=0.05)


def test_bambi() -> None:
    data = pd.DataFrame({"y": Y, "x": X, "g": np.array(list("abcdef"))[G]})
    model = bambi.Model("y ~ x + (1|g)", data)
    idata = mlmm.fit(model, draws=100, **QUIET)
    assert {"Intercept", "x", "1|g", "1|g_sigma", "sigma"} <= {*idata["posterior"].data_vars}
    model.predict(idata, kind="response")
    assert "posterior_predictive" in idata.children


@pytest.mark.parametrize("what", ["flat", "Potential"])
def test_no_evidence(what: str) -> None:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau")
        a = pm.Flat("a") if what == "flat" else pm.Normal("a")
        if what == "Potential":
            pm.Potential("penalty", -tau)
        pm.Normal("y", a + pm.Normal("u", 0, tau, shape=6)[G], 1.0, observed=Y)
    with pytest.warns(UserWarning, match=f"log_evidence is nan: the .*{what}"):
        idata = mlmm.fit(model, draws=50, **QUIET)
    assert np.isnan(idata["posterior"].attrs["log_evidence"])
    assert np.isfinite(idata["posterior"]["tau"]).all()


def test_discrete_parameters_are_refused() -> None:
    with pm.Model() as model:
        k = pm.Bernoulli("k", 0.5)
        pm.Normal("y", k + pm.Normal("u", shape=6)[G], 1.0, observed=Y)
    with pytest.raises(
        ValueError, match=r"'k' stays sampled and is discrete\. sample\(model, method"
    ):
        mlmm.fit(model, **QUIET)


def test_many_parameters_are_refused() -> None:
    with pm.Model() as model:
        b = pm.Laplace("b", 0, 1, shape=30)
        pm.Normal("y", b + pm.Normal("u", shape=6)[G], 1.0, observed=Y)
    with pytest.raises(ValueError, match=r"30 parameters are left .* those of 'b' \(30\)"):
        mlmm.fit(model, **QUIET)


def test_no_density_at_the_start() -> None:
    with pm.Model() as model:
        s = pm.HalfNormal("s")
        pm.Potential("never", pm.math.switch(s > 0, -np.inf, 0.0))
        pm.Normal("y", pm.Normal("u", shape=6)[G], s, observed=Y)
    with pytest.raises(ValueError, match="zero or not a number at the initial point"):
        mlmm.fit(model, **QUIET)


@pytest.mark.parametrize("name", ["correlated_slopes", "crossed_different_widths", "three_levels"])
def test_signs_that_change_nothing(name: str) -> None:
    """Reflections of the value space leave the density, and every variable, as they are."""
    marginal = mlmm.marginalize(by_name(name).build())
    space = ValueSpace.of(marginal)
    assert len(space.reflections) > 0
    points = np.stack([space.join(random_point(marginal, seed)) for seed in range(3)])
    many = LogDensities(marginal, space, "jax").given()
    for sign in space.reflections.group():
        assert_allclose(many(points * sign), many(points), rtol=1e-10)
    logp = marginal.compile_logp(mode="FAST_COMPILE")
    expected = [logp(random_point(marginal, seed)) for seed in range(3)]
    assert_allclose(many(points), expected, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["correlated_slopes", "three_levels"])
def test_against_nuts(name: str) -> None:
    model = by_name(name).build()
    mine = mlmm.fit(model, draws=2000, **QUIET)["posterior"]
    nuts = mlmm.sample(model, draws=1000, chains=4, nuts_sampler="numpyro", **QUIET)["posterior"]
    for name_ in mine.data_vars:
        if mine[name_].dtype.kind != "f":
            continue
        difference = mine[name_].mean(["chain", "draw"]) - nuts[name_].mean(["chain", "draw"])
        sd = nuts[name_].std(["chain", "draw"])
        assert (np.abs(difference) < 6 * sd / np.sqrt(1000) + 1e-8).all(), name_
