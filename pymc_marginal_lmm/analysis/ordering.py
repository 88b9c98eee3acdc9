"""Choose the order of elimination from what levels touch, and say what it costs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.analysis.band import find_band
from pymc_marginal_lmm.pattern import Pattern
from pymc_marginal_lmm.structure import (
    BlockStructure,
    GroupingFactor,
    MixedModel,
    RandomEffects,
)

__all__ = [
    "block_structure",
    "cost",
    "longest_chain",
    "operations_and_entries",
    "parents_of",
    "present",
    "with_band",
]

BYTES = 8

WORTH_A_CHAIN = 5e5
"""Operations of a dense elimination from which on the nodes of a nested one, some more, pay."""

WORTH_A_PATTERN = 1e6
"""Multiplications with a dense coupling from which on a sparse one can pay."""

SCATTERED = 32
"""How many multiplications of a matrix product one with indices, of sparse couplings, costs."""

PAIRS_PER_ENTRY = 8
"""JAX holds a list of all pairs: how many there may be for each entry of a dense coupling."""


def block_structure(
    factors: Sequence[GroupingFactor],
    coupled: Collection[int] = (),
    effects: Sequence[RandomEffects] = (),
) -> BlockStructure | None:
    """Choose the order of least work, or None: priors with a precision are better dense.

    A dense prior is one of all its elements, whether data see them or not.

    Parameters
    ----------
    factors : sequence of GroupingFactor
    coupled : collection of int
        Those whose levels are coupled by more than the rows they share.
    effects : sequence of RandomEffects
        What ``factors`` refer to.
    """
    by_prior = [i for i, factor in enumerate(factors) if factor.coupled]
    without_band = _without_band(factors, {*coupled, *by_prior})
    if not by_prior:
        return without_band
    banded = with_band(factors, effects)
    if banded is None:
        return None
    work, dense = (operations_and_entries(factors, b)[0] for b in (banded, without_band))
    series = [effect for effect in effects if effect.precision is not None]
    dense = max(dense, sum(2 * effect.size * effect.shape[-1] ** 2 for effect in series))
    return banded if work < dense else None


def with_band(
    factors: Sequence[GroupingFactor], effects: Sequence[RandomEffects]
) -> BlockStructure | None:
    """Put all factors first whose levels the prior couples, and others with them where that pays.

    None if rows of data have too many of their effects.
    """
    coupled = [i for i, factor in enumerate(factors) if factor.coupled]
    others = [i for i in range(len(factors)) if _has_scalar_effects(factors[i], effects)]
    best, least = None, float("inf")
    chosen: list[int] = []
    for more in (coupled, *([i] for i in sorted(others, key=lambda i: -factors[i].size))):
        band = find_band(factors, effects, [*chosen, *more])
        if band is None:
            continue
        blocks = replace(_with_rest(factors, [*chosen, *more], ()), chain=(), band=band)
        work = operations_and_entries(factors, blocks)[0]
        if work < least:
            best, least, chosen = blocks, work, [*chosen, *more]
    return best


def _has_scalar_effects(factor: GroupingFactor, effects: Sequence[RandomEffects]) -> bool:
    """Whether effects of a factor can go into a band: independent ones with a proper prior."""
    first = [effects[share.effects[0]] for share in factor.shares]
    loadings = factor.loadings
    return (
        not factor.coupled
        and not factor.padding
        and all(effect.width == 1 and not effect.flat for effect in first)
        and all((share.blocks >= 0).all() for share in factor.shares)
        and (loadings is None or np.array_equal(loadings.rows, loadings.columns))
    )


def _without_band(factors: Sequence[GroupingFactor], coupled: Collection[int]) -> BlockStructure:
    """Choose the order of least work; a chain of several factors only where it pays clearly."""
    starts = _starts(factors, coupled)
    alone = [_sparse(factors, _with_rest(factors, (i,), ())) for i in starts]
    alone = alone or [_with_rest(factors, (), ())]
    short = min(alone, key=lambda blocks: operations_and_entries(factors, blocks)[0])
    work = operations_and_entries(factors, short)[0]
    if work < WORTH_A_CHAIN:
        return short
    chain = longest_chain(factors, coupled)
    return chain if operations_and_entries(factors, chain)[0] * 2 < work else short


def longest_chain(
    factors: Sequence[GroupingFactor], coupled: Collection[int] = ()
) -> BlockStructure:
    """Return the order of least work among those that go on while factors are nested."""
    starts = _starts(factors, coupled)
    chains = [_chain_from(factors, i, starts) for i in starts] or [_with_rest(factors, (), ())]
    return min(chains, key=lambda blocks: operations_and_entries(factors, blocks)[0])


def _starts(factors: Sequence[GroupingFactor], coupled: Collection[int]) -> list[int]:
    """Return the factors whose levels do not touch, those with most effects first."""
    eligible = [
        i
        for i, f in enumerate(factors)
        if f.n_memberships == 1 and f.n_levels > 1 and i not in coupled
    ]
    return sorted(eligible, key=lambda i: -factors[i].size)


def _chain_from(
    factors: Sequence[GroupingFactor], start: int, starts: Sequence[int]
) -> BlockStructure:
    chain, parents = [start], []
    for i in sorted(starts, key=lambda i: -factors[i].n_levels):
        found = None if i in chain else parents_of(factors[chain[-1]], factors[i])
        if found is not None:
            chain.append(i)
            parents.append(found)
    return _with_rest(factors, chain, parents)


def _with_rest(
    factors: Sequence[GroupingFactor], chain: Sequence[int], parents: Sequence[np.ndarray]
) -> BlockStructure:
    rest = [i for i in range(len(factors)) if i not in chain]
    trailing = sorted(rest, key=lambda i: factors[i].n_levels == 1)
    return BlockStructure(tuple(chain), tuple(parents), tuple(trailing))


def _sparse(factors: Sequence[GroupingFactor], blocks: BlockStructure) -> BlockStructure:
    """Leave out of the coupling what no row of data fills, where that saves work and memory."""
    leading, trailing = factors[blocks.chain[0]], [factors[i] for i in blocks.trailing]
    q = sum(factor.size for factor in trailing)
    if not trailing or leading.size * q**2 < WORTH_A_PATTERN:
        return blocks
    pattern = _coupling(leading, trailing)
    pairs, entries = _pairs(pattern), leading.n_levels * q
    if SCATTERED * pairs > entries * q or pairs > PAIRS_PER_ENTRY * entries:
        return blocks
    return replace(blocks, coupling=pattern)


def _coupling(leading: GroupingFactor, trailing: Sequence[GroupingFactor]) -> Pattern:
    """Return the columns of the dense block that rows of data share with each leading level."""
    rows, columns, start = [], [], 0
    here = present(leading)
    for factor in trailing:
        for k in range(factor.n_memberships):
            there = here & present(factor, k)
            shape = (leading.n_levels, factor.n_levels)
            met = Pattern.of(leading.codes[there, 0], factor.codes[there, k], shape)
            first = start + met.columns.astype("int64") * factor.n_effects
            rows.append(np.repeat(met.rows, factor.n_effects))
            columns.append((first[:, None] + np.arange(factor.n_effects)).reshape(-1))
        start += factor.size
    shape = (leading.n_levels, start)
    return Pattern.of(np.concatenate(rows), np.concatenate(columns), shape)


def _pairs(pattern: Pattern) -> int:
    """Return the number of pairs of columns that share a level, each counted twice."""
    return int((np.diff(pattern.starts).astype("int64") ** 2).sum())


def parents_of(child: GroupingFactor, parent: GroupingFactor) -> np.ndarray | None:
    """Return the level of ``parent`` that each level of ``child`` is in; None: not nested."""
    together = present(child) & present(parent)
    levels, above = child.codes[together, 0], parent.codes[together, 0]
    found = np.zeros(child.n_levels, dtype="int64")
    found[levels] = above
    return found if (found[levels] == above).all() else None


def present(factor: GroupingFactor, membership: int = 0) -> np.ndarray:
    """Rows in which effects of the factor can be (codes of other rows mean nothing)."""
    if isinstance(factor.coefficients, np.ndarray):
        return factor.coefficients[:, membership].any(axis=1)
    return np.ones(len(factor.codes), dtype=bool)


def operations_and_entries(
    factors: Sequence[GroupingFactor], blocks: BlockStructure
) -> tuple[int, int]:
    """Estimate the work and the memory of one gradient, without sums over rows.

    Returns
    -------
    operations : int
        Of Cholesky factor, Schur complement and selected inverse.
    entries : int
        Floating point numbers held.
    """
    q = sum(factors[i].size for i in blocks.trailing)
    operations, entries = 2 * q**3, 4 * q**2
    if (band := blocks.band) is not None:
        m, B, size = band.order.n_blocks, band.order.width, band.size
        operations += 30 * m * B**3 + 12 * size * B * (q + 1) + 4 * size * q**2
        return operations, entries + 10 * m * B**2 + 4 * size * (q + 1)
    if blocks.coupling is not None:
        M, S = factors[blocks.chain[0]].n_levels, factors[blocks.chain[0]].n_effects
        operations += 2 * M * S**3 + 4 * S * _pairs(blocks.coupling)
        return operations, entries + 4 * M * S**2 + 2 * S * blocks.coupling.n_entries
    above = 0
    for i in reversed(blocks.chain):
        M, S = factors[i].n_levels, factors[i].n_effects
        operations += 2 * M * S**3 + 4 * M * S * (q**2 + above * (above + q))
        entries += 4 * M * S * (S + above + q)
        above += S
    return operations, entries


def cost(model: MixedModel, free_of_rows: bool) -> tuple[int, int]:
    """Estimate the floating point operations and the bytes of one gradient."""
    operations, entries = operations_and_entries(model.factors, model.blocks)
    memory = BYTES * entries
    width = sum(factor.n_memberships * factor.n_effects for factor in model.factors)
    if not free_of_rows:
        operations += 4 * model.n_rows * width
        memory += BYTES * model.n_rows * (width + 4)
    for response in model.responses:
        if response.correlation is not None and isinstance(response.correlation.matrix, Variable):
            n_matrices = int(np.prod(response.correlation.matrix.type.shape[:-2], dtype=int))
            operations += (
                n_matrices * response.batch_length**3
            )  # a Cholesky factor and its pullback
            memory += 4 * BYTES * n_matrices * response.batch_length**2
            if response.whitened:
                q = sum(model.factors[i].size for i in model.blocks.trailing)
                operations += 4 * response.size * (q + 1) * (response.batch_length + q)
                memory += 2 * BYTES * response.size * (q + 1)
    return operations, memory
