"""Sums over the rows of each cell of a table, made by the engine in which it lies.

Two passes: means of each cell, then squares about them, so that no digits cancel however far the
means are from 0. Only what is asked for is read, and only cells come into Python.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pymc_marginal_lmm.tables.cells import Moments

__all__ = ["Columns", "moments_of"]


class Columns(NamedTuple):
    """Names of columns of a table, by what they are for."""

    response: str
    groups: tuple[str, ...]
    covariates: tuple[str, ...]
    weights: str | None

    @property
    def numbers(self) -> tuple[str, ...]:
        """Those that hold numbers; the response is last."""
        return (*self.covariates, self.response)


def moments_of(table: Any, columns: Columns) -> tuple[pd.DataFrame, Moments, float]:
    """Sum up a table.

    Parameters
    ----------
    table : ibis.Table
    columns : Columns

    Returns
    -------
    cells : DataFrame, G rows
        The groups of each cell, sorted.
    moments : Moments
    log_weights : float
        ``Σ log w`` over all rows.

    Raises
    ------
    ValueError
        A value is missing or infinite, or a weight is not positive.
    """
    rows = _rows(table, columns)
    _check(rows, columns)
    groups = [f"g{i}" for i in range(len(columns.groups))]
    z = [f"z{i}" for i in range(len(columns.numbers))]
    pairs = [(i, j) for i in range(len(z)) for j in range(i + 1)]
    means = rows.group_by(groups).aggregate(
        **{f"m{i}": (rows.w * rows[v]).sum() / rows.w.sum() for i, v in enumerate(z)}
    )
    both = rows.join(means, groups)
    about = both.mutate(**{f"d{i}": both[v] - both[f"m{i}"] for i, v in enumerate(z)})
    d = [about[f"d{i}"] for i in range(len(z))]
    sums = about.group_by(groups).aggregate(
        n=about.count(),
        w=about.w.sum(),
        log_w=about.w.ln().sum(),
        **{f"m{i}": about[f"m{i}"].max() for i in range(len(z))},
        **{f"f{i}": (about.w * d[i]).sum() for i in range(len(z))},
        **{f"s{i}_{j}": (about.w * d[i] * d[j]).sum() for i, j in pairs},
    )
    found = sums.execute().sort_values(groups, kind="stable", ignore_index=True)
    second = np.empty((len(found), len(z), len(z)))
    for i, j in pairs:
        second[:, i, j] = second[:, j, i] = found[f"s{i}_{j}"]
    moments = Moments(
        n=found["n"].to_numpy(dtype="int64"),
        weight=found["w"].to_numpy(dtype="float64"),
        mean=found[[f"m{i}" for i in range(len(z))]].to_numpy(dtype="float64"),
        first=found[[f"f{i}" for i in range(len(z))]].to_numpy(dtype="float64"),
        second=second,
    )
    cells = found[groups].set_axis(list(columns.groups), axis=1)
    return cells, moments, float(found["log_w"].sum())


def _rows(table: Any, columns: Columns) -> Any:
    """Select what is needed, under names that cannot be those of others."""
    import ibis

    numbers = {f"z{i}": table[v].cast("float64") for i, v in enumerate(columns.numbers)}
    weight = ibis.literal(1.0) if columns.weights is None else table[columns.weights]
    return table.select(
        **{f"g{i}": table[v] for i, v in enumerate(columns.groups)},
        **numbers,
        w=weight.cast("float64"),
    )


def _check(rows: Any, columns: Columns) -> None:
    """Refuse a table with values that no number can be made of, column by column."""
    no_rows = rows.count().name("rows")
    numbers = {f"z{i}": name for i, name in enumerate(columns.numbers)}
    groups = {f"g{i}": name for i, name in enumerate(columns.groups)}
    named = numbers | groups | {"w": columns.weights or "weights"}
    missing = {}
    for short in named:
        value = rows[short]
        bad = value.isnull()
        if value.type().is_floating():
            bad = bad | value.isnan() | value.isinf()
        if short == "w":
            bad = bad | (value <= 0)
        missing[short] = bad.cast("int64").sum()
    (found,) = rows.aggregate(no_rows, **missing).execute().to_dict("records")
    if not found["rows"]:
        raise ValueError("table has no rows.")
    for short, name in named.items():
        if count := int(found[short]):
            what = "missing, infinite or not positive" if short == "w" else "missing or infinite"
            raise ValueError(
                f"table: {count} of {int(found['rows'])} rows have a value of '{name}' that is "
                f"{what}. Select the other rows: table.filter(...)."
            )
