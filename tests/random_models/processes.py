"""Recipes with a process of many steps, which the package keeps as a band."""

from __future__ import annotations

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from tests.random_models.author import PROCESS_KINDS, Author, Effects
from tests.random_models.expressions import names_in
from tests.random_models.recipe import Recipe

__all__ = ["recipes_of_long_processes"]


@st.composite
def recipes_of_long_processes(draw: st.DrawFn) -> Recipe:
    """Models of a long walk, autoregression or row of areas, and perhaps of other effects."""
    author = Author(draw)
    author.spelling = False  # element by element, a long process is a large graph
    steps = draw(st.integers(70, 100))
    author.levels, author.parents = [steps], [None]
    author.rows = [draw(st.integers(steps // 2, 2 * steps))]
    process = author.process(draw(st.sampled_from(PROCESS_KINDS)), (steps,))
    effects = [Effects(process, 0)]
    if draw(st.booleans()):
        author.levels.append(draw(st.integers(2, 4)))
        author.parents.append(None)
        shape = (author.levels[1],)
        u = author.declare("u", "Normal", shape, scale=author.positive())
        effects.append(Effects(u, 1))
    in_order = draw(st.booleans())
    if in_order:  # of time, without gaps
        codes = np.sort(np.resize(np.arange(steps), author.rows[0]))
        author.number("g0_0", codes)
    recipe = author.model(effects)
    bounded = {v.name for v in recipe.variables if v.family == "Uniform"}
    explodes = any(v.family == "AR" and names_in(v.lag) - bounded for v in recipe.variables)
    # No band holds the effects of rows that all share their noise, or of steps far apart in one
    # row, or in rows that are correlated: a limit, see README.
    correlated = [r for r in recipe.responses if r.family == "MvNormal"]
    wide = any(r.columns == 1 or not in_order for r in correlated)
    wide |= any(name.startswith("other") for name in recipe.data)
    assume(not (explodes and wide))
    return recipe
