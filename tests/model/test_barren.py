"""What no data depend on but through effects: missing responses, predictions, other children.

Such a variable integrates to one, whatever its distribution: the marginal density is that of the
model without it. ``recover`` draws it from its own distribution, given the effects.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
import xarray as xr
from numpy.testing import assert_allclose

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm import NotMarginalizable
from tests.helpers import density, unfolded

rng = np.random.default_rng(0)
n = 20
g = np.repeat(np.arange(4), 5)
x = rng.normal(size=n)
y = np.exp(0.3 * rng.normal(size=n) + 0.2 * g)
missing = np.isin(np.arange(n), [3, 7, 8])
holed = np.where(missing, np.nan, y)

FAST = "FAST_COMPILE"


def impute(family: Callable, mu: pt.TensorVariable, **kwargs: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pm.exceptions.ImputationWarning)
        family("y", mu, pm.HalfNormal("sigma"), observed=holed, **kwargs)


def effects() -> pt.TensorVariable:
    return pm.Normal("u", 0.0, pm.HalfNormal("tau"), dims="level")


BARREN: dict[str, tuple[Callable[[], None], dict[str, str], set[str]]] = {}


def drops(*barren: str, sampled: tuple[str, ...] = ()) -> Callable:
    """Register a model, what drops out of it besides ``u``, and what stays besides scales."""

    def register(build: Callable[[], None]) -> Callable[[], None]:
        name = build.__name__.removeprefix("_")
        BARREN[name] = (build, set(barren), {"tau", "sigma", *sampled})
        return build

    return register


def observe(mu: pt.TensorVariable) -> None:
    pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=y)


@drops("y_unobserved")
def _normal_with_missing_values() -> None:
    impute(pm.Normal, effects()[g] + 0.5 * x, dims="row")


@drops("y_unobserved")
def _lognormal_with_missing_values() -> None:
    """Its value is on the log scale."""
    impute(pm.LogNormal, effects()[g])


@drops("new")
def _counts() -> None:
    u = effects()
    observe(u[g])
    pm.Poisson("new", pt.exp(u), dims="level")


@drops("new")
def _correlated_children() -> None:
    u = effects()
    observe(u[g])
    pm.MvNormal("new", u[:2], chol=np.array([[1.0, 0.0], [0.5, 1.0]]))


@drops("share")
def _value_of_another_shape_than_the_variable() -> None:
    u = effects()
    observe(u[g])
    pm.Dirichlet("share", pt.exp(u), dims="level")


@drops("new")
def _bounds_that_depend_on_effects() -> None:
    u = effects()
    observe(u[g])
    pm.Uniform("new", u - 1.0, u + 2.0, dims="level")


@drops("new")
def _truncated_children() -> None:
    u = effects()
    observe(u[g])
    pm.Truncated("new", pm.Normal.dist(u, 1.0), lower=0.0, dims="level")


@drops("new")
def _steps_of_a_random_walk() -> None:
    u = effects()
    observe(u[g])
    pm.GaussianRandomWalk("new", mu=u[0], sigma=1.0, init_dist=pm.Normal.dist(), steps=4)


@drops("new", "newer", "newest")
def _children_of_children() -> None:
    u = effects()
    observe(u[g])
    new = pm.Normal("new", u, 1.0, dims="level")
    total = pm.Deterministic("total", new.sum() + u[0])
    newer = pm.HalfNormal("newer", pt.exp(total))
    pm.Normal("newest", newer + pm.Deterministic("tau_again", pm.math.sqr(u[0])), 1.0)


@drops("new", sampled=("a",))
def _children_of_what_is_not_integrated() -> None:
    """``a`` enters no likelihood either, but does not depend on effects: it stays sampled."""
    u = effects()
    observe(u[g])
    pm.Normal("new", u * pm.Normal("a"), 1.0, dims="level")


@drops("new")
def _children_with_parameters_of_their_own() -> None:
    u = effects()
    observe(u[g])
    mu = u + pm.math.log(pm.HalfNormal("scale"))
    pm.StudentT("new", 4, mu=mu, sigma=pm.HalfNormal("width"))


def build(name: str) -> pm.Model:
    with pm.Model(coords={"level": list("abcd"), "row": range(n)}) as model:
        BARREN[name][0]()
    return model


def a_point(model: pm.Model, seed: int = 1) -> dict[str, np.ndarray]:
    numbers = np.random.default_rng(seed)
    return {
        name: np.asarray(value + numbers.normal(size=value.shape), dtype=value.dtype)
        for name, value in model.initial_point(random_seed=seed).items()
    }


@pytest.mark.parametrize("names", [None, ["u"]])
@pytest.mark.parametrize("name", BARREN)
def test_identity(name: str, names: list[str] | None) -> None:
    plain = build(name)
    _, barren, sampled = BARREN[name]
    marginal = unfolded(plain, names)
    left = {rv.name for rv in marginal.free_RVs}
    assert left & ({"u", "tau", "sigma", "a"} | barren) == sampled
    assert not {d.name for d in marginal.deterministics} & {"y", "total", "tau_again"}
    both = mlmm.conditional(marginal)
    assert [rv.name for rv in both.free_RVs] == [rv.name for rv in plain.free_RVs]
    assert [d.name for d in both.deterministics] == [d.name for d in plain.deterministics]
    assert both.named_vars_to_dims == plain.named_vars_to_dims
    for rv in plain.free_RVs:
        transform, other = (m.rvs_to_transforms[m[rv.name]] for m in (plain, both))
        assert type(transform) is type(other)
    point = a_point(plain)
    joint = density(plain)(point)
    assert np.isfinite(joint)
    assert_allclose(density(both)(point), joint, rtol=1e-8)


@pytest.mark.parametrize("family", [pm.Normal, pm.LogNormal])
def test_missing_rows_are_as_good_as_removed(family: Callable) -> None:
    def model(without: bool) -> pm.Model:
        rows = ~missing if without else np.full(n, True)
        with pm.Model(coords={"level": range(4)}) as model:
            mu = (pm.Normal("a") + effects()[g] + 0.5 * x)[rows]
            if without:
                family("y", mu, pm.HalfNormal("sigma"), observed=y[rows])
            else:
                impute(family, mu)
        return unfolded(model)

    one, two = model(True), model(False)
    point = a_point(one)
    value = density(one)(point)
    assert_allclose(density(two)(point), value, rtol=1e-10)
    gradient = one.compile_dlogp(mode=FAST)(point)
    assert_allclose(two.compile_dlogp(mode=FAST)(point), gradient, rtol=1e-9)


def draws_at(marginal: pm.Model, n_draws: int, **values: float) -> xr.DataTree:
    dataset = xr.Dataset(
        {name: (("chain", "draw"), np.full((1, n_draws), v)) for name, v in values.items()}
    )
    return xr.DataTree.from_dict({"posterior": dataset})


def test_recover_gives_missing_responses() -> None:
    marginal = unfolded(build("normal_with_missing_values"))
    n_draws = 3000
    assert list(marginal.deterministics) == []
    idata = mlmm.recover(
        draws_at(marginal, n_draws, tau=0.8, sigma=0.5),
        model=marginal,
        random_seed=1,
        progressbar=False,
    )
    posterior = idata["posterior"]
    assert set(posterior.data_vars) == {"tau", "sigma", "u", "y_unobserved", "y"}
    assert posterior["y"].dims == ("chain", "draw", "row")
    assert_allclose(posterior["y"][0, :, ~missing], np.broadcast_to(y[~missing], (n_draws, 17)))
    assert_allclose(posterior["y"][0, :, missing], posterior["y_unobserved"][0])
    # Given the effects, they are Normal(mean, sigma) and independent: not the rows' own draws.
    mean = posterior["u"].values[0][:, g[missing]] + 0.5 * x[missing]
    residuals = (posterior["y_unobserved"].values[0] - mean) / 0.5
    covariance = np.cov(np.column_stack([residuals, mean]).T)[:3]
    assert_allclose(covariance[:, :3], np.eye(3), atol=0.1)
    assert_allclose(covariance[:, 3:], 0.0, atol=0.1)
    assert np.abs(residuals.mean(axis=0)).max() < 4.5 / np.sqrt(n_draws)


def test_recover_gives_counts_and_selections_draw_the_same() -> None:
    marginal = unfolded(build("counts"))
    idata = draws_at(marginal, 500, tau=0.8, sigma=0.5)
    one = mlmm.recover(idata, model=marginal, random_seed=1, progressbar=False)["posterior"]
    assert one["new"].dtype == np.int64
    rate = np.exp(one["u"])
    z = ((one["new"] - rate) / np.sqrt(rate)).values
    assert np.abs(z.mean(axis=1)).max() < 4.5 / np.sqrt(500)
    assert_allclose(z.var(axis=1), 1.0, atol=0.35)
    only = mlmm.recover(
        idata, model=marginal, var_names="new", extend_inferencedata=False, progressbar=False
    )
    assert set(only.data_vars) == {"new"}


def test_a_marginal_model_generates_what_the_plain_one_does() -> None:
    plain = build("counts")
    marginal = unfolded(plain)
    assert "new" not in marginal.named_vars
    one, two = (pm.draw(m["y"], 2000, random_seed=1, mode=FAST) for m in (plain, marginal))
    assert_allclose(one.std(), two.std(), rtol=0.1)
    full = mlmm.conditional(marginal)
    new, u = pm.draw([full["new"], full["u"]], 20, random_seed=1, mode=FAST)
    assert new.shape == u.shape == (20, 4)


def test_explain_says_what_recover_draws() -> None:
    explanation = mlmm.explain(build("normal_with_missing_values"))
    assert explanation.drawn == ("y_unobserved",)
    assert explanation.sampled == ("tau", "sigma")
    assert set(explanation.refusals) == {"tau", "sigma"}
    assert "Drawn by recover: y_unobserved." in str(explanation)
    assert "Drawn by recover: y_unobserved." in explanation._repr_html_()


def test_asking_for_a_missing_response() -> None:
    """With the effects it drops out anyhow; alone it enters no likelihood, as it is sampled."""
    plain = build("normal_with_missing_values")
    marginal = unfolded(plain, ["u", "y_unobserved"])
    assert {rv.name for rv in marginal.free_RVs} == {"tau", "sigma"}
    with pytest.raises(NotMarginalizable, match="'y_unobserved': it enters no likelihood"):
        mlmm.marginalize(plain, ["y_unobserved"])


@pytest.mark.parametrize("what", ["likelihood", "potential", "parent of a likelihood"])
def test_what_data_depend_on_is_not_dropped(what: str) -> None:
    with pm.Model(coords={"level": range(4)}) as model:
        u = effects()
        observe(u[g])
        new = pm.Normal("new", pt.exp(u), 1.0, dims="level")
        match what:
            case "likelihood":
                pm.Poisson("z", pt.exp(new), observed=np.ones(4, dtype=int))
            case "potential":
                pm.Potential("z", -(new**2))
            case _:
                newer = pm.HalfNormal("newer", pt.exp(new[0]))
                pm.Exponential("z", newer, observed=2.0)
    with pytest.raises(NotMarginalizable, match=r"prior.* of 'new'.*, which stays sampled"):
        mlmm.marginalize(model, ["u"])


@pytest.mark.parametrize("where", ["on the line", "of bounds", "in order", "custom"])
def test_what_may_not_integrate_to_one_is_not_dropped(where: str) -> None:
    """Integrating it out would leave a function of ``u``: the probability of what is left."""
    transforms = pm.distributions.transforms
    with pm.Model(coords={"level": range(4)}) as model:
        u = effects()
        observe(u[g])
        match where:
            case "on the line":
                pm.Normal("new", u[0], 1.0, transform=transforms.Interval(-1.0, 1.0))
            case "of bounds":
                interval = transforms.Interval(-1.0, 1.0)
                pm.Uniform("new", u[0] - 9.0, u[0] + 9.0, default_transform=interval)
            case "custom":
                pm.CustomDist("new", u[0], logp=lambda value, mu: -((value - mu**2) ** 2))
            case _:
                start = np.arange(4.0)
                pm.Normal("new", u, 1.0, transform=transforms.ordered, initval=start, dims="level")
    with pytest.raises(NotMarginalizable, match=r"prior.* of 'new'.*, which stays sampled"):
        mlmm.marginalize(model, ["u"])


def test_a_deterministic_of_another_likelihood_is_given_its_data() -> None:
    with pm.Model(coords={"level": range(4)}) as model:
        u = effects()
        observe(u[g])
        z = pm.Poisson("z", 2.0, observed=np.arange(4))
        pm.Deterministic("difference", z - u)
    marginal = unfolded(model)
    idata = draws_at(marginal, 3, tau=0.8, sigma=0.5)
    found = mlmm.recover(idata, model=marginal, progressbar=False)["posterior"]
    expected = np.broadcast_to(np.arange(4), (1, 3, 4))
    assert_allclose((found["difference"] + found["u"].values).values, expected)


def test_effects_of_several_outputs_of_one_density() -> None:
    """Rows of one correlated response, partly missing: observed and missing are one density."""
    holes = np.where(np.arange(8).reshape(4, 2) % 3 == 0, np.nan, 1.0)
    with pm.Model(coords={"level": range(4)}) as model:
        u = effects()
        observe(u[g])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pm.exceptions.ImputationWarning)
            pm.MvNormal("z", u[:, None] * np.ones(2), np.eye(2) + 0.5, observed=holes)
    with pytest.raises(NotMarginalizable, match="likelihood of 'z_observed' is PartialObserved"):
        mlmm.marginalize(model, ["u"])
