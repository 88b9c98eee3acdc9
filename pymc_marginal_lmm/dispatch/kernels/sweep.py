"""Loops of :mod:`pymc_marginal_lmm.ops.sweep`, by tiles of levels."""

from __future__ import annotations

import numpy as np
from numba import njit

from pymc_marginal_lmm.dispatch.kernels import lanes
from pymc_marginal_lmm.dispatch.kernels.coupling import (
    complement,
    sandwich,
    times,
    transposed_times,
)
from pymc_marginal_lmm.dispatch.kernels.dense import FAST, scaled
from pymc_marginal_lmm.dispatch.kernels.lanes import LANES

__all__ = ["FEW", "far_products", "gather_far", "subtract_far", "sweep", "sweep_pullback"]


FEW = 16
"""Up to so many far columns are lanes too, where a matrix product would be all overhead."""


@njit(fastmath=FAST, error_model="numpy")
def gather_far(far, first, n, r):  # type: ignore[no-untyped-def]
    """Take the far columns of a tile."""
    S, q = r.shape[:2]
    for a in range(S):
        for j in range(q):
            for t in range(n):
                r[a, j, t] = far[((first + t) * S + a) * q + j]


@njit(fastmath=FAST, error_model="numpy")
def subtract_far(r, Er, d, n, dense, dense_c):  # type: ignore[no-untyped-def]
    """Subtract ``RᵀER`` and ``Rᵀδ`` of a tile."""
    S, q = r.shape[:2]
    for j in range(q):
        s = r.dtype.type(0.0)
        for a in range(S):
            for t in range(n):
                s += r[a, j, t] * d[a, t]
        dense_c[j] -= s
        for b in range(j + 1):
            s = r.dtype.type(0.0)
            for a in range(S):
                for t in range(n):
                    s += r[a, j, t] * Er[a, b, t]
            dense[j, b] -= s
            if b < j:
                dense[b, j] -= s


@njit(fastmath=FAST, error_model="numpy")
def far_products(first, n, r, K, rho, RK, T, Rr, FK):  # type: ignore[no-untyped-def]
    """Write ``RK``, ``RKRᵀ`` and ``Rρ`` of a tile; ``RK`` also into ``FK``, if that is wanted."""
    S, q = r.shape[:2]
    T[:] = 0.0
    Rr[:] = 0.0
    for a in range(S):
        for j in range(q):
            for t in range(n):
                RK[a, j, t] = r[a, 0, t] * K[0, j]
                Rr[a, t] += r[a, j, t] * rho[j]
            for b in range(1, q):
                for t in range(n):
                    RK[a, j, t] += r[a, b, t] * K[b, j]
            for c in range(S):
                for t in range(n):
                    T[a, c, t] += RK[a, j, t] * r[c, j, t]
            if FK.shape[0] > 0:
                for t in range(n):
                    FK[((first + t) * S + a) * q + j] = RK[a, j, t]


@njit(fastmath=FAST, error_model="numpy")
def _solved(first, n, w, scale, A, c, v, p, span, work, y, d, e):  # type: ignore[no-untyped-def]
    """Write ``A, Λ, J, N`` of a tile into ``work``, and ``y, δ, e``; return half ``log|F11|``."""
    S = c.shape[1]
    own, L, J, N, X, F = work[0], work[1], work[2], work[3], work[4], work[5]
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
    lanes.gather_rows(v, first, n, d)
    lanes.times(own, d, n, e)
    for a in range(S):
        for t in range(n):
            e[a, t] += c[first + t, a]
    lanes.transposed_times(N, e, n, y)
    lanes.times(L, y, n, d)
    for a in range(S):
        for t in range(n):
            d[a, t] = w * d[a, t] - v[first + t, a]
    lanes.times(own, d, n, e)
    for a in range(S):
        for t in range(n):
            e[a, t] -= c[first + t, a]
    return half


@njit(fastmath=FAST, error_model="numpy")
def _scaled_multiply(A, B, w, n, out):  # type: ignore[no-untyped-def]
    """Write ``w A Bᵀ``."""
    lanes.multiply_transposed(A, B, n, out)
    for a in range(out.shape[0]):
        for b in range(out.shape[1]):
            for t in range(n):
                out[a, b, t] *= w


@njit(fastmath=FAST, error_model="numpy")
def sweep(  # type: ignore[no-untyped-def]
    w, scale, A, near, far, c, v, p, A22, c2, span, starts, columns,
    log_det, z, near_rows, dense, near_c, dense_c,
):  # fmt: skip
    """``sweep.sweep``."""
    M, S, k = near.shape
    q, weight, dtype = c2.shape[0], w[0], A.dtype
    work, vectors = np.empty((6, S, S, LANES), dtype), np.empty((3, S, LANES), dtype)
    tall = np.empty((2, S, k, LANES), dtype)
    few = starts.shape[0] == 0 and q <= FEW
    wide = np.empty((2, S, q if few else 0, LANES), dtype)
    L, J, N, root, E = work[1], work[2], work[3], work[4], work[5]
    y, d, e = vectors[0], vectors[1], vectors[2]
    r, Er = tall[0], tall[1]
    roots, deltas = np.empty((M, S, S), dtype), np.empty((M, S), dtype)
    halves, squares, scaling = 0.0, 0.0, np.sqrt(weight)
    scaled(1.0, A22, dense)
    scaled(1.0, c2, dense_c)
    for first in range(0, M, LANES):
        n = min(LANES, M - first)
        halves += _solved(first, n, weight, scale, A, c, v, p, span, work, y, d, e)
        for a in range(S):
            for t in range(n):
                squares += d[a, t] * (e[a, t] - c[first + t, a]) + weight * p[a] * y[a, t] ** 2
        if few:
            _scaled_multiply(N, L, weight, n, E)
            gather_far(far, first, n, wide[0])
            lanes.multiply(E, wide[0], n, wide[1])
            subtract_far(wide[0], wide[1], d, n, dense, dense_c)
        else:
            lanes.multiply_transposed(J, L, n, root)  # E = w rootᵀroot
            for a in range(S):
                for t in range(n):
                    deltas[first + t, a] = -d[a, t]
                for b in range(S):
                    for t in range(n):
                        roots[first + t, a, b] = scaling * root[a, b, t]
        if k == 0:
            continue
        lanes.gather(near, first, n, r)
        _scaled_multiply(N, L, weight, n, E)
        lanes.multiply(E, r, n, Er)
        for b in range(k):
            for t in range(n):
                s = dtype.type(0.0)
                for a in range(S):
                    s += r[a, b, t] * d[a, t]
                near_c[first + t, b] = s
            for j in range(k):
                for t in range(n):
                    s = dtype.type(0.0)
                    for a in range(S):
                        s += Er[a, b, t] * r[a, j, t]
                    near_rows[first + t, b, j] = s
            for t in range(n):
                for j in range(q):
                    near_rows[first + t, b, k + j] = 0.0
                for a in range(S):
                    x, place = Er[a, b, t], ((first + t) * S + a) * q
                    for j in range(q):
                        near_rows[first + t, b, k + j] += x * far[place + j]
    if not few:
        complement(roots, far, starts, columns, dense)
        transposed_times(far, starts, columns, deltas, dense_c)
    log_det[0], z[0] = 2.0 * halves, squares


@njit(fastmath=FAST, error_model="numpy")
def _near_products(first, n, near, far, q, K, r, RK, T):  # type: ignore[no-untyped-def]
    """Write ``n(K11 + K11ᵀ) + fK12ᵀ`` into ``RK``; add what is near of ``R(K + Kᵀ)Rᵀ`` to ``T``."""
    S, k = r.shape[:2]
    lanes.gather(near, first, n, r)
    for b in range(k):
        for a in range(S):
            for t in range(n):
                i, place = first + t, ((first + t) * S + a) * q
                s = K.dtype.type(0.0)
                for j in range(q):
                    s += far[place + j] * K[i, b, k + j]
                for c in range(S):
                    T[a, c, t] += s * r[c, b, t]
                    T[c, a, t] += s * r[c, b, t]
                RK[a, b, t] = s
    for b in range(k):
        for a in range(S):
            for t in range(n):
                i, s = first + t, K.dtype.type(0.0)
                for j in range(k):
                    s += r[a, j, t] * (K[i, j, b] + K[i, b, j])
                for c in range(S):
                    T[a, c, t] += s * r[c, b, t]
                RK[a, b, t] += s


@njit(fastmath=FAST, error_model="numpy")
def sweep_pullback(  # type: ignore[no-untyped-def]
    w, scale, A, near, far, c, v, p, span, starts, columns,
    log_det_bar, z_bar, near_bars, dense_bar, near_c_bar, dense_c_bar,
    w_bar, scale_bar, c_bar, A_bar, near_bar, far_bar,
    with_design,
):  # fmt: skip
    """``sweep.sweep_pullback``; ``with_design``: whether that of ``A`` and ``R`` is wanted."""
    M, S, k = near.shape
    q, weight, z, log_det = dense_c_bar.shape[0], w[0], z_bar[0], log_det_bar[0]
    dtype = A.dtype
    work, vectors = np.empty((9, S, S, LANES), dtype), np.empty((6, S, LANES), dtype)
    tall = np.empty((3, S, k, LANES), dtype)
    own, L, N, T, V, X = work[0], work[1], work[3], work[5], work[6], work[7]
    E = work[8]
    y, d, e = vectors[0], vectors[1], vectors[2]
    Lx, x, Rr = vectors[3], vectors[4], vectors[5]
    r, RK, ERK = tall[0], tall[1], tall[2]

    few = starts.shape[0] == 0 and q <= FEW
    rho, K = np.empty_like(dense_c_bar), dense_bar[: q if few else 0].copy()
    scaled(-1.0, dense_c_bar, rho)
    scaled(-2.0, K, K)
    products = np.zeros((M, S), dtype)
    wide = np.empty((2, S, q if few else 0, LANES), dtype)
    H = np.zeros((M, 0, 0), dtype)
    FK = np.empty(far.shape[0] if few and with_design else 0, dtype)
    if not few:
        H, FK = sandwich(far, starts, columns, M, S, dense_bar, with_design)
        scaled(-2.0, H, H)
        scaled(-2.0, FK, FK)
        times(far, starts, columns, rho, products)

    weights = 0.0
    scale_bar[:] = 0.0
    shared = scale.shape[0] == 1
    for first in range(0, M, LANES):
        n = min(LANES, M - first)
        _solved(first, n, weight, scale, A, c, v, p, span, work, y, d, e)
        if few:
            gather_far(far, first, n, wide[0])
            far_products(first, n, wide[0], K, rho, wide[1], T, Rr, FK)
        else:
            lanes.gather(H, first, n, T)
            lanes.gather_rows(products, first, n, Rr)
        if k > 0:
            _near_products(first, n, near, far, q, near_bars, r, RK, T)
            for a in range(S):
                for b in range(k):
                    for t in range(n):
                        Rr[a, t] += r[a, b, t] * near_c_bar[first + t, b]
        for a in range(S):
            for b in range(S):
                for t in range(n):
                    T[a, b, t] *= 0.5
        lanes.transposed_times(N, Rr, n, x)
        lanes.times(L, x, n, Lx)
        lanes.multiply(T, N, n, X)
        lanes.transposed_multiply(N, X, n, E)
        lanes.multiply(L, E, n, V)
        for a in range(S):
            for b in range(S):
                for t in range(n):
                    V[a, b, t] = log_det * N[a, b, t] - weight * V[a, b, t]
        lanes.multiply(own, V, n, E)
        trace, penalty = 0.0, 0.0
        for a in range(S):
            for b in range(S):
                for t in range(n):
                    X[a, b, t] += E[a, b, t]
                    trace += X[a, b, t] * L[a, b, t]
            for t in range(n):
                penalty += p[a] * y[a, t] ** 2
                trace -= Lx[a, t] * e[a, t]
                Lx[a, t] *= weight
                c_bar[first + t, a] = Lx[a, t] - 2.0 * z * d[a, t]
        weights += trace - z * penalty
        for a in range(S):
            for b in range(S):
                for t in range(n):
                    Rr[a, t] -= own[a, b, t] * Lx[b, t]
            for t in range(n):
                Rr[a, t] += 2.0 * z * e[a, t]
        for a in range(S):
            for place in range(span[a, 1]):
                b = span[a, 0] + place
                for t in range(n):
                    s = Rr[a, t] * y[b, t] - e[a, t] * x[b, t] + 2.0 * X[a, b, t]
                    scale_bar[0 if shared else first + t, a, place] += weight * s
        if not with_design:
            continue
        _scaled_multiply(V, L, weight, n, T)
        for a in range(S):
            for b in range(S):
                for t in range(n):
                    s = 2.0 * z * d[a, t] * d[b, t] - Lx[a, t] * d[b, t] - d[a, t] * Lx[b, t]
                    A_bar[first + t, a, b] = T[a, b, t] + 0.5 * s
        _scaled_multiply(N, L, weight, n, E)
        if k > 0:
            lanes.multiply(E, RK, n, ERK)
            for a in range(S):
                for b in range(k):
                    for t in range(n):
                        s = d[a, t] * near_c_bar[first + t, b]
                        near_bar[first + t, a, b] = ERK[a, b, t] + s
            lanes.multiply(E, r, n, ERK)
        _far_bar(first, n, E, d, ERK, near_bars, FK, rho, starts, columns, far_bar)
    w_bar[0] = weights


@njit(fastmath=FAST, error_model="numpy")
def _far_bar(first, n, E, d, En, K, FK, rho, starts, columns, out):  # type: ignore[no-untyped-def]
    """Write ``E(fK22 + nK12) + δρᵀ`` of a tile."""
    S, q, k = E.shape[0], rho.shape[0], En.shape[1]
    dense, N = starts.shape[0] == 0, columns.shape[0]
    for t in range(n):
        i = first + t
        size = q if dense else starts[i + 1] - starts[i]
        for a in range(S):
            here = (i * S + a) * q if dense else a * N + starts[i]
            for j in range(size):
                column = j if dense else columns[starts[i] + j]
                out[here + j] = d[a, t] * rho[column]
            for b in range(S):
                x, there = E[a, b, t], (i * S + b) * q if dense else b * N + starts[i]
                for j in range(size):
                    out[here + j] += x * FK[there + j]
            for b in range(k):
                x = En[a, b, t]
                for j in range(q):
                    out[here + j] += x * K[i, b, k + j]
