"""``sample``: ``pm.sample`` with the effects integrated out on the way."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pymc as pm
from pymc.initial_point import convert_str_to_rv_dict
from pymc.model.core import Model, modelcontext
from xarray import Dataset, DataTree

from pymc_marginal_lmm.analysis.priors import is_gaussian
from pymc_marginal_lmm.analysis.read import Reading
from pymc_marginal_lmm.model.from_bambi import finish_bambi, pymc_model
from pymc_marginal_lmm.model.marginalize import Names, marginalized
from pymc_marginal_lmm.model.recover import recover
from pymc_marginal_lmm.model.restore import marginal_ops
from pymc_marginal_lmm.model.unmarginalize import unmarginalize

__all__ = ["sample"]


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
    random_seed : int, sequence of int or numpy.random.Generator, optional
        Makes the draws, recovered ones included, reproducible.
    **kwargs
        For :func:`pymc.sample`: ``draws``, ``tune``, ``chains``, ``nuts_sampler`` and so on.
        ``var_names`` may name any variable of the plain model. ``initvals`` of effects that are
        integrated out are left aside. ``idata_kwargs={"log_likelihood": True}`` gives the
        pointwise log-likelihood, given the effects, which LOO and WAIC need.

    Returns
    -------
    DataTree
        With the variables, in their order, dims, coords and data of the plain model; for a Bambi
        model what its ``fit`` returns. Warm-up draws, if they are kept, lack the effects.

    Raises
    ------
    NotMarginalizable
        A variable that was asked for cannot be integrated out, or the data hold NaN or infinite
        values.
    ValueError
        An argument makes no sense here: ``step``, ``trace``, ``return_inferencedata=False``, or
        unknown ``var_names``.

    Warns
    -----
    UserWarning
        Some Normal variables, or all variables, stay sampled although nothing was asked for.
    """
    _check_arguments(kwargs)
    bambi_model = None if isinstance(model, Model | None) else model
    model = modelcontext(model) if bambi_model is None else pymc_model(bambi_model)
    plain = unmarginalize(model) if marginal_ops(model) else model
    names = [variable.name for variable in plain.unobserved_RVs]
    selected = kwargs.pop("var_names", None)
    if unknown := [name for name in selected or () if name not in names]:
        raise ValueError(f"var_names {unknown} are not among {names}.")

    if plain is not model and rvs_to_marginalize is None:
        marginal = model
    else:
        marginal = _marginal(model, rvs_to_marginalize, fold_scales)
    idata_kwargs = dict(kwargs.pop("idata_kwargs", None) or {})
    log_likelihood = idata_kwargs.pop("log_likelihood", False)
    progressbar = bool(kwargs.get("progressbar", True)) and not kwargs.get("quiet", False)
    if "initvals" in kwargs:
        kwargs["initvals"] = _initial_values_in(marginal, plain, kwargs["initvals"])

    if marginal.free_RVs or not marginal_ops(marginal):
        idata = pm.sample(
            model=marginal, random_seed=random_seed, idata_kwargs=idata_kwargs or None, **kwargs
        )
    else:
        idata = _no_parameters(marginal, kwargs.get("draws", 1000), kwargs.get("chains") or 4)
    if marginal_ops(marginal):
        seed = _recovery_seed(random_seed)
        recover(idata, model=marginal, random_seed=seed, progressbar=progressbar)
    posterior = idata["posterior"].to_dataset()
    order = [v.name for v in plain.unobserved_value_vars if v.name in posterior]
    idata["posterior"] = posterior[order]
    if log_likelihood:
        pm.compute_log_likelihood(
            idata,
            var_names=None if log_likelihood is True else list(log_likelihood),
            model=plain,
            progressbar=progressbar,
        )
    if bambi_model is not None:
        idata = finish_bambi(idata, bambi_model, omit_offsets=selected is None)
    if selected is not None:
        idata["posterior"] = idata["posterior"].to_dataset()[list(selected)]
    return idata


def _no_parameters(model: Model, draws: int, chains: int) -> DataTree:
    """Return what ``pm.sample`` would, if it did not refuse models without free variables."""
    idata = pm.to_inference_data(prior={}, model=model)
    posterior = Dataset(coords={"chain": np.arange(chains), "draw": np.arange(draws)})
    groups = {
        name: group.to_dataset()
        for name, group in idata.children.items()
        if not name.startswith("prior")
    }
    return DataTree.from_dict({"posterior": posterior, **groups})


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


def _marginal(model: Model, rvs: Names | None, fold: bool) -> Model:
    """Marginalize a model, and say what a user might have hoped for in vain."""
    marginal, reading = None, Reading()
    if rvs is not None or model.observed_RVs:
        marginal, reading = marginalized(model, rvs, fold=fold)
    if rvs is not None:
        return marginal or model
    hoped_for = {
        name: refusal for name, refusal in reading.refusals.items() if is_gaussian(model[name])
    }
    reasons = "; ".join(f"'{name}' ({refusal.reason})" for name, refusal in hoped_for.items())
    if marginal is None:
        message = "No variable of this model can be integrated out; it is sampled as it is."
    elif hoped_for:
        message = "Normal variables stay sampled."
    else:
        return marginal
    more = f" Not integrated out: {reasons}." if hoped_for else ""
    warnings.warn(f"{message}{more} explain(model) says more.", UserWarning, stacklevel=3)
    return marginal or model


def _initial_values_in(model: Model, plain: Model, initvals: Any) -> Any:
    """Drop initial values of variables that a model does not have.

    What is given on a value scale of the plain model's that is another one here (``tau_log__`` of
    a folded ``tau``) is taken back from there.
    """
    if isinstance(initvals, Sequence):
        return [_initial_values_in(model, plain, each) for each in initvals]
    if not isinstance(initvals, Mapping):
        return initvals
    named = {key if isinstance(key, str) else key.name: value for key, value in initvals.items()}
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


def _recovery_seed(random_seed: Any) -> int | None:
    """Make another seed of a seed, without drawing from it."""
    if random_seed is None:
        return None
    if isinstance(random_seed, np.random.Generator):
        sequence = random_seed.bit_generator.seed_seq.spawn(1)[0]  # type: ignore[attr-defined]
    else:
        sequence = np.random.SeedSequence(random_seed, spawn_key=(1,))
    return int(sequence.generate_state(1)[0])
