"""``ZᵀWZ`` and ``ZᵀWr``, by level.

Everything is written once for numbers (NumPy, at transform time) and for symbols (PyTensor, in
the gradient); which one it is follows from the arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytensor.tensor as pt
from scipy import sparse

from pymc_marginal_lmm.algebra.weights import Weights, as_float, is_numeric
from pymc_marginal_lmm.pattern import Pattern
from pymc_marginal_lmm.structure import (
    Array,
    Band,
    GroupingFactor,
    MixedModel,
    row_coordinates,
)

__all__ = [
    "BandBlocks",
    "Blocks",
    "crossproducts",
    "design_matrix",
    "level_sums",
]

AT_ONCE = 256
"""From so many products of each row on, a matrix product takes less memory."""

MANY = 10_000_000
"""So many products are held at once."""


class BandBlocks(NamedTuple):
    """``A`` of the factors of a band: at its pairs, ``(N,)``, and with the others, ``(q, q2)``."""

    own: Array
    right: Array


class Blocks(NamedTuple):
    """A symmetric matrix over the effects, ``A`` or ``F``, in blocks.

    Parameters
    ----------
    own : sequence of array, (M, S, S)
        Diagonal blocks of each factor of the chain.
    right : sequence of array, (M, S, c)
        What the levels of each have in common with the levels they are in, factor by factor, and
        then with the dense block. Where the structure has a pattern, ``(S, N)`` at its entries.
    dense : array, (q, q)
        Of all other factors.
    band : BandBlocks or None
    """

    own: Sequence[Array]
    right: Sequence[Array]
    dense: Array
    band: BandBlocks | None = None


def _pair(one: GroupingFactor, other: GroupingFactor, w: Weights) -> Array:
    """Return ``Z_oneᵀ W Z_other`` as ``(M, S, M', S')``."""
    if other.n_levels > one.n_levels == 1:
        return _pair(other, one, w).transpose(2, 3, 0, 1)
    n_pairs = one.n_levels * other.n_levels
    left, right = w.of_left(one.coefficients), w.of_right(other.coefficients)
    single = n_pairs == one.n_memberships == other.n_memberships == 1
    if single and not is_numeric(left, right) and one.n_effects * other.n_effects > AT_ONCE:
        product = w.times(as_float(left)[:, 0]).T @ as_float(right)[:, 0]
        return product[None, :, None, :]
    # All pairs of memberships of a row at once.
    codes = w.of_left(one.codes)[:, :, None].astype("int64") * other.n_levels
    codes = codes + w.of_right(other.codes)[:, None, :]
    w = w.repeat(one.n_memberships * other.n_memberships)

    def sums(slots: slice, k: int) -> Array:
        products = left[:, :, None, slots, None] * right[:, None, :, None, :]
        rows = products.reshape((codes.size, k * other.n_effects))
        return w.sums(rows, codes.reshape(-1), n_pairs)

    shape = (one.n_levels, other.n_levels, one.n_effects, other.n_effects)
    return _by_slot(sums, one, left, right).reshape(shape).transpose(0, 2, 1, 3)


def _by_slot(
    sums: Callable[[slice, int], Array], one: GroupingFactor, left: Array, right: Array
) -> Array:
    """Sum products with all slots of a factor: at once, so that the graph is as large for many.

    Very many numbers slot by slot.
    """
    if not is_numeric(left, right) or left.size * right.shape[-1] <= MANY:
        return sums(slice(None), one.n_effects)
    parts = [sums(slice(s, s + 1), 1)[:, None, :] for s in range(one.n_effects)]
    return np.concatenate(parts, axis=1) if is_numeric(*parts) else pt.concatenate(parts, axis=1)


def _nested_blocks(one: GroupingFactor, other: GroupingFactor, w: Weights) -> Array:
    """Return ``(M, S, S')``: each level of one factor with the level of another that it is in."""
    left, right = w.of_left(one.coefficients)[:, 0, :], w.of_right(other.coefficients)[:, 0, :]
    codes = w.of_left(one.codes)[:, 0]

    def sums(slots: slice, k: int) -> Array:
        products = left[:, slots, None] * right[:, None, :]
        return w.sums(products.reshape((codes.size, k * other.n_effects)), codes, one.n_levels)

    shape = (one.n_levels, one.n_effects, other.n_effects)
    return _by_slot(sums, one, left, right).reshape(shape)


def _at_entries(
    pattern: Pattern, one: GroupingFactor, others: Sequence[GroupingFactor], w: Weights
) -> Array:
    """Return ``Z_oneᵀ W [Z_other, …]`` at the entries of a pattern, ``(S, N)``."""
    left, levels = w.of_left(one.coefficients)[:, 0, :], w.of_left(one.codes)[:, 0].astype("int64")
    sums: list[Array] = []
    for s in range(one.n_effects):
        total, start = None, 0
        for other in others:
            codes, right = w.of_right(other.codes), w.of_right(other.coefficients)
            for k, e in np.ndindex(other.n_memberships, other.n_effects):
                column = start + codes[:, k].astype("int64") * other.n_effects + e
                place, found = pattern.find(levels, column)
                products, weights = left[:, [s]] * right[:, k, [e]], w
                if not found.all():  # the others' codes mean nothing, and their coefficient is 0
                    rows = np.flatnonzero(found)
                    place, products, weights = place[rows], products[rows], w.take(rows)
                part = weights.sums(products, place, pattern.n_entries)[:, 0]
                total = part if total is None else total + part
            start += other.size
        sums.append(total)
    return np.stack(sums) if is_numeric(*sums) else pt.stack(sums)


def crossproducts(model: MixedModel, w: Weights) -> Blocks:
    """Return ``ZᵀWZ``."""
    trailing = [model.factors[i] for i in model.blocks.trailing]
    chain = [model.factors[i] for i in model.blocks.chain]
    numeric = is_numeric(*(factor.coefficients for factor in model.factors))
    xp = np if numeric and w.values is None else pt

    def pair(one: GroupingFactor, other: GroupingFactor) -> Array:
        return _pair(one, other, w).reshape((one.size, other.size))

    dense: Array = np.zeros((0, 0))
    if trailing:
        blocks: dict[tuple[int, int], Array] = {}
        for i, one in enumerate(trailing):
            for j in range(i, len(trailing)):
                blocks[i, j] = pair(one, trailing[j])
                blocks[j, i] = blocks[i, j].T
        span = range(len(trailing))
        dense = xp.concatenate(
            [xp.concatenate([blocks[i, j] for j in span], axis=1) for i in span], axis=0
        )
    right: list[Array] = []
    for i, one in enumerate(chain):
        if model.blocks.coupling is not None:
            right.append(_at_entries(model.blocks.coupling, one, trailing, w))
            continue
        shape = (one.n_levels, one.n_effects)
        parts = [_nested_blocks(one, above, w) for above in chain[i + 1 :]]
        parts += [pair(one, other).reshape((*shape, other.size)) for other in trailing]
        right.append(xp.concatenate(parts, axis=-1) if parts else np.zeros((*shape, 0)))
    own = tuple(_nested_blocks(one, one, w) for one in chain)
    return Blocks(own, tuple(right), dense, _band_blocks(model, model.blocks.band, w))


def _band_blocks(model: MixedModel, band: Band | None, w: Weights) -> BandBlocks | None:
    if band is None:
        return None
    trailing = [model.factors[i] for i in model.blocks.trailing]
    chosen = [model.factors[i] for i in band.factors]
    numeric = is_numeric(*(factor.coefficients for factor in model.factors))
    xp = np if numeric and w.values is None else pt
    unused = band.size - sum(factor.size for factor in chosen)
    right = [
        xp.concatenate([_pair(one, other, w).reshape((one.size, other.size)) for one in chosen])
        for other in trailing
    ]
    shape = (band.size - unused, 0)
    together = xp.concatenate(right, axis=1) if right else np.zeros(shape)
    if unused:
        none = np.zeros((unused, sum(other.size for other in trailing)))
        together = xp.concatenate([together, none])
    return BandBlocks(_at_pairs(model, band, w), together)


def _at_pairs(model: MixedModel, band: Band, w: Weights) -> Array:
    """Return ``ZᵀWZ`` at the pairs of a band."""
    terms = [
        (model.factors[i].coefficients[:, k, s], coordinates)
        for i, k, s, coordinates in row_coordinates(model.factors, band.factors)
    ]
    keys = band.rows * band.size + band.columns
    total: Array | None = None
    for a, (left, one) in enumerate(terms):
        for b, (right, other) in enumerate(terms[: a + 1]):
            sought = np.maximum(one, other) * band.size + np.minimum(one, other)
            place = np.minimum(np.searchsorted(keys, sought), len(keys) - 1)
            # Twice where two terms of a row are the same effect, which has one square.
            times = np.where((one == other) & (a != b), 2.0, 1.0)
            times[keys[place] != sought] = 0.0  # a coefficient is 0 there
            part = w.sums((left * right * times)[:, None], place, len(keys))[:, 0]
            total = part if total is None else total + part
    assert total is not None
    return total


def level_sums(model: MixedModel, rows: Array, w: Weights) -> list[Array]:
    """Return ``ZᵀW rows``, per factor ``(M S, k)``, for rows ``(n, k)``."""
    sums, k = [], rows.shape[1]
    rows = w.of_right(rows)
    for factor in model.factors:
        codes = w.of_left(factor.codes)
        products = w.of_left(factor.coefficients)[:, :, :, None] * rows[:, None, None, :]
        products = products.reshape((codes.size, factor.n_effects * k))
        repeated = w.repeat(factor.n_memberships)
        flat = repeated.sums(products, codes.reshape(-1), factor.n_levels)
        sums.append(flat.reshape((factor.size, k)))
    return sums


def design_matrix(model: MixedModel) -> sparse.csr_array:
    """Return a numeric ``Z`` as a sparse matrix; columns by factor, level and effect."""
    columns, entries, start = [], [], 0
    for factor in model.factors:
        first = start + factor.codes.astype("int64") * factor.n_effects
        columns.append((first[:, :, None] + np.arange(factor.n_effects)).reshape(model.n_rows, -1))
        entries.append(np.asarray(factor.coefficients).reshape(model.n_rows, -1))
        start += factor.size
    indices = np.concatenate(columns, axis=1)
    data = np.concatenate(entries, axis=1)
    indptr = np.arange(0, indices.size + 1, indices.shape[1])
    return sparse.csr_array((data.ravel(), indices.ravel(), indptr), shape=(model.n_rows, start))
