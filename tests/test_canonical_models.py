"""Every canonical model on every backend, against references that use PyMC alone."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import block_diag

from tests.helpers import (
    BACKENDS,
    dense_reference,
    density,
    joint_covariance,
    models_of,
    random_point,
    start_of,
)
from tests.models import MODELS, CanonicalModel, by_name

MODEL = pytest.mark.parametrize("canonical", MODELS, ids=str)

# Compilers take several seconds a graph. These cover every path through numba's kernels; the
# other models run on them with --runslow.
COMPILED = {
    "random_intercept",
    "mean_and_scale_by_level",
    "correlated_slopes",
    "covariance_by_level",
    "crossed_different_widths",
    "multi_membership",
    "flat_coefficients",
    "lognormal",
    "sigma_by_row",
    "two_likelihoods",
    "mean_only",
}
MODEL_ON_BACKEND = pytest.mark.parametrize(
    ("canonical", "backend"),
    [
        pytest.param(
            model,
            backend,
            id=f"{model}-{backend}",
            marks=[pytest.mark.slow]
            if backend != "FAST_COMPILE" and model.name not in COMPILED
            else [],
        )
        for model in MODELS
        for backend in BACKENDS
    ],
)


def parameters_of(canonical: CanonicalModel, seed: int) -> dict[str, np.ndarray]:
    return random_point(models_of(canonical).marginal, seed)


@MODEL
def test_integrates_what_it_should(canonical: CanonicalModel) -> None:
    plain, marginal, full = models_of(canonical)
    gone = {rv.name for rv in plain.free_RVs} - {rv.name for rv in marginal.free_RVs}
    assert gone == set(canonical.effects)
    assert {rv.name for rv in full.free_RVs} == {rv.name for rv in plain.free_RVs}
    assert {d.name for d in full.deterministics} == {d.name for d in plain.deterministics}
    for name in canonical.effects:
        found, expected = (model.named_vars_to_dims.get(name, ()) for model in (full, plain))
        assert tuple(found) == tuple(expected)
        assert full[name].type.dtype == plain[name].type.dtype


@MODEL
def test_log_density_and_moments_against_dense_reference(canonical: CanonicalModel) -> None:
    plain, marginal, _ = models_of(canonical)
    logp = density(marginal)
    for seed in (1, 2):
        point = parameters_of(canonical, seed)
        reference = dense_reference(plain, canonical.effects, point)
        assert_allclose(logp(point), reference.log_density, rtol=1e-10)
    means, covariance = joint_covariance(marginal, point)
    order = np.concatenate([_elements(canonical, plain, name) for name in means])
    maps = {name: _value_map(plain, name, mean) for name, mean in means.items()}
    for name, mean in means.items():
        found = maps[name] @ mean.ravel()
        assert_allclose(found, reference.mean[name].ravel(), rtol=1e-8, atol=1e-8)
    T = block_diag(*maps.values())
    expected = reference.covariance[np.ix_(order, order)]
    assert_allclose(T @ covariance @ T.T, expected, rtol=1e-7, atol=1e-9)


def _elements(canonical: CanonicalModel, plain: pm.Model, name: str) -> np.ndarray:
    """Places of a variable's elements in the dense reference."""
    values = [plain.rvs_to_values[plain[effect]].name for effect in canonical.effects]
    sizes = [int(np.prod(start_of(plain)[value].shape)) for value in values]
    k = canonical.effects.index(name)
    return np.arange(sizes[k]) + sum(sizes[:k])


def _value_map(plain: pm.Model, name: str, like: np.ndarray) -> np.ndarray:
    """Matrix from a variable to its value variable: the identity, or a zero-sum transform."""
    transform = plain.rvs_to_transforms[plain[name]]
    if transform is None:
        return np.eye(like.size)
    units = np.eye(like.size).reshape(like.size, *like.shape)
    x = pt.tensor(shape=like.shape)
    forward = pytensor.function([x], transform.forward(x), mode="FAST_COMPILE")
    columns = [forward(unit).ravel() for unit in units]
    return np.stack(columns, axis=1)


@MODEL_ON_BACKEND
def test_log_density_and_gradient(canonical: CanonicalModel, backend: str) -> None:
    _, marginal, _ = models_of(canonical)
    logp = density(marginal)
    function = marginal.compile_fn(
        [marginal.logp(), *_gradient(marginal)], mode=backend, point_fn=True
    )
    point = parameters_of(canonical, 3)
    value, *gradient = function(point)
    assert_allclose(value, logp(point), rtol=1e-10)
    for variable, found in zip(marginal.value_vars, gradient, strict=True):
        expected = _central_differences(logp, point, variable.name)
        assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def _gradient(model: pm.Model) -> list:
    return pytensor.grad(model.logp(), model.value_vars)


def _central_differences(logp, point: dict, name: str) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Fourth-order differences, so that 1e-6 is a test of the gradient and not of the step."""
    result = np.zeros_like(point[name])
    for index in np.ndindex(result.shape):

        def at(step: float, index: tuple = index) -> float:
            moved = point[name].copy()
            moved[index] += step
            return float(logp({**point, name: moved}))

        h = 1e-3
        result[index] = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    return result


@MODEL
def test_joint_is_marginal_times_conditional(canonical: CanonicalModel) -> None:
    """``log p(y, v, θ) = log p(y, θ) + log p(v | y, θ)``, against PyMC's own joint density."""
    plain, _, full = models_of(canonical)
    joint, factored = density(plain), density(full)
    for seed in (4, 5, 6):
        point = random_point(plain, seed)
        assert_allclose(factored(point), joint(point), rtol=1e-8)


@pytest.mark.parametrize("backend", ["NUMBA", "JAX"])
@pytest.mark.parametrize(
    "name",
    [
        "hierarchical_mean_by_index",
        pytest.param("crossed_correlated_slopes", marks=pytest.mark.slow),
    ],
)
def test_joint_is_marginal_times_conditional_when_compiled(name: str, backend: str) -> None:
    plain, _, full = models_of(by_name(name))
    point = random_point(plain, 7)
    joint = density(plain)(point)
    assert_allclose(full.compile_logp(mode=backend)(point), joint, rtol=1e-8)


@MODEL
def test_generates_data_like_the_plain_model(canonical: CanonicalModel) -> None:
    """The marginal model stays generative: its responses have the shapes, and are random."""
    plain, marginal, _ = models_of(canonical)
    if canonical.flat:
        pytest.skip("a flat prior cannot be sampled from, in the plain model neither")
    names = [rv.name for rv in plain.observed_RVs]
    drawn = pm.draw([marginal[name] for name in names], draws=2, mode="FAST_COMPILE")
    for name, values in zip(names, drawn, strict=True):
        assert values.shape[1:] == plain[name].eval(mode="FAST_COMPILE").shape
        assert np.isfinite(values).all()
        assert not np.allclose(values[0], values[1])
