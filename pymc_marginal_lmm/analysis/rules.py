"""The rules: what each operation makes of the linear parts of its inputs.

A rule takes the reader, the node and the linear part of each input, and returns that of each
output. To teach the reader an operation, write its rule and enter it in one of the two tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pymc.model.fgraph import ModelVar
from pytensor.compile.builders import OpFromGraph
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.basic import Join, MakeVector, ScalarFromTensor, TensorFromScalar
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import CAReduce, Elemwise
from pytensor.tensor.extra_ops import FillDiagonal
from pytensor.tensor.linalg.constructors import BlockDiagonal
from pytensor.tensor.linalg.inverse import MatrixInverse
from pytensor.tensor.linalg.solvers.core import SolveBase
from pytensor.tensor.linalg.summary import Det
from pytensor.tensor.math import Argmax, Dot, Sum
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.shape import Shape, Shape_i, SpecifyShape
from pytensor.tensor.signal.conv import AbstractConvolveNd
from pytensor.tensor.sort import ArgSortOp, SortOp
from pytensor.tensor.subtensor import (
    AdvancedIncSubtensor,
    AdvancedSubtensor,
    IncSubtensor,
)
from pytensor.tensor.type import TensorType

from pymc_marginal_lmm.analysis.linear_rules import LINEAR_RULES
from pymc_marginal_lmm.analysis.reader import Reader
from pymc_marginal_lmm.analysis.selection import (
    OF_ALL,
    OF_FIRST,
    WRITES,
    NotASelection,
    run,
    selected_elements,
)
from pymc_marginal_lmm.analysis.sparse_rules import SPARSE_DOTS, sparse_dot
from pymc_marginal_lmm.analysis.terms import (
    DISCRETE,
    NOTHING,
    Linear,
    Terms,
    refuse_product,
    sum_linear,
)

__all__ = ["is_nonlinear", "rule_for", "summands"]


Rule = Callable[[Reader, Apply, list[Linear]], list[Linear]]


def _select(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """Elements of some inputs: their terms move with them."""
    numbered = [i for i, part in enumerate(parts) if part]
    _note_negative(reader, node, parts)
    try:
        elements = selected_elements(node, numbered, reader.values, reader.shape)
    except NotASelection as refused:
        reader.refuse(node, str(refused))
    linears, start = [], 0
    for i in numbered:
        inp = node.inputs[i]
        shape = reader.shape(inp) if isinstance(inp.type, TensorType) else ()
        size = int(np.prod(shape, dtype=int))
        mine = (elements >= start) & (elements < start + size)
        own = np.where(mine, elements - start, NOTHING)
        linears.append({leaf: terms.take(own) for leaf, terms in parts[i].items()})
        start += size
    return [sum_linear(linears)]


def _note_negative(reader: Reader, node: Apply, parts: list[Linear]) -> None:
    """Note index arrays with negative elements, which is what pandas makes of missing levels."""
    if not isinstance(node.op, AdvancedSubtensor):
        return
    for index in node.inputs[1:]:
        if not isinstance(index.type, TensorType) or not index.type.ndim:
            continue
        codes = reader.values.structure(index)
        count = int((codes < 0).sum()) if codes.dtype.kind == "i" else 0
        if 0 < count < codes.size:  # all from the end: on purpose
            leaves = " and ".join(f"'{leaf.name}'" for leaf in parts[0])
            name = _name(index)
            name = f"The index '{name}' of" if name else "An index array of"
            reader.from_the_end[f"{name} {leaves}"] = count


def _name(index: Variable) -> str | None:
    node = index.owner
    is_cast = node is not None and isinstance(getattr(node.op, "scalar_op", None), ps.Cast)
    return index.name or (_name(node.inputs[0]) if is_cast else None)


def _add(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    shape = reader.shape(node.outputs[0])
    return [sum_linear({v: t.broadcast(shape) for v, t in part.items()} for part in parts)]


def _subtract(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    left, right = parts
    return _add(reader, node, [left, _negative(right)])


def _negate(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    return [_negative(parts[0])]


def _negative(linear: Linear) -> Linear:
    return {leaf: terms.negative() for leaf, terms in linear.items()}


def _multiply(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    if sum(map(bool, parts)) > 1:
        refuse_product(node, parts)
    shape = reader.shape(node.outputs[0])
    (linear,) = (part for part in parts if part)
    for inp, part in zip(node.inputs, parts, strict=True):
        if not part:
            factor = reader.factors.read(inp)
            linear = {leaf: reader.times(terms, factor, shape) for leaf, terms in linear.items()}
    return [linear]


def _divide(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    numerator, denominator = parts
    if denominator:
        reader.refuse(node, "it divides something")
    shape = reader.shape(node.outputs[0])
    inverse = reader.factors.inverse(node.inputs[1])
    return [{leaf: reader.times(terms, inverse, shape) for leaf, terms in numerator.items()}]


def _switch(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    condition, *_ = node.inputs
    if parts[0]:
        reader.refuse(node, "it decides a condition")
    shape = reader.shape(node.outputs[0])
    chosen = reader.values.constant(condition)
    mask: Callable[[Terms, Any], Terms]
    branches: tuple
    if chosen is None:
        mask, branches = reader.parameters.where, (pt.neq(condition, 0), pt.eq(condition, 0))
    else:
        holds = np.broadcast_to(chosen.astype(bool), shape)
        mask, branches = Terms.where, (holds, ~holds)
    return [
        sum_linear(
            {leaf: mask(terms.broadcast(shape), kept) for leaf, terms in part.items()}
            for part, kept in zip(parts[1:], branches, strict=True)
        )
    ]


def _second(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    shape = reader.shape(node.outputs[0])
    return [{leaf: terms.broadcast(shape) for leaf, terms in parts[1].items()}]


def _sum_axes(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    ndim = node.inputs[0].type.ndim
    axes = range(ndim) if node.op.axis is None else node.op.axis
    return [{leaf: terms.absorb(list(axes)) for leaf, terms in parts[0].items()}]


def _matmul(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """``out[..., i, j] = Σ_p left[..., i, p] · right[..., p, j]``."""
    if all(parts):
        refuse_product(node, parts)
    left, right = (reader.shape(inp) for inp in node.inputs)
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    shape = (*batch, left[-2], left[-1], right[-1])
    holds_effects = 0 if parts[0] else 1
    new_axis = (-1, -3)  # where each side lacks an axis of (i, p, j)
    factor = reader.factors.read(node.inputs[1 - holds_effects]).expand(new_axis[1 - holds_effects])
    linear = {}
    for leaf, terms in parts[holds_effects].items():
        here = np.arange(np.prod(terms.shape, dtype=int)).reshape(terms.shape)
        spread = np.broadcast_to(np.expand_dims(here, new_axis[holds_effects]), shape)
        linear[leaf] = reader.times(terms.take(spread), factor, shape).absorb([len(shape) - 2])
    return [linear]


def _inline(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    return [reader.read(out) for out in node.op.fgraph.bind(list(node.inputs))]


def _shape(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """Note the shape of an effect, which does not depend on its value."""
    shape = np.array(reader.shape(node.inputs[0]), dtype="int64")
    value = shape[node.op.i] if isinstance(node.op, Shape_i) else shape
    reader.values.learn(node.outputs[0], np.asarray(value))
    return [{}]


def _pass_through(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    return [parts[0]]


def _cast(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    if node.outputs[0].type.dtype in DISCRETE:
        reader.refuse(node, "it is rounded to an integer")
    return [parts[0]]


def _write(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """``set_subtensor`` moves elements; ``inc_subtensor`` adds what it would set into zeros."""
    if node.op.set_instead_of_inc:
        return _select(reader, node, parts)
    x, y, *index = node.inputs
    if not parts[1]:
        return [parts[0]]
    if isinstance(node.op, AdvancedIncSubtensor):
        return [sum_linear([parts[0], _added(reader, node, parts[1])])]
    props = {name: getattr(node.op, name) for name in node.op.__props__}
    setter = type(node.op)(**(props | {"set_instead_of_inc": True, "inplace": False}))
    zeros = pt.zeros(reader.shape(x), dtype=x.type.dtype)
    added = _select(reader, setter.make_node(zeros, y, *index), [{}, *parts[1:]])
    return [sum_linear([parts[0], *added])]


def _added(reader: Reader, node: Apply, part: Linear) -> Linear:
    """Return what ``inc_subtensor`` adds: an element may be added to several times."""
    x, y, *index = node.inputs
    shape = reader.shape(x)
    size = int(np.prod(shape, dtype=int))
    elements = np.arange(size, dtype="float64").reshape(shape)
    reading = AdvancedSubtensor(node.op.idx_list).make_node(x, *index)
    hit = run(reading, [elements, *(reader.values.structure(i) for i in index)]).astype(int)
    shape_in = reader.shape(y)
    source = np.arange(np.prod(shape_in, dtype=int)).reshape(shape_in)
    source = np.broadcast_to(source, hit.shape).ravel()
    order = np.argsort(hit, axis=None, kind="stable")
    hit, source = hit.ravel()[order], source[order]
    counts = np.bincount(hit, minlength=size)
    nth = np.arange(len(hit)) - (np.cumsum(counts) - counts)[hit]
    taken = np.full((size, counts.max(initial=0)), NOTHING)
    taken[hit, nth] = source
    taken = taken.reshape(*shape, taken.shape[1])
    return {leaf: terms.take(taken).absorb([len(shape)]) for leaf, terms in part.items()}


_BY_OP: list[tuple[tuple[type, ...], Rule]] = [
    ((*OF_FIRST, *OF_ALL), _select),
    ((Shape, Shape_i), _shape),
    ((SpecifyShape, TensorFromScalar, ScalarFromTensor, ModelVar), _pass_through),
    ((Sum,), _sum_axes),
    ((Dot,), _matmul),
    (SPARSE_DOTS, sparse_dot),
    ((OpFromGraph,), _inline),
    (WRITES, _write),
    *LINEAR_RULES,
]

_BY_CORE_OP: list[tuple[tuple[type, ...], Rule]] = [
    (OF_FIRST, _select),
    ((Dot,), _matmul),
    *LINEAR_RULES,
]

_BY_SCALAR_OP: list[tuple[tuple[type, ...], Rule]] = [
    ((ps.Add,), _add),
    ((ps.Sub,), _subtract),
    ((ps.Mul,), _multiply),
    ((ps.TrueDiv,), _divide),
    ((ps.Neg,), _negate),
    ((ps.Identity, ps.Cast, ps.Real), _cast),
    ((ps.Switch,), _switch),
    ((ps.Second,), _second),
]


NONLINEAR = (CAReduce, Argmax, SortOp, ArgSortOp, MatrixInverse, Det)
"""Operations that are known not to be linear, beside elementwise functions."""


def rule_for(node: Apply) -> Rule | None:
    """Return the rule of an operation, or None: it is refused."""
    op = node.op
    if isinstance(op, RandomVariable):
        return None
    subject, table = (op.scalar_op, _BY_SCALAR_OP) if isinstance(op, Elemwise) else (op, _BY_OP)
    if isinstance(op, Blockwise):
        subject, table = op.core_op, _BY_CORE_OP
    return next((rule for types, rule in table if isinstance(subject, types)), None)


def is_nonlinear(node: Apply) -> bool:
    """Whether an operation without a rule is known not to be linear."""
    op = node.op.core_op if isinstance(node.op, Blockwise) else node.op
    if isinstance(op, Elemwise):
        return not isinstance(op.scalar_op, ps.Composite)
    return isinstance(op, NONLINEAR)


def summands(node: Apply) -> list[Variable] | None:
    """Return the inputs that make the output zero if all of them are zero; None: any one does."""
    op = node.op.core_op if isinstance(node.op, Blockwise) else node.op
    if isinstance(op, SPARSE_DOTS):
        return None
    match op.scalar_op if isinstance(op, Elemwise) else op:
        case ps.Mul() | Dot() | AbstractConvolveNd():
            return None
        case ps.Add() | ps.Sub() | Join() | MakeVector() | BlockDiagonal() | FillDiagonal():
            return list(node.inputs)
        case SolveBase():
            return [node.inputs[1]]
        case ps.Switch():
            return list(node.inputs[1:])
        case ps.Second():
            return [node.inputs[1]]
        case IncSubtensor() | AdvancedIncSubtensor():
            return list(node.inputs[:2])
    return [node.inputs[0]]
