"""Sample one variant of a model, recover its effects, and measure; prints one JSON line.

    python -m experiments.benchmarks.sampling sleepstudy all nutpie [--data FOLDER]
    python -m experiments.benchmarks.sampling sleepstudy fit importance

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
from functools import partial
from pathlib import Path

from experiments.benchmarks.variants import VARIANTS, find, variant
from experiments.process import measured
from experiments.sampling import DIRECT, SAMPLERS, Budget, sampled
from experiments.summary import summary

BUDGET = Budget(chains=4, tune=500, draws=1000)

FORMS = (*(name for name in VARIANTS if name != "dense"), "fit")
"""Of a model that has its effects, or can get them back; by hand it has none."""

WARM_LIMIT = 600.0
"""Seconds for the process that finds caches filled."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    parser.add_argument("variant", choices=FORMS)
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
    found = sampled(plain, partial(variant, case, args.variant), args.sampler, BUDGET, args.seed)
    figures = found.seconds | summary(found.idata)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started) / 1e3
    if args.sampler == DIRECT and not args.once:
        again = measured(__spec__.name, [*sys.argv[1:], "--once"], WARM_LIMIT, cold=False)
        figures["warm_s"] = again.get("first_s")
    print(json.dumps({"peak_MB": peak, **figures}))


if __name__ == "__main__":
    main()
