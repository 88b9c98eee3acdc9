"""Value scales on which a scale may have any sign: ``x`` with ``τ = |s sinh x|``.

The prior's density is extended evenly to both signs, ``½ p_τ(τ) s cosh x``: smooth for priors that
are flat at 0, and the sampler passes through. Below ``s`` the value scale is linear, above it
logarithmic: the densities of scales of few levels have heavy tails, unless their priors cut them.

For ``LKJCholeskyCov`` the correlations must change their signs with the scales, or there would be
a kink at 0: with ``t_i = s_i sinh x_i`` and ``Σ_ij = t_i t_j R_ij`` the density is smooth in ``x``.
Row ``i`` of the Cholesky factor is ``t_i ℓ_i``, columns times ``sign(t_j)``, so that the diagonal
stays positive; ``ℓ_i`` on the half sphere comes from partial correlations ``tanh z_ij``, which are
independent under the prior (Lewandowski, Kurowicka and Joe 2009)::

    ℓ_ij = tanh z_ij Π_{k<j} sech z_ik  (j < i)      ℓ_ii = Π_{k<i} sech z_ik
    |∂(factor)/∂(t, z)| = Π_i |t_i|^(i−1) Π_{j<i} (sech z_ij)^(i−j)
    p(t, z) = Π_i ½ p_τ(|t_i|) Π_{j<i} (sech z_ij)^(2β_j) / (2^(2β_j−1) B(β_j, β_j))
    β_j = η + (n−1−j)/2
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.continuous import HalfCauchyRV, HalfStudentTRV
from pymc.distributions.multivariate import _LKJCholeskyCovRV
from pymc.logprob.abstract import _logprob
from pymc.logprob.transform_value import TransformedValue
from pymc.logprob.transforms import Transform
from pytensor.graph.basic import Variable, equal_computations
from pytensor.tensor.random.basic import ExponentialRV, HalfNormalRV

__all__ = ["PRIORS", "FoldedCholesky", "FoldedLKJCholeskyCovRV", "FoldedScale"]

PRIORS = {HalfNormalRV: 3.0, ExponentialRV: 3.0, HalfCauchyRV: 0.3, HalfStudentTRV: 0.3}
"""Priors of scales that are highest at 0, and ``s`` in multiples of their last parameter.

Linear wherever a light tail leaves any density: on a logarithmic scale it is a wall, into which
samplers run. Under a heavy tail it is what keeps them from long ways.
"""


class FoldedScale(Transform):
    """``τ = |s sinh x|``, both signs with half the density.

    Parameters
    ----------
    linear : float
        ``s`` in multiples of the last parameter of the variable's prior.
    """

    name = "fold"
    ndim_supp = 0

    def __init__(self, linear: float) -> None:
        self.linear = linear

    def forward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return one of the two: the positive one."""
        value = pt.as_tensor_variable(value)
        return pt.arcsinh(value / _unit(self.linear, inputs[-1], value))

    def backward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``τ``."""
        return _unit(self.linear, inputs[-1], value) * pt.abs(pt.sinh(value))

    def log_jac_det(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``log ½ s cosh x``."""
        return pt.log(_unit(0.5 * self.linear, inputs[-1], value)) - _log_sech(value)


class FoldedCholesky(Transform):
    """Packed Cholesky factor of an ``LKJCholeskyCov``, with signed scales; see the module.

    The value has ``z_ij`` where the factor has its elements below the diagonal, and ``x_i`` on it.

    Parameters
    ----------
    n : int
        Rows of the factor.
    """

    name = "fold-cholesky"
    ndim_supp = 1

    def __init__(self, n: int) -> None:
        self.n = n
        self.rows, self.columns = np.tril_indices(n)
        self.is_scale = self.rows == self.columns
        self.diagonal = np.flatnonzero(self.is_scale)

    def forward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``z`` and the scale, positive, of each row."""
        value = pt.as_tensor_variable(value)
        units = pt.broadcast_to(self.units(value, *inputs), (self.n,))
        parts = []
        for i, end in enumerate(self.diagonal):
            row = value[end - i : end + 1]
            remaining = pt.sqrt(pt.cumsum(row[::-1] ** 2))[::-1]  # |(r_j, …, r_i)|
            parts += [pt.arctanh(row[:-1] / remaining[:-1])]
            parts += [pt.arcsinh(remaining[:1] / units[i])]
        return pt.cast(pt.concatenate(parts), value.dtype)

    def backward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return the packed factor."""
        value = pt.as_tensor_variable(value)
        scales = self.signed_scales(value, *inputs)
        # All rows at once, without reductions: few nodes of few kinds are quick to compile.
        log_sech = _log_sech(value)
        places = np.arange(len(self.rows))
        log_before = sum(
            pt.switch(self.columns >= k, log_sech[np.maximum(places - k, 0)], 0)
            for k in range(1, self.n)
        )
        unit = pt.switch(self.is_scale, 1, pt.tanh(value)) * pt.exp(log_before)
        signs = pt.switch(pt.lt(scales, 0), -1, 1)
        return pt.cast(scales[self.rows] * signs[self.columns] * unit, value.dtype)

    def units(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``s``, one for each row or one for all."""
        *_, sd_dist = inputs
        node = sd_dist.owner
        return _unit(PRIORS[type(node.op)], node.inputs[-1], value)

    def signed_scales(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``t``, one for each row."""
        return self.units(value, *inputs) * pt.sinh(value[self.diagonal])

    def log_jac_det(self, value: Variable, *inputs: Variable) -> Variable:
        """Return the log Jacobian of the factor, and ``log ½`` for each sign."""
        value = pt.as_tensor_variable(value)
        scales = pt.abs(self.signed_scales(value, *inputs))
        # Never infinite: the density of the factor is infinite where this is zero.
        logs = pt.log(pt.maximum(scales, float(np.finfo(value.dtype).tiny)))
        logs = np.arange(self.n, dtype=value.dtype) * logs
        logs += pt.log(0.5 * self.units(value, *inputs))
        powers = np.where(self.is_scale, -1, self.rows - self.columns).astype(value.dtype)
        return logs.sum() + (powers * _log_sech(value)).sum()


def _unit(linear: float, parameter: Variable, value: Variable) -> Variable:
    """Return ``s``, in the precision of a value: parameters are in any."""
    return pt.cast(linear * parameter, value.dtype)


def _log_sech(z: Variable) -> Variable:
    return math.log(2.0) + z - pt.softplus(2 * z)


class FoldedLKJCholeskyCovRV(_LKJCholeskyCovRV):
    """The same distribution, with a log density in ``x`` and ``z`` where these are its values.

    There it is simpler, and nothing cancels where a scale is 0.
    """


@_logprob.register(FoldedLKJCholeskyCovRV)
def _folded_logprob(
    op: FoldedLKJCholeskyCovRV, values: Sequence[Variable], *inputs: Variable, **kwargs: Any
) -> Variable:
    (factor,) = values
    _, n, eta, sd_dist = inputs
    transform = FoldedCholesky(int(n.data))
    value = _value_of(factor, transform, inputs)
    if value is None:
        return _logprob.dispatch(_LKJCholeskyCovRV)(op, values, *inputs, **kwargs)
    beta = pt.cast(eta + (transform.n - 2 - transform.columns) / 2, value.dtype)
    powers = pt.switch(transform.is_scale, -1, 2 * beta)
    norms = pt.gammaln(beta + 0.5) - pt.gammaln(beta) - 0.5 * math.log(math.pi)
    scales = transform.signed_scales(value, *inputs)
    log_p = pm.logp(sd_dist, pt.abs(scales)) + pt.log(0.5 * transform.units(value, *inputs))
    total = log_p.sum() + (powers * _log_sech(value)).sum()
    total += pt.switch(transform.is_scale, 0, norms).sum()
    # PyMC adds it again, and the two cancel.
    return pt.cast(total, value.dtype) - transform.log_jac_det(value, *inputs)


def _value_of(
    factor: Variable, transform: FoldedCholesky, inputs: Sequence[Variable]
) -> Variable | None:
    """Return the value that a factor was made from by a transform, if it was."""
    if not factor.owner or not isinstance(factor.owner.op, TransformedValue):
        return None
    transformed, value = factor.owner.inputs
    same = equal_computations([transformed], [transform.backward(value, *inputs)])
    return value if same else None
