"""Loops of :mod:`pymc_marginal_lmm.ops.cyclic_reduction`, level by level, in place.

Block ``j`` of the level ``l`` (from 0) is block ``2ˡ(j + 1) − 1`` of the whole.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pymc_marginal_lmm.dispatch.kernels import dense

__all__ = ["block_tridiagonal_draw", "block_tridiagonal_pullback", "block_tridiagonal_solve"]


@njit(error_model="numpy")
def _transposed(A, out):  # type: ignore[no-untyped-def]
    for a in range(A.shape[0]):
        for b in range(A.shape[1]):
            out[b, a] = A[a, b]


@njit(error_model="numpy")
def _factorize(D, E, J, left, right):  # type: ignore[no-untyped-def]
    """Write the factor, with ``D`` and ``E`` as scratch; return half the log determinant."""
    B, half = D.shape[1], 0.0
    m, step, e0, o0 = D.shape[0], 1, 0, 0
    Et = np.empty((B, B), dtype=D.dtype)
    left[:], right[:] = 0.0, 0.0
    while m > 0:
        n = m // 2
        for j in range(n + 1):
            if 2 * j == m:
                J[e0 + j] = np.eye(B, dtype=D.dtype)
                continue
            U = D[step * (2 * j + 1) - 1]
            half += dense.factorize(U)
            dense.inverse_transposed(U, J[e0 + j])
        for j in range(n):
            _transposed(E[2 * j], Et)
            dense.add(1.0, J[e0 + j].T, Et, right[o0 + j])
            odd = D[step * (2 * j + 2) - 1]
            dense.add(-1.0, right[o0 + j], right[o0 + j], odd)
            if 2 * j + 2 < m:
                dense.add(1.0, J[e0 + j + 1].T, E[2 * j + 1], left[o0 + j])
                dense.add(-1.0, left[o0 + j], left[o0 + j], odd)
        for j in range(n - 1):  # what is overwritten is needed no more
            E[j] = 0.0
            dense.add(-1.0, right[o0 + j + 1], left[o0 + j], E[j])
        e0, o0, m, step = e0 + n + 1, o0 + n, n, 2 * step
    return half


@njit(error_model="numpy")
def _forward(J, left, right, x):  # type: ignore[no-untyped-def]
    """Overwrite ``x`` by ``L⁻¹x``."""
    m, step, e0, o0 = x.shape[0], 1, 0, 0
    h = np.empty_like(x[0])
    while m > 0:
        n = m // 2
        for j in range((m + 1) // 2):
            even = x[step * (2 * j + 1) - 1]
            h[:] = even
            even[:] = 0.0
            dense.add(1.0, J[e0 + j].T, h, even)
        for j in range(n):
            odd = x[step * (2 * j + 2) - 1]
            dense.add(-1.0, right[o0 + j], x[step * (2 * j + 1) - 1], odd)
            if 2 * j + 2 < m:
                dense.add(-1.0, left[o0 + j], x[step * (2 * j + 3) - 1], odd)
        e0, o0, m, step = e0 + n + 1, o0 + n, n, 2 * step


@njit(error_model="numpy")
def _levels(m):  # type: ignore[no-untyped-def]
    """Return of each level its length, and where its even and odd blocks begin."""
    table = np.empty((64, 3), dtype=np.int64)
    count, e0, o0 = 0, 0, 0
    while m > 0:
        table[count, 0], table[count, 1], table[count, 2] = m, e0, o0
        count, e0, o0, m = count + 1, e0 + m // 2 + 1, o0 + m // 2, m // 2
    return table[:count]


@njit(error_model="numpy")
def _backward(J, left, right, x):  # type: ignore[no-untyped-def]
    """Overwrite ``x`` by ``L⁻ᵀx``."""
    levels = _levels(x.shape[0])
    t = np.empty_like(x[0])
    for level in range(len(levels) - 1, -1, -1):
        m, e0, o0 = levels[level]
        n, step = m // 2, 1 << level
        for j in range((m + 1) // 2):
            even = x[step * (2 * j + 1) - 1]
            if j < n:
                dense.add(-1.0, right[o0 + j].T, x[step * (2 * j + 2) - 1], even)
            if j > 0:
                dense.add(-1.0, left[o0 + j - 1].T, x[step * 2 * j - 1], even)
            t[:] = even
            even[:] = 0.0
            dense.add(1.0, J[e0 + j], t, even)


@njit(error_model="numpy")
def block_tridiagonal_solve(D, E, h, log_det, x, J, left, right):  # type: ignore[no-untyped-def]
    """Factor and solution."""
    half = _factorize(D.copy(), E.copy(), J, left, right)
    x[:] = h
    _forward(J, left, right, x)
    _backward(J, left, right, x)
    log_det[0] = 2.0 * half
    if np.isnan(half):
        x[:] = np.nan


@njit(error_model="numpy")
def block_tridiagonal_draw(J, left, right, x, out, transpose):  # type: ignore[no-untyped-def]
    """``L⁻ᵀx``, or ``L⁻¹x``."""
    out[:] = x
    if transpose:
        _forward(J, left, right, out)
    else:
        _backward(J, left, right, out)


@njit(error_model="numpy")
def _inverse(J, left, right, C, below):  # type: ignore[no-untyped-def]
    """Write the blocks of ``F⁻¹``: ``C`` on the diagonal, ``below`` it."""
    B = C.shape[1]
    levels = _levels(C.shape[0])
    work = np.empty((5, B, B), dtype=C.dtype)
    Y_right, Y_left, C_right, C_left, turned = work[0], work[1], work[2], work[3], work[4]
    between = np.empty((0, B, B), dtype=C.dtype)
    for level in range(len(levels) - 1, -1, -1):
        m, e0, o0 = levels[level]
        n, step = m // 2, 1 << level
        own = below if level == 0 else np.empty((m - 1, B, B), dtype=C.dtype)
        for j in range((m + 1) // 2):
            even = C[step * (2 * j + 1) - 1]
            even[:] = 0.0
            dense.add(1.0, J[e0 + j], J[e0 + j], even)
            work[:4] = 0.0
            if j < n:
                odd = C[step * (2 * j + 2) - 1]
                dense.add(1.0, J[e0 + j], right[o0 + j], Y_right)
                dense.add(-1.0, Y_right.T, odd, C_right)
            if j > 0:
                odd = C[step * 2 * j - 1]
                dense.add(1.0, J[e0 + j], left[o0 + j - 1], Y_left)
                dense.add(-1.0, Y_left.T, odd, C_left)
            if 0 < j < n:
                dense.add(-1.0, Y_right.T, between[j - 1], C_left)
                _transposed(between[j - 1], turned)
                dense.add(-1.0, Y_left.T, turned, C_right)
            if j < n:
                _transposed(C_right, own[2 * j])
                _transposed(Y_right, turned)
                dense.add(-1.0, C_right.T, turned, even)
            if j > 0:
                own[2 * j - 1] = C_left
                _transposed(Y_left, turned)
                dense.add(-1.0, C_left.T, turned, even)
        between = own


@njit(error_model="numpy")
def _subtract_outer(g, x, factor, out):  # type: ignore[no-untyped-def]
    """Subtract ``factor (g xᵀ)`` from ``out``."""
    for a in range(out.shape[0]):
        for b in range(out.shape[1]):
            s = out.dtype.type(0.0)
            for k in range(g.shape[1]):
                s += g[a, k] * x[b, k]
            out[a, b] -= factor * s


@njit(error_model="numpy")
def block_tridiagonal_pullback(  # type: ignore[no-untyped-def]
    J, left, right, x, log_det_bar, x_bar, D_bar, E_bar, g
):
    """``cyclic_reduction.pullback``."""
    g[:] = x_bar
    _forward(J, left, right, g)
    _backward(J, left, right, g)
    _inverse(J, left, right, D_bar, E_bar)
    bar, half, one = log_det_bar[0], D_bar.dtype.type(0.5), D_bar.dtype.type(1.0)
    dense.scaled(bar, D_bar, D_bar)
    dense.scaled(2 * bar, E_bar, E_bar)
    for i in range(x.shape[0]):
        _subtract_outer(g[i], x[i], half, D_bar[i])
        _subtract_outer(x[i], g[i], half, D_bar[i])
        if i > 0:
            _subtract_outer(g[i], x[i - 1], one, E_bar[i - 1])
            _subtract_outer(x[i], g[i - 1], one, E_bar[i - 1])
