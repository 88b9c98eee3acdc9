"""Runs are taken up where they stopped, and cells are told apart."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments.paper.__main__ import main
from experiments.paper.cells import Cell, finished, read_all, write
from experiments.paper.experiments import EXPERIMENTS, cells
from experiments.paper.run import run
from pymc_marginal_lmm.examples import SOURCES
from tests.experiments.paper.planted import fitted

TWO = cells(["figure4"], models=["pupil"], strategies=["O", "M1"], seeds=[1])


class Recorder:
    """Stands in for a measurement."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.cells: list = []

    def __call__(self, cell: Any, data: Path | None, limit: float) -> dict[str, Any]:
        self.cells.append(cell)
        result = self.results.pop(0) if self.results else {"ess_min": 1.0}
        if isinstance(result, BaseException):
            raise result
        return result


def started(chosen: list, folder: Path, measure: Recorder, **kwargs: bool) -> int:
    return run(chosen, folder, console=Console(file=io.StringIO()), measure=measure, **kwargs)


def test_a_finished_cell_is_not_run_again(tmp_path: Path) -> None:
    measure = Recorder()
    assert started(TWO, tmp_path, measure) == 2
    assert measure.cells == TWO
    assert started(TWO, tmp_path, measure) == 0
    assert measure.cells == TWO
    # Another budget, sampler or seed is another cell.
    for other in (
        cells(["figure4"], models=["pupil"], strategies=["O"], seeds=[1], draws=7),
        cells(["figure4"], models=["pupil"], strategies=["O"], seeds=[1], samplers=["nutpie"]),
        cells(["figure4"], models=["pupil"], strategies=["O"], seeds=[2]),
    ):
        assert started(other, tmp_path, measure) == 1
    assert len(list(read_all(tmp_path))) == 5


def test_what_was_done_before_an_interruption_is_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        started(TWO, tmp_path, Recorder({"ess_min": 2.0}, KeyboardInterrupt()))
    again = Recorder()
    assert started(TWO, tmp_path, again) == 1
    assert again.cells == TWO[1:]


def test_a_half_written_file_is_no_result(tmp_path: Path) -> None:
    (tmp_path / f"{TWO[0].name}.part").write_text("{")
    assert not finished(TWO[0], tmp_path)
    assert list(read_all(tmp_path)) == []


def test_failures_are_kept_and_can_be_run_again(tmp_path: Path) -> None:
    assert started(TWO[:1], tmp_path, Recorder({"failed": "more than 1 s"})) == 1
    assert started(TWO[:1], tmp_path, Recorder()) == 0
    assert started(TWO[:1], tmp_path, Recorder(), retry=True) == 1
    (result,) = read_all(tmp_path)
    assert "failed" not in result


def test_a_file_says_all_that_its_name_does(tmp_path: Path) -> None:
    cell = Cell("dutch", "M1", "nutpie", 3, 4, 500, 1000)
    write(cell, {"ess_min": 5.0}, tmp_path)
    (result,) = read_all(tmp_path)
    assert Cell(**result["cell"]) == cell
    assert result["machine"]["cores"] >= 1 and "pymc" in result["machine"]["versions"]


def test_fit_has_one_cell_of_its_own_sampler() -> None:
    both = cells(["figure4"], models=["pupil"], samplers=["numpyro", "nutpie"], seeds=[1])
    (own,) = [cell for cell in both if cell.strategy == "fit"]
    assert own == Cell("pupil", "fit", "importance", 1, 4, 0, 1000)
    assert {cell.sampler for cell in both if cell is not own} == {"numpyro", "nutpie"}


def test_names_are_different() -> None:
    everything = cells(list(EXPERIMENTS), samplers=["numpyro", "nutpie"])
    assert len({cell.name for cell in everything}) == len(everything) > 500


def test_a_missing_file_stops_a_run_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    results = tmp_path / "results"
    arguments = ["run", "figure4", "--data", str(tmp_path), "--results", str(results)]
    assert main(arguments) == 1
    assert "df_dutch.csv" in capsys.readouterr().err
    assert not results.exists()


def test_list_shows_what_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    result = fitted("M1")
    write(Cell(**result["cell"]), {}, tmp_path)
    arguments = ["list", "figure4", "--models", "dutch", "--strategies", "M1", "O"]
    arguments += ["--seeds", "1", "--chains", "2", "--tune", "50", "--draws", "100"]
    assert main([*arguments, "--results", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "2 cells, 1 finished" in printed
    assert [line for line in printed.splitlines() if "yes" in line and "dutch-M1-" in line]


def test_sources_are_said(capsys: pytest.CaptureFixture) -> None:
    assert main(["sources"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in SOURCES)
    assert "licence" in printed and "not known" in " ".join(printed.split())


def test_unknown_experiments(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["run", "figure9"])
    assert "no experiment figure9" in capsys.readouterr().err


def test_a_report_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["report", "--results", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "No results" in capsys.readouterr().err


def test_report_from_the_command_line(tmp_path: Path) -> None:
    result = fitted("O")
    write(Cell(**result["cell"]), result, tmp_path)
    out = tmp_path / "out"
    assert main(["report", "--results", str(tmp_path), "--out", str(out)]) == 0
    small = json.loads((out / "results.json").read_text())
    assert small[0]["ess_mean"] == 160 and "variables" not in small[0]
