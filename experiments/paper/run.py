"""Run cells one after the other, but not those that are there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from experiments.paper.cells import Cell, Cost, finished, write
from experiments.paper.strategies import data_of
from experiments.process import measured
from pymc_marginal_lmm.examples import load

__all__ = ["check_data", "measure", "run"]


def check_data(cells: Sequence[Cell | Cost], folder: Path | None) -> None:
    """Read the data of all cells, so that a missing file stops a run before it has begun.

    Raises
    ------
    MissingData
        A file is not there; the message says where to get it.
    """
    for name in dict.fromkeys(data_of(cell.model) for cell in cells if isinstance(cell, Cell)):
        load(name, folder)


def measure(cell: Cell | Cost, data: Path | None, limit: float) -> dict[str, Any]:
    """Run a cell in a process of its own, with nothing compiled for its model before."""
    arguments = [json.dumps(asdict(cell))]
    if data is not None and isinstance(cell, Cell):
        arguments += ["--data", str(data)]
    return measured(f"experiments.paper.{cell.kind}", arguments, limit, cold=True)


def run(
    cells: Sequence[Cell | Cost],
    results: Path,
    *,
    data: Path | None = None,
    limit: float = 3600.0,
    retry: bool = False,
    console: Console | None = None,
    measure: Callable[[Cell | Cost, Path | None, float], dict[str, Any]] = measure,
) -> int:
    """Run cells, and write the file of each as soon as it is done.

    Parameters
    ----------
    cells : sequence of Cell and Cost
        What to run.
    results : Path
        Folder with one file per cell. What is there is not run again.
    data : Path, optional
        Folder with data.
    limit : float
        Seconds for one cell; a longer one is noted as failed.
    retry : bool
        Run again what failed.
    console : rich.console.Console, optional
        Where progress is shown.
    measure : callable
        What runs a cell.

    Returns
    -------
    int
        The number of cells that were run.
    """
    console = console or Console()
    todo = [cell for cell in cells if not finished(cell, results, retry=retry)]
    console.print(f"{len(cells)} cells, {len(cells) - len(todo)} of them finished before.")
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(todo))
        for cell in todo:
            progress.update(task, description=cell.name)
            result = measure(cell, data, limit)
            write(cell, result, results)
            if "failed" in result:
                progress.console.print(f"{cell.name}: {result['failed']}", markup=False)
            progress.advance(task)
    return len(todo)
