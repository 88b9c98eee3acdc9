"""The documentation: its code runs, its reference is complete, and the site builds."""

from __future__ import annotations

import doctest
import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bambi as bmb
import numpy as np
import pandas as pd
import pymc as pm
import pytest
import xarray as xr
import yaml
from numpy.testing import assert_allclose
from scipy import stats

import pymc_marginal_lmm
import pymc_marginal_lmm as mlmm
from experiments.benchmarks.accelerator import page as accelerator_page
from experiments.benchmarks.overview import overview, put
from experiments.benchmarks.report import markdown as benchmarks_page
from experiments.priors import RATIOS, correlation_density, icc_density, priors
from tests.pages import pages, run

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def _check_predictions(found: dict[str, Any]) -> None:
    model, idata, posterior = found["model"], found["idata"], found["posterior"]
    options: Any = {"random_seed": 2, "progressbar": False}
    # No recipe has changed the model or the draws.
    assert model["x"].get_value().shape == (48,) and posterior.sizes["school"] == 8

    # Known groups: the means are those of the draws, the rows are a residual away.
    known, rows = found["known"]["predictions"], xr.DataArray([0, 0, 3], dims="row")
    of_rows = posterior["u"].isel(school=rows, drop=True).reset_coords(drop=True)
    exact = posterior["alpha"] + posterior["beta"] * xr.DataArray([0, 1, 0], dims="row") + of_rows
    assert_allclose(known["mu"].values, exact.transpose(*known["mu"].dims).values)
    standardized = ((known["y"] - known["mu"]) / posterior["sigma"]).values
    assert abs(standardized.mean()) < 0.05 and abs(standardized.std() - 1) < 0.05

    # A new school is less certain, its rows share its effect, and it is drawn given tau.
    draws = found["new"]["predictions"]["y"].values.reshape(-1, 4)
    assert draws[:, 1].std() > 1.5 * draws[:, 0].std()
    assert_allclose(draws[:, 0].mean(), exact.isel(row=0).mean(), atol=0.02)
    correlations = np.corrcoef(draws.T)
    assert correlations[1, 2] > 0.7 > 0.4 > abs(correlations[1, 3])
    extended = found["with_new"]["posterior"]
    assert list(extended["school"].values) == list("ABCDEFGHIJ")
    assert abs((extended["u"] / extended["tau"]).sel(school="I").std() - 1) < 0.05
    with pytest.warns(pm.exceptions.ImplicitFreezeWarning, match="coords changed"), found["longer"]:
        pm.sample_posterior_predictive(idata.isel(draw=slice(9)), **options)

    # Population level. The average of a LogNormal response is that of draws of it in new groups.
    residuals = (found["zero"]["predictions"]["y"] - found["zero"]["predictions"]["mu"]).values
    assert abs((residuals / posterior["sigma"].values[..., None]).std() - 1) < 0.05
    with pm.do(model, {"alpha": 1.0, "beta": 0.5, "tau": 0.6, "sigma": 0.3}) as incomes:
        pm.LogNormal("income", incomes["mu"], incomes["sigma"], dims="row")
    income = pm.draw(incomes["income"], 5_000, random_seed=1).mean(0)
    assert_allclose(income, np.exp(1 + 0.5 * found["x"] + (0.6**2 + 0.3**2) / 2), rtol=0.05)
    assert_allclose(
        np.log(found["average"] / found["middle"]),
        (posterior["tau"] ** 2 / 2).expand_dims(x=3, axis=2),
    )

    # Contrasts and group means; given the parameters, effects are means of rows times a shrinkage.
    slope = found["slope"]
    assert slope.sizes["school"] == 8
    assert_allclose(slope, posterior["beta"].expand_dims(school=8, axis=2))
    probability = (posterior["u"].sel(school="A") > posterior["u"].sel(school="B")).mean()
    assert_allclose((found["pairs"].sel(school="A", other="B") > 0).mean(), probability)
    parameters = ("alpha", "beta", "tau", "sigma")
    alpha, beta, tau, sigma = (posterior[name] for name in parameters)
    of_school = (idata["observed_data"]["y"] - alpha - beta * idata["constant_data"]["x"]).groupby(
        found["labels"]
    )
    expected = (of_school.mean() * 6 * tau**2 / (6 * tau**2 + sigma**2)).mean(["chain", "draw"])
    assert_allclose(posterior["u"].mean(["chain", "draw"]), expected, atol=0.01)
    assert found["partial"].mean(["chain", "draw"]).std() < found["unpooled"].std()

    # The model is true, so that nothing is out of the ordinary; only known groups are fitted.
    p_values = [*found["p_means"].values, *found["p_spreads"].values, *found["p_values"].values()]
    assert len(p_values) == 8 + 8 + 3 and all(0.01 < p < 0.99 for p in p_values)
    means = found["means"]
    fitted = found["replicated"]["posterior_predictive"]["y"].groupby(found["labels"]).mean()
    assert abs(fitted.mean(["chain", "draw"]) - means).max() < 0.1
    assert abs(found["again"].mean(["chain", "draw"]) - means).max() > 0.3

    # A marginal model refuses, but for its prior; the plain model that it gives back does not.
    # Without recover PyMC draws from the priors.
    with pytest.raises(ValueError, match="recover"):
        pm.sample_posterior_predictive(idata, model=found["marginal"])
    prior = pm.sample_prior_predictive(5, model=found["marginal"], random_seed=1)
    assert prior["prior_predictive"]["y"].sizes["row"] == 48
    forgotten = posterior.to_dataset()[["tau", "sigma"]]
    anew = pm.sample_posterior_predictive(forgotten, model=model, var_names=["mu", "y"], **options)
    assert anew["posterior_predictive"]["mu"].std() > 2
    again = pm.sample_posterior_predictive(
        idata.isel(draw=slice(100)), model=mlmm.unmarginalize(found["marginal"]), **options
    )
    rest = again["posterior_predictive"]["y"] - posterior["mu"].isel(draw=slice(100))
    assert abs((rest / sigma.isel(draw=slice(100))).std() - 1) < 0.05


def _code(cell: str) -> str:
    """Return the code spans of a table's cell, one a line."""
    return "\n".join(re.findall(r"`([^`]*)`", cell)).replace("\\|", "|")


def _tables(page: str) -> list[list[str]]:
    """Return the cells of all rows of tables whose last cell is code."""
    lines = (ROOT / page).read_text().splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if line.startswith("|")]
    return [row for row in rows if _code(row[-1])]


DEFINITIONS = """
tau, tau_v = pm.HalfNormal("tau"), pm.HalfNormal("tau_v")
tau_f, log_sd = pm.HalfNormal("tau_f", 1, shape=2), pm.Normal("log_sd", 0, 1, shape=2)
sigma, sigma_z = pm.HalfNormal("sigma"), pm.HalfNormal("sigma_z")
sds = pm.HalfNormal.dist(1, shape=2)
chol, _, _ = pm.LKJCholeskyCov("chol", n=2, eta=2, sd_dist=sds)
residual_chol, _, _ = pm.LKJCholeskyCov("residual_chol", n=2, eta=2, sd_dist=sds)
mu, mu_z = pm.Normal("alpha", 0, 5) + pm.Normal("beta", 0, 5) * x, pm.Normal("alpha_z", 0, 5)
"""
"""What the tables of the dictionary take for granted."""


def _integrated(found: dict[str, Any], code: str) -> set[str]:
    """Return what can be integrated out of a model."""
    with pm.Model(coords=found["coords"]) as model:
        exec(DEFINITIONS + code, {**found})
    return {*mlmm.explain(model).integrated}


def _check_dictionary(found: dict[str, Any]) -> None:
    # Each line of the tables is a model out of which its effects can be integrated.
    tables = _tables("docs/guide/dictionary.md")
    effects = [row for row in tables if len(row) == 3]
    responses = [row for row in tables if len(row) == 2 and _code(row[1]).startswith("pm.")]
    assert len(effects) == 9 and len(responses) == 8
    for formula, code, mean in effects:
        response = f"\npm.Normal('y', mu + {_code(mean)}, sigma, observed=y)"
        wanted = {*re.findall(r"^(\w+) = pm", _code(code), re.MULTILINE), "alpha", "beta"}
        assert wanted <= _integrated(found, _code(code) + response), formula
    correlated = 'a = pm.MvNormal("a", 0, chol=chol, dims=("g", "effect"))\n'
    for formula, code in responses:
        wanted = {"a", "alpha", "beta", *(["alpha_z"] if "mu_z" in code else [])}
        before = "" if "a[g" in code else "mu = mu + a[g, 0]\n"
        assert wanted <= _integrated(found, correlated + before + _code(code)), formula

    # A fit that finds what was simulated, and REML and ML from the covariance matrix of the rows.
    assert abs(found["posterior"]["beta"].mean() - 0.5) < 0.25
    V = np.equal.outer(found["g"], found["g"]) + np.eye(found["n"])
    X, y = np.stack([np.ones(found["n"]), found["x"]], 1), found["y"]
    information = X.T @ np.linalg.solve(V, X)
    rest = y - X @ np.linalg.solve(information, X.T @ np.linalg.solve(V, y))
    log_determinants = np.linalg.slogdet(V)[1] + np.linalg.slogdet(information)[1]
    expected = (
        log_determinants + rest @ np.linalg.solve(V, rest) + (found["n"] - 2) * np.log(2 * np.pi)
    )
    assert_allclose(found["restricted"]({"tau": 1.0, "sigma": 1.0}), -expected / 2)
    at = {"tau": 1.0, "sigma": 1.0, "alpha": 1.0, "beta": 0.5}
    assert_allclose(found["likelihood"](at), stats.multivariate_normal(X @ [1, 0.5], V).logpdf(y))

    # Bambi's slopes and intercepts are not correlated.
    data = pd.DataFrame({"y": y, "x": found["x"], "g": found["g"].astype(str)})
    formula = bmb.Model("y ~ x + (1 + x | g)", data)
    formula.build()
    assert not any("chol" in rv.name or "corr" in rv.name for rv in formula.backend.model.free_RVs)
    assert {"1|g", "x|g"} <= {
        *(n.removesuffix("_offset") for n in mlmm.explain(formula).integrated)
    }


def _check_priors(found: dict[str, Any]) -> None:
    # What is drawn in the figure is what the page simulates, and that is what PyMC means.
    places = np.linspace(0, 0.1, 20_001)[1:]
    for name, density in RATIOS.items():
        below = icc_density(places, density).mean() * 0.1
        assert_allclose((found["shares"][name] < 0.1).mean(), below, atol=0.01)
    icc = found["shares"]["half-Cauchy"]
    assert_allclose((icc < 0.1).mean(), (icc > 0.9).mean(), atol=0.01)
    assert stats.kstest(found["both"], stats.halfcauchy().cdf).pvalue > 0.01
    places = np.linspace(-1, 1, 2001)
    for eta, n in ((2, 2), (1, 5)):
        with pm.Model():
            sds = pm.HalfNormal.dist(1, shape=n)
            _, matrix, _ = pm.LKJCholeskyCov("chol", n=n, eta=eta, sd_dist=sds)
            draws = pm.draw(matrix[0, 1], 1000, random_seed=1, mode="FAST_COMPILE")
        cumulative = np.cumsum(correlation_density(places, eta, n)) * 0.001
        assert stats.kstest(draws, lambda r, f=cumulative: np.interp(r, places, f)).pvalue > 0.01

    # The wider the prior, the more is in the tail, with five groups.
    upper = [interval[2] for interval in found["intervals"].values()]
    assert sorted(upper) == upper and upper[-1] > upper[0] + 0.2

    # The four priors are folded, and no other one; what stays sampled is said.
    named: list[tuple[Any, dict]] = [
        (pm.HalfNormal, {}),
        (pm.Exponential, {"lam": 1}),
        (pm.HalfStudentT, {"nu": 4}),
        (pm.HalfCauchy, {"beta": 1}),
        (pm.LogNormal, {}),
    ]
    for prior, arguments in named:
        with pm.Model() as model:
            u = pm.Normal("u", 0, prior("tau", **arguments), shape=5)
            pm.Normal("y", u[found["g"]], 1, observed=found["y"])
        (value,) = mlmm.marginalize(model).value_vars
        assert (value.name == "tau_log__") == (prior is pm.LogNormal)
    assert "StudentT" in str(mlmm.explain(found["robust"]).refusals["u"].reason)
    assert "u_offset" in found["noncentred"].named_vars
    assert {*mlmm.explain(found["weighted"]).integrated} == {"u", "alpha"}
    with pm.Model() as single:
        u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=40)
        pm.Normal("y", u[np.arange(40)], pm.HalfNormal("sigma"), observed=found["y"])
    assert "as many levels" in " ".join(mlmm.explain(single).remarks)


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "docs/predictions.md": _check_predictions,
    "docs/guide/dictionary.md": _check_dictionary,
    "docs/guide/priors.md": _check_priors,
}


# Bambi's predict puts the posterior into the graph as constants.
@pytest.mark.filterwarnings("ignore:Cannot cache compiled function")
# What the page on comparison is about.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
@pytest.mark.parametrize("page", pages())
def test_code_blocks(page: str, capsys: pytest.CaptureFixture) -> None:
    logging.getLogger("pymc").setLevel(logging.ERROR)
    logging.getLogger("pymc.stats.convergence").setLevel(logging.ERROR)
    found = run(page, (ROOT / page).read_text())
    CHECKS.get(page, lambda _: None)(found)


def test_failures_of_code_blocks_are_seen() -> None:
    with pytest.raises(ZeroDivisionError):
        run("page", "```python\n1 / 0\n```\n")
    with pytest.raises(doctest.DocTestFailure):
        run("page", "```python\nx = 2\n```\n\n```pycon\n>>> x\n3\n```\n")


def test_all_pages_with_code_are_run() -> None:
    found = pages()
    assert {*CHECKS} <= {*found}
    for name in ("index", "theory", "developer", "guide/what", "guide/explain", "guide/choosing"):
        assert f"docs/{name}.md" in found


def test_reference_is_complete() -> None:
    text = (DOCS / "api.md").read_text()
    text, _ = text.split(".. currentmodule:: pymc_marginal_lmm.explain")
    documented = re.findall(r"^\.\. auto(?:function|class|exception):: (\w+)$", text, re.MULTILINE)
    assert sorted(documented) == sorted(pymc_marginal_lmm.__all__)
    tables = re.findall(r"^   (\w+)$", text, re.MULTILINE)
    assert sorted(tables) == sorted(pymc_marginal_lmm.__all__)


def test_relative_links_of_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_citation_is_of_this_version_and_that_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0" and citation["message"]
    assert citation["version"] == pymc_marginal_lmm.__version__
    (paper,) = citation["references"]
    for page in ("index.md", "theory.md"):
        assert (
            paper["title"] in (DOCS / page).read_text()
            and paper["url"] in (DOCS / page).read_text()
        )


def test_figures_of_readme_are_those_of_the_benchmarks() -> None:
    readme = (ROOT / "README.md").read_text()
    results = json.loads((DOCS / "benchmarks.json").read_text())
    assert put(readme, overview(results)) == readme


@pytest.mark.parametrize(
    ("name", "page"), [("benchmarks", benchmarks_page), ("accelerator", accelerator_page)]
)
def test_pages_of_measurements_are_made_of_their_files(name: str, page: Callable) -> None:
    results = json.loads((DOCS / f"{name}.json").read_text())
    assert page(results) == (DOCS / f"{name}.md").read_text()


def test_figure_of_priors_is_small_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        priors(tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    for path in (tmp_path / "one.svg", DOCS / "figures" / "priors.svg"):
        assert path.stat().st_size < 100_000 and path.read_text().endswith("</svg>\n")


def _build(source: Path, target: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-b", "html"]
    return subprocess.run([*command, source, target], capture_output=True, text=True, check=False)


def test_site_builds(tmp_path: Path) -> None:
    built = _build(DOCS, tmp_path / "html")
    assert built.returncode == 0, built.stderr
    reference = (tmp_path / "html" / "api.html").read_text()
    assert all(f'id="pymc_marginal_lmm.{n}"' in reference for n in pymc_marginal_lmm.__all__)
    # Formulas need no network.
    theory = (tmp_path / "html" / "theory.html").read_text()
    (mathjax,) = re.findall(r'src="([^"]*mathjax[^"]*)"', theory)
    assert (tmp_path / "html" / mathjax).is_file()
    # Outputs of notebooks are there, and nothing of them was executed.
    assert "_images" in (tmp_path / "html" / "notebooks" / "quickstart.html").read_text()


def _small_site(folder: Path, text: str) -> Path:
    source = folder / "docs"
    shutil.copytree(DOCS / "_static", source / "_static")
    for name in ("conf.py", "paper.md"):
        shutil.copy(DOCS / name, source)
    (source / "index.md").write_text(f"# A page\n\n{text}\n\n```{{toctree}}\npaper\n```\n")
    return source


def test_broken_links_are_errors(tmp_path: Path) -> None:
    text = "[a](nowhere.md), [b](index.md#nothing), {py:func}`pymc_marginal_lmm.no_function`"
    built = _build(_small_site(tmp_path, text), tmp_path / "html")
    assert built.returncode != 0
    for complaint in ("nowhere.md", "nothing", "no_function"):
        assert complaint in built.stderr


def test_tables_of_the_paper_are_listed_when_they_are_there(tmp_path: Path) -> None:
    source = _small_site(
        tmp_path, "{py:func}`pymc.sample` belongs to others, [this](paper.md) not."
    )
    assert _build(source, tmp_path / "before").returncode == 0
    (source / "paper").mkdir()
    (source / "paper" / "slopes.md").write_text("# Measured slopes\n")
    built = _build(source, tmp_path / "after")
    assert built.returncode == 0, built.stderr
    before, after = ((tmp_path / n / "paper.html").read_text() for n in ("before", "after"))
    assert "run that command" in before and "run that command" not in after
    assert "Measured slopes" not in before and "Measured slopes" in after
