"""How ``sample`` chooses between importance sampling and NUTS, and says what it did."""

from __future__ import annotations

import logging
from typing import Any

import bambi
import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import pymc_marginal_lmm as mlmm

rng = np.random.default_rng(11)
G, X = np.repeat(np.arange(6), 5), rng.normal(size=30)
Y = 1 + rng.normal(size=6)[G] + rng.normal(size=30)
SHORT = {"draws": 50, "chains": 2, "random_seed": 1, "progressbar": False}
CHAIN = {"tune": 20, "cores": 1, "nuts_sampler": "pymc", "compute_convergence_checks": False}


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("pymc", "pymc.sampling", "pymc.stats.convergence"):
        logging.getLogger(name).setLevel(logging.ERROR)
    caplog.set_level(logging.INFO, "pymc.marginal_lmm")


def build() -> pm.Model:
    with pm.Model(coords={"group": list("abcdef")}) as model:
        u = pm.Normal("u", 0, pm.HalfNormal("tau", 1.5), dims="group")
        mu = pm.Deterministic("mu", pm.Laplace("b", 0, 1) * X + u[G])
        pm.Normal("y", mu, pm.HalfNormal("sigma"), observed=Y)
    return model


def heavy() -> pm.Model:
    """Return a model with a funnel, into which no proposal reaches."""
    with pm.Model() as model:
        width = pm.TruncatedNormal("width", 0, 3, lower=-9)
        a = pm.Laplace("a", 0, pm.math.exp(width), shape=9)
        pm.Normal("y", pm.Normal("u", 0, 1, shape=6)[G], pm.HalfNormal("sigma"), observed=Y)
        pm.Deterministic("twice", 2 * a)
    return model


def test_importance_sampling_where_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    model = build()
    found = mlmm.sample(model, **SHORT)
    (record,) = caplog.records
    assert "Importance sampling of 3 parameters: k̂ = " in record.getMessage()
    attributes = found["posterior"].attrs
    assert attributes["method"] == "importance"
    expected = mlmm.fit(model, **SHORT)
    for name in ("pareto_khat", "log_evidence", "effective_draws"):
        assert attributes[name] == expected["posterior"].attrs[name]
    for group in ("posterior", "sample_stats", "observed_data"):
        xr.testing.assert_equal(found[group].to_dataset(), expected[group].to_dataset())


def test_what_is_asked_for_comes_with_it() -> None:
    model = build()
    found = mlmm.sample(
        model,
        var_names=["tau", "u"],
        idata_kwargs={
            "log_likelihood": True,
            "log_prior": True,
            "include_transformed": True,
            "dims": {"mu": ["row"]},
            "coords": {"row": range(100, 130)},
        },
        **SHORT,
    )
    assert found["posterior"].attrs["method"] == "importance"
    assert [*found["posterior"].data_vars] == ["tau", "u"]
    whole = mlmm.sample(
        model, idata_kwargs={"include_transformed": True, "dims": {"mu": ["row"]}}, **SHORT
    )["posterior"]
    assert_array_equal(whole["u"], found["posterior"]["u"])
    assert whole["mu"].dims == ("chain", "draw", "row")
    assert_allclose(whole["tau_log__"], np.log(whole["tau"]))
    assert "tau_fold__" not in whole
    residual = (Y[3] - whole["mu"][..., 3]) / whole["sigma"]
    expected = -0.5 * residual**2 - np.log(whole["sigma"] * np.sqrt(2 * np.pi))
    assert_allclose(found["log_likelihood"]["y"][..., 3], expected, rtol=1e-6)
    assert {*found["log_prior"].data_vars} == {"tau", "b", "sigma", "u"}


@pytest.mark.parametrize(
    "options",
    [
        {"method": "nuts"},
        {"target_accept": 0.9},
        {"initvals": {"tau": 1.0}},
        {"init": "adapt_diag"},
    ],
    ids=str,
)
def test_nuts_where_arguments_are_about_a_chain(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    chain = {**CHAIN, "draws": 5, "chains": 1, "random_seed": 1, "progressbar": False}
    if options == {"method": "nuts"}:
        found = mlmm.sample(build(), **options, **chain)
    else:
        with pytest.MonkeyPatch.context() as patch:
            seen = {}

            def pm_sample(**kwargs: Any) -> xr.DataTree:
                seen.update(kwargs)
                return sample(**{**kwargs, **CHAIN})

            sample = pm.sample
            patch.setattr(pm, "sample", pm_sample)
            found = mlmm.sample(build(), draws=5, chains=1, random_seed=1, **options)
        assert options.keys() <= seen.keys()
    assert found["posterior"].attrs["method"] == "nuts"
    assert "diverging" in found["sample_stats"]
    assert not caplog.records  # as it was asked for


def test_doubtful_weights_leave_it_to_nuts(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.MonkeyPatch.context() as patch:
        sample = pm.sample
        patch.setattr(pm, "sample", lambda **kwargs: sample(**{**kwargs, **CHAIN}))
        found = mlmm.sample(heavy(), **SHORT)
    message = caplog.records[-1].getMessage()
    assert "NUTS, since importance sampling is not reliable here: k̂ = " in message
    assert "in 'a[" in message or "in 'width'" in message
    assert found["posterior"].attrs["method"] == "nuts"
    assert "pareto_khat" not in found["posterior"].attrs
    assert_array_equal(found["posterior"]["twice"], 2 * found["posterior"]["a"])


def test_doubtful_weights_by_order() -> None:
    message = r"The weights are not reliable: k̂ = .* '(a|width)"
    with pytest.warns(UserWarning, match=message) as caught:
        found = mlmm.sample(heavy(), method="importance", **SHORT)
    assert caught[0].filename == __file__
    assert found["posterior"].attrs["method"] == "importance"
    with pytest.warns(UserWarning, match=r"not reliable: .* '(a|width).*method='nuts'\)") as caught:
        mlmm.fit(heavy(), **SHORT)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("what", ["discrete", "many"])
def test_what_it_is_not_for(what: str, caplog: pytest.LogCaptureFixture) -> None:
    with pm.Model() as model:
        b = pm.Bernoulli("b", 0.5) if what == "discrete" else pm.Laplace("b", 0, 1, shape=30)
        pm.Normal("y", b + pm.Normal("u", 0, 1, shape=6)[G], 1, observed=Y)
    reason = {
        "discrete": "'b' stays sampled and is discrete",
        "many": r"30 parameters are left after integration, most of them those of 'b' \(30\)",
    }[what]
    with pytest.raises(ValueError, match=rf"{reason}.*sample\(model, method='nuts'\)"):
        mlmm.sample(model, method="importance", **SHORT)
    with pytest.MonkeyPatch.context() as patch:
        sample = pm.sample
        options = {**CHAIN, "draws": 5}
        patch.setattr(pm, "sample", lambda **kwargs: sample(**{**kwargs, **options}))
        found = mlmm.sample(model, **SHORT)
    assert found["posterior"].attrs["method"] == "nuts"
    assert caplog.records[0].getMessage().startswith("NUTS, since ")


def test_a_chain_by_importance_sampling_is_refused() -> None:
    with pytest.raises(ValueError, match="target_accept, tune: of a Markov chain, and method="):
        mlmm.sample(build(), method="importance", target_accept=0.9, tune=100)


def test_no_evidence_without_a_word() -> None:
    """Who calls ``sample`` did not ask for it."""
    with pm.Model() as model:
        tau = pm.HalfNormal("tau")
        pm.Potential("penalty", -tau)
        pm.Normal("y", pm.Normal("u", 0, tau, shape=6)[G], 1.0, observed=Y)
    found = mlmm.sample(model, **SHORT)
    assert found["posterior"].attrs["method"] == "importance"
    assert np.isnan(found["posterior"].attrs["log_evidence"])


def test_bambi() -> None:
    data = pd.DataFrame({"y": Y, "x": X, "g": np.array(list("abcdef"))[G]})
    model = bambi.Model("y ~ x + (1|g)", data)
    found = mlmm.sample(model, **SHORT)
    assert found["posterior"].attrs["method"] == "importance"
    assert "1|g_offset" not in found["posterior"]
    model.predict(found, kind="response")


@pytest.mark.filterwarnings("ignore:Numba will use object mode")
def test_an_operation_that_jax_does_not_know() -> None:
    """Another backend takes it then."""
    from pytensor.compile.ops import wrap_py
    from pytensor.tensor import dscalar

    @wrap_py(itypes=[dscalar], otypes=[dscalar])
    def strange(x):  # type: ignore[no-untyped-def]
        return np.array(-0.5 * x**2)

    with build() as model:
        pm.Potential("strange", strange(model["sigma"]))
    found = mlmm.sample(model, **SHORT)
    assert found["posterior"].attrs["method"] == "importance"
