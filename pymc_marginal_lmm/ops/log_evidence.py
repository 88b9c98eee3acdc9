"""The Op of the marginal log density: crossproducts and scales in, one number out.

One large node instead of a hundred small ones: what a user of a small model waits for is
compilation, and one kernel is compiled once for all models. Its mathematics is in
:mod:`pymc_marginal_lmm.ops.evidence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.mode import optdb
from pytensor.gradient import DisconnectedType, disconnected_type
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.rewriting.basic import dfs_rewriter, node_rewriter
from pytensor.scalar import upcast

from pymc_marginal_lmm.ops.evidence import Evidence, evidence, evidence_pullback
from pymc_marginal_lmm.ops.layout import FactorLayout, spans
from pymc_marginal_lmm.ops.library import NUMPY
from pymc_marginal_lmm.ops.node import NO_SECOND_DERIVATIVE, store

__all__ = ["LogEvidence", "LogEvidencePullback"]

N_ARGUMENTS = len(Evidence._fields)
N_DIFFERENTIABLE = 4  # w, scale, s, c
FACTOR = N_ARGUMENTS + 3  # U, behind spans, û and e, among the inputs of the pullback


class LogEvidence(Op):
    r"""Log evidence ``ℓ = −½ (Q + log|F|)`` of a Gaussian linear model.

    Inputs are the fields of :class:`~pymc_marginal_lmm.ops.evidence.Evidence` and the array of
    :func:`~pymc_marginal_lmm.ops.layout.spans`; outputs ``ℓ``, ``û (q)``, ``e (q)`` and
    ``U (q, q)``. Only ``ℓ`` is differentiable, exactly; the gradient reuses the factorisation.
    Where ``F`` is not positive definite in floating point, the outputs are NaN. Work is
    ``O(q³)``, memory ``O(q²)``.

    Parameters
    ----------
    layout : tuple of FactorLayout
        Blocks of ``Λ``, factor by factor.
    constant_design : bool
        ``A`` holds no parameters: its gradient is not computed.
    """

    __props__ = ("layout", "constant_design")

    def __init__(self, layout: tuple[FactorLayout, ...], constant_design: bool) -> None:
        self.layout = layout
        self.constant_design = constant_design

    def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
        if len(inputs) == N_ARGUMENTS:
            inputs = (*inputs, pt.constant(spans(self.layout)))
        return super().__call__(*inputs, **kwargs)

    def make_node(self, *inputs: Variable) -> Apply:
        variables = [pt.as_tensor_variable(x) for x in inputs]
        arguments, constants = variables[:N_ARGUMENTS], variables[N_ARGUMENTS:]
        dtype = upcast(*(x.type.dtype for x in arguments))
        args = Evidence(*(pt.cast(x, dtype) for x in arguments))
        outputs = [pt.scalar(dtype=dtype), args.c.type(), args.c.type(), args.A.type()]
        return Apply(self, [*args, *constants], outputs)

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        args = Evidence(*inputs[:N_ARGUMENTS])
        try:
            with np.errstate(all="ignore"):
                results: tuple = evidence(NUMPY, self.layout, args)
        except np.linalg.LinAlgError:
            like = (np.zeros(()), args.c, args.c, args.A)
            results = tuple(np.full_like(x, np.nan) for x in like)
        store(node, results, output_storage)

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        used = N_DIFFERENTIABLE + (not self.constant_design)
        return [[i < used, False, False, False] for i in range(len(node.inputs))]

    def pullback(
        self, inputs: Sequence[Variable], outputs: Sequence[Variable], cotangents: Sequence
    ) -> list[Variable]:
        bar = cotangents[0]
        if isinstance(bar.type, DisconnectedType):
            return [disconnected_type() for _ in inputs]
        op = LogEvidencePullback(self.layout, self.constant_design)
        bars = op(*inputs, *outputs[1:], bar, return_list=True)
        return [*bars, *(disconnected_type() for _ in inputs[len(bars) :])]

    def infer_shape(self, node: Apply, shapes: list) -> list:
        args = Evidence(*shapes[:N_ARGUMENTS])
        return [(), args.c, args.c, args.A]


class LogEvidencePullback(Op):
    """Gradient of :class:`LogEvidence`: its inputs and outputs and the cotangent of ``ℓ``.

    Parameters
    ----------
    layout, constant_design
        Of :class:`LogEvidence`.
    overwrite : bool
        Compiled code may overwrite ``U``. Left to PyTensor's in-place rewrites, which know
        whether anybody else needs it.
    """

    __props__ = ("layout", "constant_design", "overwrite")

    def __init__(
        self, layout: tuple[FactorLayout, ...], constant_design: bool, overwrite: bool = False
    ) -> None:
        self.layout = layout
        self.constant_design = constant_design
        self.overwrite = overwrite
        if overwrite:
            self.destroy_map = {0 if constant_design else N_DIFFERENTIABLE: [FACTOR]}

    def make_node(self, *inputs: Variable) -> Apply:
        variables = [pt.as_tensor_variable(x) for x in inputs]
        variables[-1] = pt.cast(variables[-1], variables[0].type.dtype)
        n_outputs = N_DIFFERENTIABLE + (not self.constant_design)
        return Apply(self, variables, [x.type() for x in variables[:n_outputs]])

    def perform(self, node: Apply, inputs: Sequence, output_storage: list) -> None:
        args = Evidence(*inputs[:N_ARGUMENTS])
        outputs_and_bar = inputs[N_ARGUMENTS + 1 :]
        with np.errstate(all="ignore"):
            results = evidence_pullback(
                NUMPY, self.layout, args, *outputs_and_bar, constant_design=self.constant_design
            )
        store(node, results, output_storage)

    def pullback(self, *args: object) -> list[Variable]:
        raise NotImplementedError(NO_SECOND_DERIVATIVE)

    def infer_shape(self, node: Apply, shapes: list) -> list:
        return shapes[: len(node.outputs)]


@node_rewriter([LogEvidencePullback])
def local_overwrite_factor(fgraph: Any, node: Apply) -> list[Variable] | None:
    """Let the inverse take the place of the factor, the largest array that a gradient makes."""
    op = node.op
    if op.overwrite:
        return None
    return LogEvidencePullback(op.layout, op.constant_design, overwrite=True)(
        *node.inputs, return_list=True
    )


# After PyTensor has said who may overwrite what (49.5), and before fusion has to be done.
optdb.register(
    "marginal_lmm_inplace",
    dfs_rewriter(local_overwrite_factor),
    "fast_run",
    "inplace",
    position=70.5,
)
