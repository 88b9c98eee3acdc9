"""Sample a cell, recover its effects, and summarise; prints one JSON line.

    python -m experiments.paper.fit '{"model": "dutch", ...}' [--data FOLDER]

Means, standard deviations and their Monte Carlo errors are those of each element of each parameter
and each effect, so that variants of a model can be compared afterwards.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from xarray import DataTree

from experiments.paper.cells import Cell
from experiments.paper.strategies import BUILDERS, data_of, transformed
from experiments.sampling import Budget, sampled
from experiments.summary import rounded, summary
from pymc_marginal_lmm.examples import load

__all__ = ["fit", "pairs"]

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
        Seconds (see :class:`~experiments.sampling.Sampled`), the number of sampled parameters,
        and all of :func:`~experiments.summary.summary`, with moments.
    """
    found = sampled(
        BUILDERS[cell.model](data),
        lambda plain: transformed(plain, cell.model, cell.strategy),
        cell.sampler,
        Budget(cell.chains, cell.tune, cell.draws),
        cell.seed,
    )
    return {
        **found.seconds,
        "dimension": sum(int(np.size(x)) for x in found.model.initial_point().values()),
        **summary(found.idata, moments=True),
        **pairs(found.idata, cell.model),
    }


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
                "x": [rounded(x, 5) for x in np.log(np.ravel(posterior[scale].values))],
                "y": [rounded(x, 5) for x in np.ravel(values[..., level])],
            }
        )
    return {"pairs": shown, "diverging": np.flatnonzero(np.ravel(diverging)).tolist()}


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
