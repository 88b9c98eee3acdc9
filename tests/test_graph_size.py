"""The graph of a gradient is as large for many data and effects as for few: numba compiles it."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose

from tests.helpers import dense_reference, random_point, unfolded

pytestmark = pytest.mark.filterwarnings("ignore:Detected variables likely created by GP")


def points(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    return np.linspace(0.0, 3.0, n) + rng.uniform(0.0, 0.01, n), rng.normal(size=n)


def kernel(t: np.ndarray, length: pt.TensorVariable, s: np.ndarray | None = None) -> pt.Variable:
    other = t if s is None else s
    K = pt.exp(-0.5 * ((t[:, None] - other) / length) ** 2)
    return K + 0.1 * np.eye(len(t)) if s is None else K


def noncentred_process(n: int, *, slope: bool = False) -> None:
    """``chol(K) @ z``, and coefficients of covariates beside it."""
    t, y = points(n)
    L = pt.linalg.cholesky(kernel(t, pm.HalfNormal("length")))
    mu = L @ pm.Normal("z", shape=n)
    if slope:
        mu = pm.HalfNormal("scale") * mu + pm.Normal("a") + pm.Normal("b") * t
    pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=y)


def centred_process(n: int) -> None:
    t, y = points(n)
    f = pm.MvNormal("f", np.zeros(n), cov=kernel(t, pm.HalfNormal("length")))
    pm.Normal("y", f, pm.HalfNormal("sigma"), observed=y)


def latent_process(n: int) -> None:
    t, y = points(n)
    cov = pm.gp.cov.Matern32(1, ls=pm.HalfNormal("length"))
    f = pm.gp.Latent(cov_func=cov).prior("f", t[:, None])
    pm.Normal("y", f, pm.HalfNormal("sigma"), observed=y)


def process_per_group(n: int) -> None:
    """``chol(K) @ z`` with a column of ``z`` per group."""
    t, _ = points(n)
    L = pt.linalg.cholesky(kernel(t, pm.HalfNormal("length")))
    z = pm.Normal("z", shape=(n, 3))
    y = np.random.default_rng(0).normal(size=(n, 3))
    pm.Normal("y", L @ z, pm.HalfNormal("sigma"), observed=y)


def inducing_points(n: int) -> None:
    """A sparse process: ``K_xu K_uu^-1 chol(K_uu) z``, more rows than effects."""
    t, y = points(n)
    u = np.linspace(0.0, 3.0, 6)
    length = pm.HalfNormal("length")
    K = kernel(u, length)
    f = pt.linalg.cholesky(K) @ pm.Normal("z", shape=6)
    pm.Normal("y", kernel(t, length, u) @ (pt.linalg.inv(K) @ f), 0.5, observed=y)


def inducing_points_by_size(n: int) -> None:
    t, y = points(2 * n)
    u = np.linspace(0.0, 3.0, n)
    length = pm.HalfNormal("length")
    pm.Normal("y", kernel(t, length, u) @ pm.Normal("z", shape=n), 0.5, observed=y)


def basis_functions(n: int) -> None:
    t, y = points(50)
    m = np.arange(1, n + 1)
    scale = pt.exp(-m * pm.HalfNormal("length"))
    pm.Normal("y", np.sin(t[:, None] * m) @ (scale * pm.Normal("z", shape=n)), 0.5, observed=y)


def loadings_by_item(n: int) -> None:
    person, item = np.repeat(np.arange(5), n), np.tile(np.arange(n), 5)
    lam = pm.HalfNormal("lam", shape=n)
    eta = pm.Normal("eta", shape=5)
    y = np.random.default_rng(0).normal(size=5 * n)
    pm.Normal("y", lam[item] * eta[person], 0.5, observed=y)


def two_latents_by_item(n: int) -> None:
    person, item = np.repeat(np.arange(5), n), np.tile(np.arange(n), 5)
    lam = pm.HalfNormal("lam", shape=(n, 2))
    chol = pm.LKJCholeskyCov("chol", n=2, eta=2.0, sd_dist=pm.HalfNormal.dist(1.0))[0]
    eta = pm.MvNormal("eta", np.zeros(2), chol=chol, shape=(5, 2))
    y = np.random.default_rng(0).normal(size=5 * n)
    pm.Normal("y", (lam[item] * eta[person]).sum(axis=1), 0.5, observed=y)


def scales_by_level(n: int) -> None:
    g = np.arange(3 * n) % n
    tau = pm.HalfNormal("tau", shape=n)
    pm.Normal("y", tau[g] * pm.Normal("z", shape=n)[g], 0.5, observed=points(3 * n)[1])


def parameters_by_row(n: int) -> None:
    t, y = points(n)
    g = np.arange(n) % 4
    decay = pt.exp(-pm.HalfNormal("rate") * t)
    pm.Normal("y", decay * pm.Normal("u", shape=4)[g], 0.5, observed=y)


def random_coefficients(n: int) -> None:
    """As many correlated effects as ``n``, non-centred, by hand."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4 * n, n))
    L = pt.tril(pm.Normal("L", shape=(n, n)) * pm.HalfNormal("s"))
    pm.Normal("y", X @ (L @ pm.Normal("z", shape=n)), 0.5, observed=rng.normal(size=4 * n))


MODELS: dict[str, tuple[Callable[[int], None], tuple[str, ...]]] = {
    "noncentred process": (noncentred_process, ("z",)),
    "noncentred process and slope": (lambda n: noncentred_process(n, slope=True), ("z", "a", "b")),
    "centred process": (centred_process, ("f",)),
    "latent process": (latent_process, ("f_rotated_",)),
    "process per group": (process_per_group, ("z",)),
    "inducing points": (inducing_points, ("z",)),
    "inducing points, more of them": (inducing_points_by_size, ("z",)),
    "basis functions": (basis_functions, ("z",)),
    "loadings by item": (loadings_by_item, ("eta",)),
    "two latents by item": (two_latents_by_item, ("eta",)),
    "scales by level": (scales_by_level, ("z",)),
    "parameters by row": (parameters_by_row, ("u",)),
    "random coefficients": (random_coefficients, ("z", "L")),
}


def build(name: str, n: int) -> pm.Model:
    with warnings.catch_warnings(), pm.Model() as model:
        warnings.simplefilter("ignore")
        MODELS[name][0](n)
    return model


def n_nodes(model: pm.Model) -> int:
    function = unfolded(model).compile_dlogp(mode="FAST_COMPILE")
    return len(function.f.maker.fgraph.apply_nodes)


@pytest.mark.parametrize("name", MODELS)
def test_nodes_do_not_depend_on_sizes(name: str) -> None:
    few, more = (n_nodes(build(name, n)) for n in (20, 60))
    assert more <= few + 10, (few, more)


@pytest.mark.parametrize("name", MODELS)
def test_density(name: str) -> None:
    plain = build(name, 7)
    marginal = unfolded(plain)
    effects = tuple(e for e in MODELS[name][1] if e not in {rv.name for rv in marginal.free_RVs})
    assert effects
    point = random_point(plain, 3)
    value = marginal.compile_logp(mode="FAST_COMPILE")(
        {v.name: point[v.name] for v in marginal.value_vars}
    )
    assert_allclose(value, dense_reference(plain, effects, point).log_density, rtol=1e-9)
