"""Numba kernels: the mathematics of :mod:`pymc_marginal_lmm.ops` as loops.

Symbols, order of arguments and formulas are those of ``ops.elimination`` and ``ops.evidence``.
Blocks never go to LAPACK, and products go to BLAS only above ``BLAS_WORK`` operations: below,
starting its threads costs more than the product. Results are written into the last arguments.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["block_solve", "block_solve_pullback", "log_evidence", "log_evidence_pullback"]

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
def _triangular_inverse(L):  # type: ignore[no-untyped-def]
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
def _gram(X):  # type: ignore[no-untyped-def]
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
def _eliminate(F11, F12, L, J, T):  # type: ignore[no-untyped-def]
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
def _finish(half, J, T, F22, h1, h2, u1, u2, L22):  # type: ignore[no-untyped-def]
    """Factorise the Schur complement and solve; NaN if ``F`` is not positive. Returns log|F|."""
    M, S, q = T.shape
    L22[:] = F22 - _gram(T.reshape(M * S, q))
    half += _cholesky(L22)
    _solve(J, T, L22, h1, h2, u1, u2)
    if np.isnan(half):
        u1[:], u2[:] = np.nan, np.nan
    return 2.0 * half


@njit
def _inverse_couplings(J, T, C22):  # type: ignore[no-untyped-def]
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
def _inverse_block(J, V, VC, C11):  # type: ignore[no-untyped-def]
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
def _right(x, scale, span, out):  # type: ignore[no-untyped-def]
    """Write ``x Λ`` of one row, ``Λ`` packed."""
    for j in range(out.shape[0]):
        out[j] = 0.0
    for j in range(out.shape[0]):
        for k in range(span[j, 1]):
            out[span[j, 0] + k] += x[j] * scale[j, k]


@njit
def _left(scale, span, u, out):  # type: ignore[no-untyped-def]
    """Write ``Λ u``, ``Λ`` packed."""
    for j in range(out.shape[0]):
        out[j] = 0.0
        for k in range(span[j, 1]):
            out[j] += scale[j, k] * u[span[j, 0] + k]


@njit
def _times(A11, A12, A22, x1, x2):  # type: ignore[no-untyped-def]
    """Return ``A x``."""
    M, S, q = A12.shape
    y1, y2 = np.zeros_like(x1), np.zeros_like(x2)
    for i in range(M):
        for a in range(S):
            for b in range(S):
                y1[i, a] += A11[i, a, b] * x1[i, b]
            for c in range(q):
                y1[i, a] += A12[i, a, c] * x2[c]
                y2[c] += A12[i, a, c] * x1[i, a]
    for i in range(q):
        for c in range(q):
            y2[i] += A22[i, c] * x2[c]
    return y1, y2


@njit
def _residuals(scale1, scale2, s, c1, c2, A11, A12, A22, v1, v2, span1, span2, u1, u2):  # type: ignore[no-untyped-def]
    """Return ``δ``, ``e = Aδ − c`` and ``s − 2δᵀc + δᵀAδ``."""
    d1, d2 = np.empty_like(u1), np.empty_like(u2)
    for i in range(u1.shape[0]):
        _left(scale1[min(i, scale1.shape[0] - 1)], span1, u1[i], d1[i])
    _left(scale2, span2, u2, d2)
    d1 -= v1
    d2 -= v2
    e1, e2 = _times(A11, A12, A22, d1, d2)
    squares = s
    for i in range(d1.shape[0]):
        for a in range(d1.shape[1]):
            e1[i, a] -= c1[i, a]
            squares += d1[i, a] * (e1[i, a] - c1[i, a])
    for c in range(d2.shape[0]):
        e2[c] -= c2[c]
        squares += d2[c] * (e2[c] - c2[c])
    return d1, d2, e1, e2, squares


@njit
def block_solve(F11, F12, F22, h1, h2, log_det, u1, u2, J, T, L22):  # type: ignore[no-untyped-def]
    """``elimination.factorize`` and ``elimination.solve``."""
    M, S = F12.shape[:2]
    L = np.zeros((S, S), dtype=F11.dtype)
    J[:] = 0.0
    half = 0.0
    for i in range(M):
        half += _eliminate(F11[i], F12[i], L, J[i], T[i])
    log_det[0] = _finish(half, J, T, F22, h1, h2, u1, u2, L22)


@njit
def block_solve_pullback(  # type: ignore[no-untyped-def]
    J, T, L22, u1, u2, log_det_bar, u1_bar, u2_bar, F11_bar, F12_bar, F22_bar, g1, g2
):
    """``elimination.pullback``."""
    M, S, q = T.shape
    bar = log_det_bar[0]
    _solve(J, T, L22, u1_bar, u2_bar, g1, g2)
    C22 = _gram(_triangular_inverse(L22))
    V, VC = _inverse_couplings(J, T, C22)
    for i in range(M):
        _inverse_block(J[i], V[i], VC[i], F11_bar[i])
        for a in range(S):
            for b in range(S):
                outer = g1[i, a] * u1[i, b] + u1[i, a] * g1[i, b]
                F11_bar[i, a, b] = bar * F11_bar[i, a, b] - 0.5 * outer
            for c in range(q):
                F12_bar[i, a, c] = -2.0 * bar * VC[i, a, c] - (g1[i, a] * u2[c] + u1[i, a] * g2[c])
    for a in range(q):
        for b in range(q):
            F22_bar[a, b] = bar * C22[a, b] - 0.5 * (g2[a] * u2[b] + u2[a] * g2[b])


@njit
def log_evidence(  # type: ignore[no-untyped-def]
    w,
    scale1,
    scale2,
    s,
    c1,
    c2,
    A11,
    A12,
    A22,
    v1,
    v2,
    p1,
    p2,
    span1,
    span2,
    value_out,
    u1,
    u2,
    J,
    T,
    L22,
):
    """``evidence.evidence``."""
    M, S, q = A12.shape
    weight = w[0]
    dtype = A11.dtype
    y1, y2 = _times(A11, A12, A22, v1, v2)
    y1 += c1
    y2 += c2
    h1, h2 = np.zeros((M, S), dtype=dtype), np.empty(q, dtype=dtype)
    _right(weight * y2, scale2, span2, h2)
    J[:] = 0.0
    L = np.zeros((S, S), dtype=dtype)
    F11, F12 = np.empty((S, S), dtype=dtype), np.empty((S, q), dtype=dtype)
    AL, row = np.empty((S, S), dtype=dtype), np.empty(q, dtype=dtype)
    half = 0.0
    for i in range(M):
        scale = scale1[min(i, scale1.shape[0] - 1)]
        F11[:] = 0.0
        F12[:] = 0.0
        for j in range(S):
            _right(A11[i, j], scale, span1, AL[j])
        for j in range(S):
            F11[j, j] += p1[j]
            _right(A12[i, j], scale2, span2, row)
            for k in range(span1[j, 1]):
                a = span1[j, 0] + k
                factor = weight * scale[j, k]
                h1[i, a] += factor * y1[i, j]
                for b in range(S):
                    F11[a, b] += factor * AL[j, b]
                for c in range(q):
                    F12[a, c] += factor * row[c]
        half += _eliminate(F11, F12, L, J[i], T[i])
    F22 = np.zeros((q, q), dtype=dtype)
    for j in range(q):
        F22[j, j] += p2[j]
        _right(A22[j], scale2, span2, row)
        for k in range(span2[j, 1]):
            a = span2[j, 0] + k
            factor = weight * scale2[j, k]
            for c in range(q):
                F22[a, c] += factor * row[c]
    log_det = _finish(half, J, T, F22, h1, h2, u1, u2, L22)
    _, _, _, _, squares = _residuals(
        scale1, scale2, s[0], c1, c2, A11, A12, A22, v1, v2, span1, span2, u1, u2
    )
    value = weight * squares + log_det
    for i in range(M):
        for a in range(S):
            value += p1[a] * u1[i, a] ** 2
    for c in range(q):
        value += p2[c] * u2[c] ** 2
    value_out[0] = -0.5 * value


@njit
def log_evidence_pullback(  # type: ignore[no-untyped-def]
    w,
    scale1,
    scale2,
    s,
    c1,
    c2,
    A11,
    A12,
    A22,
    v1,
    v2,
    p1,
    p2,
    span1,
    span2,
    u1,
    u2,
    J,
    T,
    L22,
    bar,
    w_bar,
    scale1_bar,
    scale2_bar,
    s_bar,
    c1_bar,
    c2_bar,
    A11_bar,
    A12_bar,
    A22_bar,
    with_design,
):
    """``evidence.evidence_pullback``; ``with_design``: whether the gradient of ``A`` is wanted."""
    M, S, q = A12.shape
    weight, g = w[0], bar[0]
    dtype = A11.dtype
    d1, d2, e1, e2, squares = _residuals(
        scale1, scale2, s[0], c1, c2, A11, A12, A22, v1, v2, span1, span2, u1, u2
    )
    C22 = _gram(_triangular_inverse(L22))
    V, VC = _inverse_couplings(J, T, C22)
    trace = 1.0 * (M * S + q)
    for c in range(q):
        trace -= p2[c] * C22[c, c]

    outer = -g * weight  # −½ · 2w
    scale1_bar[:], scale2_bar[:] = 0.0, 0.0
    C11, LC11 = np.empty((S, S), dtype=dtype), np.empty((S, S), dtype=dtype)
    LC12, row = np.empty((S, q), dtype=dtype), np.empty(q, dtype=dtype)
    K2 = np.zeros_like(scale2)
    for i in range(M):
        m = min(i, scale1.shape[0] - 1)
        scale = scale1[m]
        _inverse_block(J[i], V[i], VC[i], C11)
        for a in range(S):
            trace -= p1[a] * C11[a, a]
        for j in range(S):  # rows of Λ1 C11 and Λ1 C12
            LC11[j] = 0.0
            LC12[j] = 0.0
            for k in range(span1[j, 1]):
                a = span1[j, 0] + k
                for b in range(S):
                    LC11[j, b] += scale[j, k] * C11[a, b]
                for c in range(q):
                    LC12[j, c] -= scale[j, k] * VC[i, a, c]
        for j in range(S):
            _right(A12[i, j], scale2, span2, row)
            for k in range(span1[j, 1]):  # (A Λ C) at the entries of Λ1
                a = span1[j, 0] + k
                t = e1[i, j] * u1[i, a]
                for b in range(S):
                    t += A11[i, j, b] * LC11[b, a]
                for c in range(q):
                    t -= row[c] * VC[i, a, c]
                scale1_bar[m, j, k] += outer * t
            for c in range(q):
                for k in range(span2[c, 1]):
                    K2[c, k] += A12[i, j, c] * LC12[j, span2[c, 0] + k]
        if with_design:
            for j in range(S):
                _left(scale, span1, LC11[j], A11_bar[i, j])
                _left(scale2, span2, LC12[j], A12_bar[i, j])
                for b in range(S):
                    A11_bar[i, j, b] = 0.5 * outer * (A11_bar[i, j, b] + d1[i, j] * d1[i, b])
                for c in range(q):
                    A12_bar[i, j, c] = outer * (A12_bar[i, j, c] + d1[i, j] * d2[c])
    for j in range(q):
        _right(A22[j], scale2, span2, row)
        for k in range(span2[j, 1]):
            a = span2[j, 0] + k
            t = e2[j] * u2[a] + K2[j, k]
            for c in range(q):
                t += row[c] * C22[c, a]
            scale2_bar[j, k] = outer * t
    w_bar[0] = -0.5 * g * (squares + trace / weight)
    s_bar[0] = -0.5 * g * weight
    c1_bar[:] = -outer * d1
    c2_bar[:] = -outer * d2
    if with_design:
        CL = np.empty((q, q), dtype=dtype)  # C22 Λ2ᵀ
        for j in range(q):
            _left(scale2, span2, C22[j], CL[j])
        CL = np.ascontiguousarray(CL.T)
        for j in range(q):
            _left(scale2, span2, CL[j], A22_bar[j])
            for c in range(q):
                A22_bar[j, c] = 0.5 * outer * (A22_bar[j, c] + d2[j] * d2[c])
