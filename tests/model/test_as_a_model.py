"""A marginal model is an ordinary ``pm.Model``: what PyMC does with models works and means it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import cloudpickle
import numpy as np
import pymc as pm
import pytensor
import pytest
from numpy.testing import assert_allclose
from pymc.model.fgraph import clone_model
from pymc.model.transform.optimization import freeze_dims_and_data, freeze_model

import pymc_marginal_lmm as mlmm
from tests.helpers import random_point

FAST = "FAST_COMPILE"
rng = np.random.default_rng(0)
n = 12
Y = rng.normal(size=n)


def build() -> pm.Model:
    with pm.Model(coords={"level": list("abc"), "row": range(n)}) as model:
        g = pm.Data("g", np.repeat([0, 1, 2], 4), dims="row")
        x = pm.Data("x", np.linspace(-1, 1, n), dims="row")
        tau = pm.HalfNormal("tau")
        u = pm.Normal("u", pm.Laplace("m", 0, 1), tau, dims="level")
        mu = pm.Deterministic("mu", u[g] + pm.Laplace("b", 0, 1) * x, dims="row")
        pm.Deterministic("twice", 2 * tau)
        pm.Potential("penalty", -(tau**2))
        pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=Y, dims="row")
        pm.Poisson("new", pm.math.exp(u), dims="level")
    return model


@pytest.fixture(scope="module")
def marginal() -> pm.Model:
    return mlmm.marginalize(build())


def logp(model: pm.Model, point: dict) -> float:
    return float(model.compile_logp(mode=FAST)(point))


CHANGES: dict[str, Callable[[pm.Model], pm.Model]] = {
    "nothing": lambda model: model,
    "clone": clone_model,
    "deepcopy": copy.deepcopy,
    "copy": lambda model: model.copy(),
    "cloudpickle": lambda model: cloudpickle.loads(cloudpickle.dumps(model)),
    "freeze_dims_and_data": freeze_dims_and_data,
    "freeze_model": freeze_model,
    "do a scale": lambda model: pm.do(model, {"tau": np.array(0.6)}),
    "do a mean": lambda model: pm.do(model, {"m": np.array(0.6)}),
    "do by a variable": lambda model: pm.do(model, {"b": model["tau"] + 1.0}),
    "do data": lambda model: pm.do(model, {"x": np.ones(n)}),
    "observe": lambda model: pm.observe(model, {"sigma": 0.6, "m": 0.2}),
    "do and observe": lambda model: pm.observe(pm.do(model, {"tau": 0.6}), {"m": 0.2}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_marginal_model_is_the_changed_model_marginal(
    marginal: pm.Model, change: Callable
) -> None:
    """And so are what is given back to it, and the plain model that it stands for."""
    plain, changed = change(build()), change(marginal)
    point = random_point(plain, 1)
    expected = logp(plain, point)
    assert np.isfinite(expected)
    own = {v.name: point[v.name] for v in changed.value_vars}
    assert_allclose(logp(changed, own), logp(mlmm.marginalize(plain), own), rtol=1e-10)
    assert_allclose(logp(mlmm.conditional(changed), point), expected, rtol=1e-8)
    assert_allclose(logp(mlmm.unmarginalize(changed), point), expected, rtol=1e-8)


def test_doing_the_response_leaves_no_effects_to_recover(marginal: pm.Model) -> None:
    done = pm.do(marginal, {"y": np.ones(n)})
    assert done.observed_RVs == []
    with pytest.raises(ValueError, match="no integrated effects"):
        mlmm.conditional(done)


def test_terms(marginal: pm.Model) -> None:
    """Terms by variable add up to the density; the likelihood is one term."""
    with pytensor.config.change_flags(mode=FAST):
        terms = marginal.point_logps(round_vals=10)
    assert set(terms) == {"tau", "m", "b", "sigma", "y", "penalty"}
    assert_allclose(sum(terms.values()), logp(marginal, marginal.initial_point()), atol=1e-6)


def test_debug(capsys: pytest.CaptureFixture) -> None:
    plain = build()
    plain.potentials.clear()  # PyMC 6.4 cannot debug models that have some
    marginal = mlmm.marginalize(plain)
    with pytensor.config.change_flags(mode=FAST):
        marginal.debug()
        assert "No problems found" in capsys.readouterr().out
        marginal.debug({**marginal.initial_point(), "sigma_log__": np.array(np.inf)})
        assert "logp = -inf" in capsys.readouterr().out
        marginal.check_start_vals(marginal.initial_point())


def test_pictures(marginal: pm.Model) -> None:
    source = pm.model_to_graphviz(marginal).source
    for parent in ("tau", "m", "b", "sigma", "x"):
        assert f"{parent} -> y" in source
    assert "\tu [" not in source and "new" not in source
    full = pm.model_to_graphviz(mlmm.conditional(marginal)).source
    assert "u -> mu" in full and "u -> new" in full
    assert "tau -> u" in pm.model_to_graphviz(mlmm.unmarginalize(marginal)).source


def test_text(marginal: pm.Model) -> None:
    assert "y ~ Marginal(" in marginal.str_repr()
    assert r"\operatorname{Marginal}(" in marginal._repr_latex_()


def test_adding_to_a_marginal_model() -> None:
    """Variables, potentials and likelihoods can be added, with dims."""
    marginal = mlmm.marginalize(build())
    with marginal:
        pm.Normal("extra", marginal["tau"], 1.0, dims="level")
        pm.Normal("z", marginal["extra"], 1.0, observed=np.ones(3), dims="level")
    with build() as plain:
        pm.Normal("extra", plain["tau"], 1.0, dims="level")
        pm.Normal("z", plain["extra"], 1.0, observed=np.ones(3), dims="level")
    point = random_point(plain, 1)
    assert_allclose(logp(mlmm.conditional(marginal), point), logp(plain, point), rtol=1e-8)
    both = mlmm.marginalize(plain, ["u", "extra"])
    again = mlmm.marginalize(marginal, ["extra"])
    own = {v.name: point[v.name] for v in both.value_vars}
    assert_allclose(logp(again, own), logp(both, own), rtol=1e-10)
