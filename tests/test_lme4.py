"""Agreement with lme4 on real data: log-likelihoods, conditional modes and variances."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest

from tests.helpers import posterior_of_effects, unfolded
from tests.lme4_models import BUILD, COEFFICIENTS, REFERENCE, effects, levels_dim, point

METHODS = ("ML", "REML")
SMALL = [name for name in BUILD if REFERENCE[name]["n"] < 1000]


def integrated(name: str, method: str) -> pm.Model:
    """Return a model without its random effects, for REML also without its coefficients."""
    coefficients = [COEFFICIENTS] if method == "REML" else []
    return unfolded(BUILD[name](), [*effects(name), *coefficients])


def point_for(model: pm.Model, fit: dict) -> dict[str, np.ndarray]:
    inputs = {variable.name for variable in model.value_vars}
    return {name: value for name, value in point(fit).items() if name in inputs}


def check_log_likelihoods(name: str, method: str, mode: str) -> None:
    """Compare the log density with lme4, at the optimum and at the other points."""
    model = integrated(name, method)
    logp = model.compile_logp(mode=mode, jacobian=False)
    fit = REFERENCE[name][method]
    for place in (fit, *fit.get("points", [])):
        actual = float(logp(point_for(model, place)))
        np.testing.assert_allclose(actual, place["loglik"], rtol=1e-10)


def test_every_model_is_there():
    assert list(BUILD) == list(REFERENCE)


@pytest.mark.parametrize("name", BUILD)
def test_data_are_those_of_lme4(name):
    model = BUILD[name]()
    reference = REFERENCE[name]
    assert model.rvs_to_values[model["y"]].type.shape == (reference["n"],)
    assert model.initial_point()["beta"].size == len(reference["beta_names"])
    for effect, head in reference["ML"]["effects"].items():
        assert list(model.coords[levels_dim(effect)][:4]) == head["levels"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", BUILD)
def test_log_likelihood(name, method):
    check_log_likelihoods(name, method, "FAST_COMPILE")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", BUILD)
def test_log_likelihood_with_jax(name, method):
    pytest.importorskip("jax")
    check_log_likelihoods(name, method, "JAX")


@pytest.mark.parametrize("name", ["sleepstudy", "Penicillin"])
def test_log_likelihood_with_numba(name):
    check_log_likelihoods(name, "ML", "NUMBA")


@pytest.mark.parametrize("name", SMALL)
def test_gradient_vanishes_where_lme4_profiles(name):
    # lme4 stops theta at a tolerance, but sigma and beta are the best for that theta.
    model = integrated(name, "ML")
    gradient = model.compile_dlogp(mode="FAST_COMPILE", jacobian=False)
    fit = REFERENCE[name]["ML"]
    names = [variable.name for variable in model.value_vars]
    values = point_for(model, fit)
    sizes = np.cumsum([values[variable].size for variable in names])[:-1]
    parts = dict(zip(names, np.split(gradient(values), sizes), strict=True))
    n = REFERENCE[name]["n"]
    np.testing.assert_allclose(parts["sigma"] * fit["sigma"] / n, 0, atol=1e-7)
    np.testing.assert_allclose(parts["beta"] * fit["sigma"] / n, 0, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_zero_variance(method):
    # The optimum of Dyestuff2 is at theta = 0; the density is even in theta.
    model = integrated("Dyestuff2", method)
    values = point_for(model, REFERENCE["Dyestuff2"][method])
    assert values["theta"] == 0
    value = float(model.compile_logp(mode="FAST_COMPILE", jacobian=False)(values))
    gradient = model.compile_dlogp(mode="FAST_COMPILE", jacobian=False)(values)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    in_theta = [variable.name for variable in model.value_vars].index("theta")
    assert in_theta == 0
    np.testing.assert_allclose(gradient[0], 0, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", BUILD)
def test_conditional_modes_and_variances(name, method):
    # lme4 gives the variances for known coefficients, after REML too.
    model = integrated(name, "ML")
    fit = REFERENCE[name][method]
    head = {effect: np.asarray(term["modes"]) for effect, term in fit["effects"].items()}
    leading = max(modes.size for modes in head.values())
    posterior = posterior_of_effects(model, point_for(model, fit), leading=leading)
    assert set(posterior) == set(head)
    for effect, modes in head.items():
        n_levels, width = modes.shape
        mean, covariance = posterior[effect]
        scale = np.abs(modes).max() or 1.0
        actual = mean.reshape(-1, width)[:n_levels]
        np.testing.assert_allclose(actual, modes, rtol=1e-8, atol=1e-8 * scale)
        for level, expected in enumerate(fit["effects"][effect].get("variances", [])):
            own = slice(level * width, (level + 1) * width)
            atol = 1e-8 * np.abs(expected).max()
            np.testing.assert_allclose(covariance[own, own], expected, rtol=1e-8, atol=atol)


@pytest.mark.parametrize("name", SMALL)
def test_coefficients_of_reml(name):
    # Coefficients that are integrated out have lme4's estimates as their conditional mean.
    model = integrated(name, "REML")
    fit = REFERENCE[name]["REML"]
    posterior = posterior_of_effects(model, point_for(model, fit))
    np.testing.assert_allclose(posterior[COEFFICIENTS][0], fit["beta"], rtol=1e-8)
    for effect, term in fit["effects"].items():
        modes = np.asarray(term["modes"])
        actual = posterior[effect][0].reshape(-1, modes.shape[1])[: len(modes)]
        np.testing.assert_allclose(actual, modes, rtol=1e-8, atol=1e-8 * (np.abs(modes).max() or 1))
