"""What effects are used for beside the mean of a Normal likelihood, which is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytensor.graph.basic import Variable

from pymc_marginal_lmm.analysis.priors import FAMILIES, distribution_name
from pymc_marginal_lmm.analysis.remedies import likelihood_remedy
from pymc_marginal_lmm.analysis.roles import ModelGraph
from pymc_marginal_lmm.analysis.terms import Refusal

__all__ = ["check_other_uses", "mean_and_sigma"]


def check_other_uses(
    graph: ModelGraph, candidates: Sequence[Variable], sampled: Sequence[Variable]
) -> None:
    """Refuse effects that matter to anything but the mean of a Normal likelihood or effect."""

    def entering(expressions: Iterable[Variable]) -> list[Variable]:
        return [parent for parent in graph.parents(expressions) if parent in candidates]

    for response in graph.observed:
        effects = entering(graph.parameters(response))
        if not effects:
            continue
        rv = graph.rv(response)
        if type(rv.owner.op) not in FAMILIES:
            raise Refusal(
                effects,
                f"the likelihood of '{response.name}' is {distribution_name(rv)}",
                likelihood_remedy(distribution_name(rv)),
            )
        _, sigma = mean_and_sigma(graph, response)
        if in_sigma := entering([sigma]):
            raise Refusal(
                in_sigma,
                f"it enters the standard deviation of '{response.name}'",
                "Effects in the mean can be integrated out, effects in sigma cannot: "
                "leave it sampled.",
            )
    for potential in graph.potentials:
        if effects := entering([graph.rv(potential)]):
            raise Refusal(
                effects,
                f"the Potential '{potential.name}' depends on it",
                "Remove the Potential, or leave the variable sampled.",
            )
    for other in sampled:
        if effects := entering(graph.parameters(other)):
            raise Refusal(
                effects,
                f"the prior of '{other.name}', which stays sampled, depends on it",
                f"Integrate out '{other.name}' as well if that is possible, or leave both sampled.",
            )


def mean_and_sigma(graph: ModelGraph, response: Variable) -> tuple[Variable, Variable]:
    """Return the parameters of a Normal or LogNormal likelihood."""
    node = graph.rv(response).owner
    mean, sigma = node.op.dist_params(node)
    return mean, sigma
