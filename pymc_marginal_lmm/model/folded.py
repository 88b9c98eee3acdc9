"""Value scales on which a scale may have any sign: ``x`` with ``τ = |x|``.

The prior's density is extended evenly, ``p(x) = ½ p_τ(|x|)``: smooth for priors that are flat at
0, and the sampler passes through.

For ``LKJCholeskyCov`` the correlations must change their signs with the scales, or there would be
a kink at 0: with ``Σ_ij = x_i x_j R_ij`` the density is smooth in ``x``. Row ``i`` of the Cholesky
factor is ``x_i ℓ_i``, columns times ``sign(x_j)``, so that the diagonal stays positive; ``ℓ_i`` on
the half sphere comes from partial correlations ``tanh z_ij``, which are independent under the
prior (Lewandowski, Kurowicka and Joe 2009)::

    ℓ_ij = tanh z_ij Π_{k<j} sech z_ik  (j < i)      ℓ_ii = Π_{k<i} sech z_ik
    |∂(factor)/∂(x, z)| = Π_i |x_i|^(i−1) Π_{j<i} (sech z_ij)^(i−j)
    p(x, z) = Π_i ½ p_τ(|x_i|) Π_{j<i} (sech z_ij)^(2β_j) / (2^(2β_j−1) B(β_j, β_j))
    β_j = η + (n−1−j)/2
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.multivariate import _LKJCholeskyCovRV
from pymc.logprob.abstract import _logprob
from pymc.logprob.transform_value import TransformedValue
from pymc.logprob.transforms import Transform
from pytensor.graph.basic import Variable, equal_computations

__all__ = ["FoldedCholesky", "FoldedLKJCholeskyCovRV", "FoldedScale"]


class FoldedScale(Transform):
    """``τ = |x|``, both signs with half the density."""

    name = "fold"
    ndim_supp = 0

    def forward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return one of the two: the positive one."""
        return pt.as_tensor_variable(value)

    def backward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``|x|``."""
        return pt.abs(value)

    def log_jac_det(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``log ½``."""
        return pt.full_like(value, -np.log(2.0))


class FoldedCholesky(Transform):
    """Packed Cholesky factor of a covariance with signed scales; see the module.

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
        self.diagonal = np.flatnonzero(self.rows == self.columns)

    def forward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``z`` and the scale, positive, of each row."""
        value = pt.as_tensor_variable(value)
        parts = []
        for i, end in enumerate(self.diagonal):
            row = value[end - i : end + 1]
            remaining = pt.sqrt(pt.cumsum(row[::-1] ** 2))[::-1]  # |(r_j, …, r_i)|
            parts += [pt.arctanh(row[:-1] / remaining[:-1]), remaining[:1]]
        return pt.cast(pt.concatenate(parts), value.dtype)

    def backward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return the packed factor."""
        value = pt.as_tensor_variable(value)
        # All rows at once, without reductions: few nodes of few kinds are quick to compile.
        rows, columns = self.rows, self.columns
        scales = value[self.diagonal[rows]] * _sign(value[self.diagonal[columns]])
        log_sech = _log_sech(value)
        log_before = sum(
            pt.switch(columns >= k, log_sech[np.maximum(np.arange(len(rows)) - k, 0)], 0)
            for k in range(1, self.n)
        )
        factor = scales * pt.switch(rows == columns, 1, pt.tanh(value)) * pt.exp(log_before)
        return pt.cast(factor, value.dtype)

    def log_jac_det(self, value: Variable, *inputs: Variable) -> Variable:
        """Return the log Jacobian of the factor, and ``log ½`` for each sign."""
        value = pt.as_tensor_variable(value)
        # Never infinite: the density of the factor is infinite where this is zero.
        scales = pt.maximum(pt.abs(value), float(np.finfo(value.dtype).tiny))
        is_scale = self.rows == self.columns
        powers = np.where(is_scale, self.rows, self.rows - self.columns).astype(value.dtype)
        logs = pt.switch(is_scale, pt.log(scales), _log_sech(value))
        return pt.cast((powers * logs).sum() - self.n * np.log(2.0), value.dtype)


def _sign(x: Variable) -> Variable:
    return pt.switch(pt.lt(x, 0), -1, 1)


def _log_sech(z: Variable) -> Variable:
    return np.log(2.0) + z - pt.softplus(2 * z)


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
    value = _value_of(factor, transform)
    if value is None:
        return _logprob.dispatch(_LKJCholeskyCovRV)(op, values, *inputs, **kwargs)
    rows, columns = transform.rows, transform.columns
    beta = pt.cast(eta, value.dtype) + (transform.n - 2 - columns) / 2
    log_p_z = 2 * beta * _log_sech(value) + pt.gammaln(beta + 0.5) - pt.gammaln(beta)
    log_p_z -= 0.5 * np.log(np.pi)
    log_p_x = pm.logp(sd_dist, pt.abs(value[transform.diagonal])) - np.log(2.0)
    total = log_p_x.sum() + pt.switch(rows == columns, 0, log_p_z).sum()
    # PyMC adds it again, and the two cancel.
    return pt.cast(total, value.dtype) - transform.log_jac_det(value)


def _value_of(factor: Variable, transform: FoldedCholesky) -> Variable | None:
    """Return the value that a factor was made from by a transform, if it was."""
    if not factor.owner or not isinstance(factor.owner.op, TransformedValue):
        return None
    transformed, value = factor.owner.inputs
    same = equal_computations([transformed], [transform.backward(value)])
    return value if same else None
