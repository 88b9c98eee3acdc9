r"""Cyclic reduction of a positive definite block tridiagonal matrix, for any array library.

``F`` has ``m`` diagonal blocks ``D_i`` of ``B×B`` and ``E_i`` below them, ``F[i + 1, i] = E_i``.
Its even blocks do not touch: all of them are eliminated at once, with ``J = L⁻¹`` for ``D = LLᵀ``::

    right = J F[e, e + 1]        left = J F[e, e − 1]        (of each even block e)
    D'_j = D_j − rightᵀright − leftᵀleft      E'_j = F'[j + 2, j] = −rightᵀleft

and what is left of the odd blocks is block tridiagonal again, half as long. That is a Cholesky
factorisation, ``F = L Lᵀ`` in the order of elimination, and as stable as any other; it takes
``log₂ m`` steps of batched operations, where going from block to block takes ``m``.

The factor ``(J, left, right)``, level below level, serves everything that follows: ``L⁻¹h``
(:func:`forward`), ``L⁻ᵀε`` (:func:`backward`), and ``C = F⁻¹`` at the pattern of ``F``, from the
last level to the first: with ``Y = Jᵀ[left, right]`` and neighbours ``o`` of even blocks ``e``::

    C_eo = −Y C_oo          C_ee = JᵀJ − C_eo Yᵀ

A level of even length gets an identity block more, which touches nothing. All functions take
further axes in front: many systems at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pymc_marginal_lmm.ops.blocks import blockwise, diagonal, inverse_cholesky, transposed
from pymc_marginal_lmm.ops.library import ArrayLibrary

__all__ = ["Factor", "backward", "factorize", "forward", "n_eliminated", "pullback"]


class Factor(NamedTuple):
    """``J (n, B, B)``, ``left`` and ``right``, all levels one below the other."""

    J: Any
    left: Any
    right: Any


def n_eliminated(m: int) -> tuple[int, int]:
    """Return how many even and odd blocks all levels have."""
    even = odd = 0
    while m:
        even, odd, m = even + m // 2 + 1, odd + m // 2, m // 2
    return even, odd


def _top(factor: Factor, m: int) -> tuple[Factor, Factor]:
    """Split what belongs to the first level from the others."""
    n = m // 2
    first = (factor.J[..., : n + 1, :, :], *(x[..., :n, :, :] for x in factor[1:]))
    return Factor(*first), Factor(
        factor.J[..., n + 1 :, :, :], *(x[..., n:, :, :] for x in factor[1:])
    )


def _zeros(lib: ArrayLibrary, like: Any, count: int) -> Any:
    *batch, _, rows, columns = like.shape
    return lib.xp.zeros((*batch, count, rows, columns), dtype=like.dtype)


def _odd_length(lib: ArrayLibrary, x: Any, filling: Any = None) -> Any:
    """Add a block to an even number of blocks, of zeros if nothing is said."""
    if x.shape[-3] % 2:
        return x
    block = _zeros(lib, x, 1) if filling is None else _zeros(lib, x, 1) + filling
    return lib.xp.concatenate([x, block], axis=-3)


def _woven(lib: ArrayLibrary, even: Any, odd: Any, length: int) -> Any:
    """Put blocks back in their order, even and odd ones in turns."""
    if even.shape[-3] > odd.shape[-3]:
        odd = lib.xp.concatenate([odd, _zeros(lib, even, 1)], axis=-3)
    pairs = lib.xp.stack([even, odd], axis=-3)
    *batch, n, _, rows, columns = pairs.shape
    return pairs.reshape(*batch, 2 * n, rows, columns)[..., :length, :, :]


def _add_shifted(lib: ArrayLibrary, even: Any, right: Any, left: Any) -> Any:
    """Add what even blocks have to their right and left; the last and first have nothing there."""
    none = _zeros(lib, even, 1)
    join = lib.xp.concatenate
    return even + join([right, none], axis=-3) + join([none, left], axis=-3)


def factorize(lib: ArrayLibrary, D: Any, E: Any) -> tuple[Any, Factor]:
    """Return ``log|F|`` and the factor of ``D (m, B, B)`` and ``E (m − 1, B, B)``."""
    xp, levels, half = lib.xp, [], 0.0
    while m := D.shape[-3]:
        n = m // 2
        if m % 2 == 0:
            E = xp.concatenate([E, _zeros(lib, D, 1)], axis=-3)
        D = _odd_length(lib, D, xp.eye(D.shape[-1], dtype=D.dtype))
        J = inverse_cholesky(xp, D[..., 0::2, :, :], D.shape[-1])
        half = half - xp.log(diagonal(xp, J)).sum(axis=(-2, -1))
        right = blockwise(lib, J[..., :n, :, :], transposed(E[..., 0::2, :, :]))
        left = blockwise(lib, J[..., 1:, :, :], E[..., 1::2, :, :])
        levels.append(Factor(J, left, right))
        D = D[..., 1::2, :, :] - blockwise(lib, transposed(right), right)
        D = D - blockwise(lib, transposed(left), left)
        E = -blockwise(lib, transposed(right[..., 1:, :, :]), left[..., :-1, :, :])
    parts = zip(*levels, strict=True)
    return 2 * half, Factor(*(xp.concatenate(part, axis=-3) for part in parts))


def forward(lib: ArrayLibrary, factor: Factor, h: Any) -> Any:
    """Return ``L⁻¹h``, ``(m, B, k)``, in the order of the blocks."""
    m = h.shape[-3]
    (J, left, right), deeper = _top(factor, m)
    h = _odd_length(lib, h)
    even = blockwise(lib, J, h[..., 0::2, :, :])
    if m == 1:
        return even
    odd = h[..., 1::2, :, :] - blockwise(lib, transposed(right), even[..., :-1, :, :])
    odd = odd - blockwise(lib, transposed(left), even[..., 1:, :, :])
    return _woven(lib, even, forward(lib, deeper, odd), m)


def backward(lib: ArrayLibrary, factor: Factor, t: Any) -> Any:
    """Return ``L⁻ᵀt``, ``(m, B, k)``."""
    m = t.shape[-3]
    (J, left, right), deeper = _top(factor, m)
    t = _odd_length(lib, t)
    even = t[..., 0::2, :, :]
    if m == 1:
        return blockwise(lib, transposed(J), even)
    odd = backward(lib, deeper, t[..., 1::2, :, :])
    even = _add_shifted(lib, even, -blockwise(lib, right, odd), -blockwise(lib, left, odd))
    return _woven(lib, blockwise(lib, transposed(J), even), odd, m)


def inverse_at_blocks(lib: ArrayLibrary, factor: Factor, m: int) -> tuple[Any, Any]:
    """Return the diagonal blocks of ``F⁻¹``, and those below."""
    (J, left, right), deeper = _top(factor, m)
    own = blockwise(lib, transposed(J), J)
    if m == 1:
        return own, own[..., :0, :, :]
    odd, between = inverse_at_blocks(lib, deeper, m // 2)
    Y_right = blockwise(lib, transposed(J[..., :-1, :, :]), right)
    Y_left = blockwise(lib, transposed(J[..., 1:, :, :]), left)
    C_right, C_left = blockwise(lib, Y_right, odd), blockwise(lib, Y_left, odd)
    if m > 3:
        none = _zeros(lib, odd, 1)
        across = blockwise(lib, Y_left[..., :-1, :, :], transposed(between))
        C_right = C_right + lib.xp.concatenate([none, across], axis=-3)
        across = blockwise(lib, Y_right[..., 1:, :, :], between)
        C_left = C_left + lib.xp.concatenate([across, none], axis=-3)
    to_right = blockwise(lib, C_right, transposed(Y_right))
    even = _add_shifted(lib, own, to_right, blockwise(lib, C_left, transposed(Y_left)))
    return (
        _woven(lib, even, odd, m),
        _woven(lib, -transposed(C_right), -C_left, m - 1),
    )


def pullback(
    lib: ArrayLibrary, factor: Factor, x: Any, log_det_bar: Any, x_bar: Any
) -> tuple[Any, Any, Any]:
    """Pull cotangents of ``(log|F|, x = F⁻¹h)`` back to ``D, E, h``.

    As in :func:`pymc_marginal_lmm.ops.elimination.pullback`, with ``g = F⁻¹x̄``::

        h̄ = g        F̄ = log|F|‾ · F⁻¹ − ½ (g xᵀ + x gᵀ)     at the pattern of F

    where ``E`` stands for two blocks of ``F`` and so gets twice the entry.
    """
    m = x.shape[-3]
    g = backward(lib, factor, forward(lib, factor, x_bar))
    C, below = inverse_at_blocks(lib, factor, m)
    outer = blockwise(lib, g, transposed(x))
    D_bar = log_det_bar * C - (outer + transposed(outer)) / 2
    g1, x1 = g[..., 1:, :, :], x[..., 1:, :, :]
    outer = blockwise(lib, g1, transposed(x[..., :-1, :, :]))
    outer = outer + blockwise(lib, x1, transposed(g[..., :-1, :, :]))
    return D_bar, 2 * log_det_bar * below - outer, g
