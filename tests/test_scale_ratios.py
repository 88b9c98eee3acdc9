"""Random models of one factor whose scales are far from the residual's, against eighty digits.

Where coefficients are flat, or their priors wide, data say of them what they say of the means of
the effects: under ``τ ≫ σ`` the sixteen digits of a difference are soon used up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pymc as pm
import pytensor
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import pymc_marginal_lmm as mlmm
from tests.decimals import derivative, exact, log_density
from tests.helpers import BACKENDS, posterior_of_effects, unfolded

KINDS = ("one", "slope", "by level", "year", "zero in some levels")


@dataclass(frozen=True)
class Layout:
    """``n`` rows of ``M`` levels with ``S`` effects, and columns with flat or wide priors."""

    seed: int
    M: int
    n: int
    S: int
    kinds: tuple[str, ...]
    wide: tuple[float | None, ...]
    weighted: bool
    log_ratio: float

    @property
    def tau(self) -> float:
        return float(10.0**self.log_ratio)

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return codes, covariate, columns, numbers of sigma, and responses."""
        rng = np.random.default_rng(self.seed)
        M, n = self.M, self.n
        g = np.sort(np.r_[np.arange(M), rng.integers(M, size=n - M)])
        x = rng.normal(size=n)
        columns = {
            "one": np.ones(n),
            "slope": x,
            "by level": rng.normal(size=M)[g],
            "year": rng.integers(1990, 2021, size=n).astype("float64"),
            "zero in some levels": rng.normal(size=n) * (g > 1),
        }
        X = np.stack([columns[kind] for kind in self.kinds], axis=1)
        sigma = 0.5 + rng.random(n) if self.weighted else np.ones(n)
        u = self.tau * rng.normal(size=(M, 2))
        y = X @ rng.normal(size=X.shape[1]) + u[g, 0] + sigma * rng.normal(size=n)
        if self.S == 2:
            y += u[g, 1] * x
        return g, x, X, sigma, y

    def build(self) -> pm.Model:
        g, x, X, sigma, y = self.arrays()
        with pm.Model() as model:
            tau = pm.HalfFlat("tau", default_transform=None)
            mean = 0.0
            for k, scale in enumerate(self.wide):
                b = pm.Flat(f"b{k}") if scale is None else pm.Normal(f"b{k}", 0.0, scale)
                mean += b * X[:, k]
            if self.S == 1:
                mean += pm.Normal("u", 0.0, tau, shape=self.M)[g]
            else:
                u = pm.MvNormal("u", np.zeros(2), chol=tau * ROOT, shape=(self.M, 2))
                mean += u[g, 0] + u[g, 1] * x
            pm.Normal("y", mean, sigma, observed=y)
        return model

    def reference(self, tau: Decimal) -> Decimal:
        g, x, X, sigma, y = self.arrays()
        Z = np.eye(self.M)[g]
        scales = exact(ROOT) * tau
        columns = [exact(Z) * scales[0, 0]]
        if self.S == 2:
            slopes = exact(Z * x[:, None])
            columns = [columns[0] + slopes * scales[1, 0], slopes * scales[1, 1]]
        flat = np.array([scale is None for scale in self.wide])
        columns += [exact(X[:, [k]] * s) for k, s in enumerate(self.wide) if s is not None]
        return log_density(y, X[:, flat], np.concatenate(columns, axis=1), sigma)


ROOT = np.array([[1.0, 0.0], [0.5, 0.75]])


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    M = draw(st.integers(5, 9))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3, unique=True))
    wide = [draw(st.sampled_from([None, None, 5.0, 1e6])) for _ in kinds]
    return Layout(
        seed=draw(st.integers(0, 999)),
        M=M,
        n=draw(st.integers(3 * M, 30)),
        S=draw(st.sampled_from([1, 1, 2])),
        kinds=tuple(kinds),
        wide=tuple(wide),
        weighted=draw(st.booleans()),
        log_ratio=draw(st.sampled_from([8.0, -8.0, 0.0, 3.0, 5.5, 7.0])),
    )


def check(layout: Layout, backend: str = "FAST_COMPILE") -> None:
    """Compare the density, and its gradient on the logarithmic scale."""
    marginal = unfolded(layout.build())
    assert [rv.name for rv in marginal.free_RVs] == ["tau"]
    logp = marginal.logp(vars=[marginal["y"]])
    outputs = [logp, pytensor.grad(logp, marginal.value_vars[0])]
    value, slope = marginal.compile_fn(outputs, mode=backend)({"tau": np.array(layout.tau)})
    assert_allclose(value, float(layout.reference(Decimal(layout.tau))), rtol=1e-8)
    expected = float(derivative(layout.reference, layout.tau))
    assert_allclose(slope * layout.tau, expected * layout.tau, rtol=1e-7, atol=1e-7)


PROFILE = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(PROFILE, max_examples=40, derandomize=True, database=None)
@given(layouts())
def test_random_scale_ratios(layout: Layout) -> None:
    check(layout)


@pytest.mark.slow
@settings(PROFILE, max_examples=1000, print_blob=True)
@given(layouts())
def test_many_random_scale_ratios(layout: Layout) -> None:
    check(layout)


STEEP = Layout(1, 6, 30, 2, ("one", "slope", "by level"), (None, None, 1e6), True, 8.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend(backend: str) -> None:
    check(STEEP, backend)


@pytest.mark.parametrize("log_ratio", [0.0, 4.0, 8.0])
def test_conditional_and_draws(log_ratio: float) -> None:
    """A balanced layout: the mean has posterior variance ``(τ² + σ²/n)/M``, the slope its own."""
    M, n = 6, 5
    g, x = np.repeat(np.arange(M), n), np.tile(np.linspace(-1.0, 1.0, n), M)
    tau = 10.0**log_ratio
    rng = np.random.default_rng(2)
    u = tau * rng.normal(size=M)
    y = u[g] + 2.0 * x + rng.normal(size=M * n)
    with pm.Model() as model:
        sd = pm.HalfFlat("tau", default_transform=None)
        mean = pm.Flat("a") + pm.Flat("b") * x + pm.Normal("u", 0.0, sd, shape=M)[g]
        pm.Normal("y", mean, 1.0, observed=y)
    marginal = unfolded(model)
    point = {"tau": np.array(tau)}
    posterior = posterior_of_effects(marginal, point)
    (a, var_a), (b, var_b) = posterior["a"], posterior["b"]
    assert_allclose(var_a, (tau**2 + 1 / n) / M, rtol=1e-9)
    assert_allclose(a, y.mean(), atol=1e-9 * tau)
    assert_allclose(var_b, 1 / (x @ x), rtol=1e-9)
    assert_allclose(b, x @ y / (x @ x), rtol=1e-7)
    own = y.reshape(M, n).mean(axis=1) - 0.3 * tau
    full = mlmm.conditional(marginal)
    point |= {"a": np.array(0.3 * tau), "b": np.array(2.1), "u": own}
    found, expected = (m.compile_logp(mode="FAST_COMPILE")(point) for m in (full, model))
    assert_allclose(found, expected, rtol=1e-8)


def crossed(tau: pm.Distribution, X: np.ndarray) -> pm.Distribution:
    g, h = np.repeat(np.arange(6), 5), np.tile(np.arange(5), 6)
    u, v = pm.Normal("u", 0.0, tau, shape=6), pm.Normal("v", 0.0, tau, shape=5)
    return X @ pm.Flat("b", shape=2) + u[g] + v[h]


def nested(tau: pm.Distribution, X: np.ndarray) -> pm.Distribution:
    g, h = np.repeat(np.arange(6), 5), np.repeat(np.arange(2), 15)
    u, v = pm.Normal("u", 0.0, tau, shape=6), pm.Normal("v", 0.0, tau, shape=2)
    return X @ pm.Flat("b", shape=2) + u[g] + v[h]


@pytest.mark.parametrize("strata", [False, True])
@pytest.mark.parametrize("form", [crossed, nested])
@pytest.mark.parametrize("ratio", [1e2, 1e4])
def test_relative_accuracy_of_other_forms(form: Callable, strata: bool, ratio: float) -> None:
    """Crossed and nested factors, and several sigmas: about ``1e-16 (τ/σ)²``, as README says."""
    rng = np.random.default_rng(6)
    X = np.stack([np.ones(30), rng.normal(size=30)], axis=1)
    first, second = np.repeat(np.arange(6), 5), np.tile(np.arange(5), 6)
    if form is nested:
        second = np.repeat(np.arange(2), 15)
    Z = np.concatenate([np.eye(6)[first], np.eye(second.max() + 1)[second]], axis=1)
    y = ratio * Z @ rng.normal(size=Z.shape[1]) + rng.normal(size=30)
    half = np.arange(30) % 2
    with pm.Model() as model:
        tau = pm.HalfFlat("tau", default_transform=None)
        sigma = pm.HalfFlat("sigma", default_transform=None, shape=2)
        pm.Normal("y", form(tau, X), sigma[half] if strata else sigma[0], observed=y)
    marginal = unfolded(model)
    point = {"tau": np.array(ratio), "sigma": np.array([1.0, 1.5])}
    found = marginal.compile_logp(vars=[marginal["y"]], mode="FAST_COMPILE")(point)
    sigmas = point["sigma"][half] if strata else np.ones(30)
    expected = float(log_density(y, X, exact(Z) * Decimal(ratio), sigmas))
    assert_allclose(found, expected, rtol=max(1e-15 * ratio**2, 1e-12))
