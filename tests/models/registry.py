"""How canonical models are registered, and the made-up data that they are about."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.tensor as pt
import pytest
from pytensor.scalar.basic import autocast_float_as

__all__ = [
    "MODELS",
    "CanonicalModel",
    "Rows",
    "by_name",
    "canonical",
    "canonical_models",
    "lkj",
    "scales",
]


@dataclass(frozen=True)
class CanonicalModel:
    """A model and what is expected of it.

    Parameters
    ----------
    name : str
    build : callable
        Returns the plain model, which always holds at least one sampled parameter besides the
        effects.
    effects : tuple of str
        What ``marginalize(model)`` integrates out.
    flat : bool
        Whether some of it has a flat prior.
    tags : frozenset of str
        What the model is about: "correlated", "crossed", "nested", "hierarchical", "fixed only",
        "several responses", "lognormal", "data", "deterministics", "partial" (a Normal variable
        stays sampled), "no data" (some levels have none), "correlated rows".
    """

    name: str
    build: Callable[[], pm.Model]
    effects: tuple[str, ...]
    flat: bool = False
    tags: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name


MODELS: list[CanonicalModel] = []


def by_name(name: str) -> CanonicalModel:
    """Return the canonical model of that name."""
    return next(model for model in MODELS if model.name == name)


def canonical_models(fast: Collection[str]) -> pytest.MarkDecorator:
    """Parametrize a test over all canonical models; those that are not named are slow."""
    parameters = [
        pytest.param(model, marks=[] if model.name in fast else [pytest.mark.slow])
        for model in MODELS
    ]
    return pytest.mark.parametrize("canonical", parameters, ids=str)


def canonical(*effects: str, flat: bool = False, tags: tuple[str, ...] = ()) -> Callable:
    """Register a function, which runs inside a fresh model, as a canonical model."""

    def register(body: Callable[[], None]) -> Callable[[], None]:
        def build() -> pm.Model:
            # Literals such as 5.0 in double precision: in the plain model their logarithms
            # would be single, and it could not serve as a reference to ten digits.
            with autocast_float_as("float64"), pm.Model() as model:
                body()
            return model

        entry = CanonicalModel(body.__name__, build, effects, flat, frozenset(tags))
        MODELS.append(entry)
        return body

    return register


class Rows:
    """Made-up data of ``n`` rows: a covariate ``x``, level indices, and a response."""

    def __init__(self, n: int = 30, seed: int = 0) -> None:
        self.n = n
        self.rng = np.random.default_rng([n, seed])
        self.x = self.rng.normal(size=n).round(3)
        self._mean = 1.0 + 0.5 * self.x

    def index(self, levels: int) -> np.ndarray:
        """Return an index in which every level occurs, unequally often and in no order."""
        codes = np.r_[np.arange(levels), self.rng.integers(levels, size=self.n - levels)]
        codes = self.rng.permutation(codes)
        self._mean = self._mean + self.rng.normal(0, 0.8, size=levels)[codes]
        return codes

    def design(self, columns: int) -> np.ndarray:
        """Return an intercept, ``x``, and further covariates."""
        others = self.rng.normal(size=(self.n, columns)).round(3)
        return np.column_stack([np.ones(self.n), self.x, others])[:, :columns]

    @property
    def y(self) -> np.ndarray:
        """The response: call last, when all indices are made."""
        return self._mean + self.rng.normal(0, 0.7, size=self.n)


def scales(*names: str) -> list[pt.TensorVariable]:
    """Return a half-normal standard deviation per name."""
    return [pm.HalfNormal(name, 1.0) for name in names]


def lkj(name: str, n: int) -> pt.TensorVariable:
    """Return the Cholesky factor of a covariance matrix with an LKJ prior."""
    return pm.LKJCholeskyCov(name, n=n, eta=2.0, sd_dist=pm.HalfNormal.dist(1.0))[0]
