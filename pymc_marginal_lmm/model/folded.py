"""Value scales on which a scale ``τ`` may have any sign: ``s sinh x = p sinh(τ/p)``.

The prior's density is extended evenly to both signs, ``½ p(|τ|) dτ/dx``: smooth for priors that
are flat at 0, and the sampler passes through. :mod:`~pymc_marginal_lmm.model.signed_scales` is
about the map.

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
from pymc.distributions.multivariate import _LKJCholeskyCovRV
from pymc.logprob.abstract import _logprob
from pymc.logprob.transform_value import TransformedValue
from pymc.logprob.transforms import Transform
from pymc.model.core import Model
from pytensor import config
from pytensor.graph.basic import Variable, equal_computations

from pymc_marginal_lmm.model.signed_scales import PRIORS, Fold, log_sech

__all__ = ["PRIORS", "Fold", "FoldedCholesky", "FoldedLKJCholeskyCovRV", "FoldedScale", "is_folded"]


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
        return self.fold.forward(_as_float(value), inputs[-1])

    def backward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``τ``."""
        return pt.abs(self.fold.signed(_as_float(value), inputs[-1]))

    def log_jac_det(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``log ½ |dτ/dx|``."""
        value = _as_float(value)
        slope = self.fold.log_half_slope(value, inputs[-1])
        return pt.switch(self.fold.is_beyond(value, inputs[-1]), -np.inf, slope)


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
        value = _as_float(value)
        rows = [value[end - i : end + 1] for i, end in enumerate(self.diagonal)]
        sizes = [pt.maximum(pt.abs(row).max(), _tiny(value)) for row in rows]
        rows = [row / size for row, size in zip(rows, sizes, strict=True)]
        remaining = [pt.sqrt(pt.cumsum(row[::-1] ** 2))[::-1] for row in rows]  # |(r_j, …, r_i)|
        norms = [size * of[0] for size, of in zip(sizes, remaining, strict=True)]
        x = self.fold.forward(pt.stack(norms), _scale(inputs))
        parts = []
        for i, (row, of) in enumerate(zip(rows, remaining, strict=True)):
            # tanh z = r_j / |(r_j, …)|, which loses what is left of a correlation close to 1
            sinh = row[:-1] / pt.maximum(of[1:], _tiny(value))
            parts += [pt.arcsinh(sinh), x[i : i + 1]]
        return pt.cast(pt.concatenate(parts), value.dtype)

    def backward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return the packed factor."""
        value = _as_float(value)
        scales = self.signed_scales(value, *inputs)
        # All rows at once, without reductions: few nodes of few kinds are quick to compile.
        log = self.log_sech(value)
        places = np.arange(len(self.rows))
        log_before = sum(
            pt.switch(self.columns >= k, log[np.maximum(places - k, 0)], 0)
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

    def log_sech(self, value: Variable) -> Variable:
        """Return ``log sech z_ij``, and something finite in the places of the scales."""
        largest = np.finfo(value.dtype).max / 1e8  # the sum of several must not overflow
        return log_sech(pt.clip(value, -largest, largest))

    def log_jac_det(self, value: Variable, *inputs: Variable) -> Variable:
        """Return the log Jacobian of the factor, and ``log ½`` for each sign."""
        value = _as_float(value)
        scales = pt.abs(self.signed_scales(value, *inputs))
        # Never infinite: the density of the factor is infinite where this is zero.
        logs = pt.log(pt.maximum(scales, _tiny(value)))
        logs = np.arange(self.n, dtype=value.dtype) * logs
        logs += self.log_half_slopes(value, *inputs)
        powers = (self.rows - self.columns).astype(value.dtype)
        return logs.sum() + (powers * self.log_sech(value)).sum()


def is_folded(model: Model) -> bool:
    """Whether a model samples scales with a sign."""
    transforms = model.rvs_to_transforms.values()
    return any(isinstance(each, FoldedScale | FoldedCholesky) for each in transforms)


def _scale(inputs: Sequence[Variable]) -> Variable:
    """Return the scale of the prior of an ``LKJCholeskyCov``'s scales."""
    *_, sd_dist = inputs
    return sd_dist.owner.inputs[-1]


def _as_float(value: Variable) -> Variable:
    value = pt.as_tensor_variable(value)
    return value if value.dtype in ("float32", "float64") else pt.cast(value, config.floatX)


def _tiny(value: Variable) -> np.ndarray:
    return np.asarray(np.finfo(value.dtype).tiny)


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
    powers = pt.switch(transform.is_scale, 0, 2 * beta)
    norms = pt.gammaln(beta + 0.5) - pt.gammaln(beta) - 0.5 * math.log(math.pi)
    scales = transform.signed_scales(value, *inputs)
    log_p = pm.logp(sd_dist, pt.abs(scales)) + transform.log_half_slopes(value, *inputs)
    beyond = op.fold.is_beyond(value[transform.diagonal], sd_dist.owner.inputs[-1])
    log_p = pt.switch(beyond, -np.inf, log_p)
    total = log_p.sum() + (powers * transform.log_sech(value)).sum()
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
