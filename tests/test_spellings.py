"""The structure that is found does not depend on the spelling: the same blocks, the same work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from scipy import sparse

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.analysis import terms
from tests.helpers import dense_reference, random_point, unfolded
from tests.random_models import Expression, Name, Op, Recipe, Response, Variable, spellings
from tests.random_models.expressions import Number

M, N = 24, 96
rng = np.random.default_rng(0)
g, h = np.arange(N) % M, np.arange(N) // 32
x = np.where(np.arange(N) % 3 == 0, 0.0, rng.normal(size=N)).round(2)
some = x != 0
y = rng.normal(size=N).round(2)


def found(model: pm.Model) -> tuple[list[tuple[int, int, str]], int]:
    explanation = mlmm.explain(model)
    blocks = [(f.n_levels, f.n_effects, f.kind) for f in explanation.factors]
    return sorted(blocks), explanation.operations


def assert_alike(one: pm.Model, other: pm.Model) -> None:
    (expected, least), (blocks, operations) = found(one), found(other)
    assert blocks == expected
    assert least / 1.5 <= operations <= 1.5 * least


# --- Those of the random author -------------------------------------------------------------------

DATA = {
    "g": g, "h": h, "x": x, "some": some, "y": y, "of": np.arange(M) % 5,
    "k": np.arange(N) % 2, "X": np.column_stack([np.ones(N), x + 0.5]),
    "D": rng.normal(size=(N, 3)),
}  # fmt: skip
u, v, w, few = (Name(*own) for own in (("u", (M,)), ("v", (M,)), ("w", (3,)), ("few", (5,))))
E, z, rows, root = Name("E", (M, 2)), Name("z", (M, 2)), Name("rows", (2, M)), Name("root", (2, 2))
a, b, c, beta = Name("a"), Name("b"), Name("c"), Name("beta", (3,))
VARIABLES = [
    *(Variable(e.name, "Normal", e.shape) for e in (u, v, w, E, few, z, rows, a, b, c, beta)),
    Variable("root", "LKJ", (2, 2)),
]


def data(name: str) -> Name:
    return Name(name, DATA[name].shape, str(DATA[name].dtype))


def op(name: str, *parts: Expression) -> Callable[[str], Op]:
    return lambda template: Op(getattr(spellings, name), parts, template)


def at(e: Expression, index: str = "g") -> Op:
    return Op(spellings.index, (e, data(index)), "{0}[{1}]")


def indexed(of: Callable[[str], Op]) -> Callable[[str], Op]:
    return lambda template: at(of(template))


def dotted(of: Callable[[str], Op]) -> Callable[[str], Op]:
    return lambda template: Op(
        spellings.row_dot, (at(of(template)), data("X")), "({0} * {1}).sum(-1)"
    )


PAIRS: dict[str, Callable[[str], Op]] = {
    "SAME_SCALAR": indexed(op("same", u)),
    "SAME_AXIS": indexed(op("same", u)),
    "SAME_VECTOR": indexed(op("same", u)),
    "SAME_BY": op("same_by", at(u), data("some")),
    "INDEX": op("index", u, data("g")),
    "INDEX_VECTOR": op("index", u, data("g")),
    "INDEX_TWICE": op("index_twice", few, data("of"), data("g")),
    "INDEX_PAIR": op("index_pair", E, data("g"), data("k")),
    "INDEX_COLUMN": lambda template: Op(
        lambda e, i, k: e[i, 1], (E, data("g"), Number(1)), template
    ),
    "TABLE": op("table", u, w, data("g"), data("h")),
    "ROW_DOT": op("row_dot", at(E), data("X")),
    "MAT_VEC": op("mat_vec", data("D"), beta),
    "MULTIPLY": op("multiply", at(u), data("x")),
    "ADD": op("add", at(u), at(w, "h")),
    "ADD_ALL": op("add_all", at(u), at(w, "h"), at(v)),
    "ADD_ALIKE": op("add_all", at(u), at(w, "h"), at(v)),
    "MASKED": op("masked", at(u), data("some")),
    "CHOOSE": op("choose", data("some"), at(u), at(v)),
    "HALVES": op("halves", at(u), at(v)),
    "STACK": lambda template: at(Op(spellings.stack, (a, b, c), template), "h"),
    "STACK_COLUMNS": dotted(op("stack_columns", u, v)),
    "TIMES_TRANSPOSE": dotted(op("times_transpose", z, root)),
    "TIMES_COLUMNS": dotted(op("times_columns", rows, root)),
    "TRANSPOSE": dotted(op("transpose", rows)),
    "CENTRE": indexed(op("centre", u)),
}


def spelled(name: str, template: str) -> Recipe:
    expression = PAIRS[name](template)
    used = {part.name for part in _walk(expression) if isinstance(part, Name)}
    variables = tuple(variable for variable in VARIABLES if variable.name in used)
    held = {key: DATA[key] for key in DATA if key in used or key == "y"}
    mean = Op(spellings.add, (expression, Number(0.5)), "{0} + {1}")
    response = Response("y_", "Normal", mean, Number(0.8), "y")
    return Recipe(held, frozenset(), variables, (response,))


def _walk(expression: Expression) -> Iterator[Expression]:
    yield expression
    for part in getattr(expression, "parts", ()):
        yield from _walk(part)


def names_of_spellings() -> list[tuple[str, int]]:
    return [(name, i) for name in PAIRS for i in range(1, len(getattr(spellings, name)))]


@cache
def first_of(name: str) -> pm.Model:
    return spelled(name, getattr(spellings, name)[0]).build()


@pytest.mark.filterwarnings("ignore:The same einsum subscript:UserWarning")
@pytest.mark.parametrize(("name", "i"), names_of_spellings())
def test_spellings_of_the_random_author(name: str, i: int) -> None:
    assert_alike(first_of(name), spelled(name, getattr(spellings, name)[i]).build())


def test_every_meaning_has_its_pairs() -> None:
    """What is not linear, or not the same for whoever reads it, has none."""
    groups = {
        name for name, own in vars(spellings).items() if name.isupper() and type(own) is tuple
    }
    others = {"LINEAR_BUT_UNUSUAL", "STANDARDISED", "PRECISION", "RATIO", "CORRELATIONS"}
    assert {name for name in PAIRS} >= groups - others


# --- Absent slopes, indicators, other responses ---------------------------------------------------


def normal(mu: pt.Variable, rows: np.ndarray | slice = slice(None), name: str = "y") -> None:
    pm.Normal(name, mu, pm.HalfNormal("s") if name == "y" else 0.7, observed=y[rows])


SLOPES: dict[str, Callable[[pt.Variable], pt.Variable]] = {
    "product": lambda slope: slope * x,
    "switch": lambda slope: pt.switch(some, slope * x, 0.0),
    "switched off": lambda slope: pt.switch(~some, 0.0, slope) * x,
    "where": lambda slope: pt.where(some, slope, 0.0) * x,
    "set": lambda slope: pt.set_subtensor((slope * x)[~some], 0.0),
    "written": lambda slope: pt.zeros(N)[some].set((slope * x)[some]),
    "added": lambda slope: pt.zeros(N)[some].inc((slope * x)[some]),
    "joined": lambda slope: pt.concatenate([(slope * x)[some], np.zeros((~some).sum())])[
        np.argsort(np.argsort(~some, kind="stable"), kind="stable")
    ],
    "diagonal": lambda slope: np.diag(x) @ slope,
    "masked twice": lambda slope: pt.switch(some, slope, 0.0) * (x * some),
}


def effects_of(kind: str) -> tuple[pt.Variable, pt.Variable]:
    """Intercepts and slopes by level."""
    if kind == "two variables":
        return pm.Normal("u", shape=M), pm.Normal("v", sigma=2.0, shape=M)
    if kind == "matrix":
        e = pm.Normal("u", shape=(M, 2))
        return e[:, 0], e[:, 1]
    L = np.array([[1.0, 0.0], [0.6, 0.8]])
    if kind == "correlated":
        e = pm.MvNormal("u", np.zeros(2), chol=L, shape=(M, 2))
    else:
        e = pm.Normal("u", shape=(M, 2)) @ (pm.HalfNormal("tau", shape=(2, 1)) * L).T
    return e[:, 0], e[:, 1]


def absent_slope(kind: str, way: str) -> pm.Model:
    with pm.Model() as model:
        intercepts, slopes = effects_of(kind)
        if way == "two responses":
            normal((intercepts[g] + slopes[g] * x)[some], some)
            normal(intercepts[g][~some], ~some, "without")
        else:
            normal(intercepts[g] + SLOPES[way](slopes[g]))
    return model


@pytest.mark.parametrize("way", [*SLOPES, "two responses"])
@pytest.mark.parametrize("kind", ["two variables", "matrix", "correlated", "noncentred"])
def test_slopes_that_some_rows_lack(kind: str, way: str) -> None:
    model = absent_slope(kind, way)
    blocks, _ = found(model)
    assert blocks == [(M, 2, "block diagonal")]
    assert_alike(absent_slope(kind, "product"), model)
    check_density(model)


INDICATORS: dict[str, Callable[[pt.Variable], pt.Variable]] = {
    "index": lambda u: u[g],
    "dense": lambda u: np.eye(M)[g] @ u,
    "dense, transposed": lambda u: u @ np.eye(M)[g].T,
    "dense, of data": lambda u: pt.dot(pt.as_tensor((g[:, None] == np.arange(M)) * 1.0), u),
    "sum": lambda u: (np.eye(M)[g] * u).sum(axis=1),
    "sparse": lambda u: pt.squeeze(
        pytensor_sparse().structured_dot(
            pytensor_sparse().as_sparse_or_tensor_variable(sparse.csr_matrix(np.eye(M)[g])),
            u[:, None],
        ),
        1,
    ),
    "loop": lambda u: sum(u[i] * (g == i) for i in range(M)),
    "switches": lambda u: sum(pt.switch(g == i, u[i], 0.0) for i in range(M)),
}


def pytensor_sparse():  # type: ignore[no-untyped-def]
    import pytensor.sparse

    return pytensor.sparse


@pytest.mark.parametrize("way", INDICATORS)
def test_indicators(way: str) -> None:
    """Alone, and with a slope and something crossed."""

    def build(way: str) -> pm.Model:
        with pm.Model() as model:
            read = INDICATORS[way]
            slopes = read(pm.Normal("v", shape=M)) * x
            normal(read(pm.Normal("u", shape=M)) + slopes + pm.Normal("w", shape=3)[h])
        return model

    assert_alike(build("index"), build(way))
    check_density(build(way))


# --- Latent variables of one person in several rows -----------------------------------------------

LATENT: dict[str, Callable[[int], None]] = {}


def latent(build: Callable[[int], None]) -> Callable[[int], None]:
    LATENT[build.__name__] = build
    return build


ITEMS = 3


def answers(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, ITEMS)).round(2)


@latent
def regression_of_two_variables(n: int) -> None:
    """``eta2 = b * eta1 + zeta``, each with items of its own, as responses of their own."""
    eta1 = pm.Normal("eta1", shape=n)
    eta2 = pm.Normal("eta2", pm.StudentT("b", nu=4) * eta1, pm.HalfNormal("s"))
    lam = pm.HalfNormal("lam", shape=(2, ITEMS))
    for k, eta in enumerate((eta1, eta2)):
        pm.Normal(f"y{k}", lam[k] * eta[:, None], 0.7, observed=answers(n, k))


@latent
def regression_in_one_response(n: int) -> None:
    eta1 = pm.Normal("eta1", shape=n)
    eta2 = pm.Normal("eta2", pm.StudentT("b", nu=4) * eta1, pm.HalfNormal("s"))
    both = pt.stack([eta1, eta2], axis=1)
    person, k = np.repeat(np.arange(n), 2 * ITEMS), np.tile(np.repeat([0, 1], ITEMS), n)
    pm.Normal("y", both[person, k], 0.7, observed=np.resize(answers(n, 0), person.size))


@latent
def regression_noncentred(n: int) -> None:
    """Both from one matrix of standard normals."""
    z = pm.Normal("z", shape=(n, 2))
    eta2 = pm.StudentT("b", nu=4) * z[:, 0] + pm.HalfNormal("s") * z[:, 1]
    pm.Normal("y0", z[:, :1], 0.7, observed=answers(n, 0))
    pm.Normal("y1", eta2[:, None], 0.7, observed=answers(n, 1))


@latent
def path_of_three(n: int) -> None:
    eta1 = pm.Normal("eta1", shape=n)
    b = pm.StudentT("b", nu=4, shape=3)
    eta2 = pm.Normal("eta2", b[0] * eta1, 0.5)
    eta3 = pm.Normal("eta3", b[1] * eta1 + b[2] * eta2, 0.5)
    for k, eta in enumerate((eta1, eta2, eta3)):
        pm.Normal(f"y{k}", eta[:, None], 0.7, observed=answers(n, k))


@latent
def two_correlated(n: int) -> None:
    chol = pm.LKJCholeskyCov("chol", n=2, eta=2.0, sd_dist=pm.HalfNormal.dist(1.0))[0]
    eta = pm.MvNormal("eta", np.zeros(2), chol=chol, shape=(n, 2))
    for k in range(2):
        lam = pm.HalfNormal(f"lam{k}", shape=ITEMS)
        pm.Normal(f"y{k}", lam * eta[:, k, None], 0.7, observed=answers(n, k))


@latent
def common_and_specific(n: int) -> None:
    """One latent variable behind all items, and one behind each half of them."""
    common = pm.Normal("common", shape=n)
    tau = pm.HalfNormal("tau", shape=2)
    for k in range(2):
        own = pm.Normal(f"own{k}", 0.0, tau[k], shape=n)
        pm.Normal(f"y{k}", (common + own)[:, None], 0.7, observed=answers(n, k))


@latent
def latent_regression(n: int) -> None:
    covariate = np.random.default_rng(1).normal(size=n)
    eta = pm.Normal("eta", pm.StudentT("b", nu=4) * covariate, pm.HalfNormal("s"))
    lam = pm.HalfNormal("lam", shape=ITEMS)
    pm.Normal("y", lam * eta[:, None], 0.7, observed=answers(n, 0))


@latent
def pairs(n: int) -> None:
    """Rows of two members of a pair: who is who changes from row to row."""
    one = np.arange(2 * n)
    other = one + 1 - 2 * (one % 2)
    person = pm.Normal("person", 0.0, pm.HalfNormal("s"), shape=2 * n)
    mu = person[one] + pm.HalfNormal("lam") * person[other]
    pm.Normal("y", mu, 0.7, observed=np.resize(y, 2 * n))


def built(name: str, n: int) -> pm.Model:
    with pm.Model() as model:
        LATENT[name](n)
    return model


@pytest.mark.parametrize("name", LATENT)
def test_latent_variables_are_one_small_block_per_person(name: str) -> None:
    """However many persons: the work is linear in them."""
    (few_blocks, few), (many_blocks, many) = (found(built(name, n)) for n in (20, 80))
    for blocks in (few_blocks, many_blocks):
        assert all(kind in ("diagonal", "block diagonal") for *_, kind in blocks)
    assert many <= 4.5 * few


@pytest.mark.parametrize("name", LATENT)
def test_latent_variables_have_the_right_density(name: str) -> None:
    check_density(built(name, 4))


def sums_of_sums(times: int) -> pm.Model:
    with pm.Model() as model:
        u, v = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=M), pm.Normal("v", 0, 1, shape=M)
        t = u[g] + v[g] * x
        for _ in range(times):
            t = t - t.sum() + t.sum()
        pm.Normal("y", t, 0.7, observed=y)
    return model


def test_sums_of_sums_do_not_multiply_terms() -> None:
    """Each would make 193 of every term, so that five of them do not fit into a memory."""
    assert_alike(sums_of_sums(0), sums_of_sums(5))
    check_density(sums_of_sums(5))


def test_too_many_terms_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "LARGEST", 1000)
    with pytest.raises(
        mlmm.NotMarginalizable, match=r"'u': .* many of its elements, [0-9,]+ pairs"
    ):
        mlmm.marginalize(sums_of_sums(1), ["u"])


def test_absent_answers() -> None:
    """Persons of whom one latent variable has no data: their blocks lack it."""
    person, k = np.repeat(np.arange(8), 4), np.tile([0, 0, 1, 1], 8)
    kept = (person < 5) | (k == 0)
    with pm.Model() as model:
        eta1 = pm.Normal("eta1", shape=8)
        eta2 = pm.Normal("eta2", pm.StudentT("b", nu=4) * eta1, pm.HalfNormal("s"))
        mu = pt.stack([eta1, eta2], axis=1)[person, k]
        pm.Normal("y", mu[kept], 0.7, observed=np.resize(y, kept.sum()))
    (factor,) = mlmm.explain(model).factors
    assert (factor.n_levels, factor.n_effects, factor.unused) == (8, 2, 3)
    check_density(model)


def check_density(plain: pm.Model) -> None:
    """Against a dense integral, and the draws against the joint density of PyMC."""
    marginal = unfolded(plain)
    left = {rv.name for rv in marginal.free_RVs}
    effects = tuple(rv.name for rv in plain.free_RVs if rv.name not in left)
    point = random_point(plain, 3)
    own = {value.name: point[value.name] for value in marginal.value_vars}
    value = marginal.compile_logp(mode="FAST_COMPILE")(own)
    reference = dense_reference(plain, effects, point)
    assert_allclose(value, reference.log_density, rtol=1e-9)
    full = mlmm.conditional(marginal).compile_logp(mode="FAST_COMPILE")
    joint = plain.compile_logp(mode="FAST_COMPILE")(point)
    assert_allclose(full(point), joint, rtol=1e-8)
