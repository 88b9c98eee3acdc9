"""Random PyMC models, as data: what a model means in numpy, and how its author spelled it.

A :class:`Recipe` is a list of variables and responses whose means are small expression trees.
Every node holds its *meaning*, a numpy function, and its *spelling*, a template of PyMC code; one
meaning has many spellings. :meth:`Recipe.source` writes the model as a program that can be
pasted into a notebook, :meth:`Recipe.build` runs it, and :meth:`Recipe.log_density` integrates
the effects out of the meanings, with numpy alone: PyMC, PyTensor and the package see only the
spellings, the reference sees only the meanings.

``recipes()`` and ``hostile_recipes()`` are Hypothesis strategies. Simple choices come first, so
that a failing model shrinks to a short program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from hypothesis import strategies as st
from pytensor.scalar.basic import autocast_float_as

__all__ = [
    "HOSTILE",
    "LINEAR_BUT_UNUSUAL",
    "Expression",
    "Name",
    "NotAffine",
    "NotIdentified",
    "Op",
    "Recipe",
    "Response",
    "Variable",
    "hostile_recipes",
    "recipes",
]

type Env = Mapping[str, np.ndarray]


# --- Expressions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Name:
    """Data, a parameter or an effect, by name."""

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = "float64"

    def value(self, env: Env) -> np.ndarray:
        return env[self.name]

    def write(self, code: Code) -> str:
        return self.name


@dataclass(frozen=True)
class Number:
    """A literal."""

    number: float | int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    def value(self, env: Env) -> np.ndarray:
        return np.asarray(self.number)

    def write(self, code: Code) -> str:
        return repr(self.number)


@dataclass(frozen=True)
class Op:
    """A numpy function of some parts, and a template of the code that is to mean the same.

    In the template ``{0}``, ``{1}``, … are the parts and ``{all}`` all of them; ``{n}`` and
    ``{shape}`` are the length and shape of the result, ``{m}`` and ``{s}`` the first and last
    length of part 0, ``{q}`` the length of part 1, ``{k}`` a row near the middle, ``{id}`` a
    number that is not taken.
    """

    meaning: Callable[..., np.ndarray]
    parts: tuple[Expression, ...]
    template: str

    @cached_property
    def shape(self) -> tuple[int, ...]:
        # Zeros are valid indices, ones can be divided by.
        parts = [
            p.value({})
            if isinstance(p, Number)
            else (np.zeros if getattr(p, "dtype", "")[:3] == "int" else np.ones)(
                p.shape, getattr(p, "dtype", "float64")
            )
            for p in self.parts
        ]
        return np.shape(self.meaning(*parts))

    def value(self, env: Env) -> np.ndarray:
        return self.meaning(*(part.value(env) for part in self.parts))

    def write(self, code: Code) -> str:
        if id(self) not in code.known:
            parts = [part.write(code) for part in self.parts]
            first = self.parts[0].shape or (1,)
            second = self.parts[1].shape if len(self.parts) > 1 else ()
            n = self.shape[0] if self.shape else 1
            text = self.template.format(
                *parts,
                all=", ".join(parts),
                n=n,
                shape=self.shape,
                m=first[0],
                s=first[-1],
                q=second[0] if second else 1,
                k=n // 2,
                id=len(code.known),
            )
            code.known[id(self)] = code.let(text)
        return code.known[id(self)]


Expression = Name | Number | Op


@dataclass
class Code:
    """Lines of a program; a node that is used twice is written once."""

    lines: list[str] = field(default_factory=list)
    known: dict[int, str] = field(default_factory=dict)

    def let(self, text: str) -> str:
        name = f"t{len(self.known)}"
        self.lines.append(f"{name} = {text}")
        return name


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield an expression and all of its parts."""
    yield expression
    if isinstance(expression, Op):
        for part in expression.parts:
            yield from walk(part)


def names_in(expression: Expression) -> set[str]:
    return {part.name for part in walk(expression) if isinstance(part, Name)}


def replace_at(
    expression: Expression, place: int, change: Callable[[Expression], Expression]
) -> Expression:
    """Change the sub-expression that :func:`walk` yields at a place."""
    if place == 0:
        return change(expression)
    assert isinstance(expression, Op)
    place -= 1
    for i, part in enumerate(expression.parts):
        size = sum(1 for _ in walk(part))
        if place < size:
            new = replace_at(part, place, change)
            return replace(
                expression, parts=(*expression.parts[:i], new, *expression.parts[i + 1 :])
            )
        place -= size
    raise IndexError(place)


# --- Meanings and spellings -----------------------------------------------------------------------


def same(a):  # type: ignore[no-untyped-def]
    return a


def same_by(a, condition):  # type: ignore[no-untyped-def]
    return a


def add(a, b):  # type: ignore[no-untyped-def]
    return a + b


def add_all(*parts):  # type: ignore[no-untyped-def]
    return sum(parts)


def subtract(a, b):  # type: ignore[no-untyped-def]
    return a - b


def multiply(a, b):  # type: ignore[no-untyped-def]
    return a * b


def divide(a, b):  # type: ignore[no-untyped-def]
    return a / b


def exp(a):  # type: ignore[no-untyped-def]
    return np.exp(a)


def index(a, i):  # type: ignore[no-untyped-def]
    return a[i]


def index_twice(a, i, j):  # type: ignore[no-untyped-def]
    return a[i][j]


def index_pair(a, i, j):  # type: ignore[no-untyped-def]
    return a[i, j]


def table(a, b, i, j):  # type: ignore[no-untyped-def]
    return a[i] + b[j]


def row_dot(a, x):  # type: ignore[no-untyped-def]
    return (a * x).sum(-1)


def mat_vec(x, b):  # type: ignore[no-untyped-def]
    return x @ b


def times_transpose(z, root):  # type: ignore[no-untyped-def]
    return z @ root.T


def times_columns(z, root):  # type: ignore[no-untyped-def]
    return (root @ z).T


def transpose(a):  # type: ignore[no-untyped-def]
    return a.T


def square(root):  # type: ignore[no-untyped-def]
    return root @ root.T


def centre(a):  # type: ignore[no-untyped-def]
    return a - a.mean()


def choose(condition, a, b):  # type: ignore[no-untyped-def]
    return np.where(condition, a, b)


def halves(a, b):  # type: ignore[no-untyped-def]
    k = len(a) // 2
    return np.concatenate([a[:k], b[k:]])


def stack(*parts):  # type: ignore[no-untyped-def]
    return np.stack(parts)


def stack_columns(*parts):  # type: ignore[no-untyped-def]
    return np.stack(parts, axis=1)


SAME_SCALAR = (
    "1.0 * {0}",
    "2.0 * (0.5 * {0})",
    "-(-{0})",
    "{0} / 2.0 + {0} / 2.0",
    "3 * {0} - 2 * {0}",
    "({0} - 1.0) + 1.0",
    "pt.cast({0}, 'float64')",
    "pm.Deterministic('d{id}', {0})",
    "pt.stack([{0}, {0}])[1]",
    "pt.mean(pt.stack([{0}, {0}]), axis=0)",
    "pt.sum(pt.stack([{0}, -{0}, {0}]), axis=0)",
    "{0}[None][0]",
    "pt.expand_dims({0}, 0).squeeze(0)",
    "pt.switch(np.array(True), {0}, 0.0)",
    "pt.where(np.array(False), 1.0, {0})",
    "{0} * pt.ones_like({0})",
    "{0} + pt.zeros_like({0})",
    "pt.identity({0})",
    "pt.as_tensor({0}).copy()",
    "pt.specify_shape({0}, {shape})",
    "pt.true_div({0}, 0.5) / 2",
    "pt.add({0}, 0, 0)",
    "({0} + 0 * {0})",
    "({0} - ({0} - {0}))",
)

SAME_AXIS = (
    "{0}[::-1][::-1]",
    "pt.concatenate([{0}[:{k}], {0}[{k}:]])",
    "{0}.reshape(({n}, -1)).reshape({shape})",
    "{0}.ravel().reshape({shape})",
    "{0}.flatten().reshape((-1, *{shape}[1:]))",
    "{0}[np.arange({n})]",
    "{0}[pt.arange({n})]",
    "{0}.take(np.arange({n}), axis=0)",
    "pt.zeros({shape})[:{k}].set({0}[:{k}])[{k}:].set({0}[{k}:])",
    "pt.set_subtensor(pt.zeros({shape})[:], {0})",
    "pt.zeros({shape})[np.arange({n})].set({0})",
    "pt.zeros({shape})[:{k}].inc({0}[:{k}])[{k}:].inc({0}[{k}:])",
    "pt.zeros({shape})[np.arange({n})[::-1]].inc({0}[::-1])",
    "np.eye({n}) @ {0}",
    "pt.dot(np.eye({n})[::-1], {0})[::-1]",
    "pt.tensordot(np.eye({n}), {0}, axes=1)",
    "pt.repeat({0}, 2, axis=0)[::2]",
    "pt.concatenate([{0}, {0}])[{n}:]",
    "pt.roll(pt.roll({0}, 1, axis=0), -1, axis=0)",
    "pt.stack([{0}[i] for i in range({n})])",
    "pt.concatenate([{0}[i][None] for i in range({n})])",
    "pt.broadcast_to({0}, {shape})",
    "{0}.T.T",
    "pt.flip({0}, 0)[::-1]",
    "pt.moveaxis({0}[None], 0, -1)[..., 0]",
    "{0}[..., None].sum(-1)",
    "{0}[..., None].squeeze(-1)",
    "pt.tile({0}[None], (2,) + (1,) * {0}.ndim)[1]",
    "pt.switch((np.arange({n}) % 2 == 0).reshape((-1,) + (1,) * ({0}.ndim - 1)), {0}, 0.0)"
    " + pt.switch((np.arange({n}) % 2 == 0).reshape((-1,) + (1,) * ({0}.ndim - 1)), 0.0, {0})",
    "{0}[np.arange({n}) % 2 == 0].sum() * 0 + {0}",
    "{0} - {0}.sum() + {0}.sum()",
    "{0} + {0}[0] - {0}[0]",
    "pt.zeros({shape})[np.arange({n}) % 2 == 0].set({0}[np.arange({n}) % 2 == 0])"
    " + pt.zeros({shape})[np.arange({n}) % 2 == 1].set({0}[np.arange({n}) % 2 == 1])",
)

SAME_VECTOR = (
    "{0}.dimshuffle(0, 'x')[:, 0]",
    "pt.sum({0}[:, None] * np.eye({n}), axis=0)",
    "pt.einsum('i,i->i', {0}, np.ones({n}))",
    "pt.einsum('ij,j->i', np.eye({n}), {0})",
    "pt.outer({0}, pt.ones(2))[:, 1]",
    "pt.atleast_2d({0})[0]",
    "({0}[:, None] * np.ones(3)).mean(axis=1)",
    "pt.diagonal({0}[:, None] * np.eye({n}))",
    "pt.stack([{0}, {0}], axis=1)[:, 0]",
    "pt.stack([{0}, np.zeros({n})], axis=1).sum(axis=1)",
    "({0}[None, :] * np.eye({n})).sum(axis=1)",
)

SAME_BY = (
    "pt.switch({1}, {0}, 0.0) + pt.switch({1}, 0.0, {0})",
    "pt.switch({1}, {0}, {0})",
    "pt.where({1}, 2 * {0}, {0}) - pt.where({1}, {0}, 0)",
    "{1} * {0} + (1 - {1}) * {0}",
    "pt.set_subtensor({0}[{1}], {0}[{1}])",
    "pt.zeros({n})[{1}].set({0}[{1}]) + pt.zeros({n})[~{1}].set({0}[~{1}])",
    "pt.switch(~{1}, 0, {0}) + pt.switch({1}, 0, {0})",
    "pt.switch(pt.eq({1}, 1), {0}, 0.0) + (1.0 - pt.cast({1}, 'float64')) * {0}",
)

INDEX = (
    "{0}[{1}]",
    "{0}.take({1}, axis=0)",
    "pt.take({0}, {1}, axis=0)",
    "pt.eye({m})[{1}] @ {0}",
    "pt.dot(pt.eye({m})[{1}], {0})",
    "pt.tensordot(pt.eye({m})[{1}], {0}, axes=1)",
    "{0}[::-1][{m} - 1 - {1}]",
    "{0}[{1} - {m}]",
    "{0}[{1}[::-1]][::-1]",
    "pt.concatenate([{0}, {0}])[{1} + {m}]",
    "pt.stack([{0}[j] for j in range({m})])[{1}]",
    "pt.concatenate([{0}[{1}[:{k}]], {0}[{1}[{k}:]]])",
    "{0}[{1}.astype('int32')]",
    "{0}[pt.as_tensor({1}), ...]",
    "{0}[{1}[:, None]][:, 0]",
    "pt.zeros({shape})[:{k}].set({0}[{1}[:{k}]])[{k}:].set({0}[{1}[{k}:]])",
    "pt.eq(pt.as_tensor({1})[:, None], np.arange({m})) @ {0}",
)

INDEX_VECTOR = (
    "({0}[None, :] * pt.eye({m})[{1}]).sum(axis=1)",
    "({0} * pt.eq(pt.as_tensor({1})[:, None], np.arange({m}))).sum(-1)",
    "sum({0}[j] * pt.eq({1}, j) for j in range({m}))",
    "sum(pt.switch(pt.eq({1}, j), {0}[j], 0.0) for j in range({m}))",
    "pt.zeros({m} + 1)[1:].set({0})[{1} + 1]",
    "pt.einsum('ij,j->i', pt.eye({m})[{1}], {0})",
    "pt.concatenate([np.zeros(1), {0}])[1 + {1}]",
    "(pt.eye({m})[{1}] @ {0}[:, None]).ravel()",
    "pt.broadcast_to({0}, ({n}, {m}))[np.arange({n}), {1}]",
)

INDEX_TWICE = ("{0}[{1}][{2}]", "{0}[pt.as_tensor({1})[{2}]]", "{0}.take({1}).take({2})")

INDEX_PAIR = (
    "{0}[{1}, {2}]",
    "{0}.T[{2}, {1}]",
    "{0}.ravel()[{1} * {s} + {2}]",
    "{0}.reshape((-1,))[{s} * {1} + {2}]",
    "{0}[{1}][np.arange({n}), {2}]",
    "({0}[{1}] * pt.eye({s})[{2}]).sum(-1)",
    "pt.take_along_axis({0}[{1}], pt.as_tensor({2})[:, None], axis=1)[:, 0]",
)

INDEX_COLUMN = (
    "{0}[{1}, {2}]",
    "{0}[:, {2}][{1}]",
    "{0}[{1}][:, {2}]",
    "{0}[{1}][..., {2}]",
    "{0}.T[{2}][{1}]",
    "{0}.T[{2}, {1}]",
    "{0}.ravel()[{2}::{s}][{1}]",
    "{0}[{1}] @ np.eye({s})[{2}]",
)

TABLE = (
    "({0}[:, None] + {1}[None, :])[{2}, {3}]",
    "({0}[:, None] + {1}).ravel()[{2} * {q} + {3}]",
    "pt.stack([{0} + {1}[j] for j in range({q})], axis=1)[{2}, {3}]",
    "({1}[:, None] + {0}).T[{2}][np.arange({n}), {3}]",
)

ROW_DOT = (
    "({0} * {1}).sum(-1)",
    "pt.sum({0} * {1}, axis=1)",
    "pt.einsum('ij,ij->i', {0}, {1})",
    "sum({0}[:, j] * {1}[:, j] for j in range({s}))",
    "pt.diagonal({0} @ {1}.T)",
    "({0}[:, None, :] @ {1}[:, :, None])[:, 0, 0]",
    "({0} * {1}).mean(axis=-1) * {s}",
    "({0} * {1}) @ np.ones({s})",
    "pt.stack([{0}[:, j] * {1}[:, j] for j in range({s})], axis=1).sum(axis=1)",
    "pt.stack([{0}[:, j] * {1}[:, j] for j in range({s})]).sum(axis=0)",
    "pt.vecdot({0}, pt.as_tensor({1}))",
    "({0}.T * {1}.T).sum(axis=0)",
    "pt.concatenate([({0}[:{k}] * {1}[:{k}]).sum(1), ({0}[{k}:] * {1}[{k}:]).sum(1)])",
)

MAT_VEC = (
    "{0} @ {1}",
    "pt.dot({0}, {1})",
    "({0} * {1}).sum(-1)",
    "pt.sum({0} * {1}[None, :], axis=1)",
    "pt.einsum('ij,j->i', {0}, {1})",
    "sum({1}[j] * {0}[:, j] for j in range({s}))",
    "{1} @ {0}.T",
    "pt.dot({1}, {0}.T)",
    "pt.tensordot({0}, {1}, axes=1)",
    "({0} @ {1}[:, None])[:, 0]",
    "pt.matvec(pt.as_tensor({0}), {1})",
    "pt.vecmat({1}, pt.as_tensor({0}).T)",
    "({0}[:, ::-1] * {1}[::-1]).sum(axis=1)",
    "pt.concatenate([{0}[:{k}] @ {1}, {0}[{k}:] @ {1}])",
)

MULTIPLY = (
    "{0} * {1}",
    "{1} * {0}",
    "pt.mul({0}, {1})",
    "-{0} * (-{1})",
    "(2.0 * {0}) * (0.5 * {1})",
    "{0} * (1 + {1}) - {0}",
    "{0} / 4 * {1} * 4.0",
)

ADD = (
    "{0} + {1}",
    "{1} + {0}",
    "{0} - (-{1})",
    "pt.add({0}, {1})",
    "2 * (0.5 * {0} + {1} / 2)",
    "-(-{0} - {1})",
    "{0} + 2 * {1} - {1}",
)

ADD_ALL = ("sum([{all}])", "pt.add({all})", "pt.add(*reversed([{all}]))")
ADD_ALIKE = ("pt.sum(pt.stack([{all}]), axis=0)", "pt.stack([{all}], axis=1).sum(axis=1)")

CHOOSE = (
    "pt.switch({0}, {1}, {2})",
    "pt.where({0}, {1}, {2})",
    "pt.switch(~{0}, {2}, {1})",
    "{0} * {1} + (1 - {0}) * {2}",
    "pt.set_subtensor({2}[{0}], {1}[{0}])",
    "pt.zeros({n})[{0}].set({1}[{0}])[~{0}].set({2}[~{0}])",
    "{2} + {0} * ({1} - {2})",
)

HALVES = (
    "pt.concatenate([{0}[:{k}], {1}[{k}:]])",
    "pt.switch(np.arange({n}) < {k}, {0}, {1})",
    "pt.set_subtensor({1}[:{k}], {0}[:{k}])",
    "pt.zeros({n})[:{k}].set({0}[:{k}])[{k}:].set({1}[{k}:])",
    "pt.concatenate([{1}[{k}:], {0}[:{k}]])[np.r_[{n} - {k}:{n}, :{n} - {k}]]",
    "(np.arange({n}) < {k}) * {0} + (np.arange({n}) >= {k}) * {1}",
)

STACK = (
    "pt.stack([{all}])",
    "pt.concatenate([t[None] for t in [{all}]])",
    "pt.concatenate([pt.atleast_1d(t) for t in [{all}]])",
    "pt.as_tensor([{all}])",
    "pt.stack([t for t in [{all}]][::-1])[::-1]",
)

STACK_COLUMNS = (
    "pt.stack([{all}], axis=1)",
    "pt.stack([{all}]).T",
    "pt.concatenate([t[:, None] for t in [{all}]], axis=1)",
    "pt.concatenate([t[:, None] for t in [{all}]], axis=-1)",
)

TIMES_TRANSPOSE = (
    "{0} @ {1}.T",
    "pt.dot({0}, {1}.T)",
    "({1} @ {0}.T).T",
    "pt.einsum('ik,jk->ij', {0}, {1})",
    "({1} * {0}[:, None, :]).sum(-1)",
    "({1}[None] @ {0}[:, :, None])[:, :, 0]",
    "pt.stack([{1} @ {0}[j] for j in range({m})])",
    "pt.tensordot({0}, {1}, axes=(1, 1))",
)

TIMES_COLUMNS = ("({1} @ {0}).T", "pt.dot({1}, {0}).T", "{0}.T @ {1}.T")
TRANSPOSE = ("{0}.T", "pt.transpose({0})", "{0}.dimshuffle(1, 0)", "pt.moveaxis({0}, 0, 1)")
CENTRE = ("{0} - {0}.mean()", "{0} - pt.sum({0}) / {n}", "(np.eye({n}) - 1 / {n}) @ {0}")

LINEAR_BUT_UNUSUAL = (
    "pt.concatenate(pt.split({0}, [{k}, {n} - {k}], n_splits=2, axis=0))",
    "pt.cumsum(pt.concatenate([{0}[:1], pt.diff({0}, axis=0)]), axis=0)",
    "pt.diff(pt.concatenate([pt.zeros_like({0}[:1]), pt.cumsum({0}, axis=0)]), axis=0)",
    "{0} ** 1",
    "pt.real({0})",
    "pt.linalg.solve(np.eye({n}), {0})",
    "pytensor.gradient.disconnected_grad({0})",
    "pt.prod(pt.stack([{0}, pt.ones_like({0})]), axis=0)",
    "pt.max(pt.stack([{0}, {0}]), axis=0)",
    "pt.maximum({0}, {0})",
    "pytensor.scan(lambda t: 1.0 * t, sequences=[{0}], return_updates=False)",
    "pytensor.ifelse(pt.constant(True), {0}, -{0})",
)
"""The identity, written with operations that the package need not know: right, or refused."""


def _round_index(a):  # type: ignore[no-untyped-def]
    return a[np.clip(np.round(a.sum()), 0, len(a) - 1).astype(int)] + 0 * a


def _sort_all(a):  # type: ignore[no-untyped-def]
    return np.sort(a, axis=None).reshape(a.shape)


HOSTILE: dict[str, Callable] = {
    "pt.exp({0})": np.exp,
    "pt.abs({0})": np.abs,
    "{0} ** 2": np.square,
    "{0} * {0}": np.square,
    "pt.sqr({0})": np.square,
    "pt.tanh({0})": np.tanh,
    "pt.sort({0}, axis=0)": lambda a: np.sort(a, axis=0),
    "{0}.ravel()[pt.argsort({0}.ravel())].reshape({shape})": lambda a: np.sort(
        a, axis=None
    ).reshape(a.shape),
    "pt.cumsum({0}, axis=0)": lambda a: np.cumsum(a, axis=0),
    "pt.cumprod({0}, axis=0)": lambda a: np.cumprod(a, axis=0),
    "{0} - pt.max({0})": lambda a: a - a.max(),
    "{0} + pt.prod({0})": lambda a: a + a.prod(),
    "{0} / (1 + pt.std({0}))": lambda a: a / (1 + a.std()),
    "pt.clip({0}, -0.5, 0.5)": lambda a: np.clip(a, -0.5, 0.5),
    "pt.maximum({0}, 0.0)": lambda a: np.maximum(a, 0.0),
    "pt.switch({0} > 0, {0}, 0.0)": lambda a: np.maximum(a, 0.0),
    "pt.switch({0} > 0, 1.0, 0.0)": lambda a: (a > 0) * 1.0,
    "{0} * ({0} > 0)": lambda a: np.maximum(a, 0.0),
    "pt.sign({0})": np.sign,
    "pt.round({0})": np.round,
    "pt.floor({0})": np.floor,
    "pt.cast({0}, 'int64')": lambda a: a.astype("int64"),
    "pt.cast(pt.cast({0}, 'int64'), 'float64')": lambda a: np.trunc(a),
    "pt.cast({0} > 0, 'float64')": lambda a: (a > 0) * 1.0,
    "{0} % 1.0": lambda a: a % 1.0,
    "{0} // 0.5": lambda a: a // 0.5,  # not 1.0: PyTensor rewrites x // 1.0 to x
    "1.0 / (2.0 + {0} ** 2)": lambda a: 1 / (2 + a**2),
    "pt.sigmoid({0})": lambda a: 1 / (1 + np.exp(-a)),
    "pt.softplus({0})": lambda a: np.logaddexp(0, a),
    "pt.special.softmax({0}, axis=0)": lambda a: np.exp(a) / np.exp(a).sum(axis=0),
    "{0} - pt.logsumexp({0})": lambda a: a - np.log(np.exp(a).sum()),
    "{0} * {0}[0]": lambda a: a * a[0],
    "{0} * {0}.sum()": lambda a: a * a.sum(),
    "{0} + pt.dot({0}.ravel(), {0}.ravel())": lambda a: a + (a * a).sum(),
    "pt.zeros_like({0})": np.zeros_like,
    "pt.zeros({0}.shape) + {0}.shape[0]": lambda a: np.zeros_like(a) + a.shape[0],
    "{0}[pt.cast(pt.clip(pt.round({0}.sum()), 0, {n} - 1), 'int64')] + 0 * {0}": _round_index,
    "pytensor.scan(lambda t, s: 0.5 * s + t, sequences=[{0}],"
    " outputs_info=pt.zeros({0}.shape[1:]), return_updates=False)": lambda a: np.stack(
        [sum(0.5 ** (i - j) * a[j] for j in range(i + 1)) for i in range(len(a))]
    ),
    "{0}[0] + 0 * {0}": lambda a: a[0] + 0 * a,
    "pt.concatenate([{0}[:1], pt.diff({0}, axis=0)])": lambda a: np.concatenate(
        [a[:1], np.diff(a, axis=0)]
    ),
    "pt.inc_subtensor({0}[np.zeros(3, dtype=int)], {0}[:1])": lambda a: np.concatenate(
        [4 * a[:1], a[1:]]
    ),
    "pt.set_subtensor({0}[np.zeros(2, dtype=int)], 0.0)": lambda a: np.concatenate(
        [0 * a[:1], a[1:]]
    ),
    "{0}[{0} > 0].sum() + 0 * {0}": lambda a: a[a > 0].sum() + 0 * a,
    "pt.arctan2({0}, 1.0)": lambda a: np.arctan2(a, 1.0),
    "pt.sum({0}[..., None] * {0}[..., None], axis=-1)": lambda a: a * a,
    "pt.power({0}, 3)": lambda a: a**3,
    "2.0 ** {0}": lambda a: 2.0**a,
    "{0} * 0.0": lambda a: a * 0.0,
    "pt.linalg.norm({0}) + 0 * {0}": lambda a: np.sqrt((a * a).sum()) + 0 * a,
}
"""Operations that change what a model means, most of them not linear."""


# --- Models ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variable:
    """A free variable.

    ``how`` is what follows the parameters in the code: ``shape=(4,)``, ``dims='g0'``, nothing if
    mean and scale have the shape already; for ``MvNormal`` it starts with ``chol``, ``cov`` or
    ``tau``.
    """

    name: str
    family: str
    shape: tuple[int, ...] = ()
    mean: Expression = Number(0.0)
    scale: Expression = Number(1.0)
    how: str = ""

    @property
    def gaussian(self) -> bool:
        return self.family in ("Normal", "MvNormal", "Flat")

    def write(self, code: Code) -> None:
        mean, scale = (e.write(code) for e in (self.mean, self.scale))
        how = self.how or (f"shape={self.shape}" if self.shape else "")
        more = f", {how}" if how and how != "implicit" else ""
        name = repr(self.name)
        text = {
            "Normal": f"pm.Normal({name}, {mean}, {scale}{more})",
            "MvNormal": f"pm.MvNormal({name}, {mean}{more.replace('ROOT', scale)})",
            "Flat": f"pm.Flat({name}{more})",
            "HalfNormal": f"pm.HalfNormal({name}, 1.0{more})",
            "StudentT": f"pm.StudentT({name}, nu=4.0, mu=0.0, sigma=1.0{more})",
            "LKJ": f"pm.LKJCholeskyCov({name}, n={self.shape[-1] if self.shape else 0}, eta=2.0, "
            "sd_dist=pm.HalfNormal.dist(1.0))[0]",
        }[self.family]
        code.lines.append(f"{self.name} = {text}")

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return some value (not a draw from the prior) on the natural scale."""
        z = rng.normal(size=self.shape)
        if self.family == "HalfNormal":
            return np.exp(0.5 * z)
        if self.family == "LKJ":
            root = np.tril(z)
            np.fill_diagonal(root, np.exp(0.5 * np.diag(z)))
            return root
        return z

    def transformed(self, value: np.ndarray) -> np.ndarray:
        """Return a natural value as PyMC's value variable holds it."""
        if self.family == "HalfNormal":
            return np.log(value)
        if self.family == "LKJ":
            root = value.copy()
            np.fill_diagonal(root, np.log(np.diag(value)))
            return root[np.tril_indices(len(root))]
        return value

    def at(self, env: Env, u: np.ndarray) -> np.ndarray:
        """Return ``mean + scale·u``; an improper variable is ``u`` itself."""
        if self.family == "Flat":
            return u
        scale = self.scale.value(env)
        deviation = u @ scale.T if self.family == "MvNormal" else scale * u
        return self.mean.value(env) + deviation


@dataclass(frozen=True)
class Response:
    """A likelihood; ``columns > 1`` makes a table of its rows."""

    name: str
    family: str
    mean: Expression
    sigma: Expression
    y: str
    columns: int = 1

    def write(self, code: Code) -> None:
        mean, sigma, y = self.mean.write(code), self.sigma.write(code), self.y
        if self.columns > 1:
            mean = f"{mean}.reshape((-1, {self.columns}))"
            y = f"{y}.reshape((-1, {self.columns}))"
            sigma = f"{sigma}.reshape((-1, {self.columns}))" if self.sigma.shape else sigma
        code.lines.append(f"pm.{self.family}({self.name!r}, {mean}, {sigma}, observed={y})")


class NotAffine(Exception):
    """What is to be integrated out enters a mean in another way than linearly, or a sigma."""


class NotIdentified(Exception):
    """A flat variable is not determined by the data: there is no density to compare with."""


@dataclass(frozen=True, repr=False)
class Recipe:
    """A model: data, of which some are ``pm.Data``, free variables in order, and responses."""

    data: dict[str, np.ndarray]
    mutable: frozenset[str]
    variables: tuple[Variable, ...]
    responses: tuple[Response, ...]
    extras: tuple[str, ...] = ()
    coords: tuple[tuple[str, int], ...] = ()
    seed: int = 0

    def __repr__(self) -> str:
        return f"\n{self.source()}"

    def source(self) -> str:
        """Return the model as a program."""
        head, body = [], Code()
        for name, array in self.data.items():
            text = f"np.array({array.tolist()})"
            if name in self.mutable:
                body.lines.append(f"{name} = pm.Data({name!r}, {text})")
            else:
                head.append(f"{name} = {text}")
        for variable in self.variables:
            variable.write(body)
        for response in self.responses:
            response.write(body)
        coords = ", ".join(f"{name!r}: range({size})" for name, size in self.coords)
        model = f"with pm.Model(coords={{{coords}}}) as model:" if coords else None
        lines = [*head, model or "with pm.Model() as model:"]
        return "\n".join([*lines, *(f"    {line}" for line in (*body.lines, *self.extras))])

    def build(self) -> pm.Model:
        """Run the program, with literals in double precision (see ``tests/models.py``)."""
        space = {"np": np, "pm": pm, "pt": pt, "pytensor": pytensor}
        with autocast_float_as("float64"):
            exec(self.source(), space)
        return space["model"]

    def expressions(self) -> Iterator[Expression]:
        """Yield all nodes of the responses and priors."""
        for variable in self.variables:
            yield from walk(variable.mean)
            yield from walk(variable.scale)
        for response in self.responses:
            yield from walk(response.mean)
            yield from walk(response.sigma)

    @property
    def unusual(self) -> bool:
        """Whether it has spellings that the package need not understand."""
        return any(
            isinstance(e, Op) and e.template in (*LINEAR_BUT_UNUSUAL, *HOSTILE)
            for e in self.expressions()
        )

    def gaussian(self) -> list[str]:
        return [v.name for v in self.variables if v.gaussian]

    def stay_sampled(self) -> set[str]:
        """Return the Gaussian variables that no exact method could integrate out.

        These are the ones in a sigma, those without likelihood, and the ancestors of all these
        (a prior of what stays sampled must not depend on what is integrated out).
        """
        by_name = {v.name: v for v in self.variables}

        def closure(names: set[str]) -> set[str]:
            reached, todo = set(), set(names)
            while todo:
                name = todo.pop()
                if name in by_name and name not in reached:
                    reached.add(name)
                    todo |= names_in(by_name[name].mean) | names_in(by_name[name].scale)
            return reached

        in_means = closure(set().union(*(names_in(r.mean) for r in self.responses)))
        in_sigmas = closure(set().union(*(names_in(r.sigma) for r in self.responses)))
        unused = closure(set(by_name) - in_means)
        return (in_sigmas | unused) & set(self.gaussian())

    def point(self) -> dict[str, np.ndarray]:
        """Return a natural value for every free variable."""
        rng = np.random.default_rng(self.seed)
        return {v.name: v.draw(rng) for v in self.variables}

    def means(
        self, point: Env, u: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Return all values, and means and sigmas of all rows, with ``v = m + Λu`` where given."""
        env = dict(self.data)
        for v in self.variables:
            env[v.name] = v.at(env, u[v.name]) if v.name in u else point[v.name]
        mean, sigma = [], []
        for r in self.responses:
            shape = self.data[r.y].shape
            mean.append(np.broadcast_to(r.mean.value(env), shape))
            sigma.append(np.broadcast_to(r.sigma.value(env), shape))
        return env, np.concatenate(mean), np.concatenate(sigma)

    def log_density(self, point: Env, integrated: Sequence[str]) -> float:
        """Return ``log p(y | θ)`` with some Gaussian variables integrated out, densely.

        Raises
        ------
        NotAffine
            That integral is not Gaussian.
        NotIdentified
            It is infinite, or nearly so.
        """
        variables = [v for v in self.variables if v.name in integrated]
        sizes = [int(np.prod(v.shape, dtype=int)) for v in variables]
        flat = np.repeat([v.family == "Flat" for v in variables], sizes).astype(bool)

        def at(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            pieces = np.split(u, np.cumsum(sizes)[:-1]) if sizes else []
            blocks = {v.name: b.reshape(v.shape) for v, b in zip(variables, pieces, strict=True)}
            return self.means(point, blocks)[1:]

        q = sum(sizes)
        offset, sigma = at(np.zeros(q))
        C = np.array([at(e)[0] - offset for e in np.eye(q)]).reshape(q, len(offset)).T
        rng = np.random.default_rng(self.seed + 1)
        for scale in (0.3, 1.0, 3.0):
            u = scale * rng.normal(size=q)
            mean, again = at(u)
            if not np.allclose(mean, offset + C @ u, rtol=1e-8, atol=1e-8):
                raise NotAffine("a mean")
            if not np.allclose(again, sigma, rtol=1e-10):
                raise NotAffine("a sigma")
        y, log_jacobian = [], 0.0
        for r in self.responses:
            values = self.data[r.y]
            if r.family == "LogNormal":
                values = np.log(values)
                log_jacobian -= values.sum()
            y.append(values)
        r = np.concatenate(y) - offset
        X, Z = C[:, flat], C[:, ~flat]
        V = Z @ Z.T + np.diag(sigma**2)
        n = len(r) - X.shape[1]
        log_det = np.linalg.slogdet(V)[1]
        solved = np.linalg.solve(V, np.column_stack([r, X]))
        quadratic = r @ solved[:, 0]
        if X.shape[1]:
            precision = X.T @ solved[:, 1:]
            if np.linalg.cond(precision) > 1e6 or np.linalg.matrix_rank(X) < X.shape[1]:
                raise NotIdentified
            score = X.T @ solved[:, 0]
            log_det += np.linalg.slogdet(precision)[1]
            quadratic -= score @ np.linalg.solve(precision, score)
        return float(-0.5 * (log_det + quadratic + n * np.log(2 * np.pi)) + log_jacobian)


# --- Strategies -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effects:
    """An expression with one row per level of a factor."""

    expression: Expression
    factor: int


class Author:
    """Writes one model: draws what it is and how it is spelled."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.seed = draw(st.integers(0, 999))
        self.rng = np.random.default_rng(self.seed)
        self.data: dict[str, np.ndarray] = {}
        self.mutable: set[str] = set()
        self.variables: list[Variable] = []
        self.coords: list[tuple[str, int]] = []
        self.levels: list[int] = []
        self.parents: list[int | None] = []
        self.rows: list[int] = []
        self.spelling = True

    # Choices

    def pick(self, *options):  # type: ignore[no-untyped-def]
        return self.draw(st.sampled_from(options))

    def seldom(self) -> bool:
        return self.pick(False, False, False, False, True)

    def often(self) -> bool:
        return self.pick(False, True)

    # Data

    def number(self, name: str, values: np.ndarray, mutable: bool = True) -> Name:
        if name not in self.data:
            self.data[name] = values
            if mutable and self.seldom():
                self.mutable.add(name)
        return Name(name, values.shape, str(values.dtype))

    def normal(self, *shape: int) -> np.ndarray:
        return (self.rng.normal(size=shape).round(1) + 0.05).round(2)

    def codes(self, factor: int, r: int, kind: str = "g") -> Name:
        """Return the level of each row of a response; some levels may have no row."""
        name = f"{kind}{factor}_{r}"
        if name not in self.data:
            child = next((f for f, p in enumerate(self.parents) if p == factor), None)
            if child is not None and kind == "g":
                parent, of = self.codes(child, r), self.parent(child)
                return self.number(name, self.data[of.name][self.data[parent.name]])
            M = self.levels[factor]
            used = self.rng.permutation(M)[: self.pick(M, max(M - 1, 1))]
            return self.number(name, self.rng.choice(used, size=self.rows[r]))
        return self.number(name, self.data[name])

    def parent(self, factor: int) -> Name:
        """Return, for each level of a nested factor, the level of its parent."""
        above = self.parents[factor]
        assert above is not None
        values = self.rng.integers(self.levels[above], size=self.levels[factor])
        return self.number(f"parent{factor}", self.data.get(f"parent{factor}", values))

    def covariate(self, r: int) -> Name:
        name = self.pick("x", "w")
        return self.number(f"{name}{r}", self.normal(self.rows[r]))

    def design(self, r: int, columns: int) -> Name:
        X = self.normal(self.rows[r], columns)
        X[:, 0] = 1.0
        return self.number(f"X{columns}_{r}", X)

    def condition(self, r: int) -> Name:
        return self.number(f"late{r}", np.arange(self.rows[r]) % 3 == 1)

    # Variables

    def declare(self, prefix: str, family: str, shape: tuple[int, ...] = (), **more) -> Name:  # type: ignore[no-untyped-def]
        name = f"{prefix}{len(self.variables)}"
        self.variables.append(Variable(name, family, shape, **more))
        return Name(name, shape)

    def positive(self, shape: tuple[int, ...] = ()) -> Name:
        old = [v for v in self.variables if v.family == "HalfNormal" and v.shape == shape]
        if old and self.seldom():  # shared by several terms
            return Name(old[0].name, shape)
        return self.declare("tau", "HalfNormal", shape)

    def coefficient(self) -> Name:
        """Return one common coefficient."""
        family = self.pick("Normal", "StudentT", "Flat")
        scale = Number(2.0)
        if family == "Normal" and self.seldom():
            scale = self.positive()
        mean = Number(self.pick(0.0, 0.5))
        return self.declare("b", family, mean=mean, scale=scale)

    def how(self, shape: tuple[int, ...], *whole: Expression) -> str:
        if self.seldom():
            dims = tuple(f"dim{len(self.coords) + i}" for i in range(len(shape)))
            self.coords += zip(dims, shape, strict=True)
            return f"dims={dims}"
        if any(e.shape == shape for e in whole) and self.often():
            return "implicit"
        return f"shape={shape}"

    def same(self, e: Expression, r: int | None = None) -> Expression:
        """Write an expression in a roundabout way, or leave it."""
        if names_in(e) <= set(self.data):
            return e  # still a numpy array in the program
        ways = [*SAME_SCALAR]
        if e.shape:
            ways += SAME_AXIS
        if len(e.shape) == 1:
            ways += SAME_VECTOR
        while self.spelling and self.pick(False, False, True):
            if r is not None and e.shape == (self.rows[r],) and self.pick(False, False, True):
                e = Op(same_by, (e, self.condition(r)), self.pick(*SAME_BY))
            elif self.draw(st.integers(0, 19)) == 19 and e.shape:
                e = Op(same, (e,), self.pick(*LINEAR_BUT_UNUSUAL))
            else:
                e = Op(same, (e,), self.pick(*ways))
        return e

    def op(self, meaning: Callable, templates: Sequence[str], *parts: Expression) -> Op:
        return Op(meaning, parts, self.pick(*templates))

    def sum(self, parts: Sequence[Expression], r: int | None = None) -> Expression:
        """Add, in any order and association."""
        parts = list(self.draw(st.permutations(parts)))
        if len(parts) == 1:
            return parts[0]
        if self.seldom():
            alike = len({p.shape for p in parts}) == 1 and parts[0].shape != ()
            return self.op(add_all, (*ADD_ALL, *ADD_ALIKE) if alike else ADD_ALL, *parts)
        cut = self.draw(st.integers(1, len(parts) - 1))
        left, right = self.sum(parts[:cut], r), self.sum(parts[cut:], r)
        return self.same(self.op(add, ADD, left, right), r)

    # Effects

    def prior_mean(self, factor: int, above: dict[int, list[Effects]]) -> Expression:
        """Return the mean of the effects of a factor: a number, or a regression by level."""
        M = self.levels[factor]
        kind = self.pick("zero", "number", "vector", "common", "parent", "regression", "mixed")
        if kind == "zero":
            return Number(0)
        if kind == "number":
            return Number(1.5)
        if kind == "vector":
            return self.number(f"m{factor}", self.normal(M))
        if kind == "common":
            return self.same(self.coefficient())
        parts: list[Expression] = []
        vectors = [e for e in above.get(self.parents[factor], []) if len(e.expression.shape) == 1]  # type: ignore[arg-type]
        if kind in ("parent", "mixed") and vectors:
            v = self.pick(*vectors).expression
            parts.append(self.op(index, INDEX, v, self.parent(factor)))
        if kind in ("regression", "mixed") or not parts:
            family = self.pick("Normal", "StudentT")
            gamma = self.declare("gamma", family, (2,), scale=Number(1.0))
            W = self.number(f"W{factor}", self.normal(M, 2))
            parts.append(self.op(mat_vec, MAT_VEC, W, gamma))
        return self.same(self.sum(parts))

    def prior_scale(self, factor: int) -> Expression:
        M = self.levels[factor]
        kind = self.pick("tau", "number", "by kind", "by level", "vector", "product")
        if kind == "tau":
            return self.positive()
        if kind == "number":
            return Number(0.7)
        if kind == "by kind":
            of = self.number(f"kind{factor}", np.arange(M) % 2)
            return Op(index, (self.positive((2,)), of), "{0}[{1}]")
        if kind == "by level":
            return self.positive((M,))
        sds = self.number(f"sd{factor}", (np.abs(self.normal(M)) + 0.1).round(2))
        return sds if kind == "vector" else self.op(multiply, MULTIPLY[:2], self.positive(), sds)

    def root(self, S: int) -> Expression:
        """Return the Cholesky factor of a covariance matrix."""
        kind = self.pick("constant", "scaled", "LKJ")
        if kind == "LKJ":
            return self.declare("chol", "LKJ", (S, S))
        values = np.tril(self.normal(S, S))
        np.fill_diagonal(values, np.abs(np.diag(values)) + 0.5)
        L = self.number(f"L{len(self.data)}", values, mutable=False)
        return L if kind == "constant" else Op(multiply, (self.positive(), L), "{0} * {1}")

    def vector_effects(self, factor: int, above: dict[int, list[Effects]]) -> Expression:
        M = self.levels[factor]
        kind = self.pick("centred", "standard", "non-centred", "scalars", "centred around 0")
        if kind == "standard":
            return self.declare("z", "Normal", (M,), how=self.how((M,)))
        if kind == "scalars" and M <= 3:
            tau = self.prior_scale_scalar()
            scalars = [self.declare("u", "Normal", scale=tau) for _ in range(M)]
            return self.op(stack, STACK, *scalars)
        if kind == "centred around 0":
            u = self.declare(
                "u", "Normal", (M,), scale=self.prior_scale(factor), how=self.how((M,))
            )
            return self.op(centre, CENTRE, u)
        mean, scale = self.prior_mean(factor, above), self.prior_scale(factor)
        if kind == "non-centred":
            z = self.declare("z", "Normal", (M,), how=self.how((M,)))
            u = self.op(add, ADD, mean, self.op(multiply, MULTIPLY, scale, z))
            return Op(same, (u,), "pm.Deterministic('e{id}', {0})") if self.often() else u
        how = self.how((M,), mean, scale)
        return self.declare("u", "Normal", (M,), mean=mean, scale=scale, how=how)

    def prior_scale_scalar(self) -> Expression:
        return self.positive() if self.often() else Number(0.7)

    def matrix_effects(self, factor: int) -> Expression:
        """Return effects with two or three columns."""
        M, S = self.levels[factor], self.pick(2, 3)
        kind = self.pick("MvNormal", "Normal", "z @ L.T", "(L @ z).T", "z * sds", "columns", "rows")
        if kind == "MvNormal":
            L = self.root(S)
            mean: Expression = self.number(f"mean{S}", self.normal(S))
            if self.often():
                mean = self.declare("beta", self.pick("Normal", "StudentT"), (S,))
            given = ("chol=ROOT", "cov=ROOT @ ROOT.T", "cov=pt.dot(ROOT, ROOT.T)")
            if isinstance(L, Name) and L.name in self.data:
                given += ("tau=np.linalg.inv(ROOT @ ROOT.T)",)
            how = f"{self.pick(*given)}, {self.how((M, S))}"
            return self.declare("u", "MvNormal", (M, S), mean=mean, scale=L, how=how)
        if kind == "columns":
            columns = [self.vector_effects(factor, {}) for _ in range(S)]
            return self.op(stack_columns, STACK_COLUMNS, *columns)
        if kind == "rows":
            u = self.declare("u", "Normal", (S, M), scale=self.positive(), how=self.how((S, M)))
            return self.op(transpose, TRANSPOSE, u)
        if kind == "Normal":
            scale = self.positive((S,)) if self.often() else self.prior_scale_scalar()
            return self.declare("u", "Normal", (M, S), scale=scale, how=self.how((M, S)))
        shape = (S, M) if kind == "(L @ z).T" else (M, S)
        z = self.declare("z", "Normal", shape, how=self.how(shape))
        if kind == "z * sds":
            return self.op(multiply, MULTIPLY, z, self.positive((S,)))
        L = self.root(S)
        if kind == "z @ L.T":
            return self.op(times_transpose, TIMES_TRANSPOSE, z, L)
        return self.op(times_columns, TIMES_COLUMNS, z, L)

    # Predictors

    def at_rows(self, effects: Effects, r: int) -> Expression:
        """Index effects by the rows of a response, through a nested factor if there is one."""
        e, g = self.same(effects.expression), self.codes(effects.factor, r)
        ways = (*INDEX, *INDEX_VECTOR) if len(e.shape) == 1 else INDEX
        child = next((f for f, p in enumerate(self.parents) if p == effects.factor), None)
        if child is not None and self.often():
            of, inner = self.parent(child), self.codes(child, r)
            return self.op(
                index_twice, INDEX_TWICE if len(e.shape) == 1 else INDEX_TWICE[:2], e, of, inner
            )
        return self.op(index, ways, e, g)

    def term(self, effects: Effects, r: int) -> Expression:
        """Return what some effects contribute to the rows of a response."""
        e = effects.expression
        if len(e.shape) == 2:
            S = e.shape[1]
            kind = self.pick("columns", "design", "two indices")
            if kind == "design":
                X = self.design(r, S)
                t: Expression = self.op(row_dot, ROW_DOT, self.at_rows(effects, r), X)
            elif kind == "two indices":
                k = self.number(f"k{S}_{r}", self.rng.integers(S, size=self.rows[r]))
                t = self.op(index_pair, INDEX_PAIR, self.same(e), self.codes(effects.factor, r), k)
            else:
                g, x = self.codes(effects.factor, r), self.covariate(r)
                first, second = (
                    self.op(column_of(k), INDEX_COLUMN, self.same(e), g, Number(k)) for k in (0, 1)
                )
                t = self.sum([first, self.op(multiply, MULTIPLY, second, x)], r)
        else:
            t = self.at_rows(effects, r)
        t = self.same(t, r)
        change = self.pick("none", "slope", "scaled", "loading", "membership", "weights")
        if change == "slope":
            t = self.op(multiply, MULTIPLY, t, self.covariate(r))
        if change == "scaled":
            t = self.op(multiply, MULTIPLY, t, self.positive())
        if change == "loading":
            item = self.number(f"item{r}", np.arange(self.rows[r]) % 3)
            lam = self.declare("lam", self.pick("HalfNormal", "StudentT"), (3,))
            t = self.op(multiply, MULTIPLY, t, self.op(index, INDEX[:4], lam, item))
        if change in ("membership", "weights") and len(e.shape) == 1:
            other = self.op(index, INDEX, e, self.codes(effects.factor, r, "other"))
            if change == "weights":
                t = self.op(multiply, MULTIPLY, t, self.covariate(r))
                t = self.op(add, ADD, t, self.op(multiply, MULTIPLY, other, Number(0.5)))
            else:
                t = self.op(subtract, ("{0} - {1}", "-({1} - {0})", "{0} + -1 * {1}"), t, other)
        return self.same(t, r)

    def common(self, r: int) -> list[Expression]:
        """Return fixed effects and offsets."""
        parts: list[Expression] = []
        if self.often():
            parts.append(self.coefficient())
        kind = self.pick("none", "slope", "matrix", "offset", "curve")
        if kind == "slope":
            parts.append(self.op(multiply, MULTIPLY, self.coefficient(), self.covariate(r)))
        if kind == "matrix":
            X = self.number(f"D{r}", self.normal(self.rows[r], 2))
            beta = self.declare("beta", self.pick("Normal", "StudentT", "Flat"), (2,))
            parts.append(self.op(mat_vec, MAT_VEC, X, beta))
        if kind == "offset":
            parts += [self.number(f"offset{r}", self.normal(self.rows[r])), Number(1)]
        if kind == "curve":
            rate = Op(multiply, (self.positive(), self.covariate(r)), "{0} * {1}")
            parts.append(Op(exp, (Op(multiply, (rate, Number(-0.3)), "{0} * {1}"),), "pt.exp({0})"))
        return parts

    def predictor(self, effects: Sequence[Effects], r: int, pairs: bool = True) -> Expression:
        vectors = [e for e in effects if len(e.expression.shape) == 1]
        terms: list[Expression] = []
        if pairs and len(vectors) >= 2 and self.seldom():
            u, v = vectors[:2]
            parts = (u.expression, v.expression, self.codes(u.factor, r), self.codes(v.factor, r))
            terms.append(self.op(table, TABLE, *parts))
            effects = [e for e in effects if e is not u and e is not v]
        for e in effects:
            terms += [self.term(e, r) for _ in range(self.pick(1, 1, 1, 1, 2))]
        return self.same(self.sum([*terms, *self.common(r)], r), r)

    def sigma(self, effects: Sequence[Effects], r: int) -> Expression:
        n = self.rows[r]
        kind = self.pick("scalar", "known", "stratum", "rows", "errors", "weights", "effects")
        if kind == "scalar":
            return self.positive()
        if kind == "known":
            return Number(0.8)
        if kind == "stratum":
            stratum = self.number(f"stratum{r}", np.arange(n) % 3)
            return self.op(index, INDEX[:2], self.positive((3,)), stratum)
        if kind == "errors":
            return self.number(f"se{r}", (np.abs(self.normal(n)) + 0.3).round(2))
        if kind == "weights":
            count = self.number(f"count{r}", 1.0 + np.arange(n) % 4)
            return Op(divide, (self.positive(), count), "{0} / {1}")
        if kind == "rows":
            slope = self.declare("delta", self.pick("StudentT", "Normal"))
            log_sigma: Expression = Op(multiply, (slope, self.covariate(r)), "{0} * {1}")
        else:
            vectors = [e for e in effects if len(e.expression.shape) == 1]
            if not vectors:
                return self.positive()
            log_sigma = self.at_rows(self.pick(*vectors), r)
        half = Op(multiply, (log_sigma, Number(0.3)), "{0} * {1}")
        return Op(multiply, (self.positive(), Op(exp, (half,), "pt.exp({0})")), "{0} * {1}")

    def response(self, effects: Sequence[Effects], r: int) -> Response:
        mean = self.predictor(effects, r)
        if self.seldom():  # the rows of two studies, say
            other = self.predictor(effects, r, pairs=False)
            if self.often():
                mean = self.op(choose, CHOOSE, self.condition(r), mean, other)
            else:
                mean = self.op(halves, HALVES, mean, other)
        family = self.pick("Normal", "Normal", "LogNormal")
        y = self.normal(self.rows[r])
        if family == "LogNormal":
            y = np.exp(y / 2).round(1) + 0.1
        sigma = self.sigma(effects, r)
        columns = 2 if self.rows[r] % 2 == 0 and self.seldom() else 1
        return Response(f"y{r}_", family, mean, sigma, self.number(f"y{r}", y).name, columns)

    def recipe(self) -> Recipe:
        for f in range(self.pick(1, 1, 2, 2, 3)):
            self.levels.append(self.pick(3, 2, 4, 5, 1))
            nested = f > 0 and self.often() and f - 1 not in self.parents
            self.parents.append(f - 1 if nested else None)
        self.rows = [self.draw(st.integers(6, 14)) for _ in range(self.pick(1, 1, 1, 2))]
        above: dict[int, list[Effects]] = {}
        for f in range(len(self.levels)):
            for _ in range(self.pick(1, 1, 1, 2)):
                e = (
                    self.matrix_effects(f)
                    if self.pick(False, False, True)
                    else self.vector_effects(f, above)
                )
                above.setdefault(f, []).append(Effects(self.same(e), f))
        effects = [e for own in above.values() for e in own]
        responses = []
        for r in range(len(self.rows)):
            used = [e for e in effects if r == 0 or self.often()] or effects[:1]
            responses.append(self.response(used, r))
        extras = self.pick(
            (),
            (),
            (
                'p = pm.Beta("p", 1.0, 1.0)',
                'pm.Bernoulli("answer", p, observed=np.arange(6) % 2)',
                'pm.Potential("penalty", -(p**2))',
            ),
        )
        return Recipe(
            self.data,
            frozenset(self.mutable),
            tuple(self.variables),
            tuple(responses),
            extras,
            tuple(self.coords),
            self.seed,
        )


def column_of(k: int) -> Callable:
    return {0: first_column, 1: second_column}[k]


def first_column(a, i, k):  # type: ignore[no-untyped-def]
    return a[i, 0]


def second_column(a, i, k):  # type: ignore[no-untyped-def]
    return a[i, 1]


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Models all of whose effects the package promises to integrate out."""
    return Author(draw).recipe()


@st.composite
def hostile_recipes(draw: st.DrawFn) -> Recipe:
    """Models with one operation at a random place that most often cannot be integrated over."""
    recipe = draw(recipes())
    response = recipe.responses[0]
    nodes = list(walk(response.mean))
    gaussian = set(recipe.gaussian())
    places = [i for i, node in enumerate(nodes) if node.shape and names_in(node) & gaussian]
    place = draw(st.sampled_from(places))
    template = draw(st.sampled_from(list(HOSTILE)))
    changed = replace_at(response.mean, place, lambda e: Op(HOSTILE[template], (e,), template))
    return replace(recipe, responses=(replace(response, mean=changed), *recipe.responses[1:]))
