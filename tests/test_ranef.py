"""Moments of effects without draws: every canonical model, lme4's, and what users see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytest
from numpy.testing import assert_allclose
from xarray import DataArray, Dataset, DataTree

import pymc_marginal_lmm as mlmm
from pymc_marginal_lmm.model import likelihoods
from tests.draws import draws_of, interpreted, one_draw
from tests.helpers import models_of, posterior_of_effects, unfolded
from tests.lme4_models import BUILD, REFERENCE, effects
from tests.models import CanonicalModel, canonical_models

FAST = {
    "random_intercept",
    "correlated_slopes",
    "crossed_two",
    "nested_slopes_and_items",
    "noncentred",
    "multi_membership",
    "flat_coefficients",
    "lognormal",
    "sigma_by_row",
    "two_likelihoods_of_two_families",
    "correlated_outcomes_beside_another_response",
    "few_long_series",
    "random_walk_with_drift",
    "conditional_autoregression",
    "zero_sum",
}
MODEL = canonical_models(FAST)


def of(idata: DataTree, model: pm.Model, names: Sequence[str] | None = None) -> Dataset:
    return mlmm.ranef(idata, model=model, var_names=names, progressbar=False)


@MODEL
def test_moments(canonical: CanonicalModel, uncompiled: None) -> None:
    """Those of the draws of three points, by the law of total variance."""
    _, marginal, _ = models_of(canonical)
    idata, points = draws_of(marginal, 3)
    found = of(idata, marginal, canonical.effects)
    each = [posterior_of_effects(marginal, point) for point in points]
    for name in canonical.effects:
        mean = np.stack([one[name][0] for one in each])
        variance = np.stack([one[name][1].diagonal().reshape(mean.shape[1:]) for one in each])
        sd = np.sqrt(variance.mean(axis=0) + mean.var(axis=0))
        assert_allclose(found[name].sel(statistic="mean"), mean.mean(axis=0), rtol=1e-7, atol=1e-8)
        assert_allclose(found[name].sel(statistic="sd"), sd, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", ["ML", "REML"])
@pytest.mark.parametrize("name", ["sleepstudy", "Penicillin", "Pastes", "Machines", "Dyestuff2"])
def test_lme4(name: str, method: str, uncompiled: None) -> None:
    """``ranef(condVar=TRUE)`` at lme4's estimates, which are the one draw here."""
    fit = REFERENCE[name][method]
    model = unfolded(BUILD[name](), effects(name))
    found = of(one_draw(fit), model)
    for effect, term in fit["effects"].items():
        modes = np.asarray(term["modes"])
        mean, sd = (found[effect].sel(statistic=name).values for name in ("mean", "sd"))
        scale = abs(modes).max() or 1.0
        head = (len(modes), modes.shape[1])
        assert_allclose(mean.reshape(-1, head[1])[: head[0]], modes, rtol=1e-8, atol=1e-8 * scale)
        if "variances" in term:
            expected = np.sqrt([np.diag(matrix) for matrix in term["variances"]])
            sd = sd.reshape(-1, head[1])[: len(expected)]
            assert_allclose(sd, expected, rtol=1e-7, atol=1e-8 * scale)


# --- What users see ---------------------------------------------------------------------------

rng = np.random.default_rng(0)
G, X, Y = np.repeat([0, 1, 3], 4), rng.normal(size=12), rng.normal(size=12) + 5


def pupils(**more: Any) -> pm.Model:
    """Non-centred, with Deterministics that are linear in the effects, and one that is not."""
    with pm.Model(coords={"school": list("abcd"), "pupil": range(12)}) as model:
        tau, sigma = pm.HalfNormal("tau"), pm.HalfNormal("sigma")
        alpha, z = pm.Normal("alpha", 0, 10), pm.Normal("z", 0, 1, dims="school")
        u = pm.Deterministic("u", tau * z, dims="school")
        mu = pm.Deterministic("mu", alpha + u[G] + more.get("mu", 0.0), dims="pupil")
        pm.Deterministic("exp_u", pm.math.exp(u), dims="school")
        pm.Deterministic("contrast", u[0] - u[1])
        pm.Normal("y", mu, sigma, observed=Y)
    return model


def draws(n: int = 20) -> DataTree:
    values = np.linspace(0.5, 1.5, 2 * n).reshape(2, n)
    posterior = {name: (("chain", "draw"), values) for name in ("tau", "sigma")}
    return DataTree.from_dict({"posterior": Dataset(posterior)})


def test_deterministics_have_the_moments_of_their_draws(uncompiled: None) -> None:
    """Those of very many draws for each of the parameters' draws; a level without data too."""
    model = pupils()
    found = of(draws(), model)
    assert [*found] == ["alpha", "z", "u", "mu", "contrast"]
    assert found["u"].dims == ("statistic", "school") and found["mu"].dims[1:] == ("pupil",)
    assert found["school"].values.tolist() == list("abcd")
    many = draws().isel(draw=np.repeat(np.arange(20), 200))
    marginal = mlmm.marginalize(model)
    recovered = mlmm.recover(many, model=marginal, random_seed=1, progressbar=False)["posterior"]
    for name in found:
        sd, own = found[name].sel(statistic="sd"), recovered[name]
        z = (own.mean(["chain", "draw"]) - found[name].sel(statistic="mean")) / sd * np.sqrt(8000)
        assert abs(z).max() < 5, name
        ratio = own.std(["chain", "draw"]) / sd
        assert abs(ratio - 1).max() < 0.06, name


def test_what_is_chosen(uncompiled: None) -> None:
    model = pupils()
    everything = of(draws(), model)
    for names in ("u", ["contrast", "u"], ["z"]):
        found = of(draws(), model, names)
        assert [*found] == ([names] if isinstance(names, str) else names)
        for name in found:
            assert_allclose(found[name], everything[name], rtol=1e-9, atol=1e-12)
    assert not of(draws(), model, []).data_vars
    with pytest.raises(ValueError, match=r"not all of 'exp_u' are linear .*recover\(idata"):
        of(draws(), model, ["exp_u"])


def test_chunks_do_not_show(uncompiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = of(draws(), pupils(), "u")
    monkeypatch.setattr("pymc_marginal_lmm.model.draws.CHUNK", 1)
    assert_allclose(of(draws(), pupils(), "u")["u"], at_once["u"], rtol=1e-10)


def test_large_means_cost_no_digits(uncompiled: None) -> None:
    """A second moment about zero would lose them."""

    def shifted(by: float) -> Dataset:
        with pm.Model() as model:
            alpha, u = pm.Flat("alpha"), pm.Normal("u", 0, pm.HalfNormal("tau"), shape=4)
            pm.Normal("y", alpha + u[G], pm.HalfNormal("sigma"), observed=Y + by)
        return of(draws(), model)

    near, far = shifted(0), shifted(1e6)
    for name in ("alpha", "u"):
        assert_allclose(far[name].sel(statistic="sd"), near[name].sel(statistic="sd"), rtol=1e-8)
    alpha = [found["alpha"].sel(statistic="mean") for found in (near, far)]
    assert_allclose(alpha[1] - 1e6, alpha[0], rtol=1e-8)


def test_no_moments_at_a_draw(uncompiled: None) -> None:
    idata = draws()
    idata["posterior"]["sigma"][1, 3] = np.nan
    with pytest.raises(ValueError, match=r"no moments at chain 1, draw 3: .*sigma=nan"):
        of(idata, pupils())


def test_single_precision(uncompiled: None) -> None:
    expected = of(draws(), pupils(), "u")["u"]
    with pytensor.config.change_flags(floatX="float32"):
        assert_allclose(of(draws(), pupils(), "u")["u"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backend", ["jax", pytest.param("numba", marks=pytest.mark.slow)])
def test_backends(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(likelihoods, "by_jax", interpreted)
        expected = of(draws(), pupils(), ["u", "mu"])
    if backend == "numba":
        monkeypatch.setattr(likelihoods, "find_spec", lambda name: None)
    found = of(draws(), pupils(), ["u", "mu"])
    for name in expected:
        assert_allclose(found[name], expected[name], rtol=1e-8, atol=1e-10)


# --- The picture ------------------------------------------------------------------------------


def effects_of_two_dims() -> Dataset:
    means = np.array([[3.0, 0.0], [1.0, 5.0], [2.0, 1.0]])
    values = np.stack([means, np.full((3, 2), 0.5)])
    coords = {"statistic": ["mean", "sd"], "g": list("abc"), "effect": ["1", "x"]}
    u = DataArray(values, dims=("statistic", "g", "effect"), coords=coords)
    return Dataset({"u": u, "alpha": DataArray([1.0, 0.1], dims="statistic")})


def test_a_caterpillar_is_sorted_by_the_first_effect() -> None:
    for sort, levels in ((True, list("bca")), (False, list("abc"))):
        picture = mlmm.plot_ranef(effects_of_two_dims(), sort=sort, backend="none")
        assert picture.viz["point_estimate"]["g"].values.tolist() == levels
        assert "alpha" in picture.viz["point_estimate"]
        point = picture.viz["point_estimate"]["u"].sel(g="b", effect="x").item()
        assert np.ravel(point["x"]).tolist() == [5.0]
        for part, z in (("trunk", 0.6744897501960817), ("twig", 1.880793608151251)):
            line = np.asarray(picture.viz[part]["u"].sel(g="b", effect="x").item()["x"])
            assert_allclose(np.ravel(line), [5 - 0.5 * z, 5 + 0.5 * z])


def test_a_picture_of_some_variables() -> None:
    picture = mlmm.plot_ranef(effects_of_two_dims(), var_names="u", backend="matplotlib")
    assert "alpha" not in picture.viz["point_estimate"]
