"""The sweep of a nested factor against dense linear algebra: values, gradients, dtypes, NaN.

Sweeps that leave a dense block only are tested with it: ``test_log_evidence``.
"""

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
from pytensor.compile.mode import Mode

from pymc_marginal_lmm.ops import SweepFactor
from pymc_marginal_lmm.ops.layout import FactorLayout
from pymc_marginal_lmm.ops.sweep import Sweepable, Swept
from pymc_marginal_lmm.pattern import Pattern
from tests.ops import problems
from tests.ops.problems import assert_many, complex_steps

BACKENDS = ("FAST_COMPILE", "NUMBA", "JAX")
DESIGN = ("A", "near", "far")


@dataclass(frozen=True)
class Case:
    """A factor of ``M`` levels, ``k`` columns of levels above, ``q`` of the dense block."""

    name: str
    M: int
    layout: FactorLayout
    k: int
    q: int
    shared_scale: bool = True
    flat: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.name

    @cached_property
    def args(self) -> Sweepable:
        rng = np.random.default_rng([self.M, self.k, self.q])
        M, S = self.M, self.layout.n_effects
        root = rng.normal(size=(M, S, S + 2))
        p = np.ones(S)
        p[list(self.flat)] = 0.0
        return Sweepable(
            w=np.array(0.7),
            scale=rng.normal(size=(1 if self.shared_scale else M, S, max(self.layout.widths))),
            A=root @ root.swapaxes(1, 2),
            near=rng.normal(size=(M, S, self.k)),
            far=rng.normal(size=(M, S, self.q)),
            c=rng.normal(size=(M, S)),
            v=rng.normal(size=(M, S)),
            p=p,
            dense=self.symmetric(rng),
            dense_c=rng.normal(size=self.q),
        )

    def symmetric(self, rng: np.random.Generator) -> np.ndarray:
        """Return a matrix of the size of the dense block."""
        root = rng.normal(size=(self.q, self.q))
        return root + root.T

    @cached_property
    def cotangents(self) -> Swept:
        rng = np.random.default_rng(5)
        M, k, q = self.M, self.k, self.q
        shapes = Swept((), (), (M, k, k + q), (q, q), (M, k), (q,))
        bars = Swept(*(rng.normal(size=shape) for shape in shapes))
        return bars._replace(dense=self.symmetric(rng))

    def dense(self, args: Sweepable) -> Swept:
        """Eliminate each level with full matrices, holomorphically, from the definitions."""
        k, layout = self.k, self.layout
        log_det, z, near, near_c = 0.0, 0.0, [], []
        dense, dense_c = args.dense.astype(complex), args.dense_c.astype(complex)
        for i in range(self.M):
            L = np.zeros((layout.n_effects,) * 2, dtype=complex)
            for j, (start, width) in enumerate(zip(layout.starts, layout.widths, strict=True)):
                L[j, start : start + width] = args.scale[i % len(args.scale), j, :width]
            A, c, v = (args.A[i] + args.A[i].T) / 2, args.c[i], args.v[i]
            R = np.concatenate([args.near[i], args.far[i]], axis=1)
            F = np.diag(args.p) + args.w * L.T @ A @ L
            u = np.linalg.solve(F, args.w * L.T @ (c + A @ v))
            d = L @ u - v
            phase, log_abs = np.linalg.slogdet(F)
            log_det = log_det + log_abs + 1j * np.angle(phase)
            z = z - 2 * d @ c + d @ A @ d + (u @ (args.p * u)) / args.w
            taken = args.w * R.T @ L @ np.linalg.solve(F, L.T @ R)
            near.append(taken[:k])
            near_c.append(R[:, :k].T @ d)
            dense -= taken[k:, k:]
            dense_c -= R[:, k:].T @ d
        return Swept(log_det, z, np.array(near), dense, np.array(near_c), dense_c)

    def gradient(self, name: str) -> np.ndarray:
        """Differentiate the outputs, weighed by the cotangents, by complex steps."""

        def weighed(x: np.ndarray) -> complex:
            outputs = self.dense(self.args._replace(**{name: x}))
            return sum(np.sum(o * c) for o, c in zip(outputs, self.cotangents, strict=True))

        return complex_steps(weighed, getattr(self.args, name))


factor = partial(problems.factor, 0)  # a case says itself how many levels it has

CASES = [
    Case("one effect", 5, factor(1), 1, 3),
    Case("scale per level", 5, factor(1), 1, 2, shared_scale=False),
    Case("several tiles", 70, factor(1), 1, 1),
    Case("correlated", 4, factor(2), 2, 2),
    Case("mixed", 3, factor(2, 1), 4, 1, shared_scale=False),
    Case("nothing dense", 4, factor(1, 1), 2, 0),
    Case("seven", 3, factor(7), 2, 2),
    Case("flat", 4, factor(1, 1), 1, 2, flat=(1,)),
]
with_case = pytest.mark.parametrize("case", CASES, ids=str)
with_backend = pytest.mark.parametrize("backend", BACKENDS)


def symbols(args: Sweepable) -> Sweepable:
    return Sweepable(*(pt.tensor(dtype=x.dtype, shape=x.shape) for x in args))


def total(
    case: Case, inputs: Sweepable, *, constant_design: bool
) -> tuple[pt.TensorVariable, list]:
    outputs = SweepFactor(case.layout, None, constant_design)(*inputs)
    weighed = [
        (out * cotangent).sum() for out, cotangent in zip(outputs, case.cotangents, strict=True)
    ]
    return pt.add(*weighed), outputs


def assert_gradient(actual: np.ndarray, case: Case, name: str) -> None:
    expected = case.gradient(name)
    if name == "A":  # the reference takes its symmetric part
        actual = (actual + actual.swapaxes(1, 2)) / 2
    scale = np.abs(expected).max(initial=0)
    assert_allclose(actual, expected, rtol=1e-9, atol=1e-9 * scale, err_msg=name)


@pytest.mark.parametrize(
    ("backend", "constant_design"),
    # Numba compiles for seconds: with the gradient of A, which is more code than without.
    [("FAST_COMPILE", True), ("FAST_COMPILE", False), ("NUMBA", False), ("JAX", False)],
    ids=str,
)
@with_case
def test_value_and_pullback(case: Case, backend: str, constant_design: bool) -> None:
    inputs = symbols(case.args)
    value, outputs = total(case, inputs, constant_design=constant_design)
    names = ("w", "scale", "c", "dense", "dense_c") + (() if constant_design else DESIGN)
    bars = pt.grad(value, [getattr(inputs, name) for name in names])
    function = pytensor.function(list(inputs), [*outputs, *bars], mode=backend)
    results = function(*case.args)
    for name, found, expected in zip(Swept._fields, results, case.dense(case.args), strict=False):
        assert_allclose(found, expected.real, rtol=1e-11, atol=1e-11, err_msg=name)
    for name, bar in zip(names, results[len(outputs) :], strict=True):
        assert_gradient(bar, case, name)


@with_case
def test_gradient_by_jax(case: Case) -> None:
    """What NumPyro does: it never sees the pullback but differentiates the jaxified graph."""
    inputs = symbols(case.args)
    value, _ = total(case, inputs, constant_design=False)
    function = get_jaxified_graph(inputs=list(inputs), outputs=[value])
    names = [name for name in Sweepable._fields if name not in ("v", "p")]
    which = tuple(map(Sweepable._fields.index, names))
    bars = jax.jit(jax.grad(lambda *args: function(*args)[0], which))(*case.args)
    for name, bar in zip(names, bars, strict=True):
        assert_gradient(np.asarray(bar), case, name)


@with_backend
def test_only_some_outputs_are_used(backend: str) -> None:
    case = CASES[0]
    inputs = symbols(case.args)
    log_det = SweepFactor(case.layout, None, True)(*inputs)[0]
    function = pytensor.function(
        list(inputs), pt.grad(log_det, [inputs.w, inputs.scale, inputs.c]), mode=backend
    )
    w_bar, _, c_bar = function(*case.args)
    step = case.dense(case.args._replace(w=case.args.w + 1e-30j)).log_det
    assert_allclose(w_bar, step.imag / 1e-30, rtol=1e-10)
    assert not np.any(c_bar)


@with_backend
def test_not_positive_definite_is_nan(backend: str) -> None:
    case = CASES[0]
    inputs = symbols(case.args)
    value, _ = total(case, inputs, constant_design=True)
    bad = case.args._replace(A=-case.args.A, p=-case.args.p)
    function = pytensor.function(list(inputs), value, mode=backend, on_unused_input="ignore")
    assert np.isnan(function(*bad))


@with_backend
def test_float32(backend: str) -> None:
    case = CASES[4]
    args = Sweepable(*(x.astype("float32") for x in case.args))
    inputs = symbols(args)
    outputs = SweepFactor(case.layout, None, True)(*inputs)
    results = pytensor.function(list(inputs), outputs, mode=backend)(*args)
    for found, expected in zip(results, case.dense(case.args), strict=True):
        assert found.dtype == "float32"
        assert_allclose(found, np.real(expected), rtol=2e-4, atol=2e-4)


def test_no_second_derivative_in_pytensor() -> None:
    case = CASES[0]
    inputs = symbols(case.args)
    value, _ = total(case, inputs, constant_design=True)
    first = pt.grad(value, inputs.w)
    with pytest.raises(NotImplementedError, match=r"jax\.hessian"):
        pt.grad(first, inputs.w)


@pytest.mark.parametrize("batched", [("w", "scale"), ("c",), Sweepable._fields], ids=str)
@with_case
def test_many_at_once(case: Case, batched: tuple[str, ...]) -> None:
    """Axes in front, of some arguments only, as ``recover`` has them."""
    factors = dict(zip(batched, np.random.default_rng(1).uniform(0.5, 2, (99, 4)), strict=False))
    several = {
        name: np.stack([factor * getattr(case.args, name) for factor in factors[name]])
        for name in batched
    }
    if "A" in several and case.layout.n_effects > 5:
        several["A"][2] *= -1.0  # raises an error within LAPACK: others must not suffer
    assert_many(SweepFactor(case.layout, None, True), case.args, several)


def test_many_with_a_sparse_coupling() -> None:
    case = CASES[0]
    M, S, q = case.args.far.shape
    columns = np.tile(np.arange(q, dtype="int32"), M)
    pattern = Pattern(np.arange(0, M * q + 1, q, dtype="int32"), columns, q)
    dense = case.args._replace(near=np.zeros((M, S, 0)))
    sparse = dense._replace(far=dense.far.swapaxes(0, 1).reshape(S, M * q))
    several = {"w": np.array([0.3, 1.0, 5.0])}
    found = assert_many(SweepFactor(case.layout, pattern, True), sparse, several)
    expected = assert_many(SweepFactor(case.layout, None, True), dense, several)
    for ours, theirs in zip(found, expected, strict=True):
        assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_results_may_be_overwritten() -> None:
    """By operations in place, which PyTensor lets come after an Op."""
    case = CASES[0]
    inputs = symbols(case.args)
    outputs = SweepFactor(case.layout, None, True)(*inputs, return_list=True)
    mode = Mode(linker="py", optimizer="fast_run")
    function = pytensor.function(list(inputs), [2 * out + 1 for out in outputs], mode=mode)
    expected = pytensor.function(list(inputs), outputs, mode="FAST_COMPILE")(*case.args)
    for found, one in zip(function(*case.args), expected, strict=True):
        assert_allclose(found, 2 * one + 1, rtol=1e-12)
