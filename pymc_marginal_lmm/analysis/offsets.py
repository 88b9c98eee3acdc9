"""Read what stays in the rows as few parameters times data: the offset, and sigma.

Sums over rows can be taken once and for all where the offset of the linear predictor is linear
in few parameters and the residual standard deviation is, stratum by stratum, one parameter times
a known number. Where they are not, or where that would not pay, ``None`` is returned and the rows
stay in the graph; the density is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pymc.model.fgraph import ModelDeterministic, ModelFreeRV
from pytensor import config
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors
from pytensor.tensor.elemwise import Elemwise
from scipy import sparse

from pymc_marginal_lmm.analysis.affine import AffineReader
from pymc_marginal_lmm.analysis.multipliers import MultiplierReader
from pymc_marginal_lmm.analysis.parameters import Parameters
from pymc_marginal_lmm.analysis.replace import substitute
from pymc_marginal_lmm.analysis.rows import stack_rows
from pymc_marginal_lmm.analysis.terms import DISCRETE, NOTHING, ONE, Multiplier, Refusal, Terms
from pymc_marginal_lmm.structure import Noise, Regression
from pymc_marginal_lmm.values import NotKnown, Values

__all__ = ["read_noise", "read_regression"]

FEW = 16
"""So many parameters always pay; more of them if they are few against the rows."""


class ConstantValues(Values):
    """Values that depend on constants only: what ``pm.Data`` determine can change."""

    def structure(self, variable: Variable) -> np.ndarray:
        """Return the value of ``variable``.

        Raises
        ------
        NotKnown
            It is not constant.
        """
        value = self.constant(variable)
        if value is None:
            raise NotKnown
        return value


def read_noise(
    sigmas: Sequence[Variable], shapes: Sequence[tuple[int, ...]], sampled: Sequence[Variable]
) -> Noise | None:
    """Read the standard deviations of all responses as numbers times few parameters.

    Parameters
    ----------
    sigmas, shapes : sequence of Variable, of tuple of int
        Standard deviation and shape of each response.
    sampled : sequence of Variable
        Variables that stay sampled.
    """
    parameters = Parameters()
    reader = MultiplierReader(ConstantValues(), parameters, sampled)
    parts: list[Multiplier] = []
    for sigma, shape in zip(sigmas, shapes, strict=True):
        try:
            parts.append(reader.read(sigma).broadcast(shape))
        except NotKnown:
            return None
    numbers = np.concatenate([part.numbers.ravel() for part in parts])
    places = np.concatenate([part.places.ravel() for part in parts])
    distinct, strata = np.unique(places, return_inverse=True)
    many = len(distinct) > FEW and 2 * len(distinct) > numbers.size
    if many or not (np.isfinite(numbers) & (numbers > 0)).all():
        return None
    return Noise(numbers, strata.reshape(-1), parameters.values(distinct))


def read_regression(
    offsets: Sequence[Variable],
    shapes: Sequence[tuple[int, ...]],
    sampled: Sequence[Variable],
    n_effects: int,
) -> Regression | None:
    """Read the offsets of all responses as numbers plus a design times few parameters.

    Sampled variables that enter linearly are the coefficients; others are parameters that
    multiply them, or that the rest of the offset is a multiple of.

    Parameters
    ----------
    offsets, shapes : sequence of Variable, of tuple of int
        Offset and shape of each response.
    sampled : sequence of Variable
        Variables that stay sampled.
    n_effects : int
        Number of integrated effects.
    """
    reached = set(ancestors(list(offsets), blockers=list(sampled)))
    leaves = [v for v in sampled if v in reached and _is_real(v)]
    while True:
        others = [v for v in sampled if v not in leaves]
        reader = AffineReader(ConstantValues(), others)
        try:
            for leaf in leaves:
                zero = pt.constant(0.0, dtype=leaf.type.dtype)
                reader.add_leaf(leaf, zero, reader.shape(leaf))
            linears = [reader.read(b, shape) for b, shape in zip(offsets, shapes, strict=True)]
            break
        except Refusal as refusal:
            leaves = [leaf for leaf in leaves if leaf not in refusal.leaves]
        except NotKnown:
            return None
    rest = _rest(offsets, shapes, leaves, reader, others)
    if rest is None:
        return None
    sizes = [int(np.prod(shape, dtype=int)) for shape in shapes]
    tables = {
        leaf: stack_rows(
            [(size, linear.get(leaf)) for size, linear in zip(sizes, linears, strict=True)]
        )
        for leaf in leaves
        if any(leaf in linear for linear in linears)
    }
    return _regression(tables, rest, reader.parameters, sum(sizes), n_effects)


def _is_real(variable: Variable) -> bool:
    return isinstance(variable.owner.op, ModelFreeRV) and variable.type.dtype not in DISCRETE


def _rest(
    offsets: Sequence[Variable],
    shapes: Sequence[tuple[int, ...]],
    leaves: Sequence[Variable],
    reader: AffineReader,
    others: Sequence[Variable],
) -> list[tuple[int, Multiplier]] | None:
    """Return what is left when the leaves are zero: summands, each with its first row."""
    zeros = {leaf: pt.zeros(reader.shape(leaf), dtype=leaf.type.dtype) for leaf in leaves}
    parts, first = [], 0
    for offset, shape in zip(substitute(offsets, zeros, others), shapes, strict=True):
        try:
            for summand, sign in _summands(offset):
                multiplier = reader.multipliers.read(summand).broadcast(shape)
                parts.append(
                    (
                        first,
                        Multiplier(sign * multiplier.numbers.ravel(), multiplier.places.ravel()),
                    )
                )
        except NotKnown:
            return None
        first += int(np.prod(shape, dtype=int))
    return parts


def _summands(expression: Variable, sign: int = 1) -> Iterator[tuple[Variable, int]]:
    node = expression.owner
    if node is not None and isinstance(node.op, ModelDeterministic):
        yield from _summands(node.inputs[0], sign)
        return
    match node.op.scalar_op if node is not None and isinstance(node.op, Elemwise) else None:
        case ps.Add():
            for inp in node.inputs:
                yield from _summands(inp, sign)
        case ps.Sub():
            yield from _summands(node.inputs[0], sign)
            yield from _summands(node.inputs[1], -sign)
        case _:
            yield expression, sign


def _regression(
    tables: dict[Variable, Terms],
    rest: Sequence[tuple[int, Multiplier]],
    parameters: Parameters,
    n: int,
    n_effects: int,
) -> Regression | None:
    rows, entries, numbers = [], [], []
    pieces: list[Variable] = []
    count = 0
    for leaf, table in tables.items():
        row, k = np.nonzero((table.positions != NOTHING) & (table.numbers != 0))
        pairs = np.stack([table.positions[row, k], table.places[row, k]])
        distinct, which = np.unique(pairs, axis=1, return_inverse=True)
        rows.append(row)
        entries.append(count + which.reshape(-1))
        numbers.append(table.numbers[row, k])
        count += distinct.shape[1]
        if not _pays(count, n, n_effects):
            return None
        flat = pt.cast(leaf.reshape((-1,)), config.floatX)[pt.constant(distinct[0])]
        if (distinct[1] != ONE).any():
            flat = flat * parameters.values(distinct[1])
        pieces.append(pt.specify_shape(flat, distinct.shape[1:]))
    constant = np.zeros(n)
    for first, summand in rest:
        constant[first : first + summand.numbers.size] += np.where(
            summand.places == ONE, summand.numbers, 0.0
        )
        own = np.flatnonzero((summand.places != ONE) & (summand.numbers != 0))
        distinct, which = np.unique(summand.places[own], return_inverse=True)
        rows.append(first + own)
        entries.append(count + which)
        numbers.append(summand.numbers[own])
        count += len(distinct)
        if not _pays(count, n, n_effects):
            return None
        if len(distinct):
            pieces.append(parameters.values(distinct))
    if not pieces:
        nothing = pt.constant(np.zeros(0, dtype=config.floatX))
        return Regression(constant, sparse.csr_array((n, 0)), nothing)
    index = (np.concatenate(rows), np.concatenate(entries))
    design = sparse.coo_array((np.concatenate(numbers), index), shape=(n, count)).tocsr()
    coefficients = pieces[0] if len(pieces) == 1 else pt.concatenate(pieces)
    return Regression(constant, design, coefficients)


def _pays(n_parameters: int, n_rows: int, n_effects: int) -> bool:
    return n_parameters <= FEW or n_parameters * (n_parameters + n_effects) <= 20 * n_rows
