"""``compress``: a table of any number of rows as the few rows that its density is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pymc_marginal_lmm.model.arguments import checked_names
from pymc_marginal_lmm.tables.cells import log_constant, pseudo_rows
from pymc_marginal_lmm.tables.moments import Columns, moments_of

__all__ = ["INTERCEPT", "Compressed", "compress"]

INTERCEPT = "intercept"
"""The column of ones, which is one of square roots of weights in pseudo-rows."""

EXACT = 1e-12
"""Share of the sum of squares about means that may be of rounding alone."""


@dataclass(frozen=True)
class Compressed:
    """Few rows that say of the parameters what all rows of a table say.

    Attributes
    ----------
    rows : DataFrame
        Pseudo-rows: the groups, ``"intercept"``, the covariates and the response, by their names.
        In a model ``intercept`` multiplies what has no covariate: intercepts, of groups too.
    within : DataFrame
        For each stratum (one, if there are no ``strata``) the ``sum_of_squares`` of what differs
        within cells, and its ``degrees_of_freedom``; strata without any are not there.
    n_rows : int
        Of the table.
    log_constant : float
        What the log density of the table's rows has beyond that of the pseudo-rows and of
        :func:`~pymc_marginal_lmm.within_cells`: to be added to a log evidence.
    """

    rows: pd.DataFrame
    within: pd.DataFrame
    n_rows: int
    log_constant: float

    def __repr__(self) -> str:
        return f"Compressed({self.n_rows:,} rows as {len(self.rows):,})"


def compress(
    table: Any,
    response: str,
    groups: str | Sequence[str],
    covariates: str | Sequence[str] = (),
    *,
    weights: str | None = None,
    strata: str | Sequence[str] = (),
) -> Compressed:
    """Sum a table up, without loss, for models with a Normal response.

    Rows of a cell, in which all groups are the same, are replaced by at most one row for the
    intercept and each covariate; what is left of their variance is data of its own, for
    :func:`~pymc_marginal_lmm.within_cells`. Together they have the density of all rows, for any
    parameters. Sums are made by the engine in which the table lies, in two passes; rows never come
    into Python.

    Parameters
    ----------
    table : ibis.Table, DataFrame of pandas or Polars, or table of PyArrow
        Of any of Ibis's engines, in memory or not: ``ibis.read_parquet("rows/*.parquet")``,
        ``ibis.duckdb.from_connection(connection).table("rows")``.
    response : str
        Column with the response, which is Normal given effects and parameters.
    groups : str or sequence of str
        Columns with whatever tells effects, coefficients or residual standard deviations apart, but
        for covariates: grouping factors, treatments, conditions.
    covariates : str or sequence of str, optional
        Columns with numbers that multiply effects or coefficients, and transformations of such as
        columns of their own.
    weights : str, optional
        Column with weights ``w`` as lme4 has them: residual standard deviations are ``σ/√w``.
    strata : str or sequence of str, optional
        Groups that residual standard deviations depend on; by default there is one.

    Returns
    -------
    Compressed

    Raises
    ------
    ImportError
        Ibis is not installed; the extra ``tables`` brings it, with DuckDB.
    TypeError
        ``table`` is none, or a name is no string.
    ValueError
        A column is not there, is asked for twice, or holds missing or infinite values; or responses
        do not vary within cells but for rounding.

    Notes
    -----
    Pseudo-rows are no observations: leaving one out, or predicting one, means nothing, but groups
    can be left out. The derivation is that of :mod:`pymc_marginal_lmm.tables.cells`.

    Examples
    --------
    >>> import numpy as np, pandas as pd, pymc as pm, pymc_marginal_lmm as mlmm
    >>> rng = np.random.default_rng(1)
    >>> table = pd.DataFrame({"g": rng.integers(5, size=1000), "x": rng.normal(size=1000)})
    >>> table["y"] = table["x"] + rng.normal(size=5)[table["g"]] + rng.normal(size=1000)
    >>> data = mlmm.compress(table, "y", "g", "x")
    >>> data
    Compressed(1,000 rows as 10)
    >>> with pm.Model() as model:
    ...     alpha, beta = pm.Normal("alpha", 0, 5), pm.Normal("beta", 0, 5)
    ...     u = pm.Normal("u", 0, pm.HalfNormal("tau"), shape=5)
    ...     sigma = pm.HalfNormal("sigma")
    ...     rows = data.rows
    ...     mu = (alpha + u[rows["g"]]) * rows["intercept"] + beta * rows["x"]
    ...     y = pm.Normal("y", mu, sigma, observed=rows["y"])
    ...     within = mlmm.within_cells("y_within", data, sigma)
    >>> mlmm.explain(model).integrated
    ('u', 'alpha', 'beta')
    """
    columns, by = _checked_columns(response, groups, covariates, weights, strata)
    cells, moments, log_weights = moments_of(_as_table(table, columns), columns)
    found = pseudo_rows(moments)
    rows = cells.iloc[found.cell].reset_index(drop=True)
    names = (INTERCEPT, *columns.numbers)
    rows = pd.concat([rows, pd.DataFrame(found.rows, columns=list(names))], axis=1)
    sums = pd.DataFrame(
        {"sum_of_squares": found.sum_of_squares, "degrees_of_freedom": found.degrees_of_freedom}
    )
    total = moments.second[:, -1, -1]
    within = _by_stratum(cells, sums.assign(total=total), by)
    return Compressed(
        rows,
        within,
        int(moments.n.sum()),
        log_constant(
            within["sum_of_squares"].to_numpy(),
            within["degrees_of_freedom"].to_numpy(),
            log_weights,
        ),
    )


def _by_stratum(cells: pd.DataFrame, sums: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    if by:
        added = sums.groupby([cells[name] for name in by], observed=True).sum().reset_index()
    else:
        added = sums.sum().to_frame().T
    added = added[added["degrees_of_freedom"] > 0].reset_index(drop=True)
    exact = added["sum_of_squares"] <= EXACT * added["total"]
    if exact.any():
        where = ""
        if by:
            first = added.loc[exact, list(by)].iloc[0]
            where = " where " + ", ".join(f"{name} = {value!r}" for name, value in first.items())
        raise ValueError(
            f"The response is the same in all rows of a cell, but for covariates{where}: residuals "
            "are 0, and no density is. Name fewer groups or covariates."
        )
    within = added.drop(columns="total")
    return within.astype({"degrees_of_freedom": "int64"})


def _checked_columns(
    response: Any, groups: Any, covariates: Any, weights: Any, strata: Any
) -> tuple[Columns, tuple[str, ...]]:
    """Return the columns that are asked for, and the strata."""
    of_groups, of_covariates, by = (
        tuple(checked_names(value, argument) or ())
        for value, argument in (
            (groups, "groups"),
            (covariates, "covariates"),
            (strata, "strata"),
        )
    )
    for value, argument in ((response, "response"), (weights, "weights")):
        if not isinstance(value, str) and (argument == "response" or value is not None):
            raise TypeError(f"{argument} must be the name of a column, not {value!r}.")
    if not of_groups:
        raise ValueError("groups names no column: name what tells effects apart.")
    names = [*of_groups, *of_covariates, response, *filter(None, [weights])]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(map(repr, twice))}: a column is for one purpose only.")
    if INTERCEPT in names:
        raise ValueError(f"'{INTERCEPT}' is the name of a column of the result: rename yours.")
    if unknown := [name for name in by if name not in of_groups]:
        raise ValueError(f"strata {unknown} are not among the groups: name them there, too.")
    return Columns(response, of_groups, of_covariates, weights), by


def _as_table(table: Any, columns: Columns) -> Any:
    """Return a table of Ibis's that has some columns."""
    try:
        import ibis
    except ImportError as error:
        raise ImportError(
            "compress needs Ibis: not installed here. Get it by "
            "pip install 'ibis-framework[duckdb]' (or by the extra 'tables' of pymc-marginal-lmm)."
        ) from error
    if not isinstance(table, ibis.Table):
        try:
            if table is None:
                raise TypeError("There is none.")
            table = ibis.memtable(table)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise TypeError(
                "table must be a table of Ibis, a DataFrame of pandas or Polars, or a table of "
                f"PyArrow, not {type(table).__name__}. Of files: ibis.read_parquet(path); of "
                "DuckDB: ibis.duckdb.from_connection(connection).table(name)."
            ) from error
    wanted = [*columns.groups, *columns.numbers, *filter(None, [columns.weights])]
    if unknown := [name for name in wanted if name not in table.columns]:
        raise ValueError(f"table has no column {unknown}; it has {list(table.columns)}.")
    for name in (*columns.numbers, *filter(None, [columns.weights])):
        kind = table[name].type()
        if not (kind.is_numeric() or kind.is_boolean()):
            raise ValueError(f"table: '{name}' must hold numbers, not {kind}.")
    return table
