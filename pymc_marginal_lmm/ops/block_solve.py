"""The Op that every density and draw goes through: ``(F, h) ↦ (log|F|, F⁻¹h)``, differentiable.

The log normaliser of a Gaussian in natural parameters is ``G(F, h) = ½ hᵀF⁻¹h − ½ log|F|``. The
Op returns its two ingredients rather than ``G``: the quadratic form can then be evaluated as a
sum of squared residuals at ``u = F⁻¹h``, which loses no digits where ``rᵀWr − hᵀF⁻¹h`` cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pytensor.tensor as pt
import scipy.linalg
from pytensor.gradient import DisconnectedType, disconnected_type
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.scalar import upcast

from pymc_marginal_lmm.ops import elimination
from pymc_marginal_lmm.ops.blocks import ArrayLibrary
from pymc_marginal_lmm.ops.elimination import Workspace
from pymc_marginal_lmm.pattern import Pattern

__all__ = ["BlockSolve", "BlockSolvePullback", "Solution", "block_solve", "solve_many"]

NO_SECOND_DERIVATIVE = (
    "The gradient of a marginal log density has no derivative of its own in PyTensor: a second "
    "derivative is available through JAX only (jax.hessian of the jaxified log density)."
)


def _segment_sum(x: np.ndarray, segments: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(segments, weights=x, minlength=size).astype(x.dtype)


def _solve_triangular(U: np.ndarray, h: np.ndarray, trans: int = 0, lower: bool = False) -> Any:
    if U.ndim == 2:
        return scipy.linalg.solve_triangular(U, h, trans=trans, lower=lower, check_finite=False)
    (trtrs,) = scipy.linalg.get_lapack_funcs(("trtrs",), (U, h))
    x = np.empty_like(h)
    for i in np.ndindex(U.shape[:-2]):
        x[i] = trtrs(U[i], h[i], lower=lower, trans=trans)[0]
    return x


NUMPY = ArrayLibrary(np, _solve_triangular, _segment_sum, unrolled=1)


def entries(pattern: Pattern | None) -> tuple[np.ndarray, np.ndarray]:
    """Return a pattern as arrays, ``starts`` and ``columns``; both are empty if it is dense."""
    if pattern is None:
        return np.zeros(0, dtype="int32"), np.zeros(0, dtype="int32")
    return pattern.starts, pattern.columns


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


class BlockSolve(Op):
    r"""Log determinant and solution of a blocked positive definite system.

    Inputs are ``F11 (M, S, S)``, ``F12``, ``F22 (q, q)``, ``h1 (M, S)``, ``h2 (q)`` and the two
    arrays of :func:`entries`; outputs ``log|F|``, ``u1 (M, S)``, ``u2 (q)`` and the workspace
    ``J, U22`` of :mod:`~pymc_marginal_lmm.ops.elimination`, which the pullback reuses. ``M`` or
    ``q`` may be 0. Where ``F`` is not positive definite in floating point, everything is NaN, so
    that a sampler rejects the point.

    With a dense ``F12 (M, S, q)`` work is ``O(M S³ + M S q² + q³)``; with one that has ``n_i``
    columns in level ``i``, ``(S, N)``, it is ``O(M S³ + S Σ n_i² + q³)``. The gradient is exact; a
    second derivative through PyTensor is not available (JAX differentiates further).

    Parameters
    ----------
    pattern : Pattern, optional
        Where ``F12`` can be non-zero; by default everywhere.
    """

    __props__ = ("pattern",)
    gufunc_spec = (f"{__package__}.solve_many", 7, 5)

    def __init__(self, pattern: Pattern | None = None) -> None:
        self.pattern = pattern

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        if len(inputs) == N_SYSTEM:
            inputs = (*inputs, *map(pt.constant, entries(self.pattern)))
        return super().__call__(*inputs, **kwargs)

    def make_node(self, *inputs: Variable) -> Apply:
        *system, starts, columns = map(pt.as_tensor_variable, inputs)
        ndims = (3, 3 if self.pattern is None else 2, 2, 2, 1)
        if tuple(x.type.ndim for x in system) != ndims:
            raise TypeError(f"BlockSolve takes inputs with {ndims} dimensions")
        dtype = upcast(*(x.type.dtype for x in system))
        cast = [pt.cast(x, dtype) for x in system]
        F11, _, F22, h1, h2 = cast
        outputs = [pt.scalar(dtype=dtype), h1.type(), h2.type(), F11.type(), F22.type()]
        return Apply(self, [*cast, starts, columns], outputs)

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        results = _solve(self.pattern, *inputs[:N_SYSTEM])
        store(node, results, output_storage)

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[i < N_SYSTEM] * len(node.outputs) for i in range(len(node.inputs))]

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence
    ) -> list[Variable]:
        *used, J_bar, U22_bar = cotangents
        if not all(isinstance(c.type, DisconnectedType) for c in (J_bar, U22_bar)):
            raise NotImplementedError(
                f"The workspace of BlockSolve is not differentiable. {NO_SECOND_DERIVATIVE}"
            )
        _, F12, _, _, _, starts, columns = inputs
        _, u1, u2, *work = outputs
        bars = connected(outputs[:3], used)
        pullback = BlockSolvePullback(self.pattern)
        system_bars = pullback(F12, starts, columns, *work, u1, u2, *bars, return_list=True)
        return [*system_bars, disconnected_type(), disconnected_type()]

    def infer_shape(self, node: Apply, shapes: list) -> list:
        F11, _, F22, h1, h2, *_ = shapes
        return [(), h1, h2, F11, F22]


N_SYSTEM = 5


def _solve(pattern: Pattern | None, *system: np.ndarray) -> tuple[np.ndarray, ...]:
    F11, F12, F22, h1, h2 = system
    try:
        with np.errstate(all="ignore"):
            log_det, work = elimination.factorize(NUMPY, pattern, F11, F12, F22)
            u1, u2 = elimination.solve(NUMPY, pattern, F12, work, h1, h2)
    except np.linalg.LinAlgError:
        one = F11[..., 0, 0, 0] if F11.size else F22[..., 0, 0]
        return tuple(np.full_like(x, np.nan) for x in (one, h1, h2, F11, F22))
    return log_det, u1, u2, *work


@lru_cache(maxsize=1)
def _pattern(starts: bytes, columns: bytes, n_columns: int) -> Pattern:
    """Return the same pattern from call to call: to find its pairs takes longer than to solve."""
    places, entries = (np.frombuffer(x, dtype="int32") for x in (starts, columns))
    return Pattern(places, entries, n_columns)


def solve_many(*inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Solve many systems at once, where :class:`BlockSolve` has axes in front (``recover``).

    A system that is not positive definite spoils a batch: then, and with a sparse coupling, whose
    arithmetic outweighs the overhead, they are solved one by one.
    """
    *system, starts, columns = inputs
    ndims = (3, 2 if starts.size else 3, 2, 2, 1)
    batch = np.broadcast_shapes(*(x.shape[:-k] for x, k in zip(system, ndims, strict=True)))
    system = [np.broadcast_to(x, batch + x.shape[-k:]) for x, k in zip(system, ndims, strict=True)]
    pattern = None
    if not starts.size:
        results = _solve(None, *system)
        if np.isfinite(results[0]).all():
            return results
    else:
        first = (0,) * len(batch)
        pattern = _pattern(starts[first].tobytes(), columns[first].tobytes(), system[2].shape[-1])
    single = [_solve(pattern, *(x[i] for x in system)) for i in np.ndindex(batch)]
    return tuple(
        np.stack(outs).reshape(batch + np.shape(outs[0])) for outs in zip(*single, strict=True)
    )


class BlockSolvePullback(Op):
    """Pullback of :class:`BlockSolve`: ``F12``, workspace, ``u`` and cotangents to ``F̄, h̄``."""

    __props__ = ("pattern",)

    def __init__(self, pattern: Pattern | None = None) -> None:
        self.pattern = pattern

    def make_node(self, *inputs: Variable) -> Apply:
        F12, starts, columns, J, U22, u1, u2, *bars = map(pt.as_tensor_variable, inputs)
        bars = [pt.cast(bar, J.type.dtype) for bar in bars]
        outputs = [x.type() for x in (J, F12, U22, u1, u2)]
        return Apply(self, [F12, starts, columns, J, U22, u1, u2, *bars], outputs)

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        F12, _, _, J, U22, *rest = inputs
        with np.errstate(all="ignore"):
            results = elimination.pullback(NUMPY, self.pattern, F12, Workspace(J, U22), *rest)
        store(node, results, output_storage)

    def pullback(self, *args: object) -> list[Variable]:
        raise NotImplementedError(NO_SECOND_DERIVATIVE)

    def infer_shape(self, node: Apply, shapes: list) -> list:
        F12, _, _, J, U22, u1, u2, *_ = shapes
        return [J, F12, U22, u1, u2]


class Solution(NamedTuple):
    """Symbolic outputs of :func:`block_solve`."""

    log_det: Variable
    u1: Variable
    u2: Variable
    J: Variable
    U22: Variable


def block_solve(
    F11: Variable,
    F12: Variable,
    F22: Variable,
    h1: Variable,
    h2: Variable,
    pattern: Pattern | None = None,
) -> Solution:
    """Apply :class:`BlockSolve`."""
    return Solution(*BlockSolve(pattern)(F11, F12, F22, h1, h2, return_list=True))
