"""Exact draws and density of the effects given data and parameters: ``p(v | y, θ)``.

Elements that occur in no row are drawn from their prior.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.algebra.band import by_coordinate, draw_band
from pymc_marginal_lmm.algebra.cliques import Cliques, apply_blocks
from pymc_marginal_lmm.algebra.data import DataTerms, data_terms
from pymc_marginal_lmm.algebra.density import LOG_2PI, log_evidence, within_support
from pymc_marginal_lmm.algebra.descent import draw_chain
from pymc_marginal_lmm.algebra.prior import given_values, log_prior
from pymc_marginal_lmm.algebra.reduction import concatenated
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
    data = data_terms(model, ys)
    if model.blocks.band is None:
        used = sum(factor.size for factor in model.factors)
        drawn = pt.concatenate([draw_chain(model, data, epsilon[:used]), epsilon[used:]])
        z = epsilon[:0]
    else:
        drawn = draw_band(model, data, epsilon)
        end = model.blocks.band.size + sum(model.factors[i].size for i in model.blocks.trailing)
        z = drawn[end : end + n_starts(model)]
    return _assemble(model, effects, [drawn[place] for place in places], z), rng


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
    """Return ``log p(v | y, θ) = log p(y | v, θ) + log p(v | θ) − log p(y | θ)``, jointly.

    All three are functions of the same crossproducts, so that what rows contribute and effects do
    not explain, the constants and the weights of the rows, is the same number in the first and the
    last. It is ``-inf`` where ``Λ`` is singular.

    Parameters
    ----------
    model : MixedModel
        Over the variables that the graph is wanted for.
    effects : sequence of Variable
        What prior means in ``model`` refer to where they depend on other effects.
    ys, vs : sequence of Variable
        Values of the responses and of the effects.
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
    squares = data.w * _squares(model, data, delta)
    likelihood = 0.5 * (data.log_weights - squares - model.n_rows * LOG_2PI)
    prior = sum(
        log_prior(effect, deviation)
        for effect, deviation in zip(model.effects, deviations, strict=True)
    )
    value = likelihood + prior - log_evidence(model, data)
    return within_support(model, value, [*ys, *vs])


def _squares(model: MixedModel, data: DataTerms, delta: Sequence[Variable]) -> Variable:
    """Return ``s − 2δᵀc + δᵀAδ``, as a sum of squares where the rows were made orthonormal."""
    far, terms = concatenated(model, delta), data.orthonormal
    if terms is not None:  # |Ku1 − α + Dδ2|² of pymc_marginal_lmm.ops.orthonormal
        own = apply_blocks(terms.root.mT, delta[model.blocks.chain[0]])
        explained = own - terms.g + (terms.far * far).sum(axis=2)
        rest = data.s - (terms.g**2).sum() + far @ (terms.dense @ far - 2 * terms.dense_c)
        return rest + (explained**2).sum()
    linear = sum((d * c).sum() for d, c in zip(delta, data.c, strict=True))
    return data.s - 2 * linear + _quadratic(model, data, delta, far)


def _quadratic(
    model: MixedModel, data: DataTerms, delta: Sequence[Variable], far: Variable
) -> Variable:
    """Return ``δᵀAδ``."""
    band, blocks = model.blocks.band, data.A.band
    if band is None or blocks is None:
        near = [delta[i] for i in model.blocks.chain]
        return Cliques.of(model.factors, model.blocks).quadratic(data.A, near, far)
    own = by_coordinate(model, delta)
    A11 = SparseSymmetric(band.rows, band.columns, blocks.own, band.size)
    return A11.quadratic(own) + far @ (data.A.dense @ far + 2 * (blocks.right.T @ own))
