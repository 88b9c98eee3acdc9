r"""What data contribute to the density: crossproducts about a reference point, and weights.

**Sums taken once.** Where the responses and the design are numbers, the offset is
``b = b0 + X φ`` with few parameters ``φ``, and ``σ`` is one parameter per stratum ``k`` times known
numbers (weights ``ω = 1/numbers²``), all sums over rows are taken when the log density is built.
About ``r0 = y − b0 − Z v0 − X φ0`` and with ``η = φ − φ0``, ``w_k = 1/σ_k²``::

    A = Σ_k w_k ZᵀΩ_kZ        c = Σ_k w_k (ZᵀΩ_k r0 − ZᵀΩ_kX η)
    s = Σ_k w_k (r0ᵀΩ_k r0 − 2 ηᵀXᵀΩ_k r0 + ηᵀXᵀΩ_kX η)

and the gradient is free of ``n``. One stratum keeps ``w`` outside, so that ``A`` is a number.

**Sums row by row.** Else parameters enter the offset, the design, or the weights in ways that
touch every row, or data can still be changed; the same sums are part of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable
from scipy import sparse

from pymc_marginal_lmm.algebra.crossproducts import (
    Blocks,
    crossproducts,
    design_matrix,
    is_numeric,
    level_sums,
)
from pymc_marginal_lmm.algebra.reference import reference_point
from pymc_marginal_lmm.structure import Array, MixedModel, Noise, Regression
from pymc_marginal_lmm.values import Values

__all__ = ["DataTerms", "as_float", "data_terms", "is_free_of_rows"]


@dataclass(frozen=True)
class DataTerms:
    """Symbols of :mod:`pymc_marginal_lmm.ops.evidence`; lists are per factor, ``(M, S)``.

    Parameters
    ----------
    w : Variable, ()
        Common weight.
    A : Blocks
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
    A: Blocks
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


def data_terms(model: MixedModel, ys: Sequence[Variable]) -> DataTerms:
    """Return the contribution of the data; see the module.

    Parameters
    ----------
    model : MixedModel
    ys : sequence of Variable
        Value of each response.
    """
    outcomes = _outcomes(model, ys)
    if is_free_of_rows(model, ys):
        assert model.regression is not None and model.noise is not None
        return _taken_once(model, np.asarray(outcomes), model.regression, model.noise)
    return _row_by_row(model, outcomes)


def is_free_of_rows(model: MixedModel, ys: Sequence[Variable]) -> bool:
    """Whether the work of a gradient does not depend on the number of rows."""
    known = all(Values().constant(y) is not None for y in ys)
    read = model.regression is not None and model.noise is not None
    return known and read and _design_is_known(model)


def _design_is_known(model: MixedModel) -> bool:
    return is_numeric(*(factor.coefficients for factor in model.factors))


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


def _fixed(model: MixedModel) -> np.ndarray:
    return np.concatenate([np.full(f.size, f.n_levels == 1) for f in model.factors])


def _by_factor(model: MixedModel, flat: np.ndarray) -> list[Variable]:
    ends = np.cumsum([factor.size for factor in model.factors])
    parts = np.split(flat, ends[:-1])
    shapes = [(factor.n_levels, factor.n_effects) for factor in model.factors]
    return [as_float(part.reshape(shape)) for part, shape in zip(parts, shapes, strict=True)]


# --- Sums taken once ------------------------------------------------------------------------------


def _taken_once(
    model: MixedModel, outcomes: np.ndarray, regression: Regression, noise: Noise
) -> DataTerms:
    Z, X = design_matrix(model), regression.design
    both = sparse.hstack([Z, X], format="csr")
    fixed = np.concatenate([_fixed(model), np.ones(X.shape[1], dtype=bool)])
    r = outcomes - regression.constant
    start = reference_point(both, r, fixed)
    v0, phi0 = start[: Z.shape[1]], start[Z.shape[1] :]
    r0 = r - both @ start
    eta = regression.coefficients - as_float(phi0)

    n_strata = int(noise.sigma.type.shape[0])
    weights = [noise.numbers**-2.0 * (noise.strata == k) for k in range(n_strata)]
    w = noise.sigma**-2

    def over_strata(sums: Callable[[np.ndarray], np.ndarray]) -> Variable:
        """Weigh sums over the rows of each stratum, ``w`` outside if there is but one."""
        return _weighted(w, [sums(weight) for weight in weights])

    c = over_strata(lambda weight: Z.T @ (weight * r0))
    r_without_X = r0 + Z @ v0
    full = over_strata(lambda weight: Z.T @ (weight * r_without_X))
    s = over_strata(lambda weight: weight @ r0**2)
    if X.shape[1]:
        shift = over_strata(lambda weight: (Z.T @ (X * weight[:, None])).toarray()) @ eta
        c, full = c - shift, full - shift
        d = over_strata(lambda weight: X.T @ (weight * r0))
        G = over_strata(lambda weight: (X.T @ (X * weight[:, None])).toarray())
        s = s - 2 * d @ eta + eta @ (G @ eta)
    counts = np.bincount(noise.strata, minlength=n_strata)
    log_weights = (as_float(counts) * pt.log(w)).sum() - 2 * float(np.log(noise.numbers).sum())
    once = n_strata == 1
    common = (noise.numbers == 1).all()
    A = [crossproducts(model, None if once and common else weight) for weight in weights]
    return DataTerms(
        w=w[0] if once else as_float(1.0),
        A=Blocks(
            own=tuple(_weighted(w, [part.own[i] for part in A]) for i in range(len(A[0].own))),
            right=tuple(_weighted(w, [part.right[i] for part in A]) for i in range(len(A[0].own))),
            dense=_weighted(w, [part.dense for part in A]),
        ),
        c=_cut(model, c),
        s=s,
        v0=_by_factor(model, v0),
        full=_cut(model, full),
        log_weights=log_weights,
        constant_design=once,
    )


def _weighted(w: Variable, parts: Sequence[Array]) -> Variable:
    if len(parts) == 1:
        return as_float(parts[0])
    return sum(w[k] * as_float(part) for k, part in enumerate(parts))


def _cut(model: MixedModel, flat: Variable) -> list[Variable]:
    """Cut ``(q,)`` into ``(M, S)`` per factor."""
    parts, start = [], 0
    for factor in model.factors:
        part = flat[start : start + factor.size]
        parts.append(pt.reshape(part, (factor.n_levels, factor.n_effects)))
        start += factor.size
    return parts


# --- Sums row by row ------------------------------------------------------------------------------


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


def _row_weights(model: MixedModel) -> Variable:
    weights = []
    for response in model.responses:
        sigma = pt.cast(response.sigma, config.floatX)
        full = pt.broadcast_to(sigma**-2, response.shape)
        weights.append(pt.reshape(full, (response.size,)))
    return weights[0] if len(weights) == 1 else pt.concatenate(weights)


def _start(model: MixedModel, outcomes: Array, r: Array) -> np.ndarray:
    """Choose ``v0``; where ``r`` is not known, ``y`` without its mean serves.

    Parameters then shift ``r0`` by the offset only.
    """
    target = r if is_numeric(r) else outcomes
    if not is_numeric(target) or not _design_is_known(model):
        return np.zeros(sum(factor.size for factor in model.factors))
    target = np.asarray(target) if target is r else np.asarray(target) - np.mean(target)
    return reference_point(design_matrix(model), target, _fixed(model))


def _row_by_row(model: MixedModel, outcomes: Array) -> DataTerms:
    r = _difference(outcomes, _offsets(model))
    v0 = _start(model, outcomes, r)
    r0 = _difference(r, design_matrix(model) @ v0) if v0.any() else r
    noise = model.noise
    if noise is not None and noise.sigma.type.shape[0] == 1 and (noise.numbers == 1).all():
        w, row_weights = noise.sigma[0] ** -2, None
        log_weights = model.n_rows * pt.log(w)
        weighted, weighted0 = r, r0
    else:
        w, row_weights = as_float(1.0), _row_weights(model)
        log_weights = pt.log(row_weights).sum()
        weighted, weighted0 = row_weights * as_float(r), row_weights * as_float(r0)
    own, right, dense = crossproducts(model, row_weights)
    return DataTerms(
        w=w,
        A=Blocks(tuple(map(as_float, own)), tuple(map(as_float, right)), as_float(dense)),
        c=[as_float(sums) for sums in level_sums(model, weighted0)],
        s=as_float((weighted0 * r0).sum()),
        v0=_by_factor(model, v0),
        full=[as_float(sums) for sums in level_sums(model, weighted)],
        log_weights=log_weights,
        constant_design=row_weights is None and _design_is_known(model),
    )
