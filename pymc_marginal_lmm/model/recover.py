"""``recover``: exact posterior draws of what was integrated out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from arviz_base import dict_to_dataset
from pymc.model.core import Model, modelcontext
from pymc.pytensorf import compile as pymc_compile
from pytensor.graph.replace import graph_replace
from rich.progress import track
from xarray import Dataset, DataTree

from pymc_marginal_lmm.model.conditional import conditional
from pymc_marginal_lmm.model.restore import marginal_ops, recoverable

__all__ = ["recover"]


def recover(
    idata: DataTree,
    *,
    model: Model | None = None,
    var_names: str | Sequence[str] | None = None,
    extend_inferencedata: bool = True,
    random_seed: int | np.random.SeedSequence | None = None,
    progressbar: bool = True,
    compile_kwargs: dict[str, Any] | None = None,
) -> DataTree | Dataset:
    """Draw the integrated effects from their exact conditional distribution.

    For each posterior draw of the parameters one joint draw of all effects, over all grouping
    factors, and with it the variables that depend on them: Deterministics, and random variables
    that no data depend on (missing responses, predictions). Together they are draws from the
    posterior of the original model.

    Parameters
    ----------
    idata : DataTree
        Result of sampling the marginal model, with any sampler.
    model : pymc.Model, optional
        The model that :func:`~pymc_marginal_lmm.marginalize` returned; by default the one of the
        ``with`` context.
    var_names : str or sequence of str, optional
        What to recover; all effects, and all that depends on them, by default.
    extend_inferencedata : bool, default True
        Add to ``idata.posterior`` and return ``idata``; else return a Dataset.
    random_seed : int or SeedSequence, optional
        Makes the draws reproducible.
    progressbar : bool, default True
        Show progress.
    compile_kwargs : dict, optional
        For the function that makes one draw. By default it is not compiled (PyTensor's Python
        linker), which for thousands of draws costs less than compiling it.

    Returns
    -------
    DataTree or Dataset
        With names, dims, coords and dtypes of the original model.

    Raises
    ------
    ValueError
        The model has no integrated effects, ``idata`` lacks a parameter of the model, or has
        other variables with other coords of the same dims.
    numpy.linalg.LinAlgError
        A draw's posterior precision is not positive definite; the message names the draw.
    """
    model = modelcontext(model)
    var_names = [var_names] if isinstance(var_names, str) else var_names
    names = list(recoverable(model) if var_names is None else dict.fromkeys(var_names))
    # Effects are drawn anyhow; they tell of parameter values that cannot be worked with.
    effects = [effect.name for op in marginal_ops(model) for effect in op.structure.effects]
    full = conditional(model, names and [*names, *effects])
    outputs = [full[name] for name in (*effects, *names)]
    # A Deterministic may hold responses: these are data here, not to be drawn.
    data = {rv: full.rvs_to_values[rv] for rv in full.observed_RVs}
    outputs = graph_replace(outputs, data, strict=False)
    parameters = [full[rv.name] for rv in model.free_RVs]
    posterior = idata["posterior"]
    if missing := [rv.name for rv in parameters if rv.name not in posterior]:
        raise ValueError(
            f"The posterior has no draws of {', '.join(map(repr, missing))}, on which the "
            "integrated effects depend. Was it sampled from this marginal model?"
        )
    kwargs: dict[str, Any] = {"mode": "FAST_COMPILE"} | (compile_kwargs or {})
    function = pymc_compile(
        parameters, outputs, random_seed=random_seed, on_unused_input="ignore", **kwargs
    )
    draws = _draws(function, parameters, posterior)
    n_chains, n_draws = (posterior.sizes[dim] for dim in ("chain", "draw"))
    results: dict[str, np.ndarray] = {}
    for chain, draw, values in track(
        draws, "Recovering effects", n_chains * n_draws, disable=not progressbar
    ):
        for name, value in zip(effects, values, strict=False):
            if not np.isfinite(value).all():
                raise np.linalg.LinAlgError(
                    f"No draw of '{name}' at chain {chain}, draw {draw}: the posterior precision "
                    "of the effects could not be factorised at these parameter values "
                    f"({_point(parameters, posterior, chain, draw)})."
                )
        for name, value in zip(names, values[len(effects) :], strict=True):
            if name not in results:
                results[name] = np.empty((n_chains, n_draws, *value.shape), dtype=value.dtype)
            results[name][chain, draw] = value
    dataset = _as_dataset(results, full, posterior)
    if not extend_inferencedata:
        return dataset
    idata["posterior"] = _merged(posterior.to_dataset(), dataset)
    return idata


def _merged(posterior: Dataset, recovered: Dataset) -> Dataset:
    """Put recovered draws in the place of earlier ones, whose dims may have been shorter."""
    kept = posterior.drop_vars([name for name in recovered.data_vars if name in posterior])
    for dim, index in recovered.indexes.items():
        if dim not in kept.indexes or kept.indexes[dim].equals(index):
            continue
        # Merging would silently drop new levels.
        if users := [str(name) for name, draws in kept.data_vars.items() if dim in draws.dims]:
            raise ValueError(
                f"The posterior has {', '.join(map(repr, users))} with other coords of '{dim}' "
                "than this model. Recover them too, remove them, or pass "
                "extend_inferencedata=False."
            )
        kept = kept.drop_vars(str(dim))
    return kept.assign(recovered.data_vars)


def _draws(function: Any, parameters: Sequence, posterior: Any) -> Iterator[tuple]:
    columns = [
        posterior[rv.name].transpose("chain", "draw", ...).values.astype(rv.type.dtype)
        for rv in parameters
    ]
    for chain in range(posterior.sizes["chain"]):
        for draw in range(posterior.sizes["draw"]):
            with np.errstate(all="ignore"):  # what is not finite is reported with its draw
                values = function(*(column[chain, draw] for column in columns))
            yield chain, draw, values


def _point(parameters: Sequence, posterior: Any, chain: int, draw: int) -> str:
    at = posterior.isel(chain=chain, draw=draw)
    shown = [f"{rv.name}={np.round(at[rv.name].values, 6).tolist()}" for rv in parameters]
    return ", ".join(shown)[:300]


def _as_dataset(results: dict[str, np.ndarray], model: Model, posterior: Any) -> Dataset:
    dims: dict[Any, Any] = {
        name: list(model.named_vars_to_dims[name])
        for name in results
        if model.named_vars_to_dims.get(name)
    }
    used = {dim for names in dims.values() for dim in names}
    coords: dict[Any, Any] = {
        dim: np.asarray(values)
        for dim, values in model.coords.items()
        if dim in used and values is not None
    }
    dataset = dict_to_dataset(results, dims=dims, coords=coords)
    return dataset.assign_coords(
        {dim: posterior[dim] for dim in ("chain", "draw") if dim in posterior.coords}
    )
