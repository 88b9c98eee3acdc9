"""A sweep and the evidence of the rest, against dense linear algebra.

Values, gradients, degenerate numbers, dtypes, with any layout of the first factor and the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import jax
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.sampling.jax import get_jaxified_graph
from pytensor.gradient import DisconnectedInputError

from pymc_marginal_lmm.ops import LogEvidence, LogEvidencePullback, SweepFactor
from pymc_marginal_lmm.pattern import Pattern
from tests.ops.problems import (
    CASES,
    DESIGN,
    DIFFERENTIABLE,
    SOME,
    WEIGHT,
    Case,
    Problem,
    factor,
    log_evidence,
)

BACKENDS = ("FAST_COMPILE", "NUMBA", "JAX")

with_case = pytest.mark.parametrize("case", CASES, ids=str)
with_some_cases = pytest.mark.parametrize("case", SOME, ids=str)
with_backend = pytest.mark.parametrize("backend", BACKENDS)


def symbols(args: Problem) -> Problem:
    return Problem(*(pt.tensor(dtype=x.dtype, shape=x.shape) for x in args))


@cache
def compiled(
    case: Case, constant_design: bool, backend: str, dtype: str = "float64"
) -> Callable[..., list[np.ndarray]]:
    """Return a function of the arguments that gives ``ℓ`` and the gradients of ``2ℓ``."""
    inputs = symbols(Problem(*(x.astype(dtype) for x in case.args)))
    value, _ = log_evidence(case.layout, inputs, constant_design=constant_design)
    wrt = inputs[: 6 if constant_design else 9]
    outputs = [value, *pt.grad(2 * value, list(wrt), disconnected_inputs="ignore")]
    return pytensor.function(list(inputs), outputs, mode=backend, on_unused_input="ignore")


def assert_gradient(actual: np.ndarray, case: Case, name: str, rtol: float = 1e-9) -> None:
    expected = 2 * case.gradient(name)
    assert actual.shape == expected.shape
    largest = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=rtol * largest, err_msg=name)


@with_case
def test_the_two_references_agree(case: Case) -> None:
    np.testing.assert_allclose(case.dense(case.args).real, case.from_rows(), rtol=1e-11)


COMPILED = [
    # Numba compiles for seconds: all cases with the gradient of A, which is more code than without.
    *(("NUMBA", case, constant) for case in CASES for constant in {False, case in SOME}),
    *(("JAX", case, constant) for case in SOME for constant in (True, False)),
    *(("FAST_COMPILE", case, constant) for case in CASES for constant in (True, False)),
]


@pytest.mark.parametrize(("backend", "case", "constant_design"), COMPILED, ids=str)
def test_value_and_pullback(case: Case, backend: str, constant_design: bool) -> None:
    value, *bars = compiled(case, constant_design, backend)(*case.args)
    np.testing.assert_allclose(value, case.from_rows(), rtol=1e-11)
    names = DIFFERENTIABLE if constant_design else DIFFERENTIABLE + DESIGN
    for name, bar in zip(names, bars, strict=True):
        assert_gradient(bar, case, name)


@with_case
def test_gradient_by_jax(case: Case) -> None:
    """What NumPyro does: it never sees the pullback but differentiates the jaxified graph."""
    inputs = symbols(case.args)
    value, _ = log_evidence(case.layout, inputs, constant_design=False)
    function = get_jaxified_graph(inputs=list(inputs), outputs=[2 * value])
    argnums = tuple(range(9))
    value_and_grad = jax.jit(jax.value_and_grad(lambda *args: function(*args)[0], argnums))
    value, bars = value_and_grad(*case.args)
    np.testing.assert_allclose(value, 2 * case.from_rows(), rtol=1e-11)
    for name, bar in zip(DIFFERENTIABLE + DESIGN, bars, strict=True):
        assert_gradient(bar, case, name)


def test_jax_takes_a_constant_design_for_constant() -> None:
    case = SOME[0]
    inputs = symbols(case.args)
    value, _ = log_evidence(case.layout, inputs, constant_design=True)
    function = get_jaxified_graph(inputs=list(inputs), outputs=[2 * value])
    bars = jax.jit(jax.grad(lambda *args: function(*args)[0], tuple(range(13))))(*case.args)
    for name, bar in zip(DIFFERENTIABLE, bars[:6], strict=True):
        assert_gradient(bar, case, name)
    for name, bar in zip(Problem._fields[6:], bars[6:], strict=True):
        if name != "A22":  # which is no constant, once a factor has been swept out of it
            np.testing.assert_array_equal(bar, 0)


def test_jax_differentiates_twice() -> None:
    """A second derivative costs no code: the backward rule is differentiable by JAX."""
    case = next(case for case in CASES if case.name == "no trailing")
    inputs = symbols(case.args)
    value, _ = log_evidence(case.layout, inputs, constant_design=True)
    function = get_jaxified_graph(inputs=list(inputs), outputs=[value])

    def of_scale(scale1: np.ndarray) -> jax.Array:
        return function(*case.args._replace(scale1=scale1))[0]

    at = case.args.scale1
    hessian = jax.jit(jax.hessian(of_scale))(at)
    gradient = jax.jit(jax.grad(of_scale))
    for index in np.ndindex(at.shape):
        step = np.zeros_like(at)
        step[index] = 1e-6
        difference = (gradient(at + step) - gradient(at - step)) / 2e-6
        np.testing.assert_allclose(hessian[index], difference, rtol=1e-6, atol=1e-6)


def large(q: int) -> tuple[LogEvidence, list[np.ndarray]]:
    """Return a problem of a size that is left to LAPACK."""
    rng = np.random.default_rng(q)
    root = rng.normal(size=(q, q + 5))
    arrays = [0.8, rng.normal(size=(q, 1)), 900.0, rng.normal(size=q), root @ root.T]
    arrays += [rng.normal(size=q), np.ones(q)]
    return LogEvidence((factor(q, 1),), False), list(map(np.asarray, arrays))


@pytest.mark.parametrize("q", [12, 300])
def test_the_factor_is_overwritten_only_if_nobody_else_needs_it(q: int) -> None:
    op, arrays = large(q)
    inputs = [pt.tensor(dtype="float64", shape=x.shape) for x in arrays]
    value, _, _, U = op(*inputs)
    bars = pt.grad(value, inputs[:5])
    alone = pytensor.function(inputs, bars, mode="NUMBA")
    shared = pytensor.function(inputs, [*bars, U], mode="NUMBA")
    plain = pytensor.function(inputs, [*bars, U], mode="FAST_COMPILE")
    nodes = [f.maker.fgraph.toposort() for f in (alone, shared)]
    assert [
        node.op.overwrite for n in nodes for node in n if isinstance(node.op, LogEvidencePullback)
    ] == [True, False]
    expected = plain(*arrays)
    for found in (alone(*arrays), shared(*arrays)):
        for x, y in zip(found, expected, strict=False):
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9 * np.abs(y).max())
    np.testing.assert_allclose(shared(*arrays)[-1], expected[-1], rtol=1e-9, atol=1e-12)


def test_only_the_value_is_differentiable() -> None:
    inputs = symbols(SOME[0].args)
    _, u2 = log_evidence(SOME[0].layout, inputs, constant_design=True)
    with pytest.raises(DisconnectedInputError):
        pt.grad(u2.sum(), inputs.scale2)


@pytest.mark.parametrize("arguments", ["A11", "A12", "v1", "v2", "p2"])
def test_a_constant_design_and_the_reference_point_have_no_gradient(arguments: str) -> None:
    inputs = symbols(SOME[0].args)
    value, _ = log_evidence(SOME[0].layout, inputs, constant_design=True)
    with pytest.raises(DisconnectedInputError):
        pt.grad(value, getattr(inputs, arguments))


@with_backend
@with_some_cases
def test_posterior_mean(case: Case, backend: str) -> None:
    M, S, q = case.sizes
    inputs = symbols(case.args)
    _, u2 = log_evidence(case.layout, inputs, constant_design=True)
    if not q:
        return
    mean = pytensor.function(list(inputs), u2, mode=backend, on_unused_input="ignore")(*case.args)
    C = case.rows.Z @ case.scale(case.args)
    F = np.diag(np.r_[np.tile(case.args.p1, M), case.args.p2]) + WEIGHT * C.T @ C
    expected = np.linalg.solve(F, WEIGHT * C.T @ case.rows.r)
    np.testing.assert_allclose(mean, expected[M * S :], rtol=1e-9, atol=1e-11)


@with_backend
@with_some_cases
def test_nan_where_not_positive_definite(case: Case, backend: str) -> None:
    function = compiled(case, True, backend)
    for bad in ("A11", "A22", "A12"):
        # Too large a coupling makes the Schur complement negative, with both diagonals fine.
        factor = 100.0 if bad == "A12" else -100.0
        block = getattr(case.args, bad)
        if block.size == 0:
            continue
        value, *bars = function(*case.args._replace(**{bad: factor * block}))
        assert np.isnan(value), bad
        assert np.isnan(bars[0]), bad


@with_backend
@with_some_cases
def test_nan_parameters_give_nan(case: Case, backend: str) -> None:
    value, *_ = compiled(case, True, backend)(*case.args._replace(w=np.array(np.nan)))
    assert np.isnan(value)


@with_backend
@with_some_cases
def test_zero_scales(case: Case, backend: str) -> None:
    """Effects without variance: the density of the rows alone, with a gradient."""
    zero = {name: np.zeros_like(getattr(case.args, name)) for name in ("scale1", "scale2")}
    value, *bars = compiled(case, True, backend)(*case.args._replace(**zero))
    r = case.rows.r
    np.testing.assert_allclose(value, -0.5 * WEIGHT * r @ r, rtol=1e-12)
    np.testing.assert_allclose(bars[0], -(r @ r), rtol=1e-12)
    for bar in bars:
        assert np.isfinite(bar).all()


@with_backend
@pytest.mark.parametrize("case", SOME[:2], ids=str)
def test_single_precision(case: Case, backend: str) -> None:
    args = (x.astype("float32") for x in case.args)
    value, *bars = compiled(case, False, backend, "float32")(*args)
    assert {x.dtype for x in (value, *bars)} == {np.dtype("float32")}
    np.testing.assert_allclose(value, case.from_rows(), rtol=1e-4)
    for name, bar in zip(DIFFERENTIABLE + DESIGN, bars, strict=True):
        assert_gradient(bar, case, name, rtol=1e-3)


@pytest.mark.parametrize("backend", ["FAST_COMPILE", "NUMBA"])
def test_inputs_need_not_be_contiguous(backend: str) -> None:
    case = SOME[0]
    strided = [np.repeat(x[..., None], 2, axis=-1)[..., 0] for x in case.args]
    assert not strided[case.args._fields.index("A12")].flags.c_contiguous
    value, *bars = compiled(case, True, backend)(*strided)
    np.testing.assert_allclose(value, case.from_rows(), rtol=1e-11)
    for name, bar in zip(DIFFERENTIABLE, bars, strict=True):
        assert_gradient(bar, case, name)


def test_no_second_derivative_by_pytensor() -> None:
    inputs = symbols(SOME[0].args)
    value, _ = log_evidence(SOME[0].layout, inputs, constant_design=True)
    first = pt.grad(value, inputs.w)
    with pytest.raises(NotImplementedError, match=r"second derivative.*JAX"):
        pt.grad(first, inputs.w)


def test_ops_are_equal_if_their_layouts_are() -> None:
    pattern, again = (Pattern.of([0, 1], [2, 0], (2, 6)) for _ in range(2))
    assert SweepFactor(factor(2, 1), pattern, True) != SweepFactor(factor(2, 1), None, True)
    assert SweepFactor(factor(2, 1), pattern, True) == SweepFactor(factor(2, 1), again, True)
    layout, same, other = (factor(3, 2),), (factor(3, 2),), (factor(3, 1, 1),)
    assert LogEvidence(layout, True) == LogEvidence(same, True)
    assert hash(LogEvidence(layout, True)) == hash(LogEvidence(same, True))
    assert LogEvidence(layout, True) != LogEvidence(other, True)
    assert LogEvidence(layout, True) != LogEvidence(layout, False)
