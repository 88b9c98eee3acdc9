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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pymc.distributions.continuous import FlatRV, HalfFlatRV
from pymc.model.core import Model
from rich.progress import Progress, TextColumn, TimeElapsedColumn
from xarray import Dataset, DataTree

from pymc_marginal_lmm.analysis.terms import DISCRETE
from pymc_marginal_lmm.importance import Integral, integrate
from pymc_marginal_lmm.importance.integrate import Round, khat_threshold
from pymc_marginal_lmm.importance.modes import NoMode
from pymc_marginal_lmm.model.arguments import (
    Names,
    checked_count,
    checked_flag,
    checked_names,
    generator_of,
    is_bambi,
    pymc_model,
    recovery_seed,
)
from pymc_marginal_lmm.model.complete import Wanted, complete
from pymc_marginal_lmm.model.from_bambi import finish_bambi
from pymc_marginal_lmm.model.recover import Recovery, as_dataset, drawer
from pymc_marginal_lmm.model.restore import marginal_ops
from pymc_marginal_lmm.model.sample import groups_of_data, marginal_of
from pymc_marginal_lmm.model.unmarginalize import plain_of
from pymc_marginal_lmm.model.value_space import (
    Backend,
    ValueSpace,
    default_backend,
    many_log_densities,
)

__all__ = ["MOST_DIMENSIONS", "fit"]

MOST_DIMENSIONS = 25
"""Of the parameters that are left: with more of them the method is not shown to work."""

STARTS = 3
"""Points from which modes are looked for: the initial one, and others around it."""

WAY_OUT = "sample(model) takes such models, by NUTS."


def fit(
    model: Any = None,
    *,
    draws: int = 1000,
    chains: int = 4,
    rvs_to_marginalize: Names | None = None,
    random_seed: Any = None,
    backend: Backend | None = None,
    progressbar: bool = True,
) -> DataTree:
    """Compute the posterior of a model directly, without a Markov chain.

    Effects are integrated out (:func:`~pymc_marginal_lmm.marginalize`), the few parameters that are
    left are integrated by importance sampling, and effects are drawn back
    (:func:`~pymc_marginal_lmm.recover`). Draws are independent, up to points that are repeated, and
    the marginal likelihood of the model comes with them.

    Parameters
    ----------
    model : pymc.Model or bambi.Model, optional
        As for :func:`~pymc_marginal_lmm.sample`; by default the one of the ``with`` context.
    draws, chains : int
        So many draws in all are returned, ``draws`` for each of ``chains``. They come from one
        sample: what are chains elsewhere are random parts of it here.
    rvs_to_marginalize : str, Variable, or sequence of them, optional
        The effects to integrate out; by default all that can be.
    random_seed : int, sequence of int, SeedSequence, BitGenerator or Generator, optional
        Makes the draws, recovered ones included, reproducible.
    backend : {"jax", "numba"}, optional
        What computes the density; by default JAX if it is installed, which compiles sooner.
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
    generator, seed = generator_of(random_seed), recovery_seed(random_seed)
    draws, chains = checked_count(draws, "draws"), checked_count(chains, "chains")
    if backend not in (None, "jax", "numba"):
        raise ValueError(f"backend must be 'jax', 'numba' or None, not {backend!r}.")
    clock = time.perf_counter()
    bambi_model = model if is_bambi(model) else None
    model = pymc_model(model)
    plain, marginal = plain_of(model), marginal_of(model, rvs, fold=True)
    space = ValueSpace.of(marginal)
    _check_space(marginal, space)
    rng = np.random.default_rng() if generator is None else generator
    evidence = _no_evidence(plain)
    many = many_log_densities(marginal, space, backend or default_backend())
    starts = _starts(marginal, space, rng)
    at_starts = many(starts)
    recovery = None
    if marginal_ops(marginal):
        recovery = Recovery(marginal, random_seed=seed, progressbar=show)
    prepared = time.perf_counter()
    if space.dim:
        with _shown(show) as report:
            integral = _integrated(many, starts, space, draws * chains, rng, report)
        if not integral.trusted:
            _warn(integral, space)
        places = integral.resample(draws * chains, rng)
        # The half space counts for all of the space.
        x, lp = integral.x[places], integral.log_p[places] - len(space.reflections) * np.log(2)
        found = _attributes(integral, draws * chains)
    else:
        x = np.zeros((draws * chains, 0))
        lp = np.full(len(x), at_starts[0])
        found = _exact(float(at_starts[0]), draws * chains)
    if evidence is not None:
        warnings.warn(f"log_evidence is nan: {evidence}", UserWarning, stacklevel=2)
        found |= {"log_evidence": float("nan"), "log_evidence_mcse": float("nan")}
    idata = _as_tree(marginal, space, x, lp, (chains, draws))
    sampled = time.perf_counter()
    complete(idata, marginal, plain, Wanted(), recovery, progressbar=show)
    if bambi_model is not None:
        idata = finish_bambi(idata, bambi_model)
    idata["posterior"].attrs |= found | {
        "inference_library": "pymc_marginal_lmm",
        "preparation_time": prepared - clock,
        "sampling_time": sampled - prepared,
        "recovery_time": time.perf_counter() - sampled,
    }
    return idata


def _attributes(integral: Integral, draws: int) -> dict[str, float]:
    return {
        "pareto_khat": integral.khat,
        "effective_draws": min(integral.effective_draws, float(draws)),
        "n_evaluations": integral.n_evaluations,
        "log_evidence": integral.log_evidence,
        "log_evidence_mcse": integral.log_evidence_mcse,
    }


def _exact(log_density: float, draws: int) -> dict[str, float]:
    """Return the same where no parameter is left: all draws are exact, and so is the evidence."""
    return {
        "pareto_khat": float("-inf"),
        "effective_draws": float(draws),
        "n_evaluations": 1,
        "log_evidence": log_density,
        "log_evidence_mcse": 0.0,
    }


def _check_space(model: Model, space: ValueSpace) -> None:
    """Refuse what a proposal of Student-t distributions cannot stand for."""
    discrete = [rv.name for rv in model.free_RVs if rv.type.dtype in DISCRETE]
    if discrete:
        raise ValueError(
            f"fit integrates over continuous parameters, and {', '.join(map(repr, discrete))} "
            f"stay{'s' if len(discrete) == 1 else ''} sampled and {_is_or_are(discrete)} discrete. "
            f"{WAY_OUT}"
        )
    if space.dim > MOST_DIMENSIONS:
        sizes = {
            rv.name: int(np.prod(shape, dtype=int))
            for rv, shape in zip(model.free_RVs, space.shapes, strict=True)
        }
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        named = ", ".join(f"'{name}' ({sizes[name]})" for name in largest)
        raise ValueError(
            f"{space.dim} parameters are left after integration, and fit is for "
            f"{MOST_DIMENSIONS} at most; most of them are those of {named}. {WAY_OUT} "
            "explain(model) says why variables stay sampled."
        )


def _is_or_are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _no_evidence(plain: Model) -> str | None:
    """Say why a model has no marginal likelihood that means anything, if so."""
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
    return None


def _starts(model: Model, space: ValueSpace, rng: np.random.Generator) -> np.ndarray:
    start = space.join(model.initial_point(random_seed=0))
    jitter = rng.uniform(-1, 1, size=(STARTS, space.dim))
    jitter[0] = 0
    return start + jitter


def _integrated(
    many: Callable[[np.ndarray], np.ndarray],
    starts: np.ndarray,
    space: ValueSpace,
    draws: int,
    rng: np.random.Generator,
    report: Callable[[Round], None],
) -> Integral:
    try:
        return integrate(many, list(starts), space.reflections, draws=draws, rng=rng, report=report)
    except NoMode as error:
        raise ValueError(
            "The posterior density is zero or not a number at the initial point and around it. "
            "Give initial values (initval=...) at which it is positive; model.point_logps() shows "
            "which variable is to blame."
        ) from error


def _warn(integral: Integral, space: ValueSpace) -> None:
    direction = space.element(integral.heaviest_axis())
    warnings.warn(
        f"The weights are not reliable: k̂ = {integral.khat:.2f}, above the threshold "
        f"{khat_threshold(len(integral.x)):.2f} for {len(integral.x)} points. The posterior has a "
        f"heavier tail than the proposal in '{direction}'. Results may be off there: compare with "
        "sample(model), which goes by NUTS.",
        UserWarning,
        stacklevel=3,
    )


@contextmanager
def _shown(progressbar: bool) -> Iterator[Callable[[Round], None]]:
    """Show rounds as they come."""
    columns = (TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, disable=not progressbar, transient=False) as progress:
        task = progress.add_task("Looking for modes")

        def report(now: Round) -> None:
            text = (
                f"{now.n_evaluations:,} evaluations, {now.effective_draws:,.0f} effective draws "
                f"in the last round, k̂ {now.khat:.2f}"
            )
            progress.update(task, description=text)

        yield report


def _as_tree(
    model: Model, space: ValueSpace, x: np.ndarray, lp: np.ndarray, shape: tuple[int, int]
) -> DataTree:
    """Return points as draws of the variables of a marginal model."""
    values = [model.rvs_to_values[rv] for rv in model.free_RVs]
    columns = [part.astype(value.dtype) for part, value in zip(space.split(x), values, strict=True)]
    variables = [*model.free_RVs, *model.deterministics]
    found = drawer(values, model.replace_rvs_by_values(variables))(columns, len(x))
    results = {
        v.name: drawn.reshape(*shape, *drawn.shape[1:])
        for v, drawn in zip(variables, found, strict=True)
    }
    index = Dataset(coords={"chain": np.arange(shape[0]), "draw": np.arange(shape[1])})
    groups = {
        "posterior": as_dataset(results, model, index, {}, {}).assign_coords(index.coords),
        "sample_stats": index.assign(lp=(("chain", "draw"), lp.reshape(shape))),
    }
    return DataTree.from_dict(groups | groups_of_data(model))
