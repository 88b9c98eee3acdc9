"""Read a tensor as an affine function of the effects.

Each effect variable ``v`` is replaced by ``mean + d`` with a zero-mean deviation ``d`` (the
*leaf*). For every tensor between the leaves and a likelihood's mean we carry the linear part: per
leaf, which element enters (*positions*) and times what (*coefficients*), both of the tensor's
shape with one trailing axis of ``K`` terms::

    t[i] = t(d = 0)[i] + Σ_leaves Σ_k coefficients[i, k] · d[positions[i, k]]

The offset ``t(d = 0)`` is the same graph with the leaves replaced by their means. We only note
where it is zero whatever the parameters are (``tau * z``): such tensors are cut out of the
offset, so that it does not seem to depend on ``tau``.

Operations fall into three kinds, so that arbitrary code is understood by a dozen rules: those
that select or move elements (indexing, reshaping, joining, ...), sums, and products with something
that holds no effect. Everything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.traversal import ancestors, io_toposort

from pymc_marginal_lmm.analysis.multipliers import MultiplierReader
from pymc_marginal_lmm.analysis.parameters import Parameters
from pymc_marginal_lmm.analysis.remedies import Remedy
from pymc_marginal_lmm.analysis.rows import added_up
from pymc_marginal_lmm.analysis.rules import is_nonlinear, rule_for
from pymc_marginal_lmm.analysis.terms import (
    Linear,
    Multiplier,
    Refusal,
    Terms,
    TooManyTerms,
    sum_linear,
)
from pymc_marginal_lmm.values import NotKnown, Values

__all__ = ["AffineReader"]


class AffineReader:
    """Reads the linear part of tensors in a set of leaves.

    Parameters
    ----------
    values : Values
        Evaluates indices and data.
    sampled : sequence of Variable
        Random variables that stay sampled: for this reader they are parameters.

    Attributes
    ----------
    parameters : Parameters
        What effects are multiplied by, beside numbers.
    multipliers : MultiplierReader
        Reads the two apart.
    from_the_end : dict of str to int
        Index arrays that count from the end somewhere, described, and how often they do.
    """

    def __init__(self, values: Values, sampled: Sequence[Variable] = ()) -> None:
        self.values = values
        self._sampled = list(sampled)
        self.parameters = Parameters()
        self.multipliers = MultiplierReader(values, self.parameters, sampled)
        self.from_the_end: dict[str, int] = {}
        self._linear: dict[Variable, Linear] = {}
        self._rests_at_zero: set[Variable] = set()

    def add_leaf(self, leaf: Variable, mean: Variable, shape: tuple[int, ...]) -> None:
        """Declare an effect; its mean may depend on leaves that were declared before."""
        around_mean = self.read(mean, shape)
        own = {leaf: Terms.identity(shape)}
        if self._is_zero(mean):
            self._rests_at_zero.add(leaf)
        self.multipliers.stand_in(leaf, pt.constant(np.zeros(shape, dtype=leaf.type.dtype)))
        self._linear[leaf] = sum_linear([around_mean, own])

    def read(self, variable: Variable, shape: tuple[int, ...] | None = None) -> Linear:
        """Return the linear part of ``variable``, broadcast to ``shape``.

        Raises
        ------
        Refusal
            The tensor is not affine in the leaves, or a position cannot be determined.
        """
        boundary = [*self._linear, *self._sampled]
        for node in io_toposort(boundary, [variable]):
            if any(out in self._linear for out in node.outputs):
                continue
            if any(self._linear.get(inp) for inp in node.inputs):
                for out, linear in zip(node.outputs, self._apply(node), strict=True):
                    self._linear[out] = linear
                self._note_rest(node)
        linear = self._linear.get(variable, {})
        if shape is None:
            return linear
        try:
            return {leaf: terms.broadcast(shape) for leaf, terms in linear.items()}
        except ValueError as error:
            raise Refusal(
                linear,
                f"shapes do not fit ({error})",
                Remedy.AS_MANY_LEVELS,
                variable.owner,
            ) from None

    def _apply(self, node: Apply) -> list[Linear]:
        parts = [self._linear.get(inp, {}) for inp in node.inputs]
        rule = rule_for(node)
        if rule is None:
            if is_nonlinear(node):
                self.refuse(node, "it goes through an operation that is not linear")
            self.refuse(
                node,
                "it goes through an operation that is not understood",
                Remedy.MATRIX,
            )
        try:
            results = rule.read(self, node, parts)
            return [self._added_up(linear, parts) for linear in results]
        except NotKnown:
            self.refuse(
                node,
                "an index or a shape depends on a sampled variable",
                Remedy.KNOWN_INDICES,
            )
        except TooManyTerms as error:
            self.refuse(
                node,
                "each element of the result depends on many of its elements, "
                f"{error.args[0]:,} pairs in all",
                Remedy.RANDOM_WALK,
            )
        except IndexError as error:
            self.refuse(
                node,
                f"an index is out of range ({error})",
                Remedy.LEVELS_FROM_ZERO,
            )
        except ValueError as error:
            self.refuse(
                node,
                f"shapes do not fit ({error})",
                Remedy.AS_MANY_LEVELS,
            )

    @staticmethod
    def _added_up(linear: Linear, parts: Sequence[Linear]) -> Linear:
        added: Linear = {}
        for leaf, terms in linear.items():
            before = [part[leaf].positions.shape[-1] for part in parts if leaf in part]
            if terms.positions.size:
                added[leaf] = added_up(terms, max(before, default=0))
        return added

    def refuse(self, node: Apply, reason: str, remedy: str | None = None) -> NoReturn:
        """Refuse all effects that enter ``node``."""
        leaves = dict.fromkeys(leaf for inp in node.inputs for leaf in self._linear.get(inp, {}))
        raise Refusal(leaves, reason, remedy or Remedy.LINEAR, node)

    def shape(self, variable: Variable) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self.values.shape(variable)

    def times(self, terms: Terms, multiplier: Multiplier, shape: tuple[int, ...]) -> Terms:
        """Multiply a tensor by a multiplier; together they broadcast to ``shape``."""
        return self.parameters.times(terms, multiplier, shape)

    def _is_zero(self, variable: Variable) -> bool:
        """Whether a tensor is zero at ``d = 0``, whatever the parameters are."""
        if self._linear.get(variable):
            return variable in self._rests_at_zero
        value = self.values.constant(variable)
        return value is not None and not np.any(value)

    def _note_rest(self, node: Apply) -> None:
        rule = rule_for(node)
        assert rule is not None
        inputs = rule.zero(node)
        if inputs is None:
            zero = any(inp in self._rests_at_zero for inp in node.inputs)
        else:
            zero = all(self._is_zero(inp) for inp in inputs)
        if zero:
            self._rests_at_zero.update(out for out in node.outputs if self._linear[out])

    def zeros(self, variables: Sequence[Variable]) -> dict[Variable, Variable]:
        """Return the largest parts of some graphs that are zero at ``d = 0``, with their zeros."""
        blockers = [*self._rests_at_zero, *self._sampled]
        reached = set(ancestors(list(variables), blockers=blockers))
        return {
            variable: pt.constant(
                np.zeros(
                    next(iter(self._linear[variable].values())).shape, dtype=variable.type.dtype
                )
            )
            for variable in self._rests_at_zero
            if variable in reached and self._linear.get(variable)
        }
