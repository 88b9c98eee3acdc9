r"""Long random walks, and large maps, by their precision.

``v = mean + scale · x + start z`` with ``x ~ Normal(0, P⁻¹)``
(:class:`~pymc_marginal_lmm.structure.Precision`). Of a random walk ``x`` is what comes of unit
steps from zero, and ``z`` times a standard deviation is where it starts, which nothing divides by.
A CAR is ``x / √τ`` with ``P = D − αW``. An ICAR is ``z + σx``, where ``x`` is 0 in one area and has
the precision ``D − W`` in all others; what has a prior instead of ``z`` is the mean of all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.multivariate import CARRV, ICARRV
from pymc.distributions.timeseries import RandomWalkRV
from pytensor.graph.basic import Variable
from pytensor.graph.op import Op
from scipy.sparse import csgraph as graph

from pymc_marginal_lmm.analysis.priors.prior import GaussianPrior, known, read_sparse_prior
from pymc_marginal_lmm.analysis.priors.spatial import LOG_2PI, folded, neighbours_of, weight_matrix
from pymc_marginal_lmm.analysis.priors.time_series import component, is_zero, padded
from pymc_marginal_lmm.analysis.validity import all_hold
from pymc_marginal_lmm.ops import SparseSymmetric, solve_banded
from pymc_marginal_lmm.pattern import Order
from pymc_marginal_lmm.structure import Precision

__all__ = ["is_long", "of_series"]

SMALL = 64
"""Elements up to which a dense block costs less than to look for anything better."""

MOST_STARTS = 64
"""Columns for first values that a variable may bring to the dense block."""


@read_sparse_prior.register(RandomWalkRV)
def _read_random_walk(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior | None:
    init_dist, innovation_dist, _ = rv.owner.inputs
    (*batch, T), dtype = shape, rv.type.dtype
    if op.ndim_supp > 1 or not is_long(T, 1, batch):
        return None
    start = component(init_dist, "init_dist", (1, *batch))
    steps = component(innovation_dist, "innovation_dist", (T - 1, *batch))
    if start.support_ndim or steps.support_ndim:
        return None
    by_time = [start.scale, start.mean, steps.scale, steps.mean]
    deviations, mean, sigma, drift = (pt.moveaxis(padded(x, len(shape)), 0, -1) for x in by_time)
    if sigma.type.shape[-1] != 1:
        return None
    if is_zero(drift):
        mean = pt.constant(0.0, dtype=dtype) if is_zero(mean) else mean
    elif drift.type.shape[-1] == 1:
        mean = mean + drift * np.arange(T, dtype=dtype)
    else:
        none = pt.zeros_like(drift[..., :1])
        mean = mean + pt.cumsum(pt.concatenate([none, drift], axis=-1), axis=-1)
    deviations = pt.reshape(pt.broadcast_to(deviations, (*batch, 1)), (-1, 1))
    t = np.arange(T)
    rows, columns = np.concatenate([t, t[2:]]), np.concatenate([t, t[1:-1]])
    own, beside = np.full(T, 2.0), np.full(T - 2, -1.0)
    own[[0, -1]] = 1.0
    values = pt.constant(np.concatenate([own, beside]).astype(dtype))
    responses = pt.constant(np.ones((T, 1), dtype=dtype))
    precision = of_series(rows, columns, values, responses, deviations)
    scale = sigma * (np.arange(T) >= 1).astype(dtype)
    valid = all_hold(start.valid, steps.valid)
    return GaussianPrior(mean, scale, valid=valid, precision=precision)


def of_series(
    rows: np.ndarray,
    columns: np.ndarray,
    values: Variable,
    responses: Variable,
    deviations: Variable,
) -> Precision:
    """Return the precision of several series of the determinant 1.

    Parameters
    ----------
    rows, columns : array of int, (N,)
    values : Variable, (N,) or (G, N)
    responses : Variable, (T, p)
        To the first values.
    deviations : Variable, (G, p)
        Their standard deviations.
    """
    T, p = responses.type.shape
    G, dtype = deviations.type.shape[0], responses.type.dtype
    first = np.arange(G)[:, None] * T
    own = pt.reshape(deviations, (G, 1, 1, p)) * responses[:, None, :]
    start = pt.constant(np.eye(G, dtype=dtype)[:, None, :, None]) * own
    if values.type.ndim == 1 and G > 1:
        values = pt.tile(values, G)
    return Precision(
        rows=(first + rows).reshape(-1),
        columns=(first + columns).reshape(-1),
        values=pt.reshape(values, (-1,)) if values.type.ndim > 1 else values,
        log_det=pt.constant(0.0, dtype=dtype),
        start=folded(pt.cast(pt.reshape(start, (G * T, G * p)), dtype)),
        pinned=(first + np.arange(p)).reshape(-1),
    )


def is_long(T: int, p: int, batch: Sequence[int], short: int = SMALL) -> bool:
    """Whether several series have more steps than a dense block should, and not many starts."""
    return min(short, SMALL) < T and int(np.prod(batch, dtype=int)) * p <= MOST_STARTS


@read_sparse_prior.register(CARRV)
def _read_car(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior | None:
    mean, W, alpha, tau, symmetric = op.dist_params(rv.owner)
    (*batch, N), dtype = shape, rv.type.dtype
    weights = known(weight_matrix(W)) if N > SMALL else None
    if weights is None or not np.array_equal(weights, weights.T) or not np.all(known(symmetric)):
        return None
    degrees = weights.sum(axis=0)
    if not (degrees > 0).all():
        return None
    alpha, tau = (pt.cast(pt.squeeze(parameter), dtype) for parameter in (alpha, tau))
    if alpha.type.ndim or tau.type.ndim:
        return None
    G = int(np.prod(batch, dtype=int))
    i, j = np.nonzero(np.tril(weights, -1))
    own = np.diag(weights)
    diagonal = pt.constant(degrees.astype(dtype)) - alpha * own.astype(dtype)
    beside = -alpha * weights[i, j].astype(dtype)
    rows, columns = np.concatenate([np.arange(N), i]), np.concatenate([np.arange(N), j])
    P = SparseSymmetric(rows, columns, pt.concatenate([diagonal, beside]), N)
    none = pt.constant(np.zeros((N, 0), dtype=dtype))
    log_det, *_ = solve_banded(Order.of(rows, columns, N), [P], none)
    first = np.arange(G)[:, None] * N
    precision = Precision(
        rows=(first + rows).reshape(-1),
        columns=(first + columns).reshape(-1),
        values=P.values if G == 1 else pt.tile(P.values, G),
        log_det=G * log_det,
        start=np.zeros((G * N, 0)),
        pinned=np.zeros(0, dtype=int),
    )
    log_factor = pt.constant(0.5 * G * (N * LOG_2PI - np.log(degrees).sum()), dtype=dtype)
    valid = all_hold(pt.gt(alpha, -1), pt.lt(alpha, 1), pt.gt(tau, 0))
    return GaussianPrior(
        mean, 1 / pt.sqrt(tau), log_factor=log_factor, valid=valid, precision=precision
    )


@read_sparse_prior.register(ICARRV)
def _read_icar(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior | None:
    W, sigma, mean_sd = rv.owner.op.dist_params(rv.owner)
    dtype, weights = rv.type.dtype, known(W)
    if len(shape) != 1 or weights is None or shape[0] <= SMALL or sigma.type.ndim:
        return None
    (N,) = shape
    neighbours = neighbours_of(weights)
    i, j = np.nonzero(np.tril(neighbours))
    if graph.connected_components(neighbours)[0] > 1 or mean_sd.type.ndim:
        return None
    degrees = neighbours.sum(axis=0).astype(dtype)
    degrees[0] = 1.0
    others = j > 0  # area 0 stands for itself
    i, j = i[others], j[others]
    rows, columns = np.concatenate([np.arange(N), i]), np.concatenate([np.arange(N), j])
    values = pt.constant(np.concatenate([degrees, -np.ones(len(i), dtype=dtype)]))
    P = SparseSymmetric(rows, columns, values, N)
    none = pt.constant(np.zeros((N, 0), dtype=dtype))
    log_det = folded(solve_banded(Order.of(rows, columns, N), [P], none)[0])
    precision = Precision(
        rows=rows,
        columns=columns,
        values=values,
        log_det=log_det,
        start=np.ones((N, 1)),
        pinned=np.zeros(1, dtype=int),
        mean_sd=mean_sd if known(mean_sd) is None else np.asarray(known(mean_sd)),
        centred=True,
    )
    log_factor = 0.5 * ((N - 1) * LOG_2PI - log_det) - np.log(N) + (N - 1) * pt.log(sigma)
    scale = sigma * (np.arange(N) > 0).astype(dtype)
    valid = all_hold(pt.gt(sigma, 0), pt.gt(mean_sd, 0))
    zero = pt.constant(0.0, dtype=dtype)
    return GaussianPrior(zero, scale, log_factor=log_factor, valid=valid, precision=precision)
