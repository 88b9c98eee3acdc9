"""Priors that are processes: every form of them, against PyMC's own densities and scipy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from scipy import sparse
from scipy.stats import multivariate_normal

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.analysis.priors import is_gaussian, read_prior
from tests.helpers import assert_same_posterior, dense_reference, density, random_point, unfolded

T = 5
SQUARE = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])
PATH = np.diag(np.ones(3), 1) + np.diag(np.ones(3), -1)
COV = np.array([[1.0, 0.3], [0.3, 0.7]])
Build = Callable[[pt.TensorVariable, pt.TensorVariable], pt.TensorVariable]
normal = pm.Normal.dist

# Each is built of a correlation r and a scale s that stay sampled.
FORMS: dict[str, Build] = {
    "AR, steps": lambda r, s: pm.AR(
        "v", [0.1, r], s, constant=True, init_dist=normal(0.3, s), steps=4
    ),
    "AR, dims": lambda r, s: pm.AR("v", pt.stack([0.1, r]), s, init_dist=normal(), dims="time"),
    "AR, numbers": lambda r, s: pm.AR("v", [0.4], 1.0, init_dist=normal(), shape=T),
    "AR, precision": lambda r, s: pm.AR("v", [r], tau=s, init_dist=normal(), shape=T),
    "AR, a sigma per series": lambda r, s: pm.AR(
        "v", [r, 0.2], [s, 2 * s], init_dist=pm.MvNormal.dist([0.0, 1.0], COV), shape=(2, T)
    ),
    "AR, lags per series": lambda r, s: pm.AR(
        "v", pt.stack([[0.1, r], [r, 0.2]]), s, init_dist=normal([0.0, 0.4], s), shape=(2, T)
    ),
    "AR, series alike": lambda r, s: pm.AR("v", [r], s, init_dist=normal(0, s), shape=(3, T)),
    "AR, as long as its order": lambda r, s: pm.AR(
        "v", [r, r, r, r, r], s, init_dist=normal(0, s), shape=T
    ),
    "AR, a batch of two axes": lambda r, s: pm.AR(
        "v", [r], s, init_dist=normal(0, s), shape=(2, 1, 3)
    ),
    "walk, drift and mean": lambda r, s: pm.GaussianRandomWalk(
        "v", mu=0.3 * r, sigma=s, init_dist=normal(r, 1), dims="time"
    ),
    "walk, a sigma per step": lambda r, s: pm.GaussianRandomWalk(
        "v", mu=0.3, sigma=s * np.arange(1.0, T), init_dist=normal(), shape=T
    ),
    "walk, a drift per step": lambda r, s: pm.GaussianRandomWalk(
        "v", mu=r * np.arange(1.0, T), sigma=s, init_dist=normal(), shape=T
    ),
    "walks, a drift per step and series": lambda r, s: pm.GaussianRandomWalk(
        "v",
        mu=r * np.arange(T - 1.0)[:, None] + [0.0, 1.0],
        sigma=s,
        init_dist=normal([r, 0], s),
        shape=(2, T),
    ),
    "walks, a sigma per series": lambda r, s: pm.GaussianRandomWalk(
        "v", sigma=[s, 2 * s], init_dist=normal(r, 1), steps=T - 1
    ),
    "walk of pairs": lambda r, s: pm.MvGaussianRandomWalk(
        "v",
        mu=np.array([0.3, 1]),
        chol=s * np.linalg.cholesky(COV),
        init_dist=pm.MvNormal.dist(np.array([1.0, 2]), s * np.eye(2)),
        shape=(2, 3, 2),
    ),
    "walk of autoregressions": lambda r, s: pm.RandomWalk(
        "v",
        init_dist=pm.AR.dist([r], s, init_dist=normal(), steps=1),
        innovation_dist=pm.AR.dist([r], s, init_dist=normal(), steps=1),
        steps=2,
    ),
    "MatrixNormal, covariances": lambda r, s: pm.MatrixNormal(
        "v", mu=np.arange(6.0).reshape(3, 2), rowcov=s**2 * np.eye(3), colcov=COV
    ),
    "KroneckerNormal, factors": lambda r, s: pm.KroneckerNormal(
        "v", np.zeros(4), chols=[s * np.linalg.cholesky(COV), np.eye(2)], shape=(2, 4)
    ),
    "CAR, dense": lambda r, s: pm.CAR("v", r * np.ones(4), W=SQUARE, alpha=r, tau=s),
    "CAR, weights": lambda r, s: pm.CAR("v", np.zeros(4), W=PATH * 0.7, alpha=0.5, tau=s),
    "CAR, several": lambda r, s: pm.CAR(
        "v", np.arange(8.0).reshape(2, 4), W=SQUARE, alpha=r, tau=s
    ),
    "CAR, weights in pm.Data": lambda r, s: pm.CAR(
        "v", np.zeros(4), W=pm.Data("W", SQUARE), alpha=r, tau=s
    ),
    "CAR, sparse": lambda r, s: pm.CAR("v", np.zeros(4), W=sparse.csr_matrix(PATH), alpha=r, tau=s),
    "ICAR": lambda r, s: pm.ICAR("v", W=SQUARE, sigma=s),
    "ICAR, of a wide sum": lambda r, s: pm.ICAR("v", W=PATH.astype(int), sigma=s, zero_sum_stdev=s),
    "ICAR, numbers": lambda r, s: pm.ICAR("v", W=SQUARE, zero_sum_stdev=0.1),
}


def model_of(form: str) -> pm.Model:
    """A regression on all elements but the last, which have no data."""
    rng = np.random.default_rng(0)
    with pm.Model(coords={"time": range(10, 10 + T)}) as model:
        r, s = pm.Uniform("r", -1.0, 1.0), pm.HalfNormal("s")
        b = pm.Normal("b", 0.0, 2.0)
        v = FORMS[form](r, s)
        flat = v.flatten()
        size = int(np.prod(model.initial_point()["v"].shape))
        x = rng.normal(size=14)
        mean = b + flat[np.arange(14) % max(size - 1, 1)] * x
        pm.Normal("y", mean, 0.8, observed=rng.normal(size=14))
    return model


@pytest.mark.parametrize("form", FORMS)
def test_density_and_posterior_and_their_product(form: str) -> None:
    plain = model_of(form)
    marginal = unfolded(plain, ["b", "v"])
    point = random_point(marginal, seed=1)
    reference = dense_reference(plain, ("b", "v"), point)
    found = density(marginal)(point)
    assert_allclose(found, reference.log_density, rtol=1e-9)
    assert_same_posterior(marginal, plain, ("b", "v"), point, reference)
    full = mlmm.conditional(marginal)
    assert full.named_vars_to_dims == plain.named_vars_to_dims
    point = random_point(plain, seed=2)
    joint, product = (density(m)(point) for m in (plain, full))
    assert_allclose(product, joint, rtol=1e-8)


@pytest.mark.parametrize(
    "form",
    ["AR, steps", "walk, drift and mean", "walk of pairs", "CAR, sparse", "ICAR", "AR, dims"],
)
def test_unmarginalize_and_draws(form: str) -> None:
    plain = model_of(form)
    marginal = mlmm.marginalize(plain)
    again = mlmm.unmarginalize(marginal)
    point = random_point(plain, seed=3)
    joint, restored = (density(m)(point) for m in (plain, again))
    assert_allclose(restored, joint, rtol=1e-12)
    with marginal:
        values = {rv.name: np.full((1, 2), 0.5) for rv in marginal.free_RVs}
    from arviz_base import from_dict

    idata = mlmm.recover(
        from_dict({"posterior": values}), model=marginal, progressbar=False, random_seed=1
    )
    drawn = idata.posterior["v"]
    dims = plain.named_vars_to_dims.get("v")
    assert drawn.shape[2:] == plain.initial_point()["v"].shape
    assert np.isfinite(drawn).all()
    if dims:
        assert drawn.dims[2:] == tuple(dims)
        assert drawn["time"].values.tolist() == list(range(10, 10 + T))
    if form == "ICAR":  # nobody can draw from its prior
        with pytest.raises(NotImplementedError, match="Cannot sample from ICAR"):
            pm.draw(marginal["y"], mode="FAST_COMPILE")
    else:
        draws = pm.draw(marginal["y"], draws=2, mode="FAST_COMPILE", random_seed=1)
        assert draws.shape == (2, 14)
        assert not np.allclose(draws[0], draws[1])


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.6, 0.999, 1.02])
@pytest.mark.parametrize("noise", [0.01, 10.0])
def test_autoregression_with_scipy(correlation: float, noise: float) -> None:
    """Noise that is a hundredth of the innovations, or ten times them; also of no finite mean."""
    n, s = 60, 1.3
    X = np.column_stack([np.ones(n), np.arange(n) / n])
    y = np.random.default_rng(31).normal(size=n).cumsum()
    with pm.Model() as model:
        beta, r = pm.Normal("beta", 0, 10, shape=2), pm.Normal("rho", 0.0, 1.0)
        ar = pm.AR("ar", rho=[r], sigma=s, shape=n, init_dist=pm.Normal.dist(0, s))
        pm.Normal("y", X @ beta + ar, noise, observed=y)
    lag = np.subtract.outer(np.arange(n), np.arange(n))
    L = np.where(lag >= 0, correlation ** np.maximum(lag, 0.0), 0.0)
    cov = s**2 * L @ L.T + 100 * X @ X.T + noise**2 * np.eye(n)
    marginal = unfolded(model, ["beta", "ar"])
    found = marginal.compile_logp(vars=[marginal["y"]], mode="FAST_COMPILE")
    expected = multivariate_normal(np.zeros(n), cov).logpdf(y)
    assert_allclose(found({"rho": np.array(correlation)}), expected, rtol=1e-8)


@pytest.mark.parametrize("centred", [False, True])
def test_time_varying_coefficient_with_scipy(centred: bool) -> None:
    n, s = 30, 0.4
    rng = np.random.default_rng(32)
    y, x, L = rng.normal(size=n).cumsum(), rng.normal(size=n), np.tril(np.ones((n, n)))
    walk = L @ np.diag([1.0] + [s**2] * (n - 1)) @ L.T
    with pm.Model() as model:
        sd = pm.HalfNormal("s")
        w = pm.GaussianRandomWalk("w", sigma=sd, init_dist=pm.Normal.dist(0, 1), steps=n - 1)
        pm.Normal("y", w - pt.mean(w) if centred else w * x, 0.3, observed=y)
    C = np.eye(n) - 1 / n if centred else np.diag(x)
    marginal = unfolded(model, ["w"])
    found = marginal.compile_logp(vars=[marginal["y"]], jacobian=False, mode="FAST_COMPILE")
    expected = multivariate_normal(np.zeros(n), C @ walk @ C.T + 0.09 * np.eye(n)).logpdf(y)
    assert_allclose(found({"s_log__": np.log(s)}), expected, rtol=1e-9)


def test_spellings_of_a_walk_have_one_density() -> None:
    n = 8
    y, start = np.random.default_rng(1).normal(size=n), pm.Normal.dist(0.0, 0.7)
    scales = np.array([0.7] + [0.4] * (n - 1))

    def density(walk: Callable[[], pt.TensorVariable]) -> float:
        with pm.Model() as model:
            pm.Normal("b")
            pm.Normal("y", walk(), 0.3, observed=y)
        marginal = unfolded(model)
        assert [rv.name for rv in marginal.free_RVs] == ["b"]
        return float(marginal.compile_logp(vars=[marginal["y"]], mode="FAST_COMPILE")({"b": 0.0}))

    spellings = {
        "walk": lambda: pm.GaussianRandomWalk("w", sigma=0.4, init_dist=start, shape=n),
        "autoregression": lambda: pm.AR("w", rho=[1.0], sigma=0.4, init_dist=start, shape=n),
        "cumsum": lambda: pt.cumsum(scales * pm.Normal("z", shape=n)),
        "centred cumsum": lambda: pm.Normal("z", 0.0, scales).cumsum(),
        "matrix": lambda: np.tril(np.ones((n, n))) @ pm.Normal("z", 0.0, scales),
        "MvNormal": lambda: pm.MvNormal("w", chol=np.tril(np.ones((n, n))) * scales),
        "convolution": lambda: pt.signal.convolve1d(pm.Normal("z", 0.0, scales), np.ones(n))[:n],
        "solution": lambda: pt.linalg.solve_triangular(
            np.eye(n) - np.eye(n, k=-1), pm.Normal("z", 0.0, scales), lower=True
        ),
    }
    values = {name: density(walk) for name, walk in spellings.items()}
    assert_allclose(list(values.values()), values["MvNormal"], rtol=1e-10)


OUTSIDE: dict[str, tuple[Build, float, float]] = {
    "AR": (lambda r, s: pm.AR("v", [r], s, init_dist=normal(), shape=4), 0.5, -1.0),
    "first value": (lambda r, s: pm.AR("v", [r], 1.0, init_dist=normal(0, s), shape=4), 0.5, -1.0),
    "walk": (
        lambda r, s: pm.GaussianRandomWalk("v", sigma=s, init_dist=normal(), shape=4),
        0.5,
        -1.0,
    ),
    "CAR, alpha": (lambda r, s: pm.CAR("v", np.zeros(4), SQUARE, r, s), 1.5, 1.0),
    "CAR, tau": (lambda r, s: pm.CAR("v", np.zeros(4), SQUARE, r, s), 0.5, -1.0),
    "CAR, asymmetric": (
        lambda r, s: pm.CAR("v", np.zeros(4), np.triu(SQUARE) + 1, r, s),
        0.5,
        1.0,
    ),
    "ICAR": (lambda r, s: pm.ICAR("v", SQUARE, sigma=s), 0.5, -1.0),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_density_outside_of_the_support(name: str) -> None:
    build, r, s = OUTSIDE[name]
    with pm.Model() as model:
        v = build(pm.Normal("r"), pm.Normal("s"))
        pm.Normal("y", v, 1.0, observed=np.arange(4.0))
    marginal = unfolded(model, ["v"])
    point = {"r": np.array(r), "s": np.array(s)}
    plain = model.compile_logp(mode="FAST_COMPILE")({**point, "v": np.zeros(4)})
    assert plain == -np.inf
    assert marginal.compile_logp(mode="FAST_COMPILE")(point) == -np.inf


@pytest.mark.parametrize("name", ["AR", "walk"])
def test_no_steps_is_no_harm(name: str) -> None:
    """A standard deviation of 0 is as good as any."""
    build, *_ = OUTSIDE[name]
    with pm.Model() as model:
        v = build(pm.Normal("r"), pm.Normal("s"))
        pm.Normal("y", v, 1.0, observed=np.arange(4.0))
    marginal = unfolded(model, ["v"])
    logp = marginal.compile_logp(vars=[marginal["y"]], mode="FAST_COMPILE")
    effect = 0.5 ** np.arange(4) if name == "AR" else np.ones(4)
    expected = multivariate_normal(np.zeros(4), np.outer(effect, effect) + np.eye(4))
    found = logp({"r": np.array(0.5), "s": np.array(0.0)})
    assert_allclose(found, expected.logpdf(np.arange(4.0)), rtol=1e-12)


def test_several_icar_are_refused_as_pymc_has_no_density_for_them() -> None:
    with pm.Model() as model:
        v = pm.ICAR("v", SQUARE, sigma=pm.HalfNormal("tau"), shape=(2, 4))
        pm.Normal("y", v, 1.0, observed=np.zeros((2, 4)))
    with pytest.raises(mlmm.NotMarginalizable, match="is that of one vector, and this is several"):
        mlmm.marginalize(model, ["v"])


def test_scales_of_processes_are_folded() -> None:
    """Innovations multiply columns of ``Λ``, whose signs are of no account."""
    with pm.Model() as model:
        s, t, icar = (pm.HalfNormal(name) for name in ("s", "t", "icar"))
        r = pm.Uniform("r", -1.0, 1.0)
        mean = pm.AR("ar", [r], s, init_dist=normal(), shape=4)
        mean += pm.GaussianRandomWalk("walk", sigma=t, init_dist=normal(0, t), shape=4)
        mean += pm.ICAR("area", SQUARE, sigma=icar)
        pm.Normal("y", mean, 1.0, observed=np.arange(4.0))
    marginal = mlmm.marginalize(model)
    values = {v.name for v in marginal.value_vars}
    # The integral of PyMC's density of an ICAR depends on its sigma otherwise.
    assert values == {"s_fold__", "t_fold__", "icar_log__", "r_interval__"}
    logp = marginal.compile_logp(mode="FAST_COMPILE")
    point = {name: np.array(0.3) for name in values}
    assert_allclose(logp(point), logp(point | {"s_fold__": np.array(-0.3)}), rtol=1e-12)


def test_what_is_gaussian() -> None:
    assert is_gaussian(pm.Normal.dist())
    assert not is_gaussian(pm.StudentT.dist(nu=4))
    with pytest.raises(TypeError, match="is not Gaussian"):
        read_prior((rv := pm.StudentT.dist(nu=4)).owner.op, rv, ())


@pytest.mark.parametrize(
    "form",
    ["AR, a sigma per series", "AR, dims", "walk of pairs", "walk, drift and mean", "CAR, several"],
)
def test_noncentred(form: str) -> None:
    """``v = mean + Λ z``: densities differ by the constant, known Jacobian ``log|Λ|``."""
    plain = model_of(form)
    new = mlmm.noncenter(plain, ["v"])
    assert new.named_vars_to_dims.get("v") == plain.named_vars_to_dims.get("v")
    point = random_point(new, seed=5)
    inputs = [new.rvs_to_values[rv] for rv in new.free_RVs]
    graph = new.replace_rvs_by_values([new["v"]])[0]
    at = pytensor.function(inputs, graph.ravel(), mode="FAST_COMPILE", on_unused_input="ignore")
    arguments = [point[v.name] for v in inputs]
    v, k = at(*arguments), [v.name for v in inputs].index("v_offset")
    columns = []
    for unit in np.eye(v.size):
        moved = [*arguments]
        moved[k] = moved[k] + unit.reshape(moved[k].shape)
        columns.append(at(*moved) - v)
    log_scale = np.linalg.slogdet(np.array(columns))[1]
    old = {name: x for name, x in point.items() if name != "v_offset"}
    joint = density(plain)
    constant = 0.0
    if form == "CAR, several":  # PyMC's density of a CAR is not normalised
        constant = 2 * 0.5 * (4 * np.log(2 * np.pi) - np.log(SQUARE.sum(axis=0)).sum())
    expected = joint({**old, "v": v.reshape(point["v_offset"].shape)}) + log_scale - constant
    assert_allclose(density(new)(point), expected, rtol=1e-9)


def test_an_icar_is_not_noncentred() -> None:
    """The integral of its density depends on sigma, and would be lost."""
    with pytest.raises(ValueError, match="'v': its prior is ICAR"):
        mlmm.noncenter(model_of("ICAR"), ["v"])
