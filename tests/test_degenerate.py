"""Numbers at the edge: vanishing and dominating scales, correlation ±1, crowded levels, float32."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor
import pytest
from numpy.testing import assert_allclose

import pymc_marginal_lmm as mlmm
from tests.helpers import BACKENDS, posterior_of_effects, unfolded

LONG = np.longdouble


def one_way(y: np.ndarray, group: np.ndarray, mean: float, tau: float, sigma: float) -> float:
    """Log density of a balanced or unbalanced one-way model, in extended precision.

    Per level with ``n`` rows: ``(n−1) log σ² + log(σ² + nτ²)``, within-level squares over ``σ²``,
    and ``n (ȳ − mean)² / (σ² + nτ²)``.
    """
    y, s2, t2 = y.astype(LONG), LONG(sigma) ** 2, LONG(tau) ** 2
    total = LONG(0)
    for level in np.unique(group):
        rows = y[group == level]
        n, average = len(rows), rows.mean()
        between = s2 + n * t2
        total += (n - 1) * np.log(s2) + np.log(between) + n * np.log(2 * LONG(np.pi))
        total += ((rows - average) ** 2).sum() / s2 + n * (average - mean) ** 2 / between
    return -total / 2


def intercepts(y: np.ndarray, group: np.ndarray, sampled_mean: bool = False) -> pm.Model:
    with pm.Model() as model:
        tau = pm.HalfFlat("tau", default_transform=None)
        sigma = pm.HalfFlat("sigma", default_transform=None)
        mean = pm.Flat("mean") if sampled_mean else 0.0
        u = pm.Normal("u", 0.0, tau, shape=int(group.max()) + 1)
        pm.Normal("y", mean + u[group], sigma, observed=y)
    return unfolded(model, "u")


def simulate(tau: float, sigma: float, mean: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(8), 6)
    return mean + tau * rng.normal(size=8)[group] + sigma * rng.normal(size=48), group


def value_and_gradient(model: pm.Model, point: dict, backend: str = "FAST_COMPILE") -> list:
    logp = model.logp()
    outputs = [logp, *pytensor.grad(logp, model.value_vars)]
    return model.compile_fn(outputs, mode=backend)(point)


RATIOS = [(ratio, False) for ratio in 10.0 ** np.arange(-8, 9, 2)]
# With parameters in the offset, squares are taken about a point that cannot follow them: their
# relative accuracy is about eps·(τ/σ)².
RATIOS += [(ratio, True) for ratio in 10.0 ** np.arange(-8, 5, 2)]


@pytest.mark.parametrize(("ratio", "sampled_mean"), RATIOS)
def test_any_ratio_of_scales(ratio: float, sampled_mean: bool) -> None:
    tau, sigma = ratio, 1.0
    y, group = simulate(tau, sigma)
    model = intercepts(y, group, sampled_mean)
    point = {"tau": np.array(tau), "sigma": np.array(sigma)}
    if sampled_mean:
        point["mean"] = np.array(0.3)
    value, *gradient = value_and_gradient(model, point)
    mean = 0.3 if sampled_mean else 0.0
    assert_allclose(value, float(one_way(y, group, mean, tau, sigma)), rtol=1e-9)
    assert np.isfinite(gradient).all()


def dense_in_extended_precision(y: np.ndarray, V: np.ndarray) -> float:
    """``log Normal(y; 0, V)``, by a Cholesky factorisation in long double."""
    n, L, z = len(y), np.zeros_like(V), np.zeros_like(y)
    for j in range(n):
        L[j, j] = np.sqrt(V[j, j] - (L[j, :j] ** 2).sum())
        L[j + 1 :, j] = (V[j + 1 :, j] - L[j + 1 :, :j] @ L[j, :j]) / L[j, j]
        z[j] = (y[j] - L[j, :j] @ z[:j]) / L[j, j]
    return float(-(z @ z) / 2 - np.log(np.diag(L)).sum() - n * np.log(2 * LONG(np.pi)) / 2)


@pytest.mark.parametrize("ratio", 10.0 ** np.arange(-8, 5, 2))
def test_ratio_of_scales_of_crossed_factors(ratio: float) -> None:
    """A common shift of both factors is known from their priors only: F holds (τ/σ)² and 1."""
    rng = np.random.default_rng(3)
    g, h = np.repeat(np.arange(8), 6), np.tile(np.arange(6), 8)
    y = ratio * (rng.normal(size=8)[g] + rng.normal(size=6)[h]) + rng.normal(size=48)
    with pm.Model() as plain:
        tau = pm.HalfFlat("tau", default_transform=None)
        u = pm.Normal("u", 0.0, tau, shape=8)
        v = pm.Normal("v", 0.0, tau, shape=6)
        pm.Normal("y", u[g] + v[h], 1.0, observed=y)
    value = unfolded(plain).compile_logp(mode="FAST_COMPILE")({"tau": np.array(ratio)})
    Z = (np.r_[g, h + 8].reshape(2, 48, 1) == np.arange(14)).sum(axis=0).astype(LONG)
    V = LONG(ratio) ** 2 * (Z @ Z.T) + np.eye(48, dtype=LONG)
    assert_allclose(value, dense_in_extended_precision(y.astype(LONG), V), rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_between_level_variance(backend: str) -> None:
    y, group = simulate(0.0, 1.0)
    point = {"tau": np.array(0.0), "sigma": np.array(1.1)}
    value, *gradient = value_and_gradient(intercepts(y, group), point, backend)
    assert_allclose(value, float(one_way(y, group, 0.0, 0.0, 1.1)), rtol=1e-12)
    names = [v.name for v in intercepts(y, group).value_vars]
    # The density is even in τ, hence flat at 0.
    assert_allclose(gradient[names.index("tau")], 0.0, atol=1e-12)


def test_scales_that_are_negative() -> None:
    """They have no density in the plain model; a square would not notice."""
    y, group = simulate(1.0, 1.0)
    with pm.Model() as plain:
        tau, sigma = pm.Flat("tau"), pm.Flat("sigma")
        u = pm.Normal("u", 0.0, tau, shape=8)
        pm.Normal("y", u[group], sigma, observed=y)
    logp = unfolded(plain, "u").compile_logp(mode="FAST_COMPILE")
    assert np.isfinite(logp({"tau": np.array(1.0), "sigma": np.array(1.0)}))
    for name in ("tau", "sigma"):
        point = {"tau": np.array(1.0), "sigma": np.array(1.0), name: np.array(-1.0)}
        assert logp(point) == -np.inf


def test_nearly_collinear_columns() -> None:
    """Smooth basis functions with an intercept, as of a Gaussian process: nearly dependent."""
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-1.0, 1.0, size=40))
    y = x + rng.normal(size=40)
    basis = np.sin(np.outer(x / 8 + 1, np.arange(1, 7)) * np.pi / 2)
    assert np.linalg.cond(np.column_stack([np.ones(40), basis])) > 1e6
    with pm.Model() as plain:
        tau = pm.HalfFlat("tau", default_transform=None)
        a = pm.Normal("a", 0.0, 1.0)
        w = pm.Normal("w", 0.0, tau, shape=6)
        pm.Normal("y", a + basis @ w, 1.0, observed=y)
    point = {"tau": np.array(0.7), "a": np.array(0.3), "w": rng.normal(size=6)}
    full = mlmm.conditional(unfolded(plain))
    found, expected = (m.compile_logp(mode="FAST_COMPILE")(point) for m in (full, plain))
    assert_allclose(found, expected, rtol=1e-10)


def test_mean_of_1e8_standard_deviations() -> None:
    y, group = simulate(1.0, 1.0, mean=1e8)
    with pm.Model() as plain:
        tau = pm.HalfFlat("tau", default_transform=None)
        sigma = pm.HalfFlat("sigma", default_transform=None)
        alpha = pm.Flat("alpha")
        u = pm.Normal("u", 0.0, tau, shape=8)
        pm.Normal("y", alpha + u[group], sigma, observed=y)
    point = {"tau": np.array(0.9), "sigma": np.array(1.1)}
    far = unfolded(plain).compile_logp(mode="FAST_COMPILE")(point)
    near = _reml(y - 1e8, group, 0.9, 1.1)
    assert_allclose(far, float(near), rtol=1e-8)


def _reml(y: np.ndarray, group: np.ndarray, tau: float, sigma: float) -> float:
    """∫ of :func:`one_way` over the mean; balanced levels: the mean has a Gaussian integral."""
    at_average = one_way(y, group, float(y.mean()), tau, sigma)
    n_levels, n = len(np.unique(group)), len(y) // len(np.unique(group))
    precision = n_levels * n / (LONG(sigma) ** 2 + n * LONG(tau) ** 2)
    return at_average + np.log(2 * LONG(np.pi) / precision) / 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("correlation", [0.0, 0.9999999, 1.0, -1.0])
def test_any_correlation(correlation: float, backend: str) -> None:
    rng = np.random.default_rng(1)
    group, x = np.repeat(np.arange(6), 5), rng.normal(size=30)
    y = rng.normal(size=30)
    with pm.Model() as plain:
        theta = pm.Flat("theta", shape=3)
        zero = np.zeros(())
        chol = pm.math.stack([pm.math.stack([theta[0], zero]), pm.math.stack([theta[1], theta[2]])])
        u = pm.MvNormal("u", np.zeros(2), chol=chol, shape=(6, 2))
        pm.Normal("y", u[group, 0] + u[group, 1] * x, 0.7, observed=y)
    slope_sd = 1.5
    factor = np.array([0.8, slope_sd * correlation, slope_sd * np.sqrt(1 - correlation**2)])
    value, gradient = value_and_gradient(unfolded(plain), {"theta": factor}, backend)
    L = np.array([[factor[0], 0], factor[1:]])
    Z = np.zeros((30, 12))
    Z[np.arange(30), 2 * group], Z[np.arange(30), 2 * group + 1] = 1, x
    C = Z @ np.kron(np.eye(6), L)
    V = C @ C.T + 0.49 * np.eye(30)
    expected = -0.5 * (y @ np.linalg.solve(V, y) + np.linalg.slogdet(2 * np.pi * V)[1])
    assert_allclose(value, expected, rtol=1e-11)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-6), ("float32", 1e-3)])
def test_conditional_variance_of_a_crowded_level(dtype: str, rtol: float) -> None:
    """1000 rows a level, τ = 500, σ = 1: by subtracting covariances it would come out as 0."""
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(3), 1000)
    with pytensor.config.change_flags(floatX=dtype):
        y = (500 * rng.normal(size=3)[group] + rng.normal(size=3000)).astype(dtype)
        model = intercepts(y, group)
        point = {"tau": np.array(500.0, dtype=dtype), "sigma": np.array(1.0, dtype=dtype)}
        mean, covariance = posterior_of_effects(model, point)["u"]
    variance = 1 / (1000 / 1.0 + 1 / 500.0**2)
    assert_allclose(np.diag(covariance), variance, rtol=rtol)
    assert_allclose(covariance - np.diag(np.diag(covariance)), 0.0, atol=1e-12)
    averages = np.array([y[group == g].astype("float64").mean() for g in range(3)])
    assert_allclose(mean, averages * 1000 * variance, rtol=1e-12 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("ratio", 10.0 ** np.arange(-8, 5, 4))
@pytest.mark.parametrize("backend", ["FAST_COMPILE", "JAX"])
def test_single_precision(ratio: float, backend: str) -> None:
    with pytensor.config.change_flags(floatX="float32"):
        y, group = simulate(ratio, 1.0)
        y = y.astype("float32")
        model = intercepts(y, group)
        point = {"tau": np.array(ratio, dtype="f4"), "sigma": np.array(1.0, dtype="f4")}
        value, *gradient = value_and_gradient(model, point, backend)
    assert value.dtype == np.float32
    assert_allclose(value, float(one_way(y, group, 0.0, ratio, 1.0)), rtol=1e-4)
    assert np.isfinite(gradient).all()


# --- Scales that are too far apart -------------------------------------------------------------


def _far_apart(form: str, live: bool) -> pm.Model:
    rng = np.random.default_rng(5)
    g, h, x = np.repeat(np.arange(8), 6), np.tile(np.arange(6), 8), rng.normal(size=48)
    y = rng.normal(size=48)
    with pm.Model() as model:
        t, s = (pm.HalfNormal(name) for name in ("t", "s"))
        observed = pm.Data("data", y) if live else y
        a = pm.Normal("a", 0, 2)
        u = pm.Normal("u", 0, t, shape=(8, 2))
        if form == "crossed":
            rest = pm.Normal("v", 0, s, shape=6)[h]
        elif form == "nested":
            rest = pm.Normal("v", 0, s, shape=(8, 3))[g, h % 3]
        else:  # a walk, long enough to be banded
            rest = pm.GaussianRandomWalk("v", s, init_dist=pm.Normal.dist(0, s), shape=96)[
                2 * g + h
            ]
        mu = a + u[g, 0] + u[g, 1] * x + rest
        pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=observed)
    return model


@pytest.mark.parametrize(
    ("form", "live", "backend"),
    [
        # Numba compiles each for half a minute.
        pytest.param(form, live, backend, marks=pytest.mark.slow)
        if backend == "NUMBA" and (form, live) != ("crossed", False)
        else (form, live, backend)
        for form in ("crossed", "nested", "banded")
        for live in (False, True)
        for backend in BACKENDS
    ],
)
def test_no_density_above_that_without_residuals(form: str, live: bool, backend: str) -> None:
    """Where no digit is right any more, a density is at least not what a sampler looks for.

    ``V ≥ σ²I`` and squares are not negative, so that the density is at most ``(2πσ²)^(−n/2)``.
    """
    model = unfolded(_far_apart(form, live))
    names = [v.name for v in model.value_vars]
    density = model.compile_fn(model.logp(vars=model["y"]), mode=backend, point_fn=True)
    rng = np.random.default_rng(6)
    found = []
    for spread in (10, 40, 200):
        for _ in range(60):
            point = {name: np.array(rng.uniform(-spread, spread)) for name in names}
            bound = -24 * np.log(2 * np.pi) - 48 * point["sigma_log__"]
            value = density(point)
            assert not np.isnan(value)
            assert value <= bound + 1e-6 * abs(bound) + 1e-3, point
            found.append(value)
    assert np.isfinite(found).mean() > 0.2
