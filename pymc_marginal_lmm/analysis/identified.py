r"""Flat coefficients must be identified by the design: else the integral over them is infinite.

With ``y ~ Normal(Zu + Xβ, W⁻¹)``, ``u`` proper and ``β`` flat, the integral over both is finite
if and only if the columns of ``X`` are linearly independent: along ``β + tv`` with ``Xv = 0`` the
density does not change, and if there is no such ``v``, ``Xᵀ(ZΛΛᵀZᵀ + W⁻¹)⁻¹X`` is positive
definite, whatever ``Λ`` is. Where a flat coefficient is the prior mean of effects, their rows are
its rows.

Columns may hold parameters. What they make dependent at almost all values is found at two random
points (:mod:`pymc_marginal_lmm.analysis.anywhere`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from pytensor import config
from pytensor.graph.basic import Variable
from scipy import sparse

from pymc_marginal_lmm.analysis.anywhere import Anywhere
from pymc_marginal_lmm.analysis.parameters import Parameters
from pymc_marginal_lmm.analysis.rank import independent_rank, null_space
from pymc_marginal_lmm.analysis.remedies import Remedy
from pymc_marginal_lmm.analysis.terms import NOTHING, ONE, Refusal, Terms
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
    anywhere = Anywhere(sampled, np.random.default_rng(seed))

    def evaluate(vector: Variable) -> np.ndarray:
        try:
            with np.errstate(all="ignore"):
                value = Values().structure(anywhere.of(vector))
        except (NotKnown, TypeError, ValueError, ArithmeticError, np.linalg.LinAlgError):
            value = np.full(1, np.nan)
        return value if np.isfinite(value).all() else anywhere.numbers(vector)

    return evaluate
