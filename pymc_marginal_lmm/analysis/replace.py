"""Put one part of a graph for another, and leave the rest alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pymc.model.fgraph import ModelValuedVar
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors

__all__ = ["substitute"]


def _is_random(variable: Variable) -> bool:
    return variable.owner is not None and isinstance(variable.owner.op, ModelValuedVar)


def substitute(
    expressions: Sequence[Variable],
    new: Mapping[Variable, Variable],
    kept: Collection[Variable] = (),
) -> list[Variable]:
    """Replace variables in expressions.

    Where some of the variables depend on each other, :func:`graph_replace` copies everything in
    between and beside: a variable of the model would then be there twice.

    Parameters
    ----------
    expressions : sequence of Variable
    new : mapping
        What to put for each variable; those that do not occur are left out.
    kept : collection of Variable
        Variables that stay the very same, as random variables of a model do in any case.
    """
    reached = set(ancestors(list(expressions)))
    wanted = {old: by for old, by in new.items() if old in reached}
    if not wanted:
        return list(expressions)
    pinned = {v: v for v in reached if v in kept or _is_random(v)}
    return graph_replace(list(expressions), {**pinned, **wanted}, strict=False)
