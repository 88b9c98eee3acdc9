"""What a cell measures: moments, diagnostics, recovered effects, costs."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import SimpleNamespace

import arviz_stats
import numpy as np
import pymc as pm
import pytest
from arviz_base import dict_to_dataset
from numpy.testing import assert_allclose
from xarray import DataTree

import pymc_marginal_lmm.paper
from pymc_marginal_lmm import marginalize, recover
from pymc_marginal_lmm.paper import costs, sampling
from pymc_marginal_lmm.paper.cells import Cell
from pymc_marginal_lmm.paper.fit import fit, summary
from pymc_marginal_lmm.paper.process import measured
from pymc_marginal_lmm.paper.strategies import BUILDERS
from tests.examples.frames import frame

SIZE = (2, 50)


def stats(divergent: int = 0) -> dict[str, np.ndarray]:
    diverging = np.zeros(SIZE, dtype=bool)
    diverging.flat[:divergent] = True
    return {"diverging": diverging, "n_steps": np.full(SIZE, 3)}


def tree(posterior: dict, divergent: int = 0) -> DataTree:
    groups = {"posterior": posterior, "sample_stats": stats(divergent)}
    return DataTree.from_dict({name: dict_to_dataset(group) for name, group in groups.items()})


def from_the_prior(
    model: pm.Model, *, chains: int, tune: int, draws: int, seed: int
) -> tuple[DataTree, float]:
    """Stand in for a sampler: independent draws of what it would sample."""
    names = [v.name for v in (*model.free_RVs, *model.deterministics)]
    drawn = pm.draw([model[name] for name in names], draws=chains * draws, random_seed=seed)
    shaped = {n: x.reshape(chains, draws, *x.shape[1:]) for n, x in zip(names, drawn, strict=True)}
    return tree(shaped, divergent=4), 2.5


def test_moments_and_diagnostics() -> None:
    rng = np.random.default_rng(0)
    u, offset = rng.normal(size=(*SIZE, 2, 3)), rng.normal(size=SIZE)
    corr = np.ones((*SIZE, 2))
    corr[..., 1] = rng.normal(size=SIZE)
    result = summary(tree({"u": u, "corr": corr, "u_offset": offset}, divergent=7))
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
    plain = sampling.fit(BUILDERS["pupil"](data), draws=200, chains=2, random_seed=1)
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


def test_worth_of_weights_is_in_the_errors() -> None:
    u = np.random.default_rng(0).normal(size=SIZE)
    drawn = tree({"u": u})
    plain = summary(drawn)
    attributes = {"n_evaluations": 700, "pareto_khat": 0.1, "log_evidence": -3.0}
    drawn["posterior"].attrs |= attributes | {"effective_draws": 25.0}
    weighted = summary(drawn)
    assert weighted["ess_mean"] == weighted["ess_min"] == 25
    errors = [result["variables"]["u"]["mcse_mean"][0] for result in (plain, weighted)]
    assert_allclose(errors[1], 2 * errors[0])
    assert weighted["evaluations"] == 700 and "gradients" not in weighted


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


def test_compilation_is_not_counted_twice() -> None:
    # Nested and overlapping intervals, one that began before the clock.
    assert sampling.length_of_union([(0, 2), (1, 3), (5, 9), (6, 7)], 1) == 2 + 4


def test_a_measurement_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    done = SimpleNamespace(returncode=1, stderr="Traceback\nValueError: what it was\n", stdout="")
    monkeypatch.setattr("subprocess.run", lambda *args, **kwargs: done)
    assert measured("module", [], 1, cold=False) == {"failed": "ValueError: what it was"}
    done.returncode, done.stdout = 0, 'noise\n{"ess": 3}\n'
    assert measured("module", [], 1, cold=True) == {"ess": 3}


def test_a_measurement_that_takes_too_long() -> None:
    assert measured("timeit", ["-n1", "-r1", "while True: pass"], 0.5, cold=False) == {
        "failed": "more than 0 s"
    }


def test_only_public_names_are_used() -> None:
    """The experiments are what any user of the package could write."""
    folder = Path(pymc_marginal_lmm.paper.__file__).parent
    public = set(pymc_marginal_lmm.__all__)
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "pymc_marginal_lmm":
                assert {alias.name for alias in node.names} <= public, path.name
            elif isinstance(node, ast.ImportFrom) and "pymc_marginal_lmm" in str(node.module):
                part = str(node.module).split(".")[1]
                assert part in ("paper", "examples"), path.name
