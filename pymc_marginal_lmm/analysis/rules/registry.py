"""The registry of reading rules: all that the reader knows of an operation is in one place.

A rule takes the reader, the node and the linear part of each input, and returns that of each
output. It is found by the class of the operation, and of its bases the nearest: of the scalar
operation for ``Elemwise``, of the core operation for ``Blockwise``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytensor.scalar as ps
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import CAReduce, Elemwise
from pytensor.tensor.linalg.inverse import MatrixInverse
from pytensor.tensor.linalg.summary import Det
from pytensor.tensor.math import Argmax
from pytensor.tensor.sort import ArgSortOp, SortOp

from pymc_marginal_lmm.analysis.reader import Reader
from pymc_marginal_lmm.analysis.terms import Linear

__all__ = ["Rule", "all_inputs", "any_input", "first_input", "is_nonlinear", "rule", "rule_for"]

type Read = Callable[[Reader, Apply, list[Linear]], list[Linear]]
type Zeros = Callable[[Apply], Sequence[Variable] | None]


def first_input(node: Apply) -> Sequence[Variable]:
    """Say that the output is zero where the first input is."""
    return node.inputs[:1]


def all_inputs(node: Apply) -> Sequence[Variable]:
    """Say that the output is zero where all inputs are."""
    return node.inputs


def any_input(node: Apply) -> None:
    """Say that the output is zero where any one of the inputs is."""


class Rule(NamedTuple):
    """What is known of an operation.

    Parameters
    ----------
    read : callable
        The rule itself.
    batched : bool
        Whether it holds for a ``Blockwise`` of the operation, too.
    zero : callable
        From a node to the inputs that make the output zero if all of them are; None: any one does.
    """

    read: Read
    batched: bool
    zero: Zeros


_RULES: dict[type, Rule] = {}

NONLINEAR = (CAReduce, Argmax, SortOp, ArgSortOp, MatrixInverse, Det)
"""Operations that are known not to be linear, beside elementwise functions."""


def rule(*kinds: type, batched: bool = False, zero: Zeros = first_input) -> Callable[[Read], Read]:
    """Teach the reader operations: a decorator of the function that reads them.

    Parameters
    ----------
    *kinds : type
        Classes of operations, or of scalar ones.
    batched : bool, default False
        Whether the function understands a ``Blockwise`` of them.
    zero : callable, default first_input
        Which inputs make the output zero, see :class:`Rule`.
    """

    def register(read: Read) -> Read:
        _RULES.update(dict.fromkeys(kinds, Rule(read, batched, zero)))
        return read

    return register


def rule_for(node: Apply) -> Rule | None:
    """Return the rule of an operation, or None: it is refused."""
    op = node.op
    subject: Op | ps.ScalarOp = op.scalar_op if isinstance(op, Elemwise) else op
    if isinstance(op, Blockwise):
        subject = op.core_op
    found = next((_RULES[kind] for kind in type(subject).__mro__ if kind in _RULES), None)
    return None if found and isinstance(op, Blockwise) and not found.batched else found


def is_nonlinear(node: Apply) -> bool:
    """Whether an operation without a rule is known not to be linear."""
    op = node.op.core_op if isinstance(node.op, Blockwise) else node.op
    if isinstance(op, Elemwise):
        return not isinstance(op.scalar_op, ps.Composite)
    return isinstance(op, NONLINEAR)
