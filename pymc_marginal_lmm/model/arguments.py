"""Arguments of the public functions: checked before anything is done, alike in all of them.

What is wrong is a ``TypeError`` or ``ValueError`` that names the argument and says what would be
right; what is right but needs more than is installed is an ``ImportError``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from pymc.model import core
from pymc.model.core import Model
from pymc.util import get_random_generator
from pytensor.graph.basic import Variable
from xarray import Dataset, DataTree

__all__ = [
    "Names",
    "bambi_model",
    "checked_choice",
    "checked_count",
    "checked_flag",
    "checked_installed",
    "checked_names",
    "checked_options",
    "generator_of",
    "is_bambi",
    "posterior_of",
    "pymc_model",
    "recovery_seed",
]

type Names = str | Variable | Sequence[str | Variable]

MODEL: type = getattr(core, "BaseModel", Model)
"""Of every model: PyMC 6.4 has frozen ones, which are no ``Model``."""

JAX = ("jax", "numpyro")
NEEDS = {"jax": ("jax",), "numpyro": JAX, "blackjax": ("jax", "blackjax"), "nutpie": ("nutpie",)}
"""Libraries behind a backend or sampler, which need not be installed."""

RECOVERY = 2**32 - 1
"""Last word of the spawn key of seeds of ``recover``; chains count from 0."""


def _type(value: Any) -> str:
    return type(value).__name__


# --- Models -----------------------------------------------------------------------------------


def is_bambi(model: Any) -> bool:
    """Whether something is a model of Bambi's, which need not be installed."""
    return not isinstance(model, MODEL | type) and all(
        hasattr(model, name) for name in ("build", "built", "backend")
    )


def pymc_model(model: Any) -> Model:
    """Return the model that is meant: that of the ``with`` context, or Bambi's, built if need be.

    Raises
    ------
    TypeError
        It is no model, or there is none.
    """
    if isinstance(model, MODEL):
        return model
    if model is None:
        model = Model.get_context(error_if_none=False)
        if model is None:
            raise TypeError(
                "model is missing: pass a pymc.Model or a bambi.Model, or call this inside "
                "`with model:`."
            )
        return model
    if is_bambi(model):
        if not model.built:
            model.build()
        return model.backend.model
    raise TypeError(f"model must be a pymc.Model or a bambi.Model, not {_type(model)}.")


def bambi_model(model: Any) -> Any:
    """Return a model of Bambi's that is built.

    Raises
    ------
    TypeError
        It is not Bambi's.
    ValueError
        It is not built, so that no draws can be of it.
    """
    if not is_bambi(model):
        raise TypeError(f"model must be a bambi.Model, not {_type(model)}.")
    if not model.built:
        raise ValueError("model is not built: draws are of model.backend.model; model.build().")
    return model


# --- Names and options ------------------------------------------------------------------------


def checked_names(names: Any, argument: str, *, variables: bool = False) -> list[Any] | None:
    """Return names, or variables where these are allowed too, as a list; None stays None.

    Raises
    ------
    TypeError
        It is something else.
    """
    if names is None:
        return None
    allowed: tuple[type, ...] = (str, Variable) if variables else (str,)
    if isinstance(names, allowed):
        names = [names]
    right = "a name or variable" if variables else "a name"
    right = f"{argument} must be {right}, or a sequence of such"
    if isinstance(names, Mapping | bytes | Variable) or not isinstance(names, Iterable):
        raise TypeError(f"{right}, not {_type(names)}.")
    names = list(names)
    for name in names:
        if not isinstance(name, allowed):
            raise TypeError(f"{right}; it holds {name!r}, which is {_type(name)}.")
        if isinstance(name, Variable) and name.name is None:
            raise TypeError(f"{right}; it holds {name}, which is no variable of a model.")
    return names


def checked_flag(value: Any, argument: str) -> bool:
    """Return True or False.

    Raises
    ------
    TypeError
        It is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{argument} must be True or False, not {value!r}.")
    return bool(value)


def checked_count(value: Any, argument: str) -> int:
    """Return a number of things.

    Raises
    ------
    ValueError
        It is none, or less than 1.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{argument} must be a number of at least 1, not {value!r}.")
    return int(value)


def checked_choice(value: Any, argument: str, choices: Sequence[str]) -> Any:
    """Return one of some words; None stays None.

    Raises
    ------
    ValueError
        It is none of them.
    """
    if value is not None and not (isinstance(value, str) and value in choices):
        words = ", ".join(map(repr, choices))
        raise ValueError(f"{argument} must be {words} or None, not {value!r}.")
    return value


def checked_installed(value: Any, argument: str) -> Any:
    """Return the name of a backend or sampler whose libraries are installed; others stay, too.

    Raises
    ------
    ImportError
        A library is missing.
    """
    needed = NEEDS.get(value, ()) if isinstance(value, str) else ()
    if missing := [name for name in needed if find_spec(name) is None]:
        of_extra = " (or by the extra 'jax' of pymc-marginal-lmm)" * ({*missing} <= {*JAX})
        raise ImportError(
            f"{argument}={value!r} needs {' and '.join(missing)}: not installed here. Get it by "
            f"pip install {' '.join(missing)}{of_extra}, or leave {argument} out."
        )
    return value


def checked_options(value: Any, argument: str) -> dict[str, Any]:
    """Return keyword arguments for another function; None is none.

    Raises
    ------
    TypeError
        They are not a dict by name.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{argument} must be a dict of keyword arguments, not {value!r}.")
    return dict(value)


# --- Draws ------------------------------------------------------------------------------------


def posterior_of(idata: Any) -> Dataset:
    """Return the posterior, with chains and draws.

    Raises
    ------
    TypeError
        It is not a DataTree.
    ValueError
        It has no posterior, or that lacks the dims ``chain`` and ``draw``.
    """
    if not isinstance(idata, DataTree):
        raise TypeError(
            f"idata must be the DataTree that sampling returned, not {_type(idata)}. Of a dataset "
            "of draws make one: xarray.DataTree.from_dict({'posterior': dataset})."
        )
    if "posterior" not in idata.children:
        groups = ", ".join(map(str, idata.children)) or "none"
        raise ValueError(
            f"idata has no group 'posterior' (its groups: {groups}): pass what sampling the "
            "marginal model returned."
        )
    posterior = idata["posterior"].to_dataset()
    if missing := [dim for dim in ("chain", "draw") if dim not in posterior.dims]:
        raise ValueError(
            f"idata.posterior has no dim {' and '.join(map(repr, missing))}: select chains and "
            "draws by lists (isel(chain=[0])) or slices, which keep the dims, and do not stack "
            "them."
        )
    if 0 in (posterior.sizes["chain"], posterior.sizes["draw"]):
        raise ValueError("idata.posterior has no draws.")
    return posterior


# --- Seeds ------------------------------------------------------------------------------------


def generator_of(random_seed: Any) -> np.random.Generator | None:
    """Return a generator from what ``pm.sample`` takes as a seed; the user's own is not touched.

    Raises
    ------
    TypeError, ValueError
        It cannot serve as a seed.
    """
    if random_seed is None:
        return None
    try:
        generator = get_random_generator(random_seed)
        generator.bit_generator.seed_seq.spawn  # noqa: B018
    except (AttributeError, TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(
            "random_seed must be None, a non-negative int, a sequence of such, or a SeedSequence, "
            f"BitGenerator or Generator of numpy.random, not {random_seed!r} ({error})."
        ) from error
    return generator


def recovery_seed(random_seed: Any) -> list[int] | None:
    """Make of the seed of a sampling another one, for the recovery after it."""
    generator = generator_of(random_seed)
    if generator is None:
        return None
    sequence = generator.bit_generator.seed_seq
    if isinstance(sequence, np.random.SeedSequence):
        key = (*sequence.spawn_key, sequence.n_children_spawned, RECOVERY)
        sequence = np.random.SeedSequence(sequence.entropy, spawn_key=key)
    return sequence.generate_state(4).tolist()
