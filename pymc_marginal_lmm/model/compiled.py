"""``compile_model``: all that a fit needs of a model, made once for many data sets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np
from pymc.model.core import Model
from pymc.pytensorf import convert_observed_data
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.analysis.terms import DISCRETE
from pymc_marginal_lmm.model.arguments import (
    Names,
    checked_choice,
    checked_installed,
    checked_names,
    is_bambi,
    pymc_model,
)
from pymc_marginal_lmm.model.folded import is_folded
from pymc_marginal_lmm.model.live_responses import data_name, with_live_responses
from pymc_marginal_lmm.model.log_density import BACKENDS, Backend, LogDensities, compile_log_density
from pymc_marginal_lmm.model.marginalize import marginalized, resolve_names
from pymc_marginal_lmm.model.notices import warn_of_what_stays
from pymc_marginal_lmm.model.recover import Drawer, Recovery
from pymc_marginal_lmm.model.restore import marginal_ops
from pymc_marginal_lmm.model.unmarginalize import plain_of
from pymc_marginal_lmm.model.value_space import ValueSpace

__all__ = [
    "MOST_DIMENSIONS",
    "CompiledModel",
    "NotForFit",
    "compile_model",
    "marginal_of",
    "prepare",
    "why_not",
]

MOST_DIMENSIONS = 25
"""Of the parameters that are left: with more of them the method is not shown to work."""


class NotForFit(ValueError):
    """What is left of a model is not for importance sampling; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{reason}. sample(model, method='nuts') takes such models; explain(model) says why "
            "variables stay sampled."
        )


@dataclass(frozen=True)
class CompiledModel:
    """A model that is ready to be fitted, again and again.

    Made by :func:`~pymc_marginal_lmm.compile_model`, fitted by :func:`~pymc_marginal_lmm.fit`.

    Parameters
    ----------
    plain, marginal : Model
    bambi : bambi.Model or None
        Whose PyMC model ``plain`` is.
    space : ValueSpace
        Of the parameters of ``marginal``.
    start : ndarray, shape (d,)
        The initial point of ``marginal``.
    log_density : LogDensities
    constrained : Drawer
        From value variables of ``marginal`` to its variables, for many points.
    recovery : Recovery or None
        Of what is integrated out, if anything is.
    data : dict of array
        Those that can be exchanged, by name.
    seconds : float
        That preparation took.
    lock : Lock
        Of the data that the models hold, between fits side by side.
    """

    plain: Model
    marginal: Model
    bambi: Any
    space: ValueSpace
    start: np.ndarray
    log_density: LogDensities
    constrained: Drawer
    recovery: Recovery | None
    data: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: float = 0.0
    lock: Any = field(default_factory=Lock, repr=False, compare=False)

    def with_data(self, **data: Any) -> CompiledModel:
        """Return the model with other data; nothing is compiled again, and this one stays.

        Parameters
        ----------
        **data : array
            New values by name: of responses (the names of observed variables), or of ``pm.Data``
            that the density depends on, but for those that serve as indices. Shapes are kept.

        Returns
        -------
        CompiledModel

        Raises
        ------
        ValueError
            A name is unknown, or cannot be exchanged; a shape or a dtype is another one; values
            are NaN or infinite.
        """
        new = dict(self.data)
        for given, values in data.items():
            name = data_name(given) if data_name(given) in self.data else given
            if name not in self.data:
                raise ValueError(
                    f"with_data: '{given}' cannot be exchanged; {self._exchangeable()}. For other "
                    "data make a new model, and call compile_model again."
                )
            new[name] = _fitting(given, values, self.data[name])
        return replace(self, data=new)

    def _exchangeable(self) -> str:
        responses = {data_name(rv.name): rv.name for rv in self.plain.observed_RVs}
        names = ", ".join(f"'{responses.get(name, name)}'" for name in self.data)
        return f"what can be is {names}" if names else "nothing of this model can be"

    def set_data(self) -> None:
        """Give the models their data; whoever calls it holds the lock until they were used."""
        models = [self.marginal, self.plain]
        if self.recovery is not None:
            models.append(self.recovery.full)
        for name, values in self.data.items():
            for model in models:
                model[name].set_value(values)


def _fitting(name: str, values: Any, old: np.ndarray) -> np.ndarray:
    """Return new values in the place of old ones, checked."""
    new = np.asarray(values)
    if new.dtype.kind in "biuf":
        new = np.asarray(convert_observed_data(values))
    if new.shape != old.shape:
        raise ValueError(
            f"with_data: '{name}' has shape {old.shape} in the compiled model, the new values have "
            f"{new.shape}. For another number of rows call compile_model again."
        )
    if new.dtype.kind not in "biuf" or not np.can_cast(new.dtype, old.dtype, "same_kind"):
        raise ValueError(f"with_data: '{name}' must be {old.dtype}, not {new.dtype}.")
    if not np.isfinite(new).all():
        raise ValueError(
            f"with_data: '{name}' holds NaN or infinite values. Which values are missing is a part "
            "of what is compiled: for these call compile_model again."
        )
    return new.astype(old.dtype)


def compile_model(
    model: Any = None,
    *,
    rvs_to_marginalize: Names | None = None,
    backend: Backend | None = None,
) -> CompiledModel:
    """Prepare a model to be fitted to many data sets, with one compilation.

    For simulation studies, power analysis and calibration:
    ``fit(compile_model(model).with_data(y=simulated))``.

    Parameters
    ----------
    model : pymc.Model or bambi.Model, optional
        By default the one of the ``with`` context. It is copied: changing it, or its data,
        afterwards changes nothing here.
    rvs_to_marginalize : str, Variable, or sequence of them, optional
        The effects to integrate out; by default all that can be.
    backend : {"jax", "numba"}, optional
        What computes the density; as for :func:`~pymc_marginal_lmm.fit`.

    Returns
    -------
    CompiledModel
        For :func:`~pymc_marginal_lmm.fit`. Its ``with_data`` exchanges responses and ``pm.Data``.

    Raises
    ------
    NotMarginalizable, ImportError, TypeError, ValueError
        As :func:`~pymc_marginal_lmm.fit` does before it fits.

    Examples
    --------
    >>> import numpy as np, pymc as pm, pymc_marginal_lmm as mlmm
    >>> group = np.repeat([0, 1, 2], 4)
    >>> with pm.Model() as model:
    ...     u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=3)
    ...     y = pm.Normal("y", u[group], 1, observed=np.arange(12) / 6)
    >>> compiled = mlmm.compile_model(model)
    >>> means = []
    >>> for y in np.random.default_rng(1).normal(size=(3, 12)):
    ...     idata = mlmm.fit(compiled.with_data(y=y), random_seed=1, progressbar=False)
    ...     means.append(idata["posterior"]["tau"].mean().item())
    """
    rvs = checked_names(rvs_to_marginalize, "rvs_to_marginalize", variables=True)
    backend = checked_installed(checked_choice(backend, "backend", BACKENDS), "backend")
    clock = time.perf_counter()
    bambi_model = model if is_bambi(model) else None
    model = pymc_model(model)
    fold = True
    if rvs is None and (ops := marginal_ops(model)):
        rvs = [effect.name for op in ops for effect in op.structure.effects]
        fold = is_folded(model)
    original = plain_of(model)
    names = resolve_names(model, rvs, original)
    plain = with_live_responses(original)
    marginal = marginal_of(plain, names, fold=fold)
    live = [v.name for v in marginal.data_vars if isinstance(v, SharedVariable)]
    return prepare(plain, marginal, bambi_model, backend, live=live, clock=clock)


def prepare(
    plain: Model,
    marginal: Model,
    bambi_model: Any,
    backend: Backend | None,
    *,
    live: Sequence[str] = (),
    clock: float,
) -> CompiledModel:
    """Compile what a fit needs.

    Parameters
    ----------
    plain, marginal : Model
    bambi_model : bambi.Model or None
    backend : {"jax", "numba"} or None
    live : sequence of str
        Names of ``pm.Data`` of both models that may be exchanged.
    clock : float
        When preparation began.

    Raises
    ------
    NotForFit
        What is left has discrete variables, or too many dimensions.
    """
    point = marginal.initial_point(random_seed=0)
    space = ValueSpace.of(marginal, point)
    sizes = [int(np.prod(shape, dtype=int)) for shape in space.shapes]
    if reason := why_not(marginal.free_RVs, sizes):
        raise NotForFit(reason)
    log_density = compile_log_density(marginal, space, backend, live)
    data = {name: marginal[name].get_value() for name in live}
    start = space.join(point)
    # The first call compiles.
    log_density.given(list(data.values()))(start[None])
    values = [marginal.rvs_to_values[rv] for rv in marginal.free_RVs]
    variables = [*marginal.free_RVs, *marginal.deterministics]
    return CompiledModel(
        plain=plain,
        marginal=marginal,
        bambi=bambi_model,
        space=space,
        start=start,
        log_density=log_density,
        constrained=Drawer(values, marginal.replace_rvs_by_values(variables)),
        recovery=Recovery(marginal) if marginal_ops(marginal) else None,
        data=data,
        seconds=time.perf_counter() - clock,
    )


def marginal_of(model: Model, rvs: list[Any] | None, *, fold: bool) -> Model:
    """Return the model to sample, and say what a user might have hoped for in vain.

    A marginal model is sampled as it is, unless variables are named.
    """
    if rvs is None and marginal_ops(model):
        return model
    marginal, reading = marginalized(model, rvs, fold=fold)
    if rvs is None:
        warn_of_what_stays(model, reading, "it is sampled as it is")
    return marginal or model


def why_not(rvs: Sequence[Variable], sizes: Sequence[int]) -> str:
    """Say why a mixture of Student-t distributions cannot stand for a posterior, if so.

    Parameters
    ----------
    rvs : sequence of Variable
        What stays sampled.
    sizes : sequence of int
        How many numbers each is.
    """
    discrete = [rv.name for rv in rvs if rv.type.dtype in DISCRETE]
    if discrete:
        one = len(discrete) == 1
        return (
            f"{', '.join(map(repr, discrete))} stay{'s' if one else ''} sampled and "
            f"{'is' if one else 'are'} discrete"
        )
    if sum(sizes) > MOST_DIMENSIONS:
        largest = sorted(zip(rvs, sizes, strict=True), key=lambda pair: -pair[1])[:3]
        named = ", ".join(f"'{rv.name}' ({size})" for rv, size in largest)
        return (
            f"{sum(sizes)} parameters are left after integration, most of them those of {named}, "
            f"and importance sampling is for {MOST_DIMENSIONS} at most"
        )
    return ""
