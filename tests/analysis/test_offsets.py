"""Offsets and sigmas as few parameters times data: what is read is what the graph computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pytensor.graph.basic import Variable

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.analysis import read
from pymc_marginal_lmm.model.marginalize import read as read_model
from pymc_marginal_lmm.structure import MixedModel
from tests.helpers import density, random_point, unfolded
from tests.models import MODELS, CanonicalModel, Rows, by_name

data = Rows(n=60)
g, h = data.index(5), data.index(4)
x, X = data.x, data.design(3)
weight = 1.0 + np.arange(60) % 3
y = data.y


def student(name: str, shape: int | None = None) -> Variable:
    return pm.StudentT(name, nu=4, shape=shape)


OFFSETS: dict[str, tuple[Callable[[], Variable], int | None]] = {
    # expression, number of parameters it is linear in (None: by row)
    "constant": (lambda: 1.0 + 0.5 * x, 0),
    "line": (lambda: student("a") + student("b") * x, 2),
    "matrix": (lambda: X @ student("b", 3), 3),
    "levels": (lambda: student("v", 4)[h], 4),
    "levels and slopes": (lambda: student("v", 4)[h] * (1 + x) - student("a"), 5),
    "some levels": (lambda: pt.concatenate([[0.0], student("v", 3)])[h], 3),
    "nonlinear parameter": (lambda: pt.exp(student("a")) * x, 1),
    "nonlinear by level": (lambda: pt.exp(student("v", 4))[h] + 2.0, 4),
    "product of parameters": (lambda: pm.HalfNormal("s") * student("v", 4)[h], 4),
    "both ways": (lambda: student("a") * x + pt.exp(student("c")), 2),
    "nonlinear in the rows": (lambda: pt.exp(student("a") * x), None),
    "live data": (lambda: student("a") * pm.Data("z", x), None),
    "live index": (lambda: student("v", 4)[pm.Data("z", h)], None),
}

SIGMAS: dict[str, tuple[Callable[[], Variable], int | None]] = {
    # expression, number of strata
    "one": (lambda: pm.HalfNormal("sigma"), 1),
    "known": (lambda: 0.5 + 0.1 * weight, 1),
    "weights": (lambda: pm.HalfNormal("sigma") / np.sqrt(weight), 1),
    "strata": (lambda: pm.HalfNormal("sigma", shape=4)[h], 4),
    "strata of a function": (lambda: pt.exp(student("l", 4))[h] * weight, 4),
    "two": (lambda: pt.where(x > 0, pm.HalfNormal("sigma"), pm.HalfNormal("other")), 2),
    "by row": (lambda: pt.exp(student("a") * x), None),
    "many strata": (lambda: pm.HalfNormal("sigma", shape=20)[np.arange(60) % 20], 20),
    "cells": (
        lambda: pt.exp(student("a") + student("v", 4)[h] + weight * student("b")),
        len(set(zip(h, weight, strict=True))),
    ),
    "a stratum a row": (lambda: pm.HalfNormal("sigma", shape=60)[np.arange(60)], None),
    "live weights": (lambda: pm.HalfNormal("sigma") * pm.Data("z", weight), None),
}


def build(offset: Callable[[], Variable], sigma: Callable[[], Variable]) -> pm.Model:
    with pm.Model() as model:
        u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=5)
        pm.Normal("y", offset() + u[g], sigma(), observed=y)
    return model


def structure(model: pm.Model) -> MixedModel:
    found = read_model(model)[2].model
    assert found is not None
    return found


def at_point(expressions: list[Variable], seed: int = 3) -> list[np.ndarray]:
    """Evaluate over random values of the sampled variables that they depend on."""
    rng = np.random.default_rng(seed)
    from pymc.model.fgraph import ModelFreeRV
    from pytensor.graph.traversal import ancestors

    sampled = [v for v in ancestors(expressions) if v.owner and isinstance(v.owner.op, ModelFreeRV)]
    stand_ins = [v.clone() for v in sampled]
    inner = pytensor.graph.replace.graph_replace(
        expressions, dict(zip(sampled, stand_ins, strict=True)), strict=False
    )
    values = [np.abs(rng.normal(size=v.owner.inputs[0].shape.eval())) for v in sampled]
    function = pytensor.function(stand_ins, inner, mode="FAST_COMPILE", on_unused_input="ignore")
    return function(*values)


@pytest.mark.parametrize("name", OFFSETS)
def test_offset(name: str) -> None:
    expression, count = OFFSETS[name]
    model = structure(build(expression, lambda: pm.HalfNormal("sigma")))
    if count is None:
        assert model.regression is None
        return
    assert model.regression is not None
    assert model.regression.design.shape == (60, count)
    coefficients, expected = at_point([model.regression.coefficients, model.responses[0].offset])
    found = model.regression.constant + model.regression.design @ coefficients
    assert_allclose(found, np.broadcast_to(expected, 60), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", SIGMAS)
def test_sigma(name: str) -> None:
    expression, count = SIGMAS[name]
    model = structure(build(lambda: pt.constant(0.0), expression))
    if count is None:
        assert model.noise is None
        return
    assert model.noise is not None
    assert model.noise.sigma.type.shape == (count,)
    sigma, expected = at_point([model.noise.sigma, model.responses[0].sigma])
    found = model.noise.numbers * sigma[model.noise.strata]
    assert_allclose(found, np.broadcast_to(expected, 60), rtol=1e-12)


def is_free(canonical: CanonicalModel) -> bool:
    return mlmm.explain(canonical.build()).free_of_rows


@pytest.mark.parametrize(
    "name",
    [
        "eight_schools",
        "multi_membership",
        "sigma_by_stratum",
        "sigma_by_cell",
        "weights",
        "two_likelihoods",
        "two_likelihoods_of_two_families",
        "table_response_by_column",
        "noncentred_by_level",
        "sampled_group_level_predictor",
        "two_responses_with_loadings",
        "robust_second_factor",
        "nested_slopes_and_items",
        "flat_and_normal_coefficients",
    ],
)
def test_sums_taken_once_are_those_of_the_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same density, its gradient, and the same draws, with the rows in the graph."""
    plain = by_name(name).build()
    once = unfolded(plain)
    assert mlmm.explain(plain).free_of_rows
    monkeypatch.setattr(read, "read_noise", lambda *args: None)
    monkeypatch.setattr(read, "read_regression", lambda *args: None)
    by_row = unfolded(plain)
    assert not mlmm.explain(plain).free_of_rows
    point = random_point(once, 1)
    for way in ("compile_logp", "compile_dlogp"):
        one, other = (getattr(m, way)(mode="FAST_COMPILE")(point) for m in (once, by_row))
        assert_allclose(one, other, rtol=1e-9, atol=1e-10)


def test_most_models_are_free_of_rows() -> None:
    """Those that are not have live data, or parameters that touch every row."""
    by_row = [model.name for model in MODELS if not is_free(model)]
    assert by_row == [
        "sampled_fixed_effects",
        "sigma_by_row",
        "data_predictors",
        "data_indices",
        "precisions_and_centred_data",
        "nonlinear_coefficient",
        "gaussian_process_errors",
        "few_long_series",
    ]


@pytest.mark.parametrize("scale", [1.0, 1e8])
def test_a_large_mean_beside_sampled_coefficients(scale: float) -> None:
    """Nothing cancels: the sums are taken about a least-squares point of effects and offset."""
    results = []
    for shift in (0.0, scale):
        with pm.Model() as model:
            a = pm.Flat("a")
            u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=5)
            pm.Normal("y", a + u[g], pm.HalfNormal("sigma"), observed=y + shift)
        marginal = unfolded(model, ["u"])
        point = random_point(marginal, 2) | {"a": np.array(1.0 + shift)}
        results.append(density(marginal)(point))
    assert_allclose(results[1], results[0], rtol=3e-16 * scale + 1e-12)
