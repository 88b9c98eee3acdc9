"""Numba: registration of the kernels of :mod:`pymc_marginal_lmm.dispatch.kernels`.

A kernel reaches a compiled graph as an external symbol, like a routine of LAPACK, and not as code
to be compiled into it. Each kernel is thus compiled once per machine (Numba keeps it on disk),
where inlining it would have LLVM optimise it again for every model: 5–15 s each time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import llvmlite.binding  # type: ignore[import-untyped]
import numba
import numpy as np
from numba import carray, types
from numba.core.types import ExternalFunction
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_and_cache_key

from pymc_marginal_lmm.dispatch import kernels
from pymc_marginal_lmm.ops import (
    BlockTridiagonalDraw,
    BlockTridiagonalSolve,
    BlockTridiagonalSolvePullback,
    LevelSums,
    LogEvidence,
    LogEvidencePullback,
    NormalDraw,
    SweepFactor,
    SweepFactorPullback,
    SweepOrthonormal,
    SweepOrthonormalPullback,
)

__all__: list[str] = []

DIGEST = sha256((kernels.source_digest() + Path(__file__).read_text()).encode()).hexdigest()[:12]
"""Part of every cache key: Numba would not notice that a file behind an entry point changed."""


def _block_tridiagonal_solve(  # type: ignore[no-untyped-def]
    D, E, h, log_det, x, J, left, right, m, B, k, n_even, n_odd
):
    kernels.block_tridiagonal_solve(
        carray(D, (m, B, B)), carray(E, (m - 1, B, B)), carray(h, (m, B, k)),
        carray(log_det, (1,)), carray(x, (m, B, k)),
        carray(J, (n_even, B, B)), carray(left, (n_odd, B, B)), carray(right, (n_odd, B, B)),
    )  # fmt: skip


def _block_tridiagonal_pullback(  # type: ignore[no-untyped-def]
    J, left, right, x, log_det_bar, x_bar, D_bar, E_bar, h_bar, m, B, k, n_even, n_odd
):
    kernels.block_tridiagonal_pullback(
        carray(J, (n_even, B, B)), carray(left, (n_odd, B, B)), carray(right, (n_odd, B, B)),
        carray(x, (m, B, k)), carray(log_det_bar, (1,)), carray(x_bar, (m, B, k)),
        carray(D_bar, (m, B, B)), carray(E_bar, (m - 1, B, B)), carray(h_bar, (m, B, k)),
    )  # fmt: skip


def _block_tridiagonal_draw(  # type: ignore[no-untyped-def]
    J, left, right, x, out, m, B, k, n_even, n_odd, transpose
):
    kernels.block_tridiagonal_draw(
        carray(J, (n_even, B, B)), carray(left, (n_odd, B, B)), carray(right, (n_odd, B, B)),
        carray(x, (m, B, k)), carray(out, (m, B, k)), transpose != 0,
    )  # fmt: skip


def _normal_draw(F, h, epsilon, out, M, S):  # type: ignore[no-untyped-def]
    kernels.normal_draw(
        carray(F, (M, S, S)), carray(h, (M, S)), carray(epsilon, (M, S)), carray(out, (M, S))
    )


def _sweep(  # type: ignore[no-untyped-def]
    w, scale, A, near, far, c, v, p, A22, c2, span, starts, columns,
    log_det, z, near_rows, dense, near_c, dense_c,
    M, S, k, q, N, n_starts, n_columns, M1, W,
):  # fmt: skip
    kernels.sweep(
        carray(w, (1,)), carray(scale, (M1, S, W)),
        carray(A, (M, S, S)), carray(near, (M, S, k)), carray(far, (N,)),
        carray(c, (M, S)), carray(v, (M, S)), carray(p, (S,)),
        carray(A22, (q, q)), carray(c2, (q,)),
        carray(span, (S, 2)), carray(starts, (n_starts,)), carray(columns, (n_columns,)),
        carray(log_det, (1,)), carray(z, (1,)),
        carray(near_rows, (M, k, k + q)), carray(dense, (q, q)),
        carray(near_c, (M, k)), carray(dense_c, (q,)),
    )  # fmt: skip


def _sweep_pullback(  # type: ignore[no-untyped-def]
    w, scale, A, near, far, c, v, p, span, starts, columns,
    log_det_bar, z_bar, near_bars, dense_bar, near_c_bar, dense_c_bar,
    w_bar, scale_bar, c_bar, A_bar, near_bar, far_bar,
    M, S, k, q, N, n_starts, n_columns, M1, W, with_design,
):  # fmt: skip
    kernels.sweep_pullback(
        carray(w, (1,)), carray(scale, (M1, S, W)),
        carray(A, (M, S, S)), carray(near, (M, S, k)), carray(far, (N,)),
        carray(c, (M, S)), carray(v, (M, S)), carray(p, (S,)),
        carray(span, (S, 2)), carray(starts, (n_starts,)), carray(columns, (n_columns,)),
        carray(log_det_bar, (1,)), carray(z_bar, (1,)),
        carray(near_bars, (M, k, k + q)), carray(dense_bar, (q, q)),
        carray(near_c_bar, (M, k)), carray(dense_c_bar, (q,)),
        carray(w_bar, (1,)), carray(scale_bar, (M1, S, W)), carray(c_bar, (M, S)),
        carray(A_bar, (M, S, S)), carray(near_bar, (M, S, k)), carray(far_bar, (N,)),
        with_design != 0,
    )  # fmt: skip


def _sweep_orthonormal(  # type: ignore[no-untyped-def]
    w, scale, root, far, g, v, B, c2, span, log_det, z, dense, dense_c, M, S, q, M1, W
):
    kernels.sweep_orthonormal(
        carray(w, (1,)), carray(scale, (M1, S, W)),
        carray(root, (M, S, S)), carray(far, (M * S * q,)),
        carray(g, (M, S)), carray(v, (M, S)), carray(B, (q, q)), carray(c2, (q,)),
        carray(span, (S, 2)),
        carray(log_det, (1,)), carray(z, (1,)), carray(dense, (q, q)), carray(dense_c, (q,)),
    )  # fmt: skip


def _sweep_orthonormal_pullback(  # type: ignore[no-untyped-def]
    w, scale, root, far, g, v, span, log_det_bar, z_bar, dense_bar, dense_c_bar,
    w_bar, scale_bar, g_bar, M, S, q, M1, W,
):  # fmt: skip
    kernels.sweep_orthonormal_pullback(
        carray(w, (1,)), carray(scale, (M1, S, W)),
        carray(root, (M, S, S)), carray(far, (M * S * q,)),
        carray(g, (M, S)), carray(v, (M, S)), carray(span, (S, 2)),
        carray(log_det_bar, (1,)), carray(z_bar, (1,)),
        carray(dense_bar, (q, q)), carray(dense_c_bar, (q,)),
        carray(w_bar, (1,)), carray(scale_bar, (M1, S, W)), carray(g_bar, (M, S)),
    )  # fmt: skip


def _log_evidence(  # type: ignore[no-untyped-def]
    w, scale, s, c, A, v, p, span, value, u, e, U, q, stored, W
):
    kernels.log_evidence(
        carray(w, (1,)), carray(scale, (stored, W)), carray(s, (1,)), carray(c, (q,)),
        carray(A, (q, q)), carray(v, (q,)), carray(p, (q,)), carray(span, (q, 3)),
        carray(value, (1,)), carray(u, (q,)), carray(e, (q,)), carray(U, (q, q)),
    )  # fmt: skip


def _log_evidence_pullback(  # type: ignore[no-untyped-def]
    w, scale, s, c, A, v, p, span, u, e, U, bar, w_bar, scale_bar, s_bar, c_bar, C,
    q, stored, W, with_design,
):  # fmt: skip
    kernels.log_evidence_pullback(
        carray(w, (1,)), carray(scale, (stored, W)), carray(s, (1,)), carray(c, (q,)),
        carray(A, (q, q)), carray(v, (q,)), carray(p, (q,)), carray(span, (q, 3)),
        carray(u, (q,)), carray(e, (q,)), carray(U, (q, q)), carray(bar, (1,)),
        carray(w_bar, (1,)), carray(scale_bar, (stored, W)), carray(s_bar, (1,)),
        carray(c_bar, (q,)),
        carray(C, (q, q)),
        with_design != 0,
    )  # fmt: skip


@cache
def _external(
    function: Callable, dtype: str, n_pointers: int, integers: tuple[int, ...], n_sizes: int
) -> Any:
    """Compile an entry point, or take it from disk, and make it known to LLVM by a name.

    ``integers`` are the positions of pointers to integers; all others are to ``dtype``.
    """
    real = types.CPointer(numba.from_dtype(np.dtype(dtype)))
    pointers = [real] * n_pointers
    for position in integers:
        pointers[position] = types.CPointer(types.int32)
    signature = types.void(*pointers, *[types.intp] * n_sizes)
    symbol = f"pymc_marginal_lmm{function.__name__}_{dtype}_{DIGEST}"
    function.__qualname__ = f"{function.__name__}_{DIGEST}"  # names the file in Numba's cache
    entry = numba.cfunc(signature, cache=True)(function)
    _KEPT.append(entry)
    llvmlite.binding.add_symbol(symbol, entry.address)
    return ExternalFunction(symbol, signature)


_KEPT: list = []
"""Entry points, which must not be collected while compiled graphs refer to them."""


@register_funcify_and_cache_key(NormalDraw)
def numba_funcify_normal_draw(op: NormalDraw, node: Any, **kwargs: Any) -> Any:
    dtype = node.outputs[0].type.dtype
    kernel = _external(_normal_draw, dtype, n_pointers=4, integers=(), n_sizes=2)

    @numba_njit
    def normal_draw(F, h, epsilon):  # type: ignore[no-untyped-def]
        F, h, epsilon = contiguous3(F, h, epsilon)
        out = np.empty_like(h)
        kernel(F.ctypes, h.ctypes, epsilon.ctypes, out.ctypes, h.shape[0], h.shape[1])
        return out

    return normal_draw, f"NormalDraw-{dtype}-{DIGEST}"


@register_funcify_and_cache_key(BlockTridiagonalSolve)
def numba_funcify_block_tridiagonal_solve(
    op: BlockTridiagonalSolve, node: Any, **kwargs: Any
) -> Any:
    dtype = node.outputs[0].type.dtype
    kernel = _external(_block_tridiagonal_solve, dtype, n_pointers=8, integers=(), n_sizes=5)
    n_even, n_odd = (out.type.shape[0] for out in node.outputs[2:4])

    @numba_njit
    def block_tridiagonal_solve(D, E, h):  # type: ignore[no-untyped-def]
        m, B, k = h.shape
        D, E, h = contiguous3(D, E, h)
        log_det, x = np.empty(1, dtype=D.dtype), np.empty_like(h)
        J = np.empty((n_even, B, B), dtype=D.dtype)
        left, right = np.empty((n_odd, B, B), dtype=D.dtype), np.empty((n_odd, B, B), dtype=D.dtype)
        kernel(
            D.ctypes, E.ctypes, h.ctypes,
            log_det.ctypes, x.ctypes, J.ctypes, left.ctypes, right.ctypes, m, B, k, n_even, n_odd,
        )  # fmt: skip
        return np.asarray(log_det[0]), x, J, left, right

    return block_tridiagonal_solve, f"BlockTridiagonalSolve-{dtype}-{n_even}-{n_odd}-{DIGEST}"


@register_funcify_and_cache_key(BlockTridiagonalSolvePullback)
def numba_funcify_block_tridiagonal_solve_pullback(
    op: BlockTridiagonalSolvePullback, node: Any, **kwargs: Any
) -> Any:
    dtype = node.outputs[0].type.dtype
    kernel = _external(_block_tridiagonal_pullback, dtype, n_pointers=9, integers=(), n_sizes=5)

    @numba_njit
    def block_tridiagonal_solve_pullback(  # type: ignore[no-untyped-def]
        J, left, right, x, log_det_bar, x_bar
    ):
        m, B, k = x.shape
        J, left, right = contiguous3(J, left, right)
        x, x_bar = np.ascontiguousarray(x), np.ascontiguousarray(x_bar)
        bar = np.full(1, log_det_bar.item(), dtype=J.dtype)
        D_bar, E_bar = np.empty((m, B, B), dtype=J.dtype), np.empty((m - 1, B, B), dtype=J.dtype)
        h_bar = np.empty_like(x)
        kernel(
            J.ctypes, left.ctypes, right.ctypes, x.ctypes, bar.ctypes, x_bar.ctypes,
            D_bar.ctypes, E_bar.ctypes, h_bar.ctypes,
            m, B, k, J.shape[0], left.shape[0],
        )  # fmt: skip
        return D_bar, E_bar, h_bar

    return block_tridiagonal_solve_pullback, f"BlockTridiagonalSolvePullback-{dtype}-{DIGEST}"


@register_funcify_and_cache_key(BlockTridiagonalDraw)
def numba_funcify_block_tridiagonal_draw(op: BlockTridiagonalDraw, node: Any, **kwargs: Any) -> Any:
    dtype, transpose = node.outputs[0].type.dtype, op.transpose
    kernel = _external(_block_tridiagonal_draw, dtype, n_pointers=5, integers=(), n_sizes=6)

    @numba_njit
    def block_tridiagonal_draw(J, left, right, x):  # type: ignore[no-untyped-def]
        m, B, k = x.shape
        J, left, right = contiguous3(J, left, right)
        x = np.ascontiguousarray(x)
        out = np.empty_like(x)
        kernel(
            J.ctypes, left.ctypes, right.ctypes, x.ctypes, out.ctypes,
            m, B, k, J.shape[0], left.shape[0], transpose,
        )  # fmt: skip
        return out

    return block_tridiagonal_draw, f"BlockTridiagonalDraw-{dtype}-{transpose}-{DIGEST}"


@numba_njit
def contiguous3(a, b, c):  # type: ignore[no-untyped-def]
    """Make three arrays C-contiguous, without a copy where they are."""
    return np.ascontiguousarray(a), np.ascontiguousarray(b), np.ascontiguousarray(c)


@register_funcify_and_cache_key(SweepFactor)
def numba_funcify_sweep_factor(op: SweepFactor, node: Any, **kwargs: Any) -> Any:
    dtype, far_ndim = node.outputs[0].type.dtype, node.inputs[4].type.ndim
    sparse, n_far = False, 0  # q is in the code only where it is in no shape
    if op.pattern is not None:
        sparse, n_far = True, op.pattern.n_columns
    kernel = _external(_sweep, dtype, n_pointers=19, integers=(10, 11, 12), n_sizes=9)

    @numba_njit
    def sweep_factor(  # type: ignore[no-untyped-def]
        w, scale, A, near, far, c, v, p, A22, c2, span, starts, columns
    ):
        M, S, k = near.shape
        q = n_far if sparse else far.shape[far.ndim - 1]
        A, near, far = contiguous3(A, near, far)
        scale, c, v = contiguous3(scale, c, v)
        span, starts, columns = contiguous3(span, starts, columns)
        w, z = np.full(1, w.item(), dtype=A.dtype), np.empty(1, dtype=A.dtype)
        log_det = np.empty(1, dtype=A.dtype)
        near_rows, near_c = np.empty((M, k, k + q), dtype=A.dtype), np.empty((M, k), dtype=A.dtype)
        dense, dense_c = np.empty((q, q), dtype=A.dtype), np.empty(q, dtype=A.dtype)
        p, A22, c2 = contiguous3(p, A22, c2)
        kernel(
            w.ctypes, scale.ctypes, A.ctypes, near.ctypes, far.ctypes, c.ctypes, v.ctypes,
            p.ctypes, A22.ctypes, c2.ctypes, span.ctypes, starts.ctypes, columns.ctypes,
            log_det.ctypes, z.ctypes,
            near_rows.ctypes, dense.ctypes, near_c.ctypes, dense_c.ctypes,
            M, S, k, q, far.size, starts.size, columns.size, scale.shape[0], scale.shape[2],
        )  # fmt: skip
        return np.asarray(log_det[0]), np.asarray(z[0]), near_rows, dense, near_c, dense_c

    return sweep_factor, f"SweepFactor-{dtype}-{far_ndim}-{n_far}-{DIGEST}"


@register_funcify_and_cache_key(SweepFactorPullback)
def numba_funcify_sweep_factor_pullback(op: SweepFactorPullback, node: Any, **kwargs: Any) -> Any:
    dtype, far_ndim = node.outputs[0].type.dtype, node.inputs[4].type.ndim
    with_design = not op.constant_design
    kernel = _external(_sweep_pullback, dtype, n_pointers=23, integers=(8, 9, 10), n_sizes=10)

    @numba_njit
    def sweep_factor_pullback(  # type: ignore[no-untyped-def]
        w, scale, A, near, far, c, v, p, A22, c2, span, starts, columns,
        log_det, z, near_rows, dense, near_c, dense_c,
    ):  # fmt: skip
        M, S, k = near.shape
        A, near, far = contiguous3(A, near, far)
        scale, c, v = contiguous3(scale, c, v)
        span, starts, columns = contiguous3(span, starts, columns)
        w, w_bar = np.full(1, w.item(), dtype=A.dtype), np.empty(1, dtype=A.dtype)
        log_det = np.full(1, log_det.item(), dtype=A.dtype)
        z = np.full(1, z.item(), dtype=A.dtype)
        D = 1 if with_design else 0
        scale_bar, c_bar = np.empty_like(scale), np.empty((M, S), dtype=A.dtype)
        A_bar, near_bar = np.empty_like(A[: D * M]), np.empty_like(near[: D * M])
        far_bar = np.empty_like(far[: D * far.shape[0]])
        kernel(
            w.ctypes, scale.ctypes, A.ctypes, near.ctypes, far.ctypes, c.ctypes, v.ctypes,
            np.ascontiguousarray(p).ctypes, span.ctypes, starts.ctypes, columns.ctypes,
            log_det.ctypes, z.ctypes,
            np.ascontiguousarray(near_rows).ctypes, np.ascontiguousarray(dense).ctypes,
            np.ascontiguousarray(near_c).ctypes, np.ascontiguousarray(dense_c).ctypes,
            w_bar.ctypes, scale_bar.ctypes, c_bar.ctypes,
            A_bar.ctypes, near_bar.ctypes, far_bar.ctypes,
            M, S, k, dense_c.size, far.size, starts.size, columns.size,
            scale.shape[0], scale.shape[2], with_design,
        )  # fmt: skip
        small = (np.asarray(w_bar[0]), scale_bar, c_bar)
        return (*small, A_bar, near_bar, far_bar) if with_design else small

    return sweep_factor_pullback, f"SweepFactorPullback-{dtype}-{far_ndim}-{with_design}-{DIGEST}"


@register_funcify_and_cache_key(SweepOrthonormal)
def numba_funcify_sweep_orthonormal(op: SweepOrthonormal, node: Any, **kwargs: Any) -> Any:
    dtype = node.outputs[0].type.dtype
    kernel = _external(_sweep_orthonormal, dtype, n_pointers=13, integers=(8,), n_sizes=5)

    @numba_njit
    def sweep_orthonormal(w, scale, root, far, g, v, B, c2, span):  # type: ignore[no-untyped-def]
        M, S = g.shape
        scale, root, far = contiguous3(scale, root, far)
        g, v, B = contiguous3(g, v, B)
        c2, span = np.ascontiguousarray(c2), np.ascontiguousarray(span)
        w, log_det = np.full(1, w.item(), dtype=g.dtype), np.empty(1, dtype=g.dtype)
        z, dense, dense_c = np.empty(1, dtype=g.dtype), np.empty_like(B), np.empty_like(c2)
        kernel(
            w.ctypes, scale.ctypes, root.ctypes, far.ctypes, g.ctypes, v.ctypes,
            B.ctypes, c2.ctypes, span.ctypes,
            log_det.ctypes, z.ctypes, dense.ctypes, dense_c.ctypes,
            M, S, c2.size, scale.shape[0], scale.shape[2],
        )  # fmt: skip
        return np.asarray(log_det[0]), np.asarray(z[0]), dense, dense_c

    return sweep_orthonormal, f"SweepOrthonormal-{dtype}-{DIGEST}"


@register_funcify_and_cache_key(SweepOrthonormalPullback)
def numba_funcify_sweep_orthonormal_pullback(
    op: SweepOrthonormalPullback, node: Any, **kwargs: Any
) -> Any:
    dtype = node.outputs[0].type.dtype
    kernel = _external(_sweep_orthonormal_pullback, dtype, n_pointers=14, integers=(6,), n_sizes=5)

    @numba_njit
    def sweep_orthonormal_pullback(  # type: ignore[no-untyped-def]
        w, scale, root, far, g, v, B, c2, span, log_det, z, dense, dense_c
    ):
        M, S = g.shape
        scale, root, far = contiguous3(scale, root, far)
        g, v, span = contiguous3(g, v, span)
        dense, dense_c = np.ascontiguousarray(dense), np.ascontiguousarray(dense_c)
        w, w_bar = np.full(1, w.item(), dtype=g.dtype), np.empty(1, dtype=g.dtype)
        log_det = np.full(1, log_det.item(), dtype=g.dtype)
        z = np.full(1, z.item(), dtype=g.dtype)
        scale_bar, g_bar = np.empty_like(scale), np.empty_like(g)
        kernel(
            w.ctypes, scale.ctypes, root.ctypes, far.ctypes, g.ctypes, v.ctypes, span.ctypes,
            log_det.ctypes, z.ctypes, dense.ctypes, dense_c.ctypes,
            w_bar.ctypes, scale_bar.ctypes, g_bar.ctypes,
            M, S, dense_c.size, scale.shape[0], scale.shape[2],
        )  # fmt: skip
        return np.asarray(w_bar[0]), scale_bar, g_bar

    return sweep_orthonormal_pullback, f"SweepOrthonormalPullback-{dtype}-{DIGEST}"


@register_funcify_and_cache_key(LogEvidence)
def numba_funcify_log_evidence(op: LogEvidence, node: Any, **kwargs: Any) -> Any:
    dtype = node.outputs[0].type.dtype
    kernel = _external(_log_evidence, dtype, n_pointers=12, integers=(7,), n_sizes=3)

    @numba_njit
    def log_evidence(w, scale, s, c, A, v, p, span):  # type: ignore[no-untyped-def]
        w, s = np.full(1, w.item(), dtype=A.dtype), np.full(1, s.item(), dtype=A.dtype)
        scale, A, c = contiguous3(scale, A, c)
        v, p, span = contiguous3(v, p, span)
        value = np.empty(1, dtype=A.dtype)
        u, e, U = np.empty_like(c), np.empty_like(c), np.empty_like(A)
        kernel(
            w.ctypes, scale.ctypes, s.ctypes, c.ctypes, A.ctypes, v.ctypes, p.ctypes, span.ctypes,
            value.ctypes, u.ctypes, e.ctypes, U.ctypes, c.size, scale.shape[0], scale.shape[1],
        )  # fmt: skip
        return np.asarray(value[0]), u, e, U

    return log_evidence, f"LogEvidence-{dtype}-{DIGEST}"


@register_funcify_and_cache_key(LogEvidencePullback)
def numba_funcify_log_evidence_pullback(op: LogEvidencePullback, node: Any, **kwargs: Any) -> Any:
    dtype = node.outputs[0].type.dtype
    with_design, overwrite = not op.constant_design, op.overwrite
    kernel = _external(_log_evidence_pullback, dtype, n_pointers=17, integers=(7,), n_sizes=4)

    @numba_njit
    def log_evidence_pullback(  # type: ignore[no-untyped-def]
        w, scale, s, c, A, v, p, span, u, e, U, bar
    ):
        w, s = np.full(1, w.item(), dtype=A.dtype), np.full(1, s.item(), dtype=A.dtype)
        bar = np.full(1, bar.item(), dtype=A.dtype)
        scale, A, c = contiguous3(scale, A, c)
        v, p, span = contiguous3(v, p, span)
        w_bar, s_bar = np.empty(1, dtype=A.dtype), np.empty(1, dtype=A.dtype)
        scale_bar, c_bar = np.empty_like(scale), np.empty_like(c)
        u, e, U = contiguous3(u, e, U)
        # A large matrix more would cost its page faults.
        C = U if overwrite else np.empty_like(U)
        kernel(
            w.ctypes, scale.ctypes, s.ctypes, c.ctypes, A.ctypes, v.ctypes, p.ctypes, span.ctypes,
            u.ctypes, e.ctypes, U.ctypes, bar.ctypes,
            w_bar.ctypes, scale_bar.ctypes, s_bar.ctypes, c_bar.ctypes, C.ctypes,
            c.size, scale.shape[0], scale.shape[1], with_design,
        )  # fmt: skip
        small = (np.asarray(w_bar[0]), scale_bar, np.asarray(s_bar[0]), c_bar)
        return (*small, C) if with_design else small

    return (
        log_evidence_pullback,
        f"LogEvidencePullback-{dtype}-{with_design}-{overwrite}-{DIGEST}",
    )


@register_funcify_and_cache_key(LevelSums)
def numba_funcify_level_sums(op: LevelSums, node: Any, **kwargs: Any) -> Any:
    n_levels = op.n_levels

    @numba_njit
    def level_sums(rows, codes):  # type: ignore[no-untyped-def]
        n, k = rows.shape[-2:]
        batch = rows.shape[:-2]
        if rows.size == 0:
            return np.zeros((*batch, n_levels, k), dtype=rows.dtype)
        size = rows.size // (n * k)
        flat = np.ascontiguousarray(rows).reshape((size, n, k))
        sums = np.zeros((size, n_levels, k), dtype=rows.dtype)
        for b in range(size):
            for i in range(n):
                for j in range(k):
                    sums[b, codes[i], j] += flat[b, i, j]
        return sums.reshape((*batch, n_levels, k))

    return level_sums, f"LevelSums-{n_levels}-{DIGEST}"
