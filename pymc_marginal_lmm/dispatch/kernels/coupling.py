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


@njit
def level_row(X, starts, S, q, i, a):  # type: ignore[no-untyped-def]
    """Row of effect ``a`` of level ``i``."""
    if starts.shape[0] == 0:
        first = (i * S + a) * q
        return X[first : first + q]
    N = X.shape[0] // S
    return X[a * N + starts[i] : a * N + starts[i + 1]]


@njit
def level_columns(starts, columns, i):  # type: ignore[no-untyped-def]
    """Return its columns; none if the coupling is dense."""
    if starts.shape[0] == 0:
        return columns
    return columns[starts[i] : starts[i + 1]]


@njit(fastmath=FAST)
def times(X, starts, columns, x2, y1):  # type: ignore[no-untyped-def]
    """``y1 += X x2``."""
    M, S = y1.shape
    q = x2.shape[0]
    for i in range(M):
        here = level_columns(starts, columns, i)
        for a in range(S):
            x = level_row(X, starts, S, q, i, a)
            if starts.shape[0] == 0:
                y1[i, a] += dot(x, x2)
            else:
                s = x.dtype.type(0.0)
                for k in range(here.shape[0]):
                    s += x[k] * x2[here[k]]
                y1[i, a] += s


@njit(fastmath=FAST)
def transposed_times(X, starts, columns, x1, y2):  # type: ignore[no-untyped-def]
    """``y2 += Xᵀx1``."""
    M, S = x1.shape
    q = y2.shape[0]
    for i in range(M):
        here = level_columns(starts, columns, i)
        for a in range(S):
            x, c = level_row(X, starts, S, q, i, a), x1[i, a]
            if starts.shape[0] == 0:
                for k in range(q):
                    y2[k] += c * x[k]
            else:
                for k in range(here.shape[0]):
                    y2[here[k]] += c * x[k]


@njit(fastmath=FAST)
def _left(R, X, starts, q, i, T):  # type: ignore[no-untyped-def]
    """Write ``T = R X`` of one level."""
    S = R.shape[0]
    T[:] = 0.0
    for b in range(S):
        x = level_row(X, starts, S, q, i, b)
        for a in range(S):
            t, c = T[a], R[a, b]
            for k in range(x.shape[0]):
                t[k] += c * x[k]


@njit
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


@njit(fastmath=FAST)
def complement(R, X, starts, columns, B):  # type: ignore[no-untyped-def]
    """``B −= Σ_i X_iᵀ(R_iᵀR_i)X_i``."""
    M, S = R.shape[:2]
    q = B.shape[0]
    if starts.shape[0] == 0:
        T = np.empty((M * S, q), dtype=B.dtype)
        for i in range(M):
            _left(R[i], X, starts, q, i, T[i * S : (i + 1) * S])
        subtract_gram(B, T)
    else:
        T = np.empty((S, columns.shape[0]), dtype=B.dtype)
        for i in range(M):
            _left(R[i], X, starts, q, i, T[:, starts[i] : starts[i + 1]])
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


@njit(fastmath=FAST)
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
