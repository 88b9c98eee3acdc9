"""The map from a real number ``x`` to a scale with a sign: ``s sinh x = p sinh(τ/p)``.

It is linear below ``s``, where data hardly know of the effects
(:mod:`~pymc_marginal_lmm.model.resolution`), and logarithmic above, as suits a density of
scales. It is linear again above ``p``, the scale of a prior with a light tail, which on a
logarithmic scale would be a wall; under a heavy tail ``τ = s sinh x``. A prior whose scale is less
than what data resolve would have its tail where that grows fast: ``1/s = 1/resolution + 1/scale``.

**Any number.** Data in dollars under a prior for millions, or the other way round: with
``d = log(p/s) > 0`` and ``z = (s/p) sinh x``, values and gradients are finite over the whole range
of floats, in four regions.

- ``x`` and ``z`` are small: ``τ = p asinh z = s sinh x (1 − z²/6 + O(z⁴))``, since ``τ/p`` may be
  less than the smallest float.
- They are anything usual: as it is written, with ``z = ½ (exp(x − d) − exp(−x − d))`` unless ``x``
  is small. There is nothing that overflows, in whatever order a rewrite may multiply factors.
- ``|x| > d + FAR``: both hyperbolic functions are ``e^…/2`` to the last digit, and
  ``τ = p (|x| − d)``. The formula above is taken at the bound, and ``p`` times the excess over it
  added; the slope is the one at the bound, which is ``p``.
- ``τ``, or the prior's density of it, cannot be represented. The density is 0 there, and the
  gradient of its logarithm, taken at the last point before, is 0 too.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytensor.tensor as pt
from pymc.distributions.continuous import HalfCauchyRV, HalfStudentTRV
from pytensor.graph.basic import Constant, Variable
from pytensor.tensor.random.basic import ExponentialRV, HalfNormalRV

__all__ = ["PRIORS", "Fold", "log_sech"]

PRIORS = (HalfNormalRV, ExponentialRV, HalfCauchyRV, HalfStudentTRV)
"""Priors of scales that are highest at 0; the last parameter is the scale's own."""

HEAVY_TAILED = (HalfCauchyRV, HalfStudentTRV)
"""Those whose ``p`` is infinite: they have no scale far out."""

FAR = {"float64": 18.0, "float32": 9.0}
"""From here on ``sinh x`` is ``eˣ/2``, and ``asinh eˣ/2`` is ``x``, to the last digit."""

SMALL = 1e-4
"""Up to here ``asinh z`` is ``z (1 − z²/6)``, and ``sinh z`` is ``z (1 + z²/6)``."""

LARGE = 1e8
"""From here on ``asinh z`` is ``log 2z``."""


class Place(NamedTuple):
    """What a map is like under one prior; arrays, or variables if the prior has parameters.

    ``d = −log ratio`` with ``ratio = s/p``, and with ``s`` under a heavy tail, where ``p`` is None;
    from ``beyond`` on, ``|x|`` is not represented.
    """

    s: Any
    p: Any
    ratio: Any
    d: Any
    beyond: Any


class Fold:
    """``τ(x)``, for scales with one prior.

    Parameters
    ----------
    prior : type
        Of the random variable's Op, one of :data:`PRIORS`.
    unit : float or array, optional
        What data resolve; unknown by default, and the scale of the prior serves as ``s``.
    """

    def __init__(self, prior: type, unit: np.ndarray | None = None) -> None:
        self.prior = prior
        self.unit = unit

    def _at(self, scale: Variable, dtype: str) -> Place:
        p: Any = scale.data.astype(dtype) if isinstance(scale, Constant) else pt.cast(scale, dtype)
        xp: Any = pt if isinstance(p, Variable) else np
        where = pt.switch if isinstance(p, Variable) else np.where
        one = np.asarray(1, dtype)
        # One that is no scale: the prior has no density there, and needs a number from here.
        p = where((p > 0) & (p < np.inf), p, one)
        unit = None if self.unit is None else np.asarray(self.unit, dtype)
        largest = np.asarray(np.finfo(dtype).max)
        squared = np.sqrt(largest) / 16  # what PyMC's densities square: τ/p, or τ itself
        s = p if self.unit is None else one / (one / unit + one / p)
        if issubclass(self.prior, HEAVY_TAILED):
            beyond = xp.log(xp.minimum(p, one)) - xp.log(s) + np.log(2 * squared)
            return Place(s, None, s, -xp.log(s), beyond)
        d = xp.log(p) - xp.log(s)
        normal = issubclass(self.prior, HalfNormalRV)
        # PyTensor takes the sum of constants to tell them from others: it must be finite.
        most = np.asarray(largest / 1e8, dtype)
        beyond = squared if normal else xp.minimum(largest / 4 / xp.maximum(p, one), most)
        return Place(s, p, s / p, d, beyond)

    def forward(self, tau: Variable, scale: Variable) -> Variable:
        """Return ``x > 0``."""
        s, p, _, d, _ = self._at(scale, tau.dtype)
        if p is None:
            ratio = tau / s
            far = pt.log(tau) + d + math.log(2.0)
            return pt.switch(pt.gt(ratio, LARGE), far, pt.arcsinh(pt.minimum(ratio, LARGE)))
        ratio = tau / p
        few = pt.minimum(ratio, 1)
        near = pt.switch(pt.lt(few, SMALL), tau * (1 + few**2 / 6), p * pt.sinh(few)) / s
        # log (p/s) sinh(τ/p), without the sinh
        log = d + ratio - math.log(2.0) + pt.log1p(-pt.exp(-2 * pt.maximum(ratio, 1)))
        far = log + pt.log1p(pt.sqrt(1 + pt.exp(-2 * log)))
        return pt.switch(pt.lt(ratio, 1), pt.arcsinh(near), far)

    def signed(self, x: Variable, scale: Variable) -> Variable:
        """Return ``τ`` with the sign of ``x``."""
        at = self._at(scale, x.dtype)
        x = pt.clip(x, -at.beyond, at.beyond)
        if at.p is None:
            return _times_sinh(at, x)
        near = _near(at, x)
        z = _times_sinh(at, near)
        linear = at.s * pt.sinh(pt.clip(x, -1, 1)) * (1 - z**2 / 6)
        is_small = pt.lt(pt.maximum(pt.abs(x), pt.abs(z) / SMALL), 1)
        return pt.switch(is_small, linear, at.p * pt.arcsinh(z)) + at.p * (x - near)

    def log_half_slope(self, x: Variable, scale: Variable) -> Variable:
        """Return ``log ½ |dτ/dx|``."""
        at = self._at(scale, x.dtype)
        x = pt.clip(x, -at.beyond, at.beyond)
        if at.p is None:
            return pt.log(0.5 * at.s) - log_sech(x)
        x = _near(at, x)
        return pt.log(0.5 * at.s) - log_sech(x) - 0.5 * pt.log1p(_times_sinh(at, x) ** 2)

    def is_beyond(self, x: Variable, scale: Variable) -> Variable:
        """Return where ``τ(x)`` or its density cannot be represented."""
        return pt.gt(pt.abs(x), self._at(scale, x.dtype).beyond)


def _near(at: Place, x: Variable) -> Variable:
    bound = at.d + np.asarray(FAR[x.dtype], x.dtype)
    return pt.clip(x, -bound, bound)


def _times_sinh(at: Place, x: Variable) -> Variable:
    """``ratio · sinh x``."""
    small = at.ratio * pt.sinh(pt.clip(x, -1, 1))
    return pt.switch(pt.lt(pt.abs(x), 1), small, (pt.exp(x - at.d) - pt.exp(-x - at.d)) / 2)


def log_sech(z: Variable) -> Variable:
    """Return the logarithm of ``1/cosh z``."""
    return math.log(2.0) + z - pt.softplus(2 * z)
