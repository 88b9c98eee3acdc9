"""Recipes in which a variable has another role than its place in the graph suggests.

Effects that others depend on by their shape only, responses without rows, and responses that
others depend on, priors that depend on data: none of this changes what the model means for the
effects.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from tests.random_models.author import recipes
from tests.random_models.expressions import Name, Number, Op
from tests.random_models.recipe import Recipe, Response, Variable
from tests.random_models.spellings import add, exp, multiply

__all__ = ["recipes_with_roles"]

BY_SHAPE = (
    'pm.Normal("extra", pt.zeros_like({v}), 1.0, observed=np.ones({shape}))',
    'pm.Normal("extra", 1.0 / pt.atleast_1d({v}).shape[0], 1.0, observed=np.ones(3))',
    'pm.Normal("extra", 0.0, 1.0, shape={v}.shape, observed=np.ones({shape}))',
    'pm.Normal("extra", {v}.ravel()[np.zeros(0, dtype=int)], 1.0, observed=np.zeros(0))',
    'pm.Normal("extra", 0.5, pt.exp(0 * {v}.sum()), observed=np.ones(3))',
    'pm.Poisson("extra", pt.exp(pt.zeros_like({v})), observed=np.ones({shape}, dtype=int))',
    'pm.Poisson("extra", pt.exp(0.0 * {v}), observed=np.ones({shape}, dtype=int))',
    'pm.Potential("extra", pt.zeros_like({v}) - 1.0)',
    'pm.Deterministic("extra", pt.ones_like({v}) * 2.0)',
)
"""What depends on a variable ``v`` of some shape, but not on its value."""

SEEN = Variable("seen_", "Seen", (3,))
GIVEN = "HalfNormal(2.0 + seen_.mean())"
"""The prior of a scale that depends on an observed variable."""

OF_DATA = (
    'pm.Poisson("counts", pt.exp(0.1 * model["{y}"].ravel()), observed=np.ones({n}, dtype=int))',
    'pm.StudentT("heavy", 4.0, mu=model["{y}"].ravel(), observed=np.ones({n}))',
    'pm.Potential("penalty_of_data", -(model["{y}"] ** 2).sum())',
    'pm.Deterministic("twice", 2.0 * model["{y}"])',
)
"""What depends on an observed variable ``y`` of ``n`` elements."""


def itself(y: np.ndarray) -> np.ndarray:
    return y


@st.composite
def recipes_with_roles(draw: st.DrawFn) -> Recipe:
    """Models all of whose effects the package promises to integrate out, whatever else there is."""
    recipe = draw(recipes())
    extras = list(recipe.extras)
    shaped = [v for v in recipe.variables if v.gaussian]
    if shaped and draw(st.booleans()):
        v = draw(st.sampled_from(shaped))
        extras.append(draw(st.sampled_from(BY_SHAPE)).format(v=v.name, shape=v.shape))
    first = recipe.responses[0]
    n = recipe.data[first.y].size
    if draw(st.booleans()):
        extras.append(draw(st.sampled_from(OF_DATA)).format(y=first.name, n=n))
    if draw(st.booleans()):
        recipe = _with_a_follower(draw, recipe, first, n)
    if draw(st.booleans()):
        given = (
            replace(v, prior=GIVEN) if v.family in ("HalfNormal", "LKJ") else v
            for v in recipe.variables
        )
        recipe = replace(recipe, variables=(SEEN, *given))
    return replace(recipe, extras=tuple(extras))


def _with_a_follower(draw: st.DrawFn, recipe: Recipe, first: Response, n: int) -> Recipe:
    """Add a response that the first one predicts, with a coefficient, and perhaps its effects."""
    y = Name(first.y, (n,))
    predictor = Op(itself, (y,), f'model["{first.name}"].ravel()')
    slope = Variable("follows", draw(st.sampled_from(["StudentT", "Normal"])))
    mean = Op(multiply, (Name("follows"), predictor), "{0} * {1}")
    if draw(st.booleans()):
        mean = Op(add, (mean, first.mean), "{0} + {1}")
    sigma: Number | Op = Number(0.7)
    if draw(st.booleans()):
        tenth = Op(multiply, (predictor, Number(0.1)), "{0} * {1}")
        sigma = Op(exp, (tenth,), "pt.exp({0})")
    values = np.random.default_rng(recipe.seed + 2).normal(size=n).round(2)
    follower = Response("follower_", "Normal", mean, sigma, "y_follower")
    return replace(
        recipe,
        data={**recipe.data, "y_follower": values},
        variables=(*recipe.variables, slope),
        responses=(*recipe.responses, follower),
    )
