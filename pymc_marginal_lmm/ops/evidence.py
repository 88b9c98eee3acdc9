r"""The log evidence of a Gaussian linear model as a function of its scales, for any array library.

What is here concerns effects of which any two can meet, in the symbols of
:mod:`pymc_marginal_lmm.ops.sweep`, where factors whose levels do not touch have been swept out::

    F = P0 + w ΛᵀAΛ = UᵀU      h = w Λᵀ(c + A v0)      û = F⁻¹h      δ = Λû − v0      e = Aδ − c
    Q = w (s − 2 δᵀc + δᵀAδ) + ûᵀP0û             ℓ = −½ (Q + log|F|)

**Gradient.** ``Q`` is a minimum over ``u``, so that its derivatives are those at fixed ``û``
(envelope theorem)::

    ∂Q/∂s = w     ∂Q/∂c = −2wδ     ∂Q/∂A = w δδᵀ       ∂Q/∂w = s − 2δᵀc + δᵀAδ   ∂Q/∂Λ = 2w e ûᵀ

With ``C = F⁻¹``, ``∂log|F|/∂A = w ΛCΛᵀ``, ``∂/∂Λ = 2w AΛC`` and ``∂/∂w = tr(I − P0C)/w``.

``Λ`` comes packed (:class:`~pymc_marginal_lmm.ops.layout.FactorLayout`), all factors one below the
other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pymc_marginal_lmm.ops.blocks import ArrayLibrary, inverse_from_factor, transposed
from pymc_marginal_lmm.ops.elimination import solve_dense
from pymc_marginal_lmm.ops.layout import FactorLayout

__all__ = ["Evidence", "evidence", "evidence_pullback"]


class Evidence(NamedTuple):
    """Arguments of the evidence.

    ``w ()``; packed ``Λ``, ``scale (q, W)``; ``s ()``; ``c (q)``; ``A (q, q)``; ``v (q)``: ``v0``;
    ``p (q)``: diagonal of ``P0``.
    """

    w: Any
    scale: Any
    s: Any
    c: Any
    A: Any
    v: Any
    p: Any


class _Scale:
    """``Λ``, applied factor by factor."""

    def __init__(self, lib: ArrayLibrary, layout: Sequence[FactorLayout], scale: Any) -> None:
        self.lib = lib
        self.factors = layout
        self.scale = scale
        self.diagonal = all(factor.diagonal for factor in self.factors)
        self.blocks: list[Any] = []
        start = 0
        for factor in self.factors if not self.diagonal else ():
            packed = scale[start : start + factor.size]
            packed = packed.reshape(factor.n_levels, factor.n_effects, -1)
            self.blocks.append(factor.unpack(lib.xp, packed))
            start += factor.size

    def _blockwise(self, X: Any, blocks: list[Any]) -> Any:
        parts, start = [], 0
        for factor, block in zip(self.factors, blocks, strict=True):
            part = X[..., start : start + factor.size]
            shape = part.shape
            part = part.reshape(*shape[:-1], factor.n_levels, factor.n_effects)
            product = sum(part[..., j, None] * block[:, j, :] for j in range(factor.n_effects))
            parts.append(product.reshape(shape))
            start += factor.size
        return self.lib.xp.concatenate(parts, axis=-1)

    def right(self, X: Any) -> Any:
        """``X Λ``."""
        if self.diagonal:
            return X * self.scale[:, 0]
        return self._blockwise(X, self.blocks)

    def right_transposed(self, X: Any) -> Any:
        """``X Λᵀ``."""
        if self.diagonal:
            return X * self.scale[:, 0]
        return self._blockwise(X, [transposed(block) for block in self.blocks])

    def packed_product(self, X: Any, Y: Any) -> Any:
        """``XᵀY`` (both ``(..., q)``, all leading axes summed) at the entries of ``Λ``."""
        xp, W = self.lib.xp, self.scale.shape[1]
        X, Y = X.reshape(-1, X.shape[-1]), Y.reshape(-1, Y.shape[-1])
        if self.diagonal:
            return (X * Y).sum(axis=0)[:, None]
        parts, start = [], 0
        for factor in self.factors:
            shape = (-1, factor.n_levels, factor.n_effects)
            here = slice(start, start + factor.size)
            x, y = X[:, here].reshape(shape), Y[:, here].reshape(shape)
            full = xp.einsum("rmj,rmc->mjc", x, y)
            parts.append(factor.pack(xp, full, W).reshape(factor.size, W))
            start += factor.size
        return xp.concatenate(parts, axis=0)


def _residuals(args: Evidence, L: _Scale, u: Any) -> tuple[Any, Any, Any]:
    """Return ``δ``, ``e = Aδ − c`` and the unweighted sum of squares ``s − 2δᵀc + δᵀAδ``."""
    d = L.right_transposed(u) - args.v
    e = args.A @ d - args.c
    return d, e, args.s + d @ (e - args.c)


def evidence(
    lib: ArrayLibrary, layout: Sequence[FactorLayout], args: Evidence
) -> tuple[Any, Any, Any]:
    """Return ``ℓ``, ``û`` and ``U``."""
    xp, w, L = lib.xp, args.w, _Scale(lib, layout, args.scale)
    F = args.p * xp.eye(args.p.shape[0], dtype=args.p.dtype) + w * L.right(L.right(args.A).T)
    U = xp.linalg.cholesky(F, upper=True)
    u = solve_dense(lib, U, w * L.right(args.c + args.A @ args.v))
    *_, squares = _residuals(args, L, u)
    log_det = 2 * xp.log(xp.diagonal(U)).sum()
    return -0.5 * (w * squares + (args.p * u**2).sum() + log_det), u, U


def evidence_pullback(
    lib: ArrayLibrary,
    layout: Sequence[FactorLayout],
    args: Evidence,
    u: Any,
    U: Any,
    bar: Any,
    *,
    constant_design: bool,
) -> tuple:
    """Pull the cotangent of ``ℓ`` back to ``w, scale, s, c`` and perhaps ``A``."""
    xp, w, L = lib.xp, args.w, _Scale(lib, layout, args.scale)
    d, e, squares = _residuals(args, L, u)
    C = inverse_from_factor(lib, U)
    trace = u.size - (args.p * xp.diagonal(C)).sum()
    half = -bar * w  # −½ · 2w
    scale_bar = L.packed_product(e[None], u[None]) + L.packed_product(
        transposed(L.right(args.A)), C
    )
    w_bar = -0.5 * bar * (squares + trace / w)
    small = (w_bar, half * scale_bar, -0.5 * bar * w, bar * w * d)
    if constant_design:
        return small
    G = L.right_transposed(L.right_transposed(C).T)
    return (*small, half / 2 * (d[:, None] * d + G))
