"""Sample a model, get its effects back, and tell the seconds of each step apart."""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pymc as pm
from xarray import DataTree

from pymc_marginal_lmm import compile_model, fit, recover

__all__ = ["DIRECT", "SAMPLERS", "Budget", "Sampled", "compilations", "sampled"]

DIRECT = "importance"
"""The sampler of :func:`~pymc_marginal_lmm.fit`; the others are NUTS."""


@dataclass(frozen=True)
class Budget:
    """How much is sampled: draws and steps to tune are those of one chain."""

    chains: int
    tune: int
    draws: int


@dataclass(frozen=True)
class Sampled:
    """Draws, and what they took.

    Parameters
    ----------
    idata : DataTree
        With the effects, sampled or recovered.
    seconds : dict
        ``compile_s``: from the plain model to a compiled one, and what recovery prepares;
        ``sampling_s``; ``recovery_s``. Of ``fit`` also ``first_s`` and ``second_s``.
    model : pymc.Model
        What a sampler sees.
    """

    idata: DataTree
    seconds: dict[str, float]
    model: pm.Model


def sampled(
    plain: pm.Model,
    transform: Callable[[pm.Model], pm.Model],
    sampler: str,
    budget: Budget,
    seed: int,
) -> Sampled:
    """Sample a form of a model.

    Parameters
    ----------
    plain : pymc.Model
        As it is written.
    transform : callable
        Makes of it what a sampler sees; its time counts as compilation. ``fit`` has its own.
    sampler : {"numpyro", "nutpie", "importance"}
    budget : Budget
    seed : int
        Of sampling and recovery.
    """
    if sampler == DIRECT:
        return _directly(plain, budget, seed)
    clock = time.perf_counter()
    model = transform(plain)
    idata, sampling = SAMPLERS[sampler](model, budget, seed)
    compilation = time.perf_counter() - clock - sampling
    preparation = recovery = 0.0
    if {rv.name for rv in plain.free_RVs} - model.named_vars.keys():
        preparation, recovery = _recovered(model, idata, seed)
    seconds = {"compile_s": compilation + preparation, "sampling_s": sampling}
    return Sampled(idata, seconds | {"recovery_s": recovery}, model)


def _with_nutpie(model: pm.Model, budget: Budget, seed: int) -> tuple[DataTree, float]:
    import nutpie

    compiled = nutpie.compile_pymc_model(model)
    clock = time.perf_counter()
    idata = nutpie.sample(
        compiled,
        draws=budget.draws,
        tune=budget.tune,
        chains=budget.chains,
        seed=seed,
        progress_bar=False,
    )
    return idata, time.perf_counter() - clock


def _with_numpyro(model: pm.Model, budget: Budget, seed: int) -> tuple[DataTree, float]:
    with compilations("numpyro.infer.mcmc") as compiled:
        idata = pm.sample(
            budget.draws,
            tune=budget.tune,
            chains=budget.chains,
            model=model,
            nuts_sampler="numpyro",
            random_seed=seed,
            progressbar=False,
            compute_convergence_checks=False,
        )
    return idata, idata["posterior"].attrs["sampling_time"] - length_of_union(compiled)


SAMPLERS: dict[str, Callable[[pm.Model, Budget, int], tuple[DataTree, float]]]
SAMPLERS = {"numpyro": _with_numpyro, "nutpie": _with_nutpie}
"""NUTS, by name: each returns draws and the seconds of sampling, compilation left out."""


@contextmanager
def compilations(module: str) -> Iterator[list[tuple[float, float]]]:
    """Note when JAX traces and compiles for a module: where one of its functions is running.

    Yields
    ------
    list of (float, float)
        Begin and end of each step; steps are nested.
    """
    from jax import monitoring

    spans: list[tuple[float, float]] = []

    def note(event: str, start_time: float, end_time: float, **_: str | int) -> None:
        if "/compile/" in event and _is_running(module):
            spans.append((start_time, end_time))

    monitoring.register_event_time_span_listener(note)
    try:
        yield spans
    finally:
        monitoring.unregister_event_time_span_listener(note)


def _is_running(module: str) -> bool:
    return any(frame.f_globals.get("__name__") == module for frame, _ in traceback.walk_stack(None))


def length_of_union(spans: list[tuple[float, float]]) -> float:
    """Return how long at least one of the spans lasted."""
    total, last = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, last))
        last = max(last, end)
    return total


def _recovered(model: pm.Model, idata: DataTree, seed: int) -> tuple[float, float]:
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


def _directly(plain: pm.Model, budget: Budget, seed: int) -> Sampled:
    """Fit a model.

    A second fit, of a compiled model, tells what is made once from what each fit takes; as with
    NUTS, imports and compilation are the former. The draws are those of the first.
    """
    again = partial(
        fit, chains=budget.chains, draws=budget.draws, random_seed=seed, progressbar=False
    )
    clock = time.perf_counter()
    idata = again(plain)
    first = time.perf_counter() - clock
    compiled = compile_model(plain)
    clock = time.perf_counter()
    sampling = again(compiled)["posterior"].attrs["sampling_time"]
    second = time.perf_counter() - clock
    seconds = {
        "compile_s": max(0.0, first - second),
        "sampling_s": sampling,
        "recovery_s": second - sampling,
        "first_s": first,
        "second_s": second,
    }
    return Sampled(idata, seconds, compiled.marginal)
