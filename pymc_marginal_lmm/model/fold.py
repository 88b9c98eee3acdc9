"""Fold the scales of integrated effects: sample a signed value, with ``τ`` its size.

With its effects integrated out, a scale ``τ`` enters the density through ``F = I + ΛᵀAΛ`` only,
which is smooth and even in ``τ``: 0 is no boundary and no funnel any more. On PyMC's logarithmic
value scale it is still infinitely far away, and a prior that is highest at 0 leaves a long flat
tail there, in which samplers lose their way. On the value scales of
:mod:`~pymc_marginal_lmm.model.folded` they pass through 0.

A vector of scales that multiplies the factor of a correlation matrix stays on PyMC's scale: the
density is smooth in signed scales only if the correlations change their signs with them, and those
are another variable. With a kink, samplers do worse on some data and hardly better on others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import add

import numpy as np
import pytensor.scalar as ps
from pymc.distributions.multivariate import _LKJCholeskyCovRV
from pymc.distributions.transforms import _default_transform
from pymc.logprob.transforms import Transform
from pymc.model.fgraph import ModelDeterministic, ModelFreeRV, ModelVar, model_free_rv
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.fg import FunctionGraph, Output
from pytensor.graph.traversal import ancestors
from pytensor.tensor.elemwise import DimShuffle, Elemwise
from pytensor.tensor.math import Dot
from pytensor.tensor.shape import SpecifyShape

from pymc_marginal_lmm.analysis.priors import integrates_to_one
from pymc_marginal_lmm.analysis.selection import value_inputs
from pymc_marginal_lmm.model.folded import (
    PRIORS,
    Fold,
    FoldedCholesky,
    FoldedLKJCholeskyCovRV,
    FoldedScale,
)
from pymc_marginal_lmm.model.marginal_rv import MarginalRV, inline
from pymc_marginal_lmm.model.resolution import resolution
from pymc_marginal_lmm.model.restore import observed_responses

__all__ = ["fold_scales", "unfold_scales"]

WRITTEN_OUT = 5
"""Largest Cholesky factor whose product with itself is written out."""


def fold_scales(fgraph: FunctionGraph) -> list[str]:
    """Fold the scales of a marginal model's graph that enter through ``Λ`` only, in place.

    Returns
    -------
    list of str
        Their names.
    """
    folded = []
    for node in list(fgraph.toposort()):
        if not isinstance(node.op, ModelFreeRV):
            continue
        variable, rv = node.outputs[0], node.inputs[0]
        transform = _transform_for(fgraph, variable)
        # A transform of the user's own may stand for more: an order, a bound.
        if transform is None or not integrates_to_one(rv, node.op.transform):
            continue
        if node.op.transform is None or not _only_scales(fgraph, variable):
            continue
        new = _transform(fgraph, node, transform)
        if isinstance(transform, FoldedCholesky):
            _write_out_products(fgraph, new, transform.n)
        folded.append(node.op.name)
    return folded


def unfold_scales(fgraph: FunctionGraph) -> None:
    """Give folded scales back the transforms that PyMC gives them, in place."""
    for node in list(fgraph.toposort()):
        if isinstance(node.op, ModelFreeRV):
            rv = node.inputs[0]
            if isinstance(node.op.transform, FoldedScale | FoldedCholesky):
                _transform(fgraph, node, _default_transform(rv.owner.op, rv))


def _transform(fgraph: FunctionGraph, node: Apply, transform: Transform) -> Variable:
    rv = node.inputs[0]
    if isinstance(rv.owner.op, _LKJCholeskyCovRV):
        if isinstance(transform, FoldedCholesky):
            rv = _as(FoldedLKJCholeskyCovRV, rv)
            rv.owner.op.fold = transform.fold
        else:
            rv = _as(_LKJCholeskyCovRV, rv)
    value = transform.forward(rv, *rv.owner.inputs).type()
    value.name = f"{node.op.name}_{transform.name}__"
    new = model_free_rv(rv, value, transform, node.op.name, *node.op.dims)
    fgraph.replace(node.outputs[0], new, import_missing=True)
    return new


def _write_out_products(fgraph: FunctionGraph, packed: Variable, n: int) -> None:
    """Write ``L Lᵀ`` of a small factor, from which PyMC has correlations, as ``n`` outer products.

    The general matrix product takes numba longer to compile than all else in a small model.
    """
    if n > WRITTEN_OUT:
        return
    for node in fgraph.toposort():
        if not isinstance(node.op, Dot) or packed not in ancestors([node.inputs[0]]):
            continue
        left, right = node.inputs
        if _is_transpose(right, left):
            outer = (left[:, k, None] * left[None, :, k] for k in range(n))
            fgraph.replace(node.outputs[0], reduce(add, outer), import_missing=True)


def _is_transpose(variable: Variable, of: Variable) -> bool:
    node = variable.owner
    moved = node is not None and isinstance(node.op, DimShuffle) and node.op.is_matrix_transpose
    return moved and node.inputs[0] is of


def _as(op_type: type[_LKJCholeskyCovRV], rv: Variable) -> Variable:
    """Return the same variable from an Op of another type."""
    node = rv.owner
    inner = [v.type() for v in node.inputs]
    new = op_type(inner, inline(node.op, inner)).make_node(*node.inputs)
    return new.outputs[node.outputs.index(rv)]


def _transform_for(fgraph: FunctionGraph, variable: Variable) -> Transform | None:
    rv = variable.owner.inputs[0]
    if isinstance(rv.owner.op, PRIORS):
        return FoldedScale(Fold(type(rv.owner.op), _resolution(fgraph, variable)))
    if isinstance(rv.owner.op, _LKJCholeskyCovRV) and rv.type.ndim == 1:
        n, _, sd_dist = rv.owner.op.dist_params(rv.owner)
        if isinstance(n, Constant) and isinstance(sd_dist.owner.op, PRIORS):
            size = int(n.data)
            fold = Fold(type(sd_dist.owner.op), _resolution(fgraph, variable, size))
            return FoldedCholesky(size, fold)
    return None


def _resolution(fgraph: FunctionGraph, variable: Variable, width: int = 1) -> np.ndarray | None:
    """Return ``s`` from the data of the effects that a variable scales, the smallest."""
    found = []
    for node in (client for client, _ in fgraph.clients[variable] if _is_marginal(client)):
        reached = {(field, i) for _, i, field, _ in _slots_of(node, variable)}
        effects = {i for field, i in reached if field == "scale"}
        factors = {i for field, i in reached if field == "loadings.entries"}
        ys = [response.owner.inputs[1] for response in observed_responses(fgraph, node)]
        found.append(resolution(node.op.structure, ys, effects, factors, width))
    known = [s for s in found if s is not None]
    if not known:
        return None
    smallest = np.min(known, axis=0)
    return smallest if width > 1 else smallest[0]


def _only_scales(fgraph: FunctionGraph, variable: Variable) -> bool:
    """Whether the density depends on a variable through scales of integrated effects only."""
    marginal = [client for client, _ in fgraph.clients[variable] if _is_marginal(client)]
    below = [v for client, _ in fgraph.clients[variable] for v in _below(fgraph, client)]
    return (
        bool(marginal)
        and all(
            isinstance(node.op, ModelDeterministic) or not isinstance(node.op, ModelVar)
            for node in below
        )
        and all(_enters_scales(node, variable) for node in marginal)
    )


def _is_marginal(client: Apply) -> bool:
    return isinstance(client.op, MarginalRV)


def _below(fgraph: FunctionGraph, client: Apply) -> Iterator[Apply]:
    """Yield the nodes below a client, up to marginal variables, which are looked at apart."""
    if isinstance(client.op, MarginalRV | Output):
        return
    yield client
    for out in client.outputs:
        for further, _ in fgraph.clients[out]:
            yield from _below(fgraph, further)


def _inner(node: Apply, variable: Variable) -> list[Variable]:
    places = [i for i, inp in enumerate(node.inputs) if inp is variable]
    return [node.op.inner_inputs[i] for i in places]


def _slots_of(node: Apply, variable: Variable) -> Iterator[tuple[str, int, str, Variable]]:
    """Yield where a variable enters a marginal density: part, number, field, expression."""
    op, inner = node.op, set(_inner(node, variable))
    symbols = op.split(op.inner_outputs)["symbols"]
    for slot, symbol in zip(op.structure.slots(), symbols, strict=True):
        if inner & set(ancestors([symbol])):
            yield *slot, symbol


def _enters_scales(node: Apply, variable: Variable) -> bool:
    op, inner = node.op, _inner(node, variable)
    is_vector = variable.type.ndim > 0
    is_factor = isinstance(variable.owner.inputs[0].owner.op, _LKJCholeskyCovRV)
    for part, i, field, symbol in _slots_of(node, variable):
        if field == "valid":  # what it asks of a scale its prior asks too
            continue
        if _is_even(symbol, inner):
            continue
        if part == "effects" and field == "scale":
            even = is_factor or not (op.structure.effects[i].correlated and is_vector)
        elif field == "loadings.entries":
            loadings = op.structure.factors[i].loadings
            if op.structure.factors[i].coupled:  # levels would have to change signs together
                return False
            even = is_factor or (loadings.rows == loadings.columns).all()
        else:
            return False
        if not even or not (is_factor or _is_multiple(symbol, inner)):
            return False
    return True


def _is_even(expression: Variable, variables: Sequence[Variable]) -> bool:
    """Whether an expression holds variables in ``|τ|`` only, as a prior writes them."""
    sizes = [
        node.outputs[0]
        for v in ancestors([expression])
        if (node := v.owner) and isinstance(node.op, Elemwise)
        if isinstance(node.op.scalar_op, ps.Abs) and _is_multiple(node.inputs[0], variables)
    ]
    return not {*variables} & {*ancestors([expression], blockers=sizes)}


def _is_multiple(expression: Variable, variables: Sequence[Variable]) -> bool:
    """Whether an expression consists of elements of variables, times something else."""
    reached = {*ancestors([expression])} & {*variables}
    if expression in variables or not reached:
        return True
    node = expression.owner
    if isinstance(node.op, Elemwise):
        match node.op.scalar_op:
            case ps.Mul():
                holding = [v for v in node.inputs if {*ancestors([v])} & {*variables}]
                return len(holding) == 1 and _is_multiple(holding[0], variables)
            case ps.Cast() | ps.Identity():
                return _is_multiple(node.inputs[0], variables)
            case ps.Second():
                return _is_multiple(node.inputs[1], variables)
        return False
    if isinstance(node.op, SpecifyShape) or value_inputs(node) is not None:
        return all(_is_multiple(v, variables) for v in node.inputs)
    return False
