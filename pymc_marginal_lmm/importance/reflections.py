"""Changes of sign that a density does not notice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import numpy as np

__all__ = ["Reflections"]


@dataclass(frozen=True)
class Reflections:
    """Commuting reflections, each with an axis that no other one changes.

    Parameters
    ----------
    signs : array, (K, d)
        ``±1``: the ``k``-th reflection maps ``x`` to ``signs[k] · x``.
    axes : array of int, (K,)
        Coordinate whose sign says on which side of the ``k``-th reflection a point is.
    """

    signs: np.ndarray
    axes: np.ndarray

    @classmethod
    def none(cls, d: int) -> Reflections:
        """Return those of a density without symmetry."""
        return cls(np.zeros((0, d)), np.zeros(0, dtype=int))

    def __post_init__(self) -> None:
        expected = 1 - 2 * np.eye(len(self.axes))
        if not np.array_equal(self.signs[:, self.axes], expected):
            raise ValueError("Each axis must change its sign under one reflection only, its own.")

    def __len__(self) -> int:
        return len(self.axes)

    def take(self, which: Iterable[int]) -> Reflections:
        """Return some of them."""
        index = np.asarray(list(which), dtype=int)
        return Reflections(self.signs[index], self.axes[index])

    def fold(self, x: np.ndarray) -> np.ndarray:
        """Return the points of the half space that stand for points ``(N, d)``."""
        for sign, axis in zip(self.signs, self.axes, strict=True):
            x = np.where(x[:, [axis]] < 0, x * sign, x)
        return x

    def inside(self, x: np.ndarray) -> np.ndarray:
        """Say which points ``(N, d)`` lie in the half space."""
        return (x[:, self.axes] >= 0).all(axis=1)

    def group(self) -> np.ndarray:
        """Return the signs of all products of the reflections, the identity first: ``(2ᴷ, d)``."""
        one = np.ones(self.signs.shape[1])
        return np.stack(
            [
                reduce(np.multiply, chosen, one)
                for size in range(len(self) + 1)
                for chosen in combinations(self.signs, size)
            ]
        )
