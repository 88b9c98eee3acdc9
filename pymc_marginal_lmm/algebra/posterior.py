"""``u | y, θ ~ Normal(û, F⁻¹)`` as a symbolic graph: what draws and conditional densities need.

The marginal density does not come from here but from one Op
(:mod:`pymc_marginal_lmm.algebra.density`), so that the identity
``log p(y, v) = log p(y) + log p(v | y)`` compares two computations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.algebra.data import as_float, data_terms
from pymc_marginal_lmm.algebra.scales import prior_precision, scale_blocks
from pymc_marginal_lmm.ops.block_solve import Solution, block_solve
from pymc_marginal_lmm.structure import GroupingFactor, MixedModel

__all__ = ["Posterior", "by_factor", "posterior"]


@dataclass(frozen=True)
class Posterior:
    """Posterior of the standardised effects.

    Parameters
    ----------
    F11, F12, F22 : Variable
        Precision, ``(M, S, S)``, ``(M, S, q)``, ``(q, q)``.
    solution : Solution
        ``log|F|``, ``û`` and the factorisation of ``F``.
    """

    F11: Variable
    F12: Variable
    F22: Variable
    solution: Solution


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
    leading, trailing = model.blocks.leading, model.blocks.trailing
    scales = [scale_blocks(model, factor) for factor in model.factors]
    h = [
        data.w * (scale * full[:, :, None]).sum(axis=-2)
        for scale, full in zip(scales, data.full, strict=True)
    ]
    p1, p2 = prior_precision(model)
    F11, F12, F22 = data.A
    h1 = pt.zeros((0, 1), dtype=config.floatX)
    h2 = pt.zeros((0,), dtype=config.floatX)
    if trailing:
        factors, own = [model.factors[i] for i in trailing], [scales[i] for i in trailing]
        F22 = pt.diag(as_float(p2)) + data.w * _right(factors, own, _right(factors, own, F22).T)
        rows = pt.reshape(F12, (-1, sum(factor.size for factor in factors)))
        F12 = data.w * pt.reshape(_right(factors, own, rows), F12.shape)
        h2 = pt.concatenate([h[i].reshape((-1,)) for i in trailing])
    if leading is not None:
        scale, h1 = scales[leading], h[leading]
        F11 = pt.diag(as_float(p1)) + data.w * pt.matmul(scale.mT, pt.matmul(F11, scale))
        F12 = pt.matmul(scale.mT, F12) if trailing else F12
    return Posterior(F11, F12, F22, block_solve(F11, F12, F22, h1, h2))


def by_factor(model: MixedModel, u1: Variable, u2: Variable) -> list[Variable]:
    """Cut ``(u1, u2)`` into ``(M, S)`` per factor."""
    parts: dict[int, Variable] = {}
    if model.blocks.leading is not None:
        parts[model.blocks.leading] = u1
    start = 0
    for i in model.blocks.trailing:
        factor = model.factors[i]
        part = u2[start : start + factor.size]
        parts[i] = pt.reshape(part, (factor.n_levels, factor.n_effects))
        start += factor.size
    return [parts[i] for i in range(len(model.factors))]
