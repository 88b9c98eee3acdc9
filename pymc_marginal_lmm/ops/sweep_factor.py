"""The Op that sweeps a nested factor out: :mod:`pymc_marginal_lmm.ops.sweep` as one node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType, disconnected_type
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.scalar import upcast

from pymc_marginal_lmm.ops.block_solve import NO_SECOND_DERIVATIVE, NUMPY
from pymc_marginal_lmm.ops.evidence import FactorLayout
from pymc_marginal_lmm.ops.sweep import Sweepable, Swept, sweep, sweep_pullback

__all__ = ["SweepFactor", "SweepFactorPullback", "span"]

N_ARGUMENTS = len(Sweepable._fields)
N_OUTPUTS = len(Swept._fields)


def span(layout: FactorLayout) -> np.ndarray:
    """Return where packed rows of a block of ``Λ`` lie, ``(start, width)``: ``(S, 2)``."""
    return np.array([layout.starts, layout.widths], dtype="int32").T


def differentiable(constant_design: bool) -> list[int]:
    """Return the positions of arguments that have a gradient: ``w, scale, c``, and ``A, R``."""
    return [0, 1, 4] if constant_design else [0, 1, 4, 2, 3]


class SweepFactor(Op):
    r"""Integrate a factor whose levels do not touch out of the crossproducts of the others.

    Inputs are the fields of :class:`~pymc_marginal_lmm.ops.sweep.Sweepable` and the array of
    :func:`span`, outputs those of :class:`~pymc_marginal_lmm.ops.sweep.Swept`. The gradient is
    exact. Where ``F11`` is not positive definite in floating point, the outputs are NaN. Work and
    memory are ``O(M S (S² + S(k + q) + k(k + q) + q²))`` and ``O(M (S + k)(S + k + q))``.

    Parameters
    ----------
    layout : FactorLayout
        Blocks of ``Λ1``.
    k : int
        How many columns of ``R`` belong to the levels that a level is nested in.
    constant_design : bool
        ``A11`` and ``R`` hold no parameters: their gradient is not computed.
    """

    __props__ = ("layout", "k", "constant_design")

    def __init__(self, layout: FactorLayout, k: int, constant_design: bool) -> None:
        self.layout = layout
        self.k = k
        self.constant_design = constant_design

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        if len(inputs) == N_ARGUMENTS:
            inputs = (*inputs, pt.constant(span(self.layout)))
        return super().__call__(*inputs, **kwargs)

    def make_node(self, *inputs: Variable) -> Apply:
        variables = [pt.as_tensor_variable(x) for x in inputs]
        arguments, constant = variables[:N_ARGUMENTS], variables[N_ARGUMENTS:]
        dtype = upcast(*(x.type.dtype for x in arguments))
        args = Sweepable(*(pt.cast(x, dtype) for x in arguments))
        M, _, columns = args.R.type.shape
        k, q = self.k, columns - self.k
        shapes = Swept((), (), (M, k, columns), (q, q), (M, k), (q,))
        outputs = [pt.tensor(dtype=dtype, shape=shape) for shape in shapes]
        return Apply(self, [*args, *constant], outputs)

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        with np.errstate(all="ignore"):
            results = sweep(NUMPY, self.layout, self.k, Sweepable(*inputs[:N_ARGUMENTS]))
        _store(node, results, output_storage)

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        used = differentiable(self.constant_design)
        return [[i in used] * N_OUTPUTS for i in range(len(node.inputs))]

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence
    ) -> list[Variable]:
        bars = [
            out.zeros_like() if isinstance(bar.type, DisconnectedType) else bar
            for out, bar in zip(outputs, cotangents, strict=True)
        ]
        op = SweepFactorPullback(self.layout, self.k, self.constant_design)
        results: list[Variable] = [disconnected_type() for _ in inputs]
        for i, bar in zip(
            differentiable(self.constant_design), op(*inputs, *bars, return_list=True), strict=True
        ):
            results[i] = bar
        return results

    def infer_shape(self, node: Apply, shapes: list) -> list:
        return [tuple(map(pt.constant, out.type.shape)) for out in node.outputs]


class SweepFactorPullback(Op):
    """Gradient of :class:`SweepFactor`: its inputs, and the cotangents of its outputs."""

    __props__ = ("layout", "k", "constant_design")

    def __init__(self, layout: FactorLayout, k: int, constant_design: bool) -> None:
        self.layout = layout
        self.k = k
        self.constant_design = constant_design

    def make_node(self, *inputs: Variable) -> Apply:
        variables = [pt.as_tensor_variable(x) for x in inputs]
        dtype = variables[0].type.dtype
        variables[N_ARGUMENTS + 1 :] = [pt.cast(x, dtype) for x in variables[N_ARGUMENTS + 1 :]]
        wrt = differentiable(self.constant_design)
        return Apply(self, variables, [variables[i].type() for i in wrt])

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        args, bars = Sweepable(*inputs[:N_ARGUMENTS]), Swept(*inputs[N_ARGUMENTS + 1 :])
        with np.errstate(all="ignore"):
            results = sweep_pullback(
                NUMPY, self.layout, self.k, args, bars, constant_design=self.constant_design
            )
        _store(node, results, output_storage)

    def pullback(self, *args: object) -> list[Variable]:
        raise NotImplementedError(NO_SECOND_DERIVATIVE)

    def infer_shape(self, node: Apply, shapes: list) -> list:
        return [shapes[i] for i in differentiable(self.constant_design)]


def _store(node: Apply, results: Sequence, output_storage: list) -> None:
    for storage, result, out in zip(output_storage, results, node.outputs, strict=True):
        storage[0] = np.asarray(result, dtype=out.type.dtype)
