"""Where matrices over the effects can be non-zero: known before any parameter is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee

__all__ = ["Order", "Pairs", "Pattern"]


class Pairs(NamedTuple):
    """Pairs of entries that share a row, the second not right of the first, in order of targets.

    Parameters
    ----------
    first, second : array of int32, (P,)
        Positions of the entries.
    target : array of int32, (P,)
        ``column of the first · n_columns + column of the second``: sorted, in the lower triangle.
    """

    first: np.ndarray
    second: np.ndarray
    target: np.ndarray


class Pattern:
    """The entries of a sparse matrix, row by row (CSR), without their values.

    A row is a level of the leading factor, a column an effect of the dense block. Patterns with
    the same entries are equal.

    Parameters
    ----------
    starts : array of int, (n_rows + 1,)
        Entries of row ``i`` are those from ``starts[i]`` to ``starts[i + 1]``.
    columns : array of int, (N,)
        Column of each entry, increasing within a row.
    n_columns : int
    """

    def __init__(self, starts: np.ndarray, columns: np.ndarray, n_columns: int) -> None:
        self.starts = np.asarray(starts, dtype="int32")
        self.columns = np.asarray(columns, dtype="int32")
        self.n_columns = n_columns

    @classmethod
    def of(cls, rows: ArrayLike, columns: ArrayLike, shape: tuple[int, int]) -> Pattern:
        """Return the pattern of entries given in any order, perhaps several times."""
        keys = np.unique(np.asarray(rows, dtype="int64") * shape[1] + np.asarray(columns))
        starts = np.searchsorted(keys, np.arange(shape[0] + 1, dtype="int64") * shape[1])
        return cls(starts, keys % max(shape[1], 1), shape[1])

    @property
    def n_rows(self) -> int:
        """``M``."""
        return len(self.starts) - 1

    @property
    def n_entries(self) -> int:
        """``N``."""
        return len(self.columns)

    @cached_property
    def rows(self) -> np.ndarray:
        """Row of each entry."""
        return np.repeat(np.arange(self.n_rows, dtype="int32"), np.diff(self.starts))

    @cached_property
    def pairs(self) -> Pairs:
        """All pairs of entries of the same row: where ``XᵀX`` comes from."""
        entries = np.arange(self.n_entries, dtype="int32")
        counts = entries - self.starts[self.rows] + 1  # each entry with those up to itself
        first = np.repeat(entries, counts)
        within = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        second = self.starts[self.rows[first]] + within.astype("int32")
        target = self.columns[first].astype("int64") * self.n_columns + self.columns[second]
        order = np.argsort(target, kind="stable")
        if self.n_columns < 2**15:
            target = target.astype("int32")
        return Pairs(first[order], second[order], target[order])

    def find(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions of entries, and whether they are there."""
        keys = self.rows.astype("int64") * self.n_columns + self.columns
        sought = np.asarray(rows, dtype="int64") * self.n_columns + columns
        place = np.searchsorted(keys, sought)
        return place, np.isin(sought, keys)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Pattern)
            and self.n_columns == other.n_columns
            and np.array_equal(self.starts, other.starts)
            and np.array_equal(self.columns, other.columns)
        )

    @cached_property
    def _hash(self) -> int:
        return hash((self.n_columns, self.starts.tobytes(), self.columns.tobytes()))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple:
        return Pattern, (self.starts, self.columns, self.n_columns)  # pairs are found again

    def __repr__(self) -> str:
        return f"Pattern({self.n_rows} x {self.n_columns}, {self.n_entries} entries)"


@dataclass(frozen=True)
class Order:
    """An order of elimination in which a symmetric matrix of few neighbours is a band, in blocks.

    That of a breadth-first search through the graph of neighbours (reverse Cuthill–McKee): the band
    of a walk is one wide, that of a map as wide as a cut through it.

    Parameters
    ----------
    places : array of int, (q,)
        Where each row is in it.
    width : int
        Size ``B`` of a block: rows that have a common entry are no further apart.
    """

    places: np.ndarray
    width: int

    @classmethod
    def of(cls, rows: np.ndarray, columns: np.ndarray, size: int) -> Order:
        """Return an order for a matrix with these entries, of one triangle or both."""
        ends = np.concatenate([rows, columns]), np.concatenate([columns, rows])
        ones = np.ones(len(ends[0]), dtype="int8")
        graph = sparse.csr_matrix((ones, ends), shape=(size, size))
        places = np.empty(size, dtype="int64")
        places[reverse_cuthill_mckee(graph, symmetric_mode=True)] = np.arange(size)
        return cls(places, int(np.abs(places[rows] - places[columns]).max(initial=1)))

    @property
    def size(self) -> int:
        """``q``."""
        return len(self.places)

    @property
    def n_blocks(self) -> int:
        """``m``; the last one is filled up."""
        return -(-self.size // self.width)
