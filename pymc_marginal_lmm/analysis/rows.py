"""Add up terms that are the same, and bring those of all responses into one table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pymc_marginal_lmm.analysis.terms import NOTHING, ONE, Terms

__all__ = ["added_up", "stack_rows"]

MANY = 64
"""From so many terms of an element on, those that are the same are added up before they multiply:
sums of sums would hold each of them a million times."""


def added_up(terms: Terms, before: int) -> Terms:
    """Return the same tensor with fewer terms, if an operation has made many out of ``before``."""
    if terms.positions.shape[-1] <= max(MANY, before):
        return terms
    table = _merge_columns(_add_up(_table(terms, int(np.prod(terms.shape, dtype=int)))))
    shape = (*terms.shape, table.positions.shape[-1])
    return Terms(*(a.reshape(shape) for a in (table.positions, table.numbers, table.places)))


def stack_rows(parts: Sequence[tuple[int, Terms | None]]) -> Terms:
    """Put the rows of several responses below each other; ``None`` is a response without it."""
    tables = [
        _empty(size) if terms is None else _merge_columns(_add_up(_table(terms, size)))
        for size, terms in parts
    ]
    width = max(table.positions.shape[1] for table in tables)
    tables = [_widened(table, width) for table in tables]
    stacked = Terms(
        np.concatenate([table.positions for table in tables]),
        np.concatenate([table.numbers for table in tables]),
        np.concatenate([table.places for table in tables]),
    )
    return _merge_columns(stacked)


def _empty(size: int) -> Terms:
    nothing = np.zeros((size, 0))
    return Terms(nothing.astype(int), nothing, nothing.astype(int))


def _table(terms: Terms, size: int) -> Terms:
    shape = (size, terms.positions.shape[-1])
    return Terms(*(a.reshape(shape) for a in (terms.positions, terms.numbers, terms.places)))


def _widened(table: Terms, width: int) -> Terms:
    missing = ((0, 0), (0, width - table.positions.shape[1]))
    return Terms(
        np.pad(table.positions, missing, constant_values=NOTHING),
        np.pad(table.numbers, missing),
        np.pad(table.places, missing, constant_values=ONE),
    )


def _add_up(table: Terms) -> Terms:
    """Let each row have each element once per parameter, at the first of its terms; or not at all.

    What is left when terms have cancelled, or were times zero (a dense matrix of indicators), is
    what somebody else has written at once.
    """
    n, K = table.positions.shape
    if K < 2:
        return table
    keys = table.positions * (int(table.places.max(initial=ONE)) + 2) + table.places + 1
    order = np.argsort(np.where(table.positions == NOTHING, NOTHING, keys), axis=1, kind="stable")
    positions, numbers, places = (
        np.take_along_axis(array, order, axis=1)
        for array in (table.positions, table.numbers, table.places)
    )
    first = np.ones((n, K), dtype=bool)
    first[:, 1:] = (positions[:, 1:] != positions[:, :-1]) | (places[:, 1:] != places[:, :-1])
    repeated = ~first & (positions != NOTHING)
    if not repeated.any() and numbers.all():
        return table
    starts = np.flatnonzero(first)
    counts = np.diff(starts, append=n * K)
    sums = np.add.reduceat(numbers.ravel(), starts)
    sizes = np.add.reduceat(np.abs(numbers).ravel(), starts)
    # Of what cancels, rounding leaves something.
    none = np.abs(sums) <= (counts - 1) * np.finfo(float).eps * sizes
    sums[none] = 0.0
    added = np.zeros((n, K))
    added.ravel()[starts] = sums
    if added.any():  # an effect that enters nowhere would not be drawn
        first.ravel()[starts[none]] = False
    back = np.argsort(order, axis=1, kind="stable")
    kept = np.take_along_axis(first, back, axis=1) & (table.positions != NOTHING)
    return Terms(
        np.where(kept, table.positions, NOTHING),
        np.where(kept, np.take_along_axis(added, back, axis=1), 0.0),
        np.where(kept, table.places, ONE),
    )


def _merge_columns(table: Terms) -> Terms:
    """Drop empty columns, add up equal ones, and let those that share no row be one.

    Two halves of the rows joined, or cases told apart by a condition, come as columns that are
    present in different rows; together they are an index like any other.
    """
    positions, numbers, places = table.positions, table.numbers, table.places
    groups: dict[tuple[bytes, bytes], list[int]] = {}
    for k in range(positions.shape[1]):
        if (positions[:, k] != NOTHING).any():
            key = (positions[:, k].tobytes(), places[:, k].tobytes())
            groups.setdefault(key, []).append(k)
    # Columns of zeros say nothing, but an effect without any would not be drawn.
    used = {key: same for key, same in groups.items() if numbers[:, same].any()}
    groups = used or dict(list(groups.items())[:1])
    columns: list[tuple[np.ndarray, ...]] = []
    partial: list[int] = []  # of the merged columns, those that leave rows free
    taken = np.zeros((len(groups), (len(positions) + 7) // 8), dtype=np.uint8)  # by them, as bits
    for same in groups.values():
        column: tuple[np.ndarray, ...] = (
            positions[:, same[0]],
            numbers[:, same].sum(axis=1),
            places[:, same[0]],
        )
        present = column[0] != NOTHING
        bits = np.packbits(present)
        room = np.flatnonzero(~(taken[: len(partial)] & bits).any(axis=1))
        if room.size:
            first = partial[room[0]]
            columns[first] = tuple(
                np.where(present, new, old) for new, old in zip(column, columns[first], strict=True)
            )
            taken[room[0]] |= bits
            continue
        if not present.all():
            taken[len(partial)] = bits
            partial.append(len(columns))
        columns.append(column)
    if not columns:
        return _empty(len(positions))
    return Terms(*(np.stack(parts, axis=1) for parts in zip(*columns, strict=True)))
