"""Sparse symmetric matrices, and systems of them in an order in which they are banded.

Cut into blocks as large as the band is wide, a matrix is block tridiagonal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.ops.block_tridiagonal import BlockTridiagonalDraw, BlockTridiagonalSolve
from pymc_marginal_lmm.ops.level_sums import level_sums
from pymc_marginal_lmm.pattern import Order

__all__ = ["SparseSymmetric", "banded_noise", "solve_banded"]


@dataclass(frozen=True)
class SparseSymmetric:
    """A symmetric matrix ``(q, q)`` by entries of one triangle.

    Parameters
    ----------
    rows, columns : array of int, (N,)
        Each pair once, in either order; entries at the same place add up.
    values : Variable, (N,)
    size : int
        ``q``.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: Variable
    size: int

    def times(self, X: Variable) -> Variable:
        """Return the product with ``(q, k)``."""
        others = np.flatnonzero(self.rows != self.columns)
        to = np.concatenate([self.rows, self.columns[others]])
        of = np.concatenate([self.columns, self.rows[others]])
        values = pt.concatenate([self.values, self.values[pt.constant(others)]])
        return level_sums(values[:, None] * X[pt.constant(of)], to, self.size)

    def quadratic(self, x: Variable) -> Variable:
        """Return ``xᵀAx`` for ``(q,)``."""
        times = np.where(self.rows == self.columns, 1.0, 2.0).astype(x.type.dtype)
        products = x[pt.constant(self.rows)] * x[pt.constant(self.columns)]
        return (pt.constant(times) * self.values * products).sum()

    def scaled(self, scale: Variable) -> SparseSymmetric:
        """Return ``ΛAΛ``."""
        left, right = scale[pt.constant(self.rows)], scale[pt.constant(self.columns)]
        return SparseSymmetric(self.rows, self.columns, left * self.values * right, self.size)


def _in_blocks(order: Order, X: Variable) -> Variable:
    """Put rows ``(q, k)`` into blocks ``(m, B, k)``, filled up with zeros."""
    m, B, k = order.n_blocks, order.width, X.type.shape[1]
    return pt.reshape(level_sums(X, order.places, m * B), (m, B, k))


def _in_rows(order: Order, X: Variable) -> Variable:
    """Undo :func:`_in_blocks`."""
    m, B, k = X.type.shape
    return pt.reshape(X, (m * B, k))[pt.constant(order.places)]


def solve_banded(
    order: Order, parts: Sequence[SparseSymmetric], H: Variable
) -> tuple[Variable, Variable, list[Variable]]:
    """Return ``log|F|``, ``F⁻¹H`` and the factor of the sum ``F`` of some matrices."""
    m, B = order.n_blocks, order.width
    targets, sources, values, start = [], [], [], 0
    for part in parts:
        one, other = order.places[part.rows], order.places[part.columns]
        high, low = np.maximum(one, other), np.minimum(one, other)
        block, own = low // B, np.arange(len(one)) + start
        same = high // B == block
        inside, beside = np.flatnonzero(same), np.flatnonzero(~same)
        mirrored = np.flatnonzero(same & (high != low))
        targets += [
            high[inside] * B + low[inside] % B,
            low[mirrored] * B + high[mirrored] % B,
            m * B * B + (block * B + high % B)[beside] * B + low[beside] % B,
        ]
        sources += [own[inside], own[mirrored], own[beside]]
        values.append(part.values)
        start += len(own)
    filling = np.arange(order.size, m * B)
    targets.append(filling * B + filling % B)
    sources.append(np.full(len(filling), start))
    together = pt.concatenate([*values, pt.ones(1, dtype=H.type.dtype)])
    taken = together[pt.constant(np.concatenate(sources))]
    flat = level_sums(taken[:, None], np.concatenate(targets), (2 * m - 1) * B * B)
    blocks = pt.reshape(flat, (2 * m - 1, B, B))
    log_det, x, *factor = BlockTridiagonalSolve()(blocks[:m], blocks[m:], _in_blocks(order, H))
    return log_det, _in_rows(order, x), factor


def banded_noise(order: Order, factor: Sequence[Variable], epsilon: Variable) -> Variable:
    """Return ``L⁻ᵀε``, ``(q,)``, which has covariance ``F⁻¹``."""
    blocks = BlockTridiagonalDraw()(*factor, _in_blocks(order, epsilon[:, None]))
    return _in_rows(order, blocks)[:, 0]
