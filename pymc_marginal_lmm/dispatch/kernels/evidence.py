"""Loops of :mod:`pymc_marginal_lmm.ops.evidence`."""

from __future__ import annotations

import numpy as np
from numba import njit

from pymc_marginal_lmm.dispatch.kernels import dense
from pymc_marginal_lmm.ops.evidence import LOST

__all__ = ["log_evidence", "log_evidence_pullback"]


@njit(fastmath=dense.FAST, error_model="numpy")
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


@njit(fastmath=dense.FAST, error_model="numpy")
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


@njit(fastmath=dense.FAST, error_model="numpy")
def _mix_rows(scale, span, transposed, X):  # type: ignore[no-untyped-def]
    """Overwrite ``X`` by ``ΛX`` or ``ΛᵀX``: a large matrix more would cost its page faults."""
    q, block = X.shape[1], np.empty((scale.shape[1], X.shape[1]), dtype=X.dtype)
    for first in range(q):
        start, width = span[first, 0], span[first, 1]
        if start != first:  # mixed with the first row of its block
            continue
        for k in range(width):
            for i in range(q):
                block[k, i] = X[first + k, i]
        for j in range(width):
            out = X[first + j]
            for k in range(width):
                x, keep = block[k], X.dtype.type(k > 0)  # the first term replaces the row
                c = scale[first + k, j] if transposed else scale[first + j, k]
                for i in range(q):
                    out[i] = keep * out[i] + c * x[i]


@njit(error_model="numpy")
def _mix_columns(scale, span, transposed, X):  # type: ignore[no-untyped-def]
    """Overwrite a symmetric ``X`` by ``XΛᵀ``, or ``XΛ``, so that loops run along rows."""
    _mix_rows(scale, span, transposed, X)
    dense.transpose(X)


@njit(fastmath=dense.FAST, error_model="numpy")
def _scaled_triangle(w, scale, A, F):  # type: ignore[no-untyped-def]
    """Write the upper triangle of ``w ΛᵀAΛ``, ``Λ`` diagonal."""
    for j in range(A.shape[0]):
        c, x, y, here = w * scale[j], A[j, j:], F[j, j:], scale[j:]
        for i in range(x.shape[0]):
            y[i] = c * x[i] * here[i]


@njit(fastmath=dense.FAST, error_model="numpy")
def _times_scale(x, scale):  # type: ignore[no-untyped-def]
    """Overwrite a row ``x`` by ``xΛ``, ``Λ`` diagonal."""
    for i in range(x.shape[0]):
        x[i] *= scale[i]


@njit(fastmath=dense.FAST, error_model="numpy")
def _design_bar(c, s, own, d, x):  # type: ignore[no-untyped-def]
    """Overwrite a row ``x`` by ``c (s x + own d)``."""
    for i in range(x.shape[0]):
        x[i] = c * (s * x[i] + own * d[i])


@njit(error_model="numpy")
def _precision(w, scale, span, p, A, F):  # type: ignore[no-untyped-def]
    """Write the upper triangle of ``P0 + w ΛᵀAΛ``, or more of it."""
    if scale.shape[1] == 1:
        _scaled_triangle(w, scale.reshape(-1), A, F)
    else:
        dense.scaled(w, A, F)
        _mix_columns(scale, span, True, F)
        _mix_rows(scale, span, True, F)
    for j in range(F.shape[0]):
        F[j, j] += p[j]


@njit(error_model="numpy")
def _error(scale, span, v, u, d):  # type: ignore[no-untyped-def]
    """Write ``δ = Λu − v0``."""
    _left(scale, span, u, d)
    for j in range(d.shape[0]):
        d[j] -= v[j]


@njit(error_model="numpy")
def _squares(s, c, d, e):  # type: ignore[no-untyped-def]
    """Return ``s − 2δᵀc + δᵀAδ``."""
    for j in range(d.shape[0]):
        s += d[j] * (e[j] - c[j])
    return s


@njit(error_model="numpy")
def _all_rows(scale, span):  # type: ignore[no-untyped-def]
    """Return the packed row of each row of ``Λ``."""
    rows = np.empty((span.shape[0], scale.shape[1]), dtype=scale.dtype)
    for j in range(span.shape[0]):
        rows[j] = scale[span[j, 2]]
    return rows


@njit(error_model="numpy")
def log_evidence(w, scale, s, c, A, v, p, span, value, u, e, U):  # type: ignore[no-untyped-def]
    """``evidence.evidence``."""
    q, weight, scale = c.shape[0], w[0], _all_rows(scale, span)
    _precision(weight, scale, span, p, A, U)
    half = dense.factorize(U)
    d = np.empty_like(c)
    for j in range(q):
        e[j] = weight * (dense.dot(A[j], v) + c[j])
    _right(e, scale, span, u)
    dense.solve(U, u)
    if np.isnan(half):
        u[:] = np.nan
    _error(scale, span, v, u, d)
    for j in range(q):
        e[j] = dense.dot(A[j], d) - c[j]
    squares = weight * _squares(s[0], c, d, e)
    for j in range(q):
        squares += p[j] * u[j] ** 2
    value[0] = -np.inf if squares < LOST else -0.5 * squares - half


@njit(error_model="numpy")
def log_evidence_pullback(  # type: ignore[no-untyped-def]
    w, scale, s, c, A, v, p, span, u, e, U, bar, w_bar, scale_bar, s_bar, c_bar, C, with_design
):
    """``evidence.evidence_pullback``.

    ``C``, which may be ``U``, is where to work; the gradient of ``A`` too, if that is wanted.
    """
    q, weight, outer = u.shape[0], w[0], -bar[0] * w[0]  # −½ · 2w
    d, scale = np.empty_like(c), _all_rows(scale, span)
    _error(scale, span, v, u, d)
    dense.inverse(U, C)
    trace = 1.0 * q
    for j in range(q):
        trace -= p[j] * C[j, j]
    scale_bar[:] = 0.0
    diagonal = scale.shape[1] == 1
    if not diagonal:
        _mix_columns(scale, span, False, C)
    for j in range(q):
        if diagonal:
            _times_scale(C[j], scale.reshape(-1))
        for k in range(span[j, 1]):
            a = span[j, 0] + k
            scale_bar[span[j, 2], k] += outer * (e[j] * u[a] + dense.dot(A[j], C[a]))
        if diagonal and with_design:
            _design_bar(0.5 * outer, scale[j, 0], d[j], d, C[j])
    w_bar[0] = -0.5 * bar[0] * (_squares(s[0], c, d, e) + trace / weight)
    s_bar[0] = -0.5 * bar[0] * weight
    for j in range(q):
        c_bar[j] = -outer * d[j]
    if with_design and not diagonal:
        _mix_rows(scale, span, False, C)
        for j in range(q):
            _design_bar(0.5 * outer, 1.0, d[j], d, C[j])
