"""What holds of every model that the package returns: checked, since a breach would be silent.

A variable that is integrated out and stays in the model is there twice: once in the marginal
density of the responses, once as a parameter with nothing but its prior.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pymc.model.core import Model
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_marginal_lmm.errors import InternalError
from pymc_marginal_lmm.model.marginal_rv import MarginalRV

__all__ = ["check_marginal", "check_restored"]


def check_marginal(plain: Model, marginal: Model, gone: Sequence[Variable]) -> None:
    """Check that a marginal model has all of a plain model's variables but those that are gone.

    Parameters
    ----------
    plain, marginal : Model
    gone : sequence of Variable
        Random variables of the graph that ``marginal`` was made from: the effects, and what
        dropped out with them.

    Raises
    ------
    InternalError
        Names the variable.
    """
    names = [rv.name for rv in gone]
    expected = [rv for rv in _free(plain) if rv not in names]
    _compare(_free(marginal), expected)
    _compare(_observed(marginal), _observed(plain))
    reached = set(ancestors(_variables(marginal)))
    for rv in gone:
        if rv in reached:
            raise InternalError(rv.name, "it is integrated out, but what is left depends on it")
    _check_values(marginal)


def check_restored(
    marginal: Model, full: Model, ops: Iterable[MarginalRV], names: Iterable[str]
) -> None:
    """Check that variables are given back, each once, and that nothing else has changed.

    Parameters
    ----------
    marginal, full : Model
    ops : iterable of MarginalRV
        Whose effects and dependents were given back.
    names : iterable of str
        Those of them that were.

    Raises
    ------
    InternalError
        Names the variable.
    """
    random = {effect.name for op in ops for effect in op.structure.effects}
    random |= {d.name for op in ops for d in op.dependents if d.value is not None}
    names = list(names)
    _compare(_free(full), _free(marginal) + [name for name in names if name in random])
    _compare(_observed(full), _observed(marginal))
    computed = [variable.name for variable in marginal.deterministics]
    computed += [name for name in names if name not in random]
    _compare([variable.name for variable in full.deterministics], computed)
    _check_values(full)


def _free(model: Model) -> list[str]:
    return [rv.name for rv in model.free_RVs]


def _observed(model: Model) -> list[str]:
    return [rv.name for rv in model.observed_RVs]


def _variables(model: Model) -> list[Variable]:
    return [*model.basic_RVs, *model.deterministics, *model.potentials]


def _compare(found: Sequence[str], expected: Sequence[str]) -> None:
    found_times, expected_times = Counter(found), Counter(expected)
    for name in (found_times | expected_times) - (found_times & expected_times):
        times, right = found_times[name], expected_times[name]
        raise InternalError(name, f"it is in the new model {times} times instead of {right}")


def _check_values(model: Model) -> None:
    """Check that each random variable has a value variable of its own, which nothing depends on."""
    _compare([rv.name for rv in model.rvs_to_values], [rv.name for rv in model.basic_RVs])
    values = Counter(model.rvs_to_values[rv] for rv in model.free_RVs)
    reached = set(ancestors(_variables(model)))
    for value, times in values.items():
        if times > 1:
            raise InternalError(value.name, f"it is the value of {times} variables")
        if value in reached:
            raise InternalError(value.name, "a variable depends on this value")
