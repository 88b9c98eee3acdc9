"""Which parameters of a prior are ones: the conditions that PyMC checks in the plain model.

Outside the support of its parameters a model has the density 0, and ``F`` would not notice: it
depends on squares of scales only, and is NaN where a covariance has no square root. What a prior
asks of its parameters is read with it, as one condition
(:attr:`~pymc_marginal_lmm.structure.RandomEffects.valid`), and checked once, where the density is
put together. A scale of 0 is allowed, unlike in PyMC: the effects are then equal to their means.
"""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.multivariate import _LKJCholeskyCovRV
from pymc.model.fgraph import ModelFreeRV
from pytensor.assumptions.core import DIAGONAL, LOWER_TRIANGULAR, check_assumption
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.tensor.elemwise import DimShuffle

from pymc_marginal_lmm.analysis.selection import value_inputs
from pymc_marginal_lmm.structure import Array
from pymc_marginal_lmm.values import Values

__all__ = ["all_hold", "definite", "nonnegative", "not_infinite", "proper_root"]


def all_hold(*conditions: Array) -> Array:
    """Join conditions on parameters to one, of no dimensions: a number if all are numbers."""
    known = [c for c in conditions if not isinstance(c, Variable)]
    unknown = [pt.all(c) for c in conditions if isinstance(c, Variable)]
    if not unknown or not all(np.all(c) for c in known):
        return np.array(all(np.all(c) for c in known))
    return unknown[0] if len(unknown) == 1 else pt.all(pt.stack(unknown))


def nonnegative(scale: Variable) -> Array:
    """Return the condition on a standard deviation, or on many."""
    return all_hold(scale.data >= 0 if isinstance(scale, Constant) else pt.ge(scale, 0))


def not_infinite(mean: Variable, values: Values) -> Array:
    """Return the condition on the mean of a prior: at ±∞ no value has a density.

    A NaN is not of its making, and stays one.
    """
    known = values.constant(mean)
    return all_hold(~pt.isinf(mean) if known is None else ~np.isinf(known))


def definite(root: Variable) -> Array:
    """Return the condition on a factor that a factorisation found: NaN where there is none."""
    return all_hold(pt.gt(pt.diagonal(root, axis1=-2, axis2=-1), 0))


def proper_root(root: Variable) -> Array:
    """Return the condition on a square root of a covariance that the user wrote.

    PyMC checks the diagonal of a triangular one; of others, whether the product is definite, which
    it is but where it is singular.
    """
    if not _is_triangular(root) or _has_positive_diagonal(root):
        return np.array(True)
    if isinstance(root, Constant):
        return all_hold(np.diagonal(root.data, axis1=-2, axis2=-1) >= 0)
    return all_hold(pt.ge(pt.diagonal(root, axis1=-2, axis2=-1), 0))


def _is_triangular(root: Variable) -> bool:
    """Whether PyTensor takes ``cholesky(L Lᵀ)`` to be this ``L``, whatever its signs."""
    if root.owner and isinstance(root.owner.op, DimShuffle) and root.owner.op.is_matrix_transpose:
        return False
    graph = FunctionGraph(outputs=[root], clone=True)
    if check_assumption(graph, graph.outputs[0], DIAGONAL):
        return False  # PyTensor takes roots of the squares on its diagonal
    if getattr(root.tag, "lower_triangular", False):
        return True
    return check_assumption(graph, graph.outputs[0], LOWER_TRIANGULAR)


def _has_positive_diagonal(root: Variable) -> bool:
    """Whether a matrix is made of a factor of ``LKJCholeskyCov`` and zeros, as PyMC unpacks it."""
    if isinstance(root, Constant):
        return bool((root.data >= 0).all())
    node = root.owner
    if node is None or isinstance(node.op, _LKJCholeskyCovRV):
        return node is not None
    places = [0] if isinstance(node.op, ModelFreeRV) else value_inputs(node)
    return places is not None and all(_has_positive_diagonal(node.inputs[i]) for i in places)
