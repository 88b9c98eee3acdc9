"""Couplings stored where data fill them: the same density, gradient and draws, less memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.sparse.linalg import splu

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.analysis import ordering
from pymc_marginal_lmm.pattern import Pattern
from tests.helpers import assert_same_posterior, dense_reference, density, random_point, unfolded
from tests.models import by_name
from tests.test_nested import structure_of

CROSSED = [
    "crossed_three",
    "crossed_different_widths",
    "crossed_correlated_slopes",
    "hierarchical_mean_by_index",
    "flat_coefficients",
    "data_predictors",
    "sigma_by_cell",
]


def matches() -> pm.Model:
    """Teams that play twice a row, a referee, and a noise that differs by row."""
    rng = np.random.default_rng(7)
    referee, home = rng.integers(9, size=30), rng.integers(5, size=30)
    away = (home + rng.integers(1, 5, size=30)) % 5
    x = rng.normal(size=30)
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", shape=2)
        strength = pm.Normal("strength", 0, tau[0], shape=5)
        whistle = pm.Normal("whistle", 0, tau[1], shape=9)
        slope = pm.Laplace("slope", 0, 1)
        mu = strength[home] * (1 + slope * x) - strength[away] + whistle[referee]
        pm.Normal("y", mu, pt.exp(0.3 * slope * x), observed=rng.normal(size=30))
    return model


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small models have a pattern as large ones do."""
    monkeypatch.setattr(ordering, "WORTH_A_PATTERN", 0)
    monkeypatch.setattr(ordering, "SCATTERED", 0)
    monkeypatch.setattr(ordering, "PAIRS_PER_ENTRY", np.inf)


@pytest.mark.usefixtures("everywhere")
@pytest.mark.parametrize("name", CROSSED)
def test_against_dense_reference(name: str) -> None:
    canonical = by_name(name)
    plain = canonical.build()
    marginal = unfolded(plain)
    assert structure_of(marginal).blocks.coupling is not None
    point = random_point(marginal, 1)
    reference = dense_reference(plain, canonical.effects, point)
    for mode in ("FAST_COMPILE", "JAX"):
        value = marginal.compile_logp(mode=mode)(point)
        assert_allclose(value, reference.log_density, rtol=1e-10)
    assert_same_posterior(marginal, plain, canonical.effects, point, reference)


@pytest.mark.parametrize(
    ("build", "modes"),
    [
        (by_name("crossed_correlated_slopes").build, ["FAST_COMPILE", "NUMBA"]),
        (matches, ["FAST_COMPILE"]),
        pytest.param(matches, ["NUMBA"], marks=pytest.mark.slow),
    ],
)
def test_gradient_is_that_of_a_dense_coupling(
    build: Callable[[], pm.Model], modes: list[str], request: pytest.FixtureRequest
) -> None:
    """Also where the design depends on parameters, through the entries of the pattern alone."""
    dense = unfolded(build())
    assert structure_of(dense).blocks.coupling is None
    request.getfixturevalue("everywhere")
    scattered = unfolded(build())
    assert structure_of(scattered).blocks.coupling is not None
    point = random_point(dense, 2)
    expected = dense.compile_dlogp(mode="FAST_COMPILE")(point)
    assert np.isfinite(expected).all()
    for mode in modes:
        assert_allclose(scattered.compile_dlogp(mode=mode)(point), expected, rtol=1e-8)


@pytest.mark.usefixtures("everywhere")
def test_conditional_density_and_its_gradient() -> None:
    """``log p(y, v) = log p(y) + log p(v | y)``, where the first knows nothing of patterns."""
    plain = by_name("crossed_different_widths").build()
    marginal = unfolded(plain)
    full = mlmm.conditional(marginal)
    point = random_point(plain, 3)
    both = density(full)(point)
    assert_allclose(both, density(plain)(point), rtol=1e-10)
    expected = plain.compile_dlogp(plain.free_RVs, mode="FAST_COMPILE")(point)
    ours = [full[rv.name] for rv in plain.free_RVs]
    gradient = full.compile_dlogp(ours, mode="FAST_COMPILE")(point)
    assert_allclose(gradient, expected, rtol=1e-8, atol=1e-8)


M, Q, N_ROWS = 20_000, 1_200, 60_000


def large_model() -> tuple[pm.Model, sparse.csr_array, np.ndarray]:
    rng = np.random.default_rng(0)
    g, h = rng.integers(M, size=N_ROWS), rng.integers(Q, size=N_ROWS)
    x, y = rng.normal(size=N_ROWS), rng.normal(size=N_ROWS)
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", shape=2)
        u, v = pm.Normal("u", 0, tau[0], shape=M), pm.Normal("v", 0, tau[1], shape=Q)
        slope = pm.Normal("slope", 0, 1)
        pm.Normal("y", u[g] + v[h] + slope * x, pm.HalfNormal("sigma"), observed=y)
    rows = np.tile(np.arange(N_ROWS), 3)
    columns = np.concatenate([g, M + h, np.full(N_ROWS, M + Q)])
    entries = np.concatenate([np.ones(2 * N_ROWS), x])
    Z = sparse.csr_array((entries, (rows, columns)), shape=(N_ROWS, M + Q + 1))
    return model, Z, y


def test_a_large_coupling_is_never_dense() -> None:
    """Dense it would be 192 MB, of which any path would hold several."""
    model, Z, y = large_model()
    explanation = mlmm.explain(model)
    first = explanation.factors[0]
    assert (first.effects, first.kind) == (("u",), "diagonal, coupling sparse")
    assert explanation.operations < 2 * 2 * Q**3 < 4 * M * Q**2
    assert explanation.memory < 8 * M * Q
    tracemalloc.start()
    marginal = unfolded(model)
    logp = marginal.compile_fn(marginal.logp(), mode="FAST_COMPILE")
    point = marginal.initial_point()
    value = float(logp(point))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * M * Q
    for graph in (marginal.logp(), *mlmm.conditional(marginal).observed_RVs):
        for variable in pytensor.graph.traversal.ancestors([graph]):
            assert np.prod([n or 1 for n in getattr(variable.type, "shape", ())]) < M * Q
    parameters = np.ones(3)  # the initial point: all scales are 1
    L = sparse.diags_array(np.concatenate([np.full(M, 1.0), np.full(Q + 1, 1.0)]))
    F = sparse.eye_array(M + Q + 1) + L @ (Z.T @ Z) @ L
    factor = splu(F.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    h = L @ (Z.T @ y)
    u = factor.solve(h)
    log_det = np.log(np.abs(factor.U.diagonal())).sum()
    expected = -0.5 * (y @ y - h @ u + log_det + N_ROWS * np.log(2 * np.pi))
    prior = sum(
        pm.logp(pm.HalfNormal.dist(), one).eval() + np.log(one) for one in parameters
    )  # values are logarithms
    assert_allclose(value, expected + prior, rtol=1e-10)


def test_pairs_are_those_of_a_product() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(9, 6)) * (rng.random((9, 6)) < 0.5)
    rows, columns = np.nonzero(X)
    shuffled = rng.permutation(len(rows))
    pattern = Pattern.of(rows[shuffled], columns[shuffled], X.shape)
    values = X[pattern.rows, pattern.columns]
    assert np.count_nonzero(values) == np.count_nonzero(X)
    first, second, target = pattern.pairs
    product = np.zeros(36)
    np.add.at(product, target, values[first] * values[second])
    assert_allclose(product.reshape(6, 6), np.tril(X.T @ X), atol=1e-12)
    assert (np.diff(target) >= 0).all()
    place, found = pattern.find(*np.divmod(np.arange(X.size), 6))
    assert_allclose(found.reshape(X.shape), X != 0)
    assert_allclose(values[place[found]], X[X != 0])
