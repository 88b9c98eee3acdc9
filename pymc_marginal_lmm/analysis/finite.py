"""Data that are NaN or infinite: found before they become a density that is NaN everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import ancestors
from pytensor.tensor.type import TensorType
from scipy.sparse import spmatrix

from pymc_marginal_lmm.analysis.remedies import Remedy
from pymc_marginal_lmm.errors import NotMarginalizable
from pymc_marginal_lmm.structure import GroupingFactor, MixedModel
from pymc_marginal_lmm.values import NotKnown, Values

__all__ = ["check_finite"]


def check_finite(model: MixedModel, ys: Sequence[Variable], sampled: Sequence[Variable]) -> None:
    """Raise if data make part of a model NaN or infinite, whatever the parameters.

    Data may hold such values where the model does not use them (behind a condition), so that each
    part is evaluated, with all parameters at one half, if there are any among its data.

    Parameters
    ----------
    model : MixedModel
    ys : sequence of Variable
        Value of each response.
    sampled : sequence of Variable
        Variables that ``model`` is expressed over.

    Raises
    ------
    NotMarginalizable
        Names the data if they have a name, and where they are used.
    """
    _check_coefficients(model)
    first = model.effects[0].name
    parameters = {v: np.full([n or 1 for n in v.type.shape], 0.5) for v in sampled}
    for effect, place, expression in _parts(model, ys):
        names = [name for name, data in _data(expression, sampled) if not np.isfinite(data).all()]
        if not names:
            continue
        try:
            value = Values().given(parameters).structure(expression)
        except NotKnown:
            continue
        if bad := int((~np.isfinite(value)).sum()):
            data = ", ".join(f"'{name}'" for name in dict.fromkeys(names) if name)
            raise NotMarginalizable(
                first if effect is None else effect,
                f"{place} has {bad} values that are NaN or infinite"
                + (f", from the data {data}" if data else ""),
                Remedy.CORRECT_ROWS,
            )


def _check_coefficients(model: MixedModel) -> None:
    for factor in model.factors:
        if isinstance(factor.coefficients, np.ndarray):
            rows = np.flatnonzero(~np.isfinite(factor.coefficients).all(axis=(1, 2)))
            if rows.size:
                effects = _names(model, factor)
                raise NotMarginalizable(
                    effects[0],
                    f"what {' and '.join(map(repr, effects))} are multiplied by is NaN or "
                    f"infinite in {rows.size} rows (first: row {rows[0]})",
                    Remedy.CORRECT_ROWS,
                )


def _names(model: MixedModel, factor: GroupingFactor) -> list[str]:
    return [model.effects[e].name for share in factor.shares for e in share.effects]


def _parts(model: MixedModel, ys: Sequence[Variable]) -> Iterator[tuple[str | None, str, Variable]]:
    for factor in model.factors:
        names = _names(model, factor)
        place = f"what {' and '.join(map(repr, names))} are multiplied by"
        if isinstance(factor.coefficients, Variable):
            yield names[0], place, factor.coefficients
        if factor.loadings is not None:
            yield names[0], place, factor.loadings.entries
    for response, y in zip(model.responses, ys, strict=True):
        yield None, f"the observed data of '{response.name}'", y
        yield None, f"the mean of '{response.name}'", response.offset
        yield None, f"the standard deviation of '{response.name}'", response.sigma
        if response.correlation is not None and isinstance(response.correlation.matrix, Variable):
            yield None, f"the covariance of '{response.name}'", response.correlation.matrix
    for effect in model.effects:
        yield effect.name, f"the prior mean of '{effect.name}'", effect.mean
        yield effect.name, f"the prior scale of '{effect.name}'", effect.scale


def _data(
    expression: Variable, sampled: Sequence[Variable]
) -> Iterator[tuple[str | None, np.ndarray]]:
    for source in ancestors([expression], blockers=list(sampled)):
        if not isinstance(source.type, TensorType) or source.type.dtype[:5] != "float":
            continue
        if isinstance(source, Constant):
            yield source.name, _numbers(source.data)
        elif isinstance(source, SharedVariable):
            yield source.name, _numbers(source.get_value(borrow=True))


def _numbers(data: np.ndarray | spmatrix) -> np.ndarray:
    return data if isinstance(data, np.ndarray) else data.data
