"""``r2``: how much of the variance of a response the model explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.model.core import Model
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors
from xarray import Dataset, DataTree

from pymc_marginal_lmm.analysis.likelihoods import read_likelihood
from pymc_marginal_lmm.model.draws import (
    as_dataset,
    check_parameters,
    chunks,
    column_of,
    over_parameters,
)
from pymc_marginal_lmm.model.likelihoods import (
    Likelihoods,
    chains_and_draws,
    marginal_and_draws,
)
from pymc_marginal_lmm.model.marginal_rv import MarginalRV
from pymc_marginal_lmm.model.recover import Drawer
from pymc_marginal_lmm.model.restore import marginal_ops, node_of
from pymc_marginal_lmm.model.varcorr import Variances
from pymc_marginal_lmm.values import Values

__all__ = ["r2"]


def r2(idata: DataTree, *, model: Any = None) -> Dataset:
    r"""Return marginal and conditional R² of each response, draw by draw.

    With the variance between rows ``σ_f²`` of the population-level predictor (effects of groups at
    the mean of their prior), that of the effects ``σ_r²`` (the mean over the rows), and the
    residual one ``σ_ε²`` (Nakagawa and Schielzeth 2013; with slopes Johnson 2014)::

        R²_marginal    =  σ_f²         / (σ_f² + σ_r² + σ_ε²)
        R²_conditional = (σ_f² + σ_r²) / (σ_f² + σ_r² + σ_ε²)

    Parameters
    ----------
    idata : DataTree
        Draws of the parameters and of the coefficients that were integrated out, as ``fit``,
        ``sample`` and ``recover`` return them. Those of group-level effects are not looked at.
    model : pymc.Model or bambi.Model, optional
        The model that :func:`~pymc_marginal_lmm.marginalize` returned, or a plain one. By default
        the one of the ``with`` context.

    Returns
    -------
    Dataset
        ``{y}_r2_marginal`` and ``{y}_r2_conditional``, ``(chain, draw)``; of LogNormal responses on
        the scale of the logarithm.

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    ValueError
        Nothing can be integrated out of the model; ``idata`` lacks a parameter or a coefficient, or
        has it in another shape; a prior couples its levels, see
        :func:`~pymc_marginal_lmm.varcorr`.

    References
    ----------
    Nakagawa and Schielzeth (2013), "A general and simple method for obtaining R² from generalized
    linear mixed-effects models". Johnson (2014), "Extension of Nakagawa & Schielzeth's R²GLMM to
    random slopes models".

    Examples
    --------
    >>> import numpy as np, pymc as pm, pymc_marginal_lmm as mlmm
    >>> x = np.arange(6) / 6
    >>> with pm.Model() as model:
    ...     beta, u = pm.Normal("beta"), pm.Normal("u", 0, pm.HalfNormal("tau"), shape=3)
    ...     y = pm.Normal("y", beta * x + u[[0, 0, 1, 1, 2, 2]], 1, observed=x)
    >>> idata = mlmm.fit(model, progressbar=False, random_seed=1)
    >>> list(mlmm.r2(idata, model=model))
    ['y_r2_marginal', 'y_r2_conditional']
    """
    model, posterior = marginal_and_draws(idata, model)
    sizes = chains_and_draws(posterior)
    results: dict[str, np.ndarray] = {}
    for op in marginal_ops(model):
        of = Variances(Likelihoods.of(model, op, posterior))
        random, residual = of.shares.sum(axis=2), of.residual
        groups = {name for component in of.components for name in component.variables}
        fixed = _between_rows(model, op, groups, posterior)
        total = fixed + random + residual
        for i, response in enumerate(op.structure.responses):
            for kind, part in (("marginal", fixed), ("conditional", fixed + random)):
                share = part[:, i] / total[:, i]
                results[f"{response.name}_r2_{kind}"] = share.reshape(sizes)
    return as_dataset(results, model, posterior, {}, {})


def _between_rows(model: Model, op: MarginalRV, groups: set[str], posterior: Dataset) -> np.ndarray:
    """Return the variance between the rows of each response of its predictor, ``(N, R)``."""
    arguments = node_of(model, op).inputs
    predictors, coefficients = _population_level(op, arguments, groups)
    used = set(ancestors(predictors))
    coefficients = [v for v in coefficients if v in used]
    _check_recovered(coefficients, posterior)
    inputs, predictors = over_parameters(model, model.free_RVs, predictors)
    named = [*model.free_RVs, *coefficients]
    columns = [column_of(posterior[v.name], v) for v in named]
    draw = Drawer([*inputs, *coefficients], [pt.flatten(p) for p in predictors])
    n = int(np.prod(chains_and_draws(posterior)))
    parts = []
    for chunk in chunks(n, 8 * op.structure.n_rows):
        rows = draw([column[chunk] for column in columns], chunk.stop - chunk.start)
        parts.append(np.stack([np.var(own, axis=1, ddof=own.shape[1] > 1) for own in rows], 1))
    return np.concatenate(parts)


def _population_level(
    op: MarginalRV, arguments: Sequence[Variable], groups: set[str]
) -> tuple[list[Variable], list[Variable]]:
    """Return linear predictors, effects of groups at their means, and coefficients in them."""
    mixed, parts = op.over(arguments)
    means = [read_likelihood(rv, Values()).mean for rv in parts["responses"]]
    predictors = [
        pt.broadcast_to(mean, response.shape)
        for mean, response in zip(means, mixed.responses, strict=True)
    ]
    coefficients = []
    # What the mean of an effect depends on comes before it.
    pairs = list(zip(mixed.effects, parts["effects"], strict=True))
    for effect, drawn in reversed(pairs):
        if effect.name in groups:
            mean = pt.cast(pt.broadcast_to(effect.mean, effect.shape), drawn.dtype)
            new = drawn.type.filter_variable(pt.specify_shape(mean, drawn.type.shape))
        else:
            new = drawn.type(name=effect.name)
            coefficients.append(new)
        predictors = graph_replace(predictors, {drawn: new}, strict=False)
    return predictors, coefficients


def _check_recovered(coefficients: Sequence[Variable], posterior: Dataset) -> None:
    missing = [v.name for v in coefficients if v.name not in posterior]
    if missing:
        raise ValueError(
            f"idata.posterior has no draws of {', '.join(map(repr, missing))}, of which the "
            "predictor is made: recover(idata, model=model) adds them."
        )
    check_parameters(coefficients, posterior)
