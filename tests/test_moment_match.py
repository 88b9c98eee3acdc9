"""Moment matching of rows and groups, against models that have never seen them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import arviz as az
import numpy as np
import pymc as pm
import pytest
from arviz_stats import ELPDDataLOO
from numpy.testing import assert_allclose, assert_array_equal
from pymc.stats import compute_log_prior
from xarray import Dataset, DataTree

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model.log_density import compile_log_density
from pymc_marginal_lmm.model.moment_match import _natural, _unconstrained, _unfolded
from pymc_marginal_lmm.model.value_space import ValueSpace
from tests.helpers import INTERPRETER

rng = np.random.default_rng(5)
GROUP = np.repeat(np.arange(5), 4)
Y = 0.5 * rng.normal(size=5)[GROUP] + rng.normal(size=20)
OUTLIER = 7
Y[OUTLIER] += 8
ALL = np.ones(20, dtype=bool)
# What ArviZ says before draws are moved: the subject of these tests.
high_khat = pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")


def build(rows: np.ndarray = ALL, shift: float = 0.0) -> pm.Model:
    """Return a model of some rows, the third group of which is moved."""
    with pm.Model(coords={"group": range(5)}) as model:
        u = pm.Normal("u", 0, pm.HalfNormal("tau"), dims="group")
        y = (Y * (np.arange(20) != OUTLIER) if shift else Y) + shift * (GROUP == 2)
        mu = pm.Normal("a", 0, 2) + u[GROUP[rows]]
        pm.Normal("y", mu, pm.HalfNormal("sigma", 5), observed=y[rows])
    return model


def log_evidence(model: pm.Model) -> float:
    attributes = mlmm.fit(model, random_seed=3, draws=5000, progressbar=False)["posterior"].attrs
    assert attributes["log_evidence_mcse"] < 0.005
    return attributes["log_evidence"]


def predicted(model: pm.Model, leave_out: Any, **kwargs: Any) -> tuple[ELPDDataLOO, ELPDDataLOO]:
    """Return the results before and after matching."""
    idata = mlmm.fit(model, random_seed=1, progressbar=False)
    mlmm.compute_log_likelihood(idata, model=model, leave_out=leave_out, progressbar=False)
    (name,) = idata["log_likelihood"].data_vars
    loo = az.loo(idata, var_name=name, pointwise=True)
    marginal = mlmm.marginalize(model)  # with folded scales
    options = {"model": marginal, "leave_out": leave_out, "progressbar": False} | kwargs
    return loo, mlmm.moment_match(idata, loo, **options)


@pytest.fixture(scope="module")
def results() -> tuple[ELPDDataLOO, ELPDDataLOO]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimated shape parameter of Pareto")
        return predicted(build(), "row")


def test_an_outlying_row(results: tuple[ELPDDataLOO, ELPDDataLOO]) -> None:
    """Ratios of evidences are right to 0.01; weights alone are off by more than half a unit."""
    loo, matched = results
    truth = log_evidence(build()) - log_evidence(build(np.arange(20) != OUTLIER))
    assert loo.pareto_k[OUTLIER] > 0.7 > matched.pareto_k[OUTLIER]
    assert abs(matched.elpd_i[OUTLIER] - truth) < 0.05
    assert abs(loo.elpd_i[OUTLIER] - truth) > 0.5


def test_what_is_returned(results: tuple[ELPDDataLOO, ELPDDataLOO]) -> None:
    """All others as they were, sums of the new values, and the old result untouched."""
    loo, matched = results
    others = np.arange(20) != OUTLIER
    for name in ("elpd_i", "pareto_k"):
        assert_array_equal(getattr(matched, name)[others], getattr(loo, name)[others])
    assert_allclose(matched.elpd, matched.elpd_i.sum())
    assert_allclose(matched.p, matched.p_loo_i.sum())
    assert_allclose(matched.elpd + matched.p, loo.elpd + loo.p)
    assert_allclose(matched.se, np.sqrt(20 * np.var(matched.elpd_i.values, ddof=1)))
    assert_array_equal(matched.influence_pareto_k, loo.pareto_k)
    assert loo.warning and not matched.warning
    assert np.isnan(matched.log_weights[OUTLIER]).all()
    assert np.isfinite(matched.log_weights[others]).all() and np.isfinite(loo.log_weights).all()
    table = az.compare({"weighted": loo, "moved": matched}, round_to="none")
    assert table.loc["moved", "elpd"] == pytest.approx(matched.elpd)


@high_khat
def test_an_outlying_group() -> None:
    loo, matched = predicted(build(shift=6.0), "group")
    truth = log_evidence(build(shift=6.0)) - log_evidence(build(GROUP != 2, 6.0))
    assert loo.pareto_k[2] > 0.7 > matched.pareto_k[2]
    assert abs(matched.elpd_i[2] - truth) < 0.15
    assert abs(loo.elpd_i[2] - truth) > 1


@high_khat
def test_other_transforms() -> None:
    """LogNormal rows, and parameters on an interval and with a heavy tail."""

    def of_logarithms(rows: np.ndarray = ALL) -> pm.Model:
        with pm.Model() as model:
            u = pm.Normal("u", 0, pm.HalfCauchy("tau", 1), shape=5)
            sigma = pm.Uniform("sigma", 0.1, 4)
            pm.LogNormal("y", u[GROUP[rows]], sigma, observed=np.exp(Y)[rows])
        return model

    loo, matched = predicted(of_logarithms(), "row", var_name="y_loo")
    truth = log_evidence(of_logarithms()) - log_evidence(of_logarithms(np.arange(20) != OUTLIER))
    assert loo.pareto_k[OUTLIER] > 0.7 > matched.pareto_k[OUTLIER]
    assert abs(matched.elpd_i[OUTLIER] - truth) < 0.05 < abs(loo.elpd_i[OUTLIER] - truth)


def test_density_of_moved_parameters() -> None:
    """Prior, likelihood, and the Jacobian of all transforms by numerical differentiation."""
    with pm.Model() as model:
        chol, *_ = pm.LKJCholeskyCov("chol", n=2, eta=2, sd_dist=pm.HalfNormal.dist(1.5, shape=2))
        v = pm.MvNormal("v", 0, chol=chol, shape=(5, 2))
        u = pm.Normal("u", 0, pm.Exponential("tau", 0.7), shape=5)
        mu = v[GROUP, 0] + v[GROUP, 1] * np.linspace(-1, 1, 20) + u[GROUP]
        sigma = pm.Uniform("sigma", 0.1, 9)
        pm.Normal("y", mu, sigma, observed=Y)
    unfolded = _unfolded(mlmm.marginalize(model))
    seeded = np.random.default_rng(2)
    draws = {name: (("chain", "draw"), seeded.uniform(0.3, 3, (1, 4))) for name in ("tau", "sigma")}
    chol_draws = seeded.uniform(0.3, 2, size=(1, 4, 3)) * [1, -1, 1]
    posterior = Dataset(draws | {"chol": (("chain", "draw", "packed"), chol_draws)})
    x, space = _unconstrained(unfolded, posterior), ValueSpace.of(unfolded)
    natural = _natural(unfolded, space)
    names = [rv.name for rv in unfolded.free_RVs]
    expected = [posterior[name].values.reshape(4, -1) for name in names]
    assert_allclose(natural(x), np.concatenate(expected, axis=1), rtol=1e-10)

    tree = DataTree.from_dict({"posterior": posterior})
    mlmm.compute_log_likelihood(tree, model=model, leave_out=None, progressbar=False)
    compile_kwargs = {"mode": INTERPRETER}
    compute_log_prior(tree, model=unfolded, progressbar=False, compile_kwargs=compile_kwargs)
    natural_density = sum(tree["log_prior"][name].values.ravel() for name in names)
    natural_density = natural_density + tree["log_likelihood"]["y_marginal"].values.ravel()
    h = 1e-5
    slopes = [(natural(x + h * e) - natural(x - h * e)) / (2 * h) for e in np.eye(space.dim)]
    log_jacobian = np.linalg.slogdet(np.stack(slopes, axis=-1))[1]
    log_p = compile_log_density(unfolded, space).given()
    assert_allclose(log_p(x), natural_density + log_jacobian, rtol=1e-7)


# --- What goes wrong ----------------------------------------------------------------------------


def made_up(**values: float) -> DataTree:
    seeded = np.random.default_rng(1)
    drawn = {
        name: (("chain", "draw"), value * seeded.uniform(0.6, 3, size=(2, 30)))
        for name, value in ({"tau": 1, "sigma": 1} | values).items()
    }
    index = {"chain": [0, 1], "draw": np.arange(30)}
    return DataTree.from_dict({"posterior": Dataset(drawn, coords=index)})


def with_log_likelihood(model: pm.Model, idata: DataTree) -> DataTree:
    return mlmm.compute_log_likelihood(idata, model=model, progressbar=False)


def changed(idata: DataTree) -> DataTree:
    """Return draws of a model with other data."""
    idata["log_likelihood"] = idata["log_likelihood"].to_dataset() + 1.0
    return idata


@high_khat
@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t, {"var_name": "z_loo"}, "var_name must be one of 'y_loo', .* not 'z_loo'"),
        (lambda t: t, {"leave_out": "group"}, "no 'y_logo_group' in log_likelihood"),
        (lambda t: t, {"loo": 3}, r"what arviz.loo\(idata, var_name='y_loo', pointwise=True\)"),
        (lambda t: t, {"loo": "of 3 rows"}, "loo has results for .* is of another variable"),
        (changed, {}, "not what this model has at these draws"),
        (lambda t: made_up(tau=0), {}, "no 'y_loo' in log_likelihood"),
    ],
)
def test_what_does_not_fit(change: Callable, options: dict[str, Any], message: str) -> None:
    model = build()
    idata = with_log_likelihood(model, made_up())
    loo = az.loo(idata, var_name="y_loo", pointwise=True)
    assert (loo.pareto_k > loo.good_k).any()
    options = {"loo": loo} | options
    if options["loo"] == "of 3 rows":
        few = DataTree.from_dict({"posterior": idata["posterior"].to_dataset()})
        few["log_likelihood"] = idata["log_likelihood"].to_dataset().isel(y_loo_dim_0=slice(3))
        options["loo"] = az.loo(few, var_name="y_loo", pointwise=True)
    with pytest.raises(ValueError, match=message):
        mlmm.moment_match(change(idata), model=model, progressbar=False, **options)


@high_khat
def test_draws_that_cannot_be_moved() -> None:
    idata = with_log_likelihood(build(), made_up())
    loo = az.loo(idata, var_name="y_loo", pointwise=True)
    posterior = idata["posterior"].to_dataset()
    posterior["tau"][0, 0] = 0.0
    idata["posterior"] = posterior
    with pytest.raises(ValueError, match="on the boundary"):
        mlmm.moment_match(idata, loo, model=build(), progressbar=False)
    with build() as model:
        pm.Poisson("n", model["tau"])
    with pytest.raises(ValueError, match="'n' cannot be moved: discrete"):
        mlmm.moment_match(with_log_likelihood(model, made_up(n=10)), loo, model=model)
