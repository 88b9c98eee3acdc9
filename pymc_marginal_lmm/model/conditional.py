"""``conditional``: the model whose effects follow their exact conditional distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytensor.tensor as pt
from pymc.logprob.abstract import MeasurableOp, _logprob
from pymc.model.core import Model
from pytensor import config
from pytensor.compile.builders import OpFromGraph
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph

from pymc_marginal_lmm.algebra.conditional import draw, log_conditional
from pymc_marginal_lmm.model.arguments import checked_names, pymc_model
from pymc_marginal_lmm.model.invariants import check_restored
from pymc_marginal_lmm.model.marginal_rv import MarginalRV
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

__all__ = ["ConditionalRV", "conditional"]


class ConditionalRV(OpFromGraph, MeasurableOp):
    """Effects given responses and parameters, jointly.

    Inputs are those of the :class:`MarginalRV`, a value for each response, and a random
    generator; outputs the effects and the updated generator.

    Parameters
    ----------
    marginal : MarginalRV
        The Op whose effects these are.
    """

    def __init__(
        self,
        inputs: list[Variable],
        outputs: list[Variable],
        *,
        marginal: MarginalRV,
        **kwargs: Any,
    ) -> None:
        self.marginal = marginal
        super().__init__(inputs, outputs, inline=True, **kwargs)

    def __str__(self) -> str:
        return str(self.marginal).replace("Marginal", "Conditional")


@_logprob.register(ConditionalRV)
def conditional_logprob(
    op: ConditionalRV, values: Sequence[Variable], *inputs: Variable, **kwargs: Any
) -> list[Variable]:
    """Joint conditional log density, credited to the first effect; the others get 0."""
    effects = op.marginal.structure.effects
    if len(values) != len(effects):
        raise NotImplementedError(
            f"The conditional density of {op.marginal} is joint over all of its effects; "
            f"{len(values)} of {len(effects)} have a value. Call conditional(model) without "
            "naming variables."
        )
    *arguments, _ = inputs
    n_responses = len(op.marginal.structure.responses)
    parameters, ys = arguments[:-n_responses], arguments[-n_responses:]
    mixed_model, parts = op.marginal.over(parameters)
    joint = log_conditional(mixed_model, parts["effects"], ys, values)
    return [joint, *(pt.zeros((), dtype=config.floatX) for _ in values[1:])]


def _draw_effects(node: Apply, ys: Sequence[Variable]) -> list[Variable]:
    """Build draws of the effects of a :class:`MarginalRV` node, given its responses."""
    marginal = node.op
    inner_inputs = [v.type() for v in node.inputs]
    inner_ys = [y.type() for y in ys]
    rng = pt.random.shared_rng(seed=None)
    inner_rng = rng.type()
    mixed_model, parts = marginal.over(inner_inputs)
    draws, next_rng = draw(mixed_model, parts["effects"], inner_ys, inner_rng)
    op = ConditionalRV([*inner_inputs, *inner_ys, inner_rng], [*draws, next_rng], marginal=marginal)
    return op(*node.inputs, *ys, rng, return_list=True)[:-1]


def conditional_fgraph(fgraph: FunctionGraph, names: Sequence[str] | None = None) -> None:
    """Add effects and what depends on them to the graph of a marginal model, in place."""
    for node in marginal_nodes(fgraph):
        responses = observed_responses(fgraph, node)
        draws = _draw_effects(node, [response.owner.inputs[1] for response in responses])
        _, parts = node.op.over(with_own_rngs(node.inputs))
        known = dict(zip(parts["responses"], responses, strict=True))
        add_effects(fgraph, node.op, parts["effects"], draws, known, names)
        add_dependents(fgraph, node.op, parts["dependents"], known, names)


def conditional(model: Any = None, rvs: str | Sequence[str] | None = None) -> Model:
    """Give the integrated effects back as free variables with their exact conditional.

    A marginal model has the density ``p(θ) p(y | θ)``; the model returned has
    ``p(θ) p(y | θ) p(v | y, θ)``, which is the joint density of the original model::

        log p(y, v | θ) = log p(y | θ) + log p(v | y, θ)

    Variables that dropped out with the effects since no data depend on them (missing responses)
    follow their own distribution again.

    Parameters
    ----------
    model : pymc.Model, optional
        A model made by :func:`~pymc_marginal_lmm.marginalize`; it is not changed. By default the
        one of the ``with`` context.
    rvs : str or sequence of str, optional
        Names of the effects, and of variables that depend on them, to give back; all by default.
        With a selection the model can be sampled forward, but its density is defined only if all
        effects are there.

    Returns
    -------
    pymc.Model
        A new model, in which sampling forward from given parameters draws the effects jointly.

    Raises
    ------
    TypeError
        An argument is of a wrong type, or there is no model.
    ValueError
        ``model`` has no integrated effects, or not those that were asked for.
    """
    model = pymc_model(model)
    names = checked_names(rvs, "rvs")
    if not (available := recoverable(model)):
        raise ValueError(NO_EFFECTS)
    if unknown := [name for name in names or () if name not in available]:
        raise ValueError(
            f"rvs: {', '.join(map(repr, unknown))}: not among the integrated effects and what "
            f"depends on them, which are {', '.join(available)}."
        )
    fgraph, _ = graph_of(model)
    conditional_fgraph(fgraph, names)
    full = restored_model(fgraph, model)
    check_restored(model, full, marginal_ops(model), available if names is None else set(names))
    return full
