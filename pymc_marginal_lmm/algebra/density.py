"""``log p(y | θ)``: the joint marginal log density of all responses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.dist_math import check_parameters
from pytensor import config
from pytensor.graph.basic import Constant, Variable

from pymc_marginal_lmm.algebra.data import DataTerms, data_terms
from pymc_marginal_lmm.algebra.posterior import concatenated
from pymc_marginal_lmm.algebra.reduction import sweep_chain
from pymc_marginal_lmm.algebra.scales import trailing_precision, trailing_scale
from pymc_marginal_lmm.algebra.weights import as_float
from pymc_marginal_lmm.ops import LogEvidence
from pymc_marginal_lmm.structure import MixedModel

__all__ = ["LOG_2PI", "log_density"]

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
    data = data_terms(model, ys)
    evidence = _evidence(model, data)
    n_flat = sum(effect.size for effect in model.effects if effect.flat)
    value = evidence + 0.5 * (data.log_weights - (model.n_rows - n_flat) * LOG_2PI)
    value = _checked(model, value)
    for response, y in zip(model.responses, ys, strict=True):
        if response.family == "lognormal":
            y = pt.cast(y, config.floatX)
            value = pt.switch(pt.all(pt.gt(y, 0)), value - pt.log(y).sum(), -np.inf)
    return value


def _evidence(model: MixedModel, data: DataTerms) -> Variable:
    """``−½ (Q + log|F|)``: what can be swept out is, and the rest goes to one dense Op."""
    rest = sweep_chain(model, data)
    if not model.blocks.trailing:
        return -0.5 * (data.w * rest.s + rest.log_det)
    scale, layout = trailing_scale(model)
    evidence = LogEvidence(layout, rest.constant)(
        data.w,
        scale,
        rest.s,
        rest.c,
        rest.A,
        concatenated(model, data.v0),
        as_float(trailing_precision(model)),
    )[0]
    return evidence - 0.5 * rest.log_det


def _checked(model: MixedModel, value: Variable) -> Variable:
    """Give scales that are no scales the density that the plain model gives them: none.

    ``F`` depends on squares of scales only, so that a negative one would pass unnoticed. Zero is
    allowed for effects: they are then equal to their means.
    """
    scales = [(f"sigma of '{r.name}' > 0", r.sigma, pt.gt) for r in model.responses]
    if model.noise is not None:  # the same, without a row per observation
        names = " and ".join(f"'{r.name}'" for r in model.responses)
        scales = [(f"sigma of {names} > 0", model.noise.sigma, pt.gt)]
    scales += [
        (f"sigma of '{e.name}' >= 0", e.scale, pt.ge) for e in model.effects if not e.correlated
    ]
    for message, scale, positive in scales:
        if not isinstance(scale, Constant):
            value = check_parameters(value, positive(scale, 0), msg=message)
    return value
