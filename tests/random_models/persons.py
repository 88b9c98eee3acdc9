"""Structural equations: latent variables of persons, each behind several rows, or some of them.

They regress on each other, and persons do not meet: one small block per person, however that is
spelled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from tests.random_models.author import Author
from tests.random_models.expressions import Expression, Number, Op
from tests.random_models.recipe import Recipe, Response
from tests.random_models.spellings import (
    ADD,
    INDEX,
    INDEX_PAIR,
    INDEX_VECTOR,
    MASKED,
    MULTIPLY,
    STACK_COLUMNS,
    add,
    index,
    index_pair,
    masked,
    multiply,
    stack_columns,
)

__all__ = ["recipes_of_persons"]


class Psychologist(Author):
    """Writes one model of persons."""

    def latent(self, persons: int, before: Sequence[Expression]) -> Expression:
        """Return a latent variable, perhaps with a regression on some that came before."""
        shape = (persons,)
        causes = [self.path(eta) for eta in before if self.often()]
        if not causes:
            return self.declare("eta", "Normal", shape, scale=self.prior_scale_scalar())
        mean = self.sum(causes)
        scale = self.prior_scale_scalar()
        if self.often():
            return self.declare(
                "eta", "Normal", shape, mean=mean, scale=scale, how=f"shape={shape}"
            )
        zeta = self.declare("zeta", "Normal", shape)
        return self.op(add, ADD, mean, self.op(multiply, MULTIPLY, zeta, scale))

    def path(self, eta: Expression) -> Expression:
        return self.op(multiply, MULTIPLY, eta, self.declare("path", "StudentT"))

    def latents(self, persons: int) -> list[Expression]:
        number = self.pick(2, 2, 3)
        kind = self.pick("regressions", "regressions", "correlated")
        if kind == "correlated":
            z = self.declare(
                "z",
                "MvNormal",
                (persons, number),
                scale=self.root(number),
                how="chol=ROOT, shape=" + str((persons, number)),
            )
            return [Op(_column(k), (z,), f"{{0}}[:, {k}]") for k in range(number)]
        known: list[Expression] = []
        for _ in range(number):
            known.append(self.same(self.latent(persons, known)))
        return known

    def at(self, eta: Expression, r: int) -> Expression:
        """Return what a latent variable does in the rows of a response, perhaps in some of them."""
        person = self.number(f"person{r}", np.arange(self.rows[r]) % self.levels[0])
        t: Expression = self.op(index, (*INDEX, *INDEX_VECTOR), eta, person)
        if self.often():
            item = self.number(f"item{r}", np.arange(self.rows[r]) // self.levels[0])
            lam = self.declare("lam", self.pick("HalfNormal", "StudentT"), (int(item.shape[0]),))
            t = self.op(multiply, MULTIPLY, t, self.op(index, INDEX[:4], lam, item))
        if self.seldom():
            t = self.op(masked, MASKED, t, self.some(r))
        return self.same(t, r)

    def both(self, etas: Sequence[Expression], r: int) -> Expression:
        """Return latent variables that each enter rows of their own, of one response."""
        person = self.number(f"person{r}", np.arange(self.rows[r]) % self.levels[0])
        which = np.arange(self.rows[r]) // self.levels[0] % len(etas)
        k = self.number(f"which{r}", which)
        columns = self.op(stack_columns, STACK_COLUMNS, *etas)
        return self.same(self.op(index_pair, INDEX_PAIR, columns, person, k), r)

    def persons(self) -> Recipe:
        persons = self.draw(st.integers(4, 7))
        self.levels, self.parents = [persons], [None]
        etas = self.latents(persons)
        means = []
        if self.often():
            self.rows = [persons * len(etas) * self.pick(1, 2)]
            means.append(self.both(etas, 0))
        else:
            self.rows = [persons * self.pick(1, 2, 3) for _ in etas]
            for r, eta in enumerate(etas):
                terms = [self.at(eta, r)]
                terms += [self.at(other, r) for other in etas if other is not eta and self.seldom()]
                means.append(self.sum(terms, r))
        responses = []
        for r, mean in enumerate(means):
            y = self.number(f"y{r}", self.normal(self.rows[r]))
            mean = self.op(add, ADD, mean, self.declare("nu", "StudentT"))
            sigma: Expression = self.positive() if self.often() else Number(0.8)
            responses.append(Response(f"y{r}_", "Normal", mean, sigma, y.name))
        return Recipe(
            self.data,
            frozenset(self.mutable),
            tuple(self.variables),
            tuple(responses),
            seed=self.seed,
        )


def _column(k: int):  # type: ignore[no-untyped-def]
    return lambda z: z[:, k]


@st.composite
def recipes_of_persons(draw: st.DrawFn) -> Recipe:
    """Models of latent variables; the first axis of each is that of persons."""
    return Psychologist(draw).persons()
