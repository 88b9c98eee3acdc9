"""What effects are multiplied by: numbers times parameters are what the graph computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytensor.compile.mode import Mode
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.analysis.multipliers import MultiplierReader
from pymc_marginal_lmm.analysis.parameters import Parameters
from pymc_marginal_lmm.analysis.terms import Multiplier
from pymc_marginal_lmm.values import Values

INTERPRETER = Mode(linker="py", optimizer=None)
SHAPES = [(), (1,), (0,), (1, 1), (3,), (3, 1), (0, 3), (2, 3)]
"""A single number, however many axes it has, and nothing, beside what is usual."""

PARAMETERS = {shape: pt.tensor(shape=shape) for shape in SHAPES}


def values_at(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 2.0, size=shape).round(2)


POINT = {theta: values_at(shape, 1) for shape, theta in PARAMETERS.items()}


def evaluate(expression: Variable) -> np.ndarray:
    function = pytensor.function(
        list(POINT), expression, mode=INTERPRETER, on_unused_input="ignore"
    )
    return np.asarray(function(*POINT.values()))


def assert_read(expression: Variable) -> Multiplier:
    parameters = Parameters()
    reader = MultiplierReader(Values(), parameters, list(POINT))
    multiplier, inverse = reader.read(expression), reader.inverse(expression)
    expected = evaluate(expression)
    with np.errstate(divide="ignore"):
        one_over = 1.0 / expected
    for own, value in ((multiplier, expected), (inverse, one_over)):
        assert isinstance(own.numbers, np.ndarray)
        assert isinstance(own.places, np.ndarray)
        full = own.broadcast(value.shape)
        found = full.numbers * evaluate(parameters.values(full.places))
        assert found.shape == value.shape
        np.testing.assert_allclose(found, value, rtol=1e-12)
    return multiplier


def broadcasts(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_to(np.zeros(own), shape).shape == shape
    except ValueError:
        return False


def _of_same_shape(draw: st.DrawFn, shape: tuple[int, ...]) -> Variable | np.ndarray:
    """Draw parameters, or numbers, that broadcast to a shape without changing it."""
    own = draw(st.sampled_from([own for own in SHAPES if broadcasts(own, shape)]))
    return PARAMETERS[own] if draw(st.booleans()) else values_at(own, 2)


ELEMENTWISE: dict[str, Callable] = {
    "times": lambda x, y: x * y,
    "divided by": lambda x, y: x / y,
    "dividing": lambda x, y: y / x,
    "inverse": lambda x, y: 1 / x,
    "negative": lambda x, y: -x,
    "root": lambda x, y: pt.sqrt(pt.abs(x)),
    "to a power": lambda x, y: x**2,
    "to the power 1": lambda x, y: x**1,
    "plus": lambda x, y: abs(x) + y,
    "centred": lambda x, y: 1 + x - x.sum(),
    "chosen": lambda x, y: pt.switch(x > 0, x, y),
    "like": lambda x, y: pt.ones_like(x) * y,
    "identity": lambda x, y: pt.tensor_copy(x),
    "less once": lambda x, y: 2 * x * y - x * y,
    "plus nothing": lambda x, y: pt.zeros_like(x) + x + 0.0 * y,
}

SHAPED: dict[str, Callable[[Variable], Variable]] = {
    "one more axis": lambda x: x[None] if x.ndim < 2 else x,
    "first": lambda x: x[0] if x.ndim and x.type.shape[0] else x,
    "first by array": lambda x: x[np.array(0)] if x.ndim and x.type.shape[0] else x,
    "stacked": lambda x: pt.stack([x, x])[1],
    "flat": lambda x: x.ravel(),
    "nothing": lambda x: x[:0] if x.ndim else x,
    "transposed": lambda x: x.T,
    "repeated": lambda x: pt.concatenate([x, x])[: x.type.shape[0]] if x.ndim else x,
    "sum": lambda x: x.sum(),
    "sums": lambda x: x.sum(axis=0, keepdims=True) if x.ndim else x,
    "rows by matrix": lambda x: (
        turned(x.type.shape[0]) @ x if x.ndim and None not in x.type.shape else x
    ),
    "columns by matrix": lambda x: (
        x @ turned(x.type.shape[-1]) if x.ndim and None not in x.type.shape else x
    ),
    "sums by matrix": lambda x: (
        np.ones((2, x.type.shape[0])) @ x if x.ndim and None not in x.type.shape else x
    ),
}


def turned(n: int) -> np.ndarray:
    """Return a matrix that turns the order round, and doubles."""
    return 2.0 * np.eye(n)[::-1]


@st.composite
def expressions(draw: st.DrawFn) -> Variable:
    expression: Variable = PARAMETERS[draw(st.sampled_from(SHAPES))]
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            shape = evaluate(expression).shape
            change = ELEMENTWISE[draw(st.sampled_from(sorted(ELEMENTWISE)))]
            expression = change(expression, _of_same_shape(draw, shape))
        else:
            expression = SHAPED[draw(st.sampled_from(sorted(SHAPED)))](expression)
    return expression


@settings(max_examples=300, deadline=None, derandomize=True)
@given(expressions())
def test_random_factors(expression: Variable) -> None:
    assert_read(expression)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("other", SHAPES)
def test_products_and_inverses_of_every_shape(
    shape: tuple[int, ...], other: tuple[int, ...]
) -> None:
    """Also of what an index or arithmetic made NumPy scalars of."""
    if not broadcasts(other, shape):
        return
    one, two = PARAMETERS[shape], PARAMETERS[other]
    for expression in (one * two, one / two, 2.0 / one, -one / (3.0 * two), one * one / one):
        multiplier = assert_read(expression)
        assert (multiplier.numbers != 0).all()


@pytest.mark.parametrize("shape", [(3,), (3, 1), (2, 3)])
def test_a_product_with_one_hot_rows_selects(shape: tuple[int, ...]) -> None:
    theta = PARAMETERS[shape]
    codes = np.array([1, 0, 1, 1])
    hot, weights = np.eye(shape[0])[codes], np.array([1.0, 2.0, 0.5, 3.0])
    plain = assert_read(theta[codes])
    columns = [hot @ theta, (theta.T @ hot.T).T, pt.as_tensor(2 * hot) @ theta / 2.0]
    if theta.ndim == 1:
        columns += [(hot * theta).sum(axis=1), (weights[:, None] * hot * theta).sum(1) / weights]
    for expression in columns:
        multiplier = assert_read(expression)
        np.testing.assert_array_equal(
            multiplier.places - multiplier.places.min(), plain.places - plain.places.min()
        )


def test_a_sum_of_different_parameters_is_one_of_its_own() -> None:
    theta = PARAMETERS[(2, 3)]
    for expression in (theta.sum(axis=1), theta @ np.ones(3), theta[0] + theta[1] - theta[0]):
        multiplier = assert_read(expression)
        assert (multiplier.numbers == 1).all()
        assert len(np.unique(multiplier.places)) == multiplier.places.size
