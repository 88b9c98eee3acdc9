"""Compare the gradient of InstEval with one Cholesky factorisation of its dense block.

    OPENBLAS_NUM_THREADS=1 python -m experiments.benchmarks.dense_block

All effects and coefficients integrated out, each factor with its own scale, compiled by numba. In
turns with LAPACK's dpotrf; prints one JSON line, of medians in ms. The least that a gradient needs
is a factorisation and an inverse, three times the operations of dpotrf.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pymc as pm
from scipy.linalg.lapack import dpotrf

import pymc_marginal_lmm as mlmm
from experiments.machine import machine
from pymc_marginal_lmm.examples import insteval, load
from pymc_marginal_lmm.model.restore import marginal_ops

ROUNDS = 31


def milliseconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    clock = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - clock)


def factorisation(marginal: pm.Model) -> tuple[int, Callable[[], float]]:
    """Return the size of a model's dense block, and what times one dpotrf of it, in ms."""
    structure = marginal_ops(marginal)[0].structure
    q = sum(structure.factors[i].size for i in structure.blocks.trailing)
    root = np.random.default_rng(0).normal(size=(q, q))
    matrix = np.asfortranarray(root @ root.T + q * np.eye(q))

    def once() -> float:
        copy = matrix.copy(order="F")
        return milliseconds(partial(dpotrf, copy, lower=True, clean=False, overwrite_a=True))

    return q, once


def main() -> None:
    model = mlmm.marginalize(insteval(load("insteval"), own_scales=True))
    q, factorise = factorisation(model)
    function = model.logp_dlogp_function(mode="NUMBA", ravel_inputs=True)
    function.set_extra_values({})
    start = pm.blocking.DictToArrayBijection.map(model.initial_point()).data
    compiled = function._pytensor_function
    compiled(start)
    gradients, factorisations = [], []
    for _ in range(ROUNDS):
        factorisations.append(factorise())
        gradients.append(milliseconds(partial(compiled, start)))
    times = {
        name: statistics.median(x)
        for name, x in {"gradient_ms": gradients, "dpotrf_ms": factorisations}.items()
    }
    ratio = times["gradient_ms"] / times["dpotrf_ms"]
    print(json.dumps({"q": q, **times, "ratio": ratio, "machine": machine()}))


if __name__ == "__main__":
    main()
