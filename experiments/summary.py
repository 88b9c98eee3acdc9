"""What is told of draws: how many they are worth, whether they converged, their moments."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import arviz_stats
import numpy as np
from xarray import Dataset, DataTree

__all__ = ["rounded", "summary"]


def _parameters_and_effects(posterior: Dataset) -> Dataset:
    """Leave out the offsets of non-centred code, which are neither."""
    return posterior[[name for name in posterior.data_vars if not str(name).endswith("_offset")]]


def summary(idata: DataTree, *, moments: bool = False) -> dict[str, Any]:
    """Return diagnostics over all elements of all parameters and effects.

    Parameters
    ----------
    idata : DataTree
        With groups ``posterior`` and ``sample_stats``.
    moments : bool
        Also those of each element.

    Returns
    -------
    dict
        ``ess_mean`` and ``ess_min``, the mean and the smallest bulk effective sample size over all
        elements; ``worst``, where; ``draws``, their number. Of NUTS ``rhat``, the largest R̂;
        ``divergences``; ``gradients`` of the draws. Of ``fit``, whose weights limit all effective
        sample sizes, ``evaluations`` of the density, ``khat`` and ``log_evidence``.
        ``variables``, with moments: by name lists of ``mean``, ``sd``, ``mcse_mean`` and
        ``mcse_sd``, elements in C order.
        Elements that are constant, as the diagonal of a correlation matrix, have an sd of 0 and
        count nowhere else.
    """
    draws = _parameters_and_effects(idata["posterior"].to_dataset())
    axes = ("chain", "draw")
    count = draws.sizes["chain"] * draws.sizes["draw"]
    worth = draws.attrs.get("effective_draws", np.inf)
    means, sds = draws.mean(axes), draws.std(axes)
    # The standard deviation of a constant comes out as rounding error.
    varies = sds > 1e-12 * abs(means)

    def elements(values: Dataset) -> dict[str, np.ndarray]:
        """Return those that vary, of the variables that have any."""
        return {str(k): values[k].values[x.values] for k, x in varies.items() if x.any()}

    ess = elements(_quietly(arviz_stats.ess, draws, method="bulk"))
    sizes = {name: np.minimum(own, worth) for name, own in ess.items()}
    worst = min(sizes, key=lambda name: sizes[name].min())
    found: dict[str, Any] = {
        "ess_mean": float(np.concatenate(list(sizes.values())).mean()),
        "ess_min": float(sizes[worst].min()),
        "worst": "the weights" if sizes[worst].min() == worth else worst,
        "draws": count,
    }
    if "n_evaluations" in draws.attrs:
        found |= {
            "evaluations": draws.attrs["n_evaluations"],
            "khat": draws.attrs["pareto_khat"],
            "log_evidence": draws.attrs["log_evidence"],
        }
    else:
        stats, rhat = idata["sample_stats"], elements(_quietly(arviz_stats.rhat, draws))
        found |= {
            "rhat": float(max(values.max() for values in rhat.values())),
            "divergences": int(stats["diverging"].sum()),
            "gradients": int(stats["n_steps"].sum()),
        }
    if not moments:
        return found
    errors = {kind: _quietly(arviz_stats.mcse, draws, method=kind) for kind in ("mean", "sd")}
    # Chains of independent draws do not show that some points were drawn twice.
    inflation = np.sqrt(max(1.0, count / worth))
    columns = {"mean": means, "sd": sds.where(varies, 0.0)}
    columns |= {f"mcse_{kind}": error * inflation for kind, error in errors.items()}
    found["variables"] = {
        str(name): {k: [rounded(x) for x in np.ravel(own[name])] for k, own in columns.items()}
        for name in draws.data_vars
    }
    return found


def _quietly(statistic: Callable[..., Dataset], draws: Dataset, **options: str) -> Dataset:
    """Compute a statistic; what ArviZ says of constants, which have none, is known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return statistic(draws, **options)


def rounded(x: float, digits: int = 10) -> float:
    """Return a number with so many digits, which take less room in a file."""
    return float(f"{x:.{digits}g}")
