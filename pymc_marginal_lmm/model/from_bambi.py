"""Draws of Bambi's models, as its ``fit`` has them.

That step has no public name in Bambi 0.21; what is used of it is here and nowhere else.
"""

from __future__ import annotations

from typing import Any

from xarray import DataTree

from pymc_marginal_lmm.model.arguments import bambi_model, checked_flag, posterior_of

__all__ = ["finish_bambi"]


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

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    ValueError
        The model is not built, or ``idata`` lacks variables of it or was finished before.
    """
    backend = bambi_model(model).backend
    posterior = posterior_of(idata)
    checked_flag(omit_offsets, "omit_offsets")
    checked_flag(include_response_params, "include_response_params")
    if idata["posterior"].attrs.get("modeling_interface") == "bambi":
        raise ValueError("idata was finished before: its intercept would move twice.")
    needed = [rv.name for rv in backend.model.free_RVs]
    if missing := [name for name in needed if name not in posterior]:
        raise ValueError(
            f"idata.posterior has no draws of {', '.join(map(repr, missing))}: pass what recover "
            "returned for this model."
        )
    if not include_response_params:  # large; Bambi computes them on demand
        by_row = {d.name for d in backend.model.deterministics} & {*model.family.likelihood.params}
        idata["posterior"] = posterior.drop_vars(by_row & {*posterior.data_vars})
    finished = backend._clean_results(idata, omit_offsets, include_response_params)
    backend.fit = True
    return finished
