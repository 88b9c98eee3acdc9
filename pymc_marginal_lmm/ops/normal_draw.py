r"""Draws from ``Normal(F⁻¹h, F⁻¹)``, block by block.

With ``F = L Lᵀ`` and ``ε`` standard Normal, ``u = L⁻ᵀ(L⁻¹h + ε)`` has mean ``F⁻¹h`` and covariance
``L⁻ᵀL⁻¹ = F⁻¹``: no covariances are subtracted, and where ``ΣZᵀV⁻¹ZΣ`` would cancel ``Σ`` to
nothing, ``F⁻¹`` is a number like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.scalar import upcast

from pymc_marginal_lmm.ops.blocks import (
    apply_blocks,
    diagonal,
    inverse_cholesky,
    lower_cholesky,
    transposed,
)
from pymc_marginal_lmm.ops.library import NUMPY, ArrayLibrary
from pymc_marginal_lmm.ops.node import perform_many, store

__all__ = ["NormalDraw", "draw_blocks", "draw_normal"]

INVERTED = 32
"""Factors of blocks up to this size are inverted, all at once; larger ones are solved with."""


def draw_blocks(lib: ArrayLibrary, F: Any, h: Any, epsilon: Any) -> Any:
    """Return ``u``, NaN where ``F`` overflowed: it would be 0 there, and no draw.

    Parameters
    ----------
    lib : ArrayLibrary
    F : array, (…, S, S)
    h, epsilon : array, (…, S)
    """
    xp, S = lib.xp, F.shape[-1]
    if S <= INVERTED:
        J = inverse_cholesky(xp, F, S)
        u = apply_blocks(lib, transposed(J), apply_blocks(lib, J, h) + epsilon)
    else:
        J = transposed(lower_cholesky(xp, F, S))
        half = lib.solve_triangular(J, h[..., None], trans=1, lower=False)
        u = lib.solve_triangular(J, half + epsilon[..., None], lower=False)[..., 0]
    valid = xp.isfinite(xp.log(diagonal(xp, J)).sum(axis=-1))
    return xp.where(valid[..., None], u, xp.nan)


class NormalDraw(Op):
    r"""Draw from ``Normal(F⁻¹h, F⁻¹)``: ``F (M, S, S)``, ``h``, ``ε (M, S)`` to ``u (M, S)``.

    Of blocks that are not positive definite in floating point the draws are NaN. Work is
    ``O(M S³)``. There is no gradient.
    """

    __props__ = ()
    gufunc_spec = (f"{__name__}.draw_many", 3, 1)

    def make_node(self, *inputs: Variable) -> Apply:
        variables = [pt.as_tensor_variable(x) for x in inputs]
        dtype = upcast(*(x.type.dtype for x in variables))
        F, h, epsilon = (pt.cast(x, dtype) for x in variables)
        return Apply(self, [F, h, epsilon], [h.type()])

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        store(node, [draw_many(*inputs)], output_storage)

    def pullback(self, *args: object) -> list[Variable]:
        raise NotImplementedError("A draw of effects has no gradient.")

    def infer_shape(self, node: Apply, shapes: list) -> list:
        return [shapes[1]]


def draw_many(F: np.ndarray, h: np.ndarray, epsilon: np.ndarray) -> np.ndarray:
    """Draw for all blocks."""
    (draws,) = perform_many(
        lambda *blocks: [draw_blocks(NUMPY, *blocks)],
        lambda F, h, epsilon: [np.full_like(h, np.nan)],
        (F, h, epsilon),
        ((2, 1, 1), (1,)),
    )
    return draws


def draw_normal(F: Variable, h: Variable, epsilon: Variable) -> Variable:
    """Apply :class:`NormalDraw`."""
    return NormalDraw()(F, h, epsilon)
