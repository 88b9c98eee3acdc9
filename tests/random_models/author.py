"""The author: draws what a model is, and how it is spelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from tests.random_models.expressions import Expression, Name, Number, Op, names_in, replace_at, walk
from tests.random_models.recipe import Recipe, Response, Variable
from tests.random_models.spellings import (
    ADD,
    ADD_ALIKE,
    ADD_ALL,
    CENTRE,
    CENTRED,
    CHOOSE,
    CORRELATIONS,
    HALVES,
    HOSTILE,
    INDEX,
    INDEX_COLUMN,
    INDEX_PAIR,
    INDEX_TWICE,
    INDEX_VECTOR,
    LINEAR_BUT_UNUSUAL,
    MASKED,
    MAT_VEC,
    MULTIPLY,
    PRECISION,
    RATIO,
    ROW_DOT,
    SAME_AXIS,
    SAME_BY,
    SAME_SCALAR,
    SAME_VECTOR,
    STACK,
    STACK_COLUMNS,
    STANDARDISED,
    TABLE,
    TIMES_COLUMNS,
    TIMES_TRANSPOSE,
    TRANSPOSE,
    add,
    add_all,
    centre,
    choose,
    correlations,
    divide,
    exp,
    halves,
    index,
    index_pair,
    index_twice,
    masked,
    mat_vec,
    multiply,
    precision,
    root_of,
    row_dot,
    same,
    same_by,
    stack,
    stack_columns,
    standardised,
    subtract,
    table,
    times_columns,
    times_transpose,
    transpose,
)

PROCESS_KINDS = ("Walk", "AR", "CAR", "ICAR")


@dataclass(frozen=True)
class Effects:
    """An expression with one row per level of a factor."""

    expression: Expression
    factor: int


class Author:
    """Writes one model: draws what it is and how it is spelled."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.seed = draw(st.integers(0, 999))
        self.rng = np.random.default_rng(self.seed)
        self.data: dict[str, np.ndarray] = {}
        self.mutable: set[str] = set()
        self.variables: list[Variable] = []
        self.coords: list[tuple[str, int]] = []
        self.levels: list[int] = []
        self.parents: list[int | None] = []
        self.rows: list[int] = []
        self.spelling = True

    # Choices

    def pick(self, *options):  # type: ignore[no-untyped-def]
        return self.draw(st.sampled_from(options))

    def seldom(self) -> bool:
        return self.pick(False, False, False, False, True)

    def often(self) -> bool:
        return self.pick(False, True)

    # Data

    def number(self, name: str, values: np.ndarray, mutable: bool = True) -> Name:
        if name not in self.data:
            self.data[name] = values
            if mutable and self.seldom():
                self.mutable.add(name)
        return Name(name, values.shape, str(values.dtype))

    def normal(self, *shape: int) -> np.ndarray:
        return (self.rng.normal(size=shape).round(1) + 0.05).round(2)

    def codes(self, factor: int, r: int, kind: str = "g") -> Name:
        """Return the level of each row of a response; some levels may have no row."""
        name = f"{kind}{factor}_{r}"
        if name not in self.data:
            child = next((f for f, p in enumerate(self.parents) if p == factor), None)
            if child is not None and kind == "g":
                parent, of = self.codes(child, r), self.parent(child)
                return self.number(name, self.data[of.name][self.data[parent.name]])
            M = self.levels[factor]
            used = self.rng.permutation(M)[: self.pick(M, max(M - 1, 1))]
            return self.number(name, self.rng.choice(used, size=self.rows[r]))
        return self.number(name, self.data[name])

    def parent(self, factor: int) -> Name:
        """Return, for each level of a nested factor, the level of its parent."""
        above = self.parents[factor]
        assert above is not None
        values = self.rng.integers(self.levels[above], size=self.levels[factor])
        return self.number(f"parent{factor}", self.data.get(f"parent{factor}", values))

    def covariate(self, r: int) -> Expression:
        name = self.pick("x", "w")
        x = self.number(f"{name}{r}", self.normal(self.rows[r]))
        if not self.seldom():
            return x
        return self.op(standardised, STANDARDISED, x) if self.often() else Op(centre, (x,), CENTRED)

    def design(self, r: int, columns: int) -> Name:
        X = self.normal(self.rows[r], columns)
        X[:, 0] = 1.0
        return self.number(f"X{columns}_{r}", X)

    def condition(self, r: int) -> Name:
        return self.number(f"late{r}", np.arange(self.rows[r]) % 3 == 1)

    def some(self, r: int) -> Name:
        """Return rows that have something, which cannot be set."""
        return self.number(f"some{r}", np.arange(self.rows[r]) % 3 != 1, mutable=False)

    # Variables

    def declare(self, prefix: str, family: str, shape: tuple[int, ...] = (), **more) -> Name:  # type: ignore[no-untyped-def]
        name = f"{prefix}{len(self.variables)}"
        self.variables.append(Variable(name, family, shape, **more))
        return Name(name, shape)

    def positive(self, shape: tuple[int, ...] = ()) -> Name:
        old = [v for v in self.variables if v.family == "HalfNormal" and v.shape == shape]
        if old and self.seldom():  # shared by several terms
            return Name(old[0].name, shape)
        return self.declare("tau", "HalfNormal", shape)

    def scale(self) -> Expression:
        """Return one positive number, as authors come by it."""
        kind = self.pick("tau", "tau", "tau", "precision", "ratio", "product", "vector", "data")
        if kind == "precision":
            return self.op(precision, PRECISION, self.positive())
        if kind == "ratio":
            return self.op(divide, RATIO, self.positive(), self.positive())
        if kind == "product":
            return self.op(multiply, MULTIPLY[:3], self.positive(), self.positive())
        if kind == "vector":
            return self.positive((1,))
        if kind == "data":
            half = self.number("half", np.array(0.5))
            return self.op(multiply, MULTIPLY[:3], half, self.positive())
        return self.positive()

    def coefficient(self) -> Name:
        """Return one common coefficient."""
        family = self.pick("Normal", "StudentT", "Flat")
        scale = Number(2.0)
        if family == "Normal" and self.seldom():
            scale = self.positive()
        mean = Number(self.pick(0.0, 0.5))
        return self.declare("b", family, mean=mean, scale=scale)

    def how(self, shape: tuple[int, ...], *whole: Expression) -> str:
        if self.seldom():
            dims = tuple(f"dim{len(self.coords) + i}" for i in range(len(shape)))
            self.coords += zip(dims, shape, strict=True)
            return f"dims={dims}"
        if any(e.shape == shape for e in whole) and self.often():
            return "implicit"
        return f"shape={shape}"

    def same(self, e: Expression, r: int | None = None) -> Expression:
        """Write an expression in a roundabout way, or leave it."""
        if names_in(e) <= set(self.data):
            return e  # still a numpy array in the program
        ways = [*SAME_SCALAR]
        if e.shape:
            ways += SAME_AXIS
        if len(e.shape) == 1:
            ways += SAME_VECTOR
        while self.spelling and self.pick(False, False, True):
            if r is not None and e.shape == (self.rows[r],) and self.pick(False, False, True):
                e = Op(same_by, (e, self.condition(r)), self.pick(*SAME_BY), "{0}")
            elif self.draw(st.integers(0, 19)) == 19 and e.shape:
                e = Op(same, (e,), self.pick(*LINEAR_BUT_UNUSUAL))
            else:
                e = Op(same, (e,), self.pick(*ways), "{0}")
        return e

    def op(self, meaning: Callable, templates: Sequence[str], *parts: Expression) -> Op:
        return Op(meaning, parts, self.pick(*templates), templates[0])

    def sum(self, parts: Sequence[Expression], r: int | None = None) -> Expression:
        """Add, in any order and association."""
        parts = list(self.draw(st.permutations(parts)))
        if len(parts) == 1:
            return parts[0]
        if self.seldom():
            alike = len({p.shape for p in parts}) == 1 and parts[0].shape != ()
            return self.op(add_all, (*ADD_ALL, *ADD_ALIKE) if alike else ADD_ALL, *parts)
        cut = self.draw(st.integers(1, len(parts) - 1))
        left, right = self.sum(parts[:cut], r), self.sum(parts[cut:], r)
        return self.same(self.op(add, ADD, left, right), r)

    # Effects

    def prior_mean(self, factor: int, above: dict[int, list[Effects]]) -> Expression:
        """Return the mean of the effects of a factor: a number, or a regression by level."""
        M = self.levels[factor]
        kind = self.pick("zero", "number", "vector", "common", "parent", "regression", "mixed")
        if kind == "zero":
            return Number(0)
        if kind == "number":
            return Number(1.5)
        if kind == "vector":
            return self.number(f"m{factor}", self.normal(M))
        if kind == "common":
            return self.same(self.coefficient())
        parts: list[Expression] = []
        vectors = [e for e in above.get(self.parents[factor], []) if len(e.expression.shape) == 1]  # type: ignore[arg-type]
        if kind in ("parent", "mixed") and vectors:
            v = self.pick(*vectors).expression
            parts.append(self.op(index, INDEX, v, self.parent(factor)))
        if kind in ("regression", "mixed") or not parts:
            family = self.pick("Normal", "StudentT")
            gamma = self.declare("gamma", family, (2,), scale=Number(1.0))
            W = self.number(f"W{factor}", self.normal(M, 2))
            parts.append(self.op(mat_vec, MAT_VEC, W, gamma))
        return self.same(self.sum(parts))

    def prior_scale(self, factor: int) -> Expression:
        M = self.levels[factor]
        kind = self.pick("tau", "number", "by kind", "by level", "vector", "product")
        if kind == "tau":
            return self.scale()
        if kind == "number":
            return Number(0.7)
        if kind == "by kind":
            of = self.number(f"kind{factor}", np.arange(M) % 2)
            return Op(index, (self.positive((2,)), of), "{0}[{1}]")
        if kind == "by level":
            return self.positive((M,))
        sds = self.number(f"sd{factor}", (np.abs(self.normal(M)) + 0.1).round(2))
        return sds if kind == "vector" else self.op(multiply, MULTIPLY[:2], self.positive(), sds)

    def root(self, S: int) -> Expression:
        """Return the Cholesky factor of a covariance matrix."""
        kind = self.pick("constant", "scaled", "LKJ")
        if kind == "LKJ":
            return self.declare("chol", "LKJ", (S, S))
        values = np.tril(self.normal(S, S))
        np.fill_diagonal(values, np.abs(np.diag(values)) + 0.5)
        L = self.number(f"L{len(self.data)}", values, mutable=False)
        return L if kind == "constant" else Op(multiply, (self.positive(), L), "{0} * {1}")

    def correlations(self, S: int) -> Expression:
        """Return a matrix of sampled correlations, perhaps times scales: perhaps no covariance."""
        r = self.declare("r", "Uniform", (S * (S - 1) // 2,))
        C: Expression = self.op(correlations, CORRELATIONS, r)
        if self.often():
            C = Op(scaled_both, (C, self.positive((S,))), self.pick(*SCALED_BOTH), SCALED_BOTH[0])
        return C

    def vector_effects(self, factor: int, above: dict[int, list[Effects]]) -> Expression:
        M = self.levels[factor]
        kinds = ["centred", "standard", "non-centred", "scalars", "centred around 0"]
        kind = self.pick(*kinds, *(PROCESS_KINDS if M > 1 else ()))
        if kind in PROCESS_KINDS:
            return self.process(kind, (M,))
        if kind == "standard":
            return self.declare("z", "Normal", (M,), how=self.how((M,)))
        if kind == "scalars" and M <= 3:
            tau = self.prior_scale_scalar()
            scalars = [self.declare("u", "Normal", scale=tau) for _ in range(M)]
            return self.op(stack, STACK, *scalars)
        if kind == "centred around 0":
            u = self.declare(
                "u", "Normal", (M,), scale=self.prior_scale(factor), how=self.how((M,))
            )
            return self.op(centre, CENTRE, u)
        mean, scale = self.prior_mean(factor, above), self.prior_scale(factor)
        if kind == "non-centred":
            z = self.declare("z", "Normal", (M,), how=self.how((M,)))
            u = self.op(add, ADD, mean, self.op(multiply, MULTIPLY, scale, z))
            return Op(same, (u,), "pm.Deterministic('e{id}', {0})") if self.often() else u
        how = self.how((M,), mean, scale)
        return self.declare("u", "Normal", (M,), mean=mean, scale=scale, how=how)

    def process(self, family: str, shape: tuple[int, ...]) -> Expression:
        """Return effects whose prior is a process along the last axis."""
        scale = self.prior_scale_scalar()
        mean: Expression = self.coefficient() if self.seldom() else Number(self.pick(0.0, 0.5))
        if family == "CAR":
            return self.declare("u", "CAR", shape, mean=mean, scale=scale)
        if family == "ICAR":
            return self.op(add, ADD, mean, self.declare("u", "ICAR", shape, scale=scale))
        steps = (f"steps={shape[-1] - 1}",) if len(shape) == 1 else ()
        how = self.pick(f"shape={shape}", *steps)
        if self.seldom():
            how = self.how(shape)
        lag: Expression = Number(0.0)
        if family == "AR":  # which explodes, if it has the time
            explodes = self.often() and isinstance(mean, Number)
            lag = self.prior_scale_scalar() if explodes else self.declare("r", "Uniform")
        return self.declare("u", family, shape, mean=mean, scale=scale, lag=lag, how=how)

    def prior_scale_scalar(self) -> Expression:
        return self.positive() if self.often() else Number(0.7)

    def matrix_effects(self, factor: int) -> Expression:
        """Return effects with two or three columns."""
        M, S = self.levels[factor], self.pick(2, 3)
        kinds = ["MvNormal", "Normal", "z @ L.T", "(L @ z).T", "z * sds", "columns", "rows"]
        kind = self.pick(*kinds, "MatrixNormal", "Walk", "AR")
        if kind in ("Walk", "AR"):
            return self.process(kind, (M, S))
        if kind == "MatrixNormal":
            return self.declare("u", kind, (M, S), mean=Number(0.5), scale=self.root(S))
        if kind == "MvNormal":
            sampled = self.seldom()
            L = self.correlations(S) if sampled else self.root(S)
            mean: Expression = self.number(f"mean{S}", self.normal(S))
            if self.often():
                mean = self.declare("beta", self.pick("Normal", "StudentT"), (S,))
            given: tuple[str, ...] = ("chol=ROOT", "cov=ROOT @ ROOT.T", "cov=pt.dot(ROOT, ROOT.T)")
            if sampled:  # the program has the matrix where it needs no factor
                factor = self.pick("pt.linalg.cholesky({0})", "{0}")
                L = Op(root_of, (L,), factor)
                given = ("cov=ROOT",) if factor == "{0}" else ("chol=ROOT",)
            if isinstance(L, Name) and L.name in self.data:
                given += ("tau=np.linalg.inv(ROOT @ ROOT.T)",)
            how = f"{self.pick(*given)}, {self.how((M, S))}"
            return self.declare("u", "MvNormal", (M, S), mean=mean, scale=L, how=how)
        if kind == "columns":
            columns = [self.vector_effects(factor, {}) for _ in range(S)]
            return self.op(stack_columns, STACK_COLUMNS, *columns)
        if kind == "rows":
            u = self.declare("u", "Normal", (S, M), scale=self.positive(), how=self.how((S, M)))
            return self.op(transpose, TRANSPOSE, u)
        if kind == "Normal":
            scale = self.positive((S,)) if self.often() else self.prior_scale_scalar()
            return self.declare("u", "Normal", (M, S), scale=scale, how=self.how((M, S)))
        shape = (S, M) if kind == "(L @ z).T" else (M, S)
        z = self.declare("z", "Normal", shape, how=self.how(shape))
        if kind == "z * sds":
            return self.op(multiply, MULTIPLY, z, self.positive((S,)))
        L = self.root(S)
        if kind == "z @ L.T":
            return self.op(times_transpose, TIMES_TRANSPOSE, z, L)
        return self.op(times_columns, TIMES_COLUMNS, z, L)

    # Predictors

    def at_rows(self, effects: Effects, r: int) -> Expression:
        """Index effects by the rows of a response, through a nested factor if there is one."""
        e, g = self.same(effects.expression), self.codes(effects.factor, r)
        ways = (*INDEX, *INDEX_VECTOR) if len(e.shape) == 1 else INDEX
        child = next((f for f, p in enumerate(self.parents) if p == effects.factor), None)
        if child is not None and self.often():
            of, inner = self.parent(child), self.codes(child, r)
            return self.op(
                index_twice, INDEX_TWICE if len(e.shape) == 1 else INDEX_TWICE[:2], e, of, inner
            )
        return self.op(index, ways, e, g)

    def term(self, effects: Effects, r: int) -> Expression:
        """Return what some effects contribute to the rows of a response."""
        e = effects.expression
        if len(e.shape) == 2:
            S = e.shape[1]
            kind = self.pick("columns", "design", "two indices")
            if kind == "design":
                X = self.design(r, S)
                t: Expression = self.op(row_dot, ROW_DOT, self.at_rows(effects, r), X)
            elif kind == "two indices":
                k = self.number(f"k{S}_{r}", self.rng.integers(S, size=self.rows[r]))
                t = self.op(index_pair, INDEX_PAIR, self.same(e), self.codes(effects.factor, r), k)
            else:
                g, x = self.codes(effects.factor, r), self.covariate(r)
                first, second = (
                    self.op(column_of(k), INDEX_COLUMN, self.same(e), g, Number(k)) for k in (0, 1)
                )
                slope: Expression = self.op(multiply, MULTIPLY, second, x)
                if self.seldom():
                    slope = self.op(masked, MASKED, slope, self.some(r))
                t = self.sum([first, slope], r)
        else:
            t = self.at_rows(effects, r)
        t = self.same(t, r)
        change = self.pick("none", "slope", "scaled", "loading", "membership", "weights", "absent")
        if change == "absent":
            t = self.op(masked, MASKED, t, self.some(r))
        if change == "slope":
            t = self.op(multiply, MULTIPLY, t, self.covariate(r))
        if change == "scaled":
            t = self.op(multiply, MULTIPLY, t, self.scale())
        if change == "loading":
            item = self.number(f"item{r}", np.arange(self.rows[r]) % 3)
            lam = self.declare("lam", self.pick("HalfNormal", "StudentT"), (3,))
            t = self.op(multiply, MULTIPLY, t, self.op(index, INDEX[:4], lam, item))
        if change in ("membership", "weights") and len(e.shape) == 1:
            other = self.op(index, INDEX, e, self.codes(effects.factor, r, "other"))
            if change == "weights":
                t = self.op(multiply, MULTIPLY, t, self.covariate(r))
                t = self.op(add, ADD, t, self.op(multiply, MULTIPLY, other, Number(0.5)))
            else:
                t = self.op(subtract, ("{0} - {1}", "-({1} - {0})", "{0} + -1 * {1}"), t, other)
        return self.same(t, r)

    def common(self, r: int) -> list[Expression]:
        """Return fixed effects and offsets."""
        parts: list[Expression] = []
        if self.often():
            parts.append(self.coefficient())
        kind = self.pick("none", "slope", "matrix", "offset", "curve", "levels", "dependent")
        if kind == "slope":
            parts.append(self.op(multiply, MULTIPLY, self.coefficient(), self.covariate(r)))
        if kind == "matrix":
            X = self.number(f"D{r}", self.normal(self.rows[r], 2))
            beta = self.declare("beta", self.pick("Normal", "StudentT", "Flat"), (2,))
            parts.append(self.op(mat_vec, MAT_VEC, X, beta))
        if kind == "levels":  # of a factor, as unpooled coefficients
            factor = self.pick(*range(len(self.levels)))
            family = self.pick("Flat", "Flat", "Normal")
            beta = self.declare("beta", family, (self.levels[factor],))
            parts.append(self.op(index, (*INDEX, *INDEX_VECTOR), beta, self.codes(factor, r)))
        if kind == "dependent":  # perhaps in floating point only
            X = self.normal(self.rows[r], 3)
            X[:, 2] = self.pick(3.7 * X[:, 0], 0.1 * X[:, 0] + 0.2 * X[:, 1], 1.0, X[:, 1] ** 2)
            beta = self.declare("beta", self.pick("Flat", "Flat", "Normal"), (3,))
            parts.append(self.op(mat_vec, MAT_VEC, self.number(f"X{r}", X), beta))
        if kind == "offset":
            parts += [self.number(f"offset{r}", self.normal(self.rows[r])), Number(1)]
        if kind == "curve":
            rate = Op(multiply, (self.positive(), self.covariate(r)), "{0} * {1}")
            parts.append(Op(exp, (Op(multiply, (rate, Number(-0.3)), "{0} * {1}"),), "pt.exp({0})"))
        return parts

    def predictor(self, effects: Sequence[Effects], r: int, pairs: bool = True) -> Expression:
        vectors = [e for e in effects if len(e.expression.shape) == 1]
        terms: list[Expression] = []
        if pairs and len(vectors) >= 2 and self.seldom():
            u, v = vectors[:2]
            parts = (u.expression, v.expression, self.codes(u.factor, r), self.codes(v.factor, r))
            terms.append(self.op(table, TABLE, *parts))
            effects = [e for e in effects if e is not u and e is not v]
        for e in effects:
            terms += [self.term(e, r) for _ in range(self.pick(1, 1, 1, 1, 2))]
        return self.same(self.sum([*terms, *self.common(r)], r), r)

    def sigma(self, effects: Sequence[Effects], r: int) -> Expression:
        n = self.rows[r]
        kind = self.pick("scalar", "known", "stratum", "rows", "errors", "weights", "effects")
        if kind == "scalar":
            return self.scale()
        if kind == "known":
            return Number(0.8)
        if kind == "stratum":
            stratum = self.number(f"stratum{r}", np.arange(n) % 3)
            return self.op(index, INDEX[:2], self.positive((3,)), stratum)
        if kind == "errors":
            return self.number(f"se{r}", (np.abs(self.normal(n)) + 0.3).round(2))
        if kind == "weights":
            count = self.number(f"count{r}", 1.0 + np.arange(n) % 4)
            return Op(divide, (self.positive(), count), "{0} / {1}")
        if kind == "rows":
            slope = self.declare("delta", self.pick("StudentT", "Normal"))
            log_sigma: Expression = Op(multiply, (slope, self.covariate(r)), "{0} * {1}")
        else:
            vectors = [e for e in effects if len(e.expression.shape) == 1]
            if not vectors:
                return self.positive()
            log_sigma = self.at_rows(self.pick(*vectors), r)
        half = Op(multiply, (log_sigma, Number(0.3)), "{0} * {1}")
        return Op(multiply, (self.positive(), Op(exp, (half,), "pt.exp({0})")), "{0} * {1}")

    def response(self, effects: Sequence[Effects], r: int) -> Response:
        mean = self.predictor(effects, r)
        if self.seldom():  # the rows of two studies, say
            other = self.predictor(effects, r, pairs=False)
            if self.often():
                mean = self.op(choose, CHOOSE, self.condition(r), mean, other)
            else:
                mean = self.op(halves, HALVES, mean, other)
        family = self.pick("Normal", "Normal", "LogNormal", "MvNormal")
        y = self.normal(self.rows[r])
        if family == "LogNormal":
            y = np.exp(y / 2).round(1) + 0.1
        if family == "MvNormal":
            return self.correlated(mean, r, self.number(f"y{r}", y).name)
        sigma = self.sigma(effects, r)
        columns = 2 if self.rows[r] % 2 == 0 and self.seldom() else 1
        return Response(f"y{r}_", family, mean, sigma, self.number(f"y{r}", y).name, columns)

    def correlated(self, mean: Expression, r: int, y: str) -> Response:
        """Return a response of correlated rows: all of them, or those of a row of a table."""
        n = self.rows[r]
        k = self.pick(*(k for k in (2, 3, n) if n % k == 0))
        # PyMC takes tau for several rows to be another one.
        how = self.pick("cov", "cov", "chol", "tau" if k == n else "cov")
        gap = np.abs(np.subtract.outer(np.arange(k), np.arange(k))).astype(float)
        known = np.linalg.cholesky(np.exp(-gap / 2)).round(3)
        matrix = self.root(k) if k <= 3 else self.number(f"known{k}", known, mutable=False)
        if k <= 3 and self.seldom():
            how, matrix = self.pick("chol", "cov"), self.correlations(k)
            if how == "chol":
                matrix = Op(root_of, (matrix,), "pt.linalg.cholesky({0})")
        elif how != "chol":
            matrix = self.op(gram, GRAM, matrix)
        if how == "cov":
            kind = self.pick("plain", "scaled", "sum", "by row", "sds", "of a scale")
            if kind == "scaled":
                matrix = self.op(multiply, MULTIPLY[:2], self.positive(), matrix)
            if kind == "sum":
                noise = Op(multiply, (self.positive(), Number(0.5)), "{0} * {1}")
                matrix = Op(plus_diagonal, (matrix, noise), "{0} + {1} * np.eye({m})")
            if kind == "by row" and k < n:
                count = self.number(f"count{r}_{k}", 1.0 + np.arange(n // k) % 3)
                matrix = Op(scaled_each, (matrix, count), "{0} * {1}[:, None, None]")
            if kind == "sds":
                sds = self.positive((k,))
                matrix = Op(scaled_both, (matrix, sds), self.pick(*SCALED_BOTH))
            if kind == "of a scale":
                rate = self.pick(self.positive(), self.declare("delta", "Normal"))
                size = Op(exp, (Op(multiply, (rate, Number(0.3)), "{0} * {1}"),), "pt.exp({0})")
                gaps = self.number(f"gap{k}", gap, mutable=False)
                matrix = Op(decay, (size, gaps), "pt.exp(-{0} * {1}) + 0.1 * np.eye({q})")
        return Response(f"y{r}_", "MvNormal", mean, matrix, y, k if k < n else 1, how)

    def recipe(self) -> Recipe:
        for f in range(self.pick(1, 1, 2, 2, 3)):
            self.levels.append(self.pick(3, 2, 4, 5, 1))
            nested = f > 0 and self.often() and f - 1 not in self.parents
            self.parents.append(f - 1 if nested else None)
        self.rows = [self.draw(st.integers(6, 14)) for _ in range(self.pick(1, 1, 1, 2))]
        above: dict[int, list[Effects]] = {}
        for f in range(len(self.levels)):
            for _ in range(self.pick(1, 1, 1, 2)):
                e = (
                    self.matrix_effects(f)
                    if self.pick(False, False, True)
                    else self.vector_effects(f, above)
                )
                above.setdefault(f, []).append(Effects(self.same(e), f))
        return self.model([e for own in above.values() for e in own])

    def model(self, effects: Sequence[Effects]) -> Recipe:
        """Return a model of some effects, with as many responses as there are rows of."""
        responses = []
        for r in range(len(self.rows)):
            used = [e for e in effects if r == 0 or self.often()] or effects[:1]
            responses.append(self.response(used, r))
        extras = self.pick(
            (),
            (),
            (
                'p = pm.Beta("p", 1.0, 1.0)',
                'pm.Bernoulli("answer", p, observed=np.arange(6) % 2)',
                'pm.Potential("penalty", -(p**2))',
            ),
        )
        return Recipe(
            self.data,
            frozenset(self.mutable),
            tuple(self.variables),
            tuple(responses),
            extras,
            tuple(self.coords),
            self.seed,
        )


def column_of(k: int) -> Callable:
    return {0: first_column, 1: second_column}[k]


def first_column(a, i, k):  # type: ignore[no-untyped-def]
    return a[i, 0]


def second_column(a, i, k):  # type: ignore[no-untyped-def]
    return a[i, 1]


GRAM = ("{0} @ {0}.T", "pt.dot({0}, {0}.T)", "{0}.dot({0}.T)")
SCALED_BOTH = (
    "{0} * {1} * {1}[:, None]",
    "pt.diag({1}) @ {0} @ pt.diag({1})",
    "{0} * pt.outer({1}, {1})",
)


def gram(a):  # type: ignore[no-untyped-def]
    return a @ a.T


def plus_diagonal(a, c):  # type: ignore[no-untyped-def]
    return a + c * np.eye(len(a))


def scaled_each(a, c):  # type: ignore[no-untyped-def]
    return a * c[:, None, None]


def scaled_both(a, s):  # type: ignore[no-untyped-def]
    return a * s * s[:, None]


def decay(rate, gap):  # type: ignore[no-untyped-def]
    return np.exp(-rate * gap) + 0.1 * np.eye(len(gap))


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Models all of whose effects the package promises to integrate out."""
    return Author(draw).recipe()


@st.composite
def hostile_recipes(draw: st.DrawFn) -> Recipe:
    """Models with one operation at a random place that most often cannot be integrated over."""
    recipe = draw(recipes())
    response = recipe.responses[0]
    nodes = list(walk(response.mean))
    gaussian = set(recipe.gaussian())
    places = [i for i, node in enumerate(nodes) if node.shape and names_in(node) & gaussian]
    place = draw(st.sampled_from(places))
    template = draw(st.sampled_from(list(HOSTILE)))
    changed = replace_at(response.mean, place, lambda e: Op(HOSTILE[template], (e,), template))
    return replace(recipe, responses=(replace(response, mean=changed), *recipe.responses[1:]))


SCALES = (
    "HalfNormal(1.0)",
    "HalfNormal(0.001)",
    "HalfNormal(1000.0)",
    "Exponential(1.0)",
    "Exponential(1000.0)",
    "HalfCauchy(0.000001)",
    "HalfCauchy(2.0)",
    "HalfStudentT(3.0, 10000.0)",
    "HalfStudentT(0.5, 0.1)",
)
"""Priors of scales, of which some expect quite another scale than the data have."""


@st.composite
def recipes_of_scales(draw: st.DrawFn) -> Recipe:
    """Models whose scales have any prior."""
    recipe = draw(recipes())
    variables = (
        replace(v, prior=draw(st.sampled_from(SCALES))) if v.family in ("HalfNormal", "LKJ") else v
        for v in recipe.variables
    )
    return replace(recipe, variables=tuple(variables))
