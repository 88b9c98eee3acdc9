"""Responses whose data can be exchanged."""

from __future__ import annotations

from pymc.model.core import Model
from pymc.model.fgraph import ModelObservedRV, model_named
from pytensor import shared
from pytensor.graph.basic import Constant

from pymc_marginal_lmm.model.roundtrip import graph_of, model_of

__all__ = ["data_name", "with_live_responses"]


def data_name(response: str) -> str:
    """Return the name of the ``pm.Data`` that hold a response's observations."""
    return f"{response}_observed__"


def with_live_responses(model: Model) -> Model:
    """Return a copy of a model whose observations are ``pm.Data``, where they were constants."""
    fgraph, _ = graph_of(model)
    for node in fgraph.toposort():
        if isinstance(node.op, ModelObservedRV) and isinstance(node.inputs[1], Constant):
            old = node.inputs[1]
            name = data_name(node.op.name)
            data = shared(old.data, name=name, shape=old.data.shape)
            named = model_named(data, name)
            fgraph.change_node_input(node, 1, named, import_missing=True)
            fgraph.add_output(named, import_missing=True)
    return model_of(fgraph, model)
