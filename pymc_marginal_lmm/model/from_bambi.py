"""Bambi's models, without a need for Bambi: their PyMC model, and results as its ``fit`` has them.

The latter has no public name in Bambi 0.21; what is used of it is here and nowhere else.
"""

from __future__ import annotations

from typing import Any

from pymc.model.core import Model
from xarray import DataTree

__all__ = ["finish_bambi", "pymc_model"]


def pymc_model(model: Any) -> Model:
    """Return the PyMC model of a Bambi model, which is built if need be.

    Raises
    ------
    TypeError
        It is not a Bambi model.
    """
    if not (hasattr(model, "build") and hasattr(model, "backend")):
        raise TypeError(f"A pymc.Model or a bambi.Model is needed, not {type(model).__name__}.")
    if not model.built:
        model.build()
    return model.backend.model


def finish_bambi(
    idata: DataTree,
    model: Any,
    *,
    omit_offsets: bool = True,
    include_response_params: bool = False,
) -> DataTree:
    """Bring draws of a Bambi model's PyMC model into the form in which its ``fit`` returns them.

    Bambi samples an intercept at the mean of the predictors and moves it to zero afterwards, in
    ``fit``. Draws that did not come from there must be moved too, or ``model.predict`` gives
    wrong numbers without a word. :func:`~pymc_marginal_lmm.sample` does so itself.

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
    backend = model.backend
    if not include_response_params:  # large; Bambi computes them on demand
        posterior = idata["posterior"].to_dataset()
        by_row = {d.name for d in backend.model.deterministics} & {*model.family.likelihood.params}
        idata["posterior"] = posterior.drop_vars(by_row & {*posterior.data_vars})
    finished = backend._clean_results(idata, omit_offsets, include_response_params)
    backend.fit = True
    return finished
