"""``pymc.dims``: the same model written with ordinary tensors.

Variables of ``pymc.dims`` are *xtensors*, whose axes have names. PyTensor lowers them to tensors
before it compiles anything; we do that before reading, so that nothing else in this package
needs to know of them. Names, dims, coords, transforms and data stay, and so does the density.
"""

from __future__ import annotations

import pytensor
import pytensor.tensor as pt
from pymc.distributions import transforms
from pymc.logprob.transforms import Transform
from pymc.model.core import Model
from pymc.model.fgraph import ModelValuedVar, ModelVar
from pytensor.compile import optdb
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.rewriting.basic import dfs_rewriter
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.rewriting import local_dimshuffle_rv_lift
from pytensor.xtensor.basic import (
    XTensorFromTensor,
    tensor_from_xtensor,
    xtensor_from_tensor,
)
from pytensor.xtensor.type import XTensorType

from pymc_marginal_lmm.model.roundtrip import graph_of, model_of

__all__ = ["XTensorTransform", "without_xtensors"]


class XTensorTransform(Transform):
    """A transform of ``pymc.dims`` for the values of an ordinary tensor.

    Parameters
    ----------
    transform : Transform
        Takes and returns xtensors.
    dims : tuple of str
        Names of the axes.
    """

    def __init__(self, transform: Transform, dims: tuple[str, ...]) -> None:
        self.transform = transform
        self.dims = dims
        self.name = transform.name

    def forward(self, value: Variable, *inputs: Variable) -> Variable:
        """Apply the transform."""
        return _as_tensor(self.transform.forward(xtensor_from_tensor(value, self.dims)))

    def backward(self, value: Variable, *inputs: Variable) -> Variable:
        """Undo the transform."""
        return _as_tensor(self.transform.backward(xtensor_from_tensor(value, self.dims)))

    def log_jac_det(self, value: Variable, *inputs: Variable) -> Variable:
        """Return the logarithm of the determinant of the Jacobian of ``backward``."""
        return _as_tensor(self.transform.log_jac_det(xtensor_from_tensor(value, self.dims)))


def _is_xtensor(variable: Variable) -> bool:
    return isinstance(variable.type, XTensorType)


def _as_tensor(variable: Variable) -> Variable:
    """Return an xtensor as a tensor, by undoing its making if possible."""
    if not _is_xtensor(variable):
        return variable
    if isinstance(variable.owner.op if variable.owner else None, XTensorFromTensor):
        return variable.owner.inputs[0]
    return tensor_from_xtensor(variable)


def _source(variable: Variable) -> Variable:
    """Return a tensor like an xtensor that has no owner."""
    tensor_type = pt.TensorType(variable.type.dtype, shape=variable.type.shape)
    if isinstance(variable, Constant):
        return pt.constant(variable.data, name=variable.name)
    if isinstance(variable, SharedVariable):
        value = variable.get_value()
        return pytensor.shared(value, name=variable.name, shape=variable.type.shape)
    return tensor_type(name=variable.name)


def without_xtensors(model: Model) -> Model:
    """Write a model with tensors only, or return it as it is if it has no xtensors.

    Parameters
    ----------
    model : pymc.Model
        Any model; it is not changed.
    """
    variables = [*model.named_vars.values(), *model.rvs_to_values.values()]
    if not any(map(_is_xtensor, ancestors(variables))):
        return model
    fgraph, _ = graph_of(model)
    return model_of(_lowered(fgraph), model)


def _lowered(fgraph: FunctionGraph) -> FunctionGraph:
    memo: dict[Variable, Variable] = {
        v: xtensor_from_tensor(_source(v), v.type.dims)
        for v in ancestors(fgraph.outputs)
        if v.owner is None and _is_xtensor(v)
    }
    for node in fgraph.toposort():
        inputs = [memo.get(v, v) for v in node.inputs]
        if isinstance(node.op, ModelVar) and _is_xtensor(node.outputs[0]):
            (out,) = node.outputs
            op = _with_tensor_transform(node.op, out.type.dims)
            variable = op(*map(_as_tensor, inputs))
            memo[out] = xtensor_from_tensor(variable, out.type.dims)
            continue
        copy = node.clone_with_new_inputs(inputs, strict=False)
        memo.update(zip(node.outputs, copy.outputs, strict=True))
    outputs = [_as_tensor(memo[out]) for out in fgraph.outputs]
    new = FunctionGraph(outputs=outputs, clone=False)
    optdb.query("+lower_xtensor").rewrite(new)
    # Dims given in another order than the parameters' make a transposed random variable.
    dfs_rewriter(local_dimshuffle_rv_lift).rewrite(new)
    new._coords, new._dim_lengths = fgraph._coords, fgraph._dim_lengths
    return new


def _with_tensor_transform(op: ModelVar, dims: tuple[str, ...]) -> ModelVar:
    if not isinstance(op, ModelValuedVar) or op.transform is None:
        return op
    # Importing it teaches PyMC to work with xtensors; who has an xtensor variable has done so.
    from pymc.dims.distributions.transforms import (
        LogOddsTransform,
        LogTransform,
        ZeroSumTransform,
    )

    match op.transform:
        case LogTransform():
            transform = transforms.log
        case LogOddsTransform():
            transform = transforms.logodds
        case ZeroSumTransform():
            axes = [dims.index(dim) - len(dims) for dim in op.transform.dims]
            transform = transforms.ZeroSumTransform(axes)
        case _:
            transform = XTensorTransform(op.transform, dims)
    return type(op)(op.name, op.dims, transform)
