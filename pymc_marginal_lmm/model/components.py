"""Variance components: which effects vary between levels of what, and by how much.

In the words of lme4 effects are *random* where a variance of theirs is estimated, and *fixed*
where none is. So a variable is group-level if a parameter of the model is in its standard deviation
(or multiplies it), unless it is a vector of coefficients that all rows share and whose prior does
not correlate them. All else is population-level: also a treatment that is an index into effects
with a known prior (``a[treatment]``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from pymc_marginal_lmm.algebra.crossproducts import design_matrix
from pymc_marginal_lmm.algebra.scales import scale_blocks
from pymc_marginal_lmm.algebra.weights import as_float
from pymc_marginal_lmm.model.likelihoods import Likelihoods
from pymc_marginal_lmm.structure import GroupingFactor, MixedModel, RandomEffects, Share
from pymc_marginal_lmm.values import Values

__all__ = ["Component", "components_of", "is_population_level"]


@dataclass(frozen=True)
class Component:
    """Effects that vary between levels together.

    Parameters
    ----------
    label : str
        Dim, or dims, of the levels; else names of the variables.
    effects : list of str
        Of each level, ``S`` of them.
    levels : array
        Coords of the levels, ``(M,)``.
    factor : int
        Position in :attr:`MixedModel.factors`.
    columns : array of int, (S,)
        Which effects of the factor.
    variables : tuple of str
        Whose elements they are.
    """

    label: str
    effects: list[str]
    levels: np.ndarray
    factor: int
    columns: np.ndarray
    variables: tuple[str, ...]

    def scale(self, model: MixedModel) -> Variable:
        """Return rows of ``Λ``, loadings included: ``(M or 1, S, …)``."""
        return scale_blocks(model, model.factors[self.factor])[:, pt.constant(self.columns)]

    def variance(self, model: MixedModel, rows: slice) -> Variable:
        """Return the mean of the variance of some rows that is due to it: of ``z_iᵀΛΛᵀz_i``."""
        factor, scale = model.factors[self.factor], self.scale(model)
        covariance = pt.matmul(scale, scale.mT)
        known = Values().constant(pt.as_tensor(factor.coefficients))
        if known is None:
            return self._by_row(factor, covariance, rows)
        Z = design_matrix(replace(model, factors=(replace(factor, coefficients=known),)))[rows]
        by_effect = [Z[:, np.arange(factor.n_levels) * factor.n_effects + s] for s in self.columns]
        products = [
            np.asarray(one.multiply(other).sum(axis=0)).ravel()
            for one in by_effect
            for other in by_effect
        ]
        squares = np.stack(products, axis=-1).reshape(factor.n_levels, *covariance.type.shape[1:])
        if covariance.type.shape[0] == 1:
            squares = squares.sum(axis=0, keepdims=True)
        return (covariance * as_float(squares)).sum() / Z.shape[0]

    def _by_row(self, factor: GroupingFactor, covariance: Variable, rows: slice) -> Variable:
        """Of rows with parameters among what multiplies effects.

        Levels are independent; what a row has of one level, by several memberships, adds up.
        """
        codes = factor.codes[rows]
        z = as_float(factor.coefficients[rows][:, :, self.columns])
        same = as_float(codes[:, :, None] == codes[:, None, :])  # (n, K, K)
        of_level = (same[..., None] * z[:, None]).sum(axis=2)
        shared = covariance.type.shape[0] == 1
        own = covariance[pt.constant(np.zeros_like(codes) if shared else codes)]  # (n, K, S, S)
        return (own * z[..., :, None] * of_level[..., None, :]).sum() / codes.shape[0]


def is_population_level(given: Likelihoods, factor: GroupingFactor, share: Share) -> bool:
    """Whether effects are coefficients that all rows share; see the module."""
    effects = [given.mixed.effects[i] for i in share.effects]
    scales: list[Any] = [effect.scale for effect in effects]
    if factor.loadings is not None:
        scales.append(factor.loadings.entries)
    if given.x not in set(ancestors([pt.as_tensor(scale) for scale in scales])):
        return True
    return factor.n_levels == 1 and not effects[0].correlated


def components_of(given: Likelihoods) -> list[Component]:
    """Return the variance components of a set of likelihoods, most levels first."""
    found: list[Component] = []
    for i, factor in enumerate(given.mixed.factors):
        shares = [
            (share, columns)
            for share, columns in given.mixed.columns(factor)
            if not is_population_level(given, factor, share)
        ]
        groups = [[one] for one in shares] if factor.n_levels == 1 else [shares]
        found += [_component(given, i, group) for group in groups if group]
    found.sort(key=lambda component: -len(component.levels))
    labels = [component.label for component in found]
    return [
        replace(c, label="_".join(c.variables)) if labels.count(c.label) > 1 else c for c in found
    ]


def _component(given: Likelihoods, i: int, shares: Sequence[tuple[Share, slice]]) -> Component:
    mixed, coords = given.mixed, given.model.coords
    factor = mixed.factors[i]
    effects: list[str] = []
    own_names: list[str] = []
    label, levels = "", np.arange(factor.n_levels)
    for share, _ in shares:
        names = [mixed.effects[e].name for e in share.effects]
        if len(names) > 1:  # a list of scalars
            own_names.append(_common_name(names))
            n = share.blocks.shape[1] * mixed.width(share)
            effects += [f"{own_names[-1]}[{k}]" if n > 1 else own_names[-1] for k in range(n)]
            continue
        effect = mixed.effects[share.effects[0]]
        own_names.append(effect.name)
        shape = effect.batch_shape
        index = list(np.unravel_index(np.maximum(share.blocks, 0), shape)) if shape else []
        across, within = _axes(index, share.blocks, factor.n_levels)
        effects += _names(effect, index, within, coords)
        if across and not label:
            label = ":".join(str(effect.dims[axis]) for axis in across) if effect.dims else ""
            levels = _levels(effect, index, across, coords)
    variables = tuple(dict.fromkeys(mixed.effects[e].name for s, _ in shares for e in s.effects))
    columns = np.concatenate([np.arange(own.start, own.stop) for _, own in shares])
    if factor.padding and len(shares) == len(factor.shares):
        columns = np.arange(factor.n_effects)
        effects += [effects[source] for source in _sources_of_padding(factor)]
    label = label or "_".join(dict.fromkeys(own_names))
    return Component(label, _distinct(effects), levels, i, columns, variables)


def _levels(
    effect: RandomEffects,
    index: Sequence[np.ndarray],
    across: Sequence[int],
    coords: Mapping[str, Any],
) -> np.ndarray:
    """Name the levels of a variable by where they are along some of its axes."""
    parts = []
    for axis in across:
        place = index[axis].max(axis=1)
        known = coords.get(effect.dims[axis]) if effect.dims else None
        parts.append(place if known is None else np.asarray(known)[place])
    if len(parts) == 1:
        return parts[0]
    return np.array([":".join(map(str, names)) for names in zip(*parts, strict=True)])


def _axes(
    index: Sequence[np.ndarray], blocks: np.ndarray, n_levels: int
) -> tuple[list[int], list[int]]:
    """Say along which batch axes of a variable levels differ, and along which a level's effects."""
    across: list[int] = []
    within: list[int] = []
    for axis, along in enumerate(index):
        there = np.where(blocks >= 0, along, -1)
        place = there.max(axis=0)
        same = ((there == place) | (blocks < 0)).all()  # for all levels
        (within if same and (n_levels == 1 or np.unique(place).size > 1) else across).append(axis)
    return across, within


def _names(
    effect: RandomEffects,
    index: Sequence[np.ndarray],
    within: Sequence[int],
    coords: Mapping[str, Any],
) -> list[str]:
    """Name the effects of a level: the variable, and where along the axes that levels share."""
    n_blocks = index[0].shape[1] if index else 1
    n_batch = len(effect.batch_shape)
    names = []
    for block in range(n_blocks):
        for support in np.ndindex(effect.support_shape):
            places = [(axis, int(index[axis][:, block].max())) for axis in within]
            places += [(n_batch + k, place) for k, place in enumerate(support)]
            labels = []
            for axis, place in places:
                known = coords.get(effect.dims[axis]) if effect.dims else None
                labels.append(str(place if known is None else known[place]))
            names.append(f"{effect.name}[{', '.join(labels)}]" if labels else effect.name)
    return names


def _common_name(names: Sequence[str]) -> str:
    """Return what the names of scalars begin with."""
    first, last = min(names), max(names)
    same = [a == b for a, b in zip(first, last, strict=False)]
    n = same.index(False) if False in same else len(same)
    return first[:n].rstrip("_-.[ 0123456789") or "_".join(names)


def _sources_of_padding(factor: GroupingFactor) -> list[int]:
    """Return, for each column of ``Z`` beyond the effects, an effect that enters it."""
    assert factor.loadings is not None
    first = factor.n_effects - factor.padding
    rows, columns = factor.loadings.rows, factor.loadings.columns
    return [
        int(columns[rows == row].min(initial=first - 1)) for row in range(first, factor.n_effects)
    ]


def _distinct(names: Sequence[str]) -> list[str]:
    """Count what has the same name: a variable that enters twice, times different things."""
    counts: dict[str, int] = {}
    out = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        out.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return out
