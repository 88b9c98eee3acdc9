"""``log p(y | θ)``: the joint marginal log density of all responses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.dist_math import check_parameters
from pytensor import config
from pytensor.graph.basic import Constant, Variable

from pymc_marginal_lmm.algebra.data import as_float, data_terms
from pymc_marginal_lmm.algebra.scales import layout, leading_scale, prior_precision, trailing_scale
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
    leading, trailing = model.blocks.leading, model.blocks.trailing

    def first(parts: list) -> Variable:
        return pt.zeros((0, 1), dtype=config.floatX) if leading is None else parts[leading]

    def rest(parts: list) -> Variable:
        columns = [parts[i].reshape((-1,)) for i in trailing]
        return pt.concatenate(columns) if columns else pt.zeros((0,), dtype=config.floatX)

    p1, p2 = prior_precision(model)
    evidence = LogEvidence(layout(model), data.constant_design)(
        data.w,
        leading_scale(model),
        trailing_scale(model),
        data.s,
        first(data.c),
        rest(data.c),
        *data.A,
        first(data.v0),
        rest(data.v0),
        as_float(p1),
        as_float(p2),
    )[0]
    n_flat = sum(effect.size for effect in model.effects if effect.flat)
    value = evidence + 0.5 * (data.log_weights - (model.n_rows - n_flat) * LOG_2PI)
    value = _checked(model, value)
    for response, y in zip(model.responses, ys, strict=True):
        if response.family == "lognormal":
            y = pt.cast(y, config.floatX)
            value = pt.switch(pt.all(pt.gt(y, 0)), value - pt.log(y).sum(), -np.inf)
    return value


def _checked(model: MixedModel, value: Variable) -> Variable:
    """Give scales that are no scales the density that the plain model gives them: none.

    ``F`` depends on squares of scales only, so that a negative one would pass unnoticed. Zero is
    allowed for effects: they are then equal to their means.
    """
    scales = [(f"sigma of '{r.name}' > 0", r.sigma, pt.gt) for r in model.responses]
    scales += [
        (f"sigma of '{e.name}' >= 0", e.scale, pt.ge) for e in model.effects if not e.correlated
    ]
    for message, scale, positive in scales:
        if not isinstance(scale, Constant):
            value = check_parameters(value, positive(scale, 0), msg=message)
    return value
