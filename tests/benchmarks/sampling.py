"""Sample one variant of a model, recover its effects, and measure; prints one JSON line.

    python -m tests.benchmarks.sampling sleepstudy all nutpie [--data FOLDER]
    python -m tests.benchmarks.sampling sleepstudy fit importance

The smallest effective sample size is that over all scalar parameters and all effects; of ``fit``
its ``effective_draws``, if those are fewer. ``fit`` is timed three times: ``first_s``, here, with
whatever is cached; ``second_s``, of a compiled model afterwards; ``warm_s``, in another process
that finds what this one has cached.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import arviz_stats
import numpy as np
import pymc as pm
from xarray import Dataset, DataTree

from pymc_marginal_lmm.paper.cells import DIRECT
from pymc_marginal_lmm.paper.fit import parameters_and_effects
from pymc_marginal_lmm.paper.process import measured
from pymc_marginal_lmm.paper.sampling import SAMPLERS, fitted, recovered
from tests.benchmarks.cases import Case
from tests.benchmarks.variants import VARIANTS, find, variant

CHAINS, TUNE, DRAWS = 4, 500, 1000

WARM_LIMIT = 600.0
"""Seconds for the process that finds caches filled."""


def smallest_ess(draws: Dataset) -> tuple[float, str]:
    """Return the smallest bulk effective sample size, and where it is.

    Of draws by weights it is the worth of the weights, if that is smaller.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # correlations of 1 with itself have no ESS
        ess = arviz_stats.ess(draws, method="bulk")
    smallest = {str(name): float(np.nanmin(ess[name])) for name in ess.data_vars}
    if "effective_draws" in draws.attrs:
        smallest["the weights"] = draws.attrs["effective_draws"]
    worst = min(smallest, key=smallest.__getitem__)
    return smallest[worst], worst


def summary(idata: DataTree) -> dict[str, Any]:
    """Return what was reached."""
    draws = parameters_and_effects(idata["posterior"].to_dataset())
    ess, worst = smallest_ess(draws)
    found = {"ess": ess, "worst": worst, "draws": draws.sizes["chain"] * draws.sizes["draw"]}
    stats, attributes = idata["sample_stats"], draws.attrs
    if "n_evaluations" in attributes:
        return found | {
            "evaluations": attributes["n_evaluations"],
            "khat": attributes["pareto_khat"],
            "log_evidence": attributes["log_evidence"],
        }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rhat = arviz_stats.rhat(draws)
    return found | {
        "rhat": max(float(np.nanmax(rhat[name])) for name in rhat.data_vars),
        "divergences": int(stats["diverging"].sum()),
        "gradients": int(stats["n_steps"].sum()),
    }


def by_nuts(case: Case, name: str, plain: pm.Model, sampler: str, seed: int) -> dict[str, Any]:
    """Sample a variant, and recover its effects."""
    start = time.perf_counter()
    model = variant(case, name, plain)
    budget = {"chains": CHAINS, "tune": TUNE, "draws": DRAWS}
    idata, sampling = SAMPLERS[sampler](model, seed=seed, **budget)
    compilation = time.perf_counter() - start - sampling
    preparation = recovery = 0.0
    if name in ("one", "all"):
        preparation, recovery = recovered(model, idata, seed)
    times = {"sampling_s": sampling, "compile_s": compilation + preparation}
    return times | {"recovery_s": recovery, **summary(idata)}


def by_fit(plain: pm.Model, seed: int) -> dict[str, Any]:
    """Fit a model directly."""
    idata, seconds = fitted(plain, chains=CHAINS, draws=DRAWS, seed=seed)
    return seconds | summary(idata)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    parser.add_argument("variant", choices=[*VARIANTS, "fit"])
    parser.add_argument("sampler", choices=[*SAMPLERS, DIRECT])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--once", action="store_true", help="no other process for warm_s")
    args = parser.parse_args()
    if (args.variant == "fit") != (args.sampler == DIRECT):
        parser.error(f"fit goes with {DIRECT}, and nothing else does")
    logging.getLogger("pymc").setLevel(logging.ERROR)

    case = find(args.case, args.data)
    plain = case.build()
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    direct = args.variant == "fit"
    if direct:
        figures = by_fit(plain, args.seed)
    else:
        figures = by_nuts(case, args.variant, plain, args.sampler, args.seed)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started) / 1e3
    if direct and not args.once:
        again = measured(__spec__.name, [*sys.argv[1:], "--once"], WARM_LIMIT, cold=False)
        figures["warm_s"] = again.get("first_s")
    print(json.dumps({"peak_MB": peak, **figures}))


if __name__ == "__main__":
    main()
