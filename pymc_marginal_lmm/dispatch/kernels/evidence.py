"""Loops of :mod:`pymc_marginal_lmm.ops.evidence`."""

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
from pymc_marginal_lmm.dispatch.kernels.elimination import gram_block, inverse_cholesky, multiply

__all__ = ["log_evidence", "log_evidence_pullback"]


@njit(fastmath=dense.FAST)
def _right(x, scale, span, out):  # type: ignore[no-untyped-def]
    """Write ``x Λ`` of one row, ``Λ`` packed."""
    if scale.shape[1] == 1:
        for j in range(out.shape[0]):
            out[j] = x[j] * scale[j, 0]
        return
    out[:] = 0.0
    for j in range(out.shape[0]):
        for k in range(span[j, 1]):
            out[span[j, 0] + k] += x[j] * scale[j, k]


@njit(fastmath=dense.FAST)
def _left(scale, span, u, out):  # type: ignore[no-untyped-def]
    """Write ``Λ u``, ``Λ`` packed."""
    if scale.shape[1] == 1:
        for j in range(out.shape[0]):
            out[j] = scale[j, 0] * u[j]
        return
    for j in range(out.shape[0]):
        out[j] = 0.0
        for k in range(span[j, 1]):
            out[j] += scale[j, k] * u[span[j, 0] + k]


@njit
def _unpack(scale, span):  # type: ignore[no-untyped-def]
    """Return the blocks of ``Λ1`` in full, one or ``M``."""
    S = scale.shape[1]
    L = np.zeros((scale.shape[0], S, S), dtype=scale.dtype)
    for i in range(scale.shape[0]):
        for j in range(S):
            for k in range(span[j, 1]):
                L[i, j, span[j, 0] + k] = scale[i, j, k]
    return L


@njit(fastmath=dense.FAST)
def _apply(blocks, x, transposed):  # type: ignore[no-untyped-def]
    """Multiply block by block; a single block stands for all."""
    M, S = x.shape
    y = np.empty_like(x)
    for i in range(M):
        m = i if blocks.shape[0] > 1 else 0
        for a in range(S):
            s = x.dtype.type(0.0)
            for b in range(S):
                s += (blocks[m, b, a] if transposed else blocks[m, a, b]) * x[i, b]
            y[i, a] = s
    return y


@njit
def _times(A11, A12, A22, starts, columns, x1, x2):  # type: ignore[no-untyped-def]
    """Return ``A x``."""
    y1, y2 = _apply(A11, x1, False), np.empty_like(x2)
    for i in range(x2.shape[0]):
        y2[i] = dense.dot(A22[i], x2)
    times(A12, starts, columns, x2, y1)
    transposed_times(A12, starts, columns, x1, y2)
    return y1, y2


@njit
def _residuals(  # type: ignore[no-untyped-def]
    L, scale2, s, c1, c2, A11, A12, A22, v1, v2, span2, starts, columns, u1, u2
):
    """Return ``δ``, ``e = Aδ − c`` and ``s − 2δᵀc + δᵀAδ``."""
    d1, d2 = _apply(L, u1, False), np.empty_like(u2)
    _left(scale2, span2, u2, d2)
    for i in range(d1.shape[0]):
        for a in range(d1.shape[1]):
            d1[i, a] -= v1[i, a]
    for c in range(d2.shape[0]):
        d2[c] -= v2[c]
    e1, e2 = _times(A11, A12, A22, starts, columns, d1, d2)
    squares = s
    for i in range(d1.shape[0]):
        for a in range(d1.shape[1]):
            e1[i, a] -= c1[i, a]
            squares += d1[i, a] * (e1[i, a] - c1[i, a])
    for c in range(d2.shape[0]):
        e2[c] -= c2[c]
        squares += d2[c] * (e2[c] - c2[c])
    return d1, d2, e1, e2, squares


@njit(fastmath=dense.FAST)
def _mix_rows(scale2, span2, transposed, X):  # type: ignore[no-untyped-def]
    """Overwrite ``X`` by ``Λ2X`` or ``Λ2ᵀX``: a large matrix more would cost its page faults."""
    q, block = X.shape[1], np.empty((scale2.shape[1], X.shape[1]), dtype=X.dtype)
    for first in range(q):
        start, width = span2[first, 0], span2[first, 1]
        if start != first:  # mixed with the first row of its block
            continue
        for k in range(width):
            for i in range(q):
                block[k, i] = X[first + k, i]
        for j in range(width):
            out = X[first + j]
            for k in range(width):
                x, keep = block[k], X.dtype.type(k > 0)  # the first term replaces the row
                c = scale2[first + k, j] if transposed else scale2[first + j, k]
                for i in range(q):
                    out[i] = keep * out[i] + c * x[i]


@njit
def _mix_columns(scale2, span2, transposed, X):  # type: ignore[no-untyped-def]
    """Overwrite a symmetric ``X`` by ``XΛ2ᵀ``, or ``XΛ2``, so that loops run along rows."""
    if scale2.shape[1] == 1:
        scale = scale2.reshape(-1)
        for j in range(X.shape[0]):
            for i in range(X.shape[1]):
                X[j, i] *= scale[i]
        return
    _mix_rows(scale2, span2, transposed, X)
    dense.transpose(X)


@njit
def _trailing_precision(w, scale2, span2, p2, B, F22):  # type: ignore[no-untyped-def]
    """Write ``P2 + w Λ2ᵀBΛ2``."""
    dense.scaled(w, B, F22)
    _mix_columns(scale2, span2, True, F22)
    _mix_rows(scale2, span2, True, F22)
    for j in range(F22.shape[0]):
        F22[j, j] += p2[j]


@njit
def log_evidence(  # type: ignore[no-untyped-def]
    w, scale1, scale2, s, c1, c2, A11, A12, A22, v1, v2, p1, p2, span1, span2, starts, columns,
    value_out, u1, u2, J, B, U22,
):  # fmt: skip
    """``evidence.evidence``."""
    M, S = c1.shape
    weight, dtype = w[0], A11.dtype
    L, work = _unpack(scale1, span1), np.zeros((4, S, S), dtype=dtype)
    C, AL, F11, chol = work[0], work[1], work[2], work[3]
    N, R = np.empty((M, S, S), dtype=dtype), np.empty((M, S, S), dtype=dtype)
    half, root = 0.0, np.sqrt(weight)
    for i in range(M):
        L1 = L[min(i, L.shape[0] - 1)]
        multiply(A11[i], L1, AL)
        multiply(L1.T, AL, F11)
        for a in range(S):
            for b in range(S):
                F11[a, b] *= weight
            F11[a, a] += p1[a]
        half += inverse_cholesky(F11, chol, J[i])
        gram_block(J[i], C)
        multiply(L1, C, N[i])
        multiply(J[i], L1.T, R[i])
        for a in range(S):
            for b in range(S):
                R[i, a, b] *= root
    dense.scaled(dtype.type(1.0), A22, B)
    complement(R, A12, starts, columns, B)
    _trailing_precision(weight, scale2, span2, p2, B, U22)
    half += dense.factorize(U22)

    y1, y2 = _times(A11, A12, A22, starts, columns, v1, v2)
    for i in range(M):
        for a in range(S):
            y1[i, a] = weight * (y1[i, a] + c1[i, a])
    for c in range(y2.shape[0]):
        y2[c] = weight * (y2[c] + c2[c])
    h1 = _apply(L, y1, True)
    z1 = _apply(N, h1, False)
    for i in range(M):
        for a in range(S):
            z1[i, a] *= -weight
            y1[i, a] = 0.0
    transposed_times(A12, starts, columns, z1, y2)
    _right(y2, scale2, span2, u2)
    dense.solve(U22, u2)
    x2 = np.empty_like(u2)
    _left(scale2, span2, u2, x2)
    times(A12, starts, columns, x2, y1)
    y1, z1 = _apply(N, y1, True), _apply(J, _apply(J, h1, False), True)
    for i in range(M):
        for a in range(S):
            u1[i, a] = z1[i, a] - weight * y1[i, a]
    if np.isnan(half):
        u1[:], u2[:] = np.nan, np.nan

    _, _, _, _, squares = _residuals(
        L, scale2, s[0], c1, c2, A11, A12, A22, v1, v2, span2, starts, columns, u1, u2
    )
    value = weight * squares + 2.0 * half
    for i in range(M):
        for a in range(S):
            value += p1[a] * u1[i, a] ** 2
    for c in range(u2.shape[0]):
        value += p2[c] * u2[c] ** 2
    value_out[0] = -0.5 * value


@njit
def log_evidence_pullback(  # type: ignore[no-untyped-def]
    w, scale1, scale2, s, c1, c2, A11, A12, A22, v1, v2, p1, p2, span1, span2, starts, columns,
    u1, u2, J, B, U22, bar,
    w_bar, scale1_bar, scale2_bar, s_bar, c1_bar, c2_bar, A11_bar, A12_bar, A22_bar,
    with_design,
):  # fmt: skip
    """``evidence.evidence_pullback``; ``with_design``: whether the gradient of ``A`` is wanted."""
    M, S = u1.shape
    q = u2.shape[0]
    weight, outer, dtype = w[0], -bar[0] * w[0], A11.dtype  # −½ · 2w
    blocks1 = _unpack(scale1, span1)
    d1, d2, e1, e2, squares = _residuals(
        blocks1, scale2, s[0], c1, c2, A11, A12, A22, v1, v2, span2, starts, columns, u1, u2
    )
    C22 = dense.inverse(U22)
    trace = 1.0 * (M * S + q)
    for j in range(q):
        trace -= p2[j] * C22[j, j]
    _mix_columns(scale2, span2, False, C22)
    for j in range(q):
        scale2_bar[j] = 0.0
        for k in range(span2[j, 1]):
            a = span2[j, 0] + k
            scale2_bar[j, k] = outer * (e2[j] * u2[a] + dense.dot(B[j], C22[a]))
    _mix_rows(scale2, span2, False, C22)
    G = C22
    blocks, Y = sandwich(A12, starts, columns, M, S, G, with_design)

    scale1_bar[:] = 0.0
    work = np.empty((7, S, S), dtype=dtype)
    C, N, HN, C11, K1, X, E = work[0], work[1], work[2], work[3], work[4], work[5], work[6]
    for i in range(M):
        m = min(i, scale1.shape[0] - 1)
        L = blocks1[m]
        gram_block(J[i], C)
        multiply(L, C, N)
        multiply(blocks[i], N, HN)
        multiply(N.T, HN, C11)
        for a in range(S):
            for b in range(S):
                C11[a, b] = C[a, b] + weight * weight * C11[a, b]
            trace -= p1[a] * C11[a, a]
        multiply(L, C11, X)
        multiply(A11[i], X, K1)
        for j in range(S):
            for k in range(span1[j, 1]):
                a = span1[j, 0] + k
                t = e1[i, j] * u1[i, a] + K1[j, a] - weight * HN[j, a]
                scale1_bar[m, j, k] += outer * t
        if with_design:
            multiply(X, L.T, C11)
            multiply(N, L.T, E)
            for j in range(S):
                for b in range(S):
                    A11_bar[i, j, b] = 0.5 * outer * (C11[j, b] + d1[i, j] * d1[i, b])
                a12 = level_row(A12_bar, starts, S, q, i, j)
                a12[:] = 0.0
                for b in range(S):
                    y, c = level_row(Y, starts, S, q, i, b), -outer * weight * E[j, b]
                    for k in range(a12.shape[0]):
                        a12[k] += c * y[k]
                here = level_columns(starts, columns, i)
                for k in range(a12.shape[0]):
                    column = k if starts.shape[0] == 0 else here[k]
                    a12[k] += outer * d1[i, j] * d2[column]
    w_bar[0] = -0.5 * bar[0] * (squares + trace / weight)
    s_bar[0] = -0.5 * bar[0] * weight
    for i in range(M):
        for a in range(S):
            c1_bar[i, a] = -outer * d1[i, a]
    for j in range(q):
        c2_bar[j] = -outer * d2[j]
    if with_design:
        for j in range(q):
            for c in range(q):
                A22_bar[j, c] = 0.5 * outer * (G[j, c] + d2[j] * d2[c])
