"""The variable that stands in a marginal model for effects and responses together.

:class:`MarginalRV` wraps the piece of the user's model between the parameters and the responses,
unchanged: its inner graph draws the effects and then the responses, so that prior predictive
sampling needs no code of ours (posterior predictive sampling is refused, see
:mod:`~pymc_marginal_lmm.model.predictive`). Its log density is the exact marginal one. The symbolic
parts of the :class:`~pymc_marginal_lmm.structure.MixedModel` are further outputs of the same inner
graph: cloning, pickling and replacing parameters keep everything consistent without our help.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytensor.tensor as pt
from pymc.logprob.abstract import MeasurableOp, _logprob
from pymc.logprob.transforms import Transform
from pytensor import config
from pytensor.compile.builders import OpFromGraph
from pytensor.compile.mode import optdb
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import graph_rewriter
from pytensor.graph.type import Type

from pymc_marginal_lmm.algebra.density import log_density
from pymc_marginal_lmm.model.predictive import refuse_given_parameters
from pymc_marginal_lmm.structure import MixedModel

__all__ = ["Dependent", "MarginalRV", "inline"]


@dataclass(frozen=True)
class Dependent:
    """A variable that left the model with the effects that it depends on.

    Parameters
    ----------
    name : str
    dims : tuple of str
    value : Type, optional
        Of the value variable, for a random variable; a Deterministic has none.
    value_name : str
        Name of the value variable.
    transform : Transform, optional
        Of the value.
    """

    name: str
    dims: tuple[str, ...]
    value: Type | None = None
    value_name: str = ""
    transform: Transform | None = None


class MarginalRV(OpFromGraph, MeasurableOp):
    """Effects and responses of a linear mixed-effects model, jointly.

    Outputs are, in this order: the effects, the responses, the dependents, the symbols of
    ``structure``, and the updated random generators.

    Parameters
    ----------
    structure : MixedModel
        With placeholders for its symbols.
    dependents : tuple of Dependent
        The Deterministics that depend on effects, and the random variables that do so and that
        no data depend on; parents first.
    order : tuple of str
        Names of the variables of the model, as its user ordered them.
    initial_values : dict, optional
        Of effects and dependents that were given one, by name.
    """

    _print_name = ("Marginal", r"\operatorname{Marginal}")

    def __init__(
        self,
        inputs: list[Variable],
        outputs: list[Variable],
        *,
        structure: MixedModel,
        dependents: tuple[Dependent, ...] = (),
        order: tuple[str, ...] = (),
        initial_values: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.structure = structure
        self.dependents = dependents
        self.order = order
        self.initial_values = dict(initial_values or {})
        super().__init__(inputs, outputs, inline=True, **kwargs)

    def __str__(self) -> str:
        effects = ", ".join(effect.name for effect in self.structure.effects)
        return f"MarginalRV({effects})"

    @property
    def given_back(self) -> list[str]:
        """Names of the effects and dependents, which ``recover`` draws."""
        effects = [effect.name for effect in self.structure.effects]
        return effects + [dependent.name for dependent in self.dependents]

    @property
    def n_effects(self) -> int:
        """Number of effect variables."""
        return len(self.structure.effects)

    def prepare_node(self, node: Apply, **kwargs: Any) -> None:
        """Check what is given, where no rewrite has done so."""
        refuse_given_parameters(node)
        super().prepare_node(node, **kwargs)

    def split(self, outputs: Sequence[Variable]) -> dict[str, list[Variable]]:
        """Name the outputs by their roles."""
        lengths = {
            "effects": self.n_effects,
            "responses": len(self.structure.responses),
            "dependents": len(self.dependents),
            "symbols": len(self.structure.symbols()),
        }
        parts, start = {}, 0
        for role, length in lengths.items():
            parts[role] = list(outputs[start : start + length])
            start += length
        return parts

    def over(self, inputs: Sequence[Variable]) -> tuple[MixedModel, dict[str, list[Variable]]]:
        """Return the mixed model and the outputs by role, expressed over the given inputs.

        Both come from one copy of the inner graph: prior means of effects refer to the effects
        among the outputs.
        """
        parts = self.split(inline(self, inputs))
        return self.structure.with_symbols(parts["symbols"]), parts


@graph_rewriter
def check_given_parameters(fgraph: FunctionGraph) -> None:
    """Check each marginal variable of a function that is compiled; nothing is rewritten."""
    for node in fgraph.apply_nodes:
        if isinstance(node.op, MarginalRV):
            refuse_given_parameters(node)


# Before inner graphs are put in the place of their Ops.
optdb.register(
    "check_given_parameters", check_given_parameters, "fast_compile", "fast_run", position=-0.02
)


def inline(op: OpFromGraph, inputs: Sequence[Variable]) -> list[Variable]:
    """Return the outputs of an ``OpFromGraph``'s inner graph over other inputs."""
    return op.fgraph.bind(list(inputs))


@_logprob.register(MarginalRV)
def marginal_logprob(
    op: MarginalRV, values: Sequence[Variable], *inputs: Variable, **kwargs: Any
) -> list[Variable]:
    """Joint marginal log density, credited to the first response; the others get 0.

    It does not split into terms per observation: given θ alone, observations that share an
    effect are dependent.
    """
    n_responses = len(op.structure.responses)
    if len(values) != n_responses:
        names = ", ".join(f"'{response.name}'" for response in op.structure.responses)
        raise NotImplementedError(
            f"The marginal density of {names} is joint and needs a value for each of them; "
            f"{len(values)} of {n_responses} have one."
        )
    mixed_model, _ = op.over(inputs)
    joint = log_density(mixed_model, values)
    return [joint, *(pt.zeros((), dtype=config.floatX) for _ in range(n_responses - 1))]
