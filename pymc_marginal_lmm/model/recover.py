"""``recover``: exact posterior draws of what was integrated out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from arviz_base import dict_to_dataset
from pymc.model.core import Model, modelcontext
from pymc.pytensorf import compile as pymc_compile
from pytensor import config
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from rich.progress import track
from xarray import Dataset, DataTree

from pymc_marginal_lmm.analysis.ordering import cost
from pymc_marginal_lmm.model.batched import inlined, over_draws
from pymc_marginal_lmm.model.conditional import ConditionalRV, conditional
from pymc_marginal_lmm.model.restore import marginal_ops, recoverable

__all__ = ["recover"]

UNCOMPILED = Mode(linker="py", optimizer=None)
"""For a few calls, each over many draws, rewriting a graph costs more than it saves."""

CHUNK = 32_000_000
"""Bytes that draws made at once may take, about: more would not stay in a cache."""


def recover(
    idata: DataTree,
    *,
    model: Model | None = None,
    var_names: str | Sequence[str] | None = None,
    extend_inferencedata: bool = True,
    random_seed: int | Sequence[int] | np.random.SeedSequence | np.random.Generator | None = None,
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
    random_seed : int, sequence of int, SeedSequence or Generator, optional
        Makes the draws reproducible.
    progressbar : bool, default True
        Show progress.
    compile_kwargs : dict, optional
        For the function that makes the draws, many at once. By default it is not compiled
        (PyTensor's Python linker).

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
    # To note for each node where it was made takes a third of the time of making a graph.
    with config.change_flags(traceback__limit=0):
        full = conditional(model, names and [*names, *effects])
        outputs = [full[name] for name in (*effects, *names)]
        # A Deterministic may hold responses: these are data here, not to be drawn.
        data = {rv: full.rvs_to_values[rv] for rv in full.observed_RVs}
        outputs = inlined(graph_replace(outputs, data, strict=False), ConditionalRV)
    parameters = [full[rv.name] for rv in model.free_RVs]
    posterior = idata["posterior"]
    if missing := [rv.name for rv in parameters if rv.name not in posterior]:
        raise ValueError(
            f"The posterior has no draws of {', '.join(map(repr, missing))}, on which the "
            "integrated effects depend. Was it sampled from this marginal model?"
        )
    if isinstance(random_seed, np.random.Generator):
        random_seed = int(random_seed.integers(2**63))
    elif isinstance(random_seed, np.random.SeedSequence):
        random_seed = random_seed.generate_state(4).tolist()
    kwargs: dict[str, Any] = {"mode": UNCOMPILED} | (compile_kwargs or {})
    kwargs |= {"random_seed": random_seed, "on_unused_input": "ignore"}
    with config.change_flags(traceback__limit=0):
        draw = _drawer(parameters, outputs, kwargs)
    n_chains, n_draws = (posterior.sizes[dim] for dim in ("chain", "draw"))
    columns = [_column(posterior[rv.name], rv) for rv in parameters]
    size = max(1, CHUNK // _bytes_per_draw(model))
    chunks = [slice(i, i + size) for i in range(0, n_chains * n_draws, size)]
    parts: list[list[np.ndarray]] = []
    for chunk in track(chunks, "Recovering effects", disable=not progressbar):
        given = [column[chunk] for column in columns]
        n = min(chunk.stop, n_chains * n_draws) - chunk.start
        with np.errstate(all="ignore"):  # what is not finite is reported with its draw
            values = draw(given, n)
        for name, drawn in zip(effects, values, strict=False):
            finite = np.isfinite(drawn).reshape(n, -1).all(axis=1)
            if not finite.all():
                chain, at = divmod(chunk.start + int(finite.argmin()), n_draws)
                raise np.linalg.LinAlgError(
                    f"No draw of '{name}' at chain {chain}, draw {at}: the posterior precision "
                    "of the effects could not be factorised at these parameter values "
                    f"({_point(parameters, posterior, chain, at)})."
                )
        parts.append(values[len(effects) :])
    results = {
        name: np.concatenate(column).reshape(n_chains, n_draws, *column[0].shape[1:])
        for name, column in zip(names, zip(*parts, strict=True), strict=True)
    }
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


def _column(draws: Any, rv: Variable) -> np.ndarray:
    values = draws.transpose("chain", "draw", ...).values.astype(rv.type.dtype)
    return values.reshape(-1, *values.shape[2:])


def _bytes_per_draw(model: Model) -> int:
    return sum(cost(op.structure, free_of_rows=False)[1] for op in marginal_ops(model))


def _drawer(
    parameters: Sequence[Variable], outputs: Sequence[Variable], kwargs: dict[str, Any]
) -> Callable[[Sequence[np.ndarray], int], list[np.ndarray]]:
    """Return the function that makes a number of draws: at once, if its graph allows for that."""
    try:
        inputs, many = over_draws(outputs, parameters)
    except (NotImplementedError, TypeError, ValueError):
        one = pymc_compile(parameters, outputs, **kwargs)

        def draw_by_draw(columns: Sequence[np.ndarray], n: int) -> list[np.ndarray]:
            rows = [one(*(column[i] for column in columns)) for i in range(n)]
            return [np.stack(values) for values in zip(*rows, strict=True)]

        return draw_by_draw
    function = pymc_compile(inputs, many, **kwargs)
    return lambda columns, n: function(*columns, n)


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
