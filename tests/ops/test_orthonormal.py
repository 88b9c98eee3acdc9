"""The sweep of an orthonormal design against dense linear algebra: values, gradients, NaN."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import jax
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.sampling.jax import get_jaxified_graph

from pymc_marginal_lmm.ops import SweepOrthonormal
from pymc_marginal_lmm.ops.layout import FactorLayout
from pymc_marginal_lmm.ops.orthonormal import Orthonormal, Remaining
from tests.ops import problems
from tests.ops.problems import assert_many, complex_steps

BACKENDS = ("FAST_COMPILE", "NUMBA", "JAX")
GRADIENTS = ("w", "scale", "g", "dense", "dense_c")


@dataclass(frozen=True)
class Case:
    """A factor of ``M`` levels beside ``q`` columns."""

    name: str
    M: int
    layout: FactorLayout
    q: int
    shared_scale: bool = True

    def __str__(self) -> str:
        return self.name

    @cached_property
    def args(self) -> Orthonormal:
        rng = np.random.default_rng([self.M, self.q])
        M, S, q = self.M, self.layout.n_effects, self.q
        root = np.tril(rng.normal(size=(M, S, S)))
        root[0, -1] = 0.0  # a level with too few rows for all effects
        return Orthonormal(
            w=np.array(0.7),
            scale=rng.normal(size=(1 if self.shared_scale else M, S, max(self.layout.widths))),
            root=root,
            far=rng.normal(size=(M, S, q)),
            g=rng.normal(size=(M, S)),
            v=rng.normal(size=(M, S)),
            dense=self.symmetric(rng),
            dense_c=rng.normal(size=q),
        )

    def symmetric(self, rng: np.random.Generator) -> np.ndarray:
        root = rng.normal(size=(self.q, self.q))
        return root + root.T

    @cached_property
    def cotangents(self) -> Remaining:
        rng = np.random.default_rng(5)
        shapes = Remaining((), (), (self.q, self.q), (self.q,))
        bars = Remaining(*(rng.normal(size=shape) for shape in shapes))
        return bars._replace(dense=self.symmetric(rng))

    def eliminate(self, args: Orthonormal) -> Remaining:
        """Eliminate each level's ``u``, of ``|Ku − α + Dδ|² + uᵀu/w``, holomorphically."""
        layout = self.layout
        log_det, z = 0.0, 0.0
        dense, dense_c = args.dense.astype(complex), args.dense_c.astype(complex)
        for i in range(self.M):
            L = np.zeros((layout.n_effects,) * 2, dtype=complex)
            for j, (start, width) in enumerate(zip(layout.starts, layout.widths, strict=True)):
                L[j, start : start + width] = args.scale[i % len(args.scale), j, :width]
            K, D, a = args.root[i].T @ L, args.far[i], args.g[i] + args.v[i]
            F = np.eye(layout.n_effects) + args.w * K.T @ K
            rest = np.eye(len(a)) - args.w * K @ np.linalg.solve(F, K.T)
            phase, log_abs = np.linalg.slogdet(F)
            log_det = log_det + log_abs + 1j * np.angle(phase)
            z = z + a @ rest @ a - args.g[i] @ args.g[i]
            dense += D.T @ rest @ D
            dense_c += D.T @ rest @ a
        return Remaining(log_det, z, dense, dense_c)

    def gradient(self, name: str) -> np.ndarray:
        """Differentiate the outputs, weighed by the cotangents, by complex steps."""

        def weighed(x: np.ndarray) -> complex:
            outputs = self.eliminate(self.args._replace(**{name: x}))
            return sum(np.sum(o * c) for o, c in zip(outputs, self.cotangents, strict=True))

        return complex_steps(weighed, getattr(self.args, name))


factor = partial(problems.factor, 0)  # a case says itself how many levels it has

CASES = [
    Case("one effect", 5, factor(1), 1),
    Case("scale per level", 5, factor(1), 2, shared_scale=False),
    Case("several tiles", 70, factor(1), 2),
    Case("correlated", 4, factor(2), 3),
    Case("mixed", 3, factor(2, 1), 1, shared_scale=False),
    Case("seven", 3, factor(7), 2),
    Case("many columns", 40, factor(2), 20),
]
with_case = pytest.mark.parametrize("case", CASES, ids=str)
with_backend = pytest.mark.parametrize("backend", BACKENDS)


def symbols(args: Orthonormal) -> Orthonormal:
    return Orthonormal(*(pt.tensor(dtype=x.dtype, shape=x.shape) for x in args))


def total(case: Case, inputs: Orthonormal) -> tuple[pt.TensorVariable, list]:
    outputs = SweepOrthonormal(case.layout)(*inputs)
    weighed = [
        (out * cotangent).sum() for out, cotangent in zip(outputs, case.cotangents, strict=True)
    ]
    return pt.add(*weighed), outputs


def assert_gradient(actual: np.ndarray, case: Case, name: str) -> None:
    expected = case.gradient(name)
    scale = np.abs(expected).max(initial=0)
    assert_allclose(actual, expected, rtol=1e-9, atol=1e-9 * scale, err_msg=name)


@with_backend
@with_case
def test_value_and_pullback(case: Case, backend: str) -> None:
    inputs = symbols(case.args)
    value, outputs = total(case, inputs)
    bars = pt.grad(value, [getattr(inputs, name) for name in GRADIENTS])
    function = pytensor.function(list(inputs), [*outputs, *bars], mode=backend)
    results = function(*case.args)
    expected = case.eliminate(case.args)
    for name, found, own in zip(Remaining._fields, results, expected, strict=False):
        assert_allclose(found, own.real, rtol=1e-11, atol=1e-11, err_msg=name)
    for name, bar in zip(GRADIENTS, results[len(outputs) :], strict=True):
        assert_gradient(bar, case, name)


@with_case
def test_gradient_by_jax(case: Case) -> None:
    """What NumPyro does: it never sees the pullback but differentiates the jaxified graph."""
    inputs = symbols(case.args)
    value, _ = total(case, inputs)
    function = get_jaxified_graph(inputs=list(inputs), outputs=[value])
    which = tuple(map(Orthonormal._fields.index, GRADIENTS))
    bars = jax.jit(jax.grad(lambda *args: function(*args)[0], which))(*case.args)
    for name, bar in zip(GRADIENTS, bars, strict=True):
        assert_gradient(np.asarray(bar), case, name)


@with_backend
def test_only_some_outputs_are_used(backend: str) -> None:
    case = CASES[3]
    inputs = symbols(case.args)
    log_det = SweepOrthonormal(case.layout)(*inputs)[0]
    function = pytensor.function(
        list(inputs), pt.grad(log_det, [inputs.w, inputs.scale, inputs.g]), mode=backend
    )
    w_bar, _, g_bar = function(*case.args)
    step = case.eliminate(case.args._replace(w=case.args.w + 1e-30j)).log_det
    assert_allclose(w_bar, step.imag / 1e-30, rtol=1e-10)
    assert not np.any(g_bar)


@with_backend
@pytest.mark.parametrize("case", [CASES[0], CASES[5]], ids=str)
def test_nan_stays_nan(case: Case, backend: str) -> None:
    inputs = symbols(case.args)
    value, _ = total(case, inputs)
    outputs = [value, *pt.grad(value, [inputs.w, inputs.scale])]
    function = pytensor.function(list(inputs), outputs, mode=backend)
    bad = case.args._replace(scale=np.full_like(case.args.scale, np.nan))
    assert all(np.isnan(result).any() for result in function(*bad))


@with_backend
def test_float32(backend: str) -> None:
    case = CASES[4]
    args = Orthonormal(*(x.astype("float32") for x in case.args))
    inputs = symbols(args)
    outputs = SweepOrthonormal(case.layout)(*inputs)
    results = pytensor.function(list(inputs), outputs, mode=backend)(*args)
    for found, expected in zip(results, case.eliminate(case.args), strict=True):
        assert found.dtype == "float32"
        assert_allclose(found, np.real(expected), rtol=2e-4, atol=2e-4)


def test_no_second_derivative_in_pytensor() -> None:
    case = CASES[0]
    inputs = symbols(case.args)
    value, _ = total(case, inputs)
    first = pt.grad(value, inputs.w)
    with pytest.raises(NotImplementedError, match=r"jax\.hessian"):
        pt.grad(first, inputs.w)


@pytest.mark.parametrize("batched", [("w", "scale"), ("g",), Orthonormal._fields], ids=str)
@with_case
def test_many_at_once(case: Case, batched: tuple[str, ...]) -> None:
    """Axes in front, of some arguments only, as ``recover`` has them."""
    factors = np.random.default_rng(1).uniform(0.5, 2, (len(batched), 4))
    several = {
        name: np.stack([factor * getattr(case.args, name) for factor in own])
        for name, own in zip(batched, factors, strict=True)
    }
    assert_many(SweepOrthonormal(case.layout), case.args, several)
