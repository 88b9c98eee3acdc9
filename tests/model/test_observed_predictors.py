"""An observed variable that others depend on is data there: mediators, lags, scores of items."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.exceptions import ImputationWarning
from pytensor.scalar.basic import autocast_float_as

import pymc_marginal_lmm as mlmm
from tests.helpers import (
    assert_same_posterior,
    dense_reference,
    density,
    posterior_of_effects,
    random_point,
    unfolded,
)

rng = np.random.default_rng(0)
n = 30
g, x = np.repeat(np.arange(6), 5), rng.normal(size=n)
M = 0.5 * x + rng.normal(size=n)
Y = 0.3 * M + rng.normal(size=n)
K = rng.poisson(2.0, size=n)
FAST = "FAST_COMPILE"
Tensor = pt.TensorVariable

MODELS: dict[str, Callable[[bool], set[str]]] = {}


def registered(build: Callable[[bool], set[str]]) -> Callable[[bool], set[str]]:
    MODELS[build.__name__.removeprefix("_")] = build
    return build


def mediator(by_variable: bool, observed: object = M) -> Tensor | np.ndarray:
    """Return a variable, or its data; effects ``a`` and ``u`` enter its mean."""
    a, u = pm.Normal("a"), pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=6)
    m = pm.Normal("M", a * x + u[g], pm.HalfNormal("s"), observed=observed)
    return m if by_variable else np.asarray(M)


@registered
def _in_a_mean_times_an_effect(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    pm.Normal("Y", pm.Normal("b") * m, 1.0, observed=Y)
    return {"a", "u", "b"}


@registered
def _in_a_mean_times_a_parameter(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    v = pm.Normal("v", 0.0, 1.0, shape=6)
    pm.Normal("Y", pm.StudentT("b", nu=3) * m + v[g], 1.0, observed=Y)
    return {"a", "u", "v"}


@registered
def _in_a_mean_nonlinearly(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    pm.Normal("Y", pm.Normal("b") * pt.tanh(m) + pm.Normal("c") * m**2, 1.0, observed=Y)
    return {"a", "u", "b", "c"}


@registered
def _in_a_mean_alone(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    pm.Normal("Y", m - pt.mean(m), pm.HalfNormal("sigma"), observed=Y)
    return {"a", "u"}


@registered
def _in_a_mean_with_the_same_effects(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    u = pm.modelcontext(None)["u"]
    pm.Normal("Y", pm.Normal("b") * m + u[g], 1.0, observed=Y)
    return {"a", "u", "b"}


@registered
def _times_effects_by_group(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    slopes = pm.Normal("slopes", 0.0, pm.HalfNormal("omega"), shape=6)
    pm.Normal("Y", slopes[g] * m, 1.0, observed=Y)
    return {"a", "u", "slopes"}


@registered
def _in_a_sigma(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    pm.Normal("Y", pm.Normal("b"), pt.exp(pm.StudentT("d", nu=3) * m), observed=Y)
    return {"a", "u", "b"}


@registered
def _in_counts(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    pm.Poisson("K", pt.exp(pm.StudentT("b", nu=3) * m), observed=K)
    return {"a", "u"}


@registered
def _in_a_heavy_tail(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    pm.StudentT("Y", nu=4, mu=0.5 * m, sigma=1.0, observed=Y)
    return {"a", "u"}


@registered
def _in_a_potential(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    pm.Potential("penalty", -((pm.HalfNormal("d") * m) ** 2).sum())
    return {"a", "u"}


@registered
def _in_the_prior_of_a_sampled_variable(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    rate = pm.Gamma("rate", 2.0, pt.exp(pt.mean(m)))
    pm.Normal("Y", pm.Normal("b"), rate, observed=Y)
    return {"a", "u", "b"}


@registered
def _in_the_prior_mean_of_effects(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    v = pm.Normal("v", m[::5], pm.HalfNormal("omega"), shape=6)
    pm.Normal("Y", v[g], 1.0, observed=Y)
    return {"a", "u", "v"}


@registered
def _in_the_prior_scale_of_effects(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    v = pm.Normal("v", 0.0, pt.abs(m[::5]), shape=6)
    pm.Normal("Y", v[g], 1.0, observed=Y)
    return {"a", "u", "v"}


@registered
def _behind_a_deterministic(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    index = pm.Deterministic("index", 2.0 * pt.as_tensor(m) + 1.0)
    pm.Normal("Y", pm.Normal("b") * index, 1.0, observed=Y)
    return {"a", "u", "b"}


@registered
def _of_a_likelihood_without_effects(by_variable: bool) -> set[str]:
    m = pm.Normal("M", pm.StudentT("a", nu=3) * x, pm.HalfNormal("s"), observed=M)
    u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=6)
    pm.Normal("Y", pm.Normal("b") * (m if by_variable else M) + u[g], 1.0, observed=Y)
    return {"b", "u"}


@registered
def _counts_as_a_covariate(by_variable: bool) -> set[str]:
    k = pm.Poisson("K", pt.exp(pm.StudentT("a", nu=3) * x), observed=K)
    u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=6)
    pm.Normal("Y", pm.Normal("b") * (k if by_variable else K) + u[g], 1.0, observed=Y)
    return {"b", "u"}


@registered
def _categories_as_an_index(by_variable: bool) -> set[str]:
    c = pm.Categorical("C", p=pm.Dirichlet("p", np.ones(6)), observed=g)
    u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=6)
    pm.Normal("Y", u[c if by_variable else g], 1.0, observed=Y)
    return {"u"}


@registered
def _lags(by_variable: bool) -> set[str]:
    u, rho = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=6), pm.Normal("rho")
    table = Y.reshape(6, 5)
    last: Tensor | np.ndarray = np.zeros(6)
    for t in range(5):
        now = pm.Normal(f"Y{t}", rho * last + u, 1.0, observed=table[:, t])
        last = now if by_variable else table[:, t]
    return {"u", "rho"}


@registered
def _a_chain_of_three(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    z = pm.Normal("Z", pm.Normal("b") * m, 1.0, observed=Y)
    pm.LogNormal("Y", pm.Normal("c") * (z if by_variable else Y) + m, 1.0, observed=np.exp(M))
    return {"a", "u", "b", "c"}


@registered
def _a_chain_through_counts_and_back(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    k = pm.Poisson("K", pt.exp(0.3 * m), observed=K)
    pm.Normal("Y", pm.Normal("c") * (k if by_variable else K) + 0.3 * m, 1.0, observed=Y)
    return {"a", "u", "c"}


@registered
def _a_chain_through_a_sampled_variable_and_back(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    rate = pm.Gamma("rate", 2.0, pt.exp(pt.mean(m)))
    pm.Normal("Y", pm.Normal("c") * rate + 0.3 * m, 1.0, observed=Y)
    return {"a", "u", "c"}


@registered
def _positive_mediator(by_variable: bool) -> set[str]:
    u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=6)
    m = pm.LogNormal("M", u[g], 1.0, observed=np.exp(M))
    log_m = pt.log(m) if by_variable else M
    pm.Normal("Y", pm.Normal("b") * log_m, 1.0, observed=Y)
    return {"u", "b"}


@registered
def _with_missing_responses(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    holes = np.where(np.arange(n) % 7 == 3, np.nan, Y)
    pm.Normal("Y", pm.Normal("b") * m, 1.0, observed=holes)
    return {"a", "u", "b", "Y_unobserved"}


@registered
def _of_which_the_scale_of_the_mediator_is_an_effect_scale(by_variable: bool) -> set[str]:
    m = mediator(by_variable)
    v = pm.Normal("v", 0.0, pm.modelcontext(None)["tau"], shape=6)
    pm.Normal("Y", pm.Normal("b") * m + v[g], pm.modelcontext(None)["s"], observed=Y)
    return {"a", "u", "b", "v"}


@registered
def _with_data_that_can_be_set(by_variable: bool) -> set[str]:
    data = pm.Data("data", M)
    u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=6)
    m = pm.Normal("M", u[g], 1.0, observed=data)
    pm.Normal("Y", pm.Normal("b") * (m if by_variable else data), 1.0, observed=Y)
    return {"u", "b"}


def made(name: str, by_variable: bool) -> tuple[pm.Model, set[str]]:
    with (
        pytest.warns(ImputationWarning) if "missing" in name else nullcontext(),
        autocast_float_as("float64"),
        pm.Model() as model,
    ):
        effects = MODELS[name](by_variable)
    return model, effects


def density_at(model: pm.Model, point: dict) -> float:
    own = {value.name: point[value.name] for value in model.value_vars}
    return float(density(model)(own))


@pytest.mark.parametrize("name", MODELS)
def test_it_is_the_model_with_the_data_in_its_place(name: str) -> None:
    by_variable, effects = made(name, True)
    by_array, _ = made(name, False)
    marginal, expected = unfolded(by_variable), unfolded(by_array)
    gone = {rv.name for rv in by_variable.free_RVs} - {rv.name for rv in marginal.free_RVs}
    assert gone == effects
    likelihoods = mlmm.explain(by_variable).responses
    assert set(likelihoods) == set(mlmm.explain(by_array).responses)
    point = random_point(by_variable, 1)
    expected_joint = density_at(by_array, point)
    assert_allclose(density_at(marginal, point), density_at(expected, point), rtol=1e-10)
    assert_allclose(density_at(mlmm.conditional(marginal), point), expected_joint, rtol=1e-8)
    back = mlmm.unmarginalize(marginal)
    assert_allclose(density_at(back, point), expected_joint, rtol=1e-10)
    assert set(back.named_vars) == set(by_variable.named_vars)
    assert [v.name for v in back.free_RVs] == [v.name for v in by_variable.free_RVs]
    own = {value.name: point[value.name] for value in marginal.value_vars}
    means = posterior_of_effects(expected, own, leading=2)
    for effect, (mean, covariance) in posterior_of_effects(marginal, own, leading=2).items():
        assert_allclose(mean, means[effect][0], rtol=1e-8)
        assert_allclose(covariance, means[effect][1], rtol=1e-8)


@pytest.mark.parametrize("mode", ["NUMBA", "JAX"])
def test_backends(mode: str) -> None:
    by_variable, _ = made("a_chain_of_three", True)
    marginal = unfolded(by_variable)
    point = random_point(marginal, 3)
    expected = density_at(marginal, point)
    assert_allclose(marginal.compile_logp(mode=mode)(point), expected, rtol=1e-9)


def test_observed_afterwards() -> None:
    with pm.Model() as model:
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=6)
        m = pm.Normal("M", u[g], 1.0)
        pm.Normal("Y", pm.Normal("b") * m, 1.0, observed=Y)
    marginal = unfolded(pm.observe(model, {"M": M}))
    assert [rv.name for rv in marginal.free_RVs] == ["tau"]
    point = random_point(model, 1)
    with_data = {**point, "M": M}
    assert_allclose(density_at(mlmm.conditional(marginal), point), density_at(model, with_data))


def test_what_is_drawn_is_passed_on() -> None:
    """Forward, the marginal model is the plain one: responses follow the mediator that is drawn."""
    with pm.Model() as model:
        m = mediator(True)
        pm.Normal("Y", 2.0 * m + pm.Normal("b", 5.0, 1e-9), 1e-6, observed=Y)
        pm.Normal("Z", -1.0 * m, 1e-6, observed=Y)
        pm.Deterministic("twice", 2.0 * m)
    marginal = mlmm.marginalize(model)
    m_drawn, y_drawn, z_drawn = pm.draw([marginal[v] for v in "MYZ"], 3, mode=FAST)
    assert_allclose(y_drawn, 2.0 * m_drawn + 5.0, atol=1e-4)
    assert_allclose(z_drawn, -m_drawn, atol=1e-4)
    assert np.std(m_drawn[0] - M) > 0.1
    prior = pm.sample_prior_predictive(2, model=marginal, compile_kwargs={"mode": FAST})
    assert_allclose(prior["prior"]["twice"], 2.0 * prior["prior_predictive"]["M"])
    assert_allclose(
        prior["prior_predictive"]["Y"], 2.0 * prior["prior_predictive"]["M"] + 5.0, atol=1e-4
    )


def test_a_chain_that_comes_back_can_be_drawn_from() -> None:
    """Its first link has the data: all of it at once would be a cycle."""
    with pm.Model() as model:
        k = pm.Poisson("K", pt.exp(0.3 * mediator(True)), observed=K)
        pm.Normal("Y", pm.Normal("c", 1.0, 1e-9) * k, 1e-6, observed=Y)
    marginal = mlmm.marginalize(model)
    k_drawn, y_drawn = pm.draw([marginal[v] for v in "KY"], 3, mode=FAST)
    assert_allclose(y_drawn, k_drawn, atol=1e-4)
    assert (k_drawn != K).any()


def test_recovered_effects_do_not_follow_the_draws() -> None:
    """Deterministics of observed variables are those of the data, as in the plain model."""
    with pm.Model() as model:
        m = mediator(True)
        u, b = pm.modelcontext(None)["u"], pm.Normal("b")
        pm.Deterministic("both", u.sum() + 2.0 * m)
        pm.Normal("Y", b * m, 1.0, observed=Y)
    idata = mlmm.sample(
        model,
        draws=5,
        tune=5,
        chains=1,
        nuts_sampler="numpyro",
        random_seed=1,
        progressbar=False,
        compute_convergence_checks=False,
    )
    posterior = idata["posterior"].isel(chain=0)
    expected = posterior["u"].values.sum(axis=1)[:, None] + 2.0 * M
    assert_allclose(posterior["both"], expected)


# --- Predictors of which some values are missing ----------------------------------------------

HOLES = np.where(np.arange(n) % 6 == 2, np.nan, M)


def imputed(coefficient: Callable[[], Tensor], holes_in_y: bool = False) -> pm.Model:
    observed = np.where(np.arange(n) % 7 == 3, np.nan, Y) if holes_in_y else Y
    with pytest.warns(ImputationWarning), autocast_float_as("float64"), pm.Model() as model:
        m = mediator(True, HOLES)
        v = pm.Normal("v", 0.0, pm.HalfNormal("omega"), shape=6)
        pm.Normal("Y", coefficient() * m + v[g], pm.HalfNormal("sigma"), observed=observed)
    return model


@pytest.mark.parametrize("holes_in_y", [False, True])
@pytest.mark.parametrize("family", [pm.StudentT, pm.Normal])
def test_missing_values_are_effects(family: type, holes_in_y: bool) -> None:
    """Given the coefficient all is jointly Gaussian; a Normal coefficient stays sampled."""
    model = imputed(lambda: family("b", **({"nu": 3} if family is pm.StudentT else {})), holes_in_y)
    marginal = unfolded(model)
    gone = ["a", "u", "M_unobserved", "v"]
    left = {rv.name for rv in model.free_RVs} - {rv.name for rv in marginal.free_RVs}
    assert left == {*gone, *(["Y_unobserved"] if holes_in_y else [])}
    if family is pm.Normal:
        assert "multiplied by another effect" in mlmm.explain(model).refusals["b"].reason
    point = random_point(model, 1)
    own = {value.name: point[value.name] for value in marginal.value_vars}
    terms = [marginal[rv.name] for rv in model.observed_RVs]
    assert_allclose(
        density_at(mlmm.conditional(marginal), point), density_at(model, point), rtol=1e-8
    )
    if holes_in_y:
        return
    reference = dense_reference(model, tuple(gone), point)
    assert_allclose(density_at(marginal, own), reference.log_density, rtol=1e-8)
    assert_same_posterior(marginal, model, tuple(gone), own, reference)
    assert np.isfinite(marginal.compile_logp(vars=terms, mode=FAST)(own))


def test_a_coefficient_that_is_asked_for_leaves_the_missing_values_sampled() -> None:
    model = imputed(lambda: pm.Normal("b"))
    marginal = unfolded(model, ["b", "v"])
    point = random_point(model, 1)
    own = {value.name: point[value.name] for value in marginal.value_vars}
    reference = dense_reference(model, ("b", "v"), point)
    assert_allclose(density_at(marginal, own), reference.log_density, rtol=1e-8)


def test_missing_values_and_their_coefficient_are_a_product() -> None:
    model = imputed(lambda: pm.Normal("b"))
    with pytest.raises(mlmm.NotMarginalizable, match="multiplied by another effect"):
        mlmm.marginalize(model, ["a", "u", "b", "M_unobserved"])
    with pytest.raises(mlmm.NotMarginalizable, match="prior mean of 'M_unobserved'"):
        mlmm.marginalize(model, ["a", "u", "b"])


def test_missing_values_in_counts_stay_sampled() -> None:
    with pytest.warns(ImputationWarning), pm.Model() as model:
        pm.Poisson("K", pt.exp(0.3 * mediator(True, HOLES)), observed=K)
    refusals = mlmm.explain(model).refusals
    assert "Poisson" in refusals["M_unobserved"].reason
    for name in ("a", "u"):
        assert "prior mean of 'M_unobserved'" in refusals[name].reason
