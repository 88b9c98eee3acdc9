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
other, and a block that all levels of a factor share comes once.

``Q`` is a sum of squares. Where scales are so far apart that it comes out negative, no digit of it
is right, and a large positive density would be what an optimizer or a sampler looks for: ``ℓ`` is
-inf there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np

from pymc_marginal_lmm.ops.blocks import (
    diagonal,
    inverse_from_factor,
    lower_cholesky,
    solve_dense,
    transposed,
)
from pymc_marginal_lmm.ops.layout import FactorLayout, spans, summed_by_place
from pymc_marginal_lmm.ops.library import ArrayLibrary

__all__ = ["LOST", "Evidence", "evidence", "evidence_pullback", "minus_half"]

LOST = -1e-3
"""A sum of squares below this is rounding errors; of no residuals at all it is about 0."""


class Evidence(NamedTuple):
    """Arguments of the evidence.

    ``w ()``; packed ``Λ``, ``scale (q or fewer, W)``; ``s ()``; ``c (q)``; ``A (q, q)``;
    ``v (q)``: ``v0``; ``p (q)``: diagonal of ``P0``.
    """

    w: Any
    scale: Any
    s: Any
    c: Any
    A: Any
    v: Any
    p: Any


class _Scale:
    """``Λ``, applied to rows: a few gathers for all factors together.

    A symmetric matrix is scaled on its right as the rows of the transposed one.
    """

    def __init__(self, lib: ArrayLibrary, layout: Sequence[FactorLayout], scale: Any) -> None:
        self.lib, self.layout = lib, layout
        starts, widths, place = spans(layout).T
        q, W = len(place), scale.shape[1]
        if len(scale) < q:
            scale = lib.take(scale, place)
        self.diagonal = bool((widths == 1).all())
        self.here = np.arange(W) < widths[:, None]
        self.columns = np.where(self.here, starts[:, None] + np.arange(W), 0)
        self.scale = self._packed(scale)
        if not self.diagonal:  # column c has its entries in the rows that are its row's columns
            entries = self.columns * W + np.arange(q)[:, None] - starts[:, None]
            entries = np.where(self.here, entries, 0)
            self.transposed = self._packed(lib.take(self.scale.reshape(-1), entries))

    def _packed(self, x: Any) -> Any:
        """Put zeros where a packed row is longer than its block."""
        return x if self.here.all() else self.lib.xp.where(self.here, x, 0)

    def _mix(self, scale: Any, X: Any) -> Any:
        if X.ndim == 1:
            return (scale * self.lib.take(X, self.columns)).sum(axis=1)
        rows = (self.lib.take(X, column) for column in self.columns.T)
        return reduce(add, (scale[:, k, None] * row for k, row in enumerate(rows)))

    def times(self, X: Any) -> Any:
        """``Λ X``."""
        return (self.scale[:, 0] * X.T).T if self.diagonal else self._mix(self.scale, X)

    def transposed_times(self, X: Any) -> Any:
        """``ΛᵀX``."""
        return self.times(X) if self.diagonal else self._mix(self.transposed, X)

    def gradient(self, e: Any, u: Any, A: Any, CL: Any) -> Any:
        """Return ``e uᵀ + A (CΛᵀ)ᵀ`` at the entries of ``Λ``."""
        take = self.lib.take
        if self.diagonal:
            bar = (e * u + (A * CL).sum(axis=-1))[:, None]
        else:
            sums = [(A * take(CL, column)).sum(axis=-1) for column in self.columns.T]
            bar = e[:, None] * take(u, self.columns) + self.lib.xp.stack(sums, axis=-1)
        return summed_by_place(self.lib.xp, self.layout, self._packed(bar))


def minus_half(xp: Any, Q: Any, log_det: Any) -> Any:
    """Return ``−½ (Q + log|F|)``; -inf where ``Q`` is lost, see the module."""
    return xp.where(Q < LOST, -xp.inf, -0.5 * (Q + log_det))


def _squares(args: Evidence, d: Any, e: Any) -> Any:
    """Return the unweighted sum of squares, ``s − 2δᵀc + δᵀAδ``."""
    return args.s + d @ (e - args.c)


def evidence(
    lib: ArrayLibrary, layout: Sequence[FactorLayout], args: Evidence
) -> tuple[Any, Any, Any, Any]:
    """Return ``ℓ``, ``û``, ``e`` and ``U``."""
    xp, w, L = lib.xp, args.w, _Scale(lib, layout, args.scale)
    F = args.p * xp.eye(args.p.shape[0], dtype=args.p.dtype) + w * L.transposed_times(
        L.transposed_times(args.A).T
    )
    U = transposed(lower_cholesky(xp, F, F.shape[0]))
    u = solve_dense(lib, U, w * L.transposed_times(args.c + args.A @ args.v))
    d = L.times(u) - args.v
    e = args.A @ d - args.c
    log_det = 2 * xp.log(diagonal(xp, U)).sum()
    Q = w * _squares(args, d, e) + (args.p * u**2).sum()
    return minus_half(xp, Q, log_det), u, e, U


def evidence_pullback(
    lib: ArrayLibrary,
    layout: Sequence[FactorLayout],
    args: Evidence,
    u: Any,
    e: Any,
    U: Any,
    bar: Any,
    *,
    constant_design: bool,
) -> tuple:
    """Pull the cotangent of ``ℓ`` back to ``w, scale, s, c`` and perhaps ``A``."""
    xp, w, L = lib.xp, args.w, _Scale(lib, layout, args.scale)
    d = L.times(u) - args.v
    C = inverse_from_factor(lib, U)
    trace = u.size - (args.p * diagonal(xp, C)).sum()
    half = -bar * w  # −½ · 2w
    CL = L.times(C).T
    scale_bar = L.gradient(e, u, args.A, CL)
    w_bar = -0.5 * bar * (_squares(args, d, e) + trace / w)
    small = (w_bar, half * scale_bar, -0.5 * bar * w, bar * w * d)
    if constant_design:
        return small
    return (*small, half / 2 * (d[:, None] * d + L.times(CL)))
