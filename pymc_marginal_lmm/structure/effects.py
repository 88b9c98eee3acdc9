"""Variables that are integrated out, and their priors."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.structure.array import Array

__all__ = ["Precision", "RandomEffects"]


@dataclass(frozen=True)
class Precision:
    """A prior with few neighbours: ``v = mean + scale · x + start z``, ``x ~ Normal(P⁻¹g, P⁻¹)``.

    What ``P`` cannot say without dividing by a scale is in ``start``: a random walk is ``σ`` times
    one of unit steps from zero, and where it starts, with a standard deviation of its own. What
    ``mean`` cannot say without growing beyond all bounds is in ``g``.

    Parameters
    ----------
    rows, columns : array of int, (N,)
        Where the lower triangle of ``P`` can be non-zero, once each.
    values : Variable, (N,)
    log_det : Variable
        ``log|P|``.
    start : array or Variable, (q, k)
        What multiplies standard Normal ``z``.
    pinned : array of int, (k,)
        Elements of which ``start`` is a diagonal matrix. Where it is not 0 their scale is 0 and
        they have no neighbours in ``P``; where it is 0, all of ``start`` is.
    mean_sd : array or Variable, ()
        Where ``centred``.
    centred : bool
        The one ``z``, with a column of ones, has no prior, but the mean of all elements has one:
        Normal around 0 with this standard deviation (:class:`pymc.ICAR`).
    shift : array or Variable, (q,)
        ``g``; without dimensions if it is 0.
    shift_square : array or Variable, ()
        ``gᵀP⁻¹g``.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: Variable
    log_det: Variable
    start: Array
    pinned: np.ndarray
    mean_sd: Array = field(default_factory=lambda: np.zeros(()))
    centred: bool = False
    shift: Array = field(default_factory=lambda: np.zeros(()))
    shift_square: Array = field(default_factory=lambda: np.zeros(()))

    @property
    def n_starts(self) -> int:
        """``k``."""
        return len(self.pinned)


@dataclass(frozen=True)
class RandomEffects:
    """One variable that is integrated out: ``v = mean + Λ u`` with ``u`` standard normal.

    Parameters
    ----------
    name, dims, shape, dtype
        Those of the model's variable ``v``.
    support_ndim : int
        How many of the last axes the prior correlates: 0 for :class:`pymc.Normal`, 1 for
        :class:`pymc.MvNormal`. Their elements are a *block*, of ``width`` ``S``.
    flat : bool
        The prior is improper and uniform (:class:`pymc.Flat`).
    scale : Variable
        Standard deviation, broadcastable to ``shape`` (no support axes), or a square root ``Λ`` of
        the covariance of blocks, ``(..., S, S)`` with batch dimensions broadcastable to
        ``batch_shape``.
    mean : Variable
        Prior mean, broadcastable to ``shape``, but for the shift of a precision. May depend on
        other integrated variables.
    zero_sum : bool
        The prior is :class:`pymc.ZeroSumNormal`: ``Λ`` is a multiple of the projection on what
        sums to zero along each support axis.
    valid : array or Variable of bool, ()
        Whether the parameters of the prior are ones; the density is 0 where they are not.
    log_factor : array or Variable, ()
        Logarithm of what PyMC's density of the prior integrates to, all blocks together: that of
        :class:`pymc.ICAR` is a function of its sigma.
    precision : Precision or None
        The prior couples the elements, by a sparse precision: they are blocks of one all the same.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    support_ndim: int
    flat: bool
    scale: Variable
    mean: Variable
    zero_sum: bool = False
    valid: Array = field(default_factory=lambda: np.array(True))
    log_factor: Array = field(default_factory=lambda: np.zeros(()))
    precision: Precision | None = None

    @property
    def size(self) -> int:
        """Number of elements ``q``."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape without the support axes."""
        return self.shape[: len(self.shape) - self.support_ndim]

    @property
    def support_shape(self) -> tuple[int, ...]:
        """Lengths of the support axes."""
        return self.shape[len(self.shape) - self.support_ndim :]

    @property
    def width(self) -> int:
        """Length ``S`` of a block."""
        return int(np.prod(self.support_shape, dtype=int))

    @property
    def rank(self) -> int:
        """Dimensions in which a block varies."""
        free = (length - 1 for length in self.support_shape) if self.zero_sum else (self.width,)
        return int(np.prod(list(free), dtype=int))

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return int(np.prod(self.batch_shape, dtype=int))

    @property
    def correlated(self) -> bool:
        """Whether ``scale`` is a matrix."""
        return self.support_ndim > 0
