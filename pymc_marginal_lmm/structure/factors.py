"""Grouping factors: levels that rows belong to, and the effects that each level has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.structure.array import Array

__all__ = ["GroupingFactor", "Loadings", "Share", "row_coordinates"]


@dataclass(frozen=True)
class Share:
    """The part of some variables that belongs to a grouping factor.

    Parameters
    ----------
    effects : tuple of int
        Positions of the variables in :attr:`MixedModel.effects`; all have the same width. There
        are several if each holds some of the levels (a list of scalars, say).
    blocks : array of int, (M, B)
        Which blocks (``elements // width``, counted through all of the variables) belong to level
        ``0 … M-1``. Each level has ``B·width`` of its effects from here; a block that a level does
        not have is -1, and has coefficients of 0.
    """

    effects: tuple[int, ...]
    blocks: np.ndarray


@dataclass(frozen=True)
class Loadings:
    """Parameters that multiply effects in the predictor, level by level: ``Z v`` is ``Z (K v)``.

    Parameters
    ----------
    rows, columns : array of int, (E,)
        Where the entries of ``K`` that can be non-zero are; entries at the same place add up.
    entries : Variable, (M or 1, E)
        Their values.
    """

    rows: np.ndarray
    columns: np.ndarray
    entries: Variable


@dataclass(frozen=True)
class GroupingFactor:
    """Levels that rows of data belong to, and the effects each level has.

    Fixed effects are the factor with one level. A row that belongs to several levels (players of
    a match) has ``K > 1`` memberships.

    Parameters
    ----------
    shares : tuple of Share
        Where its effects live, in the order of the ``S`` effects.
    n_levels : int
        ``M``: the levels that occur in the data. Others keep their prior.
    n_effects : int
        ``S``, effects per level.
    codes : array of int32, (n, K)
        Level of each row, per membership.
    coefficients : array or Variable, (n, K, S)
        The non-zero entries of ``Z``.
    loadings : Loadings or None
        None: column ``s`` of ``Z`` belongs to effect ``s`` of the level.
    padding : int
        How many of the ``S`` effects, the last ones, are not there: they make room for columns of
        ``Z`` where these are more than the effects, and their ``Λ`` is zero.
    coupled : bool
        The prior couples the levels (:class:`Precision`).
    """

    shares: tuple[Share, ...]
    n_levels: int
    n_effects: int
    codes: np.ndarray
    coefficients: Array
    loadings: Loadings | None = None
    padding: int = 0
    coupled: bool = False

    @property
    def size(self) -> int:
        """``M·S``."""
        return self.n_levels * self.n_effects

    @property
    def n_memberships(self) -> int:
        """``K``."""
        return self.codes.shape[1]


def row_coordinates(
    factors: Sequence[GroupingFactor], chosen: Sequence[int]
) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Yield factor, membership and slot, and the coordinate that each row has there, ``(n,)``."""
    first = 0
    for i in chosen:
        factor = factors[i]
        for k, s in np.ndindex(factor.n_memberships, factor.n_effects):
            yield i, k, s, first + factor.codes[:, k].astype("int64") * factor.n_effects + s
        first += factor.size
