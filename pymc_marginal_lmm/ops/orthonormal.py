r"""Sweep a factor out whose rows were made orthonormal: nothing cancels, however large ``Λ``.

Where data say little of a column but through the effects of the factor (a flat intercept, under
``τ ≫ σ``), ``A22 − RᵀER`` is the small difference of large numbers. So take the rows of each level
apart into what the effects ``u1`` can explain and what not, with numbers that never change::

    Z1 = Q Lᵀ      X = QD + X̃      QᵀWQ = I      QᵀWX̃ = 0      B = X̃ᵀWX̃

``L = L11`` is a square root of ``A11``, ``R = LD`` and ``A22 = B + DᵀD``. With ``g = QᵀWr0``,
``K = LᵀΛ1``, ``α = g + Lᵀv1`` and ``H = I + wKKᵀ``, all by level, the squares are ::

    s − 2δᵀc + δᵀAδ = s − gᵀg − 2δ2ᵀX̃ᵀWr0 + δ2ᵀBδ2 + |Ku1 − α + Dδ2|²

and ``min_u |Ku − x|² + uᵀu/w = xᵀH⁻¹x``, so that for ``P1 = I``, with ``b = H⁻¹α``, ::

    A' = B + DᵀH⁻¹D      c' = X̃ᵀWr0 + Dᵀb      s' = s + z      z = αᵀb − gᵀg      |F11| = |H|

are sums of what is positive: the problem of ``Qᵀr``, whose covariance is ``H/w``.

**Gradient.** With cotangents ``G`` of ``A'``, ``ρ`` of ``c'``, ``z̄``, and ``λ`` of ``log|H|``, ::

    H̄ = λH⁻¹ − H⁻¹ (DGDᵀ + ½(Dρ αᵀ + α ρᵀDᵀ) + z̄ααᵀ) H⁻¹
    Λ̄1 = 2w L H̄K       w̄ = tr(KᵀH̄K)       ḡ = 2z̄(b − g) + H⁻¹Dρ
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pymc_marginal_lmm.ops.blocks import (
    apply_blocks,
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

__all__ = [
    "Orthonormal",
    "Remaining",
    "solve_orthonormal",
    "sweep_orthonormal",
    "sweep_orthonormal_pullback",
]


class Orthonormal(NamedTuple):
    """Arguments of the sweep.

    ``w ()``, packed ``Λ1 (M or 1, S, W)``; ``L``, ``root (M, S, S)``; ``D``, ``far (M, S, q)``;
    ``g (M, S)``; ``Lᵀv1``, ``v (M, S)``; of the dense block ``B``, ``dense (q, q)``, and
    ``X̃ᵀWr0``, ``dense_c (q)``.
    """

    w: Any
    scale: Any
    root: Any
    far: Any
    g: Any
    v: Any
    dense: Any
    dense_c: Any


class Remaining(NamedTuple):
    """``log|F11| ()``, ``z ()``; ``A'``, ``dense (q, q)``; ``c'``, ``dense_c (q)``."""

    log_det: Any
    z: Any
    dense: Any
    dense_c: Any


class OrthonormalLevels(NamedTuple):
    """``J`` with ``JᵀJ = H⁻¹``, ``H⁻¹``, ``K (M, S, S)``; ``α``, ``b (M, S)``."""

    J: Any
    C: Any
    K: Any
    a: Any
    b: Any


def solve_orthonormal(
    lib: ArrayLibrary, layout: FactorLayout, args: Orthonormal
) -> OrthonormalLevels:
    """Return what the sweep and its gradient need of each level."""
    K = blockwise(lib, transposed(args.root), layout.unpack(lib.xp, args.scale))
    weighted = expanded(lib, args.w, 3) * blockwise(lib, K, transposed(K))
    H = lib.xp.eye(layout.n_effects, dtype=K.dtype) + weighted
    J = inverse_cholesky(lib.xp, H, layout.n_effects)
    C, a = gram_blocks(lib, J), args.g + args.v
    return OrthonormalLevels(J, C, K, a, apply_blocks(lib, C, a))


def sweep_orthonormal(lib: ArrayLibrary, args: Orthonormal, levels: OrthonormalLevels) -> Remaining:
    """Return what the swept effects leave."""
    far = couple(lib, None, args.far)
    return Remaining(
        log_det=-2 * lib.xp.log(diagonal(lib.xp, levels.J)).sum(axis=(-2, -1)),
        z=(levels.a * levels.b).sum(axis=(-2, -1)) - (args.g**2).sum(axis=(-2, -1)),
        dense=args.dense + far.congruence(levels.C),
        dense_c=args.dense_c + far.transposed_times(levels.b),
    )


def sweep_orthonormal_pullback(
    lib: ArrayLibrary,
    layout: FactorLayout,
    args: Orthonormal,
    levels: OrthonormalLevels,
    bars: Remaining,
) -> tuple[Any, Any, Any]:
    """Pull cotangents back to ``w, scale, g``; those of ``B`` and ``X̃ᵀWr0`` are those of A', c'."""
    _, C, K, a, b = levels
    far = couple(lib, None, args.far)
    Dr = far.times(bars.dense_c)
    T = Dr[:, :, None] * a[:, None, :]
    T = far.sandwich(bars.dense) + (T + transposed(T)) / 2
    T = T + bars.z * a[:, :, None] * a[:, None, :]
    H_bar = bars.log_det * C - blockwise(lib, C, blockwise(lib, T, C))
    HK = blockwise(lib, H_bar, K)
    L_bar = 2 * args.w * blockwise(lib, args.root, HK)
    if args.scale.shape[0] == 1:
        L_bar = L_bar.sum(axis=0, keepdims=True)
    scale_bar = layout.pack(lib.xp, L_bar, args.scale.shape[-1])
    return (HK * K).sum(), scale_bar, 2 * bars.z * (b - args.g) + apply_blocks(lib, C, Dr)
