r"""Sweep a factor out of the crossproducts: what is left is a smaller problem of the same kind.

Data enter the evidence through crossproducts about a reference point ``v0`` (any; near the
least-squares solution no digits cancel), ``r0 = r − Z v0``, and a common weight ``w``::

    A = ZᵀWZ        c = ZᵀWr0        s = r0ᵀWr0        Q(u) = w (s − 2δᵀc + δᵀAδ) + uᵀP0u
    F = P0 + w ΛᵀAΛ           δ = Λu − v0                   ℓ = −½ (min Q + log|F|)

Effects ``u1`` of a factor whose levels do not touch (``A11`` and ``F11`` are block diagonal) are
minimised out level by level at fixed ``δ2`` of all others. With ``R = A12``, ``a = c1 + A11 v1``::

    F11 = P1 + w Λ1ᵀA11Λ1        N = Λ1F11⁻¹        E = w NΛ1ᵀ        (all block diagonal)
    y = Nᵀa      u = wy          δ = Λ1u − v1       e = A11δ − c1

the minimum lies at ``δ1 = δ − ERδ2``, and the problem of the others is that with ::

    A' = A22 − RᵀER      c' = c2 − Rᵀδ      s' = s + z      z = δᵀ(e − c1) + w yᵀP1y

and ``log|F| = log|F11| + log|F'|``. Neither ``R`` nor what is left is multiplied by parameters, so
that coupling is numbers at the entries that data fill (:mod:`pymc_marginal_lmm.ops.coupling`).

**Gradient.** With cotangents ``K`` of ``RᵀER`` and ``ρ`` of ``Rᵀδ`` (``−1`` times those of ``A'``
and ``c'``), ``z̄`` and ``λ`` of ``log|F11|``::

    T = ½R(K + Kᵀ)Rᵀ     V = λN − w Λ1NᵀTN     X = TN + A11V     t = NᵀRρ     g = wΛ1t

    c̄1 = g − 2z̄δ         R̄ = ER(K + Kᵀ) + δρᵀ       Ā11 = wVΛ1ᵀ + z̄δδᵀ − ½(gδᵀ + δgᵀ)
    Λ̄1 = w((Rρ − A11g + 2z̄e)yᵀ − e tᵀ + 2X)         w̄ = tr(XΛ1ᵀ) − eᵀΛ1t − z̄yᵀP1y

since ``z`` is a minimum over ``u1`` (envelope theorem), ``d log|F11| = 2w tr(A11N dΛᵀ) + …`` and
``dE = w(I − EA11) dΛ Nᵀ + its transpose − E dA11 E + (E − EA11E) dw/w``.

The others are *near*, effects of the levels that a level is nested in, ``k`` of them, others for
each level; or *far*, the ``q`` of the dense block. Of ``RᵀER``, the near rows are left by level,
and the far ones are subtracted from ``A22`` at once: with thousands of columns a large matrix less
has to be allocated than for a difference. Cotangents of ``A'`` must be symmetric, as it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pymc_marginal_lmm.ops.blocks import (
    blockwise,
    diagonal,
    expanded,
    gram_blocks,
    inverse_cholesky,
    transposed,
)
from pymc_marginal_lmm.ops.coupling import couple
from pymc_marginal_lmm.ops.layout import FactorLayout
from pymc_marginal_lmm.ops.library import ArrayLibrary
from pymc_marginal_lmm.pattern import Pattern

__all__ = ["Levels", "Sweepable", "Swept", "solve_levels", "sweep", "sweep_pullback"]


class Sweepable(NamedTuple):
    """Arguments of a sweep.

    ``w ()``, packed ``Λ1 (M or 1, S, W)``, ``A11 (M, S, S)``; ``R``: ``near (M, S, k)`` and ``far
    (M, S, q)`` or, at the entries of a pattern, ``(S, N)``; ``c1``, ``v1 (M, S)``, ``p1 (S)``; of
    the dense block ``A22``, ``dense (q, q)``, and ``c2``, ``dense_c (q)``.
    """

    w: Any
    scale: Any
    A: Any
    near: Any
    far: Any
    c: Any
    v: Any
    p: Any
    dense: Any
    dense_c: Any


class Swept(NamedTuple):
    """What a sweep takes from the crossproducts of the others, and leaves of the dense block.

    ``log|F11| ()``, ``z ()``; of ``RᵀER`` the ``near (M, k, k + q)`` rows, of ``Rᵀδ`` likewise
    ``near_c (M, k)``; ``A'``, ``dense (q, q)``, and ``c'``, ``dense_c (q)``.
    """

    log_det: Any
    z: Any
    near: Any
    dense: Any
    near_c: Any
    dense_c: Any


def _times(A: Any, x: Any) -> Any:
    """Return ``A x``, block by block."""
    return (A * x[..., None, :]).sum(axis=-1)


def _transposed_times(A: Any, x: Any) -> Any:
    """Return ``Aᵀx``, block by block."""
    return (A * x[..., :, None]).sum(axis=-2)


class Levels(NamedTuple):
    """``J`` with ``JᵀJ = F11⁻¹``, ``Λ``, ``N (M, S, S)``; ``y``, ``δ``, ``e (M, S)``."""

    J: Any
    L: Any
    N: Any
    y: Any
    d: Any
    e: Any


def solve_levels(lib: ArrayLibrary, layout: FactorLayout, args: Sweepable) -> Levels:
    """Return what a sweep and its gradient need of each level."""
    w, p = expanded(lib, args.w, 2), args.p[..., None, :, None]
    L = layout.unpack(lib.xp, args.scale)
    F = p * lib.xp.eye(p.shape[-2], dtype=p.dtype)
    F = F + w[..., None] * blockwise(lib, transposed(L), blockwise(lib, args.A, L))
    J = inverse_cholesky(lib.xp, F, layout.n_effects)
    N = blockwise(lib, L, gram_blocks(lib, J))
    y = _transposed_times(N, args.c + _times(args.A, args.v))
    d = w * _times(L, y) - args.v
    return Levels(J, L, N, y, d, _times(args.A, d) - args.c)


def sweep(lib: ArrayLibrary, pattern: Pattern | None, args: Sweepable, levels: Levels) -> Swept:
    """Return what the swept effects take from the others, and leave of the dense block."""
    xp, near = lib.xp, args.near
    far, k = couple(lib, pattern, args.far), near.shape[-1]
    J, L, N, y, d, e = levels
    E = expanded(lib, args.w, 3) * blockwise(lib, N, transposed(L))
    near_rows = xp.zeros((*near.shape[:-2], 0, args.dense_c.shape[-1]), dtype=d.dtype)
    if k:
        left = blockwise(lib, transposed(near), E)
        near_rows = [blockwise(lib, left, right) for right in (near, args.far)]
        near_rows = xp.concatenate(near_rows, axis=-1)
    prior = (args.p[..., None, :] * y**2).sum(axis=(-2, -1))
    return Swept(
        log_det=-2 * xp.log(diagonal(xp, J)).sum(axis=(-2, -1)),
        z=(d * (e - args.c)).sum(axis=(-2, -1)) + args.w * prior,
        near=near_rows,
        dense=args.dense - far.congruence(E),
        near_c=_transposed_times(near, d),
        dense_c=args.dense_c - far.transposed_times(d),
    )


def sweep_pullback(
    lib: ArrayLibrary,
    layout: FactorLayout,
    pattern: Pattern | None,
    args: Sweepable,
    levels: Levels,
    bars: Swept,
    *,
    constant_design: bool,
) -> tuple[Any, ...]:
    """Pull cotangents back to ``w, scale, c`` and perhaps ``A, near, far``.

    Those of ``A22`` and ``c2`` are those of ``A'`` and ``c'``.
    """
    w, A, near = args.w, args.A, args.near
    far, k = couple(lib, pattern, args.far), near.shape[-1]
    _, L, N, y, d, e = levels

    K, rho = -2 * bars.dense, -bars.dense_c
    T = far.sandwich(K)
    Rr = far.times(rho)
    if k:
        K11, K12 = bars.near[:, :, :k], bars.near[:, :, k:]
        own = blockwise(lib, near, K11 + transposed(K11))
        across = lib.xp.matmul(args.far, transposed(K12))
        product = blockwise(lib, across, transposed(near))
        T = T + blockwise(lib, own, transposed(near)) + product + transposed(product)
        Rr = Rr + (near * bars.near_c[:, None, :]).sum(axis=2)
    T = T / 2

    t = _transposed_times(N, Rr)
    Lt = _times(L, t)
    g = w * Lt
    TN = blockwise(lib, T, N)
    V = bars.log_det * N - w * blockwise(lib, L, blockwise(lib, transposed(N), TN))
    X = TN + blockwise(lib, A, V)
    w_bar = (X * L).sum() - (e * Lt).sum() - bars.z * (args.p * y**2).sum()
    left = Rr - _times(A, g) + 2 * bars.z * e
    L_bar = left[:, :, None] * y[:, None, :] - e[:, :, None] * t[:, None, :] + 2 * X
    L_bar = w * L_bar
    if args.scale.shape[0] == 1:
        L_bar = L_bar.sum(axis=0, keepdims=True)
    scale_bar = layout.pack(lib.xp, L_bar, args.scale.shape[-1])
    small = (w_bar, scale_bar, g - 2 * bars.z * d)
    if constant_design:
        return small
    gd = (g - bars.z * d)[:, :, None] * d[:, None, :]
    A_bar = w * blockwise(lib, V, transposed(L)) - (gd + transposed(gd)) / 2
    E = w * blockwise(lib, N, transposed(L))
    far_bar = couple(lib, pattern, far.product(K)).left(E) + far.outer(d, rho)
    near_bar = near
    if k:
        far_bar = far_bar + blockwise(lib, E, blockwise(lib, near, K12))
        near_bar = blockwise(lib, E, own + across) + d[:, :, None] * bars.near_c[:, None, :]
    return (*small, A_bar, near_bar, far_bar)
