"""What a Gaussian prior is, and the function that reads one."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
from pytensor.graph.basic import Variable
from pytensor.graph.op import Op
from pytensor.tensor.elemwise import DimShuffle

from pymc_marginal_lmm.structure import Array, Precision
from pymc_marginal_lmm.values import NotKnown, Values

__all__ = [
    "GaussianPrior",
    "NotGaussian",
    "is_gaussian",
    "is_transposed",
    "known",
    "known_shape",
    "read_prior",
    "read_sparse_prior",
]


class GaussianPrior(NamedTuple):
    """A prior that is Gaussian given parameters: ``v = mean + Λ u``; see ``RandomEffects``.

    Parameters
    ----------
    mean : Variable
        Broadcastable to the variable's shape. It may depend on other effects.
    scale : Variable
        Standard deviation, or a square root ``Λ`` of the covariance of blocks.
    support_ndim : int
        How many of the last axes the prior correlates: they are one block.
    flat : bool
        The prior is improper and uniform.
    zero_sum : bool
        ``Λ`` is a multiple of the projection on what sums to zero.
    valid : array or Variable of bool, ()
        Whether the parameters are ones; see :mod:`pymc_marginal_lmm.analysis.validity`.
    log_factor : array or Variable, ()
        Logarithm of what PyMC's density integrates to.
    precision : Precision or None
        The prior couples elements by a sparse precision, and ``scale`` is that of each element.
    unshifted : GaussianPrior or None
        The same without a shift of its precision, for means that depend on other effects.
    unseen : callable or None
        What must hold for the parameters if up to so many elements at the end of the last axis
        occur in no row.
    """

    mean: Variable
    scale: Variable
    support_ndim: int = 0
    flat: bool = False
    zero_sum: bool = False
    valid: Array = np.array(True)
    log_factor: Array = np.zeros(())
    precision: Precision | None = None
    unshifted: GaussianPrior | None = None
    unseen: Callable[[int], Array] | None = None


class NotGaussian(Exception):
    """A prior is of a kind that can be Gaussian, but this one is not, or is not understood.

    Parameters
    ----------
    reason, remedy : str
        As those of ``NotMarginalizable``.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(reason)


@singledispatch
def read_prior(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior:
    """Read the prior of a Gaussian random variable.

    Dispatches on the type of the Op that draws the variable. To teach the package a prior,
    register a function with ``read_prior.register(ItsOp)``.

    Parameters
    ----------
    op : Op
        ``rv.owner.op``.
    rv : Variable
        The random variable.
    shape : tuple of int
        Its shape.

    Raises
    ------
    NotGaussian
        The prior is of a kind that can be Gaussian, but this one is not.
    """
    raise TypeError(f"{rv} is not Gaussian")


@singledispatch
def read_sparse_prior(op: Op, rv: Variable, shape: tuple[int, ...]) -> GaussianPrior | None:
    """Read a prior by its precision, where that is sparse; None where it is not.

    Dispatches as :func:`read_prior`, which reads the same prior by a square root.
    """
    return None


def is_gaussian(rv: Variable) -> bool:
    """Whether the prior of a random variable is of a kind that can be integrated out."""
    op: Any = rv.owner.op if rv.owner else None
    return read_prior.dispatch(type(op)) is not read_prior.dispatch(object)


def is_transposed(rv: Variable) -> bool:
    """Whether a variable is a Gaussian one with its axes in another order, as of ``pymc.dims``."""
    node = rv.owner
    return node is not None and isinstance(node.op, DimShuffle) and is_gaussian(node.inputs[0])


def known(variable: Variable) -> np.ndarray | None:
    """Return the value of a variable that depends on constants only, or None."""
    return Values().constant(variable)


def known_shape(variable: Variable) -> tuple[int, ...] | None:
    """Return the shape of a variable, or None if it depends on what is sampled."""
    try:
        return Values().shape(variable)
    except NotKnown:
        return None
