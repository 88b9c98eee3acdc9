"""``noncenter``: for Normal variables that stay sampled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import pymc as pm
import pytensor.tensor as pt
from pymc.model.core import Model
from pymc.model.fgraph import (
    model_deterministic,
    model_free_rv,
)
from pytensor.graph.basic import Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.tensor.random.op import RandomVariable

from pymc_marginal_lmm.analysis.priors import (
    GaussianPrior,
    NotGaussian,
    distribution_name,
    is_gaussian,
    known,
    known_shape,
    read_prior,
)
from pymc_marginal_lmm.model.arguments import Names, checked_names, pymc_model
from pymc_marginal_lmm.model.order import keep_order, order_of
from pymc_marginal_lmm.model.roundtrip import graph_of, model_of

__all__ = ["noncenter"]

SUFFIX = "_offset"


def _refuse(name: str, reason: str, remedy: str) -> NoReturn:
    raise ValueError(f"Cannot non-centre '{name}': {reason}. {remedy}")


def _names(model: Model, rvs: Sequence[str | Variable]) -> list[str]:
    """Check that variables are there and free, and return their names."""
    names = [rv if isinstance(rv, str) else rv.name for rv in rvs]
    free = [rv.name for rv in model.free_RVs]
    remedy = f"Free variables are: {', '.join(free) or 'none'}."
    for name, rv in zip(names, rvs, strict=True):
        if name not in model.named_vars:
            _refuse(name, "the model has no variable of that name", remedy)
        if not isinstance(rv, str) and rv is not model[name]:
            _refuse(name, "the variable belongs to another model", remedy)
        if name in [observed.name for observed in model.observed_RVs]:
            _refuse(name, "it is observed", remedy)
        if name not in free:
            _refuse(name, "it is not a free random variable of the model", remedy)
        if name + SUFFIX in model.named_vars:
            _refuse(name, f"the model has a variable '{name}{SUFFIX}' already", "Rename that one.")
    return list(dict.fromkeys(names))


def _read_prior(name: str, rv: Variable) -> GaussianPrior:
    prior = None
    if is_gaussian(rv):
        shape = known_shape(rv)
        if shape is None:
            _refuse(name, "its shape depends on a sampled variable", "Leave it as it is.")
        try:
            prior = read_prior(rv.owner.op, rv, shape)
        except NotGaussian as error:
            _refuse(name, error.reason, "Leave it as it is.")
    if prior is None or prior.flat or prior.zero_sum or not _is_normalised(prior):
        _refuse(
            name,
            f"its prior is {distribution_name(rv)}",
            "Only Normal and MvNormal variables, MatrixNormal, KroneckerNormal, random walks, AR "
            "and CAR have a mean and a scale to take out; leave it as it is.",
        )
    return prior


def _is_normalised(prior: GaussianPrior) -> bool:
    """Whether PyMC's density is a Gaussian one up to a constant."""
    return not isinstance(prior.log_factor, Variable) or known(prior.log_factor) is not None


def _shape(rv: Variable) -> Sequence[Variable | int]:
    """Return lengths that follow the model's dims, where the Op knows them."""
    node = rv.owner
    if isinstance(node.op, RandomVariable):
        return tuple(node.op._infer_shape(node.op.size_param(node), node.op.dist_params(node)))
    return known_shape(rv) or ()


def _noncentered(variable: Variable) -> tuple[Variable, Variable]:
    """Return the standard Normal offset of a variable, and the variable as a function of it."""
    op, rv = variable.owner.op, variable.owner.inputs[0]
    prior = _read_prior(op.name, rv)
    if op.transform is not None:
        _refuse(
            op.name,
            f"its value is transformed ({type(op.transform).__name__}), which restricts its prior",
            "Remove the transform, or leave it as it is.",
        )
    offset = pm.Normal.dist(0.0, 1.0, shape=_shape(rv), dtype=rv.type.dtype)
    offset.name = op.name + SUFFIX
    free = model_free_rv(offset, offset.type(name=offset.name), None, offset.name, *op.dims)
    if prior.support_ndim:
        batch = tuple(free.shape)[: free.type.ndim - prior.support_ndim]
        by_block = free.reshape((*batch, -1), ndim=len(batch) + 1)
        deviation = (prior.scale @ by_block[..., None])[..., 0]
        deviation = deviation.reshape(free.shape, ndim=free.type.ndim)
    else:
        deviation = prior.scale * free
    value = (prior.mean + deviation).astype(rv.type.dtype)
    if value.type != rv.type:
        value = pt.specify_shape(value, rv.type.shape)
    value.name = op.name
    return free, value


def noncenter_fgraph(fgraph: FunctionGraph, names: Sequence[str]) -> None:
    """Replace free variables of a model's graph by functions of offsets, in place."""
    variables = [v for v in fgraph.toposort() if getattr(v.op, "name", None) in names]
    for variable in [v.outputs[0] for v in variables]:
        op = variable.owner.op
        free, value = _noncentered(variable)
        fgraph.replace(
            variable,
            model_deterministic(value, op.name, *op.dims),
            reason="noncenter",
            import_missing=True,
        )
        fgraph.add_output(free, reason="noncenter", import_missing=True)


def noncenter(model: Any = None, rvs: Names | None = None) -> Model:
    """Sample Normal variables as standard Normal offsets from their mean.

    For effects that stay sampled (:func:`~pymc_marginal_lmm.explain` says why) and that data say
    little about: ``u ~ Normal(mean, sd)`` becomes ``u_offset ~ Normal(0, 1)`` and the
    Deterministic ``u = mean + sd * u_offset``, which has no funnel. The model is the same.

    Parameters
    ----------
    model : pymc.Model or bambi.Model, optional
        Any model, also a marginal one; it is not changed. By default the one of the ``with``
        context.
    rvs : str, Variable, or sequence of them
        Which, always to be named: free variables with a Normal or multivariate Normal prior, of
        any shape, mean and scale, or one of a process (a random walk, AR, CAR, MatrixNormal,
        KroneckerNormal).

    Returns
    -------
    pymc.Model
        A new model. Initial values of the variables are dropped; others are kept.

    Raises
    ------
    TypeError
        An argument is of a wrong type, or there is no model, or nothing is named.
    ValueError
        A variable is not there, or cannot be non-centred; the message says why and what to do.

    Examples
    --------
    One factor integrated out, the other one non-centred:

    >>> import numpy as np, pymc as pm, pymc_marginal_lmm as mlmm
    >>> g, h = np.repeat([0, 1, 2], 4), np.tile([0, 1], 6)
    >>> with pm.Model() as model:
    ...     u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=3)
    ...     v = pm.Normal("v", 0, pm.HalfNormal("omega"), shape=2)
    ...     y = pm.Normal("y", u[g] + v[h], 1, observed=np.arange(12) / 6)
    >>> combined = mlmm.noncenter(mlmm.marginalize(model, ["u"]), ["v"])
    >>> [rv.name for rv in combined.free_RVs]
    ['tau', 'omega', 'v_offset']
    """
    variables = checked_names(rvs, "rvs", variables=True)
    if variables is None:
        raise TypeError("rvs is missing: name the variables to non-centre.")
    model = pymc_model(model)
    names = _names(model, variables)
    fgraph, _ = graph_of(model)
    noncenter_fgraph(fgraph, names)
    new = model_of(fgraph, model)
    order = [place for name in order_of(model) for place in (name + SUFFIX, name)]
    keep_order(new, order)
    return new
