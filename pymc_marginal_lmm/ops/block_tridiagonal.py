"""Ops of block tridiagonal systems: :mod:`pymc_marginal_lmm.ops.cyclic_reduction` as nodes.

What a prior with a banded precision leaves of ``F``: a walk of ten thousand steps is ten thousand
blocks of one, a map of three thousand areas some forty blocks, with as many rows as a cut through
the map has areas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.scalar import upcast

from pymc_marginal_lmm.ops import cyclic_reduction
from pymc_marginal_lmm.ops.cyclic_reduction import Factor, n_eliminated
from pymc_marginal_lmm.ops.library import NUMPY
from pymc_marginal_lmm.ops.node import NO_SECOND_DERIVATIVE, connected, perform_many, store

__all__ = [
    "BlockTridiagonalDraw",
    "BlockTridiagonalSolve",
    "BlockTridiagonalSolvePullback",
    "solve_block_tridiagonal",
]


class BlockTridiagonalSolve(Op):
    r"""Log determinant and solutions of a symmetric positive definite block tridiagonal system.

    Inputs are the diagonal blocks ``D (m, B, B)``, those below, ``E (m − 1, B, B)``, and
    right-hand sides ``h (m, B, k)``; outputs ``log|F|``, ``x = F⁻¹h`` and the factor
    (:class:`~pymc_marginal_lmm.ops.cyclic_reduction.Factor`), which the pullback and draws reuse.
    Where ``F`` is not positive definite in floating point, everything is NaN. Work is ``O(m B² (B
    + k))``. The gradient is exact; that of ``D`` is symmetric. ``m`` must be known.
    """

    __props__ = ()
    gufunc_spec = (f"{__package__}.block_tridiagonal.solve_block_tridiagonal", 3, 5)

    def make_node(self, *inputs: Variable) -> Apply:
        D, E, h = map(pt.as_tensor_variable, inputs)
        if (D.type.ndim, E.type.ndim, h.type.ndim) != (3, 3, 3):
            raise TypeError("BlockTridiagonalSolve takes inputs with three dimensions")
        dtype = upcast(D.type.dtype, E.type.dtype, h.type.dtype)
        D, E, h = (pt.cast(x, dtype) for x in (D, E, h))
        m, *block = D.type.shape
        shapes = [(), h.type.shape, *((count, *block) for count in counts(m))]
        return Apply(self, [D, E, h], [pt.tensor(dtype=dtype, shape=shape) for shape in shapes])

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        store(node, solve_block_tridiagonal(*inputs), output_storage)

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True, True, False, False, False]] * 3

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence
    ) -> list[Variable]:
        log_det, x, *factor = outputs
        bars = connected((log_det, x), cotangents[:2])
        return BlockTridiagonalSolvePullback()(*factor, x, *bars, return_list=True)

    def infer_shape(self, node: Apply, shapes: list) -> list:
        (_, B, _), _, h = shapes
        return [(), h, *((pt.constant(out.type.shape[0]), B, B) for out in node.outputs[2:])]


def counts(m: int | None) -> tuple[int, int, int]:
    """Return how many blocks ``J``, ``left`` and ``right`` have."""
    if m is None:
        raise TypeError("The number of blocks must be known")
    even, odd = n_eliminated(m)
    return even, odd, odd


def solve_block_tridiagonal(D: np.ndarray, E: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, ...]:
    """Do what :class:`BlockTridiagonalSolve` does, perhaps with axes in front."""

    def solve(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        D, E, h = _broadcast(arrays)
        log_det, factor = cyclic_reduction.factorize(NUMPY, D, E)
        t = cyclic_reduction.forward(NUMPY, factor, h)
        return log_det, cyclic_reduction.backward(NUMPY, factor, t), *factor

    def failed(D: np.ndarray, E: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, ...]:
        shapes = ((), h.shape, *((count, *D.shape[1:]) for count in counts(len(D))))
        return tuple(np.full(shape, np.nan, dtype=h.dtype) for shape in shapes)

    return perform_many(solve, failed, (D, E, h), ((3, 3, 3), (0, 3, 3, 3, 3)))


def _broadcast(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Give all arrays the same axes in front."""
    batch = np.broadcast_shapes(*(x.shape[:-3] for x in arrays))
    return [np.broadcast_to(x, batch + x.shape[-3:]) for x in arrays]


class BlockTridiagonalSolvePullback(Op):
    """Pullback of :class:`BlockTridiagonalSolve`: factor, ``x`` and cotangents to ``D̄, Ē, h̄``."""

    __props__ = ()

    def make_node(self, *inputs: Variable) -> Apply:
        J, left, right, x, *bars = map(pt.as_tensor_variable, inputs)
        bars = [pt.cast(bar, x.type.dtype) for bar in bars]
        m, block = x.type.shape[0], J.type.shape[1:]
        D = pt.tensor(dtype=x.type.dtype, shape=(m, *block))
        E = pt.tensor(dtype=x.type.dtype, shape=(m - 1, *block))
        return Apply(self, [J, left, right, x, *bars], [D, E, x.type()])

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        J, left, right, *rest = inputs
        with np.errstate(all="ignore"):
            results = cyclic_reduction.pullback(NUMPY, Factor(J, left, right), *rest)
        store(node, results, output_storage)

    def pullback(self, *args: object) -> list[Variable]:
        raise NotImplementedError(NO_SECOND_DERIVATIVE)

    def infer_shape(self, node: Apply, shapes: list) -> list:
        (_, B, _), _, _, x, *_ = shapes
        return [(x[0], B, B), (x[0] - 1, B, B), x]


class BlockTridiagonalDraw(Op):
    """Half of a solution: ``L⁻ᵀε``, which has covariance ``F⁻¹``, or ``L⁻¹h``.

    Inputs are the factor of :class:`BlockTridiagonalSolve`, which is not differentiated, and what
    it is applied to, ``(m, B, k)``.

    Parameters
    ----------
    transpose : bool
        Compute ``L⁻¹h``.
    """

    __props__ = ("transpose",)

    def __init__(self, transpose: bool = False) -> None:
        self.transpose = transpose
        self.gufunc_spec = (f"{__package__}.block_tridiagonal.{self.function.__name__}", 4, 1)

    @property
    def function(self) -> Callable:
        """What is computed, over NumPy."""
        return lower_solution if self.transpose else draw

    def make_node(self, *inputs: Variable) -> Apply:
        J, left, right, x = map(pt.as_tensor_variable, inputs)
        x = pt.cast(x, J.type.dtype)
        return Apply(self, [J, left, right, x], [x.type()])

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        store(node, [self.function(*inputs)], output_storage)

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[False], [False], [False], [True]]

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence
    ) -> list[Variable]:
        *factor, _ = inputs
        transposed = BlockTridiagonalDraw(not self.transpose)
        return [*(disconnected_type() for _ in factor), transposed(*factor, cotangents[0])]

    def infer_shape(self, node: Apply, shapes: list) -> list:
        return [shapes[-1]]


def draw(*inputs: np.ndarray) -> np.ndarray:
    """Return ``L⁻ᵀx``, perhaps with axes in front."""
    *factor, x = _broadcast(inputs)
    with np.errstate(all="ignore"):
        return cyclic_reduction.backward(NUMPY, Factor(*factor), x)


def lower_solution(*inputs: np.ndarray) -> np.ndarray:
    """Return ``L⁻¹x``, perhaps with axes in front."""
    *factor, x = _broadcast(inputs)
    with np.errstate(all="ignore"):
        return cyclic_reduction.forward(NUMPY, Factor(*factor), x)
