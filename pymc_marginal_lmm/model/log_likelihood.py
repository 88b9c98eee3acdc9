"""``compute_log_likelihood``: each row, or group of rows, given all others, or all rows at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.model.core import Model
from pymc.stats import compute_log_likelihood as log_likelihood_of_plain
from xarray import Dataset, DataTree

from pymc_marginal_lmm.algebra.density import log_density
from pymc_marginal_lmm.model.arguments import checked_flag
from pymc_marginal_lmm.model.draws import as_dataset, first_lost, shown_draw
from pymc_marginal_lmm.model.groups import Groups, groups_of
from pymc_marginal_lmm.model.left_out import (
    check_finite,
    group_densities,
    in_chunks,
    row_densities,
)
from pymc_marginal_lmm.model.likelihoods import (
    Likelihoods,
    by_response,
    chains_and_draws,
    marginal_and_draws,
)
from pymc_marginal_lmm.model.marginal_rv import MarginalRV
from pymc_marginal_lmm.model.restore import marginal_ops

__all__ = ["compute_log_likelihood"]


def compute_log_likelihood(
    idata: DataTree,
    *,
    model: Any = None,
    leave_out: Any = "row",
    extend_inferencedata: bool = True,
    progressbar: bool = True,
) -> DataTree | Dataset:
    r"""Compute log p(y_g | y_−g, θ) of rows or groups of rows ``g``, effects integrated out.

    For each draw of the parameters θ the density of some rows given all others, over the effects:
    what leave-one-out cross-validation is about where rows that share an effect tell of each other.
    ``arviz.loo(idata, var_name="y_loo")`` and ``arviz.compare`` take it from there. In closed form,
    by one gradient of the marginal density a draw (Bürkner, Gabry and Vehtari 2021, equations 6–8).
    Or, with ``leave_out=None``, log p(y | θ) of all rows, for ``arviz.psense``.

    Parameters
    ----------
    idata : DataTree
        Draws of the parameters, by any sampler, with or without recovered effects.
    model : pymc.Model or bambi.Model, optional
        The model that :func:`~pymc_marginal_lmm.marginalize` returned, or a plain one, which is
        marginalized here. By default the one of the ``with`` context.
    leave_out : str, array of labels, mapping, or None, default "row"
        ``"row"``: each observation by itself, also those of a multivariate Normal likelihood. The
        name of integrated effects, or of a dim of theirs: all rows of one of the levels at once,
        which tells how well a *new* level is predicted. Or any other grouping, one label for each
        row; where several likelihoods share effects, a mapping from their names to labels. Rows of
        likelihoods that have none of the effects, or no labels, are not left out. None: nothing is
        left out, and the density is that of all rows together, of likelihoods without effects too.
    extend_inferencedata : bool, default True
        Add to ``idata.log_likelihood`` and return ``idata``; else return a Dataset.
    progressbar : bool, default True
        Show progress.

    Returns
    -------
    DataTree or Dataset
        Of rows ``{name}_loo``, ``(chain, draw, *shape)`` with the dims of the likelihood's
        variable; of groups ``{name}_logo_{leave_out}``, ``(chain, draw, groups)`` over those that
        have rows. Of labels the name is that of the array (a pandas Series has one), or "group".
        ``name`` is all of their names where groups have rows of several likelihoods. Of all rows
        ``{name}_marginal``, ``(chain, draw)``: one of all likelihoods with integrated effects, and
        one of each other likelihood. Their sum is the log likelihood of the model.

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    ValueError
        Nothing can be integrated out of the model; ``idata`` lacks a parameter of it, or has it in
        another shape; ``leave_out`` does not tell which group each row is of; rows that are
        correlated with each other would be torn apart; without a row or group a flat coefficient
        is not identified, so that there is no predictive density; or a draw is outside the support
        of the model, as draws of another one can be.

    Notes
    -----
    Digits are lost where a row is all that tells of an effect: about as many as its leverage has
    nines.
    """
    extend = checked_flag(extend_inferencedata, "extend_inferencedata")
    show = checked_flag(progressbar, "progressbar")
    model, posterior = marginal_and_draws(idata, model)
    by_row = isinstance(leave_out, str) and leave_out == "row"
    dataset = Dataset()
    for op in marginal_ops(model):
        given = Likelihoods.of(model, op, posterior)
        if leave_out is None:
            own = _of_all(given, posterior, show)
        elif by_row:
            own = _of_rows(given, posterior, show)
        else:
            own = _of_groups(given, groups_of(given.mixed, model, leave_out), posterior, show)
        dataset = dataset.merge(own)
    if leave_out is None:
        dataset = dataset.merge(_without_effects(model, posterior))
    if not extend:
        return dataset
    there = idata["log_likelihood"].to_dataset() if "log_likelihood" in idata.children else None
    idata["log_likelihood"] = dataset if there is None else there.assign(dataset.data_vars)
    return idata


def _of_rows(given: Likelihoods, posterior: Dataset, show: bool) -> Dataset:
    rows = row_densities(given)
    found = rows.log_densities(given.points, show)
    check_finite(found, given, posterior, rows.name)
    return by_response(found, given, posterior, "_loo")


def _of_groups(given: Likelihoods, groups: Groups, posterior: Dataset, show: bool) -> Dataset:
    left_out = group_densities(given, groups)
    found = left_out.log_densities(given.points, show)
    check_finite(found, given, posterior, left_out.name)
    name = f"{'_'.join(groups.responses(given.mixed))}_logo_{groups.label}"
    results = {name: found.reshape(*chains_and_draws(posterior), -1)}
    dims, coords = {name: [groups.dim]}, {groups.dim: groups.names}
    return as_dataset(results, given.model, posterior, dims, coords)


# --- All rows ---------------------------------------------------------------------------------


def _of_all(given: Likelihoods, posterior: Dataset, show: bool) -> Dataset:
    values = given.compiled([pt.atleast_1d(log_density(given.mixed, given.ys))])
    found = in_chunks(values, given.points, 1, show).reshape(chains_and_draws(posterior))
    names = [response.name for response in given.mixed.responses]
    _check_support(found, given.model, posterior, names)
    return as_dataset({f"{'_'.join(names)}_marginal": found}, given.model, posterior, {}, {})


def _without_effects(model: Model, posterior: Dataset) -> Dataset:
    """Return the densities of likelihoods that have no integrated effects."""
    others = [rv.name for rv in model.observed_RVs if not isinstance(rv.owner.op, MarginalRV)]
    results = {}
    for name in others:
        tree = DataTree.from_dict({"posterior": posterior})
        found = log_likelihood_of_plain(
            tree, var_names=[name], model=model, extend_inferencedata=False, progressbar=False
        )
        rows = found[name].transpose("chain", "draw", ...).values
        total = rows.reshape(*rows.shape[:2], -1).sum(axis=-1)
        _check_support(total, model, posterior, [name])
        results[f"{name}_marginal"] = total
    return as_dataset(results, model, posterior, {}, {})


def _check_support(found: np.ndarray, model: Model, posterior: Dataset, names: list[str]) -> None:
    if (lost := first_lost(found.reshape(-1))) is None:
        return
    where, values = shown_draw(model.free_RVs, posterior, lost)
    raise ValueError(
        f"idata.posterior: {' and '.join(map(repr, names))} have the density 0 at {where} "
        f"({values}). Are the draws of this model and of its data?"
    )
