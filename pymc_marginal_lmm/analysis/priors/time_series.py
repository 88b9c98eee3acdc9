r"""Autoregressive processes and random walks: ``Λ = L`` times the roots of the steps' covariances.

A random walk is the cumulative sum of its first value and its steps, so that ``L`` is the lower
triangle of ones. An autoregressive process of order ``p`` is

    v_t = c + ρ_1 v_{t−1} + … + ρ_p v_{t−p} + σ ε_t            (t ≥ p)

or ``A v = e`` with ``A = I − Σ_k ρ_k S_k``, where ``S_k`` takes to each row ``t ≥ p`` the row
``t − k``, and ``e`` holds the first ``p`` values and then ``c + σ ε_t``. ``A`` is unit lower
triangular whatever ``ρ`` is, and ``L = A⁻¹``.

``Λ`` of an autoregression that explodes costs digits. Up to :data:`MOST_GROWTH` they can be
missed; beyond it there is no density. Most have a better form
(:mod:`~pymc_marginal_lmm.analysis.priors.autoregressive`).

Standard deviations are outside of ``L``, as multiples of columns of ``Λ``: that of 0 is as good as
any, and its sign is of no account.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.timeseries import AutoRegressiveRV, RandomWalkRV
from pytensor.graph.basic import Variable
from pytensor.graph.op import Op
from pytensor.tensor.basic import MakeVector

from pymc_marginal_lmm.analysis.priors.distributions import distribution_name
from pymc_marginal_lmm.analysis.priors.prior import (
    GaussianPrior,
    NotGaussian,
    is_gaussian,
    known,
    read_prior,
)
from pymc_marginal_lmm.analysis.remedies import Remedy
from pymc_marginal_lmm.analysis.validity import all_hold, nonnegative

__all__ = ["component", "element", "growth", "is_zero", "padded"]

MOST_GROWTH = {"float64": 1e4, "float32": 1e2}
"""Of first values until the last step, for seven digits (of two, in single precision)."""

BEYOND = 1e15
"""Of a growth from here on no more is known."""


@read_prior.register(AutoRegressiveRV)
def _read_autoregressive(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior:
    rhos, sigma, init_dist, *_ = rv.owner.inputs
    *batch, T = shape
    p, dtype = op.ar_order, rv.type.dtype
    start = component(init_dist, "init_dist", (*batch, p))
    lags = [element(rhos, k + op.constant_term) for k in range(p)]
    L = _impulse_responses(lags, T, dtype)
    if start.support_ndim:
        first = L[..., :p] @ start.scale
    else:
        first = L[..., :p] * pt.atleast_1d(start.scale)[..., None, :]
    rest = L[..., p:] * pt.shape_padright(sigma, 2)
    scale = _side_by_side([(first, (T, p)), (rest, (T, T - p))], batch)
    mean = pt.constant(0.0, dtype=dtype)
    constant = element(rhos, 0)[..., None] if op.constant_term else mean
    if not (is_zero(start.mean) and is_zero(constant)):
        pulses = _side_by_side([(start.mean, (p,)), (constant, (T - p,))], batch)
        mean = (L @ pulses[..., None])[..., 0]
    bounded = pt.le(growth(lags, T), MOST_GROWTH[dtype])
    valid = all_hold(start.valid, nonnegative(sigma), bounded)
    return GaussianPrior(mean, scale, support_ndim=1, valid=valid)


@read_prior.register(RandomWalkRV)
def _read_random_walk(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior:
    """Read first values of shape ``(1, *batch, *support)`` and steps, ``(T − 1, …)``."""
    init_dist, innovation_dist, _ = rv.owner.inputs
    axis = len(shape) - op.ndim_supp
    batch, T, support = shape[:axis], shape[axis], shape[axis + 1 :]
    start = component(init_dist, "init_dist", (1, *batch, *support))
    steps = component(innovation_dist, "innovation_dist", (T - 1, *batch, *support))

    width = int(np.prod(support, dtype=int))
    roots = [
        (_root(prior, len(batch)), (width, width, length))
        for prior, length in ((start, 1), (steps, T - 1))
    ]
    by_column = pt.moveaxis(_side_by_side(roots, batch), -1, -2)  # (*batch, i, time, j)
    L = np.tril(np.ones((T, T))).astype(rv.type.dtype)[:, None, :, None]
    blocks = L * by_column[..., None, :, :, :]
    scale = pt.reshape(blocks, (*by_column.type.shape[:axis], T * width, T * width))

    mean, drift = (pt.moveaxis(padded(prior.mean, len(shape)), 0, axis) for prior in (start, steps))
    times = np.arange(T, dtype=rv.type.dtype).reshape(T, *[1] * len(support))
    if is_zero(drift):
        mean = pt.constant(0.0, dtype=rv.type.dtype) if is_zero(mean) else mean
    elif drift.type.shape[axis] == 1:
        mean = mean + drift * times
    else:
        none = pt.zeros_like(drift[(*[slice(None)] * axis, slice(1))])
        mean = mean + pt.cumsum(pt.concatenate([none, drift], axis=axis), axis=axis)
    valid = all_hold(start.valid, steps.valid)
    return GaussianPrior(mean, scale, support_ndim=op.ndim_supp, valid=valid)


def component(dist: Variable, name: str, shape: tuple[int, ...]) -> GaussianPrior:
    """Read the distribution of first values or of steps."""
    prior = read_prior(dist.owner.op, dist, shape) if is_gaussian(dist) else None
    if prior is None or prior.flat or prior.zero_sum or isinstance(prior.log_factor, Variable):
        raise NotGaussian(
            f"its {name} is {distribution_name(dist)}",
            Remedy.NORMAL_PART.about(name),
        )
    return prior


def element(vector: Variable, k: int) -> Variable:
    """Return an element of the last axis, with nothing of the others where it is known apart."""
    if vector.owner and isinstance(vector.owner.op, MakeVector):
        return vector.owner.inputs[k]
    return vector[..., k]


def growth(lags: Sequence[Variable], T: int) -> Variable:
    """Return what first values grow by in ``T`` steps, the largest of the series.

    It is that of powers of the matrix that takes ``p`` values to the next, those of doubling.
    """
    p, dtype = len(lags), lags[0].type.dtype
    last = pt.stack(pt.broadcast_arrays(*reversed(lags)), axis=-1)[..., None, :]
    power = pt.cast(last, dtype)
    if p > 1:
        shift = pt.constant(np.eye(p, k=1, dtype=dtype)[: p - 1])
        shift = pt.broadcast_to(shift, (*power.type.shape[:-2], p - 1, p))
        power = pt.concatenate([shift, power], axis=-2)
    # Not infinite, whose gradient of 0 would be NaN.
    largest, together = pt.constant(1.0, dtype=dtype), None
    for digit in reversed(f"{max(T - p, 1):b}"):
        if digit == "1":
            product = power if together is None else pt.matmul(together, power)
            together = pt.clip(product, -BEYOND, BEYOND)
            largest = pt.maximum(largest, pt.abs(together).max())
        power = pt.clip(pt.matmul(power, power), -BEYOND, BEYOND)
    return largest


def _impulse_responses(lags: Sequence[Variable], T: int, dtype: str) -> Variable:
    """``L = A⁻¹``, ``(*batch, T, T)``."""
    p = len(lags)
    A = pt.constant(np.eye(T, dtype=dtype))
    for k, rho in enumerate(lags, start=1):
        shift = np.eye(T, k=-k, dtype=dtype)
        shift[:p] = 0
        A = A - pt.shape_padright(rho, 2) * shift
    identity = np.eye(T, dtype=dtype)
    return pt.linalg.solve_triangular(A, identity, lower=True, unit_diagonal=True, b_ndim=2)


def _root(prior: GaussianPrior, n_batch: int) -> Variable:
    """Return a square root of the covariance at each time, ``(*batch, width, width, time)``."""
    if prior.support_ndim:
        root = padded(prior.scale, n_batch + 3)
    else:
        root = padded(prior.scale, n_batch + 1)[..., None, None]
    return pt.moveaxis(root, 0, -1)


def padded(variable: Variable, ndim: int) -> Variable:
    """Return a tensor with as many axes in front as it lacks."""
    return pt.shape_padleft(variable, ndim - variable.type.ndim)


def _side_by_side(
    parts: Sequence[tuple[Variable, tuple[int, ...]]], batch: Sequence[int]
) -> Variable:
    """Join tensors along the last axis, each broadcast to its shape.

    Batch axes along which all of them are the same keep the length 1.
    """
    variables = [padded(part, len(batch) + len(core)) for part, core in parts]
    shared = all(length == 1 for part in variables for length in part.type.shape[: len(batch)])
    outer = [1] * len(batch) if shared else batch
    return pt.concatenate(
        [
            pt.broadcast_to(variable, (*outer, *core))
            for variable, (_, core) in zip(variables, parts, strict=True)
        ],
        axis=-1,
    )


def is_zero(variable: Variable) -> bool:
    """Whether a variable is known to be zero."""
    value = known(variable)
    return value is not None and not np.any(value)
