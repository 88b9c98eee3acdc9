r"""Rows that are correlated given the effects: ``W`` is block diagonal, a block per *batch*.

A batch of ``k`` rows has the covariance ``σ²R = σ²LLᵀ``, and ``W`` the block ``P/σ²`` with
``P = R⁻¹``. What the density needs of ``W`` are crossproducts, of which each batch contributes::

    xᵀWy = σ⁻² Σ_ab P_ab x_a y_b = σ⁻² (L⁻¹x)ᵀ(L⁻¹y)        log|W| = −2k log σ − 2 Σ_a log L_aa

**Pair by pair**, the first form. Where many batches share ``R``, the pairs ``(a, b)`` are strata:
sums over batches are taken once for each of the ``k (k + 1) / 2`` entries of ``P``, each row keeps
its levels, and the gradient is free of ``n``. Known covariances are numbers like other weights.

**Whitened**, the second form, where batches are long and few. All of their effects belong to the
dense block, since a batch has rows of many levels; ``L⁻¹`` is applied to the ``q`` columns of the
design and to ``r0``, and to numbers, once, if ``R`` is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable
from scipy.linalg import solve_triangular

from pymc_marginal_lmm.algebra.crossproducts import Blocks, design_matrix
from pymc_marginal_lmm.algebra.weights import Weights, as_float, is_numeric
from pymc_marginal_lmm.ops.blocks import inverse_lower, lower_cholesky
from pymc_marginal_lmm.ops.library import UNROLLED
from pymc_marginal_lmm.structure import Array, MixedModel, Response

__all__ = ["Correlated", "Sums", "Whitened", "correlated"]


class Sums(NamedTuple):
    """``A``, ``c``, ``s`` as in ``DataTerms``, but ``c`` as ``(M S,)``."""

    A: Blocks
    c: list[Variable]
    s: Variable


class Correlated(NamedTuple):
    """Weights of a model's rows, correlated or not.

    Parameters
    ----------
    w : Variable, ()
        Common weight.
    weights : Weights
        Of all pairs of rows that are not whitened, without ``w``.
    log_weights : Variable
        ``log|W|``.
    whitened : tuple of Whitened
    known : bool
        No weight but ``w`` depends on parameters.
    """

    w: Variable
    weights: Weights
    log_weights: Variable
    whitened: tuple[Whitened, ...] = ()
    known: bool = True


def correlated(model: MixedModel, w: Variable, rows: Weights, log_weights: Variable) -> Correlated:
    """Weigh pairs of rows where rows are correlated.

    Parameters
    ----------
    model : MixedModel
    w : Variable, ()
        Common weight.
    rows : Weights
        ``σ⁻²`` of each row, without ``w``.
    log_weights : Variable
        Sum of the logarithms of both.
    """
    if all(response.correlation is None for response in model.responses):
        return Correlated(w, rows, log_weights, known=rows.values is None)
    parts, whitened = [], []
    entries = [] if rows.values is None else [rows.values]
    n_strata = 1 if rows.values is None else int(rows.values.type.shape[0])
    first = 0
    for response in model.responses:
        own = slice(first, first + response.size)
        first = own.stop
        if response.correlation is None:
            each = np.arange(own.start, own.stop)
            parts.append(_Pairs(each, each, np.ones(each.size), None))
            continue
        L = _root(response)
        log_weights = log_weights - _log_determinant(response, L)
        if response.whitened:
            whitened.append(Whitened(own, L, _covariance_of(response), _weight(rows, own)))
            continue
        pairs, P = _pairs(response, own.start, L, n_strata)
        parts.append(pairs)
        if P is not None:
            entries.append(P)
            n_strata += int(P.type.shape[0])
    if rows.values is None and entries:  # w is not common to all any more
        entries, w = [pt.shape_padleft(w), *entries], as_float(1.0)
    no_rows = np.zeros(0, dtype=int)
    left = np.concatenate([no_rows, *(p.left for p in parts)])
    right = np.concatenate([no_rows, *(p.right for p in parts)])
    numbers = np.concatenate([np.zeros(0), *(p.numbers for p in parts)])
    if rows.numbers is not None:
        numbers = numbers * rows.numbers[left]
    strata = None
    if entries:
        by_row = np.zeros(model.n_rows, dtype=int) if rows.strata is None else rows.strata
        own_strata = [by_row[p.left] if p.strata is None else p.strata for p in parts]
        strata = np.concatenate([no_rows, *own_strata])
    values = (entries[0] if len(entries) == 1 else pt.concatenate(entries)) if entries else None
    return Correlated(
        w,
        Weights(numbers, strata, values, left, right),
        log_weights,
        tuple(whitened),
        values is None and is_numeric(*(batch.root for batch in whitened)),
    )


def _weight(rows: Weights, own: slice) -> Array:
    """Return ``σ⁻²`` of a response whose rows are correlated, without the common weight."""
    weight: Array = np.ones(()) if rows.numbers is None else rows.numbers[own.start]
    if rows.values is not None:
        assert rows.strata is not None
        weight = rows.values[int(rows.strata[own.start])] * as_float(weight)
    return weight


def _covariance_of(response: Response) -> np.ndarray:
    """Return which of the covariances is that of each batch."""
    assert response.correlation is not None
    matrix = response.correlation.matrix
    shape = matrix.shape if isinstance(matrix, np.ndarray) else matrix.type.shape
    each = np.arange(np.prod(shape[:-2], dtype=int)).reshape(shape[:-2])
    return np.broadcast_to(each, response.shape[:-1]).reshape(-1)


def _root(response: Response) -> Array:
    """Return Cholesky factors ``L`` of all covariances, ``(C, k, k)``."""
    assert response.correlation is not None
    matrix, k = response.correlation.matrix, response.batch_length
    if isinstance(matrix, np.ndarray):
        return np.linalg.cholesky(matrix.reshape(-1, k, k))
    n = int(np.prod(matrix.type.shape[:-2], dtype=int))
    blocks = pt.reshape(pt.cast(matrix, config.floatX), (n, k, k))
    return lower_cholesky(pt, blocks, k) if _unrolled(n, k) else pt.linalg.cholesky(blocks)


def _unrolled(n: int, k: int) -> bool:
    """Whether many small matrices are factorised by explicit formulas, all at once."""
    return n > 1 and k <= UNROLLED


def _log_determinant(response: Response, L: Array) -> Variable:
    """Return ``log|R|`` of all batches; NaN, as ``L``, where there is none."""
    times = np.bincount(_covariance_of(response), minlength=int(_shape(L)[0]))[:, None]
    if isinstance(L, np.ndarray):
        diagonal = np.diagonal(L, axis1=1, axis2=2)
        return as_float(2 * float((times * np.log(diagonal)).sum()))
    diagonal = pt.diagonal(L, axis1=1, axis2=2)
    return 2 * (as_float(times) * pt.log(diagonal)).sum()


def _shape(array: Array) -> tuple:
    return array.shape if isinstance(array, np.ndarray) else array.type.shape


# --- Pair by pair ---------------------------------------------------------------------------------


class _Pairs(NamedTuple):
    """Pairs of rows with a known weight, times that of a stratum; None: of the row's own."""

    left: np.ndarray
    right: np.ndarray
    numbers: np.ndarray
    strata: np.ndarray | None


def _pairs(
    response: Response, first: int, L: Array, n_strata: int
) -> tuple[_Pairs, Variable | None]:
    """Return all pairs of rows of a batch, and the entries of ``P`` that are strata."""
    k, which = response.batch_length, _covariance_of(response)
    batch = first + k * np.arange(response.n_batches)[:, None, None]
    a, b = np.indices((k, k))
    left, right = (batch + a).reshape(-1), (batch + b).reshape(-1)
    if isinstance(L, np.ndarray):
        J = np.linalg.inv(L)
        numbers = (J.transpose(0, 2, 1) @ J)[which].reshape(-1)
        return _Pairs(left, right, numbers, None), None
    i, j = np.tril_indices(k)
    place = np.zeros((k, k), dtype=int)
    place[i, j] = place[j, i] = np.arange(i.size)
    strata = n_strata + i.size * which[:, None, None] + place
    n = int(_shape(L)[0])
    J = inverse_lower(pt, L, k) if _unrolled(n, k) else _inverses(L, n, k)
    P = (J[:, :, :, None] * J[:, :, None, :]).sum(axis=1)  # not a product of matrices: see sums
    entries = k * k * np.arange(n)[:, None] + k * i + j
    flat = pt.reshape(P, (n * k * k,))[entries.reshape(-1)]
    return _Pairs(left, right, np.ones(left.size), strata.reshape(-1)), flat


def _inverses(L: Variable, n: int, k: int) -> Variable:
    eye = pt.constant(np.eye(k, dtype=config.floatX))
    if n > 1:
        return pt.linalg.solve_triangular(L, eye, lower=True, b_ndim=2)
    return pt.linalg.solve_triangular(L[0], eye, lower=True)[None]


# --- Whitened -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whitened:
    """A response whose rows become independent when they are multiplied by ``L⁻¹``.

    Parameters
    ----------
    rows : slice
        Of the model.
    root : array or Variable, (C, k, k)
        ``L`` of each covariance.
    covariance_of : array of int, (N,)
        Which is that of each batch.
    weight : array or Variable, ()
        ``σ⁻²``, without the common weight.
    """

    rows: slice
    root: Array
    covariance_of: np.ndarray
    weight: Array

    def _independent(self, table: Array) -> Array:
        """Return ``L⁻¹`` times the rows ``(n, m)``; in another order."""
        k, m = int(_shape(self.root)[1]), int(_shape(table)[1])
        n_batches = len(self.covariance_of)
        by_batch = table.reshape((n_batches, k, m))
        if _shape(self.root)[0] == 1:
            side_by_side = by_batch.transpose(1, 0, 2).reshape((k, n_batches * m))
            solved = _solve(self.root[0], side_by_side)
            return solved.reshape((k * n_batches, m))
        if is_numeric(self.root, table):
            pairs = zip(self.root[self.covariance_of], by_batch, strict=True)
            return np.concatenate([_solve(L, rows) for L, rows in pairs])
        solved = _solve(self.root[self.covariance_of], by_batch)
        return solved.reshape((n_batches * k, m))

    def add_to(
        self,
        sums: Sums,
        model: MixedModel,
        columns: Array,
        factors: Variable | None,
    ) -> Sums:
        """Add what the rows contribute to crossproducts.

        Parameters
        ----------
        sums : Sums
        model : MixedModel
        columns, factors : array (n, p) and Variable (p,), or Variable (n, 1) and None
            ``r0`` of all rows of the model is ``columns · factors``.
        """
        Z, own = _dense_rows(model, self.rows), columns[self.rows]
        if factors is not None and not is_numeric(self.root):
            own, factors = (as_float(own) @ factors)[:, None], None
        if not is_numeric(self.root, Z, own):
            table = pt.concatenate([as_float(Z), as_float(own)], axis=1)
        else:
            table = np.concatenate([Z, own], axis=1)
        q = int(_shape(Z)[1])
        white = self._independent(table)
        gram = white.T @ white
        if not is_numeric(gram, self.weight) or factors is not None:
            gram = as_float(gram) * as_float(self.weight)
        else:
            gram = gram * self.weight
        A, c, s = gram[:q, :q], gram[:q, q:], gram[q:, q:]
        c, s = (c[:, 0], s[0, 0]) if factors is None else (c @ factors, factors @ (s @ factors))
        new_c = list(sums.c)
        for i, part in _trailing_columns(model)[1]:
            new_c[i] = new_c[i] + as_float(c[part])
        dense = sums.A.dense + A if is_numeric(sums.A.dense, A) else as_float(sums.A.dense) + A
        return Sums(sums.A._replace(dense=dense), new_c, sums.s + as_float(s))


def _solve(L: Array, b: Array) -> Array:
    if is_numeric(L, b):
        return solve_triangular(L, b, lower=True)
    return pt.linalg.solve_triangular(as_float(L), as_float(b), lower=True, b_ndim=2)


def _trailing_columns(model: MixedModel) -> tuple[np.ndarray, list[tuple[int, slice]]]:
    """Return where columns of the dense block are in ``Z``, and each factor's among them."""
    starts = np.concatenate([[0], np.cumsum([factor.size for factor in model.factors])])
    places, parts, start = [np.zeros(0, dtype=int)], [], 0
    for i in model.blocks.trailing:
        size = model.factors[i].size
        places.append(starts[i] + np.arange(size))
        parts.append((i, slice(start, start + size)))
        start += size
    return np.concatenate(places), parts


def _dense_rows(model: MixedModel, rows: slice) -> Array:
    """Return rows of ``Z`` in full, ``(n, q)``: the columns of the dense block."""
    factors = [model.factors[i] for i in model.blocks.trailing]
    if is_numeric(*(factor.coefficients for factor in model.factors)):
        places, _ = _trailing_columns(model)
        return design_matrix(model)[rows][:, places].toarray()
    return pt.concatenate(list(_symbolic_rows(factors, rows)), axis=1)


def _symbolic_rows(factors: Sequence, rows: slice) -> Iterator[Variable]:
    for factor in factors:
        codes = factor.codes[rows]
        columns = codes[:, :, None].astype(int) * factor.n_effects + np.arange(factor.n_effects)
        at = np.broadcast_to(np.arange(len(codes))[:, None, None], columns.shape)
        zeros = pt.zeros((len(codes), factor.size), dtype=config.floatX)
        yield zeros[at, columns].inc(as_float(factor.coefficients[rows]))
