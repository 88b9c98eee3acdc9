"""Draws of a marginal model's parameters by importance sampling."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pymc as pm
from pymc.distributions.continuous import FlatRV, HalfFlatRV
from pymc.model.core import Model
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from xarray import Dataset, DataTree

from pymc_marginal_lmm.dispatch.batches import spread
from pymc_marginal_lmm.importance import Integral, integrate
from pymc_marginal_lmm.importance.integrate import Round, khat_threshold
from pymc_marginal_lmm.importance.modes import LogDensity, NoMode
from pymc_marginal_lmm.model.compiled import CompiledModel
from pymc_marginal_lmm.model.draws import as_dataset
from pymc_marginal_lmm.model.value_space import ValueSpace

__all__ = [
    "Direct",
    "NoDensity",
    "directly",
    "expected_seconds",
    "groups_of_data",
]

STARTS = 3
"""Points from which modes are looked for: the initial one, and others around it."""

SLOW = 1e-3
"""Seconds of an evaluation from which on it is worth it to spread many over cores."""

BEFORE = 2.0
"""Seconds that preparation takes at least, compilation with it."""


def expected_seconds(dim: int, operations: int) -> float:
    """Return about how long a fit takes on one core, for 4,000 draws.

    Its evaluations are a line through what 20 models of 2 to 21 parameters took.

    Parameters
    ----------
    dim : int
        Number of parameters.
    operations : int
        Of a gradient. An evaluation takes 10 µs and as long as 10¹¹ of these a second.
    """
    evaluations = 4400 + 575 * dim if dim else 1
    return BEFORE + evaluations * (1e-5 + operations / 1e11)


class NoDensity(ValueError):
    """No point was found at which the posterior density is a positive number."""


class Direct(NamedTuple):
    """What importance sampling found.

    Parameters
    ----------
    idata : DataTree
        Draws of the marginal model, as ``pm.sample`` returns them.
    doubt : str
        Why the draws are not to be relied on; empty if they are.
    improper : str
        Why there is no evidence, which is NaN then; empty if there is.
    """

    idata: DataTree
    doubt: str
    improper: str


def directly(
    compiled: CompiledModel,
    *,
    draws: int,
    chains: int,
    rng: np.random.Generator,
    cores: int | None = None,
    weighted: bool = False,
    progressbar: bool = False,
    dims: Mapping[str, Any] | None = None,
    coords: Mapping[Any, Any] | None = None,
) -> Direct:
    """Draw the parameters of a compiled model.

    Parameters
    ----------
    compiled : CompiledModel
    draws, chains : int
    rng : numpy.random.Generator
    cores : int, optional
    weighted : bool
        Return all points of the last batch, with weights, as one chain.
    progressbar : bool
    dims, coords : mapping, optional
        In place of the model's.

    Raises
    ------
    NoDensity
        The density is zero or not a number wherever it was looked for.
    """
    clock = time.perf_counter()
    space, n = compiled.space, draws * chains
    many: LogDensity = compiled.log_density.given(list(compiled.data.values()))
    starts = _starts(compiled.start, rng)
    doubt, weights = "", None
    if space.dim:
        many = _timely(many, starts, cores)
        with _shown(progressbar) as report:
            integral = _integrated(many, starts, space, n, rng, report)
        doubt = "" if integral.trusted else _doubt(integral, space)
        if weighted:
            log_weights = integral.smoothed_log_weights()
            places = np.flatnonzero(np.isfinite(log_weights))
            weights, shape = log_weights[places], (1, len(places))
        else:
            places, shape = integral.resample(n, rng), (chains, draws)
        # The half space counts for all of the space.
        x, lp = integral.x[places], integral.log_p[places] - len(space.reflections) * np.log(2)
        found = _attributes(integral, n)
    else:
        shape = (chains, draws)
        x, lp = np.zeros((n, 0)), np.repeat(many(starts[:1]), n)
        found = _exact(float(lp[0]), n)
        weights = np.full(n, -np.log(n)) if weighted else None
    improper = _improper(compiled.plain)
    if improper:
        found |= {"log_evidence": float("nan"), "log_evidence_mcse": float("nan")}
    stats = {"lp": lp} if weights is None else {"lp": lp, "log_weight": weights}
    idata = _as_tree(compiled, x, stats, shape, dims or {}, coords or {})
    idata["posterior"].attrs |= found | {
        "inference_library": "pymc_marginal_lmm",
        "preparation_time": compiled.seconds,
        "sampling_time": time.perf_counter() - clock,
    }
    return Direct(idata, doubt, improper)


def _timely(many: LogDensity, points: np.ndarray, cores: int | None) -> LogDensity:
    """Spread a density over cores if it is slow."""
    clock = time.perf_counter()
    many(points[:1])
    return spread(many, cores) if time.perf_counter() - clock > SLOW else many


def _starts(start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    jitter = rng.uniform(-1, 1, size=(STARTS, len(start)))
    jitter[0] = 0
    return start + jitter


def _integrated(
    many: LogDensity,
    starts: np.ndarray,
    space: ValueSpace,
    draws: int,
    rng: np.random.Generator,
    report: Callable[[Round], None],
) -> Integral:
    try:
        return integrate(many, list(starts), space.reflections, draws=draws, rng=rng, report=report)
    except NoMode as error:
        raise NoDensity(
            "The posterior density is zero or not a number at the initial point and around it, or "
            "grows without bound from there. Give initial values (initval=...) at which it is "
            "positive, model.point_logps() shows which variable is to blame; effects that stay "
            "sampled need their offsets: noncenter(model, ...)."
        ) from error


def _doubt(integral: Integral, space: ValueSpace) -> str:
    direction, n = space.element(integral.heaviest_axis()), len(integral.x)
    if integral.khat < khat_threshold(n):
        return (
            f"of {n} points {integral.effective_draws:.0f} count (k̂ = {integral.khat:.2f}): the "
            f"proposal misses most of the posterior, most of all in '{direction}'"
        )
    return (
        f"k̂ = {integral.khat:.2f}, above the threshold {khat_threshold(n):.2f} for {n} points: the "
        f"posterior has a heavier tail than the proposal in '{direction}'"
    )


def _attributes(integral: Integral, draws: int) -> dict[str, Any]:
    return {
        "method": "importance",
        "pareto_khat": integral.khat,
        "effective_draws": min(integral.effective_draws, float(draws)),
        "n_evaluations": integral.n_evaluations,
        "log_evidence": integral.log_evidence,
        "log_evidence_mcse": integral.log_evidence_mcse,
    }


def _exact(log_density: float, draws: int) -> dict[str, Any]:
    """Return the same where no parameter is left: all draws are exact, and so is the evidence."""
    return {
        "method": "exact",
        "pareto_khat": float("-inf"),
        "effective_draws": float(draws),
        "n_evaluations": 1,
        "log_evidence": log_density,
        "log_evidence_mcse": 0.0,
    }


def _improper(plain: Model) -> str:
    """Say why a model has no marginal likelihood that means anything; nothing if it has one."""
    flat = [rv.name for rv in plain.free_RVs if isinstance(rv.owner.op, FlatRV | HalfFlatRV)]
    if flat:
        return (
            f"the prior of {', '.join(map(repr, flat))} is flat and has no integral, so that the "
            "marginal likelihood is known up to any factor only. Give it a proper prior."
        )
    if plain.potentials:
        names = ", ".join(repr(potential.name) for potential in plain.potentials)
        return (
            f"the Potential {names} may be a part of the prior, which then is not normalised. "
            "Write it as a distribution."
        )
    return ""


@contextmanager
def _shown(progressbar: bool) -> Iterator[Callable[[Round], None]]:
    """Show rounds as they come, and for how long to wait for the next one."""
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    clock = time.perf_counter()
    with Progress(*columns, disable=not progressbar, transient=False) as progress:
        task = progress.add_task("Looking for modes")
        rounds = 0

        def report(now: Round) -> None:
            nonlocal rounds
            rounds += 1
            per_second = now.n_evaluations / (time.perf_counter() - clock)
            wait = f"; next round: about {now.ahead / per_second:.0f} s" if now.ahead else ""
            text = (
                f"Round {rounds}: {now.n_evaluations:,} evaluations, {now.effective_draws:,.0f} "
                f"effective draws in the last one, k̂ {now.khat:.2f}{wait}"
            )
            progress.update(task, description=text)

        yield report


def _as_tree(
    compiled: CompiledModel,
    x: np.ndarray,
    stats: dict[str, np.ndarray],
    shape: tuple[int, int],
    dims: Mapping[str, Any],
    coords: Mapping[Any, Any],
) -> DataTree:
    """Return points as draws of the variables of a marginal model."""
    model = compiled.marginal
    values = [model.rvs_to_values[rv] for rv in model.free_RVs]
    parts = compiled.space.split(x)
    columns = [part.astype(value.dtype) for part, value in zip(parts, values, strict=True)]
    with compiled.lock:
        compiled.set_data()
        found = compiled.constrained(columns, len(x))
        data = groups_of_data(model)
    variables = [*model.free_RVs, *model.deterministics]
    results = {
        v.name: drawn.reshape(*shape, *drawn.shape[1:])
        for v, drawn in zip(variables, found, strict=True)
    }
    index = Dataset(coords={"chain": np.arange(shape[0]), "draw": np.arange(shape[1])})
    by_draw = {name: (("chain", "draw"), value.reshape(shape)) for name, value in stats.items()}
    groups = {
        "posterior": as_dataset(results, model, index, dims, coords).assign_coords(index.coords),
        "sample_stats": index.assign(by_draw),
    }
    return DataTree.from_dict(groups | data)


def groups_of_data(model: Model) -> dict[str, Dataset]:
    """Return the groups of a result that hold no draws: observed and constant data."""
    idata = pm.to_inference_data(prior={}, model=model)
    return {
        name: group.to_dataset()
        for name, group in idata.children.items()
        if not name.startswith("prior")
    }
