"""Folded scales: another value scale, the same posterior, and no boundary at 0."""

from __future__ import annotations

from collections.abc import Callable

import arviz as az
import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose
from pymc.distributions.transforms import ordered
from pymc.model.fgraph import clone_model
from pymc.model.transform.conditioning import remove_value_transforms
from pytensor.graph.traversal import ancestors
from pytensor.tensor.math import Dot
from scipy.stats import halfnorm, kstest
from xarray import Dataset

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model.folded import FoldedCholesky, FoldedScale
from pymc_marginal_lmm.model.sample import _initial_values_in
from tests.models import Rows, lkj

FAST = "FAST_COMPILE"
data = Rows(n=60)
g, h = data.index(8), data.index(5)
x, y = data.x, data.y


def intercepts() -> None:
    tau, sigma = pm.HalfNormal("tau"), pm.HalfNormal("sigma")
    u = pm.Normal("u", 0, tau, shape=8)
    pm.Deterministic("ratio", tau / sigma)
    pm.Normal("y", u[g], sigma, observed=y)


def several_priors() -> None:
    a, b, c, d = (
        pm.HalfCauchy("a", 2),
        pm.HalfStudentT("b", nu=3, sigma=1),
        pm.HalfFlat("c"),
        pm.Exponential("d", 1),
    )
    mu = pm.Normal("u", 0, a, shape=8)[g] + pm.Normal("v", 0, b, shape=5)[h]
    mu = mu + pm.Normal("s", 0, c, shape=8)[g] * x + pm.Normal("t", 0, d, shape=5)[h] * x
    pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=y)


def vector() -> None:
    taus = pm.HalfNormal("taus", shape=2)
    u = pm.Normal("u", 0, taus, shape=(8, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * x, pm.HalfNormal("sigma"), observed=y)


def noncentred() -> None:
    tau = pm.HalfNormal("tau")
    u = tau * pm.Normal("z", shape=8)
    pm.Normal("y", u[g], pm.HalfNormal("sigma"), observed=y)


def correlated() -> None:
    u = pm.MvNormal("u", np.zeros(2), chol=lkj("chol", 2), shape=(8, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * x, pm.HalfNormal("sigma"), observed=y)


def correlated_noncentred() -> None:
    u = pm.Normal("z", shape=(8, 3)) @ lkj("chol", 3).T
    pm.Normal("y", u[g, 0] + u[g, 1] * x + u[g, 2], pm.HalfNormal("sigma"), observed=y)


def scale_and_sigma() -> None:
    tau = pm.HalfNormal("tau")
    u = pm.Normal("u", 0, tau, shape=8)
    pm.Normal("y", u[g], tau, observed=y)


def scale_and_mean() -> None:
    tau = pm.HalfNormal("tau")
    u = pm.Normal("u", tau, tau, shape=8)
    pm.Normal("y", u[g], pm.HalfNormal("sigma"), observed=y)


def hyperprior() -> None:
    tau = pm.HalfNormal("tau")
    u = pm.Normal("u", 0, tau, shape=8)
    pm.Normal("y", u[g], pm.HalfNormal("sigma", tau), observed=y)


def potential() -> None:
    tau = pm.HalfNormal("tau")
    pm.Potential("penalty", -(tau**3))
    u = pm.Normal("u", 0, tau, shape=8)
    pm.Normal("y", u[g], pm.HalfNormal("sigma"), observed=y)


def not_even() -> None:
    tau = pm.HalfNormal("tau")
    u = pm.Normal("u", 0, 1 + tau, shape=8)
    pm.Normal("y", u[g], pm.HalfNormal("sigma"), observed=y)


def indexed() -> None:
    taus = pm.HalfNormal("taus", shape=2)
    u, v = pm.Normal("u", 0, taus[0], shape=8), pm.Normal("v", 0, taus[1], shape=5)
    pm.Normal("y", u[g] + v[h], pm.HalfNormal("sigma"), observed=y)


def stacked() -> None:
    taus = pt.stack([pm.HalfNormal("a"), pm.HalfCauchy("b", 1.0)])
    u = pm.Normal("u", 0, taus, shape=(8, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * x, pm.HalfNormal("sigma"), observed=y)


def vector_by_dims() -> None:
    pm.modelcontext(None).add_coords({"effect": ["1", "x"]})
    taus = pm.HalfStudentT("taus", nu=4, sigma=[1.0, 2.0], dims="effect")
    z = pm.Normal("z", shape=(8, 2))
    u = z * taus
    pm.Normal("y", u[g, 0] + u[g, 1] * x, pm.HalfNormal("sigma"), observed=y)


def in_order() -> None:
    taus = pm.HalfNormal("taus", shape=2, transform=ordered, initval=np.array([0.5, 1.0]))
    u = pm.Normal("u", 0, taus, shape=(8, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * x, pm.HalfNormal("sigma"), observed=y)


def untransformed() -> None:
    tau = pm.HalfNormal("tau", default_transform=None)
    pm.Normal("y", pm.Normal("u", 0, tau, shape=8)[g], pm.HalfNormal("sigma"), observed=y)


def scale_of_a_scale() -> None:
    tau = pm.HalfNormal("tau", pm.HalfNormal("above"))
    u = pm.Normal("u", 0, tau, shape=8)
    pm.Normal("y", u[g], pm.HalfNormal("sigma"), observed=y)


def not_highest_at_zero() -> None:
    a, b, c, d = (
        pm.LogNormal("a"),
        pm.Gamma("b", 2, 1),
        pm.InverseGamma("c", 3, 1),
        pm.Uniform("d", 0, 2),
    )
    mu = pm.Normal("u", 0, a, shape=8)[g] + pm.Normal("v", 0, b, shape=5)[h]
    mu = mu + pm.Normal("s", 0, c, shape=8)[g] * x + pm.Normal("t", 0, d, shape=5)[h] * x
    pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=y)


def correlated_with_exponential_scales() -> None:
    chol, *_ = pm.LKJCholeskyCov("chol", n=2, eta=1, sd_dist=pm.Exponential.dist(1.0))
    u = pm.MvNormal("u", np.zeros(2), chol=chol, shape=(8, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * x, pm.HalfNormal("sigma"), observed=y)


def correlated_with_lognormal_scales() -> None:
    chol, *_ = pm.LKJCholeskyCov("chol", n=2, eta=1, sd_dist=pm.LogNormal.dist())
    u = pm.MvNormal("u", np.zeros(2), chol=chol, shape=(8, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * x, pm.HalfNormal("sigma"), observed=y)


def scales_and_correlations_apart() -> None:
    taus, L = pm.HalfNormal("taus", shape=2), pm.LKJCorr("L", n=2, eta=2)
    u = pm.MvNormal("u", np.zeros(2), chol=taus[:, None] * L, shape=(8, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * x, pm.HalfNormal("sigma"), observed=y)


def one_scale_of_correlated_effects() -> None:
    tau, L = pm.HalfNormal("tau"), pm.LKJCorr("L", n=2, eta=2)
    u = pm.MvNormal("u", np.zeros(2), chol=tau * L, shape=(8, 2))
    pm.Normal("y", u[g, 0] + u[g, 1] * x, pm.HalfNormal("sigma"), observed=y)


def loadings() -> None:
    lam = pm.HalfNormal("lam", shape=5)
    u = pm.Normal("u", shape=8)
    pm.Normal("y", lam[h] * u[g], pm.HalfNormal("sigma"), observed=y)


def build(form: Callable[[], None]) -> pm.Model:
    with pm.Model() as model:
        form()
    return model


def folded_in(model: pm.Model) -> set[str]:
    folds = (FoldedScale, FoldedCholesky)
    return {rv.name for rv, t in model.rvs_to_transforms.items() if isinstance(t, folds)}


CASES = [
    (intercepts, {"tau"}),
    (several_priors, {"a", "b", "d"}),
    (vector, {"taus"}),
    (noncentred, {"tau"}),
    (correlated, {"chol"}),
    (correlated_noncentred, {"chol"}),
    (scale_and_sigma, set()),
    (scale_and_mean, set()),
    (hyperprior, set()),
    (potential, set()),
    (not_even, set()),
    (loadings, set()),
    (indexed, {"taus"}),
    (stacked, {"a", "b"}),
    (vector_by_dims, {"taus"}),
    (in_order, set()),
    (untransformed, set()),
    (scale_of_a_scale, {"tau"}),
    (not_highest_at_zero, set()),
    (correlated_with_exponential_scales, {"chol"}),
    (correlated_with_lognormal_scales, set()),
    (scales_and_correlations_apart, set()),
    (one_scale_of_correlated_effects, {"tau"}),
]
FORM = pytest.mark.parametrize(("form", "names"), CASES, ids=[form.__name__ for form, _ in CASES])


@FORM
def test_folds_what_are_scales_only(form: Callable[[], None], names: set[str]) -> None:
    assert folded_in(mlmm.marginalize(build(form))) == names
    assert not folded_in(mlmm.marginalize(build(form), fold_scales=False))


@FORM
def test_same_density(form: Callable[[], None], names: set[str]) -> None:
    """With the Jacobians left out, and at values of any sign."""
    plain, folded = (mlmm.marginalize(build(form), fold_scales=fold) for fold in (False, True))
    rng = np.random.default_rng(0)
    shapes = {name: np.shape(value) for name, value in folded.initial_point().items()}
    at = {name: rng.normal(0, 0.7, size=shape) for name, shape in shapes.items()}
    originals = folded.compile_fn(
        folded.replace_rvs_by_values(folded.free_RVs), inputs=folded.value_vars, mode=FAST
    )(at)
    expected = {}
    for rv, original in zip(folded.free_RVs, originals, strict=True):
        rv = plain[rv.name]
        transform = plain.rvs_to_transforms[rv]
        forward = original if transform is None else transform.forward(
            pt.as_tensor(original), *rv.owner.inputs
        ).eval(mode=FAST)  # fmt: skip
        expected[plain.rvs_to_values[rv].name] = forward
    one = folded.compile_fn(folded.logp(jacobian=False), mode=FAST, point_fn=True)(at)
    other = plain.compile_fn(plain.logp(jacobian=False), mode=FAST, point_fn=True)(expected)
    assert_allclose(one, other, rtol=1e-9)


@FORM
def test_unmarginalize_takes_the_fold_back(form: Callable[[], None], names: set[str]) -> None:
    plain = build(form)
    restored = mlmm.unmarginalize(mlmm.marginalize(plain))
    assert [v.name for v in restored.value_vars] == [v.name for v in plain.value_vars]
    point = plain.initial_point()
    expected = plain.compile_logp(mode=FAST)(point)
    assert_allclose(restored.compile_logp(mode=FAST)(point), expected, rtol=1e-10)


def both() -> pm.Model:
    """A scale, a factor, and an effect that stays for others to integrate out."""
    with pm.Model(coords={"g": range(8), "e": ["1", "x"]}) as model:
        correlated_and_scale()
    return model


def correlated_and_scale() -> None:
    u = pm.MvNormal("u", np.zeros(2), chol=lkj("chol", 2), dims=("g", "e"))
    v = pm.Normal("v", 0, pm.HalfNormal("tau"), shape=5)
    mu = pm.Normal("alpha", 0, 5) + u[g, 0] + u[g, 1] * x + v[h]
    pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=y)


def assert_proper(posterior: Dataset) -> None:
    assert (posterior["tau"] > 0).all()
    assert (posterior["chol_stds"] > 0).all()
    packed = posterior["chol"].values
    assert (packed[..., [0, 2]] > 0).all()
    assert_allclose(packed[..., 0], posterior["chol_stds"].values[..., 0], rtol=1e-6)
    row = np.sqrt((packed[..., 1:] ** 2).sum(axis=-1))
    assert_allclose(row, posterior["chol_stds"].values[..., 1], rtol=1e-6)


def test_sampling_gives_the_variables_of_the_plain_model() -> None:
    plain = both()
    idata = mlmm.sample(
        plain, draws=50, tune=50, chains=2, nuts_sampler="numpyro", initvals={"tau": 0.5},
        random_seed=1, progressbar=False, compute_convergence_checks=False,
    )  # fmt: skip
    posterior = idata["posterior"].to_dataset()
    assert {*posterior.data_vars} == {v.name for v in plain.unobserved_RVs}
    assert posterior["u"].dims == ("chain", "draw", "g", "e")
    assert_proper(posterior)


def test_initial_values_on_the_value_scale_of_the_plain_model() -> None:
    plain = both()
    marginal = mlmm.marginalize(plain)
    given = {
        "tau_log__": np.log(0.5),
        "u": np.zeros(1),
        "sigma_log__": -1.0,
        "chol_fold-cholesky__": 0,
    }
    kept = _initial_values_in(marginal, plain, given)
    assert {*kept} == {"tau", "sigma_log__", "chol_fold-cholesky__"}
    start = pm.initial_point.make_initial_point_fn(
        model=marginal, overrides={marginal["tau"]: kept["tau"]}, return_transformed=False
    )(0)
    assert_allclose(start["tau"], 0.5)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of find_MAP: another return type
def test_everything_else_that_takes_a_model() -> None:
    marginal = mlmm.marginalize(both())
    assert folded_in(marginal) == {"tau", "chol"}
    with marginal, pytensor.config.change_flags(mode=FAST):
        best = pm.find_MAP(progressbar=False, vars=[marginal["tau"], marginal["sigma"]])
        smc = pm.sample_smc(draws=30, chains=1, cores=1, progressbar=False, random_seed=1)
        fit = pm.fit(n=20, progressbar=False, random_seed=1)
        prior = pm.sample_prior_predictive(2000, random_seed=1)["prior"].to_dataset()
    assert best["tau"] > 0
    assert_proper(smc["posterior"].to_dataset())
    assert_proper(fit.sample(20, random_seed=1)["posterior"].to_dataset())
    assert_proper(prior)
    assert kstest(prior["tau"].values.ravel(), halfnorm.cdf).pvalue > 1e-3
    copied = cloudpickle.loads(cloudpickle.dumps(marginal))
    point = {name: value + 0.3 for name, value in marginal.initial_point().items()}
    expected = marginal.compile_logp(mode=FAST)(point)
    assert_allclose(copied.compile_logp(mode=FAST)(point), expected)
    assert_allclose(clone_model(marginal).compile_logp(mode=FAST)(point), expected)


def test_initial_values_are_those_of_the_scale() -> None:
    plain = both()
    plain.set_initval(plain["tau"], 0.25)
    plain.set_initval(plain["chol"], np.array([0.5, 0.3, 0.4]))
    marginal = mlmm.marginalize(plain)
    start = marginal.initial_point()
    function = marginal.compile_fn(
        marginal.replace_rvs_by_values([marginal["tau"], marginal["chol"]]),
        inputs=marginal.value_vars,
        mode=FAST,
        on_unused_input="ignore",
    )
    tau, chol = function(start)
    assert_allclose(tau, 0.25)
    assert_allclose(chol, [0.5, 0.3, 0.4])


def test_one_verb_after_the_other() -> None:
    plain = both()
    at_once = mlmm.marginalize(plain, ["u", "v"])
    partly = mlmm.marginalize(plain, ["u"])
    assert folded_in(partly) == {"chol"}  # the other is that of a sampled effect
    further = mlmm.marginalize(partly, ["v"])
    assert folded_in(at_once) == folded_in(further) == {"tau", "chol"}
    assert folded_in(mlmm.marginalize(partly, ["v"], fold_scales=False)) == set()
    point = {name: value + 0.3 for name, value in at_once.initial_point().items()}
    expected = at_once.compile_logp(mode=FAST)(point)
    assert_allclose(further.compile_logp(mode=FAST)(point), expected, rtol=1e-10)

    # Given back, the effects have their density with the same scales.
    full = mlmm.conditional(at_once)
    assert folded_in(full) == {"tau", "chol"}
    effects = {v.name: np.zeros(v.type.shape) for v in full.value_vars if v.name not in point}
    assert set(effects) == {"u", "v"}
    assert np.isfinite(full.compile_logp(mode=FAST)({**point, **effects}))
    offsets = mlmm.noncenter(partly, ["v"])
    assert folded_in(offsets) == {"chol"}
    own = offsets.initial_point()
    assert np.isfinite(offsets.compile_logp(mode=FAST)(own))


def test_single_precision() -> None:
    with pytensor.config.change_flags(floatX="float32"):
        marginal = mlmm.marginalize(both())
        assert folded_in(marginal) == {"tau", "chol"}
        assert {v.type.dtype for v in marginal.value_vars} == {"float32"}
        point = {n: np.float32(v + 0.3) for n, v in marginal.initial_point().items()}
        one = marginal.compile_logp(mode=FAST)(point)
        gradient = marginal.compile_dlogp(mode=FAST)(point)
    assert one.dtype == gradient.dtype == "float32"
    two = mlmm.marginalize(both()).compile_logp(mode=FAST)(point)
    assert_allclose(one, two, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", [correlated, correlated_and_scale, several_priors])
def test_same_posterior(form: Callable[[], None]) -> None:
    """Means of the variables and of their squares, on both value scales."""
    summaries = []
    for fold in (False, True):
        with mlmm.marginalize(build(form), fold_scales=fold) as marginal:
            idata = pm.sample(
                draws=5000, tune=500, chains=2, nuts_sampler="numpyro", random_seed=1,
                nuts={"target_accept": 0.95, "chain_method": "vectorized"},
                progressbar=False, compute_convergence_checks=False,
            )  # fmt: skip
        names = [rv.name for rv in marginal.free_RVs]
        posterior = idata["posterior"].to_dataset()[names]
        draws_of = posterior.map(np.tanh)  # has moments whatever the prior
        moments = [draws_of, draws_of**2]
        errors = [az.mcse(m) for m in moments]
        summaries.append(([m.mean(("chain", "draw")) for m in moments], errors))
    for k in range(2):
        for name in names:
            (m0, e0), (m1, e1) = ((s[0][k][name].values, s[1][k][name].values) for s in summaries)
            assert (np.abs(m0 - m1) < 5 * np.hypot(e0, e1)).all(), name


def test_transforms_can_be_taken_away() -> None:
    """What is left is PyMC's density of the factor itself."""
    folded, plain = (
        remove_value_transforms(mlmm.marginalize(both(), fold_scales=fold))
        for fold in (True, False)
    )
    point = {"chol": np.array([0.5, 0.3, 0.4]), "tau": np.array(0.4), "sigma": np.array(0.7)}
    one, two = (model.compile_logp(mode=FAST)(point) for model in (folded, plain))
    assert_allclose(one, two, rtol=1e-12)


def test_correlations_need_no_matrix_product() -> None:
    """Numba takes longer to compile one than all else in a small model."""
    with pm.Model() as plain:
        chol, _, _ = pm.LKJCholeskyCov("chol", n=3, eta=2, sd_dist=pm.HalfNormal.dist(1, shape=3))
        u = pm.MvNormal("u", 0, chol=chol, shape=(8, 3))
        pm.Normal("y", u[g, 0] + u[g, 1] * x + u[g, 2] * x**2, pm.HalfNormal("sigma"), observed=y)
    marginal = mlmm.marginalize(plain)
    packed, deterministics = marginal["chol"], [marginal["chol_corr"], marginal["chol_stds"]]
    nodes = ancestors(deterministics)
    assert not [v for v in nodes if v.owner and isinstance(v.owner.op, Dot)]
    assert [v for v in ancestors([plain["chol_corr"]]) if v.owner and isinstance(v.owner.op, Dot)]
    values = np.array([0.5, -0.3, 1.5, 0.2, 0.7, 0.4])
    found = pytensor.function([packed], deterministics, mode=FAST)(values)
    of_plain = [plain["chol_corr"], plain["chol_stds"]]
    expected = pytensor.function([plain["chol"]], of_plain, mode=FAST)(values)
    for one, other in zip(found, expected, strict=True):
        assert_allclose(one, other, rtol=1e-14)
