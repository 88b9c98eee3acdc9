r"""Block elimination of a symmetric positive definite matrix, for any array library.

``F`` has a block diagonal leading part (``M`` blocks of ``S×S``) and a dense trailing one
(``q × q``), which a dense or sparse ``F12`` couples (:mod:`pymc_marginal_lmm.ops.coupling`)::

    F = [F11  F12]    F11: (M, S, S), the diagonal blocks      F21 = F12ᵀ
        [F21  F22]    F22: (q, q)

Its Cholesky factor has the same pattern. With ``J = L11⁻¹`` (block by block)::

    L = [  L11    0   ]     U22ᵀU22 = F22 − F21 F11⁻¹ F12       F11⁻¹ = JᵀJ
        [F21Jᵀ  U22ᵀ]       log|F| = −2 Σ log diag J + 2 Σ log diag U22

``(J, U22)`` is the workspace that the forward pass leaves for everything that follows: solving,
drawing, and the *selected inverse*, ``C = F⁻¹`` at the pattern of ``F``::

    C22 = (U22ᵀU22)⁻¹       C12 = −F11⁻¹F12 C22       C11 = F11⁻¹ + F11⁻¹ (F12 C22 F21) F11⁻¹

The functions take the array library: NumPy for :meth:`Op.perform`, ``jax.numpy`` for JAX. Those up
to :func:`solve` take further axes in front with a dense coupling: many systems at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pymc_marginal_lmm.ops.blocks import (
    UNROLLED,
    ArrayLibrary,
    blockwise,
    inverse_cholesky,
    inverse_from_factor,
    inverse_lower,
    lower_cholesky,
    transposed,
)
from pymc_marginal_lmm.ops.coupling import couple
from pymc_marginal_lmm.pattern import Pattern

__all__ = ["Workspace", "factorize", "log_diagonals", "pullback", "solve", "solve_dense"]


class Workspace(NamedTuple):
    """``J (M, S, S)`` and ``U22 (q, q)``; see the module."""

    J: Any
    U22: Any


def log_diagonals(lib: ArrayLibrary, work: Workspace) -> Any:
    """Return ``log|F|`` from its factors."""
    xp = lib.xp
    J, U = (xp.diagonal(x, axis1=-2, axis2=-1) for x in (work.J, work.U22))
    return 2 * xp.log(U).sum(axis=-1) - 2 * xp.log(J).sum(axis=(-2, -1))


def gram_blocks(lib: ArrayLibrary, J: Any) -> Any:
    """Return ``F11⁻¹ = JᵀJ``."""
    return blockwise(lib, transposed(J), J)


def apply_blocks(lib: ArrayLibrary, A: Any, x: Any) -> Any:
    """Multiply block by block, ``(M, S, S) · (M, S)``."""
    return blockwise(lib, A, x[..., None])[..., 0]


def factorize(
    lib: ArrayLibrary, pattern: Pattern | None, F11: Any, F12: Any, F22: Any
) -> tuple[Any, Workspace]:
    """Return ``log|F|`` and the workspace."""
    J = inverse_cholesky(lib.xp, F11, F11.shape[-1])
    if F22.size and J.size:
        F22 = F22 - couple(lib, pattern, F12).congruence(gram_blocks(lib, J))
    q = F22.shape[-1]
    work = Workspace(J, transposed(lower_cholesky(lib.xp, F22, q)) if q else F22)
    return log_diagonals(lib, work), work


def solve_dense(lib: ArrayLibrary, U22: Any, h2: Any) -> Any:
    """Return ``(U22ᵀU22)⁻¹h2``."""
    q = h2.shape[-1]
    if not q:
        return h2
    if q <= UNROLLED:
        J = inverse_lower(lib.xp, transposed(U22), q)
        return apply_blocks(lib, transposed(J), apply_blocks(lib, J, h2))
    return lib.solve_triangular(U22, lib.solve_triangular(U22, h2, trans=1, lower=False))


def solve(
    lib: ArrayLibrary, pattern: Pattern | None, F12: Any, work: Workspace, h1: Any, h2: Any
) -> tuple[Any, Any]:
    """Return ``F⁻¹ h``."""
    coupling, C = couple(lib, pattern, F12), gram_blocks(lib, work.J)
    u2 = solve_dense(lib, work.U22, h2 - coupling.transposed_times(apply_blocks(lib, C, h1)))
    return apply_blocks(lib, C, h1 - coupling.times(u2)), u2


def pullback(
    lib: ArrayLibrary,
    pattern: Pattern | None,
    F12: Any,
    work: Workspace,
    u1: Any,
    u2: Any,
    log_det_bar: Any,
    u1_bar: Any,
    u2_bar: Any,
) -> tuple[Any, Any, Any, Any, Any]:
    """Pull cotangents of ``(log|F|, u = F⁻¹h)`` back to ``(F11, F12, F22, h1, h2)``.

    ``d log|F| = tr(F⁻¹ dF)`` and ``du = F⁻¹(dh − dF u)``. With ``g = F⁻¹ū``::

        h̄ = g        F̄ = log|F|‾ · F⁻¹ − ½ (g uᵀ + u gᵀ)     at the pattern of F

    where ``F12`` stands for two blocks of ``F`` and so gets twice the entry.
    """
    g1, g2 = solve(lib, pattern, F12, work, u1_bar, u2_bar)
    coupling, C11 = couple(lib, pattern, F12), gram_blocks(lib, work.J)
    C22 = inverse_from_factor(lib, work.U22) if u2.size else work.U22
    FC = couple(lib, pattern, coupling.product(C22))
    F12_bar = -2 * log_det_bar * FC.left(C11) - coupling.outer(g1, u2) - coupling.outer(u1, g2)
    H = coupling.sandwich(C22)
    C11 = C11 + blockwise(lib, blockwise(lib, C11, H), C11)

    def symmetric(g: Any, u: Any) -> Any:
        outer = g[..., :, None] * u[..., None, :]
        return (outer + transposed(outer)) / 2

    F11_bar = log_det_bar * C11 - symmetric(g1, u1)
    F22_bar = log_det_bar * C22 - symmetric(g2, u2)
    return F11_bar, F12_bar, F22_bar, g1, g2
