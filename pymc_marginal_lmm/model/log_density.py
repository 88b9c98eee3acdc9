"""The log density of a model as a function of many vectors, compiled once for many data sets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from threading import Lock
from typing import Any, Literal
from uuid import uuid4

import numpy as np
import pytensor.tensor as pt
from pymc.model.core import Model
from pymc.pytensorf import rewrite_pregrad
from pytensor import function
from pytensor.compile.mode import get_mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors

from pymc_marginal_lmm.dispatch.batches import by_jax, by_numba, split
from pymc_marginal_lmm.model.value_space import ValueSpace
from pymc_marginal_lmm.values import narrowed

__all__ = [
    "BACKENDS",
    "Backend",
    "Given",
    "LogDensities",
    "compile_log_density",
]

type Backend = Literal["jax", "numba"]

BACKENDS: tuple[Backend, ...] = ("jax", "numba")

_ONCE = get_mode("FAST_COMPILE").excluding("local_add_canonizer", "local_mul_canonizer")
"""For what is computed once for new data; without those that make one operation of many."""

KEPT = 4
"""So many densities are kept in a process that has got them from another one."""


def _vector_graph(
    model: Model, space: ValueSpace, live: Mapping[Variable, Variable]
) -> tuple[Variable, Variable]:
    """Return a vector, and the log density of a model over it and over live data."""
    x = pt.vector("x", shape=(space.dim,), dtype="float64")
    values = [model.rvs_to_values[rv] for rv in model.free_RVs]
    parts = (pt.cast(part, v.dtype) for part, v in zip(space.split(x), values, strict=True))
    new = {v: pt.specify_shape(part, v.type.shape) for v, part in zip(values, parts, strict=True)}
    logp = model.logp()
    for source in ancestors([logp]):
        if source in live:
            new[source] = live[source]
        elif isinstance(source, SharedVariable):
            new[source] = source.type.constant_type(source.type, source.get_value())
    return x, rewrite_pregrad(graph_replace(logp, new, strict=False))


class LogDensities:
    """The log density of a model, compiled for points ``(N, d)``.

    Parameters
    ----------
    model : Model
    space : ValueSpace
    backend : {"jax", "numba"}
    live : sequence of str
        Names of ``pm.Data`` whose values are given when it is called. All others have the values
        that they have now.
    """

    def __init__(
        self, model: Model, space: ValueSpace, backend: Backend, live: Sequence[str] = ()
    ) -> None:
        self.backend = backend
        self._origin = (model, space, backend, tuple(live))
        self._token = uuid4().hex
        sources = [model[name] for name in live]
        # Lengths stay what they are, so that all that is made of them is known.
        data = [v.type.clone(shape=v.get_value(borrow=True).shape)(v.name) for v in sources]
        x, value = _vector_graph(model, space, dict(zip(sources, data, strict=True)))
        known, inputs, value = split(x, data, value)
        self._known = function(data, narrowed(known), mode=_ONCE, on_unused_input="ignore")
        self._lock = Lock()
        self._loop = (by_jax if backend == "jax" else by_numba)(x, inputs, value)

    def given(self, data: Sequence[Any] = ()) -> Given:
        """Return the function of points alone, for values of the data."""
        # A PyTensor function keeps what it is given: threads would get each other's data.
        with self._lock:
            known = self._known(*data)
        return Given(self, tuple(np.asarray(value) for value in known))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as a model: what is compiled cannot leave a process."""
        return _arrived, (self._token, self._origin)


class Given:
    """Log densities ``(N,)`` of points ``(N, d)``, given data."""

    def __init__(self, densities: LogDensities, known: tuple[np.ndarray, ...]) -> None:
        self.densities, self.known = densities, known

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return the log density of each point."""
        return self.densities._loop(points, *self.known)


_HERE: OrderedDict[str, LogDensities] = OrderedDict()


def _arrived(token: str, origin: tuple[Any, ...]) -> LogDensities:
    """Compile what came from another process, once."""
    if token not in _HERE:
        _HERE[token] = LogDensities(*origin)
        while len(_HERE) > KEPT:
            _HERE.popitem(last=False)
    _HERE.move_to_end(token)
    return _HERE[token]


def compile_log_density(
    model: Model, space: ValueSpace, backend: Backend | None = None, live: Sequence[str] = ()
) -> LogDensities:
    """Compile by JAX where that is installed and knows all Ops of the model.

    It compiles the density of a small model in one or two seconds with nothing cached; numba, whose
    code is faster for large dense blocks, takes tens of seconds the first time on a machine.
    """
    if backend is None and find_spec("jax") is not None:
        try:
            return LogDensities(model, space, "jax", live)
        except NotImplementedError:
            pass
    return LogDensities(model, space, backend or "numba", live)
