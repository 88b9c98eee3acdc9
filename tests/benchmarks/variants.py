"""The forms of a model that are compared, and where a measurement runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pymc as pm

from pymc_marginal_lmm import marginalize, noncenter
from tests.benchmarks.cases import Case
from tests.benchmarks.classic import classic_cases
from tests.benchmarks.paper import paper_cases

__all__ = ["VARIANTS", "all_cases", "find", "gradient_variants", "measured", "variant"]

VARIANTS = ("centred", "noncentred", "dense", "one", "all")
"""As written; by hand with a dense covariance; one factor, and everything, integrated out."""


def all_cases(folder: Path | None) -> list[Case]:
    """Return all cases, those of the paper too if there is a folder with their data."""
    return classic_cases() + (paper_cases(folder) if folder is not None else [])


def find(name: str, folder: Path | None) -> Case:
    """Return the case of a name."""
    return next(case for case in all_cases(folder) if case.name == name)


def variant(case: Case, name: str, plain: pm.Model | None = None) -> pm.Model:
    """Return one of :data:`VARIANTS` of a model."""
    if name == "dense":
        assert case.dense is not None
        return case.dense()
    plain = plain or case.build()
    match name:
        case "centred":
            return plain
        case "noncentred":
            return noncenter(plain, case.effects)
        case "one":
            return marginalize(noncenter(plain, case.rest), case.one, fold_scales=True)
    return marginalize(noncenter(plain, case.rest), fold_scales=True)


def gradient_variants(case: Case) -> list[str]:
    """Return the variants that a case has."""
    return [name for name in VARIANTS if name != "dense" or case.dense is not None]


def measured(module: str, arguments: list[str], limit: float, *, cold: bool) -> dict[str, Any]:
    """Run a measurement in its own process, and return what it prints.

    ``cold``: nothing that was compiled for a model before is there, PyTensor's cache is empty.
    Numba's cache of the package's own kernels is kept, as it is on the machine of a user.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ)
        if cold:
            flags = os.environ.get("PYTENSOR_FLAGS"), f"base_compiledir={folder}"
            environment["PYTENSOR_FLAGS"] = ",".join(filter(None, flags))
        try:
            done = subprocess.run(
                [sys.executable, "-m", module, *arguments],
                capture_output=True,
                text=True,
                timeout=limit,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"more than {limit:.0f} s"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])
