"""The order of variables, which PyMC's conversion of models to graphs does not keep."""

from __future__ import annotations

from collections.abc import Sequence

from pymc.model.core import Model
from pytensor.graph.basic import Variable

__all__ = ["keep_order"]


def keep_order(model: Model, names: Sequence[str]) -> None:
    """Order the free variables and Deterministics of a model, new ones last.

    Samplers report them in this order, so that results can be laid side by side.
    """
    place = {name: i for i, name in enumerate(names)}

    def order(variable: Variable) -> int:
        return place.get(variable.name, len(place))

    model.free_RVs.sort(key=order)
    model.deterministics.sort(key=order)
    # Conversions to graphs start from this one.
    model.rvs_to_values = dict(sorted(model.rvs_to_values.items(), key=lambda kv: order(kv[0])))
