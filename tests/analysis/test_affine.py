"""The affine reader: what it reads is what the graph computes, at any values of the effects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Variable
from scipy import sparse

from pymc_marginal_lmm.analysis.affine import AffineReader
from pymc_marginal_lmm.analysis.terms import NOTHING, ONE, Linear, Refusal, Terms, describe
from pymc_marginal_lmm.values import Values

INTERPRETER = Mode(linker="py", optimizer=None)

# Effects: a scalar, a vector, a matrix, an array.
s = pt.scalar("s")
u = pt.tensor("u", shape=(5,))
v = pt.tensor("v", shape=(3, 4))
w = pt.tensor("w", shape=(2, 3, 4))
LEAVES = (s, u, v, w)
# What stays sampled.
lam = pt.scalar("lam")
theta = pt.tensor("theta", shape=(4,))
PARAMETERS = (lam, theta)

rng = np.random.default_rng(0)
x4, x5 = rng.normal(size=4), rng.normal(size=5)
X = rng.normal(size=(6, 5))
Y = rng.normal(size=(3, 4))
g = np.array([0, 4, 2, 2, 1, -1, 0])


def evaluate(outputs: Sequence[Variable], values: dict[Variable, np.ndarray]) -> list[np.ndarray]:
    function = pytensor.function(
        list(values), list(outputs), mode=INTERPRETER, on_unused_input="ignore"
    )
    return function(*values.values())


def reader_of(leaves: Sequence[Variable], means: Sequence[Variable] | None = None) -> AffineReader:
    reader = AffineReader(Values(), PARAMETERS)
    for i, leaf in enumerate(leaves):
        mean = pt.constant(0.0) if means is None else means[i]
        reader.add_leaf(leaf, mean, leaf.type.shape)
    return reader


def read(expression: Variable, leaves: Sequence[Variable] = LEAVES) -> Linear:
    return reader_of(leaves).read(expression)


def coefficients_of(
    reader: AffineReader, terms: Terms, values: dict[Variable, np.ndarray]
) -> np.ndarray:
    """Numbers times parameters."""
    assert terms.numbers.shape == terms.places.shape == terms.positions.shape
    (parameters,) = evaluate([reader.parameters.values(terms.places)], values)
    return terms.numbers * parameters


def summed(
    reader: AffineReader, linear: Linear, values: dict[Variable, np.ndarray]
) -> np.ndarray | float:
    """``Σ coefficients · d[positions]``, with the documented form of ``Terms`` checked."""
    total: np.ndarray | float = 0.0
    for leaf, terms in linear.items():
        d = values[leaf].ravel()
        coefficients = coefficients_of(reader, terms, values)
        assert ((terms.positions >= NOTHING) & (terms.positions < d.size)).all()
        np.testing.assert_array_equal(coefficients[terms.positions == NOTHING], 0.0)
        total = total + (coefficients * d[terms.positions]).sum(axis=-1)
    return total


def assert_read(expression: Variable, leaves: Sequence[Variable] = LEAVES) -> Linear:
    """Assert that an expression is its value at zero plus what was read, at random values."""
    reader = reader_of(leaves)
    linear = reader.read(expression)
    numbers = np.random.default_rng(1)
    values = {v: numbers.normal(size=v.type.shape) for v in (*leaves, *PARAMETERS)}
    at_zero = {v: np.zeros(x.shape) if v in leaves else x for v, x in values.items()}
    (expected,), (offset,) = evaluate([expression], values), evaluate([expression], at_zero)
    actual = offset + summed(reader, linear, values)
    for zero in reader.zeros([expression]):  # what is said to be zero when the effects are
        np.testing.assert_array_equal(evaluate([zero], at_zero)[0], 0.0)
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)
    for leaf in leaves:  # what is said not to enter does not
        if leaf not in linear:
            (without,) = evaluate([expression], values | {leaf: 0 * values[leaf]})
            np.testing.assert_array_equal(without, expected)
    return linear


def mask(*bits: int) -> np.ndarray:
    return np.array(bits, dtype=bool)


READABLE: dict[str, Callable[[], Variable]] = {
    # arithmetic
    "add data": lambda: u + x5,
    "add effects": lambda: u + s + v[0, 1],
    "add many": lambda: pt.add(u, u, s, x5, lam),
    "add broadcasts": lambda: u[:4] + v,
    "add to a smaller one": lambda: s + v[:, :1] + w,
    "subtract": lambda: u - x5 - s,
    "subtract from data": lambda: x5 - u,
    "subtract itself": lambda: u[g] - u[g[::-1]],
    "negate": lambda: -v,
    "multiply": lambda: 2.5 * u * x5,
    "multiply by a parameter": lambda: lam * u,
    "multiply by parameters": lambda: theta * v * x4,
    "multiply broadcasts": lambda: u[:, None] * x4,
    "multiply by more dimensions": lambda: s * Y,
    "divide": lambda: u / x5,
    "divide by a parameter": lambda: v / pt.exp(theta),
    "divide by a number": lambda: u / 3.0,
    "divide by single precision": lambda: u / x5.astype("float32"),
    "divide integers": lambda: u / np.arange(1, 6),
    "distribute": lambda: (u + s + 1.0) * x5 / 3.0 - lam * (2.0 * u - s),
    "center": lambda: u - u.mean(),
    # conditions
    "switch by data": lambda: pt.switch(x5 > 0, u, 0.0),
    "switch between effects": lambda: pt.switch(x5 > 0, u, s),
    "switch by a parameter": lambda: pt.switch(theta > 0, v, -2 * v),
    "switch broadcasts": lambda: pt.switch(Y[:, :1] > 0, u[:4], s),
    "where": lambda: pt.where(x5 > 0, 3.0, u),
    # types
    "float32": lambda: u.astype("float32").astype("float64")[:0],
    "copy": lambda: pt.tensor_copy(u),
    "specify shape": lambda: pt.specify_shape(u, (5,)),
    # indexing
    "by an array": lambda: u[g],
    "by small integers": lambda: u[g.astype("int8")],
    "by unsigned integers": lambda: u[np.array([0, 4, 1], dtype="uint8")],
    "by a list": lambda: u[[0, 0, -1]],
    "by a matrix": lambda: u[np.array([[0, 1], [-1, 2]])],
    "by a scalar": lambda: u[2],
    "by a negative scalar": lambda: v[-1],
    "by a slice": lambda: u[1:4],
    "by a step": lambda: u[::2],
    "backwards": lambda: u[::-1],
    "from the end": lambda: u[-3:],
    "by an empty slice": lambda: u[3:3],
    "two scalars": lambda: v[1, 2],
    "rows by an array": lambda: v[np.array([2, 0, 2])],
    "columns by an array": lambda: v[:, np.array([3, -1])],
    "a column, then rows": lambda: v[:, 1][np.array([2, 0])],
    "rows and a column": lambda: v[np.array([2, 0]), 1],
    "pairs": lambda: v[np.array([2, 0, -1]), np.array([1, 1, 3])],
    "pairs around a slice": lambda: w[np.array([0, 1, 1]), :, np.array([3, 0, -1])],
    "array then slice": lambda: w[1, np.array([2, 2]), 1:3],
    "ellipsis": lambda: w[..., 0],
    "newaxis": lambda: u[None, :, None],
    "mask": lambda: u[mask(1, 0, 1, 0, 1)],
    "mask of everything": lambda: v[Y > 0],
    "mask of rows": lambda: v[mask(1, 0, 1), 1:],
    "nonzero": lambda: u[(x5 > 0).nonzero()],
    "take": lambda: v.take(np.array([0, 2]), axis=1),
    "take along an axis": lambda: pt.take_along_axis(v, np.array([[0], [3], [1]]), axis=1),
    "vectorized indexing": lambda: pt.vectorize(lambda a: a[1] - a[0], "(n)->()")(v),
    # shapes
    "reshape": lambda: v.reshape((2, 6)),
    "reshape with -1": lambda: w.reshape((-1, 4))[:, ::2].reshape((6, -1)),
    "reshape by a shape": lambda: v.reshape((v.shape[0], 2, 2)),
    "flatten": lambda: w.flatten(),
    "flatten part": lambda: w.flatten(2),
    "ravel": lambda: v.ravel()[::-1],
    "transpose": lambda: v.T,
    "transpose axes": lambda: w.transpose(2, 0, 1),
    "swap axes": lambda: w.swapaxes(0, 2),
    "move axis": lambda: pt.moveaxis(w, 0, -1),
    "expand dims": lambda: pt.expand_dims(v, 1),
    "squeeze": lambda: v[:, :1].squeeze(1),
    "broadcast": lambda: pt.broadcast_to(u, (2, 5)),
    "fill": lambda: pt.fill(Y, s),
    "fill an effect's shape": lambda: pt.fill(v, s),
    "alloc": lambda: pt.alloc(s, 3, 2),
    "alloc a vector": lambda: pt.alloc(u, 2, 5),
    "full": lambda: pt.full((3, 2), s),
    "zeros like": lambda: u + pt.zeros_like(u),
    "times its own ones": lambda: s * pt.ones(u.shape),
    "repeat": lambda: u.repeat(2),
    "repeat unequally": lambda: pt.repeat(u, [1, 2, 0, 1, 1]),
    "repeat along an axis": lambda: pt.repeat(v, 2, axis=1),
    "tile": lambda: pt.tile(v, (2, 1)),
    "flip": lambda: pt.flip(v),
    "roll": lambda: pt.roll(u, 2),
    "pad": lambda: pt.pad(u, 1),
    "difference": lambda: pt.diff(u),
    "diagonal": lambda: pt.diagonal(v),
    "offset diagonal": lambda: pt.diagonal(w, 1, 1, 2),
    "diagonal matrix": lambda: pt.diag(u),
    "trace": lambda: pt.trace(v),
    "triangle": lambda: pt.tril(v),
    # joining
    "concatenate": lambda: pt.concatenate([u, x5, u[:2], theta]),
    "concatenate columns": lambda: pt.concatenate([v, Y, v[:, :1]], axis=1),
    "concatenate effects": lambda: pt.concatenate([u, v.ravel(), s[None]])[np.array([0, 9, -1])],
    "stack": lambda: pt.stack([u, 2 * u, pt.as_tensor(x5)]),
    "stack columns": lambda: pt.stack([u[:4], v[1], theta], axis=1),
    "stack scalars": lambda: pt.stack([s, u[1], lam]),
    "list of scalars": lambda: pt.as_tensor([s, 1.0, u[-1], s])[np.array([3, 0, 2])],
    "sum in Python": lambda: sum(u[i] * x5[i] for i in range(5)),
    # writing
    "set a slice": lambda: pt.zeros(7)[1:6].set(u),
    "set an element": lambda: u[1].set(s),
    "set by an array": lambda: pt.zeros(5)[np.array([0, 3])].set(u[:2]),
    "set the same element twice": lambda: pt.zeros(5)[np.array([3, 3])].set(u[:2]),
    "set by a mask": lambda: pt.zeros(5)[mask(1, 0, 1, 0, 1)].set(u[:3]),
    "set a column": lambda: v[:, 0].set(0.0),
    "set into data": lambda: pt.as_tensor(Y)[1].set(v[0]),
    "set broadcasts": lambda: pt.zeros((2, 4))[:, 1:].set(v[0, 1:]),
    "set into effects": lambda: u[np.array([0, 1])].set(v[0, :2]),
    "increase a slice": lambda: u[1:3].inc(v[0, :2]),
    "increase by an array": lambda: u[np.array([0, -1])].inc(v[0, :2]),
    "increase by a number": lambda: u[np.array([0, 0])].inc(1.0),
    "increase data": lambda: pt.as_tensor(Y)[:, 1].inc(v[:, 0]),
    "increase several by one": lambda: pt.zeros(5)[np.array([0, 3])].inc(s),
    "increase by a mask": lambda: pt.zeros(5)[mask(1, 0, 1, 0, 1)].inc(u[:3]),
    "increase an element twice": lambda: pt.zeros(5)[np.array([0, 0])].inc(u[:2]),
    "increase by a negative index too": lambda: u[np.array([4, -1])].inc(v[0, :2]),
    "increase an element several times by one": lambda: pt.zeros(4)[np.array([2, 1, 2])].inc(s),
    "increase rows several times": lambda: pt.zeros((2, 4))[np.array([1, 0, 1])].inc(lam * v),
    "increase pairs several times": lambda: pt.zeros((2, 3))[
        np.array([1, 1, 0]), np.array([2, 2, 0])
    ].inc(u[:3]),
    "increase nothing": lambda: v[np.zeros(0, dtype=int)].inc(u[:0, None]),
    "weighted counts": lambda: pt.bincount(np.array([0, 2, 2, 0, 1]), weights=u),
    # sums and products
    "sum": lambda: v.sum(),
    "sum an axis": lambda: w.sum(axis=1),
    "sum axes": lambda: w.sum(axis=(0, -1)),
    "sum and keep": lambda: v.sum(axis=1, keepdims=True),
    "mean": lambda: v.mean(),
    "mean of an axis": lambda: w.mean(axis=0),
    "row products": lambda: (v[np.array([0, 2, 2])] * rng_like(3, 4)).sum(axis=-1),
    "X @ u": lambda: pt.dot(X, u),
    "u @ X": lambda: u @ X.T,
    "u @ x": lambda: pt.dot(u, x5),
    "X @ matrix": lambda: X[:, :3] @ v,
    "matrix @ X": lambda: v @ X[:4],
    "parameters @ effects": lambda: pt.dot(v, theta),
    "parameter matrix": lambda: pt.outer(theta, theta) @ u[:4],
    "batched, effects on the left": lambda: w @ X[:4],
    "batched, data on the left": lambda: X[:, :3] @ w,
    "batched, both": lambda: rng_like(2, 5, 3) @ w,
    "batch of data only": lambda: rng_like(3, 2, 5) @ u,
    "batched matrix vector": lambda: w @ x4,
    "vecdot": lambda: pt.vecdot(v, x4),
    "matvec": lambda: pt.matvec(v, x4),
    "vecmat": lambda: pt.vecmat(x4[:3], v),
    "tensordot": lambda: pt.tensordot(w, X[:4], axes=1),
    "tensordot of two axes": lambda: pt.tensordot(w, rng_like(3, 4, 2), axes=2),
    "outer": lambda: pt.outer(u, pt.as_tensor(x4)),
    "einsum rows": lambda: pt.einsum("nk,nk->n", v, Y),
    "einsum product": lambda: pt.einsum("ij,kj->ik", v, rng_like(2, 4)),
    "einsum transpose": lambda: pt.einsum("abc->cab", w),
    "einsum batch": lambda: pt.einsum("bij,bjk->bik", w, rng_like(2, 4, 3)),
    "einsum sum": lambda: pt.einsum("abc->b", w),
    # linear maps
    "cumulative sum": lambda: pt.cumsum(u),
    "cumulative sum of products": lambda: pt.cumsum(lam * u * x5 + s),
    "cumulative sum of a matrix": lambda: pt.cumsum(v),
    "cumulative sum of rows": lambda: v.cumsum(axis=0) * theta,
    "cumulative sum of columns": lambda: pt.cumsum(v, axis=-1)[g % 3],
    "cumulative sum along a middle axis": lambda: pt.cumsum(w, axis=1),
    "cumulative sum of cumulative sums": lambda: pt.cumsum(pt.cumsum(u)),
    "cumulative sum of nothing": lambda: pt.cumsum(u[:0]),
    "second differences": lambda: pt.diff(v, n=2, axis=0),
    "difference of a cumulative sum": lambda: pt.diff(pt.cumsum(u)),
    "split": lambda: pt.concatenate(pt.split(u, [2, 3], n_splits=2)[::-1]),
    "split columns": lambda: pt.split(v, [1, 3], n_splits=2, axis=1)[1],
    "real part": lambda: pt.real(u),
    "kron": lambda: pt.linalg.kron(v, rng_like(2, 2)),
    "kron from the left": lambda: pt.linalg.kron(pt.outer(theta, theta), u[:, None]),
    "solve": lambda: pt.linalg.solve(rng_like(5, 5), u),
    "solve columns": lambda: pt.linalg.solve(rng_like(3, 3), v),
    "solve with parameters": lambda: pt.linalg.solve(pt.eye(4) + pt.outer(theta, theta), v[0]),
    "solve a positive definite system": lambda: pt.linalg.solve(spd(5), u, assume_a="pos"),
    "solve a symmetric system": lambda: pt.linalg.solve(spd(5), u, assume_a="sym"),
    "solve systems": lambda: pt.linalg.solve(np.stack([spd(5), 2 * spd(5)]), u, b_ndim=1),
    "solve for several": lambda: pt.linalg.solve(spd(3), w, b_ndim=2),
    "solve a triangular system": lambda: pt.linalg.solve_triangular(spd(5), u, lower=True),
    "solve a transposed one": lambda: pt.linalg.solve_triangular(spd(3), v, lower=True, trans=1),
    "solve by a Cholesky factor": lambda: pt.linalg.cho_solve(
        (np.linalg.cholesky(spd(5)), True), u, b_ndim=1
    ),
    "solve by an LU factor": lambda: pt.linalg.lu_solve(pt.linalg.lu_factor(spd(5)), u, b_ndim=1),
    "times an inverse": lambda: pt.linalg.inv(pt.eye(4) + pt.outer(theta, theta)) @ v[0],
    "convolve": lambda: pt.signal.convolve1d(u, np.array([1.0, 0.5])),
    "convolve with effects": lambda: pt.signal.convolve1d(theta, u, mode="valid"),
    "convolve and keep": lambda: pt.signal.convolve1d(u, rng_like(3), mode="same"),
    "convolve matrices": lambda: pt.signal.convolve2d(v, rng_like(2, 2)),
    "block diagonal": lambda: pt.linalg.block_diag(v, Y, 2 * v[:1]),
    "fill a diagonal": lambda: pt.fill_diagonal(v, 2.0),
    "fill a diagonal with an effect": lambda: pt.fill_diagonal(pt.as_tensor(Y), s),
    "pad by the edge": lambda: pt.pad(u, 1, mode="edge"),
    "pad by the mean": lambda: pt.pad(v, 1, mode="mean"),
    "linspace": lambda: pt.linspace(u[0], u[1], 4),
    "join axes": lambda: pt.join_dims(w, 1),
    "split an axis": lambda: pt.split_dims(u[:4], (2, 2)),
    "matrix power": lambda: pt.linalg.matrix_power(pt.outer(theta, theta), 2) @ v[0],
    "trace of a product": lambda: pt.trace(v @ Y.T),
    "interpolate": lambda: pt.interpolate.interp(np.array([0.5, 3.2]), np.arange(5.0), u),
    # together
    "linear predictor": lambda: lam + u[g] + theta[1] * v[0, 1] + v[1, 1:][g % 3] * g,
    "nested use": lambda: (u[np.array([0, 0, 1, 2])] + v.T[:, 0])[g % 4],
    "hand-written matrix": lambda: pt.stack([u[:4], theta * u[1:]], axis=1)[
        np.array([0, 3]), [0, 1]
    ],
}


def draw_around(mean: Variable) -> Variable:
    rng = pt.random.shared_rng(seed=0)
    return pt.random.normal(mean, 1.0, rng=rng, return_next_rng=True)[1]


def rng_like(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).normal(size=shape)


def spd(n: int) -> np.ndarray:
    root = rng_like(n, n)
    return root @ root.T + np.eye(n)


@pytest.mark.parametrize("name", READABLE)
def test_reads(name: str) -> None:
    assert_read(READABLE[name]())


@pytest.mark.parametrize(
    ("name", "numeric"),
    [
        ("multiply", True),
        ("row products", True),
        ("X @ u", True),
        ("einsum batch", True),
        ("switch by data", True),
        ("divide", True),
        ("concatenate", True),
        ("center", True),
        ("reshape by a shape", True),
        ("multiply by a parameter", False),
        ("divide by a parameter", False),
        ("switch by a parameter", False),
        ("parameters @ effects", False),
    ],
)
def test_coefficients_are_numbers_where_they_hold_no_parameters(name: str, numeric: bool) -> None:
    for terms in read(READABLE[name]()).values():
        assert (terms.places == ONE).all() == numeric


REFUSED: dict[str, tuple[Callable[[], Variable], str, set[Variable]]] = {
    "exp": (lambda: pt.exp(u), "exp", {u}),
    "log": (lambda: pt.log(u)[g], "log", {u}),
    "sqrt": (lambda: pt.sqrt(u + s), "sqrt", {u, s}),
    "square": (lambda: u**2, "pow", {u}),
    "abs": (lambda: abs(u), "abs", {u}),
    "sigmoid": (lambda: pt.sigmoid(u + x5), "sigmoid", {u}),
    "tanh": (lambda: pt.tanh(v.sum()), "tanh", {v}),
    "maximum": (lambda: pt.maximum(u, 0.0), "maximum", {u}),
    "largest": (lambda: pt.max(u), "max", {u}),
    "clip": (lambda: pt.clip(u, -1.0, 1.0), "clip", {u}),
    "sign": (lambda: pt.sign(u), "sign", {u}),
    "product": (lambda: u.prod(), "prod", {u}),
    "cumulative product": (lambda: pt.cumprod(u), "cumop", {u}),
    "standard deviation": (lambda: u.std(), "pow", {u}),
    "softmax": (lambda: pt.special.softmax(u), "max", {u}),
    "sort": (lambda: pt.sort(u), "sort", {u}),
    "reciprocal": (lambda: pt.reciprocal(u), "reciprocal", {u}),
    "divide by": (lambda: x5 / u, "true_div", {u}),
    "divide by a part": (lambda: s / (1.0 + u), "true_div", {s, u}),
    "floor division": (lambda: u // 2.0, "int_div", {u}),
    "remainder": (lambda: u % 2.0, "mod", {u}),
    "round": (lambda: pt.round(u), "round", {u}),
    "compare": (lambda: pt.gt(u, 0) * 1.0, "gt", {u}),
    "condition": (lambda: pt.switch(u > 0, u, 0.0), "gt", {u}),
    "integers": (lambda: u.astype("int64"), "cast", {u}),
    "small integers": (lambda: u.astype("int8") * 1.0, "cast", {u}),
    "booleans": (lambda: u.astype("bool"), "cast", {u}),
    "inverse": (lambda: pt.linalg.inv(v[:, :3]), "inv", {v}),
    "solve": (lambda: pt.linalg.solve(v[:, :3], x4[:3]), "solve", {v}),
    "solve with effects on both sides": (
        lambda: pt.linalg.solve(v[:, :3], v[:, 3]),
        "solve",
        {v},
    ),
    "convolve effects": (lambda: pt.signal.convolve1d(u, v[0]), "convolve1d", {v}),
    "determinant": (lambda: pt.linalg.det(v[:, :3]), "det", {v}),
    "choose": (lambda: pt.choose(g[:2] % 2, [u[:2], u[1:3]]), "makelist", {u}),
    "tensorsolve": (lambda: pt.linalg.tensorsolve(np.eye(5), u), "tensorsolve", {u}),
    "scan": (lambda: pytensor.scan(lambda a: a * 2, u, return_updates=False), "scan", {u}),
    "random": (lambda: draw_around(u), "normal", {u}),
    "multiply effects": (lambda: u * s, "mul", {s}),
    "multiply itself": (lambda: u[g] * u[g[::-1]], "mul", {u}),
    "dot of effects": (lambda: u[:4] @ v[0], "dot", {u}),
    "batched dot of effects": (lambda: w @ w.mT, "dot", {w}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    build, op, leaves = REFUSED[name]
    with pytest.raises(Refusal) as caught:
        read(build())
    refusal = caught.value
    assert set(refusal.leaves) == leaves
    assert op in describe(refusal.node)
    assert refusal.reason and refusal.remedy


def test_only_what_is_known_not_to_be_linear_is_called_so() -> None:
    for name in ("exp", "maximum", "largest", "product", "cumulative product", "sort", "inverse"):
        with pytest.raises(Refusal, match="an operation that is not linear"):
            read(REFUSED[name][0]())
    for name in ("choose", "tensorsolve", "scan"):
        with pytest.raises(Refusal, match="an operation that is not understood"):
            read(REFUSED[name][0]())


def test_long_cumulative_sums_are_refused_with_a_way_out() -> None:
    steps = pt.tensor("steps", shape=(10_000,))
    with pytest.raises(Refusal, match="100,000,000 pairs") as caught:
        read(pt.cumsum(steps), [steps])
    assert "pm.GaussianRandomWalk" in caught.value.remedy


def test_only_what_enters_the_refused_operation_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        read(v[0, 0] + s + pt.exp(u))
    assert set(caught.value.leaves) == {u}


def test_the_smaller_of_two_factors_of_a_product_is_refused() -> None:
    """A loading times many levels: the levels are worth more."""
    with pytest.raises(Refusal, match="multiplied by another effect") as caught:
        read(s * v)
    assert set(caught.value.leaves) == {s}


def test_reading_stops_at_what_is_sampled() -> None:
    """A sampled variable is a parameter, however it came about."""
    child = draw_around(u)
    reader = AffineReader(Values(), [child])
    reader.add_leaf(u, pt.constant(0.0), (5,))
    linear = reader.read(child * u)
    coefficients = coefficients_of(reader, linear[u], {child: x5})
    np.testing.assert_array_equal(coefficients[:, 0], x5)


def test_what_holds_no_effect_is_not_read() -> None:
    assert read(pt.exp(theta) + lam**2) == {}
    assert read(pt.constant(x5)) == {}


@pytest.mark.parametrize("index", [5, -6, np.array([0, 5]), np.array([0, -6])], ids=str)
def test_index_out_of_range(index: int | np.ndarray) -> None:
    with pytest.raises(Refusal, match="out of range") as caught:
        read(u[index])
    assert set(caught.value.leaves) == {u}
    assert "levels" in caught.value.remedy
    assert "subtensor" in describe(caught.value.node)


def test_index_that_depends_on_a_parameter() -> None:
    k = theta.argmax()
    for expression in (u[k], u[pt.stack([k, k])], u[: k + 1], pt.repeat(u, k + 1)):
        with pytest.raises(Refusal, match="depends on a sampled variable"):
            read(expression)


def test_index_that_depends_on_an_effect() -> None:
    with pytest.raises(Refusal) as caught:
        read(v.argmax() + u[v.argmax()])
    assert set(caught.value.leaves) == {v}


def test_data_as_index_are_remembered() -> None:
    with pm.Model():
        codes = pm.Data("codes", g)
        columns = pm.Data("columns", np.array([0, 3]))
        weights = pm.Data("weights", rng_like(7))
        reader = reader_of([u, v])
        linear = reader.read(u[codes] * weights + v[0, columns].sum())
    np.testing.assert_array_equal(linear[u].positions[:, 0], g % 5)
    assert set(reader.values.structural) == {"codes", "columns"}
    assert (linear[u].places != ONE).all()


def test_constant_indices_are_not_structural_data() -> None:
    reader = reader_of([u])
    reader.read(u[g])
    assert reader.values.structural == {}


def test_broadcast_to_a_response() -> None:
    linear = reader_of([s, u]).read(s + u, (3, 5))
    assert linear[s].shape == linear[u].shape == (3, 5)
    np.testing.assert_array_equal(linear[s].positions, 0)
    np.testing.assert_array_equal(linear[u].positions[..., 0], np.tile(np.arange(5), (3, 1)))


def test_hierarchical_means() -> None:
    """What an effect's mean depends on enters wherever the effect enters."""
    school = np.array([0, 0, 2, 2, -1])
    parent = pt.tensor("parent", shape=(3,))
    reader = AffineReader(Values(), PARAMETERS)
    reader.add_leaf(parent, pt.constant(1.0), (3,))
    reader.add_leaf(u, lam * parent[school] + x5, (5,))
    linear = reader.read(2.0 * u[g])
    numbers = np.random.default_rng(2)
    deviations = {parent: numbers.normal(size=3), u: numbers.normal(size=5)}
    values = deviations | {lam: np.array(0.7), theta: np.zeros(4)}
    expected = 2.0 * (0.7 * deviations[parent][school] + deviations[u])[g]
    np.testing.assert_allclose(summed(reader, linear, values), expected, rtol=1e-13)


def test_a_mean_that_is_not_affine_is_refused() -> None:
    reader = reader_of([v])
    with pytest.raises(Refusal) as caught:
        reader.add_leaf(u, pt.exp(v[0, 0]), (5,))
    assert set(caught.value.leaves) == {v}


def test_coefficients_do_not_depend_on_effects() -> None:
    """They may refer to an effect for its shape; its value must not be needed."""
    reader = reader_of(LEAVES)
    linear = reader.read(lam * pt.ones_like(u) * s)
    coefficients = coefficients_of(reader, linear[s], {lam: np.array(2.0)})
    np.testing.assert_array_equal(coefficients, np.full((5, 1), 2.0))


@pytest.mark.parametrize("covariate", [0.0, np.inf, np.nan])
def test_what_is_switched_off_does_not_matter(covariate: float) -> None:
    """A row that a condition, or a write, takes out has no coefficient: not 0 times infinity."""
    data = np.array([1.0, covariate, 2.0])
    with np.errstate(divide="ignore"):
        ratio = u[:3] / data if covariate == 0 else u[:3] * data
    usable = np.isfinite(data) & (data != 0)
    for expression in (
        pt.switch(usable, ratio, 0.0),
        ratio[1].set(0.0),
        pt.concatenate([ratio, s[None]])[np.array([0, 2, 3])],
    ):
        for terms in read(expression).values():
            assert np.isfinite(terms.numbers).all()
            np.testing.assert_array_equal(terms.numbers[terms.positions == NOTHING], 0.0)


def test_a_sum_of_nothing() -> None:
    nothing = u[np.array([], dtype=int)].sum()
    assert_read(s + nothing)
    assert_read((u - nothing)[::2])


def test_describe() -> None:
    assert describe(None) == ""
    assert describe(pt.exp(u).owner) == "exp"
    named = pt.exp(u)
    named.name = "mu"
    assert describe(named.owner) == "exp → 'mu'"
    assert "solve" in describe(pt.linalg.solve(w[:, :, :3], Y[:, 0]).owner)
    assert describe((w @ w.mT).owner) == "dot"


def test_sparse_effects_are_refused_by_name() -> None:
    design = pytensor.sparse.as_sparse_variable(sparse.csr_matrix(X))
    with pytest.raises(Refusal) as caught:
        read(pytensor.sparse.dot(design, pytensor.sparse.csr_from_dense(u[:, None])))
    assert set(caught.value.leaves) == {u}
    assert "sparse" in describe(caught.value.node)


# --- Terms ------------------------------------------------------------------------------------


def test_take_from_terms() -> None:
    terms = Terms(
        np.array([[0], [3], [1]]), np.array([[1.0], [2.0], [4.0]]), np.array([[5], [6], [7]])
    )
    taken = terms.take(np.array([[2, NOTHING], [0, 0]]))
    assert taken.shape == (2, 2)
    np.testing.assert_array_equal(taken.positions[..., 0], [[1, NOTHING], [0, 0]])
    np.testing.assert_array_equal(taken.numbers[..., 0], [[4.0, 0.0], [1.0, 1.0]])
    np.testing.assert_array_equal(taken.places[..., 0], [[7, ONE], [5, 5]])


def test_absorb_axes_of_terms() -> None:
    positions = np.arange(12).reshape(2, 3, 2)
    terms = Terms(positions, positions * 1.5, np.full(positions.shape, ONE)).absorb([0])
    assert terms.shape == (3,)
    for row in range(3):
        expected = sorted(positions[:, row].ravel())
        assert sorted(terms.positions[row]) == expected
        assert sorted(terms.numbers[row]) == [1.5 * position for position in expected]


# --- Random chains ----------------------------------------------------------------------------

LENGTHS = st.sampled_from([2, 1, 3, 0])


class Chain:
    """Composes operations on a tensor whose shape is known."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        shape = tuple(data.draw(st.lists(LENGTHS, max_size=3), label="shape"))
        self.leaf = pt.tensor("leaf", shape=shape)
        self.leaves = (self.leaf, s)
        self.expression, self.shape = self.leaf, shape
        for _ in range(data.draw(st.integers(1, 6), label="length")):
            name = data.draw(st.sampled_from(sorted(OPERATIONS)), label="operation")
            expression = OPERATIONS[name](self)
            if expression is not None:
                expected = evaluate([expression], self.zeros)
                self.expression, self.shape = expression, expected[0].shape

    @property
    def zeros(self) -> dict[Variable, np.ndarray]:
        return {v: np.zeros(v.type.shape) for v in (*self.leaves, *PARAMETERS)}

    def numbers(self, shape: Sequence[int]) -> np.ndarray:
        seed = self.data.draw(st.integers(0, 99), label="seed")
        return np.random.default_rng(seed).normal(size=tuple(shape)).round(1)

    def axis(self) -> int:
        ndim = len(self.shape)
        return self.data.draw(st.integers(-ndim, ndim - 1), label="axis")

    def index(self, length: int, unique: bool = False) -> np.ndarray:
        low = 0 if unique else -length
        entries = st.lists(st.integers(low, length - 1), max_size=3, unique=unique)
        return np.array(self.data.draw(entries, label="index"), dtype=int)

    def bits(self, length: int) -> np.ndarray:
        bits = st.lists(st.booleans(), min_size=length, max_size=length)
        return np.array(self.data.draw(bits, label="bits"), dtype=bool)

    def where(self) -> tuple:
        """Draw an index of one axis."""
        axis = self.axis() % len(self.shape)
        length = self.shape[axis]
        bound = st.none() | st.integers(-length - 1, length + 1)
        slices = st.builds(slice, bound, bound, st.sampled_from([None, 1, 2, -1, -2]))
        kinds = ["slice", "array", "mask", "element"] if length else ["slice", "array"]
        match self.data.draw(st.sampled_from(kinds), label="kind"):
            case "slice":
                own: object = self.data.draw(slices, label="slice")
            case "array":
                own = self.index(length) if length else np.array([], dtype=int)
            case "mask":
                own = self.bits(length)
            case _:
                own = self.data.draw(st.integers(-length, length - 1), label="element")
        return (*[slice(None)] * axis, own)


def _at(chain: Chain) -> Variable | None:
    return chain.expression[chain.where()] if chain.shape else None


def _write(chain: Chain) -> Variable | None:
    if not chain.shape or not chain.shape[0]:
        return None
    rows = chain.index(chain.shape[0], unique=True)
    value = chain.data.draw(st.sampled_from([s, 1.0, lam]), label="value")
    target = chain.expression[rows]
    return target.inc(value) if chain.data.draw(st.booleans(), label="inc") else target.set(value)


def _join(chain: Chain) -> Variable | None:
    if not chain.shape:
        return None
    other = chain.data.draw(
        st.sampled_from([chain.expression, chain.expression * 2.0, chain.numbers(chain.shape)])
    )
    return pt.concatenate([chain.expression, other], axis=chain.axis())


def _multiply_matrix(chain: Chain) -> Variable | None:
    if len(chain.shape) < 2:
        return None
    if chain.data.draw(st.booleans(), label="left"):
        return chain.numbers((2, chain.shape[-2])) @ chain.expression
    return chain.expression @ chain.numbers((chain.shape[-1], 2))


def _switch(chain: Chain) -> Variable:
    condition = chain.numbers(chain.shape) > 0
    return pt.switch(condition, chain.expression, chain.data.draw(st.sampled_from([s, 0.0, lam])))


def _sum(chain: Chain) -> Variable | None:
    if not chain.shape:
        return None
    return chain.expression.sum(chain.axis(), keepdims=chain.data.draw(st.booleans()))


OPERATIONS: dict[str, Callable[[Chain], Variable | None]] = {
    "negate": lambda c: -c.expression,
    "add data": lambda c: c.expression + c.numbers(c.shape),
    "subtract a leaf": lambda c: s - c.expression,
    "multiply": lambda c: c.expression * c.numbers(c.shape),
    "multiply by a parameter": lambda c: lam * c.expression,
    "divide": lambda c: c.expression / c.data.draw(st.sampled_from([3.0, 7, lam, 1 / lam])),
    "multiply by a quotient": lambda c: (lam / (2 * theta[0])) * c.expression,
    "center": lambda c: c.expression - c.expression.sum(),
    "index": _at,
    "transpose": lambda c: c.expression.T,
    "flatten": lambda c: c.expression.flatten(),
    "new axis": lambda c: c.expression[..., None] if len(c.shape) < 4 else None,
    "broadcast": lambda c: (
        pt.broadcast_to(c.expression, (2, *c.shape)) if len(c.shape) < 4 else None
    ),
    "join": _join,
    "stack": lambda c: pt.stack([c.expression, c.expression]) if len(c.shape) < 4 else None,
    "write": _write,
    "sum": _sum,
    "matrix": _multiply_matrix,
    "switch": _switch,
    "flip": lambda c: pt.flip(c.expression) if c.shape else None,
    "diagonal": lambda c: pt.diagonal(c.expression) if len(c.shape) > 1 else None,
    "repeat": lambda c: pt.repeat(c.expression, 2, axis=c.axis()) if c.shape else None,
}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_reads_random_chains(data: st.DataObject) -> None:
    chain = Chain(data)
    assert_read(chain.expression, chain.leaves)
