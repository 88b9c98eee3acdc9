"""What effects are used for beside the mean of a Normal likelihood, which is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytensor.graph.basic import Variable

from pymc_marginal_lmm.analysis.likelihoods import is_likelihood
from pymc_marginal_lmm.analysis.priors import distribution_name
from pymc_marginal_lmm.analysis.remedies import likelihood_remedy
from pymc_marginal_lmm.analysis.roles import ModelGraph
from pymc_marginal_lmm.analysis.terms import Refusal

__all__ = ["check_other_uses"]


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
        if not is_likelihood(rv):
            raise Refusal(
                effects,
                f"the likelihood of '{response.name}' is {distribution_name(rv)}",
                likelihood_remedy(distribution_name(rv)),
            )
        _, scale = rv.owner.op.dist_params(rv.owner)
        if in_scale := entering([scale]):
            what, short = ("standard deviation", "sigma")
            if rv.owner.op.ndim_supp:
                what = short = "covariance"
            raise Refusal(
                in_scale,
                f"it enters the {what} of '{response.name}'",
                f"Effects in the mean can be integrated out, effects in {short} cannot: "
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
