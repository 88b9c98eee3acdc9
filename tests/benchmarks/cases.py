"""What is benchmarked: models, each as a user would write it in one of two forms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.graph.basic import Variable

__all__ = ["Case", "Form", "correlated", "effects"]

type Form = Literal["centred", "noncentred"]


@dataclass(frozen=True)
class Case:
    """A model and its data.

    Parameters
    ----------
    name : str
    build : callable
        From a form to the model with its data.
    one : tuple of str
        The effects that are integrated out where one factor only is.
    rest : {"centred", "noncentred"}
        The form in which it is marginalized: matters for effects that stay sampled only.
    dense : callable, optional
        The same marginal model with a dense covariance, as a user without this package writes it.
    sampled : bool
        Whether it is sampled, not only evaluated.
    """

    name: str
    build: Callable[[Form], pm.Model]
    one: tuple[str, ...]
    rest: Form = "centred"
    dense: Callable[[], pm.Model] | None = None
    sampled: bool = True


def effects(name: str, mean: Variable | float, tau: Variable | float, size: int, form: Form):
    """Return Normal effects, one per level."""
    if form == "centred":
        return pm.Normal(name, mean, tau, shape=size)
    offset = pm.Normal(f"{name}_offset", 0, 1, shape=size)
    return pm.Deterministic(name, mean + tau * offset)


def correlated(name: str, tau: float, size: int, form: Form, eta: float = 1) -> Variable:
    """Return intercepts and slopes ``(size, 2)``; the scales are half-normal with scale ``tau``."""
    sd = pm.HalfNormal.dist(tau, shape=2)
    chol, _, _ = pm.LKJCholeskyCov(f"chol_{name}", n=2, eta=eta, sd_dist=sd)
    if form == "centred":
        return pm.MvNormal(name, np.zeros(2), chol=chol, shape=(size, 2))
    offset = pm.Normal(f"{name}_offset", 0, 1, shape=(size, 2))
    return pm.Deterministic(name, pt.dot(offset, chol.T))
