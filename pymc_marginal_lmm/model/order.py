"""The order of variables, which PyMC's conversion of models to graphs does not keep."""

from __future__ import annotations

from collections.abc import Sequence

from pymc.model.core import Model
from pytensor.graph.basic import Variable

__all__ = ["keep_order", "order_of"]

KINDS = ("free_RVs", "deterministics", "observed_RVs", "potentials", "data_vars")


def order_of(model: Model) -> tuple[str, ...]:
    """Return the names of a model's variables, kind by kind, in their order."""
    return tuple(variable.name for kind in KINDS for variable in getattr(model, kind))


def keep_order(model: Model, names: Sequence[str]) -> None:
    """Put the variables of a model, kind by kind, into the order of ``names``; others last.

    Samplers report them in this order, so that results can be laid side by side.
    """
    place = {name: i for i, name in enumerate(names)}

    def order(variable: Variable) -> int:
        return place.get(variable.name, len(place))

    for kind in KINDS:
        getattr(model, kind).sort(key=order)
    # Conversions to graphs start from this one.
    model.rvs_to_values = dict(sorted(model.rvs_to_values.items(), key=lambda kv: order(kv[0])))
