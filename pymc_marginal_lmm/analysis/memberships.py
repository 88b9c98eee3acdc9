"""Which blocks of effects rows hit: memberships, and those that cannot be told apart.

A *membership* says for each row which block of a variable it hits (a block is one element, or one
row of an ``MvNormal``), and at which of its elements, times what. A row whose number is zero hits
nothing, however that is written: a product with an indicator, a condition and rows of another
response are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from pymc_marginal_lmm.analysis.terms import NOTHING, Terms

__all__ = ["Membership", "components_of", "pieces_of"]


@dataclass(frozen=True)
class Membership:
    """Rows hit one block each, ``blocks (n,)``, at some of its elements, ``slots (n, J)``."""

    blocks: np.ndarray
    slots: np.ndarray
    numbers: np.ndarray
    places: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """Rows that hit a block at all."""
        return self.blocks != NOTHING


def pieces_of(terms: Terms, width: int, n_blocks: int) -> list[list[Membership]]:
    """Split the terms of one variable by the blocks they hit.

    Columns that hit the same block wherever both hit one are the same membership; a slope that
    some rows lack is one with its intercept.

    Returns
    -------
    list of list of Membership
        Memberships that share a block stand together: an element lives in exactly one factor.
    """
    present = (terms.positions != NOTHING) & (terms.numbers != 0)
    if not present.any():  # an effect that never counts still has to be drawn
        present = terms.positions != NOTHING
    blocks = np.where(present, terms.positions // width, NOTHING)
    memberships: list[list[int]] = []
    merged: list[np.ndarray] = []
    links: list[tuple[int, int]] = []
    owner = np.full(n_blocks, NOTHING)
    for k in range(blocks.shape[1]):
        here, column = present[:, k], blocks[:, k]
        hit = column[here]
        if not hit.size:
            continue
        others = _distinct(owner[hit], len(merged))
        own = next((m for m in others if _agree(merged[m], column)), None)
        if own is None:
            own = len(merged)
            merged.append(column)
            memberships.append([k])
        else:
            merged[own] = np.where(here, column, merged[own])
            memberships[own].append(k)
        owner[hit] = own
        links += [(own, other) for other in others if other != own]
    made = [
        Membership(
            column,
            np.where(present[:, same], terms.positions[:, same] % width, 0),
            np.where(present[:, same], terms.numbers[:, same], 0.0),
            terms.places[:, same],
        )
        for column, same in zip(merged, memberships, strict=True)
    ]
    groups: dict[int, list[Membership]] = {}
    for label, membership in zip(_connected(links, len(made)).tolist(), made, strict=True):
        groups.setdefault(label, []).append(membership)
    return list(groups.values())


def _distinct(values: np.ndarray, n: int) -> list[int]:
    """Return which of ``0 … n-1`` occur."""
    found = np.zeros(n + 1, dtype=bool)
    found[values] = True  # NOTHING is the last
    return np.flatnonzero(found[:n]).tolist()


FIRST = 512
"""Rows that tell most columns apart."""


def _agree(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two columns hit the same block wherever both hit one."""
    for rows in (slice(0, FIRST), slice(None)):
        a, b = one[rows], other[rows]
        if ((a != b) & (a != NOTHING) & (b != NOTHING)).any():
            return False
    return True


def _connected(links: Sequence[tuple[int, int]], n: int) -> np.ndarray:
    i, j = np.array(links, dtype=int).reshape(-1, 2).T
    graph = sparse.coo_array((np.ones(len(i), dtype=bool), (i, j)), shape=(n, n))
    return connected_components(graph, directed=False)[1]


def components_of(
    memberships: Sequence[Membership], n_blocks: int, batch: np.ndarray | None = None
) -> np.ndarray:
    """Return a number for each block, the same for blocks that rows connect, ``(blocks,)``.

    Parameters
    ----------
    memberships : sequence of Membership
    n_blocks : int
        Of the variable.
    batch : array of int, (n,), optional
        Which rows are correlated: these connect as one row does.
    """
    n = len(memberships[0].blocks)
    batch = np.arange(n) if batch is None else batch
    first = np.full(int(batch.max(initial=-1)) + 1, NOTHING)
    for membership in memberships:
        first[batch[membership.present]] = membership.blocks[membership.present]
    pairs = []
    for membership in memberships:
        own, others = membership.blocks, first[batch]
        rows = membership.present & (own != others)
        pairs.append(np.unique(others[rows].astype("int64") * n_blocks + own[rows]))
    i, j = np.divmod(np.concatenate(pairs), n_blocks)
    graph = sparse.coo_array((np.ones(len(i), dtype=bool), (i, j)), shape=(n_blocks, n_blocks))
    return connected_components(graph, directed=False)[1]
