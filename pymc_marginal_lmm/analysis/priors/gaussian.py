"""Priors that PyMC writes with a mean and a covariance."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.continuous import FlatRV
from pymc.distributions.multivariate import KroneckerNormalRV, MatrixNormalRV, ZeroSumNormalRV
from pytensor.graph.basic import Variable
from pytensor.graph.op import Op
from pytensor.scalar.basic import Second
from pytensor.tensor.basic import Alloc
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot
from pytensor.tensor.random.basic import MvNormalRV, NormalRV

from pymc_marginal_lmm.analysis.priors.prior import GaussianPrior, known, read_prior
from pymc_marginal_lmm.analysis.validity import all_hold, definite, nonnegative, proper_root
from pymc_marginal_lmm.structure import Array

__all__ = ["is_transpose", "square_root", "unfilled", "written_root"]


@read_prior.register(NormalRV)
def _read_normal(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior:
    mean, sigma = op.dist_params(rv.owner)
    return GaussianPrior(mean, sigma, valid=nonnegative(sigma))


@read_prior.register(MvNormalRV)
def _read_mv_normal(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior:
    mean, cov = op.dist_params(rv.owner)
    root, valid = square_root(cov)
    return GaussianPrior(unfilled(mean), root, support_ndim=1, valid=valid)


@read_prior.register(ZeroSumNormalRV)
def _read_zero_sum_normal(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior:
    ndim = op.ndim_supp
    sigma = op.dist_params(rv.owner)[0][(..., *[0] * ndim)]
    projection: np.ndarray = np.ones((1, 1))
    for length in shape[-ndim:]:
        projection = np.kron(projection, np.eye(length) - 1 / length)
    scale = pt.shape_padright(sigma, 2) * projection.astype(sigma.type.dtype)
    mean = pt.constant(0.0, dtype=rv.type.dtype)
    valid = nonnegative(sigma)
    return GaussianPrior(mean, scale, support_ndim=ndim, zero_sum=True, valid=valid)


@read_prior.register(FlatRV)
def _read_flat(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior:
    zero, one = (pt.constant(value, dtype=rv.type.dtype) for value in (0.0, 1.0))
    return GaussianPrior(zero, one, flat=True)


@read_prior.register(MatrixNormalRV)
def _read_matrix_normal(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior:
    """Elements, row by row, have the covariance ``U ⊗ V`` of rows and columns."""
    mean, rows, columns = op.dist_params(rv.owner)  # two Cholesky factors
    diagonals = (pt.diagonal(root, axis1=-2, axis2=-1) for root in (rows, columns))
    valid = all_hold(*(pt.ge(diagonal, 0) for diagonal in diagonals))
    return GaussianPrior(unfilled(mean), kron(rows, columns), support_ndim=2, valid=valid)


@read_prior.register(KroneckerNormalRV)
def _read_kronecker_normal(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior:
    """``K₁ ⊗ K₂ ⊗ …``, plus ``σ²`` on the diagonal."""
    mean, sigma, *covs = op.dist_params(rv.owner)
    noise = known(sigma)
    if noise is not None and not np.any(noise):
        roots, conditions = zip(*map(square_root, covs), strict=True)
        scale, valid = reduce(kron, roots), all_hold(*conditions)
    else:
        variance = pt.shape_padright(sigma**2, 2) * pt.eye(shape[-1])
        scale = pt.linalg.cholesky(reduce(kron, covs) + variance)
        valid = definite(scale)
    return GaussianPrior(unfilled(mean), scale, support_ndim=1, valid=valid)


def kron(left: Variable, right: Variable) -> Variable:
    """``left ⊗ right`` of the last two axes: a product, which can be seen through."""
    product = left[..., :, None, :, None] * right[..., None, :, None, :]
    rows, columns = (left.shape[axis] * right.shape[axis] for axis in (-2, -1))
    shape = (*product.shape[:-4], rows, columns)
    return pt.reshape(product, shape, ndim=product.type.ndim - 2)


def unfilled(mean: Variable) -> Variable:
    """Undo PyMC's filling of a mean to the shape of the covariance.

    A mean of 0 would else depend on the covariance's parameters, and the offset of the linear
    predictor with it.
    """
    node = mean.owner
    if node and isinstance(node.op, DimShuffle):
        return node.op(unfilled(node.inputs[0]))
    if node and isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, Second):
        return unfilled(node.inputs[1])
    if node and isinstance(node.op, Alloc):
        filling = node.inputs[0]
        return unfilled(pt.shape_padleft(filling, mean.type.ndim - filling.type.ndim))
    return mean


def square_root(cov: Variable) -> tuple[Variable, Array]:
    """Return ``Λ`` with ``Λ Λᵀ = cov``, the factor the user wrote if there is one, and a condition.

    Where that does not hold, PyMC has no density for this covariance.

    ``pm.MvNormal(chol=L)`` stores ``L @ L.T``. Finding ``L`` again is exact where a new
    factorisation fails (a standard deviation of 0, a correlation of ±1).
    """
    written = written_root(cov)
    if written is not None:
        return written
    root = pt.linalg.cholesky(cov)
    return root, definite(root)


def written_root(cov: Variable) -> tuple[Variable, Array] | None:
    """Return the square root of a covariance that the user wrote, if any, and its condition."""
    node = cov.owner
    if node and isinstance(node.op, DimShuffle) and _adds_batch_dims(node.op):
        inner = written_root(node.inputs[0])
        return None if inner is None else (node.op(inner[0]), inner[1])
    if node and isinstance(getattr(node.op, "core_op", node.op), Dot):
        left, right = node.inputs
        square = left.type.shape[-1] is not None and left.type.shape[-1] == left.type.shape[-2]
        if square and is_transpose(right, left):
            return left, proper_root(left)
    return None


def _adds_batch_dims(op: DimShuffle) -> bool:
    ndim = op.input_ndim
    return op.is_expand_dims and ndim >= 2 and op.new_order[-2:] == (ndim - 2, ndim - 1)


def is_transpose(candidate: Variable, matrix: Variable) -> bool:
    """Whether one matrix, or stack of matrices, is the other transposed."""
    node = candidate.owner
    if not node or node.inputs[0] is not matrix:
        return False
    if isinstance(node.op, DimShuffle):
        ndim = matrix.type.ndim
        return node.op.new_order == (*range(ndim - 2), ndim - 1, ndim - 2)
    return isinstance(node.op, Blockwise) and "Transpose" in type(node.op.core_op).__name__
