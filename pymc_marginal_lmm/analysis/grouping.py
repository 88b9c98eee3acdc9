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

from pymc_marginal_lmm.analysis.terms import NOTHING, Terms
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
        merged = _merge_columns(flat)
        missing = width - merged.positions.shape[1]
        positions.append(np.pad(merged.positions, ((0, 0), (0, missing)), constant_values=NOTHING))
        pad = np.zeros((size, missing))
        coefficients.append(_concatenate([merged.coefficients, pad], axis=1))
    stacked = Terms(np.concatenate(positions), _concatenate(coefficients, axis=0))
    return _merge_columns(stacked)


def _concatenate(arrays: Sequence[Array], axis: int) -> Array:
    if all(isinstance(a, np.ndarray) for a in arrays):
        return np.concatenate(arrays, axis=axis)
    return pt.concatenate(arrays, axis=axis)


def _merge_columns(terms: Terms) -> Terms:
    """Drop empty columns, add up equal ones, and let those that share no row be one.

    Two halves of the rows joined, or cases told apart by a condition, come as columns that are
    present in different rows; together they are an index like any other.
    """
    numeric = isinstance(terms.coefficients, np.ndarray)
    first: dict[bytes, int] = {}
    groups: dict[int, list[int]] = {}
    for k, column in enumerate(terms.positions.T):
        if (column != NOTHING).any():
            groups.setdefault(first.setdefault(column.tobytes(), k), []).append(k)
    if numeric:  # columns of zeros say nothing, but an effect without any would not be drawn
        used = {k: same for k, same in groups.items() if terms.coefficients[:, same].any()}
        groups = used or dict(list(groups.items())[:1])
    positions: list[np.ndarray] = []
    members: list[list[int]] = []
    partial: list[int] = []  # of the merged columns, those that leave rows free
    for k, same in groups.items():
        column = terms.positions[:, k]
        present = column != NOTHING
        room = [i for i in partial if not ((positions[i] != NOTHING) & present).any()]
        if room:
            i = room[0]
            positions[i] = np.maximum(positions[i], column)  # NOTHING is below every position
            members[i] += same
            continue
        if not present.all():
            partial.append(len(positions))
        positions.append(column)
        members.append(list(same))
    if not positions:
        return Terms(terms.positions[:, :0], np.zeros((len(terms.positions), 0)))
    columns = [sum(terms.coefficients[:, k] for k in same) for same in members]
    merged = np.stack(columns, axis=1) if numeric else pt.stack(columns, axis=1)
    return Terms(np.stack(positions, axis=1), merged)


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
    single: dict[bytes, list[_Piece]] = {}
    several: list[GroupingFactor] = []
    for effect, (own, width) in enumerate(zip(terms, widths, strict=True)):
        for memberships in _pieces(_memberships(own, width)):
            blocks = np.stack([m.blocks for m in memberships], axis=1)
            present = blocks != NOTHING
            codes = np.full(blocks.shape, NOTHING, dtype="int32")
            codes[present], levels = pd.factorize(blocks[present])
            coefficients = _stack([m.coefficients for m in memberships])
            if len(memberships) >= len(levels):  # as many columns as there are levels: dense
                coefficients = _by_column(codes, coefficients, len(levels))
                codes = np.zeros((len(codes), 1), dtype="int32")
                piece = _Piece(effect, np.asarray(levels)[None, :], codes, coefficients, width)
                single.setdefault(codes.tobytes(), []).append(piece)
            elif len(memberships) == 1:
                piece = _Piece(
                    effect, np.asarray(levels)[:, None], codes, coefficients[:, 0, :], width
                )
                single.setdefault(codes.tobytes(), []).append(piece)
            else:
                share = Share(effect, np.asarray(levels)[:, None])
                codes = np.maximum(codes, 0)
                several.append(GroupingFactor((share,), len(levels), width, codes, coefficients))
    return (*(_join(pieces) for pieces in single.values()), *several)


@dataclass(frozen=True)
class _Piece:
    """Blocks ``(M, B)`` of one variable, picked by a code per row."""

    effect: int
    blocks: np.ndarray
    codes: np.ndarray
    coefficients: Array
    width: int


def _stack(coefficients: Sequence[Array]) -> Array:
    if all(isinstance(c, np.ndarray) for c in coefficients):
        return np.stack(coefficients, axis=1)
    return pt.stack(coefficients, axis=1)


def _by_column(codes: np.ndarray, coefficients: Array, n_levels: int) -> Array:
    """Spread ``(n, K, S)`` over the levels it hits: ``(n, M·S)``."""
    hot = (codes[:, :, None] == np.arange(n_levels)).astype(float)
    spread = (hot[..., None] * coefficients[:, :, None, :]).sum(axis=1)
    return spread.reshape((len(codes), -1))


def _join(pieces: list[_Piece]) -> GroupingFactor:
    """Make one factor of pieces that put rows into the same classes."""
    shares, ordered = [], []
    for effect in dict.fromkeys(piece.effect for piece in pieces):
        own = [piece for piece in pieces if piece.effect == effect]
        shares.append(Share(effect, np.concatenate([piece.blocks for piece in own], axis=1)))
        ordered += own
    coefficients = _concatenate([piece.coefficients for piece in ordered], axis=1)
    n_effects = sum(piece.blocks.shape[1] * piece.width for piece in ordered)
    return GroupingFactor(
        shares=tuple(shares),
        n_levels=len(pieces[0].blocks),
        n_effects=n_effects,
        codes=np.maximum(pieces[0].codes, 0),
        coefficients=coefficients[:, None, :],
    )


def block_structure(factors: Sequence[GroupingFactor]) -> BlockStructure:
    """Choose the leading factor: the one with most effects whose levels do not touch."""
    eligible = [
        i for i, factor in enumerate(factors) if factor.n_memberships == 1 and factor.n_levels > 1
    ]
    leading = max(eligible, key=lambda i: factors[i].size, default=None)
    rest = [i for i in range(len(factors)) if i != leading]
    return BlockStructure(leading, tuple(sorted(rest, key=lambda i: factors[i].n_levels == 1)))
