"""Time density, gradient, initialisation and recovery of a synthetic model; prints one JSON line.

    python -m experiments.paper.costs '{"form": "marginal", "axis": "n", "n": 2000, ...}'

One class of effects: ``y ~ Normal(α + Σ_j x_j u_gj, σ)`` with ``u_g ~ MvNormal(0, Λ Λᵀ)``, ``Λ`` a
full ``d × d`` triangle with ``d`` scales to be estimated. All with numba.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from arviz_base import dict_to_dataset
from scipy.linalg import cho_factor, cho_solve
from xarray import DataTree

from experiments.paper.cells import Cost
from pymc_marginal_lmm import marginalize, recover

__all__ = ["Synthetic", "costs", "dense", "naive_recovery", "plain", "synthetic"]

SECONDS = 0.3
"""Per round of calls, about."""

ROUNDS = 5
DRAWS = 100
"""That are recovered at once."""


@dataclass(frozen=True)
class Synthetic:
    """Data of a class of effects.

    Parameters
    ----------
    level : ndarray, shape (n,)
        Of each row.
    x : ndarray, shape (n, d)
        What multiplies the effects of the level.
    y : ndarray, shape (n,)
        The response.
    shape : ndarray, shape (d, d)
        A triangle with rows of unit length: the Cholesky factor of the effects' correlations.
    """

    level: np.ndarray
    x: np.ndarray
    y: np.ndarray
    shape: np.ndarray

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return int(self.level.max()) + 1


def synthetic(n: int, levels: int, effects: int) -> Synthetic:
    """Make data in which each level occurs."""
    rng = np.random.default_rng([n, levels, effects])
    level = rng.permutation(np.arange(n) % levels)
    x = rng.normal(size=(n, effects))
    x[:, 0] = 1
    shape = np.tril(np.eye(effects) + 0.2 / effects)
    shape /= np.linalg.norm(shape, axis=1, keepdims=True)
    u = 0.5 * rng.normal(size=(levels, effects)) @ shape.T
    y = 1 + (x * u[level]).sum(axis=1) + rng.normal(size=n)
    return Synthetic(level, x, y, shape)


def plain(data: Synthetic) -> pm.Model:
    """Build the model with its effects ``u``."""
    d = data.x.shape[1]
    with pm.Model() as model:
        alpha, sigma = pm.Normal("alpha", 0, 5), pm.HalfNormal("sigma", 1)
        chol = pm.HalfNormal("tau", 1, shape=d)[:, None] * pt.constant(data.shape)
        u = pm.MvNormal("u", 0, chol=chol, shape=(data.n_levels, d))
        pm.Normal("y", alpha + (data.x * u[data.level]).sum(-1), sigma, observed=data.y)
    return model


def dense(data: Synthetic) -> pm.Model:
    """Build the marginal model as one would without this package, with a covariance of all rows."""
    n, d = data.x.shape
    same = (data.level[:, None] == data.level).astype(float)
    with pm.Model() as model:
        alpha, sigma = pm.Normal("alpha", 0, 5), pm.HalfNormal("sigma", 1)
        loadings = pt.constant(data.x) @ (
            pm.HalfNormal("tau", 1, shape=d)[:, None] * pt.constant(data.shape)
        )
        cov = pt.constant(same) * (loadings @ loadings.T) + sigma**2 * pt.eye(n)
        pm.MvNormal("y", alpha + pt.zeros(n), cov=cov, observed=data.y)
    return model


def naive_recovery(
    data: Synthetic, alpha: float, sigma: float, tau: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw effects given the responses, through the covariance of all rows.

    A draw of effects and responses from the prior, moved by what the responses miss.

    Returns
    -------
    ndarray, shape (M, d)
    """
    n, d = data.x.shape
    chol = tau[:, None] * data.shape
    loadings = data.x @ chol
    same = data.level[:, None] == data.level
    factor = cho_factor(same * (loadings @ loadings.T) + sigma**2 * np.eye(n))
    z = rng.normal(size=(data.n_levels, d))
    drawn = alpha + (loadings * z[data.level]).sum(axis=1) + sigma * rng.normal(size=n)
    weighted = loadings * cho_solve(factor, data.y - drawn)[:, None]
    np.add.at(z, data.level, weighted)
    return z @ chol.T


def costs(cost: Cost) -> dict[str, float]:
    """Time what a cell says.

    Parameters
    ----------
    cost : Cost
        Form and sizes.

    Returns
    -------
    dict
        Seconds: ``logp_s`` and ``gradient_s`` (with the log density) of a call, the median of some
        rounds; ``initialisation_s``, from the plain model to the compiled gradient (for the dense
        model from its data); ``recovery_s``, of one draw of all effects, where there is something
        to recover.
    """
    data = synthetic(cost.n, cost.levels, cost.effects)
    written = plain(data)
    start = time.perf_counter()
    model = {"plain": lambda: written, "marginal": lambda: marginalize(written, ["u"])}.get(
        cost.form, lambda: dense(data)
    )()
    function = model.logp_dlogp_function(mode="NUMBA", ravel_inputs=True)
    function.set_extra_values({})
    gradient = function._pytensor_function
    gradient.trust_input = True
    point = pm.blocking.DictToArrayBijection.map(model.initial_point()).data
    gradient(point)
    initialisation = time.perf_counter() - start
    logp = model.compile_logp(mode="NUMBA").f
    values = model.initial_point()
    logp.trust_input = True
    found = {
        "logp_s": _per_call(lambda: logp(**values)),
        "gradient_s": _per_call(lambda: gradient(point)),
        "initialisation_s": initialisation,
    }
    if cost.form == "marginal":
        found["recovery_s"] = _recovery(model, cost.effects)
    elif cost.form == "dense":
        rng = np.random.default_rng(0)
        tau = np.full(cost.effects, 0.5)
        found["recovery_s"] = _per_call(lambda: naive_recovery(data, 1.0, 1.0, tau, rng))
    return found


def _recovery(model: pm.Model, effects: int) -> float:
    rng = np.random.default_rng(0)
    posterior = {
        "alpha": 1 + 0.1 * rng.normal(size=(1, DRAWS)),
        "sigma": 1 + 0.1 * rng.random(size=(1, DRAWS)),
        "tau": 0.5 + 0.1 * rng.random(size=(1, DRAWS, effects)),
    }
    idata = DataTree.from_dict({"posterior": dict_to_dataset(posterior)})

    def seconds(draws: int) -> float:
        few = idata.isel(draw=slice(draws))
        start = time.perf_counter()
        recover(few, model=model, extend_inferencedata=False, random_seed=1, progressbar=False)
        return time.perf_counter() - start

    seconds(1)
    # What the graph costs to make, once, is in both.
    preparation = min(seconds(1) for _ in range(3))
    return max(0.0, min(seconds(DRAWS) for _ in range(3)) - preparation) / (DRAWS - 1)


def _per_call(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    repetitions = max(1, int(SECONDS / max(once, 1e-6)))
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(repetitions):
            call()
        rounds.append((time.perf_counter() - start) / repetitions)
    return float(np.median(rounds))


def main() -> None:
    """Run the cell that the command line describes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cell", type=json.loads)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(json.dumps(costs(Cost(**args.cell))))


if __name__ == "__main__":
    main()
