"""Sample one variant of a model, recover its effects, and measure; prints one JSON line.

    python -m tests.benchmarks.sampling sleepstudy all nutpie [--data FOLDER]

The smallest effective sample size is that over all scalar parameters and all effects.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import arviz_stats
import numpy as np
import pymc as pm
from xarray import Dataset, DataTree

from pymc_marginal_lmm import recover
from tests.benchmarks.variants import VARIANTS, find, variant

CHAINS, TUNE, DRAWS = 4, 500, 1000


def with_nutpie(model: pm.Model, seed: int) -> tuple[DataTree, float]:
    """Return draws, and the seconds that sampling took without compilation."""
    import nutpie

    compiled = nutpie.compile_pymc_model(model)
    clock = time.perf_counter()
    idata = nutpie.sample(
        compiled, draws=DRAWS, tune=TUNE, chains=CHAINS, seed=seed, progress_bar=False
    )
    return idata, time.perf_counter() - clock


def with_numpyro(model: pm.Model, seed: int) -> tuple[DataTree, float]:
    """Return draws, and the seconds that sampling took without compilation."""
    import jax
    import numpyro

    compilations: list[tuple[float, float]] = []

    def compiled(event: str, seconds: float, **_: object) -> None:
        if "/compile/" in event:
            now = time.perf_counter()
            compilations.append((now - seconds, now))

    jax.monitoring.register_event_duration_secs_listener(compiled)
    spent: list[float] = []
    run: Callable = numpyro.infer.MCMC.run

    def timed(mcmc: numpyro.infer.MCMC, *args, **kwargs) -> None:
        start = time.perf_counter()
        run(mcmc, *args, **kwargs)
        jax.block_until_ready(mcmc.get_samples())
        spent.append(time.perf_counter() - start - length_of_union(compilations, start))

    numpyro.infer.MCMC.run = timed
    idata = pm.sample(
        DRAWS,
        tune=TUNE,
        chains=CHAINS,
        model=model,
        nuts_sampler="numpyro",
        random_seed=seed,
        progressbar=False,
        compute_convergence_checks=False,
    )
    return idata, sum(spent)


def length_of_union(intervals: list[tuple[float, float]], start: float) -> float:
    """Return how long at least one of the intervals lasted, from ``start`` on: they are nested."""
    total, last = 0.0, start
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, last))
        last = max(last, end)
    return total


def parameters_and_effects(posterior: Dataset) -> Dataset:
    """Leave out the offsets of non-centred code, which are neither."""
    return posterior[[name for name in posterior.data_vars if not str(name).endswith("_offset")]]


def summary(idata: DataTree) -> dict:
    """Return what was reached."""
    draws = parameters_and_effects(idata["posterior"].to_dataset())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # correlations of 1 with itself have no ESS
        ess, rhat = arviz_stats.ess(draws, method="bulk"), arviz_stats.rhat(draws)
    smallest = {str(name): float(np.nanmin(ess[name])) for name in ess.data_vars}
    worst = min(smallest, key=smallest.__getitem__)
    stats = idata["sample_stats"]
    return {
        "ess": smallest[worst],
        "worst": worst,
        "rhat": max(float(np.nanmax(rhat[name])) for name in rhat.data_vars),
        "divergences": int(stats["diverging"].sum()),
        "gradients": int(stats["n_steps"].sum()),
        "draws": CHAINS * DRAWS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("sampler", choices=["numpyro", "nutpie"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    logging.getLogger("pymc").setLevel(logging.ERROR)

    case = find(args.case, args.data)
    plain = case.build()
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    model = variant(case, args.variant, plain)
    sampler = with_nutpie if args.sampler == "nutpie" else with_numpyro
    idata, sampling = sampler(model, args.seed)
    sampled = time.perf_counter()
    preparation = 0.0
    if args.variant in ("one", "all"):
        first = idata.isel(chain=[0], draw=[0])
        recover(first, model=model, progressbar=False)
        preparation = time.perf_counter() - sampled
        recover(idata, model=model, random_seed=args.seed, progressbar=False)
    recovery = max(0.0, time.perf_counter() - sampled - 2 * preparation)
    print(
        json.dumps(
            {
                "sampling_s": sampling,
                "compile_s": sampled - start - sampling + preparation,
                "recovery_s": recovery,
                "peak_MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started) / 1e3,
                **summary(idata),
            }
        )
    )


if __name__ == "__main__":
    main()
