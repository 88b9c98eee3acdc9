"""Fold the scales of integrated effects: sample a signed ``x`` with ``τ = |x|``.

With its effects integrated out, a scale ``τ`` enters the density through ``F = I + ΛᵀAΛ`` only,
which is smooth and even in ``τ``: 0 is no boundary and no funnel any more. On PyMC's logarithmic
value scale it is still infinitely far away, and a half-normal or half-Cauchy prior leaves a long
flat tail there, in which samplers lose their way. So the prior's density is extended evenly,
``p(x) = ½ p_τ(|x|)``: smooth for priors that are flat at 0, and the sampler passes through.

For ``LKJCholeskyCov`` the correlations must change their signs with the scales, or there would be
a kink at 0: with ``Σ_ij = x_i x_j R_ij`` the density is smooth in ``x``. Row ``i`` of the Cholesky
factor is ``x_i ℓ_i``, columns times ``sign(x_j)``, so that the diagonal stays positive; ``ℓ_i`` on
the half sphere comes from partial correlations ``tanh z_j`` (Lewandowski, Kurowicka and Joe 2009)::

    ℓ_ij = tanh z_j Π_{k<j} sech z_k  (j < i)      ℓ_ii = Π_{k<i} sech z_k
    |∂(factor)/∂(x, z)| = Π_i |x_i|^(i−1) Π_{j<i} (sech z_j)^(i−j)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pymc.distributions.continuous import HalfCauchyRV, HalfFlatRV, HalfStudentTRV
from pymc.distributions.multivariate import _LKJCholeskyCovRV
from pymc.distributions.transforms import _default_transform
from pymc.logprob.transforms import Transform
from pymc.model.fgraph import ModelDeterministic, ModelFreeRV, ModelVar, model_free_rv
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.fg import FunctionGraph, Output
from pytensor.graph.traversal import ancestors
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.random.basic import HalfNormalRV
from pytensor.tensor.shape import SpecifyShape

from pymc_marginal_lmm.analysis.selection import value_inputs
from pymc_marginal_lmm.model.marginal_rv import MarginalRV

__all__ = ["FoldedCholesky", "FoldedScale", "fold_scales", "unfold_scales"]

HALF = (HalfNormalRV, HalfCauchyRV, HalfStudentTRV, HalfFlatRV)


class FoldedScale(Transform):
    """``τ = |x|``, both signs with half the density."""

    name = "fold"
    ndim_supp = 0

    def forward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return one of the two: the positive one."""
        return pt.as_tensor_variable(value)

    def backward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``|x|``."""
        return pt.abs(value)

    def log_jac_det(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``log ½``."""
        return pt.full_like(value, -np.log(2.0))


class FoldedCholesky(Transform):
    """Packed Cholesky factor of a covariance with signed scales; see the module.

    Parameters
    ----------
    n : int
        Rows of the factor.
    """

    name = "fold-cholesky"
    ndim_supp = 1

    def __init__(self, n: int) -> None:
        self.n = n
        self._last = np.cumsum(np.arange(1, n + 1)) - 1

    def _rows(self, packed: Variable) -> list[Variable]:
        return [packed[end - i : end + 1] for i, end in enumerate(self._last)]

    def forward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return ``z`` and the scale, positive, of each row."""
        value = pt.as_tensor_variable(value)
        parts = []
        for row in self._rows(value):
            remaining = pt.sqrt(pt.cumsum(row[::-1] ** 2))[::-1]  # |(r_j, …, r_i)|
            parts += [pt.arctanh(row[:-1] / remaining[:-1]), remaining[:1]]
        return pt.cast(pt.concatenate(parts), value.dtype)

    def backward(self, value: Variable, *inputs: Variable) -> Variable:
        """Return the packed factor."""
        value = pt.as_tensor_variable(value)
        signs = pt.switch(pt.lt(value[self._last], 0), -1.0, 1.0)
        one = pt.ones((1,), dtype=value.dtype)
        parts = []
        for i, row in enumerate(self._rows(value)):
            z, x = row[:-1], row[-1]
            before = pt.concatenate([one, pt.exp(pt.cumsum(_log_sech(z)))])
            unit = pt.concatenate([pt.tanh(z), one]) * before
            parts.append(x * unit * signs[: i + 1])
        return pt.cast(pt.concatenate(parts), value.dtype)

    def log_jac_det(self, value: Variable, *inputs: Variable) -> Variable:
        """Return the log Jacobian of the factor, and ``log ½`` for each sign."""
        value = pt.as_tensor_variable(value)
        total = pt.constant(-self.n * np.log(2.0), dtype=value.dtype)
        for i, row in enumerate(self._rows(value)):
            z, x = row[:-1], row[-1]
            total += i * pt.log(pt.abs(x)) + (np.arange(i, 0, -1) * _log_sech(z)).sum()
        return pt.cast(total, value.dtype)


def _log_sech(z: Variable) -> Variable:
    return float(np.log(2.0)) - pt.abs(z) - pt.log1p(pt.exp(-2 * pt.abs(z)))


def fold_scales(fgraph: FunctionGraph) -> list[str]:
    """Fold the scales of a marginal model's graph that enter through ``Λ`` only, in place.

    Returns
    -------
    list of str
        Their names.
    """
    folded = []
    for node in list(fgraph.toposort()):
        if not isinstance(node.op, ModelFreeRV) or node.op.transform is None:
            continue
        variable, rv = node.outputs[0], node.inputs[0]
        transform = _transform_for(rv)
        if transform is None or not _only_scales(fgraph, variable):
            continue
        _transform(fgraph, node, transform)
        folded.append(node.op.name)
    return folded


def unfold_scales(fgraph: FunctionGraph) -> None:
    """Give folded scales back the transforms that PyMC gives them, in place."""
    for node in list(fgraph.toposort()):
        if isinstance(node.op, ModelFreeRV):
            rv = node.inputs[0]
            if isinstance(node.op.transform, FoldedScale | FoldedCholesky):
                _transform(fgraph, node, _default_transform(rv.owner.op, rv))


def _transform(fgraph: FunctionGraph, node: Apply, transform: Transform) -> None:
    rv = node.inputs[0]
    value = transform.forward(rv, *rv.owner.inputs).type()
    value.name = f"{node.op.name}_{transform.name}__"
    new = model_free_rv(rv, value, transform, node.op.name, *node.op.dims)
    fgraph.replace(node.outputs[0], new, import_missing=True)


def _transform_for(rv: Variable) -> Transform | None:
    if isinstance(rv.owner.op, HALF):
        return FoldedScale()
    if isinstance(rv.owner.op, _LKJCholeskyCovRV) and rv.type.ndim == 1:
        n = int(rv.owner.op.dist_params(rv.owner)[0].data)
        return FoldedCholesky(n)
    return None


def _only_scales(fgraph: FunctionGraph, variable: Variable) -> bool:
    """Whether the density depends on a variable through scales of integrated effects only."""
    marginal = [client for client, _ in fgraph.clients[variable] if _is_marginal(client)]
    below = [v for client, _ in fgraph.clients[variable] for v in _below(fgraph, client)]
    return (
        bool(marginal)
        and all(
            isinstance(node.op, ModelDeterministic) or not isinstance(node.op, ModelVar)
            for node in below
        )
        and all(_enters_scales(node, variable) for node in marginal)
    )


def _is_marginal(client: Apply) -> bool:
    return isinstance(client.op, MarginalRV)


def _below(fgraph: FunctionGraph, client: Apply) -> Iterator[Apply]:
    """Yield the nodes below a client, up to marginal variables, which are looked at apart."""
    if isinstance(client.op, MarginalRV | Output):
        return
    yield client
    for out in client.outputs:
        for further, _ in fgraph.clients[out]:
            yield from _below(fgraph, further)


def _enters_scales(node: Apply, variable: Variable) -> bool:
    op = node.op
    places = [i for i, inp in enumerate(node.inputs) if inp is variable]
    inner = [op.inner_inputs[i] for i in places]
    symbols = op.split(op.inner_outputs)["symbols"]
    is_vector = variable.type.ndim > 0
    is_factor = isinstance(variable.owner.inputs[0].owner.op, _LKJCholeskyCovRV)
    for (part, i, field), symbol in zip(op.structure.slots(), symbols, strict=True):
        if not set(inner) & set(ancestors([symbol])):
            continue
        if part == "effects" and field == "scale":
            even = is_factor or not (op.structure.effects[i].correlated and is_vector)
        elif field == "loadings.entries":
            loadings = op.structure.factors[i].loadings
            even = is_factor or (loadings.rows == loadings.columns).all()
        else:
            return False
        if not even or not (is_factor or _is_multiple(symbol, inner)):
            return False
    return True


def _is_multiple(expression: Variable, variables: Sequence[Variable]) -> bool:
    """Whether an expression consists of elements of variables, times something else."""
    reached = {*ancestors([expression])} & {*variables}
    if expression in variables or not reached:
        return True
    node = expression.owner
    if isinstance(node.op, Elemwise):
        match node.op.scalar_op:
            case ps.Mul():
                holding = [v for v in node.inputs if {*ancestors([v])} & {*variables}]
                return len(holding) == 1 and _is_multiple(holding[0], variables)
            case ps.Cast() | ps.Identity():
                return _is_multiple(node.inputs[0], variables)
            case ps.Second():
                return _is_multiple(node.inputs[1], variables)
        return False
    if isinstance(node.op, SpecifyShape) or value_inputs(node) is not None:
        return all(_is_multiple(v, variables) for v in node.inputs)
    return False
