"""Numbers that a graph already determines: constants, data, shapes.

The structure of a model (which row belongs to which level) has to be known as numbers. It may
come from constants and from ``pm.Data``; of the latter we remember which, because the marginal
model must not pretend that they can still be changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy

import numpy as np
from pymc.model.fgraph import ModelVar
from pytensor import function
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors, io_toposort, toposort
from pytensor.graph.utils import MethodNotDefined
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.rewriting.shape import ShapeFeature
from pytensor.tensor.shape import Shape

__all__ = ["NotKnown", "Values", "interpret", "narrowed"]

_INTERPRETER = Mode(linker="py", optimizer=None)

FEW = 31
"""So many operands an operation may have."""


class NotKnown(Exception):
    """A value depends on something that is sampled."""


def interpret(
    variables: Sequence[Variable], given: Mapping[Variable, Variable] | None = None
) -> list[np.ndarray]:
    """Evaluate what depends on constants and shared variables only, without compiling it."""
    if given:
        variables = graph_replace(list(variables), given, strict=False)
    try:
        return _performed(variables)
    except (NotImplementedError, MethodNotDefined):
        # An Op that only a rewrite gives an implementation, or one of too many operands.
        return function([], narrowed(variables), mode=_INTERPRETER)()


def _performed(variables: Sequence[Variable]) -> list[np.ndarray]:
    """Run a graph node by node: most are run once, and making a function costs more than that."""
    cells: dict[Variable, list] = {}
    computed: dict[Variable, list[bool]] = {}
    for node in io_toposort([], variables):
        for v in node.inputs:
            if v not in cells:
                cells[v], computed[v] = _cell(v), [True]
        own = node.clone()  # of the user's, Ops would note in their tags how they are run
        for mine, theirs in zip(own.outputs, node.outputs, strict=True):
            cells[mine] = cells[theirs] = [None]
            computed[mine] = computed[theirs] = [False]
        node.op.make_thunk(own, cells, computed, [], impl="py")()
    # Not a view of the user's data.
    return [deepcopy((cells[v] if v in cells else _cell(v))[0]) for v in variables]


def narrowed(variables: Sequence[Variable]) -> list[Variable]:
    """Write operations of many operands as operations of few, which PyTensor's interpreter can do.

    NumPy's functions take 32 arrays at most, those for results included.
    """
    outputs = list(variables)
    while wide := [node for node in toposort(outputs) if _is_wide(node)]:
        node = wide[-1]
        few = [node.op(*node.inputs[i : i + FEW]) for i in range(0, len(node.inputs), FEW)]
        outputs = graph_replace(outputs, {node.out: node.op(*few)}, strict=False)
    return outputs


def _is_wide(node: Apply) -> bool:
    # Without a fixed number of operands are sums, products, maxima, ...: associative ones.
    op = node.op
    return isinstance(op, Elemwise) and op.scalar_op.nin < 0 and len(node.inputs) > FEW


def _cell(source: Variable) -> list:
    return source.container.storage if isinstance(source, SharedVariable) else [source.data]


class Values:
    """Evaluates parts of a graph that do not depend on random variables.

    Attributes
    ----------
    structural : dict of str to SharedVariable
        The ``pm.Data`` whose *values* the structure was read from.
    """

    def __init__(self) -> None:
        self.structural: dict[str, SharedVariable] = {}
        self._known: dict[Variable, np.ndarray] = {}
        self._given: dict[Variable, Variable] = {}

    def learn(self, variable: Variable, value: np.ndarray) -> None:
        """Take a value as known, whatever the variable depends on (the shape of an effect)."""
        self._given[variable] = variable.type.constant_type(variable.type, value)

    def given(self, values: dict[Variable, np.ndarray]) -> Values:
        """Take values as known, and return self."""
        for variable, value in values.items():
            self.learn(variable, value.astype(variable.type.dtype))
        return self

    def _sources(self, variables: Iterable[Variable]) -> set[Variable]:
        reached = ancestors(list(variables), blockers=list(self._given))
        sources = {v for v in reached if v.owner is None and not isinstance(v, Constant)}
        return sources - self._given.keys()

    def constant(self, variable: Variable) -> np.ndarray | None:
        """Return the value of ``variable`` if it depends on constants only."""
        if isinstance(variable, Constant):
            return np.asarray(variable.data)
        if variable not in self._known:
            if self._sources([variable]):
                return None
            self._known[variable] = interpret([variable], self._given)[0]
        return self._known[variable]

    def structure(self, variable: Variable) -> np.ndarray:
        """Return the value of ``variable``, which may depend on ``pm.Data`` too.

        Raises
        ------
        NotKnown
            It depends on a sampled variable.
        """
        value = self.constant(variable)
        if value is not None:
            return value
        sources = self._sources([variable])
        if not all(_is_data(source) for source in sources):
            self._learn_shapes([variable])
            sources = self._sources([variable])
        if not all(_is_data(source) for source in sources):
            raise NotKnown
        self.structural |= {source.name or "": source for source in sources}
        return interpret([variable], self._given)[0]

    def shape(self, variable: Variable) -> tuple[int, ...]:
        """Return the shape of a tensor, whatever its values depend on.

        Raises
        ------
        NotKnown
            The shape depends on a sampled variable.
        """
        static = variable.type.shape
        if None not in static:
            return static
        if isinstance(variable, SharedVariable):
            return variable.get_value(borrow=True).shape
        if isinstance(variable.owner.op if variable.owner else None, ModelVar):
            return self.shape(variable.owner.inputs[0])
        graph = FunctionGraph(outputs=[variable], clone=False, features=[ShapeFeature()])
        lengths = graph.shape_feature.shape_tuple(variable)
        unknown = [length for length in lengths if not isinstance(length, Constant)]
        self._learn_shapes(unknown)
        if not all(_is_data(source) for source in self._sources(unknown)):
            raise NotKnown
        return tuple(int(length) for length in interpret(lengths, self._given))

    def _learn_shapes(self, variables: Sequence[Variable]) -> None:
        """Learn the shapes of tensors whose values are sampled, where variables depend on them."""
        for node in {v.owner for v in ancestors(variables, blockers=list(self._given)) if v.owner}:
            if isinstance(node.op, Shape):
                with suppress(NotKnown):
                    shape = np.array(self.shape(node.inputs[0]), dtype="int64")
                    self.learn(node.outputs[0], shape)


def _is_data(source: Variable) -> bool:
    return isinstance(source, SharedVariable) and not isinstance(source.type, RandomType)
