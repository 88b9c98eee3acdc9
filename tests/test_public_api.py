"""What the package promises about itself: names, documentation, examples, layers."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import pymc_marginal_lmm as mlmm

PACKAGE = Path(mlmm.__file__).parent
NAME = "pymc_marginal_lmm"
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages([str(PACKAGE)], prefix=f"{NAME}.")
    if "__main__" not in info.name and not info.name.startswith(f"{NAME}.demo")
)
with_module = pytest.mark.parametrize("module", [NAME, *MODULES])

MAY_IMPORT = {
    "errors": set(),
    "pattern": set(),
    "structure": {"pattern", "structure"},
    "values": set(),
    "ops": {"ops", "pattern"},
    "dispatch": {"dispatch", "ops"},
    "importance": {"importance"},
    "analysis": {"analysis", "errors", "ops", "pattern", "structure", "values"},
    "algebra": {"algebra", "ops", "pattern", "structure", "values"},
    "model": {
        "model",
        "algebra",
        "analysis",
        "dispatch",
        "errors",
        "importance",
        "structure",
        "values",
    },
    "picture": set(),
    "explain": {"algebra", "analysis", "errors", "model", "picture", "structure"},
    "plots": {"model"},
    "tables": {"model", "tables"},
    "examples": {"examples"},
    "": {"errors", "explain", "model", "plots", "tables"},
}
"""Which parts of the package each part may use; ``""`` is the package itself."""

ONLY_IN = {
    "pymc.model": {"analysis", "model", "values"},
    "pymc.logprob": {"analysis", "model"},
    "pymc": {"algebra", "analysis", "examples", "model", "tables", "values"},
    "jax": {"dispatch"},
    "numba": {"dispatch"},
    "llvmlite": {"dispatch"},
    "joblib": {"dispatch"},
    "rich": {"explain", "model"},
    "xarray": {"model", "plots"},
    "arviz_base": {"model"},
    "pandas": {"analysis", "examples", "tables"},
    "ibis": {"tables"},
    "arviz_stats": {"importance", "model"},
    "arviz_plots": {"plots"},
    "scipy": {
        "algebra",
        "analysis",
        "importance",
        "model",
        "ops",
        "pattern",
        "plots",
        "structure",
        "tables",
    },
}
"""Which parts may use what comes from outside."""


def imports_of(module: str) -> set[str]:
    """Return all modules that a module imports, by full name, without running it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(module)))):
        match node:
            case ast.Import():
                found |= {alias.name for alias in node.names}
            case ast.ImportFrom(level=0, module=str(source)):
                submodules = {f"{source}.{alias.name}" for alias in node.names}
                found |= {name for name in submodules if name in MODULES} or {source}
            case ast.ImportFrom():
                pytest.fail(f"{module}: relative import")
    return found


def part(module: str) -> str:
    """Return the layer that a module of the package belongs to."""
    return [*module.split("."), ""][1]


def public(module: ModuleType) -> list[tuple[str, object]]:
    return [(name, getattr(module, name)) for name in module.__all__]


# --- Names ------------------------------------------------------------------------------------


def test_public_names() -> None:
    assert mlmm.__all__ == [
        "CompiledModel",
        "Compressed",
        "Explanation",
        "NotMarginalizable",
        "compile_model",
        "compress",
        "compute_log_likelihood",
        "conditional",
        "explain",
        "finish_bambi",
        "fit",
        "loo_pit",
        "marginalize",
        "moment_match",
        "noncenter",
        "plot_ranef",
        "r2",
        "ranef",
        "recover",
        "sample",
        "unmarginalize",
        "varcorr",
        "within_cells",
    ]
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", mlmm.__version__)


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("marginalize", "(model=None, rvs_to_marginalize=None, *, fold_scales=True)"),
        ("conditional", "(model=None, rvs=None)"),
        ("noncenter", "(model=None, rvs=None)"),
        (
            "sample",
            "(model=None, *, method=None, rvs_to_marginalize=None, fold_scales=True, "
            "random_seed=None, **kwargs)",
        ),
        (
            "fit",
            "(model=None, *, draws=1000, chains=4, rvs_to_marginalize=None, weighted=False, "
            "random_seed=None, backend=None, cores=None, progressbar=True)",
        ),
        ("compile_model", "(model=None, *, rvs_to_marginalize=None, backend=None)"),
        (
            "compute_log_likelihood",
            "(idata, *, model=None, leave_out='row', extend_inferencedata=True, progressbar=True)",
        ),
        ("loo_pit", "(idata, *, model=None, progressbar=True)"),
        (
            "moment_match",
            "(idata, loo, *, model=None, leave_out='row', var_name=None, progressbar=True)",
        ),
        ("unmarginalize", "(model=None)"),
        ("varcorr", "(idata, *, model=None)"),
        (
            "compress",
            "(table, response, groups, covariates=(), *, weights=None, strata=())",
        ),
        ("within_cells", "(name, data, sigma, **kwargs)"),
        ("r2", "(idata, *, model=None)"),
        ("ranef", "(idata, *, model=None, var_names=None, progressbar=True)"),
        (
            "plot_ranef",
            "(effects, *, var_names=None, ci_probs=(0.5, 0.94), sort=True, **kwargs)",
        ),
        ("explain", "(model=None, rvs=None)"),
        (
            "recover",
            "(idata, *, model=None, var_names=None, extend_inferencedata=True, random_seed=None, "
            "progressbar=True, compile_kwargs=None)",
        ),
    ],
)
def test_signatures(name: str, signature: str) -> None:
    """Where pymc-extras has the same verb, users can switch."""
    actual = inspect.signature(getattr(mlmm, name))
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in actual.parameters.values()]
    assert str(inspect.Signature(bare)) == signature


@with_module
def test_all_names_exist_and_are_documented(module: str) -> None:
    imported = importlib.import_module(module)
    summary = (imported.__doc__ or "").split("\n\n")[0]
    assert summary.endswith(".")
    if not hasattr(imported, "__all__"):
        # Packages that only hold modules.
        assert Path(imported.__file__ or "").name == "__init__.py"
        return
    # Constants, classes, functions, each in order: as ruff sorts it.
    order = sorted(imported.__all__, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert imported.__all__ == order
    for name, value in public(imported):
        if callable(value) and not inspect.isdatadescriptor(value):
            assert inspect.getdoc(value), name


@pytest.mark.parametrize("name", mlmm.__all__)
def test_public_objects_are_documented(name: str) -> None:
    value = getattr(mlmm, name)
    documentation = inspect.getdoc(value)
    assert documentation
    summary = documentation.split("\n\n")[0]
    assert summary.endswith(".")
    for parameter in inspect.signature(value).parameters:
        if parameter == "kwargs":
            assert "\n**kwargs\n" in documentation
            continue
        # numpydoc: "name : type", or several names before the colon.
        assert re.search(rf"^(\w+, )*{parameter}(, \w+)* :", documentation, re.MULTILINE), parameter


@pytest.mark.parametrize(
    "name",
    [
        "marginalize",
        "recover",
        "conditional",
        "explain",
        "loo_pit",
        "moment_match",
        "unmarginalize",
    ],
)
def test_verbs_say_what_they_return_and_raise(name: str) -> None:
    documentation = inspect.getdoc(getattr(mlmm, name)) or ""
    for section in ("Returns", "Raises"):
        assert f"\n{section}\n{'-' * len(section)}\n" in documentation


@with_module
def test_doctests(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_there_are_doctests() -> None:
    """The example of ``marginalize`` and that of the theory page."""
    for module in ("model.marginalize", "algebra"):
        imported = importlib.import_module(f"{NAME}.{module}")
        examples = [test.examples for test in doctest.DocTestFinder().find(imported)]
        assert any(examples), module


# --- Layers -----------------------------------------------------------------------------------


@with_module
def test_layers(module: str) -> None:
    own = {name for name in imports_of(module) if name == NAME or name.startswith(f"{NAME}.")}
    assert {part(name) for name in own} <= MAY_IMPORT[part(module)]


@with_module
def test_who_knows_what(module: str) -> None:
    for name in imports_of(module):
        for outside, parts in ONLY_IN.items():
            if name == outside or name.startswith(f"{outside}."):
                assert part(module) in parts, name


def test_no_layer_is_unused() -> None:
    """The table above says no more than what is true."""
    used: dict[str, set[str]] = {layer: set() for layer in MAY_IMPORT}
    outside: dict[str, set[str]] = {name: set() for name in ONLY_IN}
    for module in (NAME, *MODULES):
        for name in imports_of(module):
            if name.startswith(f"{NAME}."):
                used[part(module)].add(part(name))
            for root in ONLY_IN:
                if name == root or name.startswith(f"{root}."):
                    outside[root].add(part(module))
    assert outside == ONLY_IN
    for layer, parts in MAY_IMPORT.items():
        assert used[layer] == parts, layer


def test_modules_do_not_import_each_other_in_circles() -> None:
    graph = {module: imports_of(module) & set(MODULES) for module in MODULES}
    # A package's __init__ stands before its modules, which may import the package.
    finished: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> None:
        assert module not in path, [*path, module]
        if module in finished:
            return
        path.append(module)
        for other in graph[module] - {module.rpartition(".")[0]}:
            visit(other)
        finished.add(path.pop())

    for module in graph:
        visit(module)
    assert finished == set(MODULES)


def test_works_without_jax() -> None:
    """JAX is an extra: the package imports, and marginalizes, where it is not installed."""
    script = f"""
import sys
from importlib.machinery import PathFinder
found = PathFinder.find_spec
PathFinder.find_spec = lambda name, *args: None if name == "jax" else found(name, *args)
import numpy as np, pymc as pm, {NAME} as mlmm
with pm.Model() as model:
    u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=2)
    pm.Normal("y", u[[0, 1, 1]], 1, observed=np.ones(3))
marginal = mlmm.marginalize(model)
assert np.isfinite(marginal.compile_logp(mode="FAST_COMPILE")(marginal.initial_point()))
assert not {{"jax", "{NAME}.dispatch.jax"}} & sys.modules.keys()
assert "{NAME}.dispatch.numba" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, timeout=120)
