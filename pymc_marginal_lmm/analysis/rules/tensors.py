"""The rules for operations that select, move, write, add up or multiply elements of tensors."""

from __future__ import annotations

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pymc.model.fgraph import ModelVar
from pytensor.compile.builders import OpFromGraph
from pytensor.graph.basic import Apply, Variable
from pytensor.tensor.basic import ScalarFromTensor, TensorFromScalar
from pytensor.tensor.math import Dot, Sum
from pytensor.tensor.shape import Shape, Shape_i, SpecifyShape
from pytensor.tensor.subtensor import AdvancedIncSubtensor, AdvancedSubtensor
from pytensor.tensor.type import TensorType

from pymc_marginal_lmm.analysis.reader import Reader
from pymc_marginal_lmm.analysis.rules.registry import all_inputs, any_input, rule
from pymc_marginal_lmm.analysis.selection import (
    OF_ALL,
    OF_FIRST,
    WRITES,
    NotASelection,
    run,
    selected_elements,
)
from pymc_marginal_lmm.analysis.terms import NOTHING, Linear, refuse_product, sum_linear

__all__: list[str] = []


@rule(*OF_ALL, zero=all_inputs)
@rule(*OF_FIRST, batched=True)
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


@rule(Sum)
def _sum_axes(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    ndim = node.inputs[0].type.ndim
    axes = range(ndim) if node.op.axis is None else node.op.axis
    return [{leaf: terms.absorb(list(axes)) for leaf, terms in parts[0].items()}]


@rule(Dot, batched=True, zero=any_input)
def _matmul(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """``out[..., i, j] = Σ_p left[..., i, p] · right[..., p, j]``."""
    if all(parts):
        refuse_product(node, parts)
    left, right = (reader.shape(inp) for inp in node.inputs)
    batch = np.broadcast_shapes(left[:-2], right[:-2])
    shape = (*batch, left[-2], left[-1], right[-1])
    holds_effects = 0 if parts[0] else 1
    new_axis = (-1, -3)  # where each side lacks an axis of (i, p, j)
    multiplier = reader.multipliers.read(node.inputs[1 - holds_effects]).expand(
        new_axis[1 - holds_effects]
    )
    linear = {}
    for leaf, terms in parts[holds_effects].items():
        here = np.arange(np.prod(terms.shape, dtype=int)).reshape(terms.shape)
        spread = np.broadcast_to(np.expand_dims(here, new_axis[holds_effects]), shape)
        linear[leaf] = reader.times(terms.take(spread), multiplier, shape).absorb([len(shape) - 2])
    return [linear]


@rule(OpFromGraph)
def _inline(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    return [reader.read(out) for out in node.op.fgraph.bind(list(node.inputs))]


@rule(Shape, Shape_i)
def _shape(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """Note the shape of an effect, which does not depend on its value."""
    shape = np.array(reader.shape(node.inputs[0]), dtype="int64")
    value = shape[node.op.i] if isinstance(node.op, Shape_i) else shape
    reader.values.learn(node.outputs[0], np.asarray(value))
    return [{}]


@rule(SpecifyShape, TensorFromScalar, ScalarFromTensor, ModelVar)
def _pass_through(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    return [parts[0]]


@rule(*WRITES, zero=lambda node: node.inputs[:2])
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
