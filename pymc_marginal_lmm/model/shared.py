"""Shared variables that the user made without ``pm.Data``."""

from __future__ import annotations

from pymc.model.fgraph import ModelNamed
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.fg import FunctionGraph
from pytensor.tensor.random.type import RandomType

__all__ = ["freeze_unnamed_data"]


def freeze_unnamed_data(fgraph: FunctionGraph) -> None:
    """Make constants of shared variables that are not ``pm.Data``, in a model's graph, in place.

    Effects may be indexed by them, and a marginal model whose structure was read from them must
    not change with them. Nobody can tell it from outside: ``pm.set_data`` does not know them.
    """
    registered = {node.inputs[0] for node in fgraph.apply_nodes if isinstance(node.op, ModelNamed)}
    for variable in list(fgraph.inputs):
        if (
            isinstance(variable, SharedVariable)
            and variable not in registered
            and not isinstance(variable.type, RandomType)
        ):
            constant = variable.type.constant_type(variable.type, variable.get_value())
            fgraph.replace(variable, constant, import_missing=True, reason="freeze")
