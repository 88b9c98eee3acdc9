"""One factor beside common coefficients: the rows of each level, made orthonormal.

Gram and Schmidt, level by level and in the rows, twice: in the rows since products of columns would
square what tells them apart, twice since once leaves rounding of what is large in what is small.
See :mod:`pymc_marginal_lmm.ops.orthonormal`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from pymc_marginal_lmm.algebra.scales import prior_precision
from pymc_marginal_lmm.algebra.weights import Weights, is_numeric
from pymc_marginal_lmm.structure import MixedModel

__all__ = ["OrthonormalDesign", "orthonormalised"]

ROUNDING = 1e-13
"""So much of a column is rounding of what was taken from it."""


@dataclass(frozen=True)
class OrthonormalDesign:
    """``Z1 = Q Lᵀ`` and ``X = QD + X̃``.

    Parameters
    ----------
    model : MixedModel
        With ``Q`` and ``X̃`` as coefficients.
    root : array, (M, S, S)
        ``L``.
    far : array, (M, S, q)
        ``D``.
    dense : array, (q, q)
        ``X̃ᵀWX̃``.
    """

    model: MixedModel
    root: np.ndarray
    far: np.ndarray
    dense: np.ndarray


def orthonormalised(model: MixedModel, weights: Weights) -> OrthonormalDesign | None:
    """Orthonormalise the design of a model, or return None: its form is another one.

    There must be one factor with levels, of standard effects, beside coefficients that all rows
    share, and a design and weights that hold no parameters.
    """
    blocks = model.blocks
    if len(blocks.chain) != 1 or blocks.coupling is not None:
        return None
    if weights.values is not None or weights.left is not None:
        return None
    leading, trailing = blocks.chain[0], blocks.trailing
    factor, common = model.factors[leading], [model.factors[i] for i in trailing]
    if len(common) != 1 or common[0].n_levels > 1 or not prior_precision(model, factor).all():
        return None
    Z, X = factor.coefficients, common[0].coefficients
    if not is_numeric(Z, X):
        return None
    levels = _Levels(factor.codes[:, 0], factor.n_levels, weights.numbers)
    Q, root = np.array(Z[:, 0]), np.zeros((factor.n_levels, *[factor.n_effects] * 2))
    for s in range(factor.n_effects):
        rest, products = levels.orthogonal(Q[:, [s]], Q[:, :s])
        root[:, s, :s] = products[:, :, 0]
        lengths = levels.lengths(rest)[:, 0]
        root[:, s, s] = lengths
        Q[:, s] = rest[:, 0] / np.where(lengths > 0, lengths, 1.0)[levels.codes]
    rest, far = levels.orthogonal(np.asarray(X).sum(axis=1), Q)
    factors = list(model.factors)
    factors[leading] = replace(factor, coefficients=Q[:, None])
    factors[trailing[0]] = replace(
        common[0], coefficients=rest[:, None], codes=np.zeros((len(rest), 1), dtype="int32")
    )
    dense = rest.T @ (rest if weights.numbers is None else rest * weights.numbers[:, None])
    return OrthonormalDesign(replace(model, factors=tuple(factors)), root, far, dense)


class _Levels:
    def __init__(self, codes: np.ndarray, n_levels: int, weights: np.ndarray | None) -> None:
        n = len(codes)
        self.codes = codes
        numbers = np.ones(n) if weights is None else weights
        self.sums = sparse.csr_array((numbers, (codes, np.arange(n))), shape=(n_levels, n))

    def lengths(self, columns: np.ndarray) -> np.ndarray:
        return np.sqrt(self.sums @ columns**2)

    def orthogonal(self, columns: np.ndarray, Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what is left of columns ``(n, q)``, and their products with ``Q (n, S)``."""
        rest = columns.copy()
        products = np.zeros((self.sums.shape[0], Q.shape[1], columns.shape[1]))
        for _ in range(2):
            for k, own in enumerate(Q.T):
                step = self.sums @ (own[:, None] * rest)
                rest -= own[:, None] * step[self.codes]
                products[:, k] += step
        nothing = self.lengths(rest) <= ROUNDING * self.lengths(columns)
        rest[nothing[self.codes]] = 0.0
        return rest, products
