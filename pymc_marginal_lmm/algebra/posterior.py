"""``u | y, θ ~ Normal(û, F⁻¹)`` as a symbolic graph: what draws and conditional densities need.

The marginal density of models with one leading factor does not come from here but from one Op
(:mod:`pymc_marginal_lmm.algebra.density`), so that the identity
``log p(y, v) = log p(y) + log p(v | y)`` compares two computations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.algebra.chain import Cliques, Elimination, apply_blocks, eliminate
from pymc_marginal_lmm.algebra.crossproducts import Blocks
from pymc_marginal_lmm.algebra.data import DataTerms, OrthonormalTerms, data_terms
from pymc_marginal_lmm.algebra.scales import (
    columns_product,
    prior_precision,
    scale_blocks,
    trailing_columns,
    trailing_precision,
)
from pymc_marginal_lmm.algebra.weights import as_float
from pymc_marginal_lmm.ops.block_solve import Solution, block_solve
from pymc_marginal_lmm.ops.blocks import UNROLLED, inverse_cholesky
from pymc_marginal_lmm.pattern import Pattern
from pymc_marginal_lmm.structure import MixedModel

__all__ = ["Posterior", "by_factor", "concatenated", "posterior"]


@dataclass(frozen=True)
class Posterior:
    """Posterior of the standardised effects.

    Parameters
    ----------
    data : DataTerms
        What it was built from.
    scales : list of Variable, (M or 1, S, S)
        ``Λ`` per factor.
    F : Blocks
        Precision.
    elimination : Elimination
        Its factorisation.
    means : list of Variable, (M, S)
        ``û`` per factor.
    """

    data: DataTerms
    scales: list[Variable]
    F: Blocks
    elimination: Elimination
    means: list[Variable]

    def quadratic(self, model: MixedModel, delta: Sequence[Variable]) -> Variable:
        """Return ``δᵀFδ``, with ``δ`` per factor, ``(M, S)``; of squares where that is known."""
        near, far = [delta[i] for i in model.blocks.chain], concatenated(model, delta)
        terms = self.data.orthonormal
        if terms is None:
            return self.elimination.cliques.quadratic(self.F, near, far)
        (own,), (leading,), (common,) = near, model.blocks.chain, model.blocks.trailing
        u = apply_blocks(terms.root.mT, apply_blocks(self.scales[leading], own))
        v = self.scales[common][0] @ far
        u = u + (terms.far * v).sum(axis=2)
        squares = (own**2).sum() + (as_float(trailing_precision(model)) * far**2).sum()
        return squares + self.data.w * ((u**2).sum() + v @ (terms.dense @ v))


def _product(A: Variable, B: Variable) -> Variable:
    """Multiply block by block, ``(M, a, b) · (M, b, c)``."""
    return A * B if 1 in (A.type.shape[2], B.type.shape[1]) else pt.matmul(A, B)


def _congruence(weighted: Variable, A: Variable, scale: Variable, M: int) -> Variable:
    """``wΛᵀAΛ`` block by block; where ``Λ`` is the same for all of them, as one product."""
    S = scale.type.shape[1]
    if scale.type.shape[0] > 1 or S > UNROLLED:
        return _product(weighted, _product(A, scale))
    both = weighted[0].T[:, None, :, None] * scale[0][None, :, None, :]
    product = pt.reshape(A, (M, S * S)) @ pt.reshape(both, (S * S, S * S))
    return pt.reshape(product, (M, S, S))


def _at_entries(pattern: Pattern, left: Variable, X: Variable) -> Variable:
    """Multiply block by block from the left at the entries of a pattern, ``(S, N)``."""
    levels = np.zeros_like(pattern.rows) if left.type.shape[0] == 1 else pattern.rows
    by_entry = left[pt.constant(levels)].transpose(2, 1, 0)
    return (by_entry * X[:, None, :]).sum(axis=0)


def _precision(
    model: MixedModel, cliques: Cliques, data: DataTerms, scales: list[Variable]
) -> Blocks:
    """``F = P0 + w ΛᵀAΛ``, with ``w`` put to the scales: they are smaller than what they scale."""
    A, dense = data.A, data.A.dense
    trailing = trailing_columns(model) if model.blocks.trailing else None
    if trailing:
        sources, entries = trailing
        once = columns_product(trailing, dense)
        dense = columns_product((sources, data.w * entries), once.T)
        dense += as_float(np.diag(trailing_precision(model)))
    own, right = [], []
    for i, k in enumerate(model.blocks.chain):
        M, scale = model.factors[k].n_levels, scales[k]
        weighted = (data.w * scale).mT
        p = prior_precision(model, model.factors[k])
        own.append(as_float(np.diag(p)) + _congruence(weighted, A.own[i], scale, M))
        # One number for all rows multiplies the scales of the columns: they are smaller.
        factor = weighted if weighted.type.shape == (1, 1, 1) else None
        far = trailing and (sources, entries if factor is None else factor[0] * entries)
        if cliques.pattern is not None:
            assert far is not None
            scaled = columns_product(far, A.right[i], cliques.pattern.columns)
            if factor is None:
                scaled = _at_entries(cliques.pattern, weighted, scaled)
            right.append(scaled)
            continue
        parts = []
        for j, levels, columns in cliques.above(i):
            above = scales[model.blocks.chain[j]]
            above = above if factor is None else factor * above
            above = above if above.type.shape[0] == 1 else above[pt.constant(levels)]
            parts.append(_product(A.right[i][:, :, columns], above))
        if far:
            parts.append(columns_product(far, A.right[i][:, :, cliques.n_above(i) :]))
        joined = pt.concatenate(parts, axis=2) if parts else A.right[i]
        right.append(joined if factor is not None else _product(weighted, joined))
    return Blocks(own, right, dense)


def posterior(model: MixedModel, ys: Sequence[Variable]) -> Posterior:
    """Build ``F = P0 + w ΛᵀAΛ`` and ``h = w ΛᵀZᵀWr``, and solve.

    Parameters
    ----------
    model : MixedModel
        Over the variables that the graph is wanted for.
    ys : sequence of Variable
        Value of each response.
    """
    data = data_terms(model, ys)
    cliques = Cliques.of(model.factors, model.blocks)
    scales = [scale_blocks(model, factor) for factor in model.factors]
    h = [
        apply_blocks((data.w * scale).mT, full)
        for scale, full in zip(scales, data.full, strict=True)
    ]
    F = _precision(model, cliques, data, scales)
    h1 = [h[k] for k in model.blocks.chain]
    if data.orthonormal is None:
        elimination = eliminate(cliques, F, h1, concatenated(model, h))
    else:
        elimination = _eliminate_orthonormal(model, cliques, data, data.orthonormal, F, scales)
    u1 = elimination.descend(elimination.solution.u1, elimination.solution.u2)
    means = by_factor(model, u1, elimination.solution.u2)
    return Posterior(data, scales, F, elimination, means)


def _eliminate_orthonormal(
    model: MixedModel,
    cliques: Cliques,
    data: DataTerms,
    terms: OrthonormalTerms,
    F: Blocks,
    scales: Sequence[Variable],
) -> Elimination:
    """Eliminate the only factor: :mod:`pymc_marginal_lmm.ops.orthonormal`."""
    (leading,) = model.blocks.chain
    M, S = model.factors[leading].n_levels, model.factors[leading].n_effects
    K = pt.broadcast_to(_product(terms.root.mT, scales[leading]), (M, S, S))
    H = as_float(np.eye(S)) + data.w * _product(K, K.mT)
    J = inverse_cholesky(pt, H, S)
    a = terms.g + terms.v
    far = pt.reshape(_product(J, terms.far), (M * S, cliques.q))
    A = terms.dense + far.T @ far
    c = terms.dense_c + far.T @ pt.reshape(apply_blocks(J, a), (M * S,))

    L2, v2 = scales[model.blocks.trailing[0]][0], concatenated(model, data.v0)
    F2 = as_float(np.diag(trailing_precision(model))) + data.w * (L2.T @ (A @ L2))
    none = pt.zeros((0, 1), dtype=config.floatX)
    F12 = pt.zeros((0, 1, cliques.q), dtype=config.floatX)
    common = block_solve(none[:, :, None], F12, F2, none, data.w * (L2.T @ (c + A @ v2)))
    d2 = L2 @ common.u2 - v2
    h1 = data.w * apply_blocks(K.mT, a - (terms.far * d2).sum(axis=2))
    nothing = pt.zeros((0,), dtype=config.floatX)
    F22 = pt.zeros((0, 0), dtype=config.floatX)
    own = block_solve(F.own[0], F.right[0][:, :, :0], F22, h1, nothing)
    solution = Solution(own.log_det + common.log_det, own.u1, common.u2, own.J, common.U22)
    return Elimination(cliques, (), solution, F.right[0], solution.log_det)


def concatenated(model: MixedModel, parts: Sequence[Variable]) -> Variable:
    """Put what belongs to factors of the dense block, ``(M, S)`` each, into one vector ``(q,)``."""
    columns = [parts[i].reshape((-1,)) for i in model.blocks.trailing]
    if not columns:
        return pt.zeros((0,), dtype=config.floatX)
    return columns[0] if len(columns) == 1 else pt.concatenate(columns)


def by_factor(model: MixedModel, u1: Sequence[Variable], u2: Variable) -> list[Variable]:
    """Put vectors of the chain and of the dense block in the order of the factors, ``(M, S)``."""
    parts = dict(zip(model.blocks.chain, u1, strict=True))
    start = 0
    for i in model.blocks.trailing:
        factor = model.factors[i]
        part = u2[start : start + factor.size]
        parts[i] = pt.reshape(part, (factor.n_levels, factor.n_effects))
        start += factor.size
    return [parts[i] for i in range(len(model.factors))]
