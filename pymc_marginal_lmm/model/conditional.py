"""``conditional``: the model whose effects follow their exact conditional distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytensor.tensor as pt
from pymc.distributions.transforms import ZeroSumTransform
from pymc.logprob.abstract import MeasurableOp, _logprob
from pymc.model.core import Model
from pymc.model.fgraph import (
    ModelObservedRV,
    fgraph_from_model,
    model_deterministic,
    model_free_rv,
    model_from_fgraph,
)
from pytensor import config
from pytensor.compile.builders import OpFromGraph
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import graph_replace

from pymc_marginal_lmm.algebra.conditional import draw, log_conditional
from pymc_marginal_lmm.model.initial_values import keep_initial_values, without_initial_values
from pymc_marginal_lmm.model.marginal_rv import MarginalRV

__all__ = ["ConditionalRV", "conditional", "recoverable"]


class JointZeroSumTransform(ZeroSumTransform):
    """PyMC's transform, for a density that is one number for all batches."""

    def log_jac_det(self, value: Variable, *rv_inputs: Variable) -> Variable:
        """Return 0: the transform is an isometry."""
        return pt.constant(0.0, dtype=value.dtype)


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


def _marginal_nodes(fgraph: FunctionGraph) -> list[Apply]:
    return [node for node in fgraph.toposort() if isinstance(node.op, MarginalRV)]


def recoverable(model: Model) -> list[str]:
    """Return the names of integrated effects and of the Deterministics that depend on them."""
    names: list[str] = []
    for rv in model.observed_RVs:
        if rv.owner is not None and isinstance(rv.owner.op, MarginalRV):
            op = rv.owner.op
            names += [effect.name for effect in op.structure.effects]
            names += [name for name, _ in op.deterministics]
    return list(dict.fromkeys(names))


def conditional_fgraph(fgraph: FunctionGraph, names: Sequence[str] | None = None) -> None:
    """Add effects and their Deterministics to the graph of a marginal model, in place."""
    for node in _marginal_nodes(fgraph):
        op = node.op
        outputs = op.split(node.outputs)["responses"]
        observed = {
            client.inputs[0]: client
            for out in outputs
            for client, _ in fgraph.clients[out]
            if isinstance(client.op, ModelObservedRV)
        }
        ys = [observed[out].inputs[1] for out in outputs]
        draws = _draw_effects(node, ys)
        _, parts = op.over(node.inputs)
        known = dict(
            zip(parts["responses"], (observed[o].outputs[0] for o in outputs), strict=True)
        )
        for effect, placeholder, drawn in zip(
            op.structure.effects, parts["effects"], draws, strict=True
        ):
            if names is not None and effect.name not in names:
                known[placeholder] = drawn
                continue
            drawn.name = effect.name
            transform, value = None, drawn.type(name=effect.name)
            if effect.zero_sum:
                axes = tuple(range(-effect.support_ndim, 0))
                transform = JointZeroSumTransform(axes)
                value = transform.forward(drawn).type(name=f"{effect.name}_{transform.name}__")
            free = model_free_rv(drawn, value, transform, effect.name, *effect.dims)
            fgraph.add_output(free, reason="conditional", import_missing=True)
            known[placeholder] = free
        for (name, dims), expression in zip(
            op.deterministics, parts["deterministics"], strict=True
        ):
            if names is None or name in names:
                (expression,) = graph_replace([expression], known, strict=False)
                expression.name = name
                variable = model_deterministic(expression, name, *dims)
                fgraph.add_output(variable, reason="conditional", import_missing=True)


def conditional(model: Model, rvs: str | Sequence[str] | None = None) -> Model:
    """Give the integrated effects back as free variables with their exact conditional.

    A marginal model has the density ``p(θ) p(y | θ)``; the model returned has
    ``p(θ) p(y | θ) p(v | y, θ)``, which is the joint density of the original model::

        log p(y, v | θ) = log p(y | θ) + log p(v | y, θ)

    Parameters
    ----------
    model : pymc.Model
        A model made by :func:`~pymc_marginal_lmm.marginalize`; it is not changed.
    rvs : str or sequence of str, optional
        Names of the effects, and of Deterministics that depend on them, to give back; all by
        default. With a selection the model can be sampled forward, but its density is defined
        only if all effects are there.

    Returns
    -------
    pymc.Model
        A new model, in which sampling forward from given parameters draws the effects jointly.

    Raises
    ------
    ValueError
        ``model`` has no integrated effects, or not those that were asked for.
    """
    available = recoverable(model)
    if not available:
        raise ValueError(
            "This model has no integrated effects: pass the model that marginalize() returned."
        )
    names = [rvs] if isinstance(rvs, str) else None if rvs is None else list(rvs)
    if unknown := [name for name in names or () if name not in available]:
        raise ValueError(
            f"{', '.join(map(repr, unknown))}: not among the integrated effects and their "
            f"Deterministics, which are {', '.join(available)}."
        )
    with without_initial_values(model):
        fgraph, _ = fgraph_from_model(model)
    conditional_fgraph(fgraph, names)
    new = model_from_fgraph(fgraph, mutate_fgraph=True)
    keep_initial_values(model, new)
    return new
