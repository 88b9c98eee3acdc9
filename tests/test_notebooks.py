"""The notebooks run, and what is stored of them is what their text gives."""

from __future__ import annotations

import pytest

from tests.notebooks import FOLDER, NAMES, execute, reduced, source, stored

SLOW = {"crossed_effects", "funnels", "with_bambi"}
LARGEST = 200_000  # bytes


def test_all_notebooks_are_paired() -> None:
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == {*NAMES}
    assert {*NAMES} >= {"quickstart", *SLOW}


@pytest.mark.parametrize("name", NAMES)
def test_stored_outputs_belong_to_the_text(name: str) -> None:
    text, kept = source(name), stored(name)
    assert [(c.cell_type, c.source) for c in kept.cells] == [
        (c.cell_type, c.source) for c in text.cells
    ], f"run: make notebooks ARGS={name}"
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert "error" not in {output.output_type for output in outputs}
    assert "stderr" not in {output.get("name") for output in outputs}
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in NAMES]
)
def test_notebook_runs(name: str) -> None:
    # Nearly all of the time is XLA's for compilation.
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    notebook = execute(reduced(source(name), size=20), XLA_FLAGS=flags)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


def test_budgets_are_reduced() -> None:
    for name in NAMES:
        before, after = source(name), reduced(source(name), size=20)
        changed = [
            cell.source
            for cell, other in zip(after.cells, before.cells, strict=True)
            if cell.source != other.source
        ]
        assert len(changed) == 1 and "draws" in changed[0] and "20, 20" in changed[0]
