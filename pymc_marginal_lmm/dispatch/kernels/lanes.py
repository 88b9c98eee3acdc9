"""Small blocks of many levels side by side, as lanes: ``X (a, b, LANES)``.

The arithmetic of one tiny block is less than the loops around it, and than a view of an array. So
blocks are taken by the tile, turned around, and every loop over levels is an inner one, which
vectorises. Functions work on the first ``n`` lanes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pymc_marginal_lmm.dispatch.kernels.dense import FAST

__all__ = [
    "LANES",
    "gather",
    "gather_rows",
    "gram",
    "inverse_cholesky",
    "multiply",
    "multiply_transposed",
    "times",
    "transposed_multiply",
    "transposed_times",
    "unpack",
]

LANES = 32


@njit(error_model="numpy")
def gather(X, first, n, out):  # type: ignore[no-untyped-def]
    """Take blocks ``X (M, a, b)`` from ``first`` on."""
    for a in range(out.shape[0]):
        for b in range(out.shape[1]):
            for t in range(n):
                out[a, b, t] = X[first + t, a, b]


@njit(error_model="numpy")
def gather_rows(X, first, n, out):  # type: ignore[no-untyped-def]
    """Take vectors ``X (M, a)`` from ``first`` on."""
    for a in range(out.shape[0]):
        for t in range(n):
            out[a, t] = X[first + t, a]


@njit(error_model="numpy")
def unpack(scale, span, first, n, L):  # type: ignore[no-untyped-def]
    """Write blocks of packed ``Λ (M or 1, S, W)`` in full."""
    L[:] = 0.0
    shared = scale.shape[0] == 1
    for j in range(span.shape[0]):
        for k in range(span[j, 1]):
            for t in range(n):
                L[j, span[j, 0] + k, t] = scale[0 if shared else first + t, j, k]


@njit(fastmath=FAST, error_model="numpy")
def multiply(A, B, n, out):  # type: ignore[no-untyped-def]
    """Write ``A B``."""
    for a in range(out.shape[0]):
        for b in range(out.shape[1]):
            for t in range(n):
                out[a, b, t] = A[a, 0, t] * B[0, b, t]
            for k in range(1, B.shape[0]):
                for t in range(n):
                    out[a, b, t] += A[a, k, t] * B[k, b, t]


@njit(fastmath=FAST, error_model="numpy")
def multiply_transposed(A, B, n, out):  # type: ignore[no-untyped-def]
    """Write ``A Bᵀ``."""
    for a in range(out.shape[0]):
        for b in range(out.shape[1]):
            for t in range(n):
                out[a, b, t] = A[a, 0, t] * B[b, 0, t]
            for k in range(1, B.shape[1]):
                for t in range(n):
                    out[a, b, t] += A[a, k, t] * B[b, k, t]


@njit(fastmath=FAST, error_model="numpy")
def transposed_multiply(A, B, n, out):  # type: ignore[no-untyped-def]
    """Write ``AᵀB``."""
    for a in range(out.shape[0]):
        for b in range(out.shape[1]):
            for t in range(n):
                out[a, b, t] = A[0, a, t] * B[0, b, t]
            for k in range(1, B.shape[0]):
                for t in range(n):
                    out[a, b, t] += A[k, a, t] * B[k, b, t]


@njit(fastmath=FAST, error_model="numpy")
def times(A, x, n, out):  # type: ignore[no-untyped-def]
    """Write ``A x``."""
    for a in range(out.shape[0]):
        for t in range(n):
            out[a, t] = A[a, 0, t] * x[0, t]
        for k in range(1, x.shape[0]):
            for t in range(n):
                out[a, t] += A[a, k, t] * x[k, t]


@njit(fastmath=FAST, error_model="numpy")
def transposed_times(A, x, n, out):  # type: ignore[no-untyped-def]
    """Write ``Aᵀx``."""
    for a in range(out.shape[0]):
        for t in range(n):
            out[a, t] = A[0, a, t] * x[0, t]
        for k in range(1, x.shape[0]):
            for t in range(n):
                out[a, t] += A[k, a, t] * x[k, t]


@njit(fastmath=FAST, error_model="numpy")
def inverse_cholesky(A, n, L, J):  # type: ignore[no-untyped-def]
    """Write ``J = L⁻¹``, ``A = L Lᵀ``; return half of ``Σ log|A|``, NaN if there is no factor."""
    S = A.shape[0]
    J[:] = 0.0
    half = 0.0
    for j in range(S):
        for t in range(n):
            L[j, j, t] = A[j, j, t]
        for k in range(j):
            for t in range(n):
                L[j, j, t] -= L[j, k, t] * L[j, k, t]
        for t in range(n):
            d = L[j, j, t]
            J[j, j, t] = 1.0 / np.sqrt(d) if d > 0.0 else np.nan
        for t in range(n):
            half -= np.log(J[j, j, t])
        for i in range(j + 1, S):
            for t in range(n):
                L[i, j, t] = A[i, j, t]
            for k in range(j):
                for t in range(n):
                    L[i, j, t] -= L[i, k, t] * L[j, k, t]
            for t in range(n):
                L[i, j, t] *= J[j, j, t]
    for j in range(S):
        for i in range(j + 1, S):
            for k in range(j, i):
                for t in range(n):
                    J[i, j, t] -= L[i, k, t] * J[k, j, t]
            for t in range(n):
                J[i, j, t] *= J[i, i, t]
    return half


@njit(fastmath=FAST, error_model="numpy")
def gram(J, n, C):  # type: ignore[no-untyped-def]
    """Write ``JᵀJ`` of lower triangular blocks."""
    S = J.shape[0]
    for a in range(S):
        for b in range(a + 1):
            for t in range(n):
                C[a, b, t] = J[a, a, t] * J[a, b, t]
            for k in range(a + 1, S):
                for t in range(n):
                    C[a, b, t] += J[k, a, t] * J[k, b, t]
            for t in range(n):
                C[b, a, t] = C[a, b, t]
