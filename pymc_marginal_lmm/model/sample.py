"""``sample``: ``pm.sample`` with the effects integrated out on the way.

Few parameters are left then, and if nothing is said of a sampler, they are drawn by importance
sampling (:mod:`~pymc_marginal_lmm.model.direct`) where that is shown to work: its weights are
checked, and NUTS takes over where they are not good enough.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import pymc as pm
from pymc.initial_point import convert_str_to_rv_dict
from pymc.model.core import Model
from xarray import Dataset, DataTree

from pymc_marginal_lmm.model.arguments import (
    Names,
    checked_choice,
    checked_count,
    checked_flag,
    checked_installed,
    checked_names,
    generator_of,
    is_bambi,
    pymc_model,
    recovery_seed,
)
from pymc_marginal_lmm.model.compiled import CompiledModel, NotForFit, marginal_of, prepare
from pymc_marginal_lmm.model.complete import OWN, Wanted, complete, wanted
from pymc_marginal_lmm.model.direct import NoDensity, directly, groups_of_data
from pymc_marginal_lmm.model.from_bambi import finish_bambi
from pymc_marginal_lmm.model.notices import PACKAGE
from pymc_marginal_lmm.model.recover import Recovery
from pymc_marginal_lmm.model.restore import marginal_ops
from pymc_marginal_lmm.model.unmarginalize import plain_of

__all__ = ["sample"]

type Method = Literal["importance", "nuts"]

METHODS: tuple[Method, ...] = ("importance", "nuts")

# A child of PyMC's, so that it is heard, and silenced, where PyMC's own messages are.
_log = logging.getLogger("pymc.marginal_lmm")

OF_ANY_METHOD = {
    "draws",
    "chains",
    "cores",
    "progressbar",
    "quiet",
    "var_names",
    "idata_kwargs",
    "compute_convergence_checks",
    "return_inferencedata",
}
"""Arguments of ``pm.sample`` that say nothing of a Markov chain; all others mean NUTS."""

OF_ANY_RESULT = {*OWN, "include_transformed", "dims", "coords"}
"""``idata_kwargs`` of which the same is true."""


def sample(
    model: Any = None,
    *,
    method: Method | None = None,
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
    method : {"importance", "nuts"}, optional
        How the parameters are drawn: by importance sampling, as :func:`~pymc_marginal_lmm.fit`
        does, or by NUTS. By default by importance sampling if no argument is about a Markov chain
        (``nuts_sampler``, ``tune``, ``target_accept``, ``init``, ``initvals`` and so on), at most
        25 parameters are left, all of them continuous, and the weights pass their check; else by
        NUTS. One line of PyMC's log, and ``posterior.attrs["method"]``, say which it was.
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
    ImportError
        ``nuts_sampler`` is not installed.
    NotMarginalizable
        A variable that was asked for cannot be integrated out, or the data hold NaN or infinite
        values.
    ValueError
        An argument makes no sense here: ``step``, ``trace``, ``return_inferencedata=False``,
        unknown ``var_names`` or ``idata_kwargs``; ``method="importance"`` with an argument of
        NUTS, or for a model that it is not for.

    Warns
    -----
    UserWarning
        Some Normal variables, or all variables, stay sampled although nothing was asked for. With
        ``method="importance"``: the weights are not reliable. Or
        what comes after sampling failed: then the draws of the marginal model are returned as
        they are, so that nothing is lost.
    """
    method = checked_choice(method, "method", METHODS)
    rvs = checked_names(rvs_to_marginalize, "rvs_to_marginalize", variables=True)
    fold = checked_flag(fold_scales, "fold_scales")
    seed = recovery_seed(random_seed)
    if isinstance(random_seed, np.ndarray):
        random_seed = random_seed.tolist()  # PyMC compares it with -1
    _check_arguments(kwargs)
    sampler = checked_installed(kwargs.get("nuts_sampler"), "nuts_sampler")
    selected = checked_names(kwargs.pop("var_names", None), "var_names")
    bambi_model = model if is_bambi(model) else None
    model = pymc_model(model)
    plain = plain_of(model)
    names = [variable.name for variable in plain.unobserved_RVs]
    if unknown := [name for name in selected or () if name not in names]:
        raise ValueError(f"var_names {unknown} are not among {names}.")
    want = wanted(kwargs, plain)
    method = _settled(method, kwargs)

    marginal = marginal_of(model, rvs, fold=fold)
    progressbar = bool(kwargs.get("progressbar", True)) and not kwargs.get("quiet", False)
    if kwargs.get("initvals") is not None:
        kwargs["initvals"] = _initial_values_in(marginal, plain, kwargs["initvals"])
    idata, recovery, forced = None, None, method == "importance"
    if method != "nuts" and (ready := _ready(plain, marginal, forced=forced)):
        idata = _by_importance(ready, want, kwargs, random_seed, progressbar, forced=forced)
        if (recovery := ready.recovery) is not None:
            recovery.reseed(seed)
    elif marginal_ops(marginal):
        recovery = Recovery(marginal, random_seed=seed)
    if idata is None:
        if marginal.free_RVs or recovery is None:
            kwargs["idata_kwargs"] = want.passed or None
            if progressbar and sampler in (None, "pymc") and find_spec("matplotlib") is None:
                _log.info("No progress bar: PyMC's needs matplotlib, which is not installed.")
                kwargs["progressbar"] = False
            idata = pm.sample(model=marginal, random_seed=random_seed, **kwargs)
        else:
            idata = _no_parameters(marginal, kwargs.get("draws", 1000), kwargs.get("chains") or 4)
        idata["posterior"].attrs["method"] = "nuts"
    attributes = dict(idata["posterior"].attrs)
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
    idata["posterior"].attrs |= attributes
    return idata


def _settled(method: Method | None, kwargs: Mapping[str, Any]) -> Method | None:
    """Return NUTS where arguments are about a Markov chain; None if nothing is said."""
    idata_kwargs = kwargs.get("idata_kwargs") or {}
    of_chains = [
        name for name, value in kwargs.items() if not (name in OF_ANY_METHOD or value is None)
    ]
    of_chains += [f"idata_kwargs[{name!r}]" for name in idata_kwargs if name not in OF_ANY_RESULT]
    if method == "importance" and of_chains:
        raise ValueError(
            f"{', '.join(of_chains)}: of a Markov chain, and method='importance' makes none. Leave "
            "it out, or say method='nuts'."
        )
    return "nuts" if of_chains else method


def _ready(plain: Model, marginal: Model, *, forced: bool) -> CompiledModel | None:
    """Return a model ready for importance sampling; None if that is not for it."""
    try:
        return prepare(plain, marginal, None, None, clock=time.perf_counter())
    except NotForFit as error:
        if forced:
            raise
        _log.info("NUTS, since %s.", error.reason)
        return None


def _by_importance(
    ready: CompiledModel,
    want: Wanted,
    kwargs: Mapping[str, Any],
    random_seed: Any,
    progressbar: bool,
    *,
    forced: bool,
) -> DataTree | None:
    """Return draws by importance sampling; None if they are not to be relied on."""
    generator = generator_of(random_seed)
    cores = kwargs.get("cores")
    try:
        idata, doubt, _ = directly(
            ready,
            draws=checked_count(kwargs.get("draws", 1000), "draws"),
            chains=checked_count(kwargs.get("chains") or 4, "chains"),
            rng=np.random.default_rng() if generator is None else generator,
            cores=None if cores is None else checked_count(cores, "cores"),
            progressbar=progressbar,
            dims=want.dims,
            coords=want.coords,
        )
    except NoDensity as error:
        if forced:
            raise
        _log.info("NUTS, since importance sampling found no point to start from: %s", error)
        return None
    if not doubt:
        found = idata["posterior"].attrs
        _log.info(
            "Importance sampling of %d parameters: k̂ = %.2f, worth %d draws, %.1f s. "
            "(method='nuts' goes by NUTS.)",
            ready.space.dim,
            found["pareto_khat"],
            found["effective_draws"],
            found["preparation_time"] + found["sampling_time"],
        )
        return idata
    if forced:
        warnings.warn(
            f"The weights are not reliable: {doubt}. Results may be off there; "
            "method='nuts' does without weights.",
            UserWarning,
            skip_file_prefixes=(PACKAGE,),
        )
        return idata
    _log.info("NUTS, since importance sampling is not reliable here: %s.", doubt)
    return None


def _no_parameters(model: Model, draws: int, chains: int) -> DataTree:
    """Return what ``pm.sample`` would, if it did not refuse models without free variables."""
    posterior = Dataset(coords={"chain": np.arange(chains), "draw": np.arange(draws)})
    return DataTree.from_dict({"posterior": posterior, **groups_of_data(model)})


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
