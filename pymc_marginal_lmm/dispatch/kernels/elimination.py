"""Loops of :mod:`pymc_marginal_lmm.ops.elimination`, and :class:`BlockSolve` with its pullback."""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = [
    "block_solve",
    "block_solve_pullback",
    "eliminate",
    "finish",
    "gram",
    "inverse_block",
    "inverse_couplings",
    "triangular_inverse",
]

BLAS_WORK = 200_000
PANEL = 48


@njit
def _inverse_cholesky(A, L, J):  # type: ignore[no-untyped-def]
    """Write ``L⁻¹`` of one block ``A = L Lᵀ`` into ``J``; return the sum of log diag L."""
    S = A.shape[0]
    log_diagonal = 0.0
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


@njit
def _cholesky(A):  # type: ignore[no-untyped-def]
    """Factorise ``A`` in place (lower triangle), panel by panel; return the sum of log diag."""
    n = A.shape[0]
    log_diagonal = 0.0
    for start in range(0, n, PANEL):
        stop = min(start + PANEL, n)
        if start > 0:  # A[start:, start:stop] -= L[start:, :start] L[start:stop, :start]ᵀ
            left = np.ascontiguousarray(A[start:, :start])
            if (n - start) * start * PANEL > BLAS_WORK:
                A[start:, start:stop] -= np.dot(left, left[: stop - start].T)
            else:
                for i in range(start, n):
                    for j in range(start, min(i + 1, stop)):
                        s = A[i, j]
                        for k in range(start):
                            s -= A[i, k] * A[j, k]
                        A[i, j] = s
        for j in range(start, stop):
            d = A[j, j]
            for k in range(start, j):
                d -= A[j, k] * A[j, k]
            if not d > 0.0:
                return np.nan
            d = np.sqrt(d)
            A[j, j] = d
            log_diagonal += np.log(d)
            for i in range(j + 1, n):
                s = A[i, j]
                for k in range(start, j):
                    s -= A[i, k] * A[j, k]
                A[i, j] = s / d
    for i in range(n):
        for j in range(i + 1, n):
            A[i, j] = 0.0
    return log_diagonal


@njit
def triangular_inverse(L):  # type: ignore[no-untyped-def]
    """Invert a lower triangular matrix, panel by panel."""
    n = L.shape[0]
    X = np.zeros_like(L)
    for start in range(0, n, PANEL):
        stop = min(start + PANEL, n)
        if start > 0:
            left = np.ascontiguousarray(L[start:stop, :start])
            if (stop - start) * start * start > BLAS_WORK:
                X[start:stop, :start] = -np.dot(left, np.ascontiguousarray(X[:start, :start]))
            else:
                for i in range(stop - start):
                    for k in range(start):
                        for j in range(k + 1):
                            X[start + i, j] -= left[i, k] * X[k, j]
        for i in range(start, stop):
            X[i, i] = 1.0
            for k in range(start, i):
                for j in range(i):
                    X[i, j] -= L[i, k] * X[k, j]
            for j in range(i + 1):
                X[i, j] /= L[i, i]
    return X


@njit
def gram(X):  # type: ignore[no-untyped-def]
    """``XᵀX``."""
    n, q = X.shape
    if n * q * q > BLAS_WORK:
        return np.dot(X.T, X)
    G = np.zeros((q, q), dtype=X.dtype)
    for r in range(n):
        for i in range(q):
            for j in range(i + 1):
                G[i, j] += X[r, i] * X[r, j]
    for i in range(q):
        for j in range(i):
            G[j, i] = G[i, j]
    return G


@njit
def _back_substitute(J, T, L22, e1, e2):  # type: ignore[no-untyped-def]
    """Overwrite ``e`` by ``L⁻ᵀ e``."""
    M, S, q = T.shape
    for i in range(q - 1, -1, -1):
        e2[i] /= L22[i, i]
        for k in range(i):
            e2[k] -= L22[i, k] * e2[i]
    for i in range(M):
        for a in range(S):
            for c in range(q):
                e1[i, a] -= T[i, a, c] * e2[c]
        for a in range(S):
            s = 0.0
            for b in range(a, S):
                s += J[i, b, a] * e1[i, b]
            e1[i, a] = s


@njit
def _solve(J, T, L22, h1, h2, u1, u2):  # type: ignore[no-untyped-def]
    """``u = F⁻¹ h``."""
    M, S, q = T.shape
    u2[:] = h2
    for i in range(M):
        for a in range(S):
            s = 0.0
            for b in range(a + 1):
                s += J[i, a, b] * h1[i, b]
            u1[i, a] = s
            for c in range(q):
                u2[c] -= T[i, a, c] * s
    for i in range(q):
        for k in range(i):
            u2[i] -= L22[i, k] * u2[k]
        u2[i] /= L22[i, i]
    _back_substitute(J, T, L22, u1, u2)


@njit
def eliminate(F11, F12, L, J, T):  # type: ignore[no-untyped-def]
    """Factorise one level: write ``J`` and ``T = J F12``; return the sum of log diag L."""
    S, q = F12.shape
    half = _inverse_cholesky(F11, L, J)
    for a in range(S):
        for c in range(q):
            T[a, c] = 0.0
        for b in range(a + 1):
            for c in range(q):
                T[a, c] += J[a, b] * F12[b, c]
    return half


@njit
def finish(half, J, T, F22, h1, h2, u1, u2, L22):  # type: ignore[no-untyped-def]
    """Factorise the Schur complement and solve; NaN if ``F`` is not positive. Returns log|F|."""
    M, S, q = T.shape
    L22[:] = F22 - gram(T.reshape(M * S, q))
    half += _cholesky(L22)
    _solve(J, T, L22, h1, h2, u1, u2)
    if np.isnan(half):
        u1[:], u2[:] = np.nan, np.nan
    return 2.0 * half


@njit
def inverse_couplings(J, T, C22):  # type: ignore[no-untyped-def]
    """Return ``V = F11⁻¹F12`` and ``V C22 = −C12``."""
    M, S, q = T.shape
    V = np.zeros((M, S, q), dtype=J.dtype)
    for i in range(M):
        for a in range(S):
            for b in range(a, S):
                for c in range(q):
                    V[i, a, c] += J[i, b, a] * T[i, b, c]
    if M * S * q * q > BLAS_WORK:
        return V, np.dot(V.reshape(M * S, q), C22).reshape(M, S, q)
    VC = np.zeros((M, S, q), dtype=J.dtype)
    for i in range(M):
        for a in range(S):
            for k in range(q):
                for c in range(q):
                    VC[i, a, c] += V[i, a, k] * C22[k, c]
    return V, VC


@njit
def inverse_block(J, V, VC, C11):  # type: ignore[no-untyped-def]
    """Write one level's ``C11 = JᵀJ + V C22 Vᵀ``."""
    S, q = V.shape
    for a in range(S):
        for b in range(a + 1):
            s = 0.0
            for k in range(a, S):
                s += J[k, a] * J[k, b]
            for c in range(q):
                s += VC[a, c] * V[b, c]
            C11[a, b] = s
            C11[b, a] = s


@njit
def block_solve(F11, F12, F22, h1, h2, log_det, u1, u2, J, T, L22):  # type: ignore[no-untyped-def]
    """``elimination.factorize`` and ``elimination.solve``."""
    M, S = F12.shape[:2]
    L = np.zeros((S, S), dtype=F11.dtype)
    J[:] = 0.0
    half = 0.0
    for i in range(M):
        half += eliminate(F11[i], F12[i], L, J[i], T[i])
    log_det[0] = finish(half, J, T, F22, h1, h2, u1, u2, L22)


@njit
def block_solve_pullback(  # type: ignore[no-untyped-def]
    J, T, L22, u1, u2, log_det_bar, u1_bar, u2_bar, F11_bar, F12_bar, F22_bar, g1, g2
):
    """``elimination.pullback``."""
    M, S, q = T.shape
    bar = log_det_bar[0]
    _solve(J, T, L22, u1_bar, u2_bar, g1, g2)
    C22 = gram(triangular_inverse(L22))
    V, VC = inverse_couplings(J, T, C22)
    for i in range(M):
        inverse_block(J[i], V[i], VC[i], F11_bar[i])
        for a in range(S):
            for b in range(S):
                outer = g1[i, a] * u1[i, b] + u1[i, a] * g1[i, b]
                F11_bar[i, a, b] = bar * F11_bar[i, a, b] - 0.5 * outer
            for c in range(q):
                F12_bar[i, a, c] = -2.0 * bar * VC[i, a, c] - (g1[i, a] * u2[c] + u1[i, a] * g2[c])
    for a in range(q):
        for b in range(q):
            F22_bar[a, b] = bar * C22[a, b] - 0.5 * (g2[a] * u2[b] + u2[a] * g2[b])
