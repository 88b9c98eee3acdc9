r"""Factors of a chain, the levels above them, and the dense block: the shape of ``F`` and ``A``.

A level of a factor in the chain meets only the levels it is nested in, one of each factor further
up, and the dense block. Its row of a matrix is thus its own block ``(M, S, S)`` and one block
``(M, S, c)`` to the right, ``c = Σ S_above + q`` (:class:`Cliques`). For one factor
this is the ``F11, F12, F22`` of :mod:`pymc_marginal_lmm.ops.elimination`.

**Elimination** of the first factor (``J = L11⁻¹`` block by block, ``T = J F_right``) leaves for
its clique ``−TᵀT``, summed over the levels that have the same parents, and the factor above is
block diagonal as it was: 100,000 students in 5,000 classes in 500 schools never meet a matrix
larger than their blocks. What concerns factors still further up is carried along, level by level.
The last factor of the chain and the dense block go to :class:`~pymc_marginal_lmm.ops.BlockSolve`.
Draws come from here; the density, which needs no factor of ``F`` afterwards, from
:mod:`pymc_marginal_lmm.algebra.reduction`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.algebra.crossproducts import Blocks
from pymc_marginal_lmm.ops import level_sums
from pymc_marginal_lmm.ops.block_solve import Solution, block_solve
from pymc_marginal_lmm.ops.blocks import UNROLLED, inverse_cholesky
from pymc_marginal_lmm.pattern import Pattern
from pymc_marginal_lmm.structure import BlockStructure, GroupingFactor

__all__ = ["Cliques", "Elimination", "apply_blocks", "eliminate"]


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


class Step(NamedTuple):
    """One factor eliminated: ``J (M, S, S)``, ``T (M, S, c)``, ``e = J h (M, S)``."""

    J: Variable
    T: Variable
    e: Variable


@dataclass(frozen=True)
class Elimination:
    """``F = LLᵀ`` and ``u = F⁻¹h``: steps up the chain, and the solution of what is left.

    Parameters
    ----------
    cliques : Cliques
    steps : tuple of Step
        For every factor of the chain but the last.
    solution : Solution
        For the last one and the dense block, when the others are gone.
    right : Variable
        What couples these two.
    log_det : Variable
        ``log|F|``.
    """

    cliques: Cliques
    steps: tuple[Step, ...]
    solution: Solution
    right: Variable
    log_det: Variable

    def couple_last(self, x2: Variable) -> Variable:
        """Return ``F12 x2`` of the last factor of the chain, the others gone: ``(M, S)``."""
        return self.cliques.times_right(len(self.cliques.widths) - 1, self.right, [], x2)

    def descend(
        self, x_last: Variable, x2: Variable, noise: Sequence[Variable] | None = None
    ) -> list[Variable]:
        """Return the vector of each factor of the chain, given that of the last and the dense one.

        ``Lᵀ`` rows from the last to the first: ``x = Jᵀ(e + ε − T x_above)``.
        """
        n = len(self.cliques.widths)
        x: list[Variable] = [x_last] * n
        for i in reversed(range(n - 1)):
            step = self.steps[i]
            e = step.e if noise is None else step.e + noise[i]
            e = e - self.cliques.times_right(i, step.T, x, x2)
            x[i] = apply_blocks(step.J.mT, e)
        return x


def eliminate(cliques: Cliques, F: Blocks, h: Sequence[Variable], h2: Variable) -> Elimination:
    """Factorise ``F`` and solve ``F u = h``.

    Parameters
    ----------
    cliques : Cliques
    F : Blocks
    h, h2 : sequence of Variable, Variable
        Right hand side per factor of the chain ``(M, S)``, and of the dense block ``(q,)``.
    """
    own: list[Any] = list(F.own)
    right, dense, h = list(F.right), F.dense, list(h)
    log_det = pt.constant(0.0, dtype=config.floatX)
    steps = []
    carried: Variable | None = None
    carried_h: Variable | None = None
    for i in range(len(own) - 1):
        k, S = cliques.n_above(i), cliques.widths[i + 1]
        J = inverse_cholesky(pt, own[i], cliques.widths[i])
        T = _blockwise(J, right[i])
        e = apply_blocks(J, h[i])
        steps.append(Step(J, T, e))
        log_det = log_det - 2 * pt.log(pt.diagonal(J, axis1=1, axis2=2)).sum()
        n_rows = own[i].type.shape[0] * cliques.widths[i]
        near, far = T[:, :, :k], pt.reshape(T[:, :, k:], (n_rows, cliques.q))
        dense = dense - far.T @ far
        h2 = h2 - far.T @ e.reshape((-1,))
        update, update_h = _blockwise(near.mT, T), apply_blocks(near.mT, e)
        if carried is not None:
            update, update_h = update + carried, update_h + carried_h
        n_levels = own[i + 1].type.shape[0]
        update = level_sums(update, cliques.parents[i], n_levels)
        update_h = level_sums(update_h, cliques.parents[i], n_levels)
        own[i + 1] = own[i + 1] - update[:, :S, :S]
        right[i + 1] = right[i + 1] - update[:, :S, S:]
        h[i + 1] = h[i + 1] - update_h[:, :S]
        carried, carried_h = update[:, S:, S:], update_h[:, S:]
    empty = pt.zeros((0, 1), dtype=config.floatX)
    last = (own[-1], right[-1], h[-1]) if own else (empty[:, :, None], None, empty)
    F12 = pt.zeros((0, 1, cliques.q), dtype=config.floatX) if last[1] is None else last[1]
    solution = block_solve(last[0], F12, dense, last[2], h2, cliques.pattern)
    return Elimination(cliques, tuple(steps), solution, F12, log_det + solution.log_det)


def _blockwise(A: Variable, B: Variable) -> Variable:
    """Multiply blocks without a batched matrix product: they are small and many."""
    n = A.type.shape[2]
    return reduce(add, (A[:, :, k, None] * B[:, k, None, :] for k in range(n)))


def apply_blocks(A: Variable, x: Variable) -> Variable:
    """Multiply block by block, ``(M, a, b) · (M, b)``."""
    if A.type.shape[2] > UNROLLED:
        return (A * x[:, None, :]).sum(axis=2)
    return _blockwise(A, x[:, :, None])[:, :, 0]
