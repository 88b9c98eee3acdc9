"""Prior and likelihood sensitivity by power scaling, against refits and densities on a grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pymc as pm
import pytest
from arviz_stats import psense, psense_summary
from arviz_stats.psense import power_scale_dataset
from numpy.testing import assert_allclose
from pymc.stats import compute_log_likelihood, compute_log_prior
from scipy.stats import halfnorm, multivariate_normal, norm
from xarray import Dataset, DataTree

import pymc_marginal_lmm as mlmm
from tests.helpers import INTERPRETER

UNCOMPILED = {"mode": INTERPRETER}
rng = np.random.default_rng(3)
GROUP = np.repeat(np.arange(4), 3)
Y = 2.0 + 0.7 * rng.normal(size=4)[GROUP] + rng.normal(size=12)


def build(alpha: float = 1.0, a_sd: float = 0.5) -> pm.Model:
    """Return a model whose priors are raised to the power ``alpha``."""
    with pm.Model(coords={"group": range(4)}) as model:
        a = pm.Normal("a", 0, a_sd / np.sqrt(alpha))
        u = pm.Normal("u", 0, pm.HalfNormal("tau", 1 / np.sqrt(alpha)), dims="group")
        pm.Normal("y", a + u[GROUP], 1.0, observed=Y)
    return model


def with_log_densities(idata: DataTree, marginal: pm.Model) -> DataTree:
    compute_log_prior(idata, model=marginal, progressbar=False, compile_kwargs=UNCOMPILED)
    return mlmm.compute_log_likelihood(idata, model=marginal, leave_out=None, progressbar=False)


@pytest.fixture(scope="module")
def fitted() -> DataTree:
    """Draws of a model, all of whose effects and coefficients were integrated out."""
    idata = mlmm.fit(build(), random_seed=1, progressbar=False)
    return with_log_densities(idata, mlmm.marginalize(build(), ["u"]))


def on_a_grid(prior: float, likelihood: float) -> dict[str, float]:
    """Return the posterior means under powers of prior and likelihood, by sums over a grid."""
    a, tau = np.linspace(-2, 4, 161), np.linspace(0.0125, 5, 160)
    same = np.equal.outer(GROUP, GROUP)
    log_p = np.empty((a.size, tau.size))
    for j, t in enumerate(tau):
        rows = multivariate_normal(np.zeros(12), np.eye(12) + t**2 * same)
        log_p[:, j] = likelihood * rows.logpdf(Y - a[:, None])
    log_p += prior * (norm(0, 0.5).logpdf(a)[:, None] + halfnorm(0, 1).logpdf(tau))
    p = np.exp(log_p - log_p.max())
    return {"a": (p.sum(1) @ a) / p.sum(), "tau": (p.sum(0) @ tau) / p.sum()}


def test_densities_are_those_of_the_marginal_model(fitted: DataTree) -> None:
    """By SciPy: the prior of what is sampled, and the likelihood given only that."""
    a, tau = (fitted["posterior"][name].values for name in ("a", "tau"))
    prior, likelihood = fitted["log_prior"], fitted["log_likelihood"]
    assert [*likelihood.data_vars] == ["y_marginal"]
    assert sorted(prior.data_vars) == ["a", "tau"]
    assert_allclose(prior["a"], norm(0, 0.5).logpdf(a), rtol=1e-10)
    assert_allclose(prior["tau"], halfnorm(0, 1).logpdf(tau), rtol=1e-10)
    assert likelihood["y_marginal"].dims == ("chain", "draw")
    same = np.equal.outer(GROUP, GROUP)
    for chain, draw in ((0, 0), (2, 500), (3, 999)):
        V = np.eye(12) + tau[chain, draw] ** 2 * same
        expected = multivariate_normal(np.full(12, a[chain, draw]), V).logpdf(Y)
        assert_allclose(likelihood["y_marginal"][chain, draw], expected, rtol=1e-9)


@pytest.mark.parametrize("group", ["prior", "likelihood"])
def test_power_scaled_means(fitted: DataTree, group: str) -> None:
    """Moved by the weights as much as they really move, up to the error of 4,000 draws."""
    alphas = (0.6, 1.5)
    scaled = power_scale_dataset(fitted, group, alphas, ["chain", "draw"], None, None)
    now = on_a_grid(1, 1)
    for alpha in alphas:
        expected = on_a_grid(**{"prior": 1.0, "likelihood": 1.0} | {group: alpha})
        for name in ("a", "tau"):
            change = scaled[name].sel(alpha=alpha).mean() - scaled[name].sel(alpha=1).mean()
            error = 4 * float(fitted["posterior"][name].std()) / np.sqrt(4000)
            assert abs(float(change) - (expected[name] - now[name])) < error
    # It can fail: the change is many times the error that is allowed for.
    assert abs(expected["a"] - now["a"]) > 1.5 * 4 * float(fitted["posterior"]["a"].std()) / 63


def test_power_scaled_prior_is_a_refit(fitted: DataTree) -> None:
    alpha = 0.5
    scaled = power_scale_dataset(fitted, "prior", (alpha, 2.0), ["chain", "draw"], None, None)
    refit = mlmm.fit(build(alpha), random_seed=2, progressbar=False)["posterior"]
    for name in ("a", "tau", "u"):  # effects are right too: they depend on the prior through these
        own, sd = refit[name].mean(("chain", "draw")), refit[name].std(("chain", "draw"))
        weighted = scaled[name].sel(alpha=alpha).mean("sample")
        assert (abs(weighted - own) < 5 * np.sqrt(2) * sd / np.sqrt(4000)).all()
    assert abs(float(refit["a"].mean() - fitted["posterior"]["a"].mean())) > 0.1


def test_a_prior_that_is_too_strong_is_seen(fitted: DataTree) -> None:
    table = psense_summary(fitted, var_names=["a"], likelihood_var_names="y_marginal")
    assert table.loc["a", "diagnosis"] == "potential prior-data conflict"
    idata = mlmm.fit(build(a_sd=10.0), random_seed=1, progressbar=False)
    with_log_densities(idata, mlmm.marginalize(build(a_sd=10.0), ["u"]))
    weak = psense(idata, var_names=["a"], group="prior", group_var_names="a")
    assert float(weak["a"]) < 0.05 < table.loc["a", "prior"]


def test_log_prior_of_folded_scales_is_that_of_the_plain_model() -> None:
    """In natural space, for every prior that is folded."""
    with pm.Model() as model:
        terms: Any = 0.0
        scales = {
            "normal": pm.HalfNormal("normal", 2),
            "exponential": pm.Exponential("exponential", 0.5),
            "cauchy": pm.HalfCauchy("cauchy", 3),
            "t": pm.HalfStudentT("t", 4, 2),
        }
        for name, scale in scales.items():
            terms = terms + pm.Normal(f"u_{name}", 0, scale, shape=4)[GROUP]
        sds = pm.HalfNormal.dist(1.5, shape=2)
        chol, *_ = pm.LKJCholeskyCov("chol", n=2, eta=2, sd_dist=sds)
        v = pm.MvNormal("v", 0, chol=chol, shape=(4, 2))
        pm.Normal("y", terms + v[GROUP, 0] + v[GROUP, 1] * Y, 1.0, observed=Y)
    marginal = mlmm.marginalize(model)
    names = ["chol", *scales]
    transforms = {rv.name: marginal.rvs_to_transforms[rv].name for rv in marginal.free_RVs}
    assert transforms == {"chol": "fold-cholesky"} | dict.fromkeys(scales, "fold")
    seeded = np.random.default_rng(5)
    draws: dict[str, Any] = {
        name: (("chain", "draw"), seeded.exponential(size=(1, 5))) for name in scales
    }
    lower = seeded.exponential(size=(1, 5, 3)) * [1, -0.5, 1]
    draws["chol"] = (("chain", "draw", "packed"), lower)
    effects = {
        rv.name: (
            ("chain", "draw", *(f"{rv.name}_{i}" for i in range(rv.ndim))),
            seeded.normal(size=(1, 5, *rv.type.shape)),
        )
        for rv in model.free_RVs
        if rv.name not in names
    }
    found = [
        compute_log_prior(
            DataTree.from_dict({"posterior": Dataset(draws | own)}),
            var_names=names,
            model=one,
            extend_inferencedata=False,
            progressbar=False,
            compile_kwargs=UNCOMPILED,
        )
        for one, own in ((marginal, {}), (model, effects))
    ]
    for name in names:
        assert_allclose(found[0][name], found[1][name], rtol=1e-12)


def test_every_likelihood_is_counted_once() -> None:
    """Those with effects jointly, and those without: together, that of the model."""
    with pm.Model() as model:
        tau, sigma = pm.HalfNormal("tau"), pm.HalfNormal("sigma")
        u = pm.Normal("u", 0, tau, shape=4)
        v = pm.Normal("v", 0, 2, shape=2)
        pm.Normal("y", u[GROUP], sigma, observed=Y)
        pm.LogNormal("z", u, 1.0, observed=np.exp(Y[:4]))
        pm.Normal("x", v, 1.0, observed=Y[:2])
        pm.Poisson("count", tau, observed=np.arange(6).reshape(2, 3))
    marginal = mlmm.marginalize(model)
    values = np.linspace(0.5, 1.5, 6).reshape(2, 3)
    posterior = Dataset({name: (("chain", "draw"), values) for name in ("tau", "sigma")})
    idata = DataTree.from_dict({"posterior": posterior})
    found = mlmm.compute_log_likelihood(
        idata, model=model, leave_out=None, extend_inferencedata=False, progressbar=False
    )
    assert sorted(found) == ["count_marginal", "y_z_x_marginal"]
    plain = compute_log_likelihood(
        idata,
        model=marginal,
        extend_inferencedata=False,
        progressbar=False,
        compile_kwargs=UNCOMPILED,
    )
    total = sum(plain[name].sum(plain[name].dims[2:]) for name in plain)
    assert_allclose(sum(found[name] for name in found), total, rtol=1e-10)


def test_draws_outside_the_support() -> None:
    values = np.array([[0.5, -0.5]])
    posterior = Dataset({"a": (("chain", "draw"), values), "tau": (("chain", "draw"), values)})
    idata = DataTree.from_dict({"posterior": posterior})
    marginal = mlmm.marginalize(build(), ["u"])
    with pytest.raises(ValueError, match=r"'y' .* density 0 at chain 0, draw 1 \(.*tau=-0.5"):
        mlmm.compute_log_likelihood(idata, model=marginal, leave_out=None, progressbar=False)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["sample", "pm.sample"])
def test_draws_of_chains(how: str) -> None:
    """As those of ``fit``, by ``sample`` and by PyMC's sampler with recovery."""
    options = {"draws": 1000, "tune": 500, "chains": 4, "random_seed": 1, "progressbar": False}
    marginal = mlmm.marginalize(build(), ["u"])
    if how == "sample":
        idata = mlmm.sample(build(), method="nuts", **options)
    else:
        idata = mlmm.recover(pm.sample(model=marginal, **options), model=marginal)
    with_log_densities(idata, marginal)
    table = psense_summary(idata, var_names=["a", "tau"], likelihood_var_names="y_marginal")
    expected = psense_summary(
        with_log_densities(mlmm.fit(build(), random_seed=5, progressbar=False), marginal),
        var_names=["a", "tau"],
        likelihood_var_names="y_marginal",
    )
    for column in ("prior", "likelihood"):
        assert_allclose(table[column].astype(float), expected[column].astype(float), atol=0.03)
