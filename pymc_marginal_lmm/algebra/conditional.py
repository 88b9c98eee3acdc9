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

from pymc_marginal_lmm.algebra.band import by_coordinate, draw_band
from pymc_marginal_lmm.algebra.chain import apply_blocks
from pymc_marginal_lmm.algebra.data import data_terms
from pymc_marginal_lmm.algebra.density import LOG_2PI, log_evidence, within_support
from pymc_marginal_lmm.algebra.posterior import Posterior, concatenated, posterior
from pymc_marginal_lmm.algebra.prior import given_values, log_prior, standardized
from pymc_marginal_lmm.algebra.scales import effect_scale, loading_blocks, n_centred, n_starts
from pymc_marginal_lmm.algebra.weights import as_float
from pymc_marginal_lmm.ops import SparseSymmetric
from pymc_marginal_lmm.structure import MixedModel, Share

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

    The band or the factors of the chain come first in it, then those of the dense block, as in
    ``F``, with starts of the variables in a band, and last the elements that occur in no row.

    Returns
    -------
    places : list of array of int, (blocks, width)
        Per variable.
    total : int
        Length of the vector.
    """
    places = [np.full((effect.n_blocks, effect.width), -1) for effect in model.effects]
    starts, total = {}, 0
    band = model.blocks.band
    if band is not None:
        for i in band.factors:
            starts[i] = total
            total += model.factors[i].size
        total = band.size
        for e, coordinates in band.coordinates.items():
            places[e] = coordinates[:, None].copy()
    for i in (*model.blocks.chain, *model.blocks.trailing):
        starts[i] = total
        total += model.factors[i].size
    total += n_starts(model) + n_centred(model)
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
    epsilon = pt.cast(normal, config.floatX)
    if model.blocks.band is None:
        drawn, z = _add_noise(model, posterior(model, ys), epsilon), epsilon[:0]
    else:
        drawn = draw_band(model, data_terms(model, ys), epsilon)
        end = model.blocks.band.size + sum(model.factors[i].size for i in model.blocks.trailing)
        z = drawn[end : end + n_starts(model)]
    return _assemble(model, effects, [drawn[place] for place in places], z), rng


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
    model: MixedModel, effects: Sequence[Variable], u: Sequence[Variable], z: Variable
) -> list[Variable]:
    """``v = mean + Λ u + C z``; a mean that depends on other effects sees their drawn values."""
    drawn: dict[Variable, Variable] = {}
    first = 0
    for effect, placeholder, own in zip(model.effects, effects, u, strict=True):
        scale = effect_scale(effect)
        deviation = pt.reshape(apply_blocks(scale, own), effect.shape)
        if effect.precision is not None and effect.precision.n_starts:
            last = first + effect.precision.n_starts
            start = as_float(effect.precision.start) @ z[first:last]
            deviation, first = deviation + pt.reshape(start, effect.shape), last
        v = pt.cast(given_values(effect.mean, drawn) + deviation, effect.dtype)
        drawn[placeholder] = pt.specify_shape(v, effect.shape)
    return list(drawn.values())


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
    if model.blocks.band is not None:
        return _by_bayes(model, effects, ys, vs)
    post = posterior(model, ys)
    given = dict(zip(effects, vs, strict=True))
    standard, log_scale = [], pt.constant(0.0, dtype=config.floatX)
    for effect, v in zip(model.effects, vs, strict=True):
        u, log_det = standardized(effect, v - given_values(effect.mean, given))
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


def _by_bayes(
    model: MixedModel,
    effects: Sequence[Variable],
    ys: Sequence[Variable],
    vs: Sequence[Variable],
) -> Variable:
    """Return ``log p(y | v, θ) + log p(v | θ) − log p(y | θ)``.

    Of the effects of a band ``F`` is the precision together with that of their starts, which are
    no variables of the model.
    """
    given = dict(zip(effects, vs, strict=True))
    deviations = [
        pt.reshape(
            pt.cast(v - given_values(effect.mean, given), config.floatX),
            (effect.n_blocks, effect.width),
        )
        for effect, v in zip(model.effects, vs, strict=True)
    ]
    data = data_terms(model, ys)
    delta = []
    for i, part in enumerate(_by_factor(model, deviations)):
        K = loading_blocks(model.factors[i])
        delta.append((part if K is None else apply_blocks(K, part)) - data.v0[i])
    d1, c1 = (by_coordinate(model, parts) for parts in (delta, data.c))
    d2, c2 = (concatenated(model, parts) for parts in (delta, data.c))
    band, blocks = model.blocks.band, data.A.band
    assert band is not None and blocks is not None
    A11 = SparseSymmetric(band.rows, band.columns, blocks.own, band.size)
    quadratic = A11.quadratic(d1) + d2 @ (data.A.dense @ d2 + 2 * (blocks.right.T @ d1))
    squares = data.w * (data.s - 2 * (d1 @ c1 + d2 @ c2) + quadratic)
    likelihood = 0.5 * (data.log_weights - squares - model.n_rows * LOG_2PI)
    prior = sum(
        log_prior(effect, deviation)
        for effect, deviation in zip(model.effects, deviations, strict=True)
    )
    return likelihood + prior - log_evidence(model, data)


def _without_data(model: MixedModel) -> list[np.ndarray]:
    """Return for each variable which of its blocks occur in no row."""
    free = [np.ones(effect.n_blocks, dtype=bool) for effect in model.effects]
    for _, share, _ in _shares(model):
        for effect, blocks in model.blocks_of(share):
            free[effect][blocks] = False
    return free
