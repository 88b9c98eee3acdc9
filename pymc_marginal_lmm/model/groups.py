"""Which rows of a marginal model belong together: by a grouping factor, or as a user says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymc.model.core import Model

from pymc_marginal_lmm.analysis.ordering import present
from pymc_marginal_lmm.structure import GroupingFactor, MixedModel

__all__ = ["NONE", "Groups", "NoGroups", "any_spans", "groups_of", "pairs_of"]

NONE = -1
"""Group of a row that is never left out."""


class NoGroups(ValueError):
    """What was given does not say to which group each row belongs."""


@dataclass(frozen=True)
class Groups:
    """Rows that are left out together; others are never left out.

    Parameters
    ----------
    label : str
        What the groups are.
    dim : str
        Along which results per group lie.
    names : array, (G,)
        Of the groups that have rows.
    codes : array of int, (n,)
        Group of each row, or ``NONE``.
    """

    label: str
    dim: str
    names: np.ndarray
    codes: np.ndarray

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum what belongs to rows, ``(n,)``, by group."""
        own = self.codes != NONE
        return np.bincount(self.codes[own], values[own], self.names.size)

    def sizes(self) -> np.ndarray:
        """Return the number of rows of each group."""
        return np.bincount(self.codes[self.codes != NONE], minlength=self.names.size)

    def partition(self, structure: MixedModel) -> np.ndarray:
        """Return the group of each row; rows of none follow in groups of what is correlated."""
        batches, n_batches = [], 0
        for response in structure.responses:
            batches.append(n_batches + np.arange(response.size) // max(response.batch_length, 1))
            n_batches += response.n_batches
        others = self.names.size + np.concatenate(batches)
        return np.where(self.codes == NONE, others, self.codes)

    def responses(self, structure: MixedModel) -> list[str]:
        """Return the names of the responses that have rows in groups."""
        own = self.codes != NONE
        return [response.name for response, rows in structure.rows() if own[rows].any()]


def pairs_of(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of rows of a group, sorted by the first and then the second."""
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    times = sizes[codes]
    left = np.repeat(np.arange(codes.size), times)
    within = np.arange(left.size) - np.repeat(np.cumsum(times) - times, times)
    return left, order[starts[codes[left]] + within]


def any_spans(codes: np.ndarray, factor: GroupingFactor) -> bool:
    """Whether a group has rows of several levels of a factor."""
    if factor.n_memberships > 1:
        return True
    here = present(factor)
    first = np.zeros(codes.max(initial=0) + 1, dtype=int)
    first[codes[here]] = factor.codes[here, 0]
    return bool((first[codes[here]] != factor.codes[here, 0]).any())


def groups_of(structure: MixedModel, model: Model, leave_out: Any) -> Groups:
    """Return the groups that are meant.

    Parameters
    ----------
    structure : MixedModel
        Whose rows they are.
    model : Model
        Whose dims and coords these are.
    leave_out : str, array of labels, or mapping of arrays
        Effects or a dim of theirs, by name, or the group of each row.

    Raises
    ------
    TypeError
        It is none of these.
    NoGroups
        It says nothing about some of the rows, or several things.
    """
    if isinstance(leave_out, str):
        return _by_name(structure, model, leave_out)
    if not isinstance(leave_out, Mapping) and np.ndim(leave_out) == 0:
        raise TypeError(
            "leave_out must be 'row', the name of effects or of a dim of theirs, or labels of all "
            f"rows, not {type(leave_out).__name__}."
        )
    return _by_labels(structure, leave_out)


# --- Labels -----------------------------------------------------------------------------------


def _by_labels(structure: MixedModel, labels: Any) -> Groups:
    names = [response.name for response in structure.responses]
    if not isinstance(labels, Mapping):
        if len(names) > 1:
            raise NoGroups(
                f"leave_out: the rows are those of {', '.join(map(repr, names))}; pass labels by "
                "name: {name: labels, ...}."
            )
        labels = {names[0]: labels}
    if not labels or not set(labels) <= set(names):
        raise NoGroups(f"leave_out has labels of {list(labels)}; the likelihoods are {names}.")
    parts, rows = [], []
    for response, place in structure.rows():
        if response.name not in labels:
            continue
        rows.append(np.arange(place.start, place.stop))
        own = np.asarray(labels[response.name])
        if own.shape not in (response.shape, (response.size,)):
            raise NoGroups(
                f"leave_out: the labels of '{response.name}' have shape {own.shape}, and its rows "
                f"{response.shape}: one label for each row is needed."
            )
        parts.append(own.reshape(-1))
    together = np.concatenate(parts)
    if _missing(together).any():
        at = int(_missing(together).argmax())
        raise NoGroups(f"leave_out: row {at} has no label ({together[at]!r}).")
    found, inverse = np.unique(together, return_inverse=True)
    codes = np.full(structure.n_rows, NONE)
    codes[np.concatenate(rows)] = inverse.reshape(-1)
    given = {getattr(own, "name", None) for own in labels.values()}
    label = given.pop() if len(given) == 1 else None
    label = label if isinstance(label, str) and label else "group"
    return Groups(label, label, found, codes)


def _missing(labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind == "O":
        return np.array([label is None or label != label for label in labels], dtype=bool)
    return np.isnan(labels) if labels.dtype.kind == "f" else np.zeros(labels.shape, dtype=bool)


# --- Grouping factors -------------------------------------------------------------------------


def _by_name(structure: MixedModel, model: Model, name: str) -> Groups:
    dims = {dim for effect in structure.effects for dim in _batch_dims(structure, effect.name)}
    effects = [effect.name for effect in structure.effects]
    if name not in dims and name not in effects:
        known = ", ".join(map(repr, [*effects, *sorted(dims)]))
        raise NoGroups(
            f"leave_out: '{name}' is neither 'row', nor integrated effects or a dim of theirs, "
            f"which are {known}. Any other grouping can be given as an array, one label for each "
            "row."
        )
    codes = np.full(structure.n_rows, NONE)
    seen: list[tuple[str, int]] = []
    for effect, axis, rows, index in _memberships(structure, name):
        other = (codes[rows] != NONE) & (codes[rows] != index)
        if other.any():
            at = int(rows[other.argmax()])
            raise NoGroups(f"leave_out: row {at} is of several levels of '{name}'. {LABELS}")
        codes[rows] = index
        seen.append((effect, axis))
    if not seen:
        raise NoGroups(
            f"leave_out: '{name}' does not group the rows: each of them has several of its "
            f"effects, or none. {LABELS}"
        )
    for _, place in structure.rows():
        none = codes[place] == NONE
        if none.any() and not none.all():
            raise NoGroups(
                f"leave_out: row {place.start + none.argmax()} has no effect of '{name}'. {LABELS}"
            )
    used = np.unique(codes[codes != NONE])
    codes = np.where(codes == NONE, NONE, np.searchsorted(used, codes))
    effect, axis = seen[0]
    dims_of = _batch_dims(structure, effect)
    dim = dims_of[axis] if dims_of else f"{effect}_dim_{axis}"
    coords = model.coords.get(dim)
    names = used if coords is None else np.asarray(coords)[used]
    return Groups(name, dim, names, codes)


LABELS = "Pass an array instead, one label for each row."


def _batch_dims(structure: MixedModel, name: str) -> tuple[str, ...]:
    effect = next(effect for effect in structure.effects if effect.name == name)
    return tuple(map(str, effect.dims[: len(effect.batch_shape)]))


def _memberships(
    structure: MixedModel, name: str
) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Yield effects and axis, and for rows that have them where they are along that axis."""
    for factor in structure.factors:
        for share in factor.shares:
            if factor.n_memberships > 1 or factor.n_levels == 1:
                continue
            start = 0
            for position in share.effects:
                effect = structure.effects[position]
                stop = start + effect.n_blocks
                inside = (share.blocks >= start) & (share.blocks < stop)
                own = np.where(inside, share.blocks - start, -1)
                dims = _batch_dims(structure, effect.name)
                if name == effect.name or name in dims:
                    levels = _levels(own, effect.batch_shape)
                    axes = [dims.index(name)] if name in dims else list(levels)
                    if len(axes) == 1 and axes[0] in levels:
                        level = levels[axes[0]][factor.codes[:, 0]]
                        rows = np.flatnonzero(present(factor) & (level >= 0))
                        yield effect.name, axes[0], rows, level[rows]
                start = stop


def _levels(blocks: np.ndarray, shape: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Return where each level ``(M, B)`` is along an axis, if that is one place; -1: nowhere."""
    index = np.unravel_index(np.maximum(blocks, 0), shape) if shape else ()
    found = {}
    for axis, along in enumerate(index):
        there = np.where(blocks >= 0, along, -1)
        place = there.max(axis=1)
        if ((there == place[:, None]) | (blocks < 0)).all() and np.unique(place).size > 1:
            found[axis] = place
    return found
