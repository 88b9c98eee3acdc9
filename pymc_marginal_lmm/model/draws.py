"""Draws of a model's variables: out of a posterior, and into one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from arviz_base import dict_to_dataset
from pymc.model.core import Model
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from rich.progress import track
from xarray import DataArray, Dataset

__all__ = [
    "as_dataset",
    "check_not_moved",
    "check_parameters",
    "chunks",
    "column_of",
    "first_lost",
    "merged",
    "over_parameters",
    "shown_draw",
]

CHUNK = 64_000_000
"""Bytes of what is computed for so many draws at once."""


def over_parameters(
    model: Model, parameters: Sequence[Variable], outputs: Sequence[Variable]
) -> tuple[list[Variable], list[Variable]]:
    """Return inputs in the place of parameters of a model, and outputs over these and the data.

    The inputs are new variables, and take the parameters' place at the same time as the data take
    that of the observed variables: PyTensor copies whatever depends on what it replaces, parameters
    with a prior that depends on data as well, and a copy would be drawn from that prior.
    """
    inputs = {rv: rv.type(name=rv.name) for rv in parameters}
    data = {rv: model.rvs_to_values[rv] for rv in model.observed_RVs}
    return list(inputs.values()), graph_replace(list(outputs), {**data, **inputs}, strict=False)


def check_parameters(parameters: Sequence[Variable], posterior: Dataset) -> None:
    """Check that a posterior has draws of all parameters of a marginal model.

    Raises
    ------
    ValueError
        It lacks one, or has it in another shape.
    """
    if missing := [rv.name for rv in parameters if rv.name not in posterior]:
        raise ValueError(
            f"idata.posterior has no draws of {', '.join(map(repr, missing))}, on which the "
            "integrated effects depend. Was it sampled from this marginal model?"
        )
    for rv in parameters:
        draws = posterior[rv.name]
        found = [draws.sizes[dim] for dim in draws.dims if dim not in ("chain", "draw")]
        fits = len(found) == rv.type.ndim and len(draws.dims) == rv.type.ndim + 2
        if not fits or any(n not in (None, m) for n, m in zip(rv.type.shape, found, strict=True)):
            raise ValueError(
                f"idata.posterior has '{rv.name}' with dims {draws.dims} of lengths {draws.shape}; "
                f"chain and draw, and then {rv.type.shape} are right. Was it sampled from this "
                "marginal model?"
            )


def check_not_moved(model: Model, posterior: Dataset) -> None:
    """Check that a parameter is where the model has it.

    Raises
    ------
    ValueError
        Bambi has moved the intercept.
    """
    moved = [rv.name for rv in model.free_RVs if (rv.name or "").endswith("Intercept")]
    if moved and posterior.attrs.get("modeling_interface") == "bambi":
        raise ValueError(
            f"idata: Bambi has moved '{moved[0]}' to where all predictors are 0, and it is a "
            "parameter here, since its prior is not Normal. Pass draws as they were sampled: "
            "sample(model.backend.model)."
        )


def merged(posterior: Dataset, recovered: Dataset) -> Dataset:
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


def column_of(draws: DataArray, rv: Variable) -> np.ndarray:
    """Return the draws of a variable, chain after chain, ``(N, *shape)``."""
    values = draws.transpose("chain", "draw", ...).values.astype(rv.type.dtype)
    return values.reshape(-1, *values.shape[2:])


def chunks(n_draws: int, n_bytes: int, title: str = "", *, show: bool = False) -> Iterator[slice]:
    """Yield as many draws at once as memory allows for.

    Parameters
    ----------
    n_draws : int
    n_bytes : int
        That are computed for each.
    title : str
        Of the progress bar.
    show : bool
        Whether there is one.
    """
    size = max(1, CHUNK // max(1, n_bytes))
    slices = [slice(i, min(i + size, n_draws)) for i in range(0, n_draws, size)]
    yield from track(slices, title, disable=not show)


def first_lost(found: np.ndarray) -> int | None:
    """Return the first draw, along the first axis, of which something is not finite."""
    finite = np.isfinite(found).all(axis=tuple(range(1, found.ndim)))
    return None if finite.all() else int(finite.argmin())


def shown_draw(parameters: Sequence[Variable], posterior: Dataset, number: int) -> tuple[str, str]:
    """Return where a draw is, counted chain after chain, and its values, as text."""
    chain, draw = divmod(number, posterior.sizes["draw"])
    at = posterior.isel(chain=chain, draw=draw)
    shown = [f"{rv.name}={np.round(at[rv.name].values, 6).tolist()}" for rv in parameters]
    return f"chain {chain}, draw {draw}", ", ".join(shown)[:300]


def as_dataset(
    results: dict[str, np.ndarray],
    model: Model,
    posterior: Dataset,
    own_dims: Mapping[str, Any],
    own_coords: Mapping[Any, Any],
) -> Dataset:
    """Return results by name, ``(chain, draw, …)``, with dims and coords of a model."""
    known: dict[str, Any] = {**model.named_vars_to_dims, **own_dims}
    dims: dict[Any, Any] = {name: list(known[name]) for name in results if known.get(name)}
    used = {dim for names in dims.values() for dim in names}
    coords: dict[Any, Any] = {
        dim: np.asarray(values)
        for dim, values in {**model.coords, **own_coords}.items()
        if dim in used and values is not None
    }
    dataset = dict_to_dataset(results, dims=dims, coords=coords)
    return dataset.assign_coords(
        {dim: posterior[dim] for dim in ("chain", "draw") if dim in posterior.coords}
    )
