r"""What data contribute to the density: crossproducts about a reference point, and weights.

**Sums taken once.** Where the responses and the design are numbers, the offset is
``b = b0 + X φ`` with few parameters ``φ``, and ``σ`` is one parameter per stratum ``k`` times known
numbers (weights ``ω = 1/numbers²``), all sums over rows are taken when the log density is built.
About ``r0 = y − b0 − Z v0 − X φ0`` and with ``η = φ − φ0``, ``w_k = 1/σ_k²``::

    A = Σ_k w_k ZᵀΩ_kZ        c = Σ_k w_k (ZᵀΩ_k r0 − ZᵀΩ_kX η)
    s = Σ_k w_k (r0ᵀΩ_k r0 − 2 ηᵀXᵀΩ_k r0 + ηᵀXᵀΩ_kX η)

and the gradient is free of ``n``. One stratum keeps ``w`` outside, so that ``A`` is a number.

Correlated rows are pairs of rows with weights (:mod:`pymc_marginal_lmm.algebra.correlation`).

**Sums row by row.** Else parameters enter the offset, the design, or the weights in ways that
touch every row, or data can still be changed; the same sums are part of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable
from scipy import sparse

from pymc_marginal_lmm.algebra.correlation import Correlated, Sums, correlated
from pymc_marginal_lmm.algebra.crossproducts import (
    BandBlocks,
    Blocks,
    crossproducts,
    design_matrix,
    level_sums,
)
from pymc_marginal_lmm.algebra.orthonormal import orthonormalised
from pymc_marginal_lmm.algebra.reference import reference_point
from pymc_marginal_lmm.algebra.weights import Weights, as_float, is_numeric
from pymc_marginal_lmm.structure import Array, MixedModel, Noise, Regression
from pymc_marginal_lmm.values import Values

__all__ = [
    "DataTerms",
    "OrthonormalTerms",
    "data_terms",
    "is_free_of_rows",
    "weights_of_rows",
]

AT_ONCE = 16
"""So many columns of a sparse design are dense at a time."""


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
    log_weights : Variable
        Sum of the logarithms of all weights, ``w`` included.
    constant_design : bool
        ``A`` holds no parameters.
    orthonormal : OrthonormalTerms or None
        The same for an orthonormal design, where there is one.
    """

    w: Variable
    A: Blocks
    c: list[Variable]
    s: Variable
    v0: list[Variable]
    log_weights: Variable
    constant_design: bool
    orthonormal: OrthonormalTerms | None = None


class OrthonormalTerms(NamedTuple):
    """Symbols of :mod:`pymc_marginal_lmm.ops.orthonormal`."""

    root: Variable
    far: Variable
    g: Variable
    v: Variable
    dense: Variable
    dense_c: Variable


def data_terms(
    model: MixedModel, ys: Sequence[Variable], rows: Correlated | None = None
) -> DataTerms:
    """Return the contribution of the data; see the module.

    Parameters
    ----------
    model : MixedModel
    ys : sequence of Variable
        Value of each response.
    rows : Correlated, optional
        In place of the weights of the model.
    """
    outcomes = _outcomes(model, ys)
    if rows is None and _is_taken_once(model, ys):
        assert model.regression is not None and model.noise is not None
        return _taken_once(model, np.asarray(outcomes), model.regression, model.noise)
    return _row_by_row(model, outcomes, weights_of_rows(model) if rows is None else rows)


def weights_of_rows(model: MixedModel) -> Correlated:
    """Return the weights of a model's rows, or of their pairs."""
    return correlated(model, *_weights(model))


def is_free_of_rows(model: MixedModel, ys: Sequence[Variable]) -> bool:
    """Whether the work of a gradient does not depend on the number of rows."""
    whitened_anew = any(
        response.correlation is not None
        and response.whitened
        and isinstance(response.correlation.matrix, Variable)
        for response in model.responses
    )
    return _is_taken_once(model, ys) and not whitened_anew


def _is_taken_once(model: MixedModel, ys: Sequence[Variable]) -> bool:
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
    rows = correlated(model, *_by_stratum(noise))
    weights = rows.weights

    # r0 − Xη is a sum of columns, with 1 and −η
    columns = sparse.hstack([(r - both @ start)[:, None], X], format="csr")
    eta = regression.coefficients - as_float(phi0)
    factors = pt.concatenate([pt.ones(1, dtype=config.floatX), -eta]) if X.shape[1] else None

    def combined(table: Variable) -> Variable:
        return table[:, 0] if factors is None else table @ factors

    def products(model: MixedModel) -> list[Variable]:
        tables = _by_level(model, design_matrix(model), columns, weights)
        return [combined(table) for table in tables]

    G = _gram(columns, weights)
    s = G[0, 0] if factors is None else factors @ (G @ factors)
    sums = Sums(crossproducts(model, weights), products(model), s)
    data = _with_whitened(model, rows, sums, columns, factors, v0)
    return replace(data, orthonormal=_orthonormal(model, rows, v0, products))


def _orthonormal(
    model: MixedModel,
    rows: Correlated,
    v0: np.ndarray,
    products: Callable[[MixedModel], list[Variable]],
) -> OrthonormalTerms | None:
    """Return the terms of an orthonormal design; ``products`` returns ``ZᵀWr0`` of a model."""
    if rows.whitened or not _design_is_known(model):
        return None
    design = orthonormalised(model, rows.weights)
    if design is None:
        return None
    (leading,), (common,) = model.blocks.chain, model.blocks.trailing
    start = sum(factor.size for factor in model.factors[:leading])
    own = v0[start : start + model.factors[leading].size].reshape(design.root.shape[:2])
    of_r0 = _shaped(design.model, products(design.model))
    return OrthonormalTerms(
        root=as_float(design.root),
        far=as_float(design.far),
        g=of_r0[leading],
        v=as_float((design.root * own[:, :, None]).sum(axis=1)),
        dense=as_float(design.dense),
        dense_c=of_r0[common][0],
    )


def _with_whitened(
    model: MixedModel,
    rows: Correlated,
    sums: Sums,
    columns: Array | sparse.csr_array,
    factors: Variable | None,
    v0: np.ndarray,
) -> DataTerms:
    """Add rows that are whitened; see :meth:`Whitened.add_to`."""
    if rows.whitened and isinstance(columns, sparse.csr_array):
        columns = columns.toarray()
    for batches in rows.whitened:
        sums = batches.add_to(sums, model, columns, factors)
    return DataTerms(
        w=rows.w,
        A=_symbols(sums.A),
        c=_shaped(model, sums.c),
        s=sums.s,
        v0=_by_factor(model, v0),
        log_weights=rows.log_weights,
        constant_design=rows.known and _design_is_known(model),
    )


def _by_stratum(noise: Noise) -> tuple[Variable, Weights, Variable]:
    """Return the common weight, the weights without it, and the sum of the logarithms of both."""
    w = noise.sigma**-2
    n_strata = int(noise.sigma.type.shape[0])
    counts = np.bincount(noise.strata, minlength=n_strata)
    log_weights = (as_float(counts) * pt.log(w)).sum() - 2 * float(np.log(noise.numbers).sum())
    numbers = None if (noise.numbers == 1).all() else noise.numbers**-2.0
    if n_strata == 1:
        return w[0], Weights(numbers), log_weights
    return as_float(1.0), Weights(numbers, noise.strata, w), log_weights


def _by_level(
    model: MixedModel, Z: sparse.csr_array, columns: sparse.csr_array, weights: Weights
) -> list[Variable]:
    """Return ``ZᵀW columns``, per factor ``(M S, k)``."""
    if weights.values is None:
        left, right = weights.of_left(Z), weights.of_right(columns)
        sums = (left.T @ _times(weights.numbers, right)).toarray()
        ends = np.cumsum([factor.size for factor in model.factors])
        return [as_float(part) for part in np.split(sums, ends[:-1])]
    parts = [
        level_sums(model, columns[:, j : j + AT_ONCE].toarray(), weights)
        for j in range(0, columns.shape[1], AT_ONCE)
    ]
    return [pt.concatenate(same, axis=1) for same in zip(*parts, strict=True)]


def _gram(columns: sparse.csr_array, weights: Weights) -> Variable:
    """Return ``columnsᵀ W columns``."""
    left, right = weights.of_left(columns), weights.of_right(columns)
    if weights.values is None:
        return as_float((left.T @ _times(weights.numbers, right)).toarray())
    everything = np.zeros(left.shape[0], dtype=int)
    products = (left[:, [j]].multiply(right).toarray() for j in range(left.shape[1]))
    return pt.concatenate([weights.sums(rows, everything, 1) for rows in products])


def _times(numbers: np.ndarray | None, columns: sparse.csr_array) -> sparse.csr_array:
    return columns if numbers is None else columns.multiply(numbers[:, None]).tocsr()


def _symbols(A: Blocks) -> Blocks:
    band = A.band and BandBlocks(*map(as_float, A.band))
    own, right = (tuple(map(as_float, blocks)) for blocks in (A.own, A.right))
    return Blocks(own, right, as_float(A.dense), band)


def _shaped(model: MixedModel, sums: Sequence[Array]) -> list[Variable]:
    """Return sums over the rows of each level as ``(M, S)``, per factor."""
    return [
        pt.reshape(as_float(own), (factor.n_levels, factor.n_effects))
        for factor, own in zip(model.factors, sums, strict=True)
    ]


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


def _weights(model: MixedModel) -> tuple[Variable, Weights, Variable]:
    """Return what :func:`_by_stratum` does; each row may be a stratum of its own."""
    if model.noise is not None:
        return _by_stratum(model.noise)
    weights = []
    for response in model.responses:
        full = pt.broadcast_to(pt.cast(response.sigma, config.floatX) ** -2, response.shape)
        weights.append(pt.reshape(full, (response.size,)))
    w = weights[0] if len(weights) == 1 else pt.concatenate(weights)
    w = pt.specify_shape(w, (model.n_rows,))
    return as_float(1.0), Weights(None, np.arange(model.n_rows), w), pt.log(w).sum()


def _start(model: MixedModel, outcomes: Array, r: Array) -> np.ndarray:
    """Choose ``v0``; where ``r`` is not known, ``y`` without its mean serves.

    Parameters then shift ``r0`` by the offset only.
    """
    target = r if is_numeric(r) else outcomes
    if not is_numeric(target) or not _design_is_known(model):
        return np.zeros(sum(factor.size for factor in model.factors))
    target = np.asarray(target) if target is r else np.asarray(target) - np.mean(target)
    return reference_point(design_matrix(model), target, _fixed(model))


def _row_by_row(model: MixedModel, outcomes: Array, rows: Correlated) -> DataTerms:
    r = _difference(outcomes, _offsets(model))
    v0 = _start(model, outcomes, r)
    r0 = _difference(r, design_matrix(model) @ v0) if v0.any() else r
    weights = rows.weights
    squares = weights.of_left(r0) * weights.of_right(r0)
    everything = np.zeros(model.n_rows if weights.left is None else weights.left.size, dtype=int)

    def products(model: MixedModel) -> list[Variable]:
        sums = level_sums(model, r0[:, None], weights)
        return [pt.reshape(as_float(own), (-1,)) for own in sums]

    s = as_float(weights.sums(squares[:, None], everything, 1))[0, 0]
    sums = Sums(crossproducts(model, weights), products(model), s)
    data = _with_whitened(model, rows, sums, r0[:, None], None, v0)
    return replace(data, orthonormal=_orthonormal(model, rows, v0, products))
