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
from pathlib import Path

import arviz_stats
import numpy as np
from xarray import DataTree

from pymc_marginal_lmm.paper.fit import parameters_and_effects
from pymc_marginal_lmm.paper.sampling import SAMPLERS, recovered
from tests.benchmarks.variants import VARIANTS, find, variant

CHAINS, TUNE, DRAWS = 4, 500, 1000


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
    parser.add_argument("sampler", choices=SAMPLERS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    logging.getLogger("pymc").setLevel(logging.ERROR)

    case = find(args.case, args.data)
    plain = case.build()
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    model = variant(case, args.variant, plain)
    budget = {"chains": CHAINS, "tune": TUNE, "draws": DRAWS}
    idata, sampling = SAMPLERS[args.sampler](model, seed=args.seed, **budget)
    compilation = time.perf_counter() - start - sampling
    preparation = recovery = 0.0
    if args.variant in ("one", "all"):
        preparation, recovery = recovered(model, idata, args.seed)
    print(
        json.dumps(
            {
                "sampling_s": sampling,
                "compile_s": compilation + preparation,
                "recovery_s": recovery,
                "peak_MB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started) / 1e3,
                **summary(idata),
            }
        )
    )


if __name__ == "__main__":
    main()
