"""One compilation, many data sets."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bambi
import cloudpickle
import distributed
import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model import direct
from pymc_marginal_lmm.model.log_density import LogDensities
from pymc_marginal_lmm.model.value_space import ValueSpace
from tests.helpers import random_point, unfolded
from tests.models import by_name

rng = np.random.default_rng(7)
G, X = np.repeat(np.arange(6), 5), rng.normal(size=30)
Y = 1 + rng.normal(size=6)[G] + rng.normal(size=30)
OTHER = 3 * Y[::-1] + rng.normal(size=30)
DRAWS = ["chain", "draw"]
QUIET = {"draws": 1000, "chains": 2, "random_seed": 1, "progressbar": False}


def build(y: Any, x: Any = X) -> pm.Model:
    """Return a model with a constant response and data that can be set."""
    with pm.Model(coords={"group": list("abcdef")}) as model:
        g, x = pm.Data("g", G), pm.Data("x", x)
        u = pm.Normal("u", 0, pm.HalfNormal("tau", 1.5), dims="group")
        mu = pm.Deterministic("mu", pm.Normal("a", 0, 3) + pm.Laplace("b", 0, 1) * x + u[g])
        pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=y)
    return model


@pytest.fixture(scope="module")
def compiled() -> mlmm.CompiledModel:
    return mlmm.compile_model(build(Y))


def same(one: xr.DataTree, two: xr.DataTree, rtol: float = 1e-6) -> None:
    for group in ("posterior", "observed_data", "constant_data", "sample_stats"):
        left, right = one[group].to_dataset(), two[group].to_dataset()
        assert list(left.data_vars) == list(right.data_vars)
        for name in left.data_vars:
            assert_allclose(left[name], right[name], rtol=rtol, atol=1e-9, err_msg=name)
    names = ["log_evidence", "pareto_khat", "n_evaluations"]
    for name in names:
        assert_allclose(one["posterior"].attrs[name], two["posterior"].attrs[name], rtol=1e-6)


def test_other_data_are_those_of_another_model() -> None:
    def marginal(y: np.ndarray, x: np.ndarray = X) -> pm.Model:
        return unfolded(build(y, x), ["u", "a"])  # the unit of folded scales depends on the data

    compiled = mlmm.compile_model(marginal(Y))
    before = mlmm.fit(compiled, **QUIET)
    same(mlmm.fit(marginal(Y), **QUIET), before)
    other = mlmm.fit(compiled.with_data(y=OTHER), **QUIET)
    same(mlmm.fit(marginal(OTHER), **QUIET), other)
    assert abs(other["posterior"]["u"] - before["posterior"]["u"]).mean() > 1
    both = compiled.with_data(x=-X).with_data(y=list(OTHER))
    same(mlmm.fit(marginal(OTHER, -X), **QUIET), mlmm.fit(both, **QUIET))
    same(before, mlmm.fit(compiled, **QUIET), rtol=0)


def test_sums_of_many_data() -> None:
    """More than PyTensor's interpreter, which computes them once, can add up at a time."""

    def of(first: np.ndarray) -> pm.Model:
        with pm.Model() as model:
            columns = [pm.Data(f"x{i}", first if i == 0 else X + i) for i in range(40)]
            u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=6)
            pm.Normal("y", u[G] + 0.01 * sum(columns), pm.HalfNormal("sigma"), observed=Y)
        return unfolded(model, ["u"])

    compiled = mlmm.compile_model(of(X)).with_data(x0=30 * X)
    assert_allclose(
        mlmm.fit(compiled, **QUIET)["posterior"]["u"],
        mlmm.fit(of(30 * X), **QUIET)["posterior"]["u"],
        rtol=1e-6,
        atol=1e-9,
    )


def test_the_users_model_and_its_data_are_nobodys(compiled: mlmm.CompiledModel) -> None:
    model = build(Y)
    own = mlmm.compile_model(model)
    pm.set_data({"x": 0 * X}, model=model)
    same(mlmm.fit(own, **QUIET), mlmm.fit(compiled, **QUIET))
    mlmm.fit(own.with_data(x=X + 1, y=OTHER), **QUIET)
    assert_array_equal(model["x"].get_value(), 0 * X)
    assert_array_equal(model.rvs_to_values[model["y"]].data, Y)
    assert {*model.named_vars} == {*build(Y).named_vars}


def test_side_by_side(compiled: mlmm.CompiledModel) -> None:
    models = [compiled.with_data(y=Y + k) for k in range(4)]
    alone = [mlmm.fit(each, **QUIET) for each in models]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: mlmm.fit(each, **QUIET), models))
    for one, two in zip(alone, together, strict=True):
        same(one, two, rtol=0)


def test_data_of_threads_do_not_mix(compiled: mlmm.CompiledModel) -> None:
    log_density = compiled.log_density
    sets = [list(compiled.with_data(y=Y + k, x=X + k).data.values()) for k in range(8)] * 50
    alone = [log_density.given(data).known for data in sets[:8]] * 50
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda data: log_density.given(data).known, sets))
    finally:
        sys.setswitchinterval(before)
    for one, two in zip(alone, together, strict=True):
        for a, b in zip(one, two, strict=True):
            assert_array_equal(a, b)


@pytest.mark.parametrize("name", ["lognormal", "two_likelihoods"])
def test_responses_of_every_kind(name: str) -> None:
    def times(factor: float) -> pm.Model:
        model = by_name(name).build()
        for rv in model.observed_RVs:
            value = model.rvs_to_values[rv]
            model.rvs_to_values[rv] = type(value)(value.type, value.data * factor)
        return model

    # The unit of folded scales depends on the data.
    one = mlmm.compile_model(unfolded(times(1.0)), backend="jax")
    new = times(1.1)
    more = {rv.name: new.rvs_to_values[rv].data for rv in new.observed_RVs}
    at = np.stack([one.space.join(random_point(one.marginal, seed)) for seed in range(5)])
    for compiled, factor in ((one, 1.0), (one.with_data(**more), 1.1)):
        other = unfolded(times(factor))
        expected = LogDensities(other, ValueSpace.of(other), "jax").given()(at)
        found = compiled.log_density.given(list(compiled.data.values()))(at)
        assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"z": Y}, "'z' cannot be exchanged; what can be is .*'x'.*'y'"),
        ({"g": G}, "'g' cannot be exchanged"),
        ({"mu": Y}, "'mu' cannot be exchanged"),
        ({"y": Y[1:]}, r"'y' has shape \(30,\) in the compiled model, the new values have \(29,\)"),
        ({"x": np.where(X > 0, X, np.nan)}, "'x' holds NaN or infinite values"),
        ({"y": [*"abc"] * 10}, "'y' must be float64, not "),
        ({"y": 1j * Y}, "'y' must be float64, not complex128"),
    ],
)
def test_bad_data(compiled: mlmm.CompiledModel, data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compiled.with_data(**data)


def test_what_is_settled_cannot_be_asked_for_again(compiled: mlmm.CompiledModel) -> None:
    with pytest.raises(ValueError, match="backend= is settled in a compiled model"):
        mlmm.fit(compiled, backend="numba")
    with pytest.raises(ValueError, match="rvs_to_marginalize= is settled"):
        mlmm.fit(compiled, rvs_to_marginalize=["u"])


def test_a_marginal_model_and_a_choice_of_effects() -> None:
    model = build(Y)
    one = mlmm.compile_model(mlmm.marginalize(model, ["u"]))
    two = mlmm.compile_model(model, rvs_to_marginalize=model["u"])
    assert one.space.names == two.space.names
    assert {rv.name for rv in one.marginal.free_RVs} == {"tau", "a", "b", "sigma"}
    same(mlmm.fit(one.with_data(y=OTHER), **QUIET), mlmm.fit(two.with_data(y=OTHER), **QUIET))


def test_bambi() -> None:
    data = pd.DataFrame({"y": Y, "x": X, "g": np.array(list("abcdef"))[G]})
    model = bambi.Model("y ~ x + (1|g)", data)
    found = mlmm.fit(mlmm.compile_model(model).with_data(y=OTHER), **QUIET)
    assert_array_equal(found["observed_data"]["y"], OTHER)
    assert {"Intercept", "x", "1|g"} <= {*found["posterior"].data_vars}
    assert "1|g_offset" not in found["posterior"]


def test_weights(compiled: mlmm.CompiledModel) -> None:
    drawn, found = mlmm.fit(compiled, **QUIET), mlmm.fit(compiled, weighted=True, **QUIET)
    weights = np.exp(found["sample_stats"]["log_weight"])
    assert_allclose(weights.sum(), 1)
    assert found["posterior"].sizes["chain"] == 1
    for name in ("tau", "a", "u"):
        draws = found["posterior"][name]
        mean = (weights * draws).sum(["chain", "draw"])
        error = 5 * drawn["posterior"][name].std(["chain", "draw"]) / np.sqrt(1000)
        assert (abs(mean - drawn["posterior"][name].mean(["chain", "draw"])) < error).all()


# --- Other processes --------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["jax", "numba"])
def test_a_density_travels_as_its_model(backend: Any) -> None:
    marginal = mlmm.marginalize(build(Y), ["u"])
    space = ValueSpace.of(marginal)
    given = LogDensities(marginal, space, backend, ["x"]).given([X + 1])
    points = np.stack([space.join(random_point(marginal, seed)) for seed in range(3)])
    sent = cloudpickle.dumps(given)
    arrived = pickle.loads(sent)
    assert arrived.densities is not given.densities
    assert pickle.loads(sent).densities is arrived.densities  # compiled once
    assert_allclose(arrived(points), given(points), rtol=1e-12)


def test_cores(compiled: mlmm.CompiledModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side or not, the same comes out; here the density is too fast to be spread."""
    alone = mlmm.fit(compiled, cores=1, **QUIET)
    monkeypatch.setattr(direct, "SLOW", 0.0)
    for cores in (None, 2, 3):
        same(alone, mlmm.fit(compiled, cores=cores, **QUIET), rtol=0)


# Of dask's own: the event loops and sockets of its workers.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_a_cluster(compiled: mlmm.CompiledModel, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = mlmm.fit(compiled, **QUIET)
    monkeypatch.setattr(direct, "SLOW", 0.0)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        parallel_config(backend="dask"),
    ):
        same(alone, mlmm.fit(compiled, **QUIET), rtol=1e-9)
