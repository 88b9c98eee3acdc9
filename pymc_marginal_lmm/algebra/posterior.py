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

from pymc_marginal_lmm.algebra.chain import Cliques, Elimination, eliminate
from pymc_marginal_lmm.algebra.crossproducts import Blocks
from pymc_marginal_lmm.algebra.data import DataTerms, as_float, data_terms
from pymc_marginal_lmm.algebra.scales import prior_precision, scale_blocks, trailing_precision
from pymc_marginal_lmm.pattern import Pattern
from pymc_marginal_lmm.structure import GroupingFactor, MixedModel

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


def _right(factors: Sequence[GroupingFactor], scales: Sequence[Variable], X: Variable) -> Variable:
    """``X Λ`` for ``X (a, q)``, factor by factor."""
    parts, start = [], 0
    for factor, scale in zip(factors, scales, strict=True):
        part = X[:, start : start + factor.size]
        part = part.reshape((X.shape[0], factor.n_levels, factor.n_effects))
        product = (part[..., :, None] * scale).sum(axis=-2)
        parts.append(product.reshape((X.shape[0], factor.size)))
        start += factor.size
    return pt.concatenate(parts, axis=1)


def _scaled_entries(
    model: MixedModel, pattern: Pattern, scales: Sequence[Variable], X: Variable
) -> Variable:
    """``Λ1ᵀXΛ2`` at the entries of a pattern, ``(S, N)``.

    The columns of a trailing level come together in a row, all or none, so that ``Λ2`` stays
    within the pattern.
    """
    S = model.factors[model.blocks.chain[0]].n_effects
    parts, places, start = [], [], 0
    for i in model.blocks.trailing:
        factor, scale = model.factors[i], scales[i]
        columns = pattern.columns - start
        own = np.flatnonzero((columns >= 0) & (columns < factor.size))
        place = own.reshape(-1, factor.n_effects)  # a trailing level a row
        if scale.type.shape[0] != 1:
            scale = scale[pt.constant(columns[place[:, 0]] // factor.n_effects)]
        part = X[:, pt.constant(place)]
        parts.append((part[..., :, None] * scale).sum(axis=-2).reshape((S, place.size)))
        places.append(place.reshape(-1))
        start += factor.size
    right = pt.concatenate(parts, axis=1)[:, pt.constant(np.argsort(np.concatenate(places)))]
    scale = scales[model.blocks.chain[0]]
    levels = np.zeros_like(pattern.rows) if scale.type.shape[0] == 1 else pattern.rows
    by_entry = scale[pt.constant(levels)].transpose(1, 2, 0)
    return (by_entry * right[:, None, :]).sum(axis=0)


def _precision(
    model: MixedModel, cliques: Cliques, data: DataTerms, scales: list[Variable]
) -> Blocks:
    """``F = P0 + w ΛᵀAΛ``."""
    trailing = [model.factors[i] for i in model.blocks.trailing]
    own_scales = [scales[i] for i in model.blocks.trailing]
    A, dense = data.A, data.A.dense
    if trailing:
        once = _right(trailing, own_scales, dense)
        dense = as_float(np.diag(trailing_precision(model)))
        dense += data.w * _right(trailing, own_scales, once.T)
    own, right = [], []
    for i, k in enumerate(model.blocks.chain):
        scale = scales[k]
        p = prior_precision(model, model.factors[k])
        own.append(as_float(np.diag(p)) + data.w * pt.matmul(scale.mT, pt.matmul(A.own[i], scale)))
        parts = []
        for j, levels, columns in cliques.above(i):
            above = scales[model.blocks.chain[j]]
            above = above if above.type.shape[0] == 1 else above[pt.constant(levels)]
            parts.append(pt.matmul(A.right[i][:, :, columns], above))
        if cliques.pattern is not None:
            entries = _scaled_entries(model, cliques.pattern, scales, A.right[i])
            right.append(data.w * entries)
            continue
        if trailing:
            far = A.right[i][:, :, cliques.n_above(i) :]
            rows = pt.reshape(far, (-1, cliques.q))
            parts.append(pt.reshape(_right(trailing, own_scales, rows), far.shape))
        joined = pt.concatenate(parts, axis=2) if parts else A.right[i]
        right.append(data.w * pt.matmul(scale.mT, joined))
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
        data.w * (scale * full[:, :, None]).sum(axis=-2)
        for scale, full in zip(scales, data.full, strict=True)
    ]
    F = _precision(model, cliques, data, scales)
    h1 = [h[k] for k in model.blocks.chain]
    elimination = eliminate(cliques, F, h1, concatenated(model, h))
    u1 = elimination.descend(elimination.solution.u1, elimination.solution.u2)
    means = by_factor(model, u1, elimination.solution.u2)
    return Posterior(data, scales, F, elimination, means)


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
