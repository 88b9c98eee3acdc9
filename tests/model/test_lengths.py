"""Parameters of the wrong length, and index arrays that count from the end, are named."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest

import pymc_marginal_lmm as mlmm

rng = np.random.default_rng(4)
n = 30
g = np.r_[np.arange(5), rng.integers(0, 5, n - 5)]
kind = g % 3
y = rng.normal(size=n)
Tensor = pt.TensorVariable


def per_row(**kwargs: object) -> Tensor:
    """Return something sampled with a value per row, by indexing one level too low."""
    return pm.HalfNormal("tau", shape=3)[kind]


WRONG: dict[str, tuple[str, str, Callable[[], object]]] = {
    "mean of sampled": ("mu", "prior mean", lambda: pm.Normal("mu", per_row(), 1, dims="g")),
    "mean of effects": (
        "mu",
        "prior mean",
        lambda: pm.Normal("mu", pm.Normal("m", shape=3)[kind], 1, dims="g"),
    ),
    "mean of data": ("mu", "prior mean", lambda: pm.Normal("mu", pm.Data("x", y), 1, dims="g")),
    "scale": ("mu", "prior scale", lambda: pm.Normal("mu", 0, per_row(), dims="g")),
    "mean of vectors": (
        "mu",
        "prior mean",
        lambda: pm.MvNormal("mu", pm.Data("x", np.ones((n, 2))), np.eye(2), dims=("g", "two"))[
            :, 0
        ],
    ),
}


@pytest.mark.parametrize(("name", "what", "build"), WRONG.values(), ids=WRONG.keys())
def test_prior(name: str, what: str, build: Callable) -> None:
    with pm.Model(coords={"g": range(5), "two": range(2)}) as model:
        pm.Normal("y", build()[g] + pm.Normal("a"), 1, observed=y)
    refusal = mlmm.explain(model).refusals[name]
    assert what in refusal.reason and "(30" in refusal.reason and "(5" in refusal.reason
    with pytest.raises(mlmm.NotMarginalizable, match=rf"'{name}': its {what} has shape"):
        mlmm.marginalize(model, name)
    with pytest.warns(UserWarning, match=rf"'{name}' \(its {what} has shape"):
        marginal = mlmm.marginalize(model)
    assert {name} <= {rv.name for rv in marginal.free_RVs}


RESPONSES: dict[str, Callable[[Tensor], object]] = {
    "standard deviation": lambda mu: pm.Normal(
        "y", mu, pm.HalfNormal("s", dims="g"), observed=y, dims="row"
    ),
    "mean": lambda mu: pm.Normal("y", mu + pm.Data("x", y[1:]), 1, observed=y, dims="row"),
}


@pytest.mark.parametrize("what", RESPONSES)
def test_likelihood(what: str) -> None:
    with pm.Model(coords={"g": range(5), "row": range(n)}) as model:
        RESPONSES[what](pm.Normal("u", shape=5)[g])
    assert re_search(what, mlmm.explain(model).refusals["u"].reason)
    with pytest.raises(mlmm.NotMarginalizable, match=r"'u': .*'y'"):
        mlmm.marginalize(model, "u")


def re_search(what: str, reason: str) -> bool:
    return what in reason and "'y'" in reason


def test_lengths_that_pytensor_finds() -> None:
    with pm.Model(coords={"g": range(5), "row": range(n)}) as model:
        mean = pm.Normal("u", shape=5)[g] + pm.HalfNormal("s", dims="g")
        pm.Normal("y", mean, 1, observed=y, dims="row")
    for verb in (mlmm.explain, mlmm.marginalize):
        with pytest.raises(ValueError, match="'y'"):
            verb(model)


# --- Codes of -1 ------------------------------------------------------------------------------

codes, _ = pd.factorize(pd.Series(["a", "b", None, "c", "a", "b"] * 5))


def indexed(index: object, **kwargs: object) -> pm.Model:
    with pm.Model() as model:
        u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=3)
        if isinstance(index, str):
            index = pm.Data(index, codes)
        pm.Normal("y", u[index], 1, observed=y)
    return model


INDICES = {
    "array": (codes, r"An index array of 'u' has 5 negative"),
    "named": (pt.constant(codes, name="group"), r"The index 'group' of 'u' has 5 negative"),
    "data": ("codes", r"The index 'codes' of 'u' has 5 negative"),
}


@pytest.mark.parametrize(("index", "message"), INDICES.values(), ids=INDICES.keys())
def test_codes_of_missing_levels(index: object, message: str) -> None:
    model = indexed(index)
    for verb in (mlmm.explain, mlmm.marginalize):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            verb(model)
        (warning,) = caught
        assert warning.filename == __file__
        with pytest.warns(UserWarning, match=message):
            warnings.warn(str(warning.message), UserWarning, stacklevel=1)


def test_counting_from_the_end_on_purpose() -> None:
    """Neither scalars nor slices are codes, nor are arrays that count from the end throughout."""
    with pm.Model() as model:
        u = pm.Normal("u", shape=3)
        b = pm.MvNormal("b", np.zeros(2), np.eye(2), shape=(3, 2))
        mean = u[-1] + u[-2:].sum() + u[::-1][g % 3] + b[g % 3, -1] + u[g % 3 - 3]
        pm.Normal("y", mean, 1, observed=y)
    assert mlmm.explain(model).integrated
