"""``log p(y | θ)``: the joint marginal log density of all responses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.dist_math import check_parameters
from pytensor import config
from pytensor.gradient import disconnected_grad
from pytensor.graph.basic import Constant, Variable

from pymc_marginal_lmm.algebra.data import DataTerms, as_float, data_terms
from pymc_marginal_lmm.algebra.posterior import concatenated, posterior
from pymc_marginal_lmm.algebra.scales import (
    layout,
    leading_scale,
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
    nested = len(model.blocks.chain) > 1
    data, evidence = (_nested_evidence if nested else _evidence)(model, ys)
    n_flat = sum(effect.size for effect in model.effects if effect.flat)
    value = evidence + 0.5 * (data.log_weights - (model.n_rows - n_flat) * LOG_2PI)
    value = _checked(model, value)
    for response, y in zip(model.responses, ys, strict=True):
        if response.family == "lognormal":
            y = pt.cast(y, config.floatX)
            value = pt.switch(pt.all(pt.gt(y, 0)), value - pt.log(y).sum(), -np.inf)
    return value


def _evidence(model: MixedModel, ys: Sequence[Variable]) -> tuple[DataTerms, Variable]:
    """``−½ (Q + log|F|)`` with one leading factor: one Op."""
    data = data_terms(model, ys)
    leading, q = model.blocks.leading, sum(model.factors[i].size for i in model.blocks.trailing)
    empty = pt.zeros((0, 1), dtype=config.floatX)
    A11, A12, c1, v1 = empty[:, :, None], pt.zeros((0, 1, q), dtype=config.floatX), empty, empty
    p1 = np.zeros(1)
    if leading is not None:
        (A11,), (A12,), c1, v1 = data.A.own, data.A.right, data.c[leading], data.v0[leading]
        p1 = prior_precision(model, model.factors[leading])
    evidence = LogEvidence(layout(model), data.constant_design)(
        data.w,
        leading_scale(model),
        trailing_scale(model),
        data.s,
        c1,
        concatenated(model, data.c),
        A11,
        A12,
        data.A.dense,
        v1,
        concatenated(model, data.v0),
        as_float(p1),
        as_float(trailing_precision(model)),
    )[0]
    return data, evidence


def _nested_evidence(model: MixedModel, ys: Sequence[Variable]) -> tuple[DataTerms, Variable]:
    """``−½ (Q + log|F|)`` with a chain of nested factors.

    ``Q = w (s − 2 δᵀc + δᵀAδ) + ûᵀP0û`` as in :mod:`pymc_marginal_lmm.ops.evidence`; its
    derivative through ``û`` is zero, and not taken.
    """
    post = posterior(model, ys)
    data, cliques = post.data, post.elimination.cliques
    means = [disconnected_grad(mean) for mean in post.means]
    penalty, products = pt.constant(0.0, dtype=config.floatX), data.s
    delta = []
    for factor, scale, u, v0, c in zip(
        model.factors, post.scales, means, data.v0, data.c, strict=True
    ):
        penalty += (as_float(prior_precision(model, factor)) * u**2).sum()
        delta.append((scale * u[:, None, :]).sum(axis=-1) - v0)
        products -= 2 * (delta[-1] * c).sum()
    near = [delta[i] for i in model.blocks.chain]
    squares = products + cliques.quadratic(data.A, near, concatenated(model, delta))
    return data, -0.5 * (data.w * squares + penalty + post.elimination.log_det)


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
