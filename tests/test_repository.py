"""What a repository has beside its code refers to what is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

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
