"""Rows, or groups of rows, left out of a marginal model: their densities at many parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from rich.progress import track
from xarray import Dataset

from pymc_marginal_lmm.algebra.density import LOG_2PI
from pymc_marginal_lmm.algebra.left_out import (
    ROUNDING,
    at_pairs,
    identified_by,
    log_density_of_kept,
    rows_given_others,
)
from pymc_marginal_lmm.analysis.ordering import block_structure
from pymc_marginal_lmm.model.draws import chunks, first_lost, shown_draw
from pymc_marginal_lmm.model.groups import NONE, Groups, NoGroups, any_spans, pairs_of
from pymc_marginal_lmm.model.likelihoods import Likelihoods
from pymc_marginal_lmm.structure import MixedModel

__all__ = [
    "LeftOut",
    "check_finite",
    "group_densities",
    "in_chunks",
    "row_densities",
]

MANY_PAIRS = 4_000_000
"""From so many pairs of rows of a group on, groups are left out one after the other."""


@dataclass(frozen=True)
class LeftOut:
    """Rows, or groups of rows, each given all others.

    Parameters
    ----------
    log_densities : callable
        From parameters ``(N, d)`` to ``(N, m)``, and whether to show progress.
    name : callable
        Names one of them, for an error.
    """

    log_densities: Callable[[np.ndarray, bool], np.ndarray]
    name: Callable[[int], str]


def row_densities(given: Likelihoods) -> LeftOut:
    """Leave out each row by itself."""
    values = given.compiled(rows_given_others(given.mixed, given.ys)[:1])

    def log_densities(points: np.ndarray, show: bool) -> np.ndarray:
        return in_chunks(values, points, given.mixed.n_rows, show) + given.log_jacobian

    return LeftOut(log_densities, given.row)


def in_chunks(
    values: Callable[[np.ndarray], np.ndarray], points: np.ndarray, width: int, show: bool
) -> np.ndarray:
    """Evaluate a function of many points for as many at once as memory allows for."""
    parts = chunks(len(points), 8 * width, "Leaving out", show=show)
    with np.errstate(all="ignore"):  # what is not finite is reported with its draw
        return np.concatenate([values(points[chunk]) for chunk in parts])


def check_finite(
    found: np.ndarray, given: Likelihoods, posterior: Dataset, name: Callable[[int], str]
) -> None:
    """Check that all rows or groups have a density at all draws, ``(N, m)``."""
    if (lost := first_lost(found)) is None:
        return
    where, values = shown_draw(given.model.free_RVs, posterior, lost)
    place = int(np.isfinite(found[lost]).argmin())
    raise ValueError(
        f"leave_out: {name(place)} has no density given all others at {where} ({values}). Most "
        "often the other rows do not identify a coefficient with a flat prior: give it a proper "
        "one, or leave out other groups."
    )


# --- Groups -----------------------------------------------------------------------------------


def group_densities(given: Likelihoods, groups: Groups) -> LeftOut:
    """Leave out each group of rows."""
    pairs = _can_be_pairs(given.mixed, groups)
    values = (_by_pairs if pairs else _one_by_one)(given, groups)
    log_jacobian = groups.sums(given.log_jacobian)

    def log_densities(points: np.ndarray, show: bool) -> np.ndarray:
        return values(points, show) + log_jacobian

    return LeftOut(log_densities, lambda i: f"'{groups.label}' {groups.names[i]!s}")


def _can_be_pairs(mixed: MixedModel, groups: Groups) -> bool:
    """Say how groups are left out, or refuse those that tear correlated rows apart."""
    banded = mixed.blocks.band is not None
    for response, rows in mixed.rows():
        if response.correlation is None:
            continue
        batches = groups.codes[rows].reshape(-1, response.batch_length)
        reason = ""
        if (batches != batches[:, :1]).any():
            reason = "are in different groups"
        elif response.whitened or banded:
            reason = "are too many to be listed pair by pair"
        if reason:
            raise NoGroups(
                f"leave_out: rows of '{response.name}' that its covariance correlates {reason}. "
                "leave_out='row' works."
            )
    if banded:
        return False
    return (groups.sizes().astype("int64") ** 2).sum() <= MANY_PAIRS


def _by_pairs(given: Likelihoods, groups: Groups) -> Callable[[np.ndarray, bool], np.ndarray]:
    """Leave out all groups at once; see :mod:`pymc_marginal_lmm.algebra.left_out`."""
    mixed = given.mixed
    codes, sizes = groups.partition(mixed), groups.sizes()
    spanned = [i for i, factor in enumerate(mixed.factors) if any_spans(codes, factor)]
    blocks = block_structure(mixed.factors, spanned, mixed.effects)
    assert blocks is not None  # there is no band
    left, right = pairs_of(codes)
    n, n_pairs = mixed.n_rows, left.size
    graphs = at_pairs(replace(mixed, blocks=blocks), given.ys, left, right)
    values = given.compiled(graphs)
    # Where the pairs of each row begin, which are sorted like the rows of its group.
    begin = np.searchsorted(left, np.arange(n))
    by_size = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    order = np.argsort(codes, kind="stable")
    first = np.cumsum(sizes) - sizes

    def densities(points: np.ndarray) -> np.ndarray:
        e, moments, W = np.split(values(points), [n, n + n_pairs], axis=1)
        out = np.empty((len(points), groups.names.size))
        for same in by_size:
            k = int(sizes[same[0]])
            rows = order[first[same][:, None] + np.arange(k)]  # (J, k)
            at = begin[rows][:, :, None] + np.arange(k)
            out[:, same] = _log_densities(e[:, rows], moments[:, at], W[:, at])
        return out

    return lambda points, show: in_chunks(densities, points, n + 2 * n_pairs, show)


def _log_densities(e: np.ndarray, moments: np.ndarray, W: np.ndarray) -> np.ndarray:
    """Return ``½ (log|B| − eᵀB⁻¹e − k log 2π)`` with ``B = W − WHW``; NaN if it is none."""
    B = W - W @ ((moments + moments.mT) / 2) @ W + e[..., :, None] * e[..., None, :]
    scale = np.sqrt(np.diagonal(W, axis1=-2, axis2=-1))
    B, e = B / (scale[..., :, None] * scale[..., None, :]), e / scale
    try:
        L = np.linalg.cholesky(B)
    except np.linalg.LinAlgError:
        positive = np.isfinite(B).all(axis=(-2, -1))
        positive[positive] = np.linalg.eigvalsh(B[positive])[:, 0] > ROUNDING
        L = np.full(B.shape, np.nan)
        L[positive] = np.linalg.cholesky(B[positive])
    diagonal = np.diagonal(L, axis1=-2, axis2=-1)
    diagonal = np.where(diagonal**2 > ROUNDING, diagonal, np.nan)
    t = np.linalg.solve(L, e[..., None])[..., 0]
    log_det = np.log(diagonal * scale).sum(axis=-1)
    return log_det - 0.5 * ((t**2).sum(axis=-1) + e.shape[-1] * LOG_2PI)


def _one_by_one(given: Likelihoods, groups: Groups) -> Callable[[np.ndarray, bool], np.ndarray]:
    """Leave out one group after the other."""
    keep = pt.vector("keep", shape=(given.mixed.n_rows,), dtype=config.floatX)
    values = given.compiled([log_density_of_kept(given.mixed, given.ys, keep)], [keep])
    kept = np.ones((groups.names.size + 1, given.mixed.n_rows), dtype=config.floatX)
    rows = np.flatnonzero(groups.codes != NONE)
    kept[groups.codes[rows], rows] = 0
    lost = [not identified_by(given.mixed, own > 0) for own in kept[:-1]]

    def densities(points: np.ndarray, show: bool) -> np.ndarray:
        parts = track(kept, "Leaving out", disable=not show)
        *without, everything = (values(points, own) for own in parts)
        found = everything[:, None] - np.stack(without, axis=1)
        found[:, lost] = np.nan
        return found

    return densities
