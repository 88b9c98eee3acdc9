r"""Conditional autoregressions on a graph of neighbours, :class:`pymc.CAR` and :class:`pymc.ICAR`.

With the weights ``W``, ``D = diag(Σ_j W_ij)`` and the eigenvalues and vectors
``D^{−½} W D^{−½} = Q diag(λ) Qᵀ``, numbers that are known when the model is read, the precision of
a CAR is ``τ(D − αW) = τ D^{½} Q (I − α diag(λ)) Qᵀ D^{½}``, so that

    Λ = D^{−½} Q diag(τ (1 − αλ))^{−½}

is a square root of its inverse: only multiples of its columns depend on parameters. An ICAR has
the precision ``(D − W)/σ² + 11ᵀ/(sN)²``. Where the graph is connected, ``D − W = Q diag(μ) Qᵀ`` has
one eigenvalue 0, whose vector is ``1/√N``, and

    Λ = [σ Q₊ diag(μ₊)^{−½},  s 1].

PyMC's densities of both are not normalised; ``log_factor`` is the logarithm of their integrals.
"""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.multivariate import CARRV, ICARRV
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.op import Op
from pytensor.sparse.basic import DenseFromSparse, dense_from_sparse
from pytensor.sparse.type import SparseTensorType
from pytensor.tensor.elemwise import DimShuffle
from scipy import sparse

from pymc_marginal_lmm.analysis.priors.prior import (
    GaussianPrior,
    NotGaussian,
    known,
    read_prior,
)
from pymc_marginal_lmm.analysis.remedies import Remedy
from pymc_marginal_lmm.analysis.validity import all_hold

__all__ = ["LOG_2PI", "folded", "neighbours_of", "weight_matrix"]

LOG_2PI = float(np.log(2 * np.pi))


@read_prior.register(CARRV)
def _read_car(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior:
    mean, W, alpha, tau, symmetric = op.dist_params(rv.owner)
    *batch, N = shape
    W = pt.cast(weight_matrix(W), rv.type.dtype)
    degrees = folded(W.sum(axis=0))
    if isinstance(degrees, Constant) and not (degrees.data > 0).all():
        raise NotGaussian(
            f"area {int(np.argmin(degrees.data))} has no neighbours, which PyMC's density of a "
            "CAR divides by the number of",
            Remedy.OWN_PRIOR,
        )
    root = pt.sqrt(degrees)
    eigenvalues, Q = (folded(part) for part in pt.linalg.eigh(W / root / root[:, None]))
    alpha, tau, symmetric = (pt.squeeze(parameter) for parameter in (alpha, tau, symmetric))
    scale = folded(Q / root[:, None]) / pt.sqrt(tau * (1 - alpha * eigenvalues))
    n_blocks = int(np.prod(batch, dtype=int))
    log_factor = 0.5 * n_blocks * (N * LOG_2PI - folded(pt.log(degrees).sum()))
    symmetric = folded(pt.all(symmetric))
    valid = all_hold(pt.gt(alpha, -1), pt.lt(alpha, 1), pt.gt(tau, 0), symmetric)
    return GaussianPrior(mean, scale, support_ndim=1, log_factor=log_factor, valid=valid)


@read_prior.register(ICARRV)
def _read_icar(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior:
    W, sigma, sum_sd = op.dist_params(rv.owner)
    if len(shape) > 1:
        raise NotGaussian(
            "PyMC's density of an ICAR is that of one vector, and this is several",
            Remedy.ONE_PER_VECTOR,
        )
    (N,) = shape
    neighbours = neighbours_of(np.asarray(known(W)))
    n_parts, _ = sparse.csgraph.connected_components(neighbours)
    if n_parts > 1:
        raise NotGaussian(
            f"its graph is in {n_parts} parts that are no neighbours of each other, between "
            "which its prior is flat, so that its density has no integral",
            Remedy.ONE_PER_PART,
        )
    eigenvalues, Q = np.linalg.eigh(np.diag(neighbours.sum(axis=0)) - neighbours.astype(float))
    eigenvalues, Q = eigenvalues[1:], Q[:, 1:]
    differences = (Q / np.sqrt(eigenvalues)).astype(rv.type.dtype)
    total = np.ones((N, 1), dtype=rv.type.dtype)
    scale = pt.concatenate([sigma * differences, sum_sd * total], axis=1)
    constant = 0.5 * ((N - 1) * LOG_2PI - np.log(N) - np.log(eigenvalues).sum())
    return GaussianPrior(
        pt.constant(0.0, dtype=rv.type.dtype),
        scale,
        support_ndim=1,
        log_factor=constant + (N - 1) * pt.log(sigma),
        valid=all_hold(pt.gt(sigma, 0), pt.gt(sum_sd, 0)),
    )


def neighbours_of(weights: np.ndarray) -> np.ndarray:
    """Return which areas of an ICAR are neighbours: PyMC looks below the diagonal only."""
    below = np.tril(weights, -1) != 0
    return below | below.T


def weight_matrix(W: Variable) -> Variable:
    """Return weights as a dense matrix."""
    while W.owner and isinstance(W.owner.op, DimShuffle | DenseFromSparse):
        (W,) = W.owner.inputs  # only ever batch axes
    if not isinstance(W.type, SparseTensorType):
        return W
    return pt.constant(W.data.toarray()) if isinstance(W, Constant) else dense_from_sparse(W)


def folded(variable: Variable) -> Variable:
    """Return a constant, where a variable is known."""
    value = known(variable)
    return variable if value is None else pt.constant(value.astype(variable.type.dtype))
