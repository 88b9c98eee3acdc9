"""What is benchmarked: models, each as a user would write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pymc as pm

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """A model and its data.

    Parameters
    ----------
    name : str
    build : callable
        Returns the model with its data.
    effects : tuple of str
        The variables that have offsets in the non-centred form.
    one : tuple of str
        The effects that are integrated out where one factor only is.
    rest : tuple of str
        Effects that stay sampled in any marginal model: they are non-centred there.
    dense : callable, optional
        The same marginal model with a dense covariance, as a user without this package writes it.
    sampled : bool
        Whether it is sampled, not only evaluated.
    """

    name: str
    build: Callable[[], pm.Model]
    effects: tuple[str, ...]
    one: tuple[str, ...]
    rest: tuple[str, ...] = ()
    dense: Callable[[], pm.Model] | None = None
    sampled: bool = True
