"""In which order effects are eliminated, and what is stored of ``F`` for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pymc_marginal_lmm.pattern import Order, Pattern

__all__ = ["Band", "BlockStructure"]


@dataclass(frozen=True)
class Band:
    """Factors whose effects are eliminated first, in an order in which few are open at a time.

    Coordinates are the ``M·S`` effects of each factor, one after the other, and then those elements
    of variables with a :class:`Precision` that occur in no row: the prior ties them to the others.

    Parameters
    ----------
    factors : tuple of int
        Positions in :attr:`MixedModel.factors`. Each effect is a block of one.
    coordinates : dict of int to array of int
        For each variable with a precision the coordinate of each of its elements.
    order : Order
    rows, columns : array of int, (N,)
        Pairs of coordinates that meet in a row, the first not less than the second, sorted.
    """

    factors: tuple[int, ...]
    coordinates: dict[int, np.ndarray]
    order: Order
    rows: np.ndarray
    columns: np.ndarray

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.order.size


@dataclass(frozen=True)
class BlockStructure:
    """The order of elimination, decided from the index arrays alone.

    The factors of the chain are block diagonal in ``F`` and go first, level by level; each is
    nested in the next, whose levels are its *parents*, so that eliminating it leaves the next
    block diagonal. All other effects form the dense Schur complement.

    Parameters
    ----------
    chain : tuple of int
        Positions of these factors in :attr:`MixedModel.factors`; empty if there is none.
    parents : tuple of array of int, (M,)
        For each factor of the chain but the last, the level of the next that each level is in.
    trailing : tuple of int
        The other factors, in the order of their columns in the dense block.
    coupling : Pattern or None
        Which columns of the dense block each level of the leading factor meets; None: all of them.
    band : Band or None
        Factors that go first, in the place of a chain: their block of ``F`` is banded.
    """

    chain: tuple[int, ...]
    parents: tuple[np.ndarray, ...]
    trailing: tuple[int, ...]
    coupling: Pattern | None = None
    band: Band | None = None
