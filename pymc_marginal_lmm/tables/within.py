"""``within_cells``: the likelihood of what differs within the cells of a compressed table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from pymc_marginal_lmm.tables.compress import Compressed

__all__ = ["within_cells"]


def within_cells(name: str, data: Compressed, sigma: Any, **kwargs: Any) -> Any:
    r"""Add what differs within the cells of a compressed table to a model.

    A sum of ``ν`` squares of residuals is ``S ~ Gamma(ν/2, 1/2σ²)``.

    Parameters
    ----------
    name : str
        Of the observed variable that is added to the model of the ``with`` context.
    data : Compressed
        Of :func:`~pymc_marginal_lmm.compress`.
    sigma : Variable, array or float
        Residual standard deviation; with ``strata`` one for each row of ``data.within``.
    **kwargs
        For :class:`pymc.Gamma`, as ``dims``.

    Returns
    -------
    Variable
        The sums of squares, observed.

    Raises
    ------
    TypeError
        ``data`` is not what ``compress`` returns.
    ValueError
        ``sigma`` has another length, or no cell has more rows than pseudo-rows.
    """
    if not isinstance(data, Compressed):
        raise TypeError(f"data must be what compress returned, not {type(data).__name__}.")
    n = len(data.within)
    if not n:
        raise ValueError(
            "data: no cell has more rows than pseudo-rows, so that nothing is left within cells; "
            "leave within_cells out."
        )
    sigma = pt.as_tensor(sigma)
    if sigma.type.ndim > 1 or sigma.type.shape not in ((), (1,), (n,), (None,)):
        raise ValueError(
            f"sigma has shape {sigma.type.shape}; one number is right, or one for each of the {n} "
            "rows of data.within."
        )
    freedom = data.within["degrees_of_freedom"].to_numpy()
    observed = data.within["sum_of_squares"].to_numpy()
    return pm.Gamma(name, freedom / 2, 0.5 * sigma**-2.0 * np.ones(n), observed=observed, **kwargs)
