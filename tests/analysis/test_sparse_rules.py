"""Sparse design matrices: the exact joint density, and refusals where effects get sparse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor.sparse as ps
import pytensor.tensor as pt
import pytest
from scipy.sparse import coo_matrix, csc_matrix, csr_matrix

import pymc_marginal_lmm as mlmm
from tests.integration.checks import check_model

rng = np.random.default_rng(0)
n, q = 20, 6
y = rng.normal(size=n)
dense = np.where(rng.uniform(size=(n, q)) < 0.3, rng.normal(size=(n, q)), 0.0)
dense[3] = 0.0  # a row without entries
dense[4] = 1.0  # a full row
Z = csr_matrix(dense)


def twice_the_same_entry() -> csr_matrix:
    """An indicator written as two entries of one half at the same place."""
    column = rng.integers(q, size=n)
    rows = np.arange(n)
    half = np.full(2 * n, 0.5)
    twice = coo_matrix((half, (np.r_[rows, rows], np.r_[column, column])), shape=(n, q))
    indptr = np.arange(0, 2 * n + 1, 2)
    return csr_matrix((twice.data, np.repeat(column, 2), indptr), shape=(n, q))


Effects = pt.TensorVariable
PREDICTORS: dict[str, Callable[[Effects], pt.TensorVariable]] = {
    "structured dot": lambda u: ps.structured_dot(Z, u[:, None])[:, 0],
    "squeezed": lambda u: ps.structured_dot(Z, u[:, None]).squeeze(),
    "dot": lambda u: ps.dot(Z, u[:, None])[:, 0],
    "csc": lambda u: ps.dot(csc_matrix(dense), u[:, None])[:, 0],
    "sparse on the right": lambda u: ps.dot(u[None, :], csr_matrix(dense.T))[0],
    "transposed in the graph": lambda u: ps.dot(
        ps.as_sparse_variable(csc_matrix(dense.T)).T, u[:, None]
    )[:, 0],
    "matrix of effects": lambda u: ps.dot(Z, pt.stack([u, 2.0 * u[::-1]], axis=1)).sum(axis=1),
    "matrix of effects on the left": lambda u: ps.dot(
        pt.stack([u, u[::-1]]), csr_matrix(dense.T)
    ).sum(axis=0),
    "entries to be added up": lambda u: ps.dot(twice_the_same_entry(), u[:, None])[:, 0],
    "a parameter times the product": lambda u: (
        pm.Normal("b") + pm.LogNormal("t") * ps.dot(Z, u[:, None])[:, 0]
    ),
    "no entries": lambda u: u[0] + ps.dot(csr_matrix((n, q)), u[:, None])[:, 0],
    "made dense": lambda u: pt.dot(ps.dense_from_sparse(ps.as_sparse_variable(Z)), u),
    "vector": lambda u: ps.dot(ps.as_sparse_variable(Z), u),
    "vector on the left": lambda u: ps.dot(u, ps.as_sparse_variable(csr_matrix(dense.T))),
}


@pytest.mark.parametrize("name", PREDICTORS)
def test_identity(name: str) -> None:
    with pm.Model() as model:
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=q)
        pm.Normal("y", PREDICTORS[name](u), pm.HalfNormal("sigma"), observed=y)
    check_model(model, ["u", "b"] if "b" in model.named_vars else ["u"])


def test_refuses_what_is_sparse_itself() -> None:
    with pm.Model() as model:
        u = pm.Normal("u", shape=(n, q))
        product = ps.multiply(ps.as_sparse_variable(Z), u)
        pm.Normal("y", ps.sp_sum(product, axis=1), pm.HalfNormal("sigma"), observed=y)
    with pytest.raises(mlmm.NotMarginalizable, match="'u'"):
        mlmm.marginalize(model, "u")


def test_refuses_values_that_are_not_finite() -> None:
    bad = Z.copy()
    bad.data[0] = np.nan
    with pm.Model() as model:
        u = pm.Normal("u", shape=q)
        pm.Normal("y", ps.dot(bad, u[:, None])[:, 0], pm.HalfNormal("sigma"), observed=y)
    with pytest.raises(mlmm.NotMarginalizable, match="NaN or infinite"):
        mlmm.marginalize(model)
