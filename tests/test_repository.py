"""What a repository has beside its code refers to what is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import pymc_marginal_lmm

ROOT = Path(__file__).parents[1]
GITHUB = sorted((ROOT / ".github").rglob("*.yml"))
WORKFLOWS = [path for path in GITHUB if path.parent.name == "workflows"]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md")]
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def commands(node: Any) -> list[str]:
    """Return what the steps of a workflow run."""
    if isinstance(node, dict):
        own = [node["run"]] if isinstance(node.get("run"), str) else []
        return own + [c for value in node.values() for c in commands(value)]
    return [c for value in node for c in commands(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("path", [*GITHUB, ROOT / ".readthedocs.yaml"], ids=lambda p: p.name)
def test_is_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_workflows_run_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    found = {
        target
        for path in WORKFLOWS
        for command in commands(yaml.safe_load(path.read_text()))
        for line in re.findall(r"\bmake ((?:[a-z]+ ?)+)", command)
        for target in line.split()
    }
    assert found >= {"test", "lint", "docs"}
    assert found <= targets


def test_workflows_test_what_the_package_supports() -> None:
    (tests,) = [path for path in WORKFLOWS if path.stem == "tests"]
    versions = yaml.safe_load(tests.read_text())["jobs"]["tests"]["strategy"]["matrix"]["python"]
    declared = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if "Python :: 3." in c]
    assert versions == declared
    assert PROJECT["requires-python"] == f">={versions[0]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_of_pages_lead_somewhere(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (ROOT / link).exists()]
    assert not missing


def test_extras_that_are_installed_exist() -> None:
    config = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text())
    extras = {name for step in config["python"]["install"] for name in step["extra_requirements"]}
    assert extras <= PROJECT["optional-dependencies"].keys()


def test_conda_recipe_asks_for_what_the_package_does() -> None:
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())
    needed = recipe["requirements"]
    asked = [f"python {PROJECT['requires-python']}"]
    asked += [re.sub(r"(?=[<>=])", " ", d, count=1) for d in PROJECT["dependencies"]]
    assert sorted(needed["run"]) == sorted(asked)
    assert recipe["context"]["version"] == pymc_marginal_lmm.__version__
    assert recipe["about"]["summary"] == PROJECT["description"]
    (build,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert re.sub(r"(?=>)", " ", build) in needed["host"]


def release(*arguments: str, folder: Path) -> str:
    """Return what the script has against a release of what is in a folder."""
    command = [sys.executable, folder / "scripts" / "release", *arguments, "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


def test_release_says_what_is_missing(tmp_path: Path) -> None:
    names = ("scripts/release", "CITATION.cff", "CHANGELOG.md", "pymc_marginal_lmm/__init__.py")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    changelog = tmp_path / "CHANGELOG.md"
    version = pymc_marginal_lmm.__version__
    dated = f"## [{version}] - 2030-01-31\n"
    changelog.write_text(re.sub(r"^## \[.*\n", dated, changelog.read_text(), flags=re.MULTILINE))
    git(tmp_path, "init", "--initial-branch=main")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "-m", "All of it")
    assert release(version, folder=tmp_path) == ""

    other = release("9.9.9", folder=tmp_path)
    for path in ("pymc_marginal_lmm/__init__.py", "CITATION.cff", "CHANGELOG.md"):
        assert path in other
    assert "three numbers" in release("1.0", folder=tmp_path)
    git(tmp_path, "tag", f"v{version}")
    git(tmp_path, "switch", "--create", "other")
    changelog.write_text(changelog.read_text().replace(dated, f"## [{version}] - Unreleased\n"))
    wrong = release(version, folder=tmp_path)
    for complaint in ("commit or stash", "not of other", "exists", "YYYY-MM-DD"):
        assert complaint in wrong
