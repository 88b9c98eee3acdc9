"""Small and large blocks, factorised and multiplied by any array library.

Small blocks are unrolled into operations on vectors of length ``M``, since a LAPACK call for each
tiny matrix costs more than its arithmetic.
"""

from __future__ import annotations

from functools import reduce
from operator import add
from types import ModuleType
from typing import Any

import numpy as np

from pymc_marginal_lmm.ops.library import UNROLLED, ArrayLibrary

__all__ = [
    "apply_blocks",
    "blockwise",
    "diagonal",
    "expanded",
    "gram_blocks",
    "inverse_cholesky",
    "inverse_from_factor",
    "inverse_lower",
    "lower_cholesky",
    "solve_dense",
    "transposed",
]

SOLVED = 7
"""Triangular matrices up to this size go to LAPACK, which does not start threads for them."""

LEAF = 160
"""Triangular matrices up to this size are inverted level by level, not by halves."""


def blockwise(lib: ArrayLibrary, A: Any, B: Any) -> Any:
    """Multiply blocks, ``(…, a, b) · (…, b, c)``, without a batched matrix product for tiny b."""
    if 0 < A.shape[-1] <= (lib.unrolled if B.shape[-1] > 1 else UNROLLED):
        products = (A[..., k, None] * B[..., k, None, :] for k in range(A.shape[-1]))
        return reduce(add, products)  # not sum(), which starts by adding 0 to the first
    return lib.xp.matmul(A, B)


def transposed(A: Any) -> Any:
    """Exchange the last two axes."""
    return A.swapaxes(-1, -2)


def expanded(lib: ArrayLibrary, x: Any, n: int) -> Any:
    """Return ``x`` with ``n`` more axes behind its own; JAX has constants as plain numbers."""
    return lib.xp.asarray(x)[(..., *[None] * n)]


def gram_blocks(lib: ArrayLibrary, J: Any) -> Any:
    """Return ``JᵀJ`` block by block: the inverse of ``L Lᵀ`` for ``J = L⁻¹``."""
    return blockwise(lib, transposed(J), J)


def apply_blocks(lib: ArrayLibrary, A: Any, x: Any) -> Any:
    """Multiply block by block, ``(M, S, S) · (M, S)``."""
    return blockwise(lib, A, x[..., None])[..., 0]


def diagonal(xp: ModuleType, A: Any) -> Any:
    """Return the diagonals ``(…, S)`` of blocks; XLA fuses a sum, and not the library's gather."""
    return (A * xp.eye(A.shape[-1], dtype=A.dtype)).sum(axis=-1)


def lower_cholesky(xp: ModuleType, F: Any, S: int) -> Any:
    """Return ``L`` for each block ``L Lᵀ`` of ``F (…, S, S)``."""
    if S > UNROLLED:
        return xp.linalg.cholesky(F)
    L = [[xp.zeros_like(F[..., 0, 0])] * S for _ in range(S)]
    for j in range(S):
        L[j][j] = xp.sqrt(F[..., j, j] - sum(L[j][k] ** 2 for k in range(j)))
        reciprocal = 1 / L[j][j]
        for i in range(j + 1, S):
            L[i][j] = (F[..., i, j] - sum(L[i][k] * L[j][k] for k in range(j))) * reciprocal
    return _stacked(xp, L)


def inverse_lower(xp: ModuleType, L: Any, S: int) -> Any:
    """Return ``L⁻¹`` for each lower triangular block of ``L (…, S, S)``."""
    if S > UNROLLED:
        return xp.tril(xp.linalg.inv(L))
    J = [[xp.zeros_like(L[..., 0, 0])] * S for _ in range(S)]
    for i in range(S):
        J[i][i] = 1 / L[..., i, i]
        for j in range(i):
            J[i][j] = -J[i][i] * sum(L[..., i, k] * J[k][j] for k in range(j, i))
    return _stacked(xp, J)


def _stacked(xp: ModuleType, rows: list[list]) -> Any:
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)


def inverse_cholesky(xp: ModuleType, F: Any, S: int) -> Any:
    """Return ``J = L⁻¹`` for each block ``L Lᵀ`` of ``F (…, S, S)``."""
    return inverse_lower(xp, lower_cholesky(xp, F, S), S)


def solve_dense(lib: ArrayLibrary, U: Any, h: Any) -> Any:
    """Return ``(UᵀU)⁻¹h`` of an upper triangular matrix."""
    q = h.shape[-1]
    if not q:
        return h
    if q <= UNROLLED:
        J = inverse_lower(lib.xp, transposed(U), q)
        return apply_blocks(lib, transposed(J), apply_blocks(lib, J, h))
    return lib.solve_triangular(U, lib.solve_triangular(U, h, trans=1, lower=False))


def inverse_from_factor(lib: ArrayLibrary, U: Any) -> Any:
    """Return ``(UᵀU)⁻¹`` of an upper triangular matrix.

    By halves, down to leaves, so that nearly all work is in products without the zeros::

        [A  B]⁻¹   [A⁻¹  −A⁻¹BD⁻¹]         [X  Y] [X  Y]ᵀ   [XXᵀ + YYᵀ  YZᵀ]
        [   D]   = [        D⁻¹  ]         [   Z] [   Z]  = [   ZYᵀ     ZZᵀ]
    """
    if U.shape[0] <= UNROLLED:
        J = inverse_lower(lib.xp, transposed(U), U.shape[0])
        return blockwise(lib, transposed(J), J)
    return _gram(lib, _inverse(lib, U))


def _inverse(lib: ArrayLibrary, U: Any) -> Any:
    xp, n = lib.xp, U.shape[0]
    if n <= LEAF:
        return _inverse_by_levels(lib, U)
    h = n // 2
    A, D = _inverse(lib, U[:h, :h]), _inverse(lib, U[h:, h:])
    return xp.block([[A, -A @ (U[:h, h:] @ D)], [xp.zeros((n - h, h), dtype=U.dtype), D]])


def _inverse_by_levels(lib: ArrayLibrary, U: Any) -> Any:
    """Invert a small upper triangular matrix: all tiny diagonal blocks at once, then by pairs.

    LAPACK's solution for many right-hand sides starts threads already at 8×8, which wait for each
    other a thousand times longer than they work where chains are sampled side by side.
    """
    xp, n = lib.xp, U.shape[0]
    levels = max(0, (-(-n // SOLVED) - 1).bit_length())
    count, size = 2**levels, -(-n // 2**levels)  # blocks, and their size
    padding = xp.zeros((n, count * size - n), dtype=U.dtype)
    U = xp.concatenate([U, padding], axis=1)
    U = xp.concatenate([U, xp.eye(count * size, dtype=U.dtype)[n:]], axis=0)
    D = _blocks(lib, U, count, slice(None), slice(None))
    X = lib.solve_triangular(D, xp.broadcast_to(xp.eye(size, dtype=U.dtype), D.shape))
    while count > 1:
        count //= 2
        A, D = X[0::2], X[1::2]
        right = -A @ (_blocks(lib, U, count, slice(size), slice(size, None)) @ D)
        above = xp.concatenate([A, right], axis=2)
        below = xp.concatenate([xp.zeros_like(right), D], axis=2)
        X = xp.concatenate([above, below], axis=1)
        size *= 2
    return X[0, :n, :n]


def _blocks(lib: ArrayLibrary, U: Any, count: int, rows: slice, columns: slice) -> Any:
    """Return a part of each of ``count`` diagonal blocks."""
    n = U.shape[0]
    block = np.arange(n * n).reshape(count, n // count, count, n // count)
    indices = block[np.arange(count), :, np.arange(count), :]
    return lib.take(U.reshape(-1), indices[:, rows, columns])


def _gram(lib: ArrayLibrary, X: Any) -> Any:
    n = X.shape[0]
    if n <= LEAF:
        return X @ X.T
    h = n // 2
    Y, Z = X[:h, h:], X[h:, h:]
    right = Y @ Z.T
    return lib.xp.block([[_gram(lib, X[:h, :h]) + Y @ Y.T, right], [right.T, _gram(lib, Z)]])
