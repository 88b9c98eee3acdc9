r"""Split what multiplies effects into a design of numbers and loadings of parameters.

Row ``i`` of level ``m`` holds ``Σ_s Σ_t numbers[i, t] · θ[places[i, t]] · v[m, s]``, with θ the
parameters. Wherever a place is a function of the level, ``θ`` goes out of the sum over rows::

    Z v  =  Σ_e column_e(i) · θ_e(m) · v[m, s_e]  =  Z' (K v)        K[r, s] = Σ θ_e, e at (r, s)

with one column ``r`` of ``Z'`` for every *distinct* column of numbers. For ``tau * z[g]`` this
gives the design of ``u[g]`` and ``K = τ``; for ``(z @ chol.T)[g]`` with an intercept and a slope
their two columns and ``K = chol``: non-centred code becomes what centred code is, and a loading
(``lam[item] * u[person]``) one column per item. The prior's scale joins from the right.
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

__all__ = ["Assembled", "Design", "Entries", "assemble"]

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


def assemble(designs: Sequence[Design], codes: np.ndarray, parameters: Parameters) -> Assembled:
    """Put designs that share their levels side by side.

    Parameters
    ----------
    designs : sequence of Design
        Effects of the same levels.
    codes : array of int, (n, K)
        Level of each row and membership; negative where there is none.
    parameters : Parameters
        What places refer to.
    """
    n_effects = sum(design.n_slots for design in designs)
    columns: list[_Column] = []
    first, by_level = 0, True
    for design in designs:
        own = _columns(design, codes)
        by_level = by_level and own is not None
        for column in own or ():
            column.slot += first
            columns.append(column)
        first += design.n_slots
    if by_level and all((column.places == ONE).all() for column in columns):
        Z = np.zeros((*codes.shape, n_effects))
        for column in columns:
            Z[:, :, column.slot] += column.numbers
        return Assembled(Z, None, 0)
    if by_level:
        assembled = _with_loadings(columns, designs[0].n_levels, n_effects, parameters)
        if assembled is not None:
            return assembled
    return Assembled(_row_by_row(designs, codes, parameters), None, 0)


def _columns(design: Design, codes: np.ndarray) -> list[_Column] | None:
    """Split terms into columns whose parameter depends on the level only; None: too many."""
    columns: list[_Column] = []
    for entries, slot, rows in _by_slot(design):
        levels, places = codes[rows, entries.membership], entries.places[rows]
        for own, pattern in _patterns(levels, places, design.n_levels):
            column = next((c for c in columns if c.slot == slot and _agree(c, pattern)), None)
            if column is None:
                if len(columns) >= design.n_slots + MAX_COLUMNS:
                    return None
                column = _Column(slot, pattern, np.zeros(codes.shape))
                columns.append(column)
            elif len(pattern) > 1:
                column.places = np.where(column.places == UNSEEN, pattern, column.places)
            column.numbers[rows[own], entries.membership] += entries.numbers[rows[own]]
    for column in columns:
        column.places = np.where(column.places == UNSEEN, ONE, column.places)
    return columns


UNSEEN = -2
"""Place at a level that has no such term (yet)."""


def _by_slot(design: Design) -> Iterator[tuple[Entries, int, np.ndarray]]:
    for entries in design.entries:
        used = np.flatnonzero(entries.numbers)
        for slot in np.unique(entries.slots[used]).tolist():
            yield entries, slot, used[entries.slots[used] == slot]


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
    columns: Sequence[_Column], n_levels: int, n_effects: int, parameters: Parameters
) -> Assembled | None:
    """Keep one column per distinct column of numbers; None if that does not pay."""
    index: dict[bytes, int] = {}
    rows = [index.setdefault(column.numbers.tobytes(), len(index)) for column in columns]
    n_rows, shape = columns[0].numbers.shape[0], columns[0].numbers.shape
    S = max(len(index), n_effects)
    if n_effects < S and (S > MAX_COLUMNS or n_levels * S**3 > 50 * n_rows * n_effects):
        return None
    # Column r where effect r is, if it can be: K is then diagonal where it is one number each.
    slots = [column.slot for column in columns]
    place_of = _aligned(rows, slots, len(index), S)
    Z = np.zeros((*shape, S))
    for column, row in zip(columns, rows, strict=True):
        Z[:, :, place_of[row]] = column.numbers
    length = max(len(column.places) for column in columns)
    places = np.stack([np.broadcast_to(column.places, length) for column in columns], axis=1)
    loadings = Loadings(
        rows=np.array([place_of[row] for row in rows]),
        columns=np.array(slots),
        entries=parameters.values(places),
    )
    return Assembled(Z, loadings, S - n_effects)


def _aligned(rows: Sequence[int], slots: Sequence[int], n_rows: int, size: int) -> list[int]:
    """Return numbers of the distinct columns, where possible that of their effect."""
    place_of: dict[int, int] = {}
    for row, slot in zip(rows, slots, strict=True):
        if row not in place_of and slot not in place_of.values():
            place_of[row] = slot
    free = [place for place in range(size) if place not in place_of.values()]
    for row in range(n_rows):
        if row not in place_of:
            place_of[row] = free.pop(0)
    return [place_of[row] for row in range(n_rows)]


def _row_by_row(designs: Sequence[Design], codes: np.ndarray, parameters: Parameters) -> Variable:
    """Multiply numbers and parameters in every row: ``(n, K, S)``."""
    n_slots = sum(design.n_slots for design in designs)
    terms: dict[tuple[int, int], list[Variable]] = {}
    first = 0
    for design in designs:
        for entries, slot, rows in _by_slot(design):
            here = np.zeros(len(codes), dtype=bool)
            here[rows] = True
            numbers = np.where(here, entries.numbers, 0.0).astype(config.floatX)
            values = parameters.values(np.where(here, entries.places, ONE))
            terms.setdefault((entries.membership, first + slot), []).append(values * numbers)
        first += design.n_slots
    zeros = pt.zeros((len(codes),), dtype=config.floatX)
    stacked = [
        pt.stack([sum(terms.get((k, slot), [zeros])) for slot in range(n_slots)], axis=1)
        for k in range(codes.shape[1])
    ]
    return pt.specify_shape(pt.stack(stacked, axis=1), (*codes.shape, n_slots))
