"""Weighted sums of rows by level, ``Σ_i w_i x_i`` over the rows ``i`` of each level.

Weights are numbers, or numbers times few parameters: one for each *stratum* of the rows. Sums of
what is known are then taken over rows once, for each stratum that a level meets, and what is left
for the gradient is to weigh and add those. A residual standard deviation that differs by subject
and condition has as many strata as there are cells, however many rows; one that differs from row
to row, as many as rows.

Where rows are correlated, ``W`` is block diagonal, and ``xᵀWy = Σ w_ij x_i y_j`` a sum over *pairs*
of rows, each with a weight of its own (:mod:`pymc_marginal_lmm.algebra.correlation`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.ops import level_sums
from pymc_marginal_lmm.structure import Array

__all__ = ["Weights", "as_float", "is_numeric"]

FEW_STRATA = 8
"""So many tables, one per stratum, are rather added up whole than entry by entry."""


def is_numeric(*arrays: Array) -> bool:
    """Whether all are numbers, not symbols."""
    return all(isinstance(a, np.ndarray | np.number | float | int) for a in arrays)


def as_float(array: Array) -> Variable:
    """Return numbers or a symbol as a PyTensor variable of dtype floatX."""
    if is_numeric(array):
        return pt.constant(np.asarray(array, dtype=config.floatX))
    return pt.cast(array, config.floatX)


def _sums(rows: Array, codes: np.ndarray, size: int) -> Array:
    """Sum rows ``(n, k)`` by code: ``(size, k)``."""
    if size == 1:
        return rows.sum(axis=0)[None]
    if is_numeric(rows):
        columns = [np.bincount(codes, weights=c, minlength=size) for c in rows.T]
        return np.stack(columns, axis=1) if columns else np.zeros((size, 0))
    return level_sums(rows, codes, size)


@dataclass(frozen=True)
class Weights:
    """``w_i = numbers_i · values[strata_i]``; what is None is 1.

    Parameters
    ----------
    numbers : array, (n,), optional
    strata : array of int, (n,), optional
    values : Variable, (K,), optional
        One parameter per stratum.
    left, right : array of int, (n,), optional
        Which two rows each weight is for, both orders of a pair apart; None: each row with itself.
    """

    numbers: np.ndarray | None = None
    strata: np.ndarray | None = None
    values: Variable | None = None
    left: np.ndarray | None = None
    right: np.ndarray | None = None

    def of_left(self, rows: Any) -> Any:
        """Return the first row of each pair."""
        return rows if self.left is None else rows[self.left]

    def of_right(self, rows: Any) -> Any:
        """Return the second row of each pair."""
        return rows if self.right is None else rows[self.right]

    def take(self, rows: np.ndarray) -> Self:
        """Return the weights of some rows, or pairs."""
        parts = (self.numbers, self.strata, self.left, self.right)
        numbers, strata, left, right = (None if a is None else a[rows] for a in parts)
        return type(self)(numbers, strata, self.values, left, right)

    def repeat(self, times: int) -> Self:
        """Return each row's weight so many times."""
        rows = self.numbers if self.strata is None else self.strata
        return self if times == 1 or rows is None else self.take(np.arange(len(rows)).repeat(times))

    def times(self, rows: Array) -> Array:
        """Return ``w_i x_i`` for rows ``(n, k)``."""
        if self.numbers is not None:
            rows = rows * self.numbers[:, None]
        if self.values is not None:
            rows = as_float(rows) * self._of(self.strata)[:, None]
        return rows

    def _of(self, strata: np.ndarray | None) -> Variable:
        assert strata is not None and self.values is not None
        each = np.array_equal(strata, np.arange(*self.values.type.shape))
        return self.values if each else self.values[strata]

    def sums(self, rows: Array, codes: np.ndarray, size: int) -> Array:
        """Sum weighted rows ``(n, k)`` by code: ``(size, k)``."""
        if self.values is None or not is_numeric(rows):
            return _sums(self.times(rows), codes, size)
        assert self.strata is not None
        n_strata = int(self.values.type.shape[0])
        known = Weights(self.numbers).times(rows)
        if size == 1:  # not a matrix product, which takes numba ten seconds and more to compile
            table = as_float(_sums(known, self.strata, n_strata)) * self.values[:, None]
            return level_sums(table, np.zeros(n_strata), 1)
        cells = codes.astype("int64") * n_strata + self.strata
        distinct, which = np.unique(cells, return_inverse=True)
        if self.left is not None:
            weighed = self._gathered(known, which.reshape(-1), *np.divmod(distinct, n_strata), size)
            if weighed is not None:
                return weighed
        if n_strata <= FEW_STRATA and 2 * len(distinct) >= n_strata * size:
            tables = _sums(known, cells, size * n_strata).reshape(size, n_strata, -1)
            return sum(self.values[k] * as_float(tables[:, k]) for k in range(n_strata))
        if len(distinct) == len(cells):
            return _sums(self.times(rows), codes, size)
        level, stratum = np.divmod(distinct, n_strata)
        table = as_float(_sums(known, which.reshape(-1), len(distinct)))
        return level_sums(table * self._of(stratum)[:, None], level, size)

    def _gathered(
        self, known: np.ndarray, cell: np.ndarray, level: np.ndarray, stratum: np.ndarray, size: int
    ) -> Variable | None:
        """Weigh sums that are of one stratum each (one effect per outcome); None: not all are."""
        table = _sums(known, cell, len(level))
        at, column = np.nonzero(table)
        place = level[at] * table.shape[1] + column
        if np.unique(place).size < place.size:
            return None
        assert self.values is not None
        numbers, strata = (
            np.zeros(size * table.shape[1]),
            np.zeros(size * table.shape[1], dtype=int),
        )
        numbers[place], strata[place] = table[at, column], stratum[at]
        return pt.reshape(as_float(numbers) * self.values[strata], (size, table.shape[1]))
