r"""Mean and variance of linear functions of the effects given the data, from one gradient.

A *probe* is a row ``z_i`` of weight 0, with an offset ``b_i``: it is about ``t_i = b_i + z_iᵀΛu``.
The gradient of the density, sums being taken about ``v0`` with ``w`` outside, has its moments
(Proposition 2, with ``δ = Λû − v0`` and ``C = F⁻¹``), by what is added to ``c`` and to ``A``::

    c + Σ_i λ_i z_i          ∂ℓ/∂λ_i = w z_iᵀδ                       E[t_i | y] = b_i + z_iᵀ(v0 + δ)
    A + Σ_i κ_i z_i z_iᵀ   −2∂ℓ/∂κ_i = w ((z_iᵀδ)² + z_iᵀΛCΛᵀz_i)   Var[t_i | y] = z_iᵀΛCΛᵀz_i

No effect is drawn, and no covariance matrix is made of more than a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.algebra.crossproducts import (
    BandBlocks,
    Blocks,
    crossproducts,
    design_matrix,
    level_sums,
)
from pymc_marginal_lmm.algebra.data import DataTerms, data_terms
from pymc_marginal_lmm.algebra.density import log_evidence
from pymc_marginal_lmm.algebra.left_out import at_zero, by_row
from pymc_marginal_lmm.algebra.weights import Weights, as_float
from pymc_marginal_lmm.structure import MixedModel, Noise, Regression

__all__ = ["conditional_moments"]


def conditional_moments(
    model: MixedModel, ys: Sequence[Variable], probe: int
) -> tuple[Variable, Variable]:
    """Return mean and variance given the data of what the rows of one of the responses are of.

    Parameters
    ----------
    model : MixedModel
    ys : sequence of Variable
        Value of each response; that of the probe means nothing.
    probe : int
        Position of the response that is no data. Its sigma means nothing either.

    Returns
    -------
    mean, variance : Variable, (m,)
        Of its linear predictor, given the other responses.
    """
    others = [i for i in range(len(model.responses)) if i != probe]
    data, probes = _of_responses(model, others), _of_responses(model, [probe])
    terms = data_terms(data, [ys[i] for i in others])
    m = probes.n_rows
    lam, kappa = (pt.vector(name, shape=(m,), dtype=config.floatX) for name in ("lam", "kappa"))
    value = log_evidence(data, _with_probes(terms, probes, lam, kappa))
    of_lam, of_kappa = at_zero(pt.grad(value, [lam, kappa]), [lam, kappa])
    along = of_lam / terms.w  # zᵀδ
    (response,) = probes.responses
    mean = by_row(response, response.offset) + _at_reference(probes, terms) + along
    # Rounding, of what the data say exactly, may be less than nothing.
    return mean, pt.maximum(-2 * of_kappa / terms.w - along**2, 0)


def _with_probes(terms: DataTerms, probes: MixedModel, lam: Variable, kappa: Variable) -> DataTerms:
    weights = Weights(None, np.arange(probes.n_rows), kappa)
    of_probes = level_sums(probes, lam[:, None], Weights())
    c = [
        own + pt.reshape(as_float(more), own.type.shape)
        for own, more in zip(terms.c, of_probes, strict=True)
    ]
    A = _sum(terms.A, crossproducts(probes, weights))
    return replace(terms, A=A, c=c, constant_design=False, orthonormal=None)


def _sum(one: Blocks, other: Blocks) -> Blocks:
    def sums(left: Sequence, right: Sequence) -> list:
        return [as_float(a) + as_float(b) for a, b in zip(left, right, strict=True)]

    band = None
    if one.band is not None and other.band is not None:
        band = BandBlocks(*sums(one.band, other.band))
    (dense,) = sums([one.dense], [other.dense])
    return Blocks(sums(one.own, other.own), sums(one.right, other.right), dense, band)


def _at_reference(probes: MixedModel, terms: DataTerms) -> Variable | float:
    """Return ``Z v0`` of the probes."""
    v0 = np.concatenate([np.zeros(0), *(own.data.ravel() for own in terms.v0)])
    return as_float(design_matrix(probes) @ v0) if v0.any() else 0.0


# --- Some of the rows -------------------------------------------------------------------------


def _of_responses(model: MixedModel, chosen: Sequence[int]) -> MixedModel:
    """Return the model of some of the responses; its levels, and what meets, stay what they are."""
    slices = [rows for _, rows in model.rows()]
    parts = [np.arange(model.n_rows)[slices[i]] for i in chosen]
    rows = np.concatenate([np.zeros(0, dtype=int), *parts])
    factors = tuple(
        replace(factor, codes=factor.codes[rows], coefficients=factor.coefficients[rows])
        for factor in model.factors
    )
    return replace(
        model,
        responses=tuple(model.responses[i] for i in chosen),
        factors=factors,
        regression=_regression(model.regression, rows),
        noise=_noise(model.noise, rows),
    )


def _regression(regression: Regression | None, rows: np.ndarray) -> Regression | None:
    if regression is None:
        return None
    design = regression.design[rows]
    return Regression(regression.constant[rows], design, regression.coefficients)


def _noise(noise: Noise | None, rows: np.ndarray) -> Noise | None:
    if noise is None:
        return None
    used, strata = np.unique(noise.strata[rows], return_inverse=True)
    return Noise(
        noise.numbers[rows], strata.reshape(-1), pt.specify_shape(noise.sigma[used], used.shape)
    )
