"""Nested factors, eliminated one after the other: the same density as any other order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pymc as pm
import pytensor
import pytest
from numpy.testing import assert_allclose

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.analysis import read
from pymc_marginal_lmm.model.marginal_rv import MarginalRV
from pymc_marginal_lmm.structure import MixedModel
from tests.helpers import (
    BACKENDS,
    assert_same_posterior,
    dense_reference,
    density,
    long_chain,
    random_point,
    unfolded,
)
from tests.models import by_name

NESTED = ["nested", "three_levels", "hierarchical_mean_by_index", "nested_slopes_and_items"]


@pytest.fixture
def chains(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let small models be eliminated as large ones are."""
    monkeypatch.setattr(read, "block_structure", long_chain)
    yield


def structure_of(marginal: pm.Model) -> MixedModel:
    return next(
        rv.owner.op.structure for rv in marginal.observed_RVs if isinstance(rv.owner.op, MarginalRV)
    )


@pytest.mark.usefixtures("chains")
@pytest.mark.parametrize("name", NESTED)
def test_against_dense_reference(name: str) -> None:
    canonical = by_name(name)
    plain = canonical.build()
    marginal = unfolded(plain)
    assert len(structure_of(marginal).blocks.chain) > 1
    for seed in (1, 2):
        point = random_point(marginal, seed)
        reference = dense_reference(plain, canonical.effects, point)
        value = density(marginal)(point)
        assert_allclose(value, reference.log_density, rtol=1e-10)
    assert_same_posterior(marginal, plain, canonical.effects, point, reference)


@pytest.mark.usefixtures("chains")
@pytest.mark.parametrize("name", NESTED)
def test_joint_is_marginal_times_conditional(name: str) -> None:
    plain = by_name(name).build()
    full = mlmm.conditional(unfolded(plain))
    point = random_point(plain, 5)
    joint = density(plain)(point)
    assert_allclose(density(full)(point), joint, rtol=1e-8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_is_that_of_one_leading_factor(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two computations with nothing in common: the Op's kernel, and PyTensor's derivatives."""
    # Numba takes minutes for the derivatives of the largest.
    name = "three_levels" if backend == "NUMBA" else "nested_slopes_and_items"
    plain = by_name(name).build()
    short = unfolded(plain)
    monkeypatch.setattr(read, "block_structure", long_chain)
    long = unfolded(plain)
    assert len(structure_of(short).blocks.chain) == 1
    assert len(structure_of(long).blocks.chain) == 3
    point = random_point(short, 3)
    results = []
    for model in (short, long):
        gradient = pytensor.grad(model.logp(), model.value_vars)
        function = model.compile_fn([model.logp(), *gradient], mode=backend, point_fn=True)
        results.append(function(point))
    for expected, found in zip(*results, strict=True):
        assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_large_nested_factors_are_found() -> None:
    """Students in classes in schools: nothing of the size of classes × students."""
    n_students, n_classes, n_schools = 4000, 400, 40
    rng = np.random.default_rng(0)
    class_of = np.sort(rng.integers(n_classes, size=n_students))
    school_of = np.sort(rng.integers(n_schools, size=n_classes))
    student = np.tile(np.arange(n_students), 2)
    with pm.Model() as model:
        sigma = pm.HalfNormal("sigma")
        taus = pm.HalfNormal("tau", 1.0, shape=3)
        school = pm.Normal("school", 0.0, taus[0], shape=n_schools)
        classes = pm.Normal("class", school[school_of], taus[1])
        students = pm.Normal("student", classes[class_of], taus[2])
        pm.Normal("y", students[student], sigma, observed=rng.normal(size=student.size))
    explanation = mlmm.explain(model)
    assert [factor.effects for factor in explanation.factors] == [
        ("student",), ("class",), ("school",)
    ]  # fmt: skip
    assert {factor.kind for factor in explanation.factors} == {"diagonal"}
    assert explanation.memory < 1e6
    assert structure_of(unfolded(model)).blocks.trailing == ()
