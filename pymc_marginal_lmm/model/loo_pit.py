"""``loo_pit``: where each row lies in its predictive distribution given all others."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import ndtr
from xarray import Dataset, DataTree

from pymc_marginal_lmm.algebra.left_out import rows_given_others
from pymc_marginal_lmm.model.arguments import checked_flag
from pymc_marginal_lmm.model.left_out import check_finite, in_chunks
from pymc_marginal_lmm.model.likelihoods import (
    Likelihoods,
    by_response,
    chains_and_draws,
    marginal_and_draws,
)
from pymc_marginal_lmm.model.restore import marginal_ops

__all__ = ["loo_pit"]

FEWEST = 25
"""Draws that have a tail of five, the fewest that Pareto smoothing takes."""


def loo_pit(idata: DataTree, *, model: Any = None, progressbar: bool = True) -> Dataset:
    r"""Compute P(ỹ_i ≤ y_i | y_−i) of each row, the effects and the parameters integrated out.

    The probability integral transform of leave-one-out cross-validation. If the model is right
    these are uniform on the interval from 0 to 1. They are high and low too often if the spread of
    the data is underestimated, and near ½ too often if it is overestimated;
    ``arviz.plot_ecdf_pit`` shows it.

    Parameters
    ----------
    idata : DataTree
        Draws of the parameters, by any sampler, with or without recovered effects.
    model : pymc.Model or bambi.Model, optional
        The model that :func:`~pymc_marginal_lmm.marginalize` returned, or a plain one, which is
        marginalized here. By default the one of the ``with`` context.
    progressbar : bool, default True
        Show progress.

    Returns
    -------
    Dataset
        One variable of each likelihood with integrated effects, with its name, shape and dims.

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    ValueError
        Nothing can be integrated out of the model; ``idata`` lacks a parameter of it, or has it in
        another shape, or fewer than 25 draws; or without a row a flat coefficient is not
        identified.

    Warns
    -----
    UserWarning
        By ArviZ: the parameters depend so much on some rows (k̂) that their weights are unreliable.

    Notes
    -----
    Given the parameters and all others, a row is Normal (a LogNormal one by its logarithm), with a
    mean and standard deviation in closed form:

    .. math::
        P(\tilde y_i \le y_i \mid y_{-i})
        = \sum_s w_{is}\, \Phi\!\left(\frac{y_i - m_i(\theta_s)}{s_i(\theta_s)}\right).

    The weights are those of ``arviz.loo(idata, var_name="y_loo")`` (Vehtari, Gelman and Gabry 2017;
    for the conditional moments see Bürkner, Gabry and Vehtari 2021, equations 6 and 7).
    ``arviz.loo_pit`` counts replicated draws instead, and those of the posterior predictive, given
    effects that have seen the row, are not from this distribution.
    """
    # As in the importance sampling of fit: slow to import.
    from arviz_stats import loo

    show = checked_flag(progressbar, "progressbar")
    model, posterior = marginal_and_draws(idata, model)
    n_draws = int(np.prod(chains_and_draws(posterior)))
    if n_draws < FEWEST:
        raise ValueError(
            f"idata.posterior has {n_draws} draws, too few for weights: pass {FEWEST} at least."
        )
    found = Dataset()
    for op in marginal_ops(model):
        given = Likelihoods.of(model, op, posterior)
        values = given.compiled(rows_given_others(given.mixed, given.ys))
        n = given.mixed.n_rows
        log_p, z = np.split(in_chunks(values, given.points, 2 * n, show), 2, axis=1)
        check_finite(log_p, given, posterior, given.row)
        tree = DataTree.from_dict({"posterior": posterior})
        tree["log_likelihood"] = by_response(log_p, given, posterior, "")
        below = by_response(ndtr(z), given, posterior, "")
        for name, each in below.data_vars.items():
            pit = each.mean(["chain", "draw"])
            if given.points.shape[1]:  # or there is nothing that draws differ in
                log_weights = loo(tree, var_name=str(name), pointwise=True).log_weights
                pit = (np.exp(log_weights) * each).sum(["chain", "draw"])
            found[name] = pit.transpose(*each.dims[2:])
    return found
