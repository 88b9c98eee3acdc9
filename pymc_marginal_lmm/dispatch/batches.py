"""A function of a vector for many vectors at once, compiled by one backend or the other.

What does not depend on the vector is computed once for all of them
(:func:`split`): sums over the rows of data that are given anew, say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytensor
from pytensor.compile.mode import Mode, get_mode
from pytensor.graph.basic import Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import toposort

__all__ = ["Loop", "by_jax", "by_numba", "split", "spread"]

type Loop = Callable[..., np.ndarray]
"""From vectors ``(N, d)``, and the values of what is known, to values ``(N, …)``."""

BATCH = 1024
"""Points of one call of a JAX program, of as many values at most as would take ..."""

MOST = 64_000_000
"""... so many bytes."""

CHECKS = "local_check_parameter_to_ninf_switch"
"""PyMC's rewrite of its checks of parameters, which raise otherwise, or are left out."""


def split(
    x: Variable, data: Sequence[Variable], value: Variable
) -> tuple[list[Variable], list[Variable], Variable]:
    """Cut a graph where what depends on data meets what depends on ``x``.

    Returns
    -------
    known : list of Variable
        What depends on data but not on ``x``, and is used where something does.
    inputs : list of Variable
        In their place in ``value``.
    value : Variable
        Over ``x`` and ``inputs``.
    """
    varying, of_data = {x}, set(data)
    met: dict[Variable, None] = {}
    for node in toposort([value]):
        if not varying.isdisjoint(node.inputs):
            varying.update(node.outputs)
            met |= dict.fromkeys(node.inputs)
        elif not of_data.isdisjoint(node.inputs):
            of_data.update(node.outputs)
    known = [v for v in met if v in of_data]
    inputs = [v.type() for v in known]
    (value,) = clone_replace([value], dict(zip(known, inputs, strict=True)))
    return known, inputs, value


def _mode(name: str) -> Mode:
    """Return a mode in which parameters that PyMC does not allow mean -inf, as in its samplers."""
    return get_mode(name).including(CHECKS)


def by_numba(x: Variable, inputs: Sequence[Variable], value: Variable) -> Loop:
    """Compile, with the loop over vectors inside compiled code."""
    import numba

    function = pytensor.function(
        [x, *inputs], value, mode=_mode("NUMBA"), trust_input=True, on_unused_input="ignore"
    )
    one = function.vm.jit_fn
    if value.type.ndim:
        return _numba_arrays(one, value.type.shape)

    # Threads share it, see `spread`.
    @numba.njit(nogil=True)
    def loop(points, known):  # type: ignore[no-untyped-def]
        out = np.empty(len(points))
        for i in range(len(points)):
            out[i] = one(points[i], *known)[0].item()
        return out

    return lambda points, *known: loop(np.ascontiguousarray(points), known)


def _numba_arrays(one: Callable, shape: tuple[int, ...]) -> Loop:
    import numba

    @numba.njit(nogil=True)
    def loop(points, known):  # type: ignore[no-untyped-def]
        out = np.empty((len(points), *shape))
        for i in range(len(points)):
            out[i] = one(points[i], *known)[0]
        return out

    return lambda points, *known: loop(np.ascontiguousarray(points), known)


def by_jax(x: Variable, inputs: Sequence[Variable], value: Variable) -> Loop:
    """Compile for batches of one size, of which the last is not full.

    On a CPU a loop over the vectors in turn is faster than all at once (``vmap``), and it stops
    where the points do. On a GPU it is the other way round.
    """
    import jax
    import jax.numpy as jnp
    from pytensor.link.jax.dispatch import jax_funcify

    graph = FunctionGraph([x, *inputs], [value], clone=True)
    _mode("JAX").optimizer.rewrite(graph)
    one = jax_funcify(graph)
    shape = value.type.shape
    batch = max(1, min(BATCH, MOST // (8 * int(np.prod(shape, dtype=int)))))

    def in_turn(points, n, *known):  # type: ignore[no-untyped-def]
        def step(i, out):  # type: ignore[no-untyped-def]
            return out.at[i].set(one(points[i], *known)[0])

        return jax.lax.fori_loop(0, n, step, jnp.zeros((len(points), *shape)))

    def at_once(points, n, *known):  # type: ignore[no-untyped-def]
        return jax.vmap(lambda point: one(point, *known)[0])(points)

    run = jax.jit(in_turn if jax.default_backend() == "cpu" else at_once)

    def many(points: np.ndarray, *known: np.ndarray) -> np.ndarray:
        parts = [np.zeros((0, *shape))]
        for start in range(0, len(points), batch):
            part = points[start : start + batch]
            n = len(part)
            filled = np.concatenate([part, np.repeat(part[-1:], batch - n, axis=0)])
            parts.append(np.asarray(run(filled, n, *known))[:n])
        return np.concatenate(parts)

    return many


def spread(many: Loop, cores: int | None) -> Loop:
    """Evaluate parts of the points side by side, by joblib.

    In threads, since what is compiled is there already and runs without the interpreter's lock; or
    wherever ``joblib.parallel_config`` says.

    Parameters
    ----------
    many : callable
        From points to values.
    cores : int, optional
        All by default.
    """
    from joblib import Parallel, delayed, effective_n_jobs

    n = effective_n_jobs(-1 if cores is None else cores)
    if n == 1:
        return many
    parallel = Parallel(n_jobs=n, prefer="threads")

    def side_by_side(points: np.ndarray) -> np.ndarray:
        parts = np.array_split(points, min(n, max(len(points), 1)))
        return np.concatenate(parallel(delayed(many)(part) for part in parts))

    return side_by_side
