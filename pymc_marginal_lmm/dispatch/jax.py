"""JAX: the mathematics of :mod:`pymc_marginal_lmm.ops` over ``jax.numpy``.

NumPyro and blackjax differentiate the jaxified log density themselves and never see an Op's
``pullback``, so the same rules are given to JAX as ``custom_vjp``: they reuse the factorisation
of the forward pass where differentiating through it would repeat it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.linalg
from pytensor.link.jax.dispatch import jax_funcify

from pymc_marginal_lmm.ops import (
    BlockSolve,
    BlockSolvePullback,
    LogEvidence,
    LogEvidencePullback,
    elimination,
)
from pymc_marginal_lmm.ops.elimination import ArrayLibrary, Workspace
from pymc_marginal_lmm.ops.evidence import Evidence, evidence, evidence_pullback

__all__: list[str] = []

JAX = ArrayLibrary(jnp, jax.scipy.linalg.solve_triangular)


def _forward(F11: Any, F12: Any, F22: Any, h1: Any, h2: Any) -> tuple:
    log_det, work = elimination.factorize(JAX, F11, F12, F22)
    u1, u2 = elimination.solve(JAX, work, h1, h2)
    return log_det, u1, u2, *work


@jax.custom_vjp
def _block_solve(F11: Any, F12: Any, F22: Any, h1: Any, h2: Any) -> tuple:
    return _forward(F11, F12, F22, h1, h2)


def _block_solve_fwd(F11: Any, F12: Any, F22: Any, h1: Any, h2: Any) -> tuple:
    outputs = _forward(F11, F12, F22, h1, h2)
    return outputs, outputs[1:]


def _block_solve_bwd(residuals: tuple, cotangents: tuple) -> tuple:
    u1, u2, *work = residuals
    log_det_bar, u1_bar, u2_bar, *_ = cotangents  # the workspace is not differentiable
    return elimination.pullback(JAX, Workspace(*work), u1, u2, log_det_bar, u1_bar, u2_bar)


_block_solve.defvjp(_block_solve_fwd, _block_solve_bwd)


@jax_funcify.register(BlockSolve)
def jax_funcify_block_solve(op: BlockSolve, **kwargs: Any) -> Any:
    return _block_solve


@jax_funcify.register(BlockSolvePullback)
def jax_funcify_block_solve_pullback(op: BlockSolvePullback, **kwargs: Any) -> Any:
    def block_solve_pullback(J: Any, T: Any, L22: Any, *rest: Any) -> tuple:
        return elimination.pullback(JAX, Workspace(J, T, L22), *rest)

    return block_solve_pullback


N_ARGUMENTS = len(Evidence._fields)


@jax_funcify.register(LogEvidence)
def jax_funcify_log_evidence(op: LogEvidence, **kwargs: Any) -> Any:
    def forward(*inputs: Any) -> tuple:
        value, u1, u2, work = evidence(JAX, op.layout, Evidence(*inputs[:N_ARGUMENTS]))
        return value, u1, u2, *work

    def forward_with_residuals(*inputs: Any) -> tuple:
        outputs = forward(*inputs)
        return outputs, (inputs, outputs[1:])

    def backward(residuals: tuple, cotangents: tuple) -> tuple:
        inputs, (u1, u2, *work) = residuals
        args = Evidence(*inputs[:N_ARGUMENTS])
        bars = evidence_pullback(
            JAX, op.layout, args, u1, u2, Workspace(*work), cotangents[0], op.constant_design
        )
        return (*bars, *(None for _ in inputs[len(bars) :]))

    log_evidence = jax.custom_vjp(forward)
    log_evidence.defvjp(forward_with_residuals, backward)
    return log_evidence


@jax_funcify.register(LogEvidencePullback)
def jax_funcify_log_evidence_pullback(op: LogEvidencePullback, **kwargs: Any) -> Any:
    def log_evidence_pullback(*inputs: Any) -> tuple:
        args = Evidence(*inputs[:N_ARGUMENTS])
        u1, u2, *work, bar = inputs[N_ARGUMENTS + 2 :]
        return evidence_pullback(
            JAX, op.layout, args, u1, u2, Workspace(*work), bar, op.constant_design
        )

    return log_evidence_pullback
