"""Sample a cell, recover its effects, and summarise; prints one JSON line.

    python -m pymc_marginal_lmm.paper.fit '{"model": "dutch", ...}' [--data FOLDER]

Means, standard deviations and their Monte Carlo errors are those of each element of each parameter
and each effect, so that variants of a model can be compared afterwards.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import arviz_stats
import numpy as np
import pymc as pm
from xarray import Dataset, DataTree

from pymc_marginal_lmm import marginalize
from pymc_marginal_lmm.examples import load
from pymc_marginal_lmm.paper.cells import DIRECT, Cell
from pymc_marginal_lmm.paper.sampling import SAMPLERS, fitted, recovered
from pymc_marginal_lmm.paper.strategies import BUILDERS, data_of, transformed

__all__ = ["fit", "pairs", "parameters_and_effects", "summary"]

PAIRS = {
    "grouseticks": (("s_brood", "brood", 0), ("s_location", "location", 60)),
}
"""Scales, each with an effect of its class (counted from 0), of which all draws are kept."""


def fit(cell: Cell, data: Any) -> dict[str, Any]:
    """Sample a model as a cell says.

    Parameters
    ----------
    cell : Cell
        Model, strategy, sampler and budget.
    data : pandas.DataFrame
        For the model.

    Returns
    -------
    dict
        Seconds (``compile_s``, from the plain model to a compiled one and for the preparation of
        recovery; ``sampling_s``; ``recovery_s``), the number of sampled parameters, and all of
        :func:`summary`.
    """
    plain = BUILDERS[cell.model](data)
    if cell.sampler == DIRECT:
        idata, seconds = fitted(plain, chains=cell.chains, draws=cell.draws, seed=cell.seed)
        sampled = marginalize(plain)
    else:
        idata, seconds, sampled = _by_nuts(cell, plain)
    return {
        **seconds,
        "dimension": sum(int(np.size(value)) for value in sampled.initial_point().values()),
        **summary(idata),
        **pairs(idata, cell.model),
    }


def _by_nuts(cell: Cell, plain: pm.Model) -> tuple[DataTree, dict[str, float], pm.Model]:
    """Return draws with effects, seconds, and the model that was sampled."""
    start = time.perf_counter()
    model = transformed(plain, cell.model, cell.strategy)
    budget = {"chains": cell.chains, "tune": cell.tune, "draws": cell.draws}
    idata, sampling = SAMPLERS[cell.sampler](model, seed=cell.seed, **budget)
    compilation = time.perf_counter() - start - sampling
    preparation = recovery = 0.0
    if "M" in cell.strategy or cell.strategy in ("all", "default"):
        preparation, recovery = recovered(model, idata, cell.seed)
    seconds = {"compile_s": compilation + preparation, "sampling_s": sampling}
    return idata, seconds | {"recovery_s": recovery}, model


def parameters_and_effects(posterior: Dataset) -> Dataset:
    """Leave out the offsets of non-centred code, which are neither."""
    return posterior[[name for name in posterior.data_vars if not str(name).endswith("_offset")]]


def summary(idata: DataTree) -> dict[str, Any]:
    """Return diagnostics, and the moments of each element of each variable in C order.

    Parameters
    ----------
    idata : DataTree
        With groups ``posterior`` and ``sample_stats``.

    Returns
    -------
    dict
        ``ess_mean`` and ``ess_min``, the mean and the smallest bulk effective sample size over all
        elements; ``worst``, where; ``variables``: by name lists of ``mean``, ``sd``, ``mcse_mean``
        and ``mcse_sd``. Of NUTS ``rhat``, the largest R̂; ``divergences``; ``gradients`` of the
        draws. Of ``fit``, whose weights limit all effective sample sizes, ``evaluations`` of the
        density, ``khat`` and ``log_evidence``.
        Elements that are constant, as the diagonal of a correlation matrix, have an sd of 0 and
        count nowhere else.
    """
    draws = parameters_and_effects(idata["posterior"].to_dataset())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constants have no effective sample size
        ess, rhat = arviz_stats.ess(draws, method="bulk"), arviz_stats.rhat(draws)
        errors = {kind: arviz_stats.mcse(draws, method=kind) for kind in ("mean", "sd")}
    worth = draws.attrs.get("effective_draws", np.inf)
    # Chains of independent draws do not show that some points were drawn twice.
    errors = {k: e * np.sqrt(max(1.0, _count(draws) / worth)) for k, e in errors.items()}
    axes = ("chain", "draw")
    moments = {"mean": draws.mean(axes), "sd": draws.std(axes)}
    moments |= {f"mcse_{kind}": error for kind, error in errors.items()}
    variables: dict[str, dict[str, list[float]]] = {}
    sizes, mixing = {}, {}
    for name in map(str, draws.data_vars):
        own = {key: np.ravel(values[name].values) for key, values in moments.items()}
        # The standard deviation of a constant comes out as rounding error.
        varies = own["sd"] > 1e-12 * np.abs(own["mean"])
        own["sd"] = np.where(varies, own["sd"], 0.0)
        variables[name] = {key: [_rounded(x) for x in values] for key, values in own.items()}
        if varies.any():
            sizes[name] = np.minimum(np.ravel(ess[name].values)[varies], worth)
            mixing[name] = np.ravel(rhat[name].values)[varies]
    worst = min(sizes, key=lambda name: sizes[name].min())
    found = {
        "ess_mean": float(np.concatenate(list(sizes.values())).mean()),
        "ess_min": float(sizes[worst].min()),
        "worst": worst,
        "variables": variables,
    }
    if "n_evaluations" in draws.attrs:
        return found | {
            "evaluations": draws.attrs["n_evaluations"],
            "khat": draws.attrs["pareto_khat"],
            "log_evidence": draws.attrs["log_evidence"],
        }
    stats = idata["sample_stats"]
    return found | {
        "rhat": float(max(values.max() for values in mixing.values())),
        "divergences": int(stats["diverging"].sum()),
        "gradients": int(stats["n_steps"].sum()),
    }


def _count(draws: Dataset) -> int:
    return draws.sizes["chain"] * draws.sizes["draw"]


def pairs(idata: DataTree, model: str) -> dict[str, Any]:
    """Return the draws that figure 3 shows, for the model that it is about."""
    if model not in PAIRS:
        return {}
    posterior = idata["posterior"].to_dataset()
    stats = idata["sample_stats"].to_dataset()
    diverging = stats["diverging"].values if "diverging" in stats else np.zeros(0, dtype=bool)
    shown = []
    for scale, effect, level in PAIRS[model]:
        values = posterior[effect].values
        level = min(level, values.shape[-1] - 1)
        shown.append(
            {
                "labels": [f"log {scale}", f"{effect}[{level + 1}]"],
                "x": [_rounded(x, 5) for x in np.log(np.ravel(posterior[scale].values))],
                "y": [_rounded(x, 5) for x in np.ravel(values[..., level])],
            }
        )
    return {"pairs": shown, "diverging": np.flatnonzero(np.ravel(diverging)).tolist()}


def _rounded(x: float, digits: int = 10) -> float:
    return float(f"{x:.{digits}g}")


def main() -> None:
    """Run the cell that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cell", type=json.loads)
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in ("pymc", "pytensor", "jax", "numpyro", "arviz_stats"):
        logging.getLogger(name).setLevel(logging.ERROR)
    cell = Cell(**args.cell)
    print(json.dumps(fit(cell, load(data_of(cell.model), args.data))))


if __name__ == "__main__":
    main()
