"""Non-centred code is the centred model: the same density, and nothing more to compute."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import ancestors

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model.marginalize import read
from tests.helpers import random_point, unfolded
from tests.models import Rows, lkj, scales

data = Rows(n=400)
g, h = data.index(12), data.index(5)
x, y = data.x, data.y


def _intercepts(centred: bool) -> Variable:
    tau, mu = pm.HalfNormal("tau"), pm.StudentT("mu", nu=4)
    if centred:
        return pm.Normal("u", mu, tau, shape=12)[g]
    return pm.Deterministic("u", mu + tau * pm.Normal("z", shape=12))[g]


def _after_indexing(centred: bool) -> Variable:
    tau = pm.HalfNormal("tau")
    return pm.Normal("u", 0, tau, shape=12)[g] if centred else tau * pm.Normal("z", shape=12)[g]


def _times_data(centred: bool) -> Variable:
    # Parameters and data are multiplied with each other first.
    tau = pm.HalfNormal("tau")
    if centred:
        return pm.Normal("u", 0, tau, shape=12)[g] * x
    return pm.Normal("z", shape=12)[g] * (tau * x)


def _scales_by_level(centred: bool) -> Variable:
    tau = pm.HalfNormal("tau", shape=12)
    if centred:
        return pm.Normal("u", 0, tau)[g]
    return tau[g] * pm.Normal("z", shape=12)[g]


def _stds(centred: bool) -> Variable:
    stds = pm.HalfNormal("stds", shape=2)
    u = pm.Normal("u", 0, stds, shape=(12, 2)) if centred else pm.Normal("z", shape=(12, 2)) * stds
    return u[g, 0] + u[g, 1] * x


def _correlated(centred: bool) -> Variable:
    chol = lkj("chol", 2)
    if centred:
        u = pm.MvNormal("u", np.zeros(2), chol=chol, shape=(12, 2))
    else:
        u = pm.Normal("z", shape=(12, 2)) @ chol.T
    return u[g, 0] + u[g, 1] * x


def _correlated_columns(centred: bool) -> Variable:
    chol = lkj("chol", 2)
    if centred:
        u = pm.MvNormal("u", np.zeros(2), chol=chol, shape=(12, 2))
    else:
        u = pt.dot(chol, pm.Normal("z", shape=(2, 12))).T
    return u[g, 0] + u[g, 1] * x


def _crossed(centred: bool) -> Variable:
    return _correlated(centred) + (
        pm.Normal("v", 0, pm.HalfNormal("kappa"), shape=5)[h]
        if centred
        else (pm.HalfNormal("kappa") * pm.Normal("w", shape=5))[h]
    )


FORMS: list[Callable[[bool], Variable]] = [
    _intercepts,
    _after_indexing,
    _times_data,
    _scales_by_level,
    _stds,
    _correlated,
    _correlated_columns,
    _crossed,
]


def build(form: Callable[[bool], Variable], centred: bool) -> pm.Model:
    with pm.Model() as model:
        (sigma,) = scales("sigma")
        pm.Normal("y", form(centred), sigma, observed=y)
    return model


def data_sized_parameters(model: pm.Model) -> list[Variable]:
    """Tensors of the marginal log density with a row per observation that hold parameters."""
    logp = model.logp(vars=model.observed_RVs)
    reached = [v for v in ancestors([logp]) if data.n in getattr(v.type, "shape", ())]
    return [v for v in reached if not isinstance(v, Constant) and _has_parameters(model, v)]


def _has_parameters(model: pm.Model, variable: Variable) -> bool:
    return bool({*ancestors([variable])} & {*model.value_vars})


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__.strip("_"))
def test_same_density_and_same_work(form: Callable[[bool], Variable]) -> None:
    centred, noncentred = (unfolded(build(form, way)) for way in (True, False))
    assert [v.name for v in centred.value_vars] == [v.name for v in noncentred.value_vars]
    logps = [m.compile_logp(mode="FAST_COMPILE") for m in (centred, noncentred)]
    dlogps = [m.compile_dlogp(mode="FAST_COMPILE") for m in (centred, noncentred)]
    for seed in range(3):
        point = random_point(centred, seed)
        assert_allclose(logps[1](point), logps[0](point), rtol=1e-12)
        assert_allclose(dlogps[1](point), dlogps[0](point), rtol=1e-9, atol=1e-10)
    structures = [read(build(form, way))[2].model for way in (True, False)]
    factors = [model.factors for model in structures if model is not None]
    for one, other in zip(*factors, strict=True):
        assert other.padding == 0
        assert_array_equal(one.codes, other.codes)
        assert_array_equal(one.coefficients, other.coefficients)
    explained = [mlmm.explain(build(form, way)) for way in (True, False)]
    assert explained[0].operations == explained[1].operations
    assert explained[0].memory == explained[1].memory
    assert explained[0].free_of_rows and explained[1].free_of_rows
    assert not data_sized_parameters(noncentred)
