"""What effects are used for beside the mean of a Normal likelihood, which is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn

from pytensor.graph.basic import Variable

from pymc_marginal_lmm.analysis.likelihoods import is_likelihood
from pymc_marginal_lmm.analysis.priors import (
    NotGaussian,
    distribution_name,
    is_gaussian,
    read_prior,
)
from pymc_marginal_lmm.analysis.remedies import Remedy, likelihood_remedy
from pymc_marginal_lmm.analysis.roles import ModelGraph
from pymc_marginal_lmm.analysis.terms import Refusal
from pymc_marginal_lmm.values import NotKnown, Values

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
                Remedy.MEAN_ONLY.about(short),
            )
    for potential in graph.potentials:
        if effects := entering([graph.rv(potential)]):
            raise Refusal(
                effects,
                f"the Potential '{potential.name}' depends on it",
                Remedy.REMOVE_POTENTIAL,
            )
    for other in sampled:
        if effects := entering(graph.parameters(other)):
            _refuse_parents(graph, other, effects)


def _refuse_parents(graph: ModelGraph, other: Variable, effects: Sequence[Variable]) -> NoReturn:
    """Refuse effects that the prior of a sampled variable depends on, by how it does."""
    rv = graph.rv(other)
    try:
        prior = read_prior(rv.owner.op, rv, Values().shape(rv)) if is_gaussian(rv) else None
    except (NotGaussian, NotKnown):
        prior = None
    if prior is None:
        reason = (
            f"it enters the prior of '{other.name}' ({distribution_name(rv)}), which stays sampled"
        )
        raise Refusal(effects, reason, Remedy.LEAVE_SAMPLED)
    in_mean = graph.parents([prior.mean])
    in_scale = [v for v in effects if v not in in_mean] + graph.parents([prior.scale])
    if scaling := [effect for effect in effects if effect in in_scale]:
        reason = f"it enters the scale of '{other.name}', which stays sampled"
        raise Refusal(scaling, reason, Remedy.LEAVE_SCALE)
    reason = f"it enters the prior mean of '{other.name}', which stays sampled"
    raise Refusal(effects, reason, Remedy.LEAVE_SAMPLED, child=other)
