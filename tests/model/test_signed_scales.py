"""Folded scales over the whole range of floats, against exact arithmetic and unfolded ones."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from pymc.model.core import Model
from pytensor.graph.replace import graph_replace
from pytensor.scalar.basic import autocast_float_as
from scipy.special import gammaln

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model.folded import Fold, FoldedCholesky, FoldedScale

FAST = "FAST_COMPILE"
NU, ETA = 3.0, 1.5
EXACT = decimal.Context(prec=200, Emax=10**9, Emin=-(10**9))
PRIORS: dict[str, Callable[..., pt.TensorVariable]] = {
    "half-normal": lambda p, **kwargs: pm.HalfNormal.dist(p, **kwargs),
    "exponential": lambda p, **kwargs: pm.Exponential.dist(scale=p, **kwargs),
    "half-Cauchy": lambda p, **kwargs: pm.HalfCauchy.dist(p, **kwargs),
    "half-t": lambda p, **kwargs: pm.HalfStudentT.dist(nu=NU, sigma=p, **kwargs),
}
PRIOR = pytest.mark.parametrize("prior", PRIORS)
HEAVY = ("half-Cauchy", "half-t")


def sinh(x: Decimal) -> Decimal:
    return x if abs(x) < Decimal("1e-50") else (x.exp() - (-x).exp()) / 2


def cosh(x: Decimal) -> Decimal:
    return (x.exp() + (-x).exp()) / 2


def asinh(z: Decimal) -> Decimal:
    size = abs(z) if abs(z) < Decimal("1e-50") else (abs(z) + (1 + z * z).sqrt()).ln()
    return size.copy_sign(z)


class Exact(NamedTuple):
    """The map and the density at one point, with two hundred digits."""

    tau: Decimal
    log_density: Decimal
    gradient: Decimal

    @classmethod
    def at(cls, prior: str, unit: float, scale: float, value: float) -> Exact:
        u, p, x = Decimal(unit), Decimal(scale), Decimal(value)
        s, far = 1 / (1 / u + 1 / p), abs(x) > 5000
        if prior in HEAVY:
            x = min(max(x, Decimal(-5000)), Decimal(5000))  # more than can be represented
            t, log_slope, more = s * sinh(x), (s * cosh(x)).ln(), sinh(x) / cosh(x)
        else:
            if far:
                t, log_slope, more = (abs(x) - (p / s).ln()).copy_sign(x) * p, p.ln(), Decimal(0)
            else:
                z, dz = s / p * sinh(x), s / p * cosh(x)
                t, log_slope = p * asinh(z), (p * dz / (1 + z * z).sqrt()).ln()
                more = sinh(x) / cosh(x) - z * dz / (1 + z * z)
        r = t / p
        if prior == "half-normal":
            constant, log_p, by_r = math.log(2 / math.pi) / 2, -r * r / 2, -r
        elif prior == "exponential":
            constant, log_p, by_r = 0.0, -abs(r), Decimal(0 if r == 0 else -1).copy_sign(-r)
        else:
            nu = Decimal(1 if prior == "half-Cauchy" else NU)
            k = float(nu)
            constant = math.lgamma((k + 1) / 2) - math.lgamma(k / 2) - math.log(k * math.pi) / 2
            constant += float(np.log(np.float32(2)))  # as in PyMC's densities
            log_p = -(nu + 1) / 2 * (1 + r * r / nu).ln()
            by_r = -(nu + 1) * r / (nu + r * r)
        log_density = Decimal(constant) + log_p - p.ln() + log_slope - Decimal(2).ln()
        return cls(abs(t), log_density, by_r * log_slope.exp() / p + more)


class Functions(NamedTuple):
    """Of a vector of values: ``τ``, ``x`` again, log density by element, and its gradient."""

    tau: np.ndarray
    again: np.ndarray
    log_density: np.ndarray
    gradient: np.ndarray


def evaluate(
    prior: str,
    unit: np.ndarray,
    scale: np.ndarray,
    x: np.ndarray,
    dtype: str = "float64",
    mode: str = FAST,
) -> Functions:
    # Literals of PyMC's densities in double precision, as elsewhere in these tests.
    with (
        pytensor.config.change_flags(floatX=dtype, traceback__limit=0),
        autocast_float_as(dtype),
    ):
        with Model() as model:
            rv = PRIORS[prior](np.asarray(scale, dtype), shape=len(x))
            fold = Fold(type(rv.owner.op), np.asarray(unit, dtype))
            model.register_rv(rv, "tau", default_transform=FoldedScale(fold))
        value = model.rvs_to_values[rv]
        (log_density,) = model.logp(sum=False)
        gradient = pytensor.grad(log_density.sum(), value)
        transform = model.rvs_to_transforms[rv]
        tau = transform.backward(value, *rv.owner.inputs)
        again = transform.forward(tau, *rv.owner.inputs)
        function = model.compile_fn([tau, again, log_density, gradient], mode=mode, point_fn=False)
        with np.errstate(all="ignore"):
            return Functions(*map(np.asarray, function(np.asarray(x, dtype))))


def is_representable(prior: str, scale: float, exact: Exact, dtype: str) -> bool:
    """Whether PyMC's own density of ``τ`` is finite in floating point, with something to spare."""
    largest = Decimal(float(np.finfo(dtype).max)) / 300
    ratio = exact.tau / Decimal(scale)
    if exact.tau > largest:
        return False
    if prior == "exponential":
        return ratio < largest
    return ratio**2 < largest and (prior not in HEAVY or exact.tau**2 < largest)


def check(
    prior: str, units: Any, scales: Any, xs: Any, dtype: str = "float64", mode: str = FAST
) -> None:
    found = evaluate(prior, np.array(units), np.array(scales), np.array(xs), dtype, mode)
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    for i, (unit, scale, x) in enumerate(zip(units, scales, xs, strict=True)):
        where = f"unit={unit}, scale={scale}, x={x}: "
        tau, again, log_density, gradient = (float(part[i]) for part in found)
        assert not np.isnan([tau, again, log_density, gradient]).any(), where
        assert np.isfinite(gradient), where
        exact = Exact.at(prior, *(float(np.asarray(v, dtype)) for v in (unit, scale, x)))
        if not is_representable(prior, scale, exact, dtype):
            assert log_density < 0, where
            continue
        digits = 2000 * eps
        assert np.isfinite(log_density), where
        assert_allclose(tau, float(exact.tau), rtol=digits, atol=tiny, err_msg=where)
        expected = float(exact.log_density)
        assert_allclose(log_density, expected, rtol=digits, atol=10 * digits, err_msg=where)
        if 0 < exact.tau < tiny:  # the sign of x is lost, which may be as small itself
            continue
        expected = float(exact.gradient)
        assert_allclose(gradient, expected, rtol=10 * digits, atol=digits, err_msg=where)
        if tau > 1e10 * tiny:
            assert_allclose(again, abs(x), rtol=10 * digits, err_msg=where)


magnitudes = st.floats(-150, 150).map(lambda e: 10.0**e)
values = (
    st.sampled_from([0.0, 1e-300, -1e-8, 700.0, -700.0, 1e5, -1e5, 1e300, -1e300])
    | st.floats(-300, 300).map(lambda e: 10.0**e)
    | st.floats(-1500, 1500)
)


@PRIOR
def test_any_scale(prior: str) -> None:
    @settings(
        max_examples=12, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.lists(st.tuples(magnitudes, magnitudes, values), min_size=20, max_size=60))
    def run(points: list[tuple[float, float, float]]) -> None:
        check(prior, *zip(*points, strict=True))

    with decimal.localcontext(EXACT):
        run()


GRID = np.array([0.0, 1e-30, -1e-3, 0.4, -3, 8.9, 9.1, 17.9, -18.1, 40, 300, 700, 1e5, -1e9, 1e20])


@pytest.mark.parametrize("mode", ["NUMBA", "JAX"])
@pytest.mark.parametrize("prior", ["half-normal", "half-Cauchy"])
def test_all_regions_on_all_backends(prior: str, mode: str) -> None:
    unit, scale, x = (a.ravel() for a in np.meshgrid([1e-150, 1, 1e9], [1e-9, 1, 1e150], GRID))
    with decimal.localcontext(EXACT):
        check(prior, unit, scale, x, mode=mode)


@pytest.mark.parametrize("mode", [FAST, "JAX"])
@PRIOR
def test_all_regions_in_single_precision(prior: str, mode: str) -> None:
    unit, scale, x = (a.ravel() for a in np.meshgrid([1e-18, 1, 1e3], [1e-3, 1, 1e18], GRID))
    with decimal.localcontext(EXACT):
        check(prior, unit, scale, x, "float32", mode)


def factor_density(prior: str, n: int, unit: np.ndarray, mode: str = FAST) -> tuple:
    """Return packed factor, value again, log density and gradient as a function, and the value."""
    with Model() as model:
        sd = PRIORS[prior](np.ones(n), shape=n)
        packed = pm.LKJCholeskyCov("chol", n=n, eta=ETA, sd_dist=sd, compute_corr=False)
        u = pm.MvNormal("u", chol=pm.math.expand_packed_triangular(n, packed), shape=(2, n))
        pm.Normal("y", u.sum(axis=1), 1.0, observed=[0.3, 1.2])
    marginal = mlmm.marginalize(model)
    rv = marginal["chol"]
    transform = marginal.rvs_to_transforms[rv]
    assert isinstance(transform, FoldedCholesky)
    transform.fold.unit = unit
    value = marginal.rvs_to_values[rv]
    factor = transform.backward(value, *rv.owner.inputs)
    again = transform.forward(factor, *rv.owner.inputs)
    log_density = marginal.logp(vars=[rv])
    gradient = pytensor.grad(log_density, value)
    outputs = [factor, again, log_density, gradient]
    return marginal.compile_fn(outputs, inputs=[value], mode=mode, point_fn=False), transform


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("prior", ["exponential", "half-t"])
def test_any_factor(prior: str, n: int) -> None:
    """The density is a product of densities of each scale and of each partial correlation."""
    rng = np.random.default_rng(n)
    unit = 10.0 ** rng.uniform(-9, 9, size=n)
    with pytensor.config.change_flags(traceback__limit=0), autocast_float_as("float64"):
        function, transform = factor_density(prior, n, unit)
    diagonal, size = transform.diagonal, n * (n + 1) // 2
    extremes = [0.0, 1e-300, 0.5, 20.0, -300.0, 1e4, -1e9, 1e300, -np.inf]
    for k in range(40):
        value = rng.normal(0, 3, size=size)
        if k % 4:
            value[rng.integers(size)] = rng.choice(extremes)
        with np.errstate(all="ignore"):
            factor, again, log_density, gradient = function(value)
        where = f"unit={unit}, value={value}"
        assert np.isfinite(factor).all(), where
        assert np.isfinite(gradient).all(), where
        assert not np.isnan([*again, log_density]).any(), where
        if not np.isfinite(value).all() or np.abs(value).max() > 1e200:
            assert log_density < -1e200, where
            continue
        beta = ETA + (n - 2 - transform.columns) / 2
        z = np.abs(np.delete(value, diagonal))
        log_sech = math.log(2) - z - np.log1p(np.exp(-2 * z))
        beta = np.delete(beta, diagonal)
        norms = gammaln(beta + 0.5) - gammaln(beta) - 0.5 * math.log(math.pi)
        with decimal.localcontext(EXACT):
            scales = [
                Exact.at(prior, s, 1.0, x) for s, x in zip(unit, value[diagonal], strict=True)
            ]
        if not all(is_representable(prior, 1.0, exact, "float64") for exact in scales):
            continue
        expected = (2 * beta * log_sech + norms).sum() + sum(float(e.log_density) for e in scales)
        assert_allclose(log_density, expected, rtol=1e-8, atol=1e-8, err_msg=where)
        if np.abs(value).max() < 15 and value[diagonal].all():
            assert_allclose(np.abs(again), np.abs(value), rtol=1e-6, atol=1e-6, err_msg=where)


def intercepts(prior: str, scale: float) -> pm.Model:
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(6), 4)
    with pm.Model() as model:
        tau = model.register_rv(PRIORS[prior](scale), "tau")
        u = pm.Normal("u", 0, tau, shape=6)
        pm.Normal("y", u[group], 1.0, observed=30 * rng.normal(size=6)[group] + rng.normal(size=24))
    return model


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@PRIOR
def test_same_density_as_unfolded(prior: str, scale: float) -> None:
    """Of the same ``τ``, as a marginal model has it: up to the Jacobian of each value scale."""
    results = []
    taus = scale * 10.0 ** np.array([-12, -3, 0, 1, 2, 2.6, 3, 4.5])
    for fold in (True, False):
        model = mlmm.marginalize(intercepts(prior, scale), fold_scales=fold)
        tau = model["tau"]
        transform = model.rvs_to_transforms[tau]
        assert isinstance(transform, FoldedScale) == fold
        one = pt.scalar()
        value = transform.forward(one, *tau.owner.inputs)
        log_density = graph_replace([model.logp(jacobian=False)], {model.rvs_to_values[tau]: value})
        back = transform.backward(value, *tau.owner.inputs)
        function = model.compile_fn([*log_density, back], inputs=[one], mode=FAST, point_fn=False)
        results.append([function(t) for t in taus])
    folded, unfolded = (np.array(result, dtype=float).T for result in results)
    assert_allclose(folded[1], taus, rtol=1e-10)
    # A small difference of τ is a large one of a density that is steep.
    assert_allclose(folded[0], unfolded[0], rtol=1e-9, atol=1e-9)


def test_scale_of_a_prior_that_is_sampled_and_none() -> None:
    """Outside the support of its own parameter a prior has no density, folded or not."""
    with pm.Model() as model:
        p = pm.Flat("p")
        tau = pm.HalfNormal("tau", p)
        pm.Normal("y", pm.Normal("u", 0, tau, shape=3)[[0, 1, 2, 0]], 1.0, observed=np.arange(4.0))
    marginal = mlmm.marginalize(model, "u")
    assert isinstance(marginal.rvs_to_transforms[marginal["tau"]], FoldedScale)
    logp, dlogp = marginal.compile_logp(mode=FAST), marginal.compile_dlogp(mode=FAST)
    for x in (0.0, 0.7, -30.0, 1e9):
        for scale in (-1.0, 0.0, np.nan, np.inf):
            assert logp({"p": np.array(scale), "tau_fold__": np.array(x)}) == -np.inf
        for scale in (1e-150, 1e-3, 1.0, 1e9, 1e150):
            point = {"p": np.array(scale), "tau_fold__": np.array(x)}
            if np.isfinite(logp(point)):
                assert np.isfinite(dlogp(point)).all(), point
    values = np.array([1e-3, 0.2, 1.0, 5.0])
    for x in values:
        for scale in 10 * values:
            point = {"p": np.array(scale), "tau_fold__": np.array(x)}
            steps = [{**point, k: v + d} for k, v in point.items() for d in (1e-6, -1e-6)]
            up, down, right, left = map(logp, steps)
            names = [v.name for v in marginal.value_vars]
            found = dict(zip(names, dlogp(point), strict=True))
            assert_allclose(found["p"], (up - down) / 2e-6, rtol=1e-5, atol=1e-5)
            assert_allclose(found["tau_fold__"], (right - left) / 2e-6, rtol=1e-5, atol=1e-5)
