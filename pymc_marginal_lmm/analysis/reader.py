"""What the rules need of the reader that applies them."""

from __future__ import annotations

from typing import NoReturn, Protocol

from pytensor.graph.basic import Apply, Variable

from pymc_marginal_lmm.analysis.multipliers import MultiplierReader
from pymc_marginal_lmm.analysis.parameters import Parameters
from pymc_marginal_lmm.analysis.terms import Linear, Multiplier, Terms
from pymc_marginal_lmm.values import Values

__all__ = ["Reader"]


class Reader(Protocol):
    """What rules need of the reader that applies them."""

    values: Values
    parameters: Parameters
    multipliers: MultiplierReader
    from_the_end: dict[str, int]

    def read(self, variable: Variable) -> Linear:
        """Return the linear part of a variable."""

    def shape(self, variable: Variable) -> tuple[int, ...]:
        """Return the shape of a tensor."""

    def times(self, terms: Terms, multiplier: Multiplier, shape: tuple[int, ...]) -> Terms:
        """Multiply a tensor by a multiplier; together they broadcast to ``shape``."""

    def refuse(self, node: Apply, reason: str, remedy: str | None = None) -> NoReturn:
        """Refuse all effects that enter a node."""
