"""``marginalize``: a new model without the effects; what is left keeps its posterior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pymc.model.core import Model
from pymc.model.fgraph import (
    ModelDeterministic,
    ModelVar,
)
from pymc.model.transform.optimization import freeze_dims_and_data
from pymc.pytensorf import collect_default_updates
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import ancestors, io_toposort
from pytensor.tensor.basic import constant

from pymc_marginal_lmm.analysis.read import Reading, read_model
from pymc_marginal_lmm.analysis.remedies import Remedy
from pymc_marginal_lmm.analysis.roles import ModelGraph
from pymc_marginal_lmm.errors import NotMarginalizable
from pymc_marginal_lmm.model.arguments import Names, checked_flag, checked_names, pymc_model
from pymc_marginal_lmm.model.data import StructuralData, fix_dims, guard_data
from pymc_marginal_lmm.model.fold import fold_scales as fold_scales_of
from pymc_marginal_lmm.model.invariants import check_marginal
from pymc_marginal_lmm.model.marginal_rv import Dependent, MarginalRV
from pymc_marginal_lmm.model.notices import warn_of_indices, warn_of_what_stays
from pymc_marginal_lmm.model.order import order_of
from pymc_marginal_lmm.model.restore import NO_EFFECTS, marginal_ops
from pymc_marginal_lmm.model.roundtrip import graph_of, model_of, without_aliases
from pymc_marginal_lmm.model.shapes import cut_shapes
from pymc_marginal_lmm.model.shared import freeze_unnamed_data
from pymc_marginal_lmm.model.unmarginalize import plain_of
from pymc_marginal_lmm.model.xtensors import without_xtensors

__all__ = ["Names", "marginal_of", "marginalize", "marginalize_fgraph", "marginalized", "read"]


def resolve_names(
    model: Model, rvs: Sequence[str | Variable] | None, plain: Model
) -> list[str] | None:
    """Turn names or variables into names of free variables.

    Parameters
    ----------
    model : Model
        To which variables belong.
    rvs : sequence of str or Variable, optional
    plain : Model
        To which names belong: ``model``, or what it was made from.

    Raises
    ------
    NotMarginalizable
        A name is not that of a free variable of the model.
    """
    if rvs is None:
        return None
    names = [rv if isinstance(rv, str) else rv.name for rv in rvs]
    free = [rv.name for rv in plain.free_RVs]
    for name, rv in zip(names, rvs, strict=True):
        own = isinstance(rv, str) or (name in model.named_vars and rv is model[name])
        if name in free and own:
            continue
        if name not in plain.named_vars:
            reason = "the model has no variable of that name"
        elif name in free:
            reason = "the variable belongs to another model"
        else:
            reason = "it is not a free random variable of the model"
        raise NotMarginalizable(name, reason, Remedy.FREE_NAMES.about(", ".join(free) or "none"))
    return list(dict.fromkeys(names))


def read(
    model: Model, rvs: Sequence[str | Variable] | None = None
) -> tuple[Model, FunctionGraph, Reading]:
    """Read a model, frozen as far as its structure depends on data and dims.

    A marginal model is read as the plain model it stands for: effects are integrated out jointly,
    those that are integrated out already together with new ones.

    Returns
    -------
    plain : Model
        The model, with all its effects.
    fgraph : FunctionGraph
        A copy of its graph, in which dims and the data that serve as indices are constants.
    reading : Reading
        Over the variables of ``fgraph``.
    """
    plain = plain_of(model)
    names = resolve_names(model, rvs, plain)
    if names is not None:
        before = [effect.name for op in marginal_ops(model) for effect in op.structure.effects]
        names = list(dict.fromkeys([*before, *names]))
    plain = without_xtensors(without_aliases(plain))
    constants = [v.name for v in plain.data_vars if isinstance(v, StructuralData)]
    data: list[str] = []
    while True:
        frozen = _frozen(plain, data)
        fgraph, memo = graph_of(frozen)
        freeze_unnamed_data(fgraph)
        cut_shapes(fgraph)
        candidates = None if names is None else [memo[frozen[name]] for name in names]
        order = [memo[frozen[rv.name]] for rv in plain.free_RVs]
        reading = read_model(ModelGraph(fgraph, order), candidates)
        reading = replace(reading, frozen=(*constants, *data))
        if not reading.structural:
            warn_of_indices(reading)
            return plain, fgraph, reading
        data += list(reading.structural)


def _frozen(model: Model, data: Sequence[str]) -> Model:
    """Freeze a model, and say which variable it is whose lengths turn out not to fit."""
    try:
        return freeze_dims_and_data(model, data=data)
    except ValueError as error:
        lengths = [v for v in model.dim_lengths.values() if isinstance(v, SharedVariable)]
        known = {v: constant(v.get_value(), dtype=v.type.dtype) for v in lengths}
        for name, variable in model.named_vars.items():
            try:
                clone_replace([variable], known, rebuild_strict=False)
            except ValueError:
                raise ValueError(f"Lengths do not fit in '{name}': {error}") from error
        raise


def marginalize_fgraph(fgraph: FunctionGraph, reading: Reading, model: Model) -> None:
    """Replace effects and responses of a model's graph by one :class:`MarginalRV`, in place.

    Parameters
    ----------
    fgraph : FunctionGraph
    reading : Reading
        Over the variables of ``fgraph``.
    model : Model
        The user's: its order of variables, and its initial values, are remembered.
    """
    assert reading.model is not None
    graph = ModelGraph(fgraph)
    effects, responses = reading.effects, reading.responses
    gone = [*effects, *reading.barren]
    given = [v for v in graph.free if v not in gone]
    given += [v for v in graph.observed if v not in responses]
    symbols = reading.model.symbols()
    # In the order of the graph, which has parents first.
    dependent = [
        variable
        for node in fgraph.toposort()
        for variable in node.outputs
        if variable in reading.barren
        or (
            variable in graph.deterministics
            and any(parent in gone for parent in graph.parents([variable]))
        )
    ]
    roots = [graph.drawn(variable) for variable in (*effects, *responses, *dependent)]
    outputs = [*roots, *symbols]
    _give_data(fgraph, responses, [v for v in ancestors(outputs, blockers=given) if v in given])

    # Other responses are given, like parameters: a Deterministic may hold them.
    reached = ancestors(outputs, blockers=given)
    inputs = list(
        dict.fromkeys(
            v for v in reached if v in given or (v.owner is None and not isinstance(v, Constant))
        )
    )
    values = {graph.value(variable) for variable in gone}
    inputs = [v for v in inputs if v not in values]
    outputs = _without_model_variables(inputs, outputs)
    updates = collect_default_updates(outputs[: len(roots)], inputs=inputs, must_be_shared=False)
    op = MarginalRV(
        inputs,
        [*outputs, *updates.values()],
        structure=reading.model.with_symbols([None] * len(symbols)),
        dependents=tuple(_dependent(variable) for variable in dependent),
        order=order_of(model),
        initial_values={
            rv.name: value
            for rv, value in model.rvs_to_initial_values.items()
            if value is not None and any(v.owner.op.name == rv.name for v in gone)
        },
    )
    drawn = op.split(op(*inputs, return_list=True))
    for variable in (*effects, *dependent):
        fgraph.remove_output(fgraph.outputs.index(variable), reason="marginalize")
    for response, new in zip(responses, drawn["responses"], strict=True):
        new.name = response.name
        fgraph.change_node_input(response.owner, 0, new, import_missing=True)


def _give_data(
    fgraph: FunctionGraph, responses: Sequence[Variable], given: Sequence[Variable]
) -> None:
    """Cut, in place, what is given to the marginal variable from responses that it draws.

    A chain of likelihoods that leaves the effects' responses and comes back to them would be a
    cycle. Its links have the responses' data then, also where the model is drawn from.
    """
    above = set(ancestors(given, blockers=responses))
    for response in responses:
        data = response.type.filter_variable(ModelGraph.value(response))
        for client, place in list(fgraph.clients[response]):
            if not above.isdisjoint(client.outputs):
                fgraph.change_node_input(client, place, data, import_missing=True)


def _dependent(variable: Variable) -> Dependent:
    op = variable.owner.op
    if isinstance(op, ModelDeterministic):
        return Dependent(op.name, tuple(op.dims))
    value = ModelGraph.value(variable)
    return Dependent(op.name, tuple(op.dims), value.type, value.name, op.transform)


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


def marginalize(
    model: Any = None, rvs_to_marginalize: Names | None = None, *, fold_scales: bool = True
) -> Model:
    """Integrate Normal effects out of a model, exactly.

    Every chosen variable with a Normal, multivariate Normal or flat prior that enters the mean of
    Normal, LogNormal or MvNormal likelihoods linearly is replaced, with these likelihoods, by
    their exact joint marginal density (Lai, Domke and Sheldon, NeurIPS 2024; here for any number
    of grouping factors, each with its own covariance). What is left has the same posterior as
    before, with fewer dimensions and without the funnels.
    :func:`~pymc_marginal_lmm.recover` draws the effects afterwards.

    Parameters
    ----------
    model : pymc.Model or bambi.Model, optional
        Any model; it is not changed. A marginal model is taken further: what is integrated out
        already is so jointly with what is added. By default the one of the ``with`` context; of a
        Bambi model its PyMC model, ``model.backend.model``.
    rvs_to_marginalize : str, Variable, or sequence of them, optional
        The effects to integrate out. By default every free variable for which that is possible,
        the coefficients of fixed effects included; :func:`~pymc_marginal_lmm.explain` lists them.
    fold_scales : bool, default True
        Sample the scales of integrated effects with a sign, so that 0 is no boundary: half-normal,
        half-Cauchy, half-t and exponential ones, and ``LKJCholeskyCov`` of such, where they enter
        the density as scales only. The posterior, its names and its values stay the same; samplers
        need fewer gradients for it. Only the value variables are others (``tau_fold__`` in place
        of ``tau_log__``). See :mod:`pymc_marginal_lmm.model.fold`.

    Returns
    -------
    pymc.Model
        A new model. Dims, and ``pm.Data`` that serve as indices, are constants in it (setting
        them raises); other ``pm.Data`` can be set by :func:`pymc.set_data`, with shapes kept.
        Deterministics that depend on the effects come back with :func:`recover`.

    Raises
    ------
    TypeError
        An argument is of a wrong type, or there is no model.
    NotMarginalizable
        A variable that was asked for cannot be integrated out, or the data hold NaN or infinite
        values. The message names the variable, the place, the reason and a way out.

    Warns
    -----
    UserWarning
        Nothing was asked for, and Normal variables stay sampled, or nothing can be integrated out.

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
    fold = checked_flag(fold_scales, "fold_scales")
    names = checked_names(rvs_to_marginalize, "rvs_to_marginalize", variables=True)
    model = pymc_model(model)
    marginal, reading = marginalized(model, names, fold=fold)
    if names is None:
        warn_of_what_stays(model, reading, "the model is returned as it was")
    return marginal or model


def marginalized(
    model: Model, rvs: Sequence[str | Variable] | None, *, fold: bool
) -> tuple[Model | None, Reading]:
    """Return the marginal model, or None if nothing can be integrated out, and what was read."""
    plain, fgraph, reading = read(model, rvs)
    if rvs is not None and reading.refusals:
        raise next(iter(reading.refusals.values()))
    if reading.model is None:
        return None, reading
    gone = [ModelGraph.drawn(variable) for variable in (*reading.effects, *reading.barren)]
    marginalize_fgraph(fgraph, reading, plain)
    if fold:
        fold_scales_of(fgraph)
    guard_data(fgraph, reading.frozen)
    fix_dims(fgraph, plain)
    marginal = model_of(fgraph, plain)
    check_marginal(plain, marginal, gone)
    return marginal, reading


def marginal_of(model: Model) -> Model:
    """Return the marginal model that is meant: itself, or a plain one with all effects gone.

    Raises
    ------
    ValueError
        Nothing can be integrated out.
    """
    if marginal_ops(model):
        return model
    marginal, _ = marginalized(model, None, fold=False)
    if marginal is None:
        raise ValueError(NO_EFFECTS)
    return marginal
