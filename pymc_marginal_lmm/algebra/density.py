"""``log p(y | θ)``: the joint marginal log density of all responses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.dist_math import check_parameters
from pytensor import config
from pytensor.graph.basic import Constant, Variable

from pymc_marginal_lmm.algebra.data import DataTerms, as_float, data_terms
from pymc_marginal_lmm.algebra.posterior import concatenated
from pymc_marginal_lmm.algebra.reduction import sweep_chain
from pymc_marginal_lmm.algebra.scales import (
    layout,
    packed_scale,
    prior_precision,
    trailing_precision,
    trailing_scale,
)
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
    data, evidence = _evidence(model, ys)
    n_flat = sum(effect.size for effect in model.effects if effect.flat)
    value = evidence + 0.5 * (data.log_weights - (model.n_rows - n_flat) * LOG_2PI)
    value = _checked(model, value)
    for response, y in zip(model.responses, ys, strict=True):
        if response.family == "lognormal":
            y = pt.cast(y, config.floatX)
            value = pt.switch(pt.all(pt.gt(y, 0)), value - pt.log(y).sum(), -np.inf)
    return value


def _evidence(model: MixedModel, ys: Sequence[Variable]) -> tuple[DataTerms, Variable]:
    """``−½ (Q + log|F|)``: factors of the chain are swept out, the last one goes with the rest."""
    data, blocks = data_terms(model, ys), model.blocks
    rest, log_det = sweep_chain(model, data)
    empty = pt.zeros((0, 1), dtype=config.floatX)
    q = sum(model.factors[i].size for i in blocks.trailing)
    A11, A12, c1, v1 = empty[:, :, None], pt.zeros((0, 1, q), config.floatX), empty, empty
    p1, scale1 = np.zeros(1), pt.zeros((1, 1, 1), dtype=config.floatX)
    if blocks.chain:
        last = blocks.chain[-1]
        A11, A12, c1, v1 = rest.own, rest.right, rest.c1, data.v0[last]
        p1 = prior_precision(model, model.factors[last])
        scale1 = packed_scale(model, model.factors[last])
    evidence = LogEvidence(layout(model), data.constant_design and len(blocks.chain) < 2)(
        data.w,
        scale1,
        trailing_scale(model),
        rest.s,
        c1,
        rest.c2,
        A11,
        A12,
        rest.dense,
        v1,
        concatenated(model, data.v0),
        as_float(p1),
        as_float(trailing_precision(model)),
    )[0]
    return data, evidence - 0.5 * log_det


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
