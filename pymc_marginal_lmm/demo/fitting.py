"""Sample a model with NumPyro and get the effects back, or fit it directly, and measure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import arviz_stats
import jax
import numpy as np
import pymc as pm

# Imported before JAX starts: it makes JAX show one device per chain on a CPU.
import pymc.sampling.jax
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from xarray import DataArray, Dataset, DataTree

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm import recover
from pymc_marginal_lmm.demo.examples import Example, Sampling
from pymc_marginal_lmm.demo.start import Start

__all__ = ["Fit", "fit", "fit_directly", "warm_up", "working"]


@dataclass(frozen=True)
class Fit:
    """Posterior draws of a model, and what they cost.

    Parameters
    ----------
    idata : DataTree
        With the effects, sampled or recovered.
    dimension : int
        Number of sampled parameters.
    sampling, recovery : float
        Seconds; compilation and the search for a start belong to sampling. A plain model needs
        no recovery: 0.
    """

    idata: DataTree
    dimension: int
    sampling: float
    recovery: float

    @property
    def posterior(self) -> Dataset:
        """All draws."""
        return self.idata.children["posterior"].to_dataset()

    @property
    def direct(self) -> bool:
        """Whether there was no Markov chain: no gradients, divergences or R̂, but k̂."""
        return "pareto_khat" in self.posterior.attrs

    @property
    def work(self) -> int:
        """Gradients that the draws took, over all chains; those of tuning are not recorded.

        Without a chain, evaluations of the density, all of them.
        """
        if self.direct:
            return int(self.posterior.attrs["n_evaluations"])
        return int(self.idata["sample_stats"]["n_steps"].sum())

    @property
    def divergences(self) -> int:
        """Number of divergent transitions."""
        return int(self.idata["sample_stats"]["diverging"].sum())

    def estimate(self, variable: str, index: tuple[int, ...] = ()) -> DataArray:
        """Return the draws of a scalar."""
        values = self.posterior[variable]
        dims = [dim for dim in values.dims if dim not in ("chain", "draw")]
        return values.isel(dict(zip(dims, index, strict=True)))

    def compared(self, example: Example) -> Dataset:
        """Return the draws of everything that both models have: scalars and effects."""
        scalars = {e.label: self.estimate(e.variable, e.index) for e in example.estimates}
        effects = {name: self.posterior[name] for name in example.effects}
        return Dataset({name: x.reset_coords(drop=True) for name, x in (scalars | effects).items()})

    def ess(self, example: Example) -> tuple[float, str]:
        """Return the smallest bulk effective sample size, and where it is.

        Draws by weights are worth what the weights are, if that is less.
        """
        values = arviz_stats.ess(self.compared(example), method="bulk")
        smallest = {str(name): float(values[name].min()) for name in values.data_vars}
        if self.direct:
            smallest["the weights"] = self.posterior.attrs["effective_draws"]
        worst = min(smallest, key=smallest.__getitem__)
        return smallest[worst], worst

    def rhat(self, example: Example) -> float:
        """Return the largest R̂."""
        values = arviz_stats.rhat(self.compared(example))
        return max(float(values[name].max()) for name in values.data_vars)


@contextmanager
def working(console: Console, text: str) -> Iterator[None]:
    """Show that something is going on, and for how long."""
    if not console.is_terminal:
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(text, total=None)
        yield


def warm_up() -> None:
    """Sample a tiny model, so that the first fit does not pay for what a process does once."""
    with pm.Model():
        pm.Normal("y", 0, pm.HalfNormal("sigma"), observed=[-1.0, 1.0])
        pm.sample(
            10,
            tune=10,
            chains=2,
            nuts_sampler="numpyro",
            progressbar=False,
            compute_convergence_checks=False,
        )
        mlmm.fit(draws=10, chains=2, progressbar=False)


def fit_directly(
    model: pm.Model, dimension: int, *, draws: int, chains: int, seed: int, console: Console
) -> Fit:
    """Fit a model as it is written by importance sampling of what is left after integration.

    Parameters
    ----------
    model : pymc.Model
        As written.
    dimension : int
        Number of parameters that are left.
    draws, chains : int
        Draws of each of what are chains elsewhere.
    seed : int
        Of all draws.
    console : Console
        Shows the progress.

    Returns
    -------
    Fit
        Draws and costs.
    """
    began = time.perf_counter()
    with working(console, f"{draws * chains:,} draws"):
        idata = mlmm.fit(model, draws=draws, chains=chains, random_seed=seed, progressbar=False)
    recovery = idata["posterior"].attrs["recovery_time"]
    return Fit(
        idata,
        dimension=dimension,
        sampling=time.perf_counter() - began - recovery,
        recovery=recovery,
    )


def fit(
    model: pm.Model,
    sampling: Sampling,
    *,
    chains: int,
    seed: int,
    console: Console,
    start: Start | None = None,
    recovered: bool = False,
) -> Fit:
    """Sample a model and, if it is marginal, recover its effects.

    Parameters
    ----------
    model : pymc.Model
        As written, or marginalized.
    sampling : Sampling
        Draws and tuning steps per chain.
    chains, seed : int
        Number of chains; seed of sampling and recovery.
    console : Console
        Shows the progress.
    start : Start, optional
        Where to start, with what mass matrix; left to PyMC and NumPyro by default.
    recovered : bool
        Whether the effects are to be recovered.

    Returns
    -------
    Fit
        Draws and costs.
    """
    # One device per chain if there are that many (on a CPU there are), else all chains in one.
    enough = jax.local_device_count() >= chains
    nuts: dict[str, Any] = {"chain_method": "parallel" if enough else "vectorized"}
    initvals = None
    spent = 0.0
    if start is not None:
        nuts |= {
            "jitter": False,
            "inverse_mass_matrix": start.variances,
            "adapt_mass_matrix": False,
            "step_size": start.step_size,
            "adapt_step_size": False,
        }
        initvals = start.points(chains, seed)
        spent = start.seconds
    began = time.perf_counter()
    total = chains * (sampling.draws + sampling.tune)
    with working(console, f"{total:,} draws, {sampling.tune:,} a chain for tuning"), model:
        idata = pm.sample(
            sampling.draws,
            tune=sampling.tune,
            chains=chains,
            nuts_sampler="numpyro",
            nuts=nuts,
            initvals=initvals,
            random_seed=seed,
            progressbar=False,
            compute_convergence_checks=False,
        )
    sampled = time.perf_counter()
    if recovered:
        recover(idata, model=model, random_seed=seed, progressbar=console.is_terminal)
    finished = time.perf_counter()
    return Fit(
        idata,
        dimension=sum(int(np.size(value)) for value in model.initial_point().values()),
        sampling=spent + sampled - began,
        recovery=finished - sampled if recovered else 0.0,
    )
