"""Read the likelihoods: which are Gaussian around their mean, and with what covariance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pymc.model.fgraph import ModelDeterministic
from pytensor import config
from pytensor.graph.basic import Variable
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.linalg.inverse import MatrixInverse
from pytensor.tensor.math import Dot
from pytensor.tensor.random.basic import LogNormalRV, MvNormalRV, NormalRV
from pytensor.tensor.shape import SpecifyShape

from pymc_marginal_lmm.analysis.priors import is_transpose, unfilled, written_root
from pymc_marginal_lmm.analysis.remedies import Remedy
from pymc_marginal_lmm.analysis.terms import Refusal
from pymc_marginal_lmm.structure import Array, Correlation
from pymc_marginal_lmm.values import Values

__all__ = ["Likelihood", "check_covariance", "is_likelihood", "read_likelihood"]


@dataclass(frozen=True)
class Likelihood:
    """Family, mean and residual covariance of a response; see ``structure.Response``."""

    family: Literal["normal", "lognormal"]
    mean: Variable
    sigma: Variable
    correlation: Correlation | None = None


def is_likelihood(rv: Variable) -> bool:
    """Whether Normal effects in the mean of a response integrate out exactly."""
    op = rv.owner.op if rv.owner else None
    return type(op) in (NormalRV, LogNormalRV, MvNormalRV)


def read_likelihood(rv: Variable, values: Values) -> Likelihood:
    """Read a likelihood that :func:`is_likelihood` knows.

    Raises
    ------
    NotKnown
        The shape of its covariance depends on a sampled variable.
    """
    node = rv.owner
    mean, scale = node.op.dist_params(node)
    match node.op:
        case MvNormalRV():
            return Likelihood("normal", unfilled(mean), *_scaled(scale, values))
        case LogNormalRV():
            return Likelihood("lognormal", mean, scale)
    return Likelihood("normal", mean, scale)


def _scaled(cov: Variable, values: Values) -> tuple[Variable, Correlation]:
    """Write a covariance as ``sigma² · matrix``, with numbers if it has no other parameter."""
    one = pt.constant(1.0, dtype=config.floatX)
    variance, matrix = _multiple(cov)
    _, valid = written_root(cov) or (None, np.array(True))
    if isinstance(matrix, np.ndarray):
        constant = Values().constant(cov) is not None
        if constant or _is_positive_definite(matrix):
            return one if constant else pt.sqrt(variance), Correlation(matrix, valid)
    return one, Correlation(pt.specify_shape(cov, values.shape(cov)), valid)


def check_covariance(
    leaves: Iterable[Variable], name: str, likelihood: Likelihood, shape: tuple[int, ...]
) -> None:
    """Refuse effects of a response whose covariance cannot be that of its rows."""
    if likelihood.correlation is None:
        return
    matrix = likelihood.correlation.matrix
    own = matrix.shape if isinstance(matrix, np.ndarray) else matrix.type.shape
    try:
        fits = np.broadcast_shapes(own[:-2], shape[:-1]) == shape[:-1]
    except ValueError:
        fits = False
    if not fits or own[-2:] != (shape[-1], shape[-1]):
        raise Refusal(
            leaves,
            f"the covariance of '{name}' has shape {own} where its values have shape {shape}",
            Remedy.COVARIANCE_SHAPE,
        )
    if isinstance(matrix, np.ndarray) and not _is_positive_definite(matrix):
        raise Refusal(
            leaves,
            f"the covariance of '{name}' is not positive definite",
            Remedy.CORRECT_COVARIANCE,
        )


def _is_positive_definite(matrix: np.ndarray) -> bool:
    """Whether all matrices of a stack are, as far as Cholesky factors tell."""
    try:
        return bool(np.isfinite(np.linalg.cholesky(matrix)).all())
    except np.linalg.LinAlgError:
        return False


def _multiple(matrix: Variable) -> tuple[Variable, Array]:
    """Write a matrix as a scalar times numbers where it is; else as 1 times itself."""
    one = pt.constant(1.0, dtype=config.floatX)
    known = Values().constant(matrix)
    if known is not None:
        return one, known.astype("float64")
    node = matrix.owner
    op = node.op if node else None
    if isinstance(op, ModelDeterministic | SpecifyShape):
        return _multiple(node.inputs[0])
    if isinstance(op, DimShuffle) and not op.drop:
        factor, numbers = _multiple(node.inputs[0])
        if isinstance(numbers, np.ndarray):
            return factor, _shuffled(op, numbers)
    if isinstance(op, Elemwise) and isinstance(op.scalar_op, ps.Mul):
        parts = [_multiple(v) for v in node.inputs if not _is_scalar(v)]
        factors = [_as_scalar(v) for v in node.inputs if _is_scalar(v)]
        if parts and all(isinstance(numbers, np.ndarray) for _, numbers in parts):
            product = pt.mul(*factors, *(factor for factor, _ in parts), one)
            return product, reduce(np.multiply, (numbers for _, numbers in parts))
    if isinstance(op, Elemwise) and isinstance(op.scalar_op, ps.TrueDiv):
        numerator, denominator = node.inputs
        factor, numbers = _multiple(numerator)
        if _is_scalar(denominator) and isinstance(numbers, np.ndarray):
            return factor / _as_scalar(denominator), numbers
    core = op.core_op if isinstance(op, Blockwise) else op
    if isinstance(core, MatrixInverse):
        factor, numbers = _multiple(node.inputs[0])
        if isinstance(numbers, np.ndarray):
            return 1 / factor, np.linalg.inv(numbers)
    if isinstance(core, Dot) and is_transpose(node.inputs[1], node.inputs[0]):
        factor, numbers = _multiple(node.inputs[0])
        if isinstance(numbers, np.ndarray):
            return factor**2, numbers @ np.swapaxes(numbers, -1, -2)
    return one, matrix


def _is_scalar(variable: Variable) -> bool:
    return all(length == 1 for length in variable.type.shape)


def _as_scalar(variable: Variable) -> Variable:
    return pt.reshape(variable, ()) if variable.type.ndim else variable


def _shuffled(op: DimShuffle, numbers: np.ndarray) -> np.ndarray:
    order = [axis for axis in op.new_order if axis != "x"]
    shape = [1 if axis == "x" else numbers.shape[axis] for axis in op.new_order]
    return numbers.transpose(order).reshape(shape)
