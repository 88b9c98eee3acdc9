"""Bambi's models, without a need for Bambi: their PyMC model, and results as its ``fit`` has them.

The latter has no public name in Bambi 0.21; what is used of it is here and nowhere else.
"""

from __future__ import annotations

from typing import Any

from pymc.model.core import Model
from xarray import DataTree

__all__ = ["as_fitted", "pymc_model"]


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


def as_fitted(model: Any, idata: DataTree, keep_offsets: bool = False) -> DataTree:
    """Bring draws of a Bambi model's PyMC model into the form in which its ``fit`` returns them.

    Intercepts are for predictors as the user gave them, not as Bambi centred them; offsets of
    effects, and the mean of each row, are left out.
    """
    backend = model.backend
    posterior = idata["posterior"].to_dataset()
    by_row = {d.name for d in backend.model.deterministics} & {*model.family.likelihood.params}
    idata["posterior"] = posterior.drop_vars(by_row & {*posterior.data_vars})
    return backend._clean_results(
        idata, omit_offsets=not keep_offsets, include_response_params=False
    )
