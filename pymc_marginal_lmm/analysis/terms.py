"""The linear part of a tensor, and what selecting, scaling, masking and summing make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import numpy as np
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.type import integer_dtypes

from pymc_marginal_lmm.analysis.remedies import Remedy

__all__ = [
    "DISCRETE",
    "NOTHING",
    "ONE",
    "Linear",
    "Multiplier",
    "Refusal",
    "Terms",
    "TooManyTerms",
    "describe",
    "refuse_product",
    "sum_linear",
]

NOTHING = -1
"""Position of an element that no leaf enters."""

ONE = -1
"""Place of a coefficient that holds no parameter."""

DISCRETE = {*integer_dtypes, "bool"}


LARGEST = 200_000_000
"""Most terms of a tensor, for one leaf."""


class TooManyTerms(Exception):
    """A tensor would have more terms than anybody wants to wait for."""


class Refusal(Exception):
    """Some effects enter a graph in a way that cannot be integrated out."""

    def __init__(
        self,
        leaves: Iterable[Variable],
        reason: str,
        remedy: str,
        node: Apply | None = None,
        child: Variable | None = None,
    ) -> None:
        self.leaves = tuple(leaves)
        self.reason = reason
        self.remedy = remedy
        self.node = node
        self.child = child  # sampled, whose prior mean depends on the leaves
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
class Multiplier:
    """What effects are multiplied by: numbers, times parameters where ``places`` says so.

    Parameters
    ----------
    numbers : array
    places : array of int
        Places in the model's :class:`~pymc_marginal_lmm.analysis.parameters.Parameters`, or
        ``ONE``; of a shape that broadcasts with that of ``numbers``.
    """

    numbers: np.ndarray
    places: np.ndarray

    def __post_init__(self) -> None:
        # NumPy makes scalars, which cannot be written into, of what it computes without axes.
        object.__setattr__(self, "numbers", np.asarray(self.numbers))
        object.__setattr__(self, "places", np.asarray(self.places))

    def broadcast(self, shape: tuple[int, ...]) -> Multiplier:
        """Return the multiplier broadcast to ``shape``."""
        return Multiplier(np.broadcast_to(self.numbers, shape), np.broadcast_to(self.places, shape))

    def expand(self, axis: int) -> Multiplier:
        """Return the multiplier with a new axis."""
        return Multiplier(np.expand_dims(self.numbers, axis), np.expand_dims(self.places, axis))


@dataclass(frozen=True)
class Terms:
    """The linear part of a tensor in one leaf.

    A coefficient is a number times a parameter (or ``ONE``). The two are kept apart: numbers
    become the design ``Z``, which never changes, parameters the loadings of the effects.

    Parameters
    ----------
    positions : array of int, (*shape, K)
        Element of the raveled leaf, or ``NOTHING``.
    numbers : array, (*shape, K)
        Zero where the position is ``NOTHING``.
    places : array of int, (*shape, K)
        Which parameter, or ``ONE``.
    """

    positions: np.ndarray
    numbers: np.ndarray
    places: np.ndarray

    @classmethod
    def identity(cls, shape: tuple[int, ...]) -> Terms:
        """Return the terms of a leaf itself."""
        positions = np.arange(np.prod(shape, dtype=int)).reshape(*shape, 1)
        return cls(positions, np.ones(positions.shape), np.full(positions.shape, ONE))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.positions.shape[:-1]

    def _each(self, change: Callable[[np.ndarray], np.ndarray]) -> Terms:
        return Terms(change(self.positions), change(self.numbers), change(self.places))

    def take(self, elements: np.ndarray) -> Terms:
        """Return a tensor made of the given elements (of the raveled tensor, or ``NOTHING``).

        Raises
        ------
        TooManyTerms
            Rather than to fill the memory.
        """
        if elements.size * self.positions.shape[-1] > LARGEST:
            raise TooManyTerms(elements.size * self.positions.shape[-1])
        flat = (int(np.prod(self.shape, dtype=int)), self.positions.shape[-1])
        present = elements >= 0
        rows = np.where(present, elements, 0)
        taken = self._each(lambda array: array.reshape(flat)[rows])
        return taken if present.all() else taken.where(present)

    def where(self, kept: np.ndarray) -> Terms:
        """Return the tensor with zeros where ``kept`` is false, whatever was there (1/0, say)."""
        mask = kept[..., None]
        return Terms(
            np.where(mask, self.positions, NOTHING),
            np.where(mask, self.numbers, 0.0),
            np.where(mask, self.places, ONE),
        )

    def broadcast(self, shape: tuple[int, ...]) -> Terms:
        """Return the tensor broadcast to ``shape``."""
        if self.shape == shape:
            return self
        here = np.arange(np.prod(self.shape, dtype=int)).reshape(self.shape)
        return self.take(np.broadcast_to(here, shape))

    def negative(self) -> Terms:
        """Return the tensor times −1."""
        return replace(self, numbers=-self.numbers)

    def absorb(self, axes: Sequence[int]) -> Terms:
        """Sum over axes of the tensor: they become terms."""
        kept = [a for a in range(len(self.shape)) if a not in axes]
        order = [*kept, *axes, len(self.shape)]
        n_terms = int(np.prod([self.positions.shape[a] for a in (*axes, -1)], dtype=int))
        shape = (*(self.shape[a] for a in kept), n_terms)
        return self._each(lambda array: array.transpose(order).reshape(shape))


Linear = dict[Variable, Terms]
"""The linear part of a tensor, per leaf."""


def refuse_product(node: Apply, parts: Sequence[Linear]) -> NoReturn:
    """Refuse the smaller one of effects that are multiplied by each other."""
    sizes = [sum(int(t.positions.max(initial=0)) for t in p.values()) for p in parts if p]
    smallest = [p for p in parts if p][int(np.argmin(sizes))]
    raise Refusal(
        smallest,
        "it is multiplied by another effect",
        Remedy.ONE_OF_TWO,
        node,
    )


def sum_linear(parts: Iterable[Linear]) -> Linear:
    """Add tensors, given by their linear parts."""
    total: Linear = {}
    for part in parts:
        for leaf, terms in part.items():
            if leaf in total:
                pair = (total[leaf], terms)
                terms = Terms(
                    np.concatenate([t.positions for t in pair], axis=-1),
                    np.concatenate([t.numbers for t in pair], axis=-1),
                    np.concatenate([t.places for t in pair], axis=-1),
                )
            total[leaf] = terms
    return total
