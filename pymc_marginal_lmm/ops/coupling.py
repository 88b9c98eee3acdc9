r"""What couples a block diagonal leading factor with the dense block, for any array library.

The coupling ``X`` has ``M`` blocks of rows, one per level, and ``q`` columns. Elimination needs it
in no other way than through the products below, so that whether all of it is stored is decided
here alone:

========================  ==========================================  ===============
``times(x2)``             ``X x2``                                    ``(M, S)``
``transposed_times(x1)``  ``Xᵀx1``                                    ``(q,)``
``congruence(E)``         ``Σ_i X_iᵀ E_i X_i``: the Schur complement  ``(q, q)``
``sandwich(G)``           ``X_i G X_iᵀ``: back from there             ``(M, S, S)``
``product(G)``            ``X G`` at the entries of ``X``             like the values
``left(E)``               ``E_i X_i``                                 like the values
``outer(x1, x2)``         ``x1 x2ᵀ`` at the entries of ``X``          like the values
========================  ==========================================  ===============

``E (M, S, S)`` and ``G (q, q)`` are symmetric. A dense coupling is ``(M, S, q)``. A sparse one has
values ``(S, N)`` at the entries of a :class:`~pymc_marginal_lmm.pattern.Pattern`: all effects of a
level have the same columns. Its work is that of the pairs of entries which share a level. A dense
coupling, ``x``, ``E`` and ``G`` may have further axes in front.
"""

from __future__ import annotations

from typing import Any, Protocol

from pymc_marginal_lmm.ops.blocks import blockwise, transposed
from pymc_marginal_lmm.ops.library import UNROLLED, ArrayLibrary
from pymc_marginal_lmm.pattern import Pattern

__all__ = ["Coupling", "couple"]


class Coupling(Protocol):
    """The products; see the module."""

    def times(self, x2: Any) -> Any: ...
    def transposed_times(self, x1: Any) -> Any: ...
    def congruence(self, E: Any) -> Any: ...
    def sandwich(self, G: Any) -> Any: ...
    def product(self, G: Any) -> Any: ...
    def left(self, E: Any) -> Any: ...
    def outer(self, x1: Any, x2: Any) -> Any: ...


def couple(lib: ArrayLibrary, pattern: Pattern | None, values: Any) -> Coupling:
    """Return the coupling with these values; without a pattern it is dense."""
    if pattern is None:
        return _Dense(lib, values)
    return _Sparse(lib, pattern, values)


class _Dense:
    def __init__(self, lib: ArrayLibrary, values: Any) -> None:
        self.lib, self.values = lib, values

    def times(self, x2: Any) -> Any:
        return self.lib.xp.einsum("...msq,...q->...ms", self.values, x2)

    def transposed_times(self, x1: Any) -> Any:
        return self.lib.xp.einsum("...msq,...ms->...q", self.values, x1)

    def congruence(self, E: Any) -> Any:
        *_, M, S, q = self.values.shape
        left, X = (x.reshape(*x.shape[:-3], M * S, q) for x in (self.left(E), self.values))
        return transposed(X) @ left  # symmetric, and XLA has the transposed constant

    def sandwich(self, G: Any) -> Any:
        left, right = self.product(G), self.values
        if G.shape[-1] > UNROLLED:
            return self.lib.xp.matmul(left, transposed(right))
        return (left[..., :, None, :] * right[..., None, :, :]).sum(axis=-1)

    def product(self, G: Any) -> Any:
        return blockwise(self.lib, self.values, G)

    def left(self, E: Any) -> Any:
        return blockwise(self.lib, E, self.values)

    def outer(self, x1: Any, x2: Any) -> Any:
        return x1[:, :, None] * x2


class _Sparse:
    def __init__(self, lib: ArrayLibrary, pattern: Pattern, values: Any) -> None:
        self.lib, self.pattern, self.values = lib, pattern, values

    def _sum(self, rows: Any, segments: Any, size: int) -> Any:
        """Sum each row of ``(S, …)`` by segment."""
        return self.lib.xp.stack([self.lib.segment_sum(row, segments, size) for row in rows])

    def times(self, x2: Any) -> Any:
        products = self.values * x2[self.pattern.columns]
        return self._sum(products, self.pattern.rows, self.pattern.n_rows).T

    def transposed_times(self, x1: Any) -> Any:
        products = (self.values * x1[self.pattern.rows].T).sum(axis=0)
        return self.lib.segment_sum(products, self.pattern.columns, self.pattern.n_columns)

    def congruence(self, E: Any) -> Any:
        xp, q = self.lib.xp, self.pattern.n_columns
        first, second, target = self.lib.constants(self.pattern.pairs)
        products = sum(
            left[first] * right[second]
            for left, right in zip(self.left(E), self.values, strict=True)
        )
        lower = self.lib.segment_sum(products, target, q * q).reshape(q, q)
        return lower + xp.tril(lower, -1).T

    def sandwich(self, G: Any) -> Any:
        """``X_i G X_iᵀ``, each pair of different columns for two."""
        xp, X, M = self.lib.xp, self.values, self.pattern.n_rows
        first, second, target = self.lib.constants(self.pattern.pairs)
        g = xp.where(first == second, 0.5, 1.0).astype(G.dtype) * G.reshape(-1)[target]
        levels = xp.asarray(self.pattern.rows)[first]
        S = X.shape[0]
        H = [[None] * S for _ in range(S)]
        for a in range(S):
            for b in range(a + 1):
                products = X[a][first] * X[b][second] + X[a][second] * X[b][first]
                H[a][b] = H[b][a] = self.lib.segment_sum(g * products, levels, M)
        return xp.stack([xp.stack(row, axis=-1) for row in H], axis=-2)

    def product(self, G: Any) -> Any:
        xp, X, N = self.lib.xp, self.values, self.pattern.n_entries
        first, second, target = self.lib.constants(self.pattern.pairs)
        g = G.reshape(-1)[target]
        once = xp.where(first == second, 0.0, 1.0).astype(G.dtype) * g
        return self._sum(g * X[:, second], first, N) + self._sum(once * X[:, first], second, N)

    def left(self, E: Any) -> Any:
        E = E[self.pattern.rows]
        S = self.values.shape[0]
        return self.lib.xp.stack(
            [sum(E[:, a, b] * self.values[b] for b in range(S)) for a in range(S)]
        )

    def outer(self, x1: Any, x2: Any) -> Any:
        return x1[self.pattern.rows].T * x2[self.pattern.columns]
