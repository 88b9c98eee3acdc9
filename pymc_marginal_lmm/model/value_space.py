"""The parameters of a model as one vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pymc.model.core import Model

from pymc_marginal_lmm.importance import Reflections
from pymc_marginal_lmm.model.folded import FoldedCholesky, FoldedScale

__all__ = ["ValueSpace"]


@dataclass(frozen=True)
class ValueSpace:
    """Where the value variables of a model are in one vector ``(d,)``.

    Parameters
    ----------
    names : tuple of str
        Of the value variables.
    shapes : tuple of tuple of int
    reflections : Reflections
        Changes of sign of folded scales, and of the correlations that go with them, under which
        all variables of the model stay the same.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    reflections: Reflections

    @classmethod
    def of(cls, model: Model, start: dict[str, np.ndarray] | None = None) -> ValueSpace:
        """Return the space of a model's value variables, one point of which may be known."""
        if start is None:
            start = model.initial_point(random_seed=0)
        values = [model.rvs_to_values[rv] for rv in model.free_RVs]
        shapes = tuple(np.shape(start[value.name]) for value in values)
        d = sum(int(np.prod(shape, dtype=int)) for shape in shapes)
        signs, axes, first = [], [], 0
        for rv, shape in zip(model.free_RVs, shapes, strict=True):
            size = int(np.prod(shape, dtype=int))
            own, scales = _reflections(model.rvs_to_transforms[rv], size)
            for sign, axis in zip(own, scales, strict=True):
                whole = np.ones(d)
                whole[first : first + size] = sign
                signs.append(whole)
                axes.append(first + axis)
            first += size
        reflections = Reflections(np.reshape(signs, (len(axes), d)), np.array(axes, dtype=int))
        return cls(tuple(value.name for value in values), shapes, reflections)

    @property
    def dim(self) -> int:
        """``d``."""
        return self.reflections.signs.shape[1]

    def split(self, x: Any) -> list[Any]:
        """Return the value variables in a vector, or in many: ``(…, d)`` to ``(…, *shape)``."""
        parts, first = [], 0
        for shape in self.shapes:
            size = int(np.prod(shape, dtype=int))
            part = x[..., first : first + size]
            lead = part.shape[:-1] if isinstance(x, np.ndarray) else ()
            parts.append(part.reshape((*lead, *shape)))
            first += size
        return parts

    def join(self, point: dict[str, np.ndarray]) -> np.ndarray:
        """Return the vector of a point."""
        parts = [np.ravel(point[name]) for name in self.names]
        return np.concatenate([np.zeros(0), *parts])

    def element(self, axis: int) -> str:
        """Name a coordinate."""
        first = 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            size = int(np.prod(shape, dtype=int))
            if axis < first + size:
                index = np.unravel_index(axis - first, shape)
                return f"{name}[{', '.join(map(str, index))}]" if shape else name
            first += size
        raise IndexError(axis)


def _reflections(transform: Any, size: int) -> tuple[np.ndarray, list[int]]:
    """Return signs ``(K, size)`` and axes of the reflections of one variable's value."""
    if isinstance(transform, FoldedScale):
        return 1 - 2 * np.eye(size), list(range(size))
    if isinstance(transform, FoldedCholesky):
        scales = np.arange(transform.n)[:, None]
        in_row, in_column = transform.rows == scales, transform.columns == scales
        # A correlation changes its sign with either of its scales.
        return np.where(in_row | in_column, -1, 1), list(transform.diagonal)
    return np.ones((0, size)), []
