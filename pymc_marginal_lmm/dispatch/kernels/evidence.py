"""Loops of :mod:`pymc_marginal_lmm.ops.evidence`."""

from __future__ import annotations

import numpy as np
from numba import njit

from pymc_marginal_lmm.dispatch.kernels.elimination import (
    eliminate,
    finish,
    gram,
    inverse_block,
    inverse_couplings,
    triangular_inverse,
)

__all__ = ["log_evidence", "log_evidence_pullback"]


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
        half += eliminate(F11, F12, L, J[i], T[i])
    F22 = np.zeros((q, q), dtype=dtype)
    for j in range(q):
        F22[j, j] += p2[j]
        _right(A22[j], scale2, span2, row)
        for k in range(span2[j, 1]):
            a = span2[j, 0] + k
            factor = weight * scale2[j, k]
            for c in range(q):
                F22[a, c] += factor * row[c]
    log_det = finish(half, J, T, F22, h1, h2, u1, u2, L22)
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
    C22 = gram(triangular_inverse(L22))
    V, VC = inverse_couplings(J, T, C22)
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
        inverse_block(J[i], V[i], VC[i], C11)
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
