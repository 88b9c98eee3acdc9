"""Cells as if they had been run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from experiments.machine import machine
from experiments.paper.cells import Cell, Cost

__all__ = ["cost", "fitted"]

MACHINE = machine() | {"date": "2026-01-01", "cores": 2}
ERROR = 0.01
"""Monte Carlo error of each mean and sd, which are exactly as large as they should be."""


def fitted(
    strategy: str,
    seed: int = 1,
    *,
    model: str = "dutch",
    sampler: str = "numpyro",
    draws: int = 100,
    shift: float = 0.0,
    scale: float = 1.0,
    **more: Any,
) -> dict[str, Any]:
    """Return what the file of a sampled cell holds.

    ``shift`` is added to the mean of the third element of ``u``; ``scale`` multiplies the sd of
    ``alpha``.
    """
    cell = Cell(model, strategy, sampler, seed, 2, 50, draws)
    rng = np.random.default_rng([seed, *strategy.encode(), *sampler.encode()])
    variables = {}
    for name, size in {"alpha": 1, "u": 5, "corr": 2}.items():
        mean, sd = rng.normal(scale=ERROR, size=size), 1 + rng.normal(scale=ERROR, size=size)
        errors = np.full(size, ERROR)
        variables[name] = {"mean": mean, "sd": sd, "mcse_mean": errors, "mcse_sd": errors.copy()}
    variables["u"]["mean"][2] += shift
    variables["alpha"]["sd"] *= scale
    for key, value in {"mean": 1.0, "sd": 0.0, "mcse_mean": np.nan, "mcse_sd": np.nan}.items():
        variables["corr"][key][0] = value  # a constant
    result = {
        "kind": "fit",
        "cell": asdict(cell),
        "machine": MACHINE,
        "compile_s": 5.0,
        "sampling_s": 3.0,
        "recovery_s": 1.0,
        "dimension": 42,
        "ess_mean": 160.0,
        "ess_min": 20.0,
        "worst": "u",
        "rhat": 1.001,
        "divergences": 0,
        "gradients": 1400,
        "variables": {n: {k: x.tolist() for k, x in v.items()} for n, v in variables.items()},
    }
    if sampler == "importance":
        for name in ("rhat", "divergences", "gradients"):
            del result[name]
        result |= {"evaluations": 600, "khat": 0.3, "log_evidence": -1234.5}
    if model == "grouseticks":
        x, y = rng.normal(size=(2, 2 * draws))
        result["pairs"] = [
            {"labels": ["log s_brood", "brood[1]"], "x": x.tolist(), "y": y.tolist()},
            {"labels": ["log s_location", "location[61]"], "x": y.tolist(), "y": x.tolist()},
        ]
        result["diverging"] = list(range(result["divergences"]))
    return result | more


def cost(form: str, axis: str, n: int, levels: int, effects: int, **seconds: float) -> dict:
    """Return what the file of a cell of Table 1 holds."""
    cell = Cost(form, axis, n, levels, effects)
    return {"kind": "costs", "cell": asdict(cell), "machine": MACHINE, **seconds}
