"""The documentation: its code runs, its reference is complete, and the site builds.

The code blocks of a page run in their order as one program, ``pycon`` blocks as doctests.
"""

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

import numpy as np
import pytest

import pymc_marginal_lmm
from tests.benchmarks.accelerator import page as accelerator_page
from tests.benchmarks.overview import overview, put
from tests.benchmarks.report import markdown as benchmarks_page

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(python|pycon)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def _pages() -> list[str]:
    written = [ROOT / "README.md"]
    written += [p for p in DOCS.rglob("*.md") if not {"_build", "notebooks"} & {*p.parts}]
    return sorted(str(p.relative_to(ROOT)) for p in written if BLOCK.search(p.read_text()))


def _check_predictions(found: dict[str, Any]) -> None:
    # What the page says: a new school is less certain, and its rows share its effect.
    draws = found["new"]["predictions"]["y"].values.reshape(-1, 4)
    posterior = found["idata"]["posterior"]
    assert draws[:, 1].std() > 1.5 * draws[:, 0].std()
    correlations = np.corrcoef(draws.T)
    assert correlations[1, 2] > 0.8 > 0.4 > abs(correlations[1, 3])
    assert list(posterior["school"].values) == list("ABCDEFG")


CHECKS: dict[str, Callable[[dict[str, Any]], None]] = {"docs/predictions.md": _check_predictions}


def run(page: str, text: str) -> dict[str, Any]:
    """Run the blocks of a page."""
    found: dict[str, Any] = {}
    parser = doctest.DocTestParser()
    runner = doctest.DebugRunner(optionflags=doctest.ELLIPSIS)
    for language, block in BLOCK.findall(text):
        if language == "python":
            exec(compile(block, page, "exec"), found)
        else:
            test = parser.get_doctest(block, {}, page, page, 0)
            test.globs = found
            runner.run(test, clear_globs=False)
    return found


# Bambi's predict puts the posterior into the graph as constants.
@pytest.mark.filterwarnings("ignore:Cannot cache compiled function")
# What the page on comparison is about.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
@pytest.mark.parametrize("page", _pages())
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
    pages = _pages()
    assert {*CHECKS} <= {*pages}
    for name in ("index", "theory", "developer", "guide/what", "guide/explain", "guide/choosing"):
        assert f"docs/{name}.md" in pages


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


def _build(source: Path, target: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-b", "html"]
    return subprocess.run([*command, source, target], capture_output=True, text=True, check=False)


def test_site_builds(tmp_path: Path) -> None:
    built = _build(DOCS, tmp_path / "html")
    assert built.returncode == 0, built.stderr
    reference = (tmp_path / "html" / "api.html").read_text()
    assert all(f'id="pymc_marginal_lmm.{n}"' in reference for n in pymc_marginal_lmm.__all__)
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
