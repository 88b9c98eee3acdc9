"""JAX: the mathematics of :mod:`pymc_marginal_lmm.ops` over ``jax.numpy``.

NumPyro and blackjax differentiate the jaxified log density themselves and never see an Op's
``pullback``, so the same rules are given to JAX as ``custom_vjp``: they reuse the factorisation
of the forward pass where differentiating through it would repeat it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
from pytensor.link.jax.dispatch import jax_funcify

from pymc_marginal_lmm.ops import (
    BlockTridiagonalDraw,
    BlockTridiagonalSolve,
    BlockTridiagonalSolvePullback,
    LevelSums,
    LogEvidence,
    LogEvidencePullback,
    NormalDraw,
    SweepFactor,
    SweepFactorPullback,
    SweepOrthonormal,
    SweepOrthonormalPullback,
    cyclic_reduction,
)
from pymc_marginal_lmm.ops.cyclic_reduction import Factor
from pymc_marginal_lmm.ops.evidence import Evidence, evidence, evidence_pullback
from pymc_marginal_lmm.ops.library import ArrayLibrary
from pymc_marginal_lmm.ops.log_evidence import N_ARGUMENTS as N_EVIDENCE
from pymc_marginal_lmm.ops.normal_draw import draw_blocks
from pymc_marginal_lmm.ops.orthonormal import (
    Orthonormal,
    Remaining,
    solve_orthonormal,
    sweep_orthonormal,
    sweep_orthonormal_pullback,
)
from pymc_marginal_lmm.ops.sweep import Sweepable, Swept, solve_levels, sweep, sweep_pullback
from pymc_marginal_lmm.ops.sweep_factor import N_ARGUMENTS as N_SWEEPABLE
from pymc_marginal_lmm.ops.sweep_factor import N_INDICES, PASSED_ON, differentiable
from pymc_marginal_lmm.ops.sweep_orthonormal import DIFFERENTIABLE
from pymc_marginal_lmm.ops.sweep_orthonormal import N_ARGUMENTS as N_ORTHONORMAL
from pymc_marginal_lmm.ops.sweep_orthonormal import PASSED_ON as PASSED_ON_ORTHONORMAL

__all__: list[str] = []


def _constants(arrays: Sequence[np.ndarray]) -> tuple:
    # Behind a barrier, XLA does not evaluate at compile time what is made of constants alone.
    return jax.lax.optimization_barrier(tuple(map(jnp.asarray, arrays)))


def _take(x: Any, indices: np.ndarray) -> Any:
    # Plain indexing has a program that looks for negative indices.
    return x.at[indices].get(mode="promise_in_bounds", wrap_negative_indices=False)


JAX = ArrayLibrary(
    jnp,
    jax.scipy.linalg.solve_triangular,
    jax.ops.segment_sum,
    constants=_constants,
    take=_take,
)


def _with_gradient(forward: Callable, backward: Callable) -> Callable:
    """Return the function of ``forward``, which returns its outputs and what ``backward`` needs.

    Where PyMC looks for initial values, it evaluates log densities operation by operation: jitted,
    a function of ours is one program then, and not a hundred.
    """
    forward = jax.jit(forward, inline=True)
    function = jax.custom_vjp(lambda *inputs: forward(*inputs)[0])
    function.defvjp(forward, backward)
    return function


@jax_funcify.register(NormalDraw)
def jax_funcify_normal_draw(op: NormalDraw, **kwargs: Any) -> Any:
    return jax.jit(partial(draw_blocks, JAX), inline=True)


@jax_funcify.register(BlockTridiagonalSolve)
def jax_funcify_block_tridiagonal_solve(op: BlockTridiagonalSolve, **kwargs: Any) -> Any:
    def forward(D: Any, E: Any, h: Any) -> tuple:
        log_det, factor = cyclic_reduction.factorize(JAX, D, E)
        x = cyclic_reduction.backward(JAX, factor, cyclic_reduction.forward(JAX, factor, h))
        return (log_det, x, *factor), (factor, x)

    def backward(residuals: tuple, cotangents: tuple) -> tuple:
        factor, x = residuals
        return cyclic_reduction.pullback(JAX, factor, x, *cotangents[:2])

    return _with_gradient(forward, backward)


@jax_funcify.register(BlockTridiagonalSolvePullback)
def jax_funcify_block_tridiagonal_solve_pullback(
    op: BlockTridiagonalSolvePullback, **kwargs: Any
) -> Any:
    def block_tridiagonal_solve_pullback(J: Any, left: Any, right: Any, *rest: Any) -> tuple:
        return cyclic_reduction.pullback(JAX, Factor(J, left, right), *rest)

    return block_tridiagonal_solve_pullback


@jax_funcify.register(BlockTridiagonalDraw)
def jax_funcify_block_tridiagonal_draw(op: BlockTridiagonalDraw, **kwargs: Any) -> Any:
    half = cyclic_reduction.forward if op.transpose else cyclic_reduction.backward

    def block_tridiagonal_draw(J: Any, left: Any, right: Any, x: Any) -> Any:
        return half(JAX, Factor(J, left, right), x)

    return block_tridiagonal_draw


@jax_funcify.register(LevelSums)
def jax_funcify_level_sums(op: LevelSums, node: Any, **kwargs: Any) -> Any:
    codes = jnp.asarray(node.inputs[1].data)

    def forward(rows: Any) -> tuple[Any, None]:
        if op.n_levels == 1:
            return rows.sum(axis=-2, keepdims=True), None
        shape = (*rows.shape[:-2], op.n_levels, rows.shape[-1])
        sums = jnp.zeros(shape, rows.dtype).at[..., codes, :].add(rows, mode="promise_in_bounds")
        return sums, None

    def backward(_: None, bar: Any) -> tuple:
        bar = jnp.asarray(bar)
        if op.n_levels == 1:
            return (jnp.broadcast_to(bar, (*bar.shape[:-2], codes.size, bar.shape[-1])),)
        return (bar.at[..., codes, :].get(mode="promise_in_bounds"),)

    by_level = _with_gradient(forward, backward)
    return lambda rows, _: by_level(rows)


@jax_funcify.register(SweepFactor)
def jax_funcify_sweep_factor(op: SweepFactor, **kwargs: Any) -> Any:
    def forward(*inputs: Any) -> tuple[tuple, tuple]:
        args = Sweepable(*inputs[:N_SWEEPABLE])
        levels = solve_levels(JAX, op.layout, args)
        return tuple(sweep(JAX, op.pattern, args, levels)), (inputs, levels)

    def backward(residuals: tuple, cotangents: tuple) -> tuple:
        inputs, levels = residuals
        args, constant = Sweepable(*inputs[:N_SWEEPABLE]), op.constant_design
        bars = sweep_pullback(
            JAX, op.layout, op.pattern, args, levels, Swept(*cotangents), constant_design=constant
        )
        result: list[Any] = [None] * len(inputs)
        for i, bar in zip(differentiable(constant), bars, strict=True):
            result[i] = bar
        for i, j in PASSED_ON.items():
            result[i] = cotangents[j]
        return tuple(result)

    return _with_gradient(forward, backward)


@jax_funcify.register(SweepFactorPullback)
def jax_funcify_sweep_factor_pullback(op: SweepFactorPullback, **kwargs: Any) -> Any:
    def sweep_factor_pullback(*inputs: Any) -> tuple:
        args, bars = Sweepable(*inputs[:N_SWEEPABLE]), Swept(*inputs[N_SWEEPABLE + N_INDICES :])
        levels = solve_levels(JAX, op.layout, args)
        return sweep_pullback(
            JAX, op.layout, op.pattern, args, levels, bars, constant_design=op.constant_design
        )

    return sweep_factor_pullback


@jax_funcify.register(SweepOrthonormal)
def jax_funcify_sweep_orthonormal(op: SweepOrthonormal, **kwargs: Any) -> Any:
    def forward(*inputs: Any) -> tuple[tuple, tuple]:
        args = Orthonormal(*inputs[:N_ORTHONORMAL])
        levels = solve_orthonormal(JAX, op.layout, args)
        return tuple(sweep_orthonormal(JAX, args, levels)), (inputs, levels)

    def backward(residuals: tuple, cotangents: tuple) -> tuple:
        inputs, levels = residuals
        args = Orthonormal(*inputs[:N_ORTHONORMAL])
        bars = sweep_orthonormal_pullback(JAX, op.layout, args, levels, Remaining(*cotangents))
        result: list[Any] = [None] * len(inputs)
        for i, bar in zip(DIFFERENTIABLE, bars, strict=True):
            result[i] = bar
        for i, j in PASSED_ON_ORTHONORMAL.items():
            result[i] = cotangents[j]
        return tuple(result)

    return _with_gradient(forward, backward)


@jax_funcify.register(SweepOrthonormalPullback)
def jax_funcify_sweep_orthonormal_pullback(op: SweepOrthonormalPullback, **kwargs: Any) -> Any:
    def pullback(*inputs: Any) -> tuple:
        args, bars = Orthonormal(*inputs[:N_ORTHONORMAL]), Remaining(*inputs[N_ORTHONORMAL + 1 :])
        levels = solve_orthonormal(JAX, op.layout, args)
        return sweep_orthonormal_pullback(JAX, op.layout, args, levels, bars)

    return pullback


@jax_funcify.register(LogEvidence)
def jax_funcify_log_evidence(op: LogEvidence, **kwargs: Any) -> Any:
    def forward(*inputs: Any) -> tuple[tuple, tuple]:
        outputs = evidence(JAX, op.layout, Evidence(*inputs[:N_EVIDENCE]))
        return outputs, (inputs, *outputs[1:])

    def backward(residuals: tuple, cotangents: tuple) -> tuple:
        inputs, u, e, U = residuals
        args, bar, constant = Evidence(*inputs[:N_EVIDENCE]), cotangents[0], op.constant_design
        bars = evidence_pullback(JAX, op.layout, args, u, e, U, bar, constant_design=constant)
        return (*bars, *(None for _ in inputs[len(bars) :]))

    return _with_gradient(forward, backward)


@jax_funcify.register(LogEvidencePullback)
def jax_funcify_log_evidence_pullback(op: LogEvidencePullback, **kwargs: Any) -> Any:
    def log_evidence_pullback(*inputs: Any) -> tuple:
        args, outputs_and_bar = Evidence(*inputs[:N_EVIDENCE]), inputs[N_EVIDENCE + 1 :]
        return evidence_pullback(
            JAX, op.layout, args, *outputs_and_bar, constant_design=op.constant_design
        )

    return log_evidence_pullback
