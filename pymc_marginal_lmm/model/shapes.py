"""Take out of a model's graph what looks like a dependence on a variable, and is none.

``zeros_like(u)``, ``u.shape[0]``, ``shape=u.shape`` and ``0 * u`` depend on ``u`` in the graph, but
not on its value. An effect that is integrated out would stay in the model behind them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pymc.model.fgraph import (
    ModelDeterministic,
    ModelObservedRV,
    ModelPotential,
    ModelValuedVar,
    ModelVar,
)
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.traversal import ancestors, io_toposort
from pytensor.tensor.basic import Alloc
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.rewriting.shape import ShapeFeature
from pytensor.tensor.shape import Shape, Shape_i, SpecifyShape
from pytensor.tensor.type import TensorType

from pymc_marginal_lmm.analysis.likelihoods import is_likelihood

__all__ = ["cut_shapes"]


def cut_shapes(fgraph: FunctionGraph) -> None:
    """Make everything in a model's graph depend on random variables by their values only.

    Parameters
    ----------
    fgraph : FunctionGraph
        Changed in place: shapes become lengths of data or numbers, tensors without elements and
        parameters of variables without elements become constants. So do products with zero,
        except in the means of likelihoods that effects may be integrated out of: there they are
        an effect that data say nothing about.
    """
    random: set[Variable] = set()
    zeros: dict[Variable, Variable] = {}
    for node in fgraph.toposort():
        if isinstance(node.op, ModelValuedVar):
            _cut_empty(fgraph, node, random)
            random.update(node.outputs)
        elif not random.isdisjoint(node.inputs) and node in fgraph.apply_nodes:
            random.update(node.outputs)
            new = _by_shape(node)
            if new is not None:
                old = node.outputs[0]
                if random.isdisjoint(ancestors([new])):
                    random.remove(old)
                fgraph.replace(old, old.type.filter_variable(new), import_missing=True)
            elif (zero := _product_with_zero(node)) is not None:
                zeros[node.outputs[0]] = zero
    if zeros:
        _cut_zeros(fgraph, zeros)


def _by_shape(node: Apply) -> Variable | None:
    """Return what a node is without its inputs' values, or None if it needs them."""
    out, *others = node.outputs
    if others or isinstance(node.op, ModelVar) or not isinstance(out.type, TensorType):
        return None
    if isinstance(node.op, Shape | Shape_i):
        lengths = _lengths(node.inputs[0])
        if lengths is None or isinstance(node.op, Shape):
            return None if lengths is None else _stack(lengths)
        return lengths[node.op.i]
    if 0 in out.type.shape and None not in out.type.shape:
        return pt.constant(np.zeros(out.type.shape, dtype=out.type.dtype))
    if isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, ps.Second):
        lengths = _lengths(out)
        return None if lengths is None else _filled(node.inputs[1], lengths)
    return None


def _lengths(variable: Variable) -> list[Variable] | None:
    """Return the shape of a tensor as expressions of data, or None if it depends on draws."""
    if None not in variable.type.shape:
        return [pt.constant(np.int64(length)) for length in variable.type.shape]
    graph = FunctionGraph(outputs=[variable], clone=False, features=[ShapeFeature()])
    lengths = [pt.cast(v, "int64") for v in graph.shape_feature.shape_tuple(variable)]
    if any(_is_drawn(source) for source in ancestors(lengths)):
        return None
    return lengths


def _is_drawn(source: Variable) -> bool:
    is_input = source.owner is None and not isinstance(source, Constant | SharedVariable)
    return is_input or isinstance(source.type, RandomType)


def _stack(lengths: Sequence[Variable]) -> Variable:
    if all(isinstance(length, Constant) for length in lengths):
        return pt.constant(np.array([length.data for length in lengths], dtype="int64"))
    return pt.stack(lengths)


def _filled(value: Variable, lengths: Sequence[Variable]) -> Variable:
    if all(isinstance(length, Constant) for length in lengths):
        shape = tuple(int(length.data) for length in lengths)
        if value.type.shape == shape:
            return value
        if isinstance(value, Constant):
            return pt.constant(np.broadcast_to(value.data, shape))
    return pt.alloc(value, *lengths)


def _cut_empty(fgraph: FunctionGraph, node: Apply, random: set[Variable]) -> None:
    """Let a variable without elements depend on nothing that is random, in place."""
    rv, draw = node.inputs[0], node.inputs[0].owner
    if None not in rv.type.shape and 0 not in rv.type.shape:
        return
    if not isinstance(draw.op, RandomVariable) or draw.op.ndim_supp or any(draw.op.ndims_params):
        return
    if not any(isinstance(v, Constant) and v.data == 0 for v in _lengths(rv) or []):
        return
    for place, parameter in enumerate(draw.inputs):
        if parameter in random and (lengths := _lengths(parameter)) is not None:
            one = pt.constant(np.ones((1,) * len(lengths), dtype=parameter.type.dtype))
            new = parameter.type.filter_variable(_filled(one, lengths))
            fgraph.change_node_input(draw, place, new, import_missing=True)


def _product_with_zero(node: Apply) -> Variable | None:
    """Return the zeros that a product is whatever its random factor is."""
    is_product = isinstance(node.op, Dot) or (
        isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, ps.Mul)
    )
    if not is_product or not any(map(_is_zero, node.inputs)):
        return None
    lengths = _lengths(node.outputs[0])
    zero = pt.constant(np.zeros((1,) * node.outputs[0].type.ndim, node.outputs[0].type.dtype))
    return None if lengths is None else _filled(zero, lengths)


def _is_zero(variable: Variable) -> bool:
    if isinstance(variable, Constant):
        return not np.any(variable.data)
    node = variable.owner
    moves = node is not None and (
        isinstance(node.op, DimShuffle | Alloc | SpecifyShape)
        or (isinstance(node.op, Elemwise) and isinstance(node.op.scalar_op, ps.Cast))
    )
    return moves and _is_zero(node.inputs[0])


def _cut_zeros(fgraph: FunctionGraph, zeros: dict[Variable, Variable]) -> None:
    """Put zeros for products with zero, in place, off the means of Gaussian likelihoods."""
    nodes = fgraph.toposort()
    valued = [node.outputs[0] for node in nodes if isinstance(node.op, ModelValuedVar)]
    for node in nodes:
        if isinstance(node.op, ModelPotential):
            user, kept = node, None
        elif isinstance(node.op, ModelValuedVar):
            user = node.inputs[0].owner
            is_response = isinstance(node.op, ModelObservedRV) and is_likelihood(node.inputs[0])
            kept = user.op.dist_params(user)[0] if is_response else None
        else:
            continue
        for place, inp in enumerate(user.inputs):
            if inp is not kept:
                new = _replaced(inp, zeros, valued)
                fgraph.change_node_input(user, place, new, import_missing=True)


def _replaced(
    expression: Variable, new: Mapping[Variable, Variable], boundary: Sequence[Variable]
) -> Variable:
    """Replace variables in a copy of an expression, which leaves out Deterministics."""
    memo = {old: old.type.filter_variable(by) for old, by in new.items()}
    for node in io_toposort([*boundary, *memo], [expression]):
        if memo.keys().isdisjoint(node.inputs):
            continue
        inputs = [memo.get(v, v) for v in node.inputs]
        if isinstance(node.op, ModelDeterministic):
            memo[node.outputs[0]] = inputs[0]
        else:
            copy = node.clone_with_new_inputs(inputs)
            memo.update(zip(node.outputs, copy.outputs, strict=True))
    return memo.get(expression, expression)
