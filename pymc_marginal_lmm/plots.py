"""Pictures of what is computed, by ArviZ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import norm
from xarray import DataArray, Dataset, DataTree

from pymc_marginal_lmm.model.arguments import checked_flag, checked_names

__all__ = ["plot_ranef"]


def plot_ranef(
    effects: Dataset,
    *,
    var_names: str | Sequence[str] | None = None,
    ci_probs: Sequence[float] = (0.5, 0.94),
    sort: bool = True,
    **kwargs: Any,
) -> Any:
    """Plot posterior means and intervals of effects, level by level: a caterpillar plot.

    Parameters
    ----------
    effects : Dataset
        What :func:`~pymc_marginal_lmm.ranef` returned.
    var_names : str or sequence of str, optional
        Of these variables; of all by default.
    ci_probs : sequence of two floats, default (0.5, 0.94)
        Of the thick and the thin part of each line: Normal intervals around the mean.
    sort : bool, default True
        Sort the levels, which are along the first dim of each variable, by their means; if they
        have several effects, by those of the first.
    **kwargs
        For :func:`arviz_plots.plot_forest`: ``backend``, ``visuals``, ``figure_kwargs``, ...

    Returns
    -------
    arviz_plots.PlotCollection

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    ValueError
        ``effects`` lacks a variable, or two probabilities between 0 and 1 are not given in order.

    Examples
    --------
    >>> import numpy as np, pymc as pm, pymc_marginal_lmm as mlmm
    >>> with pm.Model(coords={"group": ["a", "b", "c"]}) as model:
    ...     u = pm.Normal("u", 0, pm.HalfNormal("tau"), dims="group")
    ...     y = pm.Normal("y", u[[0, 0, 1, 1, 2, 2]], 1, observed=np.arange(6) / 6)
    >>> idata = mlmm.fit(model, progressbar=False, random_seed=1)
    >>> effects = mlmm.ranef(idata, model=model, progressbar=False)
    >>> picture = mlmm.plot_ranef(effects, backend="none")
    """
    from arviz_plots import plot_forest

    names = checked_names(var_names, "var_names")
    order = checked_flag(sort, "sort")
    if not isinstance(effects, Dataset) or "statistic" not in effects.dims:
        raise TypeError("effects must be the Dataset that ranef() returned.")
    if unknown := [name for name in names or () if name not in effects.data_vars]:
        raise ValueError(
            f"var_names: {', '.join(map(repr, unknown))}: effects has "
            f"{', '.join(map(str, effects.data_vars))}."
        )
    probabilities = np.asarray(ci_probs, dtype=float)
    inside = (probabilities > 0) & (probabilities < 1)
    if probabilities.shape != (2,) or not inside.all() or probabilities[0] > probabilities[1]:
        raise ValueError(f"ci_probs must be two probabilities, the smaller first, not {ci_probs}.")
    chosen = effects if names is None else effects[list(names)]
    for dim in _sorting_dims(chosen) if order else ():
        by = next(v for v in chosen.data_vars.values() if v.dims[1:2] == (dim,))
        first = by.sel(statistic="mean").isel({other: 0 for other in by.dims[2:]})
        chosen = chosen.isel({dim: np.argsort(first.values, kind="stable")})
    mean, sd = (chosen.sel(statistic=name, drop=True) for name in ("mean", "sd"))
    z = norm.ppf(0.5 + probabilities / 2)
    bounds = DataArray([-1.0, 1.0], coords={"ci_bound": ["lower", "upper"]})
    stats: dict[Any, Any] = {
        part: mean + float(width) * sd * bounds
        for part, width in zip(("trunk", "twig"), z, strict=True)
    }
    stats["point_estimate"] = mean
    one = DataTree.from_dict({"posterior": mean.expand_dims(sample=[0])})
    return plot_forest(one, sample_dims="sample", stats=stats, **kwargs)


def _sorting_dims(effects: Dataset) -> list[str]:
    """Return the dims of levels, each once."""
    return list(dict.fromkeys(str(v.dims[1]) for v in effects.data_vars.values() if v.ndim > 1))
