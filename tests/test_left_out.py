"""Leave-one-out densities of every canonical model, against references that use PyMC alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import arviz as az
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest
from numpy.testing import assert_allclose
from xarray import Dataset, DataTree

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model import left_out, likelihoods
from pymc_marginal_lmm.model.groups import NoGroups, groups_of
from pymc_marginal_lmm.model.restore import marginal_ops
from tests.dense import joints
from tests.draws import draws_of, interpreted
from tests.helpers import models_of
from tests.models import CanonicalModel, canonical_models

FAST = {
    "random_intercept",
    "correlated_slopes",
    "crossed_two",
    "nested_slopes_and_items",
    "noncentred",
    "multi_membership",
    "flat_coefficients",
    "lognormal",
    "sigma_by_row",
    "two_likelihoods_of_two_families",
    "table_response",
    "correlated_outcomes_beside_another_response",
    "known_covariances",
    "few_long_series",
    "random_walk_with_drift",
    "conditional_autoregression",
    "mean_only",
}
MODEL = canonical_models(FAST)


def computed(idata: DataTree, model: pm.Model, leave_out: Any) -> Dataset:
    return mlmm.compute_log_likelihood(
        idata, model=model, leave_out=leave_out, extend_inferencedata=False, progressbar=False
    )


@MODEL
def test_rows(canonical: CanonicalModel, uncompiled: None) -> None:
    plain, marginal, _ = models_of(canonical)
    idata, points = draws_of(marginal, 2)
    found = computed(idata, marginal, "row")
    for joint in joints(canonical):
        for draw, point in enumerate(points):
            dense = joint.dense(point)
            expected = dense.left_out(np.arange(dense.e.size))
            actual = [found[f"{name}_loo"].values[0, draw].ravel() for name in joint.responses]
            assert_allclose(np.concatenate(actual), expected, rtol=1e-8, atol=1e-8)
        for name in joint.responses:
            dims = plain.named_vars_to_dims.get(name)
            shape = joint.data[joint.responses.index(name)].shape
            assert found[f"{name}_loo"].shape[2:] == shape
            assert not dims or found[f"{name}_loo"].dims[2:] == tuple(dims)


@MODEL
def test_groups(
    canonical: CanonicalModel, uncompiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every name that groups rows, and by labels; all pairs at once, and one by one."""
    _, marginal, _ = models_of(canonical)
    idata, points = draws_of(marginal, 1)
    (op,) = marginal_ops(marginal)
    (joint,) = joints(canonical)
    dense = joint.dense(points[0])
    structure, n = op.structure, dense.e.size
    names = {d for e in structure.effects for d in (e.name, *e.dims)}
    labels = np.random.default_rng(n).permutation(n) % 4
    ends = np.cumsum([response.size for response in structure.responses])
    parts = np.split(labels, ends[:-1])
    by_response = dict(zip(joint.responses, parts, strict=True))
    leave_outs = [*sorted(names), by_response]
    if len(joint.responses) > 1:
        leave_outs += [{name: labels} for name, labels in by_response.items()]
    for leave_out in leave_outs:
        try:
            groups = groups_of(structure, marginal, leave_out)
            found = [computed(idata, marginal, leave_out)]
        except NoGroups:
            continue
        except ValueError as error:
            assert canonical.flat and "flat prior" in str(error)
            continue
        with monkeypatch.context() as patch:
            patch.setattr(left_out, "MANY_PAIRS", 0)
            if "correlated rows" not in canonical.tags:
                found.append(computed(idata, marginal, leave_out))
        for one in found:
            (values,) = one.data_vars.values()
            assert_allclose(values[0, 0], dense.left_out(groups.codes), rtol=1e-8, atol=1e-8)


# --- What users see -------------------------------------------------------------------------------

rng = np.random.default_rng(0)
G, X, Y = np.repeat([0, 1, 3], 4), rng.normal(size=12), rng.normal(size=12)


def schools(**likelihood: Any) -> pm.Model:
    with pm.Model(coords={"school": list("abcd"), "pupil": range(12)}) as model:
        tau, sigma = pm.HalfNormal("tau"), pm.HalfNormal("sigma")
        u = pm.Normal("u", 0, tau, dims="school")
        mu = u[G] + likelihood.get("mu", 0.0)
        pm.Normal("y", mu, sigma, observed=Y, dims="pupil")
    return model


def draws(names: Sequence[str] = ("tau", "sigma"), n: int = 20) -> DataTree:
    values = np.linspace(0.5, 1.5, 2 * n).reshape(2, n)
    coords = {"chain": [0, 1], "draw": 10 * np.arange(n)}
    posterior = {name: (("chain", "draw"), values) for name in names}
    return DataTree.from_dict({"posterior": Dataset(posterior, coords=coords)})


def test_results_have_the_dims_and_coords_of_the_model() -> None:
    """Of groups those that have rows; what was there stays."""
    model, idata = schools(), draws()
    there = Dataset({"y": (("chain", "draw", "pupil"), np.zeros((2, 20, 12)))})
    idata["log_likelihood"] = there
    for leave_out in ("row", "school", pd.Series(X > 0, name="tall")):
        assert (
            mlmm.compute_log_likelihood(idata, model=model, leave_out=leave_out, progressbar=False)
            is idata
        )
    found = idata["log_likelihood"].to_dataset()
    assert [*found] == ["y", "y_loo", "y_logo_school", "y_logo_tall"]
    assert found["y_loo"].dims == ("chain", "draw", "pupil")
    assert found["school"].values.tolist() == ["a", "b", "d"]
    assert found["tall"].values.tolist() == [False, True]
    assert found["draw"].values.tolist() == list(range(0, 200, 10))
    with pytest.warns(UserWarning, match="shape parameter of Pareto"):  # of 40 made-up draws
        loo = az.loo(idata, var_name="y_logo_school")
    assert loo.n_data_points == 3


@pytest.mark.parametrize("backend", ["jax", pytest.param("numba", marks=pytest.mark.slow)])
def test_backends(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows, pairs, and one by one, the same as by PyTensor's interpreter."""
    model, idata = schools(mu=0.1 * X), draws()
    expected = []
    with monkeypatch.context() as patch:
        patch.setattr(likelihoods, "by_jax", interpreted)
        expected = [computed(idata, model, by) for by in ("row", "school", G)]
    if backend == "numba":
        monkeypatch.setattr(likelihoods, "find_spec", lambda name: None)
    found = [computed(idata, model, by) for by in ("row", "school")]
    monkeypatch.setattr(left_out, "MANY_PAIRS", 0)
    found.append(computed(idata, model, G))
    for one, other in zip(found, expected, strict=True):
        (a,), (b,) = one.data_vars.values(), other.data_vars.values()
        assert_allclose(a, b, rtol=1e-9)


def test_single_precision(uncompiled: None) -> None:
    expected = [computed(draws(), schools(), by) for by in ("row", "school")]
    with pytensor.config.change_flags(floatX="float32"):
        found = [computed(draws(), schools(), by) for by in ("row", "school")]
    for one, other in zip(found, expected, strict=True):
        (a,), (b,) = one.data_vars.values(), other.data_vars.values()
        assert_allclose(a, b, rtol=1e-4)


def test_chunks_do_not_show(uncompiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = computed(draws(), schools(), "school")
    monkeypatch.setattr("pymc_marginal_lmm.model.draws.CHUNK", 1)
    assert_allclose(
        computed(draws(), schools(), "school")["y_logo_school"], at_once["y_logo_school"]
    )


@pytest.mark.parametrize("most", [left_out.MANY_PAIRS, 0])
@pytest.mark.parametrize(
    ("leave_out", "place"), [("row", "row 7 of 'y'"), ("school", "'school' b")]
)
def test_what_the_others_do_not_identify(
    leave_out: str, place: str, most: int, uncompiled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row, or a group, that alone tells of a flat coefficient has no predictive density."""
    with pm.Model(coords={"school": list("abcd")}) as model:
        tau, sigma = pm.HalfNormal("tau"), pm.HalfNormal("sigma")
        u, b = pm.Normal("u", 0, tau, dims="school"), pm.Flat("b")
        pm.Normal("y", u[G] + b * (np.arange(12) == 7), sigma, observed=Y)
    monkeypatch.setattr(left_out, "MANY_PAIRS", most)
    with pytest.raises(ValueError, match=f"{place} has no density given all others at chain 0"):
        computed(draws(), model, leave_out)


def test_correlated_rows_are_not_torn_apart() -> None:
    with pm.Model() as model:
        u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=4)
        cov = np.eye(2) + 0.5
        pm.MvNormal("y", u[G].reshape((6, 2)), cov=cov, observed=Y.reshape(6, 2))
    with pytest.raises(ValueError, match="'y' that its covariance correlates are in different"):
        computed(draws(["tau"]), model, np.arange(12) % 2)


@pytest.mark.parametrize(
    ("build", "leave_out", "message"),
    [
        (lambda: pm.Normal("b", shape=2)[np.zeros(12, int)], "b", "'b' does not group the rows"),
        (
            lambda: pm.Normal("v", shape=3)[np.arange(12) % 3] * (X > 0),
            "v",
            "row [0-9]+ has no effect of 'v'",
        ),
        (
            lambda: (
                pm.Normal("v", shape=3)[np.arange(12) % 3] + pm.Normal("w", shape=2) @ np.eye(2)[0]
            ),
            "w",
            "'w' does not group the rows",
        ),
    ],
)
def test_names_that_do_not_group_rows(build: Callable, leave_out: str, message: str) -> None:
    with pm.Model() as model:
        u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=4)
        pm.Normal("y", u[G] + build(), 1.0, observed=Y)
    with pytest.raises(ValueError, match=message):
        computed(draws(["tau"]), model, leave_out)


def test_likelihoods_without_the_effects_stay(uncompiled: None) -> None:
    """The other likelihood tells of the common coefficient, whichever school is left out."""
    with schools() as model:
        b = pm.Normal("b", 0, 1)
        v = pm.Normal("v", 0, 2, shape=5)
        pm.Normal("x", b + v, 1.0, observed=Y[:5])
    idata = draws()
    assert [*computed(idata, model, "school")] == ["y_logo_school"]
    found = computed(idata, model, "v")
    assert [*found] == ["x_logo_v"]
    one = computed(idata, model, {"x": np.arange(5)})
    assert_allclose(one["x_logo_group"], found["x_logo_v"])
    by_row = computed(idata, model, "row")
    assert_allclose(by_row["x_loo"], found["x_logo_v"])


@pytest.mark.filterwarnings("ignore::pymc.exceptions.ImputationWarning")
def test_missing_responses_are_no_rows(uncompiled: None) -> None:
    holes = np.where(np.arange(12) % 5 == 2, np.nan, Y)
    there = np.isfinite(holes)
    found = []
    for y, g in ((holes, G), (Y[there], G[there])):
        with pm.Model(coords={"school": list("abcd")}) as model:
            u = pm.Normal("u", 0, pm.HalfNormal("tau"), dims="school")
            pm.Normal("y", u[g], pm.HalfNormal("sigma"), observed=y)
        found += [computed(draws(), model, by) for by in ("row", "school")]
    assert [*found[0]] == ["y_observed_loo"]
    for one, other in zip(found[:2], found[2:], strict=True):
        (a,), (b,) = one.data_vars.values(), other.data_vars.values()
        assert_allclose(a, b, rtol=1e-9)
