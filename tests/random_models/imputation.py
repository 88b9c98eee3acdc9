"""Recipes with a response that others depend on, and some of whose rows are missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from tests.random_models.author import recipes
from tests.random_models.expressions import Expression, Name, Number, Op
from tests.random_models.recipe import Recipe, Response, Variable
from tests.random_models.spellings import (
    ADD,
    CHOOSE,
    MASKED,
    MULTIPLY,
    add,
    choose,
    masked,
    multiply,
)

__all__ = ["recipes_with_missing_predictors"]


@st.composite
def recipes_with_missing_predictors(draw: st.DrawFn) -> Recipe:
    """Models in which missing rows are effects like others."""
    recipe = draw(recipes())
    number = draw(st.integers(0, len(recipe.responses) - 1))
    first = recipe.responses[number]
    if first.family != "Normal":
        first = replace(first, family="Normal", sigma=Number(0.8), columns=1, how="")
    y = recipe.data[first.y]
    gaps = draw(st.lists(st.integers(0, y.size - 1), min_size=1, max_size=y.size - 2, unique=True))
    missing = np.zeros(y.shape, dtype=bool)
    missing[gaps] = True
    own = Variable(
        f"{first.name}_unobserved",
        "Missing",
        (int(missing.sum()),),
        mean=Op(_rows(missing), (first.mean,), "{0}"),
        scale=Op(_rows(missing), (first.sigma,), "{0}"),
    )
    variables = [*recipe.variables, own, Variable("follows", "StudentT")]
    filled = Op(
        _filled(missing),
        (Name(first.y, y.shape), Name(own.name, own.shape)),
        f'model["{first.name}"].ravel()',
    )
    slope, ways = Name("follows"), st.sampled_from
    mean: Expression = Op(multiply, (filled, slope), draw(ways(MULTIPLY)), MULTIPLY[0])
    if draw(st.booleans()):
        half = Name("half_of_rows", y.shape, "bool")
        if draw(st.booleans()):
            mean = Op(masked, (mean, half), draw(ways(MASKED)), MASKED[0])
        else:
            mean = Op(choose, (half, mean, first.mean), draw(ways(CHOOSE)), CHOOSE[0])
    if draw(st.booleans()):
        mean = Op(add, (mean, first.mean), draw(ways(ADD)), ADD[0])
    values = np.random.default_rng(recipe.seed + 3).normal(size=y.size).round(2)
    return replace(
        recipe,
        data={
            **recipe.data,
            "half_of_rows": np.arange(y.size) % 2 == 0,
            first.y: np.where(missing, np.nan, y),
            "y_follower": values,
        },
        mutable=recipe.mutable - {first.y},
        variables=tuple(variables),
        responses=(
            *recipe.responses[:number],
            first,
            *recipe.responses[number + 1 :],
            Response("follower_", "Normal", mean, Number(0.7), "y_follower"),
        ),
    )


def _rows(missing: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda of_all: np.broadcast_to(of_all, missing.shape)[missing]


def _filled(missing: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def filled(seen: np.ndarray, unseen: np.ndarray) -> np.ndarray:
        values = seen.copy()
        values[missing] = unseen
        return values

    return filled
