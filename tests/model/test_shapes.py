"""What depends on an effect by its shape only, or not at all, does not keep it in the model."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.errors import InternalError
from tests.helpers import random_point, unfolded

rng = np.random.default_rng(0)
g = np.repeat(np.arange(4), 5)
y = rng.normal(size=20) + g
FAST = "FAST_COMPILE"
Tensor = pt.TensorVariable
NOBODY = np.zeros(0, dtype=int)

USES: dict[str, Callable[[Tensor, Tensor], object]] = {
    # Normal likelihoods
    "zeros_like": lambda u, k: pm.Normal("z", k + pt.zeros_like(u), 1.0, observed=y[:4]),
    "ones_like": lambda u, k: pm.Normal("z", k * pt.ones_like(u[g]), 1.0, observed=y),
    "sigma": lambda u, k: pm.Normal("z", k, pt.full_like(u, 2.0), observed=y[:4]),
    "length": lambda u, k: pm.Normal("z", k / u.shape[0], 1.0, observed=y),
    "size": lambda u, k: pm.Normal("z", k, u[g].size / 7.0, observed=y),
    "shape": lambda u, k: pm.Normal("z", k, 1.0, shape=u.shape, observed=y[:4]),
    "no rows": lambda u, k: pm.Normal("z", k + u[NOBODY], 1.0, observed=np.zeros(0)),
    "no rows, sigma": lambda u, k: pm.Normal("z", k, pt.exp(u[NOBODY]), observed=np.zeros(0)),
    "no rows, scalar": lambda u, k: pm.Normal("z", k + u[0], 1.0, shape=0, observed=np.zeros(0)),
    "index": lambda u, k: pm.Normal("z", k + u[np.arange(20) % u.shape[0]], 1.0, observed=y),
    "sum of nobody": lambda u, k: pm.Normal("z", k + u[NOBODY].sum(), 1.0, observed=y),
    "times zero": lambda u, k: pm.Normal("z", k + 0 * u, 1.0, observed=y[:4]),
    "times zero in sigma": lambda u, k: pm.Normal("z", k, pt.exp(0 * u), observed=y[:4]),
    # Other likelihoods
    "Poisson": lambda u, k: pm.Poisson("z", k * u.shape[0], observed=[1, 2]),
    "Poisson, zeros": lambda u, k: pm.Poisson("z", pt.exp(pt.zeros_like(u[g])), observed=g),
    "Poisson, times zero": lambda u, k: pm.Poisson("z", pt.exp(k + 0 * u[g]), observed=g),
    "Poisson, zero matrix": lambda u, k: pm.Poisson(
        "z", pt.exp(pt.dot(np.zeros((20, 4)), u)), observed=g
    ),
    "Poisson, no rows": lambda u, k: pm.Poisson("z", pt.exp(u[NOBODY]), observed=NOBODY),
    "Poisson, through a Deterministic": lambda u, k: pm.Poisson(
        "z", pt.exp(pm.Deterministic("none", 0.0 * u)[g]), observed=g
    ),
    "StudentT": lambda u, k: pm.StudentT("z", 3, k, shape=u.shape, observed=y[:4]),
    # Everything else
    "Deterministic": lambda u, k: pm.Deterministic("z", k + pt.zeros_like(u)),
    "Potential": lambda u, k: pm.Potential("z", pt.zeros_like(u).sum() - k * u.shape[0]),
    "Potential of nobody": lambda u, k: pm.Potential("z", -(u[NOBODY] ** 2)),
    "prior": lambda u, k: pm.Normal("z", 0.0, 1.0, shape=u.shape),
    "prior, times zero": lambda u, k: pm.Normal("z", 0 * u.sum(), 1.0),
    "Gamma prior": lambda u, k: pm.Gamma("z", u.size, 1.0, shape=(u + k).shape),
    "prior of an effect": lambda u, k: pm.Normal(
        "y2", pm.Normal("v", k, u.shape[0], shape=u[1:].shape)[g % 3], 1.0, observed=y
    ),
}


def build(use: Callable[[Tensor, Tensor], object], levels: object = 4) -> pm.Model:
    with pm.Model() as model:
        u, k = pm.Normal("u", 0.0, 5.0, shape=levels), pm.HalfNormal("k")
        pm.Normal("y", u[g], 1.0, observed=y)
        use(u, k)
    return model


def density(model: pm.Model, point: dict) -> float:
    own = {value.name: point[value.name] for value in model.value_vars}
    return float(model.compile_logp(mode=FAST)(own))


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_the_effect_is_gone(use: Callable) -> None:
    """The effect alone, and the rest has the density that it has where the effect is not used."""
    model = build(use)
    marginal = unfolded(model, "u")
    assert mlmm.explain(model, "u").integrated == ("u",)
    assert [rv.name for rv in marginal.free_RVs] == [
        rv.name for rv in model.free_RVs if rv.name != "u"
    ]
    point = random_point(model, 1)
    assert_allclose(density(mlmm.conditional(marginal), point), density(model, point), rtol=1e-7)
    plain = mlmm.unmarginalize(marginal)
    assert_allclose(density(plain, point), density(model, point), rtol=1e-7)
    names = {variable.name for variable in model.named_vars.values()}
    assert set(plain.named_vars) == names


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_all_that_can_be_is_integrated_out(use: Callable) -> None:
    model = build(use)
    marginal = unfolded(model)
    assert "u" not in marginal.named_vars
    point = random_point(model, 2)
    assert_allclose(density(mlmm.conditional(marginal), point), density(model, point), rtol=1e-7)


def test_shapes_that_follow_data() -> None:
    """A length that ``pm.Data`` determine is known, too."""
    with pm.Model() as model:
        x = pm.Data("x", np.arange(4.0))
        u = pm.Normal("u", 0.0, 5.0, shape=x.shape[0])
        pm.Normal("y", u[g], 1.0, observed=y)
        pm.Poisson("z", pt.exp(pt.zeros_like(u) + u.shape[0]), observed=[1, 2, 3, 4])
    marginal = mlmm.marginalize(model)
    assert marginal.free_RVs == []
    point = random_point(model, 1)
    assert_allclose(density(mlmm.conditional(marginal), point), density(model, point), rtol=1e-7)


def test_a_shape_that_is_drawn_stays() -> None:
    with pm.Model() as model:
        n = pm.Poisson("n", 3.0)
        w = pm.Normal("w", shape=n)
        pm.Normal("y", pm.Normal("u", shape=4)[g], 1.0, observed=y)
        pm.Normal("z", w.shape[0], 1.0, observed=0.3)
    marginal = mlmm.marginalize(model, "u")
    assert [rv.name for rv in marginal.free_RVs] == ["n", "w"]


def test_data_of_zeros_can_be_set_and_are_no_zeros() -> None:
    def use(u: Tensor, k: Tensor) -> None:
        pm.Poisson("z", pt.exp(pm.Data("x", np.zeros(20)) * u[g]), observed=g)

    with pytest.raises(mlmm.NotMarginalizable, match="Poisson"):
        mlmm.marginalize(build(use), "u")


# --- What is checked of every model -----------------------------------------------------------


@pytest.mark.parametrize("use", ["zeros_like", "no rows", "Potential"])
def test_an_effect_that_stays_behind_is_an_internal_error(use: str) -> None:
    """Without the cut it would be there twice; a check that knows nothing of shapes finds it."""
    model = build(USES[use])
    with (
        mock.patch("pymc_marginal_lmm.model.marginalize.cut_shapes"),
        mock.patch("pymc_marginal_lmm.analysis.read.check_other_uses"),
        pytest.raises(InternalError, match=r"'u'.*report"),
    ):
        mlmm.marginalize(model, "u")


@pytest.mark.parametrize("verb", [mlmm.conditional, mlmm.unmarginalize])
def test_what_is_not_given_back_is_an_internal_error(verb: Callable) -> None:
    marginal = mlmm.marginalize(build(USES["prior"]), "u")
    with (
        mock.patch(f"{verb.__module__}.add_effects"),
        mock.patch(f"{verb.__module__}.add_dependents"),
        pytest.raises(InternalError, match=r"'u'.*0 times instead of 1"),
    ):
        verb(marginal)
