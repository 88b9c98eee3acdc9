"""``compute_log_likelihood``: each row, or group of rows, given all others, or all rows at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.model.core import Model
from pymc.stats import compute_log_likelihood as log_likelihood_of_plain
from pytensor import config
from rich.progress import track
from xarray import Dataset, DataTree

from pymc_marginal_lmm.algebra.density import LOG_2PI, log_density
from pymc_marginal_lmm.algebra.left_out import (
    ROUNDING,
    at_pairs,
    identified_by,
    log_density_of_kept,
    log_density_of_rows,
)
from pymc_marginal_lmm.analysis.ordering import block_structure
from pymc_marginal_lmm.model.arguments import checked_flag, posterior_of, pymc_model
from pymc_marginal_lmm.model.draws import as_dataset, check_parameters, shown_point
from pymc_marginal_lmm.model.groups import (
    NONE,
    Groups,
    NoGroups,
    any_spans,
    groups_of,
    pairs_of,
)
from pymc_marginal_lmm.model.likelihoods import Likelihoods
from pymc_marginal_lmm.model.marginal_rv import MarginalRV
from pymc_marginal_lmm.model.marginalize import marginalized
from pymc_marginal_lmm.model.restore import NO_EFFECTS, marginal_ops
from pymc_marginal_lmm.structure import MixedModel

__all__ = ["compute_log_likelihood"]

CHUNK = 64_000_000
"""Bytes of what is computed for so many draws at once."""

MANY_PAIRS = 4_000_000
"""From so many pairs of rows of a group on, groups are left out one after the other."""


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
    posterior = posterior_of(idata)
    model = _marginal(pymc_model(model))
    extend = checked_flag(extend_inferencedata, "extend_inferencedata")
    show = checked_flag(progressbar, "progressbar")
    check_parameters(model.free_RVs, posterior)
    _check_not_moved(model, posterior)
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


def _marginal(model: Model) -> Model:
    if marginal_ops(model):
        return model
    marginal, _ = marginalized(model, None, fold=False)
    if marginal is None:
        raise ValueError(NO_EFFECTS)
    return marginal


def _check_not_moved(model: Model, posterior: Dataset) -> None:
    moved = [rv.name for rv in model.free_RVs if (rv.name or "").endswith("Intercept")]
    if moved and posterior.attrs.get("modeling_interface") == "bambi":
        raise ValueError(
            f"idata: Bambi has moved '{moved[0]}' to where all predictors are 0, and it is a "
            "parameter here, since its prior is not Normal. Pass draws as they were sampled: "
            "sample(model.backend.model)."
        )


def _of_rows(given: Likelihoods, posterior: Dataset, show: bool) -> Dataset:
    responses, model = given.mixed.responses, given.model
    values = given.compiled([log_density_of_rows(given.mixed, given.ys)])
    found = _in_chunks(values, given.points, given.mixed.n_rows, show)
    found = found + given.log_jacobian
    _check_finite(found, given, posterior, given.row)
    ends = np.cumsum([response.size for response in responses])
    results, dims = {}, {}
    for response, part in zip(responses, np.split(found, ends[:-1], axis=1), strict=True):
        name = f"{response.name}_loo"
        results[name] = part.reshape(*_chains_and_draws(posterior), *response.shape)
        if own := model.named_vars_to_dims.get(response.name):
            dims[name] = list(own)
    return as_dataset(results, model, posterior, dims, {})


def _of_groups(given: Likelihoods, groups: Groups, posterior: Dataset, show: bool) -> Dataset:
    pairs = _can_be_pairs(given.mixed, groups)
    found = (_by_pairs if pairs else _one_by_one)(given, groups, show)
    found = found + groups.sums(given.log_jacobian)
    _check_finite(found, given, posterior, lambda i: f"'{groups.label}' {groups.names[i]!s}")
    name = f"{'_'.join(groups.responses(given.mixed))}_logo_{groups.label}"
    results = {name: found.reshape(*_chains_and_draws(posterior), -1)}
    dims, coords = {name: [groups.dim]}, {groups.dim: groups.names}
    return as_dataset(results, given.model, posterior, dims, coords)


# --- All rows ---------------------------------------------------------------------------------


def _of_all(given: Likelihoods, posterior: Dataset, show: bool) -> Dataset:
    values = given.compiled([pt.atleast_1d(log_density(given.mixed, given.ys))])
    found = _in_chunks(values, given.points, 1, show).reshape(_chains_and_draws(posterior))
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
    if np.isfinite(found).all():
        return
    chain, draw = (int(i) for i in np.argwhere(~np.isfinite(found))[0])
    at = shown_point(model.free_RVs, posterior, chain, draw)
    raise ValueError(
        f"idata.posterior: {' and '.join(map(repr, names))} have the density 0 at chain {chain}, "
        f"draw {draw} ({at}). Are the draws of this model and of its data?"
    )


# --- Groups -----------------------------------------------------------------------------------


def _can_be_pairs(mixed: MixedModel, groups: Groups) -> bool:
    """Say how groups are left out, or refuse those that tear correlated rows apart."""
    banded, first = mixed.blocks.band is not None, 0
    for response in mixed.responses:
        own = groups.codes[first : first + response.size]
        first += response.size
        if response.correlation is None:
            continue
        batches = own.reshape(-1, response.batch_length)
        reason = ""
        if (batches != batches[:, :1]).any():
            reason = "are in different groups"
        elif response.whitened or banded:
            reason = "are too many to be listed pair by pair"
        if reason:
            raise NoGroups(
                f"leave_out: rows of '{response.name}' that its covariance correlates {reason}. "
                "leave_out='row' works."
            )
    if banded:
        return False
    return (groups.sizes().astype("int64") ** 2).sum() <= MANY_PAIRS


def _by_pairs(given: Likelihoods, groups: Groups, show: bool) -> np.ndarray:
    """Leave out all groups at once; see :mod:`pymc_marginal_lmm.algebra.left_out`."""
    mixed = given.mixed
    codes, sizes = groups.partition(mixed), groups.sizes()
    spanned = [i for i, factor in enumerate(mixed.factors) if any_spans(codes, factor)]
    blocks = block_structure(mixed.factors, spanned, mixed.effects)
    assert blocks is not None  # there is no band
    left, right = pairs_of(codes)
    n, n_pairs = mixed.n_rows, left.size
    graphs = at_pairs(replace(mixed, blocks=blocks), given.ys, left, right)
    values = given.compiled(graphs)
    # Where the pairs of each row begin, which are sorted like the rows of its group.
    begin = np.searchsorted(left, np.arange(n))
    by_size = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    order = np.argsort(codes, kind="stable")
    first = np.cumsum(sizes) - sizes

    def densities(points: np.ndarray) -> np.ndarray:
        e, moments, W = np.split(values(points), [n, n + n_pairs], axis=1)
        out = np.empty((len(points), groups.names.size))
        for same in by_size:
            k = int(sizes[same[0]])
            rows = order[first[same][:, None] + np.arange(k)]  # (J, k)
            at = begin[rows][:, :, None] + np.arange(k)
            out[:, same] = _log_densities(e[:, rows], moments[:, at], W[:, at])
        return out

    return _in_chunks(densities, given.points, n + 2 * n_pairs, show)


def _log_densities(e: np.ndarray, moments: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Return ``½ (log|B| − eᵀB⁻¹e − k log 2π)`` with ``B = W − WHW``; NaN if it is none."""
    B = W - W @ ((moments + moments.mT) / 2) @ W + e[..., :, None] * e[..., None, :]
    scale = np.sqrt(np.diagonal(W, axis1=-2, axis2=-1))
    B, e = B / (scale[..., :, None] * scale[..., None, :]), e / scale
    try:
        L = np.linalg.cholesky(B)
    except np.linalg.LinAlgError:
        positive = np.isfinite(B).all(axis=(-2, -1))
        positive[positive] = np.linalg.eigvalsh(B[positive])[:, 0] > ROUNDING
        L = np.full(B.shape, np.nan)
        L[positive] = np.linalg.cholesky(B[positive])
    diagonal = np.diagonal(L, axis1=-2, axis2=-1)
    diagonal = np.where(diagonal**2 > ROUNDING, diagonal, np.nan)
    t = np.linalg.solve(L, e[..., None])[..., 0]
    log_det = np.log(diagonal * scale).sum(axis=-1)
    return log_det - 0.5 * ((t**2).sum(axis=-1) + e.shape[-1] * LOG_2PI)


def _one_by_one(given: Likelihoods, groups: Groups, show: bool) -> np.ndarray:
    """Leave out one group after the other."""
    keep = pt.vector("keep", shape=(given.mixed.n_rows,), dtype=config.floatX)
    values = given.compiled([log_density_of_kept(given.mixed, given.ys, keep)], [keep])
    kept = np.ones((groups.names.size + 1, given.mixed.n_rows), dtype=config.floatX)
    rows = np.flatnonzero(groups.codes != NONE)
    kept[groups.codes[rows], rows] = 0
    parts = track(kept, "Leaving out", disable=not show)
    *without, everything = (values(given.points, rows) for rows in parts)
    found = everything[:, None] - np.stack(without, axis=1)
    found[:, [not identified_by(given.mixed, rows > 0) for rows in kept[:-1]]] = np.nan
    return found


# --- Draws ------------------------------------------------------------------------------------


def _in_chunks(
    values: Callable[[np.ndarray], np.ndarray], points: np.ndarray, width: int, show: bool
) -> np.ndarray:
    size = max(1, CHUNK // (8 * width))
    starts = track(range(0, len(points), size), "Leaving out", disable=not show)
    with np.errstate(all="ignore"):  # what is not finite is reported with its draw
        return np.concatenate([values(points[i : i + size]) for i in starts])


def _chains_and_draws(posterior: Dataset) -> tuple[int, int]:
    return posterior.sizes["chain"], posterior.sizes["draw"]


def _check_finite(
    found: np.ndarray, given: Likelihoods, posterior: Dataset, name: Callable[[int], str]
) -> None:
    if np.isfinite(found).all():
        return
    draw, place = (int(i) for i in np.argwhere(~np.isfinite(found))[0])
    chain, draw = divmod(draw, posterior.sizes["draw"])
    at = shown_point(given.model.free_RVs, posterior, chain, draw)
    raise ValueError(
        f"leave_out: {name(place)} has no density given all others at chain {chain}, draw {draw} "
        f"({at}). Most often the other rows do not identify a coefficient with a flat prior: give "
        "it a proper one, or leave out other groups."
    )
