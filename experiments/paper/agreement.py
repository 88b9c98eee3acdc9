"""Whether the variants of a model have the same posterior, within Monte Carlo error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

__all__ = ["BOUND", "KHAT", "RHAT", "Comparison", "Variant", "compare", "comparisons", "variants"]

BOUND = 4.0
"""A z-score beyond it is a bug to find, or one of the few that chance makes of many."""

RHAT = 1.01
"""Of converged chains R̂ is not larger."""

KHAT = 0.7
"""Of weights that can be relied on k̂ is not larger."""


@dataclass(frozen=True)
class Variant:
    """All runs of a model with one strategy and sampler that converged, or one that did not.

    Parameters
    ----------
    model, strategy, sampler : str
    seeds : tuple of int
    rhat, khat : float
        The largest; NaN for what the sampler has not.
    divergences : int
        Of all runs.
    moments : pandas.DataFrame
        Over the seeds: ``mean``, ``sd``, ``mcse_mean`` and ``mcse_sd``, one row per variable and
        element.
    """

    model: str
    strategy: str
    sampler: str
    seeds: tuple[int, ...]
    rhat: float
    khat: float
    divergences: int
    moments: pd.DataFrame

    @property
    def converged(self) -> bool:
        """Whether its moments can be trusted."""
        return _trusted(self.rhat, self.khat, self.divergences)


@dataclass(frozen=True)
class Comparison:
    """Two variants of a model.

    Parameters
    ----------
    first, second : Variant
    size : int
        Number of elements that both have.
    mean, sd : float
        The z-scores of largest size: of posterior means and standard deviations.
    worst_mean, worst_sd : str
        Where.
    rms : float
        The root of the mean square of all z-scores: about 1 where variants agree and errors are
        right.
    beyond : int
        How many of both kinds are beyond :data:`BOUND`.
    """

    first: Variant
    second: Variant
    size: int
    mean: float
    sd: float
    worst_mean: str
    worst_sd: str
    rms: float
    beyond: int

    @property
    def flagged(self) -> bool:
        """Whether there is a bug to find."""
        return self.beyond > 0

    @property
    def expected(self) -> float:
        """How many would be beyond the bound by chance, were z-scores Normal."""
        return 2 * self.size * 2 * float(norm.sf(BOUND))


def moments(result: dict[str, Any]) -> pd.DataFrame:
    """Return the moments of a cell; elements that do not vary are left out."""
    parts = {name: pd.DataFrame(values) for name, values in result["variables"].items()}
    table = pd.concat(parts, names=["variable", "element"])
    return table[(table["sd"] > 0) & (table["mcse_mean"] > 0) & (table["mcse_sd"] > 0)]


def variants(results: Iterable[dict[str, Any]]) -> list[Variant]:
    """Put the runs together that differ in seeds and budgets only.

    Runs that did not converge are not pooled with those that did: each is a variant of its own.
    """
    groups: dict[tuple[str, str, str, int | None], list[dict[str, Any]]] = {}
    for result in results:
        if result["kind"] != "fit" or "failed" in result:
            continue
        cell = result["cell"]
        alone = None if _trusted(*_diagnostics(result)) else cell["seed"]
        key = (cell["model"], cell["strategy"], cell["sampler"], alone)
        groups.setdefault(key, []).append(result)
    return [_pooled(*key[:3], members) for key, members in groups.items()]


def _diagnostics(result: dict[str, Any]) -> tuple[float, float, int]:
    """Return R̂ and k̂, NaN for what the sampler has not, and divergences."""
    nan = float("nan")
    return result.get("rhat", nan), result.get("khat", nan), result.get("divergences", 0)


def _trusted(rhat: float, khat: float, divergences: int) -> bool:
    return divergences == 0 and not rhat > RHAT and not khat > KHAT


def _pooled(model: str, strategy: str, sampler: str, results: list[dict[str, Any]]) -> Variant:
    tables = [moments(result) for result in results]
    index = tables[0].index
    for table in tables[1:]:
        index = index.intersection(table.index)
    columns = {}
    for column in ("mean", "sd"):
        values = np.stack([table.loc[index, column] for table in tables])
        errors = np.stack([table.loc[index, f"mcse_{column}"] for table in tables])
        columns[column] = values.mean(axis=0)
        columns[f"mcse_{column}"] = np.sqrt((errors**2).sum(axis=0)) / len(tables)
    rhat, khat, divergences = zip(*map(_diagnostics, results), strict=True)
    return Variant(
        model=model,
        strategy=strategy,
        sampler=sampler,
        seeds=tuple(result["cell"]["seed"] for result in results),
        rhat=max(rhat),
        khat=max(khat),
        divergences=sum(divergences),
        moments=pd.DataFrame(columns, index=index),
    )


def compare(first: Variant, second: Variant) -> Comparison:
    """Compare the moments that two variants of a model have in common.

    Raises
    ------
    ValueError
        They have none in common.
    """
    index = first.moments.index.intersection(second.moments.index)
    if not len(index):
        raise ValueError(f"{first.model}: {first.strategy} and {second.strategy} share nothing.")
    a, b = first.moments.loc[index], second.moments.loc[index]
    scores = {
        column: (a[column] - b[column]) / np.hypot(a[f"mcse_{column}"], b[f"mcse_{column}"])
        for column in ("mean", "sd")
    }
    worst = {column: z.abs().idxmax() for column, z in scores.items()}
    return Comparison(
        first=first,
        second=second,
        size=len(index),
        mean=float(scores["mean"][worst["mean"]]),
        sd=float(scores["sd"][worst["sd"]]),
        worst_mean=_place(worst["mean"]),
        worst_sd=_place(worst["sd"]),
        rms=float(np.sqrt(np.mean([np.mean(z**2) for z in scores.values()]))),
        beyond=int(sum((z.abs() > BOUND).sum() for z in scores.values())),
    )


def _place(key: tuple[str, int]) -> str:
    variable, element = key
    return f"{variable}[{element}]"


def comparisons(found: Iterable[Variant]) -> tuple[list[Comparison], list[Variant]]:
    """Compare all converged variants of each model, pair by pair.

    Returns
    -------
    compared : list of Comparison
    left : list of Variant
        Those that did not converge.
    """
    found = list(found)
    trusted = [variant for variant in found if variant.converged]
    compared = [compare(a, b) for a, b in combinations(trusted, 2) if a.model == b.model]
    return compared, [variant for variant in found if not variant.converged]
