"""Sums of rows by level: the one Op whose work grows with the number of rows.

As an Op of its own, many sums at once (``recover``) are one call, where PyTensor's scatter is one
for each draw; and the gradient is a gather, which JAX would take for one more scatter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType, disconnected_type
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.replace import _vectorize_node

__all__ = ["LevelSums", "level_sums"]


class LevelSums(Op):
    """Sum rows ``(…, n, k)`` by level, ``(…, M, k)``, given the level of each row, ``(n,)``.

    Parameters
    ----------
    n_levels : int
        ``M``.
    """

    __props__ = ("n_levels",)

    def __init__(self, n_levels: int) -> None:
        self.n_levels = n_levels

    def make_node(self, rows: Variable, codes: Variable) -> Apply:
        rows, codes = pt.as_tensor_variable(rows), pt.as_tensor_variable(codes)
        shape = (*rows.type.shape[:-2], self.n_levels, rows.type.shape[-1])
        return Apply(self, [rows, codes], [pt.tensor(dtype=rows.type.dtype, shape=shape)])

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        rows, codes = inputs
        sums = np.zeros((*rows.shape[:-2], self.n_levels, rows.shape[-1]), dtype=rows.dtype)
        if codes.size:
            order = np.argsort(codes, kind="stable")
            present, starts = np.unique(codes[order], return_index=True)
            sums[..., present, :] = np.add.reduceat(rows[..., order, :], starts, axis=-2)
        output_storage[0][0] = sums

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[True], [False]]

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence
    ) -> list[Variable]:
        (bar,) = cotangents
        if isinstance(bar.type, DisconnectedType):
            return [disconnected_type(), disconnected_type()]
        return [pt.take(bar, inputs[1], axis=-2), disconnected_type()]

    def infer_shape(self, node: Apply, shapes: list) -> list:
        *batch, _, k = shapes[0]
        return [(*batch, self.n_levels, k)]


@_vectorize_node.register(LevelSums)
def _vectorize_level_sums(op: LevelSums, node: Apply, rows: Variable, codes: Variable) -> Apply:
    return op.make_node(rows, codes)


def level_sums(rows: Variable, codes: np.ndarray, n_levels: int) -> Variable:
    """Sum rows ``(n, …)`` by level, ``(M, …)``."""
    inner = rows.type.shape[1:]
    flat = rows if len(inner) == 1 else rows.reshape((len(codes), int(np.prod(inner))))
    sums = LevelSums(n_levels)(flat, pt.constant(np.asarray(codes, dtype="int32")))
    return sums if len(inner) == 1 else sums.reshape((n_levels, *inner))
