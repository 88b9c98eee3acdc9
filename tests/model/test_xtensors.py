"""Models written with ``pymc.dims``: names, dims, transforms and density stay."""

from __future__ import annotations

import logging
from collections.abc import Callable

import cloudpickle
import numpy as np
import pymc as pm
import pymc.dims as pmd
import pytest
from numpy.testing import assert_allclose
from pytensor.graph.traversal import ancestors
from pytensor.xtensor.type import XTensorType, XTensorVariable

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model.xtensors import without_xtensors
from tests.helpers import random_point, unfolded
from tests.integration.checks import check_model

rng = np.random.default_rng(0)
n, groups, items = 24, 4, 3
g, h = np.repeat(np.arange(groups), 6), np.tile(np.arange(items), 8)
x = rng.normal(size=n)
y = rng.normal(size=n) + g
panel = rng.normal(size=(groups, items))

COORDS = {
    "obs": np.arange(n) + 100,
    "group": list("abcd"),
    "item": ["p", "q", "r"],
    "effect": ["intercept", "slope"],
}

WRITTEN: dict[str, tuple[Callable[[], object], set[str]]] = {}


def integrates(*names: str) -> Callable:
    def register(build: Callable[[], object]) -> Callable[[], object]:
        WRITTEN[build.__name__.removeprefix("_")] = (build, set(names))
        return build

    return register


def build_model(name: str) -> pm.Model:
    with pm.Model(coords=COORDS) as model:
        WRITTEN[name][0]()
    return model


def xt(values: np.ndarray, *dims: str) -> XTensorVariable:
    return pmd.as_xtensor(values, dims=dims)


def observe(mu: XTensorVariable, sigma: XTensorVariable | None = None) -> None:
    sigma = pmd.HalfNormal("sigma", 1.0) if sigma is None else sigma
    pmd.Normal("y", mu, sigma, observed=xt(y, "obs"))


def effects(name: str = "u", dim: str = "group") -> XTensorVariable:
    return pmd.Normal(name, 0.0, pmd.HalfNormal(f"tau_{name}", 1.0), dims=dim)


def design() -> XTensorVariable:
    return xt(np.stack([np.ones(n), x], axis=1), "obs", "effect")


@integrates("u")
def _intercepts() -> None:
    observe(effects().isel(group=xt(g, "obs")))


@integrates("a", "b", "u")
def _with_data_and_deterministics() -> None:
    index, covariate = pmd.Data("index", g, dims="obs"), pmd.Data("covariate", x, dims="obs")
    a, b = pmd.Normal("a", 0.0, 5.0), pmd.Normal("b", 0.0, 5.0)
    mu = a + b * covariate + effects().isel(group=index)
    observe(pmd.Deterministic("mu", mu))


@integrates("u")
def _slopes_by_broadcasting() -> None:
    u = pmd.Normal("u", 0.0, pmd.HalfNormal("tau", 1.0, dims="effect"), dims=("group", "effect"))
    observe((u.isel(group=xt(g, "obs")) * design()).sum("effect"))


@integrates("u")
def _slopes_by_dot() -> None:
    u = pmd.Normal("u", 0.0, pmd.HalfNormal("tau", 1.0, dims="effect"), dims=("effect", "group"))
    observe(pmd.dot(u.isel(group=xt(g, "obs")), design(), dim="effect"))


@integrates("u")
def _non_centered() -> None:
    z = pmd.Normal("u", 0.0, 1.0, dims="group")
    u = pmd.Deterministic("scaled", pmd.HalfNormal("tau", 1.0) * z)
    observe(u.isel(group=xt(g, "obs")))


@integrates("u", "v")
def _crossed() -> None:
    observe(effects().isel(group=xt(g, "obs")) + effects("v", "item").isel(item=xt(h, "obs")))


@integrates("m", "u")
def _hierarchical_mean() -> None:
    m = pmd.Normal("m", 0.0, 1.0, dims="item")
    u = pmd.Normal("u", m, pmd.HalfNormal("tau", 1.0), dims=("item", "group"))
    observe(u.isel(group=xt(g, "obs"), item=xt(h, "obs")))


@integrates("m", "u")
def _dims_in_another_order_than_the_parameters() -> None:
    m = pmd.Normal("m", 0.0, 1.0, dims="group")
    u = pmd.Normal("u", m, pmd.HalfNormal("tau", 1.0, dims="item"), dims=("item", "group"))
    observe(u.isel(group=xt(g, "obs"), item=xt(h, "obs")))


@integrates("u")
def _correlated_slopes() -> None:
    sd = pm.HalfNormal.dist(1.0, shape=2)
    chol, _, _ = pm.LKJCholeskyCov("chol", n=2, eta=2.0, sd_dist=sd)
    u = pmd.MvNormal(
        "u",
        mu=xt(np.zeros(2), "effect"),
        chol=pmd.as_xtensor(chol, dims=("effect", "effect_")),
        core_dims=("effect", "effect_"),
        dims=("group", "effect"),
    )
    observe((u.isel(group=xt(g, "obs")) * design()).sum("effect"))


@integrates("u", "v")
def _two_axes_of_rows() -> None:
    mu = effects() + effects("v", "item") * xt(panel, "item_", "item").isel(item_=0)
    pmd.Normal("y", mu, 1.0, observed=xt(panel, "group", "item"))


@integrates("u", "v")
def _observed_with_transposed_axes() -> None:
    mu = effects() + effects("v", "item")
    sigma = pmd.HalfNormal("sigma", 1.0)
    pmd.Normal("y", mu, sigma, observed=xt(panel.T, "item", "group"), dims=("item", "group"))


@integrates("u", "w")
def _mixed_with_ordinary_variables() -> None:
    u = pm.Normal("u", 0.0, pmd.HalfNormal("tau", 1.0).values, dims="group")
    w = effects("w", "item")
    mu = u[g] + w.values[h]
    pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=y, dims="obs")


@integrates("u")
def _ordinary_inside_dims() -> None:
    u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), dims="group")
    observe(pmd.as_xtensor(u, dims="group").isel(group=xt(g, "obs")))


@integrates("u", "v")
def _joined_and_sliced() -> None:
    u = effects().isel(group=slice(0, 3)).rename(group="level")
    both = pmd.concat([u, effects("v", "item").rename(item="level")], dim="level")
    observe(both.isel(level=xt(g + h % 2, "obs")))


@integrates("u")
def _masked_by_data() -> None:
    mask = pmd.Data("mask", x > 0, dims="obs")
    observe(pmd.math.where(mask, effects().isel(group=xt(g, "obs")), 0.0))


@integrates("u")
def _centered_at_their_mean() -> None:
    u = effects()
    observe((u - u.mean("group")).isel(group=xt(g, "obs")))


@integrates("u")
def _first_level_as_reference() -> None:
    observe(effects().isel(group=0).set(0.0).isel(group=xt(g, "obs")))


@integrates("u")
def _indicator_matrix() -> None:
    observe(pmd.dot(xt(np.eye(groups)[g], "obs", "group"), effects()))


@integrates("u")
def _product_of_two_effects() -> None:
    observe(effects().isel(group=xt(g, "obs")) * effects("v", "item").isel(item=xt(h, "obs")))


@integrates("u", "zero")
def _parameters_with_transforms() -> None:
    zero = pmd.ZeroSumNormal("zero", core_dims="item")
    share = pmd.Dirichlet("share", xt(np.ones(items), "item"), core_dims="item", dims="item")
    p = pmd.Beta("p", 2.0, 2.0, dims="item")
    low = pmd.Uniform("low", -1.0, 1.0)
    observe(
        p.isel(item=0) * effects().isel(group=xt(g, "obs"))
        + (zero * share).isel(item=xt(h, "obs"))
        + low
    )


@integrates("b", "u")
def _flat() -> None:
    observe(pmd.Flat("b") * xt(x, "obs") + effects().isel(group=xt(g, "obs")))


@integrates("u")
def _zero_sum_by_covariate() -> None:
    tau = pmd.HalfNormal("tau", 1.0, dims="effect")
    u = pmd.ZeroSumNormal("u", tau, core_dims="group", dims=("effect", "group"))
    observe((u.isel(group=xt(g, "obs")) * design()).sum("effect"))


@integrates("u")
def _zero_sum_along_two_dims() -> None:
    u = pmd.ZeroSumNormal("u", pmd.HalfNormal("tau", 1.0), core_dims=("group", "item"))
    observe(u.isel(group=xt(g, "obs"), item=xt(h, "obs")))


@integrates("u")
def _covariance_with_core_dims_given() -> None:
    cov = xt(np.array([[1.0, 0.3], [0.3, 0.5]]), "effect", "effect_")
    mean = xt(np.zeros(2), "effect")
    dims = ("group", "effect")
    u = pmd.MvNormal("u", mean, cov=cov, core_dims=("effect", "effect_"), dims=dims)
    observe((u.isel(group=xt(g, "obs")) * design()).sum("effect"))


@integrates("u")
def _cumulative_sum() -> None:
    u = effects().cumsum("group")
    observe(u.isel(group=xt(g, "obs")) + u.diff("group").sum("group"))


@integrates("walk")
def _walk_of_ordinary_pymc() -> None:
    tau, start = pm.HalfNormal("tau"), pm.Normal.dist(0.0, 1.0)
    walk = pm.GaussianRandomWalk("walk", sigma=tau, init_dist=start, dims="group")
    observe(pmd.as_xtensor(walk, dims=("group",)).isel(group=xt(g, "obs")))


@integrates("u")
def _potential_and_sigma_by_row() -> None:
    b = pmd.Normal("b", 0.0, 1.0)
    pmd.Potential("soft", -(b**2))
    sigma = pmd.math.exp(pmd.Normal("log_sigma", 0.0, 1.0, dims="item")).isel(item=xt(h, "obs"))
    observe(b * xt(x, "obs") + effects().isel(group=xt(g, "obs")), sigma)


@integrates("u")
def _lognormal() -> None:
    mu = effects().isel(group=xt(g, "obs"))
    pmd.LogNormal("y", mu, pmd.HalfNormal("sigma", 1.0), observed=xt(np.exp(y), "obs"))


@integrates("u")
def _student_effects_stay() -> None:
    v = pmd.StudentT("v", nu=4.0, mu=0.0, sigma=1.0, dims="item")
    observe(effects().isel(group=xt(g, "obs")) + v.isel(item=xt(h, "obs")))


@pytest.mark.parametrize("name", WRITTEN)
def test_identity(name: str) -> None:
    marginal = check_model(build_model(name), WRITTEN[name][1])
    assert not any(isinstance(v.type, XTensorType) for v in ancestors(marginal.basic_RVs))


@pytest.mark.parametrize("name", WRITTEN)
def test_the_lowered_model_has_the_same_density_and_values(name: str) -> None:
    model = build_model(name)
    lowered = without_xtensors(model)
    point = random_point(model, 1)
    found, expected = (m.compile_logp(mode="FAST_COMPILE")(point) for m in (lowered, model))
    assert_allclose(found, expected, rtol=1e-12)
    assert lowered.initial_point().keys() == model.initial_point().keys()
    for rv in model.free_RVs:
        assert lowered[rv.name].type.ndim == rv.type.ndim


@pytest.mark.parametrize("family", ["MvNormal", "ZeroSumNormal"])
def test_core_dims_that_are_not_the_last(family: str) -> None:
    def build(*dims: str) -> pm.Model:
        with pm.Model(coords=COORDS) as model:
            if family == "MvNormal":
                mean, cov = xt(np.zeros(2), "effect"), xt(np.eye(2), "effect", "effect_")
                core_dims = ("effect", "effect_")
                u = pmd.MvNormal("u", mean, cov=cov, core_dims=core_dims, dims=dims)
            else:
                u = pmd.ZeroSumNormal("u", 1.0, core_dims="effect", dims=dims)
            observe(u.isel(group=xt(g, "obs")).sum("effect") + u.isel(group=0, effect=1))
        return model

    with pytest.raises(mlmm.NotMarginalizable, match=f"of its {family} prior") as caught:
        mlmm.marginalize(build("effect", "group"), ["u"])
    assert "Write dims with the core dims last" in str(caught.value)
    assert mlmm.explain(build("group", "effect")).integrated == ("u",)


def test_ordinary_models_are_left_alone() -> None:
    with pm.Model() as model:
        pm.Normal("y", pm.Normal("u"), 1.0, observed=y)
    assert without_xtensors(model) is model


def test_initial_values_and_data_stay() -> None:
    with pm.Model(coords=COORDS) as model:
        tau = pmd.HalfNormal("tau", 1.0, initval=0.25)
        u = pmd.Normal("u", 0.0, tau, dims="group")
        covariate = pmd.Data("covariate", x, dims="obs")
        observe(u.isel(group=xt(g, "obs")) * covariate)
    marginal = unfolded(model)
    assert_allclose(marginal.initial_point()["tau_log__"], np.log(0.25))
    point = {name: value for name, value in marginal.initial_point().items()}
    before = marginal.compile_logp(mode="FAST_COMPILE")(point)
    with model:
        pm.set_data({"covariate": 2.0 * x})
    with marginal:
        assert_allclose(marginal.compile_logp(mode="FAST_COMPILE")(point), before)  # a copy
        pm.set_data({"covariate": 2.0 * x})
    expected = unfolded(model).compile_logp(mode="FAST_COMPILE")(point)
    assert_allclose(marginal.compile_logp(mode="FAST_COMPILE")(point), expected)
    assert abs(expected - before) > 1e-3


def test_variables_can_be_given_as_arguments() -> None:
    model = build_model("crossed")
    marginal = unfolded(model, [model["v"]])
    assert {rv.name for rv in marginal.free_RVs} == {"tau_u", "tau_v", "sigma", "u"}


@pytest.mark.parametrize("name", ["parameters_with_transforms", "correlated_slopes"])
def test_pickles(name: str) -> None:
    marginal = unfolded(build_model(name))
    copy = cloudpickle.loads(cloudpickle.dumps(marginal))
    point = random_point(marginal, 1)
    found, expected = (m.compile_logp(mode="FAST_COMPILE")(point) for m in (copy, marginal))
    assert_allclose(found, expected)


def test_sampling_and_recovery() -> None:
    logging.getLogger("pymc").setLevel(logging.ERROR)
    marginal = unfolded(build_model("parameters_with_transforms"))
    with marginal:
        idata = pm.sample(
            nuts_sampler="numpyro",
            draws=20,
            tune=20,
            chains=1,
            random_seed=1,
            progressbar=False,
            compute_convergence_checks=False,
        )
    posterior = mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)["posterior"]
    assert posterior["u"].dims == ("chain", "draw", "group")
    assert list(posterior["group"].values) == COORDS["group"]
    assert np.isfinite(posterior["u"]).all()
    assert_allclose(posterior["zero"].sum("item"), 0.0, atol=1e-12)
    assert_allclose(posterior["share"].sum("item"), 1.0)


def test_index_out_of_range() -> None:
    with pm.Model(coords=COORDS) as model:
        observe(effects().isel(group=xt(g + 1, "obs")))
    with pytest.raises(mlmm.NotMarginalizable, match="index is out of range"):
        mlmm.marginalize(model, "u")


REFUSED: dict[str, tuple[Callable[[XTensorVariable], object], str]] = {
    "StudentT": (
        lambda mu: pmd.StudentT("y", nu=4.0, mu=mu, sigma=1.0, observed=xt(y, "obs")),
        "StudentT",
    ),
    "Censored": (
        lambda mu: pmd.Censored(
            "y", pmd.Normal.dist(mu, 1.0), lower=0.0, observed=xt(np.maximum(y, 0), "obs")
        ),
        "Censored",
    ),
    "Poisson": (lambda mu: pmd.Poisson("y", pmd.math.exp(mu), observed=xt(h, "obs")), "Poisson"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_likelihoods(name: str) -> None:
    build, reason = REFUSED[name]
    with pm.Model(coords=COORDS) as model:
        build(effects().isel(group=xt(g, "obs")))
    with pytest.raises(mlmm.NotMarginalizable, match=f"the likelihood of 'y' is .*({reason})"):
        mlmm.marginalize(model, "u")
