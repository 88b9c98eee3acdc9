"""Turn draws of a marginal model into the result that ``pm.sample`` has for the plain one.

Effects and what depends on them, in the posterior and in the warm-up; value variables, where they
were asked for; log densities, which would be those of the marginal model.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pymc as pm
from arviz_base import dict_to_dataset, from_dict
from pymc.model.core import Model
from pymc.stats import compute_log_likelihood, compute_log_prior
from xarray import DataTree

from pymc_marginal_lmm.model.arguments import checked_names, checked_options
from pymc_marginal_lmm.model.draws import column_of, merged, over_parameters
from pymc_marginal_lmm.model.recover import Drawer, Recovery

__all__ = ["Wanted", "complete", "wanted"]

JAX_SAMPLERS = ("numpyro", "blackjax")
OWN = ("log_likelihood", "log_prior")
"""What is computed here, of the plain model."""


@dataclass
class Wanted:
    """What a user asked for by ``idata_kwargs`` and the options of samplers.

    Parameters
    ----------
    log_likelihood, log_prior : bool or list of str
        Of which variables.
    value_variables : bool
        Whether the result shall have the value variables too.
    dims, coords : dict
        In place of the model's.
    passed : dict
        What ``pm.sample`` sees of it.
    """

    log_likelihood: bool | list[str] = False
    log_prior: bool | list[str] = False
    value_variables: bool = False
    dims: dict[str, Any] = field(default_factory=dict)
    coords: dict[str, Any] = field(default_factory=dict)
    passed: dict[str, Any] = field(default_factory=dict)


def wanted(kwargs: Mapping[str, Any], plain: Model) -> Wanted:
    """Check what a user asked for, before anything is sampled.

    Parameters
    ----------
    kwargs : mapping
        For ``pm.sample``.
    plain : Model

    Raises
    ------
    TypeError, ValueError
        PyMC does not know of it, or would fail on it after sampling.
    """
    given = checked_options(kwargs.get("idata_kwargs"), "idata_kwargs")
    with_jax = kwargs.get("nuts_sampler") in JAX_SAMPLERS
    known = {*inspect.signature(pm.to_inference_data).parameters, *OWN}
    known -= {"trace", "model", "sample_dims"}
    if with_jax:
        known = {*inspect.signature(from_dict).parameters, *OWN, "include_transformed"}
        known -= {"data", "sample_dims"}
    if unknown := [key for key in given if key not in known]:
        raise ValueError(
            f"idata_kwargs: {', '.join(map(repr, unknown))} would be refused after sampling; "
            f"{', '.join(sorted(known))} are known."
        )
    passed = {key: value for key, value in given.items() if key not in OWN}
    transformed = bool(given.get("include_transformed", False))
    if with_jax:
        # PyMC's name for the same thing there.
        passed.pop("include_transformed", None)
        options = kwargs.get("nuts") or kwargs.get("nuts_sampler_kwargs") or {}
        transformed |= bool(options.get("keep_untransformed", False))
    return Wanted(
        log_likelihood=_of_which(given, "log_likelihood", plain.observed_RVs),
        log_prior=_of_which(given, "log_prior", plain.free_RVs),
        value_variables=transformed,
        dims=checked_options(given.get("dims"), "idata_kwargs['dims']"),
        coords=checked_options(given.get("coords"), "idata_kwargs['coords']"),
        passed=passed,
    )


def _of_which(given: Mapping[str, Any], key: str, variables: Iterable[Any]) -> bool | list[str]:
    value = given.get(key, False)
    if value is None or isinstance(value, bool | np.bool_):
        return bool(value)
    names = checked_names(value, f"idata_kwargs['{key}']") or []
    right = [variable.name for variable in variables]
    if unknown := [name for name in names if name not in right]:
        raise ValueError(f"idata_kwargs['{key}']: {unknown} are not among {right}.")
    return names


def complete(
    idata: DataTree,
    marginal: Model,
    plain: Model,
    want: Wanted,
    recovery: Recovery | None,
    *,
    progressbar: bool,
) -> DataTree:
    """Add what the plain model has beyond the marginal one, in the plain model's order.

    Parameters
    ----------
    idata : DataTree
        Draws of the marginal model; changed in place.
    marginal, plain : Model
    want : Wanted
    recovery : Recovery, optional
        None if nothing was integrated out.
    progressbar : bool
    """
    library = idata["posterior"].attrs.get("inference_library")
    # nutpie leaves them aside, with a warning.
    dims, coords = ({}, {}) if library == "nutpie" else (want.dims, want.coords)
    groups = [name for name in ("posterior", "warmup_posterior") if name in idata.children]
    for name in groups:
        draws = idata[name].to_dataset()
        if recovery is None or 0 in (draws.sizes["chain"], draws.sizes["draw"]):
            continue
        try:
            idata[name] = merged(
                draws, recovery.given(draws, dims, coords, progressbar=progressbar)
            )
        except np.linalg.LinAlgError as error:
            if name == "posterior":
                raise
            warnings.warn(f"Warm-up draws lack the effects. {error}", UserWarning, stacklevel=3)
    if want.value_variables:
        _exchange_value_variables(idata, marginal, plain)
    order = [variable.name for variable in plain.unobserved_value_vars]
    for name in groups:
        draws = idata[name].to_dataset()
        idata[name] = draws[[variable for variable in order if variable in draws]]
    if want.log_likelihood:
        names = None if want.log_likelihood is True else want.log_likelihood
        compute_log_likelihood(idata, var_names=names, model=plain, progressbar=progressbar)
    if want.log_prior:
        names = None if want.log_prior is True else want.log_prior
        compute_log_prior(idata, var_names=names, model=plain, progressbar=progressbar)
    return idata


def _exchange_value_variables(idata: DataTree, marginal: Model, plain: Model) -> None:
    """Put the value variables of the plain model in the place of the marginal one's.

    nutpie has them in groups of their own, the others in the posterior.
    """
    transforms = {
        plain.rvs_to_values[rv].name: transform.forward(rv, *rv.owner.inputs)
        for rv, transform in plain.rvs_to_transforms.items()
        if transform is not None and rv in plain.free_RVs
    }
    old = [
        marginal.rvs_to_values[rv].name
        for rv in marginal.free_RVs
        if marginal.rvs_to_transforms[rv] is not None
    ]
    forward = Drawer(*over_parameters(plain, plain.free_RVs, list(transforms.values())))
    for source in ("posterior", "warmup_posterior"):
        if source not in idata.children:
            continue
        draws = idata[source].to_dataset()
        if any(rv.name not in draws for rv in plain.free_RVs):
            continue  # the warm-up, if its effects could not be drawn
        own = source.replace("posterior", "unconstrained_posterior")
        group = own if own in idata.children else source
        shape = draws.sizes["chain"], draws.sizes["draw"]
        columns = [column_of(draws[rv.name], rv) for rv in plain.free_RVs]
        with np.errstate(all="ignore"):  # the logarithm of a scale that is zero
            found = forward(columns, shape[0] * shape[1])
        values = {
            name: column.reshape(*shape, *column.shape[1:])
            for name, column in zip(transforms, found, strict=True)
        }
        dims: dict[Any, Any] = {}
        if group == own:  # nutpie knows the dims of values that have their variable's shape
            for rv in plain.free_RVs:
                name, names = plain.rvs_to_values[rv].name, plain.named_vars_to_dims.get(rv.name)
                if names and name in values and values[name].shape == draws[rv.name].shape:
                    dims[name] = list(names)
        new = dict_to_dataset(values, dims=dims)
        kept = {dim for dim in new.dims if dim in draws.coords}
        new = new.assign_coords({dim: draws[dim] for dim in kept})
        there = idata[group].to_dataset()
        idata[group] = there.drop_vars(old, errors="ignore").assign(new.data_vars)
