"""Read what effects are multiplied by as numbers times parameters.

``lam[item] * 0.5 * x`` is, row by row, a number times one of a few parameters. Selections move
both, products multiply both, a sum is one of its terms where all others are 0 (a product with a
dense one-hot matrix selects), and an elementwise function of parameters is a parameter for each
distinct combination of its arguments. Everything else is a parameter as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import pandas as pd
import pytensor.scalar as ps
import pytensor.tensor as pt
from pymc.model.fgraph import ModelDeterministic
from pytensor import config
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.math import Dot, Sum
from pytensor.tensor.shape import SpecifyShape
from pytensor.tensor.type import TensorType

from pymc_marginal_lmm.analysis.parameters import Parameters
from pymc_marginal_lmm.analysis.replace import substitute
from pymc_marginal_lmm.analysis.selection import NotASelection, selected_elements, value_inputs
from pymc_marginal_lmm.analysis.terms import DISCRETE, ONE, Multiplier
from pymc_marginal_lmm.values import NotKnown, Values

__all__ = ["MultiplierReader"]

LARGEST = 10_000_000
"""Most terms of the sums of a product of matrices."""

ABSENT = ONE - 1
"""Place of a term that is 0; below all others."""


class MultiplierReader:
    """Reads multipliers.

    Parameters
    ----------
    values : Values
        Evaluates indices and data.
    parameters : Parameters
        Where parameters are entered.
    sampled : sequence of Variable
        Random variables that stay sampled.
    """

    def __init__(
        self, values: Values, parameters: Parameters, sampled: Sequence[Variable] = ()
    ) -> None:
        self.values = values
        self.parameters = parameters
        self._sampled = set(sampled)
        self._known: dict[Variable, Multiplier] = {}
        self._stand_ins: dict[Variable, Variable] = {}

    def stand_in(self, leaf: Variable, zero: Variable) -> None:
        """Say what replaces an effect that is there for its shape only (``ones_like``)."""
        self._stand_ins[leaf] = zero

    def read(self, variable: Variable) -> Multiplier:
        """Return a tensor as numbers times parameters."""
        if variable not in self._known:
            value = self.values.constant(variable)
            if value is not None:
                self._known[variable] = _numbers(value)
            else:
                multiplier = self._read_node(variable)
                self._known[variable] = self._whole(variable) if multiplier is None else multiplier
        return self._known[variable]

    def inverse(self, variable: Variable) -> Multiplier:
        """Return ``1 / variable``."""
        multiplier = self.read(variable)
        with np.errstate(divide="ignore"):
            numbers = 1.0 / multiplier.numbers
        return Multiplier(numbers, self.parameters.inverse(multiplier.places))

    def _whole(self, variable: Variable) -> Multiplier:
        shape = self.values.shape(variable)
        if variable not in self._sampled:
            (variable,) = substitute([variable], self._stand_ins, self._sampled)
        return self.parameters.add(variable, shape)

    def _read_node(self, variable: Variable) -> Multiplier | None:
        node = variable.owner
        if node is None or variable in self._sampled or len(node.outputs) > 1:
            return None
        if isinstance(node.op, ModelDeterministic | SpecifyShape):
            return self.read(node.inputs[0])
        try:
            if value_inputs(node) is not None:
                return self._select(node)
            if isinstance(node.op, Elemwise):
                return self._elementwise(node)
            if isinstance(node.op, Sum):
                return self._sum_axes(node)
            if isinstance(getattr(node.op, "core_op", node.op), Dot):
                return self._matmul(node)
        except (NotKnown, NotASelection, IndexError, ValueError):
            pass  # what is wrong with the graph is not for us to say
        return None

    def _select(self, node: Apply) -> Multiplier:
        movable = value_inputs(node) or ()
        inputs = [node.inputs[i] for i in movable]
        if not all(isinstance(inp.type, TensorType) for inp in inputs):
            raise NotASelection
        elements = selected_elements(node, movable, self.values, self.values.shape)
        parts = [self._full(inp) for inp in inputs]
        numbers = np.concatenate([part.numbers.ravel() for part in parts])
        places = np.concatenate([part.places.ravel() for part in parts])
        return Multiplier(numbers[elements], places[elements])

    def _full(self, variable: Variable) -> Multiplier:
        return self.read(variable).broadcast(self.values.shape(variable))

    def _elementwise(self, node: Apply) -> Multiplier | None:
        shape = self.values.shape(node.outputs[0])
        match node.op.scalar_op:
            case ps.Second():
                return self.read(node.inputs[1]).broadcast(shape)
            case ps.Identity():
                return self.read(node.inputs[0])
            case ps.Cast() if node.outputs[0].type.dtype not in DISCRETE:
                return self.read(node.inputs[0])
            case ps.Neg():
                multiplier = self.read(node.inputs[0])
                return Multiplier(-multiplier.numbers, multiplier.places)
            case ps.Add() | ps.Sub():
                terms = [self.read(inp).broadcast(shape) for inp in node.inputs]
                if isinstance(node.op.scalar_op, ps.Sub):
                    terms[1] = Multiplier(-terms[1].numbers, terms[1].places)
                total = _sum(
                    np.stack([term.numbers for term in terms], axis=-1),
                    np.stack([term.places for term in terms], axis=-1),
                )
                return total or self._by_combination(node, shape)
            case ps.Mul():
                return self._product([self.read(inp) for inp in node.inputs], shape)
            case ps.TrueDiv():
                numerator, denominator = node.inputs
                return self._product([self.read(numerator), self.inverse(denominator)], shape)
        return self._by_combination(node, shape)

    def _sum_axes(self, node: Apply) -> Multiplier | None:
        multiplier, ndim = self._full(node.inputs[0]), node.inputs[0].type.ndim
        axes = range(ndim) if node.op.axis is None else node.op.axis
        kept = [axis for axis in range(ndim) if axis not in axes]
        numbers, places = (
            array.transpose(*kept, *axes).reshape(*(array.shape[axis] for axis in kept), -1)
            for array in (multiplier.numbers, multiplier.places)
        )
        return _sum(numbers, places)

    def _matmul(self, node: Apply) -> Multiplier | None:
        """``out[..., i, j] = Σ_p left[..., i, p] · right[..., p, j]``, one of them numbers."""
        if all(self.values.constant(inp) is None for inp in node.inputs):
            return None
        left, right = (self.values.shape(inp) for inp in node.inputs)
        batch = np.broadcast_shapes(left[:-2], right[:-2])
        shape = (*batch, left[-2], right[-1], left[-1])
        if np.prod(shape, dtype=float) > LARGEST:
            return None
        rows, columns = (self._full(inp) for inp in node.inputs)
        columns = Multiplier(columns.numbers.swapaxes(-1, -2), columns.places.swapaxes(-1, -2))
        product = self._product([rows.expand(-2), columns.expand(-3)], shape)
        return _sum(product.numbers, product.places)

    def _product(self, multipliers: Sequence[Multiplier], shape: tuple[int, ...]) -> Multiplier:
        return reduce(
            self.parameters.multiply, (multiplier.broadcast(shape) for multiplier in multipliers)
        )

    def _by_combination(self, node: Apply, shape: tuple[int, ...]) -> Multiplier | None:
        """Evaluate an elementwise function once per distinct combination of its arguments."""
        multipliers = [self.read(inp).broadcast(shape) for inp in node.inputs]
        size = int(np.prod(shape, dtype=int))
        codes = np.zeros(size, dtype="int64")
        for multiplier in multipliers:
            for array in (multiplier.numbers, multiplier.places):
                own, distinct = pd.factorize(array.ravel(), use_na_sentinel=False)
                codes, _ = pd.factorize(codes * len(distinct) + own)
        _, first = np.unique(codes, return_index=True)
        if len(first) == size:
            return None
        arguments = [
            pt.cast(
                self.parameters.values(multiplier.places.ravel()[first])
                * multiplier.numbers.ravel()[first].astype(config.floatX),
                inp.type.dtype,
            )
            for inp, multiplier in zip(node.inputs, multipliers, strict=True)
        ]
        values = self.parameters.add(node.op(*arguments), first.shape)
        return Multiplier(np.ones(shape), values.places[codes].reshape(shape))


def _sum(numbers: np.ndarray, places: np.ndarray) -> Multiplier | None:
    """Return sums along the last axis; None: they are of different parameters."""
    used = numbers != 0
    place = np.where(used, places, ABSENT).max(axis=-1, initial=ABSENT)
    if (used & (places != place[..., None])).any():
        return None
    return Multiplier(
        np.where(used, numbers, 0.0).sum(axis=-1), np.where(place == ABSENT, ONE, place)
    )


def _numbers(value: np.ndarray) -> Multiplier:
    numbers = np.asarray(value, dtype="float64")  # a divisor's precision may be too little
    return Multiplier(numbers, np.full(numbers.shape, ONE))
