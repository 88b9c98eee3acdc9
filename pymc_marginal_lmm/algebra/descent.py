"""Draws of all effects: back down the sweeps, from the dense block to the first factor swept.

Given the effects of the others, ``δ2``, those of a factor that was swept out have, with the symbols
of :mod:`pymc_marginal_lmm.ops.sweep`, ``a = c1 + A11 v1``::

    u1 | δ2, y ~ Normal(w F11⁻¹Λ1ᵀ(a − Rδ2), F11⁻¹)        F11 = P1 + w Λ1ᵀA11Λ1

where ``A11`` and ``c1`` are what the factors before it left. The dense block, which is all that is
left then, has the same with ``A'``, ``c'`` and no ``R``. In a chain, what a level is nested in is
drawn before it.
"""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.algebra.cliques import Cliques, apply_blocks
from pymc_marginal_lmm.algebra.data import DataTerms
from pymc_marginal_lmm.algebra.reduction import Reduced, sweep_chain
from pymc_marginal_lmm.algebra.scales import (
    columns_product,
    prior_precision,
    scale_blocks,
    trailing_columns,
    trailing_precision,
    trailing_times,
)
from pymc_marginal_lmm.algebra.weights import as_float
from pymc_marginal_lmm.ops import draw_normal
from pymc_marginal_lmm.ops.library import UNROLLED
from pymc_marginal_lmm.structure import MixedModel

__all__ = ["draw_chain", "draw_dense"]


def draw_dense(
    model: MixedModel, w: Variable, rest: Reduced, epsilon: Variable
) -> tuple[Variable, Variable]:
    """Draw the effects of the dense block.

    Parameters
    ----------
    model : MixedModel
    w : Variable
    rest : Reduced
        What is left of the crossproducts when all others are gone.
    epsilon : Variable, (q,)
        Standard Normal numbers.

    Returns
    -------
    u, delta : Variable, (q,)
    """
    if rest.A.type.shape[0] == 0:
        return epsilon, epsilon
    sources, entries = trailing_columns(model)
    # w is put to the scales: they are smaller than what they scale.
    weighted = sources, w * entries
    F = columns_product(weighted, columns_product((sources, entries), rest.A).T)
    F += as_float(np.diag(trailing_precision(model)))
    h = columns_product(weighted, rest.c + rest.A @ rest.v)
    u = draw_normal(F[None], h[None], epsilon[None])[0]
    return u, trailing_times(model, u) - rest.v


def draw_chain(model: MixedModel, data: DataTerms, epsilon: Variable) -> Variable:
    """Draw the effects of a model without a band.

    Parameters
    ----------
    model : MixedModel
    data : DataTerms
    epsilon : Variable, (q,)
        Standard Normal numbers, in the order of the result.

    Returns
    -------
    Variable, (q,)
        Factors of the chain in the order in which they are swept, then those of the dense block.
    """
    rest, cliques = sweep_chain(model, data), Cliques.of(model.factors, model.blocks)
    chain = [model.factors[i] for i in model.blocks.chain]
    starts = np.cumsum([0, *(factor.size for factor in chain)])
    u2, d2 = draw_dense(model, data.w, rest, epsilon[starts[-1] :])
    drawn: list[Variable] = [u2]
    deltas: list[Variable] = [u2] * len(chain)
    for i in reversed(range(len(chain))):
        factor, levels = chain[i], rest.levels[i]
        v = data.v0[model.blocks.chain[i]]
        scale = scale_blocks(model, factor)
        weighted = (data.w * scale).mT
        P = as_float(np.diag(prior_precision(model, factor)))
        F = P + _congruence(weighted, levels.A, scale, factor.n_levels)
        coupled = cliques.times_right(i, levels.right, deltas, d2)
        h = apply_blocks(weighted, levels.c + apply_blocks(levels.A, v) - coupled)
        noise = epsilon[starts[i] : starts[i + 1]]
        u = draw_normal(F, h, pt.reshape(noise, (factor.n_levels, factor.n_effects)))
        deltas[i] = apply_blocks(scale, u) - v
        drawn.append(pt.reshape(u, (factor.size,)))
    return pt.concatenate(drawn[::-1])


def _congruence(weighted: Variable, A: Variable, scale: Variable, M: int) -> Variable:
    """``wΛᵀAΛ`` block by block; where ``Λ`` is the same for all of them, as one product."""
    S = scale.type.shape[1]
    if S == 1:
        return weighted * A * scale
    if scale.type.shape[0] > 1 or S > UNROLLED:
        return pt.matmul(weighted, pt.matmul(A, scale))
    both = weighted[0].T[:, None, :, None] * scale[0][None, :, None, :]
    product = pt.reshape(A, (M, S * S)) @ pt.reshape(both, (S * S, S * S))
    return pt.reshape(product, (M, S, S))
