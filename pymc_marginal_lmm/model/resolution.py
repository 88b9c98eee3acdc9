"""How small an effect data can tell from zero, roughly: what the value scale of its sd needs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.structure import GroupingFactor, MixedModel
from pymc_marginal_lmm.values import NotKnown, Values

__all__ = ["resolution"]


def resolution(
    model: MixedModel,
    ys: Sequence[Variable],
    effects: Collection[int],
    factors: Collection[int] = (),
    width: int = 1,
) -> np.ndarray | None:
    """Return ``sd(y) / √(Σ z²)``, with the sum over the rows of a level of usual size.

    For an effect with few neighbours ``F = 1 + τ² Σz²/σ²``: below this value of ``τ`` data hardly
    know of the effect, and far above it the density depends on ``log τ`` as it does anywhere else.

    Parameters
    ----------
    model : MixedModel
    ys : sequence of Variable
        Value of each response.
    effects, factors : collection of int
        Which to take; the smallest counts.
    width : int
        Of the blocks that the effects come in (intercept, slope, …).

    Returns
    -------
    array, (width,), or None
        For each place in a block; None where data or design are not known as numbers.
    """
    spread = _spread(model, ys)
    if spread is None:
        return None
    sums: list[float] = []
    for i, factor in enumerate(model.factors):
        if not isinstance(factor.coefficients, np.ndarray):
            continue
        columns = range(factor.n_effects) if i in factors else _columns(model, factor, effects)
        sums += [_per_level(factor, column) for column in columns]
    if len(sums) % width or not sums:
        return None
    largest = np.reshape(sums, (-1, width)).max(axis=0)
    return spread / np.sqrt(largest) if (largest > 0).all() else None


def _spread(model: MixedModel, ys: Sequence[Variable]) -> float | None:
    """Pool the standard deviations of the responses, ``log y`` for a LogNormal."""
    squares, n = 0.0, 0
    for response, y in zip(model.responses, ys, strict=True):
        try:
            outcome = Values().structure(y).astype("float64").ravel()
        except NotKnown:
            return None
        if response.family == "lognormal":
            outcome = np.log(outcome[outcome > 0])
        squares += outcome.size * float(np.var(outcome)) if outcome.size else 0.0
        n += outcome.size
    return float(np.sqrt(squares / n)) if squares > 0 else None


def _columns(model: MixedModel, factor: GroupingFactor, effects: Collection[int]) -> list[int]:
    return [
        column
        for share, places in model.columns(factor)
        if not set(share.effects).isdisjoint(effects)
        for column in range(places.start, places.stop)
    ]


def _per_level(factor: GroupingFactor, column: int) -> float:
    """Return the mean of ``Σ z²`` over the levels that have any."""
    assert isinstance(factor.coefficients, np.ndarray)
    squares = factor.coefficients[:, :, column] ** 2
    sums = np.bincount(factor.codes.ravel(), weights=squares.ravel(), minlength=factor.n_levels)
    return float(sums[sums > 0].mean()) if (sums > 0).any() else 0.0
