"""NUTS and ``fit``, with the time that sampling takes apart from that of compilation."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from functools import partial

import pymc as pm
from xarray import DataTree

from pymc_marginal_lmm import compile_model, fit, recover

__all__ = [
    "SAMPLERS",
    "fitted",
    "length_of_union",
    "recovered",
    "with_numpyro",
    "with_nutpie",
]


def with_nutpie(
    model: pm.Model, *, chains: int, tune: int, draws: int, seed: int
) -> tuple[DataTree, float]:
    """Return draws, and the seconds that sampling took without compilation."""
    import nutpie

    compiled = nutpie.compile_pymc_model(model)
    clock = time.perf_counter()
    idata = nutpie.sample(
        compiled, draws=draws, tune=tune, chains=chains, seed=seed, progress_bar=False
    )
    return idata, time.perf_counter() - clock


def with_numpyro(
    model: pm.Model, *, chains: int, tune: int, draws: int, seed: int
) -> tuple[DataTree, float]:
    """Return draws, and the seconds that sampling took without compilation."""
    import jax
    import numpyro

    compilations: list[tuple[float, float]] = []

    def compiled(event: str, duration_secs: float, **_: str | int) -> None:
        if "/compile/" in event:
            now = time.perf_counter()
            compilations.append((now - duration_secs, now))

    jax.monitoring.register_event_duration_secs_listener(compiled)
    spent: list[float] = []
    run: Callable = numpyro.infer.MCMC.run

    def timed(mcmc: numpyro.infer.MCMC, *args: object, **kwargs: object) -> None:
        start = time.perf_counter()
        run(mcmc, *args, **kwargs)
        jax.block_until_ready(mcmc.get_samples())
        spent.append(time.perf_counter() - start - length_of_union(compilations, start))

    numpyro.infer.MCMC.run = timed
    try:
        idata = pm.sample(
            draws,
            tune=tune,
            chains=chains,
            model=model,
            nuts_sampler="numpyro",
            random_seed=seed,
            progressbar=False,
            compute_convergence_checks=False,
        )
    finally:
        numpyro.infer.MCMC.run = run
    return idata, sum(spent)


def recovered(model: pm.Model, idata: DataTree, seed: int) -> tuple[float, float]:
    """Add effects to draws; return the seconds of preparation, and of recovery without it.

    What is prepared again for each call is measured with one draw, after a call that imports, and
    both without the garbage collector, as :mod:`timeit` does: after a compilation by numba one
    of its passes takes longer than either.
    """

    def seconds(draws: DataTree) -> float:
        collected = gc.isenabled()
        gc.disable()
        try:
            start = time.perf_counter()
            recover(draws, model=model, random_seed=seed, progressbar=False)
            return time.perf_counter() - start
        finally:
            if collected:
                gc.enable()

    first, preparation = (seconds(idata.isel(chain=[0], draw=[0])) for _ in range(2))
    return max(first, preparation), max(0.0, seconds(idata) - preparation)


def fitted(
    model: pm.Model, *, chains: int, draws: int, seed: int
) -> tuple[DataTree, dict[str, float]]:
    """Return the draws of :func:`~pymc_marginal_lmm.fit`, and the seconds that they took.

    A second fit, of a compiled model, tells what is made once from what each fit takes; as with
    NUTS, imports and compilation are the former.

    Returns
    -------
    idata : DataTree
        Of the first fit.
    seconds : dict
        ``sampling_s`` and ``recovery_s``, of the second fit; ``compile_s``, what the first took
        beyond these; ``first_s`` and ``second_s``, of either as a whole.
    """
    again = partial(fit, chains=chains, draws=draws, random_seed=seed, progressbar=False)
    clock = time.perf_counter()
    idata = again(model)
    first = time.perf_counter() - clock
    compiled = compile_model(model)
    clock = time.perf_counter()
    sampling = again(compiled)["posterior"].attrs["sampling_time"]
    second = time.perf_counter() - clock
    return idata, {
        "compile_s": max(0.0, first - second),
        "sampling_s": sampling,
        "recovery_s": second - sampling,
        "first_s": first,
        "second_s": second,
    }


def length_of_union(intervals: list[tuple[float, float]], start: float) -> float:
    """Return how long at least one of the intervals lasted, from ``start`` on: they are nested."""
    total, last = 0.0, start
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, last))
        last = max(last, end)
    return total


SAMPLERS = {"numpyro": with_numpyro, "nutpie": with_nutpie}
"""By their names."""
