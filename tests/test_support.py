"""Outside the support of its parameters the marginal density is what the plain model's is: none."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import pymc_marginal_lmm as mlmm
from tests.helpers import BACKENDS, unfolded

g = np.arange(12) % 4
x = np.linspace(-1, 1, 12)
y = np.random.default_rng(0).normal(size=12)
# PyTensor's Python linker says that a matrix is nearly singular.
pytestmark = pytest.mark.filterwarnings("ignore:.*:scipy.linalg.LinAlgWarning")
FAST = "FAST_COMPILE"
EDGES = (-np.inf, -1e300, -2.0, -1.0, -1e-300, 0.0, 1e-300, 0.5, 1.0, 3.0, 1e300, np.inf, np.nan)


def square(a: pt.TensorVariable, *, lower: bool = True) -> pt.TensorVariable:
    rows = [[a[0], 0.0], [a[1], a[2]]] if lower else [[a[0], a[1]], [0.5, a[2]]]
    return pt.stack([pt.stack(row) for row in rows])


def symmetric(a: pt.TensorVariable) -> pt.TensorVariable:
    return pt.stack([pt.stack([a[0], a[1]]), pt.stack([a[1], a[2]])])


def correlated(**covariance: pt.TensorVariable) -> pt.TensorVariable:
    u = pm.MvNormal("u", np.zeros(2), shape=(4, 2), **covariance)
    return u[g, 0] + u[g, 1] * x


def batched(a: pt.TensorVariable) -> pt.TensorVariable:
    cov = pt.stack([np.eye(2), symmetric(a), np.eye(2), np.eye(2)])
    return correlated(cov=cov)


def several(a: pt.TensorVariable) -> pt.TensorVariable:
    """Each parameter is one that only some of the effects depend on."""
    taus = pt.stack([a[0], a[1], 1.0, 1.0])
    return pm.Normal("u", 0, taus)[g] + pm.Normal("v", 0, a[2], shape=2)[g % 2]


MEANS: dict[str, Callable[[pt.TensorVariable], pt.TensorVariable]] = {
    "scale": lambda a: pm.Normal("u", 0, a[0], shape=4)[g] + a[1] * x,
    "scales": several,
    "zero-sum": lambda a: pm.ZeroSumNormal("u", a[0], shape=4)[g],
    "prior mean": lambda a: pm.Normal("u", a[0], 1, shape=4)[g] * a[1],
    "non-centred": lambda a: a[0] * pm.Normal("u", shape=4)[g] + a[1],
    "covariance": lambda a: correlated(cov=symmetric(a)),
    "covariances": batched,
    "factor": lambda a: correlated(chol=square(a)),
    "factor, not triangular": lambda a: correlated(cov=pt.dot(b := square(a, lower=False), b.T)),
    "upper factor": lambda a: correlated(chol=square(a).T, lower=False),
    "scaled factor": lambda a: correlated(chol=a[0] * np.array([[1.0, 0], [0.5, 1]])),
}


SINGULAR = {"covariance", "covariances", "factor, not triangular", "upper factor"}
"""Of a matrix that PyMC multiplies by itself, and factorises."""


SIGMAS: dict[str, Callable[[pt.TensorVariable, pt.TensorVariable], pt.TensorVariable | float]] = {
    "number": lambda a, b: 1.0,
    "sampled": lambda a, b: b,
    "by row": lambda a, b: b + (x > 0) * a[2] ** 2,
}


class Densities(NamedTuple):
    """Of the plain model, the marginal one, its gradient, and with the effects given back."""

    plain: Callable
    marginal: Callable
    gradient: Callable
    complete: Callable
    effects: dict[str, np.ndarray]


@cache
def densities(mean: str, sigma: str, family: str, mode: str = FAST) -> Densities:
    with pm.Model() as model:
        a, b = pm.Flat("a", shape=3), pm.Flat("b")
        mu, sd = MEANS[mean](a) + b, SIGMAS[sigma](a, b)
        if family == "LogNormal":
            pm.LogNormal("y", mu, sd, observed=np.exp(y))
        else:
            pm.Normal("y", mu, sd, observed=y)
    effects = [rv.name for rv in model.free_RVs if rv.name not in ("a", "b")]
    marginal = unfolded(model, effects)
    rng = np.random.default_rng(1)
    start = {k: rng.normal(size=v.shape) for k, v in model.initial_point().items() if k not in "ab"}
    return Densities(
        model.compile_logp(mode=mode),
        marginal.compile_logp(mode=mode),
        marginal.compile_dlogp(mode=mode),
        mlmm.conditional(marginal).compile_logp(mode=mode),
        start,
    )


STEPS = np.array(list(itertools.product((-1, 1), repeat=3)))


def is_steady(of: Densities, a: np.ndarray, b: float, expected: float) -> bool:
    """Whether PyMC has digits left of the factor of a product that is nearly singular."""
    beside = [of.plain({"a": a + step, "b": np.asarray(b), **of.effects}) for step in 1e-9 * STEPS]
    return np.allclose(beside, expected, rtol=1e-5)


def is_boundary(of: Densities, a: np.ndarray, b: float, singular: bool) -> bool:
    """Whether there is support next to a point, as the plain model tells it.

    Where a parameter is 0 or next to it, or the product of a matrix with itself nearly singular;
    and where a mean is so large that its square is infinite.
    """
    bounded = np.where(np.abs(a) == 1e300, np.sign(a) * 1e100, a)
    size = max(1.0, np.abs(bounded).max()) if singular else 1.0
    small = 1e-5 * size if singular else 1e-150  # whose square is 0
    for step in 1e-5 * STEPS:
        near = np.where(np.abs(a) < small, step * size, bounded * (1 + step * singular))
        if np.isfinite(of.plain({"a": near, "b": np.asarray(b), **of.effects})):
            return True
    return False


def check(of: Densities, a: np.ndarray, b: float, singular: bool) -> None:
    point = {"a": np.asarray(a), "b": np.asarray(b)}
    with np.errstate(all="ignore"):
        expected = float(of.plain({**point, **of.effects}))
        complete = float(of.complete({**point, **of.effects}))
        found, gradient = float(of.marginal(point)), of.gradient(point)
        boundary = expected == -np.inf and is_boundary(of, a, b, singular)
    if np.isnan(expected):  # of a mean; or PyMC takes the logarithm of a scale without a check
        assert not np.isfinite(complete)
    else:
        assert not np.isnan(found)
        assert not np.isnan(complete)
    assert found != np.inf
    if expected == -np.inf:
        assert complete == -np.inf or (singular and boundary)
        assert found == -np.inf or boundary
    values = np.abs([*a, b])
    compared = (values == 0) | ((values > 1e-3) & (values < 1e3))
    if np.isfinite(expected) and compared.all():
        with np.errstate(all="ignore"):
            steady = not singular or is_steady(of, a, b, expected)
        if steady:
            assert_allclose(complete, expected, rtol=1e-6)
    if np.abs(found) < 1e100:  # and its gradient no overflow
        assert not np.isnan(gradient).any()


parameters = st.sampled_from(EDGES) | st.floats(-3, 3)


LIKELIHOODS = list(itertools.product(SIGMAS, ["Normal", "LogNormal"]))


WITH_LIKELIHOODS = [  # each mean with one in the fast suite, another one each time
    pytest.param(mean, *likelihood, marks=() if k == i % len(LIKELIHOODS) else pytest.mark.slow)
    for i, mean in enumerate(MEANS)
    for k, likelihood in enumerate(LIKELIHOODS)
]


@pytest.mark.parametrize("mean, sigma, family", WITH_LIKELIHOODS)
def test_support(mean: str, sigma: str, family: str) -> None:
    @settings(
        max_examples=200,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.tuples(parameters, parameters, parameters), parameters)
    def run(a: tuple[float, ...], b: float) -> None:
        check(densities(mean, sigma, family), np.array(a), b, mean in SINGULAR)

    with pytensor.config.change_flags(traceback__limit=0):
        run()


@pytest.mark.parametrize("mode", BACKENDS)
@pytest.mark.parametrize("mean", ["covariance", "factor", "non-centred"])
def test_support_on_all_backends(mean: str, mode: str) -> None:
    of = densities(mean, "sampled", "Normal", mode)
    for a in [(1, 0.5, 1), (1, 2, 1), (-1, 0, 1), (1, 0, -1), (1, np.nan, 1), (np.inf, 0, 1)]:
        for b in (1.0, -1.0, 1e-300):
            point = {"a": np.array(a, float), "b": np.array(b)}
            with np.errstate(all="ignore"):
                expected, found = of.plain({**point, **of.effects}), of.marginal(point)
            assert np.isnan(expected) or not np.isnan(found)
            assert not np.isfinite(found) or np.isfinite(expected)
            assert not np.isfinite(found) or np.isfinite(of.gradient(point)).all()


def test_parameters_that_are_numbers() -> None:
    """A model that has no density anywhere has none when it is marginal."""
    for scale, sigma in [(-1.0, 1.0), (1.0, -1.0), (1.0, 0.0)]:
        with pm.Model() as model:
            b = pm.Flat("b")
            pm.Normal("y", b + pm.Normal("u", 0, scale, shape=4)[g], sigma, observed=y)
        assert unfolded(model, "u").compile_logp(mode=FAST)({"b": np.array(0.3)}) == -np.inf


def test_factor_of_an_lkj_prior_needs_no_check() -> None:
    """Its diagonal is positive: nothing is added to the density of the usual models."""
    with pm.Model() as model:
        chol, *_ = pm.LKJCholeskyCov("chol", n=2, eta=1, sd_dist=pm.HalfNormal.dist(1.0))
        correlated(chol=chol)
        pm.Normal("y", model["u"][g, 0], 1.0, observed=y)
    effect, *_ = unfolded(model, "u").observed_RVs[0].owner.op.structure.effects
    assert not isinstance(effect.valid, pt.TensorVariable)
    assert effect.valid
