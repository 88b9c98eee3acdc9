"""Compressed tables have the density of all of their rows, also that of lme4."""

from __future__ import annotations

import builtins
from typing import Any, NamedTuple

import bambi as bmb
import ibis
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pymc as pm
import pytest

import pymc_marginal_lmm as mlmm
from tests.helpers import unfolded
from tests.lme4_models import COEFFICIENTS, REFERENCE, Term, design, mixed_model, point, table


class Source(NamedTuple):
    """What of a table is what, and the columns that make coefficients."""

    response: str
    groups: tuple[str, ...]
    covariates: tuple[str, ...] = ()
    coefficients: tuple[str, ...] = ()


SOURCES = {
    "sleepstudy": Source("Reaction", ("Subject",), ("Days",), ("Days",)),
    "Dyestuff": Source("Yield", ("Batch",)),
    "Dyestuff2": Source("Yield", ("Batch",)),
    "Penicillin": Source("diameter", ("plate", "sample")),
    "Pastes": Source("strength", ("sample", "batch")),
    "cake": Source("angle", ("recipe", "replicate"), ("temp",), ("recipe", "temp")),
    "Machines": Source("score", ("Worker", "Machine"), (), ("Machine",)),
    "Exam": Source("normexam", ("school",), ("standLRT",), ("standLRT",)),
    "InstEval": Source("y", ("s", "d", "dept", "service"), (), ("service",)),
}

TERMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "Penicillin": (("plate",), ("sample",)),
    "Pastes": (("sample",), ("batch",)),
    "cake": (("recipe", "replicate"),),
    "InstEval": (("s",), ("d",), ("dept",)),
}
"""Factors of random intercepts; the first group's, with all coefficients, by default."""


def compressed_model(name: str) -> tuple[pm.Model, mlmm.Compressed]:
    source = SOURCES[name]
    data = mlmm.compress(table(name), source.response, source.groups, source.covariates)
    rows = data.rows
    one = rows["intercept"].to_numpy()[:, None]
    X = design(rows, *source.coefficients)
    X = np.where([c in source.covariates for c in ("", *_of_columns(source, rows))], X, X * one)
    if name in TERMS:
        terms = [Term(":".join(factor), rows, [*factor], one) for factor in TERMS[name]]
    else:
        (first, *_) = source.groups
        terms = [Term(first, rows, [first], X)]
    model = mixed_model(rows[source.response], X, *terms)
    if len(data.within):
        with model:
            mlmm.within_cells("within", data, model["sigma"])
    return model, data


def _of_columns(source: Source, rows: pd.DataFrame) -> list[str]:
    """Return the column that each column of the design is of, but for the intercept."""
    names = []
    for column in source.coefficients:
        is_label = rows[column].to_numpy().dtype == object
        names += [column] * (len(np.unique(rows[column])) - 1 if is_label else 1)
    return names


@pytest.mark.parametrize("method", ["ML", "REML"])
@pytest.mark.parametrize("name", SOURCES)
def test_log_likelihood_is_that_of_lme4(name: str, method: str) -> None:
    model, data = compressed_model(name)
    assert data.n_rows == REFERENCE[name]["n"]
    effects = list(REFERENCE[name]["ML"]["effects"])
    marginal = unfolded(model, [*effects, *([COEFFICIENTS] if method == "REML" else [])])
    logp = marginal.compile_logp(mode="FAST_COMPILE", jacobian=False)
    fit = REFERENCE[name][method]
    names = {variable.name for variable in marginal.value_vars}
    for place in (fit, *fit.get("points", [])):
        at = {k: v for k, v in point(place).items() if k in names}
        np.testing.assert_allclose(logp(at) + data.log_constant, place["loglik"], rtol=1e-10)


# --- Strata, weights, engines -------------------------------------------------------------------


def measured(n: int = 400, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "school": rng.choice(list("abcdef"), size=n),
            "year": rng.integers(2000, 2004, size=n),
            "x": rng.normal(size=n),
            "w": rng.uniform(0.5, 3, size=n),
        }
    )
    rows["day"] = rows["year"] / 10  # the same in all rows of a cell
    noise = rng.normal(size=n) * np.where(rows["year"] > 2001, 2, 1) / np.sqrt(rows["w"])
    rows["y"] = 100 + rows["x"] + (rows["school"] < "c") + noise
    return rows


def model_of(rows: pd.DataFrame, one: Any, sd: Any, within: mlmm.Compressed | None) -> pm.Model:
    """Write a model down once: of all rows, or of pseudo-rows and what is within."""
    schools, years = list("abcdef"), list(range(2000, 2004))
    school, year = (
        pd.Categorical(rows["school"], schools).codes,
        pd.Categorical(rows["year"], years).codes,
    )
    with pm.Model() as model:
        alpha, beta = pm.Normal("alpha", 100, 20), pm.Normal("beta", 0, 5, shape=2)
        u = pm.Normal("u", 0, pm.HalfNormal("tau", 2, shape=2), shape=(6, 2))
        sigma = pm.HalfNormal("sigma", 2, shape=4)
        x, day = rows["x"].to_numpy(), rows["day"].to_numpy()
        mu = (alpha + u[school, 0]) * one + (beta[0] + u[school, 1]) * x + beta[1] * day
        pm.Normal("y", mu, sigma[year] / sd, observed=rows["y"].to_numpy())
        if within is not None:
            own = pd.Categorical(within.within["year"], years).codes
            mlmm.within_cells("within", within, sigma[own])
    return model


ENGINES = {
    "pandas": lambda rows: rows,
    "polars": pl.from_pandas,
    "pyarrow": pa.Table.from_pandas,
    "duckdb": ibis.memtable,
    "ibis on polars": lambda rows: ibis.polars.connect({"rows": pl.from_pandas(rows)}).table(
        "rows"
    ),
}


@pytest.mark.parametrize("engine", ENGINES)
def test_strata_and_weights(engine: str) -> None:
    rows = measured()
    data = mlmm.compress(
        ENGINES[engine](rows), "y", ["school", "year"], ["x", "day"], weights="w", strata="year"
    )
    assert len(data.rows) <= 2 * 24 and len(data.within) == 4
    assert list(data.within["year"]) == [2000, 2001, 2002, 2003]
    # Scales are folded by what rows resolve, which pseudo-rows resolve otherwise.
    full = unfolded(model_of(rows, 1.0, np.sqrt(rows["w"].to_numpy()), None))
    few = unfolded(model_of(data.rows, data.rows["intercept"].to_numpy(), 1.0, data))
    logp = [model.compile_logp(mode="FAST_COMPILE") for model in (full, few)]
    rng = np.random.default_rng(2)
    for _ in range(5):
        at = {v.name: rng.normal(size=v.type.shape) for v in full.value_vars}
        exact, found = (f(at) for f in logp)
        np.testing.assert_allclose(found + data.log_constant, exact, rtol=1e-10)


def test_strata_with_nothing_within_are_not_there() -> None:
    rows = pd.DataFrame({"g": [0, 0, 0, 1], "y": [1.0, 2.0, 4.0, 3.0]})
    data = mlmm.compress(rows, "y", "g", strata="g")
    assert list(data.within["g"]) == [0]
    one = mlmm.compress(rows, "y", "g")
    np.testing.assert_allclose(one.within["sum_of_squares"], 14 / 3)
    assert repr(one) == "Compressed(4 rows as 2)"


def test_no_digits_are_lost_far_from_0() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=1000)
    near, far = (
        mlmm.compress(pd.DataFrame({"g": 0, "y": y + shift}), "y", "g").within["sum_of_squares"][0]
        for shift in (0.0, 2.0**30)
    )
    exact = ((y + 2.0**30 - (y + 2.0**30).mean()) ** 2).sum()
    np.testing.assert_allclose(far, exact, rtol=1e-13)
    np.testing.assert_allclose(near, ((y - y.mean()) ** 2).sum(), rtol=1e-13)


def test_evidence() -> None:
    rng = np.random.default_rng(4)
    rows = pd.DataFrame({"g": np.arange(60) % 6})
    rows["y"] = rng.normal(size=6)[rows["g"]] + rng.normal(size=60)

    def model(rows: pd.DataFrame, one: Any, data: mlmm.Compressed | None) -> pm.Model:
        with pm.Model() as model:
            u = pm.Normal("u", pm.Normal("alpha", 0, 1), pm.HalfNormal("tau", 1), shape=6)
            sigma = pm.HalfNormal("sigma", 1)
            pm.Normal("y", u[rows["g"].to_numpy()] * one, sigma, observed=rows["y"])
            if data is not None:
                mlmm.within_cells("within", data, sigma)
        return model

    data = mlmm.compress(rows, "y", "g")
    one = data.rows["intercept"].to_numpy()
    full, few = (
        mlmm.fit(m, random_seed=1, progressbar=False)["posterior"]
        for m in (model(rows, 1.0, None), model(data.rows, one, data))
    )
    evidence = few.attrs["log_evidence"] + data.log_constant
    assert abs(evidence - full.attrs["log_evidence"]) < 0.01
    for name in ("tau", "sigma", "u"):
        gap = (few[name].mean(["chain", "draw"]) - full[name].mean(["chain", "draw"])) / full[
            name
        ].std(["chain", "draw"])
        assert abs(gap).max() < 0.1


def test_bambi() -> None:
    rows = measured()
    data = mlmm.compress(rows, "y", ["school"], ["x"])
    formula = "y ~ 0 + intercept + x + (0 + intercept + x | school)"
    model = bmb.Model(formula, data.rows)
    model.build()
    pymc_model = model.backend.model
    with pymc_model:
        mlmm.within_cells("within", data, pymc_model["sigma"])
    found = mlmm.explain(model)
    assert {"intercept|school", "x|school"} <= {
        name.removesuffix("_offset") for name in found.integrated
    }


# --- Refusals -----------------------------------------------------------------------------------

TABLE = pd.DataFrame(
    {"g": [0, 0, 1, 1], "y": [1.0, 2.0, 3.0, 5.0], "x": [1.0, 2.0, 3.0, 4.0], "s": list("abcd")}
)


def with_value(column: str, value: Any) -> pd.DataFrame:
    return TABLE.assign(**{column: [value, *TABLE[column][1:]]})


BAD: dict[str, tuple[dict[str, Any], type, str]] = {
    "no table": ({"table": 3}, TypeError, "table must be a table of Ibis.*not int.*read_parquet"),
    "unknown": ({"covariates": "z"}, ValueError, r"no column \['z'\]; it has \['g', 'y', 'x'"),
    "twice": ({"covariates": "y"}, ValueError, "'y': a column is for one purpose only"),
    "labels": ({"covariates": "s"}, ValueError, "'s' must hold numbers, not string"),
    "no groups": ({"groups": []}, ValueError, "groups names no column"),
    "number": ({"groups": 3}, TypeError, "groups must be a name, or a sequence of such, not int"),
    "numbers": ({"groups": ["g", 3]}, TypeError, "it holds 3"),
    "responses": ({"response": ["y"]}, TypeError, "response must be the name of a column"),
    "strata": ({"strata": "s"}, ValueError, r"strata \['s'\] are not among the groups"),
    "name": ({"groups": "intercept"}, ValueError, "'intercept' is the name of a column of the"),
    "exact": (
        {"table": TABLE.assign(y=[1.0, 1.0, 2.0, 2.0])},
        ValueError,
        "The response is the same in all rows of a cell.*Name fewer",
    ),
    "exact stratum": (
        {"table": TABLE.assign(y=[1.0, 1.0, 2.0, 3.0]), "strata": "g"},
        ValueError,
        "where g = 0",
    ),
    "missing": (
        {"table": with_value("y", np.nan)},
        ValueError,
        "1 of 4 rows have a value of 'y' that is missing or infinite. Select",
    ),
    "infinite": ({"table": with_value("x", np.inf), "covariates": "x"}, ValueError, "of 'x'"),
    "no label": ({"table": with_value("s", None), "groups": "s"}, ValueError, "of 's'"),
    "weight": (
        {"table": with_value("x", 0.0), "weights": "x"},
        ValueError,
        "'x' that is missing, infinite or not positive",
    ),
    "no rows": ({"table": TABLE[:0]}, ValueError, "table has no rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_refusals(case: str) -> None:
    given, kind, message = BAD[case]
    before = TABLE.copy()
    with pytest.raises(kind, match=message):
        mlmm.compress(**({"table": TABLE, "response": "y", "groups": "g"} | given))
    pd.testing.assert_frame_equal(TABLE, before)


def test_within_cells_refuses() -> None:
    data = mlmm.compress(TABLE, "y", "g", strata="g")
    alone = mlmm.compress(TABLE, "y", "s")
    with pm.Model():
        with pytest.raises(TypeError, match="data must be what compress returned, not DataFrame"):
            mlmm.within_cells("within", data.rows, 1.0)
        with pytest.raises(ValueError, match=r"shape \(3,\); one number.* each of the 2 rows"):
            mlmm.within_cells("within", data, np.ones(3))
        with pytest.raises(ValueError, match="no cell has more rows"):
            mlmm.within_cells("within", alone, 1.0)


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_ibis(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "ibis":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_ibis)
    with pytest.raises(ImportError, match=r"needs Ibis.*the extra 'tables'"):
        mlmm.compress(TABLE, "y", "g")
