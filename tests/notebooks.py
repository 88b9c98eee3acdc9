"""Execute the notebooks: ``python -m tests.notebooks [names]`` stores their outputs."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbclient
import nbformat

__all__ = ["FOLDER", "NAMES", "execute", "reduced", "source", "stored"]

FOLDER = Path(__file__).parent.parent / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def source(name: str) -> nbformat.NotebookNode:
    """Read the text of a notebook."""
    return jupytext.read(FOLDER / f"{name}.py")


def stored(name: str) -> nbformat.NotebookNode:
    """Read a notebook with its outputs."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def reduced(notebook: nbformat.NotebookNode, size: int) -> nbformat.NotebookNode:
    """Put ``size`` for the numbers of draws, tuning steps and so on in the cell of parameters."""
    (cell,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", ())]
    names, values = cell.source.split(" = ")
    numbers = [min(size, int(number)) for number in re.findall(r"\d+", values)]
    cell.source = f"{names} = {', '.join(map(str, numbers))}"
    return notebook


def execute(
    notebook: nbformat.NotebookNode, timeout: int = 1800, **variables: str
) -> nbformat.NotebookNode:
    """Run all cells in a fresh process, with some environment variables.

    What they write to stderr is not kept.
    """
    resources = {"metadata": {"path": str(FOLDER)}}
    client = nbclient.NotebookClient(notebook, timeout=timeout, resources=resources)
    client.execute(env={**os.environ, **variables})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    notebook.metadata["language_info"] = {"name": "python"}  # not the version
    return notebook


def main(names: list[str]) -> None:
    """Execute some notebooks, by default all, and store them with their outputs."""
    for name in names or NAMES:
        start = time.perf_counter()
        notebook = execute(source(name))
        for number, cell in enumerate(notebook.cells):
            cell.id = f"cell-{number}"  # random ids would change with every run
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")
        print(f"{name}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
