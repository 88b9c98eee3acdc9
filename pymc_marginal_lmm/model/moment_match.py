"""``moment_match``: rows or groups on which the parameters depend, without a refit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from pymc.model.core import Model
from rich.progress import track
from scipy.special import logsumexp
from xarray import Dataset, DataTree

from pymc_marginal_lmm.analysis.terms import DISCRETE
from pymc_marginal_lmm.importance import match_moments
from pymc_marginal_lmm.model.arguments import checked_flag
from pymc_marginal_lmm.model.draws import column_of, over_parameters
from pymc_marginal_lmm.model.folded import is_folded
from pymc_marginal_lmm.model.groups import groups_of
from pymc_marginal_lmm.model.left_out import (
    LeftOut,
    group_densities,
    row_densities,
)
from pymc_marginal_lmm.model.likelihoods import (
    Likelihoods,
    chains_and_draws,
    marginal_and_draws,
)
from pymc_marginal_lmm.model.log_density import compile_log_density
from pymc_marginal_lmm.model.marginalize import marginalized
from pymc_marginal_lmm.model.notices import PACKAGE
from pymc_marginal_lmm.model.recover import Drawer
from pymc_marginal_lmm.model.restore import marginal_ops
from pymc_marginal_lmm.model.unmarginalize import unmarginalize
from pymc_marginal_lmm.model.value_space import ValueSpace

__all__ = ["moment_match"]


def moment_match(
    idata: DataTree,
    loo: Any,
    *,
    model: Any = None,
    leave_out: Any = "row",
    var_name: str | None = None,
    progressbar: bool = True,
) -> Any:
    r"""Correct ``arviz.loo`` for the rows or groups on which the parameters depend much.

    Where k̂ is high, draws of the parameters that have seen a row cannot be weighted so that they
    stand for those that have not. They are moved instead, until they can: the predictive density of
    that row changes, and others stay.

    Parameters
    ----------
    idata : DataTree
        Draws of the parameters, with what
        :func:`~pymc_marginal_lmm.compute_log_likelihood` has added to ``log_likelihood``.
    loo : arviz_stats.ELPDDataLOO
        What ``arviz.loo(idata, var_name="y_loo", pointwise=True)`` returned.
    model : pymc.Model or bambi.Model, optional
        The model that :func:`~pymc_marginal_lmm.marginalize` returned, or a plain one, which is
        marginalized here. By default the one of the ``with`` context.
    leave_out : str, array of labels, or mapping, default "row"
        As it was for :func:`~pymc_marginal_lmm.compute_log_likelihood`.
    var_name : str, optional
        Which variable of ``log_likelihood`` it is, if likelihoods have several.
    progressbar : bool, default True
        Show progress.

    Returns
    -------
    arviz_stats.ELPDDataLOO
        A new one, for ``arviz.compare`` as well. ``pareto_k`` is that of the weights of moved
        draws, ``influence_pareto_k`` what it was; ``log_weights`` of rows that were moved are NaN,
        since they are not those of the draws in ``idata``.

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    ValueError
        ``loo`` is not pointwise, or not of this variable; the log likelihood is not in ``idata``,
        or is not that of this model at these draws; a parameter is discrete.

    Warns
    -----
    UserWarning
        A k̂ is still too high; what is said of this row is unreliable. Refit without it.

    Notes
    -----
    Implicitly adaptive importance sampling (Paananen, Piironen, Bürkner and Vehtari 2021) on the
    unconstrained scale, as in ``arviz_stats.loo_moment_match``, with our densities: that of all
    parameters given all rows, and that of a row given all others. The last step, a mixture of moved
    draws and others, is made here: ``arviz_stats`` up to 1.3.3 takes its density at wrong points.
    """
    show = checked_flag(progressbar, "progressbar")
    model, posterior = marginal_and_draws(idata, model)
    model = _unfolded(model)
    if discrete := [rv.name for rv in model.free_RVs if rv.type.dtype in DISCRETE]:
        raise ValueError(
            f"{', '.join(map(repr, discrete))} cannot be moved: discrete. Refit without the rows "
            "that have a high k̂."
        )
    name, left_out, first = _meant(model, posterior, leave_out, var_name)
    stored = _stored(idata, loo, name)
    space = ValueSpace.of(model)
    x = _unconstrained(model, posterior)
    log_p = compile_log_density(model, space).given()
    natural = _natural(model, space)
    n_draws = len(x)
    all_log_f = stored.reshape(n_draws, -1)

    def log_f_of(i: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: left_out.log_densities(natural(x), False)[:, first + i]

    elpd_i, pareto_k = loo.elpd_i.copy(deep=True), loo.pareto_k.copy(deep=True)
    log_weights = None if loo.log_weights is None else loo.log_weights.copy(deep=True)
    ks = pareto_k.values.ravel()
    high = np.flatnonzero(ks > loo.good_k) if space.dim else np.zeros(0, dtype=int)
    for i in track(high, "Moving draws", disable=not show):
        log_f = log_f_of(int(i))
        _check_same(log_f(x), all_log_f[:, i], name)
        found = match_moments(log_p, log_f, x)
        if found.khat >= ks[i]:
            continue
        at = dict(zip(elpd_i.dims, np.unravel_index(i, elpd_i.shape), strict=True))
        elpd_i[at], pareto_k[at] = found.log_mean, found.khat
        if log_weights is not None:
            log_weights[at] = np.nan
    return _summary(loo, elpd_i, pareto_k, log_weights, all_log_f)


def _unfolded(model: Model) -> Model:
    """Return a model whose scales are sampled without a sign, so that draws can be moved.

    Draws of folded scales are on one side of 0, and the density on both: moved, they would have no
    density on a part of it.
    """
    if not is_folded(model):
        return model
    names = [effect.name for op in marginal_ops(model) for effect in op.structure.effects]
    marginal, _ = marginalized(unmarginalize(model), names, fold=False)
    assert marginal is not None
    return marginal


def _meant(
    model: Model, posterior: Dataset, leave_out: Any, var_name: str | None
) -> tuple[str, LeftOut, int]:
    """Return the variable that is meant, its densities, and where they begin."""
    known: dict[str, tuple[LeftOut, int]] = {}
    for op in marginal_ops(model):
        given = Likelihoods.of(model, op, posterior)
        if isinstance(leave_out, str) and leave_out == "row":
            densities = row_densities(given)
            for response, rows in given.mixed.rows():
                known[f"{response.name}_loo"] = densities, rows.start
        else:
            groups = groups_of(given.mixed, model, leave_out)
            label = f"{'_'.join(groups.responses(given.mixed))}_logo_{groups.label}"
            known[label] = group_densities(given, groups), 0
    if var_name is None and len(known) == 1:
        (var_name,) = known
    if var_name not in known:
        raise ValueError(
            f"var_name must be one of {', '.join(map(repr, known))}, which are left out by "
            f"leave_out={leave_out!r}, not {var_name!r}."
        )
    return var_name, *known[var_name]


def _stored(idata: DataTree, loo: Any, name: str) -> np.ndarray:
    """Return the log densities in a tree ``(chain, draw, …)``, checked against what is of them."""
    if getattr(loo, "elpd_i", None) is None or getattr(loo, "pareto_k", None) is None:
        raise ValueError(
            f"loo must be what arviz.loo(idata, var_name='{name}', pointwise=True) returned."
        )
    if "log_likelihood" not in idata.children or name not in idata["log_likelihood"]:
        raise ValueError(f"idata has no '{name}' in log_likelihood: compute_log_likelihood(...).")
    stored = idata["log_likelihood"][name].transpose("chain", "draw", ...)
    if loo.elpd_i.dims != stored.dims[2:] or loo.elpd_i.shape != stored.shape[2:]:
        raise ValueError(
            f"loo has results for {dict(loo.elpd_i.sizes)}, and '{name}' is "
            f"{dict(stored.sizes)}: it is of another variable."
        )
    return stored.values


def _check_same(found: np.ndarray, stored: np.ndarray, name: str) -> None:
    if not np.allclose(found, stored, rtol=1e-6, atol=1e-6):
        raise ValueError(
            f"idata.log_likelihood has a '{name}' that is not what this model has at these draws. "
            "Is it of this model and of its data? compute_log_likelihood(...) makes it anew."
        )


def _unconstrained(model: Model, posterior: Dataset) -> np.ndarray:
    """Return draws of value variables, ``(N, d)``."""
    values = []
    for rv in model.free_RVs:
        transform = model.rvs_to_transforms[rv]
        values.append(rv if transform is None else transform.forward(rv, *rv.owner.inputs))
    n = int(np.prod(chains_and_draws(posterior)))
    columns = [column_of(posterior[rv.name], rv) for rv in model.free_RVs]
    with np.errstate(all="ignore"):
        found = Drawer(*over_parameters(model, model.free_RVs, values))(columns, n)
    x = np.concatenate([np.zeros((n, 0)), *(each.reshape(n, -1) for each in found)], axis=1)
    if not np.isfinite(x).all():
        raise ValueError(
            "idata.posterior has draws on the boundary of the parameters (a scale that is 0, say), "
            "which cannot be moved. Leave them out."
        )
    return x


def _natural(model: Model, space: ValueSpace) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from value variables to the parameters themselves, ``(N, d)`` both."""
    values = [model.rvs_to_values[rv] for rv in model.free_RVs]
    backward = Drawer(values, model.replace_rvs_by_values(model.free_RVs))

    def natural(x: np.ndarray) -> np.ndarray:
        parts = zip(space.split(x), values, strict=True)
        with np.errstate(all="ignore"):
            found = backward([part.astype(value.dtype) for part, value in parts], len(x))
        return np.concatenate([each.reshape(len(x), -1) for each in found], axis=1)

    return natural


def _summary(loo: Any, elpd_i: Any, pareto_k: Any, log_weights: Any, log_f: np.ndarray) -> Any:
    lpd = logsumexp(log_f, axis=0) - np.log(len(log_f))
    p_loo_i = elpd_i.copy(data=lpd.reshape(elpd_i.shape)) - elpd_i
    n, still = elpd_i.size, int((pareto_k > loo.good_k).sum())
    if still:
        warnings.warn(
            f"k̂ is still above {loo.good_k:.2f} for {still} of {n}, and what is said of these is "
            "unreliable: refit without them.",
            UserWarning,
            skip_file_prefixes=(PACKAGE,),
        )
    return replace(
        loo,
        elpd=float(elpd_i.sum()),
        se=float(np.sqrt(n * elpd_i.values.var(ddof=1))) if n > 1 else 0.0,
        p=float(p_loo_i.sum()),
        warning=bool(still),
        elpd_i=elpd_i,
        pareto_k=pareto_k,
        p_loo_i=p_loo_i,
        log_weights=log_weights,
        influence_pareto_k=loo.pareto_k,
    )
