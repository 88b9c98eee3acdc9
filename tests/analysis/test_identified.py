"""Flat coefficients: refused if the design does not identify them, whatever makes it so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pymc.distributions.continuous import FlatRV
from scipy import sparse

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.analysis.rank import null_space
from tests.helpers import unfolded

rng = np.random.default_rng(4)
n = 40
g, h = np.repeat(np.arange(8), 5), np.tile(np.arange(4), 10)
x, y = rng.normal(size=n), rng.normal(size=n)
year = np.sort(rng.integers(1990, 2021, size=n)).astype("float64")


def group_effects() -> pt.TensorVariable:
    return pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=8)[g]


def model_of(mean: Callable[[], pt.TensorVariable]) -> pm.Model:
    with pm.Model() as model:
        pm.Normal("y", mean() + group_effects(), pm.HalfNormal("sigma"), observed=y)
    return model


def intercept() -> pt.TensorVariable:
    return pm.Flat("a")


def dummies(codes: np.ndarray = h, levels: int = 4, name: str = "c") -> pt.TensorVariable:
    return pm.Flat(name, shape=levels)[codes]


def scale() -> pt.TensorVariable:
    return pm.HalfNormal("scale")


def hinge(name: str) -> pt.TensorVariable:
    """Zero at all rows if the knot lies on the left of them, as it does not."""
    knot = pm.Uniform(f"knot_{name}", 1995, 2015)
    return pm.Flat(name) * pt.maximum(knot - year, 0.0)


def changed(name: str) -> pt.TensorVariable:
    point = pm.Uniform(f"point_{name}", 1995, 2015)
    return pt.switch(year < point, pm.Flat(name), 0.0)


def choice() -> pt.TensorVariable:
    """A condition on a parameter that is another node each time."""
    point = pm.modelcontext(None).named_vars.get("point")
    return year < (pm.Uniform("point", 1995, 2015) if point is None else point)


def chosen(of: pt.TensorVariable, otherwise: pt.TensorVariable | float = 0.0) -> pt.TensorVariable:
    return pt.switch(choice(), of, otherwise)


def knotted() -> pt.TensorVariable:
    knot = pm.Uniform("knot", 1995, 2015)
    return pt.maximum(knot - year, 0.0) * pm.Flat("b") + pt.maximum(knot - year, 0.0) * pm.Flat("c")


def by_class() -> pt.TensorVariable:
    k = pm.Bernoulli("k", 0.5)
    return pt.switch(pt.eq(k, 1), x, 0.0) * pm.Flat("b") + pt.eq(k, 1) * x * pm.Flat("b2")


def dependent() -> pt.TensorVariable:
    return np.stack([x, year, 0.1 * x + 0.2 * year], axis=1) @ pm.Flat("b", shape=3)


def powers(x: np.ndarray) -> np.ndarray:
    return np.stack([x**k for k in range(4)], axis=1)


def functions(name: str) -> pt.TensorVariable:
    """Columns that are the same functions of the same parameters, written twice."""
    s = pm.HalfNormal(name, shape=4)
    return pt.exp(s)[h] * pm.Flat("b") + pt.exp(s)[h] * pm.Flat("b2")


def difference(s: pt.TensorVariable) -> pt.TensorVariable:
    return (s - s) * pm.Flat("b") * x


def scaled_pair(s: pt.TensorVariable) -> pt.TensorVariable:
    return s * x * pm.Flat("b") + s * x * pm.Flat("b2")


def matrix(m: pt.TensorVariable) -> pt.TensorVariable:
    return m[h, 0] + m[h, 1] * x + pm.Flat("b") * x


def one_by_one(b: pt.TensorVariable, codes: pt.TensorVariable) -> pt.TensorVariable:
    return sum(pt.switch(pt.eq(codes, j), b[j], 0.0) for j in range(5))


def mean_of_slopes() -> pt.TensorVariable:
    return pm.Normal("slopes", pm.Flat("b"), pm.HalfNormal("sd"), shape=4)[h] * x


IDENTIFIED: dict[str, Callable] = {
    "all levels, no intercept": dummies,
    "contrasts and an intercept": lambda: intercept()
    + pt.concatenate([[0.0], pm.Flat("c", shape=3)])[h],
    "a year beside an intercept": lambda: intercept() + pm.Flat("b") * year,
    "a parabola of the year": lambda: powers(year)[:, :3] @ pm.Flat("b", shape=3),
    "a cubic of the centred year": lambda: powers(year - 2000) @ pm.Flat("b", shape=4),
    "collinear to one in a hundred thousand": lambda: pm.Flat("b") * x
    + pm.Flat("b2") * (x + 1e-5 * np.cos(np.arange(n))),
    "tiny and huge columns": lambda: 1e-12 * intercept() + 1e12 * x * pm.Flat("b"),
    "the mean of effects": lambda: intercept() + mean_of_slopes(),
    "mean of the groups' effects beside it": lambda: pm.Normal("v", intercept(), 1.0, shape=4)[h],
    "times a parameter": lambda: intercept() + scale() * x * pm.Flat("b"),
    "two parameters": lambda: scale() * pm.Flat("b") + pm.HalfNormal("other") * x * pm.Flat("b2"),
    "loadings": lambda: pm.StudentT("lam", nu=4, shape=4)[h] * pm.Flat("b") + intercept(),
    "hinges": lambda: intercept() + hinge("b"),
    "change points": lambda: changed("b") + intercept(),
    "both sides of a change point": lambda: chosen(pm.Flat("b"), pm.Flat("b2")),
    "both sides, by two choices": lambda: chosen(pm.Flat("b")) + chosen(0.0, pm.Flat("b2")),
    "a change point of a slope": lambda: intercept() + pm.Flat("b") * x + chosen(x * pm.Flat("b2")),
    "covariates that can be set": lambda: intercept() + pm.Data("x", x) * pm.Flat("b"),
    "an interaction without its empty cell": lambda: intercept()
    + pm.Flat("c", shape=3)[np.maximum(h - 1, 0)] * (h > 0),
}  # fmt: skip


@pytest.mark.parametrize("name", IDENTIFIED)
def test_identified(name: str) -> None:
    model = model_of(IDENTIFIED[name])
    explanation = mlmm.explain(model)
    assert {"u", *flat_variables(model)} <= set(explanation.integrated), explanation.refusals


# What is refused, and what is named in the reason.
NOT_IDENTIFIED: dict[str, tuple[Callable, set[str], str]] = {
    "all levels and an intercept": (
        lambda: intercept() + dummies(), {"a"}, "'a' and the 4 elements of 'c'",
    ),
    "two sets of all levels": (
        lambda: dummies() + dummies(g, 8, "d"), {"c"}, "of 'c' and the 8 elements of 'd'",
    ),
    "two sets and an intercept": (
        lambda: intercept() + dummies() + dummies(g, 8, "d"), {"a", "c"}, "'a', the 4 elements",
    ),
    "twice the same": (lambda: pm.Flat("b") * x + pm.Flat("b2") * x, {"b2"}, "'b' and 'b2'"),
    "a multiple": (lambda: pm.Flat("b") * x + 3.7 * x * pm.Flat("b2"), {"b2"}, "'b' and 'b2'"),
    "centred and not": (
        lambda: intercept() + year * pm.Flat("b") + (year - year.mean()) / 9 * pm.Flat("b2"),
        {"b2"}, "'a', 'b' and 'b2'",
    ),
    "a sum of columns": (
        lambda: np.stack([x, x**2, year, 0.1 * x + 0.2 * x**2, np.cos(year)], axis=1)
        @ pm.Flat("b", shape=5),
        {"b"}, r"'b\[0\]', 'b\[1\]', 'b\[3\]'",
    ),
    "more columns than rows": (
        lambda: rng.normal(size=(n, 41)) @ pm.Flat("b", shape=41), {"b"}, "the 41 elements of 'b'",
    ),
    "an interaction with an empty cell": (
        lambda: pm.Flat("m", shape=(8, 2))[g, (g < 4) * h // 2], {"m"}, "no data",
    ),
    "a column of a matrix": (
        lambda: matrix(pm.Flat("m", shape=(4, 2))), {"b"}, r"'m\[0, 1\]', .*'m\[3, 1\]' and 'b'",
    ),
    "the mean of the groups' effects and an intercept": (
        lambda: intercept() + pm.Normal("v", pm.Flat("b"), scale(), shape=4)[h],
        {"b"}, "'a' and 'b'",
    ),
    "the mean of a mean": (
        lambda: intercept() + pm.Normal("v", pm.Normal("w", pm.Flat("b"), 1), scale(), shape=4)[h],
        {"b"}, "'a' and 'b'",
    ),
    "times the same parameter": (lambda: scaled_pair(scale()), {"b2"}, "'b' and 'b2'"),
    "one of them times a parameter": (
        lambda: scale() * x * pm.Flat("b") + x * pm.Flat("b2"), {"b2"}, "'b' and 'b2'",
    ),
    "times the same function of parameters": (lambda: functions("s"), {"b2"}, "'b' and 'b2'"),
    "times a difference that is zero": (lambda: difference(scale()), {"b"}, "'b'"),
    "a level without rows, by conditions on data that can be set": (
        lambda: one_by_one(pm.Flat("b", shape=5), pm.Data("h", h)), {"b"}, r"'b\[4\]'",
    ),
    "a sum of columns in some rows, by a condition on data that can be set": (
        lambda: pt.switch(pm.Data("late", year > 2005), scale() * dependent(), 0.0),
        {"b"}, "the 3 elements of 'b'",
    ),
    "a sum of columns on one side of a change point": (
        lambda: intercept() + chosen(dependent()),
        {"b"}, "the 3 elements of 'b'",
    ),
    "the same change point twice": (
        lambda: chosen(pm.Flat("b")) + chosen(pm.Flat("b2")), {"b2"}, "'b' and 'b2'",
    ),
    "both sides of a change point, and all": (
        lambda: intercept() + chosen(pm.Flat("b"), pm.Flat("b2")), {"b2"}, "'a', 'b' and 'b2'",
    ),
    "both sides, by opposite choices, and all": (
        lambda: intercept() + chosen(pm.Flat("b")) + pt.where(~choice(), pm.Flat("b2"), 0.0),
        {"b2"}, "'a', 'b' and 'b2'",
    ),
    "a comparison as a number": (by_class, {"b2"}, "'b' and 'b2'"),
    "the same hinge twice": (knotted, {"c"}, "'b' and 'c'"),
    "covariates that can be set": (
        lambda: pm.Data("x", x) * pm.Flat("b") + pm.Data("x2", -2.0 * x) * pm.Flat("b2"),
        {"b2"}, "'b' and 'b2'",
    ),
}  # fmt: skip


def flat_variables(model: pm.Model) -> set[str]:
    return {rv.name for rv in model.free_RVs if isinstance(rv.owner.op, FlatRV)}


@pytest.mark.parametrize("name", NOT_IDENTIFIED)
def test_not_identified(name: str) -> None:
    mean, refused, reason = NOT_IDENTIFIED[name]
    model = model_of(mean)
    flat = flat_variables(model)
    explanation = mlmm.explain(model)
    assert set(explanation.refusals) & flat == refused
    assert flat - refused <= set(explanation.integrated)
    with pytest.raises(mlmm.NotMarginalizable, match=reason) as caught:
        mlmm.marginalize(model, [*explanation.integrated, *refused])
    assert caught.value.variable in refused
    assert "infinite" in str(caught.value)


CLOSE: dict[str, tuple[Callable, str]] = {
    "a cubic of the year": (lambda: powers(year) @ pm.Flat("b", shape=4), "the 4 elements of 'b'"),
    "collinear to one in ten million": (
        lambda: pm.Flat("b") * x + pm.Flat("b2") * (x + 1e-7 * np.cos(year)), "'b' and 'b2'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CLOSE)
def test_almost_dependent(name: str) -> None:
    """Not infinite, but crossproducts, squares of the design, have lost what tells them apart."""
    mean, reason = CLOSE[name]
    model = model_of(mean)
    explanation = mlmm.explain(model)
    assert len(set(explanation.refusals) & flat_variables(model)) == 1
    with pytest.raises(mlmm.NotMarginalizable, match=f"of {reason} are .* few digits"):
        mlmm.marginalize(model, [*explanation.integrated, *flat_variables(model)])


@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-4, 3e-6])
def test_digits_of_close_columns(distance: float) -> None:
    """They are lost as the square of the distance; the reference takes no squares."""
    X = np.linalg.qr(np.random.default_rng(1).normal(size=(n, 3)))[0]
    X[:, 2] = X[:, 1] + distance * X[:, 2]
    with pm.Model() as model:
        pm.Normal("y", X @ pm.Flat("b", shape=3), 1.0, observed=y)
    found = mlmm.marginalize(model).compile_logp(mode="FAST_COMPILE")({})
    Q, R = np.linalg.qr(X)
    rest = y - Q @ (Q.T @ y)
    log_det = np.log(np.abs(np.diagonal(R))).sum()
    expected = -0.5 * (rest @ rest + (n - 3) * np.log(2 * np.pi)) - log_det
    assert_allclose(found, expected, rtol=0, atol=1e-12 + 1e-13 / distance**2)


def test_the_way_out() -> None:
    """Normal priors for what was refused, as the message says."""

    def mean(prior: Callable) -> pt.TensorVariable:
        return prior("a") + prior("c", shape=4)[h] + pm.Flat("d", shape=8)[g]

    flat = model_of(lambda: mean(pm.Flat))
    with pytest.raises(mlmm.NotMarginalizable, match="Give 'a' and 'c' a Normal prior"):
        mlmm.marginalize(flat, ["a", "c", "d", "u"])
    proper = model_of(lambda: mean(pm.Normal))
    assert mlmm.explain(proper, ["a", "c", "d", "u"]).integrated
    # Sampled in the place of a: what is left is right.
    model = model_of(lambda: intercept() + dummies())
    marginal = unfolded(model)
    assert {rv.name for rv in marginal.free_RVs} == {"a", "tau", "sigma"}
    point = {rv: np.array(0.3) for rv in ("a", "tau_log__", "sigma_log__")}
    effects = {"u": rng.normal(size=8), "c": rng.normal(size=4)}
    full = mlmm.conditional(marginal)
    found, expected = (m.compile_logp(mode="FAST_COMPILE")(point | effects) for m in (full, model))
    assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("identified", [True, False])
def test_single_precision(identified: bool) -> None:
    """Columns are known to seven digits there, and so is their dependence."""
    with pytensor.config.change_flags(floatX="float32"):
        own, other = x.astype("f4"), np.float32(3.7) * x.astype("f4")
        if identified:
            other += np.float32(0.1) * np.cos(np.arange(n, dtype="f4"))
        with pm.Model() as model:
            mean = own * pm.Flat("b") + other * pm.Flat("b2")
            pm.Normal("y", mean, 1.0, observed=y.astype("f4"))
        assert (set(mlmm.explain(model).integrated) == {"b", "b2"}) == identified


# --- The null space -------------------------------------------------------------------------------


@st.composite
def designs(draw: st.DrawFn) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Columns of small integers, blocks of dummies among them; their sizes; and factors."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n = draw(st.sampled_from([3, 8, 30, 300]))
    blocks = []
    for kind in draw(st.lists(st.sampled_from("1xgGcs0"), min_size=1, max_size=6)):
        known = np.concatenate(blocks, axis=1) if blocks else np.ones((n, 1))
        match kind:
            case "1":
                block = np.ones((n, 1))
            case "x":
                block = rng.integers(-9, 9, size=(n, draw(st.integers(1, 4)))).astype("float64")
            case "g" | "G":
                block = np.eye(4 if kind == "g" else 90)[
                    rng.integers(4 if kind == "g" else 90, size=n)
                ]
            case "c":
                block = known[:, rng.integers(known.shape[1], size=1)]
            case "s":
                block = known @ rng.integers(-2, 3, size=(known.shape[1], 2))
            case _:
                block = np.zeros((n, 1))
        blocks.append(block)
    X = np.concatenate(blocks, axis=1)
    return X, [block.shape[1] for block in blocks], 10.0 ** rng.integers(-9, 9, size=X.shape[1])


@settings(deadline=None, max_examples=200, derandomize=True, database=None)
@given(designs())
def test_null_space(design: tuple[np.ndarray, list[int], np.ndarray]) -> None:
    X, sizes, factors = design
    basis = null_space(sparse.csr_array(X * factors), sizes, 1e-12)
    assert basis.shape[1] == X.shape[1] - np.linalg.matrix_rank(X)
    norms = np.linalg.norm(X, axis=0)
    assert_allclose(X / np.where(norms > 0, norms, 1) @ basis, 0.0, atol=1e-11)
    assert np.linalg.matrix_rank(basis, tol=1e-6) == basis.shape[1]


def test_many_levels_and_rows() -> None:
    """Two crossed sets of levels, 3,000 of one; a year that hardly varies within a level."""
    rng = np.random.default_rng(5)
    n = 30_000
    many, few = rng.integers(3000, size=n), rng.integers(40, size=n)
    wave = 2000.0 + few + rng.normal(size=n)
    D, C = (sparse.coo_array((np.ones(n), (np.arange(n), codes))).tocsr() for codes in (many, few))
    both = sparse.hstack([D, C, wave[:, None]], format="csr")
    assert null_space(both, [3000, 40, 1], 1e-12).shape[1] == 1
    assert null_space(both[:, 1:].tocsr(), [2999, 40, 1], 1e-12).shape[1] == 0


# --- Rows that are multiplied by anything -----------------------------------------------------

type Gate = Callable[[pt.TensorVariable], pt.TensorVariable]

GATES: dict[str, Callable[[pm.Model], Gate]] = {
    "where": lambda m: lambda t: pt.where(early(m), t, 0.0),
    "where not": lambda m: lambda t: pt.where(~early(m), t, 0.0),
    "comparison": lambda m: lambda t: (m["knot"] > year) * t,
    "and": lambda m: lambda t: pt.switch(early(m) & pt.gt(m["s"], x), t, 0.0),
    "or": lambda m: lambda t: pt.switch(early(m) | (x >= m["s"]), t, 0.0),
    "both": lambda m: lambda t: pt.switch(early(m), t, 2 * t),
    "sum of both": lambda m: lambda t: pt.switch(early(m), t, 0.0) + pt.switch(early(m), 0.0, t),
    "data": lambda m: lambda t: pt.switch(m["late"], t, t / 3),
    "some by data": lambda m: lambda t: m["late"] * t + t,
    "as integers": lambda m: lambda t: (1 + pt.cast(early(m), "int64")) * t,
    "hinge": lambda m: lambda t: t * pt.maximum(m["knot"] - year, 0.0),
    "modulus": lambda m: lambda t: t * abs(m["s"] - 1.0),
    "parameter": lambda m: lambda t: t * m["s"],
    "exponential": lambda m: lambda t: t * pt.exp(m["s"] * x),
    "numbers": lambda m: lambda t: t * (1 + h),
    "sign": lambda m: lambda t: -t,
    "rounded": lambda m: lambda t: t * (1 + pt.floor(m["s"])),
}  # fmt: skip
"""Each row times something that is not zero somewhere."""


def early(model: pm.Model) -> pt.TensorVariable:
    return year < model["knot"]


def check_gates(names: list[str], depends: bool) -> None:
    with pm.Model() as model:
        pm.Data("late", year > 2005)
        pm.Uniform("knot", 1995, 2015)
        pm.HalfNormal("s")
        columns = [x, year - 2000, x + (year - 2000) / 2 if depends else x * year]
        mean = np.stack(columns, axis=1) @ pm.Flat("b", shape=3)
        for name in names:
            mean = GATES[name](model)(mean)
        tau = pm.HalfNormal("tau")
        pm.Normal("y", mean + pm.Normal("u", 0.0, tau, shape=8)[g], 1.0, observed=y)
    explanation = mlmm.explain(model)
    assert "u" in explanation.integrated
    assert ("b" in explanation.refusals) == depends, explanation.refusals


gates = st.lists(st.sampled_from(sorted(GATES)), max_size=4)


@pytest.mark.parametrize("name", GATES)
def test_a_gate(name: str) -> None:
    for depends in (False, True):
        check_gates([name], depends)


@settings(deadline=None, max_examples=20, derandomize=True, database=None)
@given(gates, st.booleans())
def test_gates(names: list[str], depends: bool) -> None:
    check_gates(names, depends)


@pytest.mark.slow
@settings(deadline=None, max_examples=300, database=None)
@given(gates, st.booleans())
def test_many_gates(names: list[str], depends: bool) -> None:
    check_gates(names, depends)
