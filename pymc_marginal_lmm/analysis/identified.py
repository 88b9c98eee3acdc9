r"""Flat coefficients must be identified by the design: else the integral over them is infinite.

With ``y ~ Normal(Zu + Xβ, W⁻¹)``, ``u`` proper and ``β`` flat, the integral over both is finite
if and only if the columns of ``X`` are linearly independent: along ``β + tv`` with ``Xv = 0`` the
density does not change, and if there is no such ``v``, ``Xᵀ(ZΛΛᵀZᵀ + W⁻¹)⁻¹X`` is positive
definite, whatever ``Λ`` is. Where a flat coefficient is the prior mean of effects, their rows are
its rows.

Columns may hold parameters. What they make dependent at almost all values is found at two random
points. Functions that are not analytic (a comparison, the larger of two) may be zero at any point
and not be zero at others: they stand for any numbers, the same ones wherever the same is written.
Conditions stand for any weights of their two cases, so that columns which depend on each other in
either case still do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.traversal import ancestors, io_toposort
from scipy import sparse

from pymc_marginal_lmm.analysis.parameters import Parameters
from pymc_marginal_lmm.analysis.rank import independent_rank, null_space
from pymc_marginal_lmm.analysis.remedies import Remedy
from pymc_marginal_lmm.analysis.terms import DISCRETE, NOTHING, ONE, Refusal, Terms
from pymc_marginal_lmm.structure import RandomEffects
from pymc_marginal_lmm.values import NotKnown, Values

__all__ = ["check_identified"]

NEGLIGIBLE = 1e-6
"""Share of a column in a combination that vanishes, below which it is rounding."""

EXACT, CLOSE = 0.75, 0.375
"""Powers of the floating point precision: distances between columns that are 0, and those whose
squares, which is what crossproducts hold, keep a quarter of their digits."""

DEPENDENT = (
    "the data do not identify {coefficients}: their columns of the design are linearly dependent "
    "and their priors flat, so that the integral is infinite"
)
ALMOST = (
    "the columns of the design of {coefficients} are linearly dependent but for less than "
    "{distance:.1g} of their length, and their priors flat, so that few digits of the integral "
    "would be right"
)

NAMED = 4
"""So many elements of a variable are named one by one."""


def check_identified(
    leaves: Sequence[Variable],
    effects: Sequence[RandomEffects],
    terms: Sequence[Terms],
    parameters: Parameters,
    sampled: Sequence[Variable],
) -> None:
    """Refuse as few flat variables as leave the others identified.

    Parameters
    ----------
    leaves : sequence of Variable
        The graph's variables.
    effects : sequence of RandomEffects
        The same, as they were read.
    terms : sequence of Terms
        Per variable, over all rows: ``(n, K)``.
    parameters : Parameters
        What the places of ``terms`` refer to.
    sampled : sequence of Variable
        Variables that these depend on.

    Raises
    ------
    Refusal
        Names the flat variables and elements that are not identified.
    """
    flat = [k for k, effect in enumerate(effects) if effect.flat]
    for k in flat:
        _check_data(leaves[k], effects[k], terms[k])
    if not flat:
        return
    own = [terms[k] for k in flat]
    sizes = [effects[k].size for k in flat]
    n, p = len(own[0].positions), sum(sizes)
    few = 2 * p + 64
    if n > 10 * few:  # most often few of the rows identify them all
        some = np.random.default_rng(0).choice(n, few, replace=False)
        if not _undetermined([t.take(some) for t in own], sizes, parameters, sampled).size:
            return
    basis = _undetermined(own, sizes, parameters, sampled)
    if not basis.size:
        return
    exact = _undetermined(own, sizes, parameters, sampled, EXACT)
    basis = exact if exact.size else basis
    variables = np.split(basis, np.cumsum(sizes)[:-1])
    taking_part = [np.abs(v).max(axis=1) > NEGLIGIBLE for v in variables]
    left_out = _fewest(basis, variables, taking_part)
    parts = [
        _elements(effects[k], used) for k, used in zip(flat, taking_part, strict=True) if used.any()
    ]
    names = " and ".join(f"'{effects[flat[i]].name}'" for i in left_out)
    raise Refusal(
        [leaves[flat[i]] for i in left_out],
        (DEPENDENT if exact.size else ALMOST).format(
            coefficients=_listed(parts), distance=_tolerance(CLOSE)
        ),
        (Remedy.IDENTIFY if exact.size else Remedy.CENTRE).about(names),
    )


def _check_data(leaf: Variable, effect: RandomEffects, terms: Terms) -> None:
    with_data = (terms.positions != NOTHING) & (terms.numbers != 0)
    count = np.unique(terms.positions[with_data]).size
    if count < effect.size:
        raise Refusal(
            [leaf],
            f"{effect.size - count} of its {effect.size} elements have a flat prior and no "
            "data, so that the integral is infinite",
            Remedy.REMOVE_ELEMENTS,
        )


def _fewest(
    basis: np.ndarray, variables: Sequence[np.ndarray], taking_part: Sequence[np.ndarray]
) -> list[int]:
    """Return variables without which the others are independent: few, and few elements."""

    def rank(of: Sequence[int]) -> int:
        return independent_rank(np.concatenate([basis[:0], *(variables[i] for i in of)]))

    candidates = [i for i, used in enumerate(taking_part) if used.any()]
    chosen: list[int] = []
    while rank(chosen) < rank(candidates):
        gains = {i: rank([*chosen, i]) for i in candidates if i not in chosen}
        chosen.append(max(gains, key=lambda i: (gains[i], -taking_part[i].sum(), i)))
    for i in list(chosen):  # the first ones may have become superfluous
        without = [j for j in chosen if j != i]
        if rank(without) == rank(chosen):
            chosen = without
    return sorted(chosen)


def _elements(effect: RandomEffects, used: np.ndarray) -> str:
    """Name the elements of a variable that take part."""
    name = f"'{effect.name}'"
    if not effect.shape or effect.size == 1:
        return name
    if used.all():
        return f"the {used.size} elements of {name}"
    indices = np.argwhere(used.reshape(effect.shape))
    shown = ", ".join(f"'{effect.name}[{', '.join(map(str, i))}]'" for i in indices[:NAMED])
    more = len(indices) - NAMED
    return f"{shown} and {more} more elements of {name}" if more > 0 else shown


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]


# --- The design, at some values of the parameters -------------------------------------------------


def _tolerance(power: float) -> float:
    return float(np.finfo(config.floatX).eps ** power)


def _undetermined(
    terms: Sequence[Terms],
    sizes: Sequence[int],
    parameters: Parameters,
    sampled: Sequence[Variable],
    power: float = CLOSE,
) -> np.ndarray:
    """Return a basis of the null space of the design; see :func:`null_space`."""
    basis = np.zeros((sum(sizes), 0))
    for X in _designs(terms, sizes, parameters, sampled):
        basis = null_space(X, sizes, _tolerance(power))
        if not basis.size:
            break
    return basis


def _designs(
    terms: Sequence[Terms],
    sizes: Sequence[int],
    parameters: Parameters,
    sampled: Sequence[Variable],
) -> Iterator[sparse.csr_array]:
    """Yield ``X``: as it is, or at two random points."""
    n = len(terms[0].positions)
    rows, columns, numbers, places = [], [], [], []
    for own, first in zip(terms, np.cumsum([0, *sizes]), strict=False):
        row, k = np.nonzero((own.positions != NOTHING) & (own.numbers != 0))
        rows.append(row)
        columns.append(first + own.positions[row, k])
        numbers.append(own.numbers[row, k])
        places.append(own.places[row, k])
    index = (np.concatenate(rows), np.concatenate(columns))
    entries, place = np.concatenate(numbers), np.concatenate(places)
    if not np.isfinite(entries).all():
        return  # reported with the data
    shape = (n, sum(sizes))
    distinct, which = np.unique(place, return_inverse=True)
    for seed in (1, 2) if (distinct != ONE).any() else (0,):
        values = parameters.numbers(distinct, _at_random(sampled, seed))
        yield sparse.coo_array((entries * values[which], index), shape=shape).tocsr()


def _at_random(sampled: Sequence[Variable], seed: int) -> Callable[[Variable], np.ndarray]:
    """Return what evaluates a vector of parameters at a random point."""
    anywhere = _Anywhere(sampled, np.random.default_rng(seed))

    def evaluate(vector: Variable) -> np.ndarray:
        try:
            with np.errstate(all="ignore"):
                value = Values().structure(anywhere.of(vector))
        except (NotKnown, TypeError, ValueError, ArithmeticError, np.linalg.LinAlgError):
            value = np.full(1, np.nan)
        return value if np.isfinite(value).all() else anywhere.numbers(vector)

    return evaluate


ANALYTIC = (
    ps.Add, ps.Sub, ps.Mul, ps.TrueDiv, ps.Neg, ps.Sqr, ps.Sqrt, ps.Pow, ps.Exp, ps.Expm1, ps.Log,
    ps.Log1p, ps.Sigmoid, ps.Softplus, ps.Tanh, ps.Sin, ps.Cos, ps.Erf, ps.Reciprocal, ps.Cast,
    ps.Identity, ps.Second, ps.Switch,
)  # fmt: skip
"""Functions that are zero almost nowhere if they are not zero everywhere, of what is so itself."""


class _Anywhere:
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
