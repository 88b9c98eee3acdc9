"""Find grouping factors in what rows refer to.

Nothing is taken from names or from how the predictor was written. What rows hit of one variable
makes its blocks into levels (:mod:`~pymc_marginal_lmm.analysis.memberships`); levels of several
variables are the same where rows meet them one to one: ``(1|g) + (x|g)``, written as one matrix
or as three vectors, is one factor with three effects, also if some rows lack the slope, or if one
of the variables is in one response only and the other in two. All effects with one level are the
factor of fixed effects. What shares no row is one factor as well: a hundred scalars, each with its
own rows, are a factor with a hundred levels.

A level need not have all of its effects: ``NOTHING`` stands for a block that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from pymc_marginal_lmm.analysis.loadings import Design, Entries, assemble, side_by_side
from pymc_marginal_lmm.analysis.memberships import Membership, components_of, pieces_of
from pymc_marginal_lmm.analysis.ordering import WORTH_A_CHAIN
from pymc_marginal_lmm.analysis.parameters import Parameters
from pymc_marginal_lmm.analysis.terms import NOTHING, Terms
from pymc_marginal_lmm.structure import GroupingFactor, RandomEffects, Share

__all__ = ["find_factors"]

WIDEST = 16
"""Most effects per level that rows connect: the design holds as many numbers in every row."""


@dataclass(frozen=True)
class _Piece:
    """Effects of a group's levels that belong together: blocks ``(M, B)``, and their terms."""

    blocks: np.ndarray
    entries: list[Entries]
    width: int
    flat: bool

    @property
    def n_slots(self) -> int:
        """Effects per level."""
        return self.blocks.shape[1] * self.width

    @property
    def kind(self) -> tuple[int, int, bool]:
        """What pieces have in common that can be one below the other."""
        return self.blocks.shape[1], self.width, self.flat

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows that hit it."""
        return np.any([entries.numbers != 0 for entries in self.entries], axis=0)

    def at(self, levels: np.ndarray, n_levels: int) -> _Piece | None:
        """Give its levels other numbers, among more; None if it cannot lack a block.

        An effect that is not there is 0 in its prior and without data; with a flat prior it
        would not be determined.
        """
        if self.flat and len(levels) < n_levels:
            return None
        blocks = np.full((n_levels, self.blocks.shape[1]), NOTHING)
        blocks[levels] = self.blocks
        return replace(self, blocks=blocks)


@dataclass(frozen=True)
class _Group:
    """Levels, a code per row and membership (``NOTHING``: none), and pieces side by side."""

    codes: np.ndarray
    n_levels: int
    pieces: tuple[_Piece, ...]
    coupled: bool = False

    @property
    def single(self) -> bool:
        """Whether each row is in one level at most."""
        return self.codes.shape[1] == 1

    @property
    def n_effects(self) -> int:
        """Effects per level."""
        return sum(piece.n_slots for piece in self.pieces)

    @cached_property
    def present(self) -> np.ndarray:
        """Rows that are in a level."""
        return self.codes[:, 0] != NOTHING


def _group(
    memberships: Sequence[Membership],
    effect: RandomEffects,
    first_block: int,
    batch: np.ndarray | None,
) -> _Group:
    """Make levels of the blocks that memberships of one variable share."""
    width = effect.width
    hit = np.stack([m.blocks for m in memberships], axis=1)
    codes = np.full(hit.shape, NOTHING, dtype="int32")
    codes[hit != NOTHING], own = pd.factorize(hit[hit != NOTHING])
    blocks = np.asarray(own)[:, None]
    entries = [
        Entries(k, m.slots[:, j], m.numbers[:, j], m.places[:, j])
        for k, m in enumerate(memberships)
        for j in range(m.slots.shape[1])
    ]
    coupled = effect.precision is not None  # what the prior couples stays apart from others
    if (len(memberships) > 1 or batch is not None) and not coupled:
        found = _levels(memberships, effect, len(blocks), batch)
        if found is not None:
            level, rank = found
            entries = [
                e._replace(
                    membership=0,
                    slots=rank[np.maximum(hit[:, e.membership], 0)] * width + e.slots,
                )
                for e in entries
            ]
            used = blocks[:, 0]
            blocks = np.full((level[used].max() + 1, rank[used].max() + 1), NOTHING)
            blocks[level[used], rank[used]] = used
            some = hit[np.arange(len(hit)), (hit != NOTHING).argmax(axis=1)]
            codes = np.where(some == NOTHING, NOTHING, level[some]).astype("int32")[:, None]
    if len(blocks) == 1:  # whatever rows it is absent from
        codes = np.zeros((len(codes), 1), dtype="int32")
    blocks = np.where(blocks == NOTHING, NOTHING, blocks + first_block)
    piece = _Piece(blocks, entries, width, effect.flat)
    return _Group(codes, len(blocks), (piece,), coupled)


def _levels(
    memberships: Sequence[Membership],
    effect: RandomEffects,
    n_used: int,
    batch: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return level and place in it of each block of memberships that share blocks.

    Where each row hits as many blocks as there are, these are a design matrix in disguise, with
    one level. Else levels are what rows connect (two latent variables of a person, a pair), if
    that leaves small blocks; correlated rows connect as one row does. None: they are several
    memberships of each row (players of a match).
    """
    used = np.zeros(effect.n_blocks, dtype=bool)
    for membership in memberships:
        used[membership.blocks[membership.present]] = True
    if len(memberships) >= n_used > 1:
        return np.zeros(len(used), dtype=int), np.cumsum(used) - 1
    labels = components_of(memberships, len(used), batch)
    level = np.full(len(used), NOTHING)
    level[used], distinct = pd.factorize(labels[used])
    counts = np.bincount(level[used])
    S = int(counts.max()) * effect.width
    ragged = bool((counts != counts[0]).any())
    pays = len(distinct) * S**3 <= (n_used * effect.width) ** 3
    too_wide = S > WIDEST and batch is None
    if len(distinct) == 1 or too_wide or not pays or (ragged and effect.flat):
        return None
    order = np.flatnonzero(used)[np.argsort(level[used], kind="stable")]
    rank = np.zeros(len(used), dtype=int)
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return level, rank


# --- Several variables ----------------------------------------------------------------------------


def _operations(one: _Group, other: _Group) -> int:
    """Estimate the work with two groups apart, the smaller of them dense."""
    large, small = sorted((one, other), key=lambda group: -group.n_levels * group.n_effects)
    M, S, q = large.n_levels, large.n_effects, small.n_levels * small.n_effects
    return 2 * M * S**3 + 4 * M * S * q**2 + 2 * q**3


FIRST = 512
"""Rows that tell most groups apart."""


def _same_levels(one: _Group, other: _Group) -> np.ndarray | None:
    """Return the level of ``one`` for each level of ``other``; None if they are not one to one.

    ``NOTHING`` for a level that no row tells of.
    """
    above = None
    for rows in (slice(0, FIRST), slice(None)):
        both = one.present[rows] & other.present[rows]
        mine, theirs = one.codes[rows, 0][both], other.codes[rows, 0][both]
        above = np.full(other.n_levels, NOTHING)
        above[theirs] = mine
        below = np.full(one.n_levels, NOTHING)
        below[mine] = theirs
        if (above[theirs] != mine).any() or (below[mine] != theirs).any():
            return None
    return above if above is not None and (above != NOTHING).any() else None


def _side_by_side(one: _Group, other: _Group) -> _Group | None:
    """Let two groups whose levels are one to one be one; None if that does not pay."""
    above = _same_levels(one, other)
    if above is None:
        return None
    new = above == NOTHING
    above[new] = one.n_levels + np.arange(new.sum())
    n_levels = one.n_levels + int(new.sum())
    if n_levels > one.n_levels or n_levels > other.n_levels:
        apart = _operations(one, other)
        if n_levels * (one.n_effects + other.n_effects) ** 3 > apart // 2:
            return None
    pairs = ((p.rows & q.rows).any() for p in one.pieces for q in other.pieces)
    # Effects that never meet, in factors that are nested in each other both ways: a chain of
    # these, where it is one, is less work than the blocks of all.
    if _operations(one, other) >= WORTH_A_CHAIN and not all(pairs):
        return None
    pieces = [piece.at(np.arange(one.n_levels), n_levels) for piece in one.pieces]
    pieces += [piece.at(above, n_levels) for piece in other.pieces]
    theirs = np.where(other.present, above[other.codes[:, 0]], NOTHING)
    codes = np.where(one.present, one.codes[:, 0], theirs).astype("int32")
    return _of_pieces(codes, n_levels, pieces)


def _below(one: _Group, other: _Group) -> _Group | None:
    """Let two groups that share no row be one, the levels of both; None if that does not pay."""
    for rows in (slice(0, FIRST), slice(None)):
        if (one.present[rows] & other.present[rows]).any():
            return None
    n_levels = one.n_levels + other.n_levels
    mine, theirs = np.arange(one.n_levels), one.n_levels + np.arange(other.n_levels)
    left, pieces = list(other.pieces), []
    for piece in one.pieces:
        match = next((p for p in left if p.kind == piece.kind), None)
        if match is None:
            pieces.append(piece.at(mine, n_levels))
        else:
            left.remove(match)
            pieces.append(_stacked(piece, match))
    pieces += [piece.at(theirs, n_levels) for piece in left]
    joined = _of_pieces(
        np.where(
            other.present,
            np.where(other.present, other.codes[:, 0], 0) + one.n_levels,
            one.codes[:, 0],
        ).astype("int32"),
        n_levels,
        pieces,
    )
    if joined is None:
        return None
    return joined if n_levels * joined.n_effects**3 <= _operations(one, other) // 2 else None


def _stacked(one: _Piece, other: _Piece) -> _Piece:
    """Put the blocks of two pieces that share no row below each other."""
    nothing = Entries(0, *(np.zeros_like(a) for a in one.entries[0][1:]))
    theirs = other.rows

    def either(k: int) -> Entries:
        mine, new = (p.entries[k] if k < len(p.entries) else nothing for p in (one, other))
        return Entries(0, *(np.where(theirs, b, a) for a, b in zip(mine[1:], new[1:], strict=True)))

    entries = [either(k) for k in range(max(len(one.entries), len(other.entries)))]
    return replace(one, blocks=np.concatenate([one.blocks, other.blocks]), entries=entries)


def _of_pieces(codes: np.ndarray, n_levels: int, pieces: Sequence[_Piece | None]) -> _Group | None:
    whole = tuple(piece for piece in pieces if piece is not None)
    return _Group(codes[:, None], n_levels, whole) if len(whole) == len(pieces) else None


def _joined(
    groups: Iterable[_Group], join: Callable[[_Group, _Group], _Group | None]
) -> list[_Group]:
    """Join each group with the first that it can be joined with."""
    result: list[_Group] = []
    for group in groups:
        if not _join_into(result, group, join):
            result.append(group)
    return result


def _join_into(
    groups: list[_Group], group: _Group, join: Callable[[_Group, _Group], _Group | None]
) -> bool:
    """Join a group with the first of some that it can be joined with, in place, if there is one."""
    for i, other in enumerate(groups):
        both = join(other, group)
        if both is not None:
            groups[i] = both
            return True
    return False


def _join_all(groups: Sequence[_Group]) -> list[_Group]:
    """Join the groups of several variables, in an order that does not depend on who wrote them.

    Scalars that share no row first (an indicator is an index); then what has the same levels, then
    what shares no row.
    """
    several = [group for group in groups if not group.single or group.coupled]
    single = [group for group in groups if group.single and not group.coupled]
    scalars = _joined((_where_it_counts(g) for g in single if g.n_levels == 1), _alike_below)
    larger = [group for group in single if group.n_levels > 1]
    larger += [group for group in scalars if group.n_levels > 1]
    larger = _joined(_joined(larger, _side_by_side), _below)
    alone = (group for group in scalars if group.n_levels == 1)
    fixed = [group for group in alone if not _join_into(larger, group, _alike_below)]
    if fixed:
        everywhere = np.zeros_like(fixed[0].codes)
        larger.append(_Group(everywhere, 1, tuple(p for group in fixed for p in group.pieces)))
    return [*larger, *several]


def _where_it_counts(group: _Group) -> _Group:
    """Let a single level be absent where it is multiplied by zero."""
    rows = group.pieces[0].rows
    return (
        replace(group, codes=np.where(rows[:, None], group.codes, NOTHING)) if rows.any() else group
    )


def _alike_below(one: _Group, other: _Group) -> _Group | None:
    """:func:`_below`, of groups with the same effects per level."""
    alike = [p.kind for p in one.pieces] == [p.kind for p in other.pieces]
    return _below(one, other) if alike else None


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
    groups = [
        _group(memberships, effect, int(first), batch)
        for own, effect, first in zip(terms, effects, first_blocks, strict=False)
        for memberships in pieces_of(own, effect.width, effect.n_blocks)
    ]
    return tuple(_factor(group, first_blocks, parameters) for group in _join_all(groups))


def _factor(group: _Group, first_blocks: np.ndarray, parameters: Parameters) -> GroupingFactor:
    shares, designs = _shares(group, first_blocks)
    design = assemble(designs, group.codes, parameters, with_padding=not group.coupled)
    return GroupingFactor(
        shares=shares,
        n_levels=group.n_levels,
        n_effects=group.n_effects + design.padding,
        codes=np.maximum(group.codes, 0),
        coefficients=design.coefficients,
        loadings=design.loadings,
        padding=design.padding,
        coupled=group.coupled,
    )


def _shares(group: _Group, first_blocks: np.ndarray) -> tuple[tuple[Share, ...], list[Design]]:
    """Tell which variables the blocks are of; pieces of the same variables are one design."""
    owned: dict[tuple[int, ...], list[_Piece]] = {}
    for piece in group.pieces:
        own = piece.blocks[piece.blocks != NOTHING]
        owner = np.searchsorted(first_blocks, own, side="right") - 1
        owned.setdefault(tuple(np.unique(owner).tolist()), []).append(piece)
    shares = []
    for effects, pieces in owned.items():
        blocks = np.concatenate([piece.blocks for piece in pieces], axis=1)
        local = np.full(first_blocks[-1] + 1, NOTHING)  # and NOTHING is the last
        count = 0
        for effect in effects:
            start, stop = first_blocks[effect], first_blocks[effect + 1]
            local[start:stop] = count + np.arange(stop - start)
            count += int(stop - start)
        shares.append(Share(effects, local[blocks]))
    designs = [
        side_by_side([Design(p.entries, group.n_levels, p.n_slots) for p in pieces])
        for pieces in owned.values()
    ]
    return tuple(shares), designs
