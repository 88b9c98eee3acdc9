"""Random designs against a dense covariance matrix that is put together here, from scratch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

from tests.helpers import unfolded

N_ROWS = 24


@dataclass
class Factor:
    """Levels, effects per level, and which variables carry them."""

    codes: np.ndarray
    n_levels: int
    covariates: np.ndarray
    correlated: bool
    chol: np.ndarray
    mean: float

    def covariance(self) -> np.ndarray:
        """``Z (I ⊗ LLᵀ) Zᵀ``."""
        S = self.covariates.shape[1]
        Z = np.zeros((N_ROWS, self.n_levels * S))
        for i, level in enumerate(self.codes):
            Z[i, level * S : (level + 1) * S] = self.covariates[i]
        C = Z @ np.kron(np.eye(self.n_levels), self.chol)
        return C @ C.T

    def mean_rows(self) -> np.ndarray:
        """Rows of the predictor at the effects' prior mean."""
        return self.mean * self.covariates.sum(axis=1)

    def predictor(self, name: str) -> pm.math.sum:
        """Write the factor as a user would, in one of several spellings."""
        S = self.covariates.shape[1]
        if self.correlated:
            mean = np.full(S, self.mean)
            u = pm.MvNormal(name, mean, chol=self.chol, shape=(self.n_levels, S))
            return (u[self.codes] * self.covariates).sum(axis=-1)
        if S == 1 or self.mean:
            u = pm.Normal(name, self.mean, np.diag(self.chol), shape=(self.n_levels, S))
            return sum(u[self.codes, s] * self.covariates[:, s] for s in range(S))
        parts = [
            pm.Normal(f"{name}{s}", 0.0, self.chol[s, s], shape=self.n_levels) for s in range(S)
        ]
        return sum(u[self.codes] * self.covariates[:, s] for s, u in enumerate(parts))


@dataclass
class Design:
    """A model: factors, residual standard deviations by row, data."""

    factors: list[Factor]
    sigma: np.ndarray
    y: np.ndarray
    lognormal: bool

    def model(self) -> pm.Model:
        """Return the model; its one sampled parameter multiplies every sigma."""
        with pm.Model() as model:
            inflation = pm.HalfNormal("inflation", 1.0, default_transform=None)
            mu = sum(f.predictor(f"u{i}_") for i, f in enumerate(self.factors))
            sigma = inflation * (self.sigma if np.ptp(self.sigma) else self.sigma[0])
            response = pm.LogNormal if self.lognormal else pm.Normal
            y = np.exp(self.y) if self.lognormal else self.y
            response("y", mu, sigma, observed=y)
        return model

    def log_density(self, inflation: float) -> float:
        """Return what the marginal model's logp must be, dense."""
        V = sum(f.covariance() for f in self.factors) + np.diag((inflation * self.sigma) ** 2)
        mean = sum(f.mean_rows() for f in self.factors)
        value = multivariate_normal(mean, V).logpdf(self.y)
        value -= self.y.sum() if self.lognormal else 0.0
        return value + 0.5 * np.log(2 / np.pi) - 0.5 * inflation**2


@st.composite
def factors(draw: st.DrawFn, parent: np.ndarray | None) -> Factor:
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    n_levels = draw(st.integers(1, 7))
    used = draw(st.integers(1, n_levels))  # the others are empty
    codes = rng.integers(used, size=N_ROWS)
    if parent is not None and draw(st.booleans()):  # nested: levels within levels
        codes = np.unique(parent * used + codes, return_inverse=True)[1]
        n_levels = int(codes.max()) + 1 + draw(st.integers(0, 2))
    S = draw(st.integers(1, 3))
    covariates = np.column_stack([np.ones(N_ROWS), rng.normal(size=(N_ROWS, 2))])[:, :S]
    correlated = draw(st.booleans())
    chol = np.tril(rng.normal(size=(S, S)))
    np.fill_diagonal(chol, np.exp(rng.normal(size=S)))
    if not correlated:
        chol = np.diag(np.diag(chol))
    mean = draw(st.sampled_from([0.0, 0.0, 1.5]))
    return Factor(codes, n_levels, covariates, correlated, chol, mean)


@st.composite
def designs(draw: st.DrawFn) -> Design:
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    chosen: list[Factor] = []
    for _ in range(draw(st.integers(1, 3))):
        chosen.append(draw(factors(chosen[-1].codes if chosen else None)))
    kind = draw(st.sampled_from(["scalar", "stratum", "row"]))
    stratum = rng.integers(3, size=N_ROWS)
    sigma = {
        "scalar": np.full(N_ROWS, 0.8),
        "stratum": np.array([0.5, 1.0, 1.7])[stratum],
        "row": np.exp(0.3 * rng.normal(size=N_ROWS)),
    }[kind]
    return Design(chosen, sigma, rng.normal(size=N_ROWS), draw(st.booleans()))


def check(design: Design, backend: str = "FAST_COMPILE") -> None:
    marginal = unfolded(design.model())
    assert [rv.name for rv in marginal.free_RVs] == ["inflation"]
    logp = marginal.logp()
    function = marginal.compile_fn(
        [logp, pytensor.grad(logp, marginal.value_vars[0])], mode=backend
    )
    value, slope = function({"inflation": np.array(1.2)})
    assert_allclose(value, design.log_density(1.2), rtol=1e-10)
    h = 1e-3
    f = [design.log_density(1.2 + k * h) for k in (-2, -1, 1, 2)]
    assert_allclose(slope, (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h), rtol=1e-6, atol=1e-7)


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}


@settings(max_examples=60, **QUIET)
@given(designs())
def test_random_designs(design: Design) -> None:
    check(design)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["FAST_COMPILE", "JAX"])
def test_many_random_designs(backend: str) -> None:
    @settings(max_examples=600 if backend == "FAST_COMPILE" else 100, **QUIET)
    @given(designs())
    def run(design: Design) -> None:
        check(design, backend)

    run()
