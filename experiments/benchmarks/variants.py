"""The forms of a model that are compared."""

from __future__ import annotations

from pathlib import Path

import pymc as pm

from experiments.benchmarks.cases import Case
from experiments.benchmarks.classic import classic_cases
from experiments.benchmarks.paper import paper_cases
from pymc_marginal_lmm import marginalize, noncenter

__all__ = ["VARIANTS", "all_cases", "find", "gradient_variants", "variant"]

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
