"""Effects whose prior is a process in time, in space, or over the cells of a table."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from scipy import sparse

from tests.models.registry import Rows, canonical, scales

RING = np.roll(np.eye(6), 1, axis=0) + np.roll(np.eye(6), -1, axis=0)


@canonical("drift", "walk", tags=("correlated", "hierarchical"))
def random_walk_with_drift() -> None:
    data = Rows()
    time = data.index(7)
    sigma, step = scales("sigma", "step")
    drift = pm.Normal("drift", 0.0, 0.5)
    start = pm.Normal.dist(1.0, 0.7)
    walk = pm.GaussianRandomWalk("walk", mu=drift, sigma=step, init_dist=start, steps=6)
    pm.Normal("y", (walk - walk.mean())[time] + walk[time] * data.x, sigma, observed=data.y)


@canonical("walks", tags=("correlated",))
def random_walk_by_group() -> None:
    data = Rows(n=40)
    g, time = data.index(4), data.index(3)
    (sigma,) = scales("sigma")
    steps = pm.HalfNormal("steps", 1.0, shape=4)
    start = pm.Normal.dist(0.0, 1.0)
    walks = pm.GaussianRandomWalk("walks", sigma=steps, init_dist=start, shape=(4, 3))
    pm.Normal("y", walks[g, time], sigma, observed=data.y)


@canonical("walk", tags=("correlated",))
def random_walk_of_pairs() -> None:
    data = Rows()
    time = data.index(4)
    sigma, step = scales("sigma", "step")
    chol = step * pt.as_tensor(np.array([[1.0, 0.0], [-0.5, 0.8]]))
    start = pm.MvNormal.dist(np.array([1.0, 0.0]), np.array([[1.0, 0.3], [0.3, 0.5]]))
    walk = pm.MvGaussianRandomWalk(
        "walk", mu=np.array([0.0, 0.2]), chol=chol, init_dist=start, steps=3
    )
    pm.Normal("y", walk[time, 0] + walk[time, 1] * data.x, sigma, observed=data.y)


@canonical("ar", "beta", tags=("correlated",))
def autoregression() -> None:
    data = Rows()
    time = data.index(8)
    sigma, innovation = scales("sigma", "innovation")
    rho = pm.Uniform("rho", -1.0, 1.0)
    start = pm.Normal.dist(0.0, innovation / pt.sqrt(1 - rho**2))
    ar = pm.AR("ar", rho=[rho], sigma=innovation, init_dist=start, shape=8)
    beta = pm.Normal("beta", 0.0, 2.0, shape=2)
    pm.Normal("y", data.design(2) @ beta + ar[time], sigma, observed=data.y)


@canonical("level", "ars", tags=("correlated", "hierarchical"))
def autoregressions_of_second_order() -> None:
    # Around a level, which the constant term gives a Normal prior.
    data = Rows(n=40)
    g, time = data.index(3), data.index(5)
    sigma, innovation = scales("sigma", "innovation")
    level = pm.Normal("level", 0.5, 1.0)
    lags = pm.Uniform("lags", -0.8, 0.8, shape=2)
    rho = pt.stack([level, lags[0], lags[1]])
    start = pm.Normal.dist(level, 1.0)
    ars = pm.AR("ars", rho=rho, sigma=innovation, constant=True, init_dist=start, shape=(3, 5))
    pm.Normal("y", ars[g, time], sigma, observed=data.y)


@canonical("plots", tags=("correlated",))
def matrix_of_plots() -> None:
    data = Rows()
    row, column = data.index(3), data.index(4)
    sigma, tau = scales("sigma", "tau")
    near = np.exp(-np.abs(np.subtract.outer(np.arange(4), np.arange(4))))
    rows = tau * pt.as_tensor(np.array([[1.0, 0.0, 0.0], [0.5, 0.9, 0.0], [0.0, 0.2, 1.0]]))
    plots = pm.MatrixNormal("plots", mu=0.5, rowchol=rows, colcov=near)
    pm.Normal("y", plots[row, column], sigma, observed=data.y)


@canonical("field", tags=("correlated",))
def kronecker_field() -> None:
    data = Rows()
    cell = data.index(6)
    sigma, tau, nugget = scales("sigma", "tau", "nugget")
    covs = [tau**2 * pt.as_tensor(np.eye(2) + 0.3), np.eye(3) + 0.2]
    field = pm.KroneckerNormal("field", mu=np.arange(6.0), covs=covs, sigma=nugget)
    pm.Normal("y", field[cell], sigma, observed=data.y)


@canonical("area", tags=("correlated",))
def conditional_autoregression() -> None:
    data = Rows()
    at = data.index(6)
    (sigma,) = scales("sigma")
    alpha, tau = pm.Beta("alpha", 2.0, 2.0), pm.Gamma("tau", 2.0, 2.0)
    area = pm.CAR("area", mu=np.ones(6), W=sparse.csr_matrix(RING), alpha=alpha, tau=tau)
    pm.Normal("y", area[at], sigma, observed=data.y)
