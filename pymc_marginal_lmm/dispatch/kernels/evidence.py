"""Loops of :mod:`pymc_marginal_lmm.ops.evidence`."""

from __future__ import annotations

import numpy as np
from numba import njit

from pymc_marginal_lmm.dispatch.kernels import dense

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


@njit(fastmath=dense.FAST)
def _precision(w, scale, span, p, A, F):  # type: ignore[no-untyped-def]
    """Write ``P0 + w ΛᵀAΛ``."""
    q = p.shape[0]
    row = np.empty(q, dtype=A.dtype)
    F[:] = 0.0
    for j in range(q):
        _right(A[j], scale, span, row)
        for k in range(span[j, 1]):
            out, c = F[span[j, 0] + k], w * scale[j, k]
            for i in range(q):
                out[i] += c * row[i]
    for j in range(q):
        F[j, j] += p[j]


@njit(fastmath=dense.FAST)
def _covariance(scale, span, C):  # type: ignore[no-untyped-def]
    """Overwrite ``C`` by ``G = ΛCΛᵀ``: a large matrix more would cost its page faults."""
    q = C.shape[0]
    block, row = np.empty((scale.shape[1], q), dtype=C.dtype), np.empty(q, dtype=C.dtype)
    for j in range(q):
        start, width = span[j, 0], span[j, 1]
        if start == j:  # the rows that this block of Λ mixes
            for k in range(width):
                for i in range(q):
                    block[k, i] = C[j + k, i]
        for i in range(q):
            row[i] = scale[j, 0] * block[0, i]
        for k in range(1, width):
            c = scale[j, k]
            for i in range(q):
                row[i] += c * block[k, i]
        _left(scale, span, row, C[j])


@njit
def _residuals(scale, span, s, c, A, v, u, d, e):  # type: ignore[no-untyped-def]
    """Write ``δ`` and ``e = Aδ − c``; return ``s − 2δᵀc + δᵀAδ``."""
    _left(scale, span, u, d)
    squares = s
    for j in range(d.shape[0]):
        d[j] -= v[j]
    for j in range(d.shape[0]):
        e[j] = dense.dot(A[j], d) - c[j]
        squares += d[j] * (e[j] - c[j])
    return squares


@njit
def log_evidence(w, scale, s, c, A, v, p, span, value, u, U):  # type: ignore[no-untyped-def]
    """``evidence.evidence``."""
    q, weight = c.shape[0], w[0]
    _precision(weight, scale, span, p, A, U)
    half = dense.factorize(U)
    d, e = np.empty_like(c), np.empty_like(c)
    for j in range(q):
        e[j] = weight * (dense.dot(A[j], v) + c[j])
    _right(e, scale, span, u)
    dense.solve(U, u)
    if np.isnan(half):
        u[:] = np.nan
    total = weight * _residuals(scale, span, s[0], c, A, v, u, d, e) + 2.0 * half
    for j in range(q):
        total += p[j] * u[j] ** 2
    value[0] = -0.5 * total


@njit
def log_evidence_pullback(  # type: ignore[no-untyped-def]
    w, scale, s, c, A, v, p, span, u, U, bar, w_bar, scale_bar, s_bar, c_bar, A_bar, with_design
):
    """``evidence.evidence_pullback``; ``with_design``: whether the gradient of ``A`` is wanted."""
    q, weight, outer = u.shape[0], w[0], -bar[0] * w[0]  # −½ · 2w
    d, e, row = np.empty_like(c), np.empty_like(c), np.empty_like(c)
    squares = _residuals(scale, span, s[0], c, A, v, u, d, e)
    C = dense.inverse(U)
    trace = 1.0 * q
    for j in range(q):
        trace -= p[j] * C[j, j]
        _right(A[j], scale, span, row)
        scale_bar[j] = 0.0
        for k in range(span[j, 1]):
            a = span[j, 0] + k
            scale_bar[j, k] = outer * (e[j] * u[a] + dense.dot(row, C[a]))
    w_bar[0] = -0.5 * bar[0] * (squares + trace / weight)
    s_bar[0] = -0.5 * bar[0] * weight
    for j in range(q):
        c_bar[j] = -outer * d[j]
    if with_design:
        _covariance(scale, span, C)
        for j in range(q):
            for k in range(q):
                A_bar[j, k] = 0.5 * outer * (C[j, k] + d[j] * d[k])
