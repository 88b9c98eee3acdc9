"""Compare what is computed for each draw after sampling with gradients of the marginal density.

    OPENBLAS_NUM_THREADS=1 python -m experiments.benchmarks.per_draw insteval [--data FOLDER]

``rows``: the densities of all rows, left out one by one; ``effects``: means and variances of all
effects. Each for draws in a loop of one compiled program (JAX where it is installed), in turns;
prints one JSON line, of medians in ms per draw.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from xarray import Dataset

import pymc_marginal_lmm as mlmm
from experiments.benchmarks.variants import find
from pymc_marginal_lmm.algebra.density import log_density
from pymc_marginal_lmm.algebra.left_out import rows_given_others
from pymc_marginal_lmm.model.likelihoods import Likelihoods
from pymc_marginal_lmm.model.ranef import Probe
from pymc_marginal_lmm.model.restore import marginal_ops

ROUNDS = 5
SECONDS = 2.0
"""Of each round, about."""


def prior_draws(model: pm.Model, n: int) -> Dataset:
    names = [rv.name for rv in model.free_RVs]
    drawn = pm.draw(model.free_RVs, draws=n, random_seed=1)
    return Dataset(
        {
            name: (("chain", "draw", *(f"{name}_{k}" for k in range(x.ndim - 1))), x[None])
            for name, x in zip(names, map(np.asarray, drawn), strict=True)
        }
    )


def measure(plain: pm.Model) -> dict:
    model = mlmm.marginalize(plain)
    (op,) = marginal_ops(model)
    draws = prior_draws(model, 1000)
    given = Likelihoods.of(model, op, draws)
    gradient = pt.grad(log_density(given.mixed, given.ys), given.x)
    effects = [effect.name for effect in op.structure.effects]
    of_effects, moments, _ = Probe(model, effects).over(draws)
    assert (of_effects.points == given.points).all()
    programs = {
        "gradient": given.compiled([gradient]),
        "rows": given.compiled(rows_given_others(given.mixed, given.ys)[:1]),
        "effects": moments,
    }
    counts: dict[str, int] = {}
    times: dict[str, list[float]] = {key: [] for key in programs}
    for key, program in programs.items():
        program(given.points[:1])
        clock = time.perf_counter()
        program(given.points[:1])
        once = time.perf_counter() - clock
        counts[key] = max(1, min(1000, int(SECONDS / once)))
    for _ in range(ROUNDS):
        for key, program in programs.items():
            clock = time.perf_counter()
            program(given.points[: counts[key]])
            times[key].append(1e3 * (time.perf_counter() - clock) / counts[key])
    found = {f"{key}_ms": statistics.median(x) for key, x in times.items()}
    ratios = {f"{key}_ratio": found[f"{key}_ms"] / found["gradient_ms"] for key in programs}
    sizes = {"n": given.mixed.n_rows, "q": sum(effect.size for effect in given.mixed.effects)}
    return sizes | found | ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()
    print(json.dumps(measure(find(args.case, args.data).build())))


if __name__ == "__main__":
    main()
