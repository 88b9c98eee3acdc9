"""A sweep and the evidence of the rest, against dense linear algebra.

Values, gradients, degenerate numbers, dtypes, with any layout of the first factor and the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import jax
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from pymc.sampling.jax import get_jaxified_graph
from pytensor.gradient import DisconnectedInputError

from pymc_marginal_lmm.ops import LogEvidence, LogEvidencePullback, SweepFactor
from pymc_marginal_lmm.ops.layout import FactorLayout
from pymc_marginal_lmm.pattern import Pattern

BACKENDS = ("FAST_COMPILE", "NUMBA", "JAX")
WEIGHT = 0.7


class Problem(NamedTuple):
    """Crossproducts, scales and prior precisions of a leading factor (1) and of the others (2)."""

    w: Any
    scale1: Any
    scale2: Any
    s: Any
    c1: Any
    c2: Any
    A11: Any
    A12: Any
    A22: Any
    v1: Any
    v2: Any
    p1: Any
    p2: Any


class Layout(NamedTuple):
    """The leading factor (None: there is none), the others, and where ``A12`` can be non-zero."""

    leading: FactorLayout | None
    trailing: tuple[FactorLayout, ...]
    coupling: Pattern | None = None


DIFFERENTIABLE = Problem._fields[:6]
DESIGN = Problem._fields[6:9]


def log_evidence(layout: Layout, inputs: Problem, *, constant_design: bool) -> tuple:
    """Return ``ℓ`` and ``û2``: what a log density is made of."""
    c2, A22, s, log_det = inputs.c2, inputs.A22, inputs.s, 0.0
    if layout.leading is not None:
        near = pt.zeros((*inputs.c1.type.shape, 0), dtype=inputs.c1.type.dtype)
        sweep = SweepFactor(layout.leading, layout.coupling, constant_design)
        leading = (inputs.A11, near, inputs.A12, inputs.c1, inputs.v1, inputs.p1)
        log_det, z, _, A22, _, c2 = sweep(inputs.w, inputs.scale1, *leading, A22, c2)
        s = s + z
    if not layout.trailing:
        return -0.5 * (inputs.w * s + log_det), inputs.c2
    op = LogEvidence(layout.trailing, constant_design and layout.leading is None)
    value, u2, *_ = op(inputs.w, inputs.scale2, s, c2, A22, inputs.v2, inputs.p2)
    return value - 0.5 * log_det, u2


def factor(n_levels: int, *widths: int, shared: bool = False) -> FactorLayout:
    """Lay out a factor by the widths of its correlated blocks: ``2, 1`` is ``[[x, x, 0], …]``."""
    starts, rows = [], []
    for width in widths:
        starts += [len(starts)] * width
        rows += [width] * width
    return FactorLayout(n_levels, tuple(starts), tuple(rows), shared)


def sparse(
    leading: FactorLayout, trailing: tuple[FactorLayout, ...], density: float = 0.4
) -> Layout:
    """Lay out a coupling with a random pattern: the first level meets nothing, nor a column any."""
    shape = (leading.n_levels, sum(f.size for f in trailing))
    met = np.random.default_rng(shape).random(shape) < density
    if density < 1:
        met[0], met[:, 1] = False, False
    return Layout(leading, trailing, Pattern.of(*np.nonzero(met), shape))


def stored(trailing: FactorLayout) -> int:
    """Return how many packed rows a factor has."""
    return trailing.n_effects if trailing.shared else trailing.size


class Rows(NamedTuple):
    """Design, residuals, reference point, and packed scales."""

    Z: np.ndarray
    r: np.ndarray
    v0: np.ndarray
    scale1: np.ndarray
    scale2: np.ndarray


@dataclass(frozen=True)
class Case:
    """A random design with its data, and what is computed from them without any elimination.

    ``flat`` lists the effects (positions within the leading factor's ``S`` and among the ``q``
    trailing ones) whose prior is flat; ``spare`` packed columns hold nothing that counts.
    """

    name: str
    layout: Layout
    shared_scale: bool = True
    flat: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    spare: int = 0

    @property
    def met(self) -> np.ndarray:
        """Which columns the rows of each level hit, ``(M, q)``."""
        M, _, q = self.sizes
        met, pattern = np.ones((M, q), dtype=bool), self.layout.coupling
        if pattern is not None:
            met[:] = False
            met[pattern.rows, pattern.columns] = True
        return met

    def __str__(self) -> str:
        return self.name

    @property
    def sizes(self) -> tuple[int, int, int]:
        """``M``, ``S``, ``q``."""
        leading = self.layout.leading
        q = sum(f.size for f in self.layout.trailing)
        return (0, 1, q) if leading is None else (leading.n_levels, leading.n_effects, q)

    @cached_property
    def rows(self) -> Rows:
        """The data: each row hits one level of the leading factor, and what that level meets.

        With a pattern, some rows hit no level, and all else.
        """
        M, S, q = self.sizes
        rng = np.random.default_rng([M, S, q, self.shared_scale])
        k = M * S + q
        n = 3 * k + 5
        Z = rng.normal(size=(n, k))
        levels = rng.permutation(np.arange(n) % max(M, 1))
        if self.layout.coupling is not None:
            levels[: q + 2] = M
        for i in range(M):
            Z[levels != i, i * S : (i + 1) * S] = 0.0
            Z[levels == i, M * S :] *= self.met[i]
        W1 = max(self.layout.leading.widths) + self.spare if self.layout.leading else 1
        W2 = max([max(f.widths) for f in self.layout.trailing], default=1) + self.spare
        return Rows(
            Z=Z,
            r=3 * rng.normal(size=n),
            v0=rng.normal(size=k),
            scale1=rng.normal(size=(1 if self.shared_scale or not M else M, S, W1)),
            scale2=rng.normal(size=(sum(map(stored, self.layout.trailing)), W2)),
        )

    @property
    def args(self) -> Problem:
        M, S, q = self.sizes
        Z, r, v0, scale1, scale2 = self.rows
        k = M * S
        r0 = r - Z @ v0
        A, c = Z.T @ Z, Z.T @ r0
        p1, p2 = np.ones(S), np.ones(q)
        p1[list(self.flat[0])], p2[list(self.flat[1])] = 0.0, 0.0
        levels = [slice(i * S, (i + 1) * S) for i in range(M)]
        return Problem(
            w=np.array(WEIGHT),
            scale1=scale1,
            scale2=scale2,
            s=np.array(r0 @ r0),
            c1=c[:k].reshape(M, S),
            c2=c[k:],
            A11=np.array([A[i, i] for i in levels]).reshape(M, S, S),
            A12=self.coupling(A[:k, k:].reshape(M, S, q)),
            A22=A[k:, k:],
            v1=v0[:k].reshape(M, S),
            v2=v0[k:],
            p1=p1,
            p2=p2,
        )

    def coupling(self, A12: np.ndarray) -> np.ndarray:
        """Take a dense coupling ``(M, S, q)`` at the entries of the pattern, if there is one."""
        pattern = self.layout.coupling
        return A12 if pattern is None else A12[pattern.rows, :, pattern.columns].T

    def scale(self, args: Problem) -> np.ndarray:
        """Return ``Λ`` in full."""
        M, S, q = self.sizes
        L = np.zeros((M * S + q,) * 2, dtype=np.result_type(args.scale1, args.scale2))
        rows = [
            (args.scale1[i % len(args.scale1), j], S * i, j) for i in range(M) for j in range(S)
        ]
        factors = [self.layout.leading] * len(rows)
        first, place = 0, 0
        for trailing in self.layout.trailing:
            for m in range(trailing.n_levels):
                for j in range(trailing.n_effects):
                    row = args.scale2[place + j + (not trailing.shared) * m * trailing.n_effects]
                    rows.append((row, M * S + first + m * trailing.n_effects, j))
                    factors.append(trailing)
            first += trailing.size
            place += stored(trailing)
        for (row, block, j), own in zip(rows, factors, strict=True):
            start, width = block + own.starts[j], own.widths[j]
            L[block + j, start : start + width] = row[:width]
        return L

    def from_rows(self) -> float:
        """``log ∫ p(y | u) p(u) du`` by the n×n covariance, less the constants the Op leaves out.

        With ``V = ZΛ(p = 1 part)ΛᵀZᵀ + I/w`` and ``X = ZΛ`` of the flat effects this is the log
        density of ``r``, or the restricted one: ``−½ (log|V| + log|XᵀV⁻¹X| + rᵀPr)``.
        """
        args = self.args
        M, _, _ = self.sizes
        Z, r = self.rows.Z, self.rows.r
        flat = np.r_[np.tile(args.p1, M), args.p2] == 0
        C = Z @ self.scale(args)
        V = C[:, ~flat] @ C[:, ~flat].T + np.eye(len(r)) / WEIGHT
        X, Vr = C[:, flat], np.linalg.solve(V, r)
        XVX = X.T @ np.linalg.solve(V, X)
        quadratic = r @ Vr - (X.T @ Vr) @ np.linalg.solve(XVX, X.T @ Vr)
        log_dets = np.linalg.slogdet(V)[1] + np.linalg.slogdet(XVX)[1]
        return -0.5 * (quadratic + log_dets + len(r) * np.log(WEIGHT))

    def dense(self, args: Problem) -> complex:
        """Evaluate the formulas of ``ops.sweep`` with full matrices, holomorphically."""
        M, S, q = self.sizes
        k = M * S
        A = np.zeros((k + q, k + q), dtype=complex)
        for i in range(M):
            here = slice(i * S, (i + 1) * S)
            A[here, here] = (args.A11[i] + args.A11[i].T) / 2
        A12, pattern = np.zeros((M, S, q), dtype=complex), self.layout.coupling
        if pattern is None:
            A12[:] = args.A12
        else:
            A12[pattern.rows, :, pattern.columns] = args.A12.T
        A[:k, k:] = A12.reshape(k, q)
        A[k:, :k] = A[:k, k:].T
        A[k:, k:] = (args.A22 + args.A22.T) / 2
        L, P = self.scale(args), np.r_[np.tile(args.p1, M), args.p2]
        c, v0 = np.r_[args.c1.ravel(), args.c2], np.r_[args.v1.ravel(), args.v2]
        F = np.diag(P) + args.w * L.T @ A @ L
        u = np.linalg.solve(F, args.w * L.T @ (c + A @ v0))
        d = L @ u - v0
        phase, log_abs = np.linalg.slogdet(F)
        log_det = log_abs + 1j * np.angle(phase)
        return -0.5 * (args.w * (args.s - 2 * d @ c + d @ A @ d) + u @ (P * u) + log_det)

    def gradient(self, name: str) -> np.ndarray:
        """Differentiate ``dense`` by complex steps: exact to rounding."""
        x = np.asarray(getattr(self.args, name), dtype=complex)
        bar = np.zeros(x.shape)
        for index in np.ndindex(x.shape):
            step = x.copy()
            step[index] += 1e-30j
            bar[index] = self.dense(self.args._replace(**{name: step})).imag / 1e-30
        return bar


CASES = [
    Case("one effect", Layout(factor(5, 1), ())),
    Case("scale per level", Layout(factor(5, 1), ()), shared_scale=False),
    Case("crossed, fixed", Layout(factor(4, 1), (factor(3, 1), factor(1, 1, 1)))),
    Case("two effects", Layout(factor(4, 1, 1), (factor(3, 1),)), shared_scale=False),
    Case("correlated", Layout(factor(4, 2), (factor(3, 2, 1), factor(1, 1)))),
    Case("mixed", Layout(factor(3, 2, 1), (factor(2, 2),)), shared_scale=False),
    Case("mixed the other way", Layout(factor(3, 1, 2), (factor(1, 1), factor(2, 1, 3)))),
    Case("shared", Layout(factor(4, 1), (factor(3, 1, shared=True), factor(1, 1, 1)))),
    Case(
        "shared and not",
        Layout(
            factor(3, 2), (factor(3, 2, 1, shared=True), factor(2, 1), factor(4, 2, shared=True))
        ),
    ),
    Case("all shared", Layout(None, (factor(3, 2, shared=True),))),
    Case("no trailing", Layout(factor(4, 2), ())),
    Case("no leading", Layout(None, (factor(2, 2), factor(1, 1)))),
    Case("only diagonal, no leading", Layout(None, (factor(3, 1), factor(1, 1, 1)))),
    Case("four", Layout(factor(3, 4), (factor(2, 1),)), shared_scale=False),
    Case("five", Layout(factor(2, 5), (factor(1, 1, 1),))),
    Case("six", Layout(factor(2, 3, 3), (factor(2, 1),))),
    Case("seven", Layout(factor(2, 7), (factor(1, 1),)), shared_scale=False),
    Case("one level", Layout(factor(1, 1), (factor(1, 1),))),
    Case("flat fixed", Layout(factor(4, 1), (factor(1, 1, 1),)), flat=((), (0, 1))),
    Case("flat trailing", Layout(factor(3, 2), (factor(2, 1), factor(1, 1))), flat=((), (2,))),
    Case("flat leading", Layout(factor(3, 1, 1), (factor(2, 1),)), flat=((1,), ())),
    Case("all flat", Layout(None, (factor(1, 1, 1, 1),)), flat=((), (0, 1, 2))),
    Case("spare columns", Layout(factor(3, 2, 1), (factor(2, 2, 1),)), spare=2),
    Case("sparse", sparse(factor(7, 1), (factor(6, 1), factor(1, 1)))),
    Case("sparse mixed", sparse(factor(6, 2, 1), (factor(3, 2), factor(2, 1))), shared_scale=False),
    Case("sparse correlated", sparse(factor(8, 2), (factor(3, 2, 1), factor(1, 1, 1)))),
    Case("sparse flat", sparse(factor(6, 1), (factor(5, 1), factor(1, 1))), flat=((), (5,))),
    Case("sparse full", sparse(factor(3, 2), (factor(4, 1),), density=1.0)),
    Case("sparse empty", sparse(factor(3, 2), (factor(4, 1),), density=0.0)),
    Case("several panels", Layout(factor(3, 1), (factor(70, 1),))),
]
NAMES = ("mixed", "no leading", "no trailing", "seven", "sparse mixed", "sparse empty")
SOME = [case for case in CASES if case.name in NAMES]

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
