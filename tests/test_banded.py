"""Random walks, AR and CAR by sparse precisions: small ones as if large, against dense forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import solveh_banded
from scipy.stats import multivariate_normal

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.analysis import ordering, read
from pymc_marginal_lmm.analysis.priors import sparse
from pymc_marginal_lmm.model.restore import marginal_ops
from pymc_marginal_lmm.structure import Band
from tests.helpers import (
    BACKENDS,
    assert_same_posterior,
    dense_reference,
    density,
    random_point,
    unfolded,
)

SLOW = pytest.mark.slow
T, N = 9, 24
RNG = np.random.default_rng(3)
TIME = RNG.integers(T - 1, size=N)  # the last element occurs in no row
X, Y = RNG.normal(size=(2, N))
LATTICE = np.zeros((12, 12))
for _i, _j in ((i, j) for i in range(12) for j in range(12)):
    LATTICE[_i, _j] = abs(_i // 4 - _j // 4) + abs(_i % 4 - _j % 4) == 1
AREA = RNG.integers(12, size=N)


def start(sd: object = 2.0, mean: float = 1.0) -> pt.TensorVariable:
    return pm.Normal.dist(mean, sd)


def walk() -> None:
    sigma = pm.HalfNormal("sigma")
    w = pm.GaussianRandomWalk("w", mu=0.3, sigma=sigma, init_dist=start(), shape=T)
    b = pm.Normal("b", 0, 3)
    pm.Normal("y", b * X + w[TIME], 0.7, observed=Y)


def differences() -> None:
    """Rows with several elements, one of them twice."""
    w = pm.GaussianRandomWalk("w", sigma=pm.HalfNormal("sigma"), init_dist=start(), shape=T)
    mean = w[TIME] - 0.5 * w[TIME + 1] + X * w[TIME]
    pm.Normal("y", mean, pm.HalfNormal("noise"), observed=Y)


def two_walks() -> None:
    """A level and a slope that change in time: one band, two wide."""
    level = pm.GaussianRandomWalk("level", sigma=pm.HalfNormal("s1"), init_dist=start(), shape=T)
    init = start(pm.HalfNormal("first"), 0.0)
    slope = pm.GaussianRandomWalk("slope", sigma=pm.HalfNormal("s2"), init_dist=init, shape=T)
    pm.Normal("y", level[TIME] + slope[TIME] * X, pm.HalfNormal("noise"), observed=Y)


def many_walks() -> None:
    """Walks of groups, each with its own parameters, and one that multiplies all."""
    sigma, first = pm.HalfNormal("sigma", shape=3), pm.HalfNormal("first", shape=3)
    w = pm.GaussianRandomWalk(
        "w", mu=0.2, sigma=sigma, init_dist=pm.Normal.dist(0.5, first), shape=(3, T)
    )
    loading = pm.Normal("loading")
    pm.Normal("y", loading * w[TIME % 3, TIME] + 0.5, 0.8, observed=Y)


def loading_by_time() -> None:
    w = pm.GaussianRandomWalk("w", sigma=pm.HalfNormal("sigma"), init_dist=start(), shape=T)
    loadings = pm.Normal("loadings", 1, 1, shape=T)
    pm.Normal("y", (loadings * w)[TIME] + w[TIME] * X, 0.8, observed=Y)


def autoregression(order: int, constant: bool) -> Callable[[], None]:
    def build() -> None:
        rho = pm.Normal("rho", 0.2, 0.4, shape=order + constant)
        sigma, init = pm.HalfNormal("sigma"), pm.Normal.dist(1.0, 1.5, shape=order)
        w = pm.AR("w", rho, sigma=sigma, init_dist=init, constant=constant, shape=T)
        pm.Normal("y", w[TIME], pm.HalfNormal("noise"), observed=Y)

    return build


def several_autoregressions() -> None:
    rho = pm.Normal("rho", 0.2, 0.4, shape=1)
    init = pm.Normal.dist(0.0, [[1.5], [0.5]], shape=(2, 1))
    w = pm.AR("w", rho, sigma=pm.HalfNormal("sigma"), init_dist=init, shape=(2, T))
    pm.Normal("y", w[TIME % 2, TIME], pm.HalfNormal("noise"), observed=Y)


def map_of_areas() -> None:
    """Besag, York and Mollié: neighbours, and areas for themselves, in one band."""
    alpha, tau = pm.Uniform("alpha", -0.9, 0.9), pm.Gamma("tau", 2, 2)
    w = pm.CAR("w", mu=np.linspace(0, 1, 12), W=LATTICE, alpha=alpha, tau=tau)
    own = pm.Normal("own", 0.1, pm.HalfNormal("sd"), shape=12)
    b = pm.Normal("b", 0, 3, shape=2)
    pm.Normal("y", b[0] + b[1] * X + w[AREA] + own[AREA], 0.7, observed=Y)


def icar() -> None:
    """With a sampled scale, and areas without rows."""
    phi = pm.ICAR("phi", W=LATTICE.astype(int), sigma=pm.HalfNormal("sigma"))
    b = pm.Normal("b", 0, 3)
    pm.Normal("y", b * X + phi[AREA // 2], 0.7, observed=Y)


def noncentred_icar() -> None:
    """Beside areas for themselves, and with loadings instead of a scale."""
    phi = pm.ICAR("phi", W=LATTICE.astype(int), zero_sum_stdev=pm.HalfNormal("sum_sd"))
    own = pm.Normal("own", 0, 0.5, shape=12)
    mean = pm.Flat("mean")
    pm.Normal("y", mean + pm.HalfNormal("sigma") * phi[AREA] + own[AREA], 0.7, observed=Y)


def flat_and_crossed() -> None:
    """Beside a band: a flat intercept, correlated effects, another response with its own noise."""
    w = pm.GaussianRandomWalk("w", sigma=pm.HalfNormal("sigma"), init_dist=start(), shape=T)
    cov = np.array([[1.0, 0.4], [0.4, 0.8]])
    u = pm.MvNormal("u", np.zeros(2), cov, shape=(4, 2))
    intercept = pm.Flat("intercept")
    group = AREA % 4
    pm.Normal("y", intercept + w[TIME] + u[group, 0] + u[group, 1] * X, 0.8, observed=Y)
    pm.LogNormal("z", 0.5 * w[TIME][:6] + 0.1, pm.HalfNormal("noise"), observed=np.exp(X[:6]))


def nested_means() -> None:
    """A walk around a walk: the prior mean of an effect is another effect."""
    w = pm.GaussianRandomWalk("w", sigma=pm.HalfNormal("sigma"), init_dist=start(), shape=T)
    v = pm.Normal("v", w[::-1] - 0.5, pm.HalfNormal("tau"), shape=T)
    pm.Normal("y", v[TIME] + 0.3 * w[TIME], 0.8, observed=Y)


def sigma_by_row() -> None:
    w = pm.GaussianRandomWalk("w", sigma=pm.HalfNormal("sigma"), init_dist=start(), shape=T)
    slope = pm.Normal("slope")
    noise = pt.exp(0.3 * X * pm.Normal("g"))
    pm.Normal("y", slope * w[TIME] * X + w[TIME], noise, observed=Y)


MODELS: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "walk": (walk, ("w", "b")),
    "differences": (differences, ("w",)),
    "two walks": (two_walks, ("level", "slope")),
    "many walks": (many_walks, ("w",)),
    "loading by time": (loading_by_time, ("w",)),
    "AR(1)": (autoregression(1, constant=False), ("w",)),
    "AR(2)": (autoregression(2, constant=True), ("w",)),
    "AR(3)": (autoregression(3, constant=False), ("w",)),
    "several AR(1)": (several_autoregressions, ("w",)),
    "map": (map_of_areas, ("w", "own", "b")),
    "icar": (icar, ("phi", "b")),
    "noncentred icar": (noncentred_icar, ("phi", "own", "mean")),
    "flat and crossed": (flat_and_crossed, ("w", "u", "intercept")),
    "nested means": (nested_means, ("w", "v")),
    "sigma by row": (sigma_by_row, ("w",)),
}
with_model = pytest.mark.parametrize("name", MODELS)


def always_a_band(factors: list, coupled: object = (), effects: tuple = ()) -> object:
    return ordering.with_band(factors, effects)


@pytest.fixture
def banded() -> Iterator[None]:
    """Take every precision, and every band."""
    with (
        mock.patch.object(sparse, "SMALL", 3),
        mock.patch.object(read, "block_structure", always_a_band),
    ):
        yield


def build(name: str) -> tuple[pm.Model, tuple[str, ...]]:
    function, effects = MODELS[name]
    with pm.Model() as model:
        function()
    return model, effects


def band_of(marginal: pm.Model) -> Band | None:
    return marginal_ops(marginal)[0].structure.blocks.band


@with_model
def test_density_and_posterior(name: str, banded: None) -> None:
    plain, effects = build(name)
    marginal = unfolded(plain, list(effects))
    assert band_of(marginal) is not None
    logp = density(marginal)
    for seed in (1, 2):
        point = random_point(marginal, seed)
        reference = dense_reference(plain, effects, point)
        assert_allclose(logp(point), reference.log_density, rtol=1e-8, atol=1e-7)
    assert_same_posterior(marginal, plain, effects, point, reference)


@with_model
def test_product_with_the_conditional(name: str, banded: None) -> None:
    plain, effects = build(name)
    full = mlmm.conditional(unfolded(plain, list(effects)))
    joint, product = density(plain), density(full)
    for seed in (1, 2):
        point = random_point(plain, seed)
        assert_allclose(product(point), joint(point), rtol=1e-8, atol=1e-7)


@with_model
def test_gradient_of_the_dense_form(name: str, banded: None) -> None:
    """The same numbers as by a square root of the prior's covariance, and the same gradient."""
    plain, effects = build(name)
    by_band = unfolded(plain, list(effects))
    with (
        mock.patch.object(read, "read_sparse_prior", lambda *args: None),
        mock.patch.object(read, "block_structure", ordering.block_structure),
    ):
        dense = unfolded(plain, list(effects))
    assert band_of(dense) is None
    point = random_point(dense, 5)
    values = [density(m)(point) for m in (by_band, dense)]
    gradients = [m.compile_dlogp(mode="FAST_COMPILE")(point) for m in (by_band, dense)]
    assert_allclose(*values, rtol=1e-10)
    assert_allclose(*gradients, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "FAST_COMPILE"])
@pytest.mark.parametrize(
    # Compiled for half a minute each; test_a_long_walk runs walks on all backends.
    "name",
    [pytest.param(n, marks=SLOW) for n in ("map", "two walks", "AR(2)", "icar")],
)
def test_backends(name: str, backend: str, banded: None) -> None:
    plain, effects = build(name)
    marginal = unfolded(plain, list(effects))
    point = random_point(marginal, 4)
    outputs = [marginal.logp(), marginal.dlogp()]
    expected, value = (
        marginal.compile_fn(outputs, mode=mode)(point) for mode in ("FAST_COMPILE", backend)
    )
    assert_allclose(value[0], expected[0], rtol=1e-10)
    assert_allclose(value[1], expected[1], rtol=1e-8, atol=1e-9)


def test_scales_of_zero(banded: None) -> None:
    """A walk that does not move is its start: nothing is divided by."""
    with pm.Model() as plain:
        sigma, first = pm.HalfNormal("sigma"), pm.HalfNormal("first")
        init = pm.Normal.dist(0.5, first)
        w = pm.GaussianRandomWalk("w", sigma=sigma, init_dist=init, shape=T)
        pm.Normal("y", w[TIME], 0.7, observed=Y)
    logp = unfolded(plain).compile_logp(mode="FAST_COMPILE", sum=False)
    for s, s0 in ((0.0, 2.0), (0.0, 0.0), (1e-9, 2.0), (1e3, 1e-9), (1.0, 1e3)):
        with np.errstate(divide="ignore"):
            value = logp({"sigma_log__": np.log(s), "first_log__": np.log(s0)})[-1]
        steps = np.minimum.outer(TIME, TIME)
        covariance = s**2 * steps + s0**2 + 0.49 * np.eye(N)
        expected = multivariate_normal(np.full(N, 0.5), covariance, allow_singular=True)
        assert_allclose(value, expected.logpdf(Y), rtol=1e-6 if s > 1 else 1e-9)


def long_walk(n: int) -> pm.Model:
    rng = np.random.default_rng(1)
    with pm.Model() as model:
        sigma = pm.HalfNormal("sigma")
        w = pm.GaussianRandomWalk("w", sigma=sigma, init_dist=pm.Normal.dist(0, 10.0), shape=n)
        pm.Normal("y", w, pm.HalfNormal("noise"), observed=rng.normal(size=n).cumsum())
    return model


def test_a_long_walk() -> None:
    """Ten thousand steps, without any patch: against a filter that knows nothing of matrices."""
    n = 10_000
    model = long_walk(n)
    explanation = mlmm.explain(model)
    assert explanation.factors[0].kind == "tridiagonal"
    assert explanation.memory < 10e6
    marginal = unfolded(model)
    band = band_of(marginal)
    assert band is not None and band.order.width == 1
    sigma, noise = 0.3, 1.2
    point = {"sigma_log__": np.log(sigma), "noise_log__": np.log(noise)}
    value = marginal.compile_logp(mode="FAST_COMPILE", sum=False)(point)[-1]
    mean, variance, total = 0.0, 100.0, 0.0
    y = model.rvs_to_values[model["y"]].data
    for observed in y:
        s = variance + noise**2
        total -= 0.5 * ((observed - mean) ** 2 / s + np.log(2 * np.pi * s))
        mean, variance = mean + variance / s * (observed - mean), variance * noise**2 / s
        variance += sigma**2
    assert_allclose(value, total, rtol=1e-9)


def test_draws_of_a_long_walk() -> None:
    """Posterior means against a banded solver."""
    n = 1000
    model = long_walk(n)
    marginal = unfolded(model)
    full = mlmm.conditional(marginal)
    sigma, noise = 0.3, 1.2
    given = {full["sigma"]: np.array(sigma), full["noise"]: np.array(noise)}
    data = model.rvs_to_values[model["y"]].data
    draw = pytensor.graph.graph_replace(
        [full["w"]],
        {k: pt.constant(v) for k, v in given.items()} | {full["y"]: pt.constant(data)},
        strict=False,
    )
    draws = np.array(pm.draw(draw[0], draws=400, random_seed=1, mode="FAST_COMPILE"))
    precision = np.zeros((2, n))
    precision[0, :] = 2 / sigma**2 + 1 / noise**2
    precision[0, 0] += 1 / 100 - 1 / sigma**2
    precision[0, -1] -= 1 / sigma**2
    precision[1, :-1] = -1 / sigma**2
    mean = solveh_banded(precision, data / noise**2, lower=True)
    unit = np.zeros(n)
    unit[n // 2] = 1
    sd = np.sqrt(solveh_banded(precision, unit, lower=True)[n // 2])
    assert abs((draws.mean(axis=0) - mean)[n // 2]) < 4 * sd / 20
    assert_allclose(draws.std(axis=0)[n // 2], sd, rtol=0.15)
    assert np.abs(draws.mean(axis=0) - mean).max() < 6 * sd / 20


def test_recovers(banded: None) -> None:
    """Many draws at once, with all that belongs to the variable."""
    plain, effects = build("map")
    marginal = unfolded(plain, list(effects))
    with marginal:
        prior = pm.sample_prior_predictive(3, var_names=["alpha", "tau", "sd"], random_seed=1)
    prior["posterior"] = prior["prior"]
    drawn = mlmm.recover(prior, model=marginal, extend_inferencedata=False, progressbar=False)
    assert drawn["w"].shape == (1, 3, 12) and drawn["own"].shape == (1, 3, 12)
    assert np.isfinite(drawn["w"]).all()


def test_where_a_band_does_not_pay() -> None:
    """Short ones stay dense blocks, and so does what all rows have together."""
    for n in (20, 200):
        with pm.Model() as model:
            w = pm.GaussianRandomWalk(
                "w", sigma=pm.HalfNormal("s"), init_dist=pm.Normal.dist(), shape=n
            )
            mean = w if n == 20 else pt.dot(RNG.normal(size=(n, n)), w)
            pm.Normal("y", mean, 1, observed=RNG.normal(size=n))
        assert mlmm.explain(model).factors[0].kind == "dense"


@pytest.mark.parametrize("prior", ["walk", "AR"])
def test_few_rows_of_a_long_walk(prior: str) -> None:
    """Its dense block would be one of all steps, not of those that data see."""
    at = np.linspace(0, 3999, 20).astype(int)
    with pm.Model() as model:
        sigma, init = pm.HalfNormal("sigma"), pm.Normal.dist()
        if prior == "walk":
            w = pm.GaussianRandomWalk("w", sigma=sigma, init_dist=init, shape=4000)
        else:
            rho = pm.Uniform("rho", -1, 1)
            w = pm.AR("w", [rho], sigma=sigma, init_dist=init, shape=4000)
        pm.Normal("y", w[at], 1, observed=RNG.normal(size=20))
    explanation = mlmm.explain(model)
    assert explanation.factors[0].kind == "tridiagonal"
    assert explanation.operations < 1e6


def test_signs_of_scales(banded: None) -> None:
    """The density knows of squares of a walk's sigma only, but of the signs of its loadings."""
    with pm.Model() as model:
        w = pm.GaussianRandomWalk("w", sigma=pm.HalfNormal("s"), init_dist=start(), shape=T)
        loadings = pm.HalfNormal("loadings", shape=T)
        pm.Normal("y", (loadings * w)[TIME], 0.8, observed=Y)
    marginal = mlmm.marginalize(model)
    folded = [v.name for v in marginal.value_vars]
    assert "loadings_log__" in folded
    assert "s_log__" not in folded
