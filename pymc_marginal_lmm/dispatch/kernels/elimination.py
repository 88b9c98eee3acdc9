"""Loops of :mod:`pymc_marginal_lmm.ops.elimination`, and ``BlockSolve`` with its pullback."""

from __future__ import annotations

import numpy as np
from numba import njit

from pymc_marginal_lmm.dispatch.kernels import dense
from pymc_marginal_lmm.dispatch.kernels.coupling import (
    complement,
    level_columns,
    level_row,
    sandwich,
    times,
    transposed_times,
)

__all__ = ["block_solve", "block_solve_pullback", "gram_block", "inverse_cholesky", "multiply"]


@njit(error_model="numpy")
def inverse_cholesky(A, L, J):  # type: ignore[no-untyped-def]
    """Write ``L⁻¹`` of one block ``A = L Lᵀ`` into ``J``; return the sum of log diag L."""
    S = A.shape[0]
    log_diagonal = 0.0
    J[:] = 0.0
    for j in range(S):
        d = A[j, j]
        for k in range(j):
            d -= L[j, k] * L[j, k]
        if not d > 0.0:
            return np.nan
        L[j, j] = np.sqrt(d)
        log_diagonal += 0.5 * np.log(d)
        for i in range(j + 1, S):
            s = A[i, j]
            for k in range(j):
                s -= L[i, k] * L[j, k]
            L[i, j] = s / L[j, j]
    for j in range(S):
        J[j, j] = 1.0 / L[j, j]
        for i in range(j + 1, S):
            s = 0.0
            for k in range(j, i):
                s += L[i, k] * J[k, j]
            J[i, j] = -s / L[i, i]
    return log_diagonal


@njit(error_model="numpy")
def gram_block(J, C):  # type: ignore[no-untyped-def]
    """Write ``C = JᵀJ`` of one block."""
    S = J.shape[0]
    for a in range(S):
        for b in range(a + 1):
            s = 0.0
            for k in range(a, S):
                s += J[k, a] * J[k, b]
            C[a, b] = s
            C[b, a] = s


@njit(error_model="numpy")
def multiply(A, B, out):  # type: ignore[no-untyped-def]
    """``out = A B`` of small blocks."""
    for a in range(out.shape[0]):
        for b in range(out.shape[1]):
            s = A.dtype.type(0.0)
            for k in range(B.shape[0]):
                s += A[a, k] * B[k, b]
            out[a, b] = s


@njit(error_model="numpy")
def _apply(J, h1, u1):  # type: ignore[no-untyped-def]
    """``u1 = F11⁻¹h1``, level by level."""
    M, S = h1.shape
    e = np.empty(S, dtype=J.dtype)
    for i in range(M):
        for a in range(S):
            s = 0.0
            for b in range(a + 1):
                s += J[i, a, b] * h1[i, b]
            e[a] = s
        for a in range(S):
            s = 0.0
            for b in range(a, S):
                s += J[i, b, a] * e[b]
            u1[i, a] = s


@njit(error_model="numpy")
def _solve(F12, starts, columns, J, U22, h1, h2, u1, u2):  # type: ignore[no-untyped-def]
    """``u = F⁻¹ h``."""
    _apply(J, h1, u1)
    e2 = np.zeros_like(h2)
    transposed_times(F12, starts, columns, u1, e2)
    u2[:] = h2 - e2
    dense.solve(U22, u2)
    e1 = np.zeros_like(h1)
    times(F12, starts, columns, u2, e1)
    _apply(J, h1 - e1, u1)


@njit(error_model="numpy")
def block_solve(  # type: ignore[no-untyped-def]
    F11, F12, F22, h1, h2, starts, columns, log_det, u1, u2, J, U22
):
    """``elimination.factorize`` and ``elimination.solve``."""
    M, S = h1.shape
    L = np.zeros((S, S), dtype=F11.dtype)
    half = 0.0
    for i in range(M):
        half += inverse_cholesky(F11[i], L, J[i])
    U22.reshape(-1)[:] = F22.reshape(-1)
    complement(J, F12, starts, columns, U22)
    half += dense.factorize(U22)
    _solve(F12, starts, columns, J, U22, h1, h2, u1, u2)
    if np.isnan(half):
        u1[:], u2[:] = np.nan, np.nan
    log_det[0] = 2.0 * half


@njit(error_model="numpy")
def block_solve_pullback(  # type: ignore[no-untyped-def]
    F12, starts, columns, J, U22, u1, u2, log_det_bar, u1_bar, u2_bar,
    F11_bar, F12_bar, F22_bar, g1, g2,
):  # fmt: skip
    """``elimination.pullback``."""
    M, S = u1.shape
    q = u2.shape[0]
    bar = log_det_bar[0]
    _solve(F12, starts, columns, J, U22, u1_bar, u2_bar, g1, g2)
    C22 = np.empty_like(U22)
    dense.inverse(U22, C22)
    blocks, FC = sandwich(F12, starts, columns, M, S, C22, True)
    work = np.empty((3, S, S), dtype=J.dtype)
    C, HC, CHC = work[0], work[1], work[2]
    for i in range(M):
        gram_block(J[i], C)
        multiply(blocks[i], C, HC)
        multiply(C, HC, CHC)
        here = level_columns(starts, columns, i)
        for a in range(S):
            for b in range(S):
                outer = g1[i, a] * u1[i, b] + u1[i, a] * g1[i, b]
                F11_bar[i, a, b] = bar * (C[a, b] + CHC[a, b]) - 0.5 * outer
            row = level_row(F12_bar, starts, S, q, i, a)
            row[:] = 0.0
            for b in range(S):
                y, c = level_row(FC, starts, S, q, i, b), -2.0 * bar * C[a, b]
                for k in range(row.shape[0]):
                    row[k] += c * y[k]
            for k in range(row.shape[0]):
                column = k if starts.shape[0] == 0 else here[k]
                row[k] -= g1[i, a] * u2[column] + u1[i, a] * g2[column]
    for a in range(q):
        for b in range(q):
            F22_bar[a, b] = bar * C22[a, b] - 0.5 * (g2[a] * u2[b] + u2[a] * g2[b])
