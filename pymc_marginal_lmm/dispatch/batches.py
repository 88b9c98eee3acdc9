"""A scalar function of a vector for many vectors at once, compiled by one backend or the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytensor
from pytensor.compile.mode import get_mode
from pytensor.graph.basic import Variable
from pytensor.graph.fg import FunctionGraph

__all__ = ["SIZES", "Many", "by_jax", "by_numba"]

type Many = Callable[[np.ndarray], np.ndarray]
"""From vectors ``(N, d)`` to values ``(N,)``."""

SIZES = (32, 512)
"""Points of one call of a JAX program, one for each size; the last call is filled up."""


def by_numba(x: Variable, value: Variable) -> Many:
    """Compile, with the loop over vectors inside compiled code."""
    import numba

    function = pytensor.function([x], value, mode="NUMBA", trust_input=True)
    one = function.vm.jit_fn

    @numba.njit
    def loop(points: np.ndarray) -> np.ndarray:
        out = np.empty(len(points))
        for i in range(len(points)):
            out[i] = one(points[i])[0].item()
        return out

    return lambda points: loop(np.ascontiguousarray(points))


def by_jax(x: Variable, value: Variable) -> Many:
    """Compile a loop over batches of vectors; faster than ``vmap`` on a CPU."""
    import jax
    from pytensor.link.jax.dispatch import jax_funcify

    graph = FunctionGraph([x], [value], clone=True)
    get_mode("JAX").optimizer.rewrite(graph)
    one = jax_funcify(graph)
    run = jax.jit(lambda points: jax.lax.map(lambda point: one(point)[0], points))

    def many(points: np.ndarray) -> np.ndarray:
        small, large = SIZES
        parts, start = [], 0
        while start < len(points):
            size = large if len(points) - start > 4 * small else small
            part = points[start : start + size]
            filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            parts.append(np.asarray(run(filled))[: len(part)])
            start += size
        return np.concatenate([np.zeros(0), *parts])

    return many
