"""Find grouping factors in what rows refer to.

Nothing is taken from names or from how the predictor was written. A *column* says for each row
which block of a variable it hits (a block is one element, or one row of an ``MvNormal``). Columns
that put the rows into the same classes belong to one factor, whatever variables they come from:
``(1|g) + (x|g)``, written as one matrix or as three vectors, is one factor with three effects,
and all fixed effects together are the factor with one level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytensor.tensor as pt

from pymc_marginal_lmm.analysis.affine import NOTHING, Terms
from pymc_marginal_lmm.structure import Array, BlockStructure, GroupingFactor, Share

__all__ = ["block_structure", "find_factors", "stack_rows"]


@dataclass(frozen=True)
class _Membership:
    """Rows hit one block of a variable each: ``blocks`` (n,), with ``coefficients`` (n, S)."""

    blocks: np.ndarray
    coefficients: Array


def stack_rows(parts: Sequence[tuple[int, Terms | None]]) -> Terms:
    """Put the rows of several responses below each other; ``None`` is a response without it."""
    width = max(terms.positions.shape[-1] for _, terms in parts if terms is not None)
    positions, coefficients = [], []
    for size, terms in parts:
        if terms is None:
            positions.append(np.full((size, width), NOTHING))
            coefficients.append(np.zeros((size, width)))
            continue
        flat = Terms(
            terms.positions.reshape(size, -1),
            terms.coefficients.reshape((size, terms.positions.shape[-1])),
        )
        merged = _merge_equal_columns(flat)
        missing = width - merged.positions.shape[1]
        positions.append(np.pad(merged.positions, ((0, 0), (0, missing)), constant_values=NOTHING))
        pad = np.zeros((size, missing))
        coefficients.append(_concatenate([merged.coefficients, pad], axis=1))
    stacked = Terms(np.concatenate(positions), _concatenate(coefficients, axis=0))
    return _merge_equal_columns(stacked)


def _concatenate(arrays: Sequence[Array], axis: int) -> Array:
    if all(isinstance(a, np.ndarray) for a in arrays):
        return np.concatenate(arrays, axis=axis)
    return pt.concatenate(arrays, axis=axis)


def _merge_equal_columns(terms: Terms) -> Terms:
    """Add up columns that refer to the same elements; drop those that are absent or zero."""
    first: dict[bytes, int] = {}
    groups: dict[int, list[int]] = {}
    for k, column in enumerate(terms.positions.T):
        zero = isinstance(terms.coefficients, np.ndarray) and not terms.coefficients[:, k].any()
        if zero or (column == NOTHING).all():
            continue
        groups.setdefault(first.setdefault(column.tobytes(), k), []).append(k)
    positions = terms.positions[:, list(groups)]
    columns = [sum(terms.coefficients[:, k] for k in same) for same in groups.values()]
    if isinstance(terms.coefficients, np.ndarray):
        coefficients: Array = np.stack(columns, 1) if columns else np.empty(positions.shape)
    else:
        coefficients = pt.stack(columns, axis=1)
    return Terms(positions, coefficients)


def _memberships(terms: Terms, width: int) -> list[_Membership]:
    """Split the terms of one variable by the blocks they hit."""
    blocks, slots = terms.positions // width, terms.positions % width
    by_blocks: dict[bytes, list[int]] = {}
    for k, column in enumerate(blocks.T):
        by_blocks.setdefault(column.tobytes(), []).append(k)
    memberships = []
    for same in by_blocks.values():
        hot = [(slots[:, [k]] == np.arange(width)).astype(float) for k in same]
        coefficients = sum(
            terms.coefficients[:, [k]] * one for k, one in zip(same, hot, strict=True)
        )
        memberships.append(_Membership(blocks[:, same[0]], coefficients))
    return memberships


def _pieces(memberships: list[_Membership]) -> list[list[_Membership]]:
    """Join memberships that share a block: an element must live in exactly one factor."""
    owner: dict[int, int] = {}
    piece = list(range(len(memberships)))
    for k, membership in enumerate(memberships):
        for block in np.unique(membership.blocks[membership.blocks != NOTHING]).tolist():
            other = piece[owner.setdefault(block, k)]
            if other != piece[k]:
                mine = piece[k]
                piece = [other if p == mine else p for p in piece]
    return [[memberships[k] for k, p in enumerate(piece) if p == q] for q in dict.fromkeys(piece)]


def find_factors(terms: Sequence[Terms], widths: Sequence[int]) -> tuple[GroupingFactor, ...]:
    """Group the effects of all variables into factors.

    Parameters
    ----------
    terms : sequence of Terms
        Per variable, over all rows: positions and coefficients ``(n, K)``.
    widths : sequence of int
        Per variable, the block length ``S``.
    """
    single: dict[bytes, list[tuple[Share, np.ndarray, Array]]] = {}
    several: list[GroupingFactor] = []
    for effect, (own, width) in enumerate(zip(terms, widths, strict=True)):
        for piece in _pieces(_memberships(own, width)):
            blocks = np.stack([m.blocks for m in piece], axis=1)
            present = blocks != NOTHING
            codes = np.full(blocks.shape, NOTHING, dtype="int32")
            codes[present], levels = pd.factorize(blocks[present])
            share = Share(effect, np.asarray(levels))
            if len(piece) == 1:
                key = codes.tobytes()
                single.setdefault(key, []).append((share, codes, piece[0].coefficients))
                continue
            stacked = [m.coefficients for m in piece]
            coefficients = (
                np.stack(stacked, axis=1)
                if all(isinstance(c, np.ndarray) for c in stacked)
                else pt.stack(stacked, axis=1)
            )
            several.append(
                GroupingFactor((share,), len(levels), width, np.maximum(codes, 0), coefficients)
            )
    factors = []
    for members in single.values():
        shares = tuple(share for share, _, _ in members)
        coefficients = _concatenate([c for _, _, c in members], axis=1)
        codes = np.maximum(members[0][1], 0)
        n_effects = sum(widths[share.effect] for share in shares)
        factors.append(
            GroupingFactor(
                shares, len(shares[0].blocks), n_effects, codes, coefficients[:, None, :]
            )
        )
    return (*factors, *several)


def block_structure(factors: Sequence[GroupingFactor]) -> BlockStructure:
    """Choose the leading factor: the one with most effects whose levels do not touch."""
    eligible = [
        i for i, factor in enumerate(factors) if factor.n_memberships == 1 and factor.n_levels > 1
    ]
    leading = max(eligible, key=lambda i: factors[i].size, default=None)
    return BlockStructure(leading, tuple(i for i in range(len(factors)) if i != leading))
