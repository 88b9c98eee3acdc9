"""What is told of draws."""

from __future__ import annotations

import arviz_stats
import numpy as np
from numpy.testing import assert_allclose

from experiments.summary import summary
from tests.experiments.planted import SIZE, tree

WEIGHTED = {"n_evaluations": 700, "pareto_khat": 0.1, "log_evidence": -3.0}


def test_moments_and_diagnostics() -> None:
    rng = np.random.default_rng(0)
    u, offset = rng.normal(size=(*SIZE, 2, 3)), rng.normal(size=SIZE)
    corr = np.ones((*SIZE, 2))
    corr[..., 1] = rng.normal(size=SIZE)
    result = summary(tree({"u": u, "corr": corr, "u_offset": offset}, divergent=7), moments=True)
    assert result["variables"].keys() == {"u", "corr"}
    own = result["variables"]["u"]
    assert_allclose(own["mean"], u.mean(axis=(0, 1)).ravel(), rtol=1e-8)
    assert_allclose(own["sd"], u.std(axis=(0, 1)).ravel(), rtol=1e-8)
    assert_allclose(own["mcse_mean"], np.asarray(own["sd"]) / 10, rtol=0.5)
    assert result["variables"]["corr"]["sd"][0] == 0
    ess = [arviz_stats.ess(x, method="bulk") for x in np.moveaxis(u.reshape(*SIZE, 6), -1, 0)]
    ess.append(arviz_stats.ess(corr[..., 1], method="bulk"))
    assert_allclose(result["ess_mean"], np.mean(ess))
    assert_allclose(result["ess_min"], np.min(ess))
    assert (result["divergences"], result["gradients"]) == (7, 300)


def test_moments_are_told_only_if_asked_for() -> None:
    drawn = tree({"u": np.random.default_rng(0).normal(size=SIZE)})
    few, all_ = summary(drawn), summary(drawn, moments=True)
    assert "variables" not in few
    assert {key: value for key, value in all_.items() if key != "variables"} == few


def test_worth_of_weights_is_in_the_errors() -> None:
    u = np.random.default_rng(0).normal(size=SIZE)
    drawn = tree({"u": u})
    plain = summary(drawn, moments=True)
    drawn["posterior"].attrs |= WEIGHTED | {"effective_draws": 25.0}
    weighted = summary(drawn, moments=True)
    assert weighted["ess_mean"] == weighted["ess_min"] == 25
    errors = [result["variables"]["u"]["mcse_mean"][0] for result in (plain, weighted)]
    assert_allclose(errors[1], 2 * errors[0])
    assert weighted["evaluations"] == 700 and "gradients" not in weighted


def test_effective_draws_are_the_smaller_of_two() -> None:
    drawn = tree({"a": np.random.default_rng(1).normal(size=SIZE), "a_offset": np.zeros(SIZE)})
    by_chains = summary(drawn)
    assert by_chains["draws"] == 100 and by_chains["worst"] == "a"
    drawn["posterior"].attrs |= WEIGHTED | {"effective_draws": 30.0}
    found = summary(drawn)
    assert (found["ess_min"], found["worst"]) == (30.0, "the weights")
    assert "gradients" not in found and "rhat" not in found
    drawn["posterior"].attrs["effective_draws"] = 1e6
    assert summary(drawn)["ess_min"] == by_chains["ess_min"]
