"""Which combinations of columns vanish: the null space of a large sparse matrix.

Exact dependence has to be told from columns that are merely close to it (a year beside an
intercept, powers of a covariate), so that nothing is squared. Columns get length 1. Of those of
one variable that share no row (one for each level), the others are made orthogonal exactly; rows
are then added up with random weights until little more of them than columns are left, which keeps
lengths to a factor and what vanishes at zero; and the small matrix is decomposed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg, sparse

__all__ = ["independent_rank", "null_space"]

WEIGHTS_PER_ROW = 4
"""To how many sums a row contributes; with three and more, hardly any column gets lost."""

FEW = 64
"""Of so many columns nothing is gained by treating them apart."""


def null_space(X: sparse.csr_array, sizes: Sequence[int], tolerance: float) -> np.ndarray:
    """Return a basis of the vectors ``v`` with ``Xv = 0``, for columns scaled to length 1.

    Parameters
    ----------
    X : sparse array, (n, p)
    sizes : sequence of int
        How many of the columns belong to each variable.
    tolerance : float
        Relative to the columns.

    Returns
    -------
    array, (p, k)
        ``k = 0``: no combination vanishes.
    """
    norms = np.sqrt(np.asarray(X.multiply(X).sum(axis=0))).ravel()
    X = (X @ sparse.diags_array(1 / np.where(norms > 0, norms, 1.0))).tocsc()
    own = _disjoint(X, sizes, norms > 0)
    rest = np.flatnonzero(~own)
    D, B = X[:, own], X[:, rest]
    projected = D.T @ B
    sums = _sums_of_rows(X.shape[0], len(rest))
    small = (sums @ B - (sums @ D) @ projected).toarray()
    vanishing = _small_null_space(small, tolerance)
    basis = np.zeros((X.shape[1], vanishing.shape[1]))
    basis[rest], basis[own] = vanishing, -(projected @ vanishing)
    return basis


def independent_rank(vectors: np.ndarray) -> int:
    """Return the rank of some rows of a basis of a null space."""
    return int(np.linalg.matrix_rank(vectors, tol=1e-6)) if vectors.size else 0


def _disjoint(X: sparse.csc_array, sizes: Sequence[int], filled: np.ndarray) -> np.ndarray:
    """Choose the columns of the largest variable that has at most one entry in each row."""
    chosen = np.zeros(X.shape[1], dtype=bool)
    first = 0
    for size in sizes:
        entries = X[:, first : first + size].indices
        if size > max(chosen.sum(), FEW) and (np.bincount(entries, minlength=1) < 2).all():
            chosen[:] = False
            chosen[first : first + size] = filled[first : first + size]
        first += size
    return chosen


def _sums_of_rows(n: int, p: int) -> sparse.csr_array:
    """Return random weights, ``(m, n)`` with ``m`` a little more than ``p``."""
    m = p + p // 2 + 32
    if m >= n:
        return sparse.eye_array(n, format="csr")
    rng = np.random.default_rng(0)
    size = WEIGHTS_PER_ROW * n
    entries = (rng.integers(m, size=size), np.repeat(np.arange(n), WEIGHTS_PER_ROW))
    weights = rng.normal(size=size) / np.sqrt(WEIGHTS_PER_ROW)
    return sparse.coo_array((weights, entries), shape=(m, n)).tocsr()


def _small_null_space(X: np.ndarray, tolerance: float) -> np.ndarray:
    p = X.shape[1]
    if not p:
        return np.zeros((0, 0))
    R, order = linalg.qr(X, mode="r", pivoting=True, check_finite=False)
    R = np.vstack([R[:p], np.zeros((max(p - len(R), 0), p))])
    diagonal = np.abs(np.diagonal(R))
    if diagonal.min() > 1e3 * tolerance:
        return np.zeros((p, 0))
    _, values, directions = linalg.svd(R, check_finite=False)
    basis = np.zeros((p, int((values <= tolerance * max(1.0, values[0])).sum())))
    basis[order] = directions[p - basis.shape[1] :].T
    return basis
