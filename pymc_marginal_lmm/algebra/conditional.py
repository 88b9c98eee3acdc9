"""Exact draws and density of the effects given data and parameters: ``p(v | y, θ)``.

Draws go through the Cholesky factor of ``F`` and never subtract covariances: where
``Σ − ΣZᵀV⁻¹ZΣ`` cancels to nothing, ``F⁻¹`` is a number like any other. Elements that occur in no
row are drawn from their prior.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace

from pymc_marginal_lmm.algebra.chain import apply_blocks
from pymc_marginal_lmm.algebra.density import LOG_2PI, within_support
from pymc_marginal_lmm.algebra.posterior import Posterior, posterior
from pymc_marginal_lmm.algebra.scales import effect_scale
from pymc_marginal_lmm.structure import MixedModel, RandomEffects, Share

__all__ = ["draw", "log_conditional"]


def _shares(model: MixedModel) -> Iterator[tuple[int, Share, slice]]:
    """Yield the parts of each factor and their places among the factor's effects."""
    for i, factor in enumerate(model.factors):
        for share, places in model.columns(factor):
            yield i, share, places


def _by_factor(model: MixedModel, blocks: Sequence[Variable]) -> list[Variable]:
    """Sort blocks ``(n, width)`` per variable by factors and levels, ``(M, S)``; padding is 0."""
    parts: list[list[Variable]] = [[] for _ in model.factors]
    for i, share, slots in _shares(model):
        own = [blocks[effect] for effect in share.effects]
        together = own[0] if len(own) == 1 else pt.concatenate(own)
        if (share.blocks < 0).any():  # effects that are not there
            together = pt.concatenate([together, pt.zeros_like(together[:1])])
        shape = (share.blocks.shape[0], slots.stop - slots.start)
        parts[i].append(pt.reshape(together[pt.constant(share.blocks.reshape(-1))], shape))
    for factor, part in zip(model.factors, parts, strict=True):
        if factor.padding:
            part.append(pt.zeros((factor.n_levels, factor.padding), dtype=config.floatX))
    return [pt.concatenate(part, axis=1) for part in parts]


def _places(model: MixedModel) -> tuple[list[np.ndarray], int]:
    """Return where the elements of each variable are in one vector of all effects.

    The factors of the chain come first in it, then those of the dense block, as in ``F``, and last
    the elements that occur in no row.

    Returns
    -------
    places : list of array of int, (blocks, width)
        Per variable.
    total : int
        Length of the vector.
    """
    places = [np.full((effect.n_blocks, effect.width), -1) for effect in model.effects]
    starts, total = {}, 0
    for i in (*model.blocks.chain, *model.blocks.trailing):
        starts[i] = total
        total += model.factors[i].size
    for i, share, slots in _shares(model):
        factor = model.factors[i]
        own = starts[i] + np.arange(factor.size).reshape(factor.n_levels, factor.n_effects)
        together = np.concatenate([places[effect] for effect in share.effects])
        blocks = share.blocks.reshape(-1)
        there = blocks >= 0
        together[blocks[there]] = own[:, slots].reshape(-1, model.width(share))[there]
        ends = np.cumsum([model.effects[effect].n_blocks for effect in share.effects])
        for effect, part in zip(share.effects, np.split(together, ends[:-1]), strict=True):
            places[effect] = part
    for place in places:
        unused = place < 0
        place[unused] = total + np.arange(unused.sum())
        total += int(unused.sum())
    return places, total


def draw(
    model: MixedModel, effects: Sequence[Variable], ys: Sequence[Variable], rng: Variable
) -> tuple[list[Variable], Variable]:
    """Draw all effects jointly from ``p(v | y, θ)``.

    Parameters
    ----------
    model : MixedModel
        Over the variables that the graph is wanted for.
    effects : sequence of Variable
        What prior means in ``model`` refer to where they depend on other effects.
    ys : sequence of Variable
        Value of each response.
    rng : Variable
        Random generator.

    Returns
    -------
    draws : list of Variable
        Per effect variable, of its shape and dtype.
    next_rng : Variable
    """
    places, total = _places(model)
    # ε for elements that have data, u itself for those that do not.
    rng, normal = pt.random.normal(0.0, 1.0, size=(total,), rng=rng, return_next_rng=True)
    drawn = _add_noise(model, posterior(model, ys), pt.cast(normal, config.floatX))
    return _assemble(model, effects, [drawn[place] for place in places]), rng


def _add_noise(model: MixedModel, post: Posterior, epsilon: Variable) -> Variable:
    """``û + L⁻ᵀ ε``, ``L`` as in :mod:`pymc_marginal_lmm.ops.elimination`; see :func:`_places`."""
    elimination = post.elimination
    solution = elimination.solution
    # Where F overflowed there is no posterior to draw from: recover names such draws.
    valid = pt.isfinite(elimination.log_det)
    u1, u2 = (pt.where(valid, u, np.nan) for u in (solution.u1, solution.u2))
    noise, start = [], 0
    for i in model.blocks.chain:
        factor = model.factors[i]
        own = epsilon[start : start + factor.size]
        noise.append(pt.reshape(own, (factor.n_levels, factor.n_effects)))
        start += factor.size
    end = start + elimination.cliques.q
    if model.blocks.trailing:
        e2 = epsilon[start:end]
        e2 = pt.linalg.solve_triangular(solution.U22, e2, lower=False, b_ndim=1)
        u2 = u2 + e2
    if noise:
        e1 = noise[-1]
        if model.blocks.trailing:
            coupled = elimination.couple_last(e2)
            e1 = e1 - apply_blocks(solution.J, coupled)
        u1 = u1 + apply_blocks(solution.J.mT, e1)
    near = [pt.reshape(u, (-1,)) for u in elimination.descend(u1, u2, noise)]
    return pt.concatenate([*near, u2, epsilon[end:]])


def _assemble(
    model: MixedModel, effects: Sequence[Variable], u: Sequence[Variable]
) -> list[Variable]:
    """``v = mean + Λ u``; a mean that depends on other effects sees their drawn values."""
    drawn: dict[Variable, Variable] = {}
    for effect, placeholder, own in zip(model.effects, effects, u, strict=True):
        scale = effect_scale(effect)
        deviation = pt.reshape(apply_blocks(scale, own), effect.shape)
        v = pt.cast(_given(effect.mean, drawn) + deviation, effect.dtype)
        drawn[placeholder] = pt.specify_shape(v, effect.shape)
    return list(drawn.values())


def _given(expression: Variable, values: dict[Variable, Variable]) -> Variable:
    return graph_replace([expression], values, strict=False)[0] if values else expression


def log_conditional(
    model: MixedModel,
    effects: Sequence[Variable],
    ys: Sequence[Variable],
    vs: Sequence[Variable],
) -> Variable:
    """Return ``log p(v | y, θ)``, jointly over all effects.

    With ``u = Λ⁻¹(v − mean)`` and ``δ = u − û``, and ``-inf`` where ``Λ`` is singular::

        −½ δᵀFδ + ½ log|F| − ½ q log 2π − log|Λ|  +  Σ log Normal(u; 0, 1)   (elements without data)
    """
    post = posterior(model, ys)
    given = dict(zip(effects, vs, strict=True))
    standard, log_scale = [], pt.constant(0.0, dtype=config.floatX)
    for effect, v in zip(model.effects, vs, strict=True):
        u, log_det = _standardize(effect, v - _given(effect.mean, given))
        standard.append(u)
        log_scale = log_scale + log_det
    delta = [u - mean for u, mean in zip(_by_factor(model, standard), post.means, strict=True)]
    quadratic = post.quadratic(model, delta)
    free = _without_data(model)
    q = sum(
        effect.rank * int((~unused).sum())
        for effect, unused in zip(model.effects, free, strict=True)
    )
    value = 0.5 * (post.elimination.log_det - quadratic - q * LOG_2PI) - log_scale
    for effect, u, unused in zip(model.effects, standard, free, strict=True):
        if unused.any():
            prior = u[pt.constant(np.flatnonzero(unused))]
            dimensions = effect.rank * int(unused.sum())
            value = value - 0.5 * ((prior**2).sum() + dimensions * LOG_2PI)
    return within_support(model, value, [*ys, *vs])


def _without_data(model: MixedModel) -> list[np.ndarray]:
    """Return for each variable which of its blocks occur in no row."""
    free = [np.ones(effect.n_blocks, dtype=bool) for effect in model.effects]
    for _, share, _ in _shares(model):
        for effect, blocks in model.blocks_of(share):
            free[effect][blocks] = False
    return free


def _standardize(effect: RandomEffects, deviation: Variable) -> tuple[Variable, Variable]:
    """Return ``u = Λ⁻¹ · deviation`` as ``(blocks, S)``, and ``log|Λ|``."""
    n_blocks = effect.n_blocks
    deviation = pt.reshape(pt.cast(deviation, config.floatX), (n_blocks, effect.width))
    square = (n_blocks, effect.width, effect.width)
    scale = pt.broadcast_to(effect_scale(effect), square)
    if not effect.correlated:
        scale = scale[:, :, 0]
        return deviation / scale, pt.log(scale).sum()
    if effect.zero_sum:  # Λ = sP with trace s · rank, and P deviation = deviation
        s = pt.diagonal(scale, axis1=1, axis2=2).sum(axis=1) / effect.rank
        return deviation / s[:, None], effect.rank * pt.log(s).sum()
    log_det = pt.linalg.slogdet(scale)[1]
    # A factor that is singular, or none at all, is not to be solved with.
    regular = pt.isfinite(log_det)[:, None, None]
    scale = pt.switch(regular, scale, np.eye(effect.width, dtype=config.floatX))
    return pt.linalg.solve(scale, deviation[..., None])[..., 0], log_det.sum()
