"""The solving Op against dense linear algebra: log determinant, solution, gradients, factor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import jax
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.sampling.jax import get_jaxified_graph

from pymc_marginal_lmm.ops import block_solve

BACKENDS = ("FAST_COMPILE", "NUMBA", "JAX")
SHAPES = [  # M levels, S effects, q trailing columns
    (7, 1, 3),
    (5, 2, 4),
    (4, 3, 2),
    (3, 4, 1),
    (3, 5, 2),
    (3, 7, 2),  # too wide to be unrolled
    (1, 1, 1),
    (0, 1, 4),
    (6, 2, 0),
    (3, 7, 0),
    (40, 2, 100),  # several panels
]
JAX_SHAPES = [(5, 2, 4), (3, 7, 2), (0, 1, 4), (6, 2, 0)]
with_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
with_shape_and_backend = pytest.mark.parametrize(
    ("backend", "shape"),
    [(b, shape) for b in BACKENDS for shape in (JAX_SHAPES if b == "JAX" else SHAPES)],
    ids=str,
)
type Shape = tuple[int, int, int]


class System(NamedTuple):
    """``F`` at its pattern, and ``h``."""

    F11: np.ndarray
    F12: np.ndarray
    F22: np.ndarray
    h1: np.ndarray
    h2: np.ndarray

    @property
    def h(self) -> np.ndarray:
        return np.r_[self.h1.ravel(), self.h2]

    @property
    def F(self) -> np.ndarray:
        M, S, q = self.F12.shape
        k = M * S
        F = np.zeros((k + q, k + q), dtype=np.result_type(*self))
        for i in range(M):
            here = slice(i * S, (i + 1) * S)
            F[here, here] = (self.F11[i] + self.F11[i].T) / 2
        F[:k, k:] = self.F12.reshape(k, q)
        F[k:, :k] = F[:k, k:].T
        F[k:, k:] = (self.F22 + self.F22.T) / 2
        return F


@cache
def system(shape: Shape) -> System:
    """Draw a design with an effect per row and level, and so a positive definite ``F``."""
    M, S, q = shape
    rng = np.random.default_rng(shape)
    k = M * S
    n = 2 * (k + q) + 3
    Z = rng.normal(size=(n, k + q))
    for i in range(M):
        Z[np.arange(n) % M != i, i * S : (i + 1) * S] = 0.0
    F = np.eye(k + q) + Z.T @ Z
    levels = [slice(i * S, (i + 1) * S) for i in range(M)]
    return System(
        F11=np.array([F[i, i] for i in levels]).reshape(M, S, S),
        F12=F[:k, k:].reshape(M, S, q),
        F22=F[k:, k:],
        h1=rng.normal(size=(M, S)),
        h2=rng.normal(size=q),
    )


def weights(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """What ``u`` is multiplied by in the scalar that gradients are taken of."""
    M, S, q = shape
    rng = np.random.default_rng([*shape, 1])
    return rng.normal(size=(M, S)), rng.normal(size=q)


def symbols(shape: Shape, dtype: str = "float64") -> list[pt.TensorVariable]:
    return [pt.tensor(dtype=dtype, shape=x.shape) for x in system(shape)]


def cost(shape: Shape, inputs: Sequence[pt.TensorVariable]) -> pt.TensorVariable:
    a1, a2 = (a.astype(inputs[0].dtype) for a in weights(shape))
    solution = block_solve(*inputs)
    return 1.5 * solution.log_det + (a1 * solution.u1).sum() + (a2 * solution.u2).sum()


@cache
def dense_gradient(shape: Shape) -> System:
    """``d log|F| = tr(F⁻¹ dF)`` and ``d(aᵀu) = aᵀF⁻¹(dh − dF u)``, with full matrices."""
    M, S, q = shape
    k = M * S
    C = np.linalg.inv(system(shape).F)
    g = C @ np.concatenate([part.ravel() for part in weights(shape)])
    u = C @ system(shape).h
    bar = 1.5 * C - (np.outer(g, u) + np.outer(u, g)) / 2
    levels = [slice(i * S, (i + 1) * S) for i in range(M)]
    return System(
        F11=np.array([bar[i, i] for i in levels]).reshape(M, S, S),
        F12=2 * bar[:k, k:].reshape(M, S, q),  # F12 stands for two blocks of F
        F22=bar[k:, k:],
        h1=g[:k].reshape(M, S),
        h2=g[k:],
    )


def assert_gradient(bar: np.ndarray, shape: Shape, name: str, rtol: float = 1e-9) -> None:
    assert bar.shape == getattr(system(shape), name).shape
    expected = getattr(dense_gradient(shape), name)
    atol = rtol * np.abs(expected).max(initial=0)
    np.testing.assert_allclose(bar, expected, rtol=rtol, atol=atol, err_msg=name)


@cache
def compiled(shape: Shape, backend: str, dtype: str = "float64") -> Callable[..., list[np.ndarray]]:
    """Return a function of ``F`` and ``h`` that gives all outputs, and gradients of the cost."""
    inputs = symbols(shape, dtype)
    outputs = [*block_solve(*inputs), *pt.grad(cost(shape, inputs), inputs)]
    return pytensor.function(inputs, outputs, mode=backend)


@with_shape_and_backend
def test_solution_and_pullback(shape: Shape, backend: str) -> None:
    numbers = system(shape)
    log_det, u1, u2, _, _, *bars = compiled(shape, backend)(*numbers)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(numbers.F)[1], rtol=1e-12)
    u = np.linalg.solve(numbers.F, numbers.h)
    np.testing.assert_allclose(np.r_[u1.ravel(), u2], u, rtol=1e-9, atol=1e-12)
    for name, bar in zip(System._fields, bars, strict=True):
        assert_gradient(bar, shape, name)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != (40, 2, 100)], ids=str)
def test_the_dense_gradient_is_right(shape: Shape) -> None:
    """Against complex steps, exact to rounding, one element after the other."""

    def dense_cost(numbers: System) -> complex:
        phase, log_abs = np.linalg.slogdet(numbers.F)
        a = np.concatenate([part.ravel() for part in weights(shape)])
        u = np.linalg.solve(numbers.F, numbers.h)
        return 1.5 * (log_abs + 1j * np.angle(phase)) + a @ u

    numbers = System(*(x.astype(complex) for x in system(shape)))
    for name, x in zip(System._fields, numbers, strict=True):
        bar = np.zeros(x.shape)
        for index in np.ndindex(x.shape):
            step = x.copy()
            step[index] += 1e-30j
            bar[index] = dense_cost(numbers._replace(**{name: step})).imag / 1e-30
        assert_gradient(bar, shape, name)


@pytest.mark.parametrize("shape", JAX_SHAPES, ids=str)
def test_gradient_by_jax(shape: Shape) -> None:
    """What NumPyro does: it never sees the pullback but differentiates the jaxified graph."""
    inputs = symbols(shape)
    function = get_jaxified_graph(inputs=inputs, outputs=[cost(shape, inputs)])
    gradient = jax.jit(jax.grad(lambda *args: function(*args)[0], argnums=tuple(range(5))))
    for name, bar in zip(System._fields, gradient(*system(shape)), strict=True):
        assert_gradient(bar, shape, name)


def test_jax_differentiates_twice() -> None:
    """A second derivative costs no code: the backward rule is differentiable by JAX."""
    shape = (5, 2, 4)
    inputs = symbols(shape)
    function = get_jaxified_graph(inputs=inputs, outputs=[cost(shape, inputs)])

    def of_F22(F22: np.ndarray) -> jax.Array:
        return function(*system(shape)._replace(F22=F22))[0]

    at = system(shape).F22
    gradient = jax.jit(jax.grad(of_F22))
    direction = np.random.default_rng(1).normal(size=at.shape)
    direction = direction + direction.T
    _, along = jax.jit(lambda F22: jax.jvp(jax.grad(of_F22), (F22,), (direction,)))(at)
    difference = (gradient(at + 1e-4 * direction) - gradient(at - 1e-4 * direction)) / 2e-4
    np.testing.assert_allclose(along, difference, rtol=1e-5, atol=1e-7 * np.abs(difference).max())


@with_shape
def test_workspace_is_the_cholesky_factor(shape: Shape) -> None:
    """Draws of the effects are made with it: ``L = [[J⁻¹, 0], [F21Jᵀ, U22ᵀ]]``."""
    M, S, q = shape
    k = M * S
    _, _, _, J, U22, *_ = compiled(shape, "FAST_COMPILE")(*system(shape))
    L = np.zeros((k + q, k + q))
    for i in range(M):
        here = slice(i * S, (i + 1) * S)
        L[here, here] = np.linalg.inv(J[i])
    L[k:, :k] = (J @ system(shape).F12).reshape(k, q).T
    L[k:, k:] = U22.T
    expected = np.linalg.cholesky(system(shape).F)
    np.testing.assert_allclose(L, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize("shape", JAX_SHAPES, ids=str)
def test_workspace_is_the_same_in_all_backends(shape: Shape, backend: str) -> None:
    numbers = system(shape)
    expected = compiled(shape, "FAST_COMPILE")(*numbers)[3:5]
    for ours, theirs in zip(compiled(shape, backend)(*numbers)[3:5], expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", JAX_SHAPES, ids=str)
def test_nan_where_not_positive_definite(shape: Shape, backend: str) -> None:
    numbers = system(shape)
    function = compiled(shape, backend)
    for name in ("F11", "F12", "F22"):
        # Too large a coupling makes the Schur complement negative, with both diagonals fine.
        factor = 100.0 if name == "F12" else -1.0
        block = getattr(numbers, name)
        if block.size == 0:
            continue
        log_det, u1, u2, *_ = function(*numbers._replace(**{name: factor * block}))
        assert np.isnan(log_det), name
        assert np.isnan(u1).all() and np.isnan(u2).all(), name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", JAX_SHAPES, ids=str)
def test_nan_in_gives_nan_out(shape: Shape, backend: str) -> None:
    numbers = System(*(np.full_like(x, np.nan) for x in system(shape)))
    log_det, *_ = compiled(shape, backend)(*numbers)
    assert np.isnan(log_det)


@pytest.mark.parametrize("backend", BACKENDS)
def test_single_precision(backend: str) -> None:
    shape = (5, 2, 4)
    numbers = [x.astype("float32") for x in system(shape)]
    outputs = compiled(shape, backend, "float32")(*numbers)
    assert {x.dtype for x in outputs} == {np.dtype("float32")}
    log_det, u1, u2, _, _, *bars = outputs
    exact = system(shape)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(exact.F)[1], rtol=1e-5)
    u = np.linalg.solve(exact.F, exact.h)
    np.testing.assert_allclose(np.r_[u1.ravel(), u2], u, atol=1e-4 * np.abs(u).max())
    for name, bar in zip(System._fields, bars, strict=True):
        assert_gradient(bar, shape, name, rtol=1e-4)


def test_dtypes_are_upcast() -> None:
    F11, *rest = symbols((5, 2, 4), "float32")
    solution = block_solve(F11.astype("float64"), *rest)
    assert {out.type.dtype for out in solution} == {"float64"}


def test_wrong_dimensions_are_refused() -> None:
    F11, *rest = symbols((5, 2, 4))
    with pytest.raises(TypeError, match="dimensions"):
        block_solve(F11[0], *rest)


def test_the_workspace_is_not_differentiable() -> None:
    inputs = symbols((5, 2, 4))
    solution = block_solve(*inputs)
    for work in (solution.J, solution.U22):
        with pytest.raises(NotImplementedError, match="workspace of BlockSolve"):
            pt.grad(work.sum(), inputs[2])


def test_no_second_derivative_by_pytensor() -> None:
    inputs = symbols((5, 2, 4))
    for output in block_solve(*inputs)[:3]:
        first = pt.grad(output.sum(), inputs[2])
        with pytest.raises(NotImplementedError, match=r"second derivative.*JAX"):
            pt.grad(first.sum(), inputs[2])
