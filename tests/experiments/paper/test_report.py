"""Pages hold the numbers of the cells, and say where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.paper.cells import Cell, Cost, write
from experiments.paper.report import report
from experiments.paper.tables import cost_slopes, largest, rates, slope
from tests.experiments.paper.planted import cost, fitted


def plant(folder: Path, *results: dict[str, Any]) -> None:
    for result in results:
        kind = Cell if result["kind"] == "fit" else Cost
        write(kind(**result["cell"]), result, folder)


def failed(result: dict[str, Any]) -> dict[str, Any]:
    kept = {key: result[key] for key in ("kind", "cell", "machine")}
    return kept | {"failed": "more than 10 s"}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    out = tmp_path_factory.mktemp("out")
    plant(
        folder,
        *(fitted(s, model="insteval", ess_mean=e) for s, e in [("O", 50.0), ("M1", 80.0)]),
        fitted("all", model="insteval_own"),
        fitted("fit", model="insteval_own", sampler="importance"),
        failed(fitted("all", model="insteval")),
        *(fitted(s, model="grouseticks", draws=1000) for s in ("O", "R1R2", "M1", "M2", "M1R2")),
        fitted("all", model="grouseticks", divergences=2, diverging=[3, 5]),
        *(fitted(s, seed) for s in ("O", "M1") for seed in (1, 2)),
        fitted("default", shift=1.0),
        *(fitted("fit", seed, sampler="importance") for seed in (1, 2)),
        fitted("fit", 3, sampler="importance", khat=0.9),
        *(
            cost("marginal", "d", 100, 10, d, logp_s=1e-6 * d**3, gradient_s=2e-6 * d**2)
            for d in (2, 16, 4, 8)
        ),
    )
    report(folder, out)
    return out


def test_every_page_is_there(pages: Path) -> None:
    names = {path.name for path in pages.iterdir()}
    text = {"table1.md", "table2.md", "figure3.md", "figure4.md", "agreement.md", "cells.md"}
    assert names == text | {
        "results.json",
        "figure2.svg",
        "figure3-numpyro.png",
        "figure4-numpyro.svg",
    }
    for path in pages.iterdir():
        assert path.stat().st_size < 200_000
        if path.suffix == ".md":
            content = path.read_text()
            # What it was measured on.
            assert content.startswith("# ") and "2 cores" in content and "pymc " in content
            for line in (line for line in content.splitlines() if line.startswith("![")):
                assert (pages / line.split("(")[1].rstrip(")")).exists()


def test_budgets_are_said(pages: Path) -> None:
    assert "2 × (50 + 100)" in (pages / "table2.md").read_text()
    assert "2 × (50 + 1,000), 2 × (50 + 100)" in (pages / "figure3.md").read_text()


def rows(page: Path, *starts: str) -> list[list[str]]:
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.read_text().splitlines()
        if line.startswith("|")
    ]
    return [row for row in cells if tuple(row[: len(starts)]) == starts]


def test_table2_holds_the_numbers(pages: Path) -> None:
    (plain,) = rows(pages / "table2.md", "insteval", "O")
    # Mean ESS, its rate (3 s of sampling, 1 s of recovery), gradients per draw.
    assert (plain[9], plain[11], plain[12]) == ("50", "12.5", "7")
    (stopped,) = rows(pages / "table2.md", "insteval", "all")
    assert stopped[5] == "more than 10 s"
    assert rows(pages / "table2.md", "insteval_own", "all")
    # Evaluations per draw; no divergences and no R̂, but k̂.
    (direct,) = rows(pages / "table2.md", "insteval_own", "fit")
    assert direct[2] == "importance" and direct[12:] == ["3", "–", "–", "0.30"]
    assert plain[13:] == ["0", "1.001", "–"]


def test_divergences_are_counted(pages: Path) -> None:
    (row,) = rows(pages / "figure3.md", "grouseticks", "all")
    assert row[13] == "2"
    (apart,) = rows(pages / "agreement.md", "grouseticks", "all, numpyro")
    assert apart[3] == "2"


def test_weights_that_are_not_reliable_are_left_apart(pages: Path) -> None:
    (apart,) = rows(pages / "agreement.md", "dutch", "fit, importance")
    assert apart[2:] == ["3", "0", "–", "0.90 (too large)"]
    (seeds,) = rows(pages / "figure4.md", "dutch", "fit")
    assert seeds[4] == "3" and seeds[8:] == ["–", "–", "0.90"]


def test_fit_is_in_the_figure_of_each_sampler(tmp_path: Path) -> None:
    names = {"numpyro": "O", "nutpie": "O", "importance": "fit"}
    plant(tmp_path, *(fitted(strategy, sampler=name) for name, strategy in names.items()))
    report(tmp_path, tmp_path / "out")
    drawn = sorted((tmp_path / "out").glob("figure4-*"))
    assert [path.stem for path in drawn] == ["figure4-numpyro", "figure4-nutpie"]
    assert all("<!-- fit -->" in path.read_text() for path in drawn)


def test_a_planted_bug_is_seen(pages: Path) -> None:
    found = {tuple(row[1:3]): row[5] for row in rows(pages / "agreement.md", "dutch")}
    assert "beyond" in found["O, numpyro", "default, numpyro"]
    assert found["O, numpyro", "M1, numpyro"] == ""
    assert found["O, numpyro", "fit, importance"] == ""


def test_seeds_are_averaged(pages: Path) -> None:
    (row,) = rows(pages / "figure4.md", "dutch", "M1")
    # 2 × 150 iterations in 3 s, 160 effective ones of 2 × 100.
    assert row[4:7] == ["2", "100 ± 0", "0.8 ± 0"]


def test_slopes(pages: Path) -> None:
    (row,) = rows(pages / "table1.md", "marginalized", "O(nd + Md³), the paper's with its lemmas")
    assert row[2:] == ["d", "2 to 16", "3.00", "2.00", "–", "–"]
    assert slope([1, 2, 4], [5, 10, 20]) == pytest.approx(1)
    assert str(slope([3], [5])) == "nan"


def test_failed_costs_are_left_out() -> None:
    results = [cost("dense", "n", n, 10, 2, logp_s=1e-9 * n**3) for n in (10, 100)]
    results.append(failed(cost("dense", "n", 1000, 10, 2)))
    assert "| 10 to 100 | 3.00 |" in cost_slopes(results)


def test_the_largest_budget_counts() -> None:
    few, many, other = fitted("O", draws=10), fitted("O", draws=100), fitted("M1", draws=10)
    assert largest([few, many, other]) == [many, other]


def test_rates() -> None:
    values = rates(fitted("O"))
    assert values == {"iterations": 100, "ess": 0.8, "ess_per_second": 40}


def test_a_report_is_the_same_again(pages: Path, tmp_path: Path) -> None:
    """Figures too: a page changes when its numbers do."""
    plant(tmp_path / "results", fitted("O"), fitted("M1"))
    first, second = tmp_path / "first", tmp_path / "second"
    written = [report(tmp_path / "results", out) for out in (first, second)]
    for a, b in zip(*written, strict=True):
        assert a.read_bytes() == b.read_bytes(), a.name
