"""Operations whose result consists of elements of some of their inputs.

The operation itself is run on element numbers, once: whatever it does with indices, slices or
axes, the numbers that come out say where each element came from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Apply, Variable
from pytensor.scalar.basic import ScalarType
from pytensor.tensor.basic import Alloc, Join, MakeVector
from pytensor.tensor.blockwise import Blockwise
from pytensor.tensor.elemwise import DimShuffle
from pytensor.tensor.reshape import JoinDims, SplitDims
from pytensor.tensor.shape import Reshape
from pytensor.tensor.subtensor import (
    AdvancedIncSubtensor,
    AdvancedSubtensor,
    IncSubtensor,
    Subtensor,
)
from pytensor.tensor.type import TensorType

from pymc_marginal_lmm.analysis.terms import DISCRETE, NOTHING
from pymc_marginal_lmm.values import Values

__all__ = [
    "OF_ALL",
    "OF_FIRST",
    "WRITES",
    "NotASelection",
    "run",
    "selected_elements",
    "value_inputs",
]

OF_FIRST = (
    Subtensor,
    AdvancedSubtensor,
    DimShuffle,
    Reshape,
    Alloc,
    pt.basic.ExtractDiag,
    pt.extra_ops.Repeat,
    JoinDims,
    SplitDims,
)
OF_ALL = (Join, MakeVector)
WRITES = (IncSubtensor, AdvancedIncSubtensor)


class NotASelection(Exception):
    """An operation does with values what a selection does not do."""


def value_inputs(node: Apply) -> Sequence[int] | None:
    """Return which inputs of a selection its elements come from, or None: it is none."""
    if isinstance(node.op.core_op if isinstance(node.op, Blockwise) else node.op, OF_FIRST):
        return [0]
    if isinstance(node.op, OF_ALL):
        return range(len(node.inputs))
    if isinstance(node.op, WRITES) and node.op.set_instead_of_inc:
        return [0, 1]
    return None


def selected_elements(
    node: Apply,
    numbered: Collection[int],
    values: Values,
    shape_of: Callable[[Variable], tuple[int, ...]],
) -> np.ndarray:
    """Return where each element of the output comes from.

    Parameters
    ----------
    node : Apply
        A selection.
    numbered : collection of int
        The inputs whose elements are counted, one input after the other. Elements of other
        value inputs are ``NOTHING``.
    values : Values
        Evaluates indices and shapes.
    shape_of : callable
        Returns the shape of a tensor.

    Raises
    ------
    NotKnown
        An index depends on what is sampled.
    NotASelection
        The operation changes values, or a numbered input is an index.
    """
    movable = value_inputs(node) or ()
    arguments: list = []
    count = 0
    for i, inp in enumerate(node.inputs):
        if i not in movable:
            is_number = isinstance(inp.type, TensorType | ScalarType)
            if i in numbered or (is_number and inp.type.dtype not in DISCRETE):
                raise NotASelection("it is used as an index or a shape")
            arguments.append(values.structure(inp) if is_number else inp.data)
            continue
        shape = shape_of(inp) if isinstance(inp.type, TensorType) else ()
        numbers = np.full(shape, NOTHING, dtype="float64")
        if i in numbered:
            numbers = np.arange(count, count + numbers.size, dtype="float64").reshape(shape)
            count += numbers.size
        arguments.append(numbers)
    out = np.asarray(run(node, arguments))
    selected = out.astype(int)
    if (selected != out).any() or selected.min(initial=0) < NOTHING:
        raise NotASelection("it goes through an operation that changes values, not places")
    return selected


def run(node: Apply, arguments: list) -> np.ndarray:
    """Run an operation on numbers, whatever the dtypes of its inputs are."""
    if isinstance(node.op, MakeVector):
        return np.stack(arguments)
    inputs = [
        pt.tensor(dtype=a.dtype, shape=a.shape)
        if isinstance(a, np.ndarray) and isinstance(inp.type, TensorType)
        else inp
        for a, inp in zip(arguments, node.inputs, strict=True)
    ]
    renumbered = node.op.make_node(*inputs)
    storage: list[list] = [[None] for _ in renumbered.outputs]
    renumbered.op.perform(renumbered, arguments, storage)
    return storage[0][0]
