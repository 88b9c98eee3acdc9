"""The Op of :mod:`pymc_marginal_lmm.ops.orthonormal`, as one node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.scalar import upcast

from pymc_marginal_lmm.ops.layout import FactorLayout
from pymc_marginal_lmm.ops.library import NUMPY
from pymc_marginal_lmm.ops.node import NO_SECOND_DERIVATIVE, connected, perform_many, store
from pymc_marginal_lmm.ops.orthonormal import (
    Orthonormal,
    Remaining,
    solve_orthonormal,
    sweep_orthonormal,
    sweep_orthonormal_pullback,
)

__all__ = ["SweepOrthonormal", "SweepOrthonormalPullback"]

N_ARGUMENTS = len(Orthonormal._fields)
DIFFERENTIABLE = tuple(map(Orthonormal._fields.index, ("w", "scale", "g")))
PASSED_ON = {
    Orthonormal._fields.index(name): Remaining._fields.index(name) for name in ("dense", "dense_c")
}
"""Arguments whose cotangents are those of outputs."""


class SweepOrthonormal(Op):
    """Integrate out a factor whose levels' rows were made orthonormal, with standard priors.

    Inputs are the fields of :class:`~pymc_marginal_lmm.ops.orthonormal.Orthonormal` and where
    packed rows of ``Λ1`` lie; outputs those of
    :class:`~pymc_marginal_lmm.ops.orthonormal.Remaining`. ``L`` and ``D`` are numbers, which no
    gradient is taken of.

    Parameters
    ----------
    layout : FactorLayout
        Blocks of ``Λ1``.
    """

    __props__ = ("layout",)
    gufunc_spec = (f"{__name__}.sweep_many", N_ARGUMENTS + 1, len(Remaining._fields))

    def __init__(self, layout: FactorLayout) -> None:
        self.layout = layout

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        if len(inputs) == N_ARGUMENTS:
            inputs = (*inputs, pt.constant(self.layout.span))
        return super().__call__(*inputs, **kwargs)

    def make_node(self, *inputs: Variable) -> Apply:
        *arguments, span = (pt.as_tensor_variable(x) for x in inputs)
        dtype = upcast(*(x.type.dtype for x in arguments))
        args = Orthonormal(*(pt.cast(x, dtype) for x in arguments))
        outputs = [args.w.type(), args.w.type(), args.dense.type(), args.dense_c.type()]
        return Apply(self, [*args, span], outputs)

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        store(node, _swept(self.layout, inputs[:N_ARGUMENTS]), output_storage)

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [
            [i in DIFFERENTIABLE or PASSED_ON.get(i) == j for j in range(len(node.outputs))]
            for i in range(len(node.inputs))
        ]

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence
    ) -> list[Variable]:
        bars = connected(outputs, cotangents)
        results: list[Variable] = [disconnected_type() for _ in inputs]
        own = SweepOrthonormalPullback(self.layout)(*inputs, *bars, return_list=True)
        for i, bar in zip(DIFFERENTIABLE, own, strict=True):
            results[i] = bar
        for i, j in PASSED_ON.items():
            results[i] = cotangents[j]
        return results

    def infer_shape(self, node: Apply, shapes: list) -> list:
        return [(), (), shapes[6], shapes[7]]


def _swept(layout: FactorLayout, arguments: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    def function(*arguments: np.ndarray) -> Remaining:
        args = Orthonormal(*arguments)
        return sweep_orthonormal(NUMPY, args, solve_orthonormal(NUMPY, layout, args))

    def failed(*arguments: np.ndarray) -> Remaining:
        args = Orthonormal(*arguments)
        like = (np.zeros((), args.g.dtype), np.zeros((), args.g.dtype), args.dense, args.dense_c)
        return Remaining(*(np.full_like(x, np.nan) for x in like))

    ndims = Orthonormal(0, 3, 3, 3, 2, 2, 2, 1), Remaining(0, 0, 2, 1)
    return perform_many(function, failed, arguments, ndims)


def sweep_many(*inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sweep where :class:`SweepOrthonormal` has axes in front; ``span`` is the same for all."""
    *arguments, span = inputs
    n_levels = arguments[2].shape[-3]
    return _swept(FactorLayout.of(n_levels, span[(0,) * (span.ndim - 2)]), arguments)


class SweepOrthonormalPullback(Op):
    """Gradient of :class:`SweepOrthonormal`: its inputs, and the cotangents of its outputs."""

    __props__ = ("layout",)

    def __init__(self, layout: FactorLayout) -> None:
        self.layout = layout

    def make_node(self, *inputs: Variable) -> Apply:
        variables = [pt.as_tensor_variable(x) for x in inputs]
        dtype = variables[0].type.dtype
        bars = [pt.cast(x, dtype) for x in variables[N_ARGUMENTS + 1 :]]
        variables = [*variables[: N_ARGUMENTS + 1], *bars]
        return Apply(self, variables, [variables[i].type() for i in DIFFERENTIABLE])

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        args, bars = Orthonormal(*inputs[:N_ARGUMENTS]), Remaining(*inputs[N_ARGUMENTS + 1 :])
        try:
            with np.errstate(all="ignore"):
                levels = solve_orthonormal(NUMPY, self.layout, args)
                results = sweep_orthonormal_pullback(NUMPY, self.layout, args, levels, bars)
        except np.linalg.LinAlgError:
            w, scale, g = (np.full_like(inputs[i], np.nan) for i in DIFFERENTIABLE)
            results = w, scale, g
        store(node, results, output_storage)

    def pullback(self, *args: object) -> list[Variable]:
        raise NotImplementedError(NO_SECOND_DERIVATIVE)

    def infer_shape(self, node: Apply, shapes: list) -> list:
        return [shapes[i] for i in DIFFERENTIABLE]
