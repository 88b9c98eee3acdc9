"""``pm.Data`` in a marginal model: what can be set is alive, what cannot says so and why."""

from __future__ import annotations

from collections.abc import Callable

import cloudpickle
import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from pymc.exceptions import ShapeError
from pymc.model.fgraph import clone_model
from pymc.model.transform.optimization import freeze_dims_and_data
from pymc.sampling.jax import get_jaxified_logp

import pymc_marginal_lmm as mlmm
from tests.helpers import random_point, unfolded

FAST = "FAST_COMPILE"
rng = np.random.default_rng(0)
n = 12
Y, Z = rng.normal(size=(2, n))


def build(dims: bool = True, sd: str = "sigma") -> pm.Model:
    """Rows by pm.Data: an index, covariates of fixed and of random effects, the response."""
    row = "row" if dims else None
    with pm.Model(coords={"level": list("abc")}) as model:
        if dims:
            model.add_coord("row", [f"r{i}" for i in range(n)])
        g = pm.Data("g", np.repeat([0, 1, 2], 4), dims=row)
        x = pm.Data("x", np.linspace(-1, 1, n), dims=row)
        z = pm.Data("z", Z, dims=row)
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), dims="level")
        v = pm.Normal("v", 0.0, pm.HalfNormal("omega"), dims="level")
        mu = pm.Deterministic("mu", pm.Laplace("b", 0.0, 1.0) * x + u[g] + v[g] * z, dims=row)
        pm.Normal("y", mu, pm.HalfNormal(sd), observed=pm.Data("y_data", Y, dims=row), dims=row)
    return model


def through_pickle(model: pm.Model) -> pm.Model:
    return cloudpickle.loads(cloudpickle.dumps(model))


def noncentered(model: pm.Model) -> pm.Model:
    with model:
        pm.Normal("another")
    return mlmm.noncenter(model, ["another"])


COPIES = {
    "itself": lambda model: model,
    "clone": clone_model,
    "pickle": through_pickle,
    "noncenter": noncentered,
    "unmarginalize": mlmm.unmarginalize,
    "conditional": mlmm.conditional,
}
with_copies = pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())

NEW = {"x": np.linspace(0, 3, n), "z": rng.normal(size=n), "y_data": Y + 1}


@pytest.mark.parametrize("dims", [True, False])
@pytest.mark.parametrize("name", NEW)
def test_setting_data_is_marginalizing_with_new_data(name: str, dims: bool) -> None:
    marginal = unfolded(build(dims))
    logp = marginal.compile_logp(mode=FAST)
    point = random_point(marginal, 1)
    before = logp(point)
    pm.set_data({name: NEW[name]}, model=marginal)
    plain = build(dims)
    pm.set_data({name: NEW[name]}, model=plain)
    expected = unfolded(plain).compile_logp(mode=FAST)(point)
    assert abs(expected - before) > 1e-3
    assert_allclose(logp(point), expected, rtol=1e-10)
    assert_allclose(marginal.compile_logp(mode=FAST)(point), expected, rtol=1e-10)


def test_jax_takes_the_data_as_they_are() -> None:
    marginal = unfolded(build())
    pm.set_data(NEW, model=marginal)
    point = random_point(marginal, 1)
    expected = marginal.compile_logp(mode=FAST)(point)
    logp = get_jaxified_logp(marginal)
    assert_allclose(logp([point[v.name] for v in marginal.value_vars]), expected, rtol=1e-8)


def test_marginal_and_original_model_are_independent() -> None:
    plain = build()
    marginal = unfolded(plain)
    point = random_point(marginal, 1)
    before = marginal.compile_logp(mode=FAST)(point)
    pm.set_data(
        {name: np.zeros(15, dtype=int) for name in ("g", "x", "z", "y_data")},
        model=plain,
        coords={"row": range(15)},
    )
    assert_allclose(marginal.compile_logp(mode=FAST)(point), before)
    assert len(marginal.coords["row"]) == n
    assert marginal.dim_lengths["row"].eval(mode=FAST) == n
    pm.set_data({"x": NEW["x"]}, model=marginal)
    assert_allclose(plain["x"].get_value(), 0)


def state(model: pm.Model) -> dict[str, object]:
    values = {v.name: v.get_value() for v in model.data_vars if hasattr(v, "get_value")}
    lengths = {name: int(v.eval(mode=FAST)) for name, v in model.dim_lengths.items()}
    return {"coords": dict(model.coords), "values": values, "lengths": lengths}


@with_copies
@pytest.mark.parametrize("rows", [n, n + 3])
@pytest.mark.parametrize("dims", [True, False])
def test_an_index_cannot_be_set(copy: Callable, dims: bool, rows: int) -> None:
    model = copy(unfolded(build(dims)))
    before = state(model)
    coords = {"row": range(rows)} if dims else None
    with pytest.raises(
        TypeError, match=r"`g` .* marginalize.. has read .* original model and call"
    ):
        pm.set_data({"g": np.zeros(rows, dtype=int)}, model=model, coords=coords)
    np.testing.assert_equal(state(model), before)


@with_copies
@pytest.mark.parametrize("name", NEW)
def test_shapes_stay(copy: Callable, name: str) -> None:
    model = copy(unfolded(build(dims=False)))
    before = state(model)
    message = rf"'{name}' has shape \(12,\) .* have \(15,\): .* original model and call"
    with pytest.raises(ValueError, match=message):
        pm.set_data({name: np.zeros(15)}, model=model)
    np.testing.assert_equal(state(model), before)


@with_copies
@pytest.mark.parametrize("name", NEW)
def test_dims_stay(copy: Callable, name: str) -> None:
    model = copy(unfolded(build(dims=True)))
    before = state(model)
    with pytest.raises(ShapeError, match=r"'row' .* marginal model; .* original model and call"):
        pm.set_data({name: np.zeros(15)}, model=model, coords={"row": range(15)})
    np.testing.assert_equal(state(model), before)


def test_dims_that_follow_data() -> None:
    with pm.Model(coords={"level": list("abc")}) as plain:
        x = pm.Data("x", np.linspace(-1, 1, n), dims="row", coords={"row": range(n)})
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), dims="level")
        mu = pm.Laplace("b", 0.0, 1.0) * x + u[np.repeat([0, 1, 2], 4)]
        pm.Normal("y", mu, 1.0, observed=Y, dims="row")
    marginal = unfolded(plain)
    before = state(marginal)
    with pytest.raises(ShapeError, match="marginal model"):
        pm.set_data({"x": np.zeros(15)}, model=marginal, coords={"row": range(15)})
    np.testing.assert_equal(state(marginal), before)
    pm.set_data({"x": np.zeros(n)}, model=marginal, coords={"row": range(n, 2 * n)})
    assert marginal.coords["row"] == tuple(range(n, 2 * n))
    with marginal:
        assert pm.Normal("extra", dims="row").shape.eval(mode=FAST) == n


def test_other_data_may_have_any_shape() -> None:
    with build(dims=False) as plain:
        other = pm.Data("other", np.ones(3))
        pm.Poisson("count", pm.Gamma("rate", 2, 1), observed=other.astype(int), shape=other.shape)
    marginal = unfolded(plain)
    point = random_point(marginal, 1)
    before = marginal.compile_logp(mode=FAST)(point)
    pm.set_data({"other": np.ones(7)}, model=marginal)
    assert marginal.compile_logp(mode=FAST)(point) != before


def test_freezing() -> None:
    marginal = unfolded(build())
    frozen = freeze_dims_and_data(marginal)
    point = random_point(marginal, 1)
    expected = marginal.compile_logp(mode=FAST)(point)
    assert_allclose(frozen.compile_logp(mode=FAST)(point), expected, rtol=1e-12)
    again = unfolded(freeze_dims_and_data(build()))
    assert_allclose(again.compile_logp(mode=FAST)(point), expected, rtol=1e-12)
    # These were frozen by the user, who knows why.
    for model in (frozen, again):
        with pytest.raises(TypeError, match="TensorConstant"):
            pm.set_data({"x": NEW["x"]}, model=model)


def test_explain_names_what_is_constant() -> None:
    plain = build()
    assert mlmm.explain(plain).frozen == ("g",)
    assert mlmm.explain(unfolded(plain)).frozen == ("g",)


def test_results_keep_data_and_their_dims() -> None:
    marginal = unfolded(build())
    draws = pm.sample_prior_predictive(2, model=marginal, compile_kwargs={"mode": FAST})
    assert draws["constant_data"]["g"].dims == draws["constant_data"]["x"].dims == ("row",)
    assert list(draws["constant_data"]["g"]["row"].values) == [f"r{i}" for i in range(n)]
