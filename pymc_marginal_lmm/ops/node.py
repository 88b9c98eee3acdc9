"""What all Ops do alike: hand results over, take cotangents, refuse second derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable

from pymc_marginal_lmm.pattern import Pattern

__all__ = [
    "NO_SECOND_DERIVATIVE",
    "connected",
    "entries",
    "pattern_of",
    "perform_many",
    "store",
]

NO_SECOND_DERIVATIVE = (
    "The gradient of a marginal log density has no derivative of its own in PyTensor: a second "
    "derivative is available through JAX only (jax.hessian of the jaxified log density)."
)


def entries(pattern: Pattern | None) -> tuple[np.ndarray, np.ndarray]:
    """Return a pattern as arrays, ``starts`` and ``columns``; both are empty if it is dense."""
    if pattern is None:
        return np.zeros(0, dtype="int32"), np.zeros(0, dtype="int32")
    return pattern.starts, pattern.columns


@lru_cache(maxsize=1)
def _pattern(starts: bytes, columns: bytes, n_columns: int) -> Pattern:
    """Return the same pattern from call to call: to find its pairs takes longer than to sweep."""
    places, found = (np.frombuffer(x, dtype="int32") for x in (starts, columns))
    return Pattern(places, found, n_columns)


def pattern_of(starts: np.ndarray, columns: np.ndarray, n_columns: int) -> Pattern | None:
    """Return the pattern that has these :func:`entries`."""
    return _pattern(starts.tobytes(), columns.tobytes(), n_columns) if starts.size else None


def perform_many(
    function: Callable[..., Sequence],
    failed: Callable[..., Sequence],
    inputs: Sequence[np.ndarray],
    ndims: tuple[Sequence[int], Sequence[int]],
    *,
    at_once: bool = True,
) -> tuple[np.ndarray, ...]:
    """Call a function of arrays that may have axes in front of their own: ``recover`` has draws.

    What is not positive definite once spoils all: then one call is made after the other.

    Parameters
    ----------
    function : callable
    failed : callable
        What to return where ``function`` raises ``LinAlgError``.
    inputs : sequence of array
    ndims : pair of sequence of int
        How many axes inputs and outputs have by themselves.
    at_once : bool
        ``function`` takes axes in front.
    """
    own, out_ndims = ndims
    pairs = list(zip(inputs, own, strict=True))
    batch = np.broadcast_shapes(*(x.shape[: x.ndim - ndim] for x, ndim in pairs))
    with np.errstate(all="ignore"):
        if at_once:
            try:
                results = function(*inputs)
            except np.linalg.LinAlgError:
                pass
            else:
                pairs_out = zip(map(np.asarray, results), out_ndims, strict=True)
                return tuple(_filled(x, batch + x.shape[x.ndim - n :]) for x, n in pairs_out)
        full = [np.broadcast_to(x, batch + x.shape[x.ndim - ndim :]) for x, ndim in pairs]
        single = []
        for i in np.ndindex(batch):
            arguments = [x[i] for x in full]
            try:
                single.append(function(*arguments))
            except np.linalg.LinAlgError:
                single.append(failed(*arguments))
    return tuple(
        np.stack(outs).reshape(batch + np.shape(outs[0])) for outs in zip(*single, strict=True)
    )


def _filled(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Broadcast to a shape; what comes of it may be written into, as Ops in place do."""
    return x if x.shape == shape else np.broadcast_to(x, shape).copy()


def store(node: Apply, results: Sequence, output_storage: list) -> None:
    """Hand results of :meth:`Op.perform` over, in the dtypes of the node."""
    for storage, result, out in zip(output_storage, results, node.outputs, strict=True):
        storage[0] = np.asarray(result, dtype=out.type.dtype)


def connected(outputs: Sequence[Variable], cotangents: Sequence) -> list[Variable]:
    """Return the cotangents of outputs, 0 of those that nothing depends on."""
    return [
        out.zeros_like() if isinstance(bar.type, DisconnectedType) else bar
        for out, bar in zip(outputs, cotangents, strict=True)
    ]
