"""Give variables back to a model that they were integrated out of.

Shared by ``conditional``, where effects follow their conditional distribution, and
``unmarginalize``, where they follow their prior. A :class:`MarginalRV` holds the piece of the
user's model that it stands for, so that nothing needs to be remembered but names.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytensor.tensor as pt
from pymc.distributions.multivariate import ZeroSumNormalRV
from pymc.distributions.transforms import ZeroSumTransform
from pymc.model.core import Model
from pymc.model.fgraph import (
    ModelObservedRV,
    model_deterministic,
    model_free_rv,
)
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.tensor.random.type import RandomType

from pymc_marginal_lmm.analysis.replace import substitute
from pymc_marginal_lmm.model.marginal_rv import MarginalRV
from pymc_marginal_lmm.model.order import keep_order
from pymc_marginal_lmm.model.roundtrip import model_of
from pymc_marginal_lmm.structure import RandomEffects

__all__ = [
    "NO_EFFECTS",
    "add_dependents",
    "add_effects",
    "marginal_nodes",
    "marginal_ops",
    "node_of",
    "observed_responses",
    "recoverable",
    "restored_model",
    "with_own_rngs",
]


NO_EFFECTS = "model has no integrated effects: pass the model that marginalize() returned."
"""What functions say that take a marginal model only."""


class JointZeroSumTransform(ZeroSumTransform):
    """PyMC's transform, for a density that is one number for all batches."""

    def log_jac_det(self, value: Variable, *rv_inputs: Variable) -> Variable:
        """Return 0: the transform is an isometry."""
        return pt.constant(0.0, dtype=value.dtype)


def marginal_ops(model: Model) -> list[MarginalRV]:
    """Return the Ops of a model's integrated effects, but not of those that are given back."""
    nodes = dict.fromkeys(rv.owner for rv in model.observed_RVs)
    ops = [node.op for node in nodes if node and isinstance(node.op, MarginalRV)]
    return [op for op in ops if not any(name in model.named_vars for name in op.given_back)]


def node_of(model: Model, op: MarginalRV) -> Apply:
    """Return where an Op of :func:`marginal_ops` is applied."""
    return next(rv.owner for rv in model.observed_RVs if rv.owner.op is op)


def recoverable(model: Model) -> list[str]:
    """Return the names of integrated effects and of what depends on them."""
    return list(dict.fromkeys(name for op in marginal_ops(model) for name in op.given_back))


def marginal_nodes(fgraph: FunctionGraph) -> list[Apply]:
    """Return the nodes of integrated effects in a model's graph."""
    return [node for node in fgraph.toposort() if isinstance(node.op, MarginalRV)]


def observed_responses(fgraph: FunctionGraph, node: Apply) -> list[Variable]:
    """Return the observed variables of the responses of a :class:`MarginalRV` node."""
    return [
        next(
            client.outputs[0]
            for client, _ in fgraph.clients[response]
            if isinstance(client.op, ModelObservedRV)
        )
        for response in node.op.split(node.outputs)["responses"]
    ]


def with_own_rngs(inputs: Sequence[Variable]) -> list[Variable]:
    """Exchange random generators for new ones: two draws from one would be the same."""
    return [
        pt.random.shared_rng(seed=None) if isinstance(v.type, RandomType) else v for v in inputs
    ]


def add_effects(
    fgraph: FunctionGraph,
    op: MarginalRV,
    placeholders: Sequence[Variable],
    random_variables: Sequence[Variable],
    known: dict[Variable, Variable],
    names: Sequence[str] | None = None,
) -> None:
    """Add effects as free variables to a graph.

    Parameters
    ----------
    fgraph : FunctionGraph
        Changed in place.
    op : MarginalRV
    placeholders : sequence of Variable
        What stands for the effects in the op's inner graph.
    random_variables : sequence of Variable
        With the effects' distributions; they may depend on placeholders of earlier effects.
    known : dict
        What to put for placeholders; the effects are added.
    names : sequence of str, optional
        The effects to add; all by default. Others are drawn all the same.
    """
    for effect, placeholder, rv in zip(
        op.structure.effects, placeholders, random_variables, strict=True
    ):
        (rv,) = substitute([rv], known)
        if names is None or effect.name in names:
            rv.name = effect.name
            transform, value = _value_of(effect, rv)
            rv = model_free_rv(rv, value, transform, effect.name, *effect.dims)
            fgraph.add_output(rv, reason="restore", import_missing=True)
        known[placeholder] = rv


def _value_of(effect: RandomEffects, rv: Variable) -> tuple[ZeroSumTransform | None, Variable]:
    """Return the transform of an effect, and its value variable."""
    if not effect.zero_sum:
        return None, rv.type(name=effect.name)
    is_prior = isinstance(rv.owner.op, ZeroSumNormalRV)
    kind = ZeroSumTransform if is_prior else JointZeroSumTransform
    transform = kind(tuple(range(-effect.support_ndim, 0)))
    return transform, transform.forward(rv).type(name=f"{effect.name}_{transform.name}__")


def add_dependents(
    fgraph: FunctionGraph,
    op: MarginalRV,
    placeholders: Sequence[Variable],
    known: dict[Variable, Variable],
    names: Sequence[str] | None = None,
) -> None:
    """Add what depends on effects to a graph; arguments as those of :func:`add_effects`."""
    for dependent, placeholder in zip(op.dependents, placeholders, strict=True):
        (variable,) = substitute([placeholder], known)
        named = names is None or dependent.name in names
        if named:
            variable.name = dependent.name
        if dependent.value is None:
            variable = model_deterministic(variable, dependent.name, *dependent.dims)
        elif named:
            value = dependent.value(name=dependent.value_name)
            variable = model_free_rv(
                variable, value, dependent.transform, dependent.name, *dependent.dims
            )
        if named:
            fgraph.add_output(variable, reason="restore", import_missing=True)
        if dependent.value is not None:
            known[placeholder] = variable


def restored_model(fgraph: FunctionGraph, model: Model) -> Model:
    """Turn a graph to which variables were added into a model, with their order and start.

    Parameters
    ----------
    fgraph : FunctionGraph
        Not to be used afterwards.
    model : Model
        The marginal model that the graph was made from.
    """
    new = model_of(fgraph, model)
    for op in marginal_ops(model):
        keep_order(new, op.order)
        for rv in new.free_RVs:
            if rv.name in op.initial_values:
                new.set_initval(rv, op.initial_values[rv.name])
    return new
