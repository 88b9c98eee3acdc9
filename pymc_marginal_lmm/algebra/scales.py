"""``Λ``: the prior scales of the effects, as the evidence and the posterior take them.

Effects of a factor may come from several variables; their scales stand side by side on the
diagonal of each level's ``(S, S)`` block. ``Λ`` is handed on *packed*: row ``j`` of a block keeps
only the columns that can be non-zero, ``width`` of them from ``start`` on.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.ops.layout import FactorLayout, spans
from pymc_marginal_lmm.ops.library import UNROLLED
from pymc_marginal_lmm.structure import (
    GroupingFactor,
    Loadings,
    MixedModel,
    RandomEffects,
    Share,
)

__all__ = [
    "columns_product",
    "effect_scale",
    "factor_layout",
    "loading_blocks",
    "n_centred",
    "n_starts",
    "packed_scale",
    "prior_precision",
    "scale_blocks",
    "trailing_columns",
    "trailing_precision",
    "trailing_scale",
    "trailing_times",
]


def effect_scale(effect: RandomEffects) -> Variable:
    """Return the scale of the blocks of a variable, ``(blocks, S, S)``; ``(1, S, S)`` if shared."""
    core = 2 if effect.correlated else 0
    scale = pt.cast(effect.scale, config.floatX)
    square = (effect.width, effect.width)
    batch_ndim = scale.type.ndim - core
    if all(length == 1 for length in scale.type.shape[:batch_ndim]):
        return pt.reshape(scale, (1, *square))
    full = pt.broadcast_to(scale, (*effect.batch_shape, *square[:core]))
    return pt.reshape(full, (effect.n_blocks, *square))


def _share_scale(model: MixedModel, share: Share) -> Variable:
    """Return the scale of a share's blocks, ``(M·B or 1, S, S)``."""
    effects = [model.effects[effect] for effect in share.effects]
    shared = effect_scale(effects[0])
    if len({effect.scale for effect in effects}) == 1 and shared.type.shape[0] == 1:
        return shared
    parts = [pt.broadcast_to(effect_scale(e), (e.n_blocks, e.width, e.width)) for e in effects]
    full = parts[0] if len(parts) == 1 else pt.concatenate(parts)
    # Of a block that is not there, any: its effects are 0.
    return full[pt.constant(np.maximum(share.blocks, 0).reshape(-1))]


def _widths(model: MixedModel, factor: GroupingFactor) -> list[int]:
    """Return the width of each block of a level, in order."""
    widths = [model.width(share) for share in factor.shares for _ in range(share.blocks.shape[1])]
    return widths + [1] * factor.padding


def _mixes(factor: GroupingFactor) -> bool:
    """Whether loadings make a column of ``Z`` depend on other effects than its own."""
    loadings = factor.loadings
    return loadings is not None and bool((loadings.rows != loadings.columns).any())


def factor_layout(model: MixedModel, factor: GroupingFactor) -> FactorLayout:
    """Return where the packed rows of a block of ``Λ`` lie."""
    if _mixes(factor):
        S = factor.n_effects
        return FactorLayout(factor.n_levels, (0,) * S, (S,) * S)
    starts: list[int] = []
    widths: list[int] = []
    for width in _widths(model, factor):
        starts += [len(starts)] * width
        widths += [width] * width
    return FactorLayout(factor.n_levels, tuple(starts), tuple(widths))


def _packed_width(model: MixedModel, factor: GroupingFactor) -> int:
    return max(factor_layout(model, factor).widths)


def _prior_scale(model: MixedModel, factor: GroupingFactor, packed_width: int) -> Variable:
    """Scale of one factor's effects in their prior, packed: ``(M or 1, S, W)``."""
    parts = []
    for share in factor.shares:
        width = model.width(share)
        n_levels, n_blocks = share.blocks.shape
        part = _share_scale(model, share)
        if part.type.shape[0] == 1:  # all blocks have the same scale
            n_levels = 1
            part = pt.broadcast_to(part, (n_blocks, width, width))
        part = pt.reshape(part, (n_levels, n_blocks * width, width))
        if missing := packed_width - width:
            part = pt.concatenate([part, _zeros(*part.type.shape[:2], missing)], axis=2)
        parts.append(part)
    if factor.padding:
        parts.append(_zeros(1, factor.padding, packed_width))
    if len(parts) == 1:
        return parts[0]
    if not all(part.type.shape[0] == 1 for part in parts):
        parts = [pt.broadcast_to(p, (factor.n_levels, *p.type.shape[1:])) for p in parts]
    return pt.concatenate(parts, axis=1)


def _unpacked(packed: Variable, layout: FactorLayout) -> Variable:
    """Write packed blocks in full, ``(M or 1, S, S)``."""
    hot = layout.hot(packed.type.shape[2])
    if hot.shape[1] == hot.shape[2] and layout.starts == (0,) * layout.n_effects:
        return packed
    return (packed[:, :, :, None] * pt.constant(hot.astype(config.floatX))).sum(axis=2)


def _loading_matrix(factor: GroupingFactor, loadings: Loadings) -> Variable:
    """``K`` of one factor, ``(M or 1, S, S)``, gathered from its entries."""
    S, entries = factor.n_effects, loadings.entries
    n_entries = entries.type.shape[1]
    padded = pt.concatenate([entries, pt.zeros_like(entries[:, :1])], axis=1)
    places = loadings.rows * S + loadings.columns
    order = np.argsort(places, kind="stable")
    _, starts, counts = np.unique(places[order], return_index=True, return_counts=True)
    layers = np.full((counts.max(initial=1), S * S), n_entries)
    # Entries at the same place add up: the first of each are one layer, the second another.
    layers[np.arange(n_entries) - np.repeat(starts, counts), places[order]] = order
    if len(layers) == 1:
        return padded[:, layers.reshape(S, S)]
    return padded[:, layers.reshape(-1, S, S)].sum(axis=1)


def packed_scale(model: MixedModel, factor: GroupingFactor) -> Variable:
    """``Λ`` of one factor, packed, ``(M or 1, S, W)``: its prior scale, loadings from the left."""
    loadings = factor.loadings
    if loadings is None:
        return _prior_scale(model, factor, _packed_width(model, factor))
    K = _loading_matrix(factor, loadings)
    if not _mixes(factor):
        prior = _prior_scale(model, factor, _packed_width(model, factor))
        return pt.diagonal(K, axis1=1, axis2=2)[:, :, None] * prior
    plain = factor_layout(model, replace(factor, loadings=None))
    prior = _prior_scale(model, factor, max(plain.widths))
    if plain.diagonal:
        return K * prior[:, None, :, 0]
    return pt.matmul(K, _unpacked(prior, plain))


def n_starts(model: MixedModel) -> int:
    """Return how many columns the variables in a band have for where they start."""
    if model.blocks.band is None:
        return 0
    return sum(effect.precision.n_starts for effect in model.effects if effect.precision)


def loading_blocks(factor: GroupingFactor) -> Variable | None:
    """``K`` of a factor, ``(M or 1, S, S)``; None if it has no loadings."""
    return None if factor.loadings is None else _loading_matrix(factor, factor.loadings)


def trailing_scale(model: MixedModel) -> tuple[Variable, tuple[FactorLayout, ...]]:
    """``Λ2`` packed, each block that levels share once, and how it is laid out.

    Starts come last in the dense block, as a level whose scales are in its columns already.
    """
    factors = [model.factors[i] for i in model.blocks.trailing]
    width = max([1, *(_packed_width(model, factor) for factor in factors)])
    parts, layout = [], []
    for factor in factors:
        packed = packed_scale(model, factor)
        n_stored, _, own_width = packed.type.shape
        shared = n_stored < factor.n_levels
        if missing := width - own_width:
            packed = pt.concatenate([packed, _zeros(n_stored, factor.n_effects, missing)], axis=2)
        parts.append(pt.reshape(packed, (n_stored * factor.n_effects, width)))
        layout.append(factor_layout(model, factor)._replace(shared=shared))
    if k := n_starts(model):
        parts.append(pt.constant(np.eye(1, width, dtype=config.floatX).repeat(k, axis=0)))
        layout.append(FactorLayout(1, tuple(range(k)), (1,) * k))
    return parts[0] if len(parts) == 1 else pt.concatenate(parts, axis=0), tuple(layout)


def _zeros(*shape: int) -> Variable:
    # Not pt.zeros, which PyTensor does not fold into what is constant around it.
    return pt.constant(np.zeros(shape, dtype=config.floatX))


def trailing_columns(model: MixedModel) -> tuple[np.ndarray, Variable]:
    """``Λ2`` column by column: ``(XΛ2)[:, c] = Σ_k X[:, sources[k, c]] · entries[k, c]``.

    Returns
    -------
    sources : array of int, (W, q)
    entries : Variable, (W, q)
    """
    packed, layout = trailing_scale(model)
    starts, widths, stored = spans(layout).T
    q, width = len(starts), packed.type.shape[1]
    columns, k = np.arange(q), np.arange(width)[:, None]
    inside = k < widths
    sources = np.where(inside, starts + k, columns)
    # Beyond a block: what its rows were filled up with, 0.
    place = np.where(inside, columns - starts, width - 1) + width * stored[sources]
    return sources, pt.reshape(packed, (-1,))[pt.constant(place)]


def columns_product(trailing: tuple[np.ndarray, Variable], X: Variable) -> Variable:
    """``X Λ2``, ``Λ2`` as from :func:`trailing_columns`.

    Parameters
    ----------
    trailing : tuple
    X : Variable, (…, q)
    """
    sources, entries = trailing
    if len(sources) > UNROLLED:
        return (X[..., sources.T] * entries.T).sum(axis=-1)
    stays = (sources == np.arange(sources.shape[1])).all(axis=1)
    moved = (X if own else X[..., source] for own, source in zip(stays, sources, strict=True))
    return reduce(add, (x * entries[k] for k, x in enumerate(moved)))


def trailing_times(model: MixedModel, u: Variable) -> Variable:
    """``Λ2 u``, ``(q,)``."""
    packed, layout = trailing_scale(model)
    starts, widths, stored = spans(layout).T
    k = np.arange(packed.type.shape[1])
    columns = np.where(k < widths[:, None], starts[:, None] + k, 0)
    rows = packed[pt.constant(stored)]  # beyond a block: 0
    if len(k) > UNROLLED:
        return (rows * u[pt.constant(columns)]).sum(axis=-1)
    products = (rows[:, i] * u[pt.constant(column)] for i, column in enumerate(columns.T))
    return reduce(add, products)


def scale_blocks(model: MixedModel, factor: GroupingFactor) -> Variable:
    """``Λ`` of one factor in full, ``(M or 1, S, S)``."""
    return _unpacked(packed_scale(model, factor), factor_layout(model, factor))


def prior_precision(model: MixedModel, factor: GroupingFactor) -> np.ndarray:
    """Return the diagonal of one factor's ``P0``, ``(S,)``: 1, and 0 for flat priors."""
    parts = []
    for share in factor.shares:
        flat = model.effects[share.effects[0]].flat
        parts.append(np.full(share.blocks.shape[1] * model.width(share), 0.0 if flat else 1.0))
    return np.concatenate([*parts, np.ones(factor.padding)])


def trailing_precision(model: MixedModel) -> np.ndarray:
    """Return the diagonal of ``P0`` of the dense block, ``(q,)``."""
    trailing = [model.factors[i] for i in model.blocks.trailing]
    parts = [np.tile(prior_precision(model, factor), factor.n_levels) for factor in trailing]
    return np.concatenate([np.zeros(0), *parts, _precision_of_starts(model)])


def _precision_of_starts(model: MixedModel) -> np.ndarray:
    """Return 1 for each start, 0 for those of centred variables."""
    if model.blocks.band is None:
        return np.zeros(0)
    priors = [effect.precision for effect in model.effects if effect.precision]
    parts = [np.full(prior.n_starts, 0.0 if prior.centred else 1.0) for prior in priors]
    return np.concatenate([np.zeros(0), *parts])


def n_centred(model: MixedModel) -> int:
    """Return the number of variables in a band whose mean has a prior."""
    return int((_precision_of_starts(model) == 0).sum())
