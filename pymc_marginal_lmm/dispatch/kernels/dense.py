"""The dense block: linear combinations of rows, and what is made of them.

Nearly all arithmetic is :func:`combine`, whose inner loop runs along rows and vectorises. LAPACK
and BLAS come in where they are so much faster that starting their threads, which costs
milliseconds on a busy machine, is nothing against the work.

Symmetric matrices are made in their upper triangle, row by row; :func:`mirror` completes them.
"""

from __future__ import annotations

import llvmlite.binding  # type: ignore[import-untyped]
import numpy as np
from numba import njit, types
from numba.core.types import ExternalFunction
from numba.extending import get_cython_function_address, overload

__all__ = ["FAST", "combine", "dot", "factorize", "inverse", "mirror", "product", "solve"]

FAST = {"contract", "reassoc", "nsz"}
"""Sums may be taken in another order, so that they vectorise; NaN and infinities are respected."""

LAPACK_SIZE = 256
"""Matrices of this size and more are factorised and inverted by LAPACK."""

BLAS_WORK = 20_000_000
"""Multiplications from which on a product is left to BLAS."""

BLOCK = 32


def _routine(library: str, name: str, n_arguments: int):  # type: ignore[no-untyped-def]
    """Make a routine of SciPy's BLAS or LAPACK known to LLVM, by a name that survives caching.

    All arguments are passed by reference.
    """
    symbol = f"pymc_marginal_lmm_{name}"
    address = get_cython_function_address(f"scipy.linalg.cython_{library}", name)
    llvmlite.binding.add_symbol(symbol, address)
    return ExternalFunction(symbol, types.void(*[types.voidptr] * n_arguments))


ROUTINES = {
    letter: (
        _routine("lapack", f"{letter}potrf", 5),
        _routine("lapack", f"{letter}potri", 5),
        _routine("blas", f"{letter}syrk", 10),
    )
    for letter in "sd"
}


def _potrf(A):  # type: ignore[no-untyped-def]
    """Overwrite the upper triangle of ``A = UᵀU`` by ``U``; return 0 if all went well."""


def _potri(A):  # type: ignore[no-untyped-def]
    """Overwrite the upper triangle, ``U``, by that of ``(UᵀU)⁻¹``."""


def _subtract_gram(A, X):  # type: ignore[no-untyped-def]
    """Subtract ``XᵀX`` from the upper triangle of ``A``, by BLAS."""


def _routines(A):  # type: ignore[no-untyped-def]
    return ROUTINES["s" if A.dtype == types.float32 else "d"]


# Rows of C are columns of Fortran: the upper triangle is the lower one there.
def _in_place(which: int):  # type: ignore[no-untyped-def]
    """Overload a function of one triangle by one of :data:`ROUTINES`."""

    def typed(A):  # type: ignore[no-untyped-def]
        routine = _routines(A)[which]

        def call(A):  # type: ignore[no-untyped-def]
            lower, n = np.full(1, 76, np.uint8), np.full(1, len(A), np.int32)
            info = np.zeros(1, np.int32)
            routine(lower.ctypes, n.ctypes, A.ctypes, n.ctypes, info.ctypes)
            return info[0]

        return call

    return typed


overload(_potrf)(_in_place(0))
overload(_potri)(_in_place(1))


@overload(_subtract_gram)
def _overload_subtract_gram(A, X):  # type: ignore[no-untyped-def]
    routine = _routines(A)[2]

    def call(A, X):  # type: ignore[no-untyped-def]
        lower, plain = np.full(1, 76, np.uint8), np.full(1, 78, np.uint8)
        n, k = np.full(1, A.shape[0], np.int32), np.full(1, X.shape[0], np.int32)
        minus, one = np.full(1, -1.0, A.dtype), np.full(1, 1.0, A.dtype)
        routine(
            lower.ctypes, plain.ctypes, n.ctypes, k.ctypes, minus.ctypes,
            X.ctypes, n.ctypes, one.ctypes, A.ctypes, n.ctypes,
        )  # fmt: skip

    return call


@njit(fastmath=FAST)
def dot(x, y):  # type: ignore[no-untyped-def]
    """``xᵀy``."""
    s = x.dtype.type(0.0)
    for j in range(x.shape[0]):
        s += x[j] * y[j]
    return s


@njit(fastmath=FAST)
def combine(out, coefficients, X):  # type: ignore[no-untyped-def]
    """``out += Σ_r coefficients[r] X[r]``, four rows at a time."""
    n = coefficients.shape[0]
    in_fours = n - n % 4
    for r in range(0, in_fours, 4):
        c0, c1 = coefficients[r], coefficients[r + 1]
        c2, c3 = coefficients[r + 2], coefficients[r + 3]
        x0, x1, x2, x3 = X[r], X[r + 1], X[r + 2], X[r + 3]
        for j in range(out.shape[0]):
            out[j] += c0 * x0[j] + c1 * x1[j] + c2 * x2[j] + c3 * x3[j]
    for r in range(in_fours, n):
        c0, x0 = coefficients[r], X[r]
        for j in range(out.shape[0]):
            out[j] += c0 * x0[j]


@njit
def mirror(A):  # type: ignore[no-untyped-def]
    """Copy the upper triangle to the lower one, block by block to spare the cache."""
    n = A.shape[0]
    for top in range(0, n, BLOCK):
        for left in range(top, n, BLOCK):
            for i in range(top, min(top + BLOCK, n)):
                for j in range(max(left, i + 1), min(left + BLOCK, n)):
                    A[j, i] = A[i, j]


@njit
def product(X, G):  # type: ignore[no-untyped-def]
    """``X G``."""
    if X.size * G.shape[1] > BLAS_WORK:
        return np.dot(X, G)
    Y = np.zeros((X.shape[0], G.shape[1]), dtype=X.dtype)
    for r in range(X.shape[0]):
        combine(Y[r], X[r], G)
    return Y


@njit
def subtract_gram(A, X):  # type: ignore[no-untyped-def]
    """Subtract ``XᵀX`` from the upper triangle of ``A``."""
    n, q = X.shape
    if X.size * q > BLAS_WORK:
        _subtract_gram(A, X)
        return
    column = np.empty(n, dtype=X.dtype)
    for i in range(q):
        for r in range(n):
            column[r] = -X[r, i]
        combine(A[i, i:], column, X[:, i:])


@njit
def factorize(A):  # type: ignore[no-untyped-def]
    """Overwrite ``A = UᵀU`` (upper triangle) by ``U``; return the sum of log diag U, or NaN."""
    n = A.shape[0]
    half = 0.0
    if n >= LAPACK_SIZE:
        if _potrf(A) != 0:
            return np.nan
        for i in range(n):
            half += np.log(A[i, i])
    else:
        column = np.empty(n, dtype=A.dtype)
        for i in range(n):
            for r in range(i):
                column[r] = -A[r, i]
            combine(A[i, i:], column[:i], A[:i, i:])
            if not A[i, i] > 0.0:
                return np.nan
            d = np.sqrt(A[i, i])
            half += np.log(d)
            for j in range(i, n):
                A[i, j] /= d
    for i in range(n):
        A[i, :i] = 0.0
    return half


@njit
def inverse(U):  # type: ignore[no-untyped-def]
    """Return ``(UᵀU)⁻¹``, in full."""
    n = U.shape[0]
    if n >= LAPACK_SIZE:
        C = U.copy()
        _potri(C)
        mirror(C)
        return C
    L, column = np.zeros_like(U), np.empty(n, dtype=U.dtype)  # of U⁻ᵀ
    for i in range(n):
        for r in range(i):
            column[r] = -U[r, i] / U[i, i]
        for left in range(0, i, BLOCK):  # row r of L ends with column r
            right = min(left + BLOCK, i)
            combine(L[i, :right], column[left:right], L[left:right, :right])
        L[i, i] = 1.0 / U[i, i]
    C = np.zeros_like(U)
    for i in range(n):
        for r in range(i, n):
            column[r] = L[r, i]
        combine(C[i, : i + 1], column[i:], L[i:, : i + 1])
        for j in range(i):
            C[j, i] = C[i, j]
    return C


@njit(fastmath=FAST)
def solve(U, x):  # type: ignore[no-untyped-def]
    """Overwrite ``x`` by ``(UᵀU)⁻¹x``."""
    n = U.shape[0]
    for i in range(n):
        x[i] /= U[i, i]
        u, below, c = U[i, i + 1 :], x[i + 1 :], x[i]
        for j in range(below.shape[0]):
            below[j] -= c * u[j]
    for i in range(n - 1, -1, -1):
        x[i] = (x[i] - dot(U[i, i + 1 :], x[i + 1 :])) / U[i, i]
