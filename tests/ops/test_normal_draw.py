"""Draws by blocks: mean and covariance are exact, since a draw is linear in its noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pytensor.graph.replace import vectorize_graph

from pymc_marginal_lmm.ops import draw_normal

BACKENDS = ("FAST_COMPILE", "NUMBA", "JAX")
SHAPES = [  # M blocks, S effects
    (7, 1),
    (5, 2),
    (3, 5),
    (3, 7),  # too wide to be unrolled
    (2, 40),  # too wide to be inverted
    (1, 300),  # for LAPACK, in every library
    (0, 2),
]
with_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
with_backend = pytest.mark.parametrize("backend", BACKENDS)
type Shape = tuple[int, int]


def system(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    M, S = shape
    rng = np.random.default_rng(shape)
    root = rng.normal(size=(M, S, S + 2))
    return np.eye(S) + root @ root.swapaxes(1, 2), rng.normal(size=shape)


def compiled(shape: Shape, backend: str, dtype: str = "float64") -> Callable[..., np.ndarray]:
    F, h = system(shape)
    inputs = [pt.tensor(dtype=dtype, shape=x.shape) for x in (F, h, h)]
    return pytensor.function(inputs, draw_normal(*inputs), mode=backend)


@with_shape
@with_backend
def test_mean_and_covariance(shape: Shape, backend: str) -> None:
    F, h = system(shape)
    draw = compiled(shape, backend)
    mean = draw(F, h, np.zeros(shape))
    assert mean.shape == shape
    assert_allclose(mean, np.linalg.solve(F, h[..., None])[..., 0], rtol=1e-9, atol=1e-12)
    units = (np.broadcast_to(unit, shape) for unit in np.eye(shape[1]))
    B = np.stack([draw(F, np.zeros(shape), unit) for unit in units], axis=-1)
    assert_allclose(B @ B.swapaxes(1, 2), np.linalg.inv(F), rtol=1e-8, atol=1e-12)


@with_backend
@pytest.mark.parametrize("shape", [(5, 2), (3, 7), (2, 40)], ids=str)
def test_no_draw_where_there_is_no_posterior(shape: Shape, backend: str) -> None:
    """Neither for what is not positive definite nor for what overflowed, but for the others."""
    F, h = system(shape)
    draw = compiled(shape, backend)
    expected = draw(F, h, h)
    for bad in (-F[1], np.diag(np.full(shape[1], np.inf)), np.full_like(F[1], np.nan)):
        numbers = F.copy()
        numbers[1] = bad
        found = draw(numbers, h, h)
        assert np.isnan(found[1]).all()
        for other in {*range(shape[0])} - {1}:
            assert_allclose(found[other], expected[other], rtol=1e-12)


@pytest.mark.parametrize("shape", [(5, 2), (3, 7), (2, 40), (1, 3)], ids=str)
@pytest.mark.parametrize("spoilt", [False, True])
def test_many_at_once(shape: Shape, spoilt: bool) -> None:
    """Axes in front, of some arguments only, as ``recover`` has them."""
    F, h = system(shape)
    rng = np.random.default_rng(1)
    epsilon, w = rng.normal(size=(4, *shape)), np.array([0.5, 1.0, 2.0, 3.0])
    if spoilt:
        w[2] = -1.0
    one = [pt.tensor(shape=shape), pt.scalar()]
    several = [pt.tensor(shape=(None, *shape)), pt.vector()]
    u = draw_normal(one[1] * pt.constant(F), pt.constant(h), one[0])
    many = vectorize_graph(u, dict(zip(one, several, strict=True)))
    found = pytensor.function(several, many, mode="FAST_COMPILE")(epsilon, w)
    draw = compiled(shape, "FAST_COMPILE")
    for i in range(4):
        assert_allclose(found[i], draw(w[i] * F, h, epsilon[i]), rtol=1e-12)
    assert np.isnan(found[2]).all() == spoilt


@with_backend
def test_single_precision(backend: str) -> None:
    shape = (3, 7)
    F, h = system(shape)
    found = compiled(shape, backend, "float32")(*(x.astype("float32") for x in (F, h, h)))
    assert found.dtype == "float32"
    assert_allclose(found, compiled(shape, "FAST_COMPILE")(F, h, h), rtol=1e-4, atol=1e-5)


def test_dtypes_are_upcast() -> None:
    F, h = (pt.tensor(dtype=dtype, shape=(3, 2, 2)) for dtype in ("float32", "float64"))
    assert draw_normal(F, h[:, 0], h[:, 1]).type.dtype == "float64"


def test_no_gradient() -> None:
    F, h = pt.tensor(shape=(3, 2, 2)), pt.matrix()
    with pytest.raises(NotImplementedError, match="no gradient"):
        pt.grad(draw_normal(F, h, h).sum(), h)
