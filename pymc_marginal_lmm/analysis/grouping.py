"""Find grouping factors in what rows refer to.

Nothing is taken from names or from how the predictor was written. A *membership* says for each row
which block of effects it hits (a block is one element, or one row of an ``MvNormal``). Memberships
that put the rows into the same classes belong to one factor, whatever variables they come from:
``(1|g) + (x|g)``, written as one matrix or as three vectors, is one factor with three effects,
and all fixed effects together are the factor with one level. Memberships that share no row are
one as well: a hundred scalars, each with its own rows, are a factor with a hundred levels. Blocks
that meet in correlated rows are one level (:mod:`pymc_marginal_lmm.analysis.batches`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pymc_marginal_lmm.analysis.batches import join_levels
from pymc_marginal_lmm.analysis.loadings import Design, Entries, assemble
from pymc_marginal_lmm.analysis.parameters import Parameters
from pymc_marginal_lmm.analysis.terms import NOTHING, Terms
from pymc_marginal_lmm.structure import GroupingFactor, RandomEffects, Share

__all__ = ["find_factors"]


@dataclass(frozen=True)
class _Membership:
    """Rows hit one block each, ``blocks (n,)``, at some of its elements, ``slots (n, J)``."""

    blocks: np.ndarray
    slots: np.ndarray
    numbers: np.ndarray
    places: np.ndarray
    width: int
    flat: bool

    @property
    def present(self) -> np.ndarray:
        """Rows that hit a block at all."""
        return self.blocks != NOTHING


def _memberships(terms: Terms, effect: RandomEffects, first_block: int) -> list[_Membership]:
    """Split the terms of one variable by the blocks they hit; blocks count through all of them."""
    positions = terms.positions
    blocks = np.where(positions == NOTHING, NOTHING, positions // effect.width + first_block)
    by_blocks: dict[bytes, list[int]] = {}
    for k, column in enumerate(blocks.T):
        by_blocks.setdefault(column.tobytes(), []).append(k)
    return [
        _Membership(
            blocks[:, same[0]],
            positions[:, same] % effect.width,
            terms.numbers[:, same],
            terms.places[:, same],
            effect.width,
            effect.flat,
        )
        for same in by_blocks.values()
    ]


def _pieces(memberships: list[_Membership]) -> list[list[_Membership]]:
    """Join memberships that share a block: an element must live in exactly one factor."""
    owner: dict[int, int] = {}
    piece = list(range(len(memberships)))
    for k, membership in enumerate(memberships):
        for block in np.unique(membership.blocks[membership.present]).tolist():
            other = piece[owner.setdefault(block, k)]
            if other != piece[k]:
                mine = piece[k]
                piece = [other if p == mine else p for p in piece]
    return [[memberships[k] for k, p in enumerate(piece) if p == q] for q in dict.fromkeys(piece)]


def _merge_disjoint(pieces: list[list[_Membership]]) -> list[list[_Membership]]:
    """Let memberships that share no row be one factor's."""
    merged: list[list[_Membership]] = []
    open_ones: dict[tuple[int, bool], list[int]] = {}
    for piece in pieces:
        own = _where_it_counts(piece[0])
        if len(piece) > 1 or own.present.all():
            merged.append(piece)
            continue
        candidates = open_ones.setdefault((own.width, own.flat), [])
        room = next((i for i in candidates if not (merged[i][0].present & own.present).any()), None)
        if room is None:
            candidates.append(len(merged))
            merged.append([own])
        else:
            merged[room] = [_together(merged[room][0], own)]
    return merged


def _where_it_counts(own: _Membership) -> _Membership:
    """Let a single block be absent where it is multiplied by zero: an indicator is an index."""
    counts = own.numbers.any(axis=1)
    if not counts.any() or np.unique(own.blocks[own.present]).size > 1:
        return own
    return replace(own, blocks=np.where(counts, own.blocks, NOTHING))


def _together(one: _Membership, other: _Membership) -> _Membership:
    """Make one membership of two that share no row."""
    J = max(one.slots.shape[1], other.slots.shape[1])
    theirs = other.present

    def either(mine: np.ndarray, new: np.ndarray) -> np.ndarray:
        mine, new = (np.pad(a, ((0, 0), (0, J - a.shape[1]))) for a in (mine, new))
        return np.where(theirs[:, None], new, mine)

    return _Membership(
        np.where(theirs, other.blocks, one.blocks),
        either(one.slots, other.slots),
        either(one.numbers, other.numbers),
        either(one.places, other.places),
        one.width,
        one.flat,
    )


@dataclass(frozen=True)
class _Piece:
    """Blocks ``(M, B)`` picked by a code per row and membership."""

    blocks: np.ndarray
    codes: np.ndarray
    design: Design

    @property
    def single(self) -> bool:
        return self.codes.shape[1] == 1


def _as_piece(memberships: list[_Membership], batch: np.ndarray | None) -> _Piece:
    width = memberships[0].width
    hit = np.stack([m.blocks for m in memberships], axis=1)
    codes = np.full(hit.shape, NOTHING, dtype="int32")
    codes[hit != NOTHING], levels = pd.factorize(hit[hit != NOTHING])
    n_levels, blocks = len(levels), np.asarray(levels)[:, None]
    entries = [
        Entries(k, m.slots[:, j], m.numbers[:, j], m.places[:, j])
        for k, m in enumerate(memberships)
        for j in range(m.slots.shape[1])
    ]
    if n_levels == 1:  # whatever rows it is absent from
        codes = np.zeros_like(codes)
    n_slots = width
    joined = join_levels(hit[:, 0], batch) if batch is not None and hit.shape[1] == 1 else None
    if joined is not None:
        entries = [e._replace(slots=joined.rank * width + e.slots) for e in entries]
        codes, blocks = joined.codes[:, None], joined.blocks
        n_levels, n_slots = len(blocks), blocks.shape[1] * width
    elif len(memberships) >= n_levels:  # as many columns as there are levels: dense, one level
        entries = [
            Entries(0, np.maximum(codes[:, e.membership], 0) * width + e.slots, e.numbers, e.places)
            for e in entries
        ]
        codes = np.zeros((len(codes), 1), dtype="int32")
        n_levels, n_slots, blocks = 1, n_levels * width, blocks.T
    return _Piece(blocks, codes, Design(entries, n_levels, n_slots))


def find_factors(
    terms: Sequence[Terms],
    effects: Sequence[RandomEffects],
    parameters: Parameters,
    batch: np.ndarray | None = None,
) -> tuple[GroupingFactor, ...]:
    """Group the effects of all variables into factors.

    Parameters
    ----------
    terms : sequence of Terms
        Per variable, over all rows: ``(n, K)``.
    effects : sequence of RandomEffects
        The variables.
    parameters : Parameters
        What the places of ``terms`` refer to.
    batch : array of int, (n,), optional
        Which rows are correlated with each other.
    """
    counts = [effect.n_blocks for effect in effects]
    first_blocks = np.concatenate([[0], np.cumsum(counts)])
    pieces = []
    for own, effect, first in zip(terms, effects, first_blocks, strict=False):
        pieces += _pieces(_memberships(own, effect, int(first)))
    joined: dict[bytes | int, list[_Piece]] = {}
    for k, memberships in enumerate(_merge_disjoint(pieces)):
        piece = _as_piece(memberships, batch)
        joined.setdefault(piece.codes.tobytes() if piece.single else k, []).append(piece)
    factors = [_join(same, first_blocks, parameters) for same in joined.values()]
    return tuple(sorted(factors, key=lambda factor: factor.n_memberships > 1))


def _join(pieces: list[_Piece], first_blocks: np.ndarray, parameters: Parameters) -> GroupingFactor:
    """Make one factor of pieces that put rows into the same classes."""
    shares, ordered = _shares(pieces, first_blocks)
    codes = ordered[0].codes
    design = assemble([piece.design for piece in ordered], codes, parameters)
    return GroupingFactor(
        shares=shares,
        n_levels=len(ordered[0].blocks),
        n_effects=sum(piece.design.n_slots for piece in ordered) + design.padding,
        codes=np.maximum(codes, 0),
        coefficients=design.coefficients,
        loadings=design.loadings,
        padding=design.padding,
    )


def _shares(
    pieces: list[_Piece], first_blocks: np.ndarray
) -> tuple[tuple[Share, ...], list[_Piece]]:
    """Tell which variables the blocks are of; pieces of the same variables stand together."""
    groups: dict[tuple[int, ...], list[_Piece]] = {}
    for piece in pieces:
        owner = np.searchsorted(first_blocks, piece.blocks, side="right") - 1
        groups.setdefault(tuple(np.unique(owner).tolist()), []).append(piece)
    shares = []
    for effects, own in groups.items():
        blocks = np.concatenate([piece.blocks for piece in own], axis=1)
        local = np.full(first_blocks[-1], NOTHING)
        count = 0
        for effect in effects:
            start, stop = first_blocks[effect], first_blocks[effect + 1]
            local[start:stop] = count + np.arange(stop - start)
            count += int(stop - start)
        shares.append(Share(effects, local[blocks]))
    return tuple(shares), [piece for own in groups.values() for piece in own]
