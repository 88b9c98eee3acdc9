"""What few write and some do: the exact joint density all the same, never another one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pymc.model.fgraph import clone_model
from xarray import Dataset, DataTree

import pymc_marginal_lmm as mlmm
from tests.helpers import unfolded

rng = np.random.default_rng(0)
n = 20
g, h = np.repeat(np.arange(4), 5), np.tile(np.arange(5), 4)
x = rng.normal(size=n)
y = rng.normal(size=n) + g
some = x > 0

ODD: dict[str, tuple[Callable[[], object], set[str]]] = {}


def integrates(*names: str) -> Callable:
    def register(build: Callable[[], object]) -> Callable[[], object]:
        ODD[build.__name__.removeprefix("_")] = (build, set(names))
        return build

    return register


def effects(levels: int = 4) -> pt.TensorVariable:
    return pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=levels)


def observe(mu: pt.TensorVariable, observed: np.ndarray | float = y) -> None:
    pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=observed)


@integrates("u")
def _covariate_of_zeros() -> None:
    """An effect that no row feels: nothing but its prior."""
    observe(effects()[g] * np.zeros(n))


@integrates("u", "a")
def _covariate_of_zeros_beside_another_effect() -> None:
    observe(pm.Normal("a") + effects()[g] * np.zeros(n))


@integrates("a")
def _empty_sum() -> None:
    """An effect of which no element is picked enters no likelihood, and stays sampled."""
    observe(pm.Normal("a") + effects()[np.array([], dtype=int)].sum() + np.zeros(n))


@integrates("u")
def _rows_that_a_condition_takes_out() -> None:
    covariate = np.where(some, x, 0.0)
    with np.errstate(divide="ignore"):
        observe(pt.switch(some, effects()[g] / covariate, 0.0))


@integrates("u")
def _missing_covariates_that_a_condition_takes_out() -> None:
    observe(pt.switch(some, effects()[g] * np.where(some, x, np.nan), 0.0))


@integrates("u")
def _written_over() -> None:
    product = effects()[g] * np.where(some, x, np.nan)
    observe(product[np.flatnonzero(~some)].set(0.0))


@integrates("u", "b")
def _shape_of_another_effect() -> None:
    u, b = effects(), pm.Normal("b")
    observe((u + b * pt.ones_like(u))[g])


@integrates("u")
def _fraction() -> None:
    """Python numbers become constants of single precision where that is exact."""
    observe(100.0 * effects()[g] / 3.0)


@integrates("u")
def _single_precision_covariate() -> None:
    observe(effects()[g] / x.astype("float32"))


@integrates("u")
def _integer_covariate() -> None:
    observe(effects()[g] * np.arange(n))


@integrates("u")
def _logical_covariate() -> None:
    observe(effects()[g] * some)


@integrates("u")
def _integer_response() -> None:
    observe(effects()[g], np.arange(n))


@integrates("u")
def _scalars() -> None:
    observe(effects(1)[0], 0.3)


@integrates("u")
def _nothing_stays_sampled() -> None:
    pm.Normal("y", pm.Normal("u", shape=4)[g], 1.0, observed=y)


@integrates("u")
def _covariance_from_a_wide_factor() -> None:
    """``W Wᵀ`` is positive definite with ``W`` 2×5, but ``W`` is not a square root to draw with."""
    W = pm.Normal("W", shape=(2, 5))
    u = pm.MvNormal("u", np.zeros(2), cov=W @ W.T, shape=(4, 2))
    observe(u[g, 0] + u[g, 1] * x)


@integrates("u")
def _covariance_from_a_square_that_is_not_triangular() -> None:
    W = pm.Normal("W", shape=(2, 2))
    u = pm.MvNormal("u", np.zeros(2), cov=W @ W.T, shape=(4, 2))
    observe(u[g, 0] + u[g, 1] * x)


@integrates("u")
def _covariance_from_the_other_side() -> None:
    W = pm.Normal("W", shape=(5, 2))
    u = pm.MvNormal("u", np.zeros(2), cov=W.T @ W, shape=(4, 2))
    observe(u[g, 0] + u[g, 1] * x)


@integrates("u")
def _covariance_per_level() -> None:
    covs = np.array([[[2.0, 0.3], [0.3, 1.0 + i]] for i in range(4)])
    u = pm.MvNormal("u", np.zeros(2), chol=np.linalg.cholesky(covs))
    observe(u[g, 0] + u[g, 1] * x)


@integrates("u")
def _gaussian_process() -> None:
    """One block of as many effects as rows."""
    distance = np.abs(x[:, None] - x)
    cov = np.exp(-distance) + 1e-6 * np.eye(n)
    observe(pm.MvNormal("u", np.zeros(n), cov=cov))


@integrates("u")
def _correlated_levels() -> None:
    """The levels of one vector are correlated: one block, hit in several places."""
    u = pm.MvNormal("u", np.zeros(5), cov=np.eye(5) + 0.1)
    observe(u[h] + 0.5 * u[4])


@integrates("u", "v", "w")
def _chain_of_means() -> None:
    u = effects()
    v = pm.Normal("v", u[::-1], 0.5, shape=4)
    w = pm.Normal("w", u + v, 0.5, shape=4)
    observe(w[g] + v[(g + 1) % 4] * x)


@integrates("u")
def _scales_that_broadcast() -> None:
    u = pm.Normal("u", 0.0, np.array([[1.0], [2.0], [3.0]]), shape=(3, 4))
    observe(u[h % 3, g])


@integrates("u", "m")
def _means_and_scales_that_broadcast() -> None:
    m = pm.Normal("m", shape=4)
    u = pm.Normal("u", m, pm.HalfNormal("tau", shape=(3, 1)), shape=(3, 4))
    observe(u[h % 3, g])


@integrates("u")
def _parameter_in_mean_and_scale() -> None:
    v = pm.Normal("v")
    observe(pm.Normal("u", v, abs(v) + 1.0, shape=4)[g])


@integrates("u")
def _parameter_in_design_and_offset() -> None:
    t = pm.Normal("t")
    observe(effects()[g] * pt.exp(t) + t * x)


@integrates("u")
def _discrete_parameter() -> None:
    observe(pt.switch(pm.Bernoulli("k", 0.5), effects()[g], 0.0))


@integrates("u")
def _response_with_two_columns() -> None:
    u = effects()
    mu = pt.stack([u[g], u[h % 4]], axis=1)
    pm.Normal("y", mu, pm.HalfNormal("sigma", shape=2), observed=np.stack([y, y + 1], axis=1))


@integrates("u")
def _replicated_response() -> None:
    observe(effects()[g], np.stack([y, y + 1.0, y - 1.0]))


@integrates("u")
def _two_families() -> None:
    u = effects()
    observe(u[g])
    pm.LogNormal("z", 0.5 * u[g], pm.HalfNormal("sigma_z"), observed=np.exp(y))


@integrates("u", "b")
def _unrelated_likelihoods() -> None:
    observe(effects()[g])
    pm.Normal("z", pm.Normal("b") * x, pm.HalfNormal("sigma_z"), observed=y)


@integrates("u")
def _student_likelihood_as_weights() -> None:
    """What the refusal of a StudentT likelihood recommends."""
    nu = pm.Gamma("nu", 2.0, 0.1)
    w = pm.Gamma("w", nu / 2, nu / 2, shape=n)
    pm.Normal("y", effects()[g], pm.HalfNormal("sigma") / w**0.5, observed=y)


@integrates("u")
def _negative_index() -> None:
    observe(effects()[g - 4])


@integrates("u")
def _written_in_pieces() -> None:
    u = effects()
    mu = pt.zeros(n)[:10].set(u[g[:10]])[10:].inc(2.0 * u[g[10:]])
    observe(pt.concatenate([mu[::2], mu[1::2]])[np.argsort(np.r_[0:n:2, 1:n:2])])


@integrates("sub::u")
def _nested_model() -> None:
    with pm.Model("sub"):
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=4)
        pm.Normal("y", u[g], 1.0, observed=y)


def _aliases() -> None:
    """Deterministics that are nothing but another one, data, or an effect that stays."""
    shift = pm.Data("shift", x)
    same = pm.Deterministic("same_shift", shift)
    w = pm.Normal("w", 0.0, 1.0, shape=5)
    also_w = pm.Deterministic("also_w", pm.Deterministic("same_w", w))
    twice = pm.Deterministic("twice", 2 * pm.HalfNormal("scale"))
    once_more = pm.Deterministic("once_more", pm.Deterministic("again", twice))
    pm.Normal("of_w", pt.abs(also_w[h]), 1.0, observed=y)
    observe(once_more * effects()[g] + same)


integrates("u")(_aliases)


@pytest.mark.parametrize("name", ODD)
def test_identity(name: str) -> None:
    """``log p(y, v) = log p(y) + log p(v | y)``, and a gradient that is finite."""
    build, expected = ODD[name]
    with pm.Model() as model:
        build()
    marginal = unfolded(model)
    assert {rv.name for rv in model.free_RVs} - {rv.name for rv in marginal.free_RVs} == expected
    both = mlmm.conditional(marginal)
    numbers = np.random.default_rng(1)
    point = {
        name: np.asarray(value + numbers.normal(size=value.shape), dtype=value.dtype)
        for name, value in model.initial_point(random_seed=1).items()
    }
    plain = model.compile_logp(mode="FAST_COMPILE")(point)
    assert np.isfinite(plain)
    np.testing.assert_allclose(both.compile_logp(mode="FAST_COMPILE")(point), plain, rtol=1e-9)
    parameters = {variable.name: point[variable.name] for variable in marginal.value_vars}
    if marginal.continuous_value_vars:
        gradient = marginal.compile_dlogp(mode="FAST_COMPILE")(parameters)
        assert np.isfinite(gradient).all()


def test_every_variable_keeps_its_name() -> None:
    """PyMC's conversions make one variable of two Deterministics that are the same."""
    with pm.Model() as model:
        _aliases()
    marginal = unfolded(model)
    conversions = {
        "marginal": marginal,
        "conditional": mlmm.conditional(marginal),
        "plain again": mlmm.unmarginalize(marginal),
        "non-centred": mlmm.noncenter(model, ["u"]),
        "cloned twice": clone_model(clone_model(marginal)),
    }
    for how, new in conversions.items():
        names = {name: variable.name for name, variable in new.named_vars.items()}
        assert names == {name: name for name in names}, how
        known = [d.name for d in model.deterministics]
        assert [d.name for d in new.deterministics if d.name in known] == known, how


WIDE = range(40)  # more operands than PyTensor's interpreter can do at once


def _of_many(add: Callable, multiply: Callable) -> pm.Model:
    """Sum in a mean, in the scales of effects and of rows, and in what is known."""
    with pm.Model() as model:
        known = add(*(pt.constant(np.full(4, 0.01 * i)) for i in WIDE))
        v = [pm.Normal(f"v{i}", 0.0, 0.1) for i in WIDE]
        u = pm.Normal("u", 0.0, add(*(pm.HalfNormal(f"tau{i}") for i in WIDE)), shape=4)
        pm.Deterministic("product", multiply(*v))
        mean = add(u[g], *(v[i] * (np.arange(n) % 40 == i) for i in WIDE))
        pm.Normal("y", mean, pm.HalfNormal("sigma") * (1 + known)[g], observed=y)
    return model


def test_operations_of_many_operands() -> None:
    """Reading, and draws, as of operations of two."""

    def draws_of(model: pm.Model) -> Dataset:
        assert {"u", *(f"v{i}" for i in WIDE[:20])} <= set(mlmm.explain(model).integrated)
        marginal = unfolded(model)
        drawn = pm.draw(marginal.free_RVs, draws=3, random_seed=1)
        names = [rv.name for rv in marginal.free_RVs]
        posterior = {k: (("chain", "draw"), x[None]) for k, x in zip(names, drawn, strict=True)}
        idata = DataTree.from_dict({"posterior": Dataset(posterior)})
        return mlmm.recover(
            idata, model=marginal, random_seed=1, progressbar=False, extend_inferencedata=False
        )

    of_two = draws_of(_of_many(lambda *x: sum(x), lambda *x: np.prod(x)))
    of_many = draws_of(_of_many(pt.add, pt.mul))
    for name, values in of_two.items():
        np.testing.assert_allclose(of_many[name], values, rtol=1e-9)
    np.testing.assert_allclose(
        of_many["product"], np.prod([of_many[f"v{i}"] for i in WIDE], axis=0)
    )
