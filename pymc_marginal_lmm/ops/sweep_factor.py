"""The Op that sweeps a factor out: :mod:`pymc_marginal_lmm.ops.sweep` as one node."""

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
from pymc_marginal_lmm.ops.node import (
    NO_SECOND_DERIVATIVE,
    connected,
    entries,
    pattern_of,
    perform_many,
    store,
)
from pymc_marginal_lmm.ops.sweep import Sweepable, Swept, solve_levels, sweep, sweep_pullback
from pymc_marginal_lmm.pattern import Pattern

__all__ = ["SweepFactor", "SweepFactorPullback"]

N_ARGUMENTS = len(Sweepable._fields)
N_INDICES = 3
N_OUTPUTS = len(Swept._fields)


def differentiable(constant_design: bool) -> list[int]:
    """Return which arguments' gradients are computed: ``w, scale, c``, and the design's."""
    return [0, 1, 5] if constant_design else [0, 1, 5, 2, 3, 4]


PASSED_ON = {
    Sweepable._fields.index(name): Swept._fields.index(name) for name in ("dense", "dense_c")
}
"""Arguments whose cotangents are those of outputs."""


class SweepFactor(Op):
    r"""Integrate a factor whose levels do not touch out of the crossproducts of the others.

    Inputs are the fields of :class:`~pymc_marginal_lmm.ops.sweep.Sweepable`, where packed rows of
    ``Λ1`` lie and the two arrays of :func:`~pymc_marginal_lmm.ops.block_solve.entries`; outputs
    those of :class:`~pymc_marginal_lmm.ops.sweep.Swept`. The gradient is exact. Where ``F11`` is
    not positive definite in floating point, the outputs are NaN.

    With all far columns, work is ``O(M S (S² + Sq + q² + k(k + q)))``; with ``n_i`` of them in
    level ``i``, ``O(M S³ + S Σ n_i²)``. The number of rows does not occur.

    Parameters
    ----------
    layout : FactorLayout
        Blocks of ``Λ1``.
    pattern : Pattern or None
        Which far columns each level meets; None: all of them. No near columns with a pattern.
    constant_design : bool
        ``A11`` and ``R`` hold no parameters: their gradient is not computed.
    """

    __props__ = ("layout", "pattern", "constant_design")
    gufunc_spec = (f"{__name__}.sweep_many", N_ARGUMENTS + N_INDICES, N_OUTPUTS)

    def __init__(
        self, layout: FactorLayout, pattern: Pattern | None, constant_design: bool
    ) -> None:
        self.layout = layout
        self.pattern = pattern
        self.constant_design = constant_design

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        if len(inputs) == N_ARGUMENTS:
            indices = (self.layout.span, *entries(self.pattern))
            inputs = (*inputs, *map(pt.constant, indices))
        return super().__call__(*inputs, **kwargs)

    def make_node(self, *inputs: Variable) -> Apply:
        variables = [pt.as_tensor_variable(x) for x in inputs]
        arguments, indices = variables[:N_ARGUMENTS], variables[N_ARGUMENTS:]
        dtype = upcast(*(x.type.dtype for x in arguments))
        args = Sweepable(*(pt.cast(x, dtype) for x in arguments))
        M, _, k = args.near.type.shape
        q = args.far.type.shape[2] if self.pattern is None else self.pattern.n_columns
        shapes = Swept((), (), (M, k, k + q), (q, q), (M, k), (q,))
        outputs = [pt.tensor(dtype=dtype, shape=shape) for shape in shapes]
        return Apply(self, [*args, *indices], outputs)

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        results = _swept(self.layout, self.pattern, inputs[:N_ARGUMENTS])
        store(node, results, output_storage)

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        used = differentiable(self.constant_design)
        return [
            [i in used or PASSED_ON.get(i) == j for j in range(N_OUTPUTS)]
            for i in range(len(node.inputs))
        ]

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence
    ) -> list[Variable]:
        bars = connected(outputs, cotangents)
        op = SweepFactorPullback(self.layout, self.pattern, self.constant_design)
        results: list[Variable] = [disconnected_type() for _ in inputs]
        for i, bar in zip(
            differentiable(self.constant_design), op(*inputs, *bars, return_list=True), strict=True
        ):
            results[i] = bar
        for i, j in PASSED_ON.items():
            results[i] = cotangents[j]
        return results

    def infer_shape(self, node: Apply, shapes: list) -> list:
        return [tuple(map(pt.constant, out.type.shape)) for out in node.outputs]


def _swept(
    layout: FactorLayout, pattern: Pattern | None, arguments: Sequence[np.ndarray]
) -> tuple[np.ndarray, ...]:
    def function(*arguments: np.ndarray) -> Swept:
        args = Sweepable(*arguments)
        return sweep(NUMPY, pattern, args, solve_levels(NUMPY, layout, args))

    def failed(*arguments: np.ndarray) -> Swept:
        args = Sweepable(*arguments)
        (M, _, k), q = args.near.shape, args.dense_c.size
        shapes = Swept((), (), (M, k, k + q), (q, q), (M, k), (q,))
        return Swept(*(np.full(shape, np.nan, dtype=args.A.dtype) for shape in shapes))

    ndims = Sweepable(0, 3, 3, 3, 3 if pattern is None else 2, 2, 2, 1, 2, 1)
    # With a sparse coupling, arithmetic outweighs the overhead.
    return perform_many(
        function,
        failed,
        arguments,
        (ndims, Swept(0, 0, 3, 2, 2, 1)),
        at_once=pattern is None or arguments[0].ndim == 0,
    )


def sweep_many(*inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sweep where :class:`SweepFactor` has axes in front; indices are the same for all."""
    arguments, indices = inputs[:N_ARGUMENTS], inputs[N_ARGUMENTS:]
    span, starts, columns = (
        x[(0,) * (x.ndim - ndim)] for x, ndim in zip(indices, (2, 1, 1), strict=True)
    )
    args = Sweepable(*arguments)
    layout = FactorLayout.of(args.A.shape[-3], span)
    return _swept(layout, pattern_of(starts, columns, args.dense_c.shape[-1]), arguments)


class SweepFactorPullback(Op):
    """Gradient of :class:`SweepFactor`: its inputs, and the cotangents of its outputs."""

    __props__ = ("layout", "pattern", "constant_design")

    def __init__(
        self, layout: FactorLayout, pattern: Pattern | None, constant_design: bool
    ) -> None:
        self.layout = layout
        self.pattern = pattern
        self.constant_design = constant_design

    def make_node(self, *inputs: Variable) -> Apply:
        variables = [pt.as_tensor_variable(x) for x in inputs]
        dtype = variables[0].type.dtype
        bars = slice(N_ARGUMENTS + N_INDICES, None)
        variables[bars] = [pt.cast(x, dtype) for x in variables[bars]]
        wrt = differentiable(self.constant_design)
        return Apply(self, variables, [variables[i].type() for i in wrt])

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        args, bars = Sweepable(*inputs[:N_ARGUMENTS]), Swept(*inputs[N_ARGUMENTS + N_INDICES :])
        constant = self.constant_design
        try:
            with np.errstate(all="ignore"):
                levels = solve_levels(NUMPY, self.layout, args)
                results = sweep_pullback(
                    NUMPY, self.layout, self.pattern, args, levels, bars, constant_design=constant
                )
        except np.linalg.LinAlgError:
            wrt = (inputs[i] for i in differentiable(constant))
            results = tuple(np.full_like(x, np.nan) for x in wrt)
        store(node, results, output_storage)

    def pullback(self, *args: object) -> list[Variable]:
        raise NotImplementedError(NO_SECOND_DERIVATIVE)

    def infer_shape(self, node: Apply, shapes: list) -> list:
        return [shapes[i] for i in differentiable(self.constant_design)]
