"""Where the entries of ``Λ`` lie, block by block: what kernels must know of a grouping factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["FactorLayout", "spans", "summed_by_place"]


class FactorLayout(NamedTuple):
    """Blocks of one factor's ``Λ``: row ``j`` has ``widths[j]`` entries from ``starts[j]`` on.

    Packed, ``Λ`` is ``(M or 1, S, W)``: a diagonal one is a column, and correlated effects cost
    what they need. ``shared``: all levels have the same block, of which there is one.
    """

    n_levels: int
    starts: tuple[int, ...]
    widths: tuple[int, ...]
    shared: bool = False

    @classmethod
    def of(cls, n_levels: int, span: np.ndarray) -> FactorLayout:
        """Return what has this :attr:`span`."""
        starts, widths = (tuple(column.tolist()) for column in span.T)
        return cls(n_levels, starts, widths)

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
    def span(self) -> np.ndarray:
        """``(start, width)`` of each row, ``(S, 2)``."""
        return np.array([self.starts, self.widths], dtype="int32").T

    def hot(self, packed_width: int) -> np.ndarray:
        """Return ``(S, W, S)`` with a 1 where packed entry ``(j, k)`` sits in the block."""
        hot = np.zeros((self.n_effects, packed_width, self.n_effects))
        for j, (start, width) in enumerate(zip(self.starts, self.widths, strict=True)):
            hot[j, np.arange(width), start + np.arange(width)] = 1.0
        return hot

    def _is_full(self, packed_width: int) -> bool:
        return self.widths == (self.n_effects,) * self.n_effects == (packed_width,) * self.n_effects

    def unpack(self, xp: Any, packed: Any) -> Any:
        """Return the blocks in full, ``(…, S, S)``."""
        if self._is_full(packed.shape[-1]):
            return packed
        hot = self.hot(packed.shape[-1]).astype(packed.dtype)
        return xp.einsum("...jk,jkc->...jc", packed, hot)

    def pack(self, xp: Any, blocks: Any, packed_width: int) -> Any:
        """Return the entries of blocks that ``Λ`` can have, ``(…, S, W)``."""
        if self._is_full(packed_width):
            return blocks
        hot = self.hot(packed_width).astype(blocks.dtype)
        return xp.einsum("...jc,jkc->...jk", blocks, hot)


def spans(layout: Sequence[FactorLayout]) -> np.ndarray:
    """Return ``(start, width, place)`` of each row of ``Λ``, ``(q, 3)``, factor below factor.

    ``place`` is the packed row that it is, where a block that levels share is stored once.
    """
    rows, first, stored = [np.zeros((0, 3), dtype="int32")], 0, 0
    for factor in layout:
        S = factor.n_effects
        level = np.arange(factor.n_levels, dtype="int32")[:, None]
        start = first + level * S + np.array(factor.starts, dtype="int32")
        place = stored + level * (0 if factor.shared else S) + np.arange(S, dtype="int32")
        width = np.broadcast_to(np.array(factor.widths, dtype="int32"), start.shape)
        rows.append(np.stack([start, width, place], axis=-1).reshape(-1, 3))
        first += factor.size
        stored += S if factor.shared else factor.size
    return np.concatenate(rows)


def summed_by_place(xp: Any, layout: Sequence[FactorLayout], rows: Any) -> Any:
    """Add up rows ``(q, W)`` of ``Λ`` that are stored as one."""
    if not any(factor.shared for factor in layout):
        return rows
    parts, first = [], 0
    for factor in layout:
        part = rows[first : first + factor.size]
        if factor.shared:
            part = part.reshape(factor.n_levels, factor.n_effects, -1).sum(axis=0)
        parts.append(part)
        first += factor.size
    return parts[0] if len(parts) == 1 else xp.concatenate(parts)
