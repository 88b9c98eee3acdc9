"""The variables of a model's graph by role: free, observed, Potentials, Deterministics.

An observed variable has two roles. Where it is drawn, its distribution counts: that is a
likelihood. Where another variable depends on it (a mediator, a lagged response), it is data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pymc.model.fgraph import (
    ModelDeterministic,
    ModelFreeRV,
    ModelObservedRV,
    ModelPotential,
)
from pytensor.graph.basic import Variable
from pytensor.graph.fg import FunctionGraph, Output
from pytensor.graph.traversal import ancestors, io_toposort

from pymc_marginal_lmm.analysis.priors import integrates_to_one

__all__ = ["ModelGraph"]


class ModelGraph:
    """The variables of a model's FunctionGraph, by role.

    Parameters
    ----------
    fgraph : FunctionGraph
    free : sequence of Variable, optional
        The free variables in the order of the user's model, parents first.
    """

    def __init__(self, fgraph: FunctionGraph, free: Sequence[Variable] | None = None) -> None:
        self.fgraph = fgraph
        by_role: dict[type, list[Variable]] = {}
        for node in fgraph.toposort():
            by_role.setdefault(type(node.op), []).extend(node.outputs)
        self.free = by_role.get(ModelFreeRV, []) if free is None else list(free)
        self.observed = by_role.get(ModelObservedRV, [])
        self.potentials = by_role.get(ModelPotential, [])
        self.deterministics = by_role.get(ModelDeterministic, [])
        variables = [*self.free, *self.observed, *self.potentials, *self.deterministics]
        self._given_data = dict(zip(variables, self._read(variables), strict=True))

    def _read(self, variables: Sequence[Variable]) -> list[Variable]:
        """Return what is behind variables, with data for the observed ones that they depend on."""
        roots = [self.drawn(variable) for variable in variables]
        memo = {
            variable: variable.type.filter_variable(self.value(variable))
            for variable in self.observed
            if any(not isinstance(client.op, Output) for client, _ in self.fgraph.clients[variable])
        }
        if not memo:
            return roots
        for node in io_toposort([*self.free, *self.observed], roots):
            if not memo.keys().isdisjoint(node.inputs):
                copy = node.clone_with_new_inputs([memo.get(v, v) for v in node.inputs])
                memo.update(zip(node.outputs, copy.outputs, strict=True))
        return [memo.get(root, root) for root in roots]

    def rv(self, variable: Variable) -> Variable:
        """Return the random variable, or the expression, behind a model variable, given data.

        Observed variables that it depends on are replaced by their data.
        """
        return self._given_data[variable]

    @staticmethod
    def drawn(variable: Variable) -> Variable:
        """Return the random variable, or the expression, as the model draws it."""
        return variable.owner.inputs[0]

    @staticmethod
    def value(variable: Variable) -> Variable:
        """Return the value variable of a random variable, or the data of an observed one."""
        return variable.owner.inputs[1]

    def uninformed(self) -> list[Variable]:
        """Return the free variables that no likelihood and no Potential depends on.

        Whatever they are, they integrate to one: data say nothing about them but through their
        parents. Outputs of one node have one joint density and so are informed together. A
        variable that may not integrate to one informs its parents, as data would.
        """
        others = [v for v in self.free if not integrates_to_one(self.rv(v), v.owner.op.transform)]
        roots = [self.rv(v) for v in (*self.observed, *self.potentials, *others)]
        informed: set[Variable] = set()
        while True:
            reached = set(ancestors(roots))
            nodes = {root.owner for root in roots}
            more = [
                variable
                for variable in self.free
                if variable not in informed
                and (variable in reached or self.rv(variable).owner in nodes)
            ]
            if not more:
                return [variable for variable in self.free if variable not in informed]
            informed.update(more)
            roots += [self.rv(variable) for variable in more]

    def parents(self, expressions: Iterable[Variable]) -> list[Variable]:
        """Return the free variables that expressions depend on directly."""
        reached = set(ancestors(list(expressions), blockers=[*self.free, *self.observed]))
        return [variable for variable in self.free if variable in reached]

    def parameters(self, variable: Variable) -> list[Variable]:
        """Return the inputs of the random variable behind a model variable."""
        return list(self.rv(variable).owner.inputs)
