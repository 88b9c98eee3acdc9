"""Read the distributions: which variables are Gaussian, and with what mean and scale."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.continuous import FlatRV
from pymc.distributions.custom import CustomDistRV
from pymc.distributions.multivariate import ZeroSumNormalRV
from pymc.distributions.transforms import _default_transform
from pymc.logprob.transforms import Transform
from pytensor.graph.basic import Variable
from pytensor.scalar.basic import Clip, Second
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot
from pytensor.tensor.random.basic import MvNormalRV, NormalRV

from pymc_marginal_lmm.analysis.validity import definite, nonnegative, proper_root
from pymc_marginal_lmm.structure import Array

__all__ = [
    "GaussianPrior",
    "distribution_name",
    "integrates_to_one",
    "is_gaussian",
    "is_transpose",
    "read_prior",
    "square_root",
    "unfilled",
]


class GaussianPrior(NamedTuple):
    """A Normal, multivariate Normal, zero-sum Normal or flat prior; see ``RandomEffects``."""

    mean: Variable
    scale: Variable
    support_ndim: int = 0
    flat: bool = False
    zero_sum: bool = False
    valid: Array = np.array(True)


def distribution_name(rv: Variable) -> str:
    """Name the distribution of a random variable as PyMC users know it."""
    op = rv.owner.op if rv.owner else None
    if isinstance(op, Elemwise) and isinstance(op.scalar_op, Clip):
        return "Censored"  # as pymc.dims writes it
    printed, *_ = getattr(op, "_print_name", None) or ("Unknown",)
    printed = type(op or rv).__name__ if printed == "Unknown" else printed
    name = printed.removesuffix(f"_{rv.name}")  # CustomDist_y
    name = {"MultivariateNormal": "MvNormal", "_lkjcholeskycov": "LKJCholeskyCov"}.get(name, name)
    return name.removeprefix("_").removesuffix("RV").removesuffix("RandomVariable")


def is_gaussian(rv: Variable) -> bool:
    """Whether the prior of a random variable is one that can be integrated out."""
    op = rv.owner.op if rv.owner else None
    return isinstance(op, NormalRV | MvNormalRV | ZeroSumNormalRV | FlatRV)


def integrates_to_one(rv: Variable, transform: Transform | None) -> bool:
    """Say whether the density of a variable surely does, whatever its parameters.

    Densities that users wrote need not. A transform may leave out part of the support, and the
    density integrates to the probability of the rest; only the transform that a distribution has
    by default is known not to.
    """
    if isinstance(rv.owner.op, CustomDistRV):
        return False
    if transform is None:
        return True
    default = _default_transform(rv.owner.op, rv)
    # Bounds are functions of the parameters, made anew for each variable.
    bounds = [getattr(getattr(t, "args_fn", None), "__code__", None) for t in (transform, default)]
    return type(transform) is type(default) and bounds[0] == bounds[1]


def read_prior(rv: Variable, shape: tuple[int, ...] = ()) -> GaussianPrior:
    """Read the prior of a Gaussian random variable; of a zero-sum one the shape matters."""
    node = rv.owner
    match node.op if node else None:
        case NormalRV():
            mean, sigma = node.op.dist_params(node)
            return GaussianPrior(mean, sigma, valid=nonnegative(sigma))
        case MvNormalRV():
            mean, cov = node.op.dist_params(node)
            root, valid = square_root(cov)
            return GaussianPrior(unfilled(mean), root, support_ndim=1, valid=valid)
        case ZeroSumNormalRV():
            ndim = node.op.ndim_supp
            sigma = node.op.dist_params(node)[0][(..., *[0] * ndim)]
            projection: np.ndarray = np.ones((1, 1))
            for length in shape[-ndim:]:
                projection = np.kron(projection, np.eye(length) - 1 / length)
            scale = pt.shape_padright(sigma, 2) * projection.astype(sigma.type.dtype)
            mean = pt.constant(0.0, dtype=rv.type.dtype)
            valid = nonnegative(sigma)
            return GaussianPrior(mean, scale, support_ndim=ndim, zero_sum=True, valid=valid)
        case FlatRV():
            zero, one = (pt.constant(value, dtype=rv.type.dtype) for value in (0.0, 1.0))
            return GaussianPrior(zero, one, flat=True)
    raise TypeError(f"{rv} is not Gaussian")


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
    return mean


def square_root(cov: Variable) -> tuple[Variable, Array]:
    """Return ``Λ`` with ``Λ Λᵀ = cov``, the factor the user wrote if there is one, and a condition.

    Where that does not hold, PyMC has no density for this covariance.

    ``pm.MvNormal(chol=L)`` stores ``L @ L.T``. Finding ``L`` again is exact where a new
    factorisation fails (a standard deviation of 0, a correlation of ±1).
    """
    node = cov.owner
    if node and isinstance(node.op, DimShuffle) and _adds_batch_dims(node.op):
        root, valid = square_root(node.inputs[0])
        return node.op(root), valid
    if node and isinstance(getattr(node.op, "core_op", node.op), Dot):
        left, right = node.inputs
        square = left.type.shape[-1] is not None and left.type.shape[-1] == left.type.shape[-2]
        if square and is_transpose(right, left):
            return left, proper_root(left)
    root = pt.linalg.cholesky(cov)
    return root, definite(root)


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
