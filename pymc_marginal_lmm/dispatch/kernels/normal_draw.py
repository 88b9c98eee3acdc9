"""Loops of :mod:`pymc_marginal_lmm.ops.normal_draw`."""

from __future__ import annotations

import numpy as np
from numba import njit

from pymc_marginal_lmm.dispatch.kernels import dense

__all__ = ["normal_draw"]


@njit(error_model="numpy")
def normal_draw(F, h, epsilon, out):  # type: ignore[no-untyped-def]
    """Write a draw from ``Normal(F⁻¹h, F⁻¹)``, block by block."""
    U = np.empty(F.shape[1:], dtype=F.dtype)
    for i in range(F.shape[0]):
        U[:] = F[i]
        half, u = dense.factorize(U), out[i]
        u[:] = h[i]
        dense.solve_transposed(U, u)
        u += epsilon[i]
        dense.solve_triangular(U, u)
        if not np.isfinite(half):
            u[:] = np.nan
