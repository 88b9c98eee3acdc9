"""One gradient of a large model: time and peak memory.

    python -m experiments.benchmarks.large [--rows 1000000] [--levels 100000 100] [--backend jax]
    python -m experiments.benchmarks.large --nested --levels 100000 5000 500

Two crossed factors, or any number of nested ones, each its own scale, fixed effects integrated
too; ``--noncentred`` writes ``tau * z`` for each. Prints one JSON line. Times are medians; run it
alone, with BLAS threads set knowingly (``OPENBLAS_NUM_THREADS``).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import time
from importlib.metadata import version
from itertools import pairwise

import numpy as np
import pymc as pm

import pymc_marginal_lmm as mlmm


def large_model(args: argparse.Namespace) -> pm.Model:
    """Return ``y ~ a + b x + u[g] + v[h] + …``; ``by_row``: the coefficients stay sampled."""
    rng = np.random.default_rng(0)
    if args.nested:
        codes = [rng.integers(args.levels[0], size=args.rows).astype("int32")]
        for below, above in pairwise(args.levels):
            codes.append((codes[-1].astype("int64") * above // below).astype("int32"))
    else:
        codes = [rng.integers(m, size=args.rows).astype("int32") for m in args.levels]
    x = rng.normal(size=args.rows)
    y = 1 + 0.5 * x + rng.normal(size=args.rows)
    for m, code in zip(args.levels, codes, strict=True):
        y += rng.normal(size=m)[code]
    with pm.Model() as model:
        sigma = pm.HalfNormal("sigma", 1.0)
        coefficient = pm.Laplace if args.by_row else pm.Normal
        mu = coefficient("a", 0.0, 5.0) + coefficient("b", 0.0, 5.0) * x
        for i, (m, code) in enumerate(zip(args.levels, codes, strict=True)):
            tau = pm.HalfNormal(f"tau_{i}", 1.0)
            if args.noncentred:
                mu = mu + (tau * pm.Normal(f"z_{i}", 0.0, 1.0, shape=m))[code]
            else:
                mu = mu + pm.Normal(f"u_{i}", 0.0, tau, shape=m)[code]
        pm.Normal("y", mu, sigma, observed=y)
    return model


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--levels", type=int, nargs="+", default=(100_000, 100))
    parser.add_argument("--backend", choices=["numba", "jax"], default="numba")
    parser.add_argument("--by-row", action="store_true", help="coefficients stay sampled")
    parser.add_argument("--nested", action="store_true", help="each factor in the next")
    parser.add_argument("--noncentred", action="store_true")
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()

    started = peak_gigabytes()
    model = large_model(args)
    clock = time.perf_counter()
    marginal = mlmm.marginalize(model)
    transform = time.perf_counter() - clock
    point = marginal.initial_point()
    clock = time.perf_counter()
    logp_and_gradient = marginal.logp_dlogp_function(mode=args.backend.upper(), ravel_inputs=True)
    logp_and_gradient.set_extra_values({})
    start = pm.blocking.DictToArrayBijection.map(point).data
    logp_and_gradient._pytensor_function(start)
    compilation = time.perf_counter() - clock
    times = []
    for _ in range(args.repeats):
        clock = time.perf_counter()
        value, *gradient = logp_and_gradient._pytensor_function(start)
        np.asarray(gradient[-1])
        times.append(time.perf_counter() - clock)
    result = {
        "rows": args.rows,
        "levels": list(args.levels),
        "nested": args.nested,
        "noncentred": args.noncentred,
        "by_row": args.by_row,
        "backend": args.backend,
        "transform_s": round(transform, 2),
        "compile_s": round(compilation, 2),
        "gradient_ms_median": round(1e3 * statistics.median(times), 1),
        "gradient_ms_min": round(1e3 * min(times), 1),
        "peak_GB": round(peak_gigabytes(), 2),
        "peak_GB_after_import": round(started, 2),
        "logp": float(value),
        "threads": os.environ.get("OPENBLAS_NUM_THREADS", "default"),
        "versions": {p: version(p) for p in ("pymc", "pytensor", "jax", "numba", "numpy")},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
