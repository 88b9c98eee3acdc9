r"""The log evidence of a Gaussian linear model as a function of its scales, for any array library.

Data enter through crossproducts about a reference point ``v0`` (any; near the least-squares
solution no digits cancel), ``r0 = r − Z v0``::

    A = ZᵀWZ        c = ZᵀWr0        s = r0ᵀWr0

With a further common weight ``w`` (``1/σ²`` when ``W = I``)::

    F = P0 + w ΛᵀAΛ      h = w Λᵀ(c + A v0)      û = F⁻¹h      δ = Λû − v0      e = Aδ − c
    Q = w (s − 2 δᵀc + δᵀAδ) + ûᵀP0û             ℓ = −½ (Q + log|F|)

**Elimination.** The coupling ``A12`` is never multiplied by parameters: the Schur complement is
taken in ``A``, and ``Λ2`` is applied to what is left, which is dense anyway. Level by level::

    F11 = P1 + w Λ1ᵀA11Λ1        N = Λ1F11⁻¹        E = w NΛ1ᵀ
    B = A22 − A21 E A12          P2 + w Λ2ᵀBΛ2 = U22ᵀU22      log|F| = log|F11| + 2 log|U22|

**Gradient.** ``Q`` is a minimum over ``u``, so that its derivatives are those at fixed ``û``
(envelope theorem)::

    ∂Q/∂s = w     ∂Q/∂c = −2wδ     ∂Q/∂A = w δδᵀ       ∂Q/∂w = s − 2δᵀc + δᵀAδ   ∂Q/∂Λ = 2w e ûᵀ

With ``C = F⁻¹``, ``∂log|F|/∂A = w ΛCΛᵀ``, ``∂/∂Λ = 2w AΛC`` and ``∂/∂w = tr(I − P0C)/w``. All of it
follows from ``G = Λ2C22Λ2ᵀ`` and its blocks ``H = A12 G A21``, level by level::

    C22 = (U22ᵀU22)⁻¹       C11 = F11⁻¹ + w² NᵀHN       (AΛC)11 = A11Λ1C11 − w HN
    Λ1C12Λ2ᵀ = −E A12 G     Λ1C11Λ1ᵀ = E/w + EHE        (AΛC)22 = BΛ2C22

``Λ`` comes packed (:class:`Layout`): row ``j`` holds the entries of its block's row, so that a
diagonal ``Λ`` is a column and correlated effects cost what they need.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from pymc_marginal_lmm.ops.blocks import (
    ArrayLibrary,
    blockwise,
    inverse_cholesky,
    inverse_from_factor,
    transposed,
)
from pymc_marginal_lmm.ops.coupling import Coupling, couple
from pymc_marginal_lmm.ops.elimination import (
    Workspace,
    apply_blocks,
    gram_blocks,
    log_diagonals,
    solve_dense,
)
from pymc_marginal_lmm.pattern import Pattern

__all__ = ["Evidence", "FactorLayout", "Layout", "evidence", "evidence_pullback"]


class FactorLayout(NamedTuple):
    """Blocks of one factor's ``Λ``: row ``j`` has ``widths[j]`` entries from ``starts[j]`` on."""

    n_levels: int
    starts: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def n_effects(self) -> int:
        """``S``."""
        return len(self.starts)

    @property
    def size(self) -> int:
        """``M·S``."""
        return self.n_levels * self.n_effects

    @property
    def diagonal(self) -> bool:
        """Whether no two effects are correlated a priori."""
        return all(width == 1 for width in self.widths)

    @property
    def full(self) -> bool:
        """Whether a block is packed as it is."""
        return all(width == self.n_effects for width in self.widths)

    def hot(self, packed_width: int) -> np.ndarray:
        """Return ``(S, W, S)`` with a 1 where packed entry ``(j, k)`` sits in the block."""
        hot = np.zeros((self.n_effects, packed_width, self.n_effects))
        for j, (start, width) in enumerate(zip(self.starts, self.widths, strict=True)):
            hot[j, np.arange(width), start + np.arange(width)] = 1.0
        return hot


class Layout(NamedTuple):
    """The leading factor (None: there is none) and the trailing ones, in column order.

    ``coupling`` says where ``A12`` can be non-zero; None: everywhere.
    """

    leading: FactorLayout | None
    trailing: tuple[FactorLayout, ...]
    coupling: Pattern | None = None

    def trailing_spans(self) -> tuple[np.ndarray, np.ndarray]:
        """Return in which column each packed row of ``Λ2`` starts, and how many entries it has."""
        starts, widths, first = [np.zeros(0, dtype=int)], [np.zeros(0, dtype=int)], 0
        for factor in self.trailing:
            offset = np.arange(factor.n_levels)[:, None] * factor.n_effects + first
            starts.append((np.array(factor.starts, dtype=int) + offset).reshape(-1))
            widths.append(np.tile(np.array(factor.widths, dtype=int), factor.n_levels))
            first += factor.size
        return np.concatenate(starts), np.concatenate(widths)


class Evidence(NamedTuple):
    """Arguments of the evidence; shapes with ``M, S`` of the leading factor and ``q`` trailing.

    ``w ()``; ``scale1 (M or 1, S, W1)``, ``scale2 (q, W2)``: packed ``Λ``; ``s ()``;
    ``c1 (M, S)``, ``c2 (q)``; ``A11 (M, S, S)``, ``A12 (M, S, q)`` or, at the entries of a
    pattern, ``(S, N)``, ``A22 (q, q)``;
    ``v1 (M, S)``, ``v2 (q)``: ``v0``; ``p1 (S)``, ``p2 (q)``: diagonal of ``P0``.
    """

    w: Any
    scale1: Any
    scale2: Any
    s: Any
    c1: Any
    c2: Any
    A11: Any
    A12: Any
    A22: Any
    v1: Any
    v2: Any
    p1: Any
    p2: Any


class _Trailing:
    """``Λ2``, applied to rows: a few gathers for all factors together.

    A symmetric matrix is scaled on its right as the rows of the transposed one.
    """

    def __init__(self, lib: ArrayLibrary, layout: Layout, scale2: Any) -> None:
        self.lib = lib
        q, W = scale2.shape
        starts, widths = layout.trailing_spans()
        self.diagonal = bool((widths == 1).all())
        self.here = np.arange(W) < widths[:, None]
        self.columns = np.where(self.here, starts[:, None] + np.arange(W), 0)
        self.scale = self._packed(scale2)
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
        columns = enumerate(self.columns.T)
        return sum(scale[:, k, None] * self.lib.take(X, column) for k, column in columns)

    def times(self, X: Any) -> Any:
        """``Λ2 X``."""
        return (self.scale[:, 0] * X.T).T if self.diagonal else self._mix(self.scale, X)

    def transposed_times(self, X: Any) -> Any:
        """``Λ2ᵀX``."""
        return self.times(X) if self.diagonal else self._mix(self.transposed, X)

    def gradient(self, e2: Any, u2: Any, B: Any, CL: Any) -> Any:
        """Return ``e2 u2ᵀ + B (CΛ2ᵀ)ᵀ`` at the entries of ``Λ2``."""
        take = self.lib.take
        if self.diagonal:
            bar = (e2 * u2 + (B * CL).sum(axis=-1))[:, None]
        else:
            bar = e2[:, None] * take(u2, self.columns)
            sums = [(B * take(CL, column)).sum(axis=-1) for column in self.columns.T]
            bar = bar + self.lib.xp.stack(sums, axis=-1)
        return self._packed(bar)


def _leading_blocks(lib: ArrayLibrary, layout: Layout, scale1: Any) -> Any:
    if layout.leading is None:
        return scale1[:, :, :1]
    if layout.leading.full:
        return scale1[..., : layout.leading.n_effects]
    hot = layout.leading.hot(scale1.shape[-1]).astype(scale1.dtype)
    return lib.xp.einsum("mjk,jkc->mjc", scale1, hot)


def _times(args: Evidence, A12: Coupling, x1: Any, x2: Any) -> tuple[Any, Any]:
    """Return ``A x``."""
    y1 = (args.A11 * x1[:, None, :]).sum(axis=-1) + A12.times(x2)
    return y1, A12.transposed_times(x1) + args.A22 @ x2


def _residuals(args: Evidence, A12: Coupling, L1: Any, L2: _Trailing, u1: Any, u2: Any) -> tuple:
    """Return ``δ``, ``e = Aδ − c`` and the unweighted sum of squares ``s − 2δᵀc + δᵀAδ``."""
    d1 = (L1 * u1[:, None, :]).sum(axis=-1) - args.v1
    d2 = L2.times(u2) - args.v2
    y1, y2 = _times(args, A12, d1, d2)
    e1, e2 = y1 - args.c1, y2 - args.c2
    squares = args.s + (d1 * (e1 - args.c1)).sum() + (d2 * (e2 - args.c2)).sum()
    return d1, d2, e1, e2, squares


def _leading_products(lib: ArrayLibrary, w: Any, L1: Any, J: Any) -> tuple[Any, Any, Any]:
    """Return ``F11⁻¹``, ``N = Λ1F11⁻¹`` and ``E = w NΛ1ᵀ``."""
    C = gram_blocks(lib, J)
    N = blockwise(lib, L1, C)
    return C, N, w * blockwise(lib, N, transposed(L1))


def evidence(lib: ArrayLibrary, layout: Layout, args: Evidence) -> tuple[Any, ...]:
    """Return ``ℓ``, ``û1``, ``û2`` and the workspace ``J``, ``B``, ``U22``."""
    xp, w = lib.xp, args.w
    L1, L2 = _leading_blocks(lib, layout, args.scale1), _Trailing(lib, layout, args.scale2)
    A12 = couple(lib, layout.coupling, args.A12)
    eye1, eye2 = (xp.eye(p.shape[0], dtype=p.dtype) for p in (args.p1, args.p2))
    F11 = args.p1 * eye1 + w * blockwise(lib, transposed(L1), blockwise(lib, args.A11, L1))
    J = inverse_cholesky(xp, F11, L1.shape[-1])
    C, N, E = _leading_products(lib, w, L1, J)
    B = args.A22 - A12.congruence(E) if J.size and args.A22.size else args.A22
    U22 = args.p2 * eye2 + w * L2.transposed_times(L2.transposed_times(B).T)
    U22 = xp.linalg.cholesky(U22, upper=True) if U22.size else U22

    y1, y2 = _times(args, A12, args.v1, args.v2)
    h1 = w * (L1 * (args.c1 + y1)[:, :, None]).sum(axis=-2)
    h2 = w * L2.transposed_times(args.c2 + y2 - A12.transposed_times(apply_blocks(lib, N, h1)))
    u2 = solve_dense(lib, U22, h2)
    coupled = A12.times(L2.times(u2))
    u1 = apply_blocks(lib, C, h1) - w * (N * coupled[:, :, None]).sum(axis=-2)

    *_, squares = _residuals(args, A12, L1, L2, u1, u2)
    penalty = (args.p1 * u1**2).sum() + (args.p2 * u2**2).sum()
    log_det = log_diagonals(lib, Workspace(J, U22))
    return -0.5 * (w * squares + penalty + log_det), u1, u2, J, B, U22


def evidence_pullback(
    lib: ArrayLibrary,
    layout: Layout,
    args: Evidence,
    u1: Any,
    u2: Any,
    J: Any,
    B: Any,
    U22: Any,
    bar: Any,
    *,
    constant_design: bool,
) -> tuple:
    """Pull the cotangent of ``ℓ`` back to ``w, scale1, scale2, s, c1, c2`` and perhaps ``A``."""
    xp, w = lib.xp, args.w
    L1, L2 = _leading_blocks(lib, layout, args.scale1), _Trailing(lib, layout, args.scale2)
    A12 = couple(lib, layout.coupling, args.A12)
    d1, d2, e1, e2, squares = _residuals(args, A12, L1, L2, u1, u2)
    C, N, E = _leading_products(lib, w, L1, J)
    C22 = inverse_from_factor(lib, U22) if U22.size else U22
    CL = L2.times(C22).T
    G = L2.times(CL)
    H = A12.sandwich(G)
    HN = blockwise(lib, H, N)
    C11 = C + w**2 * blockwise(lib, transposed(N), HN)

    trace = args.c1.size + args.c2.size
    trace -= (args.p1 * xp.diagonal(C11, axis1=-2, axis2=-1)).sum()
    trace -= (args.p2 * xp.diagonal(C22)).sum()
    w_bar = -0.5 * bar * (squares + trace / w)

    half = -bar * w  # −½ · 2w
    K1 = blockwise(lib, args.A11, blockwise(lib, L1, C11)) - w * HN
    L1_bar = half * (e1[:, :, None] * u1[:, None, :] + K1)
    if args.scale1.shape[0] == 1:
        L1_bar = L1_bar.sum(axis=0, keepdims=True)
    if layout.leading is None:
        scale1_bar = xp.zeros_like(args.scale1)
    elif layout.leading.full and args.scale1.shape[-1] == L1_bar.shape[-1]:
        scale1_bar = L1_bar
    else:
        hot = layout.leading.hot(args.scale1.shape[-1]).astype(args.scale1.dtype)
        scale1_bar = xp.einsum("mjc,jkc->mjk", L1_bar, hot)
    scale2_bar = half * L2.gradient(e2, u2, B, CL)
    small = (w_bar, scale1_bar, scale2_bar, -0.5 * bar * w, bar * w * d1, bar * w * d2)
    if constant_design:
        return small
    EHE = blockwise(lib, blockwise(lib, E, H), E)
    EAG = couple(lib, layout.coupling, A12.product(G)).left(E)
    A11_bar = half / 2 * (d1[:, :, None] * d1[:, None, :] + E / w + EHE)
    A12_bar = half * (A12.outer(d1, d2) - EAG)
    A22_bar = half / 2 * (d2[:, None] * d2 + G)
    return (*small, A11_bar, A12_bar, A22_bar)
