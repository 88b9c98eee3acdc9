"""What is right as it is read, but may not be what a user meant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pymc.model.fgraph import ModelFreeRV
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_marginal_lmm.analysis.likelihoods import is_likelihood
from pymc_marginal_lmm.structure import GroupingFactor, MixedModel, Response

__all__ = ["remarks"]


def remarks(observed: Sequence[Variable], model: MixedModel | None) -> tuple[str, ...]:
    """Return a sentence about each thing that is remarkable in a model.

    Parameters
    ----------
    observed : sequence of Variable
        The observed variables of a model's graph.
    model : MixedModel, optional
        What was read of it.
    """
    found = [text for variable in observed if (text := _broadcast(variable))]
    if model is not None:
        start = 0
        for response in model.responses:
            rows = slice(start, start := start + response.size)
            for factor in model.factors:
                if _is_of_rows(response, factor, rows):
                    names = [model.effects[e].name for s in factor.shares for e in s.effects]
                    listed = " and ".join(f"'{name}'" for name in dict.fromkeys(names))
                    has = "has" if len(set(names)) == 1 else "have"
                    found.append(
                        f"{listed} {has} as many levels as '{response.name}' has rows "
                        f"({response.size:,}): effect and residual are told apart by their priors "
                        "only."
                    )
    return tuple(found)


def _broadcast(variable: Variable) -> str | None:
    """Say that a response has become ``n × n`` since one parameter is a row, another a column."""
    rv, value = variable.owner.inputs
    if not is_likelihood(rv) or rv.owner.op.ndim_supp:
        return None
    parts = [v.type.shape for v in (*rv.owner.op.dist_params(rv.owner), value)]
    try:
        together = np.broadcast_shapes(*parts)
    except (TypeError, ValueError):  # lengths that are not known, or do not fit
        return None
    if len(together) != 2 or together[0] != together[1] or together[0] < 2:
        return None
    if together in parts[:-1]:
        return None
    mean, sigma, data = parts
    return (
        f"'{variable.owner.op.name}' is {together[0]} × {together[1]} by broadcasting: its mean "
        f"has shape {mean}, its standard deviation {sigma}, its data {data}."
    )


def _is_of_rows(response: Response, factor: GroupingFactor, rows: slice) -> bool:
    """Whether a factor has one level per row, with the same weight, beside an unknown sigma."""
    weights = factor.coefficients
    if response.size < 2 or response.correlation is not None or isinstance(weights, Variable):
        return False
    if factor.n_effects - factor.padding != 1 or factor.codes.shape[1] != 1:
        return False
    own = np.abs(weights[rows]).sum(axis=(1, 2))
    if not own.all() or not np.allclose(own, own[0]):
        return False
    present = np.abs(weights).sum(axis=(1, 2)) > 0
    uses = np.bincount(factor.codes[present, 0], minlength=factor.n_levels)
    if (uses[factor.codes[rows, 0]] != 1).any():
        return False
    sources = ancestors([response.sigma])
    return any(v.owner is not None and isinstance(v.owner.op, ModelFreeRV) for v in sources)
