"""Bambi models: sample them marginally, and hand Bambi what its own methods expect.

``marginalize`` needs none of this: ``marginalize(model.backend.model)`` works on every Bambi
model. But Bambi samples an intercept at the mean of the predictors and moves it to zero
afterwards, in ``fit``. Draws that did not come from there must be moved too, or ``model.predict``
gives wrong numbers without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pymc as pm
from xarray import DataTree

from pymc_marginal_lmm.model.conditional import recoverable
from pymc_marginal_lmm.model.marginalize import Names, marginalize
from pymc_marginal_lmm.model.recover import recover

if TYPE_CHECKING:
    import bambi

__all__ = ["finish", "fit"]


def finish(
    idata: DataTree,
    model: bambi.Model,
    *,
    omit_offsets: bool = True,
    include_response_params: bool = False,
) -> DataTree:
    """Bring recovered draws into the form in which Bambi's ``fit`` returns draws.

    Parameters
    ----------
    idata : DataTree
        Draws of all variables of ``model.backend.model``: what
        :func:`~pymc_marginal_lmm.recover` returned. Pass it once, since the intercept moves.
    model : bambi.Model
        The built model.
    omit_offsets : bool, default True
        Leave out the standardized effects of non-centred terms.
    include_response_params : bool, default False
        Include the parameters of the response's distribution, by row.

    Returns
    -------
    DataTree
        To be used with ``model.predict`` and everything else of Bambi.
    """
    finished = model.backend._clean_results(idata, omit_offsets, include_response_params)
    model.backend.fit = True
    return finished


def fit(
    model: bambi.Model,
    rvs_to_marginalize: Names | None = None,
    *,
    omit_offsets: bool = True,
    include_response_params: bool = False,
    random_seed: int | None = None,
    progressbar: bool = True,
    **kwargs: Any,
) -> DataTree:
    """Do what ``model.fit()`` does, with the effects integrated out while sampling.

    Parameters
    ----------
    model : bambi.Model
        Any model; it is built if it is not.
    rvs_to_marginalize : str, Variable, or sequence of them, optional
        See :func:`~pymc_marginal_lmm.marginalize`.
    omit_offsets, include_response_params : bool
        See :func:`finish`.
    random_seed : int, optional
        Makes the draws reproducible.
    progressbar : bool, default True
        Show progress.
    **kwargs
        For :func:`pymc.sample`, such as ``draws`` or ``nuts_sampler``.

    Returns
    -------
    DataTree
        With the same variables as from ``model.fit()``.

    Examples
    --------
    >>> import bambi as bmb
    >>> from pymc_marginal_lmm.bambi import fit
    >>> model = bmb.Model("y ~ x + (x|g)", data)  # doctest: +SKIP
    >>> idata = fit(model, nuts_sampler="numpyro")  # doctest: +SKIP
    >>> model.predict(idata, kind="response")  # doctest: +SKIP
    """
    if not model.built:
        model.build()
    marginal = marginalize(model.backend.model, rvs_to_marginalize)
    with marginal:
        idata = pm.sample(random_seed=random_seed, progressbar=progressbar, **kwargs)
    # Bambi computes the parameters of the response on demand: there is one of them per row.
    names = [n for n in recoverable(marginal) if n not in model.family.likelihood.params]
    if names:
        recover(
            idata,
            model=marginal,
            var_names=names,
            random_seed=random_seed,
            progressbar=progressbar,
        )
    return finish(
        idata,
        model,
        omit_offsets=omit_offsets,
        include_response_params=include_response_params,
    )
