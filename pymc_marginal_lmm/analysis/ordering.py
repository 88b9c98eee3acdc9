"""Choose the order of elimination from what levels touch, and say what it costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pymc_marginal_lmm.structure import BlockStructure, GroupingFactor, MixedModel

__all__ = ["block_structure", "cost", "longest_chain", "operations_and_entries", "parents_of"]

BYTES = 8

WORTH_A_CHAIN = 3e7
"""Operations of a dense elimination from which on a nested one, less tightly coded, pays."""


def block_structure(factors: Sequence[GroupingFactor]) -> BlockStructure:
    """Choose the order of least work; a chain of several factors only where it pays clearly."""
    starts = _starts(factors)
    alone = [_with_rest(factors, (i,), ()) for i in starts] or [_with_rest(factors, (), ())]
    short = min(alone, key=lambda blocks: operations_and_entries(factors, blocks)[0])
    work = operations_and_entries(factors, short)[0]
    if work < WORTH_A_CHAIN:
        return short
    chain = longest_chain(factors)
    return chain if operations_and_entries(factors, chain)[0] * 4 < work else short


def longest_chain(factors: Sequence[GroupingFactor]) -> BlockStructure:
    """Return the order of least work among those that go on while factors are nested."""
    chains = [_chain_from(factors, i) for i in _starts(factors)] or [_with_rest(factors, (), ())]
    return min(chains, key=lambda blocks: operations_and_entries(factors, blocks)[0])


def _starts(factors: Sequence[GroupingFactor]) -> list[int]:
    """Return the factors whose levels do not touch, those with most effects first."""
    eligible = [i for i, f in enumerate(factors) if f.n_memberships == 1 and f.n_levels > 1]
    return sorted(eligible, key=lambda i: -factors[i].size)


def _chain_from(factors: Sequence[GroupingFactor], start: int) -> BlockStructure:
    chain, parents = [start], []
    for i in sorted(_starts(factors), key=lambda i: -factors[i].n_levels):
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


def parents_of(child: GroupingFactor, parent: GroupingFactor) -> np.ndarray | None:
    """Return the level of ``parent`` that each level of ``child`` is in; None: not nested."""
    together = _present(child) & _present(parent)
    levels, above = child.codes[together, 0], parent.codes[together, 0]
    found = np.zeros(child.n_levels, dtype="int64")
    found[levels] = above
    return found if (found[levels] == above).all() else None


def _present(factor: GroupingFactor) -> np.ndarray:
    """Rows in which effects of the factor can be (codes of other rows mean nothing)."""
    if isinstance(factor.coefficients, np.ndarray):
        return factor.coefficients.any(axis=(1, 2))
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
    return operations, memory
