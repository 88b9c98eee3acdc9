"""What correlated rows couple: levels that meet in a batch of rows, if not in a row.

``ZᵀWZ`` has a block wherever two rows of a batch do. Blocks that meet in batches are one level:
with ``u[group]`` of one column per outcome, each outcome of a group is a level of its own as far
as rows can tell, and its outcomes together are one, of as many effects, as far as batches can. A
factor whose batches each lie within one level stays block diagonal, as if the level were that of
all of the rows; others, and those of whitened rows, belong to the dense block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pymc_marginal_lmm.structure import GroupingFactor, Response

__all__ = ["batches_of_rows", "seen_by_batch"]


def batches_of_rows(responses: Sequence[Response]) -> np.ndarray | None:
    """Return the batch of each row; None if no rows are correlated, or all are to be whitened."""
    if not any(response.correlation and not response.whitened for response in responses):
        return None
    return _numbered(responses, [1 if r.whitened else max(r.batch_length, 1) for r in responses])[0]


def _numbered(responses: Sequence[Response], lengths: Sequence[int]) -> tuple[np.ndarray, int]:
    """Return the batch of each row, given the lengths of batches, and how many there are."""
    batches, first = [], 0
    for response, length in zip(responses, lengths, strict=True):
        batches.append(first + np.arange(response.size) // length)
        first += response.size // length
    return np.concatenate(batches), first


def seen_by_batch(
    factors: Sequence[GroupingFactor], responses: Sequence[Response]
) -> tuple[list[GroupingFactor], set[int]]:
    """Return factors with the levels that rows meet through their batches.

    Parameters
    ----------
    factors : sequence of GroupingFactor
    responses : sequence of Response
        Whose rows they have.

    Returns
    -------
    factors : list of GroupingFactor
        With codes and coefficients that say only which levels can be in a row.
    coupled : set of int
        Those whose levels meet in batches, or in rows that are whitened.
    """
    if all(response.correlation is None for response in responses):
        return list(factors), set()
    batch, n_batches = _numbered(responses, [max(r.batch_length, 1) for r in responses])
    is_whitened = np.concatenate([np.full(r.size, r.whitened) for r in responses])
    seen, coupled = [], set()
    for i, factor in enumerate(factors):
        spread = _spread(factor, batch, n_batches)
        present = _present(factor).any(axis=1)
        if spread is None or (present & is_whitened).any():
            coupled.add(i)
        seen.append(factor if spread is None else spread)
    return seen, coupled


def _present(factor: GroupingFactor) -> np.ndarray:
    """Say which memberships of a row can be there, ``(n, K)``."""
    if isinstance(factor.coefficients, np.ndarray):
        return factor.coefficients.any(axis=2)
    return np.ones(factor.codes.shape, dtype=bool)


def _spread(factor: GroupingFactor, batch: np.ndarray, n_batches: int) -> GroupingFactor | None:
    """Return a factor with the level of a batch in all of its rows; None: there are several."""
    if factor.n_memberships > 1:
        return None
    present = _present(factor)
    of, codes = np.broadcast_to(batch[:, None], present.shape)[present], factor.codes[present]
    level = np.full(n_batches, -1)
    level[of] = codes
    if (level[of] != codes).any():
        return None
    there = level[batch] >= 0
    return replace(
        factor,
        codes=np.maximum(level[batch], 0)[:, None].astype(factor.codes.dtype),
        coefficients=np.broadcast_to(
            there[:, None, None].astype(float), (len(batch), 1, factor.n_effects)
        ),
    )
