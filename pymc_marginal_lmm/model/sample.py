"""``sample``: ``pm.sample`` with the effects integrated out on the way."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
from pymc.initial_point import convert_str_to_rv_dict
from pymc.model.core import Model
from xarray import Dataset, DataTree

from pymc_marginal_lmm.model.arguments import (
    Names,
    checked_flag,
    checked_names,
    is_bambi,
    pymc_model,
    recovery_seed,
)
from pymc_marginal_lmm.model.complete import complete, wanted
from pymc_marginal_lmm.model.from_bambi import finish_bambi
from pymc_marginal_lmm.model.marginalize import marginalized
from pymc_marginal_lmm.model.notices import warn_of_what_stays
from pymc_marginal_lmm.model.recover import Recovery
from pymc_marginal_lmm.model.restore import marginal_ops
from pymc_marginal_lmm.model.unmarginalize import plain_of

__all__ = ["groups_of_data", "marginal_of", "sample"]


def sample(
    model: Any = None,
    *,
    rvs_to_marginalize: Names | None = None,
    fold_scales: bool = True,
    random_seed: Any = None,
    **kwargs: Any,
) -> DataTree:
    """Sample a model as :func:`pymc.sample` does, with effects integrated out on the way.

    :func:`~pymc_marginal_lmm.marginalize`, :func:`pymc.sample` and
    :func:`~pymc_marginal_lmm.recover` in one: the result is what ``pm.sample`` gives for the
    plain model, but for the statistics of the sampler.

    Parameters
    ----------
    model : pymc.Model or bambi.Model, optional
        By default the one of the ``with`` context. A marginal model is sampled as it is, unless
        ``rvs_to_marginalize`` says more.
    rvs_to_marginalize : str, Variable, or sequence of them, optional
        The effects to integrate out; by default all that can be.
    fold_scales : bool, default True
        Sample scales with a sign, see :func:`~pymc_marginal_lmm.marginalize`: the same posterior
        with fewer gradients. A marginal model is sampled as it is.
    random_seed : int, sequence of int, SeedSequence, BitGenerator or Generator, optional
        Makes the draws, recovered ones included, reproducible. As in ``pm.sample``, a generator
        is copied: it is where it was afterwards.
    **kwargs
        For :func:`pymc.sample`: ``draws``, ``tune``, ``chains``, ``nuts_sampler`` and so on.
        ``var_names`` may name any variable of the plain model. ``initvals`` of effects that are
        integrated out are left aside. ``idata_kwargs={"log_likelihood": True}`` gives the
        pointwise log-likelihood, given the effects, which LOO and WAIC need, and ``"log_prior"``
        that of all variables, effects included. A ``callback`` sees the marginal model.

    Returns
    -------
    DataTree
        With the groups, and the variables, in their order, dims, coords and data of the plain
        model, warm-up draws and value variables included where they are asked for; for a Bambi
        model what its ``fit`` returns. ``sample_stats`` are of the sampling that took place:
        ``lp`` is the marginal density.

    Raises
    ------
    TypeError
        An argument is of a wrong type, or there is no model.
    NotMarginalizable
        A variable that was asked for cannot be integrated out, or the data hold NaN or infinite
        values.
    ValueError
        An argument makes no sense here: ``step``, ``trace``, ``return_inferencedata=False``,
        unknown ``var_names`` or ``idata_kwargs``.

    Warns
    -----
    UserWarning
        Some Normal variables, or all variables, stay sampled although nothing was asked for. Or
        what comes after sampling failed: then the draws of the marginal model are returned as
        they are, so that nothing is lost.
    """
    rvs = checked_names(rvs_to_marginalize, "rvs_to_marginalize", variables=True)
    fold = checked_flag(fold_scales, "fold_scales")
    seed = recovery_seed(random_seed)
    if isinstance(random_seed, np.ndarray):
        random_seed = random_seed.tolist()  # PyMC compares it with -1
    _check_arguments(kwargs)
    selected = checked_names(kwargs.pop("var_names", None), "var_names")
    bambi_model = model if is_bambi(model) else None
    model = pymc_model(model)
    plain = plain_of(model)
    names = [variable.name for variable in plain.unobserved_RVs]
    if unknown := [name for name in selected or () if name not in names]:
        raise ValueError(f"var_names {unknown} are not among {names}.")
    want = wanted(kwargs, plain)

    marginal = marginal_of(model, rvs, fold=fold)
    progressbar = bool(kwargs.get("progressbar", True)) and not kwargs.get("quiet", False)
    if kwargs.get("initvals") is not None:
        kwargs["initvals"] = _initial_values_in(marginal, plain, kwargs["initvals"])
    recovery = None
    if marginal_ops(marginal):
        recovery = Recovery(marginal, random_seed=seed, progressbar=progressbar)

    if marginal.free_RVs or recovery is None:
        kwargs["idata_kwargs"] = want.passed or None
        idata = pm.sample(model=marginal, random_seed=random_seed, **kwargs)
    else:
        idata = _no_parameters(marginal, kwargs.get("draws", 1000), kwargs.get("chains") or 4)
    try:
        complete(idata, marginal, plain, want, recovery, progressbar=progressbar)
        if bambi_model is not None:
            idata = finish_bambi(idata, bambi_model, omit_offsets=selected is None)
    except (Exception, KeyboardInterrupt) as error:
        warnings.warn(
            "Sampling went well, but what comes after it did not "
            f"({type(error).__name__}: {error}). The draws are returned as far as they go; if they "
            "lack the effects, recover(idata, model=marginalize(model)) draws these.",
            UserWarning,
            stacklevel=2,
        )
        return idata
    if selected is not None:
        for group in ("posterior", "warmup_posterior"):
            if group in idata.children:
                draws = idata[group].to_dataset()
                idata[group] = draws[[name for name in selected if name in draws]]
    return idata


def _no_parameters(model: Model, draws: int, chains: int) -> DataTree:
    """Return what ``pm.sample`` would, if it did not refuse models without free variables."""
    posterior = Dataset(coords={"chain": np.arange(chains), "draw": np.arange(draws)})
    return DataTree.from_dict({"posterior": posterior, **groups_of_data(model)})


def groups_of_data(model: Model) -> dict[str, Dataset]:
    """Return the groups of a result that hold no draws: observed and constant data."""
    idata = pm.to_inference_data(prior={}, model=model)
    return {
        name: group.to_dataset()
        for name, group in idata.children.items()
        if not name.startswith("prior")
    }


def _check_arguments(kwargs: Mapping[str, Any]) -> None:
    for name in ("step", "trace"):
        if kwargs.get(name) is not None:
            raise ValueError(
                f"{name}= belongs to one model, but another one is sampled here. Call "
                "marginalize(model), pm.sample and recover yourself."
            )
    if not kwargs.get("return_inferencedata", True):
        raise ValueError(
            "sample returns a DataTree only. For a MultiTrace call marginalize(model) and "
            "pm.sample yourself."
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


def _initial_values_in(model: Model, plain: Model, initvals: Any) -> Any:
    """Drop initial values of variables that a model does not have.

    What is given on a value scale of the plain model's that is another one here (``tau_log__`` of
    a folded ``tau``) is taken back from there.
    """
    if initvals is None:  # of one chain
        return None
    if isinstance(initvals, Sequence) and not isinstance(initvals, str):
        return [_initial_values_in(model, plain, each) for each in initvals]
    if not isinstance(initvals, Mapping):
        raise TypeError(
            f"initvals must be a dict by variable, or a sequence of such, not {initvals!r}."
        )
    named = {key if isinstance(key, str) else key.name: value for key, value in initvals.items()}
    right = {v.name: None for each in (plain, model) for v in (*each.free_RVs, *each.value_vars)}
    if unknown := [name for name in named if name not in right]:
        raise ValueError(f"initvals of {unknown}: the variables are {[*right]}.")
    names = {rv.name: model.rvs_to_values[rv].name for rv in model.free_RVs}
    known = {*names, *names.values()}
    elsewhere = {
        value.name: named[value.name]
        for rv, value in plain.rvs_to_values.items()
        if value.name in named.keys() - known and rv.name in names
    }
    taken_back = convert_str_to_rv_dict(plain, elsewhere)
    return {name: value for name, value in named.items() if name in known} | {
        rv.name: value for rv, value in taken_back.items()
    }
