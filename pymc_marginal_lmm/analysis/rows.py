"""Bring the terms of all responses into one table with a row per observation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pymc_marginal_lmm.analysis.terms import NOTHING, ONE, Terms

__all__ = ["stack_rows"]


def stack_rows(parts: Sequence[tuple[int, Terms | None]]) -> Terms:
    """Put the rows of several responses below each other; ``None`` is a response without it."""
    tables = [
        _empty(size) if terms is None else _merge_columns(_table(terms, size))
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
    for same in groups.values():
        column: tuple[np.ndarray, ...] = (
            positions[:, same[0]],
            numbers[:, same].sum(axis=1),
            places[:, same[0]],
        )
        present = column[0] != NOTHING
        room = [i for i in partial if not ((columns[i][0] != NOTHING) & present).any()]
        if room:
            columns[room[0]] = tuple(
                np.where(present, new, old)
                for new, old in zip(column, columns[room[0]], strict=True)
            )
            continue
        if not present.all():
            partial.append(len(columns))
        columns.append(column)
    if not columns:
        return _empty(len(positions))
    return Terms(*(np.stack(parts, axis=1) for parts in zip(*columns, strict=True)))
