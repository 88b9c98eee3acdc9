"""Cyclic reduction against dense linear algebra: values, gradients, draws, dtypes, NaN."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.sampling.jax import get_jaxified_graph

from pymc_marginal_lmm.ops import BlockTridiagonalDraw, BlockTridiagonalSolve
from pymc_marginal_lmm.ops.cyclic_reduction import n_eliminated
from tests.ops.problems import complex_steps

BACKENDS = ("FAST_COMPILE", "NUMBA", "JAX")
SHAPES = [  # m blocks, of size B, k right-hand sides
    (1, 1, 1),
    (2, 1, 1),
    (3, 2, 1),
    (4, 3, 2),
    (5, 1, 3),
    (6, 4, 2),
    (7, 2, 0),
    (8, 5, 1),
    (9, 7, 2),
    (20, 1, 2),
    (6, 37, 3),  # several panels
]
JAX_SHAPES = [(1, 1, 1), (4, 3, 2), (7, 2, 0), (9, 7, 2), (20, 1, 2)]
with_shape_and_backend = pytest.mark.parametrize(
    ("backend", "shape"),
    [(b, shape) for b in BACKENDS for shape in (JAX_SHAPES if b == "JAX" else SHAPES)],
    ids=str,
)
type Shape = tuple[int, int, int]


class System(NamedTuple):
    """Blocks of ``F``, and right-hand sides."""

    D: np.ndarray
    E: np.ndarray
    h: np.ndarray

    @property
    def F(self) -> np.ndarray:
        m, B, _ = self.h.shape
        F = np.zeros((m, B, m, B), dtype=np.result_type(*self))
        for i in range(m):
            F[i, :, i] = self.D[i]
        for i in range(m - 1):
            F[i + 1, :, i], F[i, :, i + 1] = self.E[i], self.E[i].T
        return F.reshape(m * B, m * B)


@cache
def system(shape: Shape) -> System:
    """Draw rows that touch two blocks in a row, some of them few, and so a positive definite F."""
    m, B, k = shape
    rng = np.random.default_rng(shape)
    D = np.array([np.eye(B)] * m)
    E = np.zeros((m - 1, B, B))
    for i in range(m):
        Z = rng.normal(size=(B + 2, 2 * B))
        A = Z.T @ Z
        D[i] += A[:B, :B]
        if i + 1 < m:
            D[i + 1] += A[B:, B:]
            E[i] += A[B:, :B]
    return System(D, E, rng.normal(size=(m, B, k)))


def weights(shape: Shape) -> np.ndarray:
    """What ``x`` is multiplied by in the scalar that gradients are taken of."""
    return np.random.default_rng([*shape, 1]).normal(size=shape)


def dense_cost(shape: Shape, numbers: System) -> complex:
    m, B, k = shape
    phase, log_abs = np.linalg.slogdet(numbers.F)
    x = np.linalg.solve(numbers.F, numbers.h.reshape(m * B, k))
    return 1.5 * (log_abs + 1j * np.angle(phase)) + (x.reshape(shape) * weights(shape)).sum()


@cache
def dense_gradient(shape: Shape) -> System:
    """``d log|F| = tr(F⁻¹ dF)`` and ``d aᵀx = aᵀF⁻¹(dh − dF x)``, with full matrices."""
    m, B, k = shape
    C = np.linalg.inv(system(shape).F)
    g, x = (C @ a.reshape(m * B, k) for a in (weights(shape), system(shape).h))
    bar = (1.5 * C - (g @ x.T + x @ g.T) / 2).reshape(m, B, m, B)
    D = np.array([bar[i, :, i] for i in range(m)])
    E = np.array([2 * bar[i + 1, :, i] for i in range(m - 1)]).reshape(m - 1, B, B)
    return System(D, E, g.reshape(shape))


def symbols(shape: Shape, dtype: str = "float64") -> list[pt.TensorVariable]:
    return [pt.tensor(dtype=dtype, shape=x.shape) for x in system(shape)]


def cost(shape: Shape, inputs: list[pt.TensorVariable]) -> pt.TensorVariable:
    log_det, x, *_ = BlockTridiagonalSolve()(*inputs)
    return 1.5 * log_det + (weights(shape).astype(inputs[0].dtype) * x).sum()


@cache
def compiled(shape: Shape, backend: str, dtype: str = "float64") -> Callable[..., list[np.ndarray]]:
    """Return a function that gives all outputs, both halves of a solution, and gradients."""
    inputs = symbols(shape, dtype)
    log_det, x, *factor = BlockTridiagonalSolve()(*inputs)
    draw, lower = (BlockTridiagonalDraw(t)(*factor, inputs[2]) for t in (False, True))
    both = BlockTridiagonalDraw()(*factor, lower)
    outputs = [log_det, x, draw, both, *pt.grad(cost(shape, inputs), inputs)]
    return pytensor.function(inputs, outputs, mode=backend)


def assert_gradient(bars: list[np.ndarray], shape: Shape, rtol: float = 1e-9) -> None:
    for name, bar, expected in zip(System._fields, bars, dense_gradient(shape), strict=True):
        assert bar.shape == expected.shape
        atol = rtol * np.abs(expected).max(initial=0)
        assert_allclose(bar, expected, rtol=rtol, atol=atol, err_msg=name)


@with_shape_and_backend
def test_solution_and_pullback(shape: Shape, backend: str) -> None:
    numbers, (m, B, k) = system(shape), shape
    log_det, x, _, both, *bars = compiled(shape, backend)(*numbers)
    assert_allclose(log_det, np.linalg.slogdet(numbers.F)[1], rtol=1e-12)
    solution = np.linalg.solve(numbers.F, numbers.h.reshape(m * B, k)).reshape(shape)
    assert_allclose(x, solution, rtol=1e-9, atol=1e-12)
    assert_allclose(both, solution, rtol=1e-9, atol=1e-12)
    assert_gradient(bars, shape)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[1] < 7], ids=str)
def test_the_dense_gradient_is_right(shape: Shape) -> None:
    """Against complex steps; those of diagonal blocks move one of two equal entries."""
    numbers = system(shape)
    bars = []
    for name, x in zip(System._fields, numbers, strict=True):

        def moved(step: np.ndarray, name: str = name) -> complex:
            return dense_cost(shape, numbers._replace(**{name: step}))

        bars.append(complex_steps(moved, x))
    bars[0] = (bars[0] + bars[0].swapaxes(1, 2)) / 2
    assert_gradient(bars, shape)


@pytest.mark.parametrize("shape", JAX_SHAPES, ids=str)
def test_gradient_by_jax(shape: Shape) -> None:
    """What NumPyro does: it never sees the pullback but differentiates the jaxified graph."""
    inputs = symbols(shape)
    function = get_jaxified_graph(inputs=inputs, outputs=[cost(shape, inputs)])
    gradient = jax.jit(jax.grad(lambda *args: function(*args)[0], argnums=(0, 1, 2)))
    assert_gradient(list(gradient(*system(shape))), shape)


def test_jax_differentiates_twice() -> None:
    shape = (4, 3, 2)
    inputs = symbols(shape)
    function = get_jaxified_graph(inputs=inputs, outputs=[cost(shape, inputs)])
    gradient = jax.jit(jax.grad(lambda E: function(*system(shape)._replace(E=E))[0]))
    at = system(shape).E
    direction = np.random.default_rng(1).normal(size=at.shape)
    _, along = jax.jvp(gradient, (at,), (direction,))
    difference = (gradient(at + 1e-4 * direction) - gradient(at - 1e-4 * direction)) / 2e-4
    assert_allclose(along, difference, rtol=1e-6, atol=1e-6)


@with_shape_and_backend
def test_draws_have_the_covariance(shape: Shape, backend: str) -> None:
    """``L⁻ᵀ`` is a square root of ``F⁻¹``, and its gradient the transpose."""
    m, B, _ = shape
    n = m * B
    numbers = system(shape)._replace(h=np.eye(n).reshape(m, B, n))
    inputs = [pt.tensor(dtype="float64", shape=x.shape) for x in numbers]
    _, _, *factor = BlockTridiagonalSolve()(*inputs)
    a = np.random.default_rng(2).normal(size=(m, B, n))
    draw = BlockTridiagonalDraw()(*factor, inputs[2])
    outputs = [draw, pt.grad((a * draw).sum(), inputs[2])]
    root, bar = pytensor.function(inputs, outputs, mode=backend)(*numbers)
    root = root.reshape(n, n)
    assert_allclose(root @ root.T, np.linalg.inv(numbers.F), rtol=1e-9, atol=1e-12)
    assert_allclose(bar.reshape(n, n), root.T @ a.reshape(n, n), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(5, 1, 3), (9, 7, 2)], ids=str)
def test_single_precision(shape: Shape, backend: str) -> None:
    numbers = [x.astype("float32") for x in system(shape)]
    log_det, _, _, _, *bars = compiled(shape, backend, "float32")(*numbers)
    assert all(bar.dtype == "float32" for bar in (log_det, *bars))
    assert_allclose(log_det, np.linalg.slogdet(system(shape).F)[1], rtol=1e-5)
    assert_gradient(bars, shape, rtol=2e-3)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 1, 3), (9, 7, 2)], ids=str)
def test_not_positive_definite(shape: Shape, backend: str) -> None:
    D, E, h = system(shape)
    D = D.copy()
    D[-1] -= 1e3 * np.eye(shape[1])
    log_det, x, *_ = compiled(shape, backend)(D, E, h)
    assert np.isnan(log_det) and np.isnan(x).all()


def test_many_systems_at_once() -> None:
    """With one among them that is not positive definite."""
    shape = (4, 7, 2)
    numbers = system(shape)
    inputs = symbols(shape)
    log_det, x, *factor = BlockTridiagonalSolve()(*inputs)
    draw = BlockTridiagonalDraw()(*factor, inputs[2])
    several = [pt.tensor(dtype="float64", shape=(None, *i.type.shape)) for i in inputs[:2]]
    given = dict(zip(inputs[:2], several, strict=True))
    outputs = pytensor.graph.vectorize_graph([log_det, x, draw], given)
    many = pytensor.function([*several, inputs[2]], outputs, mode="FAST_COMPILE")
    single = pytensor.function(inputs, [log_det, x, draw], mode="FAST_COMPILE")
    for signs in ([1.0, 2.0, 3.0], [1.0, -1.0, 3.0]):
        D = np.array([c * numbers.D for c in signs])
        E = np.array([c * numbers.E for c in signs])
        results = many(D, E, numbers.h)
        for i in range(3):
            for one, together in zip(single(D[i], E[i], numbers.h), results, strict=True):
                assert_allclose(together[i], one, rtol=1e-12)
    assert np.isnan(results[0][1]) and not np.isnan(results[0][[0, 2]]).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_long_walk(backend: str) -> None:
    """Its precision from a start at zero has determinant one, and is as good as singular."""
    m = 10_000
    D = np.full((m, 1, 1), 2.0)
    D[-1] = 1.0
    E = np.full((m - 1, 1, 1), -1.0)
    h = np.zeros((m, 1, 1))
    h[-1] = 1.0
    inputs = [pt.tensor(dtype="float64", shape=x.shape) for x in (D, E, h)]
    log_det, x, *_ = BlockTridiagonalSolve()(*inputs)
    value, solution = pytensor.function(inputs, [log_det, x], mode=backend)(D, E, h)
    assert abs(value) < 1e-8
    assert_allclose(solution.ravel(), np.arange(1, m + 1), rtol=1e-8)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_lowers_for_cuda_without_callbacks(dtype: str) -> None:
    shape = (9, 7, 2)
    with pytensor.config.change_flags(floatX=dtype), jax.enable_x64(dtype == "float64"):
        inputs = symbols(shape, dtype)
        log_det, x, *_ = BlockTridiagonalSolve()(*inputs)
        function = get_jaxified_graph(inputs=inputs, outputs=[log_det, x])

        def total(*args: jax.Array) -> jax.Array:
            log_det, x = function(*args)
            return log_det + x.sum()

        gradient = jax.value_and_grad(total, argnums=(0, 1, 2))
        numbers = [x.astype(dtype) for x in system(shape)]
        text = jax.jit(gradient).trace(*numbers).lower(lowering_platforms=("cuda",)).as_text()
    assert "callback" not in text
    assert ("f64" in text) == (dtype == "float64")


def test_counts() -> None:
    assert [n_eliminated(m) for m in (0, 1, 2, 3, 4)] == [(0, 0), (1, 0), (3, 1), (3, 1), (6, 3)]
