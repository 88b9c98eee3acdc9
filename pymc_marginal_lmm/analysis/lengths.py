"""Parameters that are longer or shorter than what they are parameters of, found by name.

PyMC notices when a density is compiled, in the words of the operation that fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.analysis.likelihoods import is_likelihood
from pymc_marginal_lmm.analysis.priors import GaussianPrior
from pymc_marginal_lmm.analysis.remedies import Remedy
from pymc_marginal_lmm.analysis.roles import ModelGraph
from pymc_marginal_lmm.analysis.terms import Refusal
from pymc_marginal_lmm.values import NotKnown, Values

__all__ = ["check_priors", "check_responses"]

Shape = tuple[int, ...]


def check_priors(
    priors: dict[Variable, GaussianPrior], shapes: dict[Variable, Shape], values: Values
) -> None:
    """Refuse effects whose prior mean or scale does not have their shape."""
    for effect, prior in priors.items():
        shape, ndim = shapes[effect], prior.support_ndim
        expected = {"mean": (prior.mean, shape)}
        if not ndim:
            expected["scale"] = (prior.scale, shape)
        for what, (parameter, full) in expected.items():
            found = _shape(values, parameter)
            if found is not None and not _fits(found, full):
                raise Refusal(
                    [effect],
                    f"its prior {what} has shape {found}, which does not fit its own, {shape}",
                    Remedy.FIT_LENGTHS,
                )


def check_responses(graph: ModelGraph, candidates: Sequence[Variable], values: Values) -> None:
    """Refuse effects in a likelihood whose parameters do not have the shape of its data."""
    for response in graph.observed:
        rv = graph.rv(response)
        if not is_likelihood(rv) or rv.owner.op.ndim_supp:
            continue
        effects = [v for v in graph.parents(graph.parameters(response)) if v in candidates]
        data = _shape(values, graph.value(response)) if effects else None
        if data is None:
            continue
        for what, found in _shapes_of(values, rv):
            if not _fits(found, data):
                raise Refusal(
                    effects,
                    f"the {what} of '{response.name}' has shape {found}, which does not fit its "
                    f"data, of shape {data}",
                    Remedy.FIT_ROWS,
                )


def _shapes_of(values: Values, rv: Variable) -> Iterator[tuple[str, Shape]]:
    parameters = rv.owner.op.dist_params(rv.owner)
    for what, parameter in zip(("mean", "standard deviation"), parameters, strict=True):
        found = _shape(values, parameter)
        if found is not None:
            yield what, found


def _shape(values: Values, variable: Variable) -> Shape | None:
    """Return a shape, or None if it is not known, or if there is none since lengths differ."""
    try:
        return values.shape(variable)
    except (NotKnown, ValueError, AssertionError):
        return None


def _fits(shape: Shape, full: Shape) -> bool:
    try:
        return np.broadcast_shapes(shape, full) == full
    except ValueError:
        return False
