r"""Rows, or groups of rows, given all others: ``log p(y_g | y_−g, θ)``, the effects integrated out.

With ``V = W⁻¹ + ZΛP0⁻¹ΛᵀZᵀ`` the block of a group in ``V⁻¹`` is the precision of its rows given all
others, and ``e = V⁻¹r`` that precision times their distance from what the others predict (Bürkner,
Gabry and Vehtari 2021, section 3)::

    y_g | y_−g ~ Normal(y_g − B⁻¹e_g, B⁻¹)        B = [V⁻¹]_gg        e = Wρ

    log p(y_g | y_−g, θ) = ½ [ log|B| − e_gᵀB⁻¹e_g − n_g log 2π ]

Neither ``V`` nor ``F⁻¹`` is made: both are in the gradient of the density. By the envelope theorem
(``Q`` is at its minimum over ``u``) and since ``∂log|F|`` is the trace of ``F⁻¹∂F``::

    ∂/∂b:  e        ∂/∂W_ij of −½ (Q + log|F|):  −½ (ρρᵀ + H)_ij,   H = ZΛF⁻¹ΛᵀZᵀ
    V⁻¹ = W − WHW = W − W(ρρᵀ + H)W + eeᵀ

**Rows, one by one.** A row's variance is multiplied by ``1 + κ_i``, at ``κ = 0``; correlated rows
get ``κ_i`` on the diagonal of ``R``. The derivative by it is ``½ σ_i² (e_i² − [V⁻¹]_ii)``: one
gradient, for all rows at once.

**Groups.** ``W_ij`` of all pairs of rows of a group are inputs, most of them 0, and one gradient
gives ``H`` at these pairs. Elimination must not lose them: a factor can be swept out level by level
only if no group has rows of two of its levels.

**Left out by weight.** Where that does not pay (few large groups) or is not possible (bands), the
weights of a group's rows are set to 0, and what is left is the density of all others::

    log p(y_g | y_−g, θ) = log p(y | θ) − log p(y_−g | θ)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace

from pymc_marginal_lmm.algebra.correlation import Correlated
from pymc_marginal_lmm.algebra.crossproducts import design_matrix
from pymc_marginal_lmm.algebra.data import data_terms, weights_of_rows
from pymc_marginal_lmm.algebra.density import LOG_2PI, log_evidence
from pymc_marginal_lmm.algebra.scales import prior_precision
from pymc_marginal_lmm.algebra.weights import Weights, as_float, is_numeric
from pymc_marginal_lmm.structure import Correlation, MixedModel, Response

__all__ = [
    "ROUNDING",
    "at_pairs",
    "at_zero",
    "by_row",
    "identified_by",
    "log_density_of_kept",
    "rows_given_others",
]

ROUNDING = 1e-10
"""Of the precision that rows have given the effects, what is left if other rows tell nothing."""


def rows_given_others(model: MixedModel, ys: Sequence[Variable]) -> tuple[Variable, Variable]:
    """Return ``log p(y_i | y_−i, θ)`` and ``z_i`` of each row, ``(n,)``.

    Given θ and all others, a row is Normal: ``z_i = √B_i (y_i − m_i)`` is how many of its standard
    deviations it is from its mean, and ``Φ(z_i)`` its distribution function. Of LogNormal rows both
    are those of the logarithm. NaN where nothing but rounding is left of a precision: the others do
    not identify a coefficient.

    Parameters
    ----------
    model : MixedModel
    ys : sequence of Variable
        Value of each response.
    """
    shift, kappa = _vector(model, "shift"), _vector(model, "kappa")
    changed = _with_noisier_rows(_shifted(model, shift), kappa)
    value = log_evidence(changed, data_terms(changed, ys))
    e, of_kappa = at_zero(pt.grad(value, [shift, kappa]), [shift, kappa])
    sigma = pt.concatenate([by_row(response, response.sigma) for response in model.responses])
    t = sigma * e
    precision = t**2 - 2 * of_kappa  # σ² [V⁻¹]_ii: one minus the leverage, if rows are independent
    precision = pt.switch(precision > ROUNDING, precision, np.nan)
    z = t / pt.sqrt(precision)
    return 0.5 * (pt.log(precision) - z**2 - LOG_2PI) - pt.log(sigma), z


def at_pairs(
    model: MixedModel, ys: Sequence[Variable], left: np.ndarray, right: np.ndarray
) -> tuple[Variable, Variable, Variable]:
    """Return ``e (n,)``, and ``ρρᵀ + H`` and ``W`` at pairs of rows, ``(P,)``.

    Parameters
    ----------
    model : MixedModel
        Which eliminates factors level by level only where no pair has rows of two of the levels,
        and whose rows are not whitened.
    ys : sequence of Variable
        Value of each response.
    left, right : array of int, (P,)
        The pairs, in both orders, and each row with itself, sorted by ``left`` and then ``right``.
        All rows that are correlated with each other are among them.
    """
    shift, rows = _vector(model, "shift"), weights_of_rows(model)
    W = pt.specify_shape(_at(rows, model.n_rows, left, right), left.shape)
    weights = Weights(None, np.arange(left.size), W, left, right)
    own = rows._replace(w=as_float(1.0), weights=weights, known=False)
    changed = _shifted(model, shift)
    value = log_evidence(changed, data_terms(changed, ys, own))
    e, of_W = at_zero(pt.grad(value, [shift, W]), [shift])
    return e, -2 * of_W, W


def log_density_of_kept(model: MixedModel, ys: Sequence[Variable], keep: Variable) -> Variable:
    """Return ``log p`` of those rows whose element of ``keep (n,)`` is 1, not 0.

    Parameters
    ----------
    model : MixedModel
        Whose rows are independent given the effects.
    ys : sequence of Variable
        Value of each response.
    keep : Variable, (n,)
    """
    n, w = model.n_rows, _weights(weights_of_rows(model), model.n_rows)
    weights = Weights(None, np.arange(n), pt.specify_shape(w * keep, (n,)))
    own = Correlated(as_float(1.0), weights, (keep * pt.log(w)).sum(), known=False)
    value = log_evidence(model, data_terms(model, ys, own))
    return value + 0.5 * (n - keep.sum()) * LOG_2PI


def identified_by(model: MixedModel, rows: np.ndarray) -> bool:
    """Whether some rows identify all coefficients with a flat prior, if their columns are numbers.

    Parameters
    ----------
    model : MixedModel
    rows : array of bool, (n,)
    """
    if not any(effect.flat for effect in model.effects):
        return True
    if not is_numeric(*(factor.coefficients for factor in model.factors)):
        return True
    flat = [np.tile(prior_precision(model, f) == 0, f.n_levels) for f in model.factors]
    X = design_matrix(model)[np.flatnonzero(rows)][:, np.flatnonzero(np.concatenate(flat))]
    lengths = np.sqrt(np.asarray(X.multiply(X).sum(axis=0))).ravel()
    scaled = X.toarray() / np.where(lengths > 0, lengths, 1.0)
    return bool(np.linalg.matrix_rank(scaled, tol=ROUNDING) == X.shape[1])


def _vector(model: MixedModel, name: str) -> Variable:
    return pt.vector(name, shape=(model.n_rows,), dtype=config.floatX)


def at_zero(values: Sequence[Variable], vectors: Sequence[Variable]) -> list[Variable]:
    """Return values where some vectors in them are zero."""
    zeros = {v: as_float(np.zeros(v.type.shape)) for v in vectors}
    return graph_replace(values, zeros, strict=False)


def by_row(response: Response, value: Variable) -> Variable:
    """Return what belongs to a response for each of its rows, ``(n,)``."""
    full = pt.broadcast_to(pt.cast(value, config.floatX), response.shape)
    return pt.reshape(full, (response.size,))


def _by_response(model: MixedModel, vector: Variable) -> list[Variable]:
    """Split what belongs to rows, in the shapes of the responses."""
    return [pt.reshape(vector[rows], response.shape) for response, rows in model.rows()]


def _shifted(model: MixedModel, shift: Variable) -> MixedModel:
    """Add to the offset of each row."""
    parts = zip(model.responses, _by_response(model, shift), strict=True)
    responses = (replace(one, offset=one.offset + own) for one, own in parts)
    return replace(model, responses=tuple(responses), regression=None)


def _with_noisier_rows(model: MixedModel, kappa: Variable) -> MixedModel:
    """Multiply the own variance of each row by ``1 + κ``."""
    parts = zip(model.responses, _by_response(model, kappa), strict=True)
    responses = tuple(_noisier(response, own) for response, own in parts)
    return replace(model, responses=responses, noise=None)


def _noisier(response: Response, kappa: Variable) -> Response:
    if response.correlation is None:
        return replace(response, sigma=response.sigma * pt.sqrt(1 + kappa))
    k = response.batch_length
    more = kappa[..., None] * as_float(np.eye(k))
    matrix = pt.specify_shape(as_float(response.correlation.matrix) + more, (*response.shape, k))
    return replace(response, correlation=Correlation(matrix, response.correlation.valid))


def _weights(rows: Correlated, size: int) -> Variable:
    """Return the weights of all rows, or of all pairs that have any, in full."""
    return rows.w * as_float(rows.weights.times(np.ones((size, 1))))[:, 0]


def _at(rows: Correlated, n: int, left: np.ndarray, right: np.ndarray) -> Variable:
    """Return the weights of pairs, most of which have none."""
    own = rows.weights
    first, second = (np.arange(n) if one is None else one for one in (own.left, own.right))
    place = np.searchsorted(left * n + right, first * n + second)
    weights = _weights(rows, first.size)
    if place.size == left.size and (place == np.arange(place.size)).all():
        return weights
    return pt.zeros((left.size,), dtype=config.floatX)[place].inc(weights)
