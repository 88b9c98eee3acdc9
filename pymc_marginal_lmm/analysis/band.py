"""Factors that can go first as a band: which effects meet, by the prior or in a row of data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pymc_marginal_lmm.pattern import Order
from pymc_marginal_lmm.structure import Band, GroupingFactor, RandomEffects, row_coordinates

__all__ = ["find_band"]

MOST_PAIRS = 50
"""Pairs of effects in a row, per row: more have no narrow band."""


def find_band(
    factors: Sequence[GroupingFactor],
    effects: Sequence[RandomEffects],
    chosen: Sequence[int],
) -> Band | None:
    """Return the band of some factors, or None: rows of data have too many of their effects.

    Parameters
    ----------
    factors : sequence of GroupingFactor
    effects : sequence of RandomEffects
    chosen : sequence of int
        Positions of the factors; among them all those of variables with a precision.
    """
    met = _pairs(factors, chosen)
    if met is None:
        return None
    coordinates, q = _coordinates(factors, effects, chosen)
    rows, columns = [met[0]], [met[1]]
    for effect, own in coordinates.items():
        precision = effects[effect].precision
        assert precision is not None
        rows.append(own[precision.rows])
        columns.append(own[precision.columns])
    order = Order.of(np.concatenate(rows), np.concatenate(columns), q)
    return Band(tuple(chosen), coordinates, order, *met)


def _pairs(
    factors: Sequence[GroupingFactor], chosen: Sequence[int]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the pairs of coordinates that meet in a row, each once."""
    terms = list(row_coordinates(factors, chosen))
    if len(terms) * (len(terms) + 1) > 2 * MOST_PAIRS:
        return None
    q = sum(factors[i].size for i in chosen)
    keys = []
    for a, (i, k, s, one) in enumerate(terms):
        for j, m, t, other in terms[: a + 1]:
            here = _present(factors[i], k, s) & _present(factors[j], m, t)
            high, low = np.maximum(one, other)[here], np.minimum(one, other)[here]
            keys.append(np.unique(high * q + low))
    distinct = np.unique(np.concatenate(keys))
    return distinct // q, distinct % q


def _present(factor: GroupingFactor, membership: int, slot: int) -> np.ndarray:
    if isinstance(factor.coefficients, np.ndarray):
        return factor.coefficients[:, membership, slot] != 0
    return np.ones(len(factor.codes), dtype=bool)


def _coordinates(
    factors: Sequence[GroupingFactor], effects: Sequence[RandomEffects], chosen: Sequence[int]
) -> tuple[dict[int, np.ndarray], int]:
    """Return the coordinates of the elements of variables with a precision, and how many in all."""
    found = {i: np.full(effect.size, -1) for i, effect in enumerate(effects) if effect.precision}
    first = 0
    for i in chosen:
        factor, start = factors[i], 0
        places = first + np.arange(factor.size).reshape(factor.n_levels, factor.n_effects)
        for share in factor.shares:
            slots = places[:, start : start + share.blocks.shape[1]]
            (*others, effect) = share.effects
            if effect in found:
                assert not others
                found[effect][share.blocks] = slots
            start += share.blocks.shape[1]
        first += factor.size
    for own in found.values():
        unused = np.flatnonzero(own < 0)
        own[unused] = first + np.arange(len(unused))
        first += len(unused)
    return found, first
