"""A reference point near the least-squares solution, about which squares are summed.

With ``r0 = r − Z v0`` a residual, no sum holds large numbers that would cancel later, however large
``y`` is (a mean of 1e8 standard deviations) or effects are against ``σ``.
"""

from __future__ import annotations

import numpy as np
from pytensor import config
from scipy import sparse
from scipy.sparse.linalg import lsqr

__all__ = ["reference_point"]

DAMP = 1e-4
"""Keeps nearly collinear columns (a Gaussian process' basis) from taking huge coefficients that
cancel; passes after the first one remove what it leaves in all others."""


def reference_point(Z: sparse.csr_array, target: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Return coefficients of the columns of ``Z`` that leave little of ``target``.

    Parameters
    ----------
    Z : sparse array, (n, q)
    target : array, (n,)
    fixed : array of bool, (q,)
        Columns that come first, alone: a common mean must not be spread over effects that could
        carry it as well.
    """
    v0 = np.zeros(Z.shape[1])
    norms = np.sqrt(np.asarray(Z.multiply(Z).sum(axis=0))).ravel()
    norms[norms == 0] = 1.0
    scaled = Z @ sparse.diags_array(1 / norms)
    # The last pass removes what rounding left in the one before.
    for columns in (fixed, ~fixed | fixed, ~fixed | fixed):
        if columns.any():
            residual = target - Z @ v0
            step = lsqr(
                scaled[:, columns], residual, damp=DAMP, atol=1e-10, btol=1e-10, iter_lim=50
            )
            v0[columns] += step[0] / norms[columns]
    return v0.astype(config.floatX).astype("float64")  # r0 must belong to the v0 that is used
