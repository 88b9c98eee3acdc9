"""Likelihoods: rows, their offsets and their noise."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pytensor.graph.basic import Variable
from scipy.sparse import csr_array

from pymc_marginal_lmm.structure.array import Array

__all__ = ["Correlation", "Noise", "Regression", "Response"]


MANY_PAIRS = 4_000_000
"""So many pairs of rows are not listed."""


@dataclass(frozen=True)
class Correlation:
    """Rows along the last axis of a response, a *batch*, are correlated.

    Parameters
    ----------
    matrix : array or Variable, (..., k, k)
        Their covariance is ``sigma² · matrix``; numbers if these are known when the model is read.
        Its batch dimensions broadcast to those of the response.
    valid : array or Variable of bool, ()
        What else the plain model asks of its parameters, as of a square root that was given.
    """

    matrix: Array
    valid: Array = field(default_factory=lambda: np.array(True))


@dataclass(frozen=True)
class Response:
    """One likelihood: ``y`` or ``log y`` is Normal around the linear predictor.

    Parameters
    ----------
    name : str
        Of the observed variable.
    family : {"normal", "lognormal"}
        Its distribution.
    shape : tuple of int
        Its shape; its rows are its elements in C order.
    offset : Variable
        The linear predictor with every integrated ``u`` at zero: ``b + Σ Z m``.
    sigma : Variable
        Residual standard deviation, broadcastable to ``shape``; a scalar if rows are correlated.
    correlation : Correlation or None
        None: rows are independent given the effects.
    """

    name: str
    family: Literal["normal", "lognormal"]
    shape: tuple[int, ...]
    offset: Variable
    sigma: Variable
    correlation: Correlation | None = None

    @property
    def size(self) -> int:
        """Number of rows ``n``."""
        return int(np.prod(self.shape, dtype=int))

    @property
    def batch_length(self) -> int:
        """Number of rows ``k`` that are correlated with each other."""
        return 1 if self.correlation is None else self.shape[-1]

    @property
    def n_batches(self) -> int:
        """Number of batches of such rows."""
        return self.size // max(self.batch_length, 1)

    @property
    def whitened(self) -> bool:
        """Whether the rows of a batch are rather made independent than weighed pair by pair.

        A few long batches (a Gaussian process) have more pairs than pay, and may be nearly
        collinear: multiplying by the inverse of a Cholesky factor keeps twice as many digits as
        multiplying by that of the matrix.
        """
        k, n = self.batch_length, self.n_batches
        return self.correlation is not None and (n < k or n * k**2 > MANY_PAIRS)


@dataclass(frozen=True)
class Regression:
    """The offsets of all responses, ``b = constant + X φ``, with few parameters ``φ``.

    Parameters
    ----------
    constant : array, (n,)
    design : sparse array, (n, p)
        ``X``.
    coefficients : Variable, (p,)
        ``φ``.
    """

    constant: np.ndarray
    design: csr_array
    coefficients: Variable


@dataclass(frozen=True)
class Noise:
    """The residual standard deviations of all rows, ``σ_i = numbers_i · sigma[strata_i]``.

    Parameters
    ----------
    numbers : array, (n,)
        Positive.
    strata : array of int, (n,)
    sigma : Variable, (k,)
        One parameter per stratum.
    """

    numbers: np.ndarray
    strata: np.ndarray
    sigma: Variable
