"""The picture of the precision matrix: which blocks are stored how."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.picture import couplings


def test_couplings_in_the_picture() -> None:
    rng = np.random.default_rng(3)
    pupil = rng.integers(300, size=900)

    def nested() -> None:
        u = pm.Normal("u", 0, pm.HalfNormal("su"), shape=300)
        v = pm.Normal("v", 0, pm.HalfNormal("sv"), shape=100)
        pm.Normal("y", pm.Normal("a") + u[pupil] + v[pupil // 3], 1.0, observed=pupil * 1.0)

    def crossed() -> None:
        u = pm.Normal("u", 0, pm.HalfNormal("su"), shape=3000)
        v = pm.Normal("v", 0, pm.HalfNormal("sv"), shape=300)
        of_u, of_v = rng.integers(3000, size=6000), rng.integers(300, size=6000)
        pm.Normal("y", u[of_u] + v[of_v], 1.0, observed=rng.normal(size=6000))

    def walk() -> None:
        start = pm.Normal.dist(0, 1)
        w = pm.GaussianRandomWalk("w", sigma=pm.HalfNormal("sw"), init_dist=start, shape=100)
        own = pm.Normal("own", 0, pm.HalfNormal("so"), shape=100)
        mean = pm.Normal("a") + (w + own)[np.arange(200) // 2]
        pm.Normal("y", mean, 1.0, observed=rng.normal(size=200))

    def kinds(build: Callable[[], None]) -> list[tuple[int, int, str]]:
        with pm.Model() as model:
            build()
        return list(couplings(mlmm.explain(model)._blocks()))

    assert kinds(nested) == [(1, 0, "nested"), (2, 0, "dense"), (2, 1, "dense")]
    assert kinds(crossed) == [(1, 0, "sparse")]
    assert kinds(walk) == [(1, 0, "banded"), (2, 0, "dense"), (2, 1, "dense")]
