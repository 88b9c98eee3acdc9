"""What data contribute to the density: crossproducts about a reference point, and weights.

Two ways lead to them. If the design and ``r = y − b`` are numbers and ``σ`` is one number, they
are computed once, when the log density is built, and the gradient is free of ``n``. Else they are
part of the graph: parameters may enter the offset, the design, or the weight of each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable
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
    if isinstance(array, np.ndarray | float | int):
        return pt.constant(np.asarray(array, dtype=config.floatX))
    return pt.cast(array, config.floatX)


def _symbolic(products: CrossProducts) -> CrossProducts:
    return CrossProducts(*(as_float(part) for part in products))


def _residual_rows(model: MixedModel, ys: Sequence[Variable]) -> Array:
    """``r = y − b`` (``log y − b``), one response below the other; numbers if it is constant."""
    values = Values()
    rows = []
    for response, y in zip(model.responses, ys, strict=True):
        outcome, offset = (values.constant(part) for part in (y, response.offset))
        if outcome is not None and offset is not None:
            if response.family == "lognormal":
                outcome = np.log(np.where(outcome > 0, outcome, 1.0))
            r = np.broadcast_to(outcome - offset.astype("float64"), response.shape)
            rows.append(r.reshape(-1))
            continue
        symbol = pt.cast(y, config.floatX)
        if response.family == "lognormal":
            symbol = pt.log(symbol)
        full = pt.broadcast_to(symbol - response.offset, response.shape)
        rows.append(pt.reshape(full, (response.size,)))
    if len(rows) == 1:
        return rows[0]
    return np.concatenate(rows) if is_numeric(*rows) else pt.concatenate(rows)


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


def _free_of_rows(model: MixedModel, r: np.ndarray, w: Variable) -> DataTerms:
    """Crossproducts that never change, about a least-squares point.

    With ``r0`` a residual, the sums hold no large numbers that would cancel later, however large
    ``r`` is (a mean of 1e8 standard deviations).
    """
    Z = design_matrix(model)
    v0 = np.zeros(Z.shape[1])
    for _ in range(2):  # the second pass removes what rounding left in the first
        v0 += lsqr(Z, r - Z @ v0, atol=1e-10, btol=1e-10, iter_lim=50)[0]
    r0 = r - Z @ v0
    sizes = np.cumsum([0, *(factor.size for factor in model.factors)])
    points = [
        as_float(v0[start:stop].reshape(factor.n_levels, factor.n_effects))
        for start, stop, factor in zip(sizes[:-1], sizes[1:], model.factors, strict=True)
    ]
    return DataTerms(
        w=w,
        A=_symbolic(crossproducts(model, None)),
        c=[as_float(sums) for sums in level_sums(model, r0)],
        s=as_float(float(r0 @ r0)),
        v0=points,
        full=[as_float(sums) for sums in level_sums(model, r)],
        log_weights=model.n_rows * pt.log(w),
        constant_design=True,
    )


def _by_row(model: MixedModel, r: Array, sigma: Variable | None) -> DataTerms:
    """Crossproducts in the graph, about zero."""
    r = as_float(r)
    constant_design = sigma is not None and is_numeric(*(f.coefficients for f in model.factors))
    if sigma is not None:
        w, row_weights = sigma**-2, None
        log_weights = model.n_rows * pt.log(w)
        weighted = r
    else:
        w, row_weights = pt.constant(np.ones((), dtype=config.floatX)), _row_weights(model)
        log_weights = pt.log(row_weights).sum()
        weighted = row_weights * r
    c = [as_float(sums) for sums in level_sums(model, weighted)]
    return DataTerms(
        w=w,
        A=_symbolic(crossproducts(model, row_weights)),
        c=c,
        s=(weighted * r).sum(),
        v0=[as_float(np.zeros((f.n_levels, f.n_effects))) for f in model.factors],
        full=c,
        log_weights=log_weights,
        constant_design=constant_design,
    )


def data_terms(model: MixedModel, ys: Sequence[Variable]) -> DataTerms:
    """Return the contribution of the data; see the module."""
    r, sigma = _residual_rows(model, ys), _common_sigma(model)
    if sigma is not None and _all_known(model, r, sigma):
        return _free_of_rows(model, np.asarray(r), sigma**-2)
    return _by_row(model, r, sigma)


def is_free_of_rows(model: MixedModel, ys: Sequence[Variable]) -> bool:
    """Whether the work of a gradient does not depend on the number of rows."""
    return _all_known(model, _residual_rows(model, ys), _common_sigma(model))


def _all_known(model: MixedModel, r: Array, sigma: Variable | None) -> bool:
    return sigma is not None and is_numeric(r, *(f.coefficients for f in model.factors))
