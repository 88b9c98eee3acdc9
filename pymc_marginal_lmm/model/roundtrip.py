"""From a model to its graph and back: what PyMC's conversions leave out, or mix up.

They refuse initial values and forget the order of variables. And where a Deterministic is nothing
but another Deterministic, or data, both come back as one variable, which has one of the names:
here it becomes a copy, which every conversion to come takes for a variable of its own.
"""

from __future__ import annotations

from pymc.model.core import Model
from pymc.model.fgraph import (
    ModelDeterministic,
    ModelNamed,
    fgraph_from_model,
    model_from_fgraph,
)
from pytensor.compile.ops import ViewOp
from pytensor.graph.basic import Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.tensor.basic import tensor_copy
from pytensor.xtensor.basic import tensor_from_xtensor, xtensor_from_tensor
from pytensor.xtensor.type import XTensorType

from pymc_marginal_lmm.model.initial_values import keep_initial_values, without_initial_values
from pymc_marginal_lmm.model.order import keep_order, order_of

__all__ = ["graph_of", "model_of", "without_aliases"]


def graph_of(model: Model) -> tuple[FunctionGraph, dict[Variable, Variable]]:
    """Return a copy of a model's graph, and which variable of it is which of the model's."""
    with without_initial_values(model):
        fgraph, memo = fgraph_from_model(model)
    nodes = [out.owner for out in fgraph.outputs]
    named = {node.inputs[0] for node in nodes if isinstance(node.op, ModelNamed)}
    for node in nodes:
        if not isinstance(node.op, ModelDeterministic):
            continue
        (variable,) = node.inputs
        if variable in named or (variable.owner and isinstance(variable.owner.op, ModelNamed)):
            fgraph.change_node_input(node, 0, _copy(variable), import_missing=True)
        named.add(variable)
    return fgraph, memo


def model_of(fgraph: FunctionGraph, old: Model) -> Model:
    """Make a model of a graph, with the order and the initial values of another one.

    Parameters
    ----------
    fgraph : FunctionGraph
        Not to be used afterwards.
    old : Model
    """
    new = model_from_fgraph(fgraph, mutate_fgraph=True)
    keep_initial_values(old, new)
    keep_order(new, order_of(old))
    return new


def without_aliases(model: Model) -> Model:
    """Return a model that survives PyMC's conversions: itself, if no Deterministic is an alias."""
    named = {*model.deterministics, *model.data_vars}
    views = (v.owner for v in model.deterministics if v.owner and isinstance(v.owner.op, ViewOp))
    if named.isdisjoint(node.inputs[0] for node in views):
        return model
    return model_of(graph_of(model)[0], model)


def _copy(variable: Variable) -> Variable:
    if isinstance(variable.type, XTensorType):
        copied = tensor_copy(tensor_from_xtensor(variable))
        return xtensor_from_tensor(copied, variable.type.dims)
    return tensor_copy(variable)
