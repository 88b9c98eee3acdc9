"""``ranef``: posterior means and standard deviations of effects, without drawing them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from arviz_base import dict_to_dataset
from pymc.model.core import Model
from xarray import Dataset, DataTree

from pymc_marginal_lmm.algebra.moments import conditional_moments
from pymc_marginal_lmm.dispatch.batches import Loop
from pymc_marginal_lmm.errors import NotMarginalizable
from pymc_marginal_lmm.model.arguments import (
    checked_flag,
    checked_names,
)
from pymc_marginal_lmm.model.draws import chunks, first_lost, shown_draw
from pymc_marginal_lmm.model.likelihoods import Likelihoods, marginal_and_draws
from pymc_marginal_lmm.model.marginal_rv import MarginalRV
from pymc_marginal_lmm.model.marginalize import marginalized
from pymc_marginal_lmm.model.restore import marginal_ops
from pymc_marginal_lmm.model.unmarginalize import unmarginalize
from pymc_marginal_lmm.values import Values

__all__ = ["Probe", "ranef"]


def ranef(
    idata: DataTree,
    *,
    model: Any = None,
    var_names: str | Sequence[str] | None = None,
    progressbar: bool = True,
) -> Dataset:
    r"""Return posterior means and standard deviations of integrated effects, without drawing them.

    Given parameters θ the effects are Normal, with mean and variance in closed form
    (Proposition 2). What is returned is the mean over the posterior draws of θ, and by the law of
    total variance ``sd² = E[Var(v | y, θ)] + Var(E[v | y, θ])``: what infinitely many draws of the
    effects for each of θ would give. lme4's ``ranef(condVar=TRUE)`` is the same at a single θ.

    Parameters
    ----------
    idata : DataTree
        Draws of the parameters, by any sampler, with or without recovered effects, which are not
        looked at.
    model : pymc.Model or bambi.Model, optional
        The model that :func:`~pymc_marginal_lmm.marginalize` returned, or a plain one, which is
        marginalized here. By default the one of the ``with`` context.
    var_names : str or sequence of str, optional
        Integrated effects, coefficients included, and Deterministics that are linear in them. By
        default all of these.
    progressbar : bool, default True
        Show progress.

    Returns
    -------
    Dataset
        By variable ``(statistic, *shape)`` with its dims and coords; ``statistic`` is "mean" and
        "sd". Levels without data have those of their prior.

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    ValueError
        Nothing can be integrated out of the model; a name is not that of an effect, or of a
        Deterministic that is linear in effects; ``idata`` lacks a parameter of the model, or has it
        in another shape; at a draw the effects have no moments.

    Examples
    --------
    >>> import numpy as np, pymc as pm, pymc_marginal_lmm as mlmm
    >>> with pm.Model(coords={"group": ["a", "b", "c"]}) as model:
    ...     u = pm.Normal("u", 0, pm.HalfNormal("tau"), dims="group")
    ...     y = pm.Normal("y", u[[0, 0, 1, 1, 2, 2]], 1, observed=np.arange(6) / 6)
    >>> idata = mlmm.fit(model, progressbar=False, random_seed=1)
    >>> mlmm.ranef(idata, model=model, progressbar=False)["u"].dims
    ('statistic', 'group')
    """
    names = checked_names(var_names, "var_names")
    show = checked_flag(progressbar, "progressbar")
    model, posterior = marginal_and_draws(idata, model)
    _check_known(model, names)
    results: dict[str, np.ndarray] = {}
    for op in marginal_ops(model):
        if (probe := _probe(model, op, names)) is not None:
            results |= probe.moments(posterior, show)
    chosen = list(results) if names is None else list(dict.fromkeys(names))
    own = _dims_by_name(model)
    dims: dict[Any, Any] = {}
    for name in chosen:
        axes = [f"{name}_dim_{i}" for i in range(results[name].ndim - 1)]
        dims[name] = ["statistic", *(own.get(name) or axes)]
    used = {dim for names_of in dims.values() for dim in names_of}
    coords: dict[Any, Any] = {
        dim: np.asarray(values)
        for dim, values in {"statistic": ["mean", "sd"], **model.coords}.items()
        if dim in used and values is not None
    }
    values = {name: results[name] for name in chosen}
    return dict_to_dataset(values, dims=dims, coords=coords, sample_dims=[])


def _dims_by_name(model: Model) -> dict[str, list[str]]:
    """Return the dims of effects and of what depends on them, where they have any."""
    ops = marginal_ops(model)
    effects = {e.name: e.dims for op in ops for e in op.structure.effects}
    dependents = {d.name: d.dims for op in ops for d in op.dependents}
    return {name: list(map(str, dims)) for name, dims in {**effects, **dependents}.items()}


def _linear(op: MarginalRV) -> list[str]:
    """Return names of effects and of Deterministics that depend on them."""
    effects = [effect.name for effect in op.structure.effects]
    return effects + [d.name for d in op.dependents if d.value is None]


def _check_known(model: Model, names: Sequence[str] | None) -> None:
    known = [name for op in marginal_ops(model) for name in _linear(op)]
    if unknown := [name for name in names or () if name not in known]:
        raise ValueError(
            f"var_names: {', '.join(map(repr, unknown))}: not among the integrated effects and "
            f"what depends on them, which are {', '.join(known)}."
        )


class Probe:
    """A model in which some variables are the mean of one more likelihood, which has no weight.

    Parameters
    ----------
    model : Model
        A marginal one.
    names : sequence of str
        The variables, which depend on effects of the same likelihoods.

    Raises
    ------
    NotMarginalizable
        One of them is not linear in the effects.
    """

    def __init__(self, model: Model, names: Sequence[str]) -> None:
        plain = unmarginalize(model)
        self.name = "probe"
        while self.name in plain.named_vars:
            self.name += "_"
        with plain:
            variables = [plain[name] for name in names]
            known = Values()
            self.shapes = {v.name: known.shape(v) for v in variables}
            mean = pt.concatenate([pt.flatten(v) for v in variables])
            size = sum(int(np.prod(shape)) for shape in self.shapes.values())
            pm.Normal(self.name, mean, 1, observed=np.zeros(size))
        effects = [e.name for one in marginal_ops(model) for e in one.structure.effects]
        probed, _ = marginalized(plain, effects, fold=False)
        assert probed is not None
        self.model = probed

    def over(self, posterior: Dataset) -> tuple[Likelihoods, Loop, int]:
        """Return the likelihoods, means and variances ``(N, 2m)`` given draws, and ``m``."""
        op = next(o for o in marginal_ops(self.model) if self.name in _responses(o))
        given = Likelihoods.of(self.model, op, posterior)
        place = _responses(op).index(self.name)
        values = given.compiled(conditional_moments(given.mixed, given.ys, place))
        return given, values, given.mixed.responses[place].size

    def moments(self, posterior: Dataset, show: bool) -> dict[str, np.ndarray]:
        """Return mean and standard deviation of each variable, ``(2, *shape)``."""
        given, values, m = self.over(posterior)
        # About a mean that is near, or digits of the square would be lost.
        about = values(given.points[:1])[0, :m].astype("float64")
        total, square, spread = np.zeros(m), np.zeros(m), np.zeros(m)
        for chunk in chunks(len(given.points), 16 * m, "Effects", show=show):
            with np.errstate(all="ignore"):  # what is not finite is reported with its draw
                found = values(given.points[chunk]).astype("float64")
            if (lost := first_lost(found)) is not None:
                where, point = shown_draw(self.model.free_RVs, posterior, chunk.start + lost)
                raise ValueError(
                    f"The effects have no moments at {where}: their posterior precision could not "
                    f"be factorised at these parameter values ({point})."
                )
            mean, variance = np.split(found, [m], axis=1)
            total += (mean - about).sum(axis=0)
            square += ((mean - about) ** 2).sum(axis=0)
            spread += variance.sum(axis=0)
        n = len(given.points)
        variance = (spread + square) / n - (total / n) ** 2
        both = np.stack([about + total / n, np.sqrt(np.maximum(variance, 0))])
        sizes = [int(np.prod(shape, dtype=int)) for shape in self.shapes.values()]
        parts = np.split(both, np.cumsum(sizes)[:-1], axis=1)
        return {
            name: part.reshape(2, *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


def _responses(op: MarginalRV) -> list[str]:
    return [response.name for response in op.structure.responses]


def _probe(model: Model, op: MarginalRV, names: Sequence[str] | None) -> Probe | None:
    """Return the probe of what is asked for, or of all that is linear; None if that is nothing."""
    linear = _linear(op)
    asked = linear if names is None else [name for name in linear if name in names]
    if not asked:
        return None
    try:
        return Probe(model, asked)
    except NotMarginalizable as error:
        if names is not None:
            raise ValueError(
                f"var_names: not all of {', '.join(map(repr, asked))} are linear in the effects "
                f"({error.reason}). Means and standard deviations of what is not come from draws: "
                "recover(idata, model=model)."
            ) from error
    return Probe(model, [name for name in linear if _is_linear(model, name)])


def _is_linear(model: Model, name: str) -> bool:
    try:
        Probe(model, [name])
    except NotMarginalizable:
        return False
    return True
