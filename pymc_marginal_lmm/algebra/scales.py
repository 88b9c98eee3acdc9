"""``Λ``: the prior scales of the effects, as the evidence and the posterior take them.

Effects of a factor may come from several variables; their scales stand side by side on the
diagonal of each level's ``(S, S)`` block. ``Λ`` is handed on *packed*: row ``j`` of a block keeps
only the columns that can be non-zero, ``width`` of them from ``start`` on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.ops.evidence import FactorLayout, Layout
from pymc_marginal_lmm.structure import GroupingFactor, MixedModel, RandomEffects

__all__ = [
    "effect_scale",
    "layout",
    "leading_scale",
    "prior_precision",
    "scale_blocks",
    "trailing_scale",
]


def effect_scale(effect: RandomEffects, blocks: np.ndarray | slice) -> Variable:
    """Return the scale of some blocks of a variable, ``(M, S, S)``; M is 1 if all share it."""
    core = 2 if effect.correlated else 0
    scale = pt.cast(effect.scale, config.floatX)
    batch_shape = effect.shape[:-1] if effect.correlated else effect.shape
    square = (effect.width, effect.width)
    batch_ndim = scale.type.ndim - core
    if all(length == 1 for length in scale.type.shape[:batch_ndim]):
        return pt.reshape(scale, (1, *square))
    full = pt.broadcast_to(scale, (*batch_shape, *square[:core]))
    return pt.reshape(full, (-1, *square))[blocks]


def _widths(model: MixedModel, factor: GroupingFactor) -> list[int]:
    """Return the width of each block of a level, in order."""
    return [
        model.effects[share.effect].width
        for share in factor.shares
        for _ in range(share.blocks.shape[1])
    ]


def _factor_layout(model: MixedModel, factor: GroupingFactor) -> FactorLayout:
    starts: list[int] = []
    widths: list[int] = []
    for width in _widths(model, factor):
        starts += [len(starts)] * width
        widths += [width] * width
    return FactorLayout(factor.n_levels, tuple(starts), tuple(widths))


def layout(model: MixedModel) -> Layout:
    """Return where the packed rows of ``Λ`` lie."""
    leading, trailing = model.blocks.leading, model.blocks.trailing
    return Layout(
        None if leading is None else _factor_layout(model, model.factors[leading]),
        tuple(_factor_layout(model, model.factors[i]) for i in trailing),
    )


def _packed(model: MixedModel, factor: GroupingFactor, packed_width: int) -> Variable:
    """``Λ`` of one factor, ``(M or 1, S, W)``."""
    parts = []
    for share in factor.shares:
        effect = model.effects[share.effect]
        n_levels, n_blocks = share.blocks.shape
        part = effect_scale(effect, share.blocks.reshape(-1))
        if part.type.shape[0] == 1:  # all blocks have the same scale
            n_levels = 1
            part = pt.broadcast_to(part, (n_blocks, effect.width, effect.width))
        part = pt.reshape(part, (n_levels, n_blocks * effect.width, effect.width))
        if missing := packed_width - effect.width:
            zeros = pt.zeros((*part.type.shape[:2], missing), dtype=config.floatX)
            part = pt.concatenate([part, zeros], axis=2)
        parts.append(part)
    if len(parts) == 1:
        return parts[0]
    if not all(part.type.shape[0] == 1 for part in parts):
        parts = [pt.broadcast_to(p, (factor.n_levels, *p.type.shape[1:])) for p in parts]
    return pt.concatenate(parts, axis=1)


def leading_scale(model: MixedModel) -> Variable:
    """``Λ1``, ``(M or 1, S, W)``."""
    if model.blocks.leading is None:
        return pt.zeros((1, 1, 1), dtype=config.floatX)
    factor = model.factors[model.blocks.leading]
    return _packed(model, factor, max(_widths(model, factor)))


def trailing_scale(model: MixedModel) -> Variable:
    """``Λ2``, ``(q, W)``."""
    factors = [model.factors[i] for i in model.blocks.trailing]
    if not factors:
        return pt.zeros((0, 1), dtype=config.floatX)
    width = max(max(_widths(model, factor)) for factor in factors)
    parts = []
    for factor in factors:
        packed = _packed(model, factor, width)
        full = pt.broadcast_to(packed, (factor.n_levels, factor.n_effects, width))
        parts.append(pt.reshape(full, (factor.size, width)))
    return parts[0] if len(parts) == 1 else pt.concatenate(parts, axis=0)


def scale_blocks(model: MixedModel, factor: GroupingFactor) -> Variable:
    """``Λ`` of one factor in full, ``(M or 1, S, S)``."""
    width = max(_widths(model, factor))
    hot = _factor_layout(model, factor).hot(width)
    packed = _packed(model, factor, width)
    if hot.shape[1] == hot.shape[2]:
        return packed
    return (packed[:, :, :, None] * pt.constant(hot.astype(config.floatX))).sum(axis=2)


def prior_precision(model: MixedModel) -> tuple[np.ndarray, np.ndarray]:
    """Return the diagonal of ``P0``: ``p1 (S)`` and ``p2 (q)``; 0 for flat priors."""

    def of(factor: GroupingFactor) -> np.ndarray:
        parts = []
        for share in factor.shares:
            effect = model.effects[share.effect]
            size = share.blocks.shape[1] * effect.width
            parts.append(np.full(size, 0.0 if effect.flat else 1.0))
        return np.concatenate(parts)

    leading = model.blocks.leading
    p1 = np.zeros(1) if leading is None else of(model.factors[leading])
    rest: Sequence = [model.factors[i] for i in model.blocks.trailing]
    p2 = [np.tile(of(factor), factor.n_levels) for factor in rest]
    return p1, np.concatenate([np.zeros(0), *p2])
