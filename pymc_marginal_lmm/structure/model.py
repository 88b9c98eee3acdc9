"""A model as a whole, and its symbols."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pytensor.graph.basic import Constant, Variable

from pymc_marginal_lmm.structure.blocks import BlockStructure
from pymc_marginal_lmm.structure.effects import RandomEffects
from pymc_marginal_lmm.structure.factors import GroupingFactor, Share
from pymc_marginal_lmm.structure.responses import Noise, Regression, Response

__all__ = ["MixedModel"]


@dataclass(frozen=True)
class MixedModel:
    """Everything that the marginal log density and the conditional of the effects need.

    ``regression`` and ``noise`` are what offsets and sigmas of the responses amount to, where
    that is known and pays; None where it is not.
    """

    effects: tuple[RandomEffects, ...]
    responses: tuple[Response, ...]
    factors: tuple[GroupingFactor, ...]
    blocks: BlockStructure
    regression: Regression | None = None
    noise: Noise | None = None

    @property
    def n_rows(self) -> int:
        """``n``, over all responses."""
        return sum(response.size for response in self.responses)

    def rows(self) -> Iterator[tuple[Response, slice]]:
        """Yield each response, and where its rows are among all of them."""
        start = 0
        for response in self.responses:
            yield response, slice(start, start + response.size)
            start += response.size

    def blocks_of(self, share: Share) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the variables of a share, each with those of its blocks that have data."""
        start = 0
        for effect in share.effects:
            stop = start + self.effects[effect].n_blocks
            own = share.blocks[(share.blocks >= start) & (share.blocks < stop)]
            yield effect, own - start
            start = stop

    def width(self, share: Share) -> int:
        """Return the block length of the variables of a share."""
        return self.effects[share.effects[0]].width

    def columns(self, factor: GroupingFactor) -> Iterator[tuple[Share, slice]]:
        """Yield the shares of a factor, and their places among the effects of a level."""
        start = 0
        for share in factor.shares:
            size = share.blocks.shape[1] * self.width(share)
            yield share, slice(start, start + size)
            start += size

    def slots(self) -> list[tuple[str, int, str]]:
        """Return where each of :meth:`symbols` belongs: part, number, field."""
        return [(part, i, field) for part, i, field, value in self._values() if _is_symbol(value)]

    def _values(self) -> Iterator[tuple[str, int, str, Any]]:
        for part, fields in _SYMBOLIC.items():
            for i, member in enumerate(_as_tuple(getattr(self, part))):
                yield from ((part, i, field, _get(member, field)) for field in fields)

    def symbols(self) -> list[Variable]:
        """Return the PyTensor variables of the model that are no constants, in a fixed order."""
        return [value for *_, value in self._values() if _is_symbol(value)]

    def with_symbols(self, symbols: Sequence[Variable]) -> MixedModel:
        """Return the same model over other variables, given in the order of :meth:`symbols`."""
        parts = {part: list(_as_tuple(getattr(self, part))) for part in _SYMBOLIC}
        for (part, i, name), symbol in zip(self.slots(), symbols, strict=True):
            parts[part][i] = _put(parts[part][i], name, symbol)
        new: dict[str, Any] = {}
        for part, members in parts.items():
            own = getattr(self, part)
            new[part] = tuple(members) if isinstance(own, tuple) else next(iter(members), None)
        return replace(self, **new)


_SYMBOLIC = {
    "effects": (
        "scale",
        "mean",
        "valid",
        "log_factor",
        "precision.values",
        "precision.log_det",
        "precision.start",
        "precision.mean_sd",
        "precision.shift",
        "precision.shift_square",
    ),
    "responses": ("offset", "sigma", "correlation.matrix", "correlation.valid"),
    "factors": ("coefficients", "loadings.entries"),
    "regression": ("coefficients",),
    "noise": ("sigma",),
}
"""Members of a model that can be PyTensor variables."""


def _is_symbol(value: Any) -> bool:
    # Constants stay where they are: PyTensor shares them among all graphs, and as outputs of an Op
    # they would collect the stack traces of every graph they were ever in.
    return not isinstance(value, np.ndarray | Constant | _Missing)


class _Missing:
    """Stands for a member that is not there."""


def _as_tuple(part: Any) -> tuple:
    return part if isinstance(part, tuple) else () if part is None else (part,)


def _get(member: Any, field: str) -> Any:
    own, _, inner = field.partition(".")
    value = getattr(member, own)
    if not inner:
        return value
    return _Missing() if value is None else getattr(value, inner)


def _put(member: Any, field: str, value: Any) -> Any:
    own, _, inner = field.partition(".")
    if not inner:
        return replace(member, **{own: value})
    return replace(member, **{own: replace(getattr(member, own), **{inner: value})})
