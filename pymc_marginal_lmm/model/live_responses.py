"""Responses whose data can be exchanged."""

from __future__ import annotations

from pymc.model.core import Model
from pymc.model.fgraph import ModelObservedRV, fgraph_from_model, model_from_fgraph, model_named
from pytensor import shared
from pytensor.graph.basic import Constant

from pymc_marginal_lmm.model.initial_values import keep_initial_values, without_initial_values
from pymc_marginal_lmm.model.order import keep_order, order_of

__all__ = ["data_name", "with_live_responses"]


def data_name(response: str) -> str:
    """Return the name of the ``pm.Data`` that hold a response's observations."""
    return f"{response}_observed__"


def with_live_responses(model: Model) -> Model:
    """Return a copy of a model whose observations are ``pm.Data``, where they were constants."""
    with without_initial_values(model):
        fgraph, _ = fgraph_from_model(model)
    for node in fgraph.toposort():
        if isinstance(node.op, ModelObservedRV) and isinstance(node.inputs[1], Constant):
            old = node.inputs[1]
            name = data_name(node.op.name)
            data = shared(old.data, name=name, shape=old.data.shape)
            named = model_named(data, name)
            fgraph.change_node_input(node, 1, named, import_missing=True)
            fgraph.add_output(named, import_missing=True)
    new = model_from_fgraph(fgraph, mutate_fgraph=True)
    keep_initial_values(model, new)
    keep_order(new, order_of(model))
    return new
