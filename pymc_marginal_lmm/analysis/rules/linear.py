"""The rules for linear operations that are neither selections, sums nor products.

Of most of them nothing needs to be known but that they are linear: what they do is found by doing
it to unit vectors.
"""

from __future__ import annotations

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply
from pytensor.graph.replace import graph_replace, vectorize_graph
from pytensor.tensor.basic import Split
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.extra_ops import CumOp, FillDiagonal
from pytensor.tensor.linalg.constructors import BlockDiagonal
from pytensor.tensor.linalg.solvers.core import SolveBase
from pytensor.tensor.signal.conv import Convolve1d, Convolve2d

from pymc_marginal_lmm.analysis.reader import Reader
from pymc_marginal_lmm.analysis.rules.registry import all_inputs, any_input, rule
from pymc_marginal_lmm.analysis.terms import (
    NOTHING,
    ONE,
    Linear,
    Multiplier,
    TooManyTerms,
    refuse_product,
    sum_linear,
)

__all__ = ["by_unit_vectors"]

LARGEST = 10_000_000
"""Most terms that a rule makes, for one leaf."""


def _check_size(n_terms: int) -> None:
    if n_terms > LARGEST:
        raise TooManyTerms(n_terms)


@rule(CumOp, batched=True)
def cumulative_sum(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """``out[…, i, …] = Σ_{j ≤ i} in[…, j, …]``."""
    if node.op.mode != "add":
        reader.refuse(node, "it goes through an operation that is not linear")
    shape = reader.shape(node.inputs[0])
    axis = node.op.axis
    n = shape[axis]
    here = np.moveaxis(np.arange(np.prod(shape, dtype=int)).reshape(shape), axis, -1)
    earlier = np.tril(np.ones((n, n), dtype=bool))
    linear = {}
    for leaf, terms in parts[0].items():
        _check_size(here.size * n * terms.positions.shape[-1])
        elements = np.where(earlier, here[..., None, :], NOTHING)
        summed = terms.take(elements).absorb([elements.ndim - 1])
        back = np.moveaxis(np.arange(here.size).reshape(here.shape), -1, axis)
        linear[leaf] = summed.take(back)
    return [linear]


@rule(Split, batched=True)
def split(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """Take the pieces of a tensor, one output each."""
    tensor, lengths = node.inputs
    if parts[1]:
        reader.refuse(node, "it is used as an index or a shape")
    shape = reader.shape(tensor)
    places = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    ends = np.cumsum(reader.values.structure(lengths))[:-1]
    pieces = np.split(places, ends, axis=node.op.axis)
    return [{leaf: terms.take(piece) for leaf, terms in parts[0].items()} for piece in pieces]


@rule(SolveBase, batched=True, zero=lambda node: node.inputs[1:])
def solve(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """``A⁻¹ b`` as a product with what solves for the columns of the identity."""
    if parts[0]:
        reader.refuse(node, "it is in the matrix of a system of equations")
    A, b = node.inputs
    op = node.op.core_op if isinstance(node.op, Blockwise) else node.op
    props = {name: getattr(op, name) for name in op.__props__} | {"b_ndim": 2}
    props |= {name: False for name in props if name.startswith("overwrite")}
    identity = np.eye(reader.shape(A)[-1], dtype=A.type.dtype)
    inverse = Blockwise(type(op)(**props))(A, identity)
    product = inverse @ b if op.b_ndim == 2 else (inverse @ b[..., None])[..., 0]
    return [reader.read(product)]


@rule(BlockDiagonal, FillDiagonal, batched=True, zero=all_inputs)
def by_unit_vectors(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """Operations that are linear in all of their inputs that are real, jointly."""
    return [
        sum_linear(_mapped(reader, node, parts, i, out) for i, part in enumerate(parts) if part)
        for out in range(len(node.outputs))
    ]


@rule(Convolve1d, Convolve2d, batched=True, zero=any_input)
def convolve(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """Operations that are linear in each of their inputs, as a product is."""
    if sum(map(bool, parts)) > 1:
        refuse_product(node, parts)
    return by_unit_vectors(reader, node, parts)


def _mapped(reader: Reader, node: Apply, parts: list[Linear], i: int, out: int) -> Linear:
    """Return what one output makes of the linear part of input ``i``."""
    inputs = [
        pt.zeros(reader.shape(inp), dtype=inp.type.dtype) if part else inp
        for inp, part in zip(node.inputs, parts, strict=True)
    ]
    shape, shape_out = reader.shape(node.inputs[i]), reader.shape(node.outputs[out])
    size, size_out = (int(np.prod(s, dtype=int)) for s in (shape, shape_out))
    _check_size(size * size_out)
    zero = inputs[i]
    # What the operation adds to that (the value on a diagonal) is no part of the linear part.
    argument = zero.type()
    result = node.op.make_node(*inputs[:i], argument, *inputs[i + 1 :]).outputs[out]
    units = np.eye(size, dtype=argument.type.dtype).reshape(size, *shape)
    columns = vectorize_graph(result, {argument: pt.constant(units)})
    columns = columns - graph_replace([result], {argument: zero})[0]

    multiplier = reader.multipliers.read(pt.reshape(columns, (size, size_out)).T)
    multiplier = multiplier.broadcast((size_out, size))
    used = multiplier.numbers != 0
    width = used.sum(axis=1).max(initial=0)
    elements = np.argsort(~used, axis=1, kind="stable")[:, :width]
    used, numbers, places = (
        np.take_along_axis(a, elements, axis=1)
        for a in (used, multiplier.numbers, multiplier.places)
    )
    elements = np.where(used, elements, NOTHING)
    multiplier = Multiplier(np.where(used, numbers, 0.0), np.where(used, places, ONE))
    in_order = np.arange(size_out).reshape(shape_out)
    return {
        leaf: reader.times(terms.take(elements), multiplier, elements.shape)
        .absorb([1])
        .take(in_order)
        for leaf, terms in parts[i].items()
    }
