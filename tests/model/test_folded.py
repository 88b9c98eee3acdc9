"""The value scales of folded priors: densities, Jacobians, and what happens at the edges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.logprob.transforms import Transform
from scipy.integrate import cumulative_simpson, quad
from scipy.special import gammaln
from scipy.stats import halfnorm, kstest

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model.folded import Fold, FoldedCholesky, FoldedScale
from tests.models import Rows

FAST = "FAST_COMPILE"
DISTRIBUTIONS = {
    "half-normal": lambda: pm.HalfNormal.dist(2.0),
    "half-Cauchy": lambda: pm.HalfCauchy.dist(2.0),
    "half-t": lambda: pm.HalfStudentT.dist(nu=3, sigma=0.5),
    "exponential": lambda: pm.Exponential.dist(3.0),
}
PRIOR = pytest.mark.parametrize("prior", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS.keys())
data = Rows(n=60)
g = data.index(8)


def scale_alone(prior: Callable[[], pt.TensorVariable], unit: float | None = 0.3) -> pm.Model:
    with pm.Model() as model:
        rv = prior()
        fold = FoldedScale(Fold(type(rv.owner.op), unit))
        model.register_rv(rv, "tau", default_transform=fold)
    return model


def factor_alone(n: int, eta: float = 1.5, sd: pt.TensorVariable | None = None) -> pm.Model:
    """Return a marginal model; the terms of its ``chol`` are the prior's."""
    sd = pm.HalfNormal.dist(np.linspace(0.5, 2.0, n)) if sd is None else sd
    with pm.Model() as model:
        chol = pm.LKJCholeskyCov("chol", n=n, eta=eta, sd_dist=sd)[0]
        u = pm.MvNormal("u", np.zeros(n), chol=chol, shape=(8, n))
        pm.Normal("y", u[g] @ np.ones(n), 1.0, observed=data.y)
    marginal = mlmm.marginalize(model)
    assert isinstance(marginal.rvs_to_transforms[marginal["chol"]], FoldedCholesky)
    return marginal


def log_prior(model: pm.Model, name: str, *, mode: str = FAST) -> Callable[[np.ndarray], float]:
    compiled = model.compile_logp([model[name]], mode=mode)
    rest = model.initial_point()
    key = model.rvs_to_values[model[name]].name
    return lambda value: float(compiled({**rest, key: np.asarray(value, rest[key].dtype)}))


def values_of(model: pm.Model, name: str, draws: int) -> np.ndarray:
    """Draws of a prior on its value scale, positive scales."""
    rv = model[name]
    return forward(model.rvs_to_transforms[rv], pm.draw(rv, draws, random_seed=1), rv)


def forward(transform: Transform, draws: np.ndarray, rv: pt.TensorVariable) -> np.ndarray:
    one = rv.type()
    function = pytensor.function([one], transform.forward(one, *rv.owner.inputs), mode=FAST)
    return np.array([function(draw) for draw in draws])


@PRIOR
def test_density_of_a_scale_integrates_to_one(prior: Callable) -> None:
    log_p = log_prior(scale_alone(prior), "tau")
    total, _ = quad(lambda x: np.exp(log_p(x)), -40, 40, points=[0], limit=400)
    assert_allclose(total, 1.0, rtol=1e-6)


@PRIOR
def test_prior_of_a_scale_is_that_of_its_draws(prior: Callable) -> None:
    model = scale_alone(prior)
    xs = np.linspace(0, 30, 6001)
    log_p = log_prior(model, "tau")
    cdf = cumulative_simpson([2 * np.exp(log_p(x)) for x in xs], x=xs, initial=0)
    draws = values_of(model, "tau", 2000)
    assert kstest(draws, lambda x: np.interp(x, xs, cdf)).pvalue > 1e-3


@pytest.mark.parametrize("n", [2, 3])
def test_prior_of_a_factor_is_that_of_its_draws_and_integrates_to_one(n: int) -> None:
    """It is a product of functions of one value each, every one an even one."""
    model = factor_alone(n)
    log_p = log_prior(model, "chol")
    size = n * (n + 1) // 2
    center = np.full(size, 0.3)
    at_center = log_p(center)

    def replaced(k: int, value: float) -> np.ndarray:
        return np.where(np.arange(size) == k, value, center)

    rng = np.random.default_rng(n)
    for at in rng.normal(size=(3, size)):
        factors = [log_p(replaced(k, at[k])) - at_center for k in range(size)]
        assert_allclose(log_p(at), at_center + sum(factors), rtol=1e-10)
    draws = values_of(model, "chol", 2000)
    grid = np.linspace(-20, 20, 401)
    log_total = at_center
    for k in range(size):
        heights = np.exp([log_p(replaced(k, value)) - at_center for value in grid])
        cdf = cumulative_simpson(heights, x=grid, initial=0)
        log_total += np.log(cdf[-1])
        signed = draws[:, k] * rng.choice([-1, 1], size=len(draws))
        assert kstest(signed, lambda x, cdf=cdf: np.interp(x, grid, cdf / cdf[-1])).pvalue > 1e-3
    assert_allclose(log_total, 0.0, atol=1e-6)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_factor_has_the_density_of_pymc(n: int) -> None:
    """PyMC's density of the factor, and the Jacobian by differentiation."""
    model = factor_alone(n)
    rv = model["chol"]
    transform = model.rvs_to_transforms[rv]
    value = pt.vector("value", shape=(n * (n + 1) // 2,))
    packed = transform.backward(value, *rv.owner.inputs)
    jacobian = pytensor.gradient.jacobian(packed, value)
    function = pytensor.function([value], [packed, jacobian], mode=FAST)
    sd = pm.HalfNormal.dist(np.linspace(0.5, 2.0, n))
    with pm.Model():
        pymc = pm.LKJCholeskyCov("chol", n=n, eta=1.5, sd_dist=sd, compute_corr=False)
    point = pt.vector("point")
    log_p_pymc = pytensor.function([point], pm.logp(pymc, point), mode=FAST)
    log_p = log_prior(model, "chol")
    compiled = model.compile_logp([rv], jacobian=False, mode=FAST)
    rng = np.random.default_rng(n)
    for _ in range(4):
        at = rng.normal(size=n * (n + 1) // 2)
        factor, J = function(at)
        expected = log_p_pymc(factor)
        log_jac = np.log(abs(np.linalg.det(J))) - n * np.log(2)
        assert_allclose(log_p(at), expected + log_jac, rtol=1e-8)
        name = model.rvs_to_values[rv].name
        assert_allclose(compiled({**model.initial_point(), name: at}), expected, rtol=1e-8)
        L = np.zeros((n, n))
        L[np.tril_indices(n)] = factor
        assert (np.diag(L) > 0).all()
        (there,) = forward(transform, [factor], rv)
        assert (there[transform.diagonal] > 0).all()
        assert_allclose(function(there)[0], factor, rtol=1e-10)


@pytest.mark.parametrize("mode", [FAST, "NUMBA", "JAX"])
def test_density_at_the_edges(mode: str) -> None:
    """Scales of exactly 0 far out, correlations of ±1 to the last digit."""
    model = factor_alone(2)
    log_p = log_prior(model, "chol", mode=mode)
    sd, eta = np.array([0.5, 2.0]), 1.5

    resolution = model.rvs_to_transforms[model["chol"]].fold.unit
    y = model.rvs_to_values[model["y"]].data
    assert_allclose(resolution, y.std() / np.sqrt(60 / 8) * np.ones(2))
    unit = 1 / (1 / resolution + 1 / sd)

    def expected(x1: float, z: float, x2: float) -> float:
        t = unit * np.sinh([x1, x2])
        scales = sd * np.abs(np.arcsinh(t / sd))
        log_sech = np.log(2) - abs(z) - np.log1p(np.exp(-2 * abs(z)))
        slopes = 0.5 * unit * np.cosh([x1, x2]) / np.sqrt(1 + (t / sd) ** 2)
        terms = halfnorm.logpdf(scales, scale=sd) + np.log(slopes)
        norm = gammaln(eta + 0.5) - gammaln(eta) - 0.5 * np.log(np.pi)
        return float(terms.sum() + 2 * eta * log_sech + norm)

    for at in [
        (0.0, 0.0, 0.0),
        (0.0, 0.7, -1.0),
        (1.0, -0.3, 1e-12),
        (-1e-300, 0.5, 1.0),
        (8.0, 1.0, -9.0),
        (0.4, 400.0, -0.6),
        (0.4, -40.0, 0.6),
    ]:
        assert_allclose(log_p(np.array(at)), expected(*at), rtol=1e-11, err_msg=str(at))


@pytest.mark.parametrize("mode", [FAST, pytest.param("NUMBA", marks=pytest.mark.slow), "JAX"])
def test_density_and_gradient_of_a_marginal_model_at_the_edges(mode: str) -> None:
    model = factor_alone(2)
    logp, dlogp = (getattr(model, f"compile_{f}")(mode=mode) for f in ("logp", "dlogp"))
    (name,) = (v.name for v in model.value_vars)
    for at in [(0.0, 0.0, 0.0), (0.0, 0.7, -1.0), (0.8, 0.3, 0.0), (0.4, 20.0, -0.6)]:
        value = np.array(at)
        steps = 1e-5 * np.eye(3)
        differences = [
            (logp({name: value + step}) - logp({name: value - step})) / 2e-5 for step in steps
        ]
        assert_allclose(dlogp({name: value}), differences, rtol=1e-5, atol=1e-6, err_msg=str(at))
    for at in [(9.0, 0.5, -9.0), (0.4, 400.0, -0.6)]:
        assert np.isfinite(logp({name: np.array(at)}))
        assert np.isfinite(dlogp({name: np.array(at)})).all()
