r"""Pseudo-rows of a cell: few rows that say of the parameters what all of its rows say.

In a cell, all combinations of groups being the same, rows are ``y_i ~ Normal(x_iᵀb, σ²/w_i)`` with
one ``b`` and one ``σ``, whatever effects ``b`` is made of. Of ``QR = W^½ [X, y]`` the density keeps
what does not depend on ``Q``::

    [X, y]ᵀW[X, y] = [X̃, ỹ]ᵀ[X̃, ỹ] + [0 0; 0 S]

    Π_i p(y_i) = Π_k Normal(ỹ_k | x̃_kᵀb, σ²) · (2πσ²)^(−ν/2) exp(−S/2σ²) · Π_i w_i^½

with ``K ≤ rank X`` pseudo-rows, the residual sum of squares ``S`` and its ``ν = n − K`` degrees of
freedom. It holds for any ``X̃, ỹ, S`` with these crossproducts, and for any ``K``.

The first pseudo-row is that of the intercept, ``√W (1, x̄, ȳ)`` with ``W = Σw``. The others are of
crossproducts about the means, ``C``: with ``C = DVΛVᵀD``, ``D² = diag C``, they are ``X̃ = Λ^½VᵀD``
and ``ỹ = Λ^−½VᵀD⁻¹c``. Directions in which a cell has no spread have no pseudo-row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Moments", "PseudoRows", "log_constant", "pseudo_rows"]

SPREAD = 64 * float(np.finfo(float).eps)
"""A standard deviation, relative to the mean, that may be of rounding alone."""

DEPENDENT = 4 * float(np.finfo(float).eps)
"""What rounding may make of crossproducts of columns of length 1."""


class Moments(NamedTuple):
    """Sums over the rows of each of ``G`` cells, about approximate means.

    Parameters
    ----------
    n : array of int, (G,)
        Rows.
    weight : array, (G,)
        ``Σw``.
    mean : array, (G, p + 1)
        Approximate means of the covariates, and of the response, which is last.
    first : array, (G, p + 1)
        ``Σ w (z − mean)``: 0, but for rounding.
    second : array, (G, p + 1, p + 1)
        ``Σ w (z − mean)(z − mean)ᵀ``.
    """

    n: np.ndarray
    weight: np.ndarray
    mean: np.ndarray
    first: np.ndarray
    second: np.ndarray


class PseudoRows(NamedTuple):
    """What is left of the rows of cells.

    Parameters
    ----------
    cell : array of int, (N,)
        Of each pseudo-row.
    rows : array, (N, p + 2)
        Of the intercept, the covariates and the response.
    sum_of_squares : array, (G,)
        ``S``; what rounding has left of 0 may be less, and belongs to the sum over all cells.
    degrees_of_freedom : array of int, (G,)
        ``ν``.
    """

    cell: np.ndarray
    rows: np.ndarray
    sum_of_squares: np.ndarray
    degrees_of_freedom: np.ndarray


def pseudo_rows(moments: Moments) -> PseudoRows:
    """Return the pseudo-rows of all cells, cell by cell, that of the intercept first."""
    n, weight, mean, first, second = moments
    shift = first / weight[:, None]
    about, mean = np.abs(mean), mean + shift
    second = second - first[:, :, None] * shift[:, None, :]
    root = np.sqrt(weight)[:, None]
    of_means = np.concatenate([root, root * mean], axis=1)

    p = mean.shape[1] - 1
    C, c, total = second[:, :p, :p], second[:, :p, p], second[:, p, p]
    squares = np.diagonal(C, axis1=1, axis2=2)
    rounded = (SPREAD * np.maximum(about, np.abs(mean))) ** 2 + SPREAD * shift**2
    spread = squares > weight[:, None] * rounded[:, :p]
    D = np.sqrt(np.where(spread, squares, 1.0))
    both = spread[:, :, None] & spread[:, None, :]
    values, V = np.linalg.eigh(np.where(both, C / (D[:, :, None] * D[:, None, :]), 0.0))
    along = (V.mT @ np.where(spread, c / D, 0.0)[:, :, None])[:, :, 0]
    # A direction is left out where that changes no crossproduct: Vᵀc may be as large as √Λ. Of n
    # rows about their mean there are n − 1 at most; the largest eigenvalues come last.
    tolerance = DEPENDENT * max(p, 1)
    kept = (values > tolerance) | (
        np.abs(along) > 100 * tolerance * np.sqrt(np.maximum(total, 0))[:, None]
    )
    kept &= np.arange(p) > p - n[:, None]
    roots = np.sqrt(np.maximum(values, tolerance))
    X = roots[:, :, None] * V.mT * np.where(spread, D, 0.0)[:, None, :]
    y = np.where(kept, along / roots, 0.0)
    of_spread = np.concatenate([np.zeros((*kept.shape, 1)), X, y[:, :, None]], axis=2)

    there = np.concatenate([np.ones((len(n), 1), dtype=bool), kept], axis=1)
    together = np.concatenate([of_means[:, None, :], of_spread], axis=1)
    return PseudoRows(
        cell=np.nonzero(there)[0],
        rows=together[there],
        sum_of_squares=total - (y**2).sum(axis=1),
        degrees_of_freedom=n - there.sum(axis=1),
    )


def log_constant(
    sum_of_squares: np.ndarray, degrees_of_freedom: np.ndarray, log_weights: float
) -> float:
    r"""Return ``log Π p(y_i) − log Π Normal(ỹ_k) − log Π Gamma(S)``, which no parameter enters.

    ``S ~ Gamma(ν/2, 1/2σ²)`` is the distribution of a sum of squares of ``ν`` residuals; the rows'
    density of it lacks the volume of the sphere on which these lie.
    """
    from scipy.special import gammaln

    a = degrees_of_freedom / 2
    spheres = gammaln(a) - a * np.log(np.pi) - (a - 1) * np.log(sum_of_squares)
    return float(spheres.sum() + 0.5 * log_weights)
