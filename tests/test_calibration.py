"""Simulation-based calibration of the whole of ``fit``, recovered effects included.

Parameters and effects are drawn from their prior, data from them; the rank of each among the draws
of its posterior is uniform then, whatever the data (Talts, Betancourt, Simpson, Vehtari and Gelman
2018). One compilation serves all data sets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pymc as pm
import pytest
from scipy.stats import chi2

import pymc_marginal_lmm as mlmm

DRAWS = 99
BINS = 10
G, H = np.repeat(np.arange(8), 6), np.tile(np.arange(6), 8)
X = np.tile(np.linspace(-1, 1, 6), 8)


def slopes() -> None:
    chol, _, _ = pm.LKJCholeskyCov("chol", n=2, eta=2, sd_dist=pm.HalfNormal.dist(1, shape=2))
    u = pm.MvNormal("u", 0, chol=chol, shape=(8, 2))
    mu = pm.Normal("a", 0, 2) + u[G, 0] + (pm.Normal("b", 0, 1) + u[G, 1]) * X
    pm.Normal("y", mu, pm.HalfNormal("sigma", 1), observed=np.zeros(48))


def crossed() -> None:
    u = pm.Normal("u", 0, pm.HalfNormal("tau", 1), shape=8)
    v = pm.Normal("v", 0, pm.Exponential("lam", 1), shape=6)
    b = pm.Laplace("b", 0, 1)
    sigma = pm.Gamma("sigma", 3, 3)
    pm.Normal("y", pm.Normal("a", 0, 2) + u[G] + v[H] + b * X, sigma, observed=np.zeros(48))


def few_levels() -> None:
    """Two levels under a half-Cauchy prior: what data leave wide open."""
    level = np.repeat(np.arange(2), 24)
    w = pm.Normal("w", 0, pm.HalfCauchy("tau", 1), shape=2)
    log_sigma = pm.Normal("log_sigma", 0, 0.5)
    mu = pm.Normal("a", 0, 2) + w[level]
    pm.LogNormal("y", mu, pm.math.exp(log_sigma), observed=np.ones(48))


def ranks(write: Callable[[], None], replicates: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Return ranks of all scalars, ``(replicates, scalars)``, and what ``fit`` warned of."""
    with pm.Model() as model:
        write()
    names = [rv.name for rv in model.free_RVs]
    variables = [model[name] for name in (*names, "y")]
    *truth, data = pm.draw(variables, draws=replicates, random_seed=seed)
    compiled = mlmm.compile_model(model)
    rows, doubts = [], []
    for i in range(replicates):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            posterior = mlmm.fit(
                compiled.with_data(y=data[i]),
                draws=DRAWS,
                chains=1,
                random_seed=seed + i,
                progressbar=False,
            )["posterior"]
        doubts += [str(each.message) for each in caught]
        own = [
            (posterior[name][0] < value[i]).sum("draw")
            for name, value in zip(names, truth, strict=True)
        ]
        rows.append(np.concatenate([np.ravel(rank) for rank in own]))
    return np.array(rows), doubts


def check(write: Callable[[], None], replicates: int, seed: int) -> None:
    found, doubts = ranks(write, replicates, seed)
    assert all("The weights are not reliable" in doubt for doubt in doubts)
    assert len(doubts) <= 0.02 * replicates
    expected = replicates / BINS
    for scalar in range(found.shape[1]):
        counts = np.bincount(found[:, scalar] * BINS // (DRAWS + 1), minlength=BINS)
        # Entries of a Cholesky factor that are 0, or equal, are no scalars of their own.
        if found[:, scalar].max() == 0:
            continue
        p = chi2.sf(((counts - expected) ** 2 / expected).sum(), BINS - 1)
        assert p > 1e-4 / found.shape[1], (scalar, counts)


def test_calibration_of_a_few() -> None:
    check(crossed, 40, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("write", [slopes, crossed, few_levels])
def test_calibration(write: Callable[[], None]) -> None:
    check(write, 500, seed=2)
