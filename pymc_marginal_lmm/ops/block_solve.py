"""The Op that every density and draw goes through: ``(F, h) ↦ (log|F|, F⁻¹h)``, differentiable.

The log normaliser of a Gaussian in natural parameters is ``G(F, h) = ½ hᵀF⁻¹h − ½ log|F|``. The
Op returns its two ingredients rather than ``G``: the quadratic form can then be evaluated as a
sum of squared residuals at ``u = F⁻¹h``, which loses no digits where ``rᵀWr − hᵀF⁻¹h`` cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pytensor.tensor as pt
import scipy.linalg
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.scalar import upcast

from pymc_marginal_lmm.ops import elimination
from pymc_marginal_lmm.ops.elimination import ArrayLibrary, Workspace

__all__ = ["BlockSolve", "BlockSolvePullback", "Solution", "block_solve"]

NO_SECOND_DERIVATIVE = (
    "The gradient of a marginal log density has no derivative of its own in PyTensor: a second "
    "derivative is available through JAX only (jax.hessian of the jaxified log density)."
)

NUMPY = ArrayLibrary(np, partial(scipy.linalg.solve_triangular, check_finite=False))


class BlockSolve(Op):
    r"""Log determinant and solution of a blocked positive definite system.

    Inputs are ``F11 (M, S, S)``, ``F12 (M, S, q)``, ``F22 (q, q)``, ``h1 (M, S)``, ``h2 (q)``;
    outputs ``log|F|``, ``u1 (M, S)``, ``u2 (q)`` and the workspace ``J, T, L22`` of
    :mod:`~pymc_marginal_lmm.ops.elimination`, which the pullback reuses. ``M`` or ``q`` may be
    0. Where ``F`` is not positive definite in floating point, everything is NaN, so that a
    sampler rejects the point.

    Work is ``O(M S³ + M S q² + q³)``, memory ``O(M S (S + q) + q²)``. The gradient is exact; a
    second derivative through PyTensor is not available (JAX differentiates further).
    """

    __props__ = ()

    def make_node(self, *inputs: Variable) -> Apply:
        F11, F12, F22, h1, h2 = map(pt.as_tensor_variable, inputs)
        ndims = (3, 3, 2, 2, 1)
        if tuple(x.type.ndim for x in (F11, F12, F22, h1, h2)) != ndims:
            raise TypeError(f"BlockSolve takes inputs with {ndims} dimensions")
        dtype = upcast(*(x.type.dtype for x in (F11, F12, F22, h1, h2)))
        cast = [pt.cast(x, dtype) for x in (F11, F12, F22, h1, h2)]
        F11, F12, F22, h1, h2 = cast
        outputs = [pt.scalar(dtype=dtype), h1.type(), h2.type()]
        return Apply(self, cast, [*outputs, F11.type(), F12.type(), F22.type()])

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        F11, F12, F22, h1, h2 = inputs
        try:
            with np.errstate(all="ignore"):
                log_det, work = elimination.factorize(NUMPY, F11, F12, F22)
                u1, u2 = elimination.solve(NUMPY, work, h1, h2)
            results: tuple = (log_det, u1, u2, *work)
        except np.linalg.LinAlgError:
            results = tuple(
                np.full_like(x, np.nan) for x in (np.zeros((), F11.dtype), h1, h2, F11, F12, F22)
            )
        for storage, result, out in zip(output_storage, results, node.outputs, strict=True):
            storage[0] = np.asarray(result, dtype=out.type.dtype)

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence
    ) -> list[Variable]:
        *used, J_bar, T_bar, L22_bar = cotangents
        if not all(isinstance(c.type, DisconnectedType) for c in (J_bar, T_bar, L22_bar)):
            raise NotImplementedError(
                f"The workspace of BlockSolve is not differentiable. {NO_SECOND_DERIVATIVE}"
            )
        _, u1, u2, *work = outputs
        bars = [
            out.zeros_like() if isinstance(bar.type, DisconnectedType) else bar
            for out, bar in zip(outputs[:3], used, strict=True)
        ]
        return BlockSolvePullback()(*work, u1, u2, *bars, return_list=True)

    def infer_shape(self, node: Apply, shapes: list) -> list:
        F11, F12, F22, h1, h2 = shapes
        return [(), h1, h2, F11, F12, F22]


class BlockSolvePullback(Op):
    """Pullback of :class:`BlockSolve`: workspace, ``u`` and cotangents to ``F̄`` and ``h̄``."""

    __props__ = ()

    def make_node(self, *inputs: Variable) -> Apply:
        J, T, L22, u1, u2, *bars = map(pt.as_tensor_variable, inputs)
        bars = [pt.cast(bar, J.type.dtype) for bar in bars]
        return Apply(self, [J, T, L22, u1, u2, *bars], [x.type() for x in (J, T, L22, u1, u2)])

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        J, T, L22, *rest = inputs
        with np.errstate(all="ignore"):
            results = elimination.pullback(NUMPY, Workspace(J, T, L22), *rest)
        for storage, result, out in zip(output_storage, results, node.outputs, strict=True):
            storage[0] = np.asarray(result, dtype=out.type.dtype)

    def pullback(self, *args: object) -> list[Variable]:
        raise NotImplementedError(NO_SECOND_DERIVATIVE)

    def infer_shape(self, node: Apply, shapes: list) -> list:
        return shapes[:5]


class Solution(NamedTuple):
    """Symbolic outputs of :func:`block_solve`."""

    log_det: Variable
    u1: Variable
    u2: Variable
    J: Variable
    T: Variable
    L22: Variable


def block_solve(
    F11: Variable, F12: Variable, F22: Variable, h1: Variable, h2: Variable
) -> Solution:
    """Apply :class:`BlockSolve`."""
    return Solution(*BlockSolve()(F11, F12, F22, h1, h2, return_list=True))
