"""Read a model's graph: which variables can be integrated out, and the structure that results.

Candidates are tried all together. Whatever stands in the way of some of them is a refusal of
those; they become parameters, and the rest is tried again. The loop ends since the set of
candidates shrinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.transforms import ZeroSumTransform
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable

from pymc_marginal_lmm.analysis.affine import AffineReader
from pymc_marginal_lmm.analysis.batches import batches_of_rows, seen_by_batch
from pymc_marginal_lmm.analysis.finite import check_finite
from pymc_marginal_lmm.analysis.grouping import find_factors
from pymc_marginal_lmm.analysis.identified import check_identified
from pymc_marginal_lmm.analysis.lengths import check_priors, check_responses
from pymc_marginal_lmm.analysis.likelihoods import (
    Likelihood,
    check_covariance,
    read_likelihood,
)
from pymc_marginal_lmm.analysis.offsets import read_noise, read_regression
from pymc_marginal_lmm.analysis.ordering import block_structure
from pymc_marginal_lmm.analysis.priors import (
    GaussianPrior,
    NotGaussian,
    distribution_name,
    is_gaussian,
    is_transposed,
    read_prior,
    read_sparse_prior,
)
from pymc_marginal_lmm.analysis.remedies import Remedy
from pymc_marginal_lmm.analysis.replace import substitute
from pymc_marginal_lmm.analysis.roles import ModelGraph
from pymc_marginal_lmm.analysis.rows import stack_rows
from pymc_marginal_lmm.analysis.terms import NOTHING, Linear, Refusal, Terms, describe
from pymc_marginal_lmm.analysis.uses import check_other_uses
from pymc_marginal_lmm.analysis.validity import all_hold, not_infinite
from pymc_marginal_lmm.errors import NotMarginalizable
from pymc_marginal_lmm.structure import (
    GroupingFactor,
    MixedModel,
    Noise,
    RandomEffects,
    Regression,
    Response,
)
from pymc_marginal_lmm.values import NotKnown, Values

__all__ = ["Reading", "read_model"]


@dataclass(frozen=True)
class Reading:
    """What was understood.

    Parameters
    ----------
    model : MixedModel or None
        Over the variables of the graph that was read; None if nothing can be integrated out.
    effects, responses : sequence of Variable
        The graph's variables, in the order of ``model.effects`` and ``model.responses``.
    barren : sequence of Variable
        Free variables that depend on the effects and that no data depend on, parents first: they
        integrate to one, whatever their distribution.
    refusals : dict
        Why each other candidate stays sampled, by name.
    structural : dict
        The ``pm.Data`` whose values the structure was read from, by name.
    frozen : tuple of str
        Such ``pm.Data`` that were replaced by constants before reading.
    from_the_end : dict of str to int
        Index arrays of effects, and how many of their elements are negative.
    """

    model: MixedModel | None = None
    effects: Sequence[Variable] = ()
    responses: Sequence[Variable] = ()
    barren: Sequence[Variable] = ()
    refusals: dict[str, NotMarginalizable] = field(default_factory=dict)
    structural: dict[str, SharedVariable] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    from_the_end: dict[str, int] = field(default_factory=dict)


def read_model(graph: ModelGraph, candidates: Sequence[Variable] | None = None) -> Reading:
    """Read as much of a model as can be integrated out.

    Parameters
    ----------
    graph : ModelGraph
        The model.
    candidates : sequence of Variable, optional
        Free variables to try; all of them by default.

    Raises
    ------
    NotMarginalizable
        The data hold values that are not finite.
    """
    asked = list(graph.free if candidates is None else candidates)
    reading, children = _read_most(graph, asked)
    refusals = dict(reading.refusals)
    for name, child in children.items():
        if others := _together(graph, asked, child):
            refusal = refusals[name]
            listed = " and ".join(f"'{other.name}'" for other in others)
            remedy = Remedy.ALSO.about(listed)
            refusals[name] = NotMarginalizable(name, refusal.reason, remedy, refusal.place)
    return replace(reading, refusals=refusals)


def _read_most(
    graph: ModelGraph, candidates: Sequence[Variable]
) -> tuple[Reading, dict[str, Variable]]:
    """Return what was read, and the sampled children that keep some candidates sampled."""
    remaining = list(candidates)
    refusals: dict[str, NotMarginalizable] = {}
    children: dict[str, Variable] = {}
    while remaining:
        barren = _barren(graph, remaining)
        effects = [variable for variable in remaining if variable not in barren]
        try:
            return replace(_read_exactly(graph, effects, barren), refusals=refusals), children
        except Refusal as refusal:
            for leaf in refusal.leaves:
                remaining.remove(leaf)
                refusals[leaf.name] = NotMarginalizable(
                    leaf.name, refusal.reason, str(refusal.remedy), describe(refusal.node)
                )
                if refusal.child is not None:
                    children[leaf.name] = refusal.child
    return Reading(refusals=refusals), children


def _together(graph: ModelGraph, candidates: Sequence[Variable], child: Variable) -> list[Variable]:
    """Return what has to be integrated out too, so that all can be: a child and its children."""
    more: list[Variable] = []
    while child not in (*candidates, *more):
        more.append(child)
        try:
            reading, children = _read_most(graph, [*candidates, *more])
        except NotMarginalizable:
            return []
        if not reading.refusals:
            return more
        if not children:
            return []
        child = next(iter(children.values()))
    return []


def _barren(graph: ModelGraph, candidates: Sequence[Variable]) -> list[Variable]:
    """Return what drops out of the model once the candidates that data depend on do."""
    uninformed = graph.uninformed()
    dropped = [variable for variable in candidates if variable not in uninformed]
    barren: list[Variable] = []
    for variable in uninformed:  # parents first
        if any(parent in dropped for parent in graph.parents(graph.parameters(variable))):
            barren.append(variable)
            dropped.append(variable)
    return barren


def _read_exactly(
    graph: ModelGraph, candidates: list[Variable], barren: list[Variable], *, sparse: bool = True
) -> Reading:
    """Read the model with exactly these candidates integrated out, or refuse some of them.

    Priors with a sparse precision are read by it, unless the model is not sparse.
    """
    values = Values()
    sampled = [v for v in graph.free if v not in candidates and v not in barren]
    shapes = _read_shapes(graph, candidates, values)
    priors = _read_priors(graph, shapes, sparse)
    check_priors(priors, shapes, values)
    check_responses(graph, candidates, values)
    check_other_uses(graph, candidates, sampled)

    reader = AffineReader(values, sampled)
    leaves = [variable for variable in graph.free if variable in candidates]  # parents first
    for leaf in leaves:
        reader.add_leaf(leaf, priors[leaf].mean, shapes[leaf])
    predictors = _read_predictors(graph, leaves, reader, values)
    means = _at_prior_mean(leaves, priors, shapes, sampled)
    responses = _responses(predictors, reader, means, sampled)
    terms = _terms(predictors, leaves)
    effects = [
        _effects(leaf, shapes[leaf], priors[leaf], means[leaf], own, values)
        for leaf, own in zip(leaves, terms, strict=True)
    ]
    check_identified(leaves, effects, terms, reader.parameters, sampled)
    factors = find_factors(terms, effects, reader.parameters, batches_of_rows(responses))
    blocks = block_structure(*seen_by_batch(factors, responses), effects)
    if blocks is None or (blocks.band and any(response.correlation for response in responses)):
        return _read_exactly(graph, candidates, barren, sparse=False)
    regression, noise = _read_rows(leaves, responses, factors, sampled)
    model = MixedModel(tuple(effects), responses, factors, blocks, regression, noise)
    variables = [predictor.variable for predictor in predictors]
    check_finite(model, [graph.value(variable) for variable in variables], sampled)
    return Reading(
        model,
        leaves,
        variables,
        barren,
        structural=values.structural,
        from_the_end=dict(reader.from_the_end),
    )


class _Predictor(NamedTuple):
    """A likelihood that effects enter, and the linear part of its mean."""

    variable: Variable
    shape: tuple[int, ...]
    likelihood: Likelihood
    linear: Linear


def _read_predictors(
    graph: ModelGraph, leaves: Sequence[Variable], reader: AffineReader, values: Values
) -> list[_Predictor]:
    predictors: list[_Predictor] = []
    for response in graph.observed:
        if not any(parent in leaves for parent in graph.parents(graph.parameters(response))):
            continue
        shape = values.shape(graph.rv(response))
        likelihood = read_likelihood(graph.rv(response), values)
        linear = reader.read(likelihood.mean, shape)
        if linear:
            check_covariance(linear, response.name, likelihood, shape)
            predictors.append(_Predictor(response, shape, likelihood, linear))
    unused = [leaf for leaf in leaves if not any(leaf in own.linear for own in predictors)]
    if unused:
        if not graph.observed:
            raise Refusal(unused, "the model has no likelihood", Remedy.GIVE_DATA)
        raise Refusal(unused, "it enters no likelihood", Remedy.REMOVE)
    return predictors


def _responses(
    predictors: Sequence[_Predictor],
    reader: AffineReader,
    means: dict[Variable, Variable],
    sampled: Sequence[Variable],
) -> tuple[Response, ...]:
    """Return the likelihoods with all effects at their means."""
    offsets = [predictor.likelihood.mean for predictor in predictors]
    offsets = substitute(offsets, reader.zeros(offsets), sampled)
    offsets = substitute(offsets, means, sampled)
    return tuple(
        Response(
            name=predictor.variable.name,
            family=predictor.likelihood.family,
            shape=predictor.shape,
            offset=offset,
            sigma=predictor.likelihood.sigma,
            correlation=predictor.likelihood.correlation,
        )
        for predictor, offset in zip(predictors, offsets, strict=True)
    )


def _terms(predictors: Sequence[_Predictor], leaves: Sequence[Variable]) -> list[Terms]:
    """Return the terms of each leaf in all rows, ``(n, K)``."""
    sizes = [int(np.prod(predictor.shape, dtype=int)) for predictor in predictors]
    linears = [predictor.linear for predictor in predictors]
    terms = [
        stack_rows([(n, linear.get(leaf)) for n, linear in zip(sizes, linears, strict=True)])
        for leaf in leaves
    ]
    if all((own.positions == NOTHING).all() for own in terms):
        raise Refusal(leaves, "it enters no row of the data", Remedy.REMOVE)
    return terms


def _effects(
    leaf: Variable,
    shape: tuple[int, ...],
    prior: GaussianPrior,
    mean: Variable,
    terms: Terms,
    values: Values,
) -> RandomEffects:
    valid = all_hold(prior.valid, not_infinite(mean, values))
    if prior.unseen and (n := _unseen_at_end(terms.positions, shape)):
        valid = all_hold(valid, prior.unseen(n))
    return RandomEffects(
        name=leaf.name,
        dims=tuple(leaf.owner.op.dims),
        shape=shape,
        dtype=leaf.type.dtype,
        support_ndim=prior.support_ndim,
        zero_sum=prior.zero_sum,
        flat=prior.flat,
        scale=prior.scale,
        mean=prior.mean,
        valid=valid,
        log_factor=prior.log_factor,
        precision=prior.precision,
    )


def _read_rows(
    leaves: Sequence[Variable],
    responses: Sequence[Response],
    factors: Sequence[GroupingFactor],
    sampled: Sequence[Variable],
) -> tuple[Regression | None, Noise | None]:
    """Return what offsets and sigmas of all rows amount to, where that is few parameters."""
    shapes = [response.shape for response in responses]
    n_effects = sum(factor.size for factor in factors)
    try:
        offsets = [response.offset for response in responses]
        regression = read_regression(offsets, shapes, sampled, n_effects)
        return regression, read_noise([response.sigma for response in responses], shapes, sampled)
    except ValueError as error:
        names = " or ".join(f"'{response.name}'" for response in responses)
        reason = f"lengths do not fit in the mean or standard deviation of {names} ({error})"
        raise Refusal(leaves, reason, Remedy.FIT_ROWS) from None


def _read_shapes(
    graph: ModelGraph, candidates: Sequence[Variable], values: Values
) -> dict[Variable, tuple[int, ...]]:
    shapes = {}
    for candidate in candidates:
        rv = graph.rv(candidate)
        if is_transposed(rv):
            raise Refusal(
                [candidate],
                f"its dims are in another order than those of its {distribution_name(rv)} prior, "
                "which has its core dims last",
                Remedy.CORE_DIMS_LAST,
            )
        if not is_gaussian(rv):
            raise Refusal(
                [candidate],
                f"its prior is {distribution_name(rv)}",
                Remedy.NORMAL_PRIOR,
            )
        try:
            shapes[candidate] = values.shape(rv)
        except NotKnown:
            raise Refusal(
                [candidate], "its shape depends on a sampled variable", Remedy.LEAVE_SAMPLED
            ) from None
    return shapes


def _read_priors(
    graph: ModelGraph, shapes: dict[Variable, tuple[int, ...]], sparse: bool
) -> dict[Variable, GaussianPrior]:
    candidates, priors = list(shapes), {}
    for candidate, shape in shapes.items():
        rv = graph.rv(candidate)
        try:
            prior = read_sparse_prior(rv.owner.op, rv, shape) if sparse else None
            prior = prior or read_prior(rv.owner.op, rv, shape)
            if any(p in candidates for p in graph.parents([prior.mean])):
                prior = prior.unshifted or prior
        except NotGaussian as error:
            raise Refusal([candidate], error.reason, error.remedy) from None
        transform = candidate.owner.op.transform
        if transform is not None and not isinstance(transform, ZeroSumTransform):
            raise Refusal(
                [candidate],
                f"its value is transformed ({type(transform).__name__}), which restricts its prior",
                Remedy.REMOVE_TRANSFORM,
            )
        priors[candidate] = prior
    for candidate, prior in priors.items():
        parts = [prior.scale, prior.valid, prior.log_factor]
        if prior.precision is not None:
            parts += [prior.precision.values, prior.precision.start]
        parts = [part for part in parts if isinstance(part, Variable)]
        scaling = [p for p in graph.parents(parts) if p in candidates]
        if scaling:
            reason = f"it enters the scale of '{candidate.name}'"
            raise Refusal(scaling, reason, Remedy.LEAVE_SCALE)
    return priors


def _unseen_at_end(positions: np.ndarray, shape: tuple[int, ...]) -> int:
    """Return how many elements at the end of the last axis occur in no row, the most there are."""
    seen = np.zeros(shape, dtype=bool)
    seen.reshape(-1)[positions[positions != NOTHING]] = True
    backwards = np.concatenate([seen[..., ::-1], np.ones_like(seen[..., :1])], axis=-1)
    return int(np.argmax(backwards, axis=-1).max())


def _at_prior_mean(
    leaves: Sequence[Variable],
    priors: dict[Variable, GaussianPrior],
    shapes: dict[Variable, tuple[int, ...]],
    sampled: Sequence[Variable],
) -> dict[Variable, Variable]:
    """Map each effect to its mean when all integrated ``u`` are zero."""
    means: dict[Variable, Variable] = {}
    for leaf in leaves:
        (mean,) = substitute([priors[leaf].mean], means, sampled)
        full = pt.broadcast_to(mean.astype(leaf.type.dtype), shapes[leaf])
        if isinstance(mean, Constant):
            value = np.broadcast_to(mean.data, shapes[leaf]).astype(leaf.type.dtype)
            full = pt.constant(value)
        means[leaf] = pt.specify_shape(full, leaf.type.shape) if full.type != leaf.type else full
    return means
