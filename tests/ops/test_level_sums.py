"""Sums by level against a loop: all backends, gradients, axes in front, levels without rows."""

from __future__ import annotations

import jax
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.sampling.jax import get_jaxified_graph
from pytensor.graph.replace import vectorize_graph

from pymc_marginal_lmm.ops import level_sums

CODES = {
    "balanced": np.array([2, 0, 1, 2, 0, 1]),
    "unbalanced": np.array([3, 3, 3, 3, 3, 0, 3]),
    "no rows": np.array([], dtype=int),
}
N_LEVELS = 4

with_codes = pytest.mark.parametrize("codes", CODES.values(), ids=CODES)
with_backend = pytest.mark.parametrize("backend", ["FAST_COMPILE", "NUMBA", "JAX"])


def expected(rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    sums = np.zeros((*rows.shape[:-2], N_LEVELS, rows.shape[-1]))
    for i, code in enumerate(codes):
        sums[..., code, :] += rows[..., i, :]
    return sums


@with_backend
@with_codes
def test_sums_and_gradient(codes: np.ndarray, backend: str) -> None:
    rng = np.random.default_rng(1)
    rows, bar = rng.normal(size=(len(codes), 3)), rng.normal(size=(N_LEVELS, 3))
    x = pt.tensor(dtype="float64", shape=rows.shape)
    sums = level_sums(x, codes, N_LEVELS)
    gradient = pt.grad((sums * bar).sum(), x)
    values = pytensor.function([x], [sums, gradient], mode=backend)(rows)
    assert_allclose(values[0], expected(rows, codes), rtol=1e-14)
    assert_allclose(values[1], bar[codes], rtol=1e-14)


@with_codes
def test_gradient_by_jax(codes: np.ndarray) -> None:
    bar = np.random.default_rng(2).normal(size=(N_LEVELS, 2))
    x = pt.tensor(dtype="float64", shape=(len(codes), 2))
    function = get_jaxified_graph(
        inputs=[x], outputs=[(level_sums(x, codes, N_LEVELS) * bar).sum()]
    )
    gradient = jax.grad(lambda rows: function(rows)[0])(np.ones((len(codes), 2)))
    assert_allclose(gradient, bar[codes], rtol=1e-14)


@with_backend
@with_codes
def test_axes_in_front(codes: np.ndarray, backend: str) -> None:
    rows = np.random.default_rng(3).normal(size=(2, len(codes), 3))
    one = pt.tensor(dtype="float64", shape=rows.shape[1:])
    many = pt.tensor(dtype="float64", shape=rows.shape)
    sums = vectorize_graph(level_sums(one, codes, N_LEVELS), {one: many})
    values = pytensor.function([many], sums, mode=backend)(rows)
    assert_allclose(values, expected(rows, codes), rtol=1e-14)


def test_further_axes_of_a_row() -> None:
    rows = np.random.default_rng(4).normal(size=(6, 2, 3))
    sums = level_sums(pt.constant(rows), CODES["balanced"], N_LEVELS).eval()
    flat = expected(rows.reshape(6, 6), CODES["balanced"])
    assert_allclose(sums, flat.reshape(N_LEVELS, 2, 3), rtol=1e-14)


@with_backend
def test_one_level(backend: str) -> None:
    rows = np.random.default_rng(5).normal(size=(6, 3))
    x, bar = pt.tensor(dtype="float64", shape=rows.shape), np.array([[1.0, -2.0, 3.0]])
    sums = level_sums(x, np.zeros(6), 1)
    gradient = pt.grad((sums * bar).sum(), x)
    values = pytensor.function([x], [sums, gradient], mode=backend)(rows)
    assert_allclose(values[0], rows.sum(axis=0, keepdims=True), rtol=1e-14)
    assert_allclose(values[1], bar.repeat(6, axis=0), rtol=1e-14)
    function = get_jaxified_graph(inputs=[x], outputs=[(sums * bar).sum()])
    assert_allclose(jax.grad(lambda a: function(a)[0])(rows), values[1], rtol=1e-14)
