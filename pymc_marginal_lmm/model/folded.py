"""Value scales on which a scale ``τ`` may have any sign: ``s sinh x = p sinh(τ/p)``.

The prior's density is extended evenly to both signs, ``½ p(|τ|) dτ/dx``: smooth for priors that
are flat at 0, and the sampler passes through. The scale is linear below ``s``, where data hardly
know of the effects (:mod:`~pymc_marginal_lmm.analysis.resolution`), and logarithmic above, as
suits a density of scales. It is linear again above ``p``, the scale of a prior with a light tail,
which on a logarithmic scale would be a wall; under a heavy tail, ``p = ∞``, ``τ = s sinh x``.

For ``LKJCholeskyCov`` the correlations must change their signs with the scales, or there would be
a kink at 0: with signed scales ``t_i`` and ``Σ_ij = t_i t_j R_ij`` the density is smooth in ``x``.
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

__all__ = ["PRIORS", "Fold", "FoldedCholesky", "FoldedLKJCholeskyCovRV", "FoldedScale"]

PRIORS = (HalfNormalRV, ExponentialRV, HalfCauchyRV, HalfStudentTRV)
"""Priors of scales that are highest at 0; the last parameter is the scale's own."""

HEAVY_TAILED = (HalfCauchyRV, HalfStudentTRV)
"""Those with ``p = ∞``."""

FAR = 20.0
"""From here on ``sinh x`` is ``eˣ/2`` to the last digit."""


class Fold:
    """``τ(x)`` of the module, for scales with one prior.

    Parameters
    ----------
    prior : type
        Of the random variable's Op, one of :data:`PRIORS`.
    unit : float or array, optional
        ``s``; by default the scale of the prior.
    """

    def __init__(self, prior: type, unit: np.ndarray | None = None) -> None:
        self.prior = prior
        self.unit = unit

    def s(self, scale: Variable, dtype: str) -> Variable:
        """Return ``s`` given the scale of the prior."""
        return pt.cast(scale if self.unit is None else pt.constant(self.unit), dtype)

    def forward(self, tau: Variable, scale: Variable) -> Variable:
        """Return ``x > 0``."""
        s, p = self.s(scale, tau.dtype), pt.cast(scale, tau.dtype)
        if issubclass(self.prior, HEAVY_TAILED):
            return pt.arcsinh(tau / s)
        # For those that say where to start: far out sinh(τ/p) overflows, and x = τ/p + log(p/s).
        near = pt.arcsinh(p * pt.sinh(pt.minimum(tau / p, FAR)) / s)
        return near + pt.maximum(tau / p - FAR, 0)

    def signed(self, x: Variable, scale: Variable) -> Variable:
        """Return ``τ`` with the sign of ``x``."""
        s, p = self.s(scale, x.dtype), pt.cast(scale, x.dtype)
        t = s * pt.sinh(x)
        return t if issubclass(self.prior, HEAVY_TAILED) else p * pt.arcsinh(t / p)

    def log_half_slope(self, x: Variable, scale: Variable) -> Variable:
        """Return ``log ½ |dτ/dx|`` without the factor ``cosh x``, i.e. without ``−log sech x``."""
        s, p = self.s(scale, x.dtype), pt.cast(scale, x.dtype)
        value = pt.log(0.5 * s)
        if issubclass(self.prior, HEAVY_TAILED):
            return value
        return value - 0.5 * pt.log1p((s * pt.sinh(x) / p) ** 2)


class FoldedScale(Transform):
    """Signed value of a scale, both signs with half the density.

    Parameters
    ----------
    fold : Fold
    """

    name = "fold"
    ndim_supp = 0

    def __init__(self, fold: Fold) -> None:
        self.fold = fold

    def forward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return one of the two: the positive one."""
        return self.fold.forward(pt.as_tensor_variable(value), inputs[-1])

    def backward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``τ``."""
        return pt.abs(self.fold.signed(pt.as_tensor_variable(value), inputs[-1]))

    def log_jac_det(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``log ½ |dτ/dx|``."""
        value = pt.as_tensor_variable(value)
        return self.fold.log_half_slope(value, inputs[-1]) - _log_sech(value)


class FoldedCholesky(Transform):
    """Packed Cholesky factor of an ``LKJCholeskyCov``, with signed scales; see the module.

    The value has ``z_ij`` where the factor has its elements below the diagonal, and ``x_i`` on it.

    Parameters
    ----------
    n : int
        Rows of the factor.
    fold : Fold
        Of the scales, one for each row.
    """

    name = "fold-cholesky"
    ndim_supp = 1

    def __init__(self, n: int, fold: Fold) -> None:
        self.n = n
        self.fold = fold
        self.rows, self.columns = np.tril_indices(n)
        self.is_scale = self.rows == self.columns
        self.diagonal = np.flatnonzero(self.is_scale)

    def forward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``z`` and the scale, positive, of each row."""
        value = pt.as_tensor_variable(value)
        rows = [value[end - i : end + 1] for i, end in enumerate(self.diagonal)]
        remaining = [pt.sqrt(pt.cumsum(row[::-1] ** 2))[::-1] for row in rows]  # |(r_j, …, r_i)|
        x = self.fold.forward(pt.stack([norms[0] for norms in remaining]), _scale(inputs))
        parts = []
        for i, (row, norms) in enumerate(zip(rows, remaining, strict=True)):
            parts += [pt.arctanh(row[:-1] / norms[:-1]), x[i : i + 1]]
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

    def signed_scales(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``τ`` with the signs of ``x``, one for each row."""
        return self.fold.signed(value[self.diagonal], _scale(inputs))

    def log_half_slopes(self, value: Variable, *inputs: Variable) -> Variable:
        """Return :meth:`Fold.log_half_slope` of each row."""
        return self.fold.log_half_slope(value[self.diagonal], _scale(inputs))

    def log_jac_det(self, value: Variable, *inputs: Variable) -> Variable:
        """Return the log Jacobian of the factor, and ``log ½`` for each sign."""
        value = pt.as_tensor_variable(value)
        scales = pt.abs(self.signed_scales(value, *inputs))
        # Never infinite: the density of the factor is infinite where this is zero.
        logs = pt.log(pt.maximum(scales, float(np.finfo(value.dtype).tiny)))
        logs = np.arange(self.n, dtype=value.dtype) * logs
        logs += self.log_half_slopes(value, *inputs)
        powers = np.where(self.is_scale, -1, self.rows - self.columns).astype(value.dtype)
        return logs.sum() + (powers * _log_sech(value)).sum()


def _scale(inputs: Sequence[Variable]) -> Variable:
    """Return the scale of the prior of an ``LKJCholeskyCov``'s scales."""
    *_, sd_dist = inputs
    return sd_dist.owner.inputs[-1]


def _log_sech(z: Variable) -> Variable:
    return math.log(2.0) + z - pt.softplus(2 * z)


class FoldedLKJCholeskyCovRV(_LKJCholeskyCovRV):
    """The same distribution, with a log density in ``x`` and ``z`` where these are its values.

    There it is simpler, and nothing cancels where a scale is 0.
    """

    fold: Fold


@_logprob.register(FoldedLKJCholeskyCovRV)
def _folded_logprob(
    op: FoldedLKJCholeskyCovRV, values: Sequence[Variable], *inputs: Variable, **kwargs: Any
) -> Variable:
    (factor,) = values
    _, n, eta, sd_dist = inputs
    transform = FoldedCholesky(int(n.data), op.fold)
    value = _value_of(factor, transform, inputs)
    if value is None:
        return _logprob.dispatch(_LKJCholeskyCovRV)(op, values, *inputs, **kwargs)
    beta = pt.cast(eta + (transform.n - 2 - transform.columns) / 2, value.dtype)
    powers = pt.switch(transform.is_scale, -1, 2 * beta)
    norms = pt.gammaln(beta + 0.5) - pt.gammaln(beta) - 0.5 * math.log(math.pi)
    scales = transform.signed_scales(value, *inputs)
    log_p = pm.logp(sd_dist, pt.abs(scales)) + transform.log_half_slopes(value, *inputs)
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
