"""``log p(y | θ)``: the joint marginal log density of all responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.dist_math import check_parameters
from pytensor import config
from pytensor.graph.basic import Constant, Variable

from pymc_marginal_lmm.algebra.band import sweep_band
from pymc_marginal_lmm.algebra.data import DataTerms, data_terms
from pymc_marginal_lmm.algebra.reduction import sweep_chain
from pymc_marginal_lmm.algebra.scales import trailing_precision, trailing_scale
from pymc_marginal_lmm.algebra.weights import as_float
from pymc_marginal_lmm.ops import LogEvidence
from pymc_marginal_lmm.ops.evidence import minus_half
from pymc_marginal_lmm.structure import Array, MixedModel

__all__ = ["LOG_2PI", "log_density", "log_evidence", "within_support"]

LOG_2PI = float(np.log(2 * np.pi))


def log_density(model: MixedModel, ys: Sequence[Variable]) -> Variable:
    """Return ``log p(y | θ)``, jointly over all responses.

    Parameters
    ----------
    model : MixedModel
        Over the variables that the graph is wanted for.
    ys : sequence of Variable
        Value of each response.
    """
    value = log_evidence(model, data_terms(model, ys))
    for effect in model.effects:
        if isinstance(effect.log_factor, Variable):
            value = value + pt.cast(effect.log_factor, config.floatX)
    value = within_support(model, value, ys)
    for response, y in zip(model.responses, ys, strict=True):
        if response.family == "lognormal":
            y = pt.cast(y, config.floatX)
            value = pt.switch(pt.all(pt.gt(y, 0)), value - pt.log(y).sum(), -np.inf)
    return value


def log_evidence(model: MixedModel, data: DataTerms) -> Variable:
    """Return ``log p(y | θ)`` of the responses, or of the logarithms of LogNormal ones."""
    evidence = _evidence(model, data)
    n_flat = sum(effect.size for effect in model.effects if effect.flat)
    value = evidence + 0.5 * (data.log_weights - (model.n_rows - n_flat) * LOG_2PI)
    for effect in model.effects:
        if effect.precision is not None:
            value = value + 0.5 * pt.cast(effect.precision.log_det, config.floatX)
            if effect.precision.centred:  # a row more, and a flat coefficient
                value = value - pt.log(as_float(effect.precision.mean_sd))
    return value


def _evidence(model: MixedModel, data: DataTerms) -> Variable:
    """``−½ (Q + log|F|)``: what can be swept out is, and the rest goes to one dense Op."""
    band = model.blocks.band
    rest = sweep_chain(model, data) if band is None else sweep_band(model, data).rest
    if rest.A.type.shape[0] == 0:
        return minus_half(pt, data.w * rest.s, rest.log_det)
    scale, layout = trailing_scale(model)
    evidence = LogEvidence(layout, rest.constant)(
        data.w,
        scale,
        rest.s,
        rest.c,
        rest.A,
        rest.v,
        as_float(trailing_precision(model)),
    )[0]
    return evidence - 0.5 * rest.log_det


def within_support(model: MixedModel, value: Variable, ys: Sequence[Variable] = ()) -> Variable:
    """Give a density of a model the value ``-inf`` wherever the model, or ``F``, has none.

    Samplers reject ``-inf`` and stumble over NaN. Where parameters are none, it is what the plain
    model has, by the conditions that PyMC checks; ``F`` alone would not notice a negative scale.
    Parameters so large or small that ``F`` cannot be factorised in floating point are treated
    alike, without a word. NaN stays NaN where it is NaN in the plain model: in a mean, but not in
    one of effects times ∞.

    Parameters
    ----------
    model : MixedModel
    value : Variable
        Log density, or part of it.
    ys : sequence of Variable
        Value of each response.
    """
    loadings = _loadings(model)
    outside = pt.switch(_any(pt.isnan, [*loadings, *_offsets(model, ys)]), np.nan, -np.inf)
    outside = pt.switch(_any(pt.isinf, loadings), -np.inf, outside)
    value = pt.switch(pt.isfinite(value), value, pt.cast(outside, value.dtype))
    for message, condition in _conditions(model):
        if isinstance(condition, Variable) or not np.all(condition):
            value = check_parameters(value, condition, msg=message)
    return value


def _loadings(model: MixedModel) -> list[Variable]:
    """Return what effects are multiplied by, as far as it is no number."""
    parts: list[Any] = []
    for factor in model.factors:
        parts.append(factor.coefficients)
        if factor.loadings is not None:
            parts.append(factor.loadings.entries)
    return _unknown(parts)


def _offsets(model: MixedModel, ys: Sequence[Variable]) -> list[Variable]:
    """Return what else enters the means of the responses, as far as it is no number."""
    if model.regression is not None:
        return _unknown([*ys, model.regression.coefficients])
    return _unknown([*ys, *(response.offset for response in model.responses)])


def _unknown(parts: Sequence[Any]) -> list[Variable]:
    return [v for v in parts if isinstance(v, Variable) and not isinstance(v, Constant)]


def _any(test: Callable[[Variable], Variable], variables: Sequence[Variable]) -> Variable:
    found = [pt.any(test(v)) for v in variables]
    return reduce(pt.or_, found) if found else pt.constant(False)


def _conditions(model: MixedModel) -> Iterator[tuple[str, Array]]:
    """Yield what must hold for the parameters of responses and priors."""
    sigmas = [(f"'{r.name}'", r.sigma) for r in model.responses]
    if model.noise is not None:  # the same, without a row per observation
        names = " and ".join(f"'{r.name}'" for r in model.responses)
        sigmas = [(names, model.noise.sigma)]
    for names, sigma in sigmas:
        positive = sigma.data > 0 if isinstance(sigma, Constant) else pt.gt(sigma, 0)
        yield f"sigma of {names} > 0", positive
    for response in model.responses:
        if response.correlation is not None:
            yield f"covariance of '{response.name}'", response.correlation.valid
    for effect in model.effects:
        yield f"parameters of the prior of '{effect.name}'", effect.valid
