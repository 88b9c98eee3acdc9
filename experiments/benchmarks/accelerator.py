"""Time logp + gradient on every kind of device that JAX finds, and compare their values.

    python -m experiments.benchmarks.accelerator dutch insteval [--chains 1 4] [--data FOLDER]

A jitted loop, as in ``gradient``, of one chain or of several that go side by side (``vmap``,
NumPyro's ``chain_method="vectorized"``). The values and gradients on each device are compared with
those of the first, the CPU. Writes ``docs/accelerator.json``, and ``docs/accelerator.md`` from it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pymc as pm
from pymc.sampling.jax import get_jaxified_logp

from experiments.benchmarks.gradient import in_turns, looped
from experiments.benchmarks.variants import VARIANTS, find, variant
from experiments.machine import machine
from experiments.pages import digits
from experiments.pages import markdown as table

SPREAD = 0.1
"""Of the points about the initial one."""


def devices() -> dict[str, jax.Device]:
    """Return one device of each kind, the CPU first."""
    found = {"cpu": jax.devices("cpu")[0]}
    return found | {d.platform: d for d in jax.devices() if d.platform != "cpu"}


def points(model: pm.Model, chains: int) -> list[np.ndarray]:
    """Return a point per chain."""
    rng = np.random.default_rng(1)
    start = [np.asarray(x, dtype="float64") for x in model.initial_point().values()]
    return [x + SPREAD * rng.normal(size=(chains, *x.shape)) for x in start]


def error(values: list[np.ndarray], reference: list[np.ndarray]) -> float:
    """Return the largest difference, of the norm of each array."""
    return max(
        float(np.linalg.norm(np.asarray(a) - b) / max(np.linalg.norm(b), 1e-300))
        for a, b in zip(jax.tree.leaves(values), jax.tree.leaves(reference), strict=True)
    )


def measure(model: pm.Model, chains: int) -> dict[str, dict[str, float]]:
    """Return times and differences by device."""
    logp = get_jaxified_logp(model, negative_logp=False)
    gradient = jax.vmap(jax.value_and_grad(lambda x: logp(x)))
    start = points(model, chains)
    calls: dict[str, Callable[[int], object]] = {}
    figures: dict[str, dict[str, float]] = {}
    reference = None
    for kind, device in devices().items():
        with jax.default_device(device):
            # Of each device its own: what is traced holds arrays of the device of its time.
            program = jax.jit(looped(gradient))
            values = jax.device_get(jax.jit(lambda x: gradient(x))(start))
            reference = values if reference is None else reference
            clock = time.perf_counter()
            jax.block_until_ready(program(1, start))
            figures[kind] = {
                "compile_s": time.perf_counter() - clock,
                "error": error(values, reference),
            }

        def call(count: int, device: jax.Device = device, program: Callable = program) -> None:
            with jax.default_device(device):
                jax.block_until_ready(program(count, start))

        calls[kind] = call
    return {kind: figures[kind] | own for kind, own in in_turns(calls).items()}


def page(results: dict[str, Any]) -> str:
    """Return the page."""
    where = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    rows = []
    for row in results["rows"]:
        cpu = row["devices"]["cpu"]
        for kind, own in row["devices"].items():
            if kind == "cpu":
                continue
            label = [row["case"], "marginal" if row["variant"] == "all" else row["variant"]]
            figures = [digits(cpu["us_median"]), digits(own["us_median"])]
            ratio = digits(own["us_median"] / cpu["us_median"])
            compiled = f"{digits(cpu['compile_s'])}, {digits(own['compile_s'])}"
            deviation = f"{own['error']:.0e}"
            rows.append([*label, str(row["chains"]), *figures, ratio, compiled, deviation])
    head = ["model", "form", "chains", "CPU, µs", "GPU, µs", "ratio", "compilation, s"]
    head += ["relative difference"]
    return (
        "\n\n".join(
            [
                "# Gradients on a GPU",
                "Written by `python -m experiments.benchmarks.accelerator`. Log density and "
                "gradient in float64, in a jitted loop of JAX: the median of seven rounds. Several "
                'chains go side by side (`chain_method="vectorized"` of NumPyro); the time is that '
                "of one step of all of them. *Relative difference*: the largest between the "
                "devices, over log density and the gradient's arrays.",
                f"{where['device']} and {where['cores']} CPU cores, OPENBLAS_NUM_THREADS "
                f"{where['OPENBLAS_NUM_THREADS']}; {versions}; {where['date']}.",
                table(head, rows, text=2),
            ]
        )
        + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="+")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["noncentred", "all"])
    parser.add_argument("--chains", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/accelerator.json"))
    args = parser.parse_args()

    jax.config.update("jax_enable_x64", True)
    names = ", ".join(d.device_kind for kind, d in devices().items() if kind != "cpu")
    results: dict[str, Any] = {"machine": machine() | {"device": names or "no GPU"}, "rows": []}
    for name in args.cases:
        case = find(name, args.data)
        for form in args.variants:
            model = variant(case, form)
            for chains in args.chains:
                label = {"case": name, "variant": form, "chains": chains}
                results["rows"].append(label | {"devices": measure(model, chains)})
                args.out.write_text(json.dumps(results, indent=1) + "\n")
                args.out.with_suffix(".md").write_text(page(results))


if __name__ == "__main__":
    main()
