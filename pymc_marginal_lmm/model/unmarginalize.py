"""``unmarginalize``: the plain model back."""

from __future__ import annotations

from typing import Any

from pymc.model.core import Model
from pytensor.graph.fg import FunctionGraph

from pymc_marginal_lmm.analysis.replace import substitute
from pymc_marginal_lmm.model.arguments import pymc_model
from pymc_marginal_lmm.model.fold import unfold_scales
from pymc_marginal_lmm.model.invariants import check_restored
from pymc_marginal_lmm.model.restore import (
    NO_EFFECTS,
    add_dependents,
    add_effects,
    marginal_nodes,
    marginal_ops,
    observed_responses,
    recoverable,
    restored_model,
    with_own_rngs,
)
from pymc_marginal_lmm.model.roundtrip import graph_of

__all__ = ["plain_of", "unmarginalize"]


def unmarginalize_fgraph(fgraph: FunctionGraph) -> None:
    """Exchange the integrated part of a model's graph for what it was made from, in place."""
    for node in marginal_nodes(fgraph):
        responses = observed_responses(fgraph, node)
        _, parts = node.op.over(with_own_rngs(node.inputs))
        known = dict(zip(parts["responses"], responses, strict=True))
        add_effects(fgraph, node.op, parts["effects"], parts["effects"], known)
        for response, placeholder in zip(responses, parts["responses"], strict=True):
            others = {k: v for k, v in known.items() if k is not placeholder}
            (rv,) = substitute([placeholder], others)
            rv.name = response.owner.op.name
            fgraph.change_node_input(response.owner, 0, rv, import_missing=True)
        add_dependents(fgraph, node.op, parts["dependents"], known)
    unfold_scales(fgraph)


def unmarginalize(model: Any = None) -> Model:
    """Undo :func:`~pymc_marginal_lmm.marginalize`: a plain model, with all effects sampled.

    Useful where the model that was marginalized is not at hand any more, or where the marginal
    model was changed since (``pm.do``, ``noncenter``).

    Parameters
    ----------
    model : pymc.Model, optional
        A model made by :func:`~pymc_marginal_lmm.marginalize`, and perhaps changed since; it is
        not changed here. By default the one of the ``with`` context.

    Returns
    -------
    pymc.Model
        A new model with the variables, dims, transforms, initial values and the joint density of
        the original one. Dims, and ``pm.Data`` that serve as indices, stay constants.

    Raises
    ------
    TypeError
        ``model`` is no model, or there is none.
    ValueError
        ``model`` has no integrated effects.

    Examples
    --------
    >>> import numpy as np, pymc as pm, pymc_marginal_lmm as mlmm
    >>> with pm.Model() as model:
    ...     u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=3)
    ...     y = pm.Normal("y", u[[0, 0, 1, 1, 2, 2]], 1, observed=np.arange(6) / 6)
    >>> marginal = mlmm.marginalize(model)
    >>> [rv.name for rv in mlmm.unmarginalize(marginal).free_RVs]
    ['tau', 'u']
    """
    model = pymc_model(model)
    if not (ops := marginal_ops(model)):
        raise ValueError(NO_EFFECTS)
    fgraph, _ = graph_of(model)
    unmarginalize_fgraph(fgraph)
    full = restored_model(fgraph, model)
    check_restored(model, full, ops, recoverable(model))
    return full


def plain_of(model: Model) -> Model:
    """Return the plain model that a model stands for: itself, if nothing is integrated out."""
    return unmarginalize(model) if marginal_ops(model) else model
