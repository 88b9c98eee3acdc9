"""``marginalize``: a new model without the effects; what is left keeps its posterior."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from pymc.model.core import Model
from pymc.model.fgraph import ModelVar, fgraph_from_model, model_from_fgraph
from pymc.model.transform.optimization import freeze_dims_and_data
from pymc.pytensorf import collect_default_updates
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.traversal import ancestors, io_toposort

from pymc_marginal_lmm.analysis.read import ModelGraph, Reading, read_model
from pymc_marginal_lmm.errors import NotMarginalizable
from pymc_marginal_lmm.model.initial_values import keep_initial_values, without_initial_values
from pymc_marginal_lmm.model.marginal_rv import MarginalRV
from pymc_marginal_lmm.model.shared import freeze_unnamed_data
from pymc_marginal_lmm.model.xtensors import without_xtensors

__all__ = ["marginalize", "marginalize_fgraph", "read"]

type Names = str | Variable | Sequence[str | Variable]


def resolve_names(model: Model, rvs: Names | None) -> list[str] | None:
    """Turn names or variables into names of free variables.

    Raises
    ------
    NotMarginalizable
        A name is not that of a free variable of the model.
    """
    if rvs is None:
        return None
    rvs = [rvs] if isinstance(rvs, str | Variable) else list(rvs)
    names = [rv if isinstance(rv, str) else rv.name for rv in rvs]
    free = [rv.name for rv in model.free_RVs]
    for name, rv in zip(names, rvs, strict=True):
        if name in free and (isinstance(rv, str) or rv is model[name]):
            continue
        if name not in model.named_vars:
            reason = "the model has no variable of that name"
        elif name in free:
            reason = "the variable belongs to another model"
        else:
            reason = "it is not a free random variable of the model"
        raise NotMarginalizable(name, reason, f"Free variables are: {', '.join(free) or 'none'}.")
    return list(dict.fromkeys(names))


def read(model: Model, rvs: Names | None = None) -> tuple[Model, FunctionGraph, Reading]:
    """Read a model, frozen as far as its structure depends on data and dims.

    Returns
    -------
    frozen : Model
        A copy of the model in which dims and the data that serve as indices are constants.
    fgraph : FunctionGraph
        The graph of ``frozen``.
    reading : Reading
        Over the variables of ``fgraph``.
    """
    names = resolve_names(model, rvs)
    if not model.observed_RVs:
        raise NotMarginalizable(
            names[0] if names else "all effects",
            "the model has no likelihood",
            "Give a variable observed data (observed=...) before marginalizing.",
        )
    model = without_xtensors(model)
    data: list[str] = []
    while True:
        frozen = freeze_dims_and_data(model, data=data)
        with without_initial_values(frozen):
            fgraph, memo = fgraph_from_model(frozen)
        freeze_unnamed_data(fgraph)
        candidates = None if names is None else [memo[frozen[name]] for name in names]
        order = [memo[frozen[rv.name]] for rv in model.free_RVs]
        reading = read_model(ModelGraph(fgraph, order), candidates)
        reading.frozen = tuple(data)
        if not reading.structural:
            return frozen, fgraph, reading
        data += list(reading.structural)


def marginalize_fgraph(fgraph: FunctionGraph, reading: Reading) -> None:
    """Replace effects and responses of a model's graph by one :class:`MarginalRV`, in place."""
    assert reading.model is not None
    graph = ModelGraph(fgraph)
    effects, responses = reading.effects, reading.responses
    dependent = [
        variable
        for variable in graph.deterministics
        if any(parent in effects for parent in graph.parents([variable]))
    ]
    roots = [graph.rv(variable) for variable in (*effects, *responses, *dependent)]
    symbols = reading.model.symbols()
    outputs = [*roots, *symbols]

    sampled = [variable for variable in graph.free if variable not in effects]
    reached = ancestors(outputs, blockers=sampled)
    inputs = list(
        dict.fromkeys(
            v for v in reached if v in sampled or (v.owner is None and not isinstance(v, Constant))
        )
    )
    values = {graph.value(variable) for variable in effects}
    inputs = [v for v in inputs if v not in values]
    outputs = _without_model_variables(inputs, outputs)
    updates = collect_default_updates(outputs[: len(roots)], inputs=inputs, must_be_shared=False)
    op = MarginalRV(
        inputs,
        [*outputs, *updates.values()],
        structure=reading.model.with_symbols([None] * len(symbols)),
        deterministics=tuple((d.owner.op.name, tuple(d.owner.op.dims)) for d in dependent),
    )
    drawn = op.split(op(*inputs, return_list=True))
    for variable in (*effects, *dependent):
        fgraph.remove_output(fgraph.outputs.index(variable), reason="marginalize")
    for response, new in zip(responses, drawn["responses"], strict=True):
        new.name = response.name
        fgraph.change_node_input(response.owner, 0, new, import_missing=True)


def _without_model_variables(
    inputs: Sequence[Variable], outputs: Sequence[Variable]
) -> list[Variable]:
    """Copy a graph, with the markers of model variables taken out."""
    memo: dict[Variable, Variable] = {v: v for v in inputs}
    for node in io_toposort(inputs, outputs):
        if isinstance(node.op, ModelVar):
            memo[node.outputs[0]] = memo.get(node.inputs[0], node.inputs[0])
            continue
        copy = node.clone_with_new_inputs([memo.get(v, v) for v in node.inputs], strict=False)
        memo.update(zip(node.outputs, copy.outputs, strict=True))
    return [memo.get(v, v) for v in outputs]


def marginalize(model: Model, rvs_to_marginalize: Names | None = None) -> Model:
    """Integrate Normal effects out of a model, exactly.

    Every chosen variable with a Normal, multivariate Normal or flat prior that enters the mean of
    Normal or LogNormal likelihoods linearly is replaced, with these likelihoods, by their exact
    joint marginal density (Lai, Domke and Sheldon, NeurIPS 2024; here for any number of grouping
    factors, each with its own covariance). What is left has the same posterior as before, with
    fewer dimensions and without the funnels. :func:`~pymc_marginal_lmm.recover` draws the effects
    afterwards.

    Parameters
    ----------
    model : pymc.Model
        Any model; it is not changed.
    rvs_to_marginalize : str, Variable, or sequence of them, optional
        The effects to integrate out. By default every free variable for which that is possible,
        the coefficients of fixed effects included; :func:`~pymc_marginal_lmm.explain` lists them.

    Returns
    -------
    pymc.Model
        A new model. Dims, and ``pm.Data`` that serve as indices, are constants in it; other
        ``pm.Data`` can be changed by :func:`pymc.set_data` as long as their shape stays.
        Deterministics that depend on the effects come back with :func:`recover`.

    Raises
    ------
    NotMarginalizable
        A variable that was asked for cannot be integrated out, or the data hold NaN or infinite
        values. The message names the variable, the place, the reason and a way out.

    Warns
    -----
    UserWarning
        Nothing was asked for and nothing can be integrated out.

    Notes
    -----
    The marginal model's likelihood is a single number per response set: it does not split by
    observation, and :func:`pymc.compute_log_likelihood` on it is not pointwise.

    Examples
    --------
    >>> import numpy as np, pymc as pm, pymc_marginal_lmm as mlmm
    >>> group = np.repeat([0, 1, 2], 4)
    >>> with pm.Model() as model:
    ...     tau = pm.HalfNormal("tau")
    ...     u = pm.Normal("u", 0, tau, shape=3)
    ...     y = pm.Normal("y", u[group], 1, observed=np.arange(12) / 6)
    >>> [rv.name for rv in mlmm.marginalize(model).free_RVs]
    ['tau']
    """
    frozen, fgraph, reading = read(model, rvs_to_marginalize)
    if rvs_to_marginalize is not None and reading.refusals:
        raise next(iter(reading.refusals.values()))
    if reading.model is None:
        if rvs_to_marginalize is None:
            warnings.warn(
                "No variable of this model can be integrated out; the model is returned as it "
                "was. explain(model) gives the reason for each variable.",
                UserWarning,
                stacklevel=2,
            )
        return model
    marginalize_fgraph(fgraph, reading)
    marginal = model_from_fgraph(fgraph, mutate_fgraph=True)
    keep_initial_values(frozen, marginal)
    return marginal
