"""``recover``: exact posterior draws of what was integrated out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pymc.model.core import Model
from pymc.pytensorf import compile as pymc_compile
from pymc.pytensorf import reseed_rngs
from pytensor import config
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Variable
from pytensor.tensor.random.type import RandomType
from xarray import Dataset, DataTree

from pymc_marginal_lmm.analysis.ordering import cost
from pymc_marginal_lmm.model.arguments import (
    checked_flag,
    checked_names,
    checked_options,
    generator_of,
    posterior_of,
    pymc_model,
)
from pymc_marginal_lmm.model.batched import evaluated, inlined, over_draws
from pymc_marginal_lmm.model.conditional import ConditionalRV, conditional
from pymc_marginal_lmm.model.draws import (
    as_dataset,
    check_parameters,
    chunks,
    column_of,
    first_lost,
    merged,
    over_parameters,
    shown_draw,
)
from pymc_marginal_lmm.model.restore import NO_EFFECTS, marginal_ops, recoverable

__all__ = ["Drawer", "Recovery", "recover"]

UNCOMPILED = Mode(linker="py", optimizer=None)
"""For a few calls, each over many draws, rewriting a graph costs more than it saves."""


def recover(
    idata: DataTree,
    *,
    model: Any = None,
    var_names: str | Sequence[str] | None = None,
    extend_inferencedata: bool = True,
    random_seed: Any = None,
    progressbar: bool = True,
    compile_kwargs: dict[str, Any] | None = None,
) -> DataTree | Dataset:
    """Draw the integrated effects from their exact conditional distribution.

    For each posterior draw of the parameters one joint draw of all effects, over all grouping
    factors, and with it the variables that depend on them: Deterministics, and random variables
    that no data depend on (missing responses, predictions). Together they are draws from the
    posterior of the original model.

    Parameters
    ----------
    idata : DataTree
        Result of sampling the marginal model, with any sampler.
    model : pymc.Model, optional
        The model that :func:`~pymc_marginal_lmm.marginalize` returned; by default the one of the
        ``with`` context.
    var_names : str or sequence of str, optional
        What to recover; all effects, and all that depends on them, by default. Of an empty
        sequence nothing comes, and ``idata`` stays as it is.
    extend_inferencedata : bool, default True
        Add to ``idata.posterior`` and return ``idata``; else return a Dataset.
    random_seed : int, sequence of int, SeedSequence, BitGenerator or Generator, optional
        Makes the draws reproducible. A generator is copied: it is where it was afterwards, and
        the same draws come from it again unless it is used in between.
    progressbar : bool, default True
        Show progress.
    compile_kwargs : dict, optional
        For the function that makes the draws, many at once. By default it is not compiled
        (PyTensor's Python linker).

    Returns
    -------
    DataTree or Dataset
        With names, dims, coords and dtypes of the original model.

    Raises
    ------
    TypeError
        An argument is of a wrong type.
    ValueError
        The model has no integrated effects, or not those that were asked for; ``idata`` has no
        posterior with chains and draws, lacks a parameter of the model, or has other variables
        with other coords of the same dims.
    numpy.linalg.LinAlgError
        A draw's posterior precision is not positive definite; the message names the draw.
    """
    posterior = posterior_of(idata)
    model = pymc_model(model)
    names = checked_names(var_names, "var_names")
    extend = checked_flag(extend_inferencedata, "extend_inferencedata")
    show = checked_flag(progressbar, "progressbar")
    recovery = Recovery(
        model,
        names,
        random_seed=_compiler_seed(random_seed),
        compile_kwargs=checked_options(compile_kwargs, "compile_kwargs"),
    )
    dataset = recovery.given(posterior, progressbar=show)
    if not extend:
        return dataset
    idata["posterior"] = merged(posterior, dataset)
    return idata


class Recovery:
    """Draws of effects, and of what depends on them, for posteriors to come.

    Parameters
    ----------
    model : Model
        A marginal one.
    names : sequence of str, optional
        What to draw; all by default.
    random_seed : int or sequence of int, optional
    compile_kwargs : dict, optional

    Raises
    ------
    ValueError
        The model has no integrated effects, or not those that were asked for.
    """

    def __init__(
        self,
        model: Model,
        names: Sequence[str] | None = None,
        *,
        random_seed: int | list[int] | None = None,
        compile_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if not (available := recoverable(model)):
            raise ValueError(NO_EFFECTS)
        if unknown := [name for name in names or () if name not in available]:
            raise ValueError(
                f"var_names: {', '.join(map(repr, unknown))}: not among the integrated effects "
                f"and what depends on them, which are {', '.join(available)}."
            )
        self.names = list(available if names is None else dict.fromkeys(names))
        # Effects are drawn anyhow; they tell of parameter values that cannot be worked with.
        self.effects = [e.name for op in marginal_ops(model) for e in op.structure.effects]
        self.parameters, self.full = model.free_RVs, model
        self.n_bytes = sum(cost(op.structure, False)[1] for op in marginal_ops(model))
        if not self.names:
            return
        # To note for each node where it was made takes a third of the time of making a graph.
        with config.change_flags(traceback__limit=0):
            self.full = conditional(model, [*self.names, *self.effects])
            outputs = [self.full[name] for name in (*self.effects, *self.names)]
            # A Deterministic may hold responses: these are data here, not to be drawn.
            parameters = [self.full[rv.name] for rv in model.free_RVs]
            self.parameters, outputs = over_parameters(self.full, parameters, outputs)
            outputs = inlined(outputs, ConditionalRV)
            self.draw = Drawer(self.parameters, outputs, random_seed, compile_kwargs)

    def reseed(self, random_seed: int | list[int] | None) -> None:
        """Start over with another seed."""
        if self.names:
            self.draw.reseed(random_seed)

    def given(
        self,
        posterior: Dataset,
        dims: Mapping[str, Any] | None = None,
        coords: Any = None,
        *,
        progressbar: bool = False,
    ) -> Dataset:
        """Return the draws that belong to those of a posterior.

        Parameters
        ----------
        posterior : Dataset
        dims, coords : mapping, optional
            In place of the model's.
        progressbar : bool

        Raises
        ------
        ValueError
            The posterior lacks a parameter of the model, or has it in another shape.
        numpy.linalg.LinAlgError
            A draw's posterior precision is not positive definite.
        """
        check_parameters(self.parameters, posterior)
        n_chains, n_draws = (posterior.sizes[dim] for dim in ("chain", "draw"))
        results = self._values(posterior, n_chains, n_draws, progressbar) if self.names else {}
        return as_dataset(results, self.full, posterior, dims or {}, coords or {})

    def _values(
        self, posterior: Dataset, n_chains: int, n_draws: int, progressbar: bool
    ) -> dict[str, np.ndarray]:
        columns = [column_of(posterior[rv.name], rv) for rv in self.parameters]
        total, title = n_chains * n_draws, "Recovering effects"
        parts: list[list[np.ndarray]] = []
        for chunk in chunks(total, self.n_bytes, title, show=progressbar):
            given = [column[chunk] for column in columns]
            with np.errstate(all="ignore"):  # what is not finite is reported with its draw
                values = self.draw(given, chunk.stop - chunk.start)
            for name, drawn in zip(self.effects, values, strict=False):
                if (lost := first_lost(drawn)) is not None:
                    where, point = shown_draw(self.parameters, posterior, chunk.start + lost)
                    raise np.linalg.LinAlgError(
                        f"No draw of '{name}' at {where}: the posterior precision of the effects "
                        f"could not be factorised at these parameter values ({point})."
                    )
            parts.append(values[len(self.effects) :])
        return {
            name: np.concatenate(column).reshape(n_chains, n_draws, *column[0].shape[1:])
            for name, column in zip(self.names, zip(*parts, strict=True), strict=True)
        }


def _compiler_seed(random_seed: Any) -> int | list[int] | None:
    """Return a seed that a compiler takes; a user's generator is copied."""
    generator = generator_of(random_seed)
    if generator is None:
        return None
    if isinstance(random_seed, np.random.Generator | np.random.BitGenerator):
        return int(generator.integers(2**63))
    if isinstance(random_seed, np.random.SeedSequence):
        return random_seed.generate_state(4).tolist()
    return np.asarray(random_seed).tolist()


class Drawer:
    """Makes a number of draws: at once, if its graph allows for that.

    Parameters
    ----------
    parameters : sequence of Variable
    outputs : sequence of Variable
        Over the parameters.
    random_seed : int or sequence of int, optional
    compile_kwargs : dict, optional
    """

    def __init__(
        self,
        parameters: Sequence[Variable],
        outputs: Sequence[Variable],
        random_seed: int | list[int] | None = None,
        compile_kwargs: dict[str, Any] | None = None,
    ) -> None:
        kwargs: dict[str, Any] = {"mode": UNCOMPILED} | (compile_kwargs or {})
        kwargs |= {"random_seed": random_seed, "on_unused_input": "ignore"}
        try:
            inputs, many = over_draws(outputs, parameters)
        except (NotImplementedError, TypeError, ValueError):
            self.at_once = False
            self.function = pymc_compile(parameters, evaluated(outputs, parameters), **kwargs)
        else:
            self.at_once = True
            self.function = pymc_compile(inputs, evaluated(many, inputs), **kwargs)

    def __call__(self, columns: Sequence[np.ndarray], n: int) -> list[np.ndarray]:
        """Return the outputs for ``n`` values of the parameters, along a first axis."""
        if self.at_once:
            return self.function(*columns, n)
        rows = [self.function(*(column[i] for column in columns)) for i in range(n)]
        return [np.stack(values) for values in zip(*rows, strict=True)]

    def reseed(self, random_seed: int | list[int] | None) -> None:
        """Start over with another seed."""
        rngs = [v for v in self.function.get_shared() if isinstance(v.type, RandomType)]
        reseed_rngs(rngs, random_seed)
