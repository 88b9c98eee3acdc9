"""Random graphs for many values of their parameters at once, along a first axis.

What one draw of a small model costs is the overhead of its nodes; a thousand at once pay for it
once.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytensor.tensor as pt
from pytensor.compile.builders import OpFromGraph
from pytensor.conditional.op import IfElse
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import graph_replace, vectorize_graph
from pytensor.graph.traversal import toposort
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.type import TensorType

from pymc_marginal_lmm.model.marginal_rv import inline
from pymc_marginal_lmm.values import interpret, narrowed

__all__ = ["evaluated", "inlined", "over_draws"]


def inlined(outputs: Sequence[Variable], kind: type[OpFromGraph]) -> list[Variable]:
    """Write nodes of one kind out as the graphs that they stand for."""
    while nodes := [node for node in toposort(outputs) if isinstance(node.op, kind)]:
        node = nodes[-1]
        inner = inline(node.op, node.inputs)
        outputs = graph_replace(outputs, dict(zip(node.outputs, inner, strict=True)), strict=False)
    return list(outputs)


def evaluated(outputs: Sequence[Variable], parameters: Sequence[Variable]) -> list[Variable]:
    """Put numbers in the place of all that no parameter, data that can be set, or chance changes.

    What is called again and again without being compiled would compute them again and again.
    Operations are written such that PyTensor's interpreter can do them.

    Parameters
    ----------
    outputs : sequence of Variable
    parameters : sequence of Variable
    """
    fixed: set[Variable] = set()
    needed: dict[Variable, None] = {}
    for node in toposort(outputs, blockers=parameters):
        known = [x for x in node.inputs if x in fixed]
        constant = sum(isinstance(x, Constant) for x in node.inputs)
        plain = all(isinstance(out.type, TensorType) for out in node.outputs)
        if plain and len(known) + constant == len(node.inputs):
            fixed.update(node.outputs)
        else:
            needed.update(dict.fromkeys(known))
    needed.update(dict.fromkeys(out for out in outputs if out in fixed))
    values = interpret(list(needed))
    constants = [pt.constant(x, dtype=v.dtype) for v, x in zip(needed, values, strict=True)]
    given = {
        v: constant if v.type == constant.type else pt.specify_shape(constant, v.type.shape)
        for v, constant in zip(needed, constants, strict=True)
    }
    return narrowed(graph_replace(outputs, given, strict=False) if given else outputs)


def over_draws(
    outputs: Sequence[Variable], parameters: Sequence[Variable]
) -> tuple[list[Variable], list[Variable]]:
    """Return a graph of many draws, one for each value of the parameters.

    Parameters
    ----------
    outputs : sequence of Variable
        Random, given the parameters.
    parameters : sequence of Variable

    Returns
    -------
    inputs : list of Variable
        The parameters with a first axis more, and last the number of draws.
    outputs : list of Variable
        With a first axis more.

    Raises
    ------
    Exception
        Of PyTensor, where a node cannot be vectorized (products with sparse matrices, say).
    """
    outputs = _decided(outputs)
    count = pt.lscalar("n_draws")
    several = {p: pt.tensor(p.name, shape=(None, *p.type.shape), dtype=p.dtype) for p in parameters}
    # Noise that depends on nothing would be the same in all draws.
    noise, varying = {}, set(parameters)
    for node in toposort(outputs, blockers=parameters):
        if not varying.isdisjoint(node.inputs):
            varying.update(node.outputs)
        elif isinstance(node.op, RandomVariable):
            noise[node.out] = _several(node.out, count)
            varying.add(node.out)
    many = vectorize_graph(outputs, {**several, **noise})
    many = [
        new if new.type.ndim > old.type.ndim else pt.broadcast_to(new, (count, *_lengths(old)))
        for new, old in zip(many, outputs, strict=True)
    ]
    # Shapes may still refer to the parameters of one draw; any will do.
    one = {parameter: values[0] for parameter, values in several.items()}
    many = graph_replace(many, one, strict=False)
    return [*several.values(), count], many


def _decided(outputs: Sequence[Variable]) -> list[Variable]:
    """Write conditions as selections: PyTensor vectorizes what is lazy, and then cannot run it."""
    while lazy := [node for node in toposort(outputs) if isinstance(node.op, IfElse)]:
        node = lazy[-1]
        condition, *branches = node.inputs
        n = len(node.outputs)
        new = {}
        for out, then, other in zip(node.outputs, branches[:n], branches[n:], strict=True):
            if then.type.shape != other.type.shape:
                raise NotImplementedError("branches of different shapes")
            new[out] = out.type.filter_variable(pt.switch(condition, then, other))
        outputs = graph_replace(outputs, new, strict=False)
    return list(outputs)


def _several(draw: Variable, count: Variable) -> Variable:
    """Return independent copies of a draw, each with a generator of its own."""
    node = draw.owner
    parameters = node.op.dist_params(node)
    size = (count, *_lengths(draw))
    rng = pt.random.shared_rng(seed=None)
    _, new = node.op(*parameters, size=size, rng=rng, return_next_rng=True)
    return pt.specify_shape(new, (None, *draw.type.shape))


def _lengths(variable: Variable) -> list:
    """Return the shape in numbers where these are known: symbols would have to be worked out."""
    lengths = variable.type.shape
    return [variable.shape[i] if n is None else n for i, n in enumerate(lengths)]
