"""``unmarginalize`` undoes ``marginalize``, and marginalizing in steps is marginalizing at once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from pymc.model.fgraph import clone_model

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm import NotMarginalizable
from tests.helpers import random_point
from tests.models import MODELS, CanonicalModel, by_name

FAST = "FAST_COMPILE"
rng = np.random.default_rng(0)
n = 24
g, h = np.repeat(np.arange(4), 6), np.tile(np.arange(3), 8)
y = rng.normal(size=n) + g


def crossed() -> pm.Model:
    """Two factors, a mean, a missing response, Deterministics, and one initial value of each."""
    holed = np.where(np.arange(n) == 5, np.nan, y)
    with pm.Model(coords={"level": list("abcd"), "item": range(3)}) as model:
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau", initval=0.7), dims="level", initval=np.ones(4))
        v = pm.Normal("v", pm.Normal("m", initval=0.3), pm.HalfNormal("omega"), dims="item")
        pm.Deterministic("spread", u.std() + v.std())
        pm.Deterministic("ratio", model["tau"] / model["omega"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pm.exceptions.ImputationWarning)
            pm.Normal("y", u[g] + v[h], pm.HalfNormal("sigma"), observed=holed)
    return model


def assert_same(one: pm.Model, other: pm.Model, seeds: Iterator[int] | range = range(2)) -> None:
    """Names, their order, dims, transforms, initial values and density are the same."""
    for kind in ("free_RVs", "deterministics", "observed_RVs", "data_vars", "potentials"):
        assert [v.name for v in getattr(one, kind)] == [v.name for v in getattr(other, kind)]
    assert one.named_vars_to_dims == other.named_vars_to_dims
    assert one.coords == other.coords
    for rv in one.free_RVs:
        same = other[rv.name]
        assert rv.dtype == same.dtype
        transforms = one.rvs_to_transforms[rv], other.rvs_to_transforms[same]
        assert type(transforms[0]) is type(transforms[1])
        np.testing.assert_equal(
            one.rvs_to_initial_values[rv], other.rvs_to_initial_values[same], err_msg=rv.name
        )
    densities = [m.compile_logp(mode=FAST) for m in (one, other)]
    for seed in seeds:
        point = random_point(one, seed)
        expected = densities[0](point)
        assert np.isfinite(expected)
        assert_allclose(densities[1](point), expected, rtol=1e-10)


@pytest.mark.filterwarnings("ignore:Normal variables stay sampled:UserWarning")
@pytest.mark.parametrize("canonical", MODELS[::4], ids=str)
def test_canonical_models(canonical: CanonicalModel) -> None:
    plain = canonical.build()
    assert_same(plain, mlmm.unmarginalize(mlmm.marginalize(plain)))


def test_everything_at_once() -> None:
    plain = crossed()
    marginal = mlmm.marginalize(plain)
    before = [rv.name for rv in marginal.free_RVs]
    assert before == ["tau", "omega", "sigma"]
    assert_same(plain, mlmm.unmarginalize(marginal))
    assert_same(plain, mlmm.unmarginalize(mlmm.marginalize(plain, ["v"])))
    assert [rv.name for rv in marginal.free_RVs] == before


def test_other_initial_values_of_the_marginal_model_win() -> None:
    plain = crossed()
    marginal = mlmm.marginalize(plain)
    marginal.set_initval(marginal["tau"], 0.2)
    again = mlmm.unmarginalize(marginal)
    assert again.rvs_to_initial_values[again["tau"]] == 0.2
    np.testing.assert_equal(again.rvs_to_initial_values[again["u"]], np.ones(4))


def test_it_generates_what_the_plain_model_does() -> None:
    """Every variable is drawn once: the response goes with the effects that are reported."""
    again = mlmm.unmarginalize(mlmm.marginalize(by_name("random_intercept").build()))
    fixed = pm.do(again, {"sigma": np.array(1e-9)})
    names = ["y", "alpha", "u"]
    values, alpha, u = pm.draw([fixed[name] for name in names], 3, random_seed=1, mode=FAST)
    means = alpha[:, None] + u
    assert (np.abs(values[:, :, None] - means[:, None]).min(axis=-1) < 1e-6).all()
    plain = by_name("random_intercept").build()
    one, two = (pm.draw(m["y"], 3000, random_seed=1, mode=FAST).std() for m in (plain, again))
    assert_allclose(one, two, rtol=0.1)


def test_a_changed_marginal_model() -> None:
    plain = crossed()
    do = {"tau": np.array(0.6)}
    changed = mlmm.unmarginalize(pm.do(without_start(mlmm.marginalize(plain)), do))
    expected = pm.do(without_start(plain), do)
    point = random_point(expected, 1)
    assert_allclose(
        changed.compile_logp(mode=FAST)(point), expected.compile_logp(mode=FAST)(point), rtol=1e-10
    )


def without_start(model: pm.Model) -> pm.Model:
    """PyMC's transformations of models take none."""
    for rv in model.free_RVs:
        model.set_initval(rv, None)
    return model


def test_nothing_to_restore() -> None:
    with pytest.raises(ValueError, match="has no integrated effects"):
        mlmm.unmarginalize(crossed())
    plain = by_name("random_intercept").build()
    with pytest.raises(ValueError, match="has no integrated effects"):
        mlmm.unmarginalize(mlmm.conditional(mlmm.marginalize(plain)))


# --- Marginalizing in steps ---------------------------------------------------------------------


def test_one_factor_after_the_other() -> None:
    plain = crossed()
    steps = mlmm.marginalize(mlmm.marginalize(plain, ["u"]), ["v"])
    assert_same(mlmm.marginalize(plain, ["u", "v"]), steps)
    assert_same(plain, mlmm.unmarginalize(steps))
    assert set(mlmm.conditional(steps).named_vars) == set(plain.named_vars)


def test_by_variable_of_the_marginal_model() -> None:
    partly = mlmm.marginalize(crossed(), ["u"])
    steps = mlmm.marginalize(partly, partly["v"])
    assert [rv.name for rv in steps.free_RVs] == ["tau", "m", "omega", "sigma"]


@pytest.mark.parametrize("again", [None, ["u"], "u", ["u", "y_unobserved"]])
def test_twice_is_once(again: object) -> None:
    partly = mlmm.marginalize(crossed(), ["u"])
    expected = {"tau", "sigma", "omega"} | ({"v", "m"} if again else set())
    twice = mlmm.marginalize(partly, again)
    assert {rv.name for rv in twice.free_RVs} == expected


def test_twice_all() -> None:
    once = mlmm.marginalize(crossed())
    twice = mlmm.marginalize(once)
    assert twice is not once
    assert_same(once, twice)
    assert_same(without_start(once), mlmm.marginalize(clone_model(without_start(twice))))


def test_explaining_a_marginal_model_explains_the_plain_one() -> None:
    plain = crossed()
    assert str(mlmm.explain(mlmm.marginalize(plain))) == str(mlmm.explain(plain))


def test_what_is_refused_is_refused_in_steps_too() -> None:
    with pm.Model() as plain:
        u = pm.Normal("u", 0.0, pm.HalfNormal("tau"), shape=4)
        v = pm.Normal("v", shape=4)
        pm.Normal("y", u[g] * v[g], pm.HalfNormal("sigma"), observed=y)
    partly = mlmm.marginalize(plain, ["u"])
    with pytest.raises(NotMarginalizable, match="multiplied by another effect"):
        mlmm.marginalize(partly, ["v"])
    with pytest.raises(NotMarginalizable, match="Free variables are: tau, u, v, sigma"):
        mlmm.marginalize(partly, ["w"])
