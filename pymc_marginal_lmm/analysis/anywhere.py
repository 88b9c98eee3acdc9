"""Graphs at random values of what is sampled: what is zero or dependent there is so anywhere.

Functions that are not analytic (a comparison, the larger of two) may be zero at any point and not
be zero at others: they stand for any numbers, the same ones wherever the same is written.
Conditions stand for any weights of their two cases, so that columns which depend on each other in
either case still do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.traversal import ancestors, io_toposort

from pymc_marginal_lmm.analysis.terms import DISCRETE
from pymc_marginal_lmm.values import Values

__all__ = ["Anywhere"]

ANALYTIC = (
    ps.Add, ps.Sub, ps.Mul, ps.TrueDiv, ps.Neg, ps.Sqr, ps.Sqrt, ps.Pow, ps.Exp, ps.Expm1, ps.Log,
    ps.Log1p, ps.Sigmoid, ps.Softplus, ps.Tanh, ps.Sin, ps.Cos, ps.Erf, ps.Reciprocal, ps.Cast,
    ps.Identity, ps.Second, ps.Switch,
)  # fmt: skip
"""Functions that are zero almost nowhere if they are not zero everywhere, of what is so itself."""


class Anywhere:
    """Graphs with numbers in the place of what is sampled, and of what is not analytic in that.

    Parameters
    ----------
    sampled : sequence of Variable
    rng : Generator
    """

    def __init__(self, sampled: Sequence[Variable], rng: np.random.Generator) -> None:
        self._sampled, self._rng = list(sampled), rng
        self._moving: set[Variable] = set()
        self._new: dict[Variable, Variable] = {}
        self._same: dict[tuple, list[Variable]] = {}

    def numbers(self, variable: Variable) -> np.ndarray:
        """Return random numbers of a variable's shape."""
        return self._rng.uniform(0.2, 0.8, size=Values().shape(variable))

    def of(self, vector: Variable) -> Variable:
        """Return the graph of a vector with such numbers; what was met before has the same."""
        reached = set(ancestors([vector], blockers=self._sampled))
        for parent in (v for v in self._sampled if v in reached and v not in self._new):
            self._moving.add(parent)
            self._new[parent] = pt.constant(self.numbers(parent))
        for node in io_toposort(self._sampled, [vector]):
            if not all(out in self._new for out in node.outputs):
                self._new.update(zip(node.outputs, self._merged(node), strict=True))
        return self._new.get(vector, vector)

    def _merged(self, node: Apply) -> list[Variable]:
        """Return the outputs of a node, those of an equal one where there is one."""
        inputs = [self._new.get(v, v) for v in node.inputs]
        key = (node.op, *map(_identity, inputs))
        if not self._moving.isdisjoint(node.inputs):
            self._moving.update(node.outputs)
        if key not in self._same:
            self._same[key] = self._outputs(node, inputs)
        return self._same[key]

    def _outputs(self, node: Apply, inputs: list[Variable]) -> list[Variable]:
        if inputs == node.inputs:
            return node.outputs
        scalar_op = getattr(node.op, "scalar_op", None)
        if scalar_op is not None and not self._moving.isdisjoint(node.inputs):
            if (weights := self._weights(scalar_op, node, inputs)) is not None:
                return [weights]
            rounded = isinstance(scalar_op, ps.Cast) and _is_discrete(node.outputs[0])
            if rounded or not isinstance(scalar_op, ANALYTIC):
                return [pt.constant(self.numbers(v)) for v in node.outputs]
        try:
            return node.clone_with_new_inputs(inputs, strict=False).outputs
        except (TypeError, IndexError, ValueError):  # an index, say, that is a number now
            return [pt.constant(self.numbers(v)) for v in node.outputs]

    def _weights(self, op: ps.ScalarOp, node: Apply, inputs: list[Variable]) -> Variable | None:
        """Return what is made of conditions, which are weights: those of opposites add up to 1."""
        match op, inputs:
            case ps.Switch(), [weights, one, other] if node.inputs[0] in self._moving:
                return weights * one + (1 - weights) * other
            case ps.Cast(), [weights] if _is_discrete(node.inputs[0]):
                return weights
            case ps.Invert(), [weights]:
                return 1 - weights
            case ps.AND(), [one, other]:
                return one * other
            case ps.OR(), [one, other]:
                return one + other - one * other
            case ps.LT(), [one, other]:
                return self._any(ps.LT, node, one, other)
            case ps.GT(), [one, other]:
                return self._any(ps.LT, node, other, one)
            case ps.GE(), [one, other]:
                return 1 - self._any(ps.LT, node, one, other)
            case ps.LE(), [one, other]:
                return 1 - self._any(ps.LT, node, other, one)
            case ps.EQ(), [one, other]:
                return self._equal(node, one, other)
            case ps.NEQ(), [one, other]:
                return 1 - self._equal(node, one, other)
        return None

    def _equal(self, node: Apply, one: Variable, other: Variable) -> Variable:
        number = Values().constant(other) if node.inputs[0].type.dtype == "bool" else None
        if number is not None and not number.any():
            return 1 - one
        if number is not None and number.all():
            return one
        return self._any(ps.EQ, node, one, other)

    def _any(self, kind: type, node: Apply, *of: Variable) -> Variable:
        key = (kind, *map(_identity, of))
        if key not in self._same:
            self._same[key] = [pt.constant(self.numbers(node.outputs[0]))]
        return self._same[key][0]


def _is_discrete(variable: Variable) -> bool:
    return getattr(variable.type, "dtype", "") in DISCRETE


def _identity(variable: Variable) -> object:
    return variable.signature() if isinstance(variable, Constant) else variable
