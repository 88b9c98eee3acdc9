"""The linear part of a tensor, and what selecting, scaling, masking and summing make of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.type import integer_dtypes

from pymc_marginal_lmm.structure import Array

__all__ = ["DISCRETE", "NOTHING", "Linear", "Refusal", "Terms", "describe", "sum_linear"]

NOTHING = -1
"""Position of an element that no leaf enters."""

DISCRETE = {*integer_dtypes, "bool"}


class Refusal(Exception):
    """Some effects enter a graph in a way that cannot be integrated out."""

    def __init__(
        self, leaves: Iterable[Variable], reason: str, remedy: str, node: Apply | None = None
    ) -> None:
        self.leaves = tuple(leaves)
        self.reason = reason
        self.remedy = remedy
        self.node = node
        super().__init__(reason)


def describe(node: Apply | None) -> str:
    """Name an operation as a user would recognise it."""
    if node is None:
        return ""
    op = node.op.core_op if isinstance(node.op, Blockwise) else node.op
    name = str(op.scalar_op) if isinstance(op, Elemwise) else type(op).__name__
    named = next((v.name for v in node.outputs if v.name), None)
    return f"{name.lower()} → '{named}'" if named else name.lower()


@dataclass(frozen=True)
class Terms:
    """The linear part of a tensor in one leaf.

    Parameters
    ----------
    positions : array of int, (*shape, K)
        Element of the raveled leaf, or ``NOTHING``.
    coefficients : array or Variable, (*shape, K)
        Zero where the position is ``NOTHING``.
    """

    positions: np.ndarray
    coefficients: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.positions.shape[:-1]

    def take(self, elements: np.ndarray) -> Terms:
        """Return a tensor made of the given elements (of the raveled tensor, or ``NOTHING``)."""
        n_terms = self.positions.shape[-1]
        present = elements >= 0
        rows = np.where(present, elements, 0)
        flat = (int(np.prod(self.shape, dtype=int)), n_terms)
        positions = np.where(present[..., None], self.positions.reshape(flat)[rows], NOTHING)
        taken = Terms(positions, _reshape(self.coefficients, flat)[rows])
        return taken if present.all() else taken.where(present)

    def where(self, kept: Array) -> Terms:
        """Return the tensor with zeros where ``kept`` is false, whatever was there (1/0, say)."""
        mask = kept[..., None] if isinstance(kept, np.ndarray) else pt.shape_padright(kept)
        if isinstance(mask, np.ndarray) and isinstance(self.coefficients, np.ndarray):
            return Terms(self.positions, np.where(mask, self.coefficients, 0.0))
        masked = pt.where(mask, self.coefficients, 0.0)
        return Terms(self.positions, pt.specify_shape(masked, self.positions.shape))

    def broadcast(self, shape: tuple[int, ...]) -> Terms:
        """Return the tensor broadcast to ``shape``."""
        if self.shape == shape:
            return self
        here = np.arange(np.prod(self.shape, dtype=int)).reshape(self.shape)
        return self.take(np.broadcast_to(here, shape))

    def times(self, factor: Array, shape: tuple[int, ...]) -> Terms:
        """Multiply by a tensor that broadcasts to ``shape`` together with this one."""
        terms = self.broadcast(shape)
        if isinstance(factor, Variable):
            scaled = terms.coefficients * pt.shape_padright(factor)
            scaled = pt.specify_shape(scaled, terms.positions.shape)
        else:
            scaled = terms.coefficients * np.asarray(factor)[..., None]
        return Terms(terms.positions, scaled)

    def absorb(self, axes: Sequence[int]) -> Terms:
        """Sum over axes of the tensor: they become terms."""
        kept = [a for a in range(len(self.shape)) if a not in axes]
        order = [*kept, *axes, len(self.shape)]
        n_terms = int(np.prod([self.positions.shape[a] for a in (*axes, -1)], dtype=int))
        shape = (*(self.shape[a] for a in kept), n_terms)
        coefficients = self.coefficients.transpose(order)
        return Terms(self.positions.transpose(order).reshape(shape), _reshape(coefficients, shape))


Linear = dict[Variable, Terms]
"""The linear part of a tensor, per leaf."""


def _reshape(array: Array, shape: tuple[int, ...]) -> Array:
    return array.reshape(shape)


def _joined(left: Array, right: Array) -> Array:
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return np.concatenate([left, right], axis=-1)
    return pt.concatenate([left, right], axis=-1)


def sum_linear(parts: Iterable[Linear]) -> Linear:
    """Add tensors, given by their linear parts."""
    total: Linear = {}
    for part in parts:
        for leaf, terms in part.items():
            if leaf in total:
                terms = Terms(
                    np.concatenate([total[leaf].positions, terms.positions], axis=-1),
                    _joined(total[leaf].coefficients, terms.coefficients),
                )
            total[leaf] = terms
    return total
