"""What a cell measures: moments, diagnostics, recovered effects, costs."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from xarray import DataTree

import experiments
import pymc_marginal_lmm
from experiments import sampling
from experiments.paper import costs
from experiments.paper.cells import Cell
from experiments.paper.fit import fit
from experiments.paper.strategies import BUILDERS
from experiments.sampling import Budget
from pymc_marginal_lmm import marginalize, recover
from tests.examples.frames import frame
from tests.experiments.planted import tree


def from_the_prior(model: pm.Model, budget: Budget, seed: int) -> tuple[DataTree, float]:
    """Stand in for a sampler: independent draws of what it would sample."""
    chains, draws = budget.chains, budget.draws
    names = [v.name for v in (*model.free_RVs, *model.deterministics)]
    drawn = pm.draw([model[name] for name in names], draws=chains * draws, random_seed=seed)
    shaped = {n: x.reshape(chains, draws, *x.shape[1:]) for n, x in zip(names, drawn, strict=True)}
    return tree(shaped, divergent=4), 2.5


@pytest.mark.parametrize(
    ("strategy", "sampled", "recovers"),
    [("O", 25, False), ("M1R2", 13, True), ("default", 3, True)],
)
def test_effects_are_recovered(
    strategy: str, sampled: int, recovers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sampling.SAMPLERS, "numpyro", from_the_prior)
    result = fit(Cell("grouseticks", strategy, "numpyro", 1, *(2, 10, 50)), frame("grouseticks"))
    assert result["dimension"] == sampled
    variables = result["variables"]
    sizes = {name: len(moments["mean"]) for name, moments in variables.items()}
    parameters = ("m_brood", "m_location", "s_brood", "s_location", "year", "height", "s_obs")
    assert sizes == {"brood": 12, "location": 6, **dict.fromkeys(parameters, 1)}
    assert result["sampling_s"] == 2.5
    if not recovers:
        assert result["recovery_s"] == 0
    assert result["diverging"] == [0, 1, 2, 3]
    first, second = result["pairs"]
    assert first["labels"] == ["log s_brood", "brood[1]"]
    # The data have six locations only; of the real ones it is the 61st.
    assert second["labels"] == ["log s_location", "location[6]"]
    assert len(first["x"]) == len(second["y"]) == 100
    assert_allclose(np.mean(first["y"]), variables["brood"]["mean"][0], rtol=1e-3)
    json.dumps(result)


def test_fit_is_measured() -> None:
    data = frame("pupil")
    result = fit(Cell("pupil", "fit", "importance", 1, 2, 0, 200), data)
    plain = pymc_marginal_lmm.fit(BUILDERS["pupil"](data), draws=200, chains=2, random_seed=1)
    posterior = plain["posterior"]
    assert result["evaluations"] == posterior.attrs["n_evaluations"]
    assert result["khat"] == posterior.attrs["pareto_khat"]
    assert result["ess_mean"] <= posterior.attrs["effective_draws"] <= 400
    assert result["dimension"] == 4
    for name, moments in result["variables"].items():
        drawn = posterior[name].mean(("chain", "draw")).values.ravel()
        assert_allclose(moments["mean"], drawn, rtol=1e-6, err_msg=name)
    times = [result[f"{name}_s"] for name in ("compile", "sampling", "recovery", "second")]
    assert min(times) >= 0 and sum(times[1:3]) == pytest.approx(times[3])
    json.dumps(result)


def test_the_three_forms_have_one_density() -> None:
    data = costs.synthetic(40, 5, 3)
    marginal = marginalize(costs.plain(data), ["u"], fold_scales=False)
    dense = costs.dense(data)
    rng = np.random.default_rng(0)
    point = {k: 0.3 * rng.normal(size=np.shape(v)) for k, v in dense.initial_point().items()}
    values = [m.compile_logp(mode="FAST_COMPILE")(point) for m in (marginal, dense)]
    assert_allclose(*values, rtol=1e-9)


def test_naive_recovery_is_recovery() -> None:
    data = costs.synthetic(30, 3, 2)
    tau = np.array([0.5, 0.8])
    rng = np.random.default_rng(0)
    naive = np.stack([costs.naive_recovery(data, 1.2, 0.7, tau, rng) for _ in range(4000)])
    marginal = marginalize(costs.plain(data), ["u"])
    one = {"alpha": np.full((1, 4000), 1.2), "sigma": np.full((1, 4000), 0.7)}
    one["tau"] = np.broadcast_to(tau, (1, 4000, 2))
    kwargs = {"extend_inferencedata": False, "random_seed": 1, "progressbar": False}
    exact = recover(tree(one), model=marginal, **kwargs)["u"].values[0]
    error = exact.std(axis=0) / np.sqrt(4000)
    assert np.all(np.abs(naive.mean(axis=0) - exact.mean(axis=0)) < 5 * np.sqrt(2) * error)
    assert_allclose(naive.std(axis=0), exact.std(axis=0), rtol=0.08)


def test_only_public_names_are_used() -> None:
    """The experiments are what any user of the package could write."""
    folder = Path(experiments.__file__).parent
    public = set(pymc_marginal_lmm.__all__)
    for path in (*folder.glob("*.py"), *folder.glob("paper/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "pymc_marginal_lmm":
                assert {alias.name for alias in node.names} <= public, path.name
            elif isinstance(node, ast.ImportFrom) and "pymc_marginal_lmm" in str(node.module):
                assert str(node.module).split(".")[1] == "examples", path.name
