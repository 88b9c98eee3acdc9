"""Problems of any layout for the tests of sweep and evidence, with dense references."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pytensor
import pytensor.tensor as pt
from numpy.testing import assert_allclose
from pytensor.graph.op import Op
from pytensor.graph.replace import vectorize_graph

from pymc_marginal_lmm.ops import LogEvidence, SweepFactor
from pymc_marginal_lmm.ops.layout import FactorLayout
from pymc_marginal_lmm.pattern import Pattern

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


def complex_steps(function: Callable[[np.ndarray], complex], x: np.ndarray) -> np.ndarray:
    """Differentiate a holomorphic function of an array, element by element."""
    x = np.asarray(x, dtype=complex)
    bar = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        step = x.copy()
        step[index] += 1e-30j
        bar[index] = function(step).imag / 1e-30
    return bar


def assert_many(op: Op, args: Any, several: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Compare an Op that has some arguments with an axis in front with one call after another."""
    inputs = type(args)(*(pt.tensor(dtype=x.dtype, shape=x.shape) for x in args))
    outputs = op(*inputs, return_list=True)
    given = {
        getattr(inputs, name): pt.tensor(shape=(None, *x.shape[1:])) for name, x in several.items()
    }
    many = vectorize_graph(outputs, given)
    called = [given.get(x, x) for x in inputs]
    at_once = pytensor.function(called, many, mode="FAST_COMPILE", on_unused_input="ignore")
    one = pytensor.function(list(inputs), outputs, mode="FAST_COMPILE")
    found = at_once(*args._replace(**several))
    for i in range(len(next(iter(several.values())))):
        expected = one(*args._replace(**{name: x[i] for name, x in several.items()}))
        for name, ours, theirs in zip(range(len(found)), found, expected, strict=True):
            assert_allclose(ours[i], theirs, rtol=1e-12, atol=1e-12, err_msg=str(name))
    return found


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
        return complex_steps(
            lambda x: self.dense(self.args._replace(**{name: x})), getattr(self.args, name)
        )


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
