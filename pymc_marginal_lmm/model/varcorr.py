"""``varcorr``: standard deviations and correlations of effects, and their shares of variance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from xarray import Dataset, DataTree

from pymc_marginal_lmm.algebra.weights import as_float
from pymc_marginal_lmm.model.components import Component, components_of
from pymc_marginal_lmm.model.draws import as_dataset
from pymc_marginal_lmm.model.likelihoods import (
    Likelihoods,
    chains_and_draws,
    marginal_and_draws,
)
from pymc_marginal_lmm.model.restore import marginal_ops
from pymc_marginal_lmm.structure import Response

__all__ = ["Variances", "varcorr"]

MOST = 50
"""Effects per level up to which correlations are returned."""


def varcorr(idata: DataTree, *, model: Any = None) -> Dataset:
    r"""Return standard deviations, correlations, and shares of variance of effects, draw by draw.

    What lme4's ``VarCorr`` and brms' function of the same name say, for every draw of the
    parameters: effects are named by what they are, whatever the parametrisation (centred,
    non-centred, by Cholesky factors), and what multiplies them (``tau * z[group]``) counts as part
    of their standard deviation.

    Parameters
    ----------
    idata : DataTree
        Draws of the parameters, by any sampler, with or without recovered effects.
    model : pymc.Model or bambi.Model, optional
        The model that :func:`~pymc_marginal_lmm.marginalize` returned, or a plain one, which is
        marginalized here. By default the one of the ``with`` context.

    Returns
    -------
    Dataset
        ``chain`` and ``draw`` first; :func:`arviz.summary` takes it.

        - ``{factor}_sd`` ``(effect)``: standard deviations of the effects of a level; first
          ``(level)`` if they differ between levels. ``factor`` is the dim of the levels, or the
          names of the variables where there is none.
        - ``{factor}_corr`` ``(effect, effect)``: correlations, if there are several effects, up to
          50.
        - ``{y}_sigma``: residual standard deviation; of rows with several the root of their mean
          square.
        - ``{y}_icc`` ``(factor)``: the share of the variance of ``y`` (of its logarithm, for
          LogNormal) that is due to a factor, among all factors and the residual: the intraclass
          correlation. With slopes the mean over the rows (Johnson 2014, equation 10).

        Effects with a known standard deviation, and coefficients that all rows share, are not among
    them: fixed effects.

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    ValueError
        Nothing can be integrated out of the model; ``idata`` lacks a parameter of it, or has it in
        another shape; a prior couples its levels (a random walk, a map), so that they have no
        standard deviation of their own.

    References
    ----------
    Johnson (2014), "Extension of Nakagawa & Schielzeth's R²GLMM to random slopes models".

    Examples
    --------
    >>> import numpy as np, pymc as pm, pymc_marginal_lmm as mlmm
    >>> with pm.Model(coords={"group": ["a", "b", "c"]}) as model:
    ...     u = pm.Normal("u", 0, pm.HalfNormal("tau"), dims="group")
    ...     y = pm.Normal("y", u[[0, 0, 1, 1, 2, 2]], 1, observed=np.arange(6) / 6)
    >>> idata = mlmm.fit(model, progressbar=False, random_seed=1)
    >>> list(mlmm.varcorr(idata, model=model))
    ['group_sd', 'y_sigma', 'y_icc']
    """
    model, posterior = marginal_and_draws(idata, model)
    sizes = chains_and_draws(posterior)
    results: dict[str, np.ndarray] = {}
    dims: dict[str, list[str]] = {}
    coords: dict[str, Any] = {}
    for op in marginal_ops(model):
        of = Variances(Likelihoods.of(model, op, posterior))
        for component, covariance in zip(of.components, of.covariances, strict=True):
            f, across = component.label, f"{component.label}_effect"
            sd = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
            by_level = [f] if sd.shape[1] > 1 else []
            results[f"{f}_sd"] = sd if by_level else sd[:, 0]
            dims[f"{f}_sd"] = [*by_level, across]
            coords[across] = component.effects
            if by_level:
                coords[f] = component.levels
            if 1 < len(component.effects) <= MOST:
                with np.errstate(invalid="ignore"):  # of what does not vary there is none
                    corr = covariance / (sd[..., :, None] * sd[..., None, :])
                results[f"{f}_corr"] = corr if by_level else corr[:, 0]
                dims[f"{f}_corr"] = [*by_level, across, f"{across}_2"]
                coords[f"{across}_2"] = component.effects
        for i, response in enumerate(of.given.mixed.responses):
            results[f"{response.name}_sigma"] = np.sqrt(of.residual[:, i])
            dims[f"{response.name}_sigma"] = []
            if of.components:
                total = of.shares[:, i].sum(axis=1) + of.residual[:, i]
                results[f"{response.name}_icc"] = of.shares[:, i] / total[:, None]
                dims[f"{response.name}_icc"] = ["factor"]
                coords["factor"] = [component.label for component in of.components]
    shaped = {name: values.reshape(*sizes, *values.shape[1:]) for name, values in results.items()}
    return as_dataset(shaped, model, posterior, dims, coords)


class Variances:
    """Of a set of likelihoods, for each draw.

    Attributes
    ----------
    components : list of Component
    covariances : list of array, (N, M or 1, S, S)
        Of the effects of each component.
    shares : array, (N, R, C)
        Mean over the rows of response ``r`` of the variance that is due to component ``c``.
    residual : array, (N, R)
        Mean of the residual variance.

    Raises
    ------
    ValueError
        A prior couples the levels of a factor.
    """

    def __init__(self, given: Likelihoods) -> None:
        self.given = given
        mixed, responses = given.mixed, given.mixed.responses
        self.components = components_of(given)
        for component in self.components:
            _check_not_coupled(component, given)
        scales = [component.scale(mixed) for component in self.components]
        shares = [c.variance(mixed, own) for _, own in mixed.rows() for c in self.components]
        graphs = [*scales, *shares, *(_residual(response) for response in responses)]
        values = given.compiled([pt.flatten(as_float(graph)) for graph in graphs])(given.points)
        sizes = [int(np.prod(graph.type.shape, dtype=int)) for graph in graphs]
        parts = iter(np.split(values, np.cumsum(sizes)[:-1], axis=1))
        blocks = [next(parts).reshape(-1, *scale.type.shape) for scale in scales]
        self.covariances = [block @ block.mT for block in blocks]
        shape = (len(values), len(responses), len(self.components))
        found = [next(parts) for _ in shares]
        self.shares = np.concatenate([np.zeros((len(values), 0)), *found], axis=1).reshape(shape)
        self.residual = np.concatenate(list(parts), axis=1)


def _residual(response: Response) -> Variable:
    """Return the mean of the residual variances of a response's rows."""
    variance = pt.mean(pt.broadcast_to(as_float(response.sigma) ** 2, response.shape))
    if response.correlation is None:
        return variance
    matrix = as_float(response.correlation.matrix)
    return variance * pt.mean(pt.diagonal(matrix, axis1=-2, axis2=-1))


def _check_not_coupled(component: Component, given: Likelihoods) -> None:
    for effect in given.mixed.effects:
        if effect.name in component.variables and effect.precision is not None:
            raise ValueError(
                f"'{effect.name}' has a prior that couples its elements (a random walk, an "
                "autoregression, a map): they have no standard deviation of their own, and no "
                "share of the variance. Its scale is a parameter in the posterior."
            )
