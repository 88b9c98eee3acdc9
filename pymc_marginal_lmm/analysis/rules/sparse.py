"""The rule for products with sparse matrices of data."""

from __future__ import annotations

import numpy as np
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.sparse.math import Dot, StructuredDot
from scipy.sparse import csr_matrix

from pymc_marginal_lmm.analysis.reader import Reader
from pymc_marginal_lmm.analysis.rules.registry import any_input, rule
from pymc_marginal_lmm.analysis.terms import NOTHING, ONE, Linear, Multiplier

__all__ = ["sparse_dot"]


@rule(Dot, StructuredDot, zero=any_input)
def sparse_dot(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    """``out[i, j] = Σ_p left[i, p] · right[p, j]``: effects on one side, sparse data on the other.

    An element of the product gets as many terms as the fullest row of the sparse matrix has
    entries, and not one per column.
    """
    side = 0 if parts[0] else 1  # of the effects
    effects, matrix = node.inputs[side], node.inputs[1 - side]
    rows = csr_matrix(_value(reader, matrix))
    places, numbers = _padded(rows if side == 1 else rows.T.tocsr())
    if effects.type.ndim == 1:
        elements = places
    elif side == 1:  # (i, j, k): element (place of the k-th entry of row i, j)
        width = reader.shape(effects)[1]
        elements = places[:, None, :] * width + np.arange(width)[:, None]
        places, numbers = places[:, None, :], numbers[:, None, :]
    else:  # (i, j, k): element (i, place of the k-th entry of column j)
        height, width = reader.shape(effects)
        elements = np.arange(height)[:, None, None] * width + places
    elements = np.where(places == NOTHING, NOTHING, elements)
    multiplier = Multiplier(numbers, np.full(numbers.shape, ONE))
    axis = elements.ndim - 1
    return [
        {
            leaf: reader.times(terms.take(elements), multiplier, elements.shape).absorb([axis])
            for leaf, terms in parts[side].items()
        }
    ]


def _value(reader: Reader, variable: Variable) -> object:
    """Return a sparse matrix; ``Values`` would make an array of the object out of a constant."""
    return variable.data if isinstance(variable, Constant) else reader.values.structure(variable)


def _padded(matrix: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the column numbers and the values of each row's entries, ``(rows, most entries)``."""
    matrix.sum_duplicates()
    counts = np.diff(matrix.indptr)
    filled = np.arange(counts.max(initial=0)) < counts[:, None]
    columns = np.full(filled.shape, NOTHING)
    numbers = np.zeros(filled.shape)
    columns[filled], numbers[filled] = matrix.indices, matrix.data
    return columns, numbers
