"""Variance components and R² against covariance matrices, lme4, and published values."""

from __future__ import annotations

import arviz as az
import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from xarray import Dataset, DataTree

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model.components import components_of
from pymc_marginal_lmm.model.likelihoods import Likelihoods
from pymc_marginal_lmm.model.restore import marginal_ops
from tests.dense import Joint
from tests.draws import draws_of, one_draw
from tests.helpers import models_of, unfolded
from tests.lme4_models import BUILD, REFERENCE
from tests.models import CanonicalModel, canonical_models

FAST = {
    "random_intercept",
    "correlated_slopes_around_coefficients",
    "covariance_by_level",
    "matrix_of_effects",
    "nested_slopes_and_items",
    "noncentred_correlated",
    "loadings",
    "multi_membership",
    "zero_sum_interaction",
    "lognormal",
    "sigma_by_row",
    "two_likelihoods_of_two_families",
    "scalars_in_a_list",
    "correlated_outcomes_beside_another_response",
    "hierarchical_mean_by_index",
    "sampled_group_level_predictor",
    "autoregression",
}
MODEL = canonical_models(FAST)


@MODEL
def test_shares_of_variance(canonical: CanonicalModel, uncompiled: None) -> None:
    """Rows have the variance that PyMC's own joint density says, component by component.

    And with the effects of groups integrated out the rest of their mean is the population-level
    predictor.
    """
    plain, marginal, _ = models_of(canonical)
    idata, points = draws_of(marginal, 2)
    found = mlmm.varcorr(idata, model=marginal)
    for op in marginal_ops(marginal):
        names = [response.name for response in op.structure.responses]
        components = components_of(Likelihoods.of(marginal, op, idata["posterior"].to_dataset()))
        integrated: list[str] = []
        shares = {name: 0.0 for name in names}
        # Those first whose prior means the others are.
        order = {effect.name: i for i, effect in enumerate(op.structure.effects)}
        for component in sorted(components, key=lambda c: -order[c.variables[0]]):
            integrated += component.variables
            joint = Joint(plain, tuple(integrated), names)
            ends = np.cumsum([y.size for y in joint.data])[:-1]
            for draw, point in enumerate(points[:1]):
                everything = {**plain.initial_point(random_seed=1), **point}
                variances = np.diag(np.linalg.inv(joint.dense(everything).precision))
                for name, own in zip(names, np.split(variances, ends), strict=True):
                    at = found.isel(chain=0, draw=draw)
                    icc, residual = at[f"{name}_icc"], at[f"{name}_sigma"] ** 2
                    total = residual / (1 - icc.sum())
                    shares[name] += icc.sel(factor=component.label) * total
                    assert_allclose(own.mean(), shares[name] + residual, rtol=1e-8)
        groups = [name for component in components for name in component.variables]
        if groups:
            check_r2(plain, groups, names)


def check_r2(plain: pm.Model, groups: list[str], names: list[str]) -> None:
    marginal = unfolded(plain, groups)
    idata, points = draws_of(marginal, 2)
    found, of = mlmm.r2(idata, model=marginal), mlmm.varcorr(idata, model=marginal)
    joint = Joint(plain, tuple(groups), names)
    ends = np.cumsum([y.size for y in joint.data])[:-1]
    for draw, point in enumerate(points):
        dense = joint.dense({**plain.initial_point(random_seed=1), **point})
        y = np.concatenate([own.ravel() for own in joint.data])
        predictor = y - np.linalg.solve(dense.precision, dense.e)
        for name, own in zip(names, np.split(predictor, ends), strict=True):
            residual = of[f"{name}_sigma"][0, draw] ** 2
            random = residual / (1 - of[f"{name}_icc"][0, draw].sum()) - residual
            fixed = own.var(ddof=1)
            total = fixed + random + residual
            assert_allclose(
                found[f"{name}_r2_marginal"][0, draw], fixed / total, rtol=1e-6, atol=1e-12
            )
            conditional = (fixed + random) / total
            assert_allclose(found[f"{name}_r2_conditional"][0, draw], conditional, rtol=1e-7)


# --- Published values -------------------------------------------------------------------------


def test_sleepstudy(uncompiled: None) -> None:
    """lme4's printed VarCorr, and R² as performance::r2 prints it."""
    idata = one_draw(REFERENCE["sleepstudy"]["REML"])
    model = unfolded(BUILD["sleepstudy"](), ["Subject"])
    found = mlmm.varcorr(idata, model=model).isel(chain=0, draw=0)
    factor = "levels of Subject"
    assert_allclose(found[f"{factor}_sd"], [24.7404, 5.9221], atol=1e-3)
    assert_allclose(found[f"{factor}_corr"], [[1, 0.066], [0.066, 1]], atol=1e-3)
    assert_allclose(found["y_sigma"], 25.5918, atol=1e-4)
    assert found[f"{factor}_effect"].values.tolist() == ["Subject[0]", "Subject[1]"]
    shares = mlmm.r2(idata, model=model).isel(chain=0, draw=0)
    assert_allclose(shares["y_r2_marginal"], 0.279, atol=1e-3)
    assert_allclose(shares["y_r2_conditional"], 0.799, atol=1e-3)


def test_dyestuff(uncompiled: None) -> None:
    """The intraclass correlation of one factor is τ²/(τ²+σ²): lme4's 1764 and 2451."""
    idata = one_draw(REFERENCE["Dyestuff"]["REML"])
    model = unfolded(BUILD["Dyestuff"](), ["Batch"])
    found = mlmm.varcorr(idata, model=model).isel(chain=0, draw=0)
    assert_allclose(
        found["y_icc"].sel(factor="levels of Batch"), 1764.05 / (1764.05 + 2451.25), 1e-4
    )


# --- What users see ---------------------------------------------------------------------------

rng = np.random.default_rng(0)
G, T, X, Y = np.repeat([2, 0, 1], 4), np.tile([0, 1], 6), rng.normal(size=12), rng.normal(size=12)
COORDS = {"school": list("abc"), "effect": ["intercept", "slope"], "treatment": ["no", "yes"]}


def draws(**shapes: tuple[int, ...]) -> DataTree:
    numbers = np.random.default_rng(1)
    posterior = {}
    for name, shape in shapes.items():
        dims = ("chain", "draw", *(f"{name}_{k}" for k in range(len(shape))))
        posterior[name] = (dims, numbers.uniform(0.5, 1.5, size=(2, 3, *shape)))
    return DataTree.from_dict({"posterior": Dataset(posterior)})


def test_names_dims_and_coords(uncompiled: None) -> None:
    """By the dims of the levels; effects by what they are; a treatment is no random effect."""
    with pm.Model(coords=COORDS) as model:
        tau, sigma = pm.HalfNormal("tau", shape=2), pm.HalfNormal("sigma")
        a = pm.Normal("a", 0, 5, dims="treatment")
        z = pm.Normal("z", 0, 1, dims=("school", "effect"))
        slopes = z * tau
        pm.Normal("y", a[T] + slopes[G, 0] + slopes[G, 1] * X, sigma, observed=Y)
    idata = draws(tau=(2,), sigma=())
    found = mlmm.varcorr(idata, model=model)
    assert [*found] == ["school_sd", "school_corr", "y_sigma", "y_icc"]
    assert found["school_sd"].dims == ("chain", "draw", "school_effect")
    assert found["school_effect"].values.tolist() == ["z[intercept]", "z[slope]"]
    assert found["factor"].values.tolist() == ["school"]
    tau_draws = idata["posterior"]["tau"].values
    assert_allclose(found["school_sd"], tau_draws)
    assert_allclose(found["school_corr"], np.broadcast_to(np.eye(2), (2, 3, 2, 2)), atol=1e-12)
    share = tau_draws[..., 0] ** 2 + tau_draws[..., 1] ** 2 * (X**2).mean()
    residual = idata["posterior"]["sigma"].values ** 2
    assert_allclose(found["y_icc"][..., 0], share / (share + residual))
    assert len(az.summary(found)) == 2 + 4 + 1 + 1


def test_scales_by_level(uncompiled: None) -> None:
    with pm.Model(coords=COORDS) as model:
        u = pm.Normal("u", 0, pm.HalfNormal("tau", dims="school"), dims="school")
        pm.Normal("y", u[G], 1.0, observed=Y)
    idata = draws(tau=(3,))
    found = mlmm.varcorr(idata, model=model)
    assert found["school_sd"].dims == ("chain", "draw", "school", "school_effect")
    by_name = found["school_sd"].sel(school=list("abc"))[..., 0]
    assert_allclose(by_name, idata["posterior"]["tau"])


def test_two_memberships_in_one_level_with_parameters(uncompiled: None) -> None:
    """A row that is in a level twice has the sum of both, row by row and by tables."""
    second = np.roll(G, 2)
    assert 0 < (second == G).sum() < 12
    for times in (pm.math.exp, lambda wx: wx):  # what is multiplied is a parameter of rows, or not
        with pm.Model(coords=COORDS) as model:
            w, u = pm.Laplace("w", 0, 1), pm.Normal("u", 0, pm.HalfNormal("tau"), dims="school")
            pm.Normal("y", u[G] + times(w * X) * u[second], 1.0, observed=Y)
        idata = draws(tau=(), w=())
        tau, w = (idata["posterior"][name].values[..., None] for name in ("tau", "w"))
        wx = w * X
        multiplier = np.exp(wx) if times is pm.math.exp else wx
        both = np.where(second == G, (1 + multiplier) ** 2, 1 + multiplier**2)
        share = (tau**2 * both).mean(axis=-1)
        assert_allclose(mlmm.varcorr(idata, model=model)["y_icc"][..., 0], share / (share + 1))


def test_r2_needs_the_coefficients(uncompiled: None) -> None:
    """Of group-level effects no draws are needed, nor of coefficients that are sampled."""
    with pm.Model(coords=COORDS) as model:
        b, s = pm.Normal("b", 0, 5), pm.Laplace("s", 0, 1)
        u = pm.Normal("u", s, pm.HalfNormal("tau"), dims="school")
        pm.Normal("y", b * X + u[G], 1.0, observed=Y)
    idata = draws(tau=(), s=())
    with pytest.raises(ValueError, match=r"no draws of 'b', of which .* recover\(idata"):
        mlmm.r2(idata, model=model)
    idata = draws(tau=(), s=(), b=())
    found = mlmm.r2(idata, model=model)
    fixed = idata["posterior"]["b"].values ** 2 * X.var(ddof=1)
    total = fixed + idata["posterior"]["tau"].values ** 2 + 1
    assert_allclose(found["y_r2_marginal"], fixed / total)
    assert_allclose(found["y_r2_conditional"], 1 - 1 / total)


def test_levels_that_their_prior_couples() -> None:
    with pm.Model() as model:
        walk = pm.GaussianRandomWalk(
            "walk", sigma=pm.HalfNormal("step"), init_dist=pm.Normal.dist(0, 1), shape=200
        )
        pm.Normal("y", walk, 1.0, observed=np.zeros(200))
    assert mlmm.explain(model).factors[0].kind == "tridiagonal"
    for verb in (mlmm.varcorr, mlmm.r2):
        with pytest.raises(ValueError, match="'walk' has a prior that couples its elements"):
            verb(draws(step=()), model=model)
