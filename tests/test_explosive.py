"""Autoregressions that explode, against a filter that meets no large numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pytensor.graph.replace import graph_replace

import pymc_marginal_lmm as mlmm
from tests.helpers import BACKENDS, unfolded


def filtered(
    y: np.ndarray,
    lags: Sequence[float],
    sigma: float,
    sd: float,
    mean: float = 0.0,
    constant: float = 0.0,
    noise: float = 1.0,
) -> float:
    """Return the log density of a noisy autoregression; NaN is not observed."""
    p, total = len(lags), 0.0
    state = np.full(p, mean)  # the last p values, the oldest first
    covariance = sd**2 * np.eye(p)
    F = np.eye(p, k=1)
    F[-1] = lags[::-1]
    for t in range(len(y)):
        if t >= p:
            state = F @ state
            state[-1] += constant
            covariance = F @ covariance @ F.T
            covariance[-1, -1] += sigma**2
        at = min(t, p - 1)
        if np.isnan(y[t]):
            continue
        variance, error = covariance[at, at] + noise**2, y[t] - state[at]
        total -= 0.5 * (error**2 / variance + np.log(2 * np.pi * variance))
        gain = covariance[:, at] / variance
        state = state + gain * error
        # Joseph's form: nothing cancels.
        K = np.eye(p)
        K[:, at] -= gain
        covariance = K @ covariance @ K.T + noise**2 * np.outer(gain, gain)
    return total


def series(T: int, p: int = 1, constant: bool = False, mean: float = 0.0) -> pm.Model:
    y = np.random.default_rng(1).normal(size=T)
    with pm.Model() as model:
        rho = pm.Normal("rho", 0, 1, shape=p + constant)
        sigma = pm.HalfNormal("sigma")
        init = pm.Normal.dist(mean, 0.8, shape=p)
        v = pm.AR("v", rho, sigma=sigma, init_dist=init, constant=constant, shape=T)
        pm.Normal("y", v, 1, observed=y)
    return model


LAGS = {1: ([0.9], [1.2], [1.5], [2.0], [-3.0], [5.0]), 2: ([0.5, 0.3], [1.9, 0.5], [-1.0, 2.0])}
LAGS[3] = ([0.2, 0.3, -0.2], [2.9, -2.9, 1.1], [0.5, 1.5, 2.0])


@pytest.mark.parametrize("mean, constant", [(0.0, None), (0.7, -0.4)])
@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("T", [9, 40, 90])
def test_density(T: int, p: int, mean: float, constant: float | None) -> None:
    model = series(T, p, constant is not None, mean)
    marginal = unfolded(model, ["v"])
    logp = marginal.compile_logp(mode="FAST_COMPILE", sum=False)
    y = model.rvs_to_values[model["y"]].data
    for lags in LAGS[p]:
        for sigma in (1.0, 0.1, 3.0):
            rho = np.array([*([] if constant is None else [constant]), *lags])
            value = logp({"rho": rho, "sigma_log__": np.log(sigma)})[-1]
            expected = filtered(y, lags, sigma, 0.8, mean, constant or 0.0)
            assert_allclose(value, expected, rtol=1e-9, err_msg=f"{lags} {sigma}")


def observed_until(T: int, seen: int) -> pm.Model:
    y = np.random.default_rng(2).normal(size=seen)
    with pm.Model() as model:
        rho, sigma = pm.Normal("rho", 0, 1), pm.HalfNormal("sigma")
        v = pm.AR("v", [rho], sigma=sigma, init_dist=pm.Normal.dist(0.5, 0.8), shape=T)
        pm.Normal("y", v[:seen], 1, observed=y)
    return model


@pytest.mark.parametrize("T", [30, 80])
@pytest.mark.parametrize("unseen", [1, 7, 20])
def test_until_where(T: int, unseen: int) -> None:
    """Steps ahead without data: exact up to a growth of 1e5, and then no density at all."""
    model = observed_until(T, T - unseen)
    logp = unfolded(model, ["v"]).compile_logp(mode="FAST_COMPILE", sum=False)
    y = model.rvs_to_values[model["y"]].data
    for growth in (1.1, 1e3, 0.99e5, 1.01e5):
        rho = growth ** (1 / unseen)
        value = logp({"rho": np.array(rho), "sigma_log__": 0.2})[-1]
        expected = filtered(y, [rho], np.exp(0.2), 0.8, 0.5)
        if growth < 1e5:
            assert_allclose(value, expected, rtol=1e-7)
        else:
            assert value == -np.inf


def test_hardly_any_steps() -> None:
    """The first form serves where steps are small, the second where growth is large."""
    model = observed_until(40, 40)
    logp = unfolded(model, ["v"]).compile_logp(mode="FAST_COMPILE", sum=False)
    y = model.rvs_to_values[model["y"]].data
    for growth in (5.0, 30.0, 100.0, 300.0, 0.99e3, 1.01e3, 1e5, 1e20):
        rho = growth ** (1 / 39)
        ratios = (1.0, growth, 29.0 * growth, 31.0 * growth, 0.99e5, 1.01e5, 1e12, np.inf)
        for sigma in 0.8 / np.array(ratios):
            with np.errstate(divide="ignore"):
                value = logp({"rho": np.array(rho), "sigma_log__": np.log(sigma)})[-1]
            if growth > 1e3 and sigma < 0.8e-5:
                assert value == -np.inf
            else:
                expected = filtered(y, [rho], sigma, 0.8, 0.5)
                assert_allclose(value, expected, rtol=1e-6, err_msg=f"{growth} {sigma}")


def hierarchy() -> pm.Model:
    """A mean that is integrated out too: the first form everywhere."""
    y = np.random.default_rng(3).normal(size=80)
    with pm.Model() as model:
        rho = pm.Normal("rho", 0, 1)
        mu = pm.Normal("mu", 0, 2)
        v = pm.AR("v", [rho], sigma=0.7, init_dist=pm.Normal.dist(mu, 0.8), shape=80)
        pm.Normal("y", v, 1, observed=y)
    return model


def test_a_mean_that_is_integrated_out() -> None:
    model = hierarchy()
    both, one = (unfolded(model, names) for names in (["v", "mu"], ["v"]))
    y = model.rvs_to_values[model["y"]].data
    logp, given = (m.compile_logp(mode="FAST_COMPILE", sum=False) for m in (both, one))
    for growth in (0.1, 1e2, 0.9e3, 1.1e3):
        rho = np.array(growth ** (1 / 79))
        # The start has the variance of both.
        expected = filtered(y, [float(rho)], 0.7, np.hypot(0.8, 2.0))
        value = logp({"rho": rho})[-1]
        assert_allclose(value, expected if growth < 1e3 else -np.inf, rtol=1e-6)
        own = given({"rho": rho, "mu": np.array(0.6)})[-1]
        assert_allclose(own, filtered(y, [float(rho)], 0.7, 0.8, 0.6), rtol=1e-9)


def test_what_has_to_stay_dense() -> None:
    """Lags of each series: exact up to a growth of 1e4."""
    T, y = 30, np.random.default_rng(4).normal(size=(2, 30))
    with pm.Model() as model:
        rho = pm.Normal("rho", 0, 1, shape=(2, 1))
        v = pm.AR("v", rho, sigma=0.7, init_dist=pm.Normal.dist(0.5, 0.8), shape=(2, T))
        pm.Normal("y", v, 1, observed=y)
    logp = unfolded(model, ["v"]).compile_logp(mode="FAST_COMPILE", sum=False)
    for growth in (0.1, 1e2, 0.99e4, 1.01e4):
        lags = (0.8, growth ** (1 / (T - 1)))
        value = logp({"rho": np.array(lags)[:, None]})[-1]
        expected = sum(
            filtered(own, [lag], 0.7, 0.8, 0.5) for own, lag in zip(y, lags, strict=True)
        )
        assert_allclose(value, expected if growth < 1e4 else -np.inf, rtol=1e-8)


@pytest.mark.parametrize("p", [1, 2])
def test_product_with_the_conditional(p: int) -> None:
    """Of several series with means, also where the first values are among the ``x``."""
    T, y = 20, np.random.default_rng(5).normal(size=(2, 20))
    with pm.Model() as plain:
        rho = pm.Normal("rho", 0, 1, shape=p + 1)
        sigma, sd = pm.HalfNormal("sigma", shape=2), pm.HalfNormal("sd", shape=2)
        init = pm.Normal.dist(0.3, sd[:, None], shape=(2, p))
        v = pm.AR("v", rho, sigma=sigma, init_dist=init, constant=True, shape=(2, T))
        pm.Normal("y", 0.5 * v[:, :-1], pm.HalfNormal("noise"), observed=y[:, :-1])
    full = mlmm.conditional(unfolded(plain, ["v"]))
    joint, product = (m.compile_logp(mode="FAST_COMPILE") for m in (plain, full))
    point = plain.initial_point()
    rng = np.random.default_rng(6)
    for lag in (0.3, 1.3, 2.0, -2.5):
        point |= {name: rng.normal(0, 0.5, np.shape(x)) for name, x in point.items()}
        point["rho"] = np.array([0.4, lag, *[0.1] * (p - 1)])
        assert_allclose(product(point), joint(point), rtol=1e-9)


@pytest.mark.parametrize(
    "backend",  # the walks of test_banded.py run on numba too
    [pytest.param(b, marks=pytest.mark.slow if b == "NUMBA" else ()) for b in BACKENDS],
)
def test_gradient(backend: str) -> None:
    """Also where powers of the lag overflow, and where the two forms meet."""
    model = series(90, 1, True, 0.7)
    y = model.rvs_to_values[model["y"]].data
    marginal = unfolded(model, ["v"])
    gradient = marginal.compile_dlogp(mode=backend)

    def density(log_lag: float, constant: float, log_sigma: float) -> float:
        return filtered(y, [np.exp(log_lag)], np.exp(log_sigma), 0.8, 0.7, constant)

    for lag in (0.5, 1e3 ** (1 / 89), 1.4, 5e3):
        at = np.array([np.log(lag), -0.4, 0.1])
        rho = np.array([-0.4, lag])
        found = gradient({"rho": rho, "sigma_log__": np.array(0.1)})
        of_priors = [-lag, 0.4, 1 - np.exp(0.2)]
        found = (np.asarray(found)[[1, 0, 2]] - of_priors) * [lag, 1, 1]
        steps = 1e-4 * np.eye(3)
        numeric = [(density(*(at + step)) - density(*(at - step))) / 2e-4 for step in steps]
        assert_allclose(found, numeric, rtol=1e-5, atol=1e-5, err_msg=f"{lag}")


def test_scales_are_folded() -> None:
    model = series(20, 1, True, 0.7)
    marginal = mlmm.marginalize(model, ["v"])
    name = marginal.rvs_to_values[marginal["sigma"]].name
    assert name != "sigma_log__"
    logp = marginal.compile_logp(mode="FAST_COMPILE")
    for lag in (0.5, 2.0):
        point = {"rho": np.array([0.3, lag])}
        values = [logp(point | {name: np.array(x)}) for x in (1.3, -1.3)]
        assert_allclose(*values, rtol=1e-12)


def test_draws() -> None:
    """Means and variances of a path that explodes, seen and unseen."""
    T, rho, sigma, sd, noise = 25, 1.9, 0.6, 0.8, 0.5
    y = np.random.default_rng(7).normal(size=T)
    with pm.Model() as model:
        lag = pm.Normal("lag", 1.5, 1)
        v = pm.AR("v", [lag], sigma=sigma, init_dist=pm.Normal.dist(0.4, sd), shape=T)
        pm.Normal("y", v[: T - 2], noise, observed=y[: T - 2])
    full = mlmm.conditional(unfolded(model, ["v"]))
    data = pt.constant(y[: T - 2])
    (draw,) = graph_replace(
        [full["v"]], {full["lag"]: pt.constant(rho), full["y"]: data}, strict=False
    )
    draws = pm.draw(draw, draws=2000, random_seed=1, mode="FAST_COMPILE")
    B = np.eye(T) - rho * np.eye(T, k=-1)
    weights = np.r_[1 / sd**2, np.full(T - 1, 1 / sigma**2)]
    H = B.T @ (weights[:, None] * B) + np.diag(np.r_[np.ones(T - 2), 0, 0]) / noise**2
    linear = B.T @ (weights * np.r_[0.4, np.zeros(T - 1)]) + np.r_[y[: T - 2], 0, 0] / noise**2
    sds = np.sqrt(np.diag(np.linalg.inv(H)))
    assert np.abs((draws.mean(axis=0) - np.linalg.solve(H, linear)) / sds).max() < 4 / 2000**0.5
    assert_allclose(draws.std(axis=0), sds, rtol=0.08)
