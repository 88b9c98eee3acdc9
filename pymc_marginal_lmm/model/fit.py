"""``fit``: the posterior directly, by importance sampling of what is left after integration.

A marginal model has few dimensions, no funnels, and folded scales. So its density is integrated as
it is (:mod:`pymc_marginal_lmm.importance`): points are proposed in batches and weighted, weights
are checked, and points are drawn by their weights. What NUTS finds out step by step in thousands of
gradients one after the other takes some thousand values here, in batches, and the evidence comes
with them.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
from xarray import DataTree

from pymc_marginal_lmm.model.arguments import (
    Names,
    checked_choice,
    checked_count,
    checked_flag,
    checked_installed,
    checked_names,
    generator_of,
    is_bambi,
    pymc_model,
    recovery_seed,
)
from pymc_marginal_lmm.model.compiled import CompiledModel, marginal_of, prepare
from pymc_marginal_lmm.model.complete import Wanted, complete
from pymc_marginal_lmm.model.direct import directly
from pymc_marginal_lmm.model.from_bambi import finish_bambi
from pymc_marginal_lmm.model.log_density import BACKENDS, Backend
from pymc_marginal_lmm.model.notices import PACKAGE
from pymc_marginal_lmm.model.unmarginalize import plain_of

__all__ = ["fit"]


def fit(
    model: Any = None,
    *,
    draws: int = 1000,
    chains: int = 4,
    rvs_to_marginalize: Names | None = None,
    weighted: bool = False,
    random_seed: Any = None,
    backend: Backend | None = None,
    cores: int | None = None,
    progressbar: bool = True,
) -> DataTree:
    """Compute the posterior of a model directly, without a Markov chain.

    Effects are integrated out (:func:`~pymc_marginal_lmm.marginalize`), the few parameters that are
    left are integrated by importance sampling, and effects are drawn back
    (:func:`~pymc_marginal_lmm.recover`). Draws are independent, up to points that are repeated, and
    the marginal likelihood of the model comes with them.

    Parameters
    ----------
    model : pymc.Model, bambi.Model or CompiledModel, optional
        As for :func:`~pymc_marginal_lmm.sample`; by default the one of the ``with`` context. Or
        what :func:`~pymc_marginal_lmm.compile_model` returned, to fit it to several data sets.
    draws, chains : int
        So many draws in all are returned, ``draws`` for each of ``chains``. They come from one
        sample: what are chains elsewhere are random parts of it here.
    rvs_to_marginalize : str, Variable, or sequence of them, optional
        The effects to integrate out; by default all that can be.
    weighted : bool, default False
        Return the points with their weights instead of drawing by these: one chain of all points
        that have a weight, whose logarithm, Pareto smoothed and normalised, is
        ``sample_stats["log_weight"]``. Estimates are weighted means then, with a little less Monte
        Carlo error; what takes draws as they are is wrong.
    random_seed : int, sequence of int, SeedSequence, BitGenerator or Generator, optional
        Makes the draws, recovered ones included, reproducible.
    backend : {"jax", "numba"}, optional
        What computes the density; by default JAX if it is installed, which compiles sooner.
    cores : int, optional
        Where one evaluation takes more than a millisecond, so many are made at once; all cores by
        default. ``joblib.parallel_config`` says by what means, threads by default: within
        ``with joblib.parallel_config(backend="dask")`` by a cluster.
    progressbar : bool, default True
        Show evaluations, effective draws and k̂ of each round.

    Returns
    -------
    DataTree
        As from :func:`~pymc_marginal_lmm.sample`: ``posterior`` with all variables of the plain
        model, ``observed_data`` and so on. ``sample_stats`` has ``lp``, the log density of the
        marginal model. The posterior's attributes are

        - ``pareto_khat``: shape of the tail of the weights, which are not reliable from 0.7 on;
        - ``effective_draws``: how many draws without weights those made are worth (Kish);
        - ``n_evaluations``: of the density, in all;
        - ``log_evidence``, ``log_evidence_mcse``: logarithm of the marginal likelihood of the data,
          and its Monte Carlo standard error; nan under improper priors and with Potentials;
        - ``preparation_time``, ``sampling_time``, ``recovery_time``, in seconds.

    Raises
    ------
    NotMarginalizable
        A variable that was asked for cannot be integrated out, or the data hold NaN or infinite
        values.
    ImportError
        ``backend`` is not installed.
    ValueError
        What is left has discrete variables, or more than 25 dimensions; the density is zero or not
        a number wherever it was looked for.

    Warns
    -----
    UserWarning
        The weights are not reliable; some Normal variables stay sampled.

    Notes
    -----
    Adaptive importance sampling with all points weighted by the mixture of all proposals (Cornuet,
    Marin, Mira and Robert 2012), on the half space of folded scales; the result is a last batch
    that takes no part in adaptation, so that its weights have no bias. Pareto smoothing and k̂ are
    those of Vehtari, Simpson, Gelman, Yao and Gabry (2024), as ArviZ has them.

    Examples
    --------
    >>> import numpy as np, pymc as pm, pymc_marginal_lmm as mlmm
    >>> group = np.repeat([0, 1, 2], 4)
    >>> with pm.Model() as model:
    ...     u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=3)
    ...     y = pm.Normal("y", u[group], 1, observed=np.arange(12) / 6)
    >>> idata = mlmm.fit(model, random_seed=1, progressbar=False)
    >>> print(round(idata["posterior"].attrs["log_evidence"], 1))
    -15.6
    """
    rvs = checked_names(rvs_to_marginalize, "rvs_to_marginalize", variables=True)
    show = checked_flag(progressbar, "progressbar")
    weighted = checked_flag(weighted, "weighted")
    generator, seed = generator_of(random_seed), recovery_seed(random_seed)
    draws, chains = checked_count(draws, "draws"), checked_count(chains, "chains")
    cores = None if cores is None else checked_count(cores, "cores")
    backend = checked_installed(checked_choice(backend, "backend", BACKENDS), "backend")
    if isinstance(model, CompiledModel):
        _check_compiled(rvs_to_marginalize=rvs, backend=backend)
        ready = model
    else:
        ready = _prepared(model, rvs, backend)
    idata, doubt, improper = directly(
        ready,
        draws=draws,
        chains=chains,
        rng=np.random.default_rng() if generator is None else generator,
        cores=cores,
        weighted=weighted,
        progressbar=show,
    )
    if doubt:
        _warn(
            f"The weights are not reliable: {doubt}. Results may be off there: compare with "
            "sample(model, method='nuts')."
        )
    if improper:
        _warn(f"log_evidence is nan: {improper}")
    return _completed(idata, ready, seed, progressbar=show)


def _completed(idata: DataTree, ready: CompiledModel, seed: Any, *, progressbar: bool) -> DataTree:
    """Add what the plain model has beyond the marginal one."""
    clock = time.perf_counter()
    attributes = dict(idata["posterior"].attrs)
    with ready.lock:
        ready.set_data()
        if ready.recovery is not None:
            ready.recovery.reseed(seed)
        complete(
            idata, ready.marginal, ready.plain, Wanted(), ready.recovery, progressbar=progressbar
        )
    if ready.bambi is not None:
        idata = finish_bambi(idata, ready.bambi)
    attributes["recovery_time"] = time.perf_counter() - clock
    idata["posterior"].attrs |= attributes
    return idata


def _prepared(model: Any, rvs: list[Any] | None, backend: Backend | None) -> CompiledModel:
    clock = time.perf_counter()
    bambi_model = model if is_bambi(model) else None
    model = pymc_model(model)
    marginal = marginal_of(model, rvs, fold=True)
    return prepare(plain_of(model), marginal, bambi_model, backend, clock=clock)


def _check_compiled(**options: Any) -> None:
    if given := [name for name, value in options.items() if value is not None]:
        raise ValueError(
            f"{given[0]}= is settled in a compiled model; pass it to compile_model instead."
        )


def _warn(message: str) -> None:
    warnings.warn(message, UserWarning, skip_file_prefixes=(PACKAGE,))
