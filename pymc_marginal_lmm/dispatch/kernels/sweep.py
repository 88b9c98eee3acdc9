"""Loops of :mod:`pymc_marginal_lmm.ops.sweep`, by tiles of levels."""

from __future__ import annotations

import numpy as np
from numba import njit

from pymc_marginal_lmm.dispatch.kernels import lanes
from pymc_marginal_lmm.dispatch.kernels.dense import FAST
from pymc_marginal_lmm.dispatch.kernels.lanes import LANES

__all__ = ["sweep", "sweep_pullback"]


@njit(fastmath=FAST)
def _solved(first, n, w, scale, A, c, v, p, span, work, N, E, u, d, e):  # type: ignore[no-untyped-def]
    """Write ``N, E, u, δ, e`` of a tile, ``A`` into ``work[0]``; return half of ``log|F11|``."""
    S = c.shape[1]
    own, L, X, F, J = work[0], work[1], work[2], work[3], work[4]
    lanes.gather(A, first, n, own)
    lanes.unpack(scale, span, first, n, L)
    lanes.multiply(own, L, n, X)
    lanes.transposed_multiply(L, X, n, F)
    for a in range(S):
        for b in range(S):
            for t in range(n):
                F[a, b, t] *= w
        for t in range(n):
            F[a, a, t] += p[a]
    half = lanes.inverse_cholesky(F, n, X, J)
    lanes.gram(J, n, F)
    lanes.multiply(L, F, n, N)
    lanes.multiply_transposed(N, L, n, E)
    lanes.gather_rows(v, first, n, d)
    lanes.times(own, d, n, e)
    for a in range(S):
        for t in range(n):
            e[a, t] = w * (e[a, t] + c[first + t, a])
    lanes.transposed_times(N, e, n, u)
    lanes.times(E, e, n, d)
    for a in range(S):
        for b in range(S):
            for t in range(n):
                E[a, b, t] *= w
        for t in range(n):
            d[a, t] -= v[first + t, a]
    lanes.times(own, d, n, e)
    for a in range(S):
        for t in range(n):
            e[a, t] -= c[first + t, a]
    return half


@njit(fastmath=FAST)
def _dot(x, y, n):  # type: ignore[no-untyped-def]
    s = x.dtype.type(0.0)
    for t in range(n):
        s += x[t] * y[t]
    return s


@njit(fastmath=FAST)
def sweep(  # type: ignore[no-untyped-def]
    w, scale, A, R, c, v, p, span, log_det, z, near, far, near_c, far_c
):
    """``sweep.sweep``."""
    M, S, columns = R.shape
    k, weight, dtype = near_c.shape[1], w[0], A.dtype
    work, vectors = np.empty((7, S, S, LANES), dtype), np.empty((3, S, LANES), dtype)
    wide = np.empty((3, S, columns, LANES), dtype)
    E, r, ER = work[6], wide[0], wide[1]
    u, d, e = vectors[0], vectors[1], vectors[2]
    halves, squares = 0.0, 0.0
    far[:], far_c[:] = 0.0, 0.0
    for first in range(0, M, LANES):
        n = min(LANES, M - first)
        halves += _solved(
            first, n, weight, scale, A, c, v, p, span, work, work[5], E, u, d, e
        )  # fmt: skip
        lanes.gather(R, first, n, r)
        lanes.multiply(E, r, n, ER)
        for a in range(S):
            for t in range(n):
                squares += d[a, t] * (e[a, t] - c[first + t, a]) + p[a] * u[a, t] ** 2 / weight
        for b in range(k):
            for t in range(n):
                s = dtype.type(0.0)
                for a in range(S):
                    s += r[a, b, t] * d[a, t]
                near_c[first + t, b] = s
            for j in range(columns):
                for t in range(n):
                    s = dtype.type(0.0)
                    for a in range(S):
                        s += r[a, b, t] * ER[a, j, t]
                    near[first + t, b, j] = s
        for b in range(k, columns):
            for a in range(S):
                far_c[b - k] += _dot(r[a, b], d[a], n)
                for j in range(k, columns):
                    far[b - k, j - k] += _dot(r[a, b], ER[a, j], n)
    log_det[0], z[0] = 2.0 * halves, squares


@njit(fastmath=FAST)
def sweep_pullback(  # type: ignore[no-untyped-def]
    w, scale, A, R, c, v, p, span, log_det_bar, z_bar, near_bar, far_bar, near_c_bar, far_c_bar,
    w_bar, scale_bar, c_bar, A_bar, R_bar, with_design,
):  # fmt: skip
    """``sweep.sweep_pullback``; ``with_design``: whether that of ``A`` and ``R`` is wanted."""
    M, S, columns = R.shape
    k, weight, z, log_det = near_c_bar.shape[1], w[0], z_bar[0], log_det_bar[0]
    dtype = A.dtype
    work, vectors = np.empty((10, S, S, LANES), dtype), np.empty((6, S, LANES), dtype)
    wide, rho = np.empty((2, S, columns, LANES), dtype), np.empty((columns, LANES), dtype)
    K = np.empty((columns, columns, LANES), dtype)
    own, N, E, T, ET, X = work[0], work[5], work[6], work[7], work[8], work[9]
    u, d, e = vectors[0], vectors[1], vectors[2]
    g, t_, Rr = vectors[3], vectors[4], vectors[5]
    r, RK = wide[0], wide[1]
    for b in range(k, columns):
        rho[b] = far_c_bar[b - k]
        for j in range(k, columns):
            K[b, j] = far_bar[b - k, j - k] + far_bar[j - k, b - k]
    weights = 0.0
    scale_bar[:] = 0.0
    shared = scale.shape[0] == 1
    for first in range(0, M, LANES):
        n = min(LANES, M - first)
        _solved(first, n, weight, scale, A, c, v, p, span, work, N, E, u, d, e)
        lanes.gather(R, first, n, r)
        for b in range(k):
            for t in range(n):
                rho[b, t] = near_c_bar[first + t, b]
            for j in range(k):
                for t in range(n):
                    K[b, j, t] = near_bar[first + t, b, j] + near_bar[first + t, j, b]
            for j in range(k, columns):
                for t in range(n):
                    K[b, j, t] = near_bar[first + t, b, j]
                    K[j, b, t] = K[b, j, t]
        lanes.multiply(r, K, n, RK)
        lanes.multiply_transposed(RK, r, n, T)
        lanes.times(r, rho, n, Rr)
        for a in range(S):
            for b in range(S):
                for t in range(n):
                    T[a, b, t] *= 0.5
        lanes.multiply(E, T, n, ET)
        lanes.multiply(own, ET, n, X)
        lanes.times(E, Rr, n, g)
        lanes.transposed_times(N, Rr, n, t_)
        trace, penalty = 0.0, 0.0
        for a in range(S):
            for b in range(S):
                for t in range(n):
                    X[a, b, t] = T[a, b, t] - X[a, b, t] + log_det * own[a, b, t]
                    trace += X[a, b, t] * E[a, b, t]
            for t in range(n):
                penalty += p[a] * u[a, t] ** 2
                trace -= g[a, t] * e[a, t]
                c_bar[first + t, a] = g[a, t] - 2.0 * z * d[a, t]
        weights += (trace - z * penalty / weight) / weight
        if with_design:
            lanes.multiply(ET, E, n, T)
            for a in range(S):
                for b in range(S):
                    for t in range(n):
                        s = 2.0 * z * d[a, t] * d[b, t] - g[a, t] * d[b, t] - d[a, t] * g[b, t]
                        A_bar[first + t, a, b] = 0.5 * s - T[a, b, t] + log_det * E[a, b, t]
            lanes.multiply(E, RK, n, r)
            for a in range(S):
                for j in range(columns):
                    for t in range(n):
                        R_bar[first + t, a, j] = r[a, j, t] + d[a, t] * rho[j, t]
        # Λ̄ overwrites T, Rρ − A11g + 2z̄e overwrites Rρ.
        lanes.multiply(X, N, n, T)
        for a in range(S):
            for b in range(S):
                for t in range(n):
                    Rr[a, t] -= own[a, b, t] * g[b, t]
            for t in range(n):
                Rr[a, t] += 2.0 * z * e[a, t]
        for a in range(S):
            for place in range(span[a, 1]):
                b = span[a, 0] + place
                for t in range(n):
                    s = 2.0 * T[a, b, t] - e[a, t] * t_[b, t]
                    scale_bar[0 if shared else first + t, a, place] += (
                        Rr[a, t] * u[b, t] + weight * s
                    )
    w_bar[0] = weights
