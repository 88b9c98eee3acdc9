"""Time logp + gradient of the variants of a model in turns; prints one JSON line.

    python -m experiments.benchmarks.gradient sleepstudy jax [--data FOLDER]

With JAX inside a jitted loop, as a sampler calls it; with numba the compiled function, called from
Python (about 3 µs of what it takes).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pymc as pm

from experiments.benchmarks.variants import find, gradient_variants, variant

ROUNDS = 7
SECONDS = 0.3
"""Per round, about."""


def repetitions(call: Callable[[int], object]) -> int:
    """Return how many fill a round."""
    call(1)
    clock = time.perf_counter()
    call(10)
    return max(1, int(SECONDS / max((time.perf_counter() - clock) / 10, 1e-7)))


def in_turns(calls: Mapping[str, Callable[[int], object]]) -> dict[str, dict[str, float]]:
    """Return the µs that each call takes, from rounds in turns: a slow minute hits all."""
    counts = {name: repetitions(call) for name, call in calls.items()}
    figures: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            clock = time.perf_counter()
            call(counts[name])
            figures[name].append(1e6 * (time.perf_counter() - clock) / counts[name])
    return {
        name: {"us_min": min(times), "us_median": statistics.median(times)}
        for name, times in figures.items()
    }


def looped(gradient: Callable[[list], tuple]) -> Callable[[int, list], list]:
    """Return a loop of gradients; each point depends on the gradient before it."""
    import jax

    def loop(count: int, x: list) -> list:
        def body(_: int, x: list) -> list:
            _, g = gradient(x)
            return jax.tree.map(lambda a, b: a + 1e-12 * b, x, g)

        return jax.lax.fori_loop(0, count, body, x)

    return loop


def in_jax(model: pm.Model) -> Callable[[int], object]:
    """Return a jitted loop of gradients."""
    import jax
    from pymc.sampling.jax import get_jaxified_logp

    jax.config.update("jax_enable_x64", True)
    logp = get_jaxified_logp(model, negative_logp=False)
    gradient = jax.value_and_grad(lambda x: logp(x))
    start = [np.asarray(x, dtype="float64") for x in model.initial_point().values()]

    loop = jax.jit(looped(gradient))
    return lambda repetitions: jax.block_until_ready(loop(repetitions, start))


def in_numba(model: pm.Model) -> Callable[[int], object]:
    """Return calls of the compiled function."""
    function = model.logp_dlogp_function(mode="NUMBA", ravel_inputs=True)
    function.set_extra_values({})
    compiled = function._pytensor_function
    compiled.trust_input = True
    start = pm.blocking.DictToArrayBijection.map(model.initial_point()).data

    def call(repetitions: int) -> None:
        for _ in range(repetitions):
            compiled(start)

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case")
    parser.add_argument("backend", choices=["jax", "numba"])
    parser.add_argument("--data", type=Path)
    args = parser.parse_args()

    case = find(args.case, args.data)
    calls, transform, compilation = {}, {}, {}
    for name in gradient_variants(case):
        plain = case.build()
        clock = time.perf_counter()
        model = variant(case, name, plain)
        transform[name] = time.perf_counter() - clock
        clock = time.perf_counter()
        calls[name] = (in_jax if args.backend == "jax" else in_numba)(model)
        calls[name](1)
        compilation[name] = time.perf_counter() - clock
    figures = in_turns(calls)
    for name, own in figures.items():
        own |= {"transform_s": transform[name], "compile_s": compilation[name]}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
