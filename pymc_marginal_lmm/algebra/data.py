"""What data contribute to the density: crossproducts about a reference point, and weights.

Written once for numbers and symbols: what is known when the log density is built is computed
then. If the design and ``r = y − b`` are numbers and ``σ`` is one number, that is everything, and
the gradient is free of ``n``. Else parameters enter the offset, the design, or the weights of the
rows, and the sums over rows are part of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable
from scipy.sparse import diags_array
from scipy.sparse.linalg import lsqr

from pymc_marginal_lmm.algebra.crossproducts import (
    CrossProducts,
    crossproducts,
    design_matrix,
    is_numeric,
    level_sums,
)
from pymc_marginal_lmm.structure import Array, MixedModel
from pymc_marginal_lmm.values import Values

__all__ = ["DataTerms", "as_float", "data_terms", "is_free_of_rows"]


DAMP = 1e-4
"""Keeps nearly collinear columns (a Gaussian process' basis) from taking huge coefficients that
cancel; passes after the first one remove what it leaves in all others."""


@dataclass(frozen=True)
class DataTerms:
    """Symbols of :mod:`pymc_marginal_lmm.ops.evidence`; lists are per factor, ``(M, S)``.

    Parameters
    ----------
    w : Variable, ()
        Common weight.
    A : CrossProducts
        ``ZᵀWZ``, without ``w``.
    c, s : list of Variable, Variable
        ``ZᵀWr0`` and ``r0ᵀWr0`` with ``r0 = r − Z v0``.
    v0 : list of Variable
        Reference point.
    full : list of Variable
        ``ZᵀWr``.
    log_weights : Variable
        Sum of the logarithms of all weights, ``w`` included.
    constant_design : bool
        ``A`` holds no parameters.
    """

    w: Variable
    A: CrossProducts
    c: list[Variable]
    s: Variable
    v0: list[Variable]
    full: list[Variable]
    log_weights: Variable
    constant_design: bool


def as_float(array: Array) -> Variable:
    """Return numbers or a symbol as a PyTensor variable of dtype floatX."""
    if isinstance(array, np.ndarray | np.number | float | int):
        return pt.constant(np.asarray(array, dtype=config.floatX))
    return pt.cast(array, config.floatX)


def _stacked(rows: Sequence[Array]) -> Array:
    if len(rows) == 1:
        return rows[0]
    return np.concatenate(rows) if is_numeric(*rows) else pt.concatenate(rows)


def _outcomes(model: MixedModel, ys: Sequence[Variable]) -> Array:
    """Return ``y`` (``log y``), one response below the other; numbers if it is constant."""
    rows: list[Array] = []
    for response, y in zip(model.responses, ys, strict=True):
        known = Values().constant(y)
        if known is not None:
            outcome = known.astype("float64").reshape(-1)
            if response.family == "lognormal":
                outcome = np.log(np.where(outcome > 0, outcome, 1.0))  # see log_density
            rows.append(outcome)
            continue
        symbol = pt.reshape(pt.cast(y, config.floatX), (response.size,))
        rows.append(pt.log(symbol) if response.family == "lognormal" else symbol)
    return _stacked(rows)


def _offsets(model: MixedModel) -> Array:
    """Return ``b``, one response below the other; numbers if it is constant."""
    rows: list[Array] = []
    for response in model.responses:
        known = Values().constant(response.offset)
        if known is not None:
            full = np.broadcast_to(known.astype("float64"), response.shape)
            rows.append(full.reshape(-1))
            continue
        full = pt.broadcast_to(pt.cast(response.offset, config.floatX), response.shape)
        rows.append(pt.reshape(full, (response.size,)))
    return _stacked(rows)


def _difference(left: Array, right: Array) -> Array:
    if is_numeric(left, right):
        return left - right
    return as_float(left) - as_float(right)


def _common_sigma(model: MixedModel) -> Variable | None:
    """Return the residual standard deviation if it is one number for all rows."""
    first = model.responses[0].sigma
    if any(response.sigma is not first for response in model.responses):
        return None
    if not all(length == 1 for length in first.type.shape):
        return None
    return pt.reshape(pt.cast(first, config.floatX), ())


def _row_weights(model: MixedModel) -> Variable:
    weights = []
    for response in model.responses:
        sigma = pt.cast(response.sigma, config.floatX)
        full = pt.broadcast_to(sigma**-2, response.shape)
        weights.append(pt.reshape(full, (response.size,)))
    return weights[0] if len(weights) == 1 else pt.concatenate(weights)


def _reference_point(model: MixedModel, outcomes: Array, r: Array) -> np.ndarray:
    """Choose ``v0`` near a least-squares solution, so that ``r0 = r − Z v0`` is a residual.

    Then no sum holds large numbers that would cancel later, however large ``y`` is (a mean of 1e8
    standard deviations) or effects are against ``σ``. Where ``r`` is not known, ``y`` without its
    mean serves: parameters then shift ``r0`` by the offset only.
    """
    size = sum(factor.size for factor in model.factors)
    target = r if is_numeric(r) else outcomes
    if not is_numeric(target, *(factor.coefficients for factor in model.factors)):
        return np.zeros(size)
    target = np.asarray(target) if target is r else np.asarray(target) - np.mean(target)
    Z = design_matrix(model)
    v0 = np.zeros(size)
    # Fixed effects alone come first: a common mean must not be spread over effects that could
    # carry it as well. The last pass removes what rounding left in the one before.
    norms = np.sqrt(np.asarray(Z.multiply(Z).sum(axis=0))).ravel()
    norms[norms == 0] = 1.0
    scaled = Z @ diags_array(1 / norms)
    fixed = np.concatenate([np.full(f.size, f.n_levels == 1) for f in model.factors])
    for columns in (fixed, ~fixed | fixed, ~fixed | fixed):
        if columns.any():
            residual = target - Z @ v0
            step = lsqr(
                scaled[:, columns], residual, damp=DAMP, atol=1e-10, btol=1e-10, iter_lim=50
            )
            v0[columns] += step[0] / norms[columns]
    return v0.astype(config.floatX).astype("float64")  # r0 must belong to the v0 that is used


def _by_factor(model: MixedModel, flat: np.ndarray) -> list[Variable]:
    ends = np.cumsum([factor.size for factor in model.factors])
    parts = np.split(flat, ends[:-1])
    shapes = [(factor.n_levels, factor.n_effects) for factor in model.factors]
    return [as_float(part.reshape(shape)) for part, shape in zip(parts, shapes, strict=True)]


def data_terms(model: MixedModel, ys: Sequence[Variable]) -> DataTerms:
    """Return the contribution of the data; see the module.

    Parameters
    ----------
    model : MixedModel
    ys : sequence of Variable
        Value of each response.
    """
    outcomes, sigma = _outcomes(model, ys), _common_sigma(model)
    r = _difference(outcomes, _offsets(model))
    v0 = _reference_point(model, outcomes, r)
    r0 = _difference(r, design_matrix(model) @ v0) if v0.any() else r
    if sigma is not None:
        w, row_weights = sigma**-2, None
        log_weights = model.n_rows * pt.log(w)
        weighted, weighted0 = r, r0
    else:
        w, row_weights = pt.constant(np.ones((), dtype=config.floatX)), _row_weights(model)
        log_weights = pt.log(row_weights).sum()
        weighted, weighted0 = row_weights * as_float(r), row_weights * as_float(r0)
    own, right, dense = crossproducts(model, row_weights)
    A = CrossProducts(tuple(map(as_float, own)), tuple(map(as_float, right)), as_float(dense))
    return DataTerms(
        w=w,
        A=A,
        c=[as_float(sums) for sums in level_sums(model, weighted0)],
        s=as_float((weighted0 * r0).sum()),
        v0=_by_factor(model, v0),
        full=[as_float(sums) for sums in level_sums(model, weighted)],
        log_weights=log_weights,
        constant_design=row_weights is None and _design_is_known(model),
    )


def _design_is_known(model: MixedModel) -> bool:
    return is_numeric(*(factor.coefficients for factor in model.factors))


def is_free_of_rows(model: MixedModel, ys: Sequence[Variable]) -> bool:
    """Whether the work of a gradient does not depend on the number of rows."""
    known = is_numeric(_outcomes(model, ys), _offsets(model))
    return known and _design_is_known(model) and _common_sigma(model) is not None
