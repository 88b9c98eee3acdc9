"""Prior densities of the effects, and the conditional density by Bayes' theorem."""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace

from pymc_marginal_lmm.algebra.density import LOG_2PI
from pymc_marginal_lmm.algebra.scales import effect_scale
from pymc_marginal_lmm.algebra.weights import as_float
from pymc_marginal_lmm.ops import SparseSymmetric
from pymc_marginal_lmm.structure import RandomEffects

__all__ = ["given_values", "log_prior", "standardized"]


def given_values(expression: Variable, values: dict[Variable, Variable]) -> Variable:
    """Return a prior mean for the effects that it depends on."""
    return graph_replace([expression], values, strict=False)[0] if values else expression


def standardized(effect: RandomEffects, deviation: Variable) -> tuple[Variable, Variable]:
    """Return ``u = Λ⁻¹ · deviation`` as ``(blocks, S)``, and ``log|Λ|``."""
    n_blocks = effect.n_blocks
    deviation = pt.reshape(pt.cast(deviation, config.floatX), (n_blocks, effect.width))
    square = (n_blocks, effect.width, effect.width)
    scale = pt.broadcast_to(effect_scale(effect), square)
    if not effect.correlated:
        scale = scale[:, :, 0]
        return deviation / scale, pt.log(scale).sum()
    if effect.zero_sum:  # Λ = sP with trace s · rank, and P deviation = deviation
        s = pt.diagonal(scale, axis1=1, axis2=2).sum(axis=1) / effect.rank
        return deviation / s[:, None], effect.rank * pt.log(s).sum()
    log_det = pt.linalg.slogdet(scale)[1]
    # A factor that is singular, or none at all, is not to be solved with.
    regular = pt.isfinite(log_det)[:, None, None]
    scale = pt.switch(regular, scale, np.eye(effect.width, dtype=config.floatX))
    return pt.linalg.solve(scale, deviation[..., None])[..., 0], log_det.sum()


def log_prior(effect: RandomEffects, deviation: Variable) -> Variable:
    """Return the log prior density of a variable, given its deviation from its prior mean."""
    if effect.flat:
        return as_float(0.0)
    precision = effect.precision
    if precision is None:
        u, log_scale = standardized(effect, deviation)
        return -0.5 * ((u**2).sum() + effect.rank * effect.n_blocks * LOG_2PI) - log_scale
    # First what has nothing but C z, or x of its own, and then x of the others.
    d, pinned = pt.reshape(deviation, (effect.size,)), pt.constant(precision.pinned)
    free = np.setdiff1d(np.arange(effect.size), precision.pinned)
    scale = pt.broadcast_to(effect_scale(effect)[:, 0, 0], (effect.size,))
    value = 0.5 * (as_float(precision.log_det) - effect.size * LOG_2PI)
    if precision.centred:
        sd = as_float(precision.mean_sd)
        value = value - 0.5 * (d.mean() / sd) ** 2 - pt.log(sd)
        d = d - d[precision.pinned[0]]
    x = pt.zeros_like(d)
    if precision.n_starts and not precision.centred:
        C = as_float(precision.start)
        own = scale[pinned]
        deviations = pt.diagonal(C[pinned]) + own
        standard = d[pinned] / deviations
        # They are either z or x.
        z = pt.where(pt.neq(own, 0), 0.0, standard)
        x = x[pinned].set(standard - z)
        value = value - 0.5 * (z**2).sum() - pt.log(pt.abs(deviations)).sum()
        d = d - C @ z
    x = x[pt.constant(free)].set(d[pt.constant(free)] / scale[pt.constant(free)])
    P = SparseSymmetric(precision.rows, precision.columns, as_float(precision.values), effect.size)
    value = value - 0.5 * P.quadratic(x) - pt.log(scale[pt.constant(free)]).sum()
    if precision.shift.ndim:
        value = value + as_float(precision.shift) @ x - 0.5 * as_float(precision.shift_square)
    return value
