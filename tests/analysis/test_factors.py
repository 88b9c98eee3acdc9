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

from pymc_marginal_lmm.analysis.factors import FactorReader
from pymc_marginal_lmm.analysis.parameters import Parameters
from pymc_marginal_lmm.analysis.terms import Factor
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


def assert_read(expression: Variable) -> Factor:
    parameters = Parameters()
    reader = FactorReader(Values(), parameters, list(POINT))
    factor, inverse = reader.read(expression), reader.inverse(expression)
    expected = evaluate(expression)
    for own, value in ((factor, expected), (inverse, 1.0 / expected)):
        assert isinstance(own.numbers, np.ndarray)
        assert isinstance(own.places, np.ndarray)
        full = own.broadcast(value.shape)
        found = full.numbers * evaluate(parameters.values(full.places))
        assert found.shape == value.shape
        np.testing.assert_allclose(found, value, rtol=1e-12)
    return factor


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
}


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
        factor = assert_read(expression)
        assert (factor.numbers != 0).all()
