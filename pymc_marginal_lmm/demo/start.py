"""A mode and scales to start from, where a gradient takes long.

NUTS begins with unit scales. For parameters as well determined as those of 73,421 rows that means
thousands of gradients until it has found better ones. The handful of parameters of a marginal
model has a mode that a quasi-Newton method finds in a few dozen gradients, and curvatures there
that cost two more each. With these scales nothing remains to be adapted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import pymc as pm
from pymc.blocking import DictToArrayBijection
from pymc.sampling.jax import get_jaxified_logp
from scipy.optimize import minimize

__all__ = ["Gradient", "Start", "find_start", "time_gradient"]

STEP = 1e-4
"""Of the differences of gradients; the parameters are logarithms of standard deviations."""

Gradient = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""From the sampler's parameters to minus log density and its gradient."""


@dataclass(frozen=True)
class Start:
    """Where to start, in the space that the sampler sees.

    Parameters
    ----------
    model : pymc.Model
        The model.
    mode, variances : ndarray
        Posterior mode and inverse of the curvature there.
    gradients : int
        How many gradients it took.
    seconds : float
        How long.
    step_size : float
        For NUTS, in units of the posterior's scales; safe for the few parameters of a nearly
        Normal posterior.
    """

    model: pm.Model
    mode: np.ndarray
    variances: np.ndarray
    gradients: int
    seconds: float
    step_size: float = 0.7

    def points(self, chains: int, seed: int) -> list[dict[str, Any]]:
        """Draw a start for each chain, twice as wide as the posterior."""
        normal = np.random.default_rng(seed).normal(size=(chains, self.mode.size))
        draws = self.mode + 2 * np.sqrt(self.variances) * normal
        return [_untransformed(self.model, draw) for draw in draws]


def _untransformed(model: pm.Model, values: np.ndarray) -> dict[str, Any]:
    initial = DictToArrayBijection.map(model.initial_point())
    unpacked = DictToArrayBijection.rmap(type(initial)(values, initial.point_map_info))
    point = {}
    for rv in model.free_RVs:
        value = unpacked[model.rvs_to_values[rv].name]
        transform = model.rvs_to_transforms[rv]
        if transform is not None:
            value = transform.backward(value, *rv.owner.inputs).eval()
        point[rv.name] = value
    return point


def time_gradient(model: pm.Model) -> tuple[Gradient, float]:
    """Compile the gradient of a model, and time it.

    Returns
    -------
    gradient : callable
        From parameters to value and gradient, of minus the log density.
    seconds : float
        That one call takes, at best.
    """
    initial = DictToArrayBijection.map(model.initial_point())
    compiled = jax.jit(jax.value_and_grad(get_jaxified_logp(model, negative_logp=False)))
    names = [value.name for value in model.value_vars]

    def gradient(values: np.ndarray) -> tuple[float, np.ndarray]:
        point = DictToArrayBijection.rmap(type(initial)(values, initial.point_map_info))
        value, slopes = compiled([point[name] for name in names])
        slopes = dict(zip(names, slopes, strict=True))
        ravelled = [np.ravel(slopes[name]) for name, *_ in initial.point_map_info]
        return float(value), np.concatenate(ravelled)

    gradient(initial.data)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        gradient(initial.data)
        seconds.append(time.perf_counter() - began)
    return gradient, min(seconds)


def find_start(model: pm.Model, gradient: Gradient) -> Start:
    """Find the posterior mode and its curvatures.

    Parameters
    ----------
    model : pymc.Model
        With few parameters.
    gradient : callable
        See :func:`time_gradient`.

    Returns
    -------
    Start
        For :func:`~pymc_marginal_lmm.demo.fitting.fit`.
    """
    began = time.perf_counter()
    initial = DictToArrayBijection.map(model.initial_point()).data
    found = minimize(gradient, initial, jac=True, method="BFGS", options={"gtol": 1.0})
    steps = STEP * np.eye(initial.size)
    hessian = [gradient(found.x + h)[1] - gradient(found.x - h)[1] for h in steps]
    variances = np.diag(np.linalg.inv(np.asarray(hessian) / (2 * STEP)))
    count = found.nfev + 2 * len(steps)
    return Start(model, found.x, variances, count, time.perf_counter() - began)
