r"""Block elimination of a symmetric positive definite matrix, for any array library.

``F`` has a block diagonal leading part (``M`` blocks of ``S×S``) and a dense trailing one
(``q × q``)::

    F = [F11  F12]    F11: (M, S, S), the diagonal blocks      F12: (M, S, q)
        [F21  F22]    F22: (q, q)                              F21 = F12ᵀ

Its Cholesky factor has the same pattern. With ``J = L11⁻¹`` (block by block) and ``T = J F12``::

    L = [L11   0 ]        L22 L22ᵀ = F22 − TᵀT       log|F| = −2 Σ log diag J + 2 Σ log diag L22
        [Tᵀ   L22]

``(J, T, L22)`` is the workspace that the forward pass leaves for everything that follows: solving,
drawing, and the *selected inverse*, ``C = F⁻¹`` at the pattern of ``F``::

    C22 = L22⁻ᵀ L22⁻¹        C12 = −F11⁻¹F12 C22        C11 = F11⁻¹ − C12 (F11⁻¹F12)ᵀ

The functions take the array library: NumPy for :meth:`Op.perform`, ``jax.numpy`` for JAX. Small
blocks are unrolled into operations on vectors of length ``M``, since a LAPACK call for each tiny
matrix costs more than its arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["ArrayLibrary", "Workspace", "back_substitute", "factorize", "pullback", "solve"]

UNROLLED = 5
"""Largest block that is factorised by explicit formulas."""


class ArrayLibrary(NamedTuple):
    """What the elimination needs: an array namespace and one LAPACK routine."""

    xp: ModuleType | Any
    solve_triangular: Callable


class Workspace(NamedTuple):
    """``J (M, S, S)``, ``T (M, S, q)`` and ``L22 (q, q)``; see the module."""

    J: Any
    T: Any
    L22: Any


def blockwise(lib: ArrayLibrary, A: Any, B: Any) -> Any:
    """Multiply blocks, ``(M, a, b) · (M, b, c)``, without a batched matrix product for tiny b."""
    if A.shape[-1] <= UNROLLED:
        return sum(A[:, :, k, None] * B[:, k, None, :] for k in range(A.shape[-1]))
    return lib.xp.matmul(A, B)


def transposed(A: Any) -> Any:
    return A.swapaxes(-1, -2)


def inverse_cholesky(lib: ArrayLibrary, F11: Any, S: int) -> Any:
    """Return ``J = L⁻¹`` for each block ``L Lᵀ`` of ``F11 (M, S, S)``."""
    xp = lib.xp
    if S > UNROLLED:
        L = xp.linalg.cholesky(F11)
        return xp.tril(xp.linalg.inv(L))
    zero = xp.zeros_like(F11[:, 0, 0])
    L = [[zero] * S for _ in range(S)]
    J = [[zero] * S for _ in range(S)]
    for j in range(S):
        L[j][j] = xp.sqrt(F11[:, j, j] - sum(L[j][k] ** 2 for k in range(j)))
        J[j][j] = 1 / L[j][j]
        for i in range(j + 1, S):
            L[i][j] = (F11[:, i, j] - sum(L[i][k] * L[j][k] for k in range(j))) * J[j][j]
    for j in range(S):
        for i in range(j + 1, S):
            J[i][j] = -J[i][i] * sum(L[i][k] * J[k][j] for k in range(j, i))
    return xp.stack([xp.stack(row, axis=-1) for row in J], axis=-2)


def factorize(lib: ArrayLibrary, F11: Any, F12: Any, F22: Any) -> tuple[Any, Workspace]:
    """Return ``log|F|`` and the workspace."""
    xp = lib.xp
    (M, S, q) = F12.shape
    log_det = xp.zeros((), dtype=F11.dtype)
    J, T, L22 = F11, F12, F22
    if M * S:
        J = inverse_cholesky(lib, F11, S)
        log_det = log_det - 2 * xp.log(xp.diagonal(J, axis1=-2, axis2=-1)).sum()
    if q:
        if M * S:
            T = blockwise(lib, J, F12)
            rows = T.reshape(M * S, q)
            F22 = F22 - rows.T @ rows
        L22 = xp.linalg.cholesky(F22)
        log_det = log_det + 2 * xp.log(xp.diagonal(L22)).sum()
    return log_det, Workspace(J, T, L22)


def back_substitute(lib: ArrayLibrary, work: Workspace, e1: Any, e2: Any) -> tuple[Any, Any]:
    """Return ``L⁻ᵀ e``."""
    xp, q = lib.xp, work.L22.shape[0]
    if q:
        e2 = lib.solve_triangular(work.L22, e2, trans=1, lower=True)
    if e1.size:
        coupled = xp.tensordot(work.T, e2, axes=1) if q else 0
        e1 = blockwise(lib, transposed(work.J), (e1 - coupled)[..., None])[..., 0]
    return e1, e2


def solve(lib: ArrayLibrary, work: Workspace, h1: Any, h2: Any) -> tuple[Any, Any]:
    """Return ``F⁻¹ h``."""
    xp, q = lib.xp, work.L22.shape[0]
    e1, e2 = h1, h2
    if h1.size:
        e1 = blockwise(lib, work.J, h1[..., None])[..., 0]
    if q:
        if h1.size:
            e2 = e2 - xp.tensordot(e1, work.T, axes=2)
        e2 = lib.solve_triangular(work.L22, e2, lower=True)
    return back_substitute(lib, work, e1, e2)


def selected_inverse(lib: ArrayLibrary, work: Workspace) -> tuple[Any, Any, Any]:
    """Return ``F⁻¹`` at the pattern of ``F``: ``C11, C12, C22``."""
    xp, q = lib.xp, work.L22.shape[0]
    C11, C12, C22 = work.J, work.T, work.L22
    if q:
        half = lib.solve_triangular(work.L22, xp.eye(q, dtype=work.L22.dtype), lower=True)
        C22 = half.T @ half
    if work.J.size:
        C11 = blockwise(lib, transposed(work.J), work.J)
        if q:
            V = blockwise(lib, transposed(work.J), work.T)  # F11⁻¹F12
            C12 = -V @ C22
            C11 = C11 - xp.matmul(C12, transposed(V))
    return C11, C12, C22


def pullback(
    lib: ArrayLibrary, work: Workspace, u1: Any, u2: Any, log_det_bar: Any, u1_bar: Any, u2_bar: Any
) -> tuple[Any, Any, Any, Any, Any]:
    """Pull cotangents of ``(log|F|, u = F⁻¹h)`` back to ``(F11, F12, F22, h1, h2)``.

    ``d log|F| = tr(F⁻¹ dF)`` and ``du = F⁻¹(dh − dF u)``. With ``g = F⁻¹ū``::

        h̄ = g        F̄ = log|F|‾ · F⁻¹ − ½ (g uᵀ + u gᵀ)     at the pattern of F

    where ``F12`` stands for two blocks of ``F`` and so gets twice the entry.
    """
    g1, g2 = solve(lib, work, u1_bar, u2_bar)
    C11, C12, C22 = selected_inverse(lib, work)

    def symmetric(g: Any, u: Any) -> Any:
        outer = g[..., :, None] * u[..., None, :]
        return (outer + transposed(outer)) / 2

    F11_bar = log_det_bar * C11 - symmetric(g1, u1)
    F12_bar = 2 * log_det_bar * C12 - (g1[..., None] * u2 + u1[..., None] * g2)
    F22_bar = log_det_bar * C22 - symmetric(g2, u2)
    return F11_bar, F12_bar, F22_bar, g1, g2
