"""The dense block: products, factors and inverses.

Nearly all arithmetic is :func:`~pymc_marginal_lmm.dispatch.kernels.tiles.add_product`. LAPACK and
BLAS come in where they are so much faster that starting their threads, which costs
milliseconds on a busy machine, is nothing against the work.

Symmetric matrices are made in their upper triangle, row by row; :func:`mirror` completes them.
"""

from __future__ import annotations

import llvmlite.binding  # type: ignore[import-untyped]
import numpy as np
from numba import njit, types
from numba.core.types import ExternalFunction
from numba.extending import get_cython_function_address, overload

from pymc_marginal_lmm.dispatch.kernels.tiles import ROWS, add_product

__all__ = [
    "FAST",
    "add",
    "dot",
    "factorize",
    "inverse",
    "inverse_transposed",
    "mirror",
    "product",
    "scaled",
    "solve",
    "solve_transposed",
    "solve_triangular",
    "transpose",
]

FAST = {"contract", "reassoc", "nsz"}
"""Sums may be taken in another order, so that they vectorise; NaN and infinities are respected."""

LAPACK_SIZE = 256
"""Matrices of this size and more are factorised and inverted by LAPACK."""

BLAS_WORK = 20_000_000
"""Multiplications from which on a product is left to BLAS."""

BLOCK = 32

LEAF = 64
"""Triangles up to this size are inverted by LAPACK, larger ones from their halves."""


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
        _routine("lapack", f"{letter}lauum", 5),
        _routine("blas", f"{letter}syrk", 10),
        _routine("lapack", f"{letter}trtri", 6),
        _routine("blas", f"{letter}trmm", 11),
    )
    for letter in "sd"
}


def _potrf(A):  # type: ignore[no-untyped-def]
    """Overwrite the upper triangle of ``A = UᵀU`` by ``U``; return 0 if all went well."""


def _lauum(A):  # type: ignore[no-untyped-def]
    """Overwrite the upper triangle, ``J``, by that of ``J Jᵀ``."""


def _trtri(A, top, bottom):  # type: ignore[no-untyped-def]
    """Invert the upper triangle of a diagonal block in place."""


def _trmm(A, top, middle, bottom):  # type: ignore[no-untyped-def]
    """Overwrite ``A[top:middle, middle:bottom]``, ``X``, by ``−JXK``.

    ``J`` and ``K`` are the upper triangles of the diagonal blocks beside and below.
    """


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
overload(_lauum)(_in_place(1))


@overload(_trtri)
def _overload_trtri(A, top, bottom):  # type: ignore[no-untyped-def]
    routine = _routines(A)[3]

    def call(A, top, bottom):  # type: ignore[no-untyped-def]
        lower, plain = np.full(1, 76, np.uint8), np.full(1, 78, np.uint8)
        n, rows = np.full(1, bottom - top, np.int32), np.full(1, len(A), np.int32)
        info = np.zeros(1, np.int32)
        block = A[top:, top:]
        routine(lower.ctypes, plain.ctypes, n.ctypes, block.ctypes, rows.ctypes, info.ctypes)

    return call


@overload(_trmm)
def _overload_trmm(A, top, middle, bottom):  # type: ignore[no-untyped-def]
    routine = _routines(A)[4]

    def call(A, top, middle, bottom):  # type: ignore[no-untyped-def]
        left, right = np.full(1, 76, np.uint8), np.full(1, 82, np.uint8)
        lower, plain = np.full(1, 76, np.uint8), np.full(1, 78, np.uint8)
        m, n = np.full(1, bottom - middle, np.int32), np.full(1, middle - top, np.int32)
        rows = np.full(1, len(A), np.int32)
        minus, one = np.full(1, -1.0, A.dtype), np.full(1, 1.0, A.dtype)
        J, X, K = A[top:, top:], A[top:, middle:], A[middle:, middle:]
        routine(
            right.ctypes, lower.ctypes, plain.ctypes, plain.ctypes, m.ctypes, n.ctypes,
            minus.ctypes, J.ctypes, rows.ctypes, X.ctypes, rows.ctypes,
        )  # fmt: skip
        routine(
            left.ctypes, lower.ctypes, plain.ctypes, plain.ctypes, m.ctypes, n.ctypes,
            one.ctypes, K.ctypes, rows.ctypes, X.ctypes, rows.ctypes,
        )  # fmt: skip

    return call


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


@njit(fastmath=FAST, error_model="numpy")
def dot(x, y):  # type: ignore[no-untyped-def]
    """``xᵀy``."""
    s = x.dtype.type(0.0)
    for j in range(x.shape[0]):
        s += x[j] * y[j]
    return s


@njit(fastmath=FAST, error_model="numpy")
def scaled(c, A, out):  # type: ignore[no-untyped-def]
    """Write ``c A``; Numba's assignments of arrays allocate and look for overlap."""
    x, y = A.reshape(-1), out.reshape(-1)
    for k in range(y.shape[0]):
        y[k] = c * x[k]


@njit(error_model="numpy")
def mirror(A):  # type: ignore[no-untyped-def]
    """Copy the upper triangle to the lower one, block by block to spare the cache."""
    n = A.shape[0]
    for top in range(0, n, BLOCK):
        for left in range(top, n, BLOCK):
            for j in range(left, min(left + BLOCK, n)):
                row = A[j]  # what is written lies side by side
                for i in range(top, min(top + BLOCK, j)):
                    row[i] = A[i, j]


@njit(error_model="numpy")
def transpose(A):  # type: ignore[no-untyped-def]
    """Transpose in place."""
    n = A.shape[0]
    for top in range(0, n, BLOCK):
        for left in range(top, n, BLOCK):
            for i in range(top, min(top + BLOCK, n)):
                for j in range(max(left, i + 1), min(left + BLOCK, n)):
                    A[i, j], A[j, i] = A[j, i], A[i, j]


@njit(error_model="numpy")
def product(X, G):  # type: ignore[no-untyped-def]
    """``X G``."""
    if X.size * G.shape[1] > BLAS_WORK:
        return np.dot(X, G)
    Y = np.zeros((X.shape[0], G.shape[1]), dtype=X.dtype)
    for i in range(0, X.shape[0], ROWS):
        add_product(1.0, X.T, G, Y, i, G.shape[0], 0, G.shape[1], False)
    return Y


@njit(error_model="numpy")
def subtract_gram(A, X):  # type: ignore[no-untyped-def]
    """Subtract ``XᵀX`` from the upper triangle of ``A``."""
    n, q = X.shape
    if X.size * q > BLAS_WORK:
        _subtract_gram(A, X)
        return
    for i in range(0, q, ROWS):
        add_product(-1.0, X, X, A, i, n, i, q, False)


@njit(fastmath=FAST, error_model="numpy")
def _substitute(U, i, X, left, right):  # type: ignore[no-untyped-def]
    """``X[i:i+ROWS, left:right] = D⁻ᵀ X[i:i+ROWS, left:right]``, ``D`` the diagonal block of ``U``.

    The last block may have fewer rows.
    """
    m = min(ROWS, U.shape[0] - i)
    if m == 4:  # with one pass over the columns
        x0, x1, x2, x3 = X[i], X[i + 1], X[i + 2], X[i + 3]
        r0, r1, r2 = 1 / U[i, i], 1 / U[i + 1, i + 1], 1 / U[i + 2, i + 2]
        r3, u23 = 1 / U[i + 3, i + 3], U[i + 2, i + 3]
        u01, u02, u03 = U[i, i + 1], U[i, i + 2], U[i, i + 3]
        u12, u13 = U[i + 1, i + 2], U[i + 1, i + 3]
        for j in range(left, right):
            a = x0[j] * r0
            b = (x1[j] - u01 * a) * r1
            c = (x2[j] - u02 * a - u12 * b) * r2
            d = (x3[j] - u03 * a - u13 * b - u23 * c) * r3
            x0[j], x1[j], x2[j], x3[j] = a, b, c, d
        return
    for a in range(m):
        for j in range(left, right):
            for b in range(a):
                X[i + a, j] -= U[i + b, i + a] * X[i + b, j]
            X[i + a, j] /= U[i + a, i + a]


@njit(error_model="numpy")
def _factorize(A):  # type: ignore[no-untyped-def]
    """:func:`factorize` without LAPACK: rows in blocks, each from those above."""
    n, half = A.shape[0], 0.0
    for top in range(0, n, ROWS):
        bottom = min(top + ROWS, n)
        add_product(-1.0, A, A, A, top, top, top, n, False)
        for i in range(top, bottom):
            for k in range(top, i):
                for j in range(i, bottom):
                    A[i, j] -= A[k, i] * A[k, j]
            if not A[i, i] > 0.0:
                return np.nan
            d = np.sqrt(A[i, i])
            half += np.log(d)
            for j in range(i, bottom):
                A[i, j] /= d
        _substitute(A, top, A, bottom, n)
    return half


@njit(error_model="numpy")
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
        half = _factorize(A)
    for i in range(n):
        A[i, :i] = 0.0
    return half


@njit(error_model="numpy")
def _invert_triangle(A):  # type: ignore[no-untyped-def]
    """Invert the upper triangle of ``A`` in place, in half the time that LAPACK takes.

    From the inverses ``J`` and ``K`` of two diagonal blocks, and ``X`` beside them, that of
    both together is ``[[J, −JXK], [0, K]]``: nearly all work is products of large matrices.
    """
    n = A.shape[0]
    size = n
    while size > LEAF:
        size = (size + 1) // 2
    for top in range(0, n, size):
        _trtri(A, top, min(top + size, n))
    while size < n:
        for top in range(0, n - size, 2 * size):
            _trmm(A, top, top + size, min(top + 2 * size, n))
        size *= 2


@njit(error_model="numpy")
def inverse_transposed(U, L):  # type: ignore[no-untyped-def]
    """Write ``U⁻ᵀ`` of an upper triangular matrix into ``L``."""
    n = U.shape[0]
    L[:] = 0.0
    for i in range(0, n, ROWS):
        bottom = min(i + ROWS, n)
        add_product(-1.0, U, L, L, i, i, 0, i, True)
        for j in range(i, bottom):
            L[j, j] = 1.0
        _substitute(U, i, L, 0, bottom)


@njit(error_model="numpy")
def add(sign, A, B, C):  # type: ignore[no-untyped-def]
    """``C += sign · AᵀB``; ``B`` and ``C`` are contiguous."""
    for top in range(0, C.shape[0], ROWS):
        add_product(sign, A, B, C, top, B.shape[0], 0, C.shape[1], False)


@njit(error_model="numpy")
def inverse(U, C):  # type: ignore[no-untyped-def]
    """Write ``(UᵀU)⁻¹``, in full, into ``C``, which may be ``U``."""
    n = U.shape[0]
    if n >= LAPACK_SIZE:
        if C.ctypes.data != U.ctypes.data:
            scaled(1.0, U, C)
        _invert_triangle(C)
        _lauum(C)
        mirror(C)
        return
    L = np.empty_like(U)
    inverse_transposed(U, L)
    C[:] = 0.0
    for i in range(0, n, ROWS):
        add_product(1.0, L, L, C, i, n, i, n, True)
    mirror(C)


@njit(fastmath=FAST, error_model="numpy")
def solve_transposed(U, x):  # type: ignore[no-untyped-def]
    """Overwrite ``x`` by ``U⁻ᵀx``."""
    for i in range(U.shape[0]):
        x[i] /= U[i, i]
        u, below, c = U[i, i + 1 :], x[i + 1 :], x[i]
        for j in range(below.shape[0]):
            below[j] -= c * u[j]


@njit(fastmath=FAST, error_model="numpy")
def solve_triangular(U, x):  # type: ignore[no-untyped-def]
    """Overwrite ``x`` by ``U⁻¹x``."""
    for i in range(U.shape[0] - 1, -1, -1):
        x[i] = (x[i] - dot(U[i, i + 1 :], x[i + 1 :])) / U[i, i]


@njit(error_model="numpy")
def solve(U, x):  # type: ignore[no-untyped-def]
    """Overwrite ``x`` by ``(UᵀU)⁻¹x``."""
    solve_transposed(U, x)
    solve_triangular(U, x)
