"""Read a tensor as an affine function of the effects.

Each effect variable ``v`` is replaced by ``mean + d`` with a zero-mean deviation ``d`` (the
*leaf*). For every tensor between the leaves and a likelihood's mean we carry the linear part: per
leaf, which element enters (*positions*) and times what (*coefficients*), both of the tensor's
shape with one trailing axis of ``K`` terms::

    t[i] = t(d = 0)[i] + Σ_leaves Σ_k coefficients[i, k] · d[positions[i, k]]

The offset ``t(d = 0)`` needs no bookkeeping: it is the same graph with the leaves replaced by
their means. Operations fall into three kinds, so that arbitrary code is understood by a dozen
rules: those that select or move elements (indexing, reshaping, joining, ...), sums, and products
with something that holds no effect. Everything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pymc.model.fgraph import ModelVar
from pytensor import config
from pytensor.compile.builders import OpFromGraph
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors, io_toposort
from pytensor.tensor.basic import Alloc, Join, MakeVector, ScalarFromTensor, TensorFromScalar
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot, Sum
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.shape import Reshape, Shape, Shape_i, SpecifyShape
from pytensor.tensor.subtensor import (
    AdvancedIncSubtensor,
    AdvancedSubtensor,
    IncSubtensor,
    Subtensor,
)
from pytensor.tensor.type import TensorType, integer_dtypes

from pymc_marginal_lmm.structure import Array
from pymc_marginal_lmm.values import NotKnown, Values

__all__ = ["AffineReader", "Linear", "Refusal", "Terms", "describe"]

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


def _sum(parts: Iterable[Linear]) -> Linear:
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


class AffineReader:
    """Reads the linear part of tensors in a set of leaves.

    Parameters
    ----------
    values : Values
        Evaluates indices and data.
    sampled : sequence of Variable
        Random variables that stay sampled: for this reader they are parameters.
    """

    def __init__(self, values: Values, sampled: Sequence[Variable] = ()) -> None:
        self.values = values
        self._sampled = list(sampled)
        self._linear: dict[Variable, Linear] = {}
        self._stand_ins: dict[Variable, Variable] = {}

    def add_leaf(self, leaf: Variable, mean: Variable, shape: tuple[int, ...]) -> None:
        """Declare an effect; its mean may depend on leaves that were declared before."""
        around_mean = self.read(mean, shape)
        identity = np.arange(np.prod(shape, dtype=int)).reshape(*shape, 1)
        own = {leaf: Terms(identity, np.ones(identity.shape))}
        self._stand_ins[leaf] = pt.constant(np.zeros(shape, dtype=leaf.type.dtype))
        self._linear[leaf] = _sum([around_mean, own])

    def read(self, variable: Variable, shape: tuple[int, ...] | None = None) -> Linear:
        """Return the linear part of ``variable``, broadcast to ``shape``.

        Raises
        ------
        Refusal
            The tensor is not affine in the leaves, or a position cannot be determined.
        """
        boundary = [*self._linear, *self._sampled]
        for node in io_toposort(boundary, [variable]):
            if any(out in self._linear for out in node.outputs):
                continue
            if any(self._linear.get(inp) for inp in node.inputs):
                for out, linear in zip(node.outputs, self._apply(node), strict=True):
                    self._linear[out] = linear
        linear = self._linear.get(variable, {})
        if shape is None:
            return linear
        try:
            return {leaf: terms.broadcast(shape) for leaf, terms in linear.items()}
        except ValueError as error:
            raise Refusal(
                linear,
                f"shapes do not fit ({error})",
                "Check that the effect has as many levels as the data it is combined with.",
                variable.owner,
            ) from None

    def _apply(self, node: Apply) -> list[Linear]:
        parts = [self._linear.get(inp, {}) for inp in node.inputs]
        rule = _rule(node)
        if rule is None:
            self.refuse(node, "it goes through an operation that is not linear")
        try:
            results = rule(self, node, parts)
            return [{v: t for v, t in linear.items() if t.positions.size} for linear in results]
        except NotKnown:
            self.refuse(
                node,
                "an index or a shape depends on a sampled variable",
                "Use data or constants as indices.",
            )
        except IndexError as error:
            self.refuse(
                node,
                f"an index is out of range ({error})",
                "Check that the index array counts the levels from 0 and that the effect has as "
                "many levels as the index needs.",
            )
        except ValueError as error:
            self.refuse(
                node,
                f"shapes do not fit ({error})",
                "Check that the effect has as many levels as the data it is combined with.",
            )

    def refuse(self, node: Apply, reason: str, remedy: str | None = None) -> NoReturn:
        """Refuse all effects that enter ``node``."""
        leaves = dict.fromkeys(leaf for inp in node.inputs for leaf in self._linear.get(inp, {}))
        remedy = remedy or (
            "Only sums, products with data or parameters, and indexing of effects can be "
            "integrated out; leave this variable sampled."
        )
        raise Refusal(leaves, reason, remedy, node)

    def shape(self, variable: Variable) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self.values.shape(variable)

    def factor(self, variable: Variable) -> Array:
        """Return what an effect is multiplied by: numbers if constant, else the variable."""
        value = self.values.constant(variable)
        if value is not None:
            return np.asarray(value)
        # Effects may be there for their shape only (ones_like): any value of theirs serves.
        reached = set(ancestors([variable], blockers=self._sampled))
        stand_ins = {leaf: zero for leaf, zero in self._stand_ins.items() if leaf in reached}
        if not stand_ins:
            return variable
        pinned = {v: v for v in self._sampled if v in reached}
        return graph_replace([variable], {**pinned, **stand_ins}, strict=False)[0]


# --- Rules ------------------------------------------------------------------------------------

Rule = Callable[[AffineReader, Apply, list[Linear]], list[Linear]]


def _select(value_inputs: Callable[[Apply], Sequence[int]]) -> Rule:
    """Make the rule for operations whose result consists of elements of some of their inputs.

    The operation itself is run on element numbers, once: whatever it does with indices, slices
    or axes, the numbers that come out say where each element came from.
    """

    def rule(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
        movable = set(value_inputs(node))
        arguments: list = []
        starts: dict[int, tuple[int, int]] = {}
        count = 0
        for i, inp in enumerate(node.inputs):
            if i not in movable:
                is_number = isinstance(inp.type, TensorType | ps.ScalarType)
                if parts[i] or (is_number and inp.type.dtype not in DISCRETE):
                    reader.refuse(node, "it is used as an index or a shape")
                arguments.append(reader.values.structure(inp) if is_number else inp.data)
                continue
            shape = reader.shape(inp) if isinstance(inp.type, TensorType) else ()
            if parts[i]:
                size = int(np.prod(shape, dtype=int))
                numbers = np.arange(count, count + size, dtype="float64").reshape(shape)
                starts[i] = (count, size)
                count += size
            else:
                numbers = np.full(shape, NOTHING, dtype="float64")
            arguments.append(numbers)
        elements_out = np.asarray(_run(node, arguments))
        selected = elements_out.astype(int)
        if (selected != elements_out).any() or selected.min(initial=0) < NOTHING:
            reader.refuse(node, "it goes through an operation that changes values, not places")
        linears = []
        for i, (start, size) in starts.items():
            mine = (selected >= start) & (selected < start + size)
            elements = np.where(mine, selected - start, NOTHING)
            linears.append({leaf: terms.take(elements) for leaf, terms in parts[i].items()})
        return [_sum(linears)]

    return rule


def _run(node: Apply, arguments: list) -> np.ndarray:
    if isinstance(node.op, MakeVector):
        return np.stack(arguments)
    inputs = [
        pt.tensor(dtype=a.dtype, shape=a.shape)
        if isinstance(a, np.ndarray) and isinstance(inp.type, TensorType)
        else inp
        for a, inp in zip(arguments, node.inputs, strict=True)
    ]
    renumbered = node.op.make_node(*inputs)
    storage: list[list] = [[None] for _ in renumbered.outputs]
    renumbered.op.perform(renumbered, arguments, storage)
    return storage[0][0]


def _add(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    shape = reader.shape(node.outputs[0])
    return [_sum({v: t.broadcast(shape) for v, t in part.items()} for part in parts)]


def _subtract(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    left, right = parts
    return _add(reader, node, [left, _negative(right)])


def _negate(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    return [_negative(parts[0])]


def _negative(linear: Linear) -> Linear:
    return {leaf: Terms(t.positions, -t.coefficients) for leaf, t in linear.items()}


def _refuse_product(reader: AffineReader, node: Apply, parts: list[Linear]) -> NoReturn:
    sizes = [sum(int(t.positions.max(initial=0)) for t in p.values()) for p in parts if p]
    smallest = [p for p in parts if p][int(np.argmin(sizes))]
    raise Refusal(
        smallest,
        "it is multiplied by another effect",
        "Integrate out one of the two and leave the other sampled: name the one you want in "
        "rvs_to_marginalize.",
        node,
    )


def _multiply(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    if sum(map(bool, parts)) > 1:
        _refuse_product(reader, node, parts)
    shape = reader.shape(node.outputs[0])
    (linear,) = (part for part in parts if part)
    for inp, part in zip(node.inputs, parts, strict=True):
        if not part:
            factor = reader.factor(inp)
            linear = {leaf: terms.times(factor, shape) for leaf, terms in linear.items()}
    return [linear]


def _divide(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    numerator, denominator = parts
    if denominator:
        reader.refuse(node, "it divides something")
    shape = reader.shape(node.outputs[0])
    divisor = reader.factor(node.inputs[1])  # its own precision may be less than the effect's
    if isinstance(divisor, Variable):
        inverse = 1.0 / pt.cast(divisor, config.floatX)
    else:
        with np.errstate(divide="ignore"):
            inverse = 1.0 / divisor.astype("float64")
    return [{leaf: terms.times(inverse, shape) for leaf, terms in numerator.items()}]


def _switch(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    condition, *_ = node.inputs
    if parts[0]:
        reader.refuse(node, "it decides a condition")
    shape = reader.shape(node.outputs[0])
    chosen = reader.values.constant(condition)
    holds: Array = pt.neq(condition, 0) if chosen is None else chosen.astype(bool)
    fails: Array = pt.eq(condition, 0) if chosen is None else ~chosen.astype(bool)
    return [
        _sum(
            {leaf: terms.broadcast(shape).where(kept) for leaf, terms in part.items()}
            for part, kept in zip(parts[1:], (holds, fails), strict=True)
        )
    ]


def _second(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    shape = reader.shape(node.outputs[0])
    return [{leaf: terms.broadcast(shape) for leaf, terms in parts[1].items()}]


def _sum_axes(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    ndim = node.inputs[0].type.ndim
    axes = range(ndim) if node.op.axis is None else node.op.axis
    return [{leaf: terms.absorb(list(axes)) for leaf, terms in parts[0].items()}]


def _matmul(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """``out[..., i, j] = Σ_p left[..., i, p] · right[..., p, j]``."""
    if all(parts):
        _refuse_product(reader, node, parts)
    left, right = (reader.shape(inp) for inp in node.inputs)
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    shape = (*batch, left[-2], left[-1], right[-1])
    holds_effects = 0 if parts[0] else 1
    new_axis = (-1, -3)  # where each side lacks an axis of (i, p, j)
    factor = reader.factor(node.inputs[1 - holds_effects])
    factor = (np if isinstance(factor, np.ndarray) else pt).expand_dims(
        factor, new_axis[1 - holds_effects]
    )
    linear = {}
    for leaf, terms in parts[holds_effects].items():
        here = np.arange(np.prod(terms.shape, dtype=int)).reshape(terms.shape)
        spread = np.broadcast_to(np.expand_dims(here, new_axis[holds_effects]), shape)
        linear[leaf] = terms.take(spread).times(factor, shape).absorb([len(shape) - 2])
    return [linear]


def _inline(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    return [reader.read(out) for out in node.op.fgraph.bind(list(node.inputs))]


def _shape(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """Note the shape of an effect, which does not depend on its value."""
    shape = np.array(reader.shape(node.inputs[0]), dtype="int64")
    value = shape[node.op.i] if isinstance(node.op, Shape_i) else shape
    reader.values.learn(node.outputs[0], np.asarray(value))
    return [{}]


def _pass_through(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    return [parts[0]]


def _cast(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    if node.outputs[0].type.dtype in DISCRETE:
        reader.refuse(node, "it is rounded to an integer")
    return [parts[0]]


def _first(node: Apply) -> Sequence[int]:
    return [0]


def _all(node: Apply) -> Sequence[int]:
    return range(len(node.inputs))


_BY_OP: list[tuple[tuple[type, ...], Rule]] = [
    (
        (
            Subtensor,
            AdvancedSubtensor,
            DimShuffle,
            Reshape,
            Alloc,
            pt.basic.ExtractDiag,
            pt.extra_ops.Repeat,
        ),
        _select(_first),
    ),
    ((Join, MakeVector), _select(_all)),
    ((Shape, Shape_i), _shape),
    ((SpecifyShape, TensorFromScalar, ScalarFromTensor, ModelVar), _pass_through),
    ((Sum,), _sum_axes),
    ((Dot,), _matmul),
    ((OpFromGraph,), _inline),
]

_BY_SCALAR_OP: list[tuple[tuple[type, ...], Rule]] = [
    ((ps.Add,), _add),
    ((ps.Sub,), _subtract),
    ((ps.Mul,), _multiply),
    ((ps.TrueDiv,), _divide),
    ((ps.Neg,), _negate),
    ((ps.Identity, ps.Cast), _cast),
    ((ps.Switch,), _switch),
    ((ps.Second,), _second),
]


def _write(reader: AffineReader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """``set_subtensor`` moves elements; ``inc_subtensor`` adds what it would set into zeros."""
    if node.op.set_instead_of_inc:
        return _SET(reader, node, parts)
    x, y, *index = node.inputs
    if not parts[1]:
        return [parts[0]]
    if isinstance(node.op, AdvancedIncSubtensor) and _repeats(reader, node):
        reader.refuse(node, "inc_subtensor adds it to the same element several times")
    props = {name: getattr(node.op, name) for name in node.op.__props__}
    setter = type(node.op)(**(props | {"set_instead_of_inc": True, "inplace": False}))
    zeros = pt.zeros(reader.shape(x), dtype=x.type.dtype)
    added = _SET(reader, setter.make_node(zeros, y, *index), [{}, *parts[1:]])
    return [_sum([parts[0], *added])]


_SET = _select(lambda node: [0, 1])


def _repeats(reader: AffineReader, node: Apply) -> bool:
    """Whether an index array hits an element twice (setting would then lose one of the two)."""
    x, _, *index = node.inputs
    shape = reader.shape(x)
    elements = np.arange(np.prod(shape, dtype=int), dtype="float64").reshape(shape)
    reading = AdvancedSubtensor(node.op.idx_list).make_node(x, *index)
    hit = _run(reading, [elements, *(reader.values.structure(i) for i in index)])
    return np.unique(hit).size < hit.size


_BY_OP.append(((IncSubtensor, AdvancedIncSubtensor), _write))


def _rule(node: Apply) -> Rule | None:
    op = node.op
    if isinstance(op, RandomVariable):
        return None
    if isinstance(op, Blockwise):
        return _matmul if isinstance(op.core_op, Dot) else None
    subject, table = (op.scalar_op, _BY_SCALAR_OP) if isinstance(op, Elemwise) else (op, _BY_OP)
    return next((rule for types, rule in table if isinstance(subject, types)), None)
