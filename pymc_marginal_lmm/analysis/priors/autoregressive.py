r"""Autoregressions by their precision, also those that explode.

In an autoregression of order ``p``, ::

    v_t = c + ρ_1 v_{t−1} + … + ρ_p v_{t−p} + σ ε_t            (t ≥ p)

the last ``T − p`` values are ``mean + σx + start z``. There are two forms of them.

- ``x`` is what comes of unit steps from zeros: ``(Bx)_t = ε_t``, where ``B`` has a one and then
  ``−ρ_1, …, −ρ_p`` in each row. The first ``p`` values are ``z`` times their standard deviations
  ``s``; ``start`` is what comes of these, and ``mean`` what comes of their means ``m`` and ``c``.
  Nothing divides by a standard deviation. But where the process explodes, ``start`` and ``x`` are
  large and cancel each other in all that data allow, with twice the digits of the growth.
- The first values are among the ``x``, as ``s x``, and ``start`` is 0: ``B`` has ``κ = s/σ`` times
  ``−ρ`` there. The mean is ``m`` and then ``c``, which leaves ``B x − h = ε``, with
  ``h_t = Σ_k ρ_k mean_{t−k} / σ``. Nothing grows, but what is left of large ``κ`` is the small
  difference of their squares.

Both have a ``P = I + BᵀB`` (ones for the first values) of the determinant 1. They are the same
distribution: at each point we take the second one where the process grows and ``κ`` is small
against that, and there is no density where the first one has to grow beyond :data:`MOST_GROWTH`,
or ``κ`` is beyond :data:`MOST_RATIO`. Nor is there where the process grows by that in steps at the
end that no data see: the elimination of ``x`` leaves the inverse of their variance, a difference
too. ``σ`` enters as ``|σ|``, so that scales can be folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.timeseries import AutoRegressiveRV
from pytensor.graph.basic import Variable
from pytensor.graph.op import Op

from pymc_marginal_lmm.analysis.priors.prior import GaussianPrior, read_sparse_prior
from pymc_marginal_lmm.analysis.priors.sparse import is_long, of_series
from pymc_marginal_lmm.analysis.priors.time_series import (
    component,
    element,
    growth,
    is_zero,
    padded,
)
from pymc_marginal_lmm.analysis.validity import all_hold, nonnegative
from pymc_marginal_lmm.structure import Array

__all__: list[str] = []

SHORT = 8
"""Steps in which hardly anything explodes: a dense block will do."""

SLOW = 10.0
"""Growth that costs no digits to speak of."""

MOST_GROWTH = {"float64": 1e3, "float32": 1e1}
"""In the first form, in which four times its digits can be lost."""

MOST_RATIO = {"float64": 1e5, "float32": 1e2}
"""Of ``κ`` in the second form, in which twice its digits are lost."""

WORSE = 30.0
"""How much larger than the growth ``κ`` may be before the second form is the worse one."""


class _Process(NamedTuple):
    """Series with the same lags: ``constant`` and ``sigma``, ``(G, 1)``; of starts, ``(G, p)``."""

    lags: list[Variable]
    constant: Variable
    sigma: Variable
    mean: Variable
    deviations: Variable


@read_sparse_prior.register(AutoRegressiveRV)
def _read_autoregressive(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior | None:
    rhos, sigma, init_dist, *_ = rv.owner.inputs
    (*batch, T), p, dtype = shape, op.ar_order, rv.type.dtype
    lags = [element(rhos, k + op.constant_term) for k in range(p)]
    if (
        2 * p >= T
        or not is_long(T, p, batch, SHORT)
        or any(set(lag.type.shape) - {1} for lag in lags)
    ):
        return None
    start = component(init_dist, "init_dist", (*batch, p))
    if start.support_ndim:
        return None

    def by_series(variable: Variable, n: int) -> Variable:
        full = pt.broadcast_to(padded(pt.cast(variable, dtype), len(shape)), (*batch, n))
        return pt.reshape(full, (-1, n))

    constant = element(rhos, 0) if op.constant_term else pt.constant(0.0, dtype=dtype)
    process = _Process(
        [pt.reshape(pt.cast(lag, dtype), ()) for lag in lags],
        by_series(constant[..., None], 1),
        by_series(pt.abs(sigma)[..., None], 1),
        by_series(start.mean, p),
        by_series(start.scale, p),
    )
    centred = is_zero(start.mean) and is_zero(constant)
    grown, ratio = growth(process.lags, T), _ratio(process)
    too_fast = pt.gt(grown, MOST_GROWTH[dtype])
    explodes = too_fast | (pt.gt(grown, SLOW) & pt.lt(ratio, WORSE * grown))
    unshifted, prior = (
        _by_precision(process, shape, explodes, centred) for explodes in (None, explodes)
    )
    bounded = ~too_fast, pt.where(explodes, pt.le(ratio, MOST_RATIO[dtype]), ~too_fast)
    unshifted, prior = (
        own._replace(valid=all_hold(start.valid, nonnegative(sigma), condition))
        for own, condition in zip((unshifted, prior), bounded, strict=True)
    )

    def unseen(n: int) -> Array:
        return pt.le(growth(process.lags, p + n), MOST_RATIO[dtype])

    return prior._replace(unshifted=unshifted._replace(unseen=unseen), unseen=unseen)


def _ratio(process: _Process) -> Variable:
    """Return the largest ``κ``, of means too."""
    sizes = [process.deviations, process.mean, process.constant]
    largest = [pt.abs(size).max() for size in sizes]
    return pt.maximum(pt.maximum(*largest[:2]), largest[2]) / process.sigma.min()


def _by_precision(
    process: _Process, shape: tuple[int, ...], explodes: Variable | None, centred: bool
) -> GaussianPrior:
    """Return the second form where the process explodes; None: nowhere."""
    T, (G, p) = shape[-1], process.mean.type.shape
    lags, deviations, dtype = process.lags, process.deviations, process.sigma.type.dtype
    zero, one = (pt.constant(number, dtype=dtype) for number in (0.0, 1.0))
    first, inverse, remembered = zero, zero, lags
    if explodes is not None:
        first = pt.where(explodes, deviations, zero)
        inverse = pt.where(explodes, one / pt.where(explodes, process.sigma, one), zero)
        deviations = pt.where(explodes, zero, deviations)
        remembered = [pt.where(explodes, zero, lag) for lag in lags]
    responses = _responses(remembered, T)
    rows, columns, values = _of_steps(lags, T)
    kappa = pt.concatenate(
        [pt.broadcast_to(first * inverse, (G, p)), pt.ones((G, T - p), dtype=dtype)], axis=1
    )
    starts = ((rows < p) & (rows == columns)).astype(dtype)
    of_entries = [kappa.T[pt.constant(places)].T for places in (rows, columns)]
    values = values * of_entries[0] * of_entries[1] + starts
    precision = of_series(rows, columns, values, responses[:, :p], deviations)
    parts = [pt.broadcast_to(first, (G, p)), pt.broadcast_to(process.sigma, (G, T - p))]
    scale = pt.reshape(pt.concatenate(parts, axis=1), shape)
    mean: Variable = pt.constant(0.0, dtype=dtype)
    if not centred:
        from_starts = pt.concatenate([process.mean, process.constant], axis=1)
        full = from_starts @ responses.T
        mean = pt.reshape(full, shape)
        if explodes is not None:
            shift, square = _shift(lags, full, inverse, kappa)
            precision = replace(precision, shift=shift, shift_square=square)
    return GaussianPrior(mean, scale, precision=precision)


def _shift(
    lags: Sequence[Variable], mean: Variable, inverse: Variable, kappa: Variable
) -> tuple[Variable, Array]:
    """Return ``Bᵀh`` of all series, ``(GT,)``, and ``hᵀh``."""
    (G, T), p = kappa.type.shape, len(lags)
    h = inverse * sum(rho * mean[:, p - k : T - k] for k, rho in enumerate(lags, start=1))
    none = pt.zeros((G, p), dtype=kappa.type.dtype)
    full = pt.concatenate([none, h, none], axis=1)
    before = full[:, :T] - sum(rho * full[:, k : T + k] for k, rho in enumerate(lags, start=1))
    return pt.reshape(kappa * before, (G * T,)), (h**2).sum()


def _responses(lags: Sequence[Variable], T: int) -> Variable:
    """Return what becomes of the first values and of ``c = 1``, ``(T, p + 1)``.

    ``(v_t, …, v_{t+p−1}, c)`` is a power of one matrix times where it starts; ``T`` rows of its
    powers are made by doubling.
    """
    p, dtype = len(lags), lags[0].type.dtype
    shift = pt.constant(np.eye(p + 1, k=1, dtype=dtype)[: p - 1])
    last = pt.stack([*reversed(lags), pt.constant(1.0, dtype=dtype)])
    constant = pt.constant(np.eye(1, p + 1, p, dtype=dtype))
    power = pt.concatenate([shift, last[None, :], constant])
    rows = pt.constant(np.eye(1, p + 1, dtype=dtype))
    while (length := rows.type.shape[0]) < T:
        rows = pt.concatenate([rows, rows @ power])
        if 2 * length < T:
            power = power @ power
    return rows[:T]


def _of_steps(lags: Sequence[Variable], T: int) -> tuple[np.ndarray, np.ndarray, Variable]:
    """Return ``BᵀB`` by its entries: with ``a = (1, −ρ)``, ``Σ_j a_j a_{j+d}`` at ``(t, t − d)``.

    The sum begins and ends where the steps do, from ``p`` to ``T − 1``.
    """
    p, dtype = len(lags), lags[0].type.dtype
    a = [pt.constant(1.0, dtype=dtype), *(-lag for lag in lags)]
    entries = [(t, t - d) for d in range(p + 1) for t in range(d, T)]
    rows, columns = np.array(entries).T
    # Not an index into a stack, which PyTensor would write out element by element.
    first, last = np.maximum(p - rows, 0), np.minimum(p - rows + columns, T - 1 - rows)
    values = sum(
        (
            a[j] * a[j + d] * ((rows - columns == d) & (first <= j) & (j <= last)).astype(dtype)
            for d in range(p + 1)
            for j in range(p + 1 - d)
        ),
        start=pt.zeros(len(rows), dtype=dtype),
    )
    return rows, columns, values
