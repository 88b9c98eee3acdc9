"""The unit of folded scales: what data say of the size of effects."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose

import pymc_marginal_lmm as mlmm

rng = np.random.default_rng(1)
g = np.repeat(np.arange(4), [2, 4, 6, 8])
x, y = rng.normal(size=20), rng.normal(3.0, 2.0, size=20)


def unit(model: pm.Model, name: str) -> np.ndarray:
    marginal = mlmm.marginalize(model)
    return marginal.rvs_to_transforms[marginal[name]].fold.unit


@pytest.mark.parametrize("noncentred", [False, True])
def test_one_effect(noncentred: bool) -> None:
    with pm.Model() as model:
        tau = pm.HalfCauchy("tau", 1)
        u = tau * pm.Normal("u", shape=4) if noncentred else pm.Normal("u", 0, tau, shape=4)
        pm.Normal("y", u[g], 1.0, observed=y)
    assert_allclose(unit(model, "tau"), y.std() / np.sqrt(20 / 4))


def test_each_row_of_a_factor_has_its_own() -> None:
    with pm.Model() as model:
        sd = pm.HalfNormal.dist(1, shape=2)
        chol, _, _ = pm.LKJCholeskyCov("chol", n=2, eta=2, sd_dist=sd)
        u = pm.MvNormal("u", np.zeros(2), chol=chol, shape=(4, 2))
        pm.LogNormal("y", u[g, 0] + x * u[g, 1], 1.0, observed=np.exp(y))
    expected = y.std() / np.sqrt([20 / 4, (x**2).sum() / 4])
    assert_allclose(unit(model, "chol"), expected)


def test_the_smallest_counts_and_levels_without_data_do_not() -> None:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1)
        u, v = pm.Normal("u", 0, tau, shape=9), pm.Normal("v", 0, tau, shape=2)
        pm.Normal("y", u[g] + v[g % 2], 1.0, observed=y)
    assert_allclose(unit(model, "tau"), y.std() / np.sqrt(20 / 2))


def test_without_numbers_the_prior_counts() -> None:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1)
        z = pm.Data("z", x)
        u = pm.Normal("u", 0, tau, shape=4)
        pm.Normal("y", u[g] * z, 1.0, observed=y)
    assert unit(model, "tau") is None


def test_the_unit_changes_no_density() -> None:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 1.5)
        u = pm.Normal("u", 0, tau, shape=4)
        pm.Normal("y", u[g], 1.0, observed=y)
    folded, plain = (mlmm.marginalize(model, fold_scales=fold) for fold in (True, False))
    transform = folded.rvs_to_transforms[folded["tau"]]
    s = 1 / (1 / transform.fold.unit + 1 / 1.5)
    for at in (-2.0, 1e-3, 0.7, 5.0):
        value = 1.5 * np.arcsinh(s * abs(np.sinh(at)) / 1.5)
        slope = s * np.cosh(at) / np.cosh(value / 1.5)
        here = folded.compile_logp(mode="FAST_COMPILE")({"tau_fold__": np.array(at)})
        there = plain.compile_logp(mode="FAST_COMPILE", jacobian=False)(
            {"tau_log__": np.log(value)}
        )
        assert_allclose(here, there + np.log(0.5 * slope), rtol=1e-10)
