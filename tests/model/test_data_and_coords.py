"""Coords and data in all the ways PyMC takes them: density, names, dims and coords stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from xarray import Dataset, DataTree

import pymc_marginal_lmm as mlmm
from tests.integration.checks import check_model

rng = np.random.default_rng(0)
n = 20
g = np.repeat(np.arange(4), 5)
x, y = rng.normal(size=n), rng.normal(size=n)
groups = np.array(list("abcd"))

WAYS: dict[str, tuple[Callable[[pm.Model], object], dict | None]] = {}


def way(coords: dict | None = None) -> Callable:
    def register(build: Callable[[pm.Model], object]) -> Callable[[pm.Model], object]:
        WAYS[build.__name__.removeprefix("_")] = (build, coords)
        return build

    return register


def build_model(name: str) -> pm.Model:
    build, coords = WAYS[name]
    with pm.Model(coords=coords) as model:
        build(model)
    return model


def effects(**kwargs: object) -> pt.TensorVariable:
    return pm.Normal("u", 0.0, pm.HalfNormal("tau"), **kwargs)


def observe(mu: pt.TensorVariable, observed: object = y, **kwargs: object) -> None:
    pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=observed, **kwargs)


@way()
def _added_coords_and_data_with_dims(model: pm.Model) -> None:
    model.add_coord("group", groups)
    model.add_coords({"obs": np.arange(n)})
    index, covariate = pm.Data("index", g, dims="obs"), pm.Data("covariate", x, dims="obs")
    mu = pm.Deterministic("mu", effects(dims="group")[index] * covariate, dims="obs")
    observe(mu, pm.Data("outcome", y, dims="obs"), dims="obs")


@way()
def _dim_without_coords(model: pm.Model) -> None:
    model.add_coord("group", length=4)
    observe(effects(dims="group")[g])


@way()
def _dim_of_symbolic_length(model: pm.Model) -> None:
    model.add_coord("group", length=pytensor.shared(4))
    observe(effects(dims="group")[g])


@way()
def _length_from_data(model: pm.Model) -> None:
    observe(effects(shape=pm.Data("n_groups", np.int64(4)))[g])


@way({"group": groups})
def _small_integers_and_pandas(model: pm.Model) -> None:
    index = pm.Data("index", pd.Categorical(groups[g]).codes)
    observe(effects(dims="group")[index], pd.Series(y))


@way({"group": groups, "coef": ["one", "x"], "obs": np.arange(n)})
def _design_matrix_as_data(model: pm.Model) -> None:
    design = pm.Data("design", pd.DataFrame({"one": 1.0, "x": x}), dims=("obs", "coef"))
    u = pm.Normal("u", 0.0, pm.HalfNormal("tau", dims="coef"), dims=("group", "coef"))
    observe((u[pm.Data("index", pd.Series(g), dims="obs")] * design).sum(axis=-1), dims="obs")


@way({"group": groups, "obs": np.arange(n)})
def _indicators_as_data(model: pm.Model) -> None:
    observe(pm.Data("Z", np.eye(4)[g], dims=("obs", "group")) @ effects(dims="group"), dims="obs")


@way({"group": groups})
def _mask_as_data(model: pm.Model) -> None:
    observe(pt.switch(pm.Data("mask", x > 0), effects(dims="group")[g], 0.0))


@way({"group": groups})
def _shared_variables_without_names(model: pm.Model) -> None:
    index, covariate = pytensor.shared(g), pytensor.shared(x)
    observe(effects(dims="group")[index] * covariate, pytensor.shared(y))


@way({"group": groups})
def _shared_variables_with_names(model: pm.Model) -> None:
    index, other = pytensor.shared(g, name="index"), pytensor.shared(3 - g, name="index")
    u = effects(dims="group")
    observe(u[index] - 0.5 * u[other])


@way({"group": pd.date_range("2020", periods=4)})
def _dates(model: pm.Model) -> None:
    observe(effects(dims="group")[g])


def drawn(marginal: pm.Model) -> DataTree:
    """Draws of the parameters, from the prior: enough to look at names and coords."""
    prior = pm.sample_prior_predictive(
        draws=3, model=marginal, random_seed=1, compile_kwargs={"mode": "FAST_COMPILE"}
    )
    return DataTree.from_dict({"posterior": prior["prior"].to_dataset()})


@pytest.mark.parametrize("name", WAYS)
def test_density_and_coords(name: str) -> None:
    model = build_model(name)
    marginal = check_model(model, ["u"])
    posterior = mlmm.recover(drawn(marginal), model=marginal, progressbar=False)["posterior"]
    dims = model.named_vars_to_dims.get("u", ("u_dim_0",))
    assert posterior["u"].dims == ("chain", "draw", *dims)
    expected = model.coords.get(dims[0])
    if expected is not None:
        assert list(posterior[dims[0]].to_index()) == list(pd.Index(expected))


def test_data_and_coords_changed_before_marginalizing() -> None:
    """What counts is the state of the model when it is marginalized."""
    with pm.Model(coords={"group": groups}) as model:
        index = pm.Data("index", g)
        covariate = pm.Data("covariate", x)
        outcome = pm.Data("outcome", y)
        observe(effects(dims="group")[index] * covariate, outcome)
        more = {"index": np.r_[g, 4, 5], "covariate": np.r_[x, 1.0, 2.0], "outcome": np.r_[y, 0, 0]}
        pm.set_data(more)
    model.set_dim("group", 6, coord_values=list("abcdef"))
    marginal = check_model(model, ["u"])
    posterior: Dataset = mlmm.recover(drawn(marginal), model=marginal, progressbar=False)[
        "posterior"
    ]
    assert list(posterior["group"].values) == list("abcdef")


def test_a_marginal_model_does_not_follow_shared_variables() -> None:
    index = pytensor.shared(g)
    with pm.Model() as model:
        observe(effects(shape=4)[index])
    marginal = mlmm.marginalize(model)
    point = marginal.initial_point()
    logp = marginal.compile_logp(mode="FAST_COMPILE")
    before = logp(point)
    index.set_value(np.roll(g, 2))
    assert_allclose(logp(point), before, rtol=0)
    changed = mlmm.marginalize(model).compile_logp(mode="FAST_COMPILE")(point)
    assert abs(changed - before) > 1e-3
