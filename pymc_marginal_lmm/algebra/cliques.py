"""Factors of a chain, the levels above them, and the dense block: where crossproducts lie.

A level of a factor in the chain meets only the levels it is nested in, one of each factor further
up, and the dense block. Its row of a matrix is thus its own block ``(M, S, S)`` and one block
``(M, S, c)`` to the right, ``c = Σ S_above + q``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.algebra.crossproducts import Blocks
from pymc_marginal_lmm.ops import level_sums
from pymc_marginal_lmm.ops.library import UNROLLED
from pymc_marginal_lmm.pattern import Pattern
from pymc_marginal_lmm.structure import BlockStructure, GroupingFactor

__all__ = ["Cliques", "apply_blocks"]


@dataclass(frozen=True)
class Cliques:
    """What the levels of each factor of a chain meet to their right.

    Parameters
    ----------
    widths : tuple of int
        ``S`` of each factor.
    parents : tuple of array of int
        For each factor but the last, the level of the next one.
    q : int
        Size of the dense block.
    pattern : Pattern or None
        Where the only factor of a chain meets the dense block; what belongs there is then
        ``(S, N)``. Longer chains meet all of it.
    """

    widths: tuple[int, ...]
    parents: tuple[np.ndarray, ...]
    q: int
    pattern: Pattern | None = None

    @classmethod
    def of(cls, factors: Sequence[GroupingFactor], blocks: BlockStructure) -> Cliques:
        """Return the cliques of a block structure."""
        q = sum(factors[i].size for i in blocks.trailing)
        widths = tuple(factors[i].n_effects for i in blocks.chain)
        return cls(widths, blocks.parents, q, blocks.coupling)

    def above(self, i: int) -> list[tuple[int, np.ndarray, slice]]:
        """Return the factors above factor ``i``: which, each level's level there, columns."""
        found, start = [], 0
        levels: np.ndarray | None = None
        for j in range(i + 1, len(self.widths)):
            up = self.parents[j - 1]
            levels = up if levels is None else up[levels]
            found.append((j, levels, slice(start, start + self.widths[j])))
            start += self.widths[j]
        return found

    def n_above(self, i: int) -> int:
        """Return the number of columns before those of the dense block."""
        return sum(self.widths[i + 1 :])

    def times_right(self, i: int, right: Variable, x: Sequence[Variable], x2: Variable) -> Variable:
        """Return ``right · x`` of factor ``i``: ``(M, S)``."""
        if self.pattern is not None:
            products = (right * x2[pt.constant(self.pattern.columns)]).T
            return level_sums(products, self.pattern.rows, self.pattern.n_rows)
        M, S = right.type.shape[0], self.widths[i]
        # As one matrix, since M·S products of small ones cost more.
        far = pt.reshape(right[:, :, self.n_above(i) :], (M * S, self.q))
        product = pt.reshape(far @ x2, (M, S))
        for j, levels, columns in self.above(i):
            product += (right[:, :, columns] * x[j][pt.constant(levels)][:, None, :]).sum(axis=-1)
        return product

    def quadratic(self, A: Blocks, x: Sequence[Variable], x2: Variable) -> Variable:
        """Return ``xᵀAx``."""
        total = x2 @ (A.dense @ x2) if self.q else pt.constant(0.0, dtype=config.floatX)
        for i, own in enumerate(x):
            total += (own[:, :, None] * A.own[i] * own[:, None, :]).sum()
            total += 2 * (own * self.times_right(i, A.right[i], x, x2)).sum()
        return total


def _blockwise(A: Variable, B: Variable) -> Variable:
    """Multiply blocks without a batched matrix product: they are small and many."""
    n = A.type.shape[2]
    return reduce(add, (A[:, :, k, None] * B[:, k, None, :] for k in range(n)))


def apply_blocks(A: Variable, x: Variable) -> Variable:
    """Multiply block by block, ``(M, a, b) · (M, b)``."""
    if A.type.shape[2] > UNROLLED:
        return (A * x[:, None, :]).sum(axis=2)
    return _blockwise(A, x[:, :, None])[:, :, 0]
