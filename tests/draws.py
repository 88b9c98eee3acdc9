"""Made-up draws of parameters, and functions of many draws without a compiler."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pymc as pm
import pytensor
from pytensor.graph.basic import Variable
from xarray import Dataset, DataTree

from tests.helpers import INTERPRETER, random_point
from tests.lme4_models import point


def interpreted(x: Variable, inputs: Sequence[Variable], value: Variable) -> Callable:
    """Stand in for a compiler."""
    function = pytensor.function([x, *inputs], value, mode=INTERPRETER, on_unused_input="ignore")
    return lambda points, *known: np.stack([function(point, *known) for point in points])


def draws_of(marginal: pm.Model, n: int) -> tuple[DataTree, list[dict[str, np.ndarray]]]:
    """Return random draws of the parameters of a model, and the points that they are."""
    points = [random_point(marginal, seed) for seed in range(1, n + 1)]
    values = [marginal.rvs_to_values[rv] for rv in marginal.free_RVs]
    function = pytensor.function(
        values, marginal.replace_rvs_by_values(marginal.free_RVs), mode=INTERPRETER
    )
    drawn = [function(*(point[v.name] for v in values)) for point in points]
    posterior = {}
    for i, rv in enumerate(marginal.free_RVs):
        own = np.stack([draw[i] for draw in drawn])[None]
        dims = [f"{rv.name}_dim_{k}" for k in range(own.ndim - 2)]
        posterior[rv.name] = (("chain", "draw", *dims), own)
    sizes = {"chain": [0], "draw": np.arange(n)}
    return DataTree.from_dict({"posterior": Dataset(posterior, coords=sizes)}), points


def one_draw(fit: dict) -> DataTree:
    """Return estimates of lme4's as the one draw of a posterior."""
    posterior = {}
    for name, value in point(fit).items():
        dims = [f"{name}_dim_{k}" for k in range(value.ndim)]
        posterior[name] = (("chain", "draw", *dims), value[None, None])
    return DataTree.from_dict({"posterior": Dataset(posterior)})
