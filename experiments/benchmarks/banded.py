"""Time models with a walk of 10,000 steps, an AR(2) as long, and a map of 3,000 areas.

    OPENBLAS_NUM_THREADS=1 python -m experiments.benchmarks.banded walk numba

Prints one JSON line: seconds to read and to compile, ms per gradient (least of some), the memory
that the process took meanwhile, in MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor.tensor as pt

import pymc_marginal_lmm as mlmm
from experiments.benchmarks.gradient import in_jax, in_numba

STEPS, ROWS, COLUMNS = 10_000, 50, 60
ROUNDS = 10


def walk() -> None:
    rng = np.random.default_rng(1)
    sigma, start = pm.HalfNormal("sigma"), pm.Normal.dist(0, 10.0)
    w = pm.GaussianRandomWalk("w", sigma=sigma, init_dist=start, shape=STEPS)
    y = rng.normal(size=STEPS) + 0.1 * rng.normal(size=STEPS).cumsum()
    pm.Normal("y", w, pm.HalfNormal("noise"), observed=y)


def autoregression() -> None:
    rng = np.random.default_rng(1)
    rho, sigma = pm.Normal("rho", 0.4, 0.1, shape=2), pm.HalfNormal("sigma")
    w = pm.AR("w", rho, sigma=sigma, init_dist=pm.Normal.dist(0, 10.0), shape=STEPS)
    pm.Normal("y", w, pm.HalfNormal("noise"), observed=rng.normal(size=STEPS))


def neighbours() -> np.ndarray:
    row, column = np.divmod(np.arange(ROWS * COLUMNS), COLUMNS)
    return (abs(row[:, None] - row) + abs(column[:, None] - column) == 1).astype(int)


def car() -> None:
    W, alpha, tau = neighbours().astype(float), pm.Uniform("alpha", 0, 1), pm.Gamma("tau", 2, 2)
    areas(pm.CAR("w", mu=np.zeros(len(W)), W=W, alpha=alpha, tau=tau))


def icar() -> None:
    areas(pm.ICAR("w", W=neighbours(), sigma=pm.HalfNormal("sigma")))


def areas(w: pt.TensorVariable) -> None:
    """Areas with their neighbours, and each for itself."""
    n = ROWS * COLUMNS
    rng = np.random.default_rng(1)
    own = pm.Normal("own", 0, pm.HalfNormal("sd"), shape=n)
    area = np.arange(2 * n) // 2
    mean = pm.Normal("b") + (w + own)[area]
    pm.Normal("y", mean, pm.HalfNormal("noise"), observed=rng.normal(size=2 * n))


CASES: dict[str, Callable[[], None]] = {
    "walk": walk,
    "autoregression": autoregression,
    "car": car,
    "icar": icar,
}


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("backend", choices=["jax", "numba"])
    args = parser.parse_args()
    with pm.Model() as model:
        CASES[args.case]()
    before = memory()
    clock = time.perf_counter()
    marginal = mlmm.marginalize(model)
    figures = {"read_s": time.perf_counter() - clock}
    clock = time.perf_counter()
    call = (in_jax if args.backend == "jax" else in_numba)(marginal)
    call(1)
    figures["compile_s"] = time.perf_counter() - clock
    times = []
    for _ in range(ROUNDS):
        clock = time.perf_counter()
        call(1)
        times.append(1e3 * (time.perf_counter() - clock))
    figures |= {"gradient_ms": min(times), "memory_mb": memory() - before}
    print(json.dumps({"case": args.case, "backend": args.backend, **figures}))


if __name__ == "__main__":
    main()
