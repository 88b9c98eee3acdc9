"""A marginal model's likelihoods, and functions of them for many draws of its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pymc.model.core import Model
from pytensor import config
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.type import RandomType
from xarray import Dataset

from pymc_marginal_lmm.dispatch.batches import Loop, by_jax, by_numba
from pymc_marginal_lmm.model.arguments import posterior_of, pymc_model
from pymc_marginal_lmm.model.draws import (
    as_dataset,
    check_not_moved,
    check_parameters,
    column_of,
    over_parameters,
)
from pymc_marginal_lmm.model.marginal_rv import MarginalRV
from pymc_marginal_lmm.model.marginalize import marginal_of
from pymc_marginal_lmm.model.restore import node_of
from pymc_marginal_lmm.structure import MixedModel
from pymc_marginal_lmm.values import interpret

__all__ = ["Likelihoods", "by_response", "chains_and_draws", "marginal_and_draws"]


def marginal_and_draws(idata: Any, model: Any) -> tuple[Model, Dataset]:
    """Return a marginal model, and draws of its parameters.

    Raises
    ------
    TypeError
        There is no model, or no tree of draws.
    ValueError
        Nothing can be integrated out; draws of a parameter lack, or are those of another model.
    """
    posterior = posterior_of(idata)
    model = marginal_of(pymc_model(model))
    check_parameters(model.free_RVs, posterior)
    check_not_moved(model, posterior)
    return model, posterior


@dataclass(frozen=True)
class Likelihoods:
    """A set of likelihoods that share integrated effects, over a vector of parameters.

    Parameters
    ----------
    model : Model
    mixed : MixedModel
        Over ``x``; what data say is constant.
    ys : list of Variable
        Value of each response.
    log_jacobian : array, (n,)
        Of the logarithms of LogNormal rows.
    x : Variable, (d,)
        All free variables of the model.
    points : array, (N, d)
        Their draws in a posterior, chain after chain.
    """

    model: Model
    mixed: MixedModel
    ys: list[Variable]
    log_jacobian: np.ndarray
    x: Variable
    points: np.ndarray

    @classmethod
    def of(cls, model: Model, op: MarginalRV, posterior: Dataset) -> Likelihoods:
        """Return those of an Op of the model, for the draws of a posterior."""
        node = node_of(model, op)
        mixed, _ = op.over(node.inputs)
        ys = [model.rvs_to_values[rv] for rv in op.split(node.outputs)["responses"]]
        inputs, graphs = over_parameters(model, model.free_RVs, [*mixed.symbols(), *ys])
        n_draws = int(np.prod(chains_and_draws(posterior)))
        columns = [column_of(posterior[rv.name], rv) for rv in model.free_RVs]
        flat = [np.zeros((n_draws, 0)), *(column.reshape(n_draws, -1) for column in columns)]
        points = np.concatenate(flat, axis=1).astype(config.floatX)
        x = pt.vector("x", shape=points.shape[1:], dtype=config.floatX)
        new: dict[Variable, Variable] = {}
        for v, column, end in zip(
            inputs, columns, np.cumsum([f.shape[1] for f in flat[1:]]), strict=True
        ):
            shape = column.shape[1:]
            own = x[end - int(np.prod(shape, dtype=int)) : end]
            new[v] = v.type.filter_variable(pt.cast(pt.reshape(own, shape), v.dtype))
        for v in ancestors(graphs):
            if isinstance(v, SharedVariable) and not isinstance(v.type, RandomType):
                new[v] = v.type.constant_type(v.type, v.get_value())
        graphs = graph_replace(graphs, new, strict=False) if new else graphs
        ys = graphs[len(graphs) - len(ys) :]
        jacobian = [
            -np.log(values).ravel() if response.family == "lognormal" else np.zeros(response.size)
            for response, values in zip(mixed.responses, interpret(ys), strict=True)
        ]
        mixed = mixed.with_symbols(graphs[: len(graphs) - len(ys)])
        return cls(model, mixed, ys, np.concatenate(jacobian), x, points)

    def compiled(self, values: Sequence[Variable], inputs: Sequence[Variable] = ()) -> Loop:
        """Compile functions of ``x`` and of other inputs, put into one vector ``(m,)``."""
        vector = values[0] if len(values) == 1 else pt.concatenate(list(values))
        if find_spec("jax") is not None:
            try:
                return by_jax(self.x, inputs, vector)
            except NotImplementedError:
                pass
        return by_numba(self.x, inputs, vector)

    def row(self, i: int) -> str:
        """Name a row."""
        for response in self.mixed.responses:
            if i < response.size:
                return f"row {i} of '{response.name}'"
            i -= response.size
        raise IndexError(i)


def by_response(found: np.ndarray, given: Likelihoods, posterior: Dataset, suffix: str) -> Dataset:
    """Return what belongs to rows, ``(N, n)``, by response, with its dims and coords.

    Parameters
    ----------
    found : array, (N, n)
    given : Likelihoods
    posterior : Dataset
        Whose draws these are.
    suffix : str
        Of the names of the responses.
    """
    model = given.model
    results, dims = {}, {}
    for response, rows in given.mixed.rows():
        name = f"{response.name}{suffix}"
        shape = (*chains_and_draws(posterior), *response.shape)
        results[name] = found[:, rows].reshape(shape)
        if own := model.named_vars_to_dims.get(response.name):
            dims[name] = list(own)
    return as_dataset(results, model, posterior, dims, {})


def chains_and_draws(posterior: Dataset) -> tuple[int, int]:
    """Return how many of each there are."""
    return posterior.sizes["chain"], posterior.sizes["draw"]
