"""Loops of :mod:`pymc_marginal_lmm.ops.coupling`, over dense and sparse couplings.

Values come flat: ``(M, S, q)`` if dense, ``(S, N)`` if sparse. Either way the part of a level is
``S`` rows along its columns; ``starts`` is empty if these are all ``q``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pymc_marginal_lmm.dispatch.kernels.dense import (
    FAST,
    dot,
    mirror,
    product,
    subtract_gram,
)

__all__ = [
    "complement",
    "level_columns",
    "level_row",
    "sandwich",
    "times",
    "transposed_times",
]


@njit(error_model="numpy")
def level_row(X, starts, S, q, i, a):  # type: ignore[no-untyped-def]
    """Row of effect ``a`` of level ``i``."""
    if starts.shape[0] == 0:
        first = (i * S + a) * q
        return X[first : first + q]
    N = X.shape[0] // S
    return X[a * N + starts[i] : a * N + starts[i + 1]]


@njit(error_model="numpy")
def level_columns(starts, columns, i):  # type: ignore[no-untyped-def]
    """Return its columns; none if the coupling is dense."""
    if starts.shape[0] == 0:
        return columns
    return columns[starts[i] : starts[i + 1]]


@njit(fastmath=FAST, error_model="numpy")
def times(X, starts, columns, x2, y1):  # type: ignore[no-untyped-def]
    """``y1 += X x2``."""
    M, S = y1.shape
    q, N = x2.shape[0], columns.shape[0]
    if starts.shape[0] == 0:
        rows = X.reshape(M * S, q)
        for i in range(M):
            for a in range(S):
                s = x2.dtype.type(0.0)
                for k in range(q):
                    s += rows[i * S + a, k] * x2[k]
                y1[i, a] += s
        return
    for i in range(M):
        for a in range(S):
            s = x2.dtype.type(0.0)
            for k in range(starts[i], starts[i + 1]):
                s += X[a * N + k] * x2[columns[k]]
            y1[i, a] += s


@njit(fastmath=FAST, error_model="numpy")
def transposed_times(X, starts, columns, x1, y2):  # type: ignore[no-untyped-def]
    """``y2 += Xᵀx1``."""
    M, S = x1.shape
    q, N = y2.shape[0], columns.shape[0]
    if starts.shape[0] == 0:
        rows = X.reshape(M * S, q)
        for i in range(M):
            for a in range(S):
                c = x1[i, a]
                for k in range(q):
                    y2[k] += c * rows[i * S + a, k]
        return
    for i in range(M):
        for a in range(S):
            c = x1[i, a]
            for k in range(starts[i], starts[i + 1]):
                y2[columns[k]] += c * X[a * N + k]


@njit(fastmath=FAST, error_model="numpy")
def _left(R, X, starts, T):  # type: ignore[no-untyped-def]
    """Write ``T = R X``: ``(M S, q)`` if ``X`` is dense, ``(S, N)`` if it is sparse."""
    M, S = R.shape[:2]
    if starts.shape[0] == 0:
        q = T.shape[1]
        rows = X.reshape(M * S, q)
        for i in range(M):
            for a in range(S):
                for k in range(q):
                    T[i * S + a, k] = R[i, a, 0] * rows[i * S, k]
                for b in range(1, S):
                    c = R[i, a, b]
                    for k in range(q):
                        T[i * S + a, k] += c * rows[i * S + b, k]
        return
    N = T.shape[1]
    T[:] = 0.0
    for i in range(M):
        for a in range(S):
            for b in range(S):
                c = R[i, a, b]
                for k in range(starts[i], starts[i + 1]):
                    T[a, k] += c * X[b * N + k]


@njit(error_model="numpy")
def _by_column(starts, columns, q):  # type: ignore[no-untyped-def]
    """Return where each column begins in a list of entries by column, the list, and their levels.

    Sparse products go column by column: what they add to, or gather from, is then one row of the
    dense block, which stays in the nearest cache.
    """
    first = np.zeros(q + 1, dtype=np.int32)
    for k in range(columns.shape[0]):
        first[columns[k] + 1] += 1
    for c in range(q):
        first[c + 1] += first[c]
    entries, levels = np.empty_like(columns), np.empty_like(columns)
    place = first[:q].copy()
    for i in range(starts.shape[0] - 1):
        for k in range(starts[i], starts[i + 1]):
            entries[place[columns[k]]] = k
            levels[place[columns[k]]] = i
            place[columns[k]] += 1
    return first, entries, levels


@njit(fastmath=FAST, error_model="numpy")
def complement(R, X, starts, columns, B):  # type: ignore[no-untyped-def]
    """``B −= Σ_i X_iᵀ(R_iᵀR_i)X_i``."""
    M, S = R.shape[:2]
    q = B.shape[0]
    if starts.shape[0] == 0:
        T = np.empty((M * S, q), dtype=B.dtype)
        _left(R, X, starts, T)
        subtract_gram(B, T)
    else:
        T = np.empty((S, columns.shape[0]), dtype=B.dtype)
        _left(R, X, starts, T)
        first, entries, levels = _by_column(starts, columns, q)
        for c in range(q):
            row = B[c]
            for place in range(first[c], first[c + 1]):
                k, stop = entries[place], starts[levels[place] + 1]
                here = columns[k:stop]
                for a in range(S):
                    t, right = T[a, k], T[a, k:stop]
                    for j in range(here.shape[0]):
                        row[here[j]] -= t * right[j]
    mirror(B)


@njit(fastmath=FAST, error_model="numpy")
def sandwich(X, starts, columns, M, S, G, with_product):  # type: ignore[no-untyped-def]
    """Return ``H_i = X_i G X_iᵀ`` and ``Y = X G`` at the entries of ``X``.

    A sparse ``Y`` is made only if it is wanted: without it, each pair of columns counts once.
    """
    q = G.shape[0]
    H = np.zeros((M, S, S), dtype=X.dtype)
    if starts.shape[0] == 0:
        Y = product(X.reshape(M * S, q), G).reshape(M * S * q)
    else:
        Y = np.zeros(X.shape[0] if with_product else 0, dtype=X.dtype)
        N, sums = columns.shape[0], np.empty(S, dtype=X.dtype)
        first, entries, levels = _by_column(starts, columns, q)
        for c in range(q):
            g = G[c]
            for place in range(first[c], first[c + 1]):
                k, i = entries[place], levels[place]
                start = starts[i] if with_product else k
                here = columns[start : starts[i + 1]]
                for a in range(S):
                    x = X[a * N + start : a * N + starts[i + 1]]
                    s = x.dtype.type(0.0)
                    for j in range(here.shape[0]):
                        s += g[here[j]] * x[j]
                    sums[a] = s
                    if with_product:
                        Y[a * N + k] = s
                if not with_product:
                    for a in range(S):
                        sums[a] -= x.dtype.type(0.5) * g[c] * X[a * N + k]
                    for a in range(S):
                        for b in range(S):
                            H[i, a, b] += X[a * N + k] * sums[b] + sums[a] * X[b * N + k]
    if Y.shape[0] > 0:
        for i in range(M):
            for a in range(S):
                y = level_row(Y, starts, S, q, i, a)
                for b in range(a + 1):
                    H[i, a, b] = dot(y, level_row(X, starts, S, q, i, b))
                    H[i, b, a] = H[i, a, b]
    return H, Y
