"""Loops of :mod:`pymc_marginal_lmm.ops.orthonormal`, by tiles of levels."""

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
from pymc_marginal_lmm.dispatch.kernels.sweep import FEW, far_products, gather_far, subtract_far

__all__ = ["sweep_orthonormal", "sweep_orthonormal_pullback"]


@njit(fastmath=FAST, error_model="numpy")
def _solved(first, n, w, scale, root, g, v, span, work, a, b):  # type: ignore[no-untyped-def]
    """Write ``L, Λ, K, J, H⁻¹`` of a tile into ``work``, and ``α, b``; return half ``log|H|``."""
    S = g.shape[1]
    R, L, K, J, C, X = work[0], work[1], work[2], work[3], work[4], work[5]
    lanes.gather(root, first, n, R)
    lanes.unpack(scale, span, first, n, L)
    lanes.transposed_multiply(R, L, n, K)
    lanes.multiply_transposed(K, K, n, C)
    for i in range(S):
        for j in range(S):
            for t in range(n):
                C[i, j, t] *= w
        for t in range(n):
            C[i, i, t] += 1.0
            a[i, t] = g[first + t, i] + v[first + t, i]
    half = lanes.inverse_cholesky(C, n, X, J)
    lanes.gram(J, n, C)
    lanes.times(C, a, n, b)
    return half


@njit(fastmath=FAST, error_model="numpy")
def sweep_orthonormal(  # type: ignore[no-untyped-def]
    w, scale, root, far, g, v, B, c2, span, log_det, z, dense, dense_c
):
    """``orthonormal.sweep_orthonormal``."""
    M, S = g.shape
    q, weight, dtype = c2.shape[0], w[0], root.dtype
    work, vectors = np.empty((6, S, S, LANES), dtype), np.empty((2, S, LANES), dtype)
    J, C, a, b = work[3], work[4], vectors[0], vectors[1]
    few = q <= FEW
    wide = np.empty((2, S, q if few else 0, LANES), dtype)
    roots, solutions = np.empty((0 if few else M, S, S), dtype), np.empty((M, S), dtype)
    halves, squares = 0.0, 0.0
    scaled(1.0 if few else -1.0, B, dense)
    scaled(1.0, c2, dense_c)
    for first in range(0, M, LANES):
        n = min(LANES, M - first)
        halves += _solved(first, n, weight, scale, root, g, v, span, work, a, b)
        for i in range(S):
            for t in range(n):
                squares += a[i, t] * b[i, t] - g[first + t, i] ** 2
        if few:  # −H⁻¹ is taken from the dense block
            for i in range(S):
                for j in range(S):
                    for t in range(n):
                        C[i, j, t] *= -1.0
                for t in range(n):
                    b[i, t] *= -1.0
            gather_far(far, first, n, wide[0])
            lanes.multiply(C, wide[0], n, wide[1])
            subtract_far(wide[0], wide[1], b, n, dense, dense_c)
            continue
        for i in range(S):
            for t in range(n):
                solutions[first + t, i] = b[i, t]
            for j in range(S):
                for t in range(n):
                    roots[first + t, i, j] = J[i, j, t]
    if not few:
        starts, columns = np.empty(0, np.int32), np.empty(0, np.int32)
        complement(roots, far, starts, columns, dense)
        scaled(-1.0, dense, dense)
        transposed_times(far, starts, columns, solutions, dense_c)
    log_det[0], z[0] = 2.0 * halves, squares


@njit(fastmath=FAST, error_model="numpy")
def sweep_orthonormal_pullback(  # type: ignore[no-untyped-def]
    w, scale, root, far, g, v, span, log_det_bar, z_bar, dense_bar, dense_c_bar,
    w_bar, scale_bar, g_bar,
):  # fmt: skip
    """``orthonormal.sweep_orthonormal_pullback``."""
    M, S = g.shape
    q, weight, z, log_det = dense_c_bar.shape[0], w[0], z_bar[0], log_det_bar[0]
    dtype = root.dtype
    work, vectors = np.empty((8, S, S, LANES), dtype), np.empty((4, S, LANES), dtype)
    R, K, C, X, T, H = work[0], work[2], work[4], work[5], work[6], work[7]
    a, b, Dr, x = vectors[0], vectors[1], vectors[2], vectors[3]
    few = q <= FEW
    wide = np.empty((2, S, q if few else 0, LANES), dtype)
    nothing = np.empty(0, dtype)
    sandwiched, products = np.zeros((M, 0, 0), dtype), np.zeros((M, S), dtype)
    if not few:
        starts, columns = np.empty(0, np.int32), np.empty(0, np.int32)
        sandwiched, _ = sandwich(far, starts, columns, M, S, dense_bar, False)
        times(far, starts, columns, dense_c_bar, products)
    weights = 0.0
    scale_bar[:] = 0.0
    shared = scale.shape[0] == 1
    for first in range(0, M, LANES):
        n = min(LANES, M - first)
        _solved(first, n, weight, scale, root, g, v, span, work, a, b)
        if few:
            gather_far(far, first, n, wide[0])
            far_products(first, n, wide[0], dense_bar, dense_c_bar, wide[1], T, Dr, nothing)
        else:
            lanes.gather(sandwiched, first, n, T)
            lanes.gather_rows(products, first, n, Dr)
        for i in range(S):
            for j in range(S):
                for t in range(n):
                    T[i, j, t] += 0.5 * (Dr[i, t] * a[j, t] + a[i, t] * Dr[j, t])
                    T[i, j, t] += z * a[i, t] * a[j, t]
        lanes.multiply(T, C, n, X)
        lanes.multiply(C, X, n, H)
        for i in range(S):
            for j in range(S):
                for t in range(n):
                    H[i, j, t] = log_det * C[i, j, t] - H[i, j, t]
        lanes.multiply(H, K, n, X)
        lanes.times(C, Dr, n, x)
        for i in range(S):
            for j in range(S):
                for t in range(n):
                    weights += X[i, j, t] * K[i, j, t]
            for t in range(n):
                g_bar[first + t, i] = x[i, t] + 2.0 * z * (b[i, t] - g[first + t, i])
        lanes.multiply(R, X, n, T)
        for i in range(S):
            for place in range(span[i, 1]):
                for t in range(n):
                    level = 0 if shared else first + t
                    scale_bar[level, i, place] += 2.0 * weight * T[i, span[i, 0] + place, t]
    w_bar[0] = weights
