"""Meanings, and the many ways to spell each of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


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


def correlations(r):  # type: ignore[no-untyped-def]
    M = 2 if len(r) == 1 else 3
    C = np.zeros((M, M))
    C[np.tril_indices(M, -1)] = r
    return C + C.T + np.eye(M)


def root_of(a):  # type: ignore[no-untyped-def]
    """Return a square root, or, of what is no covariance, something else."""
    try:
        return np.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        return np.eye(len(a))


def masked(a, condition):  # type: ignore[no-untyped-def]
    return np.where(condition, a, 0.0)


def centre(a):  # type: ignore[no-untyped-def]
    return a - a.mean()


def choose(condition, a, b):  # type: ignore[no-untyped-def]
    return np.where(condition, a, b)


def standardised(a):  # type: ignore[no-untyped-def]
    return (a - a.mean()) / (1 + a.std())


def precision(a):  # type: ignore[no-untyped-def]
    return 1 / np.sqrt(a)


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
    "pt.real({0})",
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
    "pt.concatenate(pt.split({0}, [{k}, {n} - {k}], n_splits=2, axis=0))",
    "pt.cumsum(pt.concatenate([{0}[:1], pt.diff({0}, axis=0)]), axis=0)",
    "pt.diff(pt.concatenate([pt.zeros_like({0}[:1]), pt.cumsum({0}, axis=0)]), axis=0)",
    "pt.diff(pt.zeros(({n} + 1, *{shape}[1:]))[1:].set({0}.cumsum(0)), axis=0)",
    "pt.linalg.solve(2.0 * np.eye({n}), 2.0 * {0}, b_ndim={0}.ndim)",
    "pt.linalg.solve_triangular(np.tril(np.ones(({n}, {n}))), {0}.cumsum(axis=0), lower=True,"
    " b_ndim={0}.ndim)",
    "pt.zeros({shape})[np.r_[np.arange({n}), np.arange({n})]].inc(pt.concatenate([{0}, {0}]) / 2)",
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
    "pt.signal.convolve1d({0}, np.array([0.0, 1.0]))[1:]",
    "pt.linalg.kron({0}[:, None], np.ones((2, 1)))[::2, 0]",
    "pt.trace(pt.tril({0}[:, None, None] * np.ones((2, 2)) / 2), axis1=1, axis2=2)",
    "pt.cumsum({0}[:, None] * np.array([2.0, -1.0]), axis=1)[:, 1]",
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
    "pt.add(*({0}[j] * pt.eq({1}, j) for j in range({m})))",
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

DIFFERENCE = "{0} * (1 + {1}) - {0}"
MULTIPLY = (
    "{0} * {1}",
    "{1} * {0}",
    "pt.mul({0}, {1})",
    "-{0} * (-{1})",
    "(2.0 * {0}) * (0.5 * {1})",
    DIFFERENCE,
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

MASKED = (
    "{1} * {0}",
    "pt.switch({1}, {0}, 0.0)",
    "pt.where(~{1}, 0, {0})",
    "pt.cast({1}, 'float64') * {0}",
    "{0} * np.where({1}, 1.0, 0.0)",
    "pt.set_subtensor({0}[~{1}], 0.0)",
    "{0}[np.flatnonzero(~{1})].set(0.0)",
    "pt.zeros({n})[{1}].set({0}[{1}])",
    "pt.zeros({n})[np.flatnonzero({1})].inc({0}[{1}])",
    "pt.concatenate([{0}[{1}], pt.zeros((~{1}).sum())])"
    "[np.argsort(np.argsort(~{1}, kind='stable'), kind='stable')]",
    "np.diag({1} * 1.0) @ {0}",
    "{0} - pt.switch({1}, 0.0, {0})",
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

CORRELATIONS = (
    "pt.zeros(({n}, {n}))[np.tril_indices({n}, -1)].set({0}) + np.eye({n})"
    " + pt.zeros(({n}, {n}))[np.tril_indices({n}, -1)].set({0}).T",
    "pt.stack([pt.stack([1.0 if i == j else {0}[{{(0, 1): 0, (0, 2): 1, (1, 2): 2}}"
    "[min(i, j), max(i, j)]] for j in range({n})]) for i in range({n})])",
)

TIMES_COLUMNS = ("({1} @ {0}).T", "pt.dot({1}, {0}).T", "{0}.T @ {1}.T")
TRANSPOSE = ("{0}.T", "pt.transpose({0})", "{0}.dimshuffle(1, 0)", "pt.moveaxis({0}, 0, 1)")
CENTRE = ("{0} - {0}.mean()", "{0} - pt.sum({0}) / {n}", "(np.eye({n}) - 1 / {n}) @ {0}")
CENTRED = "{0} - {0}.mean()"
STANDARDISED = (
    "({0} - {0}.mean()) / (1 + {0}.std())",
    "({0} - {0}.mean()) * (1 / (1 + {0}.std()))",
    "{0} / (1 + {0}.std()) - {0}.mean() / (1 + {0}.std())",
)

PRECISION = (
    "1 / pt.sqrt({0})",
    "{0} ** -0.5",
    "pt.sqrt(1 / {0})",
    "pt.sqrt({0}) / {0}",
    "pt.reciprocal(pt.sqrt({0})) ** 1",
    "1 / pt.sqrt({0})[None][0]",
)

RATIO = (
    "{0} / {1}",
    "pt.true_div({0}, {1})",
    "{0} * (1 / {1})",
    "{0} * {1} ** -1",
    "1 / ({1} / {0})",
)

LINEAR_BUT_UNUSUAL = (
    "{0} ** 1",
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
    "pt.inc_subtensor({0}[np.zeros(3, dtype=int)], {0}[0])": lambda a: np.concatenate(
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
