"""The data and dims of a marginal model: what can be set, and why the rest cannot.

``pm.set_data`` checks a variable's class, then its dims, then sets coords, and the value last. So
that nothing is half changed when it raises, data that cannot be set are refused by their class,
and new lengths by their dims; only data without dims get as far as their own check.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pymc.model.core import Model
from pymc.model.fgraph import ModelNamed
from pytensor.compile import SharedVariable, view_op
from pytensor.graph.basic import Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.traversal import ancestors
from pytensor.tensor.basic import constant
from pytensor.tensor.sharedvar import TensorSharedVariable
from pytensor.tensor.variable import TensorConstant

from pymc_marginal_lmm.model.restore import marginal_nodes, observed_responses

__all__ = ["LiveData", "StructuralData", "fix_dims", "guard_data"]

WAY_OUT = "set it in the original model and call marginalize() again"


class _NamedAfterReason(type(TensorConstant)):  # type: ignore[misc]
    """Class of :class:`StructuralData`: PyMC's message for data that cannot be set shows it."""

    def __str__(cls) -> str:
        return (
            "a constant, since marginalize() has read from it which level each row belongs to; "
            f"{WAY_OUT}"
        )


class StructuralData(TensorConstant, metaclass=_NamedAfterReason):
    """``pm.Data`` that the structure was read from, and that the graph holds only as numbers."""


class LiveData(TensorSharedVariable):
    """``pm.Data`` that the likelihood of a marginal model depends on, with a shape that stays."""

    def set_value(self, new_value: Any, borrow: bool = False) -> None:
        """Set the value.

        Raises
        ------
        ValueError
            Its shape is another one.
        """
        shape = np.shape(self.get_value(borrow=True))
        if np.shape(new_value) != shape:
            raise ValueError(
                f"'{self.name}' has shape {shape} in this marginal model, the new values have "
                f"{np.shape(new_value)}: marginalize() has read which level each row belongs to. "
                f"To change the number of rows, {WAY_OUT}. For predictions, use the original "
                "model and the recovered draws."
            )
        super().set_value(new_value, borrow=borrow)


def guard_data(fgraph: FunctionGraph, structural: Sequence[str]) -> None:
    """Make the data in the graph of a marginal model say what can be set, in place.

    Parameters
    ----------
    fgraph : FunctionGraph
    structural : sequence of str
        Names of the data that the structure was read from, which are constants.
    """
    for node in fgraph.toposort():
        if isinstance(node.op, ModelNamed) and node.op.name in structural:
            data = node.inputs[0]
            fgraph.change_node_input(node, 0, StructuralData(data.type, data.data, data.name))
    roots: list[Variable] = []
    for node in marginal_nodes(fgraph):
        roots += node.inputs
        roots += [response.owner.inputs[1] for response in observed_responses(fgraph, node)]
    for source in set(ancestors(roots)):
        if isinstance(source, SharedVariable) and any(
            isinstance(client.op, ModelNamed) for client, _ in fgraph.clients[source]
        ):
            live = LiveData(source.type, None, None, container=source.container, name=source.name)
            fgraph.replace(source, live, import_missing=True)


def fix_dims(fgraph: FunctionGraph, model: Model) -> None:
    """Give the graph of a marginal model the dims of the model as they are, for good.

    The length of a dim may follow data of the user's model, from which the marginal one is to be
    independent. PyMC refuses to resize a dim that was made from a variable, naming that variable.
    """
    lengths = {}
    for name, length in model.dim_lengths.items():
        now = length.eval(mode="FAST_COMPILE")
        origin = view_op(constant(now, dtype="int64"))
        origin.name = f"the marginal model; {WAY_OUT}"
        lengths[name] = view_op(view_op(origin))
    fgraph._dim_lengths = lengths
