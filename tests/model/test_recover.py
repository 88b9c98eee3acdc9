"""``recover``, predictive sampling, log likelihoods: what a user does with a marginal model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor
import pytensor.sparse
import pytensor.tensor as pt
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RandomVariable
from scipy import sparse

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model.draws import over_parameters
from pymc_marginal_lmm.model.recover import Recovery
from tests.helpers import density, posterior_of_effects, random_point, unfolded

GROUP = np.repeat(np.arange(4), 5)
X = np.linspace(-1, 1, 20)
Y = np.sin(np.arange(20.0))


def build() -> pm.Model:
    coords = {"school": ["a", "b", "c", "d"], "effect": ["intercept", "slope"], "obs": range(20)}
    with pm.Model(coords=coords) as model:
        sigma = pm.HalfNormal("sigma", 1.0)
        tau = pm.HalfNormal("tau", 1.0)
        alpha = pm.Normal("alpha", 0.0, 2.0)
        u = pm.Normal("u", 0.0, tau, dims=("school", "effect"))
        mu = alpha + u[GROUP, 0] + u[GROUP, 1] * X
        pm.Deterministic("mu", mu, dims="obs")
        pm.Deterministic("total", alpha + u[:, 0], dims="school")
        pm.Deterministic("ratio", tau / sigma)
        pm.Normal("y", mu, sigma, observed=Y, dims="obs")
    return model


@pytest.fixture(scope="module")
def marginal() -> pm.Model:
    return unfolded(build())


def draws(n_chains: int = 2, n_draws: int = 1500, tau: float = 0.8) -> xr.DataTree:
    """Posterior draws that are all the same point, so that recovered draws are comparable."""
    shape = (n_chains, n_draws)
    values = {"sigma": np.full(shape, 0.6), "tau": np.full(shape, tau)}
    dataset = xr.Dataset(
        {name: (("chain", "draw"), value) for name, value in values.items()},
        coords={"chain": np.arange(n_chains) + 3, "draw": np.arange(n_draws)},
    )
    return xr.DataTree.from_dict({"posterior": dataset})


def test_names_dims_coords_and_dtypes(marginal: pm.Model) -> None:
    idata = mlmm.recover(draws(n_draws=3), model=marginal, random_seed=1, progressbar=False)
    posterior = idata["posterior"]
    assert posterior["u"].dims == ("chain", "draw", "school", "effect")
    assert posterior["mu"].dims == ("chain", "draw", "obs")
    assert posterior["total"].dims == ("chain", "draw", "school")
    assert list(posterior["school"].values) == ["a", "b", "c", "d"]
    assert list(posterior["chain"].values) == [3, 4]
    assert posterior["alpha"].dims == ("chain", "draw")
    assert posterior["u"].dtype == np.float64
    assert "ratio" not in posterior  # it does not depend on effects: the sampler reports it
    expected = posterior["alpha"] + posterior["u"].sel(effect="intercept")
    assert_allclose(posterior["total"], expected)


def test_draws_have_the_exact_moments(marginal: pm.Model) -> None:
    idata = mlmm.recover(draws(), model=marginal, random_seed=2, progressbar=False)
    point = {"sigma_log__": np.log(0.6), "tau_log__": np.log(0.8)}
    exact = posterior_of_effects(marginal, {k: np.asarray(v) for k, v in point.items()})
    for name, (mean, covariance) in exact.items():
        sample = idata["posterior"][name].values.reshape(3000, -1)
        sd = np.sqrt(np.diag(covariance))
        z = (sample.mean(axis=0) - mean.ravel()) / (sd / np.sqrt(3000))
        assert np.abs(z).max() < 4.5
        scaled = np.cov(sample.T).reshape(covariance.shape) / np.outer(sd, sd)
        assert_allclose(scaled, covariance / np.outer(sd, sd), atol=0.12)


@pytest.mark.parametrize("width", [1, 3, 7])
def test_blocks_of_any_width_side_by_side(width: int) -> None:
    rng = np.random.default_rng(width)
    one, two, three = (rng.integers(0, m, 150) for m in (40, 4, 5))
    design = rng.normal(size=(150, width))
    with pm.Model() as plain:
        tau = pm.HalfNormal("tau", 1.0)
        leading = pm.Normal("leading", 0.0, tau, shape=(40, 2))
        chol = tau * np.tri(width) / np.arange(1, width + 1)
        wide = pm.MvNormal("wide", np.zeros(width), chol=chol, shape=(4, width))
        narrow = pm.Normal("narrow", 0.0, tau * np.arange(1.0, 7.0), shape=6)  # the last: no data
        mu = leading[one, 0] + leading[one, 1] * design[:, 0]
        mu += (wide[two] * design).sum(axis=-1) + narrow[three]
        pm.Normal("y", mu, 0.5, observed=rng.normal(size=150))
    marginal = unfolded(plain)
    point = random_point(plain, width)
    joint = density(plain)(point)
    conditional = mlmm.conditional(marginal)
    assert_allclose(density(conditional)(point), joint, rtol=1e-8)
    # Noise apart, what is drawn is the mean that this density has.
    posterior = mlmm.recover(
        draws(1, 4000),
        model=marginal,
        var_names=["wide", "narrow"],
        random_seed=1,
        progressbar=False,
    )["posterior"]
    exact = posterior_of_effects(marginal, {"tau_log__": np.asarray(np.log(0.8))})
    for name in ("wide", "narrow"):
        mean, covariance = exact[name]
        sd = np.sqrt(np.diag(covariance))
        z = (posterior[name].values[0].mean(axis=0).ravel() - mean.ravel()) * np.sqrt(4000) / sd
        assert np.abs(z).max() < 4.5


def test_seed_and_selection(marginal: pm.Model) -> None:
    one, two, other = (
        mlmm.recover(
            draws(n_draws=4),
            model=marginal,
            random_seed=seed,
            extend_inferencedata=False,
            progressbar=False,
        )
        for seed in (5, 5, 6)
    )
    xr.testing.assert_equal(one, two)
    assert not np.allclose(one["u"], other["u"])
    with marginal:
        idata = mlmm.recover(draws(n_draws=4), var_names=["total"], progressbar=False)
    assert set(idata["posterior"].data_vars) == {"sigma", "tau", "total"}


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.SeedSequence, lambda s: [s, 2]])
def test_kinds_of_seeds(marginal: pm.Model, make: Callable) -> None:
    one, two, other = (
        mlmm.recover(draws(n_draws=2), model=marginal, random_seed=make(seed), progressbar=False)
        for seed in (5, 5, 6)
    )
    xr.testing.assert_equal(one["posterior"].to_dataset(), two["posterior"].to_dataset())
    assert not np.allclose(one["posterior"]["u"], other["posterior"]["u"])


def test_what_recover_refuses(marginal: pm.Model) -> None:
    idata = draws(n_draws=2)
    with pytest.raises(ValueError, match=r"'zeta': not among .* alpha, u, mu, total"):
        mlmm.recover(idata, model=marginal, var_names=["zeta"], progressbar=False)
    with pytest.raises(ValueError, match="no integrated effects"):
        mlmm.recover(idata, model=build(), progressbar=False)
    del idata["posterior"]["tau"]
    with pytest.raises(ValueError, match="no draws of 'tau'"):
        mlmm.recover(idata, model=marginal, progressbar=False)


def test_deterministics_may_have_any_value_and_hold_data() -> None:
    """What is not finite is a fault of the effects only; responses are data, not to be drawn."""
    plain = build()
    with plain:
        pm.Deterministic("undefined", pm.math.log(-pm.math.sqr(plain["u"])))
        pm.Deterministic("residual", plain["y"] - plain["mu"], dims="obs")
    marginal = mlmm.marginalize(plain)
    posterior = mlmm.recover(draws(n_draws=2), model=marginal, progressbar=False)["posterior"]
    assert np.isnan(posterior["undefined"]).all()
    assert_allclose(posterior["residual"], Y - posterior["mu"])


def test_a_draw_that_cannot_be_factored_is_named(marginal: pm.Model) -> None:
    idata = draws(n_draws=3)
    idata["posterior"]["tau"][1, 2] = np.inf
    with pytest.raises(np.linalg.LinAlgError, match=r"chain 1, draw 2.*tau=inf"):
        mlmm.recover(idata, model=marginal, progressbar=False)


def test_zero_variance_gives_effects_of_zero(marginal: pm.Model) -> None:
    idata = mlmm.recover(draws(n_draws=2, tau=0.0), model=marginal, progressbar=False)
    assert_allclose(idata["posterior"]["u"], 0.0)


def test_prior_predictive_matches_the_plain_model() -> None:
    """Marginal and plain model generate the same data: means and covariances over draws."""
    plain = build()
    with plain:
        samples = [
            pm.draw(model["y"], draws=4000, random_seed=seed)
            for seed, model in ((1, plain), (2, mlmm.marginalize(plain)))
        ]
    one, two = samples
    sd = np.sqrt(one.var(axis=0))
    assert np.abs(one.mean(axis=0) - two.mean(axis=0)).max() < 5 * sd.max() / np.sqrt(2000)
    assert_allclose(two.std(axis=0) / sd, 1.0, atol=0.12)


def test_log_likelihood_is_one_number_per_draw(marginal: pm.Model) -> None:
    idata = draws(n_draws=4)
    pm.compute_log_likelihood(idata, model=marginal, progressbar=False)
    values = idata["log_likelihood"]["y"]
    assert values.dims == ("chain", "draw")
    at = {"sigma_log__": np.log(0.6), "tau_log__": np.log(0.8)}
    logp = marginal.compile_fn(marginal.logp(vars=marginal["y"]), mode="FAST_COMPILE")
    assert_allclose(values, float(logp(at)))


def test_initial_values_and_the_users_model_survive() -> None:
    plain = build()
    plain.set_initval(plain["tau"], np.array(0.3))
    plain.set_initval(plain["u"], np.ones((4, 2)))
    before = plain.initial_point(), list(plain.named_vars), plain.point_logps()
    marginal = unfolded(plain)
    assert_allclose(np.exp(marginal.initial_point()["tau_log__"]), 0.3)
    after = plain.initial_point(), list(plain.named_vars), plain.point_logps()
    assert str(before) == str(after)


def test_marginalizing_some_and_then_the_rest() -> None:
    """One factor at a time is a model of its own; its density is that of the plain one."""
    plain = build()
    partly = unfolded(plain, ["u"])
    assert {rv.name for rv in partly.free_RVs} == {"sigma", "tau", "alpha"}
    full = mlmm.conditional(partly)
    point = {k: np.asarray(v) + 0.1 for k, v in plain.initial_point().items()}
    joint = density(plain)(point)
    assert_allclose(density(full)(point), joint, rtol=1e-8)


@pytest.mark.filterwarnings("ignore:Passing .log_likelihood.:FutureWarning")
def test_log_likelihood_while_sampling(marginal: pm.Model) -> None:
    idata = pm.sample(
        model=marginal,
        nuts_sampler="pymc",
        draws=10,
        tune=10,
        chains=1,
        cores=1,
        random_seed=1,
        progressbar=False,
        compute_convergence_checks=False,
        idata_kwargs={"log_likelihood": True},
    )
    assert idata["log_likelihood"]["y"].dims == ("chain", "draw")


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of find_MAP: another return type
def test_find_map_is_the_mode_of_the_marginal_density(marginal: pm.Model) -> None:
    found = pm.find_MAP(model=marginal, progressbar=False)
    logp = marginal.compile_logp(mode="FAST_COMPILE", jacobian=False)
    at = {name: np.asarray(found[name]) for name in ("sigma_log__", "tau_log__")}
    best = logp(at)
    # The mode of tau is at zero, which is far away on its log scale: look along sigma only.
    for step in (-0.05, 0.05):
        assert logp({**at, "sigma_log__": at["sigma_log__"] + step}) < best
    assert best > logp({"sigma_log__": np.array(0.0), "tau_log__": np.array(0.0)})


def test_effects_without_parameters_are_drawn_anew_each_time() -> None:
    with pm.Model() as model:
        pm.HalfNormal("other")
        u = pm.Normal("u", 0, 1.0, shape=3)
        pm.Normal("y", u[[0, 1, 1]], 1.0, observed=[0.5, 1.0, -1.0])
    marginal = mlmm.marginalize(model)
    values = {"other": np.ones((2, 1000))}
    idata = xr.DataTree.from_dict(
        {"posterior": xr.Dataset({k: (("chain", "draw"), v) for k, v in values.items()})}
    )
    u = mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)["posterior"]["u"]
    flat = u.values.reshape(2000, 3)
    assert len(np.unique(flat[:, 2])) == 2000
    assert_allclose(flat.std(axis=0), np.sqrt([1 / 2, 1 / 3, 1]), rtol=0.08)


def test_what_cannot_be_vectorized_is_drawn_one_by_one() -> None:
    members = sparse.csr_matrix(np.eye(3)[[0, 1, 1, 2]])
    with pm.Model() as model:
        tau = pm.HalfNormal("tau")
        u = pm.Normal("u", 0, tau, shape=3)
        mu = pm.Deterministic(
            "mu", pytensor.sparse.dot(pytensor.sparse.as_sparse(members), u[:, None])[:, 0]
        )
        pm.Normal("y", mu, 1.0, observed=np.arange(4.0))
    marginal = mlmm.marginalize(model)
    idata = xr.DataTree.from_dict(
        {"posterior": xr.Dataset({"tau": (("chain", "draw"), np.full((1, 50), 0.7))})}
    )
    posterior = mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)["posterior"]
    assert_allclose(posterior["mu"], posterior["u"].values[..., [0, 1, 1, 2]])
    assert len(np.unique(posterior["u"].values)) == 150


def test_chunks_do_not_show(marginal: pm.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pymc_marginal_lmm.model.draws.CHUNK", 1)
    idata = mlmm.recover(draws(2, 20), model=marginal, random_seed=2, progressbar=False)
    assert idata["posterior"]["u"].shape[:2] == (2, 20)
    assert len(np.unique(idata["posterior"]["u"].values)) == idata["posterior"]["u"].size


def test_what_nothing_changes_is_computed_once() -> None:
    """And what data that can be set change is computed anew."""
    with pm.Model() as model:
        tau = pm.HalfNormal("tau")
        u = pm.Normal("u", 0, tau, shape=4)
        x = pm.Data("x", X)
        pm.Deterministic("mu", u[GROUP] * x + np.sqrt(X**2))
        pm.Normal("y", u[GROUP] * X, 1.0, observed=Y)
    marginal = mlmm.marginalize(model)
    function = Recovery(marginal, random_seed=1).draw.function
    for node in function.maker.fgraph.toposort():
        assert not all(isinstance(v, Constant) for v in node.inputs), node
    idata = draws(1, 5)
    for factor in (1.0, 3.0):
        with marginal:
            pm.set_data({"x": factor * X})
        found = mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)["posterior"]
        u = found["u"].values[..., GROUP]
        assert_allclose(found["mu"].values, factor * u * X + np.abs(X), rtol=1e-10, atol=1e-12)


@pytest.fixture
def with_a_prior_of_data() -> pm.Model:
    """A scale whose prior depends on an observed variable, and whose transform does."""
    with pm.Model() as model:
        seen = pm.Exponential("seen", 1.0, observed=np.array([1.0, 2.0]))
        tau = pm.Uniform("tau", 0.0, 3 * seen.max())
        u = pm.Normal("u", 0, tau, shape=3)
        pm.Normal("y", u[np.repeat([0, 1, 2], 4)], 1.0, observed=np.full(12, 9.0))
    return model


def test_a_prior_of_data_does_not_draw_parameters_anew(with_a_prior_of_data: pm.Model) -> None:
    marginal = mlmm.marginalize(with_a_prior_of_data)
    tau = xr.DataArray(np.full((1, 50), 1e-6), dims=["chain", "draw"])
    idata = xr.DataTree.from_dict({"posterior": xr.Dataset({"tau": tau})})
    drawn = mlmm.recover(idata, model=marginal, progressbar=False)
    assert abs(drawn["posterior"]["u"]).max() < 1e-4


def test_nothing_random_is_above_parameters(with_a_prior_of_data: pm.Model) -> None:
    model = with_a_prior_of_data
    tau = model["tau"]
    value = model.rvs_to_transforms[tau].forward(tau, *tau.owner.inputs)
    _, outputs = over_parameters(model, model.free_RVs, [value])
    assert not any(v.owner and isinstance(v.owner.op, RandomVariable) for v in ancestors(outputs))


def test_conditions_that_are_decided_at_run_time() -> None:
    """``ifelse``, of a constant or a parameter, says what ``switch`` says."""
    g, rows = np.repeat(np.arange(4), 3), np.arange(12.0)
    tau = xr.DataArray(np.linspace(0.5, 2, 20)[None], dims=["chain", "draw"])
    found = []
    for choose in (pytensor.ifelse, pt.switch):
        with pm.Model() as model:
            scale = pm.HalfNormal("tau")
            u = pm.Normal("u", 0, scale, shape=4)[g]
            mu = u + choose(scale > 1, choose(pt.constant(True), scale * rows, rows), -rows)
            pm.Deterministic("mu", mu)
            pm.Normal("y", mu, 1.0, observed=rows)
        idata = xr.DataTree.from_dict({"posterior": xr.Dataset({"tau": tau})})
        marginal = mlmm.marginalize(model)
        mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)
        found.append(idata["posterior"]["mu"].values)
    assert_allclose(*found)
