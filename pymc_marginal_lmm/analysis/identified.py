r"""Flat coefficients must be identified by the design: else the integral over them is infinite.

With ``y ~ Normal(Zu + Xβ, W⁻¹)``, ``u`` proper and ``β`` flat, the integral over both is finite
if and only if the columns of ``X`` are linearly independent: along ``β + tv`` with ``Xv = 0`` the
density does not change, and if there is no such ``v``, ``Xᵀ(ZΛΛᵀZᵀ + W⁻¹)⁻¹X`` is positive
definite, whatever ``Λ`` is. Where a flat coefficient is the prior mean of effects, their rows are
its rows.

Columns may hold parameters. What they make dependent at almost all values is found at two random
points; functions that are not analytic (a condition, the larger of two) may be zero at any point
and not be zero at others, and stand for any numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytensor.scalar as ps
from pytensor import config
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors, io_toposort
from pytensor.tensor.elemwise import CAReduce, Elemwise
from pytensor.tensor.type import TensorType
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
    variables = np.split(basis, np.cumsum(sizes)[:-1])
    taking_part = [np.abs(v).max(axis=1) > NEGLIGIBLE for v in variables]
    left_out = _fewest(basis, variables, taking_part)
    parts = [
        _elements(effects[k], used) for k, used in zip(flat, taking_part, strict=True) if used.any()
    ]
    names = " and ".join(f"'{effects[flat[i]].name}'" for i in left_out)
    raise Refusal(
        [leaves[flat[i]] for i in left_out],
        f"the data do not identify {_listed(parts)}: their columns of the design are linearly "
        "dependent and their priors flat, so that the integral is infinite",
        Remedy.IDENTIFY.about(names),
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


def _undetermined(
    terms: Sequence[Terms],
    sizes: Sequence[int],
    parameters: Parameters,
    sampled: Sequence[Variable],
) -> np.ndarray:
    """Return a basis of the null space of the design; see :func:`null_space`."""
    tolerance = float(np.finfo(config.floatX).eps ** 0.75)
    basis = np.zeros((sum(sizes), 0))
    for X in _designs(terms, sizes, parameters, sampled):
        basis = null_space(X, sizes, tolerance)
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
    rng = np.random.default_rng(seed)
    point: dict[Variable, np.ndarray] = {}

    def evaluate(vector: Variable) -> np.ndarray:
        reached = set(ancestors([vector], blockers=list(sampled)))
        parents = [v for v in sampled if v in reached]
        for v in parents:
            if v not in point:
                point[v] = rng.uniform(0.2, 0.8, size=Values().shape(v))
        if _is_analytic(vector, parents):
            try:
                with np.errstate(all="ignore"):
                    value = Values().given({v: point[v] for v in parents}).structure(vector)
            except (NotKnown, ValueError, ArithmeticError, np.linalg.LinAlgError):
                value = np.full(1, np.nan)
            if np.isfinite(value).all():
                return value
        return rng.uniform(0.2, 0.8, size=Values().shape(vector))

    return evaluate


ANALYTIC = (
    ps.Add, ps.Sub, ps.Mul, ps.TrueDiv, ps.Neg, ps.Sqr, ps.Sqrt, ps.Pow, ps.Exp, ps.Expm1, ps.Log,
    ps.Log1p, ps.Sigmoid, ps.Softplus, ps.Tanh, ps.Sin, ps.Cos, ps.Erf, ps.Reciprocal, ps.Cast,
    ps.Identity, ps.Second,
)  # fmt: skip
"""Functions that are zero almost nowhere if they are not zero everywhere."""


def _is_analytic(vector: Variable, parents: Sequence[Variable]) -> bool:
    if any(parent.type.dtype in DISCRETE for parent in parents):
        return False
    moving = set(parents)
    for node in io_toposort(parents, [vector]):
        if moving.isdisjoint(node.inputs):
            continue
        if isinstance(node.op, Elemwise | CAReduce) and not isinstance(node.op.scalar_op, ANALYTIC):
            return False
        if any(isinstance(v.type, TensorType) and v.type.dtype in DISCRETE for v in node.outputs):
            return False
        moving.update(node.outputs)
    return True
