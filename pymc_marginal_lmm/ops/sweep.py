r"""Sweep a factor out of the crossproducts: what is left is a smaller problem of the same kind.

Effects ``u1`` of a factor whose levels do not touch are integrated out of the evidence
(:mod:`pymc_marginal_lmm.ops.evidence`), level by level, at fixed ``δ2`` of all others. With
``R = A12``, ``a = c1 + A11 v1`` and, as there, ``F11 = P1 + w Λ1ᵀA11Λ1``, ``N = Λ1F11⁻¹``,
``E = w NΛ1ᵀ``, the minimum over ``u1`` lies at ``δ1 − ER δ2`` with::

    u = wNᵀa       δ = Ea − v1       e = A11δ − c1

and the evidence of the others is that with these crossproducts, and ``log|F| = log|F11| + …``::

    A' = A22 − RᵀER        c' = c2 − Rᵀδ        s' = s + z      z = δᵀ(e − c1) + uᵀP1u / w

**Gradient.** With cotangents ``K`` of ``RᵀER``, ``ρ`` of ``Rᵀδ``, ``z̄`` and ``λ`` of ``log|F11|``,
``g = ERρ``, ``t = wNᵀRρ``, ``T = ½R(K + Kᵀ)Rᵀ`` and ``X = (I − A11E)T + λA11``::

    c̄1 = g − 2z̄δ            R̄ = ER(K + Kᵀ) + δρᵀ       Ā11 = z̄δδᵀ − ½(gδᵀ + δgᵀ) − ETE + λE
    Λ̄1 = (Rρ − A11g + 2z̄e)uᵀ − e tᵀ + 2wXN             w̄ = −z̄uᵀP1u/w² − gᵀe/w + tr(XE)/w

since ``z`` is a minimum over ``u1`` (envelope theorem) and ``dE = w(I − EA11) dΛ Nᵀ + its transpose
− E dA11 E + (E − EA11E) dw/w``.

The columns of ``R (M, S, k + q)`` are those of the levels that a level is nested in, ``k`` *near*
ones, which are others for each level, and the ``q`` *far* ones of the dense block. Of ``RᵀER``, the
near rows are left by level, ``(M, k, k + q)``, and the far ones summed, ``(q, q)``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pymc_marginal_lmm.ops.blocks import ArrayLibrary, blockwise, inverse_cholesky, transposed
from pymc_marginal_lmm.ops.elimination import apply_blocks, gram_blocks
from pymc_marginal_lmm.ops.evidence import FactorLayout

__all__ = ["Sweepable", "Swept", "sweep", "sweep_pullback"]


class Sweepable(NamedTuple):
    """Arguments of a sweep.

    ``w ()``, packed ``Λ1 (M or 1, S, W)``, ``A11 (M, S, S)``, ``R (M, S, k + q)``, ``c1``,
    ``v1 (M, S)``, ``p1 (S)``.
    """

    w: Any
    scale: Any
    A: Any
    R: Any
    c: Any
    v: Any
    p: Any


class Swept(NamedTuple):
    """What a sweep takes from the crossproducts of the others.

    ``log|F11| ()``, ``z ()``; of ``RᵀER`` the ``near (M, k, k + q)``, ``far (q, q)`` rows; of
    ``Rᵀδ`` likewise ``near_c (M, k)`` and ``far_c (q)``.
    """

    log_det: Any
    z: Any
    near: Any
    far: Any
    near_c: Any
    far_c: Any


def _solved(lib: ArrayLibrary, layout: FactorLayout, args: Sweepable) -> tuple[Any, ...]:
    """Return ``J, Λ, N, E, u, δ, e``."""
    w, p = args.w, args.p
    hot = layout.hot(args.scale.shape[-1]).astype(args.scale.dtype)
    L = lib.xp.einsum("mjk,jkc->mjc", args.scale, hot)
    F = p * lib.xp.eye(p.shape[0], dtype=p.dtype)
    F = F + w * blockwise(lib, transposed(L), blockwise(lib, args.A, L))
    J = inverse_cholesky(lib.xp, F, layout.n_effects)
    N = blockwise(lib, L, gram_blocks(lib, J))
    E = w * blockwise(lib, N, transposed(L))
    a = args.c + apply_blocks(lib, args.A, args.v)
    u, d = w * apply_blocks(lib, transposed(N), a), apply_blocks(lib, E, a) - args.v
    return J, N, E, u, d, apply_blocks(lib, args.A, d) - args.c


def sweep(lib: ArrayLibrary, layout: FactorLayout, k: int, args: Sweepable) -> Swept:
    """Return what the swept effects take from the crossproducts of the others."""
    xp, R = lib.xp, args.R
    M, S, columns = R.shape
    J, _, E, u, d, e = _solved(lib, layout, args)
    ER = blockwise(lib, E, R)
    flat, flat_ER = R.reshape(M * S, columns)[:, k:], ER.reshape(M * S, columns)[:, k:]
    near = blockwise(lib, transposed(R[:, :, :k]), ER)
    near_c = (R[:, :, :k] * d[:, :, None]).sum(axis=1)
    return Swept(
        log_det=-2 * xp.log(xp.diagonal(J, axis1=1, axis2=2)).sum(),
        z=(d * (e - args.c)).sum() + (args.p * u**2).sum() / args.w,
        near=near,
        far=flat.T @ flat_ER,
        near_c=near_c,
        far_c=d.reshape(-1) @ flat,
    )


def sweep_pullback(
    lib: ArrayLibrary,
    layout: FactorLayout,
    k: int,
    args: Sweepable,
    bars: Swept,
    *,
    constant_design: bool,
) -> tuple[Any, ...]:
    """Pull cotangents back to ``w, scale, c`` and perhaps ``A, R``."""
    w, A, R = args.w, args.A, args.R
    M, S, columns = R.shape
    _, N, E, u, d, e = _solved(lib, layout, args)

    # R(K + Kᵀ) and Rρ, from the near rows, which are a level's own, and the far ones.
    near_R = R[:, :, :k]
    far_R = R.reshape(M * S, columns)[:, k:]
    RK = blockwise(lib, near_R, bars.near)
    far = (far_R @ (bars.far + bars.far.T)).reshape(M, S, columns - k)
    far = far + RK[:, :, k:]
    near = RK[:, :, :k] + blockwise(lib, R, transposed(bars.near))
    RK = lib.xp.concatenate([near, far], axis=2)
    Rr = (near_R * bars.near_c[:, None, :]).sum(axis=2) + (far_R @ bars.far_c).reshape(M, S)

    T = blockwise(lib, RK, transposed(R)) if columns <= S else lib.xp.matmul(RK, transposed(R))
    T = T / 2
    g, t = apply_blocks(lib, E, Rr), w * apply_blocks(lib, transposed(N), Rr)
    ET = blockwise(lib, E, T)
    X = T - blockwise(lib, A, ET) + bars.log_det * A
    penalty = (args.p * u**2).sum()
    w_bar = ((X * E).sum() - (g * e).sum() - bars.z * penalty / w) / w
    left = Rr - apply_blocks(lib, A, g) + 2 * bars.z * e
    L_bar = left[:, :, None] * u[:, None, :] - e[:, :, None] * t[:, None, :]
    L_bar = L_bar + 2 * w * blockwise(lib, X, N)
    if args.scale.shape[0] == 1:
        L_bar = L_bar.sum(axis=0, keepdims=True)
    hot = layout.hot(args.scale.shape[-1]).astype(args.scale.dtype)
    scale_bar = lib.xp.einsum("mjc,jkc->mjk", L_bar, hot)
    small = (w_bar, scale_bar, g - 2 * bars.z * d)
    if constant_design:
        return small
    gd = (g - bars.z * d)[:, :, None] * d[:, None, :]
    A_bar = bars.log_det * E - (gd + transposed(gd)) / 2 - blockwise(lib, ET, E)
    far_r = lib.xp.broadcast_to(bars.far_c, (M, columns - k))
    rho = lib.xp.concatenate([bars.near_c, far_r], axis=1)
    return (*small, A_bar, blockwise(lib, E, RK) + d[:, :, None] * rho[:, None, :])
