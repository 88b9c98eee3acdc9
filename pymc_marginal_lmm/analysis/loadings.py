r"""Split what multiplies effects into a design of numbers and loadings of parameters.

Row ``i`` of level ``m`` holds ``Σ_s Σ_t numbers[i, t] · θ[places[i, t]] · v[m, s]``, with θ the
parameters. Wherever a place is a function of the level, ``θ`` goes out of the sum over rows::

    Z v  =  Σ_e column_e(i) · θ_e(m) · v[m, s_e]  =  Z' (K v)        K[r, s] = Σ θ_e, e at (r, s)

with one column ``r`` of ``Z'`` for every *distinct* column of numbers. For ``tau * z[g]`` this
gives the design of ``u[g]`` and ``K = τ``; for ``(z @ chol.T)[g]`` with an intercept and a slope
their two columns and ``K = chol``: non-centred code becomes what centred code is, and a loading
(``lam[item] * u[person]``) one column per item. A matrix of parameters (``chol(K) @ z``) has as
many columns as there are kinds of rows, and is ``K`` as it stands. The prior's scale joins from
the right. Where none of these pays, numbers and parameters are multiplied in every row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.analysis.parameters import Parameters
from pymc_marginal_lmm.analysis.terms import ONE
from pymc_marginal_lmm.structure import Array, Loadings

__all__ = ["Assembled", "Design", "Entries", "assemble", "side_by_side"]

MAX_COLUMNS = 16
"""Most columns per level, if these are more than the effects."""


class Entries(NamedTuple):
    """One term of each row: ``numbers (n,)`` times a parameter times the effect at ``slots``."""

    membership: int
    slots: np.ndarray
    numbers: np.ndarray
    places: np.ndarray


class Design(NamedTuple):
    """The terms of effects that share levels, ``n_slots`` per level."""

    entries: list[Entries]
    n_levels: int
    n_slots: int


def side_by_side(designs: Sequence[Design]) -> Design:
    """Make one design of several that share their levels, with the slots of all of them."""
    entries, first = [], 0
    for design in designs:
        entries += [own._replace(slots=first + own.slots) for own in design.entries]
        first += design.n_slots
    return Design(entries, designs[0].n_levels, first)


class Assembled(NamedTuple):
    """``coefficients (n, K, S)``; ``loadings`` and ``padding`` as in ``GroupingFactor``."""

    coefficients: Array
    loadings: Loadings | None
    padding: int


@dataclass
class _Column:
    """Numbers ``(n, K)`` times a parameter per level: ``places (M,)``, or ``(1,)`` for all."""

    slot: int
    places: np.ndarray
    numbers: np.ndarray


class _Split(NamedTuple):
    """``columns`` of numbers, ``(n, K)`` each, and where ``K`` has entries: ``places (M or 1, E)``.

    An entry is a number times what is at its place.
    """

    columns: list[np.ndarray]
    rows: np.ndarray
    slots: np.ndarray
    numbers: np.ndarray
    places: np.ndarray


def assemble(
    designs: Sequence[Design],
    codes: np.ndarray,
    parameters: Parameters,
    *,
    with_padding: bool = True,
) -> Assembled:
    """Put designs that share their levels side by side.

    Parameters
    ----------
    designs : sequence of Design
        Effects of the same levels.
    codes : array of int, (n, K)
        Level of each row and membership; negative where there is none.
    parameters : Parameters
        What places refer to.
    with_padding : bool
        Whether there may be more columns than effects.
    """
    n_effects = sum(design.n_slots for design in designs)
    everything = [entries for design in designs for entries in design.entries]
    if all((e.places[e.numbers != 0] == ONE).all() for e in everything):
        return Assembled(_numeric(designs, codes, n_effects), None, 0)
    splits = []
    for design in designs:
        split = _split(design, codes)
        if split is None:
            break
        splits.append(split)
    else:
        assembled = _with_loadings(designs, splits, codes, n_effects, parameters)
        if assembled is not None and (with_padding or not assembled.padding):
            return assembled
    return Assembled(_row_by_row(designs, codes, parameters), None, 0)


def _numeric(designs: Sequence[Design], codes: np.ndarray, n_effects: int) -> np.ndarray:
    Z = np.zeros((*codes.shape, n_effects))
    first = 0
    for design in designs:
        for entries in design.entries:
            rows = np.flatnonzero(entries.numbers)
            Z[rows, entries.membership, first + entries.slots[rows]] += entries.numbers[rows]
        first += design.n_slots
    return Z


def _split(design: Design, codes: np.ndarray) -> _Split | None:
    counts = sum((entries.numbers != 0).astype(int) for entries in design.entries)
    if np.max(counts, initial=0) > MAX_COLUMNS:
        return _by_pattern(design, codes) or _by_column(design, codes)
    return _by_column(design, codes) or _by_pattern(design, codes)


def _by_column(design: Design, codes: np.ndarray) -> _Split | None:
    """Split terms into columns whose parameter depends on the level only; None: too many."""
    columns: list[_Column] = []
    for membership, slot, rows, numbers, places in _by_slot(design):
        for own, pattern in _patterns(codes[rows, membership], places, design.n_levels):
            column = next((c for c in columns if c.slot == slot and _agree(c, pattern)), None)
            if column is None:
                if len(columns) >= design.n_slots + MAX_COLUMNS:
                    return None
                column = _Column(slot, pattern, np.zeros(codes.shape))
                columns.append(column)
            elif len(pattern) > 1:
                column.places = np.where(column.places == UNSEEN, pattern, column.places)
            column.numbers[rows[own], membership] += numbers[own]
    for column in columns:
        column.places = np.where(column.places == UNSEEN, ONE, column.places)
    index: dict[bytes, int] = {}
    which = [index.setdefault(column.numbers.tobytes(), len(index)) for column in columns]
    first = [which.index(row) for row in range(len(index))]
    length = max((len(column.places) for column in columns), default=1)
    by_level = [np.broadcast_to(column.places, length) for column in columns]
    return _Split(
        [columns[k].numbers for k in first],
        np.array(which, dtype=int),
        np.array([column.slot for column in columns], dtype=int),
        np.ones(len(columns)),
        np.stack(by_level, axis=1) if columns else np.zeros((1, 0), dtype=int),
    )


def _by_pattern(design: Design, codes: np.ndarray) -> _Split | None:
    """Split terms into a column per kind of row: rows that hold multiples of the same sum.

    ``chol(K) @ z`` has as many kinds of rows as effects: its design selects, and ``K`` is the
    matrix itself, which stands once in the graph, however large it is. None: too many kinds.
    """
    if codes.shape[1] > 1:
        return None
    most = max(design.n_slots, MAX_COLUMNS)
    slots, numbers, places = (
        np.stack(parts, axis=1)
        for parts in zip(*((e.slots, e.numbers, e.places) for e in design.entries), strict=True)
    )
    for rows in (slice(0, 4 * most), slice(None)):  # most often a part says that there are too many
        keys, scale = _kinds(slots[rows], numbers[rows], places[rows])
        kinds, first, which = np.unique(keys, return_index=True, return_inverse=True)
        if len(kinds) > most:
            return None
    present = numbers != 0
    order = np.argsort(first, kind="stable")  # in the order of the rows
    order = order[scale[first[order]] != 0]
    columns = [np.where(which == kind, scale, 0.0)[:, None] for kind in order.tolist()]
    own = first[order]
    row, k = np.nonzero(present[own])
    return _Split(
        columns,
        row,
        slots[own][row, k],
        numbers[own][row, k] / scale[own][row],
        places[own][row, k][None],
    )


def _kinds(
    slots: np.ndarray, numbers: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return keys ``(n,)``, equal for rows that are multiples of each other, and what multiplies.

    Terms may come in any order.
    """
    present = numbers != 0
    slots, places = np.where(present, slots, -1), np.where(present, places, ONE)
    order = np.lexsort((places, slots), axis=1)
    slots, numbers, places = (np.take_along_axis(a, order, 1) for a in (slots, numbers, places))
    scale = numbers[:, -1]  # absent terms come first
    with np.errstate(invalid="ignore"):  # what is not finite is reported with its data
        relative = np.divide(
            numbers, scale[:, None], out=np.zeros(numbers.shape), where=scale[:, None] != 0
        )
    table = np.concatenate([slots, places, (relative + 0.0).view("int64")], axis=1)
    row = np.dtype((np.void, table.itemsize * table.shape[1]))
    return np.ascontiguousarray(table).view(row)[:, 0], scale


UNSEEN = -2
"""Place at a level that has no such term (yet)."""


class _Piece(NamedTuple):
    """Terms of one slot, at most one of each row."""

    membership: int
    slot: int
    rows: np.ndarray
    numbers: np.ndarray
    places: np.ndarray


def _by_slot(design: Design) -> Iterator[_Piece]:
    """Yield all terms, in an order that is the same whichever column they came in."""
    parts = []
    for entries in design.entries:
        rows = np.flatnonzero(entries.numbers)
        membership = np.full(rows.size, entries.membership)
        own = (entries.slots[rows], entries.places[rows], entries.numbers[rows])
        parts.append((membership, rows, *own))
    if not parts:
        return
    memberships, rows, slots, places, numbers = (
        np.concatenate(same) for same in zip(*parts, strict=True)
    )
    order = np.lexsort((places, rows, slots, memberships))
    starts = _starts(memberships[order], slots[order], rows[order])
    nth = np.empty_like(order)  # of the terms of a row and slot
    nth[order] = np.arange(order.size) - np.repeat(starts, np.diff(starts, append=order.size))
    order = np.lexsort((rows, nth, slots, memberships))
    for same in np.split(order, _starts(memberships[order], slots[order], nth[order]))[1:]:
        first = same[0]
        yield _Piece(
            int(memberships[first]), int(slots[first]), rows[same], numbers[same], places[same]
        )


def _starts(*keys: np.ndarray) -> np.ndarray:
    """Return where one of several sorted keys changes, the first element included."""
    changes = np.ones(keys[0].size, dtype=bool)
    changes[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.flatnonzero(changes)


def _patterns(
    levels: np.ndarray, places: np.ndarray, n_levels: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows (of those given) and their place, one for all or one per level."""
    everywhere = np.arange(len(places))
    if (places == places[0]).all():
        yield everywhere, places[:1]
        return
    by_level = np.full(n_levels, UNSEEN)
    by_level[levels] = places
    if (by_level[levels] == places).all():
        yield everywhere, by_level
        return
    order = np.argsort(places, kind="stable")
    distinct, starts = np.unique(places[order], return_index=True)
    for place, own in zip(distinct, np.split(order, starts[1:]), strict=True):
        yield own, np.array([place])


def _agree(column: _Column, pattern: np.ndarray) -> bool:
    if len(column.places) != len(pattern):
        return False
    unseen = (column.places == UNSEEN) | (pattern == UNSEEN)
    return bool((unseen | (column.places == pattern)).all())


def _with_loadings(
    designs: Sequence[Design],
    splits: Sequence[_Split],
    codes: np.ndarray,
    n_effects: int,
    parameters: Parameters,
) -> Assembled | None:
    """Keep one column per distinct column of numbers; None if that does not pay."""
    index: dict[bytes, int] = {}
    columns: list[np.ndarray] = []
    rows, slots, first = [], [], 0
    for design, split in zip(designs, splits, strict=True):
        own = [index.setdefault(column.tobytes(), len(index)) for column in split.columns]
        columns += [c for k, c in zip(own, split.columns, strict=True) if k >= len(columns)]
        rows.append(np.array(own, dtype=int)[split.rows])
        slots.append(first + split.slots)
        first += design.n_slots
    row, slot = np.concatenate(rows), np.concatenate(slots)
    n_levels, S = designs[0].n_levels, max(len(columns), n_effects)
    padded = n_effects < S
    if padded and (S > MAX_COLUMNS or n_levels * S**3 > 50 * len(codes) * n_effects):
        return None
    # Column r where effect r is, if it can be: K is then diagonal where it is one number each.
    place_of = _aligned(row.tolist(), slot.tolist(), len(columns), S)
    Z = np.zeros((*codes.shape, S))
    for column, place in zip(columns, place_of, strict=True):
        Z[:, :, place] = column
    length = max(len(split.places) for split in splits)
    places = [np.broadcast_to(own, (length, own.shape[1])) for *_, own in splits]
    entries = parameters.values(np.concatenate(places, axis=1))
    numbers = np.concatenate([split.numbers for split in splits])
    if (numbers != 1).any():
        entries = entries * numbers.astype(config.floatX)
    return Assembled(Z, Loadings(np.array(place_of)[row], slot, entries), S - n_effects)


def _aligned(rows: Sequence[int], slots: Sequence[int], n_rows: int, size: int) -> list[int]:
    """Return numbers of the distinct columns, where possible that of their effect."""
    place_of: dict[int, int] = {}
    taken: set[int] = set()
    for row, slot in zip(rows, slots, strict=True):
        if row not in place_of and slot not in taken:
            place_of[row] = slot
            taken.add(slot)
    free = [place for place in range(size) if place not in taken]
    for row in range(n_rows):
        if row not in place_of:
            place_of[row] = free.pop(0)
    return [place_of[row] for row in range(n_rows)]


def _row_by_row(designs: Sequence[Design], codes: np.ndarray, parameters: Parameters) -> Variable:
    """Multiply numbers and parameters in every row: ``(n, K, S)``.

    All terms at once, so that the graph is as large for a thousand effects as for one.
    """
    n_slots = sum(design.n_slots for design in designs)
    shape = (*codes.shape, n_slots)
    cells, numbers, places = [], [], []
    first = 0
    for design in designs:
        for entries in design.entries:
            rows = np.flatnonzero(entries.numbers)
            columns = entries.membership * n_slots + first + entries.slots[rows]
            cells.append(rows * (codes.shape[1] * n_slots) + columns)
            numbers.append(entries.numbers[rows])
            places.append(entries.places[rows])
        first += design.n_slots
    cell, number, place = (np.concatenate(parts) for parts in (cells, numbers, places))
    size = int(np.prod(shape, dtype=int))
    if np.unique(cell).size == cell.size:
        every_number, every_place = np.zeros(size), np.full(size, ONE)
        every_number[cell], every_place[cell] = number, place
        products = parameters.values(every_place) * every_number.astype(config.floatX)
    else:
        products = parameters.values(place) * number.astype(config.floatX)
        products = pt.zeros(size, dtype=config.floatX)[cell].inc(products)
    return pt.specify_shape(pt.reshape(products, shape), shape)
